"""Linen modules that agents are built of.

An agent's config names a torso, which `torso_of` resolves for an environment: "mlp" sees vectors, the others are convolutional
and see pictures. `inputs` turns observations into what that torso sees.

No initialiser here calls LAPACK: a batched QR inside a vmapped population can deadlock on CPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.maths.distributional import midpoints
from jaxrl.nets.layers import ACTIVATIONS, NoisyDense, orthogonal, uniform_fan_in
from jaxrl.nets.torso import last_units, make_torso
from jaxrl.types import Array


class Head(nn.Module):
    """An orthogonally initialised torso with a linear layer on top: an actor or a critic.

    Attributes:
      outputs: length of the result.
      scale: of the last layer's weights; a small one makes the first policy nearly uniform (Andrychowicz et al. 2021,
        section 3.2).
      hidden: units of each hidden layer.
      activation: a name in `ACTIVATIONS`.
      torso: "mlp" (the hidden layers), or "simba" or a name in `CONVOLUTIONAL`, in their place.
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
    """Action values, or numbers of each action, of vectors or pictures.

    Attributes:
      num_actions: A.
      hidden: units of each hidden layer.
      activation: a name in `ACTIVATIONS`.
      dueling: value and advantage streams, Q = V + A - mean A (Wang et al. 2016, eq. 9); of many numbers for each of them
        (Hessel et al. 2018, section "The Integrated Agent").
      torso: "mlp" (the hidden layers), or "simba" or a name in `CONVOLUTIONAL`, in their place.
      numbers: K of each action; None for its value alone.
      noisy_sigma: of `jaxrl.nets.layers.NoisyDense`, which all dense layers are then; None for plain ones.
    """

    num_actions: int
    hidden: Sequence[int]
    activation: str = "relu"
    dueling: bool = False
    torso: str = "mlp"
    numbers: int | None = None
    noisy_sigma: Array | float | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., F], or pictures [..., H, W, C], -> [..., A], or [..., A, K]."""
        layer, kernel_init = dense_layer(self.noisy_sigma)
        x = make_torso(self.torso, self.hidden, self.activation, kernel_init, layer)(x)
        return _per_action(layer, kernel_init, x, self.num_actions, self.numbers, self.dueling)


class ImplicitQuantileNetwork(nn.Module):
    """Quantiles of each action's return at levels that are drawn: f(psi(x) * phi(tau)).

    phi_j(tau) = relu(sum_i cos(pi i tau) w_ij + b_j);
    psi is the torso without its last dense layer, f that layer and a linear one, as in the paper of Nature's network.

    Attributes:
      num_actions, hidden, activation, dueling, torso, noisy_sigma: as of `QNetwork`.
      num_quantiles: K.
      cosines: numbers i = 0, 1, ... that a level is embedded by.

    References:
      Dabney et al. 2018, "Implicit Quantile Networks for Distributional Reinforcement Learning", eq. 4 and section 3.1.
    """

    num_actions: int
    hidden: Sequence[int]
    activation: str = "relu"
    dueling: bool = False
    torso: str = "mlp"
    noisy_sigma: Array | float | None = None
    num_quantiles: int = 32
    cosines: int = 64

    @nn.compact
    def __call__(self, x: Array, key: Array | None = None) -> tuple[Array, Array]:
        """x [..., F] or pictures [..., H, W, C] -> (quantiles [..., A, K], their levels [..., K]); without a key midpoints."""
        layer, kernel_init = dense_layer(self.noisy_sigma)
        features = make_torso(self.torso, self.hidden, self.activation, kernel_init, layer, has_last=False)(x)
        shape = (*features.shape[:-1], self.num_quantiles)
        tau = jnp.broadcast_to(midpoints(shape[-1]), shape) if key is None else jax.random.uniform(key, shape, jnp.float32)
        waves = jnp.cos(jnp.pi * jnp.arange(self.cosines, dtype=jnp.float32) * tau[..., None])
        x = features[..., None, :] * nn.relu(nn.Dense(features.shape[-1])(waves))
        units = last_units(self.torso, self.hidden)
        if units is not None:
            activation = self.activation if self.torso == "mlp" else "relu"
            x = ACTIVATIONS[activation](layer(units, kernel_init=kernel_init)(x))
        return jnp.swapaxes(_per_action(layer, kernel_init, x, self.num_actions, None, self.dueling), -1, -2), tau


def dense_layer(noisy_sigma: Array | float | None) -> tuple[Callable[..., nn.Module], Callable[..., Array]]:
    """(a dense layer, plain or noisy; the initialiser of its weights)."""
    if noisy_sigma is None:
        return nn.Dense, nn.initializers.lecun_normal()
    return functools.partial(NoisyDense, sigma=noisy_sigma), uniform_fan_in


def _per_action(
    layer: Callable[..., nn.Module],
    kernel_init: Callable[..., Array],
    x: Array,
    num_actions: int,
    numbers: int | None,
    dueling: bool,
) -> Array:
    """[..., F] -> [..., A], or [..., A, K]."""

    def linear(actions: int) -> Array:
        y = layer(actions * (numbers or 1), kernel_init=kernel_init)(x)
        return y if numbers is None else y.reshape(*y.shape[:-1], actions, numbers)

    if not dueling:
        return linear(num_actions)
    value, advantage = linear(1), linear(num_actions)
    return value + advantage - jnp.mean(advantage, axis=-1 if numbers is None else -2, keepdims=True)
