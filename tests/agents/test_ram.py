"""The attention model: its loss by hand and against rlax, its gradients against closed forms, what it does, what it refuses."""

import dataclasses
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax
from jax.flatten_util import ravel_pytree

from helpers import assert_close, assert_same_bits, progress_at, random_rollout
from jaxrl.agents import RAMConfig, make_ram
from jaxrl.agents.attention.ram import classified, hybrid_loss, networks_of
from jaxrl.config import as_arrays, check_config
from jaxrl.errors import UsageError
from jaxrl.loop import key_shape
from jaxrl.nets.glimpse import Glimpse, Look
from jaxrl.types import ArraySpec, Box, Discrete, Spec, tree_spec

T, B, CLASSES = 3, 6, 4
SPEC = Spec(
    tree_spec(Glimpse(ArraySpec((2, 2, 1), "float32"), ArraySpec((2,), "float32"))), Look(Box((2,)), Discrete(CLASSES)), T
)
CONFIG = RAMConfig(
    num_envs=B,
    units=5,
    glimpse_units=4,
    location_units=0,
    location_share=0.0,
    optimizer="sgd",
    momentum=0.0,
    location_std=0.3,
    location_rate=0.5,
)
PROGRESS = progress_at(0, 10)


@cache
def update(look="learned"):
    """The compiled (config, state, rollout, progress) -> (state, metrics)."""
    return jax.jit(lambda config, *rest: make_ram(config, SPEC).update(jax.random.key(1), *rest))


@cache
def act(core="rnn", look="learned"):
    """The compiled (key, config, policy, memory, obs, progress, explore) -> (action, memory)."""

    def run(key, config, policy, memory, obs, progress=PROGRESS, *, explore):
        return make_ram(config, SPEC).act(key, policy, memory, obs, progress, explore)[:2]

    return jax.jit(run, static_argnames="explore")


@cache
def initial(core="rnn", look="learned", location_units=0):
    """A config as arrays and a state of random weights."""
    parts = {"core": core, "look": look, "location_units": location_units}
    config, rng = as_arrays(dataclasses.replace(CONFIG, **parts)), np.random.default_rng(2)
    shapes = jax.eval_shape(make_ram(config, SPEC).init, key_shape())
    random = lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), jnp.float32)  # noqa: E731
    return config, shapes._replace(
        policy=jax.tree.map(random, shapes.policy), opt_state=jnp.zeros(shapes.opt_state.shape, jnp.float32)
    )


@cache
def rollout():
    """Whole episodes: three right and three wrong."""
    rows, rng = random_rollout(SPEC, T, B), np.random.default_rng(3)
    label = np.broadcast_to(rng.integers(0, CLASSES, B), (T, B))
    reward = np.zeros((T, B), np.float32)
    reward[-1, ::2] = 1.0
    return rows._replace(reward=jnp.asarray(reward), info={"label": jnp.asarray(label)})


def gradient(rows, policy=None, progress=PROGRESS, **fields):
    """What one step of learning goes down: without momentum it is the velocity, to the bit."""
    config, state = initial()
    state = state._replace(policy=policy or state.policy)
    config = dataclasses.replace(config, **{name: jnp.float32(value) for name, value in fields.items()})
    return ravel_pytree(state.policy)[1](update()(config, state, rows, progress)[0].opt_state)


def dense(layer, x):
    return x @ layer["params"]["kernel"] + layer["params"]["bias"]


def linear(location):
    """The layer of a location network without hidden ones."""
    return {"params": location["params"]["Dense_0"]}


@jax.jit
def features_of(params, obs):
    """[T, B, units], the model's equations written out."""
    glimpse, core = params["glimpse"]["params"], params["core"]["params"]
    memory, rows = jnp.zeros((B, CONFIG.units)), []
    for patches, location in zip(obs.patches, obs.location, strict=True):
        what = jax.nn.relu(patches.reshape(B, -1) @ glimpse["patches"]["kernel"] + glimpse["patches"]["bias"])
        where = jax.nn.relu(location @ glimpse["location"]["kernel"] + glimpse["location"]["bias"])
        both = what @ glimpse["what"]["kernel"] + where @ glimpse["where"]["kernel"] + glimpse["what"]["bias"]
        seen = jax.nn.relu(both) @ core["seen"]["kernel"] + core["seen"]["bias"]
        memory = jax.nn.relu(seen + memory @ core["before"]["kernel"])
        rows.append(memory)
    return jnp.stack(rows)


# --- the loss -------------------------------------------------------------------------------------------------------

BY_HAND = {
    "logits": jnp.array([[math.log(3.0), 0.0], [0.0, 0.0]]),
    "label": jnp.array([0, 1]),
    "log_prob": jnp.array([[-1.0, -2.0], [-3.0, 0.5]]),
    "baseline": jnp.array([[0.5, 0.25], [0.25, 0.5], [0.5, 0.5]]),
    "reward": jnp.array([1.0, 0.0]),
}


def test_the_terms_of_the_loss_are_those_worked_by_hand():
    found = hybrid_loss(**BY_HAND)
    np.testing.assert_allclose(found.classification, (math.log(4 / 3) + math.log(2.0)) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.location, ((1.0 * 0.5 + 3.0 * 0.75) + (2.0 * -0.25 - 0.5 * -0.5)) / 2, rtol=1e-6)
    np.testing.assert_allclose(found.baseline, (0.25 + 0.5625 + 0.25 + 0.0625 + 0.25 + 0.25) / 12, rtol=1e-6)


def test_the_terms_equal_those_of_rlax_in_which_the_last_location_has_no_weight():
    rng, actions = np.random.default_rng(0), 5
    logits, label = rng.normal(size=(B, CLASSES)), rng.integers(0, CLASSES, B)
    choice, chosen = rng.normal(size=(T, B, actions)), rng.integers(0, actions, (T, B))
    baseline, reward = rng.normal(size=(T, B)), rng.integers(0, 2, B).astype(float)
    log_prob = np.take_along_axis(np.log(np.exp(choice) / np.exp(choice).sum(-1, keepdims=True)), chosen[..., None], -1)[..., 0]
    found = hybrid_loss(*map(jnp.asarray, (logits, label, log_prob[:-1], baseline, reward)))
    weight = np.array([1.0] * (T - 1) + [0.0])
    each = jax.vmap(lambda *columns: rlax.policy_gradient_loss(*columns, weight), in_axes=1)(choice, chosen, reward - baseline)
    np.testing.assert_allclose(found.location, T * each.mean(), rtol=1e-5)  # rlax takes the mean over time.
    np.testing.assert_allclose(found.baseline, rlax.l2_loss(baseline, np.broadcast_to(reward, (T, B))).mean(), rtol=1e-5)
    expected = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), jnp.asarray(label)).mean()
    np.testing.assert_allclose(found.classification, expected, rtol=1e-5)


def test_no_gradient_of_the_location_term_passes_through_reward_or_baseline():
    def location(log_prob, baseline, reward):
        return hybrid_loss(**BY_HAND | {"log_prob": log_prob, "baseline": baseline, "reward": reward}).location

    found = jax.grad(location, argnums=(0, 1, 2))(*(BY_HAND[name] for name in ("log_prob", "baseline", "reward")))
    np.testing.assert_allclose(found[0], np.array([[-0.5, 0.25], [-0.75, 0.5]]) / 2, rtol=1e-6)  # -(R - b_t) / B
    assert not np.any(found[1]) and not np.any(found[2])


# --- which network learns of what -----------------------------------------------------------------------------------


def test_the_location_network_learns_by_reinforce_alone():
    """-1/B sum (R - b_t) (l - mu) / s^2 dmu: no gradient passes through where a glimpse was."""
    policy, rows = initial()[1].policy, rollout()
    features = np.asarray(features_of(policy, rows.obs), float)[:-1]
    mean = np.tanh(dense(linear(policy["location"]), features))
    advantage = np.asarray(rows.reward[-1] - dense(policy["baseline"], features)[..., 0])
    score = (np.asarray(rows.action.location, float)[:-1] - mean) / 0.3**2 * (1.0 - mean**2)
    wanted = -1.0 / B * advantage[..., None] * score
    found = linear(gradient(rows)["location"])["params"]
    np.testing.assert_allclose(found["kernel"], np.einsum("tbu,tbi->ui", features, wanted), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["bias"], wanted.sum((0, 1)), rtol=1e-4, atol=1e-6)


def test_a_hidden_layer_of_the_location_network_learns_by_reinforce_as_well():
    config, state = initial(location_units=3)
    rows, features = rollout(), features_of(state.policy, rollout().obs)
    advantage = rows.reward[-1] - dense(state.policy["baseline"], features)[..., 0]

    def expected(location):
        hidden = jax.nn.relu(dense({"params": location["params"]["MLP_0"]["Dense_0"]}, features))
        error = rows.action.location - jnp.tanh(dense(linear(location), hidden))
        return jnp.sum((advantage * -0.5 * jnp.sum(jnp.square(error / 0.3), axis=-1))[:-1]) / -B

    after = update.__wrapped__()(config, state, rows, PROGRESS)[0]  # Another program than the one that is counted below.
    found = ravel_pytree(state.policy)[1](after.opt_state)["location"]
    assert_close(found, jax.grad(expected)(state.policy["location"]), rtol=1e-4, atol=1e-6)


def test_nothing_is_learned_of_where_to_look_if_the_reward_is_as_expected():
    policy, rows = initial()[1].policy, rollout()
    sure = policy | {"baseline": jax.tree.map(lambda leaf: jnp.full_like(leaf, float(leaf.ndim == 1)), policy["baseline"])}
    right = rows._replace(reward=rows.reward.at[-1].set(1.0))
    assert not np.any(ravel_pytree(gradient(right, sure)["location"])[0])
    assert np.all(ravel_pytree(gradient(rows, sure)["location"])[0])


def test_glimpses_the_core_and_the_classifier_learn_by_cross_entropy_alone():
    policy, rows = initial()[1].policy, rollout()

    def cross_entropy(params):
        logits = dense(params["classifier"], features_of(params, rows.obs)[-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, rows.info["label"][-1]).mean()

    names = ("glimpse", "core", "classifier")
    found, alone = gradient(rows), gradient(rows, location_std=3.0)
    assert_close([found[n] for n in names], [jax.jit(jax.grad(cross_entropy))(policy)[n] for n in names], rtol=1e-4, atol=1e-6)
    assert_same_bits([found[n] for n in names], [alone[n] for n in names])


def test_by_a_share_of_its_gradient_where_to_look_shapes_what_is_remembered():
    """The share is linear, and the whole is the gradient through the core of the location term, glimpses as they were seen."""
    policy, rows = initial()[1].policy, rollout()
    advantage = rows.reward[-1] - dense(policy["baseline"], features_of(policy, rows.obs))[..., 0]

    def location(params):
        mean = jnp.tanh(dense(linear(params["location"]), features_of(params, rows.obs)))
        log_prob = -0.5 * jnp.sum(jnp.square((rows.action.location - mean) / 0.3), axis=-1)
        return jnp.sum((advantage * log_prob)[:-1]) / -B

    expected, none = jax.jit(jax.grad(location))(policy), gradient(rows)
    for share in (1.0, 0.3):
        found = gradient(rows, location_share=share)
        for name in ("glimpse", "core"):
            wanted = jax.tree.map(lambda a, b, share=share: a + share * b, none[name], expected[name])
            assert_close(found[name], wanted, rtol=1e-3, atol=1e-5)
        assert_same_bits([found[n] for n in ("location", "baseline")], [none[n] for n in ("location", "baseline")])


def test_the_baseline_learns_by_its_squared_error_alone():
    policy, rows = initial()[1].policy, rollout()
    features = np.asarray(features_of(policy, rows.obs), float)
    error = (np.asarray(dense(policy["baseline"], features))[..., 0] - np.asarray(rows.reward[-1])) / (T * B)
    found = gradient(rows)["baseline"]["params"]
    np.testing.assert_allclose(found["kernel"][:, 0], np.einsum("tbu,tb->u", features, error), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["bias"], [error.sum()], rtol=1e-4, atol=1e-6)


def test_the_location_after_the_last_glimpse_and_the_classes_before_it_are_no_part_of_the_loss():
    rows = rollout()
    action = Look(rows.action.location.at[-1].add(1.0), (rows.action.label + 1) % CLASSES)
    assert_same_bits(gradient(rows._replace(action=action)), gradient(rows))
    moved = rows.action._replace(location=rows.action.location.at[-2].add(1.0))
    with_it, without = (linear(gradient(each)["location"])["params"] for each in (rows._replace(action=moved), rows))
    assert np.all(with_it["bias"] != without["bias"])


# --- acting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", ["rnn", "lstm"])
def test_learning_sees_what_acting_saw_and_evaluation_looks_at_the_mean(core):
    (config, state), obs, key = initial(core), rollout().obs, jax.random.key(5)
    memory, found = make_ram(config, SPEC).initial_memory(B), []
    for t in range(T):
        action, memory = act(core)(
            key, config, state.policy, memory, jax.tree.map(lambda leaf, t=t: leaf[t], obs), explore=False
        )
        found.append(action)
    networks = networks_of(config, SPEC)
    memory = make_ram(config, SPEC).initial_memory(B)
    said = jax.jit(lambda policy: networks.heads(policy, networks.unroll(policy, memory, obs)))(state.policy)
    np.testing.assert_allclose(np.stack([action.location for action in found]), said.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.stack([action.label for action in found]), np.argmax(said.logits, axis=-1))


def acted(look, explore, seed=7, pictures=4000, progress=PROGRESS, **fields):
    """[pictures, 2] where to look next, after the same first glimpse."""
    config, state = initial(look=look)
    config = dataclasses.replace(config, **{name: jnp.float32(value) for name, value in fields.items()})
    obs = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[0, 0], (pictures, *leaf.shape[2:])), rollout().obs)
    memory = make_ram(config, SPEC).initial_memory(pictures)
    given = jax.random.key(seed), config, state.policy, memory, obs, progress
    return np.asarray(act(look=look)(*given, explore=explore)[0].location)


def test_training_looks_about_the_mean_with_the_given_deviation():
    """Within four standard errors; the location may lie beyond the picture, where the environment clips it."""
    mean = acted("learned", explore=False)[0]
    for std in (0.3, 0.05):
        found = (acted("learned", explore=True, location_std=std) - mean) / std
        np.testing.assert_allclose(found.mean(0), 0.0, atol=4 / 4000**0.5)
        np.testing.assert_allclose(np.square(found).mean(0), 1.0, atol=4 * (2 / 4000) ** 0.5)


def test_the_deviation_falls_along_a_straight_line_in_acting_and_in_learning():
    mean, fields = acted("learned", explore=False)[0], {"location_std": 0.4, "location_std_end_share": 0.5}
    found = acted("learned", explore=True, progress=progress_at(5, 10), **fields) - mean
    held = acted("learned", explore=True, location_std=0.3, location_std_end_share=1.0) - mean
    np.testing.assert_allclose(found, held, rtol=1e-5, atol=1e-6)
    falling, still = (
        gradient(rollout(), progress=progress_at(5, 10), **given)
        for given in (fields, {"location_std": 0.3, "location_std_end_share": 1.0})
    )
    assert_close(falling, still, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("explore", [True, False])
def test_random_looks_are_uniform_in_training_and_evaluation(explore):
    found = np.sort(acted("random", explore).reshape(-1))
    assert found[0] >= -1.0 and found[-1] < 1.0
    steps = (found + 1.0) / 2.0 - np.arange(len(found)) / len(found)
    assert np.abs(steps).max() < 1.95 / len(found) ** 0.5  # Kolmogorov's bound at one in a thousand.


def test_random_looks_teach_the_location_network_nothing():
    config, state = initial(look="random")
    after, metrics = update("random")(config, state, rollout(), PROGRESS)
    assert_same_bits(after.policy["location"], state.policy["location"])
    assert metrics["grad_norm"] > 0.0


def test_classes_of_samples_are_those_of_the_mean_probability():
    """One path is sure of class 0 by logits, two lean to class 1."""
    logits = jnp.log(jnp.array([[[0.98, 0.01, 0.01], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6]] * 3]))
    np.testing.assert_array_equal(classified(logits, 1), [1, 2])
    np.testing.assert_array_equal(classified(logits[:, 0], 0), [0, 2])
    assert classified(logits, 1).dtype == jnp.int32


# --- steps of learning ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("iteration", "share", "expected"), [(0, 0.0, 0.4), (5, 0.0, 0.2), (5, 0.5, 0.3), (7, 1.0, 0.4)])
def test_the_step_size_falls_along_a_straight_line(iteration, share, expected):
    config, state = initial()
    config = dataclasses.replace(config, learning_rate=jnp.float32(0.4), learning_rate_end_share=jnp.float32(share))
    after, metrics = update()(config, state, rollout(), progress_at(iteration, 10))
    np.testing.assert_allclose(metrics["learning_rate"], expected, rtol=1e-6)
    down = gradient(rollout(), progress=progress_at(iteration, 10))
    down |= {"location": jax.tree.map(lambda grad: 0.5 * grad, down["location"])}  # Its own share of the step size.
    step = jax.tree.map(lambda new, old, grad: new - old + expected * grad, after.policy, state.policy, down)
    assert_close(step, jax.tree.map(jnp.zeros_like, step), atol=1e-6)


def test_a_step_with_momentum_adds_to_the_velocity_of_the_last_one():
    config, state = initial()
    config = dataclasses.replace(config, momentum=jnp.float32(0.9))
    once = update()(config, state, rollout(), PROGRESS)[0]
    again = update()(config, once._replace(policy=state.policy), rollout(), PROGRESS)[0]
    np.testing.assert_allclose(again.opt_state, 1.9 * once.opt_state, rtol=1e-5, atol=1e-7)


FIELDS = (
    "learning_rate",
    "learning_rate_end_share",
    "momentum",
    "location_std",
    "location_std_end_share",
    "location_share",
    "location_rate",
    "baseline_rate",
)


def test_a_batch_of_every_traced_field_learns_as_each_alone():
    config, state = initial()
    assert {f.name for f in dataclasses.fields(RAMConfig) if not f.metadata["static"]} == set(FIELDS)
    config = dataclasses.replace(config, location_share=jnp.float32(0.5))
    batch = {name: getattr(config, name) * jnp.array([1.0, 0.5]) for name in FIELDS}
    wide = dataclasses.replace(config, **batch)
    found = jax.jit(jax.vmap(update(), in_axes=(0, None, None, None)))(wide, state, rollout(), PROGRESS)
    for i in range(2):
        alone = dataclasses.replace(config, **{name: values[i] for name, values in batch.items()})
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], found), update()(alone, state, rollout(), PROGRESS))
    assert update()._cache_size() == 1


# --- what it refuses ------------------------------------------------------------------------------------------------

PICTURE = SPEC._replace(obs=tree_spec(Glimpse(ArraySpec((8, 8, 1), "float32", picture="HWC"), ArraySpec((2,), "float32"))))


@pytest.mark.parametrize(
    ("spec", "fields", "words"),
    [
        (
            SPEC._replace(obs=ArraySpec((4,), "float32"), action=Discrete(2)),
            {},
            "agent=ram sees glimpses .*; choose glimpse/digits",
        ),
        (SPEC._replace(action=Discrete(2)), {}, "agent=ram sees glimpses .*; choose glimpse/digits"),
        (SPEC, {"rollout_length": 2}, "rollout_length=2 is not the 3 glimpses of a picture; give rollout_length 0"),
        (SPEC._replace(time_limit=None), {}, "this environment has no time_limit; say how many glimpses there are"),
        (SPEC._replace(time_limit=None), {"rollout_length": 2}, "has no time_limit; say how many glimpses there are"),
        (
            PICTURE,
            {"torso": "nature"},
            "torso='nature' needs pictures of at least 36 x 36, not 8 x 8; choose a smaller one, or mlp",
        ),
        (SPEC, {"torso": "minatar"}, "torso='minatar' cannot tell what the axes"),
    ],
)
def test_what_it_cannot_see_or_do_is_one_line(spec, fields, words):
    with pytest.raises(UsageError, match=words) as error:
        make_ram(as_arrays(dataclasses.replace(CONFIG, **fields)), spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"), [("location_std", 1e-4), ("location_std", 11.0), ("momentum", 1.0), ("core", "gru"), ("look", "left")]
)
def test_a_value_out_of_range_is_named(field, value):
    with pytest.raises(UsageError, match=f"{field}={value!r}"):
        check_config(dataclasses.replace(CONFIG, **{field: value}))


def test_the_smallest_deviation_is_no_division_by_zero():
    found = gradient(rollout(), location_std=1e-3)
    assert np.all(np.isfinite(ravel_pytree(found)[0]))


def test_several_paths_and_pictures_without_label_cannot_be_learned_of():
    several = Glimpse(ArraySpec((5, 2, 2, 1), "float32"), ArraySpec((5, 2), "float32"))
    spec = SPEC._replace(obs=tree_spec(several), action=Look(Box((5, 2)), Discrete(CLASSES)))
    config, state = initial()
    for other, rows, words in (
        (spec, rollout(), "samples=5 is for evaluation.*; give --eval-env-option samples=5"),
        (SPEC, rollout()._replace(info={}), r"info\['label'\], which this environment does not have"),
    ):
        with pytest.raises(UsageError, match=words):
            make_ram(config, other).update(jax.random.key(0), state, rows, PROGRESS)
