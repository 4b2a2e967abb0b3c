"""Counters that 32 bits would not hold: counted right, or refused in one line."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.tabular.dyna_q import Transition, init_model, remember
from jaxrl.agents.tabular.table import TabularState, learn
from jaxrl.agents.value.dqn import DQNConfig, make_dqn
from jaxrl.errors import UsageError
from jaxrl.loop import NUM_RECENT, RecentEpisodes, recent_return, record, train
from jaxrl.replay import ring
from jaxrl.runs.definition import Run
from jaxrl.runs.prepare import prepare
from jaxrl.types import Rollout


def test_a_pure_run_of_more_env_steps_than_32_bits_hold_is_refused() -> None:
    env, config = jaxrl.make("probe/constant", 8), DQNConfig(num_envs=8, capacity=64, batch_size=16, learning_starts=16)
    with pytest.raises(UsageError, match="total_steps=2147483648 is out of range; give fewer than"):
        jax.eval_shape(lambda key: train(key, config, make_dqn, env, 2**31), jax.random.key(0))


def test_a_row_of_more_env_steps_than_32_bits_hold_is_refused() -> None:
    run = Run("dqn", "probe/constant", DQNConfig(num_envs=8), total_steps=2**33, num_rows=1)
    with pytest.raises(UsageError, match=r"num_rows=1 leaves 2\^31 env steps or more to a row, .*; give at least 8"):
        prepare(run)


def test_the_last_returns_are_kept_after_more_episodes_than_32_bits_hold() -> None:
    """Ten rollouts of 50 episodes each, from a total just below 2^31."""
    begin = 2**31 - NUM_RECENT - 48
    recent = RecentEpisodes(jnp.zeros(NUM_RECENT), jnp.int32(begin))
    for number in range(10):
        ended = jnp.ones((1, 50), bool)
        info = {"episode_return": jnp.full((1, 50), float(number)), "episode_length": jnp.ones((1, 50), jnp.int32)}
        recent, _ = record(recent, Rollout((), (), jnp.zeros((1, 50)), ended, ~ended, (), (), info), False)
    mean, episodes = recent_return(recent)
    assert episodes == NUM_RECENT and mean == 8.5
    assert int(recent.total) % NUM_RECENT == (begin + 500) % NUM_RECENT


def test_an_average_stands_still_after_more_visits_than_32_bits_hold() -> None:
    state = TabularState(jnp.zeros((1, 1)), jnp.full((1, 1), 2**31 - 1, jnp.int32))
    zero = jnp.zeros(1, jnp.int32)
    after, _ = learn(state, zero, zero, jnp.ones(1), jnp.ones(1, jnp.int32), None)
    assert 0 <= float(after.policy[0, 0]) < 1e-8


def test_a_learned_model_draws_by_counts_that_do_not_turn_negative() -> None:
    model = init_model(1, 1, 2, False)
    model = model._replace(counts=jnp.array([[[2**31 - 1, 2**29]]], jnp.int32))
    step = Transition(jnp.int32(0), jnp.int32(0), jnp.float32(1), jnp.bool_(False), model.successors[0, 0, 0])
    counts = np.asarray(remember(model, step, jnp.int32(0)).counts)
    assert (counts > 0).all() and np.cumsum(counts, dtype=np.int32)[-1] > 0


def test_a_replay_whose_places_32_bits_cannot_name_is_refused() -> None:
    def filled() -> ring.Replay:
        return ring.add(ring.init(jax.ShapeDtypeStruct((), jnp.bool_), 2**31 - 2), jnp.zeros(16, jnp.bool_))

    with pytest.raises(ValueError, match="capacity=2147483646 and 16 transitions more do not fit 32 bits; lower capacity"):
        jax.eval_shape(filled)


def test_a_pure_run_without_rows_is_refused() -> None:
    env, config = jaxrl.make("probe/constant", 8), DQNConfig(num_envs=8, learning_starts=16)
    with pytest.raises(UsageError, match="num_rows=0 is out of range; give a whole number of at least 1"):
        jax.eval_shape(lambda key: train(key, config, make_dqn, env, 800, 0), jax.random.key(0))
