"""Noisy layers against their formula, and what agents do with them."""

import jax
import jax.numpy as jnp
import numpy as np

from helpers import progress_at
from jaxrl.agents import DQNConfig, make_dqn
from jaxrl.config import as_arrays
from jaxrl.nets.action_values import q_network
from jaxrl.nets.layers import NoisyDense, draw_noise
from jaxrl.types import ArraySpec, Discrete, Spec

SPEC = Spec(ArraySpec((3,), "float32"), Discrete(2))
CONFIG = DQNConfig(num_envs=2, capacity=8, batch_size=4, hidden=(5,), noisy=True)


def test_a_noisy_layer_is_its_formula():
    rng = np.random.default_rng(0)
    layer, x = NoisyDense(4, sigma=0.3), rng.normal(size=(7, 3)).astype(np.float32)
    params = layer.init(jax.random.key(0), x)["params"]
    kernel, bias, s_kernel, s_bias = (np.asarray(params[n]) for n in ("kernel", "bias", "noisy_kernel", "noisy_bias"))
    assert np.abs(kernel).max() <= 3**-0.5 and np.abs(bias).max() <= 3**-0.5 and kernel.std() > 0.1
    np.testing.assert_allclose([s_kernel.min(), s_kernel.max(), s_bias.max()], 0.3 * 3**-0.5, rtol=1e-6)
    np.testing.assert_allclose(layer.apply({"params": params}, x), x @ kernel + bias, rtol=1e-5, atol=1e-6)
    into, out = rng.normal(size=3).astype(np.float32), rng.normal(size=4).astype(np.float32)
    expected = x @ (kernel + s_kernel * np.outer(into, out)) + bias + s_bias * out
    found = layer.apply({"params": params, "noise": {"into": into, "out": out}}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_noise_is_that_of_the_paper():
    """f(e)^2 = |e|, whose mean is sqrt(2 / pi); the sign is even."""
    shapes = {"a": jax.ShapeDtypeStruct((20_000,), jnp.float32), "b": jax.ShapeDtypeStruct((2, 3), jnp.float32)}
    noise = draw_noise(jax.random.key(0), shapes)
    assert noise["b"].shape == (2, 3)
    np.testing.assert_allclose([jnp.mean(noise["a"] ** 2), jnp.mean(noise["a"])], [(2 / np.pi) ** 0.5, 0.0], atol=0.03)


def test_all_dense_layers_are_noisy_and_the_parameters_hold_no_noise():
    network = q_network(CONFIG, SPEC)
    params = network.init(jax.random.key(0))
    assert set(params) == {"params"}
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)]
    assert sum("noisy_kernel" in name for name in names) == 2 and not any("'Dense_" in name for name in names)
    obs = jnp.ones((4, 3))
    first, second, mean = (network.apply(key, params, obs) for key in (jax.random.key(1), jax.random.key(2), None))
    assert not np.allclose(first, second) and not np.allclose(first, mean)
    np.testing.assert_allclose(first, jnp.broadcast_to(first[0], first.shape), rtol=1e-5)  # One draw for a minibatch.


def test_noise_alone_explores_and_each_environment_has_its_own():
    agent = make_dqn(as_arrays(CONFIG), SPEC)
    policy, obs, progress = agent.init(jax.random.key(0)).policy, jnp.ones((400, 3)), progress_at(0, 10)
    policy = jax.tree.map_with_path(lambda path, leaf: leaf * (10.0 if "noisy" in str(path) else 1.0), policy)
    act = jax.jit(agent.act, static_argnums=5)
    action, greedy = (act(jax.random.key(1), policy, (), obs, progress, explore)[0] for explore in (True, False))
    assert 20 < action.sum() < 380 and len(np.unique(greedy)) == 1
    still = jax.tree.map_with_path(lambda path, leaf: leaf * (0.0 if "noisy" in str(path) else 1.0), policy)
    np.testing.assert_array_equal(act(jax.random.key(1), still, (), obs, progress, True)[0], greedy)
