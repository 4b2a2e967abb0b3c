"""Prioritised replay: frequencies against priorities, weights by hand, both rings against a list, and its memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from helpers import AS_USERS, random_rollout
from jaxrl.replay import frames, prioritized
from jaxrl.replay.experience import Prioritized, make_experience
from jaxrl.types import ArraySpec, Discrete, Rollout, Spec

put, feed = jax.jit(prioritized.put), jax.jit(prioritized.feed)
SPEC = Spec(ArraySpec((3,), "float32"), Discrete(2))


def of_values(values):
    """Priorities that weigh these values."""
    values = jnp.asarray(values, jnp.float32)
    return put(prioritized.init(len(values)), jnp.arange(len(values)), values)


def assert_is_tree(priorities):
    """Every sum is that of the 32 below."""
    for below, above in zip(priorities.sums[:-1], priorities.sums[1:], strict=True):
        expected = np.asarray(below, np.float64).reshape(-1, 32).sum(-1)
        np.testing.assert_allclose(above[: len(expected)], expected, rtol=1e-6)
        assert not np.any(above[len(expected) :])


@pytest.mark.parametrize("num_places", [1, 32, 33, 1024, 1500, 40_000])
def test_sums_stay_those_of_what_is_below(num_places):
    rng, held = np.random.default_rng(num_places), np.zeros(num_places, np.float32)
    priorities = prioritized.init(num_places)
    for _ in range(4):
        place = rng.permutation(num_places)[: min(num_places, 40)].astype(np.int32)
        held[place] = rng.random(len(place)) * (rng.random(len(place)) < 0.8)
        priorities = put(priorities, jnp.asarray(place), jnp.asarray(held[place]))
        assert_is_tree(priorities)
    np.testing.assert_array_equal(priorities.sums[0][:num_places], held)


def test_what_could_not_be_drawn_gets_no_weight_by_an_error():
    empty = prioritized.init(40)
    place, probability = prioritized.sample(jax.random.key(0), empty, (1, 8))
    assert not np.any(probability) and not np.any(prioritized.importance_weights(probability, 0.5))
    assert not np.any(feed(empty, place, jnp.full(place.shape, 3.0), 0.5).sums[0])
    priorities = feed(of_values([0.0, 1.0, 2.0]), jnp.array([0, 1]), jnp.array([9.0, 3.0]), 1.0)
    np.testing.assert_allclose(priorities.sums[0][:3], [0.0, 3.0 + prioritized.MIN_ERROR, 2.0])
    assert priorities.greatest == 3.0 + prioritized.MIN_ERROR


def test_a_place_outside_is_left_out():
    priorities = of_values(np.arange(1.0, 41.0))
    after = put(priorities, jnp.array([3, 10**9]), jnp.array([0.0, 7.0]))
    assert_is_tree(after)
    np.testing.assert_allclose(jnp.sum(after.sums[-1]), np.arange(1.0, 41.0).sum() - 4.0)


@pytest.mark.parametrize("shape", [(400, 100), (40_000, 1)])
def test_frequencies_match_the_priorities(shape):
    """Stratified, and each draw on its own. Of 1,500 places, more than half of weight 0; the weights span a factor of 1,000."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random(1500) < 0.6, 0.0, np.exp(rng.uniform(0.0, np.log(1000.0), 1500)))
    place, probability = jax.jit(prioritized.sample, static_argnums=2)(jax.random.key(1), of_values(values), shape)
    assert place.shape == probability.shape == shape
    expected = values / values.sum()
    np.testing.assert_allclose(probability, expected[place], rtol=1e-5)
    counts, num = np.bincount(place.reshape(-1), minlength=1500), place.size
    assert counts.shape == (1500,) and not np.any(counts[values == 0.0])
    often = expected * num > 5
    observed = np.append(counts[often], counts[~often].sum())
    pvalue = stats.chisquare(observed, np.append(expected[often], expected[~often].sum()) * num).pvalue
    assert pvalue > 1e-3


def test_each_minibatch_has_one_of_each_equal_part():
    """Of 32 equal places a minibatch of 32 takes each once."""
    place, probability = prioritized.sample(jax.random.key(0), of_values(np.ones(32)), (5, 32))
    assert np.array_equal(np.sort(place, axis=-1), np.broadcast_to(np.arange(32), (5, 32)))
    np.testing.assert_allclose(probability, 1 / 32)


def test_the_last_place_is_in_reach_and_a_weight_of_zero_is_not(monkeypatch):
    """For the largest and least draw that there are."""
    values = np.r_[np.zeros(40), 1e-3, np.zeros(30), 1e3, np.zeros(30)]
    for draw, expected in ((0.0, 40), (np.nextafter(np.float32(1.0), np.float32(0.0)), 71)):
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype, draw=draw: jnp.full(shape, draw, dtype))
        assert prioritized.sample(jax.random.key(0), of_values(values), (1,))[0].item() == expected


def test_errors_become_priorities():
    """p = (|error| + 1e-6) ^ 1/2; the larger of two for one place; the greatest is kept for what is new."""
    priorities = prioritized.put_new(prioritized.init(4), jnp.arange(3), jnp.array([True, True, False]), 0.5)
    np.testing.assert_array_equal(priorities.sums[0][:4], [1.0, 1.0, 0.0, 0.0])
    priorities = feed(priorities, jnp.array([[1, 0], [1, 1]]), jnp.array([[4.0, 0.0], [-9.0, 1.0]]), 0.5)
    np.testing.assert_allclose(priorities.sums[0][:4], [1e-3, 3.0, 0.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(priorities.greatest, 9.0, rtol=1e-6)
    priorities = prioritized.put_new(priorities, jnp.array([3]), jnp.array([True]), 0.5)
    np.testing.assert_allclose(priorities.sums[0][:4], [1e-3, 3.0, 0.0, 3.0], rtol=1e-6)


def test_importance_weights_are_those_worked_by_hand():
    """N = 4, beta = 1/2: (4 / 8)^-1/2 = 2^1/2, (4 / 2)^-1/2 = 2^-1/2, (4 / 4)^-1/2 = 1; divided by the largest."""
    probability = jnp.array([[1 / 8, 1 / 2, 1 / 4], [1 / 2, 1 / 2, 1 / 2]])
    found = prioritized.importance_weights(probability, 0.5)
    np.testing.assert_allclose(found, [[1.0, 0.5, 2**-0.5], [1.0, 1.0, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(prioritized.importance_weights(probability, 0.0), 1.0)


@pytest.mark.parametrize("n_step", [1, 3])
def test_all_that_can_be_drawn_has_a_priority_and_nothing_else(n_step):
    """One step: the ring of transitions; three: the ring of frames, in which an episode's last observation starts nothing."""
    replay = make_experience(SPEC.obs, SPEC.action, 4, 48, n_step, 0.9, exponent=0.5)
    store, held = jax.jit(replay.store), replay.init()
    assert isinstance(held, Prioritized)
    for seed in range(6):
        held = store(held, random_rollout(SPEC, 3, 4, seed=seed))
        assert_is_tree(held.priorities)
        startable = np.asarray(held.priorities.sums[0][:48]) > 0
        if n_step == 1:
            assert startable.sum() == min(12 * (seed + 1), 48)
        else:
            drawn = frames.sample_indices(jax.random.key(seed), held.ring, (2_000,), SPEC.obs)
            assert np.array_equal(np.flatnonzero(startable), np.unique(drawn))
    sample = jax.jit(replay.sample, static_argnums=2)(jax.random.key(0), held, (2, 8))
    held = jax.jit(replay.feed)(held, sample, jnp.full((2, 8), 3.0))
    np.testing.assert_allclose(held.priorities.sums[0][sample.place], 3.0**0.5, rtol=1e-5)
    assert_is_tree(held.priorities)


def test_stacks_that_reach_over_the_seam_have_no_priority():
    """Pictures of four frames that are numbers, in a ring that wraps many times; episodes end now and then."""
    spec, stack = ArraySpec((4, 1, 1), "uint8", num_frames=4), 4
    replay, rng = make_experience(spec, Discrete(1), 1, 16, 1, 0.9, exponent=1.0), np.random.default_rng(0)
    store, held = jax.jit(replay.store), replay.init()
    draw = jax.jit(lambda key, ring: frames.sample_indices(key, ring, (300,), spec))
    seen = np.arange(stack, dtype=np.uint8)
    for now in range(1, 41):
        behind, ended = np.append(seen[1:], np.uint8(now % 251)), rng.random() < 0.2
        row = Rollout(*(jnp.asarray(x)[None, None] for x in (seen[:, None, None], 0, 1.0, ended, False)), None, (), {})
        held = store(held, row._replace(next_obs=jnp.asarray(behind)[None, None, :, None, None]))
        drawn = draw(jax.random.key(now), held.ring)
        assert np.array_equal(np.flatnonzero(held.priorities.sums[0][:16]), np.unique(drawn))
        seen = rng.integers(0, 251, stack).astype(np.uint8) if ended else behind


# --- memory -----------------------------------------------------------------------------------------------------------


def iterations(held, key, replay):
    """100 iterations of one addition, one minibatch and one update of priorities."""

    def body(i, held):
        rollout = jax.tree.map(lambda leaf: jnp.full(leaf.shape, i).astype(leaf.dtype), random_rollout(SPEC, 2, 4))
        held = replay.store(held, rollout)
        sample = replay.sample(jax.random.fold_in(key, i), held, (1, 32))
        return replay.feed(held, sample, jnp.sum(sample.transitions.obs, axis=-1))

    return jax.lax.fori_loop(0, 100, body, held)


@pytest.mark.optimized
@pytest.mark.parametrize(("n_step", "num_runs"), [(1, 4), (3, 4)])
def test_no_ring_is_ever_copied(n_step, num_runs):
    replay = make_experience(SPEC.obs, SPEC.action, 4, 200_000, n_step, 0.9, exponent=0.6)
    run, held = functools.partial(iterations, replay=replay), jax.eval_shape(replay.init)
    key = jax.eval_shape(jax.random.key, 0)
    held, key = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_runs, *leaf.shape), leaf.dtype), (held, key))
    memory = jax.jit(jax.vmap(run), donate_argnums=0).lower(held, key).compile(AS_USERS).memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes - memory.alias_size_in_bytes
    assert used <= 1.1 * memory.argument_size_in_bytes
