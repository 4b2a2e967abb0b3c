"""How far the units of a sweep have come in other processes, from the rows that these write."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxrl.records.files import Types, misfit, parse_json
from jaxrl.sweeps.outcome import unit_folder
from jaxrl.sweeps.unit import ProgressCallback, Unit


class Rows:
    """Progress of runs, from the rows that workers write."""

    def __init__(self, folder: Path, progress: ProgressCallback) -> None:
        self._folder, self._progress = folder, progress
        self._offsets: dict[str, int] = {}
        self._steps: dict[int, int] = {}

    def steps(self, unit: Unit) -> int:
        """Env steps that the runs of a unit have done, as far as was read."""
        return sum(self._steps.get(run, 0) for run in unit.runs)

    def read(self, unit: Unit, before: bool = False) -> None:
        """Reports what a unit has done since the last call; what is done again after a worker's death is not reported twice.

        Args:
          before: all of it was done by earlier processes.
        """
        rows = self._new_rows(unit)
        steps = self.steps(unit)
        for row in rows:
            run = row.get("run", unit.runs[0])
            self._steps[run] = max(self._steps.get(run, 0), row["env_steps"])
        scores = [row["return_mean"] for row in rows[-len(unit.runs) :] if row["return_mean"] is not None]
        if self.steps(unit) > steps:
            self._progress(self.steps(unit) - steps, sum(scores) / len(scores) if scores else None, before)

    def _new_rows(self, unit: Unit) -> list[Mapping[str, Any]]:
        """Whole rows behind those that were read; the file is shorter where a worker went back to a checkpoint."""
        folder, offset = unit_folder(self._folder, unit.name), self._offsets.get(unit.name, 0)
        path = folder / ("run/metrics.jsonl" if unit.solo else "rows.jsonl")
        try:
            with path.open("rb") as file:
                begin = file.seek(min(offset, os.fstat(file.fileno()).st_size))
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return []
        self._offsets[unit.name] = begin + len(whole) + bool(whole)
        rows = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                rows.append(parse_json(line.decode()))
        return [row for row in rows if misfit(row, _ROW) is None and row["kind"] == "train"]


_ROW: Types = {"kind": str, "env_steps": int, "return_mean": (float, type(None))}
