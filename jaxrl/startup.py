"""What must be set before JAX starts: threads, devices, the compilation cache. Imports no JAX."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MAX_THREADS, MAX_DEVICES = 1024, 256
"""The most threads and devices that a CPU is divided into."""

ONE_CORE = {"NPROC": "1", "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
"""Environment variables of a process that computes on one CPU core, beside others."""


def use_threads(arguments: list[str], default: int = 1) -> None:
    """Sets the size of XLA's CPU thread pool; it is read when JAX starts, so this must come first."""
    number = number_behind(arguments, "--threads", default)
    if 0 < number <= MAX_THREADS:
        os.environ.setdefault("NPROC", str(number))


def number_behind(arguments: list[str], flag: str, default: int = 0) -> int:
    """The number behind a flag, for what must be known before JAX is imported.

    What is no number of threads or devices is 0: who reads all options refuses it.
    """
    text = None
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            text = arguments[index + 1]
        elif argument.startswith(f"{flag}="):
            text = argument.split("=", 1)[1]
    return default if text is None else as_number(text)


def as_number(text: str) -> int:
    """A number of threads or devices, 0 of a text that is none."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0


def use_devices(number: int) -> None:
    """Divides the CPU into devices, where there is no accelerator; read when JAX starts, so this must come first."""
    if 1 < number <= MAX_DEVICES and not devices_are_set():
        os.environ["JAX_NUM_CPU_DEVICES"] = str(number)


def devices_are_set() -> bool:
    """Whether the environment says already how many devices the CPU is."""
    return "JAX_NUM_CPU_DEVICES" in os.environ or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def use_compilation_cache() -> None:
    """Compiled programs are kept between runs, unless JAX_COMPILATION_CACHE_DIR says where or is empty."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def cache_folder() -> Path:
    """Where what can be made or fetched again is kept for the next process."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrl"


_BEGUN: list[float] = []
"""When the command that runs in this process began; empty in Python."""


@contextlib.contextmanager
def timed_from(begun: float) -> Iterator[None]:
    """A command, of which times are counted from `begun`, as of `time.perf_counter`."""
    _BEGUN.append(begun)
    try:
        yield
    finally:
        _BEGUN.pop()


def process_begun() -> float:
    """When the command began, or now in Python, as of `time.perf_counter`."""
    return _BEGUN[-1] if _BEGUN else time.perf_counter()


def process_start() -> float:
    """When this process began, as of `time.perf_counter`; now where the system does not say."""
    now = time.perf_counter()
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return now - max(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    return now


QUIET_SECONDS = 1.2
"""After which what is done is said, if it is not at its end."""

_STARTING: list[Callable[[], None]] = []
"""Ends the line that says that a command starts."""


@contextlib.contextmanager
def not_silent(arguments: Sequence[str]) -> Iterator[None]:
    """A command that says soon, on a terminal, that it starts, however long its imports take, until it says something itself.

    What is no terminal reads lines that mean something: of bad input exactly one.
    """
    line, begun, is_told = f"jaxrl: {shlex.join(arguments[:2])}: starting", time.perf_counter(), threading.Event()

    def move() -> None:
        if is_told.wait(QUIET_SECONDS):
            return
        while not is_told.wait(0.2):
            shown = line[: shutil.get_terminal_size().columns - 8]
            print(f"\r{shown} {time.perf_counter() - begun:.0f} s", end="", file=sys.stderr, flush=True)
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=move, daemon=True)

    def end() -> None:
        is_told.set()
        thread.join()

    if sys.stderr.isatty():
        thread.start()
        _STARTING.append(end)
    try:
        yield
    finally:
        no_longer_starting()


def no_longer_starting() -> None:
    """The command says something itself."""
    while _STARTING:
        _STARTING.pop()()


def command(*words: str | Path) -> str:
    """A command as it must be typed here: `jaxrl resume runs/a`, or `.venv/bin/jaxrl ...` where that is not on PATH."""
    return shlex.join([*_program(), *map(str, words)])


def _program() -> list[str]:
    name = Path(sys.argv[0] if sys.argv else "")
    if name.parts[-2:] == ("jaxrl", "__main__.py"):
        return [_typed(Path(sys.orig_argv[0])), "-m", "jaxrl"]
    own = name if name.name == "jaxrl" else Path(sys.executable).with_name("jaxrl")
    return [_typed(own) if own.is_file() else "jaxrl"]


def _typed(program: Path) -> str:
    """How to call a program from here."""
    found = shutil.which(program.name)
    if len(program.parts) == 1 or (found and os.path.abspath(found) == os.path.abspath(program)):
        return program.name
    return os.path.relpath(program) if os.path.abspath(program).startswith(f"{os.getcwd()}{os.sep}") else str(program)
