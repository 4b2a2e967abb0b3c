"""Losses against rlax on random inputs and against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl.maths import losses

N, A = 64, 5


@pytest.fixture(scope="module")
def batch():
    """Random q_tm1 [N, A], a_tm1 [N], r_t [N], discount_t [N] (a third are 0), q_t [N, A] and q_t_selector [N, A]."""
    rng = np.random.default_rng(0)
    discount = np.where(rng.random(N) < 1 / 3, 0.0, 0.97)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    action = jnp.asarray(rng.integers(A, size=N), jnp.int32)
    return normal(N, A), action, normal(N), jnp.asarray(discount, jnp.float32), normal(N, A), normal(N, A)


def test_the_munchausen_target_by_hand():
    """Temperature 1/2, weight 0.9. Before: policies (1/4, 3/4), and one whose bonus of -5 is held at -1. Behind: of values 0,
    V = ln(2) / 2; of 1 and 1 + ln(3) / 2, V = 1 + ln(2). The second transition ended."""
    half_ln3 = np.log(3.0) / 2
    before = jnp.array([[0.0, half_ln3], [0.0, half_ln3], [0.0, 5.0]])
    behind = jnp.array([[0.0, 0.0], [7.0, 3.0], [1.0, 1.0 + half_ln3]])
    reward, discount, action = jnp.array([2.0, 1.0, 0.0]), jnp.array([0.5, 0.0, 0.5]), jnp.array([0, 1, 0])
    found = losses.munchausen_target(reward, discount, before, action, behind, 0.9, 0.5)
    np.testing.assert_allclose(found, [1.549455, 0.870543, -0.053426], atol=1e-5)


def test_q_learning_error_equals_rlax(batch):
    q_tm1, a_tm1, r_t, discount_t, q_t, _ = batch
    expected = jax.vmap(rlax.q_learning)(q_tm1, a_tm1, r_t, discount_t, q_t)
    error = losses.q_learning_target(r_t, discount_t, q_t) - losses.select(q_tm1, a_tm1)
    np.testing.assert_allclose(error, expected, rtol=1e-5, atol=1e-6)


def test_double_q_learning_error_equals_rlax(batch):
    q_tm1, a_tm1, r_t, discount_t, q_t, selector = batch
    expected = jax.vmap(rlax.double_q_learning)(q_tm1, a_tm1, r_t, discount_t, q_t, selector)
    error = losses.q_learning_target(r_t, discount_t, q_t, selector) - losses.select(q_tm1, a_tm1)
    np.testing.assert_allclose(error, expected, rtol=1e-5, atol=1e-6)


def test_target_takes_the_best_successor_value():
    target = losses.q_learning_target(jnp.float32(1.0), jnp.float32(0.5), jnp.array([2.0, 6.0, -1.0]))
    assert float(target) == 4.0  # 1 + 0.5 * 6


def test_double_target_reads_the_value_of_the_selected_action():
    q_t, selector = jnp.array([2.0, 6.0, -1.0]), jnp.array([9.0, 8.0, 7.0])
    assert float(losses.q_learning_target(jnp.float32(1.0), jnp.float32(0.5), q_t, selector)) == 2.0  # 1 + 0.5 * 2


def test_termination_cuts_the_bootstrap():
    gamma, terminated = 0.99, jnp.array([True, False])
    target = losses.q_learning_target(jnp.array([3.0, 3.0]), gamma * (1.0 - terminated), jnp.full((2, 4), 100.0))
    np.testing.assert_allclose(target, [3.0, 102.0], rtol=1e-6)


@pytest.mark.parametrize("argument", range(4))
def test_target_has_no_gradient(batch, argument):
    _, _, r_t, discount_t, q_t, selector = batch
    grad = jax.grad(lambda *args: jnp.sum(losses.q_learning_target(*args)), argnums=argument)
    assert not np.any(grad(r_t, discount_t, q_t, selector))


def test_target_keeps_any_leading_axes(batch):
    _, _, r_t, discount_t, q_t, _ = batch
    flat = losses.q_learning_target(r_t, discount_t, q_t)
    deep = losses.q_learning_target(r_t.reshape(4, 16), discount_t.reshape(4, 16), q_t.reshape(4, 16, A))
    np.testing.assert_array_equal(deep, flat.reshape(4, 16))


def test_select_reads_the_value_of_the_action(batch):
    q_tm1, a_tm1 = batch[:2]
    np.testing.assert_allclose(losses.select(q_tm1, a_tm1), np.asarray(q_tm1)[np.arange(N), a_tm1], rtol=1e-6)


def test_squared_is_half_the_square():
    np.testing.assert_array_equal(losses.squared(jnp.array([-3.0, 0.0, 2.0])), [4.5, 0.0, 2.0])


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.5])
def test_huber_equals_rlax(delta):
    error = jnp.linspace(-4.0, 4.0, 33)
    np.testing.assert_allclose(losses.huber(error, delta), rlax.huber_loss(error, delta), rtol=1e-6)


def test_huber_is_quadratic_inside_and_linear_outside():
    np.testing.assert_allclose(losses.huber(jnp.array([0.5, -3.0])), [0.125, 2.5])  # 0.5^2 / 2 and 3 - 1/2


def test_huber_gradient_is_the_clipped_error():
    error = jnp.array([-7.0, -1.0, -0.25, 0.0, 0.75, 1.0, 30.0])
    np.testing.assert_allclose(jax.vmap(jax.grad(losses.huber))(error), np.clip(error, -1.0, 1.0), rtol=1e-6)


def test_policy_gradient_is_minus_advantage_times_the_score():
    """d/dlogits of -log softmax(logits)[1] * 2 is 2 (softmax - onehot)."""
    grads = jax.grad(lambda logits: losses.policy_gradient(jax.nn.log_softmax(logits)[1], 2.0))(
        jnp.log(jnp.array([1.0, 2.0, 5.0]))
    )
    np.testing.assert_allclose(grads, [0.25, -1.5, 1.25], rtol=1e-6)


def test_policy_gradient_gives_the_advantage_no_gradient():
    assert float(losses.policy_gradient(jnp.float32(-0.5), jnp.float32(3.0))) == 1.5
    assert jax.grad(losses.policy_gradient, argnums=1)(jnp.float32(-0.5), jnp.float32(3.0)) == 0.0


def test_probability_ratio_is_the_ratio_of_probabilities():
    ratio, log_ratio = losses.probability_ratio(jnp.log(jnp.array([0.3, 0.1])), jnp.log(jnp.array([0.2, 0.4])))
    np.testing.assert_allclose(ratio, [1.5, 0.25], rtol=1e-6)
    np.testing.assert_allclose(log_ratio, np.log([1.5, 0.25]), rtol=1e-6)


@pytest.mark.parametrize("difference", [-1e6, 1e6])
def test_probability_ratio_is_finite_for_any_difference(difference):
    """Held at exp(+-20), and without gradient beyond, so that nothing overflows."""

    def loss(log_prob):
        ratio, log_ratio = losses.probability_ratio(log_prob, jnp.float32(0.0))
        return losses.clipped_surrogate(ratio, jnp.float32(-1.0), 0.2) + ratio - 1.0 - log_ratio

    ratio, _ = losses.probability_ratio(jnp.float32(difference), jnp.float32(0.0))
    np.testing.assert_allclose(ratio, np.exp(np.sign(difference) * 20.0), rtol=1e-6)
    value, grad = jax.value_and_grad(loss)(jnp.float32(difference))
    assert np.isfinite(value) and grad == 0.0


@pytest.mark.parametrize("clip", [0.1, 0.3])
def test_clipped_surrogate_equals_rlax(clip):
    rng = np.random.default_rng(3)
    ratio, advantage = jnp.asarray(rng.lognormal(sigma=0.5, size=N), jnp.float32), jnp.asarray(rng.normal(size=N), jnp.float32)
    expected, expected_grad = jax.value_and_grad(rlax.clipped_surrogate_pg_loss)(ratio, advantage, clip)
    found, grad = jax.value_and_grad(lambda r: jnp.mean(losses.clipped_surrogate(r, advantage, clip)))(ratio)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 2.0, -2.2, -2.0),
        (1.5, 2.0, -2.4, 0.0),  # a good action is already much likelier: no more of it
        (0.5, 2.0, -1.0, -2.0),  # and one that became unlikely is brought back
        (0.9, -2.0, 1.8, 2.0),
        (0.5, -2.0, 1.6, 0.0),  # a bad action is already much unlikelier
        (1.5, -2.0, 3.0, 2.0),
    ],
)
def test_clipped_surrogate_is_pessimistic(ratio, advantage, loss, slope):
    found, grad = jax.value_and_grad(losses.clipped_surrogate)(jnp.float32(ratio), jnp.float32(advantage), 0.2)
    np.testing.assert_allclose([found, grad], [loss, slope], rtol=1e-6)


def test_clipped_surrogate_gives_the_advantage_no_gradient():
    assert jax.grad(losses.clipped_surrogate, argnums=1)(jnp.float32(1.1), jnp.float32(2.0), 0.2) == 0.0


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope"),
    [
        (1.1, 3.0, 1.805, -1.9),  # within the clip: (1.1 - 3)^2 / 2
        (2.0, 3.0, 1.62, 0.0),  # held at 1.2, which is farther off: (1.2 - 3)^2 / 2
        (0.0, 3.0, 4.5, -3.0),  # went the wrong way: the plain error is the larger
        (2.0, 0.0, 2.0, 2.0),
    ],
)
def test_clipped_value_takes_the_larger_error(value, target, loss, slope):
    found, grad = jax.value_and_grad(losses.clipped_value)(jnp.float32(value), jnp.float32(1.0), jnp.float32(target), 0.2)
    np.testing.assert_allclose([found, grad], [loss, slope], rtol=1e-5, atol=1e-6)
