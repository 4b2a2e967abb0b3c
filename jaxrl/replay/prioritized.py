"""Places drawn in proportion to priorities: a tree of sums as a few arrays, beside whatever ring the places are of.

    priorities = init(1_000_000)
    priorities = put(priorities, places, values)                    # [N] and [N]; others keep theirs
    place, probability = sample(key, priorities, (8, 128))          # 8 minibatches of 128

Each node has `WIDTH` = 32 children, so a million places are four arrays and a walk of four steps. A binary tree takes twenty,
each of which is a kernel on a GPU and a few operations on a CPU (`benchmarks/replay.py` has times). Sums are made anew of what
is below, so rounding never adds up, and every step of a walk draws bits of its own: one float32 for all would be too coarse to
tell a million places apart.

Schaul et al. 2016, "Prioritized Experience Replay", section 3.3 and appendix B.2.1 (proportional, one draw a stratum).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.maths.checks import check_equal_shape, check_type
from jaxrl.types import Array

WIDTH = 32
"""Children of a node."""

MIN_ERROR = 1e-6
"""Added to the size of an error, so that a transition without one can be drawn again."""


class Priorities(NamedTuple):
    """What each place of a ring weighs.

    Attributes:
      sums: what places weigh, then the sums of 32 of those, and so on, [L_0], [L_1], ...; all but the last are filled up with
        zeros to a multiple of 32.
      greatest: [] float32, the largest size of an error so far, 1 at first: that of what is new.
    """

    sums: tuple[Array, ...]
    greatest: Array


def init(num_places: int) -> Priorities:
    """Of so many places none can be drawn yet."""
    sizes = [_rounded(num_places)]
    while sizes[-1] > WIDTH:
        number = sizes[-1] // WIDTH
        sizes.append(number if number <= WIDTH else _rounded(number))
    return Priorities(tuple(jnp.zeros(size, jnp.float32) for size in sizes), jnp.float32(1.0))


def _rounded(number: int) -> int:
    return -(-number // WIDTH) * WIDTH


def put(priorities: Priorities, place: Array, value: Array) -> Priorities:
    """Sets what places weigh; 0 keeps a place from being drawn.

    Args:
      place: [N] int32 without repetition; what lies outside of the ring is left out.
      value: [N] at least 0.
    """
    check_equal_shape(place=place, value=value)
    check_type(int, place=place)
    sums = list(priorities.sums)
    sums[0] = sums[0].at[place].set(value, mode="drop")
    for level in range(1, len(sums)):
        below = sums[level - 1].reshape(-1, WIDTH)
        place = jnp.minimum(place // WIDTH, below.shape[0] - 1)  # The sum of a place outside is made anew of what it was.
        sums[level] = sums[level].at[place].set(jnp.sum(below[place], axis=-1))
    return priorities._replace(sums=tuple(sums))


def put_new(priorities: Priorities, place: Array, is_drawn: Array, exponent: Array | float) -> Priorities:
    """Sets places [N] to the greatest priority so far, and to 0 where nothing that `is_drawn` [N] starts there."""
    return put(priorities, place, jnp.where(is_drawn, priorities.greatest**exponent, 0.0))


def feed(priorities: Priorities, place: Array, error: Array, exponent: Array | float) -> Priorities:
    """Sets places to p^exponent, p = |error| + `MIN_ERROR`; of a place drawn more than once the largest error counts. A place
    that weighs nothing could not be drawn, and stays so.

    Args:
      place: [...] int32, places that were drawn.
      error: [...] TD errors.
    """
    check_equal_shape(place=place, error=error)
    place, size = place.reshape(-1), jnp.abs(error).reshape(-1) + MIN_ERROR
    size = jnp.where(priorities.sums[0].at[place].get(mode="fill", fill_value=0.0) > 0.0, size, 0.0)
    # Equal values at equal places: which of them is written last makes no difference.
    size = jnp.max(jnp.where(place[:, None] == place, size, 0.0), axis=-1)
    greatest = jnp.maximum(priorities.greatest, jnp.max(size))
    return put(priorities._replace(greatest=greatest), place, jnp.where(size > 0.0, size**exponent, 0.0))


def sample(key: Array, priorities: Priorities, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Places with probability p_i / sum_j p_j each, and these probabilities; int32 and float32 of `shape`.

    Along the last axis one is drawn of each of as many equal parts of the sum, which leaves less to chance. Where nothing can
    be drawn the answer is the last place of the tree, with probability 0.
    """
    count = shape[-1]
    draws = jax.random.uniform(key, (len(priorities.sums), math.prod(shape)), jnp.float32)
    stratum = jnp.arange(math.prod(shape), dtype=jnp.int32) % count
    root = priorities.sums[-1]
    place = _pick((stratum + draws[0]) / count, root)
    weight = root[place]
    for draw, sums in zip(draws[1:], priorities.sums[-2::-1], strict=True):
        children = sums.reshape(-1, WIDTH)[place]
        child = _pick(draw, children)
        place = place * WIDTH + child
        weight = jnp.take_along_axis(children, child[:, None], axis=-1)[:, 0]
    probability = weight / jnp.maximum(jnp.sum(root), jnp.finfo(jnp.float32).tiny)
    return place.reshape(shape), probability.reshape(shape)


def _pick(draw: Array, weights: Array) -> Array:
    """[N] int32, index i of weights [N, W] or [W] with probability w_i / sum w, for a `draw` [N] that is uniform in [0, 1)."""
    width = weights.shape[-1]
    # A product with ones below the diagonal, faster than a running sum. Rounding may take a sum a little below the one before,
    # so only what has weight is looked at, and the draw ends below the largest.
    total = jnp.matmul(weights, jnp.triu(jnp.ones((width, width), jnp.float32)), precision="highest")
    total = jnp.where(weights > 0.0, total, 0.0)
    target = jnp.minimum(draw, 1.0 - 2.0**-22) * jnp.max(total, axis=-1)
    return jnp.min(jnp.where(total > target[:, None], jnp.arange(width, dtype=jnp.int32), width - 1), axis=-1)


def importance_weights(probability: Array, beta: Array | float) -> Array:
    """w_i / max_j w_j with w_i = (N P(i))^-beta, over each minibatch; the size N of the replay cancels.

    Args:
      probability: [..., K] P(i) of each member of a minibatch of K.
      beta: [] in [0, 1]; 1 takes the whole bias back that drawing by priority brings.

    Returns:
      [..., K] in (0, 1], and 0 of what could not be drawn.

    References:
      Schaul et al. 2016, "Prioritized Experience Replay", section 3.4.
    """
    least = jnp.min(probability, axis=-1, keepdims=True)
    weight = (least / jnp.maximum(probability, jnp.finfo(jnp.float32).tiny)) ** beta
    return jnp.where(probability > 0.0, weight, 0.0)
