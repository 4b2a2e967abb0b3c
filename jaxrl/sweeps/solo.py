"""A run of a sweep that is trained alone: an ordinary run and its folder, and how it ended in the words of a sweep."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxrl.fields import from_list
from jaxrl.interrupts import heard_of
from jaxrl.records.console import PARTS
from jaxrl.records.rows import WALL_CLOCK_FIELDS, Row, read_rows
from jaxrl.runs.definition import Recorded, Run, Training, values_of
from jaxrl.runs.train import resume, start
from jaxrl.sweeps.plan import Sweep, configure


def run_of(sweep: Sweep, run: int, values: Mapping[str, Any]) -> Run:
    """The run of a sweep, with these values of the swept fields, as a run of its own."""
    config, env_options = configure(sweep, {name: from_list(value) for name, value in values.items()})
    shared = values_of(sweep, Training) | values_of(sweep, Recorded) | {"config": config, "env_options": env_options}
    return Run(**shared, seed=sweep.seed_of(run))


def train(run: Run, folder: Path, interrupted: Callable[[], bool]) -> tuple[dict[str, Any], list[Row], dict[str, Any]]:
    """Trains a run in `folder`, or goes on with it there.

    Args:
      interrupted: () -> whether to save and to stop, as after a signal.

    Returns:
      The values of its report, its rows without wall clocks, and what it took: seconds, and parts of them.

    Raises:
      UsageError: bad input.
      EnvError: the environment failed.
      KeyboardInterrupt: there was an interrupt, and all is saved.
    """
    with heard_of(interrupted):
        if (folder / "config.json").exists():
            summary = resume(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # What a process left that was killed as it began.
            summary = start(run, folder)
    is_nan, training = summary["status"] != "ok", summary["training_return"]
    report = {
        "status": summary["status"],
        "env_steps": summary["env_steps"],
        "final_return": None if is_nan else training["mean"],
        "episodes": training["episodes"],
        "eval_return": None if is_nan else summary["evaluation"]["mean"],
    }
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["kind"] == "train"]
    rows = [{name: value for name, value in row.items() if name not in WALL_CLOCK_FIELDS} for row in rows]
    parts = {part: summary.get(f"{part}_seconds", 0.0) for part in PARTS}
    return report, rows, {"seconds": summary["wall_seconds"], "parts": parts}
