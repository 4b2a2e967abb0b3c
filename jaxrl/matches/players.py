"""Trained policies as players of one game at a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.agents import load_agent
from jaxrl.envs.pgx import GoParams
from jaxrl.errors import UsageError
from jaxrl.loop import build_in
from jaxrl.matches.gtp import Choose
from jaxrl.runs.definition import Run, read_run
from jaxrl.runs.trained import read_trained
from jaxrl.types import Position


def go_run(folder: Path) -> tuple[Run, int]:
    """The run in a folder, and the size of the board of Go that it was trained for.

    Raises:
      UsageError: no run, or one of another game.
    """
    run = read_run(folder)
    kind, _, size = run.env.removeprefix("pgx/go_").partition("x")
    if not run.env.startswith("pgx/go_") or kind != size:
        raise UsageError(f"{folder} holds a policy for {run.env}, and this is for Go; give a run of one such as pgx/go_5x5")
    return run, int(kind)


def go_player(folder: Path, num_simulations: int | None = None, seed: int = 0) -> Choose:
    """The trained policy of a run as a player of Go; it knows the komi of the game that it plays.

    Args:
      num_simulations: positions looked at before a move; None is what the run's evaluations have.

    Raises:
      UsageError: no run of Go, no checkpoint, or simulations of a policy that does not search.
    """
    run, _ = go_run(folder)
    if num_simulations is not None and not hasattr(run.config, "eval_simulations"):
        raise UsageError(f"simulations={num_simulations}: agent={run.agent} does not search; leave it out")
    loaded, (make_agent, _) = read_trained(folder), load_agent(run.agent)
    loaded.prepared.driver.close()
    config: Any = loaded.prepared.config
    env: Any = loaded.prepared.env
    if num_simulations is not None:
        config = dataclasses.replace(config, eval_simulations=num_simulations)

    @jax.jit
    def act(key: Any, params: Any, komi: Any, position: Position, played: Any) -> Any:
        agent = build_in(make_agent, config, env._replace(params=GoParams(komi)))
        obs = jax.tree.map(lambda leaf: leaf[None], position)
        memory = jax.tree.map(lambda leaf: jnp.full_like(leaf, played), agent.initial_memory(1))
        action, _, extras = agent.act(key, params, memory, obs, loaded.progress, False)
        value = getattr(extras, "value", jnp.zeros(1))
        return action[0], value[0]

    def choose(position: Position, komi: float, moves: tuple[int, ...]) -> tuple[int, float]:
        key = jax.random.fold_in(jax.random.key(seed), len(moves))
        move, value = act(key, loaded.params, jnp.float32(komi), position, jnp.int32(len(moves)))
        return int(move), float(value)

    return choose
