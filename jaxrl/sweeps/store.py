"""`sweep.json`: everything that defines a sweep, written and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jaxrl.runs.definition import read_definition, to_values
from jaxrl.sweeps.plan import Sweep


def comparable(sweep: Sweep) -> dict[str, Any]:
    """What defines a sweep, as `sweep.json` holds it."""
    values = json.loads(json.dumps(to_values(sweep)))
    return {name: value for name, value in values.items() if name not in ("versions", "device", "command")}


def read_sweep(folder: Path) -> Sweep:
    """The sweep that a folder's `sweep.json` describes; errors as of `read_definition`."""
    return read_definition(Sweep, folder)
