"""A run of a sweep as a folder of its own, as `jaxrl train` writes them: to evaluate, plot, resume or start others from."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.fields import from_list
from jaxrl.records.rows import read_rows
from jaxrl.runs.definition import Run, Training, values_of
from jaxrl.runs.train import adopt, resume
from jaxrl.sweeps.batch import entry
from jaxrl.sweeps.plan import configure, make_groups
from jaxrl.sweeps.store import read_sweep
from jaxrl.sweeps.unit import OK, Report, final_states, read_outcome, unit_folder


def save_run(folder: Path, run: int, out: Path, finish: bool = True) -> Path:
    """Writes a run of a finished sweep into the folder `out`.

    Args:
      finish: evaluate and summarize a run that trained to its end. One that ended early can be resumed instead.

    Raises:
      UsageError: no such run, the sweep is not finished, or `out` cannot be used.
    """
    sweep = read_sweep(folder)
    if not 0 <= run < sweep.num_runs:
        raise UsageError(f"run={run} is out of range; give a run of {folder} in [0, {sweep.num_runs - 1}]")
    if not (folder / "summary.json").exists():
        raise UsageError(f"{folder} is not finished; go on with: jaxrl resume {folder}")
    units = json.loads((folder / "state" / "units.json").read_text())[str(run)]
    outcome = read_outcome(folder, units[-1])
    assert outcome is not None
    place = outcome["runs"].index(run)
    report = Report(**outcome["reports"][place])
    if report.status not in (OK, "stopped"):
        raise UsageError(f"run={run} became NaN after {report.env_steps} env steps, nothing is kept; give another")
    groups = make_groups(sweep)
    config, env_options = configure(sweep, {name: from_list(value) for name, value in outcome["values"][place].items()})
    shared = values_of(sweep, Training) | {"config": config, "env_options": env_options}
    solo = Run(**shared, seed=sweep.seed_of(run), num_rows=sweep.num_rows)
    iteration = report.env_steps // groups[outcome["group"]].schedule.steps_per_iteration
    state = entry(final_states(groups, folder, units[-1]), place)._replace(iteration=jnp.int32(iteration))
    rows = [row for name in units for row in read_rows(unit_folder(folder, name) / "rows.jsonl") if row["run"] == run]
    rows = [{name: value for name, value in row.items() if name != "run"} for row in rows]
    adopt(solo, out, jax.tree.map(jnp.asarray, state), rows)
    if finish and report.env_steps >= sweep.total_steps:
        resume(out)
    return out
