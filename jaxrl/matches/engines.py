"""Programs that play Go, driven by the Go Text Protocol: one process at each board, which never outlives a match.

    player = EnginePlayer("gnugo --mode gtp --level 10 --seed {seed}", game)

What a program says is looked at with suspicion: an illegal move, words that are no answer, silence, or its end are one line
that names the program, the command and what it said.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrl.errors import EnvError, UsageError, shown
from jaxrl.matches.board import BLACK, WHITE, move_of, vertex
from jaxrl.matches.games import Game
from jaxrl.matches.players import RESIGNS, Seat, Turn

_LONGEST = 1_000_000
"""Bytes of an answer."""
_QUIT_SECONDS = 2.0
SEED = "{seed}"
"""In a command, what stands for the seed of a game."""


class EngineError(EnvError):
    """A program did not do as the protocol says: one line that names it, the command and what it said."""


class Refused(EngineError):
    """A program answered that it cannot do this."""


_RUNNING: set[Process] = set()


def end_all() -> None:
    """Ends every program that was started here, at once; for a signal that ends this process."""
    for process in list(_RUNNING):
        process.kill()


class Process:
    """One running program.

    Args:
      command: as in a shell.
      seconds: that an answer may take.

    Raises:
      EngineError: it cannot be started.
    """

    def __init__(self, command: str, seconds: float) -> None:
        self.command, self.seconds, self._read = command, seconds, b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        pipe = subprocess.PIPE
        try:
            # A session of its own: a Ctrl-C is for us, and what it has started ends with it.
            self._process = subprocess.Popen(
                shlex.split(command), stdin=pipe, stdout=pipe, stderr=self._errors, start_new_session=True, bufsize=0
            )
        except (OSError, ValueError) as error:
            self._errors.close()
            raise EngineError(f"engine {command!r} cannot be started ({getattr(error, 'strerror', None) or error})") from None
        self._asked, self._waits, self._deadline = "", False, 0.0
        _RUNNING.add(self)

    def ask(self, line: str) -> str:
        """What it answers to a command.

        Raises:
          EngineError: it refuses, says what is no answer, says nothing in time, or has ended.
        """
        self.send(line)
        return self.answer()

    def send(self, line: str) -> None:
        """Sends a command; `answer` waits for what it says."""
        assert self._process.stdin is not None
        self._asked, self._waits, self._deadline = line, True, time.monotonic() + self.seconds
        try:
            self._process.stdin.write(f"{line}\n".encode())
        except OSError:
            raise self.fault(f"ended{self._last_words()}") from None

    def answer(self) -> str:
        """Waits for what it says; errors as of `ask`."""
        lines: list[str] = []
        while (line := self._line()) or not lines:
            if line:
                lines.append(line)
        said = "\n".join(lines)
        if said[0] in "=?":
            self._waits = False
        text = said[1:].lstrip("0123456789").strip()
        if said[0] == "?":
            raise self.fault(f"refused it: {shown(text)}", Refused)
        if said[0] != "=":
            raise self.fault(f"said {shown(said)}, which is no answer")
        return text

    def fault(self, what: str, kind: type[EngineError] = EngineError) -> EngineError:
        """The error of what it did at the last command."""
        return kind(f"engine {self.command!r} {what} (at the command {self._asked!r})")

    def _line(self) -> str:
        assert self._process.stdout is not None
        descriptor, looked = self._process.stdout.fileno(), 0
        while b"\n" not in self._read[looked:]:
            looked = len(self._read)
            if looked > _LONGEST:
                raise self.fault(f"said {shown(self._read[:50].decode(errors='replace'))} and so on, which is no answer")
            if not select.select([descriptor], [], [], max(self._deadline - time.monotonic(), 0.0))[0]:
                raise self.fault(f"said nothing for {self.seconds:g} s")
            more = os.read(descriptor, 65536)
            if not more:
                raise self.fault(f"ended{self._last_words()}")
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        text = line.decode(errors="replace").replace("\t", " ")
        return "".join(letter for letter in text if letter.isprintable()).rstrip()

    def _last_words(self) -> str:
        """How it ended, and the last line that it wrote on standard error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_QUIT_SECONDS)
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(self._errors.tell() - 1000, 0))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        code = self._process.poll()
        return (f" with code {code}" if code is not None else "") + (f": {shown(lines[-1])}" if lines else "")

    def close(self) -> None:
        """Asks it to quit, unless it owes an answer, and ends it and what it has started."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if self in _RUNNING and not self._waits:
                self._process.communicate(b"quit\n", timeout=_QUIT_SECONDS)
        self.kill()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                file.close()  # type: ignore[union-attr]

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends it and what it has started."""
        if self in _RUNNING:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            _RUNNING.discard(self)


class EnginePlayer:
    """A program that plays Go.

    Args:
      command: that starts it, as in a shell; `{seed}` in it is 1 in the first two games, 2 in the next two, and so on, each of
        which has a process of its own then.
      at_once: the most games that it plays side by side, each in a process.
      seconds: that an answer may take.

    Raises:
      UsageError: the game is not Go, or the program cannot be started, does not speak the protocol or not on this board.
    """

    def __init__(self, command: str, game: Game, at_once: int = 2, seconds: float = 60.0) -> None:
        if not game.size:
            raise UsageError(
                f"player={command!r} speaks the Go Text Protocol, and the game is {game.env_id}; give another player"
            )
        self.name, self.game, self.at_once, self.seconds = command, game, at_once, seconds
        self._free: list[Process] = []
        self._taken: list[Process] = []
        try:
            process = self.take(0)
            self._said = {"engine": process.ask("name"), "version": process.ask("version")}
            process.ask(f"boardsize {game.size}")
            self.give_back(process)
        except EngineError as error:
            self.close()
            raise UsageError(f"player: {error}") from None

    def about(self) -> dict[str, Any]:
        return {"name": self.name} | self._said

    def sit(self, numbers: Sequence[int], num_boards: int, side: int) -> Seat:
        return _EngineSeat(self, numbers, num_boards, side)

    def take(self, number: int) -> Process:
        """A program for a game."""
        process = self._free.pop() if self._free else Process(self.name.replace(SEED, str(number // 2 + 1)), self.seconds)
        self._taken.append(process)
        return process

    def give_back(self, process: Process) -> None:
        """Its game is over."""
        self._taken.remove(process)
        if SEED in self.name or not process.is_alive():
            process.close()
        else:
            self._free.append(process)

    def close(self) -> None:
        """Ends its programs."""
        for process in (*self._taken, *self._free):
            process.close()
        self._taken, self._free = [], []


class _EngineSeat:
    """One side of some games, a program for each."""

    has_own_rules = True

    def __init__(self, player: EnginePlayer, numbers: Sequence[int], num_boards: int, side: int) -> None:
        self.player, self.side, self.size, self.told = player, side, player.game.size, [0] * num_boards
        self.processes = [player.take(number) for number in numbers]
        for process in self.processes:
            for line in (f"boardsize {self.size}", f"komi {player.game.komi:g}", "clear_board"):
                process.ask(line)

    def ask(self, turn: Turn) -> Callable[[], np.ndarray]:
        asked = np.flatnonzero(turn.running).tolist()
        for place in asked:
            self._tell(place, turn.moves[place])
        for place in asked:  # All think at once.
            self.processes[place].send(f"genmove {_colour(self.side)}")

        def answers() -> np.ndarray:
            found, legal = np.zeros(len(self.told), np.int32), np.asarray(turn.position.legal)
            for place in asked:
                found[place] = self._move(self.processes[place], legal[place])
                self.told[place] += 1
            return found

        return answers

    def score(self, place: int, moves: Sequence[int]) -> str:
        process = self.processes[place]
        try:
            self._tell(place, moves)
            return process.ask("final_score")
        except EngineError as error:
            if not isinstance(error, Refused):  # What it says later would be no answer to what it is asked then.
                process.kill()
            return ""

    def leave(self) -> None:
        for process in self.processes:
            self.player.give_back(process)

    def _tell(self, place: int, moves: Sequence[int]) -> None:
        for number in range(self.told[place], len(moves)):
            self.processes[place].ask(f"play {_colour(number % 2)} {vertex(moves[number], self.size)}")
        self.told[place] = len(moves)

    def _move(self, process: Process, legal: np.ndarray) -> int:
        said = process.answer()
        if said.lower() == "resign":
            return RESIGNS
        move = move_of(said, self.size)
        if move is None:
            raise process.fault(f"said {shown(said)}, which is no move")
        if not legal[move]:
            raise process.fault(f"played {said}, which is illegal")
        return move


def _colour(side: int) -> str:
    return (BLACK, WHITE)[side].lower()
