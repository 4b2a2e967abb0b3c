"""The optimizer against optax over several steps on a tree of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from helpers import assert_close
from jaxrl.maths import optimizer

STEPS = 6
step = jax.jit(optimizer.step, static_argnames=("max_grad_norm", "eps", "rectified"))
momentum_step = jax.jit(optimizer.momentum_step, static_argnames="max_grad_norm")


def make_tree(rng, scale=1.0):
    normal = lambda *shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)  # noqa: E731
    return {"layer": {"kernel": normal(3, 4), "bias": normal(4)}, "log_std": normal(), "heads": (normal(2), normal(1, 5))}


@pytest.fixture
def params():
    return make_tree(np.random.default_rng(0))


@pytest.fixture
def gradients():
    """A tree for each step, of norms from about 0.03 to 30."""
    rng = np.random.default_rng(1)
    return [make_tree(rng, scale) for scale in np.geomspace(0.005, 5.0, STEPS)]


def ours(params, gradients, rates, **settings):
    state = optimizer.init(params)
    for grads, rate in zip(gradients, rates, strict=True):
        params, state, _ = step(params, grads, state, rate, **settings)
    return params


def optax_s(params, gradients, transformation):
    state = transformation.init(params)
    update = jax.jit(transformation.update)
    for grads in gradients:
        updates, state = update(grads, state)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_steps_equal_optax_adam(params, gradients, eps):
    expected = optax_s(params, gradients, optax.adam(0.03, eps=eps))
    assert_close(ours(params, gradients, [0.03] * STEPS, eps=eps), expected, rtol=1e-5)


def test_rectified_steps_equal_optax_radam_in_64_bits(params, gradients):
    """Twelve steps: the first five go by the first moment. In 32 bits optax loses the digits of 1 - b2^t."""
    gradients = [*gradients, *gradients]
    found = ours(params, gradients, [0.03] * 2 * STEPS, rectified=True)
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)  # noqa: E731
        expected = optax_s(wide(params), [wide(grads) for grads in gradients], optax.radam(0.03))
    assert_close(found, jax.tree.map(np.float32, expected), rtol=1e-4)


def test_the_rectification_by_hand():
    """rho_inf = 1999, rho_6 = 1999 - 12 b / (1 - b) = 5.99 where b = 0.999^6."""
    b = 0.999**6
    rho = 1999.0 - 12.0 * b / (1.0 - b)
    expected = np.sqrt((rho - 4.0) * (rho - 2.0) * 1999.0 / (1995.0 * 1997.0 * rho))
    weight, tractable = optimizer._rectification(jnp.int32(6))
    np.testing.assert_allclose(weight, expected, rtol=1e-3)
    assert tractable and not optimizer._rectification(jnp.int32(5))[1]


@pytest.mark.parametrize("max_grad_norm", [0.5, 1e4])
def test_clipped_steps_equal_optax(params, gradients, max_grad_norm):
    clipped_adam = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(0.03))
    expected = optax_s(params, gradients, clipped_adam)
    assert_close(ours(params, gradients, [0.03] * STEPS, max_grad_norm=max_grad_norm), expected, rtol=1e-5)


def test_clipping_changes_the_steps(params, gradients):
    """Adam is blind to the scale of all gradients, not to that of some of them."""
    plain, clipped = (ours(params, gradients, [0.03] * STEPS, max_grad_norm=norm) for norm in (None, 0.5))
    assert np.max(np.abs(plain["layer"]["kernel"] - clipped["layer"]["kernel"])) > 0.01


def test_a_learning_rate_of_each_step_equals_an_optax_schedule_and_compiles_once(params, gradients):
    rates = jnp.linspace(0.1, 0.0, STEPS)
    expected = optax_s(params, gradients, optax.adam(lambda count: rates[count]))
    compiled, state = jax.jit(lambda *args: optimizer.step(*args)), optimizer.init(params)
    for grads, rate in zip(gradients, rates, strict=True):
        params, state, _ = compiled(params, grads, state, rate)
    assert_close(params, expected, rtol=1e-5)
    assert compiled._cache_size() == 1


def test_a_batch_of_learning_rates_equals_each_alone(params, gradients):
    rates = jnp.array([0.3, 0.01])
    found = jax.vmap(lambda rate: ours(params, gradients, [rate] * STEPS))(rates)
    for i, rate in enumerate(rates):
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], found), ours(params, gradients, [rate] * STEPS))


def test_the_first_step_is_the_learning_rate_along_each_sign():
    """Both moments are debiased, so g / sqrt(g^2)."""
    params, grads = {"w": jnp.array([1.0, 1.0, 1.0])}, {"w": jnp.array([3.0, -0.002, 0.0])}
    found = step(params, grads, optimizer.init(params), 0.25).params["w"]
    np.testing.assert_allclose(found, [0.75, 1.25, 1.0], rtol=1e-5)


@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_grad_norm_is_the_norm_of_all_leaves_before_clipping(max_grad_norm):
    grads = {"a": jnp.array([2.0, -4.0]), "b": jnp.array([[5.0], [6.0]])}
    found = step(grads, grads, optimizer.init(grads), 0.1, max_grad_norm=max_grad_norm)
    np.testing.assert_allclose(found.grad_norm, 9.0, rtol=1e-6)  # sqrt(4 + 16 + 25 + 36)


def test_a_zero_gradient_moves_nothing(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    found = step(params, zeros, optimizer.init(params), 0.1, max_grad_norm=0.5)
    assert_close(found.params, params, rtol=0.0, atol=0.0)
    assert found.grad_norm == 0.0


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_the_derivative_through_a_zero_gradient_is_finite(max_grad_norm):
    """As where a gradient of a whole run passes an iteration in which nothing was to be learned."""

    def moved(scale):
        params = {"w": jnp.ones(2)}
        state = optimizer.init(params)
        for _ in range(2):
            params, state, norm = optimizer.step(params, {"w": scale * jnp.zeros(2)}, state, 0.1, max_grad_norm)
        return jnp.sum(params["w"]) + norm

    assert jax.jit(jax.grad(moved))(1.0) == 0.0


# --- gradient descent with momentum ---------------------------------------------------------------------------------


def with_momentum(params, gradients, rates, momentum, max_grad_norm=None):
    state = optimizer.init_momentum(params)
    for grads, rate in zip(gradients, rates, strict=True):
        params, state, _ = momentum_step(params, grads, state, rate, momentum, max_grad_norm=max_grad_norm)
    return params


@pytest.mark.parametrize("max_grad_norm", [None, 0.5, 1e4])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_with_momentum_equal_optax(params, gradients, momentum, max_grad_norm):
    clip = optax.identity() if max_grad_norm is None else optax.clip_by_global_norm(max_grad_norm)
    expected = optax_s(params, gradients, optax.chain(clip, optax.sgd(0.03, momentum)))
    assert_close(with_momentum(params, gradients, [0.03] * STEPS, momentum, max_grad_norm), expected, rtol=1e-5)


def test_a_learning_rate_and_momentum_of_each_run_compile_once(params, gradients):
    rates = jnp.linspace(0.1, 0.0, STEPS)
    momentum_step.clear_cache()
    for momentum in (0.5, 0.9):
        expected = optax_s(params, gradients, optax.sgd(lambda count: rates[count], momentum))
        assert_close(with_momentum(params, gradients, rates, jnp.float32(momentum)), expected, rtol=1e-5)
    assert momentum_step._cache_size() == 1


def test_a_batch_of_momenta_equals_each_alone(params, gradients):
    momenta = jnp.array([0.0, 0.9])
    found = jax.vmap(lambda momentum: with_momentum(params, gradients, [0.1] * STEPS, momentum))(momenta)
    for i, momentum in enumerate(momenta):
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], found), with_momentum(params, gradients, [0.1] * STEPS, momentum))


def test_velocity_by_hand():
    """v = 2, then 0.5 * 2 - 1 = 0; w = 1 - 0.1 * 2, then stays."""
    params = {"w": jnp.array([1.0])}
    once = momentum_step(params, {"w": jnp.array([2.0])}, optimizer.init_momentum(params), 0.1, 0.5)
    twice = momentum_step(once.params, {"w": jnp.array([-1.0])}, once.opt_state, 0.1, 0.5)
    np.testing.assert_allclose([once.params["w"][0], twice.params["w"][0]], [0.8, 0.8], rtol=1e-6)
    assert once.grad_norm == 2.0 and twice.opt_state[0] == 0.0


@pytest.mark.parametrize(("num", "part_size"), [(12, 4), (12, 5), (12, 12), (12, 100), (13, 4), (14, 8)])
def test_a_gradient_of_parts_is_that_of_the_whole(num, part_size):
    rng = np.random.default_rng(num)
    params = {"w": jnp.asarray(rng.normal(size=(3,)), jnp.float32), "b": jnp.float32(0.5)}
    batch = jnp.asarray(rng.normal(size=(num, 3)), jnp.float32), jnp.asarray(rng.normal(size=num), jnp.float32)
    seen = []

    def loss(params, batch):
        x, y = batch
        seen.append(len(y))
        errors = (x @ params["w"] + params["b"] - y) ** 2
        return jnp.mean(errors), {"error": jnp.mean(errors), "big": jnp.mean(errors > 1.0)}

    expected = jax.grad(loss, has_aux=True)(params, batch)
    assert_close(optimizer.gradient_of_parts(loss, params, batch, part_size), expected, rtol=1e-5)
    assert max(seen[1:]) == {(12, 4): 4, (12, 5): 4, (14, 8): 7}.get((num, part_size), num)
