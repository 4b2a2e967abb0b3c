"""Action distributions against scipy, numerical integration and counts of samples.

A frequency or a moment of `NUM_SAMPLES` draws with a fixed key must lie within `BOUND` standard errors of its true value.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxrl.maths.distributions import Categorical, Gaussian, TanhGaussian, from_parameters, num_parameters, num_stds
from jaxrl.types import Box, Discrete

NUM_SAMPLES = 20_000
BOUND = 4.5


class Mixed(NamedTuple):
    """A mixed action, and its specs."""

    choice: object
    amount: object
    push: object


MIXED = Mixed(Discrete(3), Box(()), Box((2, 2)))

LOGITS = np.array([[0.5, -1.0, 2.0, 0.0], [-3.0, 4.0, 0.0, 0.1]], np.float32)
OTHER_LOGITS = np.array([[0.0, 0.3, -1.0, 1.0], [0.0, 2.0, 2.0, -2.0]], np.float32)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
OTHER_PROBS = np.exp(OTHER_LOGITS) / np.exp(OTHER_LOGITS).sum(-1, keepdims=True)

MEAN = np.array([[0.3, -2.0, 5.0], [0.0, 1.0, -0.5]], np.float32)
LOG_STD = np.array([0.0, -1.5, 0.7], np.float32)
OTHER_MEAN = np.array([[0.0, -1.0, 4.0], [0.5, 1.5, 2.0]], np.float32)
OTHER_LOG_STD = np.array([0.4, -1.0, 0.0], np.float32)


def close(actual, expected, rtol=1e-5, atol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def draws(distribution, key=0, function=None):
    """[NUM_SAMPLES, ...] samples, each with its own key."""
    keys = jax.random.split(jax.random.key(key), NUM_SAMPLES)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(function or distribution.sample))(keys))


def assert_moments(samples, mean, variance, fourth=None):
    """Mean and variance over samples, each within `BOUND` standard errors; `fourth` central moment, a normal's by default."""
    n, variance = len(samples), np.asarray(variance, float)
    fourth = 3.0 * variance**2 if fourth is None else fourth
    assert np.all(np.abs(samples.mean(0) - mean) < BOUND * np.sqrt(variance / n))
    assert np.all(np.abs(samples.var(0) - variance) < BOUND * np.sqrt((fourth - variance**2) / n))


# --- Categorical ----------------------------------------------------------------------------------------------------


def test_categorical_log_prob_is_that_of_the_softmax():
    for action in range(4):
        close(Categorical(LOGITS).log_prob(jnp.full(2, action)), np.log(PROBS[:, action]))


def test_categorical_entropy_and_kl_equal_scipy():
    close(Categorical(LOGITS).entropy(), stats.entropy(PROBS, axis=-1))
    close(Categorical(LOGITS).kl(Categorical(OTHER_LOGITS)), stats.entropy(PROBS, OTHER_PROBS, axis=-1))


def test_categorical_samples_have_its_frequencies():
    samples = draws(Categorical(jnp.asarray(LOGITS)))
    assert samples.dtype == np.int32
    frequency = (samples[..., None] == np.arange(4)).mean(0)
    assert np.all(np.abs(frequency - PROBS) < BOUND * np.sqrt(PROBS * (1.0 - PROBS) / NUM_SAMPLES))


def test_categorical_mode_is_the_likeliest_action_and_the_first_of_equals():
    assert Categorical(jnp.asarray(LOGITS)).mode().tolist() == [2, 1]
    assert Categorical(jnp.array([1.0, 3.0, 3.0])).mode() == 1


def test_uniform_categorical_has_the_entropy_of_its_size():
    close(Categorical(jnp.zeros(7)).entropy(), math.log(7.0))


def test_a_masked_action_counts_for_nothing():
    masked = Categorical(jnp.array([0.5, -jnp.inf, 2.0]))
    probs = np.exp([0.5, 2.0]) / np.exp([0.5, 2.0]).sum()
    close(masked.entropy(), stats.entropy(probs))
    close(masked.log_prob(jnp.int32(2)), np.log(probs[1]))
    assert masked.log_prob(jnp.int32(1)) == -np.inf
    close(masked.kl(masked._replace(logits=jnp.array([0.0, -jnp.inf, 0.0]))), stats.entropy(probs, [0.5, 0.5]))
    close(masked.kl(Categorical(jnp.zeros(3))), np.sum(probs * np.log(3.0 * probs)))
    assert set(np.unique(draws(masked))) == {0, 2}


def test_kl_is_infinite_where_the_other_rules_out_an_action():
    assert Categorical(jnp.zeros(3)).kl(Categorical(jnp.array([0.0, -jnp.inf, 0.0]))) == np.inf


EXTREME_LOGITS = [
    ([1e4, -1e4, 0.0], [0.0, -2e4, -1e4]),
    ([1e30, -1e30, 0.0], [0.0, -2e30, -1e30]),
    ([-1e30, -1e30, -1e30], [-math.log(3.0)] * 3),
    ([0.0, -math.inf, 0.0], [-math.log(2.0), -math.inf, -math.log(2.0)]),
    ([-math.inf, -math.inf, -1e30], [-math.inf, -math.inf, 0.0]),
]
"""Logits and their log-probabilities."""


@pytest.mark.parametrize(("logits", "log_probs"), EXTREME_LOGITS)
def test_extreme_logits_have_exact_log_probs(logits, log_probs):
    found = Categorical(jnp.array([logits] * 3)).log_prob(jnp.arange(3))
    close(found, np.array(log_probs, np.float32), rtol=1e-6)


@pytest.mark.parametrize(("logits", "log_probs"), EXTREME_LOGITS)
def test_extreme_logits_have_finite_entropy_and_gradients(logits, log_probs):
    """Gradients of the log-probability of a possible action, of the entropy and of KL divergences to and from itself."""
    logits, action = jnp.array(logits), int(np.argmax(log_probs))

    def values(x):
        found, fixed = Categorical(x), Categorical(logits)
        return jnp.stack([found.log_prob(action), found.entropy(), found.kl(fixed), fixed.kl(found)])

    probs = np.exp(log_probs)
    close(values(logits), [log_probs[action], stats.entropy(probs), 0.0, 0.0])
    grads = jax.jit(jax.jacrev(values))(logits)
    close(grads[0], np.eye(3)[action] - probs)  # the gradient of a log-softmax
    assert np.isfinite(grads).all()


# --- Gaussian -------------------------------------------------------------------------------------------------------


def test_gaussian_log_prob_and_entropy_equal_scipy():
    action = np.random.default_rng(0).normal(size=MEAN.shape).astype(np.float32)
    found = Gaussian(MEAN, jnp.asarray(LOG_STD))
    close(found.log_prob(action), stats.norm.logpdf(action, MEAN, np.exp(LOG_STD)).sum(-1))
    close(found.entropy(), stats.norm.entropy(MEAN, np.exp(LOG_STD)).sum(-1))


def test_gaussian_kl_equals_its_integral():
    found = Gaussian(MEAN, jnp.asarray(LOG_STD)).kl(Gaussian(OTHER_MEAN, jnp.asarray(OTHER_LOG_STD)))

    def component(mean, std, other_mean, other_std):
        p, q = stats.norm(mean, std), stats.norm(other_mean, other_std)
        return integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), mean - 10 * std, mean + 10 * std)[0]

    expected = np.vectorize(component)(MEAN, np.exp(LOG_STD), OTHER_MEAN, np.exp(OTHER_LOG_STD))
    close(found, expected.sum(-1), rtol=1e-4)


def test_a_gaussian_has_no_divergence_from_itself():
    assert Gaussian(MEAN, jnp.asarray(LOG_STD)).kl(Gaussian(MEAN, jnp.asarray(LOG_STD))).tolist() == [0.0, 0.0]


def test_gaussian_samples_have_its_moments():
    samples = draws(Gaussian(jnp.asarray(MEAN), jnp.asarray(LOG_STD)))
    assert samples.dtype == np.float32
    assert_moments(samples, MEAN, np.broadcast_to(np.exp(2.0 * LOG_STD), MEAN.shape))


def test_gaussian_components_are_drawn_independently():
    samples = draws(Gaussian(jnp.zeros(3), jnp.zeros(3)))
    off_diagonal = np.corrcoef(samples.T)[np.triu_indices(3, 1)]
    assert np.all(np.abs(off_diagonal) < BOUND / np.sqrt(NUM_SAMPLES))


def test_gaussian_mode_is_the_mean():
    np.testing.assert_array_equal(Gaussian(MEAN, LOG_STD).mode(), MEAN)


def test_a_deviation_of_each_state_is_kept_apart():
    log_std = np.stack([LOG_STD, LOG_STD + 1.0])
    found = Gaussian(MEAN, jnp.asarray(log_std))
    close(found.log_prob(OTHER_MEAN), stats.norm.logpdf(OTHER_MEAN, MEAN, np.exp(log_std)).sum(-1))
    close(found.entropy(), stats.norm.entropy(MEAN, np.exp(log_std)).sum(-1))


@pytest.mark.parametrize(("log_std", "used"), [(-1e6, -10.0), (-11.0, -10.0), (4.5, 4.0), (1e6, 4.0)])
def test_a_deviation_far_outside_its_range_is_held_at_the_edge(log_std, used):
    found, scale = Gaussian(jnp.zeros(1), jnp.array([log_std])), math.exp(used)
    close(found.log_prob(jnp.array([2e-5])), stats.norm.logpdf(2e-5, 0.0, scale), rtol=1e-4)
    close(found.entropy(), stats.norm.entropy(0.0, scale), rtol=1e-4)


# --- TanhGaussian ---------------------------------------------------------------------------------------------------


def squashed(mean, log_std):
    return TanhGaussian(Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(log_std, jnp.float32)))


def squashed_logpdf(before, mean, std):
    """log-density of tanh(before), in double precision: log(1 - tanh^2) = -2 log cosh."""
    before = np.asarray(before, float)
    return stats.norm.logpdf(before, mean, std) + 2.0 * (np.logaddexp(before, -before) - math.log(2.0))


SQUASHED = [(0.0, 0.0), (1.5, -1.0), (-3.0, 0.5), (0.4, -3.0), (0.0, 0.8)]
"""Means and log-deviations before tanh."""


@pytest.mark.parametrize(("mean", "log_std"), SQUASHED)
def test_squashed_density_integrates_to_one(mean, log_std):
    """By the midpoint rule over 200 000 cells of (-1, 1), except the share of draws within 1e-5 of a bound."""
    edges = np.linspace(-1.0 + 1e-5, 1.0 - 1e-5, 200_001)
    middles = jnp.asarray((edges[1:] + edges[:-1]) / 2.0, jnp.float32)
    density = jnp.exp(squashed([mean], [log_std]).log_prob(middles[:, None]))
    inside = np.diff(stats.norm.cdf(np.arctanh(edges[[0, -1]]), mean, math.exp(log_std)))[0]
    close(np.sum(np.asarray(density, float)) * (edges[1] - edges[0]), inside, rtol=2e-3)


@pytest.mark.parametrize(("mean", "log_std"), SQUASHED)
def test_squashed_log_prob_is_the_change_of_variables(mean, log_std):
    before = np.linspace(-4.0, 4.0, 17)
    found = squashed([mean], [log_std]).log_prob(jnp.tanh(jnp.asarray(before, jnp.float32))[:, None])
    close(found, squashed_logpdf(before, mean, math.exp(log_std)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("mean", "log_std"), SQUASHED)
def test_squashed_entropy_equals_its_integral(mean, log_std):
    """Within 0.005 nats; the quadrature of 20 nodes is less exact the wider the distribution."""
    std = math.exp(log_std)

    def surprise(before):
        return -stats.norm.pdf(before, mean, std) * squashed_logpdf(before, mean, std)

    expected, _ = integrate.quad(surprise, mean - 10 * std, mean + 10 * std, points=[0.0], limit=200)
    close(squashed([mean], [log_std]).entropy(), expected, rtol=0.0, atol=5e-3)


def test_squashed_entropy_adds_up_over_components_and_keeps_leading_axes():
    separate = [squashed(MEAN[:, i : i + 1], LOG_STD[i : i + 1]).entropy() for i in range(3)]
    assert separate[0].shape == (2,)
    close(squashed(MEAN, LOG_STD).entropy(), sum(separate))


def test_squashed_kl_equals_its_integral():
    (mean, std), (other_mean, other_std) = (0.5, 0.8), (-0.2, 1.3)
    found = squashed([mean], [math.log(std)]).kl(squashed([other_mean], [math.log(other_std)]))

    def integrand(action):
        before = np.arctanh(action)
        log_p, log_q = squashed_logpdf(before, mean, std), squashed_logpdf(before, other_mean, other_std)
        return np.exp(log_p) * (log_p - log_q)

    close(found, integrate.quad(integrand, -0.9999999, 0.9999999, limit=200)[0], rtol=1e-3)


def test_squashed_samples_have_its_moments():
    mean, std = 0.6, 0.7
    samples = draws(squashed([mean], [math.log(std)]))
    moment = lambda f: integrate.quad(lambda u: stats.norm.pdf(u, mean, std) * f(np.tanh(u)), -8, 8)[0]  # noqa: E731
    centre = moment(lambda a: a)
    variance, fourth = moment(lambda a: (a - centre) ** 2), moment(lambda a: (a - centre) ** 4)
    assert_moments(samples, centre, variance, fourth)
    assert np.all(np.abs(samples) <= 1.0)


def test_squashed_mode_is_tanh_of_the_mean():
    close(squashed(MEAN, LOG_STD).mode(), np.tanh(MEAN))


def test_sample_and_log_prob_agree_with_log_prob_away_from_the_bounds():
    found = squashed([0.3, -0.4], [-0.5, 0.2])
    action, log_prob = draws(found, function=found.sample_and_log_prob)
    inner = np.all(np.abs(action) < 0.99, axis=-1)
    assert inner.mean() > 0.9
    close(log_prob[inner], found.log_prob(jnp.asarray(action))[inner], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(action, draws(found))


def test_log_prob_of_a_sample_is_exact_where_tanh_saturates():
    mean, std, key = 30.0, 2.0, jax.random.key(1)
    action, log_prob = squashed([mean], [math.log(std)]).sample_and_log_prob(key)
    before = mean + std * np.asarray(jax.random.normal(key, (1,)), float)
    assert action.tolist() == [1.0]
    close(log_prob, squashed_logpdf(before, mean, std)[0], rtol=1e-5)


def test_gradients_pass_through_a_squashed_sample():
    """d tanh(mean + std * noise) / d mean = 1 - tanh^2, and noise * std times that for log_std."""
    key = jax.random.key(2)
    sample = lambda mean, log_std: squashed(mean[None], log_std[None]).sample_and_log_prob(key)[0][0]  # noqa: E731
    grads = jax.grad(sample, argnums=(0, 1))(jnp.float32(0.2), jnp.float32(-0.3))
    noise, std = float(jax.random.normal(key, (1,))[0]), math.exp(-0.3)
    slope = 1.0 - math.tanh(0.2 + std * noise) ** 2
    close(grads, [slope, slope * std * noise])


@pytest.mark.parametrize("kind", [Gaussian, TanhGaussian])
@pytest.mark.parametrize("action", [-1.0, 0.0, 1.0])
def test_extreme_parameters_have_finite_densities_and_gradients(kind, action):
    """Actions at the very bounds, means of 1e4 and deviations far outside their range, all at once."""

    def values(mean, log_std, action):
        base = Gaussian(mean[None], log_std[None])
        found = base if kind is Gaussian else TanhGaussian(base)
        return jnp.stack([found.log_prob(action[None]), found.entropy(), found.kl(found), found.mode()[0]])

    mean, log_std = map(jnp.ravel, jnp.meshgrid(jnp.array([-1e4, -20.0, 0.0, 1e4]), jnp.array([-1e30, -1e4, 0.0, 1e4, 1e30])))
    arguments = mean, log_std, jnp.full_like(mean, action)
    assert np.isfinite(jax.jit(jax.vmap(values))(*arguments)).all()
    for grads in jax.jit(jax.vmap(jax.jacrev(values, argnums=(0, 1, 2))))(*arguments):
        assert np.isfinite(grads).all()


# --- from a network's output ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "parameters", "stds"),
    [(Discrete(5), 5, 0), (Box(()), 1, 1), (Box((3,)), 3, 3), (Box((2, 2)), 4, 4), (MIXED, 3 + 1 + 4, 1 + 4)],
)
def test_sizes_of_parameters_are_counted(action, parameters, stds):
    assert (num_parameters(action), num_stds(action)) == (parameters, stds)


@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
@pytest.mark.parametrize("leading", [(), (4, 6)])
def test_a_box_of_any_shape_sums_over_its_components_only(tanh, shape, leading):
    size = math.prod(shape)
    rng = np.random.default_rng(size)
    mean = rng.normal(size=(*leading, size)).astype(np.float32)
    log_std = rng.normal(size=size).astype(np.float32) / 3.0
    before = rng.normal(size=(*leading, size))
    action = (np.tanh(before) if tanh else before).reshape(leading + shape).astype(np.float32)
    reference = squashed_logpdf if tanh else stats.norm.logpdf

    @jax.jit
    def results(mean, log_std, action):
        found = from_parameters(Box(shape), mean, log_std, tanh)
        return found.log_prob(action), found.entropy(), found.kl(found), found.mode(), found.sample(jax.random.key(0))

    log_prob, entropy, kl, mode, sample = results(mean, log_std, action)
    close(log_prob, reference(before, mean, np.exp(log_std)).sum(-1), rtol=1e-3, atol=1e-3)
    assert log_prob.shape == entropy.shape == kl.shape == leading
    assert mode.shape == sample.shape == leading + shape
    close(mode.reshape(mean.shape), np.tanh(mean) if tanh else mean)


@pytest.mark.parametrize("tanh", [False, True])
def test_the_kind_of_distribution_follows_the_spec(tanh):
    assert isinstance(from_parameters(Discrete(3), jnp.zeros(3), jnp.zeros(0), tanh), Categorical)
    assert isinstance(from_parameters(Box((3,)), jnp.zeros(3), jnp.zeros(3), tanh), TanhGaussian if tanh else Gaussian)
    parts = from_parameters(MIXED, jnp.zeros(8), jnp.zeros(5), tanh).parts
    assert [isinstance(part, TanhGaussian) for part in parts] == [False, tanh, tanh]


@pytest.fixture
def joint():
    """A batch of two mixed distributions, and the arrays it was made of."""
    rng = np.random.default_rng(7)
    parameters, log_std = rng.normal(size=(2, 8)).astype(np.float32), rng.normal(size=5).astype(np.float32) / 3.0
    return from_parameters(MIXED, jnp.asarray(parameters), jnp.asarray(log_std)), parameters, log_std


def test_joint_log_prob_is_the_sum_over_parts_in_the_order_of_the_spec(joint):
    found, parameters, log_std = joint
    amount, push = np.array([0.2, -0.7], np.float32), np.random.default_rng(8).normal(size=(2, 2, 2)).astype(np.float32)
    log_softmax = parameters[:, :3] - np.log(np.exp(parameters[:, :3]).sum(-1, keepdims=True))
    expected = (
        log_softmax[[0, 1], [2, 0]]
        + stats.norm.logpdf(amount, parameters[:, 3], np.exp(log_std[0]))
        + stats.norm.logpdf(push.reshape(2, 4), parameters[:, 4:], np.exp(log_std[1:])).sum(-1)
    )
    close(found.log_prob(Mixed(jnp.array([2, 0]), jnp.asarray(amount), jnp.asarray(push))), expected)


def test_joint_entropy_and_kl_are_sums_over_parts(joint):
    found, parameters, log_std = joint
    other = from_parameters(MIXED, jnp.zeros((2, 8)), jnp.zeros(5))
    probs = np.exp(parameters[:, :3]) / np.exp(parameters[:, :3]).sum(-1, keepdims=True)
    close(found.entropy(), stats.entropy(probs, axis=-1) + stats.norm.entropy(0.0, np.exp(log_std)).sum())
    # KL(N(m, s) || N(0, 1)) = (s^2 + m^2 - 1) / 2 - log s.
    normal = (np.exp(2.0 * log_std) + parameters[:, 3:] ** 2 - 1.0) / 2.0 - log_std
    close(found.kl(other), stats.entropy(probs, np.full((2, 3), 1 / 3), axis=-1) + normal.sum(-1))


def test_joint_actions_are_of_the_spec_s_type(joint):
    found, parameters, _ = joint
    for action in (found.mode(), found.sample(jax.random.key(0))):
        assert isinstance(action, Mixed)
        assert [leaf.shape for leaf in action] == [(2,), (2,), (2, 2, 2)]
        assert action.choice.dtype == jnp.int32
    mode = found.mode()
    np.testing.assert_array_equal(mode.choice, parameters[:, :3].argmax(-1))
    np.testing.assert_array_equal(mode.amount, parameters[:, 3])
    np.testing.assert_array_equal(mode.push, parameters[:, 4:].reshape(2, 2, 2))


def test_parts_of_a_joint_sample_are_independent():
    samples = draws(from_parameters(Mixed(Discrete(2), Box(()), Box((2,))), jnp.zeros(5), jnp.zeros(3)))
    columns = np.column_stack([samples.choice, samples.amount, samples.push])
    off_diagonal = np.corrcoef(columns.T)[np.triu_indices(4, 1)]
    assert np.all(np.abs(off_diagonal) < BOUND / np.sqrt(NUM_SAMPLES))
