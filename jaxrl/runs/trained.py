"""What remains of a run: the trained policy as a function, its score, its picture.

    policy = jaxrl.load("runs/dqn-CartPole-v1")
    action = policy(obs)                     # greedy; both batches [B, ...] as the environment itself has them

Everything is rebuilt from the run's `config.json` and its last whole checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import make
from jaxrl.errors import UsageError
from jaxrl.records.console import say
from jaxrl.runs.definition import read_run
from jaxrl.runs.prepare import Prepared, prepare
from jaxrl.runs.restore import load_snapshot, read
from jaxrl.runs.train import evaluate_state
from jaxrl.startup import command
from jaxrl.types import SAME_UNITS, Agent, Array, Env, HostEnv, Progress, PyTree, Spec, Units, game_over, units_of


class TrainedPolicy(NamedTuple):
    """A trained policy, greedy, from batches of observations to actions, both as the environment itself has them.

    So it acts on what a Gymnasium environment observes, and returns torques in newton metres and numbers from `start` on.
    `normalized` is the same policy from observations to actions of `spec`, where boxes are [-1, 1] and numbers count from 0.

    Attributes:
      params: what acting reads (`AgentState.policy`).
      spec: what an agent knows of the environment.
      act: (params, memory, obs [B, ...]) -> (action [B, ...], memory), those of `spec`, compiled.
      initial_memory: (num_envs) -> memory of a recurrent policy, () for a feed-forward one.
      units: between the environment's own observations and actions and those of `spec`.
      env_params: what `units` reads.
      name: of its agent and environment.
    """

    params: PyTree
    spec: Spec
    act: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
    initial_memory: Callable[[int], PyTree]
    units: Units = SAME_UNITS
    env_params: PyTree = ()
    name: str = "policy"

    def __repr__(self) -> str:
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        return f"TrainedPolicy({self.name}: {size:,} numbers, obs {self.spec.obs}, action {self.spec.action})"

    @property
    def normalized(self) -> TrainedPolicy:
        """The same policy from observations of `spec` to actions of `spec`."""
        return self._replace(units=SAME_UNITS)

    def __call__(self, obs: PyTree) -> PyTree:
        """Actions [B, ...] for observations [B, ...] of a policy without memory.

        Raises:
          UsageError: the policy is recurrent, use `step`; or it sees more than one observation, as under `frame_stack`.
        """
        memory = self.initial_memory((*np.shape(jax.tree.leaves(obs)[0]), 1)[0])
        if jax.tree.leaves(memory):
            raise UsageError("this policy is recurrent; call step(obs, memory), starting from initial_memory(num_envs)")
        return self.step(obs, memory)[0]

    def step(self, obs: PyTree, memory: PyTree) -> tuple[PyTree, PyTree]:
        """(action [B, ...], next memory) for observations [B, ...] and the memory so far."""
        action, memory = self.act(self.params, memory, self.units.to_obs(self.env_params, obs))
        return self.units.to_action(self.env_params, action), memory


def make_policy(key: Array, agent: Agent, params: PyTree, progress: Progress, env: Env | HostEnv) -> TrainedPolicy:
    """The greedy policy with these `params` of an agent that was trained in `env`, which may be closed by now."""

    @jax.jit
    def act(params: PyTree, memory: PyTree, obs: PyTree) -> tuple[PyTree, PyTree]:
        action, memory, _ = agent.act(key, params, memory, obs, progress, False)
        return action, memory

    env_params = env.params if isinstance(env, Env) else ()
    return TrainedPolicy(params, env.spec, act, agent.initial_memory, units_of(env), env_params)


class _Loaded(NamedTuple):
    prepared: Prepared
    params: PyTree
    iteration: int

    @property
    def progress(self) -> Progress:
        return self.prepared.plan.progress(self.iteration)


def _load(folder: Path, env_steps: int | None = None, env_options: Mapping[str, Any] | None = None) -> _Loaded:
    run = read_run(folder)
    prepared = prepare(dataclasses.replace(run, eval_env_options={**run.eval_env_options, **(env_options or {})}))
    if env_steps is not None:
        return _Loaded(prepared, *load_snapshot(prepared, folder, env_steps))
    restored = read(prepared, folder, say)
    if restored is None:
        raise UsageError(f"{folder} has no whole checkpoint yet; go on with: {command('resume', folder)}")
    return _Loaded(prepared, restored[0].agent.policy, int(restored[0].iteration))


def load(folder: str | Path, env_steps: int | None = None) -> TrainedPolicy:
    """The trained policy of a run's last whole checkpoint, or of the snapshot after so many env steps (`--keep-every`).

    Raises:
      UsageError: no run, no checkpoint or no such snapshot there.
    """
    loaded = _load(Path(folder), env_steps)
    loaded.prepared.driver.close()
    prepared, run = loaded.prepared, loaded.prepared.run
    policy = make_policy(jax.random.key(run.seed), prepared.agent, loaded.params, loaded.progress, prepared.env)
    return policy._replace(name=f"{run.agent} on {run.env}")


def score(
    folder: str | Path,
    num_episodes: int | None = None,
    seed: int = 0,
    env_steps: int | None = None,
    env_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Greedy score of a run's last whole checkpoint, or of a snapshot: episodes, mean, std, unfinished.

    Args:
      env_options: of the environment to act in, where they differ from those of the run's own evaluations: other physics.

    Raises:
      UsageError: no run, no checkpoint or no such snapshot there, or an environment in which the policy cannot act.
    """
    loaded = _load(Path(folder), env_steps, env_options)
    num_episodes = num_episodes or loaded.prepared.evaluation.num_episodes
    result = evaluate_state(loaded.prepared, loaded.params, loaded.iteration, num_episodes, seed)
    loaded.prepared.driver.close()
    return result


def episode_pictures(
    folder: str | Path, seed: int, env_steps: int | None = None, env_options: Mapping[str, Any] | None = None
) -> Iterator[np.ndarray]:
    """Plays one greedy episode as its pictures [height, width, 3] uint8 are asked for; arguments are those of `score`.

    Raises:
      UsageError: the environment has no pictures; before any is asked for.
    """
    loaded = _load(Path(folder), env_steps, env_options)
    loaded.prepared.driver.close()
    run, key = loaded.prepared.run, jax.random.key(seed)
    agent = loaded.prepared.agent
    act = jax.jit(partial(agent.act, progress=loaded.progress, explore=False))
    options = loaded.prepared.evaluation.options
    env = make(run.env, 1, **options if loaded.prepared.driver.keeps_episodes else options | {"render_mode": "rgb_array"})
    limit = env.spec.time_limit or 1000
    if isinstance(env, Env):
        if env.render is None:
            raise UsageError(f"gif: there are no pictures of {run.env}; its policy can be scored without --gif")
        return _device_pictures(key, env, agent, act, loaded.params, limit)
    frames = _host_pictures(key, env, agent, act, loaded.params, limit)
    return itertools.chain([next(frames)], frames)


def _device_pictures(
    key: Array, env: Env, agent: Agent, act: Callable[..., Any], params: PyTree, limit: int
) -> Iterator[np.ndarray]:
    assert env.render is not None
    step = jax.jit(env.step)
    key_reset, key = jax.random.split(key)
    state, obs = env.reset(key_reset, env.params)
    memory = agent.initial_memory(1)
    yield env.render(env.params, state, 0)
    for time in range(limit):
        key_act, key_env = jax.random.split(jax.random.fold_in(key, time))
        action, memory, _ = act(key_act, params, memory, obs)
        state, timestep = step(key_env, env.params, state, action)
        if bool(game_over(timestep)[0]):
            return
        yield env.render(env.params, state, 0)
        obs = timestep.obs


def _host_pictures(
    key: Array, env: Any, agent: Agent, act: Callable[..., Any], params: PyTree, limit: int
) -> Iterator[np.ndarray]:
    with contextlib.closing(env):
        obs, memory = env.reset(int(jax.random.bits(key, dtype=jnp.uint32) >> 1)), agent.initial_memory(1)
        first = env.render_frame()
        if first is None:
            raise UsageError("gif: this environment draws no pictures; its policy can be scored without --gif")
        yield first
        for time in range(limit):
            action, memory, _ = act(jax.random.fold_in(key, time), params, memory, obs)
            timestep = env.step(jax.tree.map(np.asarray, action))
            if bool(game_over(timestep)[0]):
                return
            yield env.render_frame()
            obs = timestep.obs
