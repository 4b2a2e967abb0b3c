"""A finite MDP as an environment: the arrays that `jaxrl.mdp` solves are the ones that are played.

    env = mdp_env(mdp, num_envs=8, time_limit=100)

The observation is the number of the state; networks see it as a one-hot vector, tables are indexed by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.mdp.model import MDP
from jaxrl.types import Array, ArraySpec, Discrete, Env, Spec


def mdp_env(mdp: MDP, num_envs: int, time_limit: int | None = None, render: Callable[..., Any] | None = None) -> Env:
    """B copies of an MDP; its arrays are the environment's traced `params`. The discount is the agent's own.

    Args:
      time_limit: episodes are truncated after so many steps; None where every policy ends them.
      render: (params, state) -> [height, width, 3] uint8.
    """
    num_states, num_actions, num_successors = mdp.successors.shape
    spec = Spec(ArraySpec((), "int32", num_states), Discrete(num_actions), time_limit)

    def reset(key: Array, params: MDP) -> tuple[Array, Array]:
        state = jax.random.categorical(key, jnp.log(params.initial)).astype(jnp.int32)
        return state, state

    def model(key: Array, params: MDP, state: Array, action: Array) -> tuple[Array, Array, Array]:
        which = jax.random.categorical(key, jnp.log(params.probabilities[state, action])) if num_successors > 1 else 0
        after = params.successors[state, action, which]
        return after, params.rewards[state, action, which].astype(jnp.float32), params.terminal[after]

    def step(key: Array, params: MDP, state: Array, action: Array) -> Transition:
        after, reward, terminated = model(key, params, state, action)
        return Transition(after, after, reward, terminated)

    return batch_env(spec, mdp, reset, step, num_envs, time_limit=time_limit, model=model, render=render, static=())
