"""From one environment's pure functions to B auto-resetting environments.

    env = batch_env(spec, params, reset, step, num_envs=8)

An adapter (gymnax) or a new environment (grid world) writes `reset(key, params)` and `step(key, params, state, action)` for a
single environment; this module adds the batch axis, the reset after an episode's end, the time limit and the records.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.contracts.environments import check_flags
from jaxrl.contracts.returns import as_arrays, check_params, check_shapes, described, narrowed, obs_shapes, parts_of, refuse
from jaxrl.fields import check_count
from jaxrl.types import SAME_UNITS, Array, Env, PyTree, Spec, TimeStep, Units, where_ended

GROUP = 32
"""Ended environments that are reset at once; of more than 16 groups' worth of environments, a sixteenth of them."""


class Transition(NamedTuple):
    """What a single environment's `step` returns; every field unbatched.

    Attributes:
      state: the environment's next state.
      obs: the observation of that state.
      reward: [].
      terminated: [] bool, the MDP ended.
      truncated: [] bool, an own time limit struck.
      info: dict of what else the records or an agent's update may read, such as `counted`: [] bool, False in an episode that
        only fills up a batch. An `episode_return` here, [] float32, takes the place of the sum of rewards.
    """

    state: PyTree
    obs: PyTree
    reward: Array | float
    terminated: Array | bool
    truncated: Array | bool = False
    info: dict[str, PyTree] | None = None


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


@jax.custom_batching.custom_vmap
def most(number: Array) -> Array:
    """[] a number or truth value as it is; under `vmap` the largest of all rows, which has no batch axis.

    So a `cond` or `while_loop` on it stays one under `vmap`, where one on a number of each row would run every branch and
    select from all that it carries. What a row does in the others' turns must leave it as it is.
    """
    return number


@most.def_vmap
def _(size: int, batched: list[bool], numbers: Array) -> tuple[Array, bool]:
    return (most(jnp.max(numbers, axis=0)) if batched[0] else numbers), False


def batch_env(
    spec: Spec,
    params: PyTree,
    reset: Callable[[Array, PyTree], tuple[PyTree, PyTree]],
    step: Callable[[Array, PyTree, PyTree, PyTree], Transition],
    num_envs: int,
    *,
    next: Callable[[Array, PyTree, PyTree, Array], tuple[PyTree, PyTree]] | None = None,
    time_limit: int | None = None,
    model: Callable[[Array, PyTree, PyTree, PyTree], tuple[PyTree, Array, Array]] | None = None,
    render: Callable[..., Any] | None = None,
    static: Hashable | None = None,
    units: Units = SAME_UNITS,
    compiled_once: bool = False,
) -> Env:
    """B = `num_envs` auto-resetting environments out of the functions of one.

    Args:
      spec: what an agent may know.
      params: traced parameters, handed to `reset`, `next` and `step`.
      reset: (key, params) -> (state, obs) of one environment.
      step: (key, params, state, action) -> `Transition` of one environment, without auto-reset.
      next: (key, params, old_state, index) -> (state, obs), which begins every episode instead of `reset` where it depends on
        the episode before or on `index`: [] int32, the environment's place in the batch, as the order of a data set does.
        `old_state` is the one in which the last episode ended; before the first episode it is that of `reset`.
      time_limit: truncate an episode after so many steps; the environment's spec has it where its own is not lower.
      render: (params, state) -> [height, width, 3] uint8 of one environment, on the host.
      static, units: as `Env` has them.
      compiled_once: always reset in groups, of a reset that takes long to compile: drawing all where most ended is another.

    Only environments whose episode ended are reset, in groups, so a step costs what ended in it, also under `vmap`; up to
    `GROUP` environments are one group, all of which are drawn where one ended. Each environment's reset has its own key, so
    all starts are fresh.

    Raises:
      UsageError: a limit below 1; when it is traced, a function that returns another shape or dtype than it should.
    """
    if time_limit is not None:
        check_count("time_limit", time_limit)
        spec = spec._replace(time_limit=min(time_limit, spec.time_limit or time_limit))

    check_params(params)
    batch = _Batch(spec, reset, step, next, num_envs, time_limit, compiled_once)

    def render_one(params: PyTree, state: BatchState, index: int) -> Any:
        assert render is not None
        return render(params, jax.tree.map(lambda leaf: leaf[index], state.inner))

    drawn = render_one if render else None
    return Env(spec, num_envs, strong(params), batch.reset_all, batch.step_all, model, drawn, static=static, units=units)


class _Batch(NamedTuple):
    """The functions of one environment, and those of B made of them; fields as `batch_env` takes them."""

    spec: Spec
    reset: Callable[[Array, PyTree], tuple[PyTree, PyTree]]
    step: Callable[[Array, PyTree, PyTree, PyTree], Transition]
    next: Callable[[Array, PyTree, PyTree, Array], tuple[PyTree, PyTree]] | None
    num_envs: int
    time_limit: int | None
    compiled_once: bool

    def reset_all(self, key: Array, params: PyTree) -> tuple[BatchState, PyTree]:
        def first(key: Array, index: Array) -> tuple[PyTree, PyTree]:
            if self.next is None:
                return self.begun("reset", self.reset(key, params))
            key_reset, key_next = jax.random.split(key)
            return self.begun("next", self.next(key_next, params, self.begun("reset", self.reset(key_reset, params))[0], index))

        state, obs = strong(jax.vmap(first)(jax.random.split(key, self.num_envs), jnp.arange(self.num_envs)))
        check_shapes("reset" if self.next is None else "next", "obs", _of_one(obs), obs_shapes(self.spec))
        return BatchState(state, jnp.zeros(self.num_envs, jnp.float32), jnp.zeros(self.num_envs, jnp.int32)), obs

    def step_all(self, key: Array, params: PyTree, state: BatchState, action: PyTree) -> tuple[BatchState, TimeStep]:
        # The first of the 2 B keys `split(key, 2 * num_envs)`; the others, `fold_in(key, num_envs + i)`, are the resets'.
        keys = jax.random.split(key, self.num_envs)
        moved = strong(jax.vmap(self.step_one, in_axes=(0, None, 0, 0))(keys, params, state.inner, action))
        _check_transition(self.spec, state.inner, moved)
        reward = jnp.asarray(moved.reward, jnp.float32)
        episode_return = state.episode_return + reward
        episode_length = state.episode_length + 1
        terminated, truncated = jnp.asarray(moved.terminated), jnp.asarray(moved.truncated)
        if self.time_limit is not None:
            truncated = truncated | (episode_length >= self.time_limit)
        truncated = truncated & ~terminated
        ended = terminated | truncated
        inner, obs = _restart(self.begin, self.num_envs, self.compiled_once)(key, params, ended, (moved.state, moved.obs))
        info = {"episode_return": episode_return, "episode_length": episode_length} | (moved.info or {})
        timestep = TimeStep(obs, reward, terminated, truncated, moved.obs, info)
        return BatchState(inner, jnp.where(ended, 0.0, episode_return), jnp.where(ended, 0, episode_length)), timestep

    def step_one(self, key: Array, params: PyTree, state: PyTree, action: PyTree) -> Transition:
        moved = self.step(key, params, state, action)
        if not isinstance(moved, Transition):
            refuse(f"step returns {described(moved)}; return a jaxrl.Transition")
        if not isinstance(moved.info, dict | None):
            refuse(f"step returns info as {described(moved.info)}; return a dict, or leave it out")
        moved = Transition(*(as_arrays("step", part, name) for name, part in zip(Transition._fields, moved, strict=True)))
        return moved._replace(obs=narrowed(moved.obs, obs_shapes(self.spec)))

    def begun(self, function: str, returned: Any) -> tuple[PyTree, PyTree]:
        state, obs = parts_of(function, returned, ("state", "obs"))
        return as_arrays(function, state, "state"), narrowed(as_arrays(function, obs, "obs"), obs_shapes(self.spec))

    def begin(self, key: Array, params: PyTree, old: PyTree, index: Array) -> tuple[PyTree, PyTree]:
        """The start of an episode in environment `index` [], after one that ended in the state `old`."""
        key = jax.random.fold_in(key, self.num_envs + index)
        if self.next is None:
            return self.begun("reset", self.reset(key, params))
        return self.begun("next", self.next(key, params, old, index))


def _restart(
    begin: Callable[..., tuple[PyTree, PyTree]], num_envs: int, compiled_once: bool
) -> Callable[..., tuple[PyTree, PyTree]]:
    """(key, params, ended [B], (state, obs)) -> (state, obs), with episodes begun where one ended.

    Args:
      begin: (key, params, old state, index) -> (state, obs) of one environment.
    """
    size = max(GROUP, num_envs // 16)
    begin_group = jax.vmap(begin, in_axes=(None, None, 0, 0))

    def at_once(key: Array, params: PyTree, ended: Array, old: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        def draw() -> tuple[PyTree, PyTree]:
            return where_ended(ended, strong(begin_group(key, params, old[0], jnp.arange(num_envs))), old)

        return jax.lax.cond(most(jnp.any(ended)), draw, lambda: old)

    @jax.custom_jvp
    def in_groups(key: Array, params: PyTree, ended: Array, old: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        def draw(carry: tuple[Array, tuple[PyTree, PyTree]]) -> tuple[Array, tuple[PyTree, PyTree]]:
            start, current = carry
            # Where the (start + 1)-th, (start + 2)-th, ... ended one stands; after the last it is `num_envs`, which is dropped.
            index = jnp.searchsorted(jnp.cumsum(ended, dtype=jnp.int32), start + 1 + jnp.arange(size, dtype=jnp.int32))
            states = jax.tree.map(lambda leaf: leaf.at[index].get(mode="clip"), old[0])
            fresh = strong(begin_group(key, params, states, index))
            return start + size, jax.tree.map(lambda leaf, new: leaf.at[index].set(new, mode="drop"), current, fresh)

        def draw_groups() -> tuple[PyTree, PyTree]:
            return jax.lax.while_loop(lambda carry: carry[0] < num_ended, draw, (jnp.int32(0), old))[1]

        num_ended = most(jnp.sum(ended, dtype=jnp.int32))
        if compiled_once:
            return draw_groups()
        # Where most have ended, as in a data set of one-step episodes, a plain selection is cheaper than the places of each.
        return jax.lax.cond(num_ended > num_envs // 2, lambda: at_once(key, params, ended, old), draw_groups)

    # A loop of unknown length has no reverse derivative.
    in_groups.defjvp(lambda primals, tangents: jax.jvp(at_once, primals, tangents))
    return at_once if num_envs <= size else in_groups


# --- what a function must return ------------------------------------------------------------------------------------


def _check_transition(spec: Spec, state: PyTree, moved: Transition) -> None:
    one = Transition(*(_of_one(field) for field in moved))
    check_shapes("step", "obs", one.obs, obs_shapes(spec))
    check_shapes("step", "state", one.state, _of_one(state))
    check_flags(one, ())


def _of_one(tree: PyTree) -> PyTree:
    """Shapes without the batch axis."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tree)
