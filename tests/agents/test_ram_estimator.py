"""The gradient of where to look against that of the expected reward, which quadrature over all locations gives in NumPy.

Two pictures of 4 x 4 pixels are shown. The retina moves on by whole pixels and beyond the border a location is clipped, so the
plane is cut there into cells. The probability of a cell is a product of differences of the normal distribution function, and
the expected reward is the sum over all cells of each glimpse, which is exact if nothing else tells where a glimpse was; its
derivative is taken by finite differences. The agent's side is the update of whole iterations, as a run has them.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.stats import chi2, norm

from jaxrl.agents import RAMConfig, make_ram
from jaxrl.config import as_arrays
from jaxrl.envs import glimpse, make
from jaxrl.envs.tools.datasets import Images
from jaxrl.loop import build_in, collect, iteration_keys, key_shape, no_episodes, plan
from jaxrl.types import RunState

SIDE, SIZE, NUM_ENVS, STD = 4, 2, 64, 0.4
PICTURES = np.uint8([[[0, 0, 90, 250], [0, 40, 200, 90], [10, 180, 60, 0], [220, 70, 0, 0]],
                     [[200, 30, 0, 0], [90, 220, 20, 0], [0, 80, 240, 50], [0, 0, 30, 160]]])  # fmt: skip
LABELS = np.uint8([0, 1])
CONFIG = RAMConfig(
    num_envs=NUM_ENVS,
    units=4,
    glimpse_units=3,
    location_units=0,
    location_share=0.0,
    optimizer="sgd",
    momentum=0.0,
    location_std=STD,
)
START = {2: "random", 3: "centre"}
"""Where the first of so many glimpses is, so that two locations are to be integrated over."""
FINE = {2: 4, 3: 2}
"""Cells along a pixel: with two, edges are where the retina moves on and at the border. With two glimpses the network is told
of locations within a cell too, so that cells are finer; with three only of what is seen."""
BATCHES = {2: 200, 3: 2000}
TOLD_APART = {2: 0.5, 3: 0.9}
"""So many samples are enough to tell this share of the gradient from the whole."""


@cache
def setup(num_glimpses):
    """The environments, a policy of random weights, and what one iteration gives for it.

    The last is (policy, env params, keys [n]) -> (the update's gradient, flat [n, P]; actions; rewards).
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glimpse.datasets, "mnist", lambda: Images(PICTURES, LABELS, PICTURES, LABELS))
        env = make(
            "glimpse/mnist", NUM_ENVS, num_glimpses=num_glimpses, size=SIZE, side=SIDE, piece=1, start=START[num_glimpses]
        )
    config = as_arrays(CONFIG)
    agent, progress = build_in(make_ram, config, env), plan(config, env.spec, 10**6).progress(0)
    start = jax.eval_shape(agent.init, key_shape())
    rng = np.random.default_rng(17)
    policy = jax.tree.map(lambda leaf: np.float32(0.7 * rng.normal(size=leaf.shape)), start.policy)
    policy["classifier"]["params"]["bias"][2:] -= 4.0  # Guesses are of the two classes there are.
    if num_glimpses == 3:
        policy["glimpse"]["params"]["location"]["kernel"][:] = 0.0

    def one(policy, params, key):
        key_reset, key = jax.random.split(key)
        keys = iteration_keys(key, 0, num_glimpses)
        env_state, obs = env.reset(key_reset, params)
        learner = start._replace(policy=policy, opt_state=jnp.zeros(start.opt_state.shape))
        state = RunState(learner, env_state, obs, agent.initial_memory(NUM_ENVS), no_episodes(), jnp.int32(0))
        _, rollout = collect(keys, agent, env._replace(params=params), state, progress)
        after = agent.update(keys.update, state.agent, rollout, progress)[0]
        # Without momentum the velocity is the gradient.
        return after.opt_state, rollout.action, rollout.reward[-1]

    run = jax.jit(lambda policy, params, keys: jax.lax.map(partial(one, policy, params), keys))
    return env, policy, run


# --- exact, in NumPy ------------------------------------------------------------------------------------------------


def cells(fine):
    """Along one axis: the edges [C + 1] of the cells and a point [C] in each; the first and the last lie beyond the border."""
    inner = np.linspace(-1.0, 1.0, SIDE * fine + 1)
    return np.concatenate([[-np.inf], inner, [np.inf]]), np.concatenate([[-1.0], (inner[1:] + inner[:-1]) / 2, [1.0]])


def plane(points):
    """[C, C, 2] all (x, y) of these points."""
    return np.stack(np.meshgrid(points, points, indexing="ij"), axis=-1)


def seen(params, picture, location):
    """Where glimpses of a picture were, [..., 2] -> g [..., F]."""
    padded = np.pad(picture, SIZE // 2) / 255.0
    x, y = np.moveaxis(np.round((location + 1.0) / 2.0 * SIDE).astype(int), -1, 0)
    patches = np.stack([padded[y + i, x + j] for i in range(SIZE) for j in range(SIZE)], axis=-1)
    what, where = (np.maximum(dense(params[name], x), 0.0) for name, x in (("patches", patches), ("location", location)))
    return np.maximum(dense(params["what"], what) + dense(params["where"], where), 0.0)


def dense(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0.0)


class Exact:
    """Expected rewards of a policy, as a function of its location network, by the locations of `fine` cells for each pixel."""

    def __init__(self, policy, num_glimpses, fine):
        self.policy = {
            name: jax.tree.map(lambda leaf: np.asarray(leaf, float), part["params"]) for name, part in policy.items()
        }
        self.policy["location"] = self.policy["location"]["Dense_0"]
        self.edges, self.points = cells(fine)
        self.start, self.num_glimpses = START[num_glimpses], num_glimpses
        self.played = [self.play(picture, label) for picture, label in zip(PICTURES, LABELS, strict=True)]

    def play(self, picture, label):
        """(features of each glimpse but the last [N, units], whether the class is right [N, C, C]), N growing by C * C."""
        core, where = self.policy["core"], plane(self.points).reshape(-1, 2)
        first = np.zeros((1, 2)) if self.start == "centre" else plane(self.points[1:-1]).reshape(-1, 2)
        rows = [np.maximum(dense(core["seen"], seen(self.policy["glimpse"], picture, first)), 0.0)]
        looks = dense(core["seen"], seen(self.policy["glimpse"], picture, where))
        for _ in range(self.num_glimpses - 1):
            rows.append(np.maximum(looks + dense(core["before"], rows[-1])[:, None], 0.0).reshape(-1, CONFIG.units))
        right = np.argmax(dense(self.policy["classifier"], rows[-1]), axis=-1) == label
        return rows[:-1], right

    def reward(self, location):
        """The expected reward, if these are the parameters of the location network."""
        total = 0.0
        for rows, right in self.played:
            value = right.astype(float)
            for features in reversed(rows):
                mean = np.tanh(dense(location, features))
                x, y = (np.diff(norm.cdf((self.edges - mean[:, axis, None]) / STD), axis=-1) for axis in (0, 1))
                value = np.einsum("nx,ny,nxy->n", x, y, value.reshape(len(features), len(self.points), -1), optimize=True)
            total += value.mean() / len(PICTURES)
        return total

    def gradient(self, step=1e-4):
        """[P] in the order of the flattened parameters."""
        flat, unravel = ravel(self.policy["location"])
        shift = step * np.eye(len(flat))
        return np.array([(self.reward(unravel(flat + d)) - self.reward(unravel(flat - d))) / (2 * step) for d in shift])


def ravel(location):
    """The location network's parameters as one vector, as JAX orders them, and back; in float64."""
    size = location["bias"].size
    flat = np.concatenate([location["bias"], location["kernel"].reshape(-1)])
    return flat, lambda flat: {"bias": flat[:size], "kernel": flat[size:].reshape(-1, size)}


# --- sampled, by the agent ------------------------------------------------------------------------------------------

BASELINES = {"none": (0.0, 0.0), "mean": (0.0, None), "wrong": (0.3, 1.5)}
"""The baseline network: the deviation of its weights, and its bias; None stands for the expected reward."""


@cache
def sampled(num_glimpses, baseline, mean=0.0):
    """[n, P] gradients of expected reward with respect to the location network, one of each batch; and [n] rewards."""
    env, policy, run = setup(num_glimpses)
    spread, bias = BASELINES[baseline]
    kernel = spread * np.random.default_rng(1).normal(size=(CONFIG.units, 1))
    head = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.full(1, mean if bias is None else bias, jnp.float32)}
    policy = policy | {"baseline": {"params": head}}
    keys = jax.random.split(jax.random.key(num_glimpses), BATCHES[num_glimpses])
    gradients, _, reward = run(policy, env.params, keys)
    marks = {
        name: jax.tree.map(lambda leaf, name=name: np.full(leaf.shape, name == "location"), policy[name]) for name in policy
    }
    return -np.asarray(gradients, float)[:, np.asarray(ravel_pytree(marks)[0])], np.asarray(reward, float).mean(1)


def distance(samples, expected):
    """The squared distance of the mean of samples [n, P] from [P] in units of its covariance, and its bound at 1 in 1000."""
    values, vectors = np.linalg.eigh(np.cov(samples, rowvar=False) / len(samples))
    varies = values > 1e-9 * values[-1]
    error = (samples.mean(0) - expected) @ vectors
    np.testing.assert_allclose(error[~varies], 0.0, atol=1e-6)
    return np.sum(np.square(error[varies]) / values[varies]), chi2.ppf(0.999, varies.sum())


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def case(request):
    """(glimpses, the expected reward, its gradient)."""
    exact = Exact(setup(request.param)[1], request.param, FINE[request.param])
    return request.param, exact.reward(exact.policy["location"]), exact.gradient()


@pytest.mark.slow
def test_the_quadrature_is_exact_where_only_what_is_seen_tells_of_the_location():
    coarse, fine = (Exact(setup(3)[1], 3, fine) for fine in (2, 4))
    np.testing.assert_allclose(coarse.gradient(), fine.gradient(), atol=1e-8)


def test_the_mean_reward_is_the_expected_one(case):
    num_glimpses, reward, _ = case
    found = sampled(num_glimpses, "none")[1]
    assert 0.3 < reward < 0.7
    assert abs(found.mean() - reward) < 4 * found.std() / len(found) ** 0.5


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_mean_of_the_location_gradient_is_that_of_the_expected_reward(case, baseline):
    num_glimpses, reward, gradient = case
    samples = sampled(num_glimpses, baseline, reward if baseline == "mean" else 0.0)[0]
    squared, bound = distance(samples, gradient)
    assert squared < bound
    if baseline != "wrong":
        assert distance(samples, TOLD_APART[num_glimpses] * gradient)[0] > bound, "too few samples to tell"


def test_a_baseline_changes_the_variance(case):
    num_glimpses, reward, _ = case
    mean, none, wrong = (
        sampled(num_glimpses, name, reward if name == "mean" else 0.0)[0].var(0).sum() for name in ("mean", "none", "wrong")
    )
    assert 1.2 * mean < none and 1.2 * none < wrong


def test_nothing_of_the_label_reaches_acting():
    env, policy, run = setup(2)
    other = env.params._replace(labels=1 - env.params.labels)
    keys = jax.random.split(jax.random.key(9), BATCHES[2])
    (_, action, reward), (_, same, otherwise) = (run(policy, params, keys) for params in (env.params, other))
    np.testing.assert_array_equal(action.location, same.location)
    np.testing.assert_array_equal(action.label, same.label)
    assert not np.any(reward * otherwise) and np.any(reward != otherwise)
