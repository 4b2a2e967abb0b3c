"""Layers that networks are built of: dense ones, noisy ones, a recurrent one, orthogonal weights.

No initialiser here calls LAPACK: a batched QR inside a vmapped population can deadlock on CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, PyTree, where_ended

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
      batch_norm: () -> a layer that normalises the input, and each layer's units behind the activation, by the batch (Bhatt et
        al. 2024, figure 2); None for none.
      dropout: share of each layer's units that are dropped, before they are normalised (Hiraoka et al. 2022, figure 1).
      dense: the layer, (units, kernel_init=...) -> module.
    """

    hidden: Sequence[int]
    activation: str = "relu"
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    layer_norm: bool = False
    dropout: float = 0.0
    batch_norm: Callable[[], nn.Module] | None = None
    dense: Callable[..., nn.Module] = nn.Dense

    @nn.compact
    def __call__(self, x: Array, drop: bool = False, fit: bool = False) -> Array:
        """[..., F] -> [..., hidden[-1]]; `drop` draws what is dropped from the stream "dropout", `fit` is of `batch_norm`."""
        x = x if self.batch_norm is None else self.batch_norm()(x, fit)
        for units in self.hidden:
            x = self.dense(units, kernel_init=self.kernel_init)(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not drop)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = ACTIVATIONS[self.activation](x)
            x = x if self.batch_norm is None else self.batch_norm()(x, fit)
        return x


class SimBa(nn.Module):
    """A dense layer, a residual block x + W_2 relu(W_1 norm(x)) for each number of `hidden`, and a normalisation.

    Attributes:
      hidden: units of each block's result, the same of all; within it there are four times as many.
      batch_norm: () -> a layer that normalises by the batch; None for layer normalisation, as in the paper.
      dense: the layer, (units, kernel_init=...) -> module.

    References:
      Lee et al. 2025, "SimBa: Simplicity Bias for Scaling Up Parameters in Deep Reinforcement Learning", section 4 and eq. 5;
      initial weights as in the authors' code.
    """

    hidden: Sequence[int]
    batch_norm: Callable[[], nn.Module] | None = None
    dense: Callable[..., nn.Module] = nn.Dense

    @nn.compact
    def __call__(self, x: Array, fit: bool = False) -> Array:
        """[..., F] -> [..., hidden[-1]]; `fit` is of `batch_norm`."""

        def normalized(x: Array) -> Array:
            y: Array = nn.LayerNorm()(x) if self.batch_norm is None else self.batch_norm()(x, fit)
            return y

        x = self.dense(self.hidden[0], kernel_init=orthogonal())(x)
        for units in self.hidden:
            y = nn.relu(self.dense(4 * units, kernel_init=nn.initializers.he_normal())(normalized(x)))
            x = x + self.dense(units, kernel_init=nn.initializers.he_normal())(y)
        return normalized(x)


uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Uniform within +-1 / sqrt(fan in)."""


class NoisyDense(nn.Module):
    """A dense layer with learned, factorised noise: y = (W + S * f(e_out) f(e_in)^T) x + b + s * f(e_out).

    f(e) = sgn(e) sqrt|e| of standard normal e. f(e_in) and f(e_out) are the variables of the collection "noise" (see
    `draw_noise`); without it the layer is W x + b.

    Attributes:
      units: of the output.
      sigma: weights and bias of the noise begin at sigma / sqrt(fan in).
      kernel_init: of the weights.

    References:
      Fortunato et al. 2018, "Noisy Networks for Exploration", eqs. 9 to 11 and section 3.2.
    """

    units: int
    sigma: Array | float = 0.5
    kernel_init: Callable[..., Array] = uniform_fan_in

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F] -> [..., units]; one draw of noise for all."""
        bound = x.shape[-1] ** -0.5

        def start(key: Array, shape: Sequence[int]) -> Array:
            return jnp.full(shape, self.sigma * bound, jnp.float32)

        shape = (x.shape[-1], self.units)
        y = x @ self.param("kernel", self.kernel_init, shape, jnp.float32)
        y += self.param("bias", lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound), shape[1:])
        kernel, bias = self.param("noisy_kernel", start, shape), self.param("noisy_bias", start, shape[1:])
        if not (self.has_variable("noise", "into") or self.is_initializing()):
            return y
        into = self.variable("noise", "into", jnp.zeros, shape[:1], jnp.float32).value
        out = self.variable("noise", "out", jnp.zeros, shape[1:], jnp.float32).value
        return y + out * ((x * into) @ kernel + bias)


def draw_noise(key: Array, shapes: PyTree) -> PyTree:
    """sgn(e) sqrt|e| of standard normal e, for a tree of `jax.ShapeDtypeStruct`s; drawn at once, which compiles fast."""
    leaves, treedef = jax.tree.flatten(shapes)
    draw = jax.random.normal(key, (sum(math.prod(leaf.shape) for leaf in leaves),), jnp.float32)
    parts = jnp.split(jnp.sign(draw) * jnp.sqrt(jnp.abs(draw)), np.cumsum([math.prod(leaf.shape) for leaf in leaves])[:-1])
    return jax.tree.unflatten(treedef, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])


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


def memories(core: Callable[[Array, Array], Array], memory: Array, x: Array, ended: Array) -> Array:
    """The memory after each step, before any reset, [T, B, units].

    Args:
      core: (memory [B, units], x [B, F]) -> the next memory.
      memory: [B, units] before the first step; after a step that ended an episode it is zeros again.
      x: [T, B, F].
      ended: [T, B] bool.
    """

    def step(memory: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        after = core(memory, row[0])
        return where_ended(row[1], jnp.zeros_like(after), after), after

    return jax.lax.scan(step, memory, (x, ended))[1]


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
