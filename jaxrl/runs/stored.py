"""What a run's folder holds of its state: the last whole checkpoint, and snapshots of the policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrl.errors import UsageError
from jaxrl.records import checkpoint
from jaxrl.records.console import say
from jaxrl.records.files import Types
from jaxrl.startup import command
from jaxrl.types import PyTree, RunState

_META: Types = {"metrics_bytes": int, "has_replay": bool}
"""What a checkpoint says of itself."""


def read_state(folder: Path, shapes: RunState, warn: Callable[[str], None]) -> tuple[RunState, dict[str, Any]] | None:
    """The last whole checkpoint as it was written, which may lack the replay, observations and memory; compiles nothing.

    Args:
      shapes: of the state, as `jax.ShapeDtypeStruct`s.
      warn: is given a line for each that is damaged.
    """

    def target(meta: dict[str, Any]) -> RunState:
        return shapes if meta["has_replay"] else shapes._replace(agent=shapes.agent._replace(replay=()))

    restored = checkpoint.restore(folder / "checkpoints", target, warn, meta_types=_META)
    return None if restored is None else (restored.state, restored.meta)


def read_policy(folder: Path, shapes: RunState, steps_per_iteration: int, env_steps: int | None) -> tuple[PyTree, int]:
    """The policy of the last whole checkpoint, or after so many env steps, and its iteration.

    Raises:
      UsageError: there is no checkpoint or no such snapshot, or it is damaged.
    """
    if env_steps is None:
        found = read_state(folder, shapes, say)
        if found is None:
            raise UsageError(f"{folder} has no whole checkpoint yet; go on with: {command('resume', folder)}")
        return found[0].agent.policy, int(found[0].iteration)
    kept = snapshots(folder, steps_per_iteration)
    if env_steps not in kept:
        known = ", ".join(map(str, kept)) or "none; train with --keep-every N"
        raise UsageError(f"env_steps={env_steps} has no snapshot in {folder}; choose one of: {known}")
    snapshot = checkpoint.restore(folder / "snapshots", lambda meta: shapes.agent.policy, say, only=kept[env_steps])
    if snapshot is None:
        raise UsageError(f"env_steps={env_steps}: that snapshot in {folder} is damaged; choose another")
    return snapshot.state, kept[env_steps]


def snapshots(folder: Path, steps_per_iteration: int) -> dict[int, int]:
    """Env steps -> iteration of every snapshot, in order."""
    kept = sorted(checkpoint.iterations(folder / "snapshots"))
    return {iteration * steps_per_iteration: iteration for iteration in kept}
