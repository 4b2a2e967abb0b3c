"""Rows of plain numbers, one JSON text a line."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxrl.errors import UsageError, one_line
from jaxrl.records.console import say
from jaxrl.records.files import Types, misfit, parse_json, read_text, writing

Row = dict[str, Any]

_TYPES: Types = {"kind": str, "env_steps": int}
_RETURNS, _NUMBER = ("return_mean", "eval_return"), (float, type(None))

WALL_CLOCK_FIELDS = frozenset({"wall_seconds", "steps_per_second"})
"""Fields of a row that differ between two runs of the same thing."""


def plain(values: Mapping[str, Any]) -> Row:
    """Numbers as JSON holds them: arrays become floats or ints, NaN and infinity None."""

    def convert(value: Any) -> Any:
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, float):
            return float(f"{value:.9g}") if math.isfinite(value) else None
        return value

    return {name: convert(value) for name, value in values.items()}


def append_row(path: Path, row: Row) -> None:
    """Appends one row."""
    append_rows(path, [row])


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Appends rows, each in one write, so that a killed process leaves at most one partial last line."""
    with writing(path), path.open("ab", buffering=0) as file:
        for row in rows:
            line = (json.dumps(row, allow_nan=False) + "\n").encode()
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def held_rows(text: bytes, num_bytes: int, env_steps: int | None = None) -> bytes:
    """The whole rows of a metrics file up to a checkpoint, at which it had so many bytes.

    Args:
      env_steps: of the checkpoint, where training goes on from it: a score behind it is that of an earlier end, and stays.
    """
    before, behind = text[:num_bytes], text[num_bytes:].partition(b"\n")
    held = before[: before.rfind(b"\n") + 1]
    with contextlib.suppress(ValueError):
        row = parse_json(behind[0].decode())
        if misfit(row, _TYPES) is None and (row["kind"], row["env_steps"]) == ("eval", env_steps) and behind[1]:
            held += b"".join(behind[:2])
    return held


def cut_rows(path: Path, num_bytes: int, env_steps: int | None = None) -> None:
    """Leaves `held_rows` alone in a file; says where rows were lost before the checkpoint."""
    with writing(path), path.open("a+b") as file:
        held = file.tell()
        if held < num_bytes:
            say(f"{path} holds {held} of the {num_bytes} bytes it had at the checkpoint: rows are lost")
        file.seek(0)
        file.truncate(len(held_rows(file.read(), num_bytes, env_steps)))


def read_rows(path: Path, types: Types = _TYPES) -> list[Row]:
    """All whole rows of a metrics file; a partial last line of a killed run is passed over.

    Raises:
      UsageError: it cannot be read, or a line of it lacks one of `types`.
    """
    *lines, last = read_text(path, "the run has to be trained again").split("\n")
    rows = []
    for number, line in enumerate((*lines, last), 1):
        try:
            row = parse_json(line)
            fault = misfit(row, types) or misfit(row, {name: _NUMBER for name in _RETURNS if name in row})
        except ValueError as error:
            fault = one_line(error)
        if fault is None:
            rows.append(row)
        elif number <= len(lines):
            raise UsageError(f"{path} line {number} is damaged ({fault[:100]}); remove that line")
    return rows
