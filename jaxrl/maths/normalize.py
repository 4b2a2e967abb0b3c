"""Running mean and variance, merged batch by batch in a numerically safe way, as a pure state.

An agent that normalises observations keeps a `Moments` in its state, so that it is checkpointed, vmapped and used unchanged
when the policy is evaluated.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.maths.checks import check_equal_shape, check_shape, check_type
from jaxrl.maths.returns import recurrence
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
    return Moments(jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32), jnp.zeros((), jnp.float32))


def update_moments(moments: Moments, batch: Array) -> Moments:
    """Merges a batch into the moments.

    Args:
      moments: of arrays [*shape].
      batch: [..., *shape]; all leading axes are samples.

    References:
      Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances", eq. 2.1.
    """
    _check(moments, batch=batch)
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
    """(x - mean) / deviation, clipped to [-clip, clip].

    Args:
      moments: of arrays [*shape].
      x: [..., *shape].

    Returns:
      [..., *shape].
    """
    _check(moments, x=x)
    return jnp.clip((x - moments.mean) / jnp.sqrt(moments.variance + 1e-8), -clip, clip)


def _check(moments: Moments, **arrays: Array) -> None:
    """The moments are of one shape, with which all arrays end."""
    check_equal_shape(mean=moments.mean, variance=moments.variance)
    check_shape((..., *moments.mean.shape), **arrays)


class RewardScale(NamedTuple):
    """What an agent carries to scale rewards.

    Attributes:
      running: [B] discounted sum of the running episode's rewards.
      moments: [] of all such sums.
    """

    running: Array
    moments: Moments


def init_reward_scale(num_envs: int) -> RewardScale:
    """The scale before any reward was seen, 1."""
    return RewardScale(jnp.zeros(num_envs, jnp.float32), init_moments(()))


def scale_rewards(
    scale: RewardScale, reward: Array, ended: Array, gamma: Array | float, clip: float = 10.0
) -> tuple[RewardScale, Array]:
    """Rewards over the running deviation of the discounted return, clipped to [-clip, clip]; the mean is not taken away.

    Args:
      scale: of B environments.
      reward: [T, B].
      ended: [T, B] bool; the sum starts again after an end.
      gamma: [] discount of the sum.

    Returns:
      The scale with these T steps merged, and [T, B] rewards scaled by it.

    References:
      Engstrom et al. 2020, "Implementation Matters in Deep RL", appendix A.1; there each step is merged alone, here a whole
      rollout at once.
    """
    check_shape((None, *scale.running.shape), reward=reward)
    check_equal_shape(reward=reward, ended=ended)
    check_type(bool, ended=ended)
    check_shape((), gamma=gamma)
    carries = jnp.concatenate([jnp.ones_like(reward[:1]), 1.0 - ended[:-1].astype(jnp.float32)])
    sums = recurrence(gamma * carries, reward.at[0].add(gamma * scale.running), reverse=False)
    moments = update_moments(scale.moments, sums)
    scaled = jnp.clip(reward / jnp.sqrt(moments.variance + 1e-8), -clip, clip)
    return RewardScale(jnp.where(ended[-1], 0.0, sums[-1]), moments), scaled
