"""Running moments against numpy in double precision over all the data at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.maths import normalize


def merged(batches, shape):
    """The moments after all batches, one by one."""
    update = jax.jit(normalize.update_moments)
    moments = normalize.init_moments(shape)
    for batch in batches:
        moments = update(moments, jnp.asarray(batch))
    return moments


def batches_of(sizes, shape, offset=0.0, scale=1.0):
    rng = np.random.default_rng(0)
    return [(offset + scale * rng.normal(size=(size, *shape))).astype(np.float32) for size in sizes]


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_moments_equal_numpy_over_the_whole_data(shape):
    batches = batches_of([1, 7, 64, 64, 5], shape, offset=3.0, scale=2.5)
    data = np.concatenate(batches).astype(np.float64)
    moments = merged(batches, shape)
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, data.var(0), rtol=1e-5)
    assert float(moments.num_samples) == 141


def test_all_leading_axes_are_samples():
    batch = np.random.default_rng(1).normal(size=(5, 6, 3)).astype(np.float32)
    moments = merged([batch], (3,))
    np.testing.assert_allclose(moments.mean, batch.reshape(30, 3).mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments.variance, batch.reshape(30, 3).var(0), rtol=1e-5)
    assert float(moments.num_samples) == 30


def test_order_of_batches_does_not_matter():
    batches = batches_of([3, 50, 11], (4,))
    forward, backward = merged(batches, (4,)), merged(batches[::-1], (4,))
    np.testing.assert_allclose(forward.mean, backward.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(forward.variance, backward.variance, rtol=1e-5)


def test_a_large_offset_does_not_spoil_the_variance():
    batches = batches_of([8] * 500, (2,), offset=1e4, scale=1.0)
    data = np.concatenate(batches).astype(np.float64)
    moments = merged(batches, (2,))
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, data.var(0), rtol=0.01)


def test_bytes_are_counted_as_numbers():
    moments = merged([np.array([[0], [255], [255], [0]], np.uint8)], (1,))
    assert moments.mean.tolist() == [127.5]
    assert moments.variance.tolist() == [127.5**2]


def test_normalize_starts_as_the_identity():
    x = jnp.array([[1.5, -2.0], [0.0, 9.0]])
    np.testing.assert_allclose(normalize.normalize(normalize.init_moments((2,)), x), x, rtol=1e-6)


def test_normalized_data_has_mean_zero_and_deviation_one():
    batches = batches_of([1000], (3,), offset=-5.0, scale=3.0)
    x = np.asarray(normalize.normalize(merged(batches, (3,)), batches[0]))
    np.testing.assert_allclose(x.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(x.std(0), 1.0, rtol=1e-5)


def test_normalize_clips_outliers():
    moments = normalize.Moments(jnp.zeros(1), jnp.full(1, 4.0), jnp.float32(10))
    assert normalize.normalize(moments, jnp.array([[100.0], [-100.0], [3.0]]), clip=5.0).tolist() == [[5.0], [-5.0], [1.5]]


def test_a_constant_feature_stays_finite():
    moments = merged([np.full((16, 1), 7.0, np.float32)], (1,))
    assert normalize.normalize(moments, jnp.array([[7.0]])).tolist() == [[0.0]]


T, B, GAMMA = 6, 3, 0.9
scale_rewards = jax.jit(normalize.scale_rewards)


def rollouts(num, scale=3.0):
    """Rewards [T, B] and ends [T, B] of `num` rollouts; a last row ends in one column of the first."""
    rng = np.random.default_rng(2)
    pairs = [((1.0 + scale * rng.normal(size=(T, B))).astype(np.float32), rng.random((T, B)) < 0.3) for _ in range(num)]
    pairs[0][1][-1] = [True, False, False]
    return pairs


def test_scaled_rewards_equal_a_loop_over_steps():
    """Discounted sums run on from rollout to rollout and start again after an end; all of them so far make the scale."""
    scale, running, seen = normalize.init_reward_scale(B), np.zeros(B), []
    for reward, ended in rollouts(4):
        for t in range(T):
            running = GAMMA * running + reward[t]
            seen.append(running)
            running = np.where(ended[t], 0.0, running)
        scale, scaled = scale_rewards(scale, reward, ended, GAMMA)
        np.testing.assert_allclose(scaled, reward / np.std(seen), rtol=1e-4)
        np.testing.assert_allclose(scale.running, running, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scale.moments.variance, np.var(seen), rtol=1e-4)


def test_the_running_sum_is_carried_until_an_episode_ends():
    """Sums 1, 1 + 1/2; then 4 + 1.5/2 goes on where the first rollout did not end, 4 starts where it did."""
    scale = normalize.init_reward_scale(2)
    scale, _ = scale_rewards(scale, jnp.ones((2, 2)), jnp.array([[False, False], [False, True]]), 0.5)
    np.testing.assert_allclose(scale.running, [1.5, 0.0])
    scale, _ = scale_rewards(scale, jnp.full((1, 2), 4.0), jnp.zeros((1, 2), bool), 0.5)
    np.testing.assert_allclose(scale.running, [4.75, 4.0])


def test_scaled_rewards_keep_their_sign_and_order():
    (reward, ended), *_ = rollouts(1)
    _, scaled = scale_rewards(normalize.init_reward_scale(B), reward, ended, GAMMA)
    np.testing.assert_array_equal(np.sign(scaled), np.sign(reward))
    np.testing.assert_array_equal(np.argsort(scaled, axis=None), np.argsort(reward, axis=None))


def test_a_reward_far_beyond_the_scale_is_clipped():
    reward = jnp.zeros((1000, 1)).at[500].set(1e3).at[700].set(-1e3)
    _, scaled = scale_rewards(normalize.init_reward_scale(1), reward, jnp.ones((1000, 1), bool), GAMMA)
    assert (float(scaled[500, 0]), float(scaled[700, 0])) == (10.0, -10.0)


def test_rewards_that_are_all_zero_stay_zero():
    scale, scaled = scale_rewards(normalize.init_reward_scale(B), jnp.zeros((T, B)), jnp.zeros((T, B), bool), GAMMA)
    assert not np.any(scaled) and np.isfinite(scale.moments.variance)
