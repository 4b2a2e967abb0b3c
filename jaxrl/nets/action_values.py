"""A network that says something of every action, as pure functions: what deep Q-learning acts by and learns.

    network = q_network(config, spec)
    params = network.init(key)
    q = network.values(network.apply(key, params, obs))      # obs [..., *] -> [..., A]

The outputs may be more than values: a distribution or quantiles of each action's return, of which `values` makes values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.nets.heads import QNetwork
from jaxrl.nets.inputs import ILLEGAL, legal_of, network_inputs, seen
from jaxrl.nets.torso import torso_of
from jaxrl.types import Array, PyTree, Spec, seen_spec, spec_zeros


class QConfig(Protocol):
    """What `q_network` reads of an agent's config."""

    @property
    def hidden(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> str: ...
    @property
    def dueling(self) -> bool: ...
    @property
    def torso(self) -> str: ...


def _as_they_are(outputs: PyTree) -> Array:
    return outputs


class ActionValues(NamedTuple):
    """A network of action values.

    Attributes:
      init: (key) -> params.
      apply: (key, params, obs [..., *]) -> outputs: [..., A] action values, or any tree that `values` takes. The key is for
        what a network draws (noise, quantiles), and None where the greedy action is asked for.
      values: (outputs) -> [..., A]; actions that are not legal in a `Position` have `jaxrl.nets.inputs.ILLEGAL`.
    """

    init: Callable[[Array], PyTree]
    apply: Callable[[Array | None, PyTree, PyTree], PyTree]
    values: Callable[[PyTree], Array] = _as_they_are


def q_network(config: QConfig, spec: Spec, module: nn.Module | None = None) -> ActionValues:
    """Action values [..., A] by a module, or by the hidden layers or convolutions that the config names.

    Args:
      module: vectors [..., F], or pictures [..., H, W, C] where the config's torso is convolutional, -> [..., A].

    Raises:
      UsageError: a torso that cannot see these observations.
    """
    obs_spec = seen_spec(spec.obs)
    torso = torso_of(config.torso, obs_spec)
    made = module or QNetwork(spec.action.n, config.hidden, config.activation, config.dueling, torso)

    def init(key: Array) -> PyTree:
        return made.init(key, network_inputs(spec_zeros(obs_spec, (1,)), obs_spec, torso))

    def apply(key: Array | None, params: PyTree, obs: PyTree) -> Array:
        q: Any = made.apply(params, network_inputs(seen(obs), obs_spec, torso))
        legal = legal_of(obs)
        return q if legal is None else jnp.where(legal, q, ILLEGAL)

    return ActionValues(init, apply)
