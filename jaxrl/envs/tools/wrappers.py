"""Wrappers: pure functions from an `Env` to an `Env`, all on B auto-resetting environments at once.

    env = clip_reward(frame_stack(make("Breakout-MinAtar", num_envs=8), 4))

Each keeps its own state beside the inner one. What the agent sees next (`obs`) and the true successor (`next_obs`) are wrapped
apart, since they differ where an episode ended. One that changes observations, rewards or ends leaves the inner model behind,
and says nothing of what it bakes into a program (`Env.static`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import is_whole_number
from jaxrl.contracts.environments import RECORDS, trace_env
from jaxrl.envs.tools.batch import most
from jaxrl.errors import UsageError
from jaxrl.fields import check_count
from jaxrl.maths.normalize import Moments, init_moments, normalize, update_moments
from jaxrl.types import Array, ArraySpec, Env, PyTree, TimeStep, Units, action_zeros, episode_end, where_ended


class Wrapped(NamedTuple):
    """State of a wrapper: the inner environment's and what the wrapper adds."""

    inner: PyTree
    extra: PyTree


def record_episodes(env: Env) -> Env:
    """Adds `episode_return` and `episode_length` to `info`, for an environment that does not report them itself.

    Environments made by `batch_env` do; then this returns `env` unchanged.

    Raises:
      UsageError: `reset` or `step` returns another shape or dtype than it should.
    """
    info = trace_env(env).info
    if isinstance(info, dict) and set(RECORDS) <= set(info):
        return env

    def reset(key: Array, params: PyTree) -> tuple[Wrapped, PyTree]:
        state, obs = env.reset(key, params)
        return Wrapped(state, (jnp.zeros(env.num_envs, jnp.float32), jnp.zeros(env.num_envs, jnp.int32))), obs

    def step(key: Array, params: PyTree, state: Wrapped, action: PyTree) -> tuple[Wrapped, TimeStep]:
        inner, timestep = env.step(key, params, state.inner, action)
        total, length = state.extra[0] + timestep.reward, state.extra[1] + 1
        ended = episode_end(timestep)
        info = (timestep.info if isinstance(timestep.info, dict) else {"info": timestep.info}) | {
            "episode_return": total,
            "episode_length": length,
        }
        return Wrapped(inner, (jnp.where(ended, 0.0, total), jnp.where(ended, 0, length))), timestep._replace(info=info)

    return env._replace(reset=reset, step=step, render=_inner_render(env))


def time_limit(env: Env, limit: int) -> Env:
    """Truncates episodes after `limit` steps; use it where the environment's own limit cannot be set.

    All B environments are reset in a step in which the limit struck one of them, since an `Env` resets only as a whole: with
    many environments that may cost more than stepping them. The `time_limit` of `batch_env` resets those that ended.
    """
    check_count("time_limit", limit)

    def reset(key: Array, params: PyTree) -> tuple[Wrapped, PyTree]:
        state, obs = env.reset(key, params)
        return Wrapped(state, jnp.zeros(env.num_envs, jnp.int32)), obs

    def step(key: Array, params: PyTree, state: Wrapped, action: PyTree) -> tuple[Wrapped, TimeStep]:
        key_step, key_reset = jax.random.split(key)
        inner, timestep = env.step(key_step, params, state.inner, action)
        length = state.extra + 1
        struck = (length >= limit) & ~episode_end(timestep)

        def restart() -> tuple[PyTree, PyTree]:
            return where_ended(struck, env.reset(key_reset, params), (inner, timestep.obs))

        inner, obs = jax.lax.cond(most(jnp.any(struck)), restart, lambda: (inner, timestep.obs))
        timestep = timestep._replace(obs=obs, truncated=timestep.truncated | struck)
        return Wrapped(inner, jnp.where(episode_end(timestep), 0, length)), timestep

    own = env.spec.time_limit
    spec = env.spec._replace(time_limit=limit if own is None else min(own, limit))
    return env._replace(spec=spec, reset=reset, step=step, model=None, render=_inner_render(env), static=None)


def frame_stack(env: Env, num_frames: int) -> Env:
    """Observations become the last `num_frames` ones along a new or merged axis, oldest first.

    An observation `[..., C]` of rank 3 becomes `[..., C * num_frames]`, or a picture `[C, ...]` with its channels first
    `[C * num_frames, ...]`; any other `[...]` becomes `[..., num_frames]`. An episode starts from copies of its first
    observation, so no frame crosses an episode's end.
    """
    spec = _array_obs(env, "frame_stack")
    check_count("frame_stack", num_frames)
    shape, axis = (*spec.shape, 1), len(spec.shape)
    if len(spec.shape) == 3:
        shape, axis = spec.shape, 0 if spec.picture == "CHW" else 2
    picture = "HWC" if len(spec.shape) == 2 and spec.num_values is None else spec.picture
    new_shape = (*shape[:axis], shape[axis] * num_frames, *shape[axis + 1 :])

    def stacked(frames: Array) -> Array:
        """[B, F, ...] -> [B, *new_shape]."""
        return jnp.moveaxis(frames, 1, axis + 1).reshape(frames.shape[0], *new_shape)

    def first(obs: Array) -> Array:
        return jnp.repeat(obs[:, None], num_frames, axis=1)

    def push(frames: Array, obs: Array) -> Array:
        return jnp.concatenate([frames[:, 1:], obs[:, None]], axis=1)

    def reset(key: Array, params: PyTree) -> tuple[Wrapped, Array]:
        state, obs = env.reset(key, params)
        return Wrapped(state, first(obs)), stacked(first(obs))

    def step(key: Array, params: PyTree, state: Wrapped, action: PyTree) -> tuple[Wrapped, TimeStep]:
        inner, timestep = env.step(key, params, state.inner, action)
        true_frames = push(state.extra, timestep.next_obs)
        frames = where_ended(episode_end(timestep), first(timestep.obs), true_frames)
        timestep = timestep._replace(obs=stacked(frames), next_obs=stacked(true_frames))
        return Wrapped(inner, frames), timestep

    def no_stack(params: PyTree, obs: PyTree) -> PyTree:
        raise UsageError(
            f"frame_stack={num_frames}: this policy acts on the last {num_frames} observations together, not on one; "
            "stack them, oldest first, and call policy.normalized(obs)"
        )

    return env._replace(
        spec=env.spec._replace(obs=spec._replace(shape=new_shape, num_frames=1, picture=picture)),
        reset=reset,
        step=step,
        model=None,
        render=_inner_render(env),
        static=None,
        units=env.units._replace(to_obs=no_stack),
    )


def sticky_actions(env: Env, probability: float) -> Env:
    """With this probability the environment repeats the last action instead of the new one.

    Machado et al. 2018, "Revisiting the Arcade Learning Environment", section 5. No action sticks across an episode's end.
    """
    is_number = isinstance(probability, (int, float, np.number, jax.Array)) and not isinstance(probability, bool)
    if not is_number or not 0.0 <= probability <= 1.0:
        raise UsageError(f"sticky_actions={probability!r} is no probability; give a number in [0, 1]")

    def reset(key: Array, params: PyTree) -> tuple[Wrapped, PyTree]:
        state, obs = env.reset(key, params["inner"])
        return Wrapped(state, (action_zeros(env.spec.action, (env.num_envs,)), jnp.zeros(env.num_envs, bool))), obs

    def step(key: Array, params: PyTree, state: Wrapped, action: PyTree) -> tuple[Wrapped, TimeStep]:
        key_sticky, key_step = jax.random.split(key)
        last_action, has_last = state.extra
        sticks = has_last & (jax.random.uniform(key_sticky, (env.num_envs,)) < params["probability"])
        action = where_ended(sticks, last_action, action)
        inner, timestep = env.step(key_step, params["inner"], state.inner, action)
        return Wrapped(inner, (action, ~episode_end(timestep))), timestep

    params = {"inner": env.params, "probability": jnp.float32(probability)}
    render = _inner_render(env, "both")
    return env._replace(params=params, reset=reset, step=step, model=None, render=render, units=_inner_units(env))


def mask_observation(env: Env, keep: tuple[int, ...]) -> Env:
    """Keeps only these components of a vector observation: CartPole without velocities is `keep=(0, 2)`."""
    spec = _array_obs(env, "mask_observation")
    is_fit = len(spec.shape) == 1 and isinstance(keep, (tuple, list)) and len(keep) > 0
    if not is_fit or not all(is_whole_number(i) and 0 <= i < spec.shape[0] for i in keep):
        raise UsageError(f"mask_observation={keep!r} does not fit observations of shape {spec.shape}; give indices of a vector")
    index = jnp.asarray(keep)
    return map_observation(env, lambda obs: obs[..., index], spec._replace(shape=(len(keep),)))


def map_observation(env: Env, function: Any, spec: Any) -> Env:
    """Applies `function` to every observation ([B, ...] in, [B, ...] out of the spec `spec`)."""

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        state, obs = env.reset(key, params)
        return state, function(obs)

    def step(key: Array, params: PyTree, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
        state, timestep = env.step(key, params, state, action)
        return state, timestep._replace(obs=function(timestep.obs), next_obs=function(timestep.next_obs))

    units = env.units._replace(to_obs=lambda params, obs: function(env.units.to_obs(params, obs)))
    return env._replace(spec=env.spec._replace(obs=spec), reset=reset, step=step, model=None, static=None, units=units)


def flatten_observation(env: Env) -> Env:
    """Observations as one float32 vector of quantities, whatever their shape; a state's number becomes a vector of one."""
    spec = _array_obs(env, "flatten_observation")
    size = 1
    for length in spec.shape:
        size *= length
    flat = ArraySpec((size,), "float32", scale=spec.scale)
    return map_observation(env, lambda obs: obs.reshape(obs.shape[0], size).astype(jnp.float32), flat)


def clip_reward(env: Env, low: float = -1.0, high: float = 1.0) -> Env:
    """Clips the reward that the agent learns from; the recorded episode return stays the raw score."""
    if not low < high:
        raise UsageError(f"low={low} is not below high={high}; exchange them")

    def step(key: Array, params: PyTree, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
        state, timestep = env.step(key, params, state, action)
        return state, timestep._replace(reward=jnp.clip(timestep.reward, low, high))

    return env._replace(step=step, model=None, static=None)


def normalize_observation(env: Env, moments: Moments) -> Env:
    """Observations minus a fixed mean over a fixed deviation, clipped to [-10, 10].

    The moments are constants of the environment, so training and evaluation see the same map. Moments that change while an
    agent learns belong to the agent's state (`jaxrl.maths.normalize`), where they are checkpointed with its weights.
    """
    spec = _array_obs(env, "normalize_observation")

    def wrapped(timestep: TimeStep, moments: Moments) -> TimeStep:
        return timestep._replace(obs=normalize(moments, timestep.obs), next_obs=normalize(moments, timestep.next_obs))

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        state, obs = env.reset(key, params["inner"])
        return state, normalize(params["moments"], obs)

    def step(key: Array, params: PyTree, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
        state, timestep = env.step(key, params["inner"], state, action)
        return state, wrapped(timestep, params["moments"])

    def to_obs(params: PyTree, obs: PyTree) -> PyTree:
        return normalize(params["moments"], env.units.to_obs(params["inner"], obs))

    return env._replace(
        spec=env.spec._replace(obs=ArraySpec(spec.shape, "float32", picture=spec.picture)),
        params={"inner": env.params, "moments": moments},
        reset=reset,
        step=step,
        model=None,
        render=_inner_render(env, "params"),
        units=_inner_units(env)._replace(to_obs=to_obs),
    )


def normalize_reward(env: Env, gamma: float = 0.99) -> Env:
    """Divides rewards by the running standard deviation of the discounted return; for training only.

    The estimate lives in the environments' state; recorded episode returns stay raw. Engstrom et al. 2020,
    "Implementation Matters in Deep RL", appendix A.1.
    """
    if not 0.0 <= gamma <= 1.0:
        raise UsageError(f"gamma={gamma} is out of range; give a value in [0, 1]")

    def reset(key: Array, params: PyTree) -> tuple[Wrapped, PyTree]:
        state, obs = env.reset(key, params["inner"])
        return Wrapped(state, (jnp.zeros(env.num_envs, jnp.float32), init_moments(()))), obs

    def step(key: Array, params: PyTree, state: Wrapped, action: PyTree) -> tuple[Wrapped, TimeStep]:
        inner, timestep = env.step(key, params["inner"], state.inner, action)
        running, moments = state.extra
        running = params["gamma"] * running + timestep.reward
        moments = update_moments(moments, running)
        scaled = timestep.reward / jnp.sqrt(moments.variance + 1e-8)
        running = jnp.where(episode_end(timestep), 0.0, running)
        return Wrapped(inner, (running, moments)), timestep._replace(reward=jnp.clip(scaled, -10.0, 10.0))

    params = {"inner": env.params, "gamma": jnp.float32(gamma)}
    render = _inner_render(env, "both")
    return env._replace(params=params, reset=reset, step=step, model=None, render=render, units=_inner_units(env))


OPTIONS: dict[str, Callable[[Env, Any], Env]] = {
    "sticky_actions": sticky_actions,
    "time_limit": time_limit,
    "mask_observation": mask_observation,
    "frame_stack": frame_stack,
}
"""Wrappers that are options of `jaxrl.make`, from the inside out; each takes the option's value."""


def wrap(env: Env, options: Mapping[str, Any]) -> Env:
    """`env` within the wrappers of `OPTIONS` that are named, in their order."""
    # The probability of sticky actions is traced.
    static = (
        None
        if env.static is None
        else (env.static, repr([(n, options[n]) for n in OPTIONS if n in options and n != "sticky_actions"]))
    )
    for name, wrapper in OPTIONS.items():
        if name in options:
            env = wrapper(env, options[name])
    return env._replace(static=static) if options else env


def _array_obs(env: Env, wrapper: str) -> ArraySpec:
    if not isinstance(env.spec.obs, ArraySpec):
        raise UsageError(f"{wrapper} needs observations that are one array, not {env.spec.obs}; use map_observation")
    return env.spec.obs


def _inner_render(env: Env, own: str = "state") -> Any:
    """The inner environment's `render`, under a wrapper that adds its own `state`, `params` or `both`."""
    if env.render is None:
        return None
    render = env.render

    def render_inner(params: PyTree, state: PyTree, index: int) -> Any:
        inner_params = params["inner"] if own in ("params", "both") else params
        return render(inner_params, state.inner if own in ("state", "both") else state, index)

    return render_inner


def _inner_units(env: Env) -> Units:
    """The inner environment's `units`, under a wrapper that adds its own params."""
    return Units(
        lambda params, obs: env.units.to_obs(params["inner"], obs),
        lambda params, action: env.units.to_action(params["inner"], action),
    )


__all__ = [
    "OPTIONS",
    "clip_reward",
    "flatten_observation",
    "frame_stack",
    "map_observation",
    "mask_observation",
    "normalize_observation",
    "normalize_reward",
    "record_episodes",
    "sticky_actions",
    "time_limit",
    "wrap",
]
