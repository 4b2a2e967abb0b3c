"""Files that are written whole or not at all, and files that say who works on a folder."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxrl.errors import UsageError

_RUN = ("=", "+", "-", "@", "\t", "\r", "'")
"""What begins a formula for a spreadsheet, or this mark of a text."""
_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"


def write_whole(path: Path, text: str) -> None:
    """Writes a text under another name and renames it, so that a killed process leaves no half file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Writes JSON whole or not at all."""
    write_whole(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Writes a table whole or not at all; texts that a spreadsheet would run begin with a quote, as `from_cell` knows."""
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


@contextlib.contextmanager
def lock(path: Path, holder: str = "") -> Iterator[str | None]:
    """Holds the lock of a file, unless another process does; the system releases it when the process ends.

    Args:
      holder: what this process says of itself in the file, which stays; what counts is the system's lock on it.

    Returns:
      None, or what the process that holds the lock said of itself.

    Raises:
      UsageError: the file system cannot lock.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield path.read_text() or "another process"
            return
        except OSError as error:
            raise UsageError(f"{path.parent} is on a file system without locks ({error.strerror}); give another") from None
        file.truncate(0)
        file.write(holder)
        file.flush()
        yield None
