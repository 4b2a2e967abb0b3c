"""Programs that play Go: what is asked of them and when, their faults in one line each, and that none outlives a match."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_gtp import BEFORE

from jaxrl.errors import UsageError
from jaxrl.matches import engines
from jaxrl.matches.board import move_of
from jaxrl.matches.engines import EngineError, EnginePlayer
from jaxrl.matches.games import Game, Moved, game_of
from jaxrl.matches.play import play_match
from jaxrl.matches.players import CompiledPlayer
from jaxrl.matches.results import Played
from jaxrl.types import Position

SCRIPT = Path(__file__).parent.parent / "gtp_engine.py"


def opening(num: int) -> Position:
    """Of rules of our own, which compile nothing: stones stay where they are put, and two passes end the game."""
    return Position(np.zeros((num, 5, 5, 17), bool), np.ones((num, 26), bool), np.zeros(num, int))


def put(key: Any, obs: Position, action: Any, running: Any, ply: Any, may_repeat: Any) -> Moved:
    """White has won where both have passed."""
    planes, legal, passes = obs.planes.copy(), obs.legal.copy(), obs.state.copy()
    taken = np.where(legal[np.arange(len(legal)), action], action, legal.argmax(axis=1))
    for place in np.flatnonzero(running):
        planes[place] = planes[place][..., [1, 0, *range(2, 17)]]
        planes[place, :, :, 16] = ply % 2 == 0
        passes[place] = passes[place] + 1 if taken[place] == 25 else 0
        if taken[place] < 25:
            planes[place, taken[place] // 5, taken[place] % 5, 1] = True
            legal[place, taken[place]] = False
    over = running & (passes == 2)
    reward = np.where(over, 1.0 if ply % 2 else -1.0, 0.0)
    return Moved(Position(planes, legal, passes), taken, reward, over, np.zeros_like(over))


class Put(NamedTuple):
    """A `Game` by these rules."""

    env_id: str = "pgx/go_5x5"
    env: Any = SimpleNamespace(spec=SimpleNamespace(symmetries=()))
    size: int = 5
    longest: int = 50
    play: Any = put
    komi: float = 1.5

    def opening(self, num: int) -> Position:
        return opening(num)


def game() -> Any:
    return Put()


@cache
def go() -> Game:
    return game_of("pgx/go_5x5", komi=1.5)


@contextlib.contextmanager
def engine(*words: str, of: Any = None, **options: Any) -> Iterator[EnginePlayer]:
    """The program of a script, which has ended behind the block."""
    player = EnginePlayer(shlex.join([sys.executable, "-SE", str(SCRIPT), *words]), of or game(), **options)
    try:
        yield player
    finally:
        player.close()
        assert not engines._RUNNING


def scripted(*names: str) -> CompiledPlayer:
    """Plays these moves in turns, whatever the other does."""
    moves = np.array([move_of(name, 5) for name in names], np.int32)

    def act(key: Any, params: Any, memory: Any, obs: Any, drawing: Any) -> Any:
        return moves[memory % len(names)], memory + 1

    return CompiledPlayer("ours", act, initial_memory=lambda num: np.zeros(num, np.int32))


@pytest.mark.parametrize("rules", [game, pytest.param(go, marks=pytest.mark.slow)])
def test_a_game_is_played_and_told_and_scored_as_it_stands(rules: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with engine("--log", str(log), "B2", "pass", of=rules(), at_once=1) as program:
        assert program.about() == {"name": program.name, "engine": "Script", "version": "7"}
        result = play_match(rules(), scripted("C3", "pass"), program, 2)
    moves = (12, 16, 25, 25), (16, 12, 25, 25)
    assert [one.moves for one in result.games] == list(moves)
    # Both have one stone, and what is empty touches both: White wins by komi; the program says that it is Black.
    assert [(one.points, one.result, one.said, one.of_a) for one in result.games] == [
        (-1.5, "W+1.5", ("", "B+2.5"), -1),
        (-1.5, "W+1.5", ("B+2.5", ""), 1),
    ]
    assert result.tally().disputed == 2
    lines = log.read_text().splitlines()
    assert lines[:3] == ["name", "version", "boardsize 5"] and lines[-1] == "quit"
    begun = ["boardsize 5", "komi 1.5", "clear_board"]
    first = [*begun, "play b C3", "genmove w", "play b pass", "genmove w", "final_score"]
    second = [*begun, "genmove b", "play w C3", "genmove b", "play w pass", "final_score"]
    assert lines[3:-1] == first + second  # One process plays both games.


def test_a_program_is_told_of_moves_that_were_given(tmp_path: Path) -> None:
    with engine("--log", str(tmp_path / "log"), "pass", at_once=1) as program:
        result = play_match(game(), scripted("pass"), program, 2, first_moves=(12, 16))
    assert [one.moves for one in result.games] == [(12, 16, 25, 25)] * 2
    begun = ["boardsize 5", "komi 1.5", "clear_board", "play b C3", "play w B2"]
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[3:-1] == [*begun, "play b pass", "genmove w", "final_score", *begun, "genmove b", "play w pass", "final_score"]


def test_a_seed_in_the_command_is_of_two_games_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    with engine("--log", str(tmp_path / "log{seed}"), "resign") as program:
        result = play_match(game(), scripted("C3"), program, 4)
    assert [one.result for one in result.games] == ["B+Resign", "W+Resign"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log1", "log2"]
    counts = [(tmp_path / f"log{seed}").read_text().count("clear_board") for seed in (1, 2)]
    assert counts == [2, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["A9"], "said 'A9', which is no move"),
        (["C3", "C3"], "played C3, which is illegal"),
        (["rubbish"], "said 'hello', which is no answer"),
        (["die"], "ended with code 3: 'no more stones'"),
        (["silent"], "said nothing for 0.5 s"),
        (["flood"], "and so on, which is no answer"),
    ],
)
def test_a_fault_is_one_line_and_the_games_before_it_are_kept(words: list[str], message: str) -> None:
    kept: list[Played] = []
    with engine("resign", *words, at_once=1) as program:
        for process in program._free if words == ["silent"] else ():
            process.seconds = 0.5
        with pytest.raises(EngineError) as caught:
            play_match(game(), scripted("C3"), program, 2, on_game=kept.append)
    said = str(caught.value)
    assert said.endswith(f"{message} (at the command 'genmove b')") and "gtp_engine.py" in said and "\n" not in said
    assert [one.result for one in kept] == ["B+Resign"]


def test_what_cannot_be_started_or_does_not_speak_is_bad_input() -> None:
    for command, message in (
        ("/nowhere/gnugo --mode gtp", "cannot be started"),
        (f"{sys.executable} -SE -c 'print(1)'", "said '1', which is no answer|ended"),
    ):
        with pytest.raises(UsageError, match=message):
            EnginePlayer(command, game())
    other = Put(size=0, env_id="pgx/hex")
    with pytest.raises(UsageError, match="speaks the Go Text Protocol, and the game is pgx/hex"):
        EnginePlayer("gnugo --mode gtp", other)
    assert not engines._RUNNING


@pytest.mark.slow
def test_who_may_not_repeat_a_board_passes_and_a_program_that_does_so_makes_the_game_void() -> None:
    names = BEFORE.split()
    with engine(*names[1::2], "pass", of=go(), at_once=1) as program:
        kept = play_match(go(), scripted(*names[::2], "E4", "pass"), program, 1).games[0]
    assert kept.moves[28] == 25 and kept.moves[:28] == tuple(move_of(name, 5) for name in names)
    with engine(*names[::2], "E4", of=go(), at_once=1) as program:
        void = play_match(go(), program, scripted(*names[1::2]), 1).games[0]
    assert (void.outcome, void.how, void.result, len(void.moves)) == (None, "superko", "Void", 29)
