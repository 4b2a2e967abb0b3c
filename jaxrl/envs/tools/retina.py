"""Pictures on the device, and what a retina sees of them: pure functions of one picture."""

from __future__ import annotations

from functools import reduce

import jax
import jax.numpy as jnp

from jaxrl.types import BYTE, Array


def retina(picture: Array, location: Array, size: int, num_scales: int) -> Array:
    """k squares around a point, each twice as wide as the one before and averaged down to the size of the smallest.

    The point is rounded to a corner of pixels; beyond the picture it is dark.

    Args:
      picture: [S, S] uint8, rows from top to bottom.
      location: [2] (x, y) from (-1, -1), the upper left corner of the picture, to (1, 1).
      size: g, the side of the smallest square in pixels.
      num_scales: k.

    Returns:
      [g, g, k] float32 from 0 to 1, the smallest square first.

    References:
      Mnih et al. 2014, "Recurrent Models of Visual Attention", section 4, "Retina and location encodings".
    """
    widest = size * 2 ** (num_scales - 1)
    before = widest // 2
    # Where the widest square begins, in the coordinates of the padded picture.
    x, y = jnp.round((location + 1.0) * (0.5 * picture.shape[0])).astype(jnp.int32)
    padded = jnp.pad(picture, ((before, widest - before), (before, widest - before)))
    seen = jax.lax.dynamic_slice(padded, (y, x), (widest, widest)).astype(jnp.int32)
    scales = []
    for scale in range(num_scales):
        width = 2**scale
        start = before - size * width // 2
        square = seen[start : start + size * width, start : start + size * width]
        # Adding up strided rows, and then columns, takes a quarter of the time of a mean over axes in between.
        rows = reduce(jnp.add, [square[row::width] for row in range(width)])
        total = reduce(jnp.add, [rows[:, column::width] for column in range(width)])
        scales.append(total.astype(jnp.float32) / width**2)
    return jnp.stack(scales, axis=-1) / BYTE


def placed(key: Array, digit: Array, side: int) -> Array:
    """`digit` [h, w] uint8 at a random place of a dark picture [side, side], wholly within."""
    corner = _corner(key, side, digit.shape)
    return jax.lax.dynamic_update_slice(jnp.zeros((side, side), jnp.uint8), digit, corner)


def cluttered(key: Array, picture: Array, digits: Array, num_pieces: int, piece: int) -> Array:
    """`picture` [S, S] uint8 with random squares of random digits added at random places, wholly within.

    Args:
      digits: [N, h, w] uint8 that pieces are taken of.
      num_pieces: of them.
      piece: the side of a square.

    References:
      Mnih et al. 2014, section 4.1.
    """

    def add(picture: Array, key: Array) -> tuple[Array, None]:
        key_digit, key_from, key_to = jax.random.split(key, 3)
        index = jax.random.randint(key_digit, (), 0, digits.shape[0])
        corner = _corner(key_from, digits.shape[1], (piece, piece), digits.shape[2])
        part = jax.lax.dynamic_slice(digits, (index, *corner), (1, piece, piece))[0]
        place = _corner(key_to, picture.shape[0], (piece, piece))
        below = jax.lax.dynamic_slice(picture, place, (piece, piece))
        added = below + jnp.minimum(part, jnp.uint8(255) - below)  # Bytes would wrap.
        return jax.lax.dynamic_update_slice(picture, added, place), None

    return jax.lax.scan(add, picture, jax.random.split(key, num_pieces))[0]


def _corner(key: Array, height: int, shape: tuple[int, ...], width: int | None = None) -> tuple[Array, Array]:
    """The upper left corner (row, column) of an array of `shape` at a random place within [height, width]."""
    free = jnp.array([height - shape[0], (width or height) - shape[1]])
    row, column = jax.random.randint(key, (2,), 0, free + 1)
    return row, column
