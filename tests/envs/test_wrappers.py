"""The wrappers, on an environment written by hand whose every number is known."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import ENVS, exact, make
from jaxrl.envs.tools.wrappers import (
    OPTIONS,
    clip_reward,
    flatten_observation,
    frame_stack,
    map_observation,
    mask_observation,
    normalize_observation,
    normalize_reward,
    record_episodes,
    sticky_actions,
    time_limit,
)
from jaxrl.errors import UsageError
from jaxrl.maths.normalize import Moments
from jaxrl.types import ArraySpec, Discrete, Env, Spec, TimeStep, episode_end


def counter(lengths=(3, 2), limit=None, info=()):
    """Environment i counts its steps to `lengths[i]` and is terminated; reward count * (i + 1).

    Observation: [count, last action]. No records; `render` is a picture of [count, length].
    """
    num_envs = len(lengths)

    def observe(count, action):
        return jnp.stack([count, action], axis=-1).astype(jnp.float32)

    def reset(key, params):
        zero = jnp.zeros(num_envs, jnp.int32)
        return {"count": zero}, observe(zero, zero)

    def step(key, params, state, action):
        count = state["count"] + 1
        ended = count >= params["lengths"]
        next_obs = observe(count, action)
        obs = jnp.where(ended[:, None], 0.0, next_obs)
        reward = (count * jnp.arange(1, num_envs + 1)).astype(jnp.float32)
        timestep = TimeStep(obs, reward, ended, jnp.zeros(num_envs, bool), next_obs, info)
        return {"count": jnp.where(ended, 0, count)}, timestep

    def render(params, state, index):
        return np.array([state["count"][index], params["lengths"][index]])

    spec = Spec(ArraySpec((2,), "float32"), Discrete(1000), limit)
    return Env(spec, num_envs, {"lengths": jnp.asarray(lengths)}, reset, step, model=lambda *a: a, render=render)


def run(env, num_steps, actions=None, key=0):
    """(first obs, TimeSteps [T, B], last state)."""
    if actions is None:
        actions = jnp.zeros((num_steps, env.num_envs), jnp.int32)

    @jax.jit
    def steps(params):
        state, obs = env.reset(jax.random.key(key), params)

        def step(state, inputs):
            time, action = inputs
            return env.step(jax.random.fold_in(jax.random.key(key), time), params, state, action)

        state, timesteps = jax.lax.scan(step, state, (jnp.arange(num_steps), actions))
        return obs, timesteps, state

    return steps(env.params)


# --- record_episodes ------------------------------------------------------------------------------------------------


def test_records_are_of_the_running_episode_and_start_again_after_an_end():
    _, steps, _ = run(record_episodes(counter()), 5)
    np.testing.assert_array_equal(steps.info["episode_return"][:, 0], [1, 3, 6, 1, 3])
    np.testing.assert_array_equal(steps.info["episode_return"][:, 1], [2, 6, 2, 6, 2])
    np.testing.assert_array_equal(steps.info["episode_length"][:, 0], [1, 2, 3, 1, 2])


def test_records_leave_other_info_where_it_was():
    _, steps, _ = run(record_episodes(counter(info={"score": jnp.ones(2)})), 2)
    np.testing.assert_array_equal(steps.info["score"], np.ones((2, 2)))
    assert set(steps.info) == {"score", "episode_return", "episode_length"}


def test_an_environment_that_keeps_records_is_left_alone():
    env = make("probe/discount", num_envs=2)
    assert record_episodes(env) is env


# --- time_limit -----------------------------------------------------------------------------------------------------


def test_the_limit_truncates_only_the_episode_that_reached_it():
    _, steps, _ = run(time_limit(counter((100, 2)), 3), 5)
    np.testing.assert_array_equal(steps.truncated[:, 0], [False, False, True, False, False])
    assert not steps.truncated[:, 1].any()
    np.testing.assert_array_equal(steps.terminated[:, 1], [False, True, False, True, False])


def test_after_a_truncation_obs_is_the_reset_and_next_obs_the_true_successor():
    _, steps, _ = run(time_limit(counter((100, 2)), 3), 4)
    np.testing.assert_array_equal(steps.obs[:, 0, 0], [1, 2, 0, 1])
    np.testing.assert_array_equal(steps.next_obs[:, 0, 0], [1, 2, 3, 1])
    np.testing.assert_array_equal(steps.obs[:, 1, 0], [1, 0, 1, 0])


def test_an_episode_that_ends_in_its_last_step_is_terminated():
    _, steps, _ = run(time_limit(counter((3, 2)), 3), 3)
    np.testing.assert_array_equal(steps.terminated[:, 0], [False, False, True])
    assert not steps.truncated.any()


@pytest.mark.parametrize(("own", "expected"), [(None, 3), (2, 2), (7, 3)])
def test_the_spec_tells_the_smaller_limit(own, expected):
    assert time_limit(counter(limit=own), 3).spec.time_limit == expected


def test_a_limit_restarts_the_records_beneath_it():
    _, steps, _ = run(time_limit(record_episodes(counter((100, 100))), 2), 4)
    np.testing.assert_array_equal(steps.info["episode_return"][:, 0], [1, 3, 1, 3])


def test_a_limit_keeps_the_statistics_of_rewards_beneath_it():
    env = time_limit(normalize_reward(counter((100, 100)), gamma=0.0), 2)
    _, steps, state = run(env, 4)
    # Rewards 1, 2, 1, 2 and 2, 4, 2, 4, all of them remembered.
    seen = np.array([1, 2, 1, 2, 2, 4, 2, 4.0])
    np.testing.assert_allclose(steps.reward[3], np.array([2, 4]) / seen.std(), rtol=1e-4)
    assert float(state.inner.extra[1].num_samples) == 8


# --- frame_stack ----------------------------------------------------------------------------------------------------


def test_an_episode_starts_with_copies_of_its_first_frame():
    obs, steps, _ = run(frame_stack(counter(), 3), 3)
    assert obs.shape == (2, 2, 3)
    np.testing.assert_array_equal(obs[0, 0], [0, 0, 0])
    np.testing.assert_array_equal(steps.obs[0, 0, 0], [0, 0, 1])
    np.testing.assert_array_equal(steps.obs[1, 0, 0], [0, 1, 2])


def test_no_frame_crosses_an_end_and_the_successor_is_stacked_with_the_old_ones():
    _, steps, _ = run(frame_stack(counter((4, 2)), 3), 5)
    np.testing.assert_array_equal(steps.next_obs[3, 0, 0], [2, 3, 4])
    np.testing.assert_array_equal(steps.obs[3, 0, 0], [0, 0, 0])
    np.testing.assert_array_equal(steps.obs[4, 0, 0], [0, 0, 1])
    np.testing.assert_array_equal(steps.next_obs[1, 1, 0], [0, 1, 2])
    np.testing.assert_array_equal(steps.obs[1, 1, 0], [0, 0, 0])


def test_frames_with_channels_are_merged_oldest_first():
    pixels = map_observation(
        counter((9, 9)), lambda obs: obs[:, None, None, :] * jnp.ones((1, 4, 5, 1)), ArraySpec((4, 5, 2), "float32")
    )
    env = frame_stack(pixels, 2)
    assert env.spec.obs == ArraySpec((4, 5, 4), "float32")
    _, steps, _ = run(env, 3, jnp.full((3, 2), 7))
    assert steps.obs.shape == (3, 2, 4, 5, 4)
    np.testing.assert_array_equal(steps.obs[2, 0, 3, 4], [2, 7, 3, 7])


# --- sticky_actions -------------------------------------------------------------------------------------------------


def test_actions_stick_as_often_as_asked():
    env = sticky_actions(counter((1000,) * 500), 0.25)
    actions = jnp.broadcast_to(jnp.arange(1, 41)[:, None], (40, 500))
    _, steps, _ = run(env, 40, actions)
    done = np.asarray(steps.next_obs[..., 1])
    stuck = done != np.asarray(actions)
    assert not stuck[0].any()
    np.testing.assert_array_equal(done[1:][stuck[1:]], done[:-1][stuck[1:]])
    # 39 * 500 draws: a standard deviation of 0.0031.
    assert stuck[1:].mean() == pytest.approx(0.25, abs=0.0125)


def test_an_action_sticks_within_an_episode_but_not_across_its_end():
    env = sticky_actions(counter((3, 2)), 1.0)
    actions = jnp.broadcast_to(jnp.arange(10, 16)[:, None], (6, 2))
    _, steps, _ = run(env, 6, actions)
    np.testing.assert_array_equal(steps.next_obs[:, 0, 1], [10, 10, 10, 13, 13, 13])
    np.testing.assert_array_equal(steps.next_obs[:, 1, 1], [10, 10, 12, 12, 14, 14])


def test_at_probability_zero_nothing_sticks():
    actions = jnp.broadcast_to(jnp.arange(10, 16)[:, None], (6, 2))
    _, steps, _ = run(sticky_actions(counter(), 0.0), 6, actions)
    np.testing.assert_array_equal(steps.next_obs[..., 1], actions)


# --- observations ---------------------------------------------------------------------------------------------------


def test_a_mask_keeps_the_named_components_of_both_observations():
    env = mask_observation(make("CartPole-v1", num_envs=2), (0, 2))
    plain = make("CartPole-v1", num_envs=2)
    first, steps, _ = run(env, 3)
    plain_first, plain_steps, _ = run(plain, 3)
    assert env.spec.obs == ArraySpec((2,), "float32")
    np.testing.assert_array_equal(first, plain_first[:, [0, 2]])
    np.testing.assert_array_equal(steps.obs, plain_steps.obs[..., [0, 2]])
    np.testing.assert_array_equal(steps.next_obs, plain_steps.next_obs[..., [0, 2]])


def test_observations_become_one_float_vector():
    image = map_observation(counter(), lambda obs: obs.astype(jnp.int32)[:, :, None], ArraySpec((2, 1), "int32"))
    env = flatten_observation(image)
    first, steps, _ = run(env, 2, jnp.full((2, 2), 5))
    assert env.spec.obs == ArraySpec((2,), "float32")
    assert (first.shape, first.dtype) == ((2, 2), jnp.float32)
    np.testing.assert_array_equal(steps.next_obs[1, 0], [2.0, 5.0])


def test_observations_are_normalised_with_the_given_moments():
    moments = Moments(jnp.array([1.0, 0.0]), jnp.array([4.0, 1e-6]), jnp.float32(10))
    _, steps, _ = run(normalize_observation(counter((3, 3)), moments), 3, jnp.full((3, 2), 5))
    np.testing.assert_allclose(steps.next_obs[:, 0, 0], [0.0, 0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(steps.next_obs[:, 0, 1], [10.0, 10.0, 10.0])
    np.testing.assert_allclose(steps.obs[2, 0], [-0.5, 0.0], atol=1e-6)


# --- rewards --------------------------------------------------------------------------------------------------------


def test_clipping_changes_the_reward_and_not_the_recorded_return():
    _, steps, _ = run(clip_reward(record_episodes(counter()), -1.0, 1.5), 3)
    np.testing.assert_array_equal(steps.reward, [[1.0, 1.5], [1.5, 1.5], [1.5, 1.5]])
    np.testing.assert_array_equal(steps.info["episode_return"][:, 0], [1, 3, 6])


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return():
    gamma, env = 0.9, record_episodes(counter((3, 2)))
    _, steps, _ = run(normalize_reward(env, gamma), 6)
    _, raw, _ = run(env, 6)
    running, seen = np.zeros(2), []
    for t in range(6):
        running = gamma * running + np.asarray(raw.reward[t])
        seen.extend(running)
        expected = np.asarray(raw.reward[t]) / np.sqrt(np.var(seen) + 1e-8)
        np.testing.assert_allclose(steps.reward[t], np.clip(expected, -10, 10), rtol=1e-4)
        running = np.where(np.asarray(episode_end(raw)[t]), 0.0, running)
    np.testing.assert_array_equal(steps.info["episode_return"], raw.info["episode_return"])


# --- all of them ----------------------------------------------------------------------------------------------------

WRAPPERS = {
    "record_episodes": record_episodes,
    "time_limit": lambda env: time_limit(env, 50),
    "frame_stack": lambda env: frame_stack(env, 2),
    "sticky_actions": lambda env: sticky_actions(env, 0.5),
    "mask_observation": lambda env: mask_observation(env, (0,)),
    "flatten_observation": flatten_observation,
    "clip_reward": clip_reward,
    "normalize_observation": lambda env: normalize_observation(env, Moments(jnp.zeros(2), jnp.ones(2), jnp.float32(1))),
    "normalize_reward": normalize_reward,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_picture_is_drawn_through_the_wrapper(name):
    env = WRAPPERS[name](counter((9, 8)))
    _, _, state = run(env, 4)
    np.testing.assert_array_equal(env.render(env.params, state, 1), [4, 8])


def test_wrappers_nest_and_a_picture_is_drawn_through_all_of_them():
    env = counter((9, 8))
    for name in ("record_episodes", "normalize_observation", "normalize_reward", "sticky_actions", "frame_stack", "time_limit"):
        env = WRAPPERS[name](env)
    _, _, state = run(env, 4)
    np.testing.assert_array_equal(env.render(env.params, state, 0), [4, 9])


@pytest.mark.parametrize("name", ["frame_stack", "sticky_actions", "normalize_observation"])
def test_a_wrapper_that_changes_what_the_model_would_see_drops_the_model(name):
    assert WRAPPERS[name](counter()).model is None


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda env: time_limit(env, 0), "time_limit=0 is out of range; give a whole number of at least 1"),
        (lambda env: frame_stack(env, 0), "frame_stack=0 is out of range; give a whole number of at least 1"),
        (lambda env: sticky_actions(env, 1.5), r"sticky_actions=1.5 is no probability; give a number in \[0, 1\]"),
        (lambda env: mask_observation(env, (2,)), r"mask_observation=\(2,\) does not fit observations of shape \(2,\)"),
        (lambda env: clip_reward(env, 1.0, -1.0), "low=1.0 is not below high=-1.0"),
        (lambda env: normalize_reward(env, 1.5), r"gamma=1.5 is out of range"),
    ],
)
def test_a_wrong_argument_is_answered_with_the_fix(wrap, message):
    with pytest.raises(UsageError, match=message):
        wrap(counter())


def test_a_tree_of_observations_is_refused_where_one_array_is_needed():
    with pytest.raises(UsageError, match="frame_stack needs observations that are one array"):
        frame_stack(make("probe/mixed"), 2)


# --- as options of make ---------------------------------------------------------------------------------------------


def own_counter(num_envs, time_limit=None):
    return counter((9,) * num_envs, limit=None if time_limit is None else 10 * time_limit)


def takes_all(num_envs, **options):
    return counter((9,) * num_envs, limit=options["frame_stack"])


class Host:
    """A `HostEnv` that can only be closed."""

    spec, num_envs, is_open = Spec(ArraySpec((1,), "float32"), Discrete(2)), 1, True

    def reset(self, seed):
        raise NotImplementedError

    step = reset

    def close(self):
        Host.is_open = False


def host(num_envs):
    return Host()


def test_options_wrap_the_environment_from_the_inside_out():
    env = make("CartPole-v1", 2, sticky_actions=1.0, time_limit=3, mask_observation=[0, 2], frame_stack=2)
    assert (env.spec.obs, env.spec.time_limit) == (ArraySpec((2, 2), "float32"), 3)
    assert env.params["probability"] == 1.0
    obs, steps, _ = run(env, 4, jnp.array([[1, 1], [0, 0], [0, 0], [1, 1]]))
    plain = make("CartPole-v1", 2, time_limit=3)
    assert obs.shape == (2, 2, 2) and plain.spec.time_limit == 3
    np.testing.assert_array_equal(steps.truncated[:, 0], [False, False, True, False])
    np.testing.assert_array_equal(steps.next_obs[2, ..., 0], steps.next_obs[1, ..., 1])
    np.testing.assert_array_equal(steps.obs[2, ..., 0], steps.obs[2, ..., 1])
    # Pushed to the right three times: action 1 sticks, and the cart's place, seen first, moves with its growing speed.
    assert (np.diff(steps.next_obs[:3, :, 0, 1], axis=0) > 0.0).all()
    np.testing.assert_array_equal(steps.info["episode_length"][:, 0], [1, 2, 3, 1])


def test_an_option_that_the_environment_takes_itself_is_its_own():
    assert make(f"{__name__}:own_counter", 2, time_limit=5).spec.time_limit == 50
    all_taken = make(f"{__name__}:takes_all", 2, frame_stack=5, gravity=1).spec
    assert (all_taken.time_limit, all_taken.obs.shape) == (5, (2,))
    grid = make("gridworld/classic", 2, time_limit=5, frame_stack=2).spec
    assert (grid.time_limit, grid.obs.shape) == (5, (2,))
    assert make(f"{__name__}:own_counter", 2, frame_stack=3).spec.obs.shape == (2, 3)


def test_no_gymnax_environment_has_an_option_called_as_a_wrapper():
    from jaxrl.envs.gymnax import _construct

    for env_id in ENVS["gymnax"]:
        env, params = _construct(env_id, {})
        assert not {*inspect.signature(type(env)).parameters, *vars(params)} & {*OPTIONS, "time_limit"}


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("CartPole-v1", {"sticky_actions": "often"}, "sticky_actions='often' is no probability; give a number in"),
        ("CartPole-v1", {"time_limit": 2.5}, "time_limit=2.5 is out of range; give a whole number of at least 1"),
        ("CartPole-v1", {"frame_stack": True}, "frame_stack=True is out of range; give a whole number of at least 1"),
        ("CartPole-v1", {"mask_observation": [4]}, r"mask_observation=\[4\] does not fit observations of shape \(4,\)"),
        ("CartPole-v1", {"mask_observation": 0}, "mask_observation=0 does not fit observations of shape"),
        ("probe/constant", {"frame_stak": 2}, "probe/constant has no option 'frame_stak'"),
        (f"{__name__}:host", {"frame_stack": 2}, "frame_stack=2 wraps no environment of the host such as .*; leave it out"),
        ("gymnasium/CartPole-v1", {"frame_stack": 2}, "frame_stack=2"),
        ("envpool/CartPole-v1", {"sticky_actions": 0.1}, "unknown option of envpool/CartPole-v1 'sticky_actions'"),
    ],
)
def test_a_bad_option_is_one_line(env_id, options, message):
    with pytest.raises(UsageError, match=message) as error:
        make(env_id, 1, **options)
    assert "\n" not in str(error.value)


def test_an_environment_of_the_host_that_is_refused_is_closed():
    Host.is_open = True
    with pytest.raises(UsageError):
        make(f"{__name__}:host", 1, frame_stack=2)
    assert not Host.is_open


def test_a_wrapped_environment_is_no_known_mdp():
    with pytest.raises(UsageError, match="unknown option of gridworld/classic 'sticky_actions'"):
        exact("gridworld/classic", sticky_actions=0.1)
