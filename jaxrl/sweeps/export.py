"""A run of a sweep as a folder of its own, as `jaxrl train` writes them: to evaluate, plot, resume or start others from."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.records.folders import LOCK, new_folder
from jaxrl.runs.definition import Run
from jaxrl.runs.train import adopt, resume
from jaxrl.sweeps.batch import entry
from jaxrl.sweeps.plan import make_groups
from jaxrl.sweeps.solo import run_of
from jaxrl.sweeps.store import read_sweep, read_units
from jaxrl.sweeps.unit import OK, Report, final_states, need_outcome, read_unit_rows, unit_folder


def save_run(folder: Path, run: int, out: Path, finish: bool = True) -> Path:
    """Writes a run of a finished sweep into the folder `out`.

    Args:
      finish: evaluate and summarize a run that trained to its end. One that ended early can be resumed instead.

    Raises:
      UsageError: no such run, the sweep is not finished, or `out` cannot be used.
    """
    sweep, units = read_sweep(folder), _units_of(folder, run)
    if (alone := own_folder(folder, run)) is not None:
        with new_folder(out, Run.what, Run.file):
            return Path(shutil.copytree(alone, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK)))
    outcome = need_outcome(folder, units[-1])
    place = outcome["runs"].index(run)
    report = Report(**outcome["reports"][place])
    if report.status not in (OK, "stopped"):
        raise UsageError(f"run={run} became NaN after {report.env_steps} env steps, nothing is kept; give another")
    groups = make_groups(sweep)
    iteration = report.env_steps // groups[outcome["group"]].schedule.steps_per_iteration
    state = entry(final_states(groups, folder, units[-1]), place)._replace(iteration=jnp.int32(iteration))
    rows = [row for name in units for row in read_unit_rows(folder, name) if row["run"] == run]
    rows = [{name: value for name, value in row.items() if name != "run"} for row in rows]
    adopt(run_of(sweep, run, outcome["values"][place]), out, jax.tree.map(jnp.asarray, state), rows)
    if finish and report.env_steps >= sweep.total_steps:
        resume(out)
    return out


def own_folder(folder: Path, run: int) -> Path | None:
    """The folder of a run of a finished sweep that trained it alone, None where it was trained in a batch.

    Raises:
      UsageError: no such run, or the sweep is not finished.
    """
    path = unit_folder(folder, _units_of(folder, run)[-1]) / "run"
    return path if path.exists() else None


def _units_of(folder: Path, run: int) -> list[str]:
    """Names of the units that a run of a finished sweep was in; errors as of `own_folder`."""
    sweep = read_sweep(folder)
    if not 0 <= run < sweep.num_runs:
        raise UsageError(f"run={run} is out of range; give a run of {folder} in [0, {sweep.num_runs - 1}]")
    if not (folder / "summary.json").exists():
        raise UsageError(f"{folder} is not finished; go on with: jaxrl resume {folder}")
    return read_units(folder)[run]
