"""A trained policy that moves in games of another's choosing: at many boards at once, as it is scored, with its own search."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.agents import load_agent
from jaxrl.config import as_arrays
from jaxrl.drivers.device import device_driver
from jaxrl.drivers.evaluate import acting_in
from jaxrl.envs import make
from jaxrl.envs.tools.versus import Opponent
from jaxrl.errors import UsageError
from jaxrl.loop import plan
from jaxrl.runs.definition import Run, folder_of, read_run
from jaxrl.runs.stored import read_policy
from jaxrl.types import Agent, Array, Env, HostEnv, Position, Progress, PyTree


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
      static: what `act` has baked in: policies with equal `static` are one compiled program; None where that is not known.
    """

    run: Run
    env_steps: int
    act: Callable[..., Any]
    params: Moving
    initial_memory: Callable[[int], PyTree]
    static: Hashable | None = None


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
    make_agent, _ = load_agent(run.agent)
    env: Any = make_env(run.env, run.config.num_envs, **run.env_options)
    schedule, config = plan(run.config, env.spec, run.total_steps), as_arrays(run.config)
    shapes = device_driver(make_agent, env, lambda num_envs: env).shapes(config, env.params)
    policy, iteration = read_policy(folder, shapes, schedule.steps_per_iteration, env_steps)
    there: Any = config if simulations is None else dataclasses.replace(config, eval_simulations=simulations)  # type: ignore[call-arg]

    def agent(params: PyTree) -> Agent:
        # A search looks ahead in the game that is played; a policy that was trained against an opponent has none.
        bound = env._replace(params=params) if env.spec.num_players == 2 else env
        return acting_in(make_agent, there, bound, game.spec)

    def act(key: Array, params: Moving, memory: PyTree, obs: PyTree, explore: bool) -> tuple[Array, PyTree, PyTree]:
        return agent(params.game).act(key, params.policy, memory, obs, params.progress, explore)

    params = Moving(policy, schedule.progress(iteration), game.params)
    program = None if ":" in run.agent or env.static is None else ("run", run.agent, repr(run.config), env.static, simulations)
    trained_for = iteration * schedule.steps_per_iteration
    return Actor(run, trained_for, act, params, agent(game.params).initial_memory, program)


# --- opponents --------------------------------------------------------------------------------------------------------


def run_opponent(folder: Path, env_id: str, game: Env, env_steps: int | None = None) -> Opponent:
    """The policy of a run as the other side of its game, greedy, with the simulations of its evaluations.

    Args:
      env_id, game, env_steps: as of `trained_actor`; errors too.
    """
    actor = trained_actor(folder, env_id, game, env_steps)

    def act(key: Array, params: PyTree, memory: PyTree, obs: Position) -> tuple[Array, PyTree]:
        return actor.act(key, params, memory, obs, False)[:2]

    return Opponent(act, actor.params, actor.initial_memory, actor.static)


def with_opponent(env_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an environment; an opponent that is named by a run's folder is that run's policy.

    Raises:
      UsageError: what `trained_actor` raises.
    """
    text = options.get("opponent")
    found = folder_of(text) if isinstance(text, str) and text not in ("random", "none") else None
    if found is None:
        return dict(options)
    folder, env_steps = found
    game = make(env_id, 1, **_without_opponent(options))
    if isinstance(game, Env):
        if game.spec.num_players == 2:
            return {**options, "opponent": run_opponent(folder, env_id, game, env_steps)}
    else:
        game.close()
    return dict(options)  # `make` says that there is no such option.


def make_env(env_id: str, num_envs: int, /, **options: Any) -> Env | HostEnv:
    """As `jaxrl.make`, with opponents that are named by a run's folder."""
    return make(env_id, num_envs, **with_opponent(env_id, options))


def game_options(run: Run) -> dict[str, Any]:
    """The options of the game that a run plays, without who plays the other side."""
    return _without_opponent(run.env_options)


def _without_opponent(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "opponent"}
