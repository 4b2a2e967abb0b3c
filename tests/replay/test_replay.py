"""The replay ring against a Python deque, its sampling against integer arithmetic and chi-square, and its memory."""

import collections
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import AS_USERS
from jaxrl.replay import ring as replay

add = jax.jit(replay.add)
sample = jax.jit(replay.sample, static_argnums=2)


class Pair(NamedTuple):
    left: jax.Array
    right: dict


def rows(ids):
    """Transitions [N] that are a nested tree; each leaf tells the row's id."""
    ids = np.asarray(ids, np.int32)
    pixels = np.broadcast_to(ids[:, None, None] % 256, (len(ids), 2, 3)).astype(np.uint8)
    obs = (ids[:, None] * np.array([1.0, -0.5])).astype(np.float32)
    return Pair(ids, {"obs": obs, "pixels": pixels, "flag": ids % 2 == 1})


def empty(capacity):
    return replay.init(jax.tree.map(lambda leaf: leaf[0], rows([0])), capacity)


def filled(capacity, num, calls):
    """A ring after `calls` additions of `num` rows with ids 1, 2, ..., and the ids that a ring must hold by then."""
    ring, held = empty(capacity), collections.deque(maxlen=capacity)
    for call in range(calls):
        ids = range(1 + call * num, 1 + (call + 1) * num)
        ring = add(ring, rows(ids))
        held.extend(ids)
    return ring, sorted(held)


sizes = st.integers(1, 6).flatmap(lambda capacity: st.tuples(st.just(capacity), st.integers(1, capacity)))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(sizes, st.integers(0, 12))
@example((8, 4), 5)
@example((8, 3), 11)
@example((7, 7), 3)
def test_ring_holds_the_newest_transitions(size, calls):
    ring, held = filled(*size, calls)
    assert int(ring.size) == len(held)
    assert sorted(np.asarray(ring.data.left)[: len(held)].tolist()) == held


@pytest.mark.parametrize(("capacity", "num"), [(8, 4), (8, 3)])
def test_rows_of_any_tree_stay_together(capacity, num):
    ring, held = filled(capacity, num, 5)
    for got, want in zip(jax.tree.leaves(ring.data), jax.tree.leaves(rows(ring.data.left)), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    assert len(held) == capacity


def test_add_overwrites_the_oldest_place_first():
    ring, _ = filled(5, 2, 3)
    assert ring.data.left.tolist() == [6, 2, 3, 4, 5]  # ids 1 .. 6: the sixth goes over the first
    assert int(ring.insert) == 1


def test_add_casts_to_the_dtype_of_the_ring():
    ring = add(replay.init(jax.ShapeDtypeStruct((), jnp.uint8), 2), jnp.array([3, 250], jnp.int32))
    assert ring.data.dtype == jnp.uint8
    assert ring.data.tolist() == [3, 250]


def test_more_rows_than_the_capacity_are_refused():
    with pytest.raises(ValueError, match=r"4 transitions exceed capacity=3; raise capacity"):
        replay.add(empty(3), rows(range(4)))


@settings(deadline=None, max_examples=25, derandomize=True)
@given(sizes, st.integers(1, 6), st.integers(0, 2**31 - 1))
def test_samples_are_rows_that_are_held(size, calls, seed):
    ring, held = filled(*size, calls)
    batch = sample(jax.random.key(seed), ring, 32)
    assert set(batch.left.tolist()) <= set(held)
    np.testing.assert_array_equal(batch.right["obs"], rows(batch.left).right["obs"])


def test_samples_of_a_part_filled_ring_are_uniform_over_what_it_holds():
    ring, held = filled(1000, 7, 3)
    drawn = np.asarray(replay.sample(jax.random.key(0), ring, 20_000).left)
    counts = np.bincount(drawn, minlength=22)[1:]
    assert len(held) == 21 and counts.sum() == 20_000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_indices_have_the_shape_asked_for():
    ring, _ = filled(8, 4, 1)
    index = replay.sample_indices(jax.random.key(0), ring, (3, 5))
    assert index.shape == (3, 5) and index.dtype == jnp.int32
    assert replay.gather(ring, index).right["pixels"].shape == (3, 5, 2, 3)


EDGES = [0, 1, 0xFFFF, 0x10000, 0x10001, 0x7FFFFFFF, 0x80000000, 0xFFFF0000, 0xFFFFFFFE, 0xFFFFFFFF]


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=10, max_size=10), st.integers(1, 2**31 - 1))
@example(EDGES, 1)
@example(EDGES, 0xFFFF)
@example(EDGES, 0x10000)
@example(EDGES, 2**31 - 1)
def test_uniform_index_is_the_exact_integer_product(bits, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.asarray(np.array(bits, np.uint32)))
        index = replay.uniform_index(jax.random.key(0), (10,), jnp.int32(size))
    assert index.tolist() == [word * size >> 32 for word in bits]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_uniform_index_is_uniform(size):
    index = np.asarray(replay.uniform_index(jax.random.key(3), (200_000,), jnp.int32(size)))
    counts = np.bincount(index, minlength=size)
    assert len(counts) == size
    assert size == 1 or stats.chisquare(counts).pvalue > 1e-3


def test_uniform_index_reaches_every_part_of_a_huge_ring():
    size = 2**31 - 1
    index = np.asarray(replay.uniform_index(jax.random.key(4), (100_000,), jnp.int32(size)))
    assert index.min() >= 0
    assert stats.kstest(index / size, "uniform").pvalue > 1e-3


# --- memory -----------------------------------------------------------------------------------------------------------

CAPACITY = 1_000_000


def cartpole_rows(num):
    """Shapes of `num` CartPole transitions, 41 bytes each."""
    spec = jax.ShapeDtypeStruct
    obs, flat = spec((num, 4), jnp.float32), lambda dtype: spec((num,), dtype)
    return {
        "obs": obs,
        "action": flat(jnp.int32),
        "reward": flat(jnp.float32),
        "terminated": flat(jnp.bool_),
        "next_obs": obs,
    }


def add_and_sample(ring, key, num):
    """100 iterations of one addition and one minibatch, as in a training loop."""

    def body(i, carry):
        ring, total = carry
        fresh = jax.tree.map(lambda leaf: jnp.full(leaf.shape, i).astype(leaf.dtype), cartpole_rows(num))
        ring = replay.add(ring, fresh)
        batch = replay.sample(jax.random.fold_in(key, i), ring, 128)
        return ring, total + jnp.sum(batch["obs"])

    return jax.lax.fori_loop(0, 100, body, (ring, jnp.float32(0.0)))


@pytest.mark.optimized
@pytest.mark.parametrize("num_rings", [None, 4])
@pytest.mark.parametrize("num", [10, 7])
def test_ring_is_never_copied(num, num_rings):
    run = functools.partial(add_and_sample, num=num)
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    ring, key = replay.Replay(cartpole_rows(CAPACITY), scalar, scalar), jax.eval_shape(jax.random.key, 0)
    if num_rings:
        run = jax.vmap(run)
        ring, key = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_rings, *leaf.shape), leaf.dtype), (ring, key))
    memory = jax.jit(run, donate_argnums=0).lower(ring, key).compile(AS_USERS).memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes - memory.alias_size_in_bytes
    assert CAPACITY % 7 != 0
    assert used <= 1.2 * 41 * CAPACITY * (num_rings or 1)
