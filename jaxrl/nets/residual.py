"""What a player sees of a board: a tower of residual blocks, and two heads on it."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.nets.conv import Conv, to_float
from jaxrl.types import Array

_POLICY_FILTERS, _VALUE_FILTERS, _VALUE_UNITS = 8, 4, 64


class _Same(nn.Module):
    """A convolution 3 x 3 whose picture keeps its size."""

    channels: int
    starts_as_nothing: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., H, W, C] -> [..., H, W, channels]."""
        padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(1, 1), (1, 1), (0, 0)])
        init = nn.initializers.zeros_init() if self.starts_as_nothing else nn.initializers.he_normal()
        return Conv(self.channels, (3, 3), kernel_init=init, native_forward=True)(padded)


class ResidualTower(nn.Module):
    """x + f(x), again and again; f is twice a normalisation over channels, a rectifier and a convolution 3 x 3.

    Deviations from the paper: layer instead of batch normalisation, so that a network is a function of its parameters and of
    one position alone, and in front of each convolution (He et al. 2016). Every f begins as zero.

    Attributes:
      blocks: residual blocks, of two convolutions each.
      channels: of every convolution.

    References:
      Silver et al. 2017, "Mastering the game of Go without human knowledge", methods, "Neural network architecture"; He et al.
      2016, "Identity Mappings in Deep Residual Networks".
    """

    blocks: int
    channels: int

    @nn.compact
    def __call__(self, planes: Array) -> Array:
        """planes [..., H, W, C] -> [..., H, W, channels]."""
        x = _Same(self.channels)(to_float(planes))
        for _ in range(self.blocks):
            y = _Same(self.channels)(nn.relu(nn.LayerNorm()(x)))
            x = x + _Same(self.channels, starts_as_nothing=True)(nn.relu(nn.LayerNorm()(y)))
        return nn.relu(nn.LayerNorm()(x))


class PolicyValue(nn.Module):
    """Logits of the actions, and the outcome of the game that the player to move expects, of a board's planes.

    Attributes:
      blocks, channels: of the `ResidualTower`.
      num_actions: A.
    """

    blocks: int
    channels: int
    num_actions: int

    @nn.compact
    def __call__(self, planes: Array) -> tuple[Array, Array]:
        """planes [..., H, W, C] -> (logits [..., A], value [...] in (-1, 1))."""
        x = ResidualTower(self.blocks, self.channels)(planes)

        def flat(filters: int) -> Array:
            y = nn.relu(nn.Dense(filters)(x))
            return y.reshape(*y.shape[:-3], -1)

        # Both heads say next to nothing at first: all actions alike, and a game that is open.
        small = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        logits = nn.Dense(self.num_actions, kernel_init=small)(flat(_POLICY_FILTERS))
        value = nn.Dense(1, kernel_init=small)(nn.relu(nn.Dense(_VALUE_UNITS)(flat(_VALUE_FILTERS))))
        return logits, jnp.tanh(value[..., 0])
