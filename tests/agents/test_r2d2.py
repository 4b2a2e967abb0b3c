"""R2D2: its errors step by step, what the burn-in is for, and when it begins to learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from helpers import random_rollout
from jaxrl.agents.value.r2d2 import R2D2Config, make_r2d2, td_errors
from jaxrl.errors import UsageError
from jaxrl.maths.rescaling import expand, squash
from jaxrl.nets.memory_values import memory_values
from jaxrl.replay.sequences import Sequences
from jaxrl.types import ArraySpec, Discrete, Spec

SPEC = Spec(ArraySpec((3,), "float32"), Discrete(4))
CONFIG = R2D2Config(num_envs=2, rollout_length=4, burn_in=4, sequence_length=8, n_step=3, hidden=(8,), gru=5, gamma=0.9)
NETWORK = memory_values(CONFIG, SPEC, CONFIG.dueling)
N, LENGTH = 6, 12


def drawn():
    """Sequences [N, L] with ends of both kinds, the memory of their start, and two sets of parameters."""
    rollout = random_rollout(SPEC, LENGTH, N, seed=3)
    memory = np.random.default_rng(4).normal(size=(N, 5)).astype(np.float32)
    steps = (getattr(rollout, name) for name in Sequences._fields[:-1])
    batch = Sequences(*(jnp.swapaxes(leaf, 0, 1) for leaf in steps), jnp.asarray(memory))
    return batch._replace(reward=10.0 * batch.reward), NETWORK.init(jax.random.key(0)), NETWORK.init(jax.random.key(1))


def values(params, batch, row):
    """(q [L, A] of one sequence, and of the true successors), one step after the other."""
    memory, found, behind = batch.memory[row : row + 1], [], []
    for time in range(LENGTH):
        memory, q = NETWORK.step(params, memory, batch.obs[row, time][None])
        found.append(np.asarray(q[0], np.float64))
        behind.append(np.asarray(NETWORK.step(params, memory, batch.next_obs[row, time][None])[1][0], np.float64))
        if batch.terminated[row, time] or batch.truncated[row, time]:
            memory = jnp.zeros_like(memory)
    return np.array(found), np.array(behind)


@pytest.mark.parametrize(("double", "squashes"), [(True, True), (False, False)])
def test_the_errors_are_those_of_one_step_after_the_other(double, squashes):
    config = dataclasses.replace(CONFIG, double=double, squash_values=squashes)
    h, h_inverse = (squash, expand) if squashes else (lambda x: x, lambda x: x)
    batch, params, fixed = drawn()
    found = jax.jit(lambda *trees: td_errors(config, NETWORK, *trees))(params, fixed, batch)
    assert found.td_error.shape == found.q.shape == (8, N)
    for row in range(N):
        q, online_next = values(params, batch, row)
        fixed_next = values(fixed, batch, row)[1]
        for time in range(4, LENGTH):
            total, weight, step = 0.0, 1.0, time
            while True:
                total, weight = total + weight * float(batch.reward[row, step]), weight * 0.9
                if batch.terminated[row, step]:
                    break
                if batch.truncated[row, step] or step + 1 in (time + 3, LENGTH):
                    choice = np.argmax(online_next[step] if double else fixed_next[step])
                    total += weight * float(h_inverse(jnp.float32(fixed_next[step, choice])))
                    break
                step += 1
            value = q[time, batch.action[row, time]]
            assert found.td_error[time - 4, row] == pytest.approx(float(h(jnp.float32(total))) - value, abs=2e-4)
            assert found.q[time - 4, row] == pytest.approx(value, abs=1e-5)


def test_the_burn_in_changes_what_is_remembered_and_teaches_nothing():
    batch, params, fixed = drawn()

    @jax.jit
    def size(params, obs):
        return jnp.sum(jnp.square(td_errors(CONFIG, NETWORK, params, fixed, batch._replace(obs=obs)).q))

    by_obs = jax.grad(size, argnums=1)(params, batch.obs)
    assert not np.any(by_obs[:, :4]) and np.any(by_obs[:, 4:])
    assert size(params, batch.obs) != size(params, batch.obs.at[:, 3].add(1.0))


def test_nothing_is_learned_before_a_sequence_is_whole_and_then_something_is():
    config = dataclasses.replace(CONFIG, learning_starts=0, batch_size=4, capacity=64)
    env = jaxrl.make("probe/memory", num_envs=2)

    def policies(total_steps):
        return jaxrl.train(jax.random.key(0), config, make_r2d2, env, total_steps=total_steps, num_rows=1).state.agent

    first, early, later = (jax.jit(policies, static_argnums=0)(steps) for steps in (8, 16, 24))

    def moved(state):
        """By how much a parameter has moved at most; each is a program of its own, so first weights differ by rounding."""
        return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), first.policy, state.policy)))

    assert moved(early) < 1e-6 < 1e-5 < moved(later)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="r2d2 needs discrete actions"):
        make_r2d2(CONFIG, jaxrl.make("Pendulum-v1", num_envs=2).spec)
    with pytest.raises(UsageError, match=r"burn_in \+ sequence_length = 13 is no multiple of rollout_length=4"):
        make_r2d2(dataclasses.replace(CONFIG, burn_in=5), SPEC)
