"""Linen modules that agents are built of.

No initialiser here calls LAPACK: a batched QR inside a vmapped population can deadlock on CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.types import Array, ArraySpec, PyTree, TreeSpec, UsageError, flat_size

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "tanh": nn.tanh, "elu": nn.elu, "gelu": nn.gelu}


def orthogonal(scale: float = 1.0) -> Callable[..., Array]:
    """An initialiser of matrices [rows, columns] whose shorter side is orthonormal, times `scale`. Saxe et al. 2014.

    The polar factor of a Gaussian matrix is uniform among such matrices. It is found by the Newton-Schulz iteration (Higham
    2008, "Functions of Matrices", eq. 8.20), which is products only.
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        rows, columns = shape
        draw = jax.random.normal(key, (max(rows, columns), min(rows, columns)))

        def improve(_: int, x: Array) -> Array:
            gram = jnp.matmul(x.T, x, precision="highest")
            return 1.5 * x - 0.5 * jnp.matmul(x, gram, precision="highest")

        # Each step raises a small singular value by half, so 48 raise one of 1e-8 to 1.
        x = jax.lax.fori_loop(0, 48, improve, draw / jnp.linalg.norm(draw))
        return (scale * (x if rows >= columns else x.T)).astype(dtype)

    return init


class MLP(nn.Module):
    """Dense layers with an activation after each.

    Attributes:
      hidden: units of each layer.
      activation: a name in `ACTIVATIONS`.
      kernel_init: initialiser of the weights.
    """

    hidden: Sequence[int]
    activation: str = "relu"
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F] -> [..., hidden[-1]]."""
        for units in self.hidden:
            x = ACTIVATIONS[self.activation](nn.Dense(units, kernel_init=self.kernel_init)(x))
        return x


class Head(nn.Module):
    """An orthogonally initialised MLP with a linear layer on top: an actor or a critic.

    Attributes:
      outputs: length of the result.
      scale: of the last layer's weights; a small one makes the first policy nearly uniform (Andrychowicz et al. 2021,
        section 3.2).
      hidden: units of each hidden layer.
      activation: a name in `ACTIVATIONS`.
    """

    outputs: int
    scale: float
    hidden: Sequence[int]
    activation: str = "tanh"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F] -> [..., outputs]."""
        x = MLP(self.hidden, self.activation, orthogonal(2.0**0.5))(x)
        return nn.Dense(self.outputs, kernel_init=orthogonal(self.scale))(x)


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


def flatten(obs: PyTree, spec: ArraySpec | TreeSpec) -> Array:
    """Observations [..., *shape] as float32 vectors [..., F].

    Bytes are scaled to [0, 1], integers of finitely many values become one-hot vectors, the leaves of a tree are joined.
    """
    if isinstance(spec, TreeSpec):
        return jnp.concatenate([flatten(*pair) for pair in zip(jax.tree.leaves(obs), spec.leaves, strict=True)], axis=-1)
    leading = obs.shape[: obs.ndim - len(spec.shape)]
    if spec.num_values is not None:
        obs = jax.nn.one_hot(obs, spec.num_values)
    x = obs.reshape((*leading, flat_size(spec))).astype(jnp.float32)
    return x / 255.0 if spec.dtype == "uint8" else x


def array_obs(spec: object, agent: str) -> ArraySpec:
    """The spec of an observation that must be one array.

    Raises:
      UsageError: the observation is a tree of arrays.
    """
    if not isinstance(spec, ArraySpec):
        raise UsageError(f"env: {agent} needs observations that are one array, not a tree; flatten them with map_observation")
    return spec
