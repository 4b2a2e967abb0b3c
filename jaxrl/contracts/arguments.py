"""Kinds of arguments that need JAX: keys, configs, environments, agents; traced values may be any of them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.arguments import function, refused
from jaxrl.config import Config, check_fits, check_known, config_class_of
from jaxrl.contracts.returns import described, name_of, same_structure
from jaxrl.errors import UsageError
from jaxrl.types import Env, HostEnv, PyTree

make_agent = function("jaxrl.agents.make_dqn")


def prng_key(name: str, value: Any) -> Any:
    """One key."""
    if not hasattr(value, "dtype") or not hasattr(value, "ndim"):
        raise refused(name, value, "a key, such as jax.random.key(0)")
    is_typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not is_typed and value.dtype != jnp.uint32:
        raise UsageError(f"{name} is {described(value)}; give a key, such as jax.random.key(0)")
    if value.ndim != (0 if is_typed else 1):
        raise UsageError(f"{name} is {described(value)}, not one key; give one, or jax.vmap over them")
    return value


def agent_config(name: str, value: Any) -> Config:
    """A config, checked as far as it is not traced; known scalars become plain numbers."""
    if not isinstance(value, Config):
        raise refused(name, value, "the config of the agent, such as jaxrl.agents.DQNConfig()")
    return check_known(value)


def pure_env(name: str, value: Any) -> Env:
    """Environments of the compiled program."""
    if isinstance(value, HostEnv):
        raise UsageError(f"{name}: a {type(value).__name__} runs on the host, not in a compiled program; use jaxrl.run there")
    if not isinstance(value, Env):
        raise refused(name, value, "what jaxrl.make('CartPole-v1', num_envs) returns")
    return value


def check_params(env: Env, params: PyTree) -> None:
    """Checks that an environment can have these params, whose arrays may have other shapes (another data set).

    Raises:
      UsageError: another structure.
    """
    if not same_structure(params, env.params):
        ours, theirs = type(params).__name__, type(env.params).__name__
        raise UsageError(f"env_params of type {ours} have another structure than env.params, a {theirs}; replace parts of it")


def check_pair(make_agent: Any, config: Config) -> None:
    """Checks that an agent whose function says what its config is can read this one.

    Raises:
      UsageError: naming the first field that it has not.
    """
    try:
        wanted = config_class_of(make_agent)
    except (NameError, AttributeError, SyntaxError):  # Only names of agents need annotations.
        return
    check_fits(config, wanted, name_of(make_agent).partition(":")[2])
