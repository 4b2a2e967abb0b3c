"""Exploration: how a greedy preference becomes an action that tries things."""

from __future__ import annotations

from typing import NamedTuple

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
    return moved(jax.random.normal(key, action.shape, jnp.float32), action, std, clip)


def moved(noise: Array, action: Array, std: Array | float, clip: Array | float | None = None) -> Array:
    """`with_noise` of standard normal noise [...] that is drawn already."""
    check_shape((), std=std)
    noise = std * noise
    if clip is not None:
        check_shape((), clip=clip)
        noise = jnp.clip(noise, -clip, clip)
    return jnp.clip(action + noise, -1.0, 1.0)


class Noise(NamedTuple):
    """Normal noise that lasts, of B environments.

    Attributes:
      value: [B, ...] of the last step, standard normal.
      is_new: [B] bool, no step of the episode was taken yet, and `value` means nothing.
    """

    value: Array
    is_new: Array


def no_noise(num_envs: int, shape: tuple[int, ...]) -> Noise:
    """Before the first step of each episode."""
    return Noise(jnp.zeros((num_envs, *shape), jnp.float32), jnp.ones(num_envs, bool))


def lasting(fresh: Array, before: Noise, correlation: Array | float) -> Noise:
    """The next noise: c times the last one and sqrt(1 - c^2) times a fresh one, so that each is standard normal again.

    Args:
      fresh: [B, ...] standard normal.
      before: of the step before.
      correlation: [] c in [0, 1) of one step's noise with the next one's; over k steps it is c^k.

    References:
      Wawrzynski 2015, "Control Policy with Autocorrelated Noise in Reinforcement Learning for Robotics"; an Ornstein-Uhlenbeck
      process of unit steps, as of Lillicrap et al. 2016, that is stationary from the start.
    """
    check_shape((), correlation=correlation)
    check_shape(fresh.shape, value=before.value)
    mixed = correlation * before.value + jnp.sqrt(1.0 - jnp.square(jnp.float32(correlation))) * fresh
    is_new = before.is_new.reshape(before.is_new.shape + (1,) * (fresh.ndim - before.is_new.ndim))
    return Noise(jnp.where(is_new, fresh, mixed), jnp.zeros_like(before.is_new))


def uniform_of(noise: Array) -> Array:
    """[...] in [-1, 1], uniform where the noise [...] is standard normal: 2 Phi(noise) - 1."""
    return jax.lax.erf(noise / jnp.sqrt(jnp.float32(2.0)))
