"""From one environment's pure functions to B auto-resetting environments.

    env = batch_env(spec, params, reset, step, num_envs=8)

An adapter (gymnax) or a new environment (grid world) writes `reset(key, params)` and `step(key, params, state, action)` for a
single environment; this module adds the batch axis, the reset after an episode's end, the time limit and the records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Env, PyTree, Spec, TimeStep, where_ended


class Transition(NamedTuple):
    """What a single environment's `step` returns; every field unbatched.

    Attributes:
      state: the environment's next state.
      obs: the observation of that state.
      reward: [].
      terminated: [] bool, the MDP ended.
      truncated: [] bool, an own time limit struck.
    """

    state: PyTree
    obs: PyTree
    reward: Array | float
    terminated: Array | bool
    truncated: Array | bool = False


class BatchState(NamedTuple):
    """State of B environments.

    Attributes:
      inner: [B, ...] the environments' own states.
      episode_return: [B] float32, undiscounted sum of rewards of the running episode.
      episode_length: [B] int32, steps of the running episode.
    """

    inner: PyTree
    episode_return: Array
    episode_length: Array


def strong(tree: PyTree) -> PyTree:
    """Every leaf as a strongly typed array, so that a state keeps its types from step to step."""

    def cast(leaf: Any) -> Array:
        array = jnp.asarray(leaf)
        return array if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else jnp.asarray(array, array.dtype)

    return jax.tree.map(cast, tree)


def batch_env(
    spec: Spec,
    params: PyTree,
    reset: Callable[[Array, PyTree], tuple[PyTree, PyTree]],
    step: Callable[[Array, PyTree, PyTree, PyTree], Transition],
    num_envs: int,
    *,
    time_limit: int | None = None,
    model: Callable[[Array, PyTree, PyTree, PyTree], tuple[PyTree, Array, Array]] | None = None,
    render: Callable[..., Any] | None = None,
) -> Env:
    """B = `num_envs` auto-resetting environments out of the functions of one.

    Args:
      spec: what an agent may know.
      params: traced parameters, handed to `reset` and `step`.
      reset: (key, params) -> (state, obs) of one environment.
      step: (key, params, state, action) -> `Transition` of one environment, without auto-reset.
      time_limit: truncate an episode after so many steps.
      render: (params, state) -> [height, width, 3] uint8 of one environment, on the host.

    A reset is drawn only in a step in which some episode ended: a reset of every environment in every step would cost
    more than stepping a small environment. Each environment's reset has its own key, so all starts are fresh.
    """

    def reset_all(keys: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        return strong(jax.vmap(reset, in_axes=(0, None))(keys, params))

    def reset_batch(key: Array, params: PyTree) -> tuple[BatchState, PyTree]:
        state, obs = reset_all(jax.random.split(key, num_envs), params)
        return BatchState(state, jnp.zeros(num_envs), jnp.zeros(num_envs, jnp.int32)), obs

    def step_batch(key: Array, params: PyTree, state: BatchState, action: PyTree) -> tuple[BatchState, TimeStep]:
        keys = jax.random.split(key, 2 * num_envs)[:num_envs]
        moved = Transition(*strong(tuple(jax.vmap(step, in_axes=(0, None, 0, 0))(keys, params, state.inner, action))))
        reward = jnp.asarray(moved.reward, jnp.float32)
        episode_return = state.episode_return + reward
        episode_length = state.episode_length + 1
        terminated = jnp.broadcast_to(moved.terminated, (num_envs,))
        truncated = jnp.broadcast_to(moved.truncated, (num_envs,))
        if time_limit is not None:
            truncated = truncated | (episode_length >= time_limit)
        truncated = truncated & ~terminated
        ended = terminated | truncated

        def restart(_: None) -> tuple[PyTree, PyTree]:
            # Drawn here, so that a step without an end pays for no keys; the first B keys were the steps'.
            keys = jax.random.split(key, 2 * num_envs)[num_envs:]
            return where_ended(ended, reset_all(keys, params), (moved.state, moved.obs))

        inner, obs = jax.lax.cond(jnp.any(ended), restart, lambda _: (moved.state, moved.obs), None)
        info = {"episode_return": episode_return, "episode_length": episode_length}
        timestep = TimeStep(obs, reward, terminated, truncated, moved.obs, info)
        return BatchState(inner, jnp.where(ended, 0.0, episode_return), jnp.where(ended, 0, episode_length)), timestep

    def render_one(params: PyTree, state: BatchState, index: int) -> Any:
        assert render is not None
        return render(params, jax.tree.map(lambda leaf: leaf[index], state.inner))

    return Env(spec, num_envs, strong(params), reset_batch, step_batch, model, render_one if render else None)
