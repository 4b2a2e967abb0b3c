"""Running mean and variance, merged batch by batch in a numerically safe way, as a pure state.

An agent that normalises observations keeps a `Moments` in its state, so that it is checkpointed, vmapped and used unchanged
when the policy is evaluated.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.types import Array


class Moments(NamedTuple):
    """Mean and (population) variance of everything seen.

    Attributes:
      mean: [...] float32.
      variance: [...] float32; 1 before anything was seen.
      num_samples: [] float32, samples seen.
    """

    mean: Array
    variance: Array
    num_samples: Array


def init_moments(shape: tuple[int, ...]) -> Moments:
    """Moments of nothing: mean 0, variance 1, so that `normalize` starts as the identity."""
    return Moments(jnp.zeros(shape), jnp.ones(shape), jnp.zeros(()))


def update_moments(moments: Moments, batch: Array) -> Moments:
    """Merges a batch into the moments.

    Args:
      batch: [..., *shape]; all leading axes are samples.

    Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances", eq. 2.1.
    """
    axes = tuple(range(batch.ndim - moments.mean.ndim))
    batch = batch.astype(jnp.float32)
    size = jnp.float32(batch.size // max(moments.mean.size, 1))
    mean, variance = jnp.mean(batch, axes), jnp.var(batch, axes)
    total = moments.num_samples + size
    delta = mean - moments.mean
    seen = jnp.where(moments.num_samples > 0, moments.variance, 0.0) * moments.num_samples
    merged = seen + variance * size + jnp.square(delta) * moments.num_samples * size / total
    return Moments(moments.mean + delta * size / total, merged / total, total)


def normalize(moments: Moments, x: Array, clip: float = 10.0) -> Array:
    """(x - mean) / deviation, clipped to [-clip, clip]; `x`: [..., *shape]."""
    return jnp.clip((x - moments.mean) / jnp.sqrt(moments.variance + 1e-8), -clip, clip)
