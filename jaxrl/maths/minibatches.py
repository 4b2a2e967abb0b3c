"""Minibatches of a rollout: random orders, passes over them, and means over the items that count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import parallel
from jaxrl.errors import UsageError
from jaxrl.maths.checks import check_equal_shape, check_shape
from jaxrl.types import Array, Metrics, PyTree


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


def swap_axes(tree: PyTree) -> PyTree:
    """[T, N, ...] of every leaf as [N, T, ...], and the other way round."""
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), tree)


def items(tree: PyTree, sequences: bool = False) -> PyTree:
    """[T, B, ...] of every leaf as items of a minibatch: transitions [T B, ...], or sequences [B, T, ...]."""
    return swap_axes(tree) if sequences else jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), tree)


def check_minibatches(num_minibatches: int, num_envs: int, length: int, sequences: bool = False) -> None:
    """Checks that minibatches divide what an iteration has of `items`.

    Raises:
      UsageError: they do not.
    """
    num, what = (num_envs, "num_envs") if sequences else (num_envs * length, "num_envs * rollout_length")
    if num % num_minibatches:
        raise UsageError(f"num_minibatches={num_minibatches} does not divide {what} = {num}; give a number that does")


Learn = Callable[[Any, PyTree], tuple[Any, Metrics]]
"""(carry, minibatch) -> (carry, metrics)."""


def epochs(
    key: Array,
    learn: Learn,
    carry: Any,
    data: PyTree,
    num_epochs: int,
    num_minibatches: int,
    target_kl: float | None = None,
    renew: Callable[[Any, PyTree], PyTree] = lambda carry, data: data,
) -> tuple[Any, Metrics]:
    """Passes over N items, each in a random order and cut into minibatches.

    Args:
      carry: parameters and optimizer state, whatever `learn` changes.
      data: leaves [N, ...]; `num_minibatches` divides N.
      target_kl: once a minibatch finds `metrics["approx_kl"]` above it, that one and all later ones take no step.
      renew: (carry, data) -> the data of a pass, by what `carry` is when it begins.

    Returns:
      The carry, and the means of the metrics over the steps that were taken; "updates_taken" is their share.
    """
    num_items = jax.tree.leaves(data)[0].shape[0]

    def epoch(carry: Any, order: Array) -> tuple[Any, Metrics]:
        items = renew(carry if target_kl is None else carry[0], data)
        batches = jax.tree.map(lambda leaf: leaf[order].reshape((num_minibatches, -1, *leaf.shape[1:])), items)
        batches = parallel.divide(batches, axis=1)
        return jax.lax.scan(learn if target_kl is None else until_target(learn, target_kl), carry, batches)

    carry = carry if target_kl is None else (carry, jnp.bool_(False))
    carry, metrics = jax.lax.scan(epoch, carry, permutations(key, num_epochs, num_items))
    taken = metrics.pop("taken", jnp.ones((num_epochs, num_minibatches), jnp.float32))
    means = {name: weighted_mean(value, taken) for name, value in metrics.items()}
    return carry if target_kl is None else carry[0], means | {"updates_taken": jnp.mean(taken)}


def until_target(learn: Learn, target_kl: float) -> Learn:
    """`learn` with a flag beside its carry that, once a minibatch has found the KL divergence above the target, skips the rest.

    The minibatch that finds it takes no step.

    Args:
      learn: (carry, batch) -> (carry, metrics), where metrics["approx_kl"] is [].
      target_kl: in nats.

    Returns:
      ((carry, flag), batch) -> ((carry, flag), metrics), where metrics["taken"] is 1.0 for a step taken, else 0.0.
    """

    def learn_or_skip(carry: tuple[Any, Array], batch: PyTree) -> tuple[tuple[Any, Array], Metrics]:
        changed, metrics = learn(carry[0], batch)
        check_shape((), approx_kl=metrics["approx_kl"])
        stopped = carry[1] | (metrics["approx_kl"] > target_kl)
        kept = jax.tree.map(lambda old, new: jnp.where(stopped, old, new), carry[0], changed)
        return (kept, stopped), metrics | {"taken": 1.0 - stopped}

    return learn_or_skip


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
