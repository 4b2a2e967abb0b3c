"""Losses against rlax on random inputs and against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl import losses

N, A = 64, 5


@pytest.fixture(scope="module")
def batch():
    """Random q_tm1 [N, A], a_tm1 [N], r_t [N], discount_t [N] (a third are 0), q_t [N, A] and q_t_selector [N, A]."""
    rng = np.random.default_rng(0)
    discount = np.where(rng.random(N) < 1 / 3, 0.0, 0.97)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    action = jnp.asarray(rng.integers(A, size=N), jnp.int32)
    return normal(N, A), action, normal(N), jnp.asarray(discount, jnp.float32), normal(N, A), normal(N, A)


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
