"""Convolutions with one set of parameters and two ways to compute them: XLA's own, and matrix products, fast on a CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.types import Array

MAX_PARTS = 4
"""Squares of a window up to which their products are added up: more of them would multiply much that falls outside."""


class Conv(nn.Module):
    """A convolution without padding whose parameters are those of `flax.linen.Conv`: the checkpoints of either fit the other.

    On a CPU, XLA's convolution inside a scan takes 13 times as long as a matrix product of the same size; there this is one.

    Attributes:
      features: filters.
      kernel_size: height and width of the window.
      strides: steps of the window down and to the right.
      kernel_init: initialiser of the weights.
      native: XLA's convolution (True) or a matrix product (False); None is native wherever JAX's default backend is no CPU.
      native_forward: with a stride of 1, a matrix product for gradients alone, see `forward_convolution`.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    native: bool | None = None
    native_forward: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., H, W, C] -> [..., (H - h) // stride + 1, (W - w) // stride + 1, features]; bytes are scaled to [0, 1]."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        native = jax.default_backend() != "cpu" if self.native is None else self.native
        leading, picture = x.shape[:-3], x.shape[-3:]
        x = x.reshape(math.prod(leading), *picture)
        if self.native_forward and not native and self.strides == (1, 1):
            y = forward_convolution(to_float(x), kernel)
        else:
            y = (native_convolution if native else product_convolution)(x, kernel, self.strides)
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


@jax.custom_vjp
def forward_convolution(x: Array, kernel: Array) -> Array:
    """`native_convolution` with a stride of 1, whose gradients are another such convolution and matrix products.

    On a CPU, XLA's convolution of a board takes half as long as `product_convolution`, and inside a loop its own gradients take
    15 times as long as these.
    """
    return _native_of_one(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _native_of_one(x, kernel), (x, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = kept
    (h, w, channels, features), (height, width) = kernel.shape, gradient.shape[1:3]
    around = jnp.pad(gradient, ((0, 0), (h - 1, h - 1), (w - 1, w - 1), (0, 0)))
    # Each input is seen by the outputs around it, through the window turned by half a circle.
    to_x = _native_of_one(around, kernel[::-1, ::-1].transpose(0, 1, 3, 2))
    rows = gradient.reshape(-1, features)

    def product(i: int, j: int) -> Array:
        """Of the kernel's square (i, j). The barrier keeps XLA from reading the shifted picture element by element."""
        seen = jax.lax.optimization_barrier(x[:, i : i + height, j : j + width].reshape(-1, channels))
        return seen.T @ rows

    to_kernel = jnp.stack([product(i, j) for i in range(h) for j in range(w)])
    return to_x, to_kernel.reshape(kernel.shape)


forward_convolution.defvjp(_forward, _backward)


def _native_of_one(x: Array, kernel: Array) -> Array:
    """`native_convolution` with a stride of 1; products under `vmap` with many kernels, since XLA's groups are slow."""

    @jax.custom_batching.custom_vmap
    def convolve(x: Array, kernel: Array) -> Array:
        return native_convolution(x, kernel, (1, 1))

    @convolve.def_vmap
    def _(size: int, batched: list[bool], x: Array, kernel: Array) -> tuple[Array, bool]:
        if batched[1]:
            axes = tuple(0 if axis else None for axis in batched)
            return jax.vmap(lambda x, kernel: product_convolution(x, kernel, (1, 1)), axes)(x, kernel), True
        y = convolve(x.reshape(-1, *x.shape[2:]), kernel)
        return y.reshape(*x.shape[:2], *y.shape[1:]), True

    return convolve(x, kernel)


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


def to_float(x: Array) -> Array:
    """As float32; bytes are scaled to [0, 1]."""
    return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x.astype(jnp.float32)
