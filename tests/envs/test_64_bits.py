"""Own environments and wrappers where 64 bits are enabled: obs as their spec says, and states that a scan can carry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import slow_but, write_images
from jaxrl.contracts.environments import trace_env
from jaxrl.envs import ENVS, make
from jaxrl.envs.tools import wrappers
from jaxrl.types import sample_action

OWN = [
    f"{family}/{name}"
    for family in ("probe", "gridworld", "maze", "garnet", "glimpse")
    for name in ENVS[family]
    if name != "custom"
] + ["pgx/go_5x5"]
WRAPPERS = {
    "record_episodes": wrappers.record_episodes,
    "time_limit": lambda env: wrappers.time_limit(env, 3),
    "frame_stack": lambda env: wrappers.frame_stack(env, 2),
    "sticky_actions": lambda env: wrappers.sticky_actions(env, 0.1),
    "clip_reward": wrappers.clip_reward,
    "normalize_reward": wrappers.normalize_reward,
}


def steps_in_a_scan(env):
    def run(key):
        state, obs = env.reset(key, env.params)

        def step(state, key):
            return env.step(key, env.params, state, sample_action(key, env.spec.action, (env.num_envs,)))

        return obs, jax.lax.scan(step, state, jax.random.split(key, 3))[1]

    return jax.eval_shape(run, jax.random.key(0))


QUICK = ("probe/constant", "probe/state", "gridworld/classic", "maze/random", "glimpse/mnist-cluttered", "pgx/go_5x5")


@pytest.mark.parametrize("env_id", slow_but(QUICK, OWN))
def test_an_own_environment_steps(env_id, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRL_DATA_DIR", str(write_images(tmp_path, *[np.zeros((3, 28, 28), np.uint8)] * 2)))
    with jax.enable_x64(True):
        steps_in_a_scan(make(env_id, 2))


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_steps(name):
    with jax.enable_x64(True):
        _, timestep = steps_in_a_scan(WRAPPERS[name](make("probe/truncation", 2)))
    assert timestep.reward.dtype == jnp.float32


def test_what_is_not_of_a_kind_is_refused_as_ever():
    with jax.enable_x64(True):
        env = make("probe/mixed", 2)
        shapes = trace_env(env).obs
    assert shapes["level"].dtype == jnp.int32
