"""A player of Go that speaks the Go Text Protocol, version 2 (Farneback 2002, draft 2, https://www.lysator.liu.se/~gunnar/gtp).

    engine = Engine(rules_of(9), choose)
    serve(engine, sys.stdin, sys.stdout)

Controllers such as GoGui, Sabaki or gogui-twogtp start a program of this kind and play with it by lines of text. What a line
asks for is a method `do_NAME` of `Engine`; what it cannot do, it says in the protocol's own words, and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

import jax
import jax.numpy as jnp

import jaxrl
from jaxrl.envs import make
from jaxrl.envs.pgx import GoParams
from jaxrl.errors import UsageError
from jaxrl.matches import sgf
from jaxrl.matches.board import BLACK, WHITE, area, drawing, move_of, score_text, stones, vertex
from jaxrl.matches.games import repeats_board
from jaxrl.types import Position

_MAX_KOMI = 400.0


class Rules(NamedTuple):
    """Go on one board, on the host.

    Attributes:
      size: of the board (N).
      opening: the empty board.
      komi: that of the environment.
      play: (position, move, komi) -> (position, reward of who moved, over), compiled.
    """

    size: int
    opening: Position
    komi: float
    play: Callable[[Position, int, float], tuple[Position, Any, Any]]


def rules_of(size: int, **options: Any) -> Rules:
    """The rules of `pgx/go_NxN`.

    Args:
      options: as the environment takes them.

    Raises:
      UsageError: a size that there is no environment of.
    """
    env: Any = make(f"pgx/go_{size}x{size}", 1, **options)
    key = jax.random.key(0)
    opening = jax.tree.map(lambda leaf: leaf[0], env.reset(key, env.params)[1])

    @jax.jit
    def play(position: Position, move: Any, komi: Any) -> tuple[Position, Any, Any]:
        return env.model(key, GoParams(komi), position, move)

    return Rules(
        size, opening, float(env.params.komi), lambda position, move, komi: play(position, jnp.int32(move), jnp.float32(komi))
    )


class Choose(Protocol):
    """Chooses a move.

    Args:
      position: not over.
      komi: White's points in advance.
      moves: those that led to it.

    Returns:
      (move, the outcome that the player to move expects, from -1 to 1).
    """

    def __call__(self, position: Position, komi: float, moves: tuple[int, ...]) -> tuple[int, float]: ...


class GTPError(Exception):
    """What a command cannot do, as the protocol words it."""


class _Turn(NamedTuple):
    """What came of a move: `inserted`: whether it is a pass that nobody asked for, since one colour moved twice."""

    position: Position
    move: int
    over: bool
    inserted: bool


class Engine:
    """The state of a game and the commands on it.

    Args:
      rules: of the board that the player was trained for; no other size is accepted.
      choose: the player.
      resign_below: it resigns where it expects less; -1 never does.
    """

    def __init__(self, rules: Rules, choose: Choose, name: str = "jaxrl", resign_below: float = -1.0) -> None:
        self.rules, self.choose, self.name, self.resign_below = rules, choose, name, resign_below
        self.komi, self.turns, self.has_quit = rules.komi, list[_Turn](), False

    # --- lines ------------------------------------------------------------------------------------------------------------

    def answer(self, line: str) -> str | None:
        """The response to one line, without the empty line behind it; None where there is nothing to respond to."""
        words = _words(line)
        if not words:
            return None
        number = words.pop(0) if words[0].isascii() and words[0].isdigit() else ""
        if not words:
            return f"?{number} unknown command"
        try:
            command = self.commands.get(words[0])
            if command is None:
                raise GTPError("unknown command")
            said = command(words[1:])
            return f"={number} {said}" if said.strip() == said != "" else f"={number}{said}"
        except GTPError as error:
            return f"?{number} {error}"

    @property
    def commands(self) -> dict[str, Callable[[list[str]], str]]:
        """What can be asked, by name."""
        return {name.removeprefix("do_"): getattr(self, name) for name in sorted(dir(type(self))) if name.startswith("do_")}

    # --- the program ------------------------------------------------------------------------------------------------------

    def do_protocol_version(self, words: list[str]) -> str:
        return "2"

    def do_name(self, words: list[str]) -> str:
        return self.name

    def do_version(self, words: list[str]) -> str:
        return jaxrl.__version__

    def do_known_command(self, words: list[str]) -> str:
        return "true" if words and words[0] in self.commands else "false"

    def do_list_commands(self, words: list[str]) -> str:
        return "\n".join(self.commands)

    def do_quit(self, words: list[str]) -> str:
        self.has_quit = True
        return ""

    # --- the game ---------------------------------------------------------------------------------------------------------

    def do_boardsize(self, words: list[str]) -> str:
        if not (len(words) == 1 and words[0].isascii() and words[0].isdigit()):
            raise GTPError("boardsize not an integer")
        if int(words[0]) != self.rules.size:
            raise GTPError("unacceptable size")
        self.turns.clear()
        return ""

    def do_clear_board(self, words: list[str]) -> str:
        self.turns.clear()
        return ""

    def do_komi(self, words: list[str]) -> str:
        komi = _number(words[0]) if len(words) == 1 else None
        if komi is None or abs(komi) > _MAX_KOMI:
            raise GTPError("komi not a float")
        self.komi = komi
        return ""

    def do_play(self, words: list[str]) -> str:
        if len(words) != 2:
            raise GTPError("invalid color or coordinate")
        colour, move = _colour(words[0]), move_of(words[1], self.rules.size)
        if colour is None or move is None:
            raise GTPError("invalid color or coordinate")
        self.play(colour, move)
        return ""

    def do_genmove(self, words: list[str]) -> str:
        colour = _colour(words[0]) if len(words) == 1 else None
        if colour is None:
            raise GTPError("invalid color")
        if self.over:
            return "pass"
        turns = list(self.turns)
        try:
            self._pass_until(colour)
            if self.over:
                return "pass"
            move, value = self.choose(self.position, self.komi, self.moves)
            if value < self.resign_below:
                self.turns = turns
                return "resign"
            try:
                self.play(colour, move)
            except GTPError:  # A board that came before: by the protocol's rules there is no such move.
                move = self.rules.size**2
                self.play(colour, move)
        except BaseException:
            self.turns = turns
            raise
        return vertex(move, self.rules.size)

    def do_undo(self, words: list[str]) -> str:
        if not self.turns:
            raise GTPError("cannot undo")
        self.turns.pop()
        while self.turns and self.turns[-1].inserted:
            self.turns.pop()
        return ""

    def do_showboard(self, words: list[str]) -> str:
        return "\n" + drawing(stones(self.position.planes))

    def do_final_score(self, words: list[str]) -> str:
        return score_text(area(stones(self.position.planes)) - self.komi)

    def do_loadsgf(self, words: list[str]) -> str:
        """`loadsgf FILE [NUMBER]`: the position before that move, of a game on this board."""
        if not words or (len(words) > 1 and not (words[1].isascii() and words[1].isdigit())):
            raise GTPError("missing filename")
        turns, komi = list(self.turns), self.komi
        try:
            record = sgf.read(Path(words[0]).read_text())
            if record.size != self.rules.size:
                raise GTPError("unacceptable size")
            self.turns, self.komi = [], record.komi
            moves = record.moves[: max(int(words[1]) - 1, 0)] if len(words) > 1 else record.moves
            for move in moves:
                self.play(self.to_move, move)
        except (OSError, UnicodeDecodeError):
            raise GTPError("cannot open or parse file") from None
        except UsageError as error:
            raise GTPError(str(error)) from None
        except GTPError as error:
            number = len(self.turns) + 1
            self.turns, self.komi = turns, komi
            raise GTPError(f"{error} (move {number})" if str(error) == "illegal move" else str(error)) from None
        return ""

    # --- time -------------------------------------------------------------------------------------------------------------

    def do_time_settings(self, words: list[str]) -> str:
        """Accepted: a move takes as long as its simulations do."""
        if len(words) != 3 or any(_number(word) is None for word in words):
            raise GTPError("syntax error")
        return ""

    def do_time_left(self, words: list[str]) -> str:
        if len(words) != 3 or _colour(words[0]) is None or any(_number(word) is None for word in words[1:]):
            raise GTPError("syntax error")
        return ""

    # --- what they are made of --------------------------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        return self.turns[-1].position if self.turns else self.rules.opening

    @property
    def moves(self) -> tuple[int, ...]:
        return tuple(turn.move for turn in self.turns)

    @property
    def over(self) -> bool:
        return bool(self.turns) and self.turns[-1].over

    @property
    def to_move(self) -> str:
        return WHITE if len(self.turns) % 2 else BLACK

    def play(self, colour: str, move: int) -> None:
        """Plays a move; one that repeats a board, which loses by these rules, counts as illegal.

        Raises:
          GTPError: an illegal move, after which all is as before.
        """
        turns = list(self.turns)
        self._pass_until(colour)
        if self.over or not bool(self.position.legal[move]):
            self.turns = turns
            raise GTPError("illegal move")
        position, reward, over = self.rules.play(self.position, move, self.komi)
        if repeats_board(self.rules.size, move, float(reward), bool(over), len(self.turns) + 1):
            self.turns = turns
            raise GTPError("illegal move")
        self.turns.append(_Turn(position, move, bool(over), False))

    def _pass_until(self, colour: str) -> None:
        """Passes for the other colour where it would be its turn: by the protocol one may move twice."""
        if self.to_move == colour or self.over:
            return
        move = self.rules.size**2
        position, _, over = self.rules.play(self.position, move, self.komi)
        self.turns.append(_Turn(position, move, bool(over), True))


def serve(engine: Engine, lines: Iterable[str], out: TextIO) -> None:
    """Answers every line until `quit` or the end of them."""
    for line in lines:
        answer = engine.answer(line)
        if answer is not None:
            out.write(f"{answer}\n\n")
            out.flush()
        if engine.has_quit:
            return


def _words(line: str) -> list[str]:
    """The words of a line, without comment and control characters."""
    text = line.partition("#")[0].replace("\t", " ")
    return "".join(letter for letter in text if ord(letter) >= 32 and ord(letter) != 127).split()


def _colour(text: str) -> str | None:
    return {"b": BLACK, "black": BLACK, "w": WHITE, "white": WHITE}.get(text.lower())


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
