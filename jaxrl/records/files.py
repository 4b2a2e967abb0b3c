"""Files that are written whole or not at all, and files that say who works on a folder."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxrl.errors import UsageError


def write_whole(path: Path, text: str) -> None:
    """Writes a text under another name and renames it, so that a killed process leaves no half file."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.replace(path)


def write_json(path: Path, values: Any) -> None:
    """Writes JSON whole or not at all."""
    write_whole(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Writes a table whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    write_whole(path, text.getvalue())


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
