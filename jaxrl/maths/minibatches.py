"""Minibatches of a rollout: random orders, passes over them, and means over the items that count."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.maths.checks import check_equal_shape, check_shape
from jaxrl.types import Array


def weighted_mean(values: Array, weight: Array) -> Array:
    """sum(weight * values) / sum(weight) over all axes, [].

    Args:
      values: [...].
      weight: [...], 0 for entries that do not count.
    """
    check_equal_shape(values=values, weight=weight)
    return jnp.sum(weight * values) / jnp.maximum(jnp.sum(weight), 1e-8)


def standardize(values: Array, weight: Array | float = 1.0) -> Array:
    """(values - mean) / (deviation + 1e-8) over all axes; zero where all values are equal.

    Args:
      values: [...].
      weight: [] or [...], 0 for entries that do not count.

    Returns:
      [...].
    """
    check_shape((), values.shape, weight=weight)
    weight = jnp.broadcast_to(weight, values.shape)
    centred = values - weighted_mean(values, weight)
    return centred / (jnp.sqrt(weighted_mean(jnp.square(centred), weight)) + 1e-8)


def explained_variance(target: Array, value: Array, weight: Array | float = 1.0) -> Array:
    """1 - Var(target - value) / Var(target), 0 where the targets do not vary: 1 is a perfect critic, 0 a constant one.

    Args:
      target: [...] what the critic is fitted to.
      value: [...] what it says.
      weight: [] or [...], 0 for entries that do not count.

    Returns:
      [].
    """
    check_equal_shape(target=target, value=value)
    check_shape((), target.shape, weight=weight)
    weight = jnp.broadcast_to(weight, target.shape)

    def variance(x: Array) -> Array:
        return weighted_mean(jnp.square(x - weighted_mean(x, weight)), weight)

    total = variance(target)
    return jnp.where(total > 1e-8, 1.0 - variance(target - value) / jnp.maximum(total, 1e-8), 0.0)


def until_target(learn: Any, target_kl: float) -> Any:
    """`learn` with a flag beside its carry that, once a minibatch has found the KL divergence above the target, skips the rest.

    The minibatch that finds it takes no step.

    Args:
      learn: (carry, batch) -> (carry, metrics), where metrics["approx_kl"] is [].
      target_kl: in nats.

    Returns:
      ((carry, flag), batch) -> ((carry, flag), metrics), where metrics["taken"] is 1.0 for a step taken, else 0.0.
    """

    def one(carry: tuple[Any, Array], batch: Any) -> tuple[tuple[Any, Array], dict[str, Array]]:
        changed, metrics = learn(carry[0], batch)
        check_shape((), approx_kl=metrics["approx_kl"])
        stopped = carry[1] | (metrics["approx_kl"] > target_kl)
        kept = jax.tree.map(lambda old, new: jnp.where(stopped, old, new), carry[0], changed)
        return (kept, stopped), metrics | {"taken": 1.0 - stopped}

    return one


def permutations(key: Array, num: int, size: int) -> Array:
    """Random orders of 0 .. size - 1, [num, size] int32, in a quarter of the time of as many `jax.random.permutation`s.

    Each is one sort of random words whose low bits hold the index. Two words may agree in all other bits (for 512 items in one
    order of 64); these two keep their order.

    Args:
      num: orders, static.
      size: length of each, static.
    """
    index_bits = max(size - 1, 1).bit_length()
    if index_bits > 16:
        return jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, num))
    mask = jnp.uint32(2**index_bits - 1)
    words = jax.random.bits(key, (num, size), jnp.uint32) & ~mask | jnp.arange(size, dtype=jnp.uint32)
    return (jnp.sort(words, axis=-1, stable=False) & mask).astype(jnp.int32)
