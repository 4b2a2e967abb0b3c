"""The Go Text Protocol: a scripted exchange, what is refused and in which words, and that nothing is lost by it."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxrl
from jaxrl.errors import UsageError
from jaxrl.matches.board import area, drawing, move_of, stones, vertex
from jaxrl.matches.gtp import Engine, Rules, rules_of, serve
from jaxrl.matches.sgf import Record, write


@cache
def rules() -> Rules:
    return rules_of(5)


def first_legal(position: Any, komi: float, moves: tuple[int, ...]) -> tuple[int, float]:
    return int(np.argmax(position.legal)), 0.25


def engine(**options: Any) -> Engine:
    return Engine(rules(), first_legal, **options)


def said(*lines: str, on: Engine | None = None) -> list[str | None]:
    player = on or engine()
    return [player.answer(line) for line in lines]


# The line, and what is to be answered; None where nothing is.
EXCHANGE: list[tuple[str, str | None]] = [
    ("1 protocol_version", "=1 2"),
    ("name", "= jaxrl"),
    ("2 version", f"=2 {jaxrl.__version__}"),
    ("known_command genmove", "= true"),
    ("known_command fly", "= false"),
    ("3 known_command", "=3 false"),
    ("", None),
    ("   ", None),
    ("\t", None),
    ("# a comment", None),
    ("  # another one", None),
    ("4", "?4 unknown command"),
    ("fly", "? unknown command"),
    ("5 fly to the moon", "?5 unknown command"),
    ("PLAY b C3", "? unknown command"),
    ("boardsize", "? boardsize not an integer"),
    ("boardsize five", "? boardsize not an integer"),
    ("boardsize 5.0", "? boardsize not an integer"),
    ("boardsize -5", "? boardsize not an integer"),
    ("boardsize 9", "? unacceptable size"),
    ("6 boardsize 5", "=6"),
    ("clear_board", "="),
    ("komi", "? komi not a float"),
    ("komi much", "? komi not a float"),
    ("komi nan", "? komi not a float"),
    ("komi 1e9", "? komi not a float"),
    ("7 komi 2.5 # so much", "=7"),
    ("final_score", "= W+2.5"),
    ("undo", "? cannot undo"),
    ("play", "? invalid color or coordinate"),
    ("play b", "? invalid color or coordinate"),
    ("play b C3 D4", "? invalid color or coordinate"),
    ("play red C3", "? invalid color or coordinate"),
    ("play b I3", "? invalid color or coordinate"),
    ("play b F3", "? invalid color or coordinate"),
    ("play b C0", "? invalid color or coordinate"),
    ("play b C6", "? invalid color or coordinate"),
    ("play b C", "? invalid color or coordinate"),
    ("play b 3C", "? invalid color or coordinate"),
    ("play b C3x", "? invalid color or coordinate"),
    ("8 play b c3", "=8"),
    ("play white\tC3", "? illegal move"),
    ("play WHITE B4", "="),
    ("play w b4", "? illegal move"),
    ("9 final_score", "=9 W+2.5"),
    ("play w D2", "="),
    ("undo", "="),
    ("play b PASS", "="),
    ("undo", "="),
    ("undo", "="),
    ("undo", "="),
    ("undo", "? cannot undo"),
    ("genmove", "? invalid color"),
    ("genmove green", "? invalid color"),
    ("genmove b b", "? invalid color"),
    ("10 genmove b", "=10 A5"),
    ("genmove w", "= B5"),
    ("genmove white", "= C5"),
    ("undo", "="),
    ("play b pass", "="),
    ("play w pass", "="),
    ("genmove b", "= pass"),
    ("play b C3", "? illegal move"),
    ("undo", "="),
    ("time_settings 0 5 1", "="),
    ("time_settings 0 5", "? syntax error"),
    ("time_settings a b c", "? syntax error"),
    ("time_left b 30 0", "="),
    ("time_left red 30 0", "? syntax error"),
    ("time_left b", "? syntax error"),
    ("clear_board", "="),
    ("play b B5", "="),
    ("play b A4", "="),
    ("11 play w A5", "?11 illegal move"),
    ("play b A5", "="),
    ("loadsgf", "? missing filename"),
    ("loadsgf /nowhere/game.sgf", "? cannot open or parse file"),
    ("final_score", "= B+22.5"),
    ("\x07cle\x01ar_board\x7f", "="),
    ("final_score", "= W+2.5"),
    ("12 quit now", "=12"),
]


def test_a_scripted_exchange_is_answered_as_the_protocol_says() -> None:
    assert len(EXCHANGE) >= 80
    player = engine()
    for line, answer in EXCHANGE:
        assert player.answer(line) == answer, line


def test_lines_are_answered_one_by_one_until_quit() -> None:
    out = io.StringIO()
    serve(engine(), ["1 name\n", "\n", "# nothing\n", "fly\n", "2 quit\n", "3 name\n"], out)
    assert out.getvalue() == "=1 jaxrl\n\n? unknown command\n\n=2\n\n"
    out = io.StringIO()
    serve(engine(), ["name\n"], out)  # The end of the file ends it too.
    assert out.getvalue() == "= jaxrl\n\n"


def test_the_commands_that_are_listed_are_those_that_are_known() -> None:
    player = engine()
    listed = player.answer("list_commands").removeprefix("= ").split("\n")
    required = "protocol_version name version known_command list_commands quit boardsize clear_board komi play genmove"
    assert {*required.split(), "undo", "showboard", "final_score", "time_settings", "time_left", "loadsgf"} == set(listed)
    assert all(player.answer(f"known_command {name}") == "= true" for name in listed)


def test_the_board_is_shown_with_letters_and_numbers() -> None:
    player = engine()
    said("play b A1", "play w E5", "play b B1", on=player)
    shown = player.answer("showboard").split("\n")
    assert shown == ["=", *drawing(stones(player.position.planes)).split("\n")]
    assert shown[1] == "   A B C D E" and shown[2] == " 5 . . . . O 5" and shown[6] == " 1 X X . . . 1"


BEFORE = "B2 A1 B1 D3 E4 E3 B4 A5 D1 B3 C5 E5 E1 D2 D5 A3 C4 E2 C2 A4 B5 C1 C3 D4 D1 E5 E1 C1"
"""A game after which Black may take at E4 by the rule of ko, and makes a board that was there before."""


def test_a_board_that_came_before_is_illegal_and_the_player_passes_instead() -> None:
    moves, again = tuple(move_of(name, 5) for name in BEFORE.split()), move_of("E4", 5)
    player = Engine(rules(), lambda position, komi, moves: (again, 0.0))
    for number, move in enumerate(moves):
        assert player.answer(f"play {'bw'[number % 2]} {vertex(move, 5)}") == "="
    assert player.position.legal[again] and rules().play(player.position, again, 0.5)[1:] == (-1.0, True)
    assert player.answer("play b E4") == "? illegal move" and player.moves == moves
    assert player.answer("genmove b") == "= pass" and player.moves == (*moves, 25)


def test_it_resigns_where_it_expects_less_and_the_game_stays_as_it_is() -> None:
    player = Engine(rules(), lambda position, komi, moves: (0, -0.95), resign_below=-0.9)
    assert said("play b C3", "genmove w", "genmove b", on=player) == ["=", "= resign", "= resign"]
    assert player.moves == (12,)
    assert said("genmove w", on=Engine(rules(), lambda *_: (0, -1.0))) == ["= A5"]


def test_a_player_that_fails_loses_nothing() -> None:
    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    player = Engine(rules(), fail)
    player.answer("play b C3")
    with pytest.raises(KeyboardInterrupt):
        player.answer("genmove b")
    assert player.moves == (12,)


def test_the_player_is_told_komi_and_moves() -> None:
    heard = []
    player = Engine(rules(), lambda position, komi, moves: heard.append((komi, moves)) or (1, 0.0))
    said("komi 3.5", "play b A5", "genmove w", on=player)
    assert heard == [(3.5, (0,))]


def test_a_record_is_loaded_up_to_a_move_and_one_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    game = tmp_path / "game.sgf"
    game.write_text(write(Record(5, 4.5, (12, 7, 25, 8))))
    player = engine()
    assert player.answer(f"loadsgf {game}") == "=" and player.moves == (12, 7, 25, 8) and player.komi == 4.5
    assert player.answer(f"loadsgf {game} 3") == "=" and player.moves == (12, 7)
    assert player.answer(f"loadsgf {game} x") == "? missing filename"
    for record, message in (
        (write(Record(5, 0.5, (1, 2, 1))), "illegal move (move 3)"),
        (write(Record(9, 0.5, (1, 2))), "unacceptable size"),
        ("(;GM[1]SZ[5];B[zz])", "sgf: move 1 is 'zz', no point of a board of 5x5; give two letters up to e"),
    ):
        game.write_text(record)
        assert player.answer(f"loadsgf {game}") == f"? {message}"
        assert player.moves == (12, 7) and player.komi == 4.5


def test_whole_games_end_and_are_scored() -> None:
    """Both colours by one player of random legal moves, a pass among them."""
    generator = np.random.default_rng(0)

    def play(position: Any, komi: float, moves: tuple[int, ...]) -> tuple[int, float]:
        return int(generator.choice(np.flatnonzero(position.legal))), 0.0

    for _ in range(5):
        player = Engine(rules(), play)
        answers = [player.answer(f"genmove {'bw'[i % 2]}") for i in range(52)]
        assert all(re.fullmatch(r"= ([A-E][1-5]|pass)", answer) for answer in answers)
        assert player.over and re.fullmatch(r"= [BW]\+\d+\.5", player.answer("final_score"))


def test_points_have_letters_without_i_and_numbers_from_below() -> None:
    assert [vertex(move, 9) for move in (0, 8, 72, 40, 81)] == ["A9", "J9", "A1", "E5", "pass"]
    for size in (5, 9, 13, 19):
        assert [move_of(vertex(move, size), size) for move in range(size * size + 1)] == list(range(size * size + 1))
    assert [move_of(text, 9) for text in ("", "I5", "K1", "A10", "A0", "A-1", "AA", "5", "pas")] == [None] * 9


def test_an_area_is_stones_and_what_one_colour_alone_reaches() -> None:
    board = np.array([[0, 1, 0, 0], [1, 1, 0, -1], [0, 0, -1, -1], [0, 0, -1, 0]])
    # Black: three stones and the corner; White: four and a corner; what lies between reaches both.
    assert area(board) == 4 - 5
    assert area(np.zeros((3, 3), int)) == 0 and area(np.eye(3, dtype=int)) == 9


def test_a_size_without_an_environment_is_one_line() -> None:
    with pytest.raises(UsageError, match="unknown environment 'pgx/go_4x4'"):
        rules_of(4)
