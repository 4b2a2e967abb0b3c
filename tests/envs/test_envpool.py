"""The envpool adapter against Gymnasium's physics, which are written independently, and against envpool's raw rewards."""

import json
import subprocess
import sys
from types import SimpleNamespace

import gymnasium
import jax
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.agents.policy_gradient.ppo import PPOConfig
from jaxrl.envs.envpool import make
from jaxrl.errors import UsageError
from jaxrl.runs import train as runs
from jaxrl.runs.definition import Run
from jaxrl.types import ArraySpec, Box, Discrete, HostEnv, Spec


def play(env, actions, seed=0):
    """Steps with `actions` [T, B, ...]: the observations acted on and the time steps, a list of each."""
    obs, seen, steps = env.reset(seed), [], []
    for action in actions:
        seen.append(obs)
        steps.append(env.step(action))
        obs = steps[-1].obs
    env.close()
    return seen, steps


def stacked(steps, field):
    return np.stack([getattr(step, field) for step in steps])


def random_actions(env, length, seed=0):
    rng = np.random.default_rng(seed)
    if isinstance(env.spec.action, Discrete):
        return rng.integers(0, env.spec.action.n, (length, env.num_envs)).astype(np.int32)
    return rng.uniform(-1, 1, (length, env.num_envs, *env.spec.action.shape)).astype(np.float32)


def expected_records(reward, ended):
    """Returns and lengths [T, B] of the running episodes, added up one step after another."""
    returns, lengths = np.zeros(reward.shape), np.zeros(reward.shape, int)
    for t in range(len(reward)):
        runs_on = ~ended[t - 1] if t else np.zeros(reward.shape[1], bool)
        returns[t] = reward[t] + np.where(runs_on, returns[t - 1], 0)
        lengths[t] = 1 + np.where(runs_on, lengths[t - 1], 0)
    return returns, lengths


@pytest.fixture(scope="module")
def cartpole():
    """150 random steps of 33 CartPoles with a limit of 30."""
    env = envs.make("envpool/CartPole-v1", num_envs=33, max_episode_steps=30)
    actions = random_actions(env, 150)
    return actions, *play(env, actions)


# --- same-step reset --------------------------------------------------------------------------------------------------


def test_every_row_is_a_transition_of_gymnasiums_cartpole(cartpole):
    actions, seen, steps = cartpole
    model = gymnasium.make("CartPole-v1").unwrapped
    model.reset(seed=0)
    for obs, action, step in zip(seen, actions, steps, strict=True):
        for i in range(33):
            model.state, model.steps_beyond_terminated = obs[i].astype(np.float64), None
            next_obs, reward, terminated, _, _ = model.step(int(action[i]))
            np.testing.assert_allclose(step.next_obs[i], next_obs, rtol=1e-4, atol=1e-5)
            assert (step.reward[i], step.terminated[i]) == (reward, terminated)


def test_where_an_episode_ended_the_next_observation_is_a_start_and_elsewhere_the_successor(cartpole):
    _, _, steps = cartpole
    obs, next_obs = stacked(steps, "obs"), stacked(steps, "next_obs")
    ended = stacked(steps, "terminated") | stacked(steps, "truncated")
    assert ended.any(axis=0).all() and (ended.sum(axis=1) < 33).all()
    assert (np.abs(obs[ended]) <= 0.05).all()
    np.testing.assert_array_equal(obs[~ended], next_obs[~ended])
    fallen = (np.abs(next_obs[..., 0]) > 2.4) | (np.abs(next_obs[..., 2]) > 12 * np.pi / 180)
    np.testing.assert_array_equal(fallen, stacked(steps, "terminated"))


def test_episodes_are_recorded_exactly(cartpole):
    _, _, steps = cartpole
    ended = stacked(steps, "terminated") | stacked(steps, "truncated")
    returns, lengths = expected_records(stacked(steps, "reward"), ended)
    np.testing.assert_array_equal([s.info["episode_return"] for s in steps], returns)
    np.testing.assert_array_equal([s.info["episode_length"] for s in steps], lengths)
    np.testing.assert_array_equal(stacked(steps, "truncated"), (lengths == 30) & ~stacked(steps, "terminated"))
    assert stacked(steps, "truncated").any()


@pytest.mark.parametrize(("shorter", "ends"), [(0, (True, False)), (1, (False, True))])
def test_termination_wins_over_a_limit_that_strikes_in_the_same_step(shorter, ends):
    falls = next(t for t, s in enumerate(play(make("CartPole-v1", 1), np.ones((30, 1), int))[1], 1) if s.terminated[0])
    _, steps = play(make("CartPole-v1", 1, max_episode_steps=falls - shorter), np.ones((falls - shorter, 1), int))
    assert (steps[-1].terminated[0], steps[-1].truncated[0]) == ends
    assert not any(s.terminated[0] or s.truncated[0] for s in steps[:-1])


def test_torques_are_scaled_to_the_bounds_of_gymnasiums_pendulum():
    env = make("Pendulum-v1", 3)
    assert (env.spec.action, env.spec.time_limit) == (Box((1,)), 200)
    actions = random_actions(env, 20) * 1.5  # A third is beyond the bounds, and clipped.
    model = gymnasium.make("Pendulum-v1").unwrapped
    model.reset(seed=0)
    for obs, step, action in zip(*play(env, actions), actions, strict=True):
        for i in range(3):
            model.state = np.array([np.arctan2(obs[i, 1], obs[i, 0]), obs[i, 2]])
            next_obs, reward, *_ = model.step(2 * np.clip(action[i], -1, 1))
            np.testing.assert_allclose(step.next_obs[i], next_obs, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(step.reward[i], reward, rtol=1e-3, atol=1e-4)


def test_a_locomotion_task_is_truncated_at_its_limit_in_float32():
    env = make("HalfCheetah-v4", 2, max_episode_steps=5)
    assert env.spec == Spec(ArraySpec((17,), "float32"), Box((6,)), 5)
    _, steps = play(env, random_actions(env, 12))
    assert {step.obs.dtype for step in steps} | {step.next_obs.dtype for step in steps} == {np.dtype("float32")}
    np.testing.assert_array_equal(stacked(steps, "truncated").all(axis=1), [t in (4, 9) for t in range(12)])
    assert not stacked(steps, "terminated").any()
    # A start is drawn around rest: positions within 0.1 and velocities of a tenth of a normal; a successor still moves.
    assert (np.abs(steps[4].obs[:, :8]) <= 0.1).all()
    assert (np.abs(steps[4].next_obs[:, 8:]).max(axis=1) > 1).all()
    returns, _ = expected_records(stacked(steps, "reward"), stacked(steps, "truncated"))
    np.testing.assert_allclose([s.info["episode_return"] for s in steps], returns, rtol=1e-5, atol=1e-6)
    assert make("HalfCheetah-v4", 1).spec.time_limit == 1000


def test_observations_of_dm_control_are_a_tree():
    env = make("CartpoleSwingup-v1", 2, max_episode_steps=3)
    obs = env.reset(0)
    assert {name: (leaf.shape, leaf.dtype.name) for name, leaf in obs.items()} == {
        "position": ((2, 3), "float32"),
        "velocity": ((2, 2), "float32"),
    }
    assert jax.tree.structure(obs) == env.spec.obs.treedef
    _, steps = play(env, random_actions(env, 4))
    np.testing.assert_array_equal([s.truncated.tolist() for s in steps], [[t == 2] * 2 for t in range(4)])
    assert (np.abs(steps[2].obs["position"] - steps[2].next_obs["position"]).max(axis=1) > 0).all()


def test_all_leaves_are_numpy_of_the_types_of_the_contract():
    env = make("CartPole-v1", 2)
    assert isinstance(env, HostEnv)
    assert env.spec == Spec(ArraySpec((4,), "float32"), Discrete(2), 500)
    step = play(env, np.zeros((1, 2), np.int32))[1][0]
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(step))
    assert (step.reward.dtype, step.info["episode_return"].dtype, step.info["episode_length"].dtype) == ("f4", "f4", "i4")
    assert {step.terminated.dtype, step.truncated.dtype} == {np.dtype("bool")}


def test_what_a_step_returned_is_not_changed_by_the_next():
    env = make("CartPole-v1", 2)
    env.reset(0)
    first = env.step(np.zeros(2, np.int32))
    before = jax.tree.map(np.copy, first)
    for _ in range(20):
        env.step(np.zeros(2, np.int32))
    jax.tree.map(np.testing.assert_array_equal, first, before)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_episodes_whatever_the_number_of_threads():
    def trace(seed, num_threads):
        env = make("CartPole-v1", 5, num_threads=num_threads)
        return stacked(play(env, random_actions(env, 60), seed)[1], "obs")

    np.testing.assert_array_equal(trace(7, 1), trace(7, 2))
    assert (trace(7, 1)[0] != trace(8, 1)[0]).any(axis=1).all()


def test_a_reset_begins_the_same_episodes_and_new_records():
    env = make("CartPole-v1", 2)
    first = env.reset(2**31 - 1)
    env.step(np.zeros(2, np.int32))
    np.testing.assert_array_equal(env.reset(2**31 - 1), first)
    np.testing.assert_array_equal(env.step(np.zeros(2, np.int32)).info["episode_length"], [1, 1])


# --- Atari ------------------------------------------------------------------------------------------------------------


def test_pong_shows_four_small_pictures_and_has_six_actions():
    env = make("Pong-v5", 2)
    assert env.spec == Spec(ArraySpec((4, 84, 84), "uint8", num_frames=4, picture="CHW", scale=255.0), Discrete(6), 27000)
    seen, steps = play(env, random_actions(env, 6))
    assert (seen[0].shape, seen[0].dtype) == ((2, 4, 84, 84), np.uint8)
    np.testing.assert_array_equal(steps[5].obs[:, :3], seen[5][:, 1:])
    assert make("Pong-v5", 1, full_action_space=True).spec.action == Discrete(18)


def test_rewards_are_clipped_and_returns_are_not():
    clipped, raw = make("SpaceInvaders-v5", 2), make("SpaceInvaders-v5", 2, reward_clip=False)
    actions = random_actions(clipped, 300)
    (_, steps), (_, raw_steps) = play(clipped, actions), play(raw, actions)
    reward, score = stacked(steps, "reward"), stacked(raw_steps, "reward")
    assert (score >= 5).any()
    np.testing.assert_array_equal(reward, np.sign(score))
    returns, lengths = expected_records(score, stacked(raw_steps, "terminated"))
    np.testing.assert_array_equal([s.info["episode_return"] for s in steps], returns)
    np.testing.assert_array_equal([s.info["episode_length"] for s in steps], lengths)


def test_a_lost_life_ends_an_episode_but_not_the_score_of_its_game():
    env = make("Breakout-v5", 4, episodic_life=True, reward_clip=False)
    _, steps = play(env, random_actions(env, 350))
    over = np.stack([s.info["game_over"] for s in steps])
    terminated = stacked(steps, "terminated")
    assert not stacked(steps, "truncated").any()
    for i in range(4):
        games = np.split(terminated[:, i], np.flatnonzero(over[:, i]) + 1)[:-1]
        assert [lives.sum() for lives in games] == [5] * len(games) and games
    returns, lengths = expected_records(stacked(steps, "reward"), over)
    np.testing.assert_array_equal([s.info["episode_return"] for s in steps], returns)
    np.testing.assert_array_equal([s.info["episode_length"] for s in steps], lengths)


def test_a_time_limit_ends_the_game_with_all_its_lives():
    env = make("Breakout-v5", 2, episodic_life=True, max_episode_steps=40)
    _, steps = play(env, random_actions(env, 100))
    np.testing.assert_array_equal(stacked(steps, "truncated").all(axis=1), [t in (39, 79) for t in range(100)])
    assert stacked(steps, "terminated").any()
    assert (np.stack([s.info["game_over"] for s in steps]) == stacked(steps, "truncated")).all()


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_frame_is_the_screen_of_the_first_environment():
    env = make("Pong-v5", 2, render_mode="rgb_array")
    env.reset(0)
    frame = env.render_frame()
    assert (frame.shape, frame.dtype) == ((210, 160, 3), np.uint8)
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) >= 4
    env.close()


def test_without_a_render_mode_there_is_no_frame():
    env = make("CartPole-v1", 1)
    env.reset(0)
    assert env.render_frame() is None


def test_an_environment_that_would_end_the_process_is_not_drawn(monkeypatch):
    env = make("HalfCheetah-v4", 1, render_mode="rgb_array")
    env.reset(0)
    died = SimpleNamespace(returncode=1, stdout="\nERROR: no OpenGL\n\n", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: died)
    with pytest.raises(UsageError, match="gif: envpool/HalfCheetah-v4 cannot be drawn on this machine: ERROR: no OpenGL"):
        env.render_frame()


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Pnog-v5", {}, "unknown envpool environment 'Pnog-v5'; did you mean Pong-v5"),
        ("Pong-v5", {"stack_nun": 2}, "unknown option of envpool/Pong-v5 'stack_nun'; did you mean stack_num"),
        ("Pong-v5", {"seed": 2}, "unknown option of envpool/Pong-v5 'seed'"),
        ("CartPole-v1", {"reward_clip": True}, "unknown option of envpool/CartPole-v1 'reward_clip'"),
        ("Pong-v5", {"stack_num": "four"}, "stack_num='four' does not fit envpool/Pong-v5; give a value like 4"),
        ("Pong-v5", {"reward_clip": 1}, "reward_clip=1 does not fit envpool/Pong-v5; give a value like False"),
        ("Pong-v5", {"frame_skip": True}, "frame_skip=True does not fit envpool/Pong-v5; give a value like 4"),
        ("Pong-v5", {"noop_max": 0}, "noop_max=0 is out of range; give at least 1"),
        ("CartPole-v1", {"num_threads": 0}, "num_threads=0 is out of range; give at least 1"),
        ("Pong-v5", {"repeat_action_probability": 2}, r"repeat_action_probability=2 is out of range; give a value in \[0, 1\]"),
        ("Pong-v5", {"render_mode": "human"}, "render_mode='human' is unknown; choose rgb_array"),
        ("Pong-v5", {"mode": 99}, r"env='envpool/Pong-v5' cannot be made \(options: .*mode=99\): Invalid game mode"),
        ("Go9x9-v1", {}, "env='envpool/Go9x9-v1' has 2 players; choose an environment of one"),
        ("BinPack-v2", {}, "env='envpool/BinPack-v2' has actions .*; wrap it so that it takes a Discrete or a float Box"),
    ],
)
def test_what_cannot_be_made_is_answered_with_the_fix(name, options, message):
    with pytest.raises(UsageError, match=message):
        envs.make(f"envpool/{name}", 2, **options)


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(UsageError, match=r"env='envpool/CartPole-v1' has no episode to step; call reset\(seed\) first"):
        make("CartPole-v1", 1).step(np.zeros(1, np.int32))


def test_an_environment_that_raises_is_named_as_the_command_line_expects_it():
    env = make("CartPole-v1", 2)
    env.reset(0)
    with pytest.raises(RuntimeError, match=r"^env 'envpool/CartPole-v1' failed in step: "):
        env.step(np.zeros((2, 3), np.int32))


def test_a_missing_package_is_answered_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UsageError, match=r"env='envpool/Pong-v5' needs .* pip install 'jaxrl\[envpool\]'"):
        envs.make("envpool/Pong-v5")


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ppo_learns_to_balance_the_pole(tmp_path):
    """A random policy scores 22, one that alternates 37."""
    config = PPOConfig(num_envs=8, rollout_length=64, num_minibatches=4, learning_rate=2e-3)
    run = Run("ppo", "envpool/CartPole-v1", config, total_steps=15_000, eval_episodes=8, num_rows=2)
    runs.start(run, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["evaluation"]["mean"] > 60
