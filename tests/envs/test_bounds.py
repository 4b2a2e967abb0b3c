"""Actions between the bounds of an environment: both ends are reached exactly, nothing is passed, the order is kept."""

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrl
from jaxrl.envs.gymnasium import from_vector_env
from jaxrl.envs.tools.bounds import rescale

ACTIONS = np.float32([-7, -1, -0.999999, -0.5, 0, 0.3, 0.999999, 1, 7])
HUGE = float(np.finfo(np.float32).max)


def numbers(dtype):
    return st.floats(-(2.0**100), 2.0**100, width=np.dtype(dtype).itemsize * 8)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([np.float32, np.float64]).flatmap(lambda d: st.tuples(st.just(d), numbers(d), numbers(d))))
def test_both_ends_of_a_box_are_exact_and_nothing_is_beyond(drawn):
    dtype, low, high = drawn[0], *(np.full(1, bound, drawn[0]) for bound in sorted(drawn[1:]))
    taken = rescale(ACTIONS[:, None].astype(dtype), low, high, np)
    assert taken.dtype == dtype
    np.testing.assert_array_equal(taken[[0, 1, -2, -1]], np.stack([low, low, high, high]))
    assert (taken >= low).all() and (taken <= high).all() and (np.diff(taken, axis=0) >= 0).all()


def test_both_ends_are_exact_in_a_compiled_program():
    bounds = np.sort(np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32) * 3, axis=0)
    low, middle, high = jax.jit(jax.vmap(rescale, (0, None, None)))(np.float32([-1, 0, 1])[:, None], *bounds)
    np.testing.assert_array_equal([low, high], bounds)
    np.testing.assert_allclose(middle, bounds.mean(axis=0), rtol=1e-5, atol=1e-6)


class Boxed(gymnasium.Env):
    observation_space = spaces.Box(0, 1, (1,))

    def __init__(self, low, high):
        self.action_space, self.taken = spaces.Box(np.float32(low), np.float32(high)), []

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.taken.append(action)
        return np.zeros(1, np.float32), 0.0, False, False, {}


def boxed(low, high):
    inner = Boxed(low, high)
    return inner, from_vector_env(SyncVectorEnv([lambda: inner], autoreset_mode=AutoresetMode.DISABLED))


def test_a_gymnasium_environment_gets_its_upper_bound_at_one():
    inner, env = boxed([-2.0], [0.2])
    env.reset(0)
    for action in (1.0, -1.0):
        env.step(np.float32([[action]]))
    np.testing.assert_array_equal(inner.taken, np.float32([[0.2], [-2.0]]))


def test_bounds_as_wide_as_float32_are_none():
    with pytest.raises(jaxrl.UsageError, match="has unbounded actions"):
        boxed([-HUGE], [HUGE])
    with pytest.raises(jaxrl.UsageError, match="'Pendulum-v1' has unbounded actions"):
        jaxrl.make("Pendulum-v1", max_torque=HUGE)
