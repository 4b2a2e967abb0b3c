"""Linen modules that agents are built of.

An agent's config names a torso, which `torso_of` resolves for an environment: "mlp" sees vectors, the others are convolutional
and see pictures. `inputs` turns observations into what that torso sees.

No initialiser here calls LAPACK: a batched QR inside a vmapped population can deadlock on CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.nets.layers import orthogonal
from jaxrl.nets.torso import make_torso
from jaxrl.types import Array


class Head(nn.Module):
    """An orthogonally initialised torso with a linear layer on top: an actor or a critic.

    Attributes:
      outputs: length of the result.
      scale: of the last layer's weights; a small one makes the first policy nearly uniform (Andrychowicz et al. 2021,
        section 3.2).
      hidden: units of each hidden layer.
      activation: a name in `ACTIVATIONS`.
      torso: "mlp" (the hidden layers), or a name in `CONVOLUTIONAL`, in their place.
    """

    outputs: int
    scale: float
    hidden: Sequence[int]
    activation: str = "tanh"
    torso: str = "mlp"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F], or pictures [..., H, W, C], -> [..., outputs]."""
        x = make_torso(self.torso, self.hidden, self.activation, orthogonal(2.0**0.5))(x)
        return nn.Dense(self.outputs, kernel_init=orthogonal(self.scale))(x)


class QNetwork(nn.Module):
    """Action values of vectors or pictures.

    Attributes:
      num_actions: A.
      hidden: units of each hidden layer.
      activation: a name in `ACTIVATIONS`.
      dueling: value and advantage streams, Q = V + A - mean A (Wang et al. 2016, eq. 9).
      torso: "mlp" (the hidden layers), or a name in `CONVOLUTIONAL`, in their place.
    """

    num_actions: int
    hidden: Sequence[int]
    activation: str = "relu"
    dueling: bool = False
    torso: str = "mlp"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F], or pictures [..., H, W, C], -> [..., A]."""
        x = make_torso(self.torso, self.hidden, self.activation, nn.initializers.lecun_normal())(x)
        if not self.dueling:
            return nn.Dense(self.num_actions)(x)
        value, advantage = nn.Dense(1)(x), nn.Dense(self.num_actions)(x)
        return value + advantage - jnp.mean(advantage, axis=-1, keepdims=True)
