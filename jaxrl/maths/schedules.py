"""Schedules: plain functions of `Progress`, so that their ends, rates and lengths may be traced and swept.

Optax's own schedules need concrete lengths; the optimizers here are given the scalar that these functions return.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxrl.maths.checks import check_shape, check_type
from jaxrl.types import Array, Progress


def fraction_done(progress: Progress) -> Array:
    """Share of the run that is done, [] float32 in [0, 1]."""
    check_shape((), iteration=progress.iteration, num_iterations=progress.num_iterations)
    total = jnp.maximum(progress.num_iterations, 1).astype(jnp.float32)
    return progress.iteration.astype(jnp.float32) / total


def linear(progress: Progress, start: Array | float, end: Array | float, fraction: Array | float = 1.0) -> Array:
    """From `start` to `end` in a straight line over the first `fraction` of the run, then constant at `end`.

    Args:
      start: [].
      end: [].
      fraction: [] share of the run that the change takes; 0 means `end` from the first iteration on.

    Returns:
      [].
    """
    check_shape((), start=start, end=end, fraction=fraction)
    share = jnp.where(fraction > 0, fraction_done(progress) / jnp.maximum(fraction, 1e-8), 1.0)
    return start + (end - start) * jnp.clip(share, 0.0, 1.0)


def cosine(progress: Progress, start: Array | float, end: Array | float) -> Array:
    """From `start` to `end` along half a cosine over the whole run.

    Args:
      start: [].
      end: [].

    Returns:
      [].
    """
    check_shape((), start=start, end=end)
    weight = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(fraction_done(progress), 0.0, 1.0)))
    return end + (start - end) * weight


def is_due(progress: Progress, every: Array | int) -> Array:
    """True once every `every` iterations, counted from the start of the run ([] bool).

    Args:
      every: [] integer, at least 1.
    """
    check_shape((), iteration=progress.iteration, every=every)
    check_type(int, every=every)
    return (progress.iteration + 1) % every == 0
