"""What an attention model sees and does, and the networks in between.

An environment of pictures shows a `Glimpse` and takes a `Look`; `GlimpseNetwork` turns the one into a vector and `Rectifier` or
`LSTM` remembers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.torso import Torso
from jaxrl.types import Array, PyTree


class Glimpse(NamedTuple):
    """What is seen of a picture at once, and where; with M samples side by side an axis M comes first.

    Attributes:
      patches: [g, g, k] float32 brightness from 0 to 1: k squares around one point, each twice as wide as the one before and
        averaged down to g x g.
      location: [2] float32, the point (x, y) from (-1, -1), the picture's upper left corner, to (1, 1).
    """

    patches: Any
    location: Any


class Look(NamedTuple):
    """The action: where to look next, and what the picture shows, which counts after the last glimpse.

    Attributes:
      location: [2] float32 as of a `Glimpse`, [M, 2] of M samples; clipped to the picture.
      label: [] int32.
    """

    location: Any
    label: Any


def _within_picture(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0)


class GlimpseNetwork(nn.Module):
    """g = relu(W_1 relu(W_x x) + W_2 relu(W_l l) + b): what is seen and where, as one vector.

    Attributes:
      units: of relu(W_x x) and of relu(W_l l).
      features: of g.
      torso: "mlp", or a name in `jaxrl.nets.torso.CONVOLUTIONAL`, whose features take the place of relu(W_x x).

    References:
      Mnih, Heess, Graves and Kavukcuoglu 2014, "Recurrent Models of Visual Attention", section 4, "Glimpse Network".
    """

    units: int
    features: int
    torso: str = "mlp"

    @nn.compact
    def __call__(self, patches: Array, location: Array) -> Array:
        """patches [..., g, g, k] and location [..., 2] -> [..., features]."""
        if self.torso == "mlp":
            what = nn.relu(nn.Dense(self.units, name="patches")(patches.reshape(*patches.shape[:-3], -1)))
        else:
            what = Torso(self.torso, name="torso")(patches)
        # Biases as wide as the picture, so that the rectifiers bend at points all over it from the start.
        places = nn.Dense(self.units, kernel_init=nn.initializers.normal(1.0), bias_init=_within_picture, name="location")
        where = nn.relu(places(location))
        return nn.relu(
            nn.Dense(self.features, name="what")(what) + nn.Dense(self.features, use_bias=False, name="where")(where)
        )


class Rectifier(nn.Module):
    """h_t = relu(W_h h_{t-1} + W_g g_t + b), the paper's core for classification (section 4, "Core Network")."""

    units: int

    @nn.compact
    def __call__(self, memory: Array, x: Array) -> tuple[Array, Array]:
        """memory [..., units], x [..., F] -> (memory, features [..., units])."""
        after = nn.relu(nn.Dense(self.units, name="seen")(x) + nn.Dense(self.units, use_bias=False, name="before")(memory))
        return after, after

    def initial_memory(self, leading: tuple[int, ...]) -> PyTree:
        """Zeros [..., units]."""
        return jnp.zeros((*leading, self.units), jnp.float32)


class LSTM(nn.Module):
    """Long short-term memory (Hochreiter and Schmidhuber 1997)."""

    units: int

    @nn.compact
    def __call__(self, memory: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        """memory (cell, hidden) [..., units] each, x [..., F] -> (memory, features [..., units])."""
        # Flax's own default for the recurrent kernel is a QR decomposition.
        cell = nn.OptimizedLSTMCell(self.units, recurrent_kernel_init=nn.initializers.lecun_normal())
        after, features = cell(memory, x)
        return after, features

    def initial_memory(self, leading: tuple[int, ...]) -> PyTree:
        """Zeros, (cell, hidden) [..., units]."""
        zeros = jnp.zeros((*leading, self.units), jnp.float32)
        return zeros, zeros


CORES = {"rnn": Rectifier, "lstm": LSTM}


class Heads(NamedTuple):
    """What is said of features [..., units], which are what is remembered.

    Attributes:
      mean: [..., 2] of the next location.
      logits: [..., A] of the classes.
      baseline: [...] the reward that is expected.
    """

    mean: Array
    logits: Array
    baseline: Array


class AttentionNetworks(NamedTuple):
    """The five networks as linen modules; their parameters are a dict of these names."""

    glimpse: nn.Module
    core: Any
    location: nn.Module
    classifier: nn.Module
    baseline: nn.Module

    def init(self, key: Array, obs: Glimpse) -> PyTree:
        """Parameters, for observations of the shapes of `obs` with any leading axes."""
        leading = obs.location.shape[:-1]
        seen, features = (jnp.zeros((*leading, units)) for units in (self.glimpse.features, self.core.units))
        inputs = (obs, (self.core.initial_memory(leading), seen), *[(features,)] * 3)
        parts = zip(self._fields, self, jax.random.split(key, len(self)), inputs, strict=True)
        return {name: network.init(key, *given) for name, network, key, given in parts}

    def see(self, params: PyTree, obs: Glimpse) -> Array:
        """Glimpses [...] -> g [..., F]."""
        return self.glimpse.apply(params["glimpse"], *obs)  # type: ignore[return-value]

    def remember(self, params: PyTree, memory: PyTree, seen: Array) -> tuple[PyTree, Array]:
        """Memory and g [..., F] -> (memory, features [..., units])."""
        return self.core.apply(params["core"], memory, seen)

    def unroll(self, params: PyTree, memory: PyTree, obs: Glimpse) -> Array:
        """Memory [B, ...] and glimpses [T, B, ...] of one picture each -> features [T, B, ..., units]."""
        _, features = jax.lax.scan(partial(self.remember, params), memory, self.see(params, obs), unroll=True)
        return features

    def heads(self, params: PyTree, features: Array, share: Array | float = 0.0) -> Heads:
        """What is said. What is remembered learns of classes, and of where to look by `share` [] of its gradient."""
        fixed = jax.lax.stop_gradient(features)
        mean: Any = self.location.apply(params["location"], fixed + share * (features - fixed))
        logits: Any = self.classifier.apply(params["classifier"], features)
        baseline: Any = self.baseline.apply(params["baseline"], fixed)
        return Heads(jnp.tanh(mean), logits, baseline[..., 0])
