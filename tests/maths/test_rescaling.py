"""The squashing of returns: by hand, its inverse, and rlax's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.maths.rescaling import expand, squash

VALUES = jnp.array([-1e5, -300.0, -3.0, -0.01, 0.0, 1e-4, 0.5, 3.0, 300.0, 1e5])


def test_by_hand_and_there_and_back():
    np.testing.assert_allclose(squash(jnp.array([0.0, 3.0, -8.0])), [0.0, 1.003, -2.008], rtol=1e-6)
    np.testing.assert_allclose(expand(jnp.array([0.0, 1.003, -2.008])), [0.0, 3.0, -8.0], rtol=1e-5)
    np.testing.assert_allclose(expand(squash(VALUES)), VALUES, rtol=2e-5, atol=5e-7)
    np.testing.assert_allclose(jax.vmap(jax.grad(squash))(VALUES[:3]), 0.5 / np.sqrt(1 - VALUES[:3]) + 1e-3, rtol=1e-5)


def test_as_rlax_has_it():
    rlax = pytest.importorskip("rlax")
    np.testing.assert_allclose(squash(VALUES), rlax.signed_hyperbolic(VALUES, 1e-3), rtol=1e-6)
    np.testing.assert_allclose(expand(VALUES[2:8]), rlax.signed_parabolic(VALUES[2:8], 1e-3), rtol=1e-3, atol=1e-4)
