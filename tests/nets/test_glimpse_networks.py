"""The attention model's networks against their equations in NumPy and numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.nets.glimpse import LSTM, GlimpseNetwork, Rectifier


def noisy(params):
    """The same tree with random biases as well: fresh biases are zero and would hide an error."""
    rng = np.random.default_rng(9)
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), params)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def dense(layer, x):
    return x @ np.asarray(layer["kernel"], float) + np.asarray(layer.get("bias", 0.0), float)


def relu(x):
    return np.maximum(x, 0.0)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_a_glimpse_is_what_is_seen_and_where_through_two_layers_each_with_one_rectifier_on_their_sum():
    network, patches, location = GlimpseNetwork(5, 7), normal(2, 3, 4, 4, 2), normal(2, 3, 2)
    params = noisy(jax.jit(network.init)(jax.random.key(0), patches, location))
    layers = params["params"]
    what, where = relu(dense(layers["patches"], patches.reshape(2, 3, 32))), relu(dense(layers["location"], location))
    expected = relu(dense(layers["what"], what) + dense(layers["where"], where))
    found = jax.jit(network.apply)(params, patches, location)
    assert found.shape == (2, 3, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == (32 * 5 + 5) + (2 * 5 + 5) + (5 * 7 + 7) + 5 * 7


def test_convolutions_may_see_what_is_seen():
    network = GlimpseNetwork(5, 7, "minatar")
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 2)))["params"]
    assert shapes["torso"]["Conv_0"]["kernel"].shape == (3, 3, 1, 16)
    assert shapes["what"]["kernel"].shape == (128, 7) and "patches" not in shapes


def test_the_rectifier_remembers_by_hand():
    """h = relu([1 2] x + 0.5 h + [0.25 -1])."""
    params = {
        "seen": {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.array([0.25, -1.0])},
        "before": {"kernel": 0.5 * jnp.eye(2)},
    }
    core, memory = Rectifier(2), Rectifier(2).initial_memory((1,))
    for x, expected in ((1.0, [1.25, 1.0]), (-1.0, [0.0, 0.0]), (0.5, [0.75, 0.0]), (0.0, [0.625, 0.0])):
        memory, features = core.apply({"params": params}, memory, jnp.array([[x]]))
        np.testing.assert_allclose(features, [expected], rtol=1e-6)
        np.testing.assert_array_equal(memory, features)


def test_the_lstm_is_that_of_the_equations():
    core, x = LSTM(4), normal(3, 2, 5)
    memory = core.initial_memory((2,))
    params = noisy(jax.jit(core.init)(jax.random.key(0), memory, x[0]))
    gates, apply = params["params"]["OptimizedLSTMCell_0"], jax.jit(core.apply)
    cell, hidden = np.zeros((2, 4)), np.zeros((2, 4))
    for row in x:
        i, f, g, o = (dense(gates[f"i{gate}"], row) + dense(gates[f"h{gate}"], hidden) for gate in "ifgo")
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        memory, features = apply(params, memory, row)
        np.testing.assert_allclose(features, hidden, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(memory[0], cell, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("core", [Rectifier(4), LSTM(4)], ids=["rnn", "lstm"])
def test_nothing_is_remembered_at_first(core):
    leaves = jax.tree.leaves(core.initial_memory((3, 2)))
    assert all(leaf.shape == (3, 2, 4) and not leaf.any() for leaf in leaves)
