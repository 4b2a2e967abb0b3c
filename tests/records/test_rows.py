"""Files of rows and tables: what is read of them when they are damaged."""

import json
import re

import pytest

from jaxrl.errors import DiskError, UsageError
from jaxrl.records.files import misfit, read_json, read_table, write_json
from jaxrl.records.rows import append_rows, cut_rows, read_rows

GOOD = '{"kind": "train", "env_steps": 10, "return_mean": 1.5}\n'


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1, 2]",
        "3",
        "\0\0",
        '{"kind": "train"}',
        '{"kind": 1, "env_steps": 10}',
        '{"kind": "train", "env_steps": "10"}',
        '{"kind": "train", "env_steps": 10, "return_mean": "high"}',
        "[" * 100_000,
    ],
)
def test_a_damaged_row_is_named_by_its_line(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{GOOD}{line}\n{GOOD}")
    with pytest.raises(UsageError, match=rf"^{re.escape(str(path))} line 2 is damaged \(.*\); remove that line$"):
        read_rows(path)


def test_a_partial_last_row_is_passed_over(tmp_path):
    (tmp_path / "rows").write_text(GOOD + GOOD[:20])
    assert read_rows(tmp_path / "rows") == [json.loads(GOOD)]


def test_rows_go_on_behind_the_last_whole_one(tmp_path, capsys):
    """A file that was cut in the midst of a row, before the checkpoint's length."""
    path = tmp_path / "rows"
    path.write_text(GOOD + GOOD[:20])
    cut_rows(path, 3 * len(GOOD))
    assert "rows are lost" in capsys.readouterr().err
    append_rows(path, [json.loads(GOOD)])
    assert path.read_text() == 2 * GOOD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"\xff", "is no text"),
        (b"[]", "is damaged"),
        (b"{}", "steps is missing"),
        (None, "is a folder"),
    ],
)
def test_a_damaged_table_is_one_line_with_the_fix(tmp_path, content, message):
    path = tmp_path / "own.json"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"^{re.escape(str(path))} .*{message}.*; .*make it again$"):
        read_json(path, {"steps": int}, "make it again")


def test_types_are_those_of_the_values():
    """A bool is no number, an int is a float, and counts are not negative."""
    types = {"count": int, "score": (float, type(None))}
    assert misfit({"count": 3, "score": 2}, types) is None
    assert misfit({"count": 3, "score": None}, types) is None
    for values in ({"count": True, "score": 1.0}, {"count": -1, "score": 1.0}, {"count": 1.0, "score": 1.0}):
        assert misfit(values, types) == f"count={str(values['count'])!r} is of another type"
    assert misfit({"count": 3, "score": float("inf")}, types) == "score='inf' is of another type"


def test_a_table_with_other_columns_is_one_line(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(UsageError, match="line 3 has 1 cells instead of 2; make it again"):
        read_table(tmp_path / "t.csv", ["a", "b"], "make it again")


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path):
    (tmp_path / "own.json").mkdir()
    with pytest.raises(DiskError, match=r"own.json.* cannot be written \(Is a directory\)"):
        write_json(tmp_path / "own.json", {})
