"""The Gymnasium adapter against plain Gymnasium loops with the same seeds and actions."""

import sys

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from jaxrl import envs
from jaxrl.envs.gymnasium import from_vector_env, make
from jaxrl.errors import UsageError
from jaxrl.types import ArraySpec, Box, Discrete, HostEnv, TreeSpec


class Counter(gymnasium.Env):
    """Counts its steps; ends after `length`, truncated or both terminated and truncated.

    Observation: {"count": [1] float64, "pair": (number from 10, [2] int64)}. Actions 3, 4 and 5; the reward is the action.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self, length=3, both=False, reuse=False, fails_at=None, space=None, actions=None, render_mode=None, tell_options=False
    ):
        pair = spaces.Tuple((spaces.Discrete(100, start=10), spaces.Box(-9, 9, (2,), np.int64)))
        full = spaces.Dict({"count": spaces.Box(-np.inf, np.inf, (1,), np.float64), "pair": pair})
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64) if reuse else space or full
        self.action_space = actions or spaces.Discrete(3, start=3)
        self.length, self.both, self.reuse, self.fails_at = length, both, reuse, fails_at
        self.render_mode, self.count, self.buffer, self.tell_options = render_mode, 0, np.zeros(1), tell_options

    def _observe(self):
        self.buffer[0] = self.count
        if self.reuse:
            return self.buffer
        return {"count": self.buffer.copy(), "pair": (10 + self.count, np.array([self.count, -self.count]))}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 7 * (options == {}) if self.tell_options else 0
        return self._observe(), {}

    def step(self, action):
        self.count += 1
        if self.count == self.fails_at:
            raise ZeroDivisionError("the physics blew up")
        ended = self.count >= self.length
        return self._observe(), float(action), ended and self.both, ended, {"note": 1}

    def render(self):
        return np.full((4, 6, 3), self.count, np.uint8)


@pytest.fixture(autouse=True, scope="module")
def registered():
    gymnasium.register("jaxrl-test/Counter-v0", Counter, disable_env_checker=True)
    yield
    del gymnasium.registry["jaxrl-test/Counter-v0"]


def plain_episodes(env, seed, actions):
    """What one plain environment returns: a list of (obs, reward, terminated, truncated, next_obs, return, length)."""
    rows, total, length = [], 0.0, 0
    env.reset(seed=seed)
    for action in actions:
        next_obs, reward, terminated, truncated, _ = env.step(action)
        total, length = total + reward, length + 1
        ended = terminated or truncated
        obs = env.reset()[0] if ended else next_obs
        rows.append((obs, reward, terminated, truncated and not terminated, next_obs, total, length))
        total, length = (0.0, 0) if ended else (total, length)
    return rows


def assert_equals_plain(env, plain, seed, actions, native):
    """`env` (B environments), stepped with `actions` [T, B], equals B environments `plain()` stepped with `native`."""
    steps = []
    env.reset(seed)
    for action in actions:
        steps.append(env.step(action))
    env.close()
    for i in range(env.num_envs):
        for step, row in zip(steps, plain_episodes(plain(), seed + i, [a[i] for a in native]), strict=True):
            obs, reward, terminated, truncated, next_obs, total, length = row
            np.testing.assert_array_equal(step.obs[i], np.asarray(obs, np.float32))
            np.testing.assert_array_equal(step.next_obs[i], np.asarray(next_obs, np.float32))
            assert step.reward[i] == np.float32(reward)
            assert (step.terminated[i], step.truncated[i]) == (terminated, truncated)
            np.testing.assert_allclose(step.info["episode_return"][i], total, rtol=1e-5)
            assert step.info["episode_length"][i] == length
    return steps


def test_cartpole_equals_a_plain_loop():
    actions = np.random.default_rng(0).integers(0, 2, (80, 3))
    env = envs.make("gymnasium/CartPole-v1", num_envs=3)
    steps = assert_equals_plain(env, lambda: gymnasium.make("CartPole-v1"), 5, actions, actions)
    assert np.stack([s.terminated for s in steps]).sum(axis=0).min() >= 2


def test_a_time_limit_truncates():
    actions = np.tile([[0, 1], [1, 0]], (7, 1))
    env = make("CartPole-v1", 2, max_episode_steps=5)
    steps = assert_equals_plain(env, lambda: gymnasium.make("CartPole-v1", max_episode_steps=5), 0, actions, actions)
    assert env.spec.time_limit == 5
    assert [t for t, s in enumerate(steps) if s.truncated.any()] == [4, 9]


def test_pendulum_takes_torques_scaled_to_its_bounds():
    # Sixteenths, which float32 scales without rounding.
    actions = np.float32(np.random.default_rng(1).integers(-16, 17, (5, 2, 1)) / 16)
    env = make("Pendulum-v1", 2)
    assert env.spec.action == Box((1,))
    assert_equals_plain(env, lambda: gymnasium.make("Pendulum-v1"), 3, actions, 2 * actions)


def test_uneven_bounds_are_reached_at_minus_one_and_one_and_never_passed():
    taken = []

    class Recorder(Counter):
        def step(self, action):
            taken.append(action)
            return super().step(0)

    box = spaces.Box(np.float32([0, -4]), np.float32([10, 4]))
    env = from_vector_env(SyncVectorEnv([lambda: Recorder(actions=box)], autoreset_mode=AutoresetMode.DISABLED))
    env.reset(0)
    for action in ([-1, -1], [1, 1], [0, 0.5], [7, -7]):
        env.step(np.float32([action]))
    np.testing.assert_allclose(taken, [[0, -4], [10, 4], [5, 2], [10, -4]])


def test_processes_give_what_one_process_gives():
    actions = np.random.default_rng(2).integers(0, 2, (30, 2))
    env = make("CartPole-v1", 2, vectorization_mode="async")
    assert_equals_plain(env, lambda: gymnasium.make("CartPole-v1"), 1, actions, actions)


def test_a_tree_of_observations_has_narrow_types_and_counts_from_zero():
    env = make("jaxrl-test/Counter-v0", 2)
    assert isinstance(env.spec.obs, TreeSpec)
    assert env.spec.obs.leaves == (ArraySpec((1,), "float32"), ArraySpec((), "int32", 100), ArraySpec((2,), "int32"))
    obs = env.reset(0)
    assert jax.tree.structure(obs) == env.spec.obs.treedef
    assert [leaf.dtype.name for leaf in jax.tree.leaves(obs)] == ["float32", "int32", "int32"]
    obs = env.step(np.zeros(2, np.int32)).obs
    np.testing.assert_array_equal(obs["pair"][0], [1, 1])
    np.testing.assert_array_equal(obs["pair"][1], [[1, -1], [1, -1]])


def test_the_true_successor_of_a_tree_is_whole():
    env = make("jaxrl-test/Counter-v0", 2)
    env.reset(0)
    steps = [env.step(np.zeros(2, np.int32)) for _ in range(4)]
    np.testing.assert_array_equal([s.next_obs["count"][0, 0] for s in steps], [1, 2, 3, 1])
    np.testing.assert_array_equal([s.obs["count"][0, 0] for s in steps], [1, 2, 0, 1])
    np.testing.assert_array_equal([s.next_obs["pair"][0][1] for s in steps], [1, 2, 3, 1])
    np.testing.assert_array_equal(steps[2].next_obs["pair"][1][1], [3, -3])
    np.testing.assert_array_equal(steps[2].obs["pair"][1][1], [0, 0])


def test_environments_that_end_at_different_times_do_not_disturb_each_other():
    env = from_vector_env(SyncVectorEnv([lambda: Counter(2), lambda: Counter(3)], autoreset_mode=AutoresetMode.DISABLED))
    env.reset(0)
    steps = [env.step(np.zeros(2, np.int32)) for _ in range(6)]
    np.testing.assert_array_equal([s.next_obs["count"][:, 0] for s in steps], [[1, 1], [2, 2], [1, 3], [2, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal([s.obs["count"][:, 0] for s in steps], [[1, 1], [0, 2], [1, 0], [0, 1], [1, 2], [0, 0]])
    np.testing.assert_array_equal([s.info["episode_length"] for s in steps], [[1, 1], [2, 2], [1, 3], [2, 1], [1, 2], [2, 3]])


def test_an_environment_that_reuses_its_buffer_keeps_its_true_successor_by_default():
    env = make("jaxrl-test/Counter-v0", 2, reuse=True)
    env.reset(0)
    steps = [env.step(np.zeros(2, np.int32)) for _ in range(3)]
    np.testing.assert_array_equal([s.next_obs[0, 0] for s in steps], [1, 2, 3])
    np.testing.assert_array_equal([s.obs[0, 0] for s in steps], [1, 2, 0])


def test_what_a_step_returned_is_not_changed_by_the_next():
    env = make("jaxrl-test/Counter-v0", 2)
    env.reset(0)
    first = env.step(np.zeros(2, np.int32))
    env.step(np.zeros(2, np.int32))
    np.testing.assert_array_equal(first.obs["count"], [[1], [1]])


def test_termination_wins_over_truncation():
    env = make("jaxrl-test/Counter-v0", 2, length=1, both=True)
    env.reset(0)
    step = env.step(np.zeros(2, np.int32))
    assert step.terminated.all()
    assert not step.truncated.any()


def test_actions_that_do_not_count_from_zero_are_shifted():
    env = make("jaxrl-test/Counter-v0", 3)
    assert env.spec.action == Discrete(3)
    env.reset(0)
    np.testing.assert_array_equal(env.step(np.array([0, 1, 2], np.int32)).reward, [3, 4, 5])


def test_all_leaves_are_numpy_of_the_types_of_the_contract():
    env = make("CartPole-v1", 2)
    assert isinstance(env, HostEnv)
    env.reset(0)
    step = env.step(np.zeros(2, np.int32))
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(step))
    assert {step.obs.dtype, step.next_obs.dtype, step.reward.dtype, step.info["episode_return"].dtype} == {np.dtype("float32")}
    assert {step.terminated.dtype, step.truncated.dtype} == {np.dtype("bool")}
    assert step.info["episode_length"].dtype == np.int32


def test_a_reset_begins_new_records():
    env = make("CartPole-v1", 2)
    first = env.reset(0)
    env.step(np.zeros(2, np.int32))
    np.testing.assert_array_equal(env.reset(0), first)
    np.testing.assert_array_equal(env.step(np.zeros(2, np.int32)).info["episode_length"], [1, 1])


def test_a_frame_is_a_picture_of_the_first_environment():
    env = make("jaxrl-test/Counter-v0", 2, render_mode="rgb_array")
    env.reset(0)
    env.step(np.zeros(2, np.int32))
    frame = env.render_frame()
    assert (frame.shape, frame.dtype) == ((4, 6, 3), np.uint8)
    assert (frame == 1).all()


def test_without_a_render_mode_there_is_no_frame():
    env = make("jaxrl-test/Counter-v0", 2)
    env.reset(0)
    assert env.render_frame() is None


def test_an_environment_that_raises_is_named():
    env = make("jaxrl-test/Counter-v0", 2, fails_at=2)
    env.reset(0)
    env.step(np.zeros(2, np.int32))
    with pytest.raises(RuntimeError, match=r"env='gymnasium/jaxrl-test/Counter-v0' failed in step.*the physics blew up"):
        env.step(np.zeros(2, np.int32))


@pytest.mark.parametrize("mode", ["sync", pytest.param("async", marks=pytest.mark.slow)])
def test_all_resets_are_given_the_same_options(mode):
    env = make("jaxrl-test/Counter-v0", 2, length=1, tell_options=True, vectorization_mode=mode)
    first = env.reset(0)
    steps = [env.step(np.zeros(2, np.int32)) for _ in range(2)]
    assert [obs["count"].tolist() for obs in (first, *(step.obs for step in steps))] == [[[7], [7]]] * 3
    env.close()


# --- ready-made vector environments ---------------------------------------------------------------------------------


def test_the_mode_is_the_vector_environments_own_even_if_another_was_made_after_it():
    mine = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=AutoresetMode.DISABLED)
    # Gymnasium writes the mode into the metadata that all CartPoles share.
    SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=AutoresetMode.SAME_STEP)
    actions = np.ones((25, 1), int)
    assert_equals_plain(from_vector_env(mine), lambda: gymnasium.make("CartPole-v1"), 0, actions, actions)


def test_the_time_limit_of_a_ready_made_vector_environment_is_found_or_given():
    def vector_env():
        return SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=AutoresetMode.DISABLED)

    assert from_vector_env(vector_env()).spec.time_limit == 500
    assert from_vector_env(vector_env(), time_limit=7).spec.time_limit == 7


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_a_vector_environment_that_resets_by_itself_is_refused(mode):
    vector_env = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=mode)
    with pytest.raises(UsageError, match=r"resets by itself; make it with gymnasium\.vector\.AutoresetMode\.DISABLED"):
        from_vector_env(vector_env)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_an_unknown_id_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown Gymnasium environment 'CartPol-v1'; did you mean .*CartPole-v1"):
        envs.make("gymnasium/CartPol-v1")


MODULE = "import gymnasium\ngymnasium.register('{space}Bought-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"


@pytest.mark.parametrize("space", ["", "shop/"])
def test_an_id_that_a_module_registers_is_made_by_naming_both(space, tmp_path, monkeypatch):
    module = f"jaxrl_test_{space.strip('/')}shop"
    (tmp_path / f"{module}.py").write_text(MODULE.format(space=space))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=rf"'{space}Bought-v0'.*name its module: gymnasium/MODULE:{space}Bought-v0"):
        envs.make(f"gymnasium/{space}Bought-v0")
    env = envs.make(f"gymnasium/{module}:{space}Bought-v0", 2)
    assert env.reset(0).shape == (2, 4)
    assert envs.evaluation_options(f"gymnasium/{module}:{space}Bought-v0", {}, {}) == {}
    del gymnasium.registry[f"{space}Bought-v0"]


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("gymnasium/no_such_shop:Cart-v0", "env='gymnasium/no_such_shop:Cart-v0': no module 'no_such_shop' here"),
        ("gymnasium/json:Cart-v0", "unknown Gymnasium environment 'Cart-v0'"),
        ("json:Shop/Cart-v0", "'json:Shop/Cart-v0' names no function; an id .* is gymnasium/json:Shop/Cart-v0"),
        ("Shop/Cart-v0", "unknown environment family 'Shop'; .*; an id of Gymnasium is gymnasium/Shop/Cart-v0"),
    ],
)
def test_an_id_that_its_module_does_not_register_is_refused(env_id, message):
    with pytest.raises(UsageError, match=message):
        envs.make(env_id)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vectorization_mode": "gpu"}, "vectorization_mode='gpu' is unknown; choose one of sync, async"),
        ({"gravty": 3}, r"env='gymnasium/jaxrl-test/Counter-v0' cannot be made \(options: gravty=3\): .*gravty"),
        ({"actions": spaces.Box(-np.inf, np.inf, (1,))}, "has unbounded actions"),
        ({"actions": spaces.MultiDiscrete([2, 3])}, "wrap it so that it takes a Discrete or a float Box"),
        ({"space": spaces.Text(5)}, "has observations of Text"),
    ],
)
def test_what_cannot_be_made_is_answered_with_the_fix(options, message):
    with pytest.raises(UsageError, match=message):
        make("jaxrl-test/Counter-v0", 2, **options)


def test_a_missing_package_is_answered_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(UsageError, match=r"env='gymnasium/CartPole-v1' needs .* pip install 'jaxrl\[gymnasium\]'"):
        envs.make("gymnasium/CartPole-v1")
