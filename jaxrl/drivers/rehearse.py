"""A user's own code is tried before anything is written: traced and never compiled, which takes a second or less."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import Config, rollout_length
from jaxrl.contracts.environments import RECORDS, OwnHostEnv
from jaxrl.contracts.returns import is_own, obs_shapes
from jaxrl.errors import OwnCodeError
from jaxrl.loop import Plan, finish, init_state, iterate, no_episodes, to_rollout
from jaxrl.types import Agent, Array, Env, HostEnv, MakeAgent, PyTree, SplitHostEnv, TimeStep, action_zeros, spec_zeros


def rehearse(make_agent: MakeAgent, agent: Agent, config: Config, env: Env | HostEnv, schedule: Plan) -> None:
    """Tries what is the user's own: an agent in one iteration and as a greedy policy, host environments in a reset and a step.

    Pure environments of the user's were tried when they were made; what is this package's is not tried.

    Args:
      agent: of `build_in`.

    Raises:
      ContractError, OwnCodeError: a function returns something else than it should, or raised.
    """
    timestep = _host_step(env) if isinstance(env, OwnHostEnv) and not isinstance(env, SplitHostEnv) else None
    if not is_own(make_agent):
        return
    length, progress = rollout_length(config, env.spec), schedule.progress(0)

    def act_alone(key: Array, policy: PyTree) -> Any:
        return agent.act(key, policy, agent.initial_memory(1), spec_zeros(env.spec.obs, (1,)), progress, False)

    def on_device(key: Array, env: Env) -> Any:
        state = init_state(key, agent, env)
        for learn in (False, True):
            state, _ = iterate(key, agent, env, state, progress, length, learn)
        return act_alone(key, state.agent.policy)

    def on_host(key: Array, timestep: TimeStep) -> Any:
        state, memory, obs = agent.init(key), agent.initial_memory(env.num_envs), spec_zeros(env.spec.obs, (env.num_envs,))
        action, _, extras = agent.act(key, state.policy, memory, obs, progress, True)
        row = to_rollout(obs, action, timestep, extras)
        rollout = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (length, *leaf.shape)), row)
        for learn in (False, True):
            state, _, _ = finish(key, agent, state, no_episodes(), rollout, progress, learn, env.spec.has_return)
        return act_alone(key, state.policy)

    key = jax.random.key(0)
    if isinstance(env, Env):
        jax.eval_shape(lambda key, params: on_device(key, env._replace(params=params)), key, env.params)
        return
    try:
        jax.eval_shape(on_host, key, timestep or _usual_step(env))
    except OwnCodeError as error:
        # What else there is in `info` is only known when these environments step.
        if timestep is not None or not isinstance(error.origin, KeyError):
            raise


def _host_step(env: HostEnv) -> TimeStep:
    """A first step after a reset; a run resets again."""
    env.reset(0)
    return env.step(jax.tree.map(np.asarray, action_zeros(env.spec.action, (env.num_envs,))))


def _usual_step(env: HostEnv) -> TimeStep:
    """The shapes of what environments of the host return."""
    obs, flag = obs_shapes(env.spec, (env.num_envs,)), jax.ShapeDtypeStruct((env.num_envs,), jnp.bool_)
    number, count = (jax.ShapeDtypeStruct((env.num_envs,), dtype) for dtype in (jnp.float32, jnp.int32))
    shapes: Any = (obs, number, flag, flag, obs, dict(zip(RECORDS, (number, count), strict=True)))
    return TimeStep(*shapes)
