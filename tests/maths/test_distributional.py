"""Distributions of returns against rlax on random inputs and against numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import rlax

from jaxrl.maths import distributional

RNG = np.random.default_rng(0)


def test_projection_equals_rlax():
    """Some of it lies outside of the atoms."""
    atoms = np.linspace(-2.0, 3.0, 11, dtype=np.float32)
    places = RNG.normal(scale=3.0, size=(7, 11)).astype(np.float32)
    probability = RNG.dirichlet(np.ones(11), 7).astype(np.float32)
    found = distributional.project(places, probability, atoms)
    order = np.argsort(places, axis=-1)
    places, probability = np.take_along_axis(places, order, -1), np.take_along_axis(probability, order, -1)
    expected = jax.vmap(rlax.categorical_l2_project, in_axes=(0, 0, None))(places, probability, atoms)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_projection_by_hand():
    """Of atoms 0, 1, 2: half at 0.25, a quarter at 1.5, a quarter beyond the last."""
    found = distributional.project(jnp.array([0.25, 1.5, 9.0]), jnp.array([0.5, 0.25, 0.25]), jnp.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(found, [0.375, 0.125 + 0.125, 0.125 + 0.25])


def test_cross_entropy_and_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    np.testing.assert_allclose(distributional.cross_entropy(jnp.array([[0.0, 0.5, 0.5]]), logits), [np.log(4.0)], rtol=1e-6)
    np.testing.assert_allclose(distributional.entropy(jnp.array([[0.0, 0.5, 0.5]])), [np.log(2.0)], rtol=1e-6)


def test_the_quantile_loss_is_that_of_rlax_divided_by_kappa():
    quantile, target = RNG.normal(size=(6, 5)).astype(np.float32), RNG.normal(size=(6, 8)).astype(np.float32)
    tau = RNG.random((6, 5)).astype(np.float32)
    for kappa in (0.3, 1.0):
        expected = jax.vmap(lambda *columns, kappa=kappa: rlax.quantile_regression_loss(*columns, kappa))(quantile, tau, target)
        np.testing.assert_allclose(distributional.quantile_huber(quantile, tau, target, kappa), expected / kappa, rtol=1e-5)


def test_a_quantile_loss_by_hand():
    """u = 2 and -0.5 with tau = 1/4, kappa = 1: 1/4 * 1.5 and 3/4 * 0.125, their mean 0.234375."""
    found = distributional.quantile_huber(jnp.array([1.0]), jnp.array([0.25]), jnp.array([3.0, 0.5]), 1.0)
    np.testing.assert_allclose(found, 0.234375)


def test_midpoints_and_rows_of_actions():
    np.testing.assert_allclose(distributional.midpoints(4), [0.125, 0.375, 0.625, 0.875])
    numbers = jnp.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_array_equal(distributional.of_action(numbers, jnp.array([2, 0])), [[4.0, 5.0], [6.0, 7.0]])
