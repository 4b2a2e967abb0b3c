"""Longer training: a run with another total, and a new run that goes on where another one ended."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.drivers.processes import is_writer
from jaxrl.errors import UsageError
from jaxrl.fields import to_json
from jaxrl.records import checkpoint
from jaxrl.records.files import write_json
from jaxrl.records.rows import held_rows, read_rows
from jaxrl.runs.definition import Run, read_run, read_values
from jaxrl.runs.prepare import Prepared, prepare
from jaxrl.runs.restore import held_sums, keep_end, restore, save_state, say_once, seconds_at_end
from jaxrl.types import RunState

_OF_THIS_RUN = ("extend_from", "init_from", "total_steps")
"""Fields of which nothing is said where they differ from those of the run that is extended."""


def set_total(prepared: Prepared, folder: Path) -> None:
    """Makes the run in `folder`, finished or not, one of as many env steps as `prepared` has; its summary is removed.

    Raises:
      UsageError: more are done.
    """
    run, plan = prepared.run, prepared.plan
    before = read_run(folder).total_steps
    done = next(iter(checkpoint.iterations(folder / "checkpoints")), 0)
    steps = done * plan.steps_per_iteration
    if done > plan.num_iterations:
        raise UsageError(f"total_steps={run.total_steps} is below the {steps:,} env steps that are done; give at least as many")
    values = read_values(Run, folder) | {"total_steps": run.total_steps}
    # The summary marks a run as complete: a process that is killed between the two leaves an interrupted run.
    keep_end(folder, done)
    (folder / "summary.json").unlink(missing_ok=True)
    write_json(folder / Run.file, values)
    say_once(
        f"training to {run.total_steps:,} env steps instead of {before:,}{_score(folder, steps)}: schedules, "
        "of the learning rate for one, are functions of the new total"
    )


class Extended(NamedTuple):
    """What a run goes on from: the last whole checkpoint of another, what is said of it there, and its folder."""

    state: RunState
    meta: dict[str, Any]
    folder: Path


def read_extended(prepared: Prepared) -> Extended | None:
    """The end of the run that this one extends; says what differs. None where it extends none.

    Raises:
      UsageError: no run, or nothing of it was saved; or it is not one that this run could be the end of.
    """
    if prepared.run.extend_from is None:
        return None
    folder = Path(prepared.run.extend_from)
    other = prepare(read_run(folder))
    other.driver.close()
    ours, theirs = prepared.plan.steps_per_iteration, other.plan.steps_per_iteration
    for name in ("agent", "env"):
        if getattr(prepared.run, name) != getattr(other.run, name):
            raise UsageError(f"extend_from={folder} has {name}={getattr(other.run, name)}; give the same, or init_from")
    if ours != theirs:
        raise UsageError(f"extend_from={folder} has {theirs} env steps an iteration, this run {ours}; give the same num_envs")
    found = restore(prepared, folder, say_once)
    if found is None:
        raise UsageError(f"extend_from={folder} has no whole checkpoint yet; give another run")
    state, meta = found
    steps = int(state.iteration) * ours
    if int(state.iteration) >= prepared.plan.num_iterations:
        raise UsageError(f"total_steps={prepared.run.total_steps} is not above the {steps:,} env steps of {folder}; give more")
    score = _score(folder, steps)
    say_once(f"going on from {folder} at {steps:,} env steps{score}; {_differences(other.run, prepared.run)}")
    return Extended(state, meta, folder)


def adopt_end(prepared: Prepared, folder: Path, extended: Extended) -> None:
    """Gives the new run in `folder` the rows and the checkpoint of the one that it extends."""
    source, target = extended.folder / "metrics.jsonl", folder / "metrics.jsonl"
    steps = int(extended.state.iteration) * prepared.plan.steps_per_iteration
    if is_writer():
        held = source.read_bytes() if source.exists() else b""
        target.write_bytes(held_rows(held, extended.meta["metrics_bytes"], steps))
    seconds = seconds_at_end(extended.folder, int(extended.state.iteration), extended.meta)
    save_state(prepared, folder, extended.state, seconds, held_sums(extended.meta))


def _score(folder: Path, env_steps: int) -> str:
    """The greedy return of a run that ended after so many env steps, for a message; nothing where it has none."""
    with contextlib.suppress(UsageError):
        found = [row for row in read_rows(folder / "metrics.jsonl") if (row["kind"], row["env_steps"]) == ("eval", env_steps)]
        if found and found[-1].get("eval_return") is not None:
            return f" (greedy return {found[-1]['eval_return']:.1f} after {env_steps:,})"
    return ""


def _differences(before: Run, after: Run) -> str:
    ours, theirs = _flat(after), _flat(before)
    changed = [f"{name}={ours[name]} (was {theirs[name]})" for name in ours if ours[name] != theirs.get(name)]
    return f"what differs: {', '.join(changed)}" if changed else "nothing but the total differs"


def _flat(run: Run) -> dict[str, Any]:
    values = to_json(run)
    config = values.pop("config")
    return {name: value for name, value in (config | values).items() if name not in _OF_THIS_RUN}
