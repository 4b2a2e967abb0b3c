"""Networks against forward passes and parameter counts worked out with numpy or by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks
from jaxrl.policy import PolicyConfig, actor_critic
from jaxrl.types import ArraySpec, Box, Spec, UsageError, spec_zeros, tree_spec


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


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5), (64, 64), (64, 1), (1, 1)])
def test_orthogonal_weights_have_an_orthonormal_shorter_side(shape):
    """Times the scale, for each of 50 keys drawn as one batch."""
    init = jax.jit(jax.vmap(lambda key: networks.orthogonal(0.01)(key, shape)))
    draws = np.asarray(init(jax.random.split(jax.random.key(0), 50)), float) / 0.01
    assert draws.shape == (50, *shape)
    gram = draws.mT @ draws if shape[0] >= shape[1] else draws @ draws.mT
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(min(shape)), gram.shape), atol=1e-4)


def test_orthogonal_weights_are_uniform():
    """Entries of a uniform orthonormal 4 x 2 matrix have mean 0, mean square 1 / 4 and no correlation; 5 standard errors."""
    num = 4000
    draws = np.asarray(
        jax.jit(jax.vmap(lambda key: networks.orthogonal()(key, (4, 2))))(jax.random.split(jax.random.key(1), num))
    )
    squares = np.einsum("nij,nkl->nijkl", draws, draws).reshape(num, 8, 8)
    assert np.all(np.abs(draws.mean(0)) < 5.0 * np.sqrt(0.25 / num))
    assert np.all(np.abs(squares.mean(0) - np.eye(8) / 4.0) < 5.0 * squares.std(0) / np.sqrt(num))


def test_orthogonal_weights_depend_on_the_key():
    first, second = (networks.orthogonal()(jax.random.key(i), (4, 4)) for i in (0, 1))
    assert np.max(np.abs(first - second)) > 0.1


def primitives(function, *args):
    """Names of all primitives in the program of a function, in nested programs as well."""

    def names(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for leaf in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                if hasattr(leaf, "eqns"):
                    yield from names(getattr(leaf, "jaxpr", leaf))

    return set(names(jax.make_jaxpr(function)(*args).jaxpr))


DECOMPOSITIONS = {"qr", "geqrf", "geqp3", "householder_product", "svd", "eigh", "lu", "cholesky", "custom_call"}


def test_orthogonal_weights_need_no_decomposition():
    key = jax.random.key(0)
    assert primitives(lambda key: jax.nn.initializers.orthogonal()(key, (8, 4)), key) & DECOMPOSITIONS  # JAX's own has one
    found = primitives(lambda key: networks.orthogonal()(key, (8, 4)), key)
    assert "dot_general" in found and not found & DECOMPOSITIONS


@pytest.mark.parametrize("gru", [None, 8])
def test_initialising_actor_critic_and_core_needs_no_decomposition(gru):
    spec = Spec(ArraySpec((5,), "float32"), Box((2,)))
    found = primitives(actor_critic(PolicyConfig(hidden=(8, 8)), spec, gru).init, jax.random.key(0))
    assert "dot_general" in found and not found & DECOMPOSITIONS


def test_a_head_is_an_mlp_with_a_linear_layer(x):
    network = networks.Head(3, 0.5, (8, 5))
    params = noisy(init(network, 4))
    layers = params["params"]
    hidden = x
    for layer in layers["MLP_0"].values():
        hidden = np.tanh(dense(layer, hidden))
    np.testing.assert_allclose(apply(network, params, x), dense(layers["Dense_0"], hidden), rtol=1e-4, atol=1e-5)


def test_a_head_starts_at_its_scales():
    """Hidden columns have length sqrt(2), the last layer's the head's scale, biases are 0."""
    layers = init(networks.Head(3, 0.01, (8,)), 16)["params"]
    np.testing.assert_allclose(np.linalg.norm(layers["MLP_0"]["Dense_0"]["kernel"], axis=0), 2.0**0.5, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(layers["Dense_0"]["kernel"], axis=0), 0.01, rtol=1e-4)
    assert not np.any(layers["MLP_0"]["Dense_0"]["bias"]) and not np.any(layers["Dense_0"]["bias"])


def test_a_head_keeps_leading_axes(x):
    network = networks.Head(3, 1.0, (8,))
    assert apply(network, init(network, 4), x.reshape(2, 3, 4)).shape == (2, 3, 3)


def test_gru_equals_its_equations(x):
    """Cho et al. 2014, with the reset gate after the recurrent product: h' = (1 - z) n + z h."""
    network = networks.GRU(5)
    memory = np.random.default_rng(4).normal(size=(6, 5)).astype(np.float32)
    params = noisy(jax.jit(network.init)(jax.random.key(0), memory, x))
    cell = params["params"]["GRUCell_0"]
    y = np.tanh(dense(params["params"]["Dense_0"], x))
    sigmoid = lambda u: 1.0 / (1.0 + np.exp(-u))  # noqa: E731
    reset = sigmoid(dense(cell["ir"], y) + memory @ cell["hr"]["kernel"])
    update = sigmoid(dense(cell["iz"], y) + memory @ cell["hz"]["kernel"])
    new = np.tanh(dense(cell["in"], y) + reset * dense(cell["hn"], memory))
    expected = (1.0 - update) * new + update * memory
    np.testing.assert_allclose(jax.jit(network.apply)(params, memory, x), expected, rtol=1e-4, atol=1e-5)


def test_the_leaves_of_a_tree_are_joined_in_its_order():
    spec = tree_spec({"b": jnp.zeros((2, 2), jnp.uint8), "a": jnp.zeros(2), "c": jnp.int32(0)})
    obs = {"b": jnp.full((3, 2, 2), 51, jnp.uint8), "a": jnp.arange(6.0).reshape(3, 2), "c": jnp.array([7, 8, 9])}
    flat = networks.flatten(obs, spec)
    assert flat.dtype == jnp.float32
    np.testing.assert_allclose(
        flat, [[0, 1, 0.2, 0.2, 0.2, 0.2, 7], [2, 3, 0.2, 0.2, 0.2, 0.2, 8], [4, 5, 0.2, 0.2, 0.2, 0.2, 9]], rtol=1e-6
    )


@pytest.mark.parametrize("leading", [(), (5,), (4, 5)])
def test_flatten_keeps_leading_axes_of_a_tree(leading):
    spec = tree_spec((jnp.zeros((2, 3)), jnp.zeros(()), {"x": jnp.zeros(4)}))
    assert networks.flatten(spec_zeros(spec, leading), spec).shape == (*leading, 11)
