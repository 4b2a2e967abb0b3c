"""Checkpoints of a run: what is in them, and the way back to a state that training goes on from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.drivers.processes import is_writer
from jaxrl.errors import UsageError
from jaxrl.loop import Sums
from jaxrl.records import checkpoint
from jaxrl.records.console import PARTS, doing, say
from jaxrl.records.files import read_json, write_json
from jaxrl.runs.definition import read_run, read_summary
from jaxrl.runs.prepare import Prepared, prepare, replay_bytes, without_replay
from jaxrl.runs.stored import read_state
from jaxrl.types import PyTree, RunState

REPLAY_LIMIT = 1_000_000_000
"""Bytes of replay above which it is left out of checkpoints unless asked for."""


def say_once(message: str) -> None:
    """A line to the user, once, however many processes a run has."""
    if is_writer():
        say(message)


def doing_once(what: str) -> contextlib.AbstractContextManager[None]:
    """`doing`, once, however many processes a run has."""
    return doing(what) if is_writer() else contextlib.nullcontext()


def seconds_of(meta: Mapping[str, Any]) -> dict[str, float]:
    """What the processes that led to a checkpoint took, by part; older ones, and what someone wrote into, say less."""
    if isinstance(found := meta.get("seconds"), dict):
        return {part: seconds for part, seconds in found.items() if isinstance(seconds, (int, float))}
    wall, compiling = meta.get("wall_seconds"), meta.get("compile_seconds")
    if not isinstance(wall, (int, float)) or not isinstance(compiling, (int, float)):
        return {}
    return {"compile": compiling, "training": wall - compiling}


_END = "end.json"


def _told(folder: Path) -> dict[str, Any] | None:
    """Seconds by part as the summary of a finished run has them, None of one that is not."""
    summary = read_summary(folder, lambda line: None)
    return None if summary is None else {part: summary.get(f"{part}_seconds") for part in PARTS}


def keep_end(folder: Path, iteration: int) -> None:
    """Keeps of a finished run, whose summary is about to go, what its last checkpoint does not tell: the seconds after it."""
    if (seconds := _told(folder)) is not None:
        write_json(folder / _END, {"iteration": iteration, "seconds": seconds})


def seconds_at_end(folder: Path, iteration: int, meta: Mapping[str, Any]) -> dict[str, float]:
    """As of `seconds_of` the last checkpoint, `meta`; of a run that was finished there with what came after it."""
    if (seconds := _told(folder)) is not None:
        meta = {"seconds": seconds}
    elif (path := folder / _END).exists():
        with contextlib.suppress(UsageError):
            kept = read_json(path, {"iteration": int, "seconds": dict}, "seconds are counted from the last checkpoint")
            meta = kept if kept["iteration"] == iteration else meta
    return seconds_of(meta)


def save_state(
    prepared: Prepared, folder: Path, state: RunState, seconds: Mapping[str, float], sums: Sums | None = None
) -> None:
    """Writes a checkpoint.

    Args:
      seconds: that the run took until now, by part.
      sums: of the reports of the row that is not complete yet.
    """
    saved = prepared.driver.saved(state)
    has_replay = prepared.run.checkpoint_replay or replay_bytes(state.agent) <= REPLAY_LIMIT
    if not has_replay:
        saved = saved._replace(agent=saved.agent._replace(replay=()))
    iteration, saved = int(state.iteration), prepared.driver.gather(saved)
    if not is_writer():
        return
    metrics_file = folder / "metrics.jsonl"
    meta = {
        "metrics_bytes": os.path.getsize(metrics_file) if metrics_file.exists() else 0,
        "has_replay": has_replay,
        "seconds": dict(seconds),
        "sums": {name: (np.asarray(value).item(), str(value.dtype)) for name, value in (sums or {}).items()},
    }
    checkpoint.save(folder / "checkpoints", iteration, saved, meta)


def save_snapshot(prepared: Prepared, folder: Path, state: RunState) -> None:
    """Keeps the policy as it is now in `snapshots/ITERATION`, for as long as the folder lives."""
    iteration, policy = int(state.iteration), prepared.driver.gather(state.agent.policy)
    if is_writer():
        meta = {"env_steps": iteration * prepared.plan.steps_per_iteration}
        checkpoint.save(folder / "snapshots", iteration, policy, meta, keep_all=True)


def with_replay(agent_state: PyTree, fresh: PyTree) -> PyTree:
    """`agent_state` with the replay of `fresh` in place of one that was left out."""
    return agent_state._replace(replay=fresh.replay) if hasattr(fresh, "replay") else agent_state


def read(prepared: Prepared, folder: Path, warn: Callable[[str], None]) -> tuple[RunState, dict[str, Any]] | None:
    """The last whole checkpoint as it was written; see `read_state`."""
    return read_state(folder, prepared.driver.shapes(prepared.config, prepared.env_params), warn)


def restore(prepared: Prepared, folder: Path, warn: Callable[[str], None]) -> tuple[RunState, dict[str, Any]] | None:
    """The last whole checkpoint where training wants it; a replay that it does not hold is as in a new run."""
    found = read(prepared, folder, warn)
    if found is None:
        return None
    state, meta = found
    if not meta["has_replay"]:
        fresh = prepared.driver.init(prepared.keys.init, prepared.config, prepared.env_params)
        state = state._replace(agent=with_replay(state.agent, fresh.agent))
    return prepared.driver.place(state), meta


def held_sums(meta: Mapping[str, Any]) -> Sums:
    """The sums of the row that a checkpoint was written in, nothing where it was written between two rows."""
    try:
        return {name: np.asarray(value, kind) for name, (value, kind) in meta.get("sums", {}).items()}
    except (AttributeError, TypeError, ValueError):  # A manifest that someone wrote into.
        return {}


def refill(prepared: Prepared, state: RunState, say: Callable[[str], None]) -> RunState:
    """Acts without learning until a replay that was left out holds a warm-up's worth again."""
    count = max(prepared.plan.num_warmup, 1)
    say(f"the replay was left out of the checkpoint: refilling it with {count * prepared.plan.steps_per_iteration:,} env steps")
    iteration, recent = jnp.copy(state.iteration), jax.tree.map(jnp.copy, state.recent)
    key = jax.random.fold_in(prepared.keys.init, int(iteration))
    progress = prepared.plan.progress(int(iteration))
    sums = prepared.driver.no_sums(prepared.config, prepared.env_params, state)
    counts = np.int32(count), np.int32(0)
    state, _ = prepared.driver.advance(key, prepared.config, prepared.env_params, state, *counts, progress, sums)
    return state._replace(iteration=iteration, recent=recent)


def load_state(folder: Path, prepared: Prepared) -> PyTree:
    """The learned state (all but the replay) of a finished or interrupted run, for `init_from`.

    Raises:
      UsageError: no run or no checkpoint there, or one whose arrays do not fit.
    """
    other = prepare(read_run(folder))
    restored = read(other, folder, say_once)
    other.driver.close()
    if restored is None:
        raise UsageError(f"init_from={folder} has no whole checkpoint yet; give another run")
    learned = without_replay(restored[0].agent)
    if jax.tree.map(jnp.shape, learned) != jax.tree.map(jnp.shape, without_replay(prepared.agent_shapes)):
        raise UsageError(f"init_from={folder}: its networks do not fit this agent and environment; give the same sizes")
    return learned
