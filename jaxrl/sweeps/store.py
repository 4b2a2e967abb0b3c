"""`sweep.json`, everything that defines a sweep, and `state/units.json`, the units that each of its runs was in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxrl.errors import UsageError
from jaxrl.records.files import read_json
from jaxrl.runs.definition import read_definition, to_values
from jaxrl.startup import command
from jaxrl.sweeps.plan import Sweep

_NO_DIFFERENCE = ("versions", "device", "command", "checkpoint_seconds")
"""What no result depends on."""


def comparable(sweep: Sweep) -> dict[str, Any]:
    """What defines a sweep, as `sweep.json` holds it."""
    values = json.loads(json.dumps(to_values(sweep)))
    return {name: value for name, value in values.items() if name not in _NO_DIFFERENCE}


def read_sweep(folder: Path) -> Sweep:
    """The sweep that a folder's `sweep.json` describes; errors as of `read_definition`."""
    return read_definition(Sweep, folder)


def read_units(folder: Path) -> list[list[str]]:
    """Of each run of a finished sweep the names of the units that it was in.

    Raises:
      UsageError: they cannot be read.
    """
    path, again, num_runs = (
        folder / "state" / "units.json",
        f"write it again with: {command('resume', folder)}",
        read_sweep(folder).num_runs,
    )
    values = read_json(path, {str(run): list for run in range(num_runs)}, again)
    units = [values[str(run)] for run in range(num_runs)]
    if not all(names and all(isinstance(name, str) for name in names) for names in units):
        raise UsageError(f"{path} is damaged (a run was in no unit); {again}")
    return units
