"""Replay of sequences: what is drawn against a list of all steps, what can be drawn, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import UsageError
from jaxrl.replay.sequences import make_sequences
from jaxrl.types import ArraySpec, Discrete, Rollout

T, B, OBS = 3, 2, ArraySpec((2,), "float32")


def rollout(number):
    """The rollout of this number, in which every value says where it comes from."""
    time, env = np.meshgrid(np.arange(T) + T * number, np.arange(B), indexing="ij")
    name = (10 * time + env).astype(np.float32)
    ends = (time % 4 == 3, time % 5 == 4)
    obs = jnp.stack([name, -name], axis=-1)
    return Rollout(obs, (time % 2).astype(np.int32), name, *map(jnp.asarray, ends), obs + 0.5, jnp.asarray(name[..., None]), ())


def filled(capacity, length, num_rollouts):
    experience = make_sequences(OBS, Discrete(2), jnp.zeros(1), B, T, capacity, length, 0.9)
    experience = experience._replace(
        store=jax.jit(experience.store), sample=jax.jit(experience.sample, static_argnums=2), feed=jax.jit(experience.feed)
    )
    held = experience.init()
    for number in range(num_rollouts):
        held = experience.store(held, rollout(number))
    return experience, held


@pytest.mark.parametrize(("capacity", "length", "num_rollouts"), [(24, 6, 3), (24, 6, 11), (31, 3, 7), (18, 9, 3), (18, 9, 8)])
def test_sequences_are_steps_in_a_row_with_the_memory_of_their_start(capacity, length, num_rollouts):
    experience, held = filled(capacity, length, num_rollouts)
    drawn = experience.sample(jax.random.key(0), held, (8, 64))
    num_held, span = min(num_rollouts, capacity // (T * B)), length // T
    first = [T * number for number in range(num_rollouts - num_held, num_rollouts - span + 1)]
    found = jax.tree.map(np.asarray, drawn.transitions)
    times, envs = found.reward // 10, found.reward % 10
    np.testing.assert_array_equal(times, times[..., :1] + np.arange(length))
    np.testing.assert_array_equal(envs, np.broadcast_to(envs[..., :1], envs.shape))
    # All that can be drawn is: whole sequences, of each environment, none that the newest rollout has cut.
    begun = np.stack([times[..., 0], envs[..., 0]], axis=-1).reshape(-1, 2)
    assert {tuple(pair) for pair in begun.tolist()} == {(t, e) for t in first for e in range(B)}
    assert int(drawn.size) == len(first) * B and np.allclose(drawn.probability, 1.0 / (len(first) * B))
    np.testing.assert_array_equal(found.memory[..., 0], found.reward[..., 0])
    np.testing.assert_array_equal(found.obs, np.stack([found.reward, -found.reward], axis=-1))
    np.testing.assert_array_equal(found.next_obs, found.obs + 0.5)
    np.testing.assert_array_equal(found.action, times % 2)
    np.testing.assert_array_equal(found.terminated, times % 4 == 3)
    np.testing.assert_array_equal(found.truncated, times % 5 == 4)


def test_errors_change_what_is_drawn_and_new_sequences_weigh_as_the_largest():
    experience, held = filled(24, 6, 4)
    drawn = experience.sample(jax.random.key(0), held, (1, 6))
    held = experience.feed(held, drawn, jnp.where(drawn.place == drawn.place[0, 0], 4.0, 1.0))
    again = experience.sample(jax.random.key(1), held, (1, 4000))
    share = float(jnp.mean(again.place == drawn.place[0, 0]))
    expected = 4.0**0.9 / (4.0**0.9 + 5.0)
    assert abs(share - expected) < 0.01 and np.allclose(
        again.probability[again.place == drawn.place[0, 0]], expected, rtol=1e-3
    )
    held = experience.store(held, rollout(4))
    newest = experience.sample(jax.random.key(2), held, (1, 4000))
    share = np.mean(np.asarray(newest.transitions.reward[..., 0]) >= 10 * T * 3)
    assert share > 2 * 4.0**0.9 / (2 * 4.0**0.9 + 4.0**0.9 + 4.0) - 0.02


def test_nothing_is_drawn_before_a_sequence_is_whole():
    experience, held = filled(24, 6, 1)
    drawn = experience.sample(jax.random.key(0), held, (2, 8))
    assert int(drawn.size) == 0 and not np.any(drawn.probability)


def test_lengths_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"burn_in \+ sequence_length = 7 is no multiple of rollout_length=3"):
        make_sequences(OBS, Discrete(2), (), B, T, 24, 7, 0.9)
    with pytest.raises(UsageError, match=r"capacity=24 holds 12 steps of each environment, fewer than .* = 15; raise capacity"):
        make_sequences(OBS, Discrete(2), (), B, T, 24, 15, 0.9)
