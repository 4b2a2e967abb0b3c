"""gymnax environments behind jaxrl's contract; the only module that imports gymnax.

    env = make("CartPole-v1", num_envs=8, gravity=12.0)

Every numeric field of the environment's parameters can be overridden by name and is traced, so physics can be swept in one
program. Box actions are in [-1, 1] and rescaled to the environment's bounds.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from jaxrl.envs import minatar_rules
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.envs.tools.bounds import is_bounded, rescale
from jaxrl.errors import UsageError, one_line, unknown
from jaxrl.fields import MAX_SEED, check_count
from jaxrl.types import Array, ArraySpec, Box, Discrete, Env, PyTree, Spec, TreeSpec, Units, tree_spec

_MAX_SIZE = 4096
"""The largest whole number that a constructor is given: some make tables of its square."""


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B gymnax environments.

    Args:
      name: gymnax id, such as `CartPole-v1` or `Breakout-MinAtar`.
      options: fields of the environment's parameters (traced) or arguments of its constructor (static); `time_limit`, steps
        after which an episode is truncated where the environment's own limit is not lower; and `protocol` of a MinAtar game,
        "gymnax" or "published" (`jaxrl.envs.minatar_rules`).

    Raises:
      UsageError: an option that the environment does not have, or that is not a number.
    """
    limit, protocol = options.pop("time_limit", None), options.pop("protocol", "gymnax")
    env, params = _construct(name, options)
    baked = {key: value for key, value in options.items() if key not in [f.name for f in dataclasses.fields(params)]}
    units = Units(to_action=lambda params, action: _native_action(env.action_space(params), action))
    step, reset = _functions(env, units)
    if protocol == "published":
        step, baked = minatar_rules.published(name, step), baked | {"protocol": protocol}
    with jax.ensure_compile_time_eval():
        space = env.action_space(params)
    if not isinstance(space, spaces.Discrete) and not is_bounded(jnp.float32(space.low), jnp.float32(space.high)):
        raise UsageError(f"env={name!r} has unbounded actions, from {space.low} to {space.high}; give options that bound them")
    action = Discrete(int(space.n)) if isinstance(space, spaces.Discrete) else Box(tuple(space.shape))
    own_limit = int(params.max_steps_in_episode)
    spec = Spec(_observation_spec(env, params), action, None if own_limit >= minatar_rules.NO_LIMIT else own_limit)
    return batch_env(
        spec, params, reset, step, num_envs, time_limit=limit, render=_renderer(name), static=repr(baked), units=units
    )


def implied_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that `protocol` stands for; errors as of `minatar_rules.implied_options`."""
    return minatar_rules.implied_options(name, options["protocol"]) if "protocol" in options else {}


def _observation_spec(env: Any, params: Any) -> ArraySpec | TreeSpec:
    """Shapes and dtypes as they come, which gymnax's spaces do not always tell; its pictures are (height, width, channels)."""
    observation, _ = jax.eval_shape(env.reset_env, jax.random.key(0), params)
    spec = tree_spec(observation)
    with jax.ensure_compile_time_eval():
        space = env.observation_space(params)
    if not isinstance(spec, ArraySpec):
        return spec
    num_values = int(space.n) if isinstance(space, spaces.Discrete) else None
    return spec._replace(num_values=num_values, picture="HWC" if len(spec.shape) == 3 else None)


def _construct(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """gymnax's environment and its parameters, with `options` set in either."""
    factory = type(gymnax.make(name)[0])
    parameters = inspect.signature(factory).parameters
    constructor = {key: value for key, value in options.items() if key in parameters}
    for key, value in constructor.items():
        _check_argument(key, value, parameters[key].default)
    try:
        env, params = gymnax.make(name, **constructor)
        if constructor:
            jax.eval_shape(lambda key: _try(key, env, params), jax.random.key(0))
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in constructor.items())
        raise UsageError(
            f"env={name!r} cannot be made with {given} ({one_line(error)[:120]}); give others, a tuple as (4, 1)"
        ) from None
    return env, _override(name, params, {key: value for key, value in options.items() if key not in constructor}, factory)


def _try(key: Array, env: Any, params: Any) -> Any:
    """A step, which finds what an argument of the constructor does not fit."""
    _, state = env.reset_env(key, params)
    return env.step_env(key, state, env.action_space(params).sample(key), params)


def _check_argument(key: str, value: Any, default: Any) -> None:
    """An argument of a constructor, which may make arrays of its size."""
    if isinstance(default, bool) and not isinstance(value, bool):
        raise UsageError(f"{key}={value!r} is not true or false; give one of them")
    if isinstance(default, int) and not isinstance(default, bool):
        check_count(key, value, min(default, 1), MAX_SEED if "seed" in key else _MAX_SIZE)


def _functions(env: Any, units: Units) -> tuple[Any, Any]:
    """`step` and `reset` of one environment in the form that `batch_env` takes."""

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        obs, state = env.reset_env(key, params)
        return state, obs

    def step(key: Array, params: PyTree, state: PyTree, action: Array) -> Transition:
        native = units.to_action(params, action)
        obs, state, reward, terminated, _ = env.step_env(key, state, native, params)
        return Transition(state, obs, reward, terminated, env.is_truncated(state, params))

    return step, reset


def _native_action(space: Any, action: Array) -> Array:
    """Actions [...] of `Spec` as the environment takes them."""
    if isinstance(space, spaces.Discrete):
        return action
    return rescale(action, space.low, space.high)


def _override(name: str, params: Any, options: dict[str, Any], factory: Any) -> Any:
    """`params` with `options` set, each cast to the type of the default it replaces, and what depends on them."""
    fields = [f.name for f in dataclasses.fields(params)]
    values = {}
    for key, value in options.items():
        if key not in fields:
            raise UsageError(unknown(f"option of {name}", key, fields + list(inspect.signature(factory).parameters)))
        default = np.asarray(getattr(params, key), jnp.result_type(getattr(params, key)))
        try:
            if np.asarray(value).dtype.kind not in "biuf":
                raise TypeError
            with np.errstate(over="ignore", invalid="ignore"):
                values[key] = np.asarray(value).astype(default.dtype)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{key}={value!r} is not a number; give one such as {default}") from None
        _check_option(key, value, values[key], default)
    if name == "CartPole-v1":
        values = _cartpole_masses(params, values)
    return params.replace(**values)


def _check_option(key: str, value: Any, cast: np.ndarray, default: np.ndarray) -> None:
    """`value` as the user gave it, `cast` to the type of the `default`."""
    if cast.shape != default.shape:
        raise UsageError(f"{key}={value!r} has shape {cast.shape}; give one of shape {default.shape} such as {default}")
    if not (np.all(np.isfinite(value)) and np.all(np.isfinite(cast))):
        raise UsageError(f"{key}={value!r} is not finite; give a finite number such as {default}")
    if np.issubdtype(cast.dtype, np.integer) and np.any(cast != np.asarray(value)):
        raise UsageError(f"{key}={value!r} is no whole number; give one such as {default}")
    if key == "max_steps_in_episode" and int(cast) < 1:
        raise UsageError(f"{key}={value!r} is out of range; give at least 1")


def _cartpole_masses(params: Any, values: dict[str, Any]) -> dict[str, Any]:
    """gymnax stores two sums of masses beside the masses; they follow the masses unless they are given too."""
    cart, pole, length = (values.get(k, getattr(params, k)) for k in ("masscart", "masspole", "length"))
    return {"total_mass": cart + pole, "polemass_length": pole * length} | values


# --- environments that are a small MDP ----------------------------------------------------------------------------------


def _renderer(name: str) -> Any:
    from jaxrl.envs.tools import render

    return render.RENDERERS.get(name)
