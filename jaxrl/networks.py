"""Linen modules that agents are built of.

An agent's config names a torso, which `torso_of` resolves for an environment: "mlp" sees vectors, the others are convolutional
and see pictures. `inputs` turns observations into what that torso sees.

No initialiser here calls LAPACK: a batched QR inside a vmapped population can deadlock on CPU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.types import Array, ArraySpec, PyTree, TreeSpec, UsageError, flat_size

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "tanh": nn.tanh, "elu": nn.elu, "gelu": nn.gelu}


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


class Conv(nn.Module):
    """A convolution without padding whose parameters are those of `flax.linen.Conv`: the checkpoints of either fit the other.

    On a CPU, XLA's convolution inside a scan takes 13 times as long as a matrix product of the same size; there this is one.

    Attributes:
      features: filters.
      kernel_size: height and width of the window.
      strides: steps of the window down and to the right.
      kernel_init: initialiser of the weights.
      native: XLA's convolution (True) or a matrix product (False); None is native wherever JAX's default backend is no CPU.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    native: bool | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., H, W, C] -> [..., (H - h) // stride + 1, (W - w) // stride + 1, features]; bytes are scaled to [0, 1]."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        native = jax.default_backend() != "cpu" if self.native is None else self.native
        convolve = native_convolution if native else product_convolution
        leading, picture = x.shape[:-3], x.shape[-3:]
        y = convolve(x.reshape(math.prod(leading), *picture), kernel, self.strides)
        return y.reshape(*leading, *y.shape[1:]) + bias


def native_convolution(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
    """XLA's convolution without padding.

    Args:
      x: [N, H, W, C].
      kernel: [h, w, C, features].
    """
    return jax.lax.conv_general_dilated(to_float(x), kernel, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def product_convolution(x: Array, kernel: Array, strides: tuple[int, int]) -> Array:
    """`native_convolution` as one matrix product.

    Where the stride s divides the window, squares of s x s pixels first become the channels of one, so that a window of 8 x 8
    at stride 4 is four squares. A window of few squares is a sum over its parts: every square is multiplied by all parts of the
    kernel at once, and the products are added up shifted. A window of many is copied out, as a row of h w C numbers.
    """
    (h, w, _, _), (down, right) = kernel.shape, strides
    height, width = (x.shape[1] - h) // down + 1, (x.shape[2] - w) // right + 1
    block = strides if h % down == 0 and w % right == 0 else (1, 1)
    squares = to_float(to_squares(x[:, : (height - 1) * down + h, : (width - 1) * right + w], block))
    step = (down // block[0], right // block[1])
    window = (h // block[0], w // block[1])

    def shifted(y: Array, i: int, j: int) -> Array:
        """What stands i squares down and j to the right of the first square of each window."""
        return y[:, i : i + (height - 1) * step[0] + 1 : step[0], j : j + (width - 1) * step[1] + 1 : step[1]]

    places = [(i, j) for i in range(window[0]) for j in range(window[1])]
    # [features, window, window, a b C]
    parts = to_squares(kernel.transpose(3, 0, 1, 2), block)
    if len(places) > MAX_PARTS:
        patches = jnp.concatenate([shifted(squares, i, j) for i, j in places], axis=-1)
        return patches @ parts.reshape(parts.shape[0], -1).T
    features, size = parts.shape[0], parts.shape[-1]
    # The barrier and two axes keep XLA from making the squares anew, element by element, inside each product.
    rows = jax.lax.optimization_barrier(squares.reshape(-1, size))
    products = rows @ parts.transpose(3, 1, 2, 0).reshape(size, len(places) * features)
    # Split, not indexed: the derivative of a split is a concatenation.
    terms = jax.lax.split(products.reshape(*squares.shape[:-1], -1), [features] * len(places), axis=3)
    return functools.reduce(jnp.add, (shifted(term, i, j) for term, (i, j) in zip(terms, places, strict=True)))


MAX_PARTS = 4
"""Squares of a window up to which their products are added up: more of them would multiply much that falls outside."""


def to_squares(x: Array, block: tuple[int, int]) -> Array:
    """[N, H, W, C] -> [N, H / a, W / b, a b C]: the pixels of each rectangle of `block` = (a, b) as channels of one.

    The order of these depends on C alone: up to four come frame by frame, since such pictures are mostly stacks of frames,
    which lie so in memory; their bytes are moved four at a time.
    """
    num, height, width, channels = x.shape
    a, b = block
    if channels > 4:
        cut = x.reshape(num, height // a, a, width // b, b, channels).transpose(0, 1, 3, 2, 4, 5)
    else:
        cut = jnp.moveaxis(x, -1, 1).reshape(num, channels, height // a, a, width // b, b)
        if x.dtype == jnp.uint8 and b == 4:
            words = jax.lax.bitcast_convert_type(cut, jnp.uint32).transpose(0, 2, 4, 1, 3)
            cut = jax.lax.bitcast_convert_type(jax.lax.optimization_barrier(words), jnp.uint8)
        else:
            cut = cut.transpose(0, 2, 4, 1, 3, 5)
    return cut.reshape(num, height // a, width // b, a * b * channels)


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
TORSOS = ("auto", "mlp", *CONVOLUTIONAL)
TORSO_HELP = (
    "What turns observations into features: mlp (the hidden layers), or in their place the convolutions of nature, atari2013 "
    "or minatar; auto is nature for pictures of at least 36 x 36, else mlp."
)


class Torso(nn.Module):
    """Convolutions and a dense layer, a rectifier after each.

    Attributes:
      kind: a name in `CONVOLUTIONAL`.
      kernel_init: initialiser of the weights.
    """

    kind: str
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Pictures [..., H, W, C] -> [..., units]; bytes are scaled to [0, 1]."""
        layers, units = CONVOLUTIONAL[self.kind]
        for filters, window, stride in layers:
            x = nn.relu(Conv(filters, (window, window), (stride, stride), self.kernel_init)(x))
        x = x.reshape(*x.shape[:-3], math.prod(x.shape[-3:]))
        return nn.relu(nn.Dense(units, kernel_init=self.kernel_init)(x))


def make_torso(kind: str, hidden: Sequence[int], activation: str, kernel_init: Callable[..., Array]) -> nn.Module:
    """The hidden layers ("mlp"), or the convolutions that stand in their place."""
    return MLP(hidden, activation, kernel_init) if kind == "mlp" else Torso(kind, kernel_init)


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


def to_float(x: Array) -> Array:
    """As float32; bytes are scaled to [0, 1]."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x.astype(jnp.float32)


def picture_shape(spec: ArraySpec | TreeSpec) -> tuple[int, int, int] | None:
    """(H, W, C) of an observation that is a picture, an array of three axes; None of any other.

    The channels are the first axis where it is shorter than the last, as in a stack of frames [4, 84, 84], else the last, as in
    [84, 84, 3] and [10, 10, 4].
    """
    if not isinstance(spec, ArraySpec) or len(spec.shape) != 3 or spec.num_values is not None:
        return None
    first, middle, last = spec.shape
    return (middle, last, first) if _channels_first(spec) else (first, middle, last)


def _channels_first(spec: ArraySpec) -> bool:
    return spec.shape[0] < spec.shape[-1]


def torso_of(torso: str, spec: ArraySpec | TreeSpec) -> str:
    """The torso of a config for observations of `spec`: "mlp" or a name in `CONVOLUTIONAL`.

    "auto" is "nature" for pictures large enough for it, else "mlp".

    Raises:
      UsageError: convolutions for what is no picture, or for one too small for them.
    """
    shape = picture_shape(spec)
    if torso == "auto":
        return "nature" if shape and min(shape[:2]) >= CONVOLUTIONAL["nature"].least_size() else "mlp"
    if torso == "mlp":
        return torso
    if shape is None:
        raise UsageError(f"torso={torso!r} needs pictures, arrays of three axes, and these observations are none; choose mlp")
    least = CONVOLUTIONAL[torso].least_size()
    if min(shape[:2]) < least:
        size = f"{shape[0]} x {shape[1]}"
        raise UsageError(
            f"torso={torso!r} needs pictures of at least {least} x {least}, not {size}; choose a smaller one, or mlp"
        )
    return torso


def inputs(obs: PyTree, spec: ArraySpec | TreeSpec, torso: str) -> Array:
    """What a torso sees of observations [..., *shape]: "mlp" vectors [..., F], others pictures [..., H, W, C] as they are."""
    if torso == "mlp":
        return flatten(obs, spec)
    assert isinstance(spec, ArraySpec)
    return jnp.moveaxis(obs, -3, -1) if _channels_first(spec) else obs


def array_obs(spec: object, agent: str) -> ArraySpec:
    """The spec of an observation that must be one array.

    Raises:
      UsageError: the observation is a tree of arrays.
    """
    if not isinstance(spec, ArraySpec):
        raise UsageError(f"env: {agent} needs observations that are one array, not a tree; flatten them with map_observation")
    return spec
