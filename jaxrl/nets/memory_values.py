"""Action values by a network that may remember, as pure functions: what Q-learning acts by where states are hidden.

    network = memory_values(config, spec)
    memory, q = network.step(params, memory, obs)           # memory [B, units], obs [B, *] -> [B, A]
    memories, q = network.unroll(params, memory, obs, ended)          # obs [T, B, *] -> [T, B, units], [T, B, A]

A torso sees each observation, a GRU, if the config names one, remembers, and a linear layer values the actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.action_values import legal_values
from jaxrl.nets.heads import QNetwork
from jaxrl.nets.inputs import legal_of, network_inputs, seen
from jaxrl.nets.layers import GRU, memories
from jaxrl.nets.torso import TorsoConfig, check_blocks, make_torso, torso_of
from jaxrl.types import Array, PyTree, Spec, seen_spec, spec_zeros


class MemoryConfig(TorsoConfig, Protocol):
    """What `memory_values` reads of an agent's config."""

    @property
    def layer_norm(self) -> bool: ...
    @property
    def gru(self) -> int | None: ...


class MemoryValues(NamedTuple):
    """A network of action values; those of actions that are not legal in a `Position` are `jaxrl.nets.inputs.ILLEGAL`.

    Attributes:
      init: (key) -> params.
      initial_memory: (num_envs) -> memory [B, units], () of a network that remembers nothing.
      step: (params, memory [..., units], obs [..., *]) -> (memory after it, q [..., A]).
      unroll: (params, memory [B, units], obs [T, B, *], ended [T, B]) -> (memory after each step, before any reset, [T, B,
        units]; q [T, B, A]), where the memory begins anew after a step that ended an episode.
    """

    init: Callable[[Array], PyTree]
    initial_memory: Callable[[int], PyTree]
    step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, Array]]
    unroll: Callable[[PyTree, PyTree, PyTree, Array], tuple[PyTree, Array]]


def memory_values(config: MemoryConfig, spec: Spec, dueling: bool = False) -> MemoryValues:
    """The network that the config names.

    Args:
      dueling: see `jaxrl.nets.heads.QNetwork`.

    Raises:
      UsageError: a torso that cannot see these observations, or that hidden layers do not fit.
    """
    obs_spec = seen_spec(spec.obs)
    kind = torso_of(config.torso, obs_spec)
    check_blocks(kind, "hidden", config.hidden)
    torso = make_torso(kind, config.hidden, config.activation, nn.initializers.lecun_normal(), layer_norm=config.layer_norm)
    core = None if config.gru is None else GRU(config.gru, config.activation)
    head = QNetwork(spec.action.n, (), dueling=dueling)

    def init(key: Array) -> PyTree:
        key_torso, key_core, key_head = jax.random.split(key, 3)
        x = network_inputs(spec_zeros(obs_spec, (1,)), obs_spec, kind)
        features, params = torso.init_with_output(key_torso, x)
        if core is None:
            return {"torso": params, "head": head.init(key_head, features)}
        memory = initial_memory(1)
        return {"torso": params, "core": core.init(key_core, memory, features), "head": head.init(key_head, memory)}

    def initial_memory(num_envs: int) -> PyTree:
        return () if core is None else jnp.zeros((num_envs, core.units), jnp.float32)

    def see(params: PyTree, obs: PyTree) -> Array:
        features: Array = torso.apply(params["torso"], network_inputs(seen(obs), obs_spec, kind))  # type: ignore[assignment]
        return features

    def remember(params: PyTree, memory: Array, features: Array) -> Array:
        assert core is not None
        after: Array = core.apply(params["core"], memory, features)  # type: ignore[assignment]
        return after

    def values(params: PyTree, features: Array, obs: PyTree) -> Array:
        q: Array = head.apply(params["head"], features)  # type: ignore[assignment]
        return legal_values(q, legal_of(obs))

    def step(params: PyTree, memory: PyTree, obs: PyTree) -> tuple[PyTree, Array]:
        features = see(params, obs)
        if core is None:
            return memory, values(params, features, obs)
        memory = remember(params, memory, features)
        return memory, values(params, memory, obs)

    def unroll(params: PyTree, memory: PyTree, obs: PyTree, ended: Array) -> tuple[PyTree, Array]:
        features = see(params, obs)
        if core is None:
            return memory, values(params, features, obs)
        after = memories(lambda memory, x: remember(params, memory, x), memory, features, ended)
        return after, values(params, after, obs)

    return MemoryValues(init, initial_memory, step, unroll)
