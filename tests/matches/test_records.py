"""Records of games: what is written is read again, with moves as people write them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jaxrl.errors import UsageError
from jaxrl.matches import sgf
from jaxrl.matches.games import Game, _names
from jaxrl.matches.records import GameText, read_text, record_of, recording, write_text
from jaxrl.matches.results import Played


def bare(env_id: str, num_actions: int, size: int = 0, **options: Any) -> Game:
    env: Any = SimpleNamespace(spec=SimpleNamespace(symmetries=()))
    return Game(env_id, options, env, size, 100, _names(env_id, size, num_actions), lambda *_: None)  # type: ignore[arg-type]


def test_moves_are_written_as_people_write_them() -> None:
    assert bare("pgx/connect_four", 7).names == ("a", "b", "c", "d", "e", "f", "g")
    assert bare("pgx/tic_tac_toe", 9).names == ("a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3")
    othello, hex_names = bare("pgx/othello", 65).names, bare("pgx/hex", 122).names
    assert (othello[19], othello[64], len(othello)) == ("d3", "pass", 65)
    assert (hex_names[0], hex_names[120], hex_names[121]) == ("a1", "k11", "swap")
    assert bare("pgx/go_5x5", 26, 5).names[12] == "C3" and bare("pgx/chess", 4672).names[4671] == "4671"


def test_a_game_is_read_again() -> None:
    game = bare("pgx/connect_four", 7)
    text = record_of(game, ('a "b" \\c', "random"), Played(3, 1, (3, 3, 2, 6, 0), -1, "over"))
    assert text == (
        '[Game "pgx/connect_four"]\n[Number "4"]\n[First "random"]\n[Second "a \\"b\\" \\\\c"]\n[Result "0-1"]\n'
        '[Ended "played to its end"]\n\n1. d d 2. c g 3. a\n0-1\n'
    )
    read = read_text(text)
    assert read.moves == ("d", "d", "c", "g", "a") and read.headers["Second"] == 'a "b" \\c'
    long = GameText({"Result": "*"}, tuple("abcdefg" * 9))
    assert read_text(write_text(long)) == long


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is cut off"),
        ("hello", "'hello' is no header"),
        ('[Game "x"]\n\n1. a b 2. c', "it is cut off"),
        ('[Game "x"]\n\n1. a 2. b *', "'2.' stands where 1. or a move is to be"),
        ('[Game "x"]\n\n1. a b 3. c *', "'3.' stands where 2."),
    ],
)
def test_what_is_no_record_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^record: .*{message}"):
        read_text(text)


def test_a_game_of_go_is_a_file_that_says_how_it_was_scored(tmp_path: Path) -> None:
    game = bare("pgx/go_5x5", 26, 5, komi=1.5)
    with pytest.raises(KeyboardInterrupt), recording(tmp_path / "out", game, ("a", "b"), {"seed": 3}) as records:
        records.add(Played(1, 1, (12, 25, 25), 1, "passes", 23.5, ("B+23.5", "")))
        raise KeyboardInterrupt
    record = sgf.read((tmp_path / "out" / "games" / "0002.sgf").read_text())
    assert record[:6] == (5, 1.5, (12, 25, 25), "b", "a", "B+23.5")
    assert record.comment == "both passed; the area as it stands, no stone taken for dead; b scores it B+23.5"
    kept = json.loads((tmp_path / "out" / "match.json").read_text())
    assert (kept["env"], kept["env_options"], kept["seed"]) == ("pgx/go_5x5", {"komi": 1.5}, 3) and "pgx" in kept["versions"]
    assert kept["played"][0]["moves"] == [12, 25, 25] and kept["summary"]["all"]["losses"] == 1
    with (
        pytest.raises(UsageError, match="is not empty; give another folder"),
        recording(tmp_path / "out", game, ("a", "b"), {}),
    ):
        pass
