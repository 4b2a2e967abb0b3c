"""A user's own environments, checked: pure ones while they are traced, those of the host in every step."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.contracts.returns import (
    as_arrays,
    check_params,
    check_shapes,
    described,
    is_array,
    is_number,
    is_own,
    name_of,
    narrowed,
    obs_shapes,
    parts_of,
    refuse,
    same_structure,
    shown,
)
from jaxrl.errors import own_code
from jaxrl.types import (
    Array,
    ArraySpec,
    Box,
    Discrete,
    Env,
    HostEnv,
    PyTree,
    Spec,
    SplitHostEnv,
    TimeStep,
    TreeSpec,
    action_zeros,
)

RECORDS = ("episode_return", "episode_length")
"""What the records read of `TimeStep.info` where an episode ends."""

RESET, STEP = "reset(key, params) -> (state, obs)", "step(key, params, state, action) -> (state, TimeStep)"
HOST_RESET, HOST_STEP = "reset(seed) -> obs", "step(action) -> TimeStep"


def checked_env(env: Env, whose: str, records: bool = True) -> Env:
    """The same environments, whose functions are checked when they are traced; rewards become float32.

    Args:
      records: whether `info` must have what the records read.

    Raises:
      ContractError: a spec that is none; later, a function that returns something else than it should.
    """
    check_spec(env.spec, whose)
    with own_code(whose, "params"):
        check_params(env.params)
    lead = (env.num_envs,)
    wanted = obs_shapes(env.spec, lead)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        with own_code(whose, RESET):
            state, obs = parts_of("reset", env.reset(key, params), ("state", "obs"))
            state, obs = as_arrays("reset", state, "state"), narrowed(as_arrays("reset", obs, "obs"), wanted)
            check_shapes("reset", "obs", obs, wanted)
            return state, obs

    def step(key: Array, params: PyTree, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
        with own_code(whose, STEP):
            after, timestep = parts_of("step", env.step(key, params, state, action), ("state", "TimeStep"))
            if not isinstance(timestep, TimeStep):
                refuse(f"step returns a {type(timestep).__name__}, not a jaxrl.TimeStep; return one, or use jaxrl.batch_env")
            after = as_arrays("step", after, "state")
            timestep = TimeStep(*(as_arrays("step", getattr(timestep, name), name) for name in TimeStep._fields))
            timestep = timestep._replace(obs=narrowed(timestep.obs, wanted), next_obs=narrowed(timestep.next_obs, wanted))
            check_time_step(env.spec, env.num_envs, timestep)
            check_shapes("step", "state", after, state)
            _check_info(timestep.info, lead, records)
            return after, timestep._replace(reward=timestep.reward.astype(jnp.float32))

    return env._replace(reset=reset, step=step)


def checked_if_own(env: Env) -> Env:
    """Environments that a user made of functions for a whole batch, checked; others as they are (`batch_env` checks itself)."""
    return checked_env(env, f"env of {name_of(env.step)}") if is_own(env.step) else env


def trace_env(env: Env) -> TimeStep:
    """Traces a reset and a step, without compiling anything: the shapes of what a step returns."""

    def run(key: Array, params: PyTree) -> TimeStep:
        state, _ = env.reset(key, params)
        return env.step(key, params, state, action_zeros(env.spec.action, (env.num_envs,)))[1]

    return jax.eval_shape(run, jax.random.key(0), env.params)


def check_spec(spec: Any, whose: str) -> None:
    """Checks that a spec is one.

    Raises:
      ContractError: naming the field.
    """
    if not isinstance(spec, Spec):
        refuse(f"{whose}: spec is a {type(spec).__name__}; give a jaxrl.Spec")
    leaves = spec.obs.leaves if isinstance(spec.obs, TreeSpec) else (spec.obs,)
    for leaf in leaves:
        if not isinstance(leaf, ArraySpec):
            refuse(f"{whose}: spec.obs is {spec.obs!r}; give a jaxrl.ArraySpec, or jaxrl.tree_spec(...) of a tree of arrays")
        try:
            np.dtype(leaf.dtype)
            is_shape = isinstance(leaf.shape, tuple) and all(isinstance(n, (int, np.integer)) and n >= 0 for n in leaf.shape)
        except TypeError:
            is_shape = False
        if not is_shape or not isinstance(leaf.dtype, str):
            refuse(f"{whose}: spec.obs is {leaf!r}; give a shape such as (4,) and the name of a dtype such as 'float32'")
        if jax.dtypes.canonicalize_dtype(leaf.dtype) != np.dtype(leaf.dtype):
            narrow = jax.dtypes.canonicalize_dtype(leaf.dtype).name
            refuse(f"{whose}: spec.obs is {leaf!r}, and 64 bits are not enabled; say {narrow!r}, or set JAX_ENABLE_X64=1")
        _check_meaning(leaf, whose)
    if not any(math.prod(leaf.shape) for leaf in leaves):
        refuse(f"{whose}: spec.obs is {spec.obs!r}, which holds no number; give a shape without 0, such as (1,)")
    if not _is_action(spec.action):
        refuse(f"{whose}: spec.action is {spec.action!r}; give a jaxrl.Discrete, a jaxrl.Box or a NamedTuple of both")
    limit = spec.time_limit
    if limit is not None and not (isinstance(limit, (int, np.integer)) and limit >= 1):
        refuse(f"{whose}: spec.time_limit is {limit!r}; give a whole number of at least 1, or None")


def _check_meaning(spec: ArraySpec, whose: str) -> None:
    """Checks the fields of an `ArraySpec` that say what its numbers mean."""

    def is_count(value: Any) -> bool:
        return isinstance(value, (int, np.integer)) and bool(value >= 1)

    is_category = spec.num_values is not None
    is_picture = spec.picture in ("HWC", "CHW") and len(spec.shape) == 3 and not is_category
    wanted = {
        "num_values": (
            not is_category or (is_count(spec.num_values) and np.dtype(spec.dtype).kind in "iu"),
            "how many values integers have, or None",
        ),
        "num_frames": (
            is_count(spec.num_frames) and (*spec.shape, 1)[0] % spec.num_frames == 0,
            "a divisor of the length of the first axis",
        ),
        "picture": (
            spec.picture is None or is_picture,
            "'HWC' or 'CHW' of three axes of quantities, None of all else",
        ),
        "scale": (
            isinstance(spec.scale, (int, float)) and 0.0 < spec.scale < np.inf,
            "a number above 0, such as 255.0 of brightness in bytes",
        ),
    }
    for field, (fits, fix) in wanted.items():
        if not fits:
            refuse(f"{whose}: {field}={getattr(spec, field)!r} does not fit {spec!r}; give {fix}")


def _is_action(action: Any) -> bool:
    if isinstance(action, Discrete):
        return isinstance(action.n, (int, np.integer)) and action.n >= 1
    if isinstance(action, Box):
        return isinstance(action.shape, tuple) and all(isinstance(n, (int, np.integer)) and n >= 1 for n in action.shape)
    return isinstance(action, tuple) and hasattr(action, "_fields") and len(action) > 0 and all(map(_is_action, action))


def check_time_step(spec: Spec, num_envs: int, timestep: TimeStep) -> None:
    """Checks what `step` of B environments returns; the reward may be any numbers.

    Raises:
      ContractError: naming the field.
    """
    for field in ("obs", "next_obs"):
        check_shapes("step", field, getattr(timestep, field), obs_shapes(spec, (num_envs,)))
    check_flags(timestep, (num_envs,))


def check_flags(step: Any, lead: tuple[int, ...]) -> None:
    """Checks reward, terminated and truncated of a time step; for use while it is traced."""
    for field, dtype in (("reward", None), ("terminated", jnp.bool_), ("truncated", jnp.bool_)):
        found = getattr(step, field)
        if not is_array(found):
            refuse(f"step returns {field} as a {type(found).__name__}; return an array")
        wanted = jnp.float32 if dtype is None and not is_number(found) else dtype or found.dtype
        check_shapes("step", field, found, jax.ShapeDtypeStruct(lead, wanted))


def _check_info(info: Any, lead: tuple[int, ...], records: bool) -> None:
    if records and not (isinstance(info, dict) and set(RECORDS) <= set(info)):
        refuse(
            f"step returns info as {_keys(info)}; return a dict with episode_return and episode_length, [{lead[0]}] each, "
            "or wrap the environment in jaxrl.envs.tools.wrappers.record_episodes"
        )
    for path, leaf in jax.tree.leaves_with_path(info):
        if leaf.shape[:1] != lead:
            refuse(f"step returns info{jax.tree_util.keystr(path)} as {shown(leaf)}; return [{lead[0]}, ...]")
    for name in (*RECORDS, "counted", "game_over"):
        if isinstance(info, dict) and name in info:
            is_flag = name not in RECORDS
            if not is_array(info[name]) or info[name].shape != lead:
                refuse(f"step returns info[{name!r}] as {described(info[name])}; return [{lead[0]}]")
            if is_flag != (info[name].dtype == jnp.bool_):
                refuse(f"step returns info[{name!r}] as {shown(info[name])}; return {'bool' if is_flag else 'numbers'}")


def _keys(info: Any) -> str:
    return f"a dict of {sorted(map(str, info))}" if isinstance(info, dict) else f"a {type(info).__name__}"


class OwnHostEnv:
    """A user's environments of the host, whose returns are checked in every step; rewards become float32."""

    def __init__(self, env: HostEnv, whose: str) -> None:
        self._env, self._whose, self.spec, self.num_envs = env, whose, env.spec, env.num_envs
        check_spec(env.spec, whose)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, seed: int) -> PyTree:
        with own_code(self._whose, HOST_RESET):
            return self._observed("reset", "obs", self._env.reset(seed))

    def step(self, action: PyTree) -> TimeStep:
        with own_code(self._whose, HOST_STEP):
            return self._checked(self._env.step(action))

    def close(self) -> None:
        with own_code(self._whose, "close()"):
            self._env.close()

    def _observed(self, function: str, field: str, obs: PyTree) -> PyTree:
        wanted = obs_shapes(self.spec, (self.num_envs,))
        obs = jax.tree.map(np.array, obs)  # A copy: an environment may fill the same arrays in every step.
        if same_structure(obs, wanted):
            obs = jax.tree.map(_narrowed, obs, wanted)
        check_shapes(function, field, obs, wanted)
        return obs

    def _checked(self, timestep: Any) -> TimeStep:
        if not isinstance(timestep, TimeStep):
            refuse(f"step returns a {type(timestep).__name__}; return a jaxrl.TimeStep")
        obs, next_obs = (self._observed("step", name, getattr(timestep, name)) for name in ("obs", "next_obs"))
        flags: Any = {name: np.array(getattr(timestep, name)) for name in ("reward", "terminated", "truncated")}
        timestep = TimeStep(obs=obs, next_obs=next_obs, info=jax.tree.map(np.array, timestep.info), **flags)
        check_flags(timestep, (self.num_envs,))
        _check_info(timestep.info, (self.num_envs,), True)
        return timestep._replace(reward=flags["reward"].astype(np.float32, copy=False))


class OwnSplitHostEnv(OwnHostEnv):
    """As `OwnHostEnv`, of a `SplitHostEnv`."""

    def split(self) -> list[HostEnv]:
        with own_code(self._whose, "split() -> [HostEnv]"):
            return [checked_host_env(part, self._whose) for part in self._env.split()]  # type: ignore[attr-defined]

    def send(self, action: PyTree) -> None:
        with own_code(self._whose, "send(action)"):
            self._env.send(action)  # type: ignore[attr-defined]

    def receive(self) -> TimeStep:
        with own_code(self._whose, "receive() -> TimeStep"):
            return self._checked(self._env.receive())  # type: ignore[attr-defined]


def checked_host_env(env: HostEnv, whose: str) -> OwnHostEnv:
    """The same environments, whose returns are checked."""
    return OwnSplitHostEnv(env, whose) if isinstance(env, SplitHostEnv) else OwnHostEnv(env, whose)


def _narrowed(leaf: np.ndarray, wanted: Any) -> np.ndarray:
    """NumPy's own floats and integers have 64 bits, JAX's 32."""
    return leaf.astype(wanted.dtype, copy=False) if leaf.dtype.kind == wanted.dtype.kind and leaf.dtype.kind in "if" else leaf
