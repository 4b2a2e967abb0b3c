"""Uniform experience replay: a ring of any pytree as JAX arrays, with pure `add` and `sample`.

    replay = init(example, capacity=10_000)           # example: one transition, no batch axis
    replay = add(replay, transitions)                 # [N, ...]
    batch = sample(key, replay, batch_size=128)       # [128, ...]

Lin 1992, "Self-improving reactive agents based on reinforcement learning, planning and teaching"; Mnih et al. 2013,
Algorithm 1.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxrl.types import Array, PyTree


class Transitions(NamedTuple):
    """What learning from replay sees, leaves [N, ...].

    Attributes:
      obs: observations.
      action: what was done.
      reward: of the step, or the discounted sum over n steps.
      discount: of the value behind it: gamma (to the power n), 0 where the MDP ended.
      next_obs: the true successor, after n steps where the reward is of n.
      extras: what `act` returned beside the action, where it was stored.
    """

    obs: PyTree
    action: PyTree
    reward: Array
    discount: Array
    next_obs: PyTree
    extras: PyTree = ()


class Replay(NamedTuple):
    """A ring of transitions.

    Attributes:
      data: pytree of [capacity, ...].
      insert: [] int32, where the next transition goes.
      size: [] int32, transitions held, at most the capacity.
    """

    data: PyTree
    insert: Array
    size: Array


def capacity_of(replay: Replay) -> int:
    """Number of transitions the ring can hold."""
    return jax.tree.leaves(replay.data)[0].shape[0]


def init(example: PyTree, capacity: int) -> Replay:
    """An empty ring for transitions like `example` (arrays or shapes, without batch axis)."""
    data = jax.tree.map(lambda leaf: jnp.zeros((capacity,) + tuple(leaf.shape), leaf.dtype), example)
    return Replay(data, jnp.int32(0), jnp.int32(0))


def add(replay: Replay, transitions: PyTree) -> Replay:
    """Stores N transitions over the oldest ones.

    Args:
      transitions: pytree of [N, ...], N at most the capacity.

    Every call brings the same N. Where the capacity is a multiple of it, the rows never cross the ring's seam and the write
    is one contiguous copy; else each row finds its own place. Neither copies the ring inside a loop or a donated call: the rows
    are written in two halves (of one row, twice the same) by a loop, since XLA would fuse a write outside of one with the
    reading that follows, and keep a copy of the ring for it.
    """
    capacity = capacity_of(replay)
    num = jax.tree.leaves(transitions)[0].shape[0]
    if num > capacity:
        raise ValueError(f"{num} transitions exceed capacity={capacity}; raise capacity")
    if capacity + num > 2**31 - 1:
        raise ValueError(f"capacity={capacity} and {num} transitions more do not fit 32 bits; lower capacity")
    rows = jax.tree.map(lambda ring: jax.ShapeDtypeStruct((num, *ring.shape[1:]), ring.dtype), replay.data)
    chex.assert_trees_all_equal_shapes(rows, transitions, custom_message="tree 0: what the ring takes, tree 1: transitions")
    half = (num + 1) // 2

    def write(ring: Array, rows: Array, start: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(rows, start, half).astype(ring.dtype)
        if capacity % num == 0:
            return jax.lax.dynamic_update_slice_in_dim(ring, rows, replay.insert + start, axis=0)
        return ring.at[(replay.insert + start + jnp.arange(half)) % capacity].set(rows, unique_indices=True)

    def write_half(data: PyTree, start: Array) -> tuple[PyTree, None]:
        return jax.tree.map(lambda ring, rows: write(ring, rows, start), data, transitions), None

    data = jax.lax.scan(write_half, replay.data, jnp.array([0, num - half]))[0]
    return Replay(data, (replay.insert + num) % capacity, jnp.minimum(replay.size + num, capacity))


def sample(key: Array, replay: Replay, batch_size: int) -> PyTree:
    """A minibatch [batch_size, ...], uniform with replacement over what the ring holds; see `sample_indices`."""
    return gather(replay, sample_indices(key, replay, (batch_size,)))


def sample_indices(key: Array, replay: Replay, shape: tuple[int, ...]) -> Array:
    """Places in the ring, uniform with replacement, int32 of `shape`; one draw serves all minibatches of an update.

    The ring must not be empty; of an empty one the answer is place 0, which holds zeros.
    """
    return uniform_index(key, shape, replay.size)


def gather(replay: Replay, index: Array) -> PyTree:
    """The transitions at these places, [*index.shape, ...]."""
    return jax.tree.map(lambda ring: ring[index], replay.data)


def uniform_index(key: Array, shape: tuple[int, ...], size: Array) -> Array:
    """Uniform int32 in [0, size): the high word of 32 random bits times `size`.

    One draw of bits, where `jax.random.randint` takes three; no index is more than 1 + size / 2^32 times as likely as another,
    which a product of float32 (23 bits) would not give for a million places.
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    size = size.astype(jnp.uint32)
    high, low = bits >> 16, bits & 0xFFFF
    size_high, size_low = size >> 16, size & 0xFFFF
    # Schoolbook product of 16-bit halves; no partial sum exceeds 32 bits.
    middle = high * size_low + ((low * size_low) >> 16)
    cross = low * size_high + (middle & 0xFFFF)
    return (high * size_high + (middle >> 16) + (cross >> 16)).astype(jnp.int32)
