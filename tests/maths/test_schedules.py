"""Schedules against Optax and against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from helpers import progress_at
from jaxrl.maths import schedules


def at(iteration, total=100):
    return progress_at(iteration, total)


@pytest.mark.parametrize(("iteration", "expected"), [(0, 0.0), (25, 0.25), (100, 1.0)])
def test_fraction_done_is_the_share_of_iterations(iteration, expected):
    assert float(schedules.fraction_done(at(iteration))) == expected


def test_fraction_done_of_an_empty_run_is_zero():
    assert float(schedules.fraction_done(at(0, 0))) == 0.0


@pytest.mark.parametrize(("iteration", "expected"), [(0, 1.0), (25, 0.525), (50, 0.05), (51, 0.05), (100, 0.05)])
def test_linear_falls_over_its_fraction_and_stays(iteration, expected):
    np.testing.assert_allclose(schedules.linear(at(iteration), 1.0, 0.05, 0.5), expected, rtol=1e-6)


@pytest.mark.parametrize("iteration", [0, 1, 17, 60, 99])
def test_linear_equals_optax(iteration):
    expected = optax.linear_schedule(3e-3, 1e-4, 60)(iteration)
    np.testing.assert_allclose(schedules.linear(at(iteration), 3e-3, 1e-4, 0.6), expected, rtol=1e-5)


@pytest.mark.parametrize("iteration", [0, 1, 100])
def test_linear_over_no_time_is_at_its_end_at_once(iteration):
    assert float(schedules.linear(at(iteration), 1.0, 0.25, 0.0)) == 0.25


def test_linear_with_equal_ends_is_constant():
    values = jax.vmap(lambda i: schedules.linear(progress_at(i, 10), 0.3, 0.3))(jnp.arange(11))
    np.testing.assert_array_equal(values, np.full(11, 0.3, np.float32))


@pytest.mark.parametrize("iteration", [0, 10, 50, 90, 100])
def test_cosine_equals_optax(iteration):
    expected = optax.cosine_decay_schedule(2.0, 100, alpha=0.25)(iteration)
    np.testing.assert_allclose(schedules.cosine(at(iteration), 2.0, 0.5), expected, rtol=1e-5)


def test_cosine_is_halfway_at_half_time():
    np.testing.assert_allclose(schedules.cosine(at(50), 3.0, 1.0), 2.0, rtol=1e-6)


def test_is_due_once_in_every_period():
    due = [bool(schedules.is_due(at(i), 4)) for i in range(12)]
    assert due == [False, False, False, True] * 3


def test_is_due_always_with_period_one():
    assert all(bool(schedules.is_due(at(i), 1)) for i in range(5))


def test_ends_length_and_rate_may_all_be_traced():
    curve = jax.jit(jax.vmap(schedules.linear, in_axes=(None, 0, 0, 0)))
    values = curve(at(25), jnp.array([1.0, 1.0, 4.0]), jnp.array([0.0, 0.0, 2.0]), jnp.array([0.5, 1.0, 0.25]))
    np.testing.assert_allclose(values, [0.5, 0.75, 2.0], rtol=1e-6)
