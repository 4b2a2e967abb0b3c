"""Pictures seen through glimpses: which picture comes when, what is seen of it, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import slow_but, write_images
from jaxrl.agents import RAMConfig, make_ram
from jaxrl.drivers.evaluate import episode_scores, split_episodes
from jaxrl.envs import ENVS, evaluation_options, glimpse, make
from jaxrl.envs.tools.retina import retina
from jaxrl.errors import UsageError
from jaxrl.loop import build_in
from jaxrl.nets.glimpse import Look
from jaxrl.records import checkpoint
from jaxrl.types import Agent, sample_action

NUM_TRAIN, NUM_TEST, SIDE = 12, 23, 6
KEY = jax.random.key(0)


def numbered(number):
    """Pictures that tell which they are: [N, 6, 6] with two numbers in the first row."""
    images = np.random.default_rng(0).integers(0, 256, (number, SIDE, SIDE), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(number), 256)
    return images


def number_of(pictures):
    return 256 * pictures[..., 0, 0].astype(int) + pictures[..., 0, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), numbered(NUM_TRAIN), numbered(NUM_TEST))


@pytest.fixture(autouse=True)
def _images(folder, monkeypatch):
    """12 pictures to train on, 23 to test, 6 pixels wide; the label is the number's last digit."""
    monkeypatch.setenv("JAXRL_DATA_DIR", str(folder))


def pictures_of(num_envs, num_steps, **options):
    """(env, play): play(key, state=None) -> (state, [time, B] numbers of the pictures, [time, B] whether they count)."""
    env = make("glimpse/mnist", num_envs, num_glimpses=1, size=2, **options)
    action = Look(jnp.zeros((num_envs, 2)), jnp.zeros(num_envs, jnp.int32))

    @jax.jit
    def run(key, params, state):
        state = env.reset(key, params)[0] if state is None else state

        def step(state, key):
            after, timestep = env.step(key, params, state, action)
            return after, (state.picture, timestep.info["counted"])

        return jax.lax.scan(step, state, jax.random.split(key, num_steps))

    def played(key, state=None):
        state, (pictures, counts) = run(key, env.params, state)
        return state, number_of(np.asarray(pictures)), np.asarray(counts)

    return env, played


# --- which picture comes when ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_envs", "num_steps"),
    [pytest.param(4, 9, marks=pytest.mark.slow), (5, 12), pytest.param(30, 2, marks=pytest.mark.slow)],
)
def test_an_epoch_holds_each_picture_once_in_an_order_of_its_own(num_envs, num_steps):
    """12 pictures: 4 divides them, 5 does not, 30 is more than there are."""
    _, played = pictures_of(num_envs, num_steps)
    epochs = played(KEY)[1].reshape(-1)[: 5 * NUM_TRAIN].reshape(-1, NUM_TRAIN)[:3]
    assert len(epochs) == 3
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(NUM_TRAIN), (3, 1)))
    others = played(jax.random.key(1))[1].reshape(-1)[: 3 * NUM_TRAIN].reshape(3, NUM_TRAIN)
    assert len({tuple(order) for order in [*epochs, *others]}) == 6


@pytest.mark.slow
def test_the_order_does_not_depend_on_the_number_of_environments():
    orders = [pictures_of(num_envs, 24 // num_envs)[1](KEY)[1].reshape(-1) for num_envs in (4, 6)]
    np.testing.assert_array_equal(*orders)


def test_a_run_that_is_stopped_within_an_epoch_goes_on_in_its_order(tmp_path):
    _, played = pictures_of(5, 1)
    state, orders = None, []
    for time in range(5):
        state, numbers, _ = played(KEY, state)
        orders.append(numbers)
        if time == 1:
            checkpoint.save(tmp_path, 1, state, {})
    shapes = jax.eval_shape(lambda: state)
    resumed, again = checkpoint.restore(tmp_path, lambda meta: shapes, pytest.fail).state, []
    for _ in range(3):
        resumed, numbers, _ = played(jax.random.key(9), resumed)
        again.append(numbers)
    np.testing.assert_array_equal(again, orders[2:])


@pytest.mark.parametrize("num_envs", slow_but([5], [1, 5, 23, 30]))
def test_a_test_shows_each_picture_once_in_its_order_and_what_fills_up_does_not_count(num_envs):
    """23 pictures: 1 and 23 divide them, 5 does not, 30 is more than there are."""
    env, played = pictures_of(num_envs, -(-NUM_TEST // num_envs) + 1, split="test")
    _, numbers, counts = played(KEY)
    assert env.num_episodes == NUM_TEST
    assert numbers[counts].tolist() == list(range(NUM_TEST))


def always(label):
    """The agent that looks at the middle and says `label`."""

    def act(key, policy, memory, obs, progress, explore):
        return Look(jnp.zeros_like(obs.location), jnp.full(obs.location.shape[0], label, jnp.int32)), memory, ()

    return Agent(lambda key: (), act, lambda *arguments: ((), {}))


def test_an_evaluation_counts_each_of_ten_thousand_pictures_once(tmp_path, monkeypatch):
    """127 environments of 79 episodes each would be 10,033."""
    num, split = 10_000, split_episodes(10_000)
    assert split[0] * split[1] > num
    write_images(tmp_path, numbered(1), numbered(num), labels=np.arange(num) % 8 // 7)
    monkeypatch.setenv("JAXRL_DATA_DIR", str(tmp_path))
    env = make("glimpse/mnist", split[0], num_glimpses=2, size=2, split="test")

    @jax.jit
    def scores(params):
        return episode_scores(KEY, always(1), env._replace(params=params), (), None, split[1])

    returns, counts = scores(env.params)
    assert counts.sum() == num and returns[counts].sum() == num / 8


def test_the_pictures_of_validation_are_those_that_training_leaves_out():
    train, validation = (make("glimpse/mnist", 1, size=2, held_out=5, split=split) for split in ("train", "validation"))
    assert number_of(np.asarray(train.params.images)).tolist() == list(range(7))
    assert number_of(np.asarray(validation.params.images)).tolist() == list(range(7, 12))
    assert (train.num_episodes, validation.num_episodes) == (None, 5)


def test_pictures_of_a_test_are_made_of_its_seed_and_those_of_training_anew():
    def first(num_envs, key, **options):
        env = make("glimpse/mnist-cluttered", num_envs, size=4, side=20, piece=3, **options)
        return np.asarray(jax.jit(env.reset)(key, env.params)[0].picture)

    tested = first(8, KEY, split="test")
    np.testing.assert_array_equal(tested, first(8, jax.random.key(1), split="test"))
    np.testing.assert_array_equal(tested[:3], first(3, KEY, split="test"))
    assert (tested != first(8, KEY, split="test", seed=1)).any()
    # The first pictures of two resets with one order, which differ in the rest of the key alone.
    env = make("glimpse/mnist-translated", 12, size=4, side=20)
    batch, zero = env.reset.__self__, jnp.int32(0)
    begin = jax.jit(lambda key: batch.begin(key, env.params, KEY, zero, zero)[0])
    one, other = (begin(jax.random.key(seed)) for seed in (1, 2))
    np.testing.assert_array_equal(one.label, other.label)
    assert (np.asarray(one.picture) != np.asarray(other.picture)).any((1, 2)).sum() > 8


# --- what is seen ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played(folder):
    """Three glimpses at random: the environment, and the states, observations, actions and steps of 7 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_DATA_DIR", str(folder))
        env = make("glimpse/mnist", 4, num_glimpses=3, size=2, num_scales=2)

    @jax.jit
    def run(params):
        def step(carry, key):
            state, obs = carry
            action = sample_action(key, env.spec.action, (4,))
            action = action._replace(label=jnp.where(jnp.arange(4) < 2, state.label, action.label))
            after, timestep = env.step(key, params, state, action)
            return (after, timestep.obs), (state, obs, action, timestep)

        return jax.lax.scan(step, env.reset(KEY, params), jax.random.split(KEY, 7))[1]

    return env, run, jax.device_get(run(env.params))


def looked(pictures, locations):
    return jax.jit(jax.vmap(lambda picture, at: retina(picture, at, 2, 2)))(pictures, locations)


def test_each_glimpse_is_where_the_action_says_and_the_last_of_the_old_picture(played):
    _, _, (states, obs, action, timestep) = played
    for time in range(7):
        np.testing.assert_array_equal(timestep.next_obs.location[time], action.location[time])
        np.testing.assert_allclose(timestep.next_obs.patches[time], looked(states.picture[time], action.location[time]))
        np.testing.assert_allclose(obs.patches[time], looked(states.picture[time], obs.location[time]))
    assert (number_of(states.picture[2]) != number_of(states.picture[3])).all()
    np.testing.assert_array_equal(timestep.obs.location[:-1], obs.location[1:])


def test_the_last_step_pays_who_is_right_and_all_episodes_end_together(played):
    _, _, (states, _, action, timestep) = played
    is_last = np.arange(7) % 3 == 2
    np.testing.assert_array_equal(timestep.terminated, np.tile(is_last[:, None], 4))
    assert not timestep.truncated.any()
    np.testing.assert_array_equal(timestep.reward, is_last[:, None] & (action.label == states.label))
    assert timestep.reward[:, :2].sum() == 4.0
    np.testing.assert_array_equal(timestep.info["episode_length"][:, 0], [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(timestep.info["label"], number_of(states.picture) % 10)


def test_the_state_knows_the_path(played):
    _, _, (states, obs, action, _) = played
    np.testing.assert_array_equal(states.path[2, :, :, 0], np.stack([obs.location[0], *action.location[:2]], axis=1))
    assert not states.path[3, :, 1:].any()


def test_observations_know_nothing_of_the_label(played):
    env, run, (_, obs, _, _) = played
    others = env.params._replace(labels=(env.params.labels + 1) % 10)
    assert env.spec.obs.treedef == jax.tree.structure(obs)
    for ours, theirs in zip(jax.tree.leaves(obs), jax.tree.leaves(run(others)[1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# --- what is made of which options ----------------------------------------------------------------------------------


def test_the_registry_has_the_names_of_this_family():
    assert ENVS["glimpse"] == tuple(glimpse.PICTURES)


def test_plain_pictures_are_as_large_as_their_data():
    env = make("glimpse/mnist", 2, size=6)
    assert jax.eval_shape(env.reset, KEY, env.params)[0].picture.shape == (2, 6, 6)


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("mnist", {"size": 7}, "size=7 is larger than the picture; give at most 6"),
        ("mnist", {"size": 2, "num_scales": 3}, "num_scales=3 of size=2 see 8 pixels and the picture has 6; give at most 2"),
        (
            "mnist",
            {"size": 2, "side": 9},
            "side=9 is for translated digits, and those of glimpse/mnist are 6 pixels wide; leave",
        ),
        ("mnist-translated", {"size": 2, "side": 5}, "side=5 is smaller than a digit; give at least 6"),
        ("mnist-cluttered", {"size": 2, "piece": 7}, "piece=7 is larger than a digit; give at most 6"),
        ("mnist", {"size": 2, "split": "tests"}, "split='tests' is unknown; choose one of train, validation, test"),
        ("mnist", {"size": 2, "held_out": 12}, r"held_out=12 leaves no picture to split=train; give a number in \[0, 11\]"),
        ("mnist", {"size": 2, "split": "validation"}, r"held_out=0 leaves no picture to split=validation; .* \[1, 11\]"),
        ("mnist", {"size": 2, "num_glimpses": 0}, "num_glimpses=0 is out of range"),
        ("mnist", {"size": 2, "seed": -1}, "seed=-1 is out of range"),
        ("mnist", {"size": 2, "samples": 3}, "samples=3 .* eval_env_options"),
        ("mnist", {"size": 2, "glimpses": 3}, "'glimpses'.*num_glimpses"),
        ("mnist", {"size": 2, "time_limit": 3}, "time_limit=3: an episode has num_glimpses steps; give that instead"),
        ("mnist", {"size": 2, "frame_stack": 2}, "frame_stack needs observations that are one array"),
        ("mnist", {"size": 2, "mask_observation": (0,)}, "mask_observation needs observations that are one array"),
        ("minst", {}, "'glimpse/minst'.*glimpse/mnist"),
    ],
)
def test_bad_options_are_one_line(name, options, line):
    with pytest.raises(UsageError, match=line) as error:
        make(f"glimpse/{name}", 2, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("training", "given"), [({}, {"held_out": 4}), ({"held_out": 3}, {"held_out": 4}), ({}, {})])
def test_a_validation_on_pictures_that_were_trained_on_is_one_line(training, given):
    with pytest.raises(UsageError, match="split=validation, and training holds out"):
        evaluation_options("glimpse/mnist", training, {"split": "validation", **given})
    held_out = {"held_out": 4}
    assert evaluation_options("glimpse/mnist", held_out, {"split": "validation"}) == held_out | {"split": "validation"}


@pytest.mark.parametrize("split", ["test", "validation"])
def test_learning_of_pictures_that_are_to_be_scored_on_is_one_line(split):
    env = make("glimpse/mnist", 4, num_glimpses=2, size=2, split=split, held_out=5)
    with pytest.raises(UsageError, match=r"episodes, such as a test set, is for evaluations"):
        build_in(make_ram, RAMConfig(num_envs=4), env)


def test_data_that_are_not_there_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRL_DATA_DIR", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"JAXRL_DATA_DIR=.* has no train-images"):
        make("glimpse/mnist", 2)


@pytest.mark.slow
def test_an_action_may_stick():
    env = make("glimpse/mnist", 3, size=2, sticky_actions=1.0)
    state, _ = env.reset(KEY, env.params)
    step = jax.jit(env.step)
    first, second = (Look(jnp.full((3, 2), value), jnp.zeros(3, jnp.int32)) for value in (0.25, 0.5))
    state, _ = step(KEY, env.params, state, first)
    assert (step(KEY, env.params, state, second)[1].obs.location == 0.25).all()
