"""`sweep.json`: everything that defines a sweep, written and read back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from jaxrl.agents import load_agent
from jaxrl.config import from_json, from_list, to_json
from jaxrl.errors import UsageError
from jaxrl.runs.definition import versions
from jaxrl.sweeps.plan import Draw, Sweep
from jaxrl.sweeps.schedules import Schedule


def _comparable(sweep: Sweep) -> dict[str, Any]:
    """What defines a sweep, as `sweep.json` holds it."""
    values = json.loads(json.dumps(to_values(sweep)))
    return {name: value for name, value in values.items() if name not in ("versions", "device", "command")}


def to_values(sweep: Sweep) -> dict[str, Any]:
    """What `sweep.json` holds."""
    values = {field.name: getattr(sweep, field.name) for field in dataclasses.fields(sweep)}
    values |= {"config": to_json(sweep.config), "schedule": dataclasses.asdict(sweep.schedule)}
    values |= {"draws": {name: draw._asdict() for name, draw in sweep.draws.items()}}
    return values | {"versions": versions(), "device": jax.devices()[0].device_kind}


def read_sweep(folder: Path) -> Sweep:
    """The sweep that a folder's `sweep.json` describes.

    Raises:
      UsageError: no sweep there, or one of another version of jaxrl.
    """
    path = folder / "sweep.json"
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no sweep (no sweep.json); give a folder that `jaxrl sweep` wrote") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give the folder of another sweep") from None
    try:
        _, config_class = load_agent(values["agent"])
        known = {field.name for field in dataclasses.fields(Sweep)}
        given = {name: value for name, value in values.items() if name in known}
        given["config"] = from_json(config_class, values["config"])
        given["schedule"] = Schedule(**values["schedule"])
        given["draws"] = {name: Draw(**draw) for name, draw in values["draws"].items()}
        given["configs"] = tuple({name: from_list(value) for name, value in config.items()} for config in values["configs"])
        given |= {name: tuple(values[name]) for name in ("fields", "seeds")}
        return Sweep(**given)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not what `jaxrl sweep` wrote ({error!r}); give the folder of another sweep") from None
