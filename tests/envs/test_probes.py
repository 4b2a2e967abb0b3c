"""The facts that the docstring of each probe states, found by stepping it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import ENVS, make
from jaxrl.envs.probe import MEMORY_DELAY, CounterState, MixedAction
from jaxrl.errors import UsageError
from jaxrl.types import Box, Discrete, episode_end

B = 16


def start(name):
    env = make(f"probe/{name}", num_envs=B)
    state, obs = env.reset(jax.random.key(0), env.params)
    return env, state, obs


def step(env, state, action, key=1):
    return env.step(jax.random.key(key), env.params, state, action)


def constant_actions(value):
    return jnp.full(B, value, jnp.int32)


def test_constant_is_one_step_with_observation_zero_and_reward_one():
    env, state, obs = start("constant")
    _, timestep = step(env, state, constant_actions(0))
    np.testing.assert_array_equal(obs, np.zeros((B, 1)))
    np.testing.assert_array_equal(timestep.reward, np.ones(B))
    assert timestep.terminated.all()
    assert env.spec.time_limit == 1


def test_observation_pays_what_it_shows():
    env, state, obs = start("observation")
    _, timestep = step(env, state, constant_actions(0))
    assert set(np.asarray(obs).ravel()) == {-1.0, 1.0}
    np.testing.assert_array_equal(timestep.reward, obs[:, 0])
    assert timestep.terminated.all()


def test_discount_pays_in_its_second_and_last_step():
    env, state, obs = start("discount")
    state, first = step(env, state, constant_actions(0))
    state, second = step(env, state, constant_actions(0))
    np.testing.assert_array_equal([obs[0, 0], first.obs[0, 0]], [0.0, 1.0])
    np.testing.assert_array_equal([first.reward[0], second.reward[0]], [0.0, 1.0])
    np.testing.assert_array_equal([first.terminated[0], second.terminated[0]], [False, True])
    assert second.obs[0, 0] == 0.0
    assert env.spec.time_limit == 2


def test_action_pays_the_action():
    env, state, _ = start("action")
    for value, reward in ((0, -1.0), (1, 1.0)):
        _, timestep = step(env, state, constant_actions(value))
        np.testing.assert_array_equal(timestep.reward, np.full(B, reward))
        assert timestep.terminated.all()


def test_target_is_best_at_half_of_what_it_shows():
    env, state, obs = start("target")
    assert env.spec.action == Box((1,))
    _, best = step(env, state, obs / 2)
    _, zero = step(env, state, jnp.zeros((B, 1)))
    _, far = step(env, state, -obs)
    np.testing.assert_allclose(best.reward, np.zeros(B))
    np.testing.assert_allclose(zero.reward, np.full(B, -0.25))
    np.testing.assert_allclose(far.reward, np.full(B, -2.25))
    assert best.terminated.all()


def test_truncation_terminates_after_plus_one_and_truncates_after_minus_one():
    env, state, obs = start("truncation")
    _, timestep = step(env, state, constant_actions(0))
    assert set(np.asarray(obs).ravel()) == {-1.0, 1.0}
    np.testing.assert_array_equal(timestep.terminated, obs[:, 0] > 0)
    np.testing.assert_array_equal(timestep.truncated, obs[:, 0] < 0)
    np.testing.assert_array_equal(timestep.reward, np.ones(B))


def test_truncation_has_itself_as_true_successor_and_a_random_reset():
    env, state, obs = start("truncation")
    _, timestep = step(env, state, constant_actions(0))
    np.testing.assert_array_equal(timestep.next_obs, obs)
    assert set(np.asarray(timestep.obs[obs[:, 0] < 0]).ravel()) == {-1.0, 1.0}


@pytest.mark.parametrize("guess", [0, 1])
def test_memory_pays_at_its_end_for_the_cue_that_it_showed_once(guess):
    env, state, cue = start("memory")
    assert set(np.asarray(cue).ravel()) == {-1.0, 1.0}
    for time in range(MEMORY_DELAY):
        state, timestep = step(env, state, constant_actions(guess), key=time)
        np.testing.assert_array_equal(timestep.next_obs, np.zeros((B, 1)))
        last = time == MEMORY_DELAY - 1
        assert timestep.terminated.all() == last
        np.testing.assert_array_equal(timestep.reward, cue[:, 0] * (2 * guess - 1) if last else np.zeros(B))


def test_mixed_pays_for_the_choice_and_the_amount():
    env, state, obs = start("mixed")
    assert env.spec.action == MixedAction(Discrete(2), Box(()))
    assert set(np.asarray(obs["level"])) == {-1, 0, 1}
    right, level = (np.asarray(obs["cue"][:, 0]) > 0).astype(int), np.asarray(obs["level"])
    _, best = step(env, state, MixedAction(jnp.asarray(right), jnp.asarray(level / 2)))
    _, wrong = step(env, state, MixedAction(jnp.asarray(1 - right), jnp.asarray(level / 2)))
    _, amiss = step(env, state, MixedAction(jnp.asarray(right), jnp.asarray(level / 2 - 1)))
    np.testing.assert_allclose(best.reward, np.ones(B))
    np.testing.assert_allclose(wrong.reward, np.zeros(B))
    np.testing.assert_allclose(amiss.reward, np.zeros(B))
    assert best.terminated.all()


@pytest.mark.parametrize(
    ("moves", "reward"),
    [((1, 1, 2), 1), ((1, 2, 1), 1), ((2, 1, 1), 1), ((1, 1, 1), 0), ((2, 2, 1), 0), ((2, 2, 2), 0), ((2, 1, 2), 0)],
)
def test_state_pays_for_a_sum_of_four_in_three_moves(moves, reward):
    env, state, obs = start("state")
    np.testing.assert_array_equal(obs.moves_left, np.full(B, 3))
    for i, move in enumerate(moves):
        state, timestep = step(env, state, constant_actions(move - 1), key=i)
        assert timestep.terminated.all() == (i == 2)
    np.testing.assert_array_equal(timestep.reward, np.full(B, reward))
    np.testing.assert_array_equal(timestep.next_obs.total, np.full(B, sum(moves)))


def test_the_model_of_state_is_the_environment_itself():
    env, state, obs = start("state")
    root = jax.tree.map(lambda leaf: leaf[0], obs)
    assert isinstance(root, CounterState)
    for i, move in enumerate((1, 1, 2)):
        root, reward, terminated = env.model(jax.random.key(0), env.params, root, jnp.int32(move - 1))
        state, timestep = step(env, state, constant_actions(move - 1), key=i)
        assert (float(reward), bool(terminated)) == (float(timestep.reward[0]), bool(timestep.terminated[0]))
        np.testing.assert_array_equal(root.total, timestep.next_obs.total[0])


def test_lqr_moves_and_costs_as_its_matrices_say():
    """From (1, -0.5) the action 0.5 leads to (1 - 0.25 + 0.125, -0.5 + 0.5) and costs 1 + 0.25 + 0.5."""
    env, state, obs = start("lqr")
    at = jnp.tile(jnp.array([1.0, -0.5]), (B, 1))
    state, timestep = step(env, state._replace(inner=at), jnp.full((B, 1), 0.5))
    np.testing.assert_allclose(timestep.next_obs[0], [0.875, 0.0])
    np.testing.assert_allclose(timestep.reward[0], -1.75)
    assert np.abs(obs).max() <= 0.75 and len(np.unique(obs)) == 2 * B
    for i in range(4):
        assert not episode_end(timestep).any()
        state, timestep = step(env, state, jnp.zeros((B, 1)), key=i)
    assert timestep.truncated.all() and not timestep.terminated.any()


@pytest.mark.parametrize("name", ENVS["probe"])
def test_the_time_limit_of_a_probe_covers_its_episodes(name):
    env, state, _ = start(name)
    action = constant_actions(0)
    if name in ("target", "lqr"):
        action = jnp.zeros((B, 1))
    if name == "mixed":
        action = MixedAction(constant_actions(0), jnp.zeros(B))
    for i in range(env.spec.time_limit):
        state, timestep = step(env, state, action, key=i)
    assert episode_end(timestep).all()
    np.testing.assert_array_equal(timestep.info["episode_length"], np.full(B, env.spec.time_limit))


def test_an_unknown_probe_is_answered_with_the_nearest():
    from jaxrl.envs import probe

    with pytest.raises(UsageError, match="unknown probe 'memori'; did you mean memory"):
        probe.make("memori", 1)
