"""Rows of plain numbers, one JSON text a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxrl.records.console import say

Row = dict[str, Any]

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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for row in rows:
            os.write(descriptor, (json.dumps(row, allow_nan=False) + "\n").encode())
    finally:
        os.close(descriptor)


def cut_rows(path: Path, num_bytes: int) -> None:
    """Removes the rows that were written after a checkpoint; a file that lost rows is left as it is."""
    held = path.stat().st_size if path.exists() else 0
    if held < num_bytes:
        say(f"{path} holds {held} of the {num_bytes} bytes it had at the checkpoint: rows are lost")
        return
    with path.open("r+b") as file:
        file.truncate(num_bytes)


def read_rows(path: Path) -> list[Row]:
    """All whole rows of a metrics file; a partial last line of a killed run is passed over."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
