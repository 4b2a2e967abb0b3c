"""Exploration: how a greedy preference becomes an action that tries things."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.maths.checks import check_shape
from jaxrl.types import Array


def epsilon_greedy(key: Array, preferences: Array, epsilon: Array | float) -> Array:
    """The best action, or with probability `epsilon` a uniformly random one.

    Args:
      key: consumed.
      preferences: [..., A] action values.
      epsilon: [] or [...] in [0, 1].

    Returns:
      [...] int32. Ties go to the lowest index.

    References:
      Sutton & Barto 2018, section 2.2.
    """
    check_shape((), preferences.shape[:-1], epsilon=epsilon)
    greedy = jnp.argmax(preferences, axis=-1).astype(jnp.int32)
    num_actions = preferences.shape[-1]
    draws = jax.random.uniform(key, (2, *greedy.shape))
    random = jnp.minimum((draws[0] * num_actions).astype(jnp.int32), num_actions - 1)
    return jnp.where(draws[1] < epsilon, random, greedy)
