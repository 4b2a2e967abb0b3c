"""A random order whose places are computed one by one, so that nothing of the order has to be stored."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.maths.checks import check_type
from jaxrl.types import Array

_ROUNDS = 16  # Even, so that the halves end where they began.


def permuted(key: Array, index: Array, size: int) -> Array:
    """Which of 0 .. size - 1 stands at each place of an order that `key` draws: one-to-one on 0 .. size - 1.

    A Feistel network on the numbers of as many bits as `size - 1` has, walked on from numbers that are out of range: less than
    two walks on average.

    Args:
      key: of the order, such as that of an epoch.
      index: [...] int32 places in the order, 0 .. size - 1.
      size: items, static.

    Returns:
      [...] int32.

    References:
      Luby and Rackoff 1988, "How to Construct Pseudorandom Permutations from Pseudorandom Functions"; Black and Rogaway 2002,
      "Ciphers with Arbitrary Finite Domains", section 3 (walking).
    """
    check_type(int, index=index)
    bits = max(size - 1, 0).bit_length()
    keys = jax.random.bits(key, (_ROUNDS,), jnp.uint32)

    def once(x: Array) -> Array:
        low = bits - bits // 2
        left, right = x >> low, x & jnp.uint32(2**low - 1)
        for number in range(_ROUNDS):
            width = (bits // 2, low)[number % 2]  # Of the left half, which is replaced.
            left, right = right, left ^ (_mixed(right ^ keys[number]) & jnp.uint32(2**width - 1))
        return left << low | right

    def outside(x: Array) -> Array:
        return x >= jnp.uint32(size)

    found = once(index.astype(jnp.uint32))
    found = jax.lax.while_loop(lambda x: jnp.any(outside(x)), lambda x: jnp.where(outside(x), once(x), x), found)
    return found.astype(jnp.int32)


def _mixed(x: Array) -> Array:
    """A hash of 32 bits in which each bit depends on all: multiply and shift, with odd constants."""
    for factor, shift in ((0x9E3779B1, 15), (0x85EBCA6B, 13), (0xC2B2AE35, 16)):
        x = x * jnp.uint32(factor)
        x = x ^ (x >> shift)
    return x
