"""Layers that networks are built of: dense ones, a recurrent one, orthogonal weights.

No initialiser here calls LAPACK: a batched QR inside a vmapped population can deadlock on CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "elu": nn.elu,
    "gelu": nn.gelu,
    "silu": nn.silu,
}


class MLP(nn.Module):
    """Dense layers with an activation after each.

    Attributes:
      hidden: units of each layer.
      activation: a name in `ACTIVATIONS`.
      kernel_init: initialiser of the weights.
      layer_norm: normalise each layer's units before the activation (Ba, Kiros and Hinton 2016).
      dropout: share of each layer's units that are dropped, before they are normalised (Hiraoka et al. 2022, figure 1).
    """

    hidden: Sequence[int]
    activation: str = "relu"
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    layer_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, drop: bool = False) -> Array:
        """[..., F] -> [..., hidden[-1]]; `drop` draws what is dropped from the stream "dropout"."""
        for units in self.hidden:
            x = nn.Dense(units, kernel_init=self.kernel_init)(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not drop)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = ACTIVATIONS[self.activation](x)
        return x


class GRU(nn.Module):
    """A dense layer and a gated recurrent unit (Cho et al. 2014).

    Attributes:
      units: size of the memory and of the features.
      activation: of the dense layer, a name in `ACTIVATIONS`.
    """

    units: int
    activation: str = "tanh"

    @nn.compact
    def __call__(self, memory: Array, x: Array) -> Array:
        """memory [B, units], x [B, F] -> the next memory [B, units], which is the feature as well."""
        x = ACTIVATIONS[self.activation](nn.Dense(self.units, kernel_init=orthogonal(2.0**0.5))(x))
        # Flax's own default for the recurrent kernel is a QR decomposition.
        return nn.GRUCell(self.units, recurrent_kernel_init=orthogonal())(memory, x)[0]


def orthogonal(scale: float = 1.0) -> Callable[..., Array]:
    """An initialiser of matrices [rows, columns] whose shorter side is orthonormal, times `scale`. Saxe et al. 2014.

    A convolution's kernel [h, w, c, features] is such a matrix of h w c rows.

    The polar factor of a Gaussian matrix is uniform among such matrices. It is found by the Newton-Schulz iteration (Higham
    2008, "Functions of Matrices", eq. 8.20), which is products only.
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        draw = jax.random.normal(key, (max(rows, columns), min(rows, columns)))

        def improve(_: int, x: Array) -> Array:
            gram = jnp.matmul(x.T, x, precision="highest")
            return 1.5 * x - 0.5 * jnp.matmul(x, gram, precision="highest")

        # Each step raises a small singular value by half, so 48 raise one of 1e-8 to 1.
        x = jax.lax.fori_loop(0, 48, improve, draw / jnp.linalg.norm(draw))
        return (scale * (x if rows >= columns else x.T)).reshape(shape).astype(dtype)

    return init
