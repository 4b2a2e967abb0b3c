"""What SIGINT (Ctrl-C) and SIGTERM do, at the command line and in Python. Imports no JAX.

While a job trains, the first one is only noted (`held_back`), and the job saves at the end of its present stretch. A second
one, and one at any other moment of a command (`ended_at_once`), ends the process with one line, even while XLA compiles: a
thread hears it, since Python's own handlers wait for the end of a call into compiled code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_CODE = 130


class _AtOnce:
    """Ends the process with one line; the thread calls it."""

    def __init__(self, words: Callable[[], str]) -> None:
        self.words = words

    def __call__(self, number: int, frame: Any) -> None:
        """Python's own handler has nothing to do."""

    def heard(self, number: int) -> None:
        _tell(f"jaxrl: {self.words()}")
        os._exit(EXIT_CODE)


class _HeldBack:
    """Notes the first signal and says so; the next does what any would have done before."""

    def __init__(self, before: dict[signal.Signals, Any], promise: str) -> None:
        self.before, self.promise, self.noted = before, promise, False

    def __call__(self, number: int, frame: Any) -> None:
        if not isinstance(self.before[signal.Signals(number)], _AtOnce):
            self.heard(number, frame)

    def heard(self, number: int, frame: Any = None) -> None:
        if not self.noted:
            self.noted = True
            _tell(f"jaxrl: {self.promise}")
            return
        before = self.before[signal.Signals(number)]
        if isinstance(before, _AtOnce):
            before.heard(number)
        elif before is signal.SIG_DFL:
            signal.signal(number, before)
            signal.raise_signal(number)
        else:
            before(number, frame)


def _tell(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        cursor = "\r\x1b[?25h" if sys.stderr.isatty() else ""  # A progress bar hides it.
        print(f"{cursor}{line}", file=sys.stderr, flush=True)
        sys.stdout.flush()


def never() -> bool:
    """No interrupt is ever noticed."""
    return False


_OTHERS: list[Callable[[], bool]] = []
"""What else interrupts jobs here beside signals."""


@contextlib.contextmanager
def heard_of(interrupted: Callable[[], bool]) -> Iterator[None]:
    """A part of a program whose jobs save and stop when `interrupted` says so too, such as at the word of another process."""
    _OTHERS.append(interrupted)
    try:
        yield
    finally:
        _OTHERS.pop()


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_heard() -> bool:
    """Whether SIGINT is answered by a command's own thread, which raises nothing in the midst of other work."""
    handler = signal.getsignal(signal.SIGINT)
    return isinstance(handler.before[signal.SIGINT] if isinstance(handler, _HeldBack) else handler, _AtOnce)


@contextlib.contextmanager
def ended_at_once(words: Callable[[], str]) -> Iterator[None]:
    """A part of a command in which a signal ends the process with one line and `EXIT_CODE`.

    Args:
      words: what the line says, asked for when the signal comes.
    """
    if not _is_main_thread():
        yield
        return
    is_inner = any(isinstance(signal.getsignal(number), _AtOnce) for number in SIGNALS)
    ignored = {number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN}  # As of a shell's `&`.
    handlers = {number: _AtOnce(words) for number in SIGNALS if number not in ignored}
    with contextlib.nullcontext() if is_inner else _listening(), _handled(handlers):
        yield


@contextlib.contextmanager
def _listening() -> Iterator[None]:
    """A thread that tells the present handlers of this module about signals at the moment they come."""
    told, tell = socket.socketpair()
    tell.setblocking(False)

    def listen() -> None:
        while numbers := told.recv(64):
            for number in numbers:
                handler = signal.getsignal(number)
                if isinstance(handler, (_AtOnce, _HeldBack)):
                    handler.heard(number)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        tell.close()
        listener.join()
        told.close()


@contextlib.contextmanager
def held_back(
    promise: str = "finishing the present stretch, then saving; again to stop now",
) -> Iterator[Callable[[], bool]]:
    """A part of a job in which the first signal is noted, for the job to save and then to raise `KeyboardInterrupt`.

    Signals that a program handles itself stay as they are.

    Args:
      promise: what is said at the first signal.

    Returns:
      () -> whether one came.
    """
    before, others = {number: signal.getsignal(number) for number in SIGNALS}, tuple(_OTHERS)
    usual = (signal.default_int_handler, signal.SIG_DFL)
    mine = [number for number in SIGNALS if before[number] in usual or isinstance(before[number], _AtOnce)]
    if not _is_main_thread() or not mine:
        outer = next((handler for handler in before.values() if isinstance(handler, _HeldBack)), None)
        yield lambda: (outer is not None and outer.noted) or any(interrupted() for interrupted in others)
        return
    handler = _HeldBack(before, promise)
    with _handled(dict.fromkeys(mine, handler)):
        yield lambda: handler.noted or any(interrupted() for interrupted in others)
