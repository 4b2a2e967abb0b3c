"""Exploration: how a greedy preference becomes an action that tries things."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.maths.checks import check_shape
from jaxrl.types import Array


def random_legal(key: Array, legal: Array) -> Array:
    """A uniformly random legal action.

    Args:
      key: consumed.
      legal: [..., A] bool, at least one of them in each row.

    Returns:
      [...] int32.
    """
    return _legal_at(jax.random.uniform(key, legal.shape[:-1]), legal)


def _legal_at(draw: Array, legal: Array) -> Array:
    """[...] int32 the legal action at `draw` [...] in [0, 1) of the way through them all."""
    number = jnp.cumsum(legal, axis=-1)
    rank = jnp.minimum((draw * number[..., -1]).astype(jnp.int32), number[..., -1] - 1)
    return jnp.argmax(number > rank[..., None], axis=-1).astype(jnp.int32)


def epsilon_greedy(key: Array, preferences: Array, epsilon: Array | float, legal: Array | None = None) -> Array:
    """The best action, or with probability `epsilon` a uniformly random legal one.

    Args:
      key: consumed.
      preferences: [..., A] action values.
      epsilon: [] or [...] in [0, 1].
      legal: [..., A] bool, at least one of them in each row, where the preferences of all others are lower; None if all are.

    Returns:
      [...] int32. Ties go to the lowest index.

    References:
      Sutton & Barto 2018, section 2.2.
    """
    check_shape((), preferences.shape[:-1], epsilon=epsilon)
    greedy = jnp.argmax(preferences, axis=-1).astype(jnp.int32)
    num_actions = preferences.shape[-1]
    draws = jax.random.uniform(key, (2, *greedy.shape))
    if legal is None:
        random = jnp.minimum((draws[0] * num_actions).astype(jnp.int32), num_actions - 1)
    else:
        check_shape(preferences.shape, legal=legal)
        random = _legal_at(draws[0], legal)
    return jnp.where(draws[1] < epsilon, random, greedy)


def with_noise(key: Array, action: Array, std: Array | float, clip: Array | float | None = None) -> Array:
    """Actions of a box with normal noise on every component, held within the box.

    Args:
      key: consumed.
      action: [...] in [-1, 1].
      std: [] standard deviation of the noise.
      clip: [] the noise stays within [-clip, clip]; None leaves it as it is drawn.

    Returns:
      [...] in [-1, 1].

    References:
      Fujimoto, van Hoof and Meger 2018, "Addressing Function Approximation Error in Actor-Critic Methods", Algorithm 1.
    """
    check_shape((), std=std)
    noise = std * jax.random.normal(key, action.shape, jnp.float32)
    if clip is not None:
        check_shape((), clip=clip)
        noise = jnp.clip(noise, -clip, clip)
    return jnp.clip(action + noise, -1.0, 1.0)
