"""Networks against forward passes and parameter counts worked out with numpy or by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents.policy_gradient.policy import PolicyConfig
from jaxrl.errors import UsageError
from jaxrl.nets.actor_critic import actor_critic
from jaxrl.nets.conv import Conv
from jaxrl.nets.heads import Head, QNetwork
from jaxrl.nets.inputs import flatten, network_inputs, picture_shape
from jaxrl.nets.layers import ACTIVATIONS, GRU, MLP, orthogonal
from jaxrl.nets.torso import CONVOLUTIONAL, Torso, torso_of
from jaxrl.types import BYTE, ArraySpec, Box, Discrete, Spec, spec_zeros, tree_spec


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
    params = init(MLP((120, 84)), 4)
    assert num_parameters(params) == (4 * 120 + 120) + (120 * 84 + 84)


def test_mlp_applies_its_activation_after_every_layer(x):
    network = MLP((8, 5), "tanh")
    params = noisy(init(network, 4))
    layers = params["params"]
    expected = np.tanh(dense(layers["Dense_1"], np.tanh(dense(layers["Dense_0"], x))))
    np.testing.assert_allclose(apply(network, params, x), expected, rtol=1e-4, atol=1e-5)


def test_q_network_has_one_linear_output_per_action():
    assert num_parameters(init(QNetwork(2, (120, 84)), 4)) == 600 + 10_164 + (84 * 2 + 2)


def test_q_network_output_is_linear_in_the_last_hidden_layer(x):
    network = QNetwork(3, (8, 5))
    params = noisy(init(network, 4))
    expected = dense(params["params"]["Dense_0"], hidden_layers(params["params"], x))
    np.testing.assert_allclose(apply(network, params, x), expected, rtol=1e-4, atol=1e-5)


def test_dueling_adds_one_value_unit():
    assert num_parameters(init(QNetwork(2, (120, 84), dueling=True), 4)) == 10_934 + (84 + 1)


def test_dueling_mean_over_actions_is_the_value_stream(x):
    network = QNetwork(3, (8, 5), dueling=True)
    params = noisy(init(network, 4))
    streams = [layer for name, layer in params["params"].items() if name.startswith("Dense")]
    (value,) = [layer for layer in streams if layer["bias"].shape == (1,)]
    q = np.asarray(apply(network, params, x))
    np.testing.assert_allclose(q.mean(-1, keepdims=True), dense(value, hidden_layers(params["params"], x)), atol=1e-5)


def test_dueling_differences_between_actions_are_those_of_the_advantages(x):
    network = QNetwork(3, (8, 5), dueling=True)
    params = noisy(init(network, 4))
    streams = [layer for name, layer in params["params"].items() if name.startswith("Dense")]
    (stream,) = [layer for layer in streams if layer["bias"].shape == (3,)]
    advantage = dense(stream, hidden_layers(params["params"], x))
    q = np.asarray(apply(network, params, x))
    np.testing.assert_allclose(q - q[:, :1], advantage - advantage[:, :1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_has_a_gradient(activation, x):
    network = QNetwork(2, (8,), activation)
    params = init(network, 4)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(network.apply(p, x) ** 2)))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert np.any(grads["params"]["MLP_0"]["Dense_0"]["kernel"])


def test_leading_axes_are_free(x):
    network = QNetwork(3, (8,))
    params = init(network, 4)
    deep = apply(network, params, x.reshape(2, 3, 4))
    np.testing.assert_allclose(deep, apply(network, params, x).reshape(2, 3, 3), rtol=1e-5, atol=1e-6)


def test_brightness_in_bytes_is_scaled_to_one():
    obs = jnp.array([[[0, 51], [102, 255]]], jnp.uint8)
    flat = flatten(obs, ArraySpec((2, 2), "uint8", scale=BYTE))
    assert flat.dtype == jnp.float32
    np.testing.assert_allclose(flat, [[0.0, 0.2, 0.4, 1.0]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float32"])
def test_bits_reach_networks_as_zeros_and_ones_whatever_their_type(dtype):
    vectors, planes = np.array([[0, 1, 1, 0]], dtype), np.eye(3, dtype=dtype)[None, :, :, None]
    assert flatten(vectors, ArraySpec((4,), dtype)).tolist() == [[0.0, 1.0, 1.0, 0.0]]
    seen = network_inputs(planes, ArraySpec((3, 3, 1), dtype, picture="HWC"), "minatar")
    assert seen.dtype == jnp.float32
    np.testing.assert_array_equal(seen, planes)


def test_floats_and_integers_are_not_scaled():
    assert flatten(jnp.array([[200.0, -3.0]]), ArraySpec((2,), "float32")).tolist() == [[200.0, -3.0]]
    assert flatten(jnp.array([[200, -3]]), ArraySpec((2,), "int32")).tolist() == [[200.0, -3.0]]


@pytest.mark.parametrize(("shape", "leading", "size"), [((3, 4), (5, 7), 12), ((), (5,), 1), ((2,), (), 2)])
def test_flatten_keeps_leading_axes(shape, leading, size):
    flat = flatten(jnp.zeros(leading + shape), ArraySpec(shape, "float32"))
    assert flat.shape == (*leading, size)


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5), (64, 64), (64, 1), (1, 1)])
def test_orthogonal_weights_have_an_orthonormal_shorter_side(shape):
    """Times the scale, for each of 50 keys drawn as one batch."""
    init = jax.jit(jax.vmap(lambda key: orthogonal(0.01)(key, shape)))
    draws = np.asarray(init(jax.random.split(jax.random.key(0), 50)), float) / 0.01
    assert draws.shape == (50, *shape)
    gram = draws.mT @ draws if shape[0] >= shape[1] else draws @ draws.mT
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(min(shape)), gram.shape), atol=1e-4)


def test_orthogonal_weights_are_uniform():
    """Entries of a uniform orthonormal 4 x 2 matrix have mean 0, mean square 1 / 4 and no correlation; 5 standard errors."""
    num = 4000
    draws = np.asarray(jax.jit(jax.vmap(lambda key: orthogonal()(key, (4, 2))))(jax.random.split(jax.random.key(1), num)))
    squares = np.einsum("nij,nkl->nijkl", draws, draws).reshape(num, 8, 8)
    assert np.all(np.abs(draws.mean(0)) < 5.0 * np.sqrt(0.25 / num))
    assert np.all(np.abs(squares.mean(0) - np.eye(8) / 4.0) < 5.0 * squares.std(0) / np.sqrt(num))


def test_orthogonal_weights_depend_on_the_key():
    first, second = (orthogonal()(jax.random.key(i), (4, 4)) for i in (0, 1))
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
    found = primitives(lambda key: orthogonal()(key, (8, 4)), key)
    assert "dot_general" in found and not found & DECOMPOSITIONS


@pytest.mark.parametrize("gru", [None, 8])
def test_initialising_actor_critic_and_core_needs_no_decomposition(gru):
    spec = Spec(ArraySpec((5,), "float32"), Box((2,)))
    found = primitives(actor_critic(PolicyConfig(hidden=(8, 8)), spec, gru).init, jax.random.key(0))
    assert "dot_general" in found and not found & DECOMPOSITIONS


def test_a_head_is_an_mlp_with_a_linear_layer(x):
    network = Head(3, 0.5, (8, 5))
    params = noisy(init(network, 4))
    layers = params["params"]
    hidden = x
    for layer in layers["MLP_0"].values():
        hidden = np.tanh(dense(layer, hidden))
    np.testing.assert_allclose(apply(network, params, x), dense(layers["Dense_0"], hidden), rtol=1e-4, atol=1e-5)


def test_a_head_starts_at_its_scales():
    """Hidden columns have length sqrt(2), the last layer's the head's scale, biases are 0."""
    layers = init(Head(3, 0.01, (8,)), 16)["params"]
    np.testing.assert_allclose(np.linalg.norm(layers["MLP_0"]["Dense_0"]["kernel"], axis=0), 2.0**0.5, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(layers["Dense_0"]["kernel"], axis=0), 0.01, rtol=1e-4)
    assert not np.any(layers["MLP_0"]["Dense_0"]["bias"]) and not np.any(layers["Dense_0"]["bias"])


def test_a_head_keeps_leading_axes(x):
    network = Head(3, 1.0, (8,))
    assert apply(network, init(network, 4), x.reshape(2, 3, 4)).shape == (2, 3, 3)


def test_gru_equals_its_equations(x):
    """Cho et al. 2014, with the reset gate after the recurrent product: h' = (1 - z) n + z h."""
    network = GRU(5)
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
    spec = tree_spec({"b": ArraySpec((2, 2), "uint8", scale=BYTE), "a": jnp.zeros(2), "c": jnp.int32(0)})
    obs = {"b": jnp.full((3, 2, 2), 51, jnp.uint8), "a": jnp.arange(6.0).reshape(3, 2), "c": jnp.array([7, 8, 9])}
    flat = flatten(obs, spec)
    assert flat.dtype == jnp.float32
    np.testing.assert_allclose(
        flat, [[0, 1, 0.2, 0.2, 0.2, 0.2, 7], [2, 3, 0.2, 0.2, 0.2, 0.2, 8], [4, 5, 0.2, 0.2, 0.2, 0.2, 9]], rtol=1e-6
    )


@pytest.mark.parametrize("leading", [(), (5,), (4, 5)])
def test_flatten_keeps_leading_axes_of_a_tree(leading):
    spec = tree_spec((jnp.zeros((2, 3)), jnp.zeros(()), {"x": jnp.zeros(4)}))
    assert flatten(spec_zeros(spec, leading), spec).shape == (*leading, 11)


# --- convolutions ---------------------------------------------------------------------------------------------------

WINDOWS = {
    "nature-1": ((20, 20, 4), (8, 8), (4, 4)),
    "nature-2": ((8, 8, 5), (4, 4), (2, 2)),
    "nature-3": ((6, 6, 5), (3, 3), (1, 1)),
    "rest": ((11, 10, 2), (4, 4), (2, 2)),
    "indivisible": ((10, 11, 2), (3, 3), (2, 2)),
    "apart": ((11, 10, 2), (2, 2), (3, 3)),
    "oblong": ((9, 12, 3), (4, 3), (2, 1)),
}
"""(H, W, C), window, stride; of "rest" a row is in no window."""


def convolutions(window, stride, native):
    """Ours and flax's."""
    ours = Conv(6, window, stride, native=native)
    return ours, nn.Conv(6, window, stride, padding="VALID")


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_a_convolution_and_its_gradients_are_those_of_flax(name, native):
    shape, window, stride = WINDOWS[name]
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    ours, flax = convolutions(window, stride, native)
    params = noisy(jax.jit(flax.init)(jax.random.key(0), x))

    def found(network):
        def loss(params, x):
            y = network.apply(params, x)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, x)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), found(ours), found(flax))


def test_a_convolution_starts_with_the_parameters_of_flax():
    x = jnp.zeros((2, 9, 9, 3))
    ours, flax = (jax.jit(c.init)(jax.random.key(0), x) for c in convolutions((4, 4), (2, 2), None))
    jax.tree.map(np.testing.assert_array_equal, ours, flax)


def test_runs_of_gradient_steps_in_a_scan_are_those_of_flax():
    """Two runs with parameters and data of their own, vmapped."""
    rng = np.random.default_rng(2)
    batches = rng.normal(size=(2, 5, 4, 12, 12, 2)).astype(np.float32)

    def trained(network):
        def run(key, batches):
            def one(params, x):
                loss, grads = jax.value_and_grad(lambda p: jnp.mean(jnp.sin(network.apply(p, x))))(params)
                return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), loss

            return jax.lax.scan(one, network.init(key, batches[0]), batches)

        return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0)), batches)

    ours, flax = (trained(network) for network in convolutions((8, 8), (4, 4), False))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, flax)


def test_a_convolution_is_a_matrix_product_on_a_cpu_and_native_elsewhere(monkeypatch):
    network = Conv(4, (2, 2))
    x = jnp.zeros((1, 4, 4, 1))
    params = network.init(jax.random.key(0), x)
    for backend, native in (("cpu", False), ("gpu", True), ("tpu", True)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        found = primitives(lambda x: network.apply(params, x), x)
        assert ("conv_general_dilated" in found, "dot_general" in found) == (native, not native)


def test_a_convolution_of_boards_is_native_but_for_many_networks():
    network, x = Conv(4, (3, 3), native_forward=True, native=False), np.random.default_rng(5).normal(size=(2, 3, 5, 5, 2))
    flax, x = nn.Conv(4, (3, 3), padding="VALID"), x.astype(np.float32)
    params = noisy(jax.jit(jax.vmap(lambda key: flax.init(key, x[0])))(jax.random.split(jax.random.key(0))))
    one = jax.tree.map(lambda leaf: leaf[0], params)

    def uses(found):
        return [
            lambda p, x: found.apply(jax.tree.map(lambda leaf: leaf[0], p), x[0]),
            lambda p, x: jax.vmap(lambda x: found.apply(jax.tree.map(lambda leaf: leaf[0], p), x))(x),
            lambda p, x: jax.vmap(found.apply)(p, x),
            lambda p, x: jax.grad(lambda p: jnp.sum(jnp.sin(found.apply(p, x))))(one),
            lambda p, x: jax.vmap(jax.grad(lambda p, x: jnp.sum(jnp.sin(found.apply(p, x)))))(p, x),
        ]

    for ours, theirs, native in zip(uses(network), uses(flax), (True, True, False, True, False), strict=True):
        assert ("conv_general_dilated" in primitives(ours, params, x)) == native
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
            jax.jit(ours)(params, x),
            jax.jit(theirs)(params, x),
        )


@pytest.mark.parametrize("channels", [3, 4, 6])
@pytest.mark.parametrize("stride", [2, 4])
def test_bytes_are_seen_as_their_values_over_255(channels, stride):
    """Bytes of stacks move four at a time where the stride is four, which must be seen by nobody."""
    x = np.random.default_rng(4).integers(0, 256, (2, 20, 24, channels), np.uint8)
    networks_ = convolutions((8, 8), (stride, stride), False)
    params = noisy(jax.jit(networks_[1].init)(jax.random.key(0), x.astype(np.float32)))
    for native in (False, True):
        ours = Conv(6, (8, 8), (stride, stride), native=native)
        loss = jax.jit(jax.value_and_grad(lambda p, x, ours=ours: jnp.sum(jnp.sin(ours.apply(p, x)))))
        flax = jax.jit(jax.value_and_grad(lambda p, x: jnp.sum(jnp.sin(networks_[1].apply(p, x)))))
        found, wanted = loss(params, x), flax(params, x.astype(np.float32) / 255.0)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), found, wanted)


def test_a_convolution_keeps_leading_axes():
    x = np.random.default_rng(3).normal(size=(6, 5, 5, 2)).astype(np.float32)
    network = Conv(3, (3, 3))
    params = jax.jit(network.init)(jax.random.key(0), x)
    flat = apply(network, params, x)
    assert flat.shape == (6, 3, 3, 3)
    np.testing.assert_allclose(apply(network, params, x.reshape(2, 3, 5, 5, 2)), flat.reshape(2, 3, 3, 3, 3), atol=1e-5)
    np.testing.assert_allclose(apply(network, params, x[0]), flat[0], atol=1e-5)


def test_orthogonal_kernels_have_orthonormal_filters():
    kernel = np.asarray(jax.jit(lambda key: orthogonal(2.0)(key, (4, 4, 3, 8)))(jax.random.key(0)))
    assert kernel.shape == (4, 4, 3, 8)
    np.testing.assert_allclose(np.einsum("hwci,hwcj->ij", kernel, kernel), 4.0 * np.eye(8), atol=1e-4)


# --- torsos ---------------------------------------------------------------------------------------------------------


def count(network, shape):
    return num_parameters(jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape), jnp.uint8)))


def test_the_nature_network_has_the_parameters_of_the_paper():
    convolutions = (32 * 8 * 8 * 4 + 32) + (64 * 4 * 4 * 32 + 64) + (64 * 3 * 3 * 64 + 64)
    expected = convolutions + (3136 * 512 + 512) + (512 * 6 + 6)
    assert count(QNetwork(6, (), torso="nature"), (84, 84, 4)) == expected


def test_the_network_of_2013_has_the_parameters_of_the_paper():
    expected = (16 * 8 * 8 * 4 + 16) + (32 * 4 * 4 * 16 + 32) + (9 * 9 * 32 * 256 + 256) + (256 * 6 + 6)
    assert count(QNetwork(6, (), torso="atari2013"), (84, 84, 4)) == expected


def test_the_minatar_network_has_the_parameters_of_the_paper():
    expected = (16 * 3 * 3 * 4 + 16) + (8 * 8 * 16 * 128 + 128) + (128 * 6 + 6)
    assert count(QNetwork(6, (), torso="minatar"), (10, 10, 4)) == expected


def test_convolutions_stand_in_the_place_of_the_hidden_layers():
    bare, hidden = (QNetwork(3, hidden, torso="minatar") for hidden in ((), (120, 84)))
    assert count(bare, (10, 10, 4)) == count(hidden, (10, 10, 4))


def test_streams_of_value_and_advantage_stand_on_the_convolutions():
    plain, dueling = (QNetwork(3, (), dueling=dueling, torso="minatar") for dueling in (False, True))
    assert count(dueling, (10, 10, 4)) == count(plain, (10, 10, 4)) + (128 + 1)


class Written(nn.Module):
    """A torso as its paper lists it, of flax's convolutions."""

    layers: tuple
    units: int

    @nn.compact
    def __call__(self, x):
        for filters, window, stride in self.layers:
            x = nn.relu(nn.Conv(filters, (window, window), (stride, stride), padding="VALID")(x))
        return nn.relu(nn.Dense(self.units)(x.reshape((x.shape[0], -1))))


@pytest.mark.parametrize(
    ("kind", "shape", "written"),
    [
        ("nature", (40, 36, 4), Written(((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512)),
        ("atari2013", (20, 24, 4), Written(((16, 8, 4), (32, 4, 2)), 256)),
        ("minatar", (10, 10, 6), Written(((16, 3, 1),), 128)),
    ],
)
def test_a_torso_is_the_network_of_its_paper_on_bytes_scaled_to_one(kind, shape, written):
    x = np.random.default_rng(4).integers(0, 256, size=(2, *shape)).astype(np.uint8)
    params = noisy(jax.jit(written.init)(jax.random.key(0), jnp.zeros((1, *shape))))
    expected = apply(written, params, x.astype(np.float32) / 255.0)
    np.testing.assert_allclose(apply(Torso(kind), params, x), expected, rtol=1e-3, atol=1e-3)


def test_booleans_and_floats_are_not_scaled():
    x = np.random.default_rng(5).random((2, 10, 10, 4)) < 0.5
    written = Written(((16, 3, 1),), 128)
    params = noisy(jax.jit(written.init)(jax.random.key(0), jnp.zeros((1, 10, 10, 4))))
    for dtype in (bool, np.float32):
        found = apply(Torso("minatar"), params, x.astype(dtype))
        np.testing.assert_allclose(found, apply(written, params, x.astype(np.float32)), rtol=1e-3, atol=1e-3)


def test_channels_first_and_last_are_the_same_function_of_the_same_picture():
    last = np.random.default_rng(6).integers(0, 256, size=(2, 36, 40, 4)).astype(np.uint8)
    first = np.moveaxis(last, -1, 1)
    network = QNetwork(3, (), torso="nature")
    params = jax.jit(network.init)(jax.random.key(0), jnp.asarray(last))

    @jax.jit
    def values(obs):
        spec = ArraySpec(obs.shape[1:], "uint8", picture="CHW" if obs.shape[1] == 4 else "HWC", scale=BYTE)
        return network.apply(params, network_inputs(obs, spec, torso_of("auto", spec)))

    np.testing.assert_allclose(values(first), values(last), rtol=1e-5, atol=1e-6)
    assert np.std(values(first)) > 1e-3


@pytest.mark.parametrize(
    ("shape", "axes", "picture"),
    [
        ((4, 84, 84), "CHW", (84, 84, 4)),
        ((84, 84, 3), "HWC", (84, 84, 3)),
        ((10, 10, 27), "HWC", (10, 10, 27)),
        ((10, 8, 4), "CHW", (8, 4, 10)),
        ((10, 10, 4), None, None),
        ((4, 84), None, None),
    ],
)
def test_the_axes_of_a_picture_are_what_its_spec_says(shape, axes, picture):
    spec = ArraySpec(shape, "uint8", picture=axes)
    assert picture_shape(spec) == picture
    if picture is not None:
        assert network_inputs(spec_zeros(spec, (2, 3)), spec, "minatar").shape == (2, 3, *picture)


@pytest.mark.parametrize(
    ("spec", "torso"),
    [
        (ArraySpec((4, 84, 84), "uint8", picture="CHW", scale=BYTE), "nature"),
        (ArraySpec((36, 36, 1), "float32", picture="HWC"), "nature"),
        (ArraySpec((4, 36, 35), "uint8", picture="CHW"), "mlp"),
        (ArraySpec((10, 10, 4), "bool"), "mlp"),
        (ArraySpec((84, 84), "uint8"), "mlp"),
        (ArraySpec((40, 40, 3), "int32", 7), "mlp"),
        (tree_spec({"a": jnp.zeros((4, 84, 84)), "b": jnp.zeros(3)}), "mlp"),
    ],
)
def test_auto_is_nature_for_large_pictures_and_else_mlp(spec, torso):
    assert torso_of("auto", spec) == torso


@pytest.mark.parametrize("torso", CONVOLUTIONAL)
def test_a_torso_names_the_least_picture_that_it_can_see(torso):
    """Of that size one pixel is left; one pixel less is refused in one line."""
    least, filters, small = {
        "nature": (36, 64, ArraySpec((1, 36, 35), "uint8", picture="CHW")),
        "atari2013": (20, 32, ArraySpec((1, 20, 19), "uint8", picture="CHW")),
        "minatar": (3, 16, ArraySpec((3, 2, 1), "uint8", picture="HWC")),
    }[torso]
    assert torso_of(torso, ArraySpec((least, least, 1), "uint8", picture="HWC")) == torso
    shapes = jax.eval_shape(Torso(torso).init, jax.random.key(0), jnp.zeros((1, least, least, 1)))
    assert shapes["params"]["Dense_0"]["kernel"].shape[0] == filters
    with pytest.raises(UsageError, match=f"torso='{torso}' needs pictures of at least {least} x {least}, not ") as error:
        torso_of(torso, small)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", [ArraySpec((84, 84), "uint8"), tree_spec({"a": jnp.zeros((4, 84, 84))})])
def test_convolutions_of_what_is_no_picture_are_refused(spec):
    with pytest.raises(UsageError, match="torso='nature' needs pictures, arrays of three axes"):
        torso_of("nature", spec)


@pytest.mark.parametrize(("torso", "shape"), [("auto", (84, 84, 4)), ("auto", (4, 84, 84)), ("minatar", (10, 10, 4))])
def test_whether_three_axes_are_a_picture_is_asked_and_not_guessed(torso, shape):
    spec = ArraySpec(shape, "uint8")
    with pytest.raises(UsageError, match=r"cannot tell what the axes .*; say picture='HWC' or 'CHW' .*, or choose torso=mlp"):
        torso_of(torso, spec)
    assert torso_of("mlp", spec) == "mlp"


@pytest.mark.parametrize(("gru", "shared"), [(None, True), (8, True), (None, False)])
def test_initialising_convolutions_needs_no_decomposition(gru, shared):
    spec = Spec(ArraySpec((4, 36, 36), "uint8", picture="CHW", scale=BYTE), Discrete(2))
    found = primitives(actor_critic(PolicyConfig(), spec, gru, shared).init, jax.random.key(0))
    assert "dot_general" in found and not found & DECOMPOSITIONS
