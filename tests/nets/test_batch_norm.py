"""Batch renormalisation against numbers worked by hand, and against flax's batch normalisation where both are the same."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.nets.batch_norm import STATISTICS, BatchRenorm
from jaxrl.nets.critics import Critics, JointHead


@functools.partial(jax.jit, static_argnums=0)
def _fit(layer: Any, variables: Any, x: Any) -> Any:
    return layer.apply(variables, x, fit=True, mutable=[STATISTICS])


def fit(layer: Any, variables: Any, x: Any) -> tuple[np.ndarray, Any]:
    """What a layer makes of a batch, and its variables after that."""
    y, changed = _fit(layer, variables, x)
    return np.asarray(y), variables | changed


def column(*numbers: float) -> np.ndarray:
    return np.float32(numbers)[:, None]


def test_batches_are_normalised_by_themselves_then_by_running_statistics_as_far_as_the_bounds_allow() -> None:
    """One unit, no eps, momentum 0.9, and one batch of warm-up.

    1 and 3: mean 2, variance 1, so -1 and 1; the running mean becomes 0.1 * 2 = 0.2, the variance 0.9 + 0.1 = 1.
    5 and 9: mean 7, deviation 2, so r = 2 and d = 6.8, clipped to 5: -2 + 5 and 2 + 5. Running: 0.88 and 1.3.
    0 and 1: mean 0.5, deviation 0.5, r = 0.5 / 1.3^(1/2), d = -0.38 / 1.3^(1/2): what the running statistics make of them.
    """
    layer = BatchRenorm(momentum=0.9, warmup=1, eps=0.0)
    variables = layer.init(jax.random.key(0), column(0.0))
    y, variables = fit(layer, variables, column(1.0, 3.0))
    np.testing.assert_allclose(y, column(-1.0, 1.0), atol=1e-6)
    y, variables = fit(layer, variables, column(5.0, 9.0))
    np.testing.assert_allclose(y, column(3.0, 7.0), rtol=1e-6)
    held = variables[STATISTICS]
    found = [float(held["mean"][0]), float(held["variance"][0]), int(held["num_batches"])]
    assert found == pytest.approx([0.88, 1.3, 2])
    x = column(0.0, 1.0)
    np.testing.assert_allclose(fit(layer, variables, x)[0], (x - 0.88) / 1.3**0.5, rtol=1e-5)
    np.testing.assert_allclose(layer.apply(variables, x), (x - 0.88) / 1.3**0.5, rtol=1e-5)


def test_the_ratio_of_deviations_is_clipped_on_both_sides() -> None:
    """Deviations 10 and 0.1 against a running 1: r is 3 and 1/3; the running mean is that of the batches."""
    layer = BatchRenorm(warmup=0, eps=0.0)
    variables = layer.init(jax.random.key(0), column(0.0))
    for deviation, r in ((10.0, 3.0), (0.1, 1 / 3)):
        y, _ = fit(layer, variables, column(-deviation, deviation))
        np.testing.assert_allclose(y, column(-r, r), rtol=1e-5)


def test_scale_and_bias_come_behind_and_all_leading_axes_are_the_batch() -> None:
    layer, x = BatchRenorm(eps=0.0), np.float32([[[1.0, 5.0], [2.0, 5.0]], [[3.0, 6.0], [6.0, 8.0]]])
    variables = layer.init(jax.random.key(0), x)
    params = {"scale": jnp.array([2.0, 1.0]), "bias": jnp.array([0.5, 0.0])}
    y, _ = fit(layer, variables | {"params": params}, x)
    # (1, 2, 3, 6): mean 3, variance 3.5; (5, 5, 6, 8): mean 6, variance 1.5.
    np.testing.assert_allclose(y[..., 0], 2 * (x[..., 0] - 3) / 3.5**0.5 + 0.5, rtol=1e-5)
    np.testing.assert_allclose(y[..., 1], (x[..., 1] - 6) / 1.5**0.5, rtol=1e-5)


def test_before_the_warm_up_is_over_it_is_the_batch_normalisation_of_flax() -> None:
    """Outputs, running statistics and gradients, over five batches; then what both make of single numbers."""
    rng, ours = np.random.default_rng(0), BatchRenorm(momentum=0.8, eps=1e-3)
    theirs = nn.BatchNorm(momentum=0.8, epsilon=1e-3, use_fast_variance=False)
    x, weights = rng.normal(2.0, 3.0, (5, 7, 4)).astype(np.float32), rng.normal(size=(7, 4)).astype(np.float32)
    params = {"scale": jnp.float32(rng.normal(size=4)), "bias": jnp.float32(rng.normal(size=4))}
    a: Any = ours.init(jax.random.key(0), x[0]) | {"params": params}
    b: Any = theirs.init(jax.random.key(0), x[0], use_running_average=True) | {"params": params}

    def loss(layer: Any, switch: dict[str, bool], batch: Any, variables: Any) -> Any:
        y, changed = layer.apply(variables, batch, **switch, mutable=[STATISTICS])
        return jnp.sum(weights * y**2), (y, changed)

    of_ours = jax.jit(jax.grad(functools.partial(loss, ours, {"fit": True}), has_aux=True))
    of_theirs = jax.jit(jax.grad(functools.partial(loss, theirs, {"use_running_average": False}), has_aux=True))
    for batch in x:
        grad_a, (y_a, changed_a) = of_ours(batch, a)
        grad_b, (y_b, changed_b) = of_theirs(batch, b)
        np.testing.assert_allclose(y_a, y_b, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(grad_a, grad_b, rtol=1e-3, atol=1e-4)
        a, b = a | changed_a, b | changed_b
    np.testing.assert_allclose(a[STATISTICS]["mean"], b[STATISTICS]["mean"], rtol=1e-5)
    np.testing.assert_allclose(a[STATISTICS]["variance"], b[STATISTICS]["var"], rtol=1e-5)
    single = theirs.apply(b, x[0, :1], use_running_average=True)
    np.testing.assert_allclose(ours.apply(a, x[0, :1]), single, rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


def test_no_gradient_goes_through_the_correction_or_the_running_statistics() -> None:
    """Renormalised, z r + d with r and d held: the gradient is r times that of batch normalisation."""
    rng = np.random.default_rng(1)
    x, weights = rng.normal(0.5, 1.5, (6, 1)).astype(np.float32), rng.normal(size=(6, 1)).astype(np.float32)

    def gradient(warmup: int) -> np.ndarray:
        layer = BatchRenorm(warmup=warmup, eps=0.0)
        variables = layer.init(jax.random.key(0), x)

        def sums(x: Any) -> tuple[Any, Any]:
            y, changed = layer.apply(variables, x, fit=True, mutable=[STATISTICS])
            return jnp.sum(weights * y), sum(jnp.sum(leaf) for leaf in jax.tree.leaves(changed))

        of_output, of_statistics = jax.jit(jax.jacrev(sums))(x)
        np.testing.assert_array_equal(of_statistics, 0.0)
        return np.asarray(of_output)

    np.testing.assert_allclose(gradient(0), np.std(x) * gradient(10), rtol=1e-4, atol=1e-6)


def test_critics_keep_statistics_of_their_own_which_only_fitting_changes() -> None:
    """In front of the first layer all are those of the input, behind it each critic's."""
    x, critics = (
        np.float32(np.random.default_rng(2).normal(1.0, 2.0, (8, 3))),
        Critics(JointHead(1, (4,), batch_norm=BatchRenorm), 2),
    )
    params = jax.jit(lambda: critics.init(jax.random.key(0), x[:1], None))()
    first, changed = jax.jit(lambda: critics.fit(params, x, None))()
    layers = changed[STATISTICS]["MLP_0"]
    np.testing.assert_allclose(layers["BatchRenorm_0"]["mean"], np.tile(0.01 * x.mean(0), (2, 1)), rtol=1e-4)
    behind = np.asarray(layers["BatchRenorm_1"]["mean"])
    assert behind.shape == (2, 4) and not np.allclose(behind[0], behind[1])
    assert layers["BatchRenorm_1"]["num_batches"].tolist() == [1, 1] and first.shape == (2, 8, 1)
    # Without such layers nothing changes.
    plain = Critics(JointHead(1, (4,)), 2)
    held = jax.jit(lambda: plain.init(jax.random.key(0), x[:1], None))()
    (outputs, changed), again = jax.jit(lambda: (plain.fit(held, x, None), plain.apply(held, x, None)))()
    assert dict(changed) == {}
    np.testing.assert_array_equal(outputs, again)
