"""Torsos: what turns observations into features, hidden layers or convolutions.

An agent's config names one, which `torso_of` resolves for an environment: "mlp" and "simba" see vectors, the others are
convolutional and see pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import flax.linen as nn

from jaxrl.errors import UsageError
from jaxrl.nets.conv import Conv
from jaxrl.nets.inputs import VECTORS, picture_shape
from jaxrl.nets.layers import MLP, SimBa
from jaxrl.types import Array, ArraySpec, TreeSpec


class TorsoConfig(Protocol):
    """What every network of vectors or pictures reads of an agent's config."""

    @property
    def hidden(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> str: ...
    @property
    def torso(self) -> str: ...


class Filters(NamedTuple):
    """A convolutional torso.

    Attributes:
      layers: (filters, window, stride) of each convolution.
      units: of the dense layer on top.
    """

    layers: tuple[tuple[int, int, int], ...]
    units: int

    def least_size(self) -> int:
        """The shortest side of a picture of which something is left."""
        size = 1
        for _, window, stride in reversed(self.layers):
            size = (size - 1) * stride + window
        return size


CONVOLUTIONAL: dict[str, Filters] = {
    # Mnih et al. 2015, Methods, "Model architecture".
    "nature": Filters(((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
    # Mnih et al. 2013, section 4.1.
    "atari2013": Filters(((16, 8, 4), (32, 4, 2)), 256),
    # Young and Tian 2019, "MinAtar".
    "minatar": Filters(((16, 3, 1),), 128),
}

_AUTO_SIZE = CONVOLUTIONAL["nature"].least_size()
"""Side of a picture from which on "auto" is "nature"."""

TORSOS = ("auto", *VECTORS, *CONVOLUTIONAL)

TORSO_HELP = (
    "What turns observations into features: mlp (the hidden layers), simba (a residual block, with layer normalisation, for "
    "each of them), or in their place the convolutions of nature, atari2013 or minatar; auto is nature for pictures of at "
    "least 36 x 36, else mlp."
)


class Torso(nn.Module):
    """Convolutions and a dense layer, a rectifier after each.

    Attributes:
      kind: a name in `CONVOLUTIONAL`.
      kernel_init: initialiser of the weights.
      dense: the dense layer, (units, kernel_init=...) -> module; None for none.
      layer_norm: normalise before each rectifier: the filters of each place, the units of the dense layer.
    """

    kind: str
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    dense: Callable[..., nn.Module] | None = nn.Dense
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Pictures [..., H, W, C] -> [..., units], or all that the last convolution makes; bytes are scaled to [0, 1]."""
        layers, units = CONVOLUTIONAL[self.kind]
        for filters, window, stride in layers:
            x = self._rectified(Conv(filters, (window, window), (stride, stride), self.kernel_init)(x))
        x = x.reshape(*x.shape[:-3], math.prod(x.shape[-3:]))
        return x if self.dense is None else self._rectified(self.dense(units, kernel_init=self.kernel_init)(x))

    def _rectified(self, x: Array) -> Array:
        return nn.relu(nn.LayerNorm()(x) if self.layer_norm else x)


def make_torso(
    kind: str,
    hidden: Sequence[int],
    activation: str,
    kernel_init: Callable[..., Array],
    dense: Callable[..., nn.Module] = nn.Dense,
    has_last: bool = True,
    layer_norm: bool = False,
) -> nn.Module:
    """The hidden layers ("mlp"), or the blocks or convolutions that stand in their place.

    Args:
      activation, kernel_init: not of "simba", which has its own.
      dense: (units, kernel_init=...) -> a dense layer.
      has_last: False leaves the last dense layer out; `last_units` says what it would have had.
      layer_norm: normalise each layer before its activation; the blocks of "simba" do so whatever is said.
    """
    if kind == "simba":
        return SimBa(hidden, dense=dense)
    if kind == "mlp":
        return MLP(hidden if has_last else hidden[:-1], activation, kernel_init, layer_norm, dense=dense)
    return Torso(kind, kernel_init, dense if has_last else None, layer_norm)


def last_units(kind: str, hidden: Sequence[int]) -> int | None:
    """Units of a torso's last dense layer; None where it has none, and of "simba", which ends with a normalisation."""
    if kind in CONVOLUTIONAL:
        return CONVOLUTIONAL[kind].units
    return None if kind == "simba" else hidden[-1] if hidden else None


def torso_of(torso: str, spec: ArraySpec | TreeSpec) -> str:
    """The torso of a config for observations of `spec`: one of `VECTORS` or a name in `CONVOLUTIONAL`.

    "auto" is "nature" for pictures large enough for it, else "mlp".

    Raises:
      UsageError: convolutions for what is no picture, or for one too small for them, or for an array of three axes whose spec
        does not say whether it is one; so does "auto" where it is large enough.
    """
    if torso in VECTORS:
        return torso
    _check_axes(torso, spec)
    shape = picture_shape(spec)
    if torso == "auto":
        return "nature" if shape and min(shape[:2]) >= _AUTO_SIZE else "mlp"
    if shape is None:
        raise UsageError(f"torso={torso!r} needs pictures, arrays of three axes, and these observations are none; choose mlp")
    least = CONVOLUTIONAL[torso].least_size()
    if min(shape[:2]) < least:
        size = f"{shape[0]} x {shape[1]}"
        raise UsageError(
            f"torso={torso!r} needs pictures of at least {least} x {least}, not {size}; choose a smaller one, or mlp"
        )
    return torso


def check_blocks(torso: str, name: str, hidden: Sequence[int]) -> None:
    """Refuses hidden layers that "simba" can make no blocks of.

    Args:
      name: of the field.

    Raises:
      UsageError: there are none, or they have not all as many units.
    """
    if torso == "simba" and len(set(hidden)) != 1:
        raise UsageError(f"{name}={tuple(hidden)} are no residual blocks of torso='simba'; give each the same number of units")


def _check_axes(torso: str, spec: ArraySpec | TreeSpec) -> None:
    """Refuses three axes of which the spec does not say whether they are those of a picture, if convolutions may see them."""
    if not isinstance(spec, ArraySpec) or len(spec.shape) != 3 or spec.picture is not None or spec.num_values is not None:
        return
    if torso != "auto" or sorted(spec.shape)[1] >= _AUTO_SIZE:
        raise UsageError(
            f"torso={torso!r} cannot tell what the axes of observations {spec.shape} are; say picture='HWC' or 'CHW' (and "
            "scale=255.0 of bytes) in their ArraySpec, or --env-option channels_first=true of Gymnasium, or choose torso=mlp"
        )
