"""A run of a sweep as a folder of its own, as `jaxrl train` writes them: to evaluate, plot, resume or start others from."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.analysis.results import best_run, read_results
from jaxrl.errors import UsageError
from jaxrl.records.console import doing
from jaxrl.records.folders import LOCK, new_folder
from jaxrl.runs.definition import Run
from jaxrl.runs.train import adopt, resume
from jaxrl.startup import command
from jaxrl.sweeps.batch import entry
from jaxrl.sweeps.outcome import OK, Report, need_outcome, read_unit_rows, unit_folder
from jaxrl.sweeps.plan import make_groups
from jaxrl.sweeps.solo import run_of
from jaxrl.sweeps.store import read_sweep, read_units
from jaxrl.sweeps.unit import final_states


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
    with doing(f"writing run {run} of {folder} to {out}"):
        groups = make_groups(sweep)
        iteration = report.env_steps // groups[outcome["group"]].schedule.steps_per_iteration
        state = entry(final_states(groups, folder, units[-1]), place)._replace(iteration=jnp.int32(iteration))
        rows = [row for name in units for row in read_unit_rows(folder, name) if row["run"] == run]
        rows = [{name: value for name, value in row.items() if name != "run"} for row in rows]
        adopt(run_of(sweep, run, outcome["values"][place]), out, jax.tree.map(jnp.asarray, state), rows)
    if finish and report.env_steps >= sweep.total_steps:
        resume(out)
    return out


@contextlib.contextmanager
def folder_of(folder: Path, run: int) -> Iterator[Path]:
    """The folder of a run of a finished sweep, for as long as it is needed; errors as of `save_run`."""
    with tempfile.TemporaryDirectory() as scratch:
        yield own_folder(folder, run) or save_run(folder, run, Path(scratch) / "run", finish=False)


class Chosen(NamedTuple):
    """A run of a sweep as `results.csv` names it."""

    run: int
    config: int
    seed: int
    status: str


def choose(folder: Path, run: str = "best", all_seeds: bool = False) -> list[Chosen]:
    """A run of a finished sweep by its number, or the best one; or all runs of its config, which differ by their seed.

    Raises:
      UsageError: no such run, or the sweep is not finished.
    """
    results = read_results(folder)
    number = best_run(results) if run == "best" else run_number(run)
    if number not in results.run:
        raise UsageError(f"run={number} is out of range; give a run of {folder} in [0, {len(results.run) - 1}]")
    config = results.config[results.run == number][0]
    where = results.config == config if all_seeds else results.run == number
    rows = zip(results.run, results.config, results.seed, results.status, strict=True)
    return [Chosen(int(a), int(b), int(c), str(d)) for (a, b, c, d), chosen in zip(rows, where, strict=True) if chosen]


def run_number(text: str) -> int:
    """The number of a run or trial.

    Raises:
      UsageError: it is no whole number.
    """
    if not text.isdecimal():
        raise UsageError(
            f"run={text!r} is no whole number and not best; give a number of the first column of the table, or best"
        )
    return int(text)


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
        raise UsageError(f"{folder} is not finished; go on with: {command('resume', folder)}")
    return read_units(folder)[run]
