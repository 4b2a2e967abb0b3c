"""Games that an environment is checked by: actions at random or at the ends of their range, and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.contracts.environments import OwnHostEnv
from jaxrl.maths.exploration import random_legal
from jaxrl.types import (
    Agent,
    Array,
    Box,
    Discrete,
    Env,
    HostEnv,
    Position,
    Progress,
    PyTree,
    Spec,
    TimeStep,
    action_zeros,
    sample_action,
)


class Played(NamedTuple):
    """What came of playing.

    Attributes:
      first: obs [B, ...] of the reset.
      steps: `TimeStep` of [T, B, ...].
    """

    first: PyTree
    steps: TimeStep


Choose = Callable[[Array, Spec, PyTree, int], PyTree]
"""(key, spec, obs, num_envs) -> actions."""


def random_actions(key: Array, spec: Spec, obs: PyTree, num_envs: int) -> PyTree:
    if isinstance(obs, Position):
        return random_legal(key, obs.legal)
    return sample_action(key, spec.action, (num_envs,))


def extreme_actions(key: Array, spec: Spec, obs: PyTree, num_envs: int, end: int) -> PyTree:
    if isinstance(obs, Position):
        order = jnp.arange(obs.legal.shape[-1])
        return jnp.argmax(jnp.where(obs.legal, order if end else -order, -order[-1] - 1), axis=-1).astype(jnp.int32)

    def bound(part: Any) -> Any:
        if isinstance(part, (Discrete, Box)):
            lowest, highest = (0, part.n - 1) if isinstance(part, Discrete) else (-1, 1)
            return action_zeros(part, (num_envs,)) + jnp.asarray(
                highest if end else lowest, jnp.result_type(action_zeros(part))
            )
        return type(part)(*map(bound, part))

    return bound(spec.action)


def play_once(env: Env | OwnHostEnv, length: int, choose: Choose) -> Played:
    if not isinstance(env, Env):
        return play_host(env, 0, length, choose)
    run = jax.jit(lambda key, params: play_device(env, key, params, length=length, choose=choose))
    return jax.device_get(run(jax.random.key(0), env.params))


def play_device(env: Env, key: Array, params: PyTree, *, length: int, choose: Choose) -> Played:
    key_reset, key = jax.random.split(key)

    def step(carry: tuple[PyTree, PyTree], key: Array) -> tuple[Any, TimeStep]:
        key_act, key_env = jax.random.split(key)
        action = choose(key_act, env.spec, carry[1], env.num_envs)
        state, timestep = env.step(key_env, params, carry[0], action)
        return (state, timestep.obs), timestep

    state, obs = env.reset(key_reset, params)
    return Played(obs, jax.lax.scan(step, (state, obs), jax.random.split(key, length))[1])


def play_host(env: HostEnv, seed: int, length: int, choose: Choose) -> Played:
    choose_now = jax.jit(lambda key, obs: choose(key, env.spec, obs, env.num_envs))
    first = obs = env.reset(seed)
    rows = []
    for key in jax.random.split(jax.random.key(seed), length):
        timestep = env.step(jax.tree.map(np.asarray, choose_now(key, obs)))
        rows.append(jax.tree.map(np.array, timestep))
        obs = timestep.obs
    return Played(jax.tree.map(np.array, first), jax.tree.map(lambda *leaves: np.stack(leaves), *rows))


def random_agent(spec: Spec) -> Agent:
    def act(key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress, explore: bool) -> Any:
        return random_actions(key, spec, obs, jax.tree.leaves(obs)[0].shape[0]), memory, ()

    return Agent(lambda key: (), act, lambda *arguments: ((), {}))
