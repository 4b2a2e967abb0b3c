"""A trained policy that moves in games of another's choosing: at many boards at once, as it is scored, with its own search."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.agents import load_agent
from jaxrl.drivers.evaluate import acting_in
from jaxrl.errors import UsageError
from jaxrl.runs.definition import Run, read_run
from jaxrl.runs.trained import read_trained
from jaxrl.types import Agent, Array, Env, Progress, PyTree


class Moving(NamedTuple):
    """What a trained policy's moves depend on, traced.

    Attributes:
      policy: its parameters.
      progress: how far its training was.
      game: params of the game that it plays, such as komi.
    """

    policy: PyTree
    progress: Progress
    game: PyTree


class Actor(NamedTuple):
    """A trained policy as a player.

    Attributes:
      run: that it is of.
      env_steps: that it was trained for.
      act: (key, params, memory, obs [B, ...], explore) -> (action [B], memory, extras), as `Agent.act`.
      params: a `Moving`.
      initial_memory: (num_envs) -> memory [B, ...] before a game.
    """

    run: Run
    env_steps: int
    act: Callable[..., Any]
    params: Moving
    initial_memory: Callable[[int], PyTree]


def trained_actor(folder: Path, env_id: str, game: Env, env_steps: int | None = None, simulations: int | None = None) -> Actor:
    """The policy of a run's last whole checkpoint, or of a snapshot, in the game that it was trained for.

    Args:
      env_id: of the game.
      game: with two players; its params, such as komi, may be others than in training.
      simulations: positions looked at before a move; None is what the run's evaluations have.

    Raises:
      UsageError: no run of that game, no checkpoint, no such snapshot, or simulations of a policy that does not search.
    """
    run = read_run(folder)
    if run.env != env_id:
        raise UsageError(f"{folder} holds a policy for {run.env}, and the game is {env_id}; give a run of that")
    if simulations is not None and not hasattr(run.config, "eval_simulations"):
        raise UsageError(f"simulations={simulations}: agent={run.agent} of {folder} does not search; leave it out")
    loaded = read_trained(folder, env_steps)
    prepared = loaded.prepared
    prepared.driver.close()
    make_agent, _ = load_agent(run.agent)
    config: Any = prepared.config if simulations is None else dataclasses.replace(prepared.config, eval_simulations=simulations)  # type: ignore[call-arg]
    env: Any = prepared.env

    def agent(params: PyTree) -> Agent:
        # A search looks ahead in the game that is played; a policy that was trained against an opponent has none.
        there = env._replace(params=params) if env.spec.num_players == 2 else env
        return acting_in(make_agent, config, there, game.spec)

    def act(key: Array, params: Moving, memory: PyTree, obs: PyTree, explore: bool) -> tuple[Array, PyTree, PyTree]:
        return agent(params.game).act(key, params.policy, memory, obs, params.progress, explore)

    trained_for = loaded.iteration * prepared.plan.steps_per_iteration
    params = Moving(loaded.params, loaded.progress, game.params)
    return Actor(run, trained_for, act, params, agent(game.params).initial_memory)


def game_options(run: Run) -> dict[str, Any]:
    """The options of the game that a run plays, without who plays the other side."""
    return {name: value for name, value in run.env_options.items() if name != "opponent"}
