"""What the adapters of physics packages share, on a small body with Brax's interface that needs no package."""

import dataclasses
import sys
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import make
from jaxrl.envs.tools.physics import Body, physics_env, simulation_of
from jaxrl.envs.tools.wrappers import sticky_actions
from jaxrl.errors import UsageError
from jaxrl.types import Box

NUM_ENVS = 3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """As Brax's; `info["broken"]` makes the next step one that blows up."""

    place: Any
    obs: Any
    reward: Any
    done: Any
    info: Any

    def replace(self, **fields):
        return dataclasses.replace(self, **fields)


def observed(place):
    return {"state": place, "privileged_state": jnp.stack([place[0], 100.0 + place[0]])}


def body(broken=False):
    """A point on a line: a step moves it by the action times `params`, and past 1 the episode is done."""

    def reset(key, params):
        place = jax.random.uniform(key, (1,), minval=-0.1, maxval=0.1)
        return State(place, observed(place), jnp.float32(0.0), jnp.float32(0.0), {"broken": jnp.bool_(False)})

    def step(params, state, action):
        place = state.place + (jnp.eye(1) @ action) * params
        place = jnp.where(state.info["broken"], jnp.nan, place)
        done = jnp.where(place[0] > 1.0, 1.0, 0.0)
        # A number of Python's own, as some rewards are.
        return state.replace(place=place, obs=observed(place), reward=2.0, done=done)

    return Body(reset, step, 1)


@cache
def stepper(**options):
    env = physics_env(body(), jnp.float32(0.5), NUM_ENVS, **options)
    return env, jax.jit(env.reset), jax.jit(env.step)


def played(num_steps, actions, **options):
    """(states, TimeSteps) of constant actions, one for each environment."""
    env, reset, step = stepper(**options)
    state, obs = reset(jax.random.key(0), env.params)
    states, steps = [state], [obs]
    for time in range(num_steps):
        state, timestep = step(jax.random.key(1 + time), env.params, state, jnp.float32(actions)[:, None])
        states.append(state)
        steps.append(timestep)
    return states, steps


def test_the_spec_has_the_tree_that_the_body_shows():
    spec = stepper(time_limit=7)[0].spec
    assert spec.action == Box((1,)) and spec.time_limit == 7
    shapes = {key: leaf.shape for key, leaf in jax.tree.unflatten(spec.obs.treedef, spec.obs.leaves).items()}
    assert shapes == {"state": (1,), "privileged_state": (2,)}


def test_every_episode_begins_in_a_fresh_state():
    """The first environment ends by done, the last one by the time limit."""
    _, steps = played(4, [1.0, 0.0, -1.0], time_limit=4)
    ended = [step.terminated | step.truncated for step in steps[1:]]
    np.testing.assert_array_equal(np.sum(ended, axis=0), [1, 1, 1])
    first, last = steps[0]["state"], steps[4].obs["state"]
    again = next(step.obs["state"][0] for step, over in zip(steps[1:], ended, strict=True) if over[0])
    starts = np.array([*first.ravel(), *last[1:].ravel(), *again])
    assert np.all(np.abs(starts) <= 0.1) and len(set(starts.tolist())) == 6


def test_many_that_end_at_once_begin_afresh_each():
    """More than are drawn at once, 40 in groups of 32; the program holds their reset once beside the first one's."""
    env = physics_env(body(), jnp.float32(0.5), 40, time_limit=1)
    state, obs = jax.jit(env.reset)(jax.random.key(0), env.params)
    step = jax.jit(env.step)
    _, timestep = step(jax.random.key(1), env.params, state, jnp.zeros((40, 1)))
    assert timestep.truncated.all() and np.array_equal(timestep.next_obs["state"], obs["state"])
    starts = np.concatenate([obs["state"], timestep.obs["state"]])
    assert np.all(np.abs(starts) <= 0.1) and len(np.unique(starts)) == 80
    program = str(jax.make_jaxpr(env.step)(jax.random.key(1), env.params, state, jnp.zeros((40, 1))))
    assert "while" in program and program.count("random_bits") == 1


def test_the_last_observation_is_the_true_successor():
    _, steps = played(3, [1.0, 0.0, 0.0], time_limit=4)
    end = next(step for step in steps[1:] if step.terminated[0])
    assert end.next_obs["state"][0, 0] > 1.0 and end.next_obs["privileged_state"][0, 1] > 101.0
    assert abs(end.obs["state"][0, 0]) <= 0.1


def test_done_terminates_and_the_time_limit_truncates():
    _, steps = played(4, [1.0, 0.0, -1.0], time_limit=4)
    np.testing.assert_array_equal([step.terminated.any() for step in steps[1:]], [step.terminated[0] for step in steps[1:]])
    np.testing.assert_array_equal(steps[4].truncated, [False, True, True])
    assert steps[4].info["episode_length"][1] == 4 and steps[4].info["episode_return"][1] == 8.0


def test_actions_are_kept_within_their_bounds():
    _, steps = played(1, [1.0, 7.0, -7.0], time_limit=4)
    moved = steps[1].next_obs["state"] - steps[0]["state"]
    np.testing.assert_allclose(moved[:, 0], [0.5, 0.5, -0.5], rtol=1e-6)


def test_an_action_that_lasts_ends_with_its_episode():
    """Three steps of 0.5 from within 0.1 of 0: past 1 after two or three; the reward is 2 for each that was taken."""
    _, steps = played(1, [1.0, 0.0, -1.0], time_limit=4, action_repeat=3)
    end, start = steps[1], steps[0]["state"][0, 0]
    taken = 2 if start + 1.0 > 1.0 else 3
    assert end.terminated[0] and end.reward[0] == 2.0 * taken
    np.testing.assert_allclose(end.next_obs["state"][0, 0], start + 0.5 * taken, rtol=1e-6)
    np.testing.assert_array_equal(end.reward[1:], [6.0, 6.0])


def test_a_simulation_that_blew_up_is_over_and_leaves_no_nan():
    env, reset, step = stepper(time_limit=4)
    state, obs = reset(jax.random.key(0), env.params)
    inner = state.inner.replace(info={"broken": jnp.array([False, True, False])})
    state, timestep = step(jax.random.key(1), env.params, state._replace(inner=inner), jnp.zeros((NUM_ENVS, 1)))
    np.testing.assert_array_equal(timestep.terminated, [False, True, False])
    np.testing.assert_array_equal(timestep.reward, [2.0, 0.0, 2.0])
    np.testing.assert_array_equal(timestep.next_obs["state"][1], obs["state"][1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, timestep)) if leaf.dtype == np.float32)


def test_numbers_of_the_body_are_traced():
    env, reset, step = stepper(time_limit=4)
    state, obs = reset(jax.random.key(0), env.params)
    before = step._cache_size()
    _, timestep = step(jax.random.key(1), jnp.float32(0.25), state, jnp.ones((NUM_ENVS, 1)))
    np.testing.assert_allclose(timestep.next_obs["state"] - obs["state"], 0.25, rtol=1e-5)
    assert step._cache_size() <= max(before, 1)


def test_products_of_the_physics_are_in_full_precision():
    env = stepper(time_limit=4)[0]
    state, _ = jax.eval_shape(env.reset, jax.random.key(0), env.params)
    program = str(jax.make_jaxpr(env.step)(jax.random.key(0), env.params, state, jnp.zeros((NUM_ENVS, 1))))
    assert "dot_general" in program and "HIGHEST" in program


def test_the_state_of_the_simulation_is_found_under_wrappers():
    env = stepper(time_limit=4)[0]
    wrapped = sticky_actions(env, 0.5)
    state, obs = wrapped.reset(jax.random.key(0), wrapped.params)
    np.testing.assert_array_equal(simulation_of(state).obs["state"], obs["state"])


@pytest.mark.parametrize("option", ["time_limit", "action_repeat"])
def test_a_count_below_one_is_refused(option):
    with pytest.raises(UsageError, match=f"{option}=0 is out of range"):
        physics_env(body(), jnp.float32(0.5), NUM_ENVS, **{option: 0})


@pytest.mark.parametrize(
    ("env_id", "module", "extra"), [("brax/ant", "brax", "brax"), ("playground/CheetahRun", "mujoco_playground", "playground")]
)
def test_a_missing_package_costs_one_line(env_id, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"env='{env_id}' needs the package {extra}; pip install 'jaxrl\[{extra}\]'"):
        make(env_id)
