"""Records of games: what is written is read again; others' files; what is no game is one line."""

import pytest

from jaxrl.errors import UsageError
from jaxrl.matches.sgf import Record, read, write


def test_what_is_written_is_read_again() -> None:
    record = Record(9, 6.5, (40, 0, 80, 81, 81), "a [strange] \\name", "w:2", "B+3.5", "Chinese")
    assert read(write(record)) == record
    long = Record(19, 7.5, tuple(range(300)), "a", "b")
    assert read(write(long)) == long


def test_a_game_of_another_program_is_read() -> None:
    text = """
    (;GaMe[1]FF[3]SZ[5]KM[0.5]PB[Black \\
player]C[a comment; with (brackets\\]]
    ;B[cc];W[bb]C[good]
    (;B[] ;W[tt](;B[ea])(;B[ae]))
    (;B[aa];W[ee]))
    """
    assert read(text) == Record(5, 0.5, (12, 6, 25, 25, 4), "Black player", "", "", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no game in it"),
        ("hello", "stands where it means nothing"),
        ("(;GM[1]SZ[9];B[ee]", "it is cut off"),
        ("(;SZ[9];B[ee]))", ""),
        ("(;SZ[9];B[e", "is no part of an SGF"),
        ("(;GM[2]SZ[9])", "GM='2' is no game of Go"),
        ("(;SZ[99])", "SZ='99' is no size of a square board"),
        ("(;SZ[9:7])", "SZ='9:7' is no number"),
        ("(;SZ[nan])", "SZ='nan' is no number"),
        ("(;SZ[9]KM[much])", "KM='much' is no number"),
        ("(;SZ[9]KM[inf])", "KM='inf' is no number"),
        ("(;SZ[9];B[jj])", "move 1 is 'jj', no point of a board of 9x9"),
        ("(;SZ[9];B[e])", "move 1 is 'e'"),
        ("(;SZ[9];B[ee];B[dd])", "move 2 is B's and it is W's turn"),
        ("(;SZ[9];W[ee])", "move 1 is W's"),
        ("(;SZ[9]AB[ee])", "sets up stones \\(AB\\)"),
        ("(;SZ[9];B)", "B of node 1 has no value"),
        (")", "a \\) closes nothing"),
    ],
)
def test_what_is_no_game_is_one_line(text: str, message: str) -> None:
    if not message:
        assert read(text).moves == (40,)  # What stands behind the game is not looked at.
        return
    with pytest.raises(UsageError, match=f"^sgf: .*{message}") as caught:
        read(text)
    assert "\n" not in str(caught.value)
