"""Networks against forward passes and parameter counts worked out with numpy or by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks
from jaxrl.types import ArraySpec, UsageError, tree_spec


def num_parameters(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def init(network, num_inputs, seed=0):
    return jax.jit(network.init)(jax.random.key(seed), jnp.zeros((1, num_inputs)))


def apply(network, params, x):
    return jax.jit(network.apply)(params, x)


def noisy(params):
    """The same tree with random biases as well: fresh biases are zero and would hide an error."""
    rng = np.random.default_rng(9)
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), params)


def dense(layer, x):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def hidden_layers(params, x):
    for layer in params["MLP_0"].values():
        x = np.maximum(dense(layer, x), 0.0)
    return x


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_mlp_has_a_weight_per_pair_and_a_bias_per_unit():
    params = init(networks.MLP((120, 84)), 4)
    assert num_parameters(params) == (4 * 120 + 120) + (120 * 84 + 84)


def test_mlp_applies_its_activation_after_every_layer(x):
    network = networks.MLP((8, 5), "tanh")
    params = noisy(init(network, 4))
    layers = params["params"]
    expected = np.tanh(dense(layers["Dense_1"], np.tanh(dense(layers["Dense_0"], x))))
    np.testing.assert_allclose(apply(network, params, x), expected, rtol=1e-4, atol=1e-5)


def test_q_network_has_one_linear_output_per_action():
    assert num_parameters(init(networks.QNetwork(2, (120, 84)), 4)) == 600 + 10_164 + (84 * 2 + 2)


def test_q_network_output_is_linear_in_the_last_hidden_layer(x):
    network = networks.QNetwork(3, (8, 5))
    params = noisy(init(network, 4))
    expected = dense(params["params"]["Dense_0"], hidden_layers(params["params"], x))
    np.testing.assert_allclose(apply(network, params, x), expected, rtol=1e-4, atol=1e-5)


def test_dueling_adds_one_value_unit():
    assert num_parameters(init(networks.QNetwork(2, (120, 84), dueling=True), 4)) == 10_934 + (84 + 1)


def test_dueling_mean_over_actions_is_the_value_stream(x):
    network = networks.QNetwork(3, (8, 5), dueling=True)
    params = noisy(init(network, 4))
    streams = [layer for name, layer in params["params"].items() if name.startswith("Dense")]
    (value,) = [layer for layer in streams if layer["bias"].shape == (1,)]
    q = np.asarray(apply(network, params, x))
    np.testing.assert_allclose(q.mean(-1, keepdims=True), dense(value, hidden_layers(params["params"], x)), atol=1e-5)


def test_dueling_differences_between_actions_are_those_of_the_advantages(x):
    network = networks.QNetwork(3, (8, 5), dueling=True)
    params = noisy(init(network, 4))
    streams = [layer for name, layer in params["params"].items() if name.startswith("Dense")]
    (stream,) = [layer for layer in streams if layer["bias"].shape == (3,)]
    advantage = dense(stream, hidden_layers(params["params"], x))
    q = np.asarray(apply(network, params, x))
    np.testing.assert_allclose(q - q[:, :1], advantage - advantage[:, :1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
def test_every_activation_has_a_gradient(activation, x):
    network = networks.QNetwork(2, (8,), activation)
    params = init(network, 4)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(network.apply(p, x) ** 2)))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert np.any(grads["params"]["MLP_0"]["Dense_0"]["kernel"])


def test_leading_axes_are_free(x):
    network = networks.QNetwork(3, (8,))
    params = init(network, 4)
    deep = apply(network, params, x.reshape(2, 3, 4))
    np.testing.assert_allclose(deep, apply(network, params, x).reshape(2, 3, 3), rtol=1e-5, atol=1e-6)


def test_bytes_are_scaled_to_one():
    obs = jnp.array([[[0, 51], [102, 255]]], jnp.uint8)
    flat = networks.flatten(obs, ArraySpec((2, 2), "uint8"))
    assert flat.dtype == jnp.float32
    np.testing.assert_allclose(flat, [[0.0, 0.2, 0.4, 1.0]], rtol=1e-6)


def test_floats_and_integers_are_not_scaled():
    assert networks.flatten(jnp.array([[200.0, -3.0]]), ArraySpec((2,), "float32")).tolist() == [[200.0, -3.0]]
    assert networks.flatten(jnp.array([[200, -3]]), ArraySpec((2,), "int32")).tolist() == [[200.0, -3.0]]


@pytest.mark.parametrize(("shape", "leading", "size"), [((3, 4), (5, 7), 12), ((), (5,), 1), ((2,), (), 2)])
def test_flatten_keeps_leading_axes(shape, leading, size):
    flat = networks.flatten(jnp.zeros(leading + shape), ArraySpec(shape, "float32"))
    assert flat.shape == (*leading, size)


def test_a_tree_of_observations_is_refused_in_one_line():
    spec = tree_spec({"a": jnp.zeros(2), "b": jnp.zeros(3)})
    with pytest.raises(UsageError, match="dqn needs observations that are one array, not a tree; flatten") as error:
        networks.array_obs(spec, "dqn")
    assert "\n" not in str(error.value)


def test_an_array_spec_is_passed_on():
    assert networks.array_obs(ArraySpec((4,), "float32"), "dqn") == ArraySpec((4,), "float32")
