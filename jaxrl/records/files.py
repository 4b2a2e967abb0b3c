"""Files of our own: written whole or not at all, and read with one line for whatever is wrong.

    summary = read_json(folder / "summary.json", {"env_steps": int}, "write it again with: jaxrl resume ...")

Every file of a run, a sweep or a search that is not Orbax's or Optuna's is written and read here.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl.errors import DiskError, UsageError, one_line

Types = Mapping[str, type | tuple[type, ...]]
"""Names that a table must hold, and the types of their values: an int is a float too, a bool is no number."""

# --- writing --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises what the file system refuses (a full disk, a folder in the place of a file) as one line: `DiskError`."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{error.filename or path} cannot be written ({error.strerror or one_line(error)})") from error


_RUN = ("=", "+", "-", "@", "\t", "\r", "'")
"""What begins a formula for a spreadsheet, or this mark of a text."""
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"


def write_whole(path: Path, text: str) -> None:
    """Writes a text under another name and renames it, so that a killed process leaves no half file.

    Raises:
      DiskError: it cannot be written.
    """
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another name to write a file under, which is renamed at the end; what was there before stays until then.

    Raises:
      DiskError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        yield partial
        partial.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Writes JSON whole or not at all; errors as of `write_whole`."""
    write_whole(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Writes a table whole or not at all; texts that a spreadsheet would run begin with a quote, as `from_cell` knows.

    Raises:
      DiskError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([_cell(cell) for cell in line] for line in (header, *lines))
    write_whole(path, text.getvalue())


def _cell(value: Any) -> Any:
    is_run = isinstance(value, str) and value.startswith(_RUN) and not re.fullmatch(rf"{_NUMBER}(x{_NUMBER})*", value)
    return f"'{value}" if is_run else value


def from_cell(text: str) -> str:
    """The text of a cell that `write_csv` wrote."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_RUN) else text


# --- reading --------------------------------------------------------------------------------------------------------


def read_text(path: Path, fix: str) -> str:
    """A text of our own.

    Args:
      fix: what the user can do where it cannot be read, for the message.

    Raises:
      UsageError: it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        why = "is no text"
    except FileNotFoundError:
        why = "is missing"
    except IsADirectoryError:
        why, fix = "is a folder", f"remove it and {fix}"
    except (OSError, ValueError) as error:
        why = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise UsageError(f"{path} {why}; {fix}")


def read_json(path: Path, types: Types, fix: str) -> dict[str, Any]:
    """A table of names and values that `write_json` wrote.

    Raises:
      UsageError: it cannot be read, or lacks one of `types`.
    """
    text = read_text(path, fix)
    try:
        values = parse_json(text)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read ({one_line(error)[:100]}); {fix}") from None
    if (fault := misfit(values, types)) is not None:
        raise UsageError(f"{path} is damaged ({fault}); {fix}")
    return values


def parse_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
      ValueError: it is none, or too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("too many brackets") from None


def misfit(values: Any, types: Types) -> str | None:
    """What is wrong with a table that was read, in a few words, or None if it holds all of `types`."""
    if not isinstance(values, dict):
        return "no table of names and values"
    for name, wanted in types.items():
        if name not in values:
            return f"{name} is missing"
        if not any(_is(values[name], kind) for kind in (wanted if isinstance(wanted, tuple) else (wanted,))):
            return f"{name}={str(values[name])[:40]!r} is of another type"
    return None


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return isinstance(value, kind)


def read_table(path: Path, header: Sequence[str], fix: str) -> list[list[str]]:
    """Cells of the rows of a CSV file, behind its header.

    Raises:
      UsageError: it cannot be read, or has other columns.
    """
    text = read_text(path, fix)
    try:
        found, *rows = [list(map(from_cell, row)) for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row] or [
            []
        ]
    except csv.Error as error:
        raise UsageError(f"{path} is damaged ({error}); {fix}") from None
    if found != list(header):
        raise UsageError(f"{path} has columns {','.join(found)!r} instead of {','.join(header)!r}; {fix}")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise UsageError(f"{path} line {number + 2} has {len(row)} cells instead of {len(header)}; {fix}")
    return rows
