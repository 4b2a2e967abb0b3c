"""What the adapters of physics packages share: one of their unwrapped environments as B auto-resetting ones.

    env = physics_env(Body(reset, step, num_actions=6), params, num_envs=2048, time_limit=1000)

Brax and MuJoCo Playground hand out one state, with `obs`, `reward`, `done` and `info`, and hide behind their own wrappers what
an agent must know: their auto-reset begins every episode of an environment in the state in which its first one began, and
shows the observation after a reset in place of the last one. So the environment without wrappers is batched here:

* every episode begins in a fresh state;
* `done` is a termination, the time limit a truncation, and `next_obs` the true last observation;
* an observation that is a dict, such as one with a `privileged_state`, stays a tree;
* a simulation that blew up (a number that is not finite) is over: terminated, with a reward of 0 and the observation before;
* matrix products of the physics are in full float32. NVIDIA's GPUs take them in TF32 by default, with ten bits of mantissa:
  contacts are then resolved so coarsely that robots train worse, or other than on a CPU. Networks stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tools.batch import BatchState, Transition, batch_env, strong
from jaxrl.fields import check_count
from jaxrl.types import Array, Box, Env, PyTree, Spec, Units, tree_spec

TIME_LIMIT = 1000
"""Steps of the physics package's environment after which its own training truncates an episode, unless it says another."""


class Body(NamedTuple):
    """The functions of an unwrapped environment.

    Attributes:
      reset: (key as uint32 [2], params) -> the package's state.
      step: (params, state, action [A] in [-1, 1]) -> the package's state.
      num_actions: A.
    """

    reset: Callable[[Array, PyTree], Any]
    step: Callable[[PyTree, Any, Array], Any]
    num_actions: int


def physics_env(
    body: Body,
    params: PyTree,
    num_envs: int,
    *,
    time_limit: int = TIME_LIMIT,
    action_repeat: int = 1,
    render: Callable[[PyTree, Any], np.ndarray] | None = None,
    static: Hashable | None = None,
) -> Env:
    """B = `num_envs` environments out of an unwrapped one.

    Args:
      time_limit: steps of the agent after which an episode is truncated.
      action_repeat: steps of the environment that an action lasts, unless the episode ends before; their rewards are added.
      render: (params, the package's state) -> [height, width, 3] uint8.
      static: as `Env` has it.

    Raises:
      UsageError: a count below 1.
    """
    check_count("time_limit", time_limit)
    check_count("action_repeat", action_repeat)

    def reset(key: Array, params: PyTree) -> tuple[Any, PyTree]:
        with jax.default_matmul_precision("highest"):
            state = strong(body.reset(jax.random.key_data(key), params))
        return state, _plain(state.obs)

    def step(key: Array, params: PyTree, state: Any, action: Array) -> Transition:
        with jax.default_matmul_precision("highest"):
            moved = strong(_repeated(body, action_repeat, params, state, UNITS.to_action(params, action)))
        broken = ~_is_finite((moved.obs, moved.reward))
        obs = jax.tree.map(lambda before, after: jnp.where(broken, before, after), state.obs, moved.obs)
        moved = moved.replace(obs=obs, reward=jnp.where(broken, 0.0, moved.reward).astype(moved.reward.dtype))
        return Transition(moved, _plain(obs), moved.reward, (moved.done > 0.5) | broken)

    obs = jax.eval_shape(reset, jax.random.key(0), params)[1]
    spec = Spec(tree_spec(obs), Box((body.num_actions,)), time_limit=time_limit)
    return batch_env(
        spec,
        params,
        reset,
        step,
        num_envs,
        time_limit=time_limit,
        render=render,
        static=(static, action_repeat),
        units=UNITS,
        compiled_once=True,
    )


def simulation_of(state: PyTree) -> Any:
    """The package's states of B environments, out of the state of an `Env` of `physics_env`, whatever wraps it."""
    while not isinstance(state, BatchState):
        state = state.inner
    return state.inner


UNITS = Units(
    to_obs=lambda params, obs: _plain(obs),
    to_action=lambda params, action: jnp.clip(jnp.asarray(action, jnp.float32), -1.0, 1.0),
)
"""The packages' environments take actions in [-1, 1] themselves, and scale them."""


def _plain(obs: PyTree) -> PyTree:
    """Mappings of a package's own kind as dicts."""
    return {name: _plain(part) for name, part in obs.items()} if isinstance(obs, Mapping) else obs


def _is_finite(tree: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _repeated(body: Body, times: int, params: PyTree, state: Any, action: Array) -> Any:
    """The state after so many steps with an action, and the sum of their rewards; it stays as it is where an episode ended."""
    if times == 1:
        return body.step(params, state, action)

    def again(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], None]:
        before, total = carry
        over = before.done > 0.5
        after = strong(body.step(params, before, action))
        kept = jax.tree.map(lambda old, new: jnp.where(over, old, new), before, after)
        return (kept, total + jnp.where(over, 0.0, after.reward)), None

    (last, total), _ = jax.lax.scan(again, (state, jnp.float32(0.0)), None, length=times)
    return last.replace(reward=total.astype(last.reward.dtype))


__all__ = ["TIME_LIMIT", "UNITS", "Body", "physics_env", "simulation_of"]
