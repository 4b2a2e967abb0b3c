"""An order of which each place is computed by itself: one-to-one for every size, another for another key, and fair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.maths.permutation import permuted


def orders(seeds, size):
    """[seeds, size]"""
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    return np.asarray(jax.jit(jax.vmap(lambda key: permuted(key, jnp.arange(size), size)))(keys))


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_each_item_has_one_place_and_another_key_another_order(size):
    found = orders(4, size)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(np.sort(found), np.tile(np.arange(size), (4, 1)))
    if size == 1000:
        # Two independent orders agree in one place on average.
        assert all(np.sum(a == b) < 10 for i, a in enumerate(found) for b in [*found[:i], np.arange(size)])


def test_every_item_is_as_likely_at_every_place():
    found, num = orders(4000, 5), 800.0
    counts = np.array([[np.sum(found[:, place] == item) for item in range(5)] for place in range(5)])
    # Chi-squared with 16 degrees of freedom: above 39.3 in one of a thousand trials.
    assert np.sum((counts - num) ** 2 / num) < 39.3


def test_places_of_any_shape_are_looked_up_one_by_one():
    look_up, whole = jax.jit(lambda index: permuted(jax.random.key(3), index, 5)), orders(4, 5)[3]
    np.testing.assert_array_equal(look_up(jnp.array([[4, 1, 1]])), [whole[[4, 1, 1]]])
    assert look_up(jnp.int32(2)) == whole[2]


def test_places_that_are_no_whole_numbers_are_refused():
    with pytest.raises(AssertionError):
        permuted(jax.random.key(0), jnp.zeros(3), 5)
