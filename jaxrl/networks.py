"""Linen modules that agents are built of.

No initialiser here needs a matrix decomposition: a batched QR inside a vmapped population can deadlock on CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.types import Array, ArraySpec, UsageError

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "tanh": nn.tanh, "elu": nn.elu, "gelu": nn.gelu}


class MLP(nn.Module):
    """Dense layers with an activation after each.

    Attributes:
      hidden: units of each layer.
      activation: a name in `ACTIVATIONS`.
    """

    hidden: Sequence[int]
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F] -> [..., hidden[-1]]."""
        for units in self.hidden:
            x = ACTIVATIONS[self.activation](nn.Dense(units)(x))
        return x


class QNetwork(nn.Module):
    """Action values of flat observations.

    Attributes:
      num_actions: A.
      hidden: units of each hidden layer.
      activation: a name in `ACTIVATIONS`.
      dueling: value and advantage streams, Q = V + A - mean A (Wang et al. 2016, eq. 9).
    """

    num_actions: int
    hidden: Sequence[int]
    activation: str = "relu"
    dueling: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F] -> [..., A]."""
        x = MLP(self.hidden, self.activation)(x)
        if not self.dueling:
            return nn.Dense(self.num_actions)(x)
        value, advantage = nn.Dense(1)(x), nn.Dense(self.num_actions)(x)
        return value + advantage - jnp.mean(advantage, axis=-1, keepdims=True)


def flatten(obs: Array, spec: ArraySpec) -> Array:
    """Observations [..., *shape] as float32 vectors [..., F]; bytes are scaled to [0, 1]."""
    x = obs.reshape(obs.shape[: obs.ndim - len(spec.shape)] + (-1,)).astype(jnp.float32)
    return x / 255.0 if spec.dtype == "uint8" else x


def array_obs(spec: object, agent: str) -> ArraySpec:
    """The spec of an observation that must be one array.

    Raises:
      UsageError: the observation is a tree of arrays.
    """
    if not isinstance(spec, ArraySpec):
        raise UsageError(f"env: {agent} needs observations that are one array, not a tree; flatten them with map_observation")
    return spec
