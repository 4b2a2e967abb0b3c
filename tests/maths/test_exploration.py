"""Exploration: its two ends and the shares in between."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxrl.maths import exploration

NUM = 100_000
PREFERENCES = jnp.tile(jnp.array([0.0, 3.0, -1.0, 2.0]), (NUM, 1))
BEST = 1


def actions(epsilon, seed=0):
    return np.asarray(exploration.epsilon_greedy(jax.random.key(seed), PREFERENCES, epsilon))


def test_epsilon_zero_is_greedy():
    values = jax.random.normal(jax.random.key(1), (1000, 6))
    chosen = exploration.epsilon_greedy(jax.random.key(2), values, 0.0)
    np.testing.assert_array_equal(chosen, np.argmax(np.asarray(values), axis=-1))


def test_epsilon_one_is_uniform():
    assert stats.chisquare(np.bincount(actions(1.0), minlength=4)).pvalue > 1e-3


def test_epsilon_is_the_share_of_random_actions():
    counts = np.bincount(actions(0.2), minlength=4)
    shares = np.full(4, 0.2 / 4)
    shares[BEST] += 0.8
    assert stats.chisquare(counts, shares * NUM).pvalue > 1e-3


def test_epsilon_may_differ_from_row_to_row():
    epsilon = jnp.where(jnp.arange(NUM) < NUM // 2, 0.0, 1.0)
    chosen = actions(epsilon)
    assert (chosen[: NUM // 2] == BEST).all()
    assert stats.chisquare(np.bincount(chosen[NUM // 2 :], minlength=4)).pvalue > 1e-3


def test_neighbouring_rows_explore_independently():
    explored = actions(0.5) != BEST
    pairs = np.bincount(2 * explored[:-1:2] + explored[1::2], minlength=4)
    share = 0.5 * 3 / 4
    expected = np.outer([1 - share, share], [1 - share, share]).reshape(-1) * (NUM // 2)
    assert stats.chisquare(pairs, expected).pvalue > 1e-3


def test_ties_go_to_the_lowest_index():
    chosen = exploration.epsilon_greedy(jax.random.key(0), jnp.array([[1.0, 5.0, 5.0], [2.0, 2.0, 2.0]]), 0.0)
    assert chosen.tolist() == [1, 0]


def test_actions_are_int32_with_the_leading_axes_of_the_values():
    chosen = exploration.epsilon_greedy(jax.random.key(0), jnp.zeros((2, 3, 4)), 0.5)
    assert chosen.shape == (2, 3) and chosen.dtype == jnp.int32


def test_another_key_explores_otherwise():
    assert (actions(0.5, seed=0) != actions(0.5, seed=1)).any()


def test_random_legal_actions_are_legal_and_all_alike_probable():
    legal = jnp.tile(jnp.array([False, True, False, True, True]), (NUM, 1))
    counts = np.bincount(np.asarray(exploration.random_legal(jax.random.key(4), legal)), minlength=5)
    assert counts[[0, 2]].sum() == 0 and stats.chisquare(counts[[1, 3, 4]]).pvalue > 1e-3


def test_noise_that_lasts_is_worked_by_hand_and_begins_fresh() -> None:
    """0.6 of the last and sqrt(1 - 0.36) = 0.8 of the fresh one."""
    before = exploration.Noise(jnp.array([[1.0, -2.0], [9.0, 9.0]]), jnp.array([False, True]))
    after = exploration.lasting(jnp.array([[0.5, 1.0], [0.25, -0.5]]), before, 0.6)
    np.testing.assert_allclose(after.value, [[1.0, -0.4], [0.25, -0.5]], rtol=1e-6)
    assert not after.is_new.any()


def test_noise_that_lasts_stays_standard_normal_and_correlates_by_powers() -> None:
    """Over k steps c^k: 0.9, 0.81, 0.9^10."""

    def step(noise: exploration.Noise, key: jax.Array) -> tuple[exploration.Noise, jax.Array]:
        after = exploration.lasting(jax.random.normal(key, noise.value.shape), noise, 0.9)
        return after, after.value

    keys = jax.random.split(jax.random.key(0), 20)
    values = np.asarray(jax.lax.scan(step, exploration.no_noise(20_000, (1,)), keys)[1])[..., 0]
    np.testing.assert_allclose(values.mean(axis=1), 0.0, atol=0.03)
    np.testing.assert_allclose(values.std(axis=1), 1.0, atol=0.03)
    found = [np.corrcoef(values[3], values[3 + k])[0, 1] for k in (1, 2, 10)]
    np.testing.assert_allclose(found, [0.9, 0.81, 0.9**10], atol=0.02)
    uniform = np.asarray(exploration.uniform_of(values[-1]))
    np.testing.assert_allclose(np.histogram(uniform, 8, (-1.0, 1.0))[0], 2500, atol=250)
