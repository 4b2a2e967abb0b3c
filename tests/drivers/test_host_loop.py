"""The driver of host environments: groups that are stepped in turn, records of whole games, a replay kept elsewhere."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_close, assert_same_bits, progress_at, run_python
from jaxrl import envs
from jaxrl.agents.value.dqn import DQNConfig, make_dqn
from jaxrl.config import Config, as_arrays, config
from jaxrl.drivers.host import groups_of, host_driver
from jaxrl.loop import run_keys
from jaxrl.runs.definition import Run
from jaxrl.runs.train import start
from jaxrl.types import Agent, ArraySpec, Discrete, Rollout, Spec, SplitHostEnv, TimeStep


@config
class PlainConfig(Config):
    """No fields of its own."""


class Watched(NamedTuple):
    """The rollout of the last iteration."""

    policy: jax.Array
    rollout: Any


def make_watcher(config: PlainConfig, spec: Spec, model: Any = None) -> Agent:
    """Pushes the cart to where the pole leans, remembers the number of steps, and keeps its last rollout."""

    def act(key, policy, memory, obs, progress, explore):
        return (obs[:, 2] > 0).astype(jnp.int32), memory + 1, {"memory": memory, "draw": jax.random.uniform(key, obs.shape[:1])}

    def update(key, state, rollout, progress):
        return Watched(state.policy, rollout), {}

    shape = (config.rollout_length, config.num_envs)
    vector = (*shape, 4)

    def init(key):
        flags, numbers, ints = jnp.zeros(shape, bool), jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
        info = {"episode_return": numbers, "episode_length": ints}
        extras = {"memory": numbers, "draw": numbers}
        rollout = Rollout(jnp.zeros(vector), ints, numbers, flags, flags, jnp.zeros(vector), extras, info)
        return Watched(jnp.zeros(()), rollout)

    return Agent(init=init, act=act, update=update, initial_memory=jnp.zeros)


def watched(num_envs: int, split: bool, iterations: int = 3) -> Any:
    env = envs.make("envpool/CartPole-v1", num_envs)
    settings = as_arrays(PlainConfig(num_envs=env.num_envs, rollout_length=60))
    driver = host_driver(make_watcher, env, lambda n: env, split=split)
    keys = run_keys(jax.random.key(0))
    state = driver.init(keys.init, settings, ())
    state, sums = driver.advance(keys.train, settings, (), state, 0, iterations, progress_at(0, iterations))
    driver.close()
    return jax.device_get(state), sums


@pytest.mark.parametrize("num_envs", [6, 5])
def test_groups_play_what_one_group_plays(num_envs):
    """Random draws alone differ: those of the two groups are apart."""
    assert len(groups_of(envs.make("envpool/CartPole-v1", num_envs), True)) == (2 if num_envs % 2 == 0 else 1)
    (split, split_sums), (whole, whole_sums) = watched(num_envs, True), watched(num_envs, False)
    rows = [state.agent.rollout._replace(extras=state.agent.rollout.extras["memory"]) for state in (split, whole)]
    assert rows[0].terminated.any() and rows[0].extras.max() > 5
    assert_same_bits(*rows)
    assert_same_bits((split.obs, split.memory, split.recent), (whole.obs, whole.memory, whole.recent))
    assert_close(split_sums, whole_sums)
    draw = split.agent.rollout.extras["draw"]
    assert len(np.unique(draw)) == draw.size


class Script:
    """Two groups of two environments that note what is asked of them."""

    def __init__(self, name: str, notes: list, num_envs: int = 4) -> None:
        self.spec, self.num_envs, self.name, self.notes = Spec(ArraySpec((4,), "float32"), Discrete(2)), num_envs, name, notes

    def split(self):
        return [Script(name, self.notes, self.num_envs // 2) for name in "ab"]

    def reset(self, seed):
        self.seed = seed
        return np.zeros((self.num_envs, 4), np.float32)

    def step(self, action):
        raise AssertionError("a group is stepped by send and receive")

    def send(self, action):
        self.notes.append(f"send {self.name}")

    def receive(self):
        self.notes.append(f"receive {self.name}")
        zeros, flags = np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, bool)
        info = {"episode_return": zeros, "episode_length": zeros.astype(np.int32)}
        obs = np.zeros((self.num_envs, 4), np.float32)
        return TimeStep(obs, zeros, flags, flags, obs, info)

    def close(self):
        self.notes.append(f"close {self.name}")


def test_one_group_steps_while_the_device_acts_for_the_other():
    env = Script("all", [])
    assert isinstance(env, SplitHostEnv)
    settings = as_arrays(PlainConfig(num_envs=4, rollout_length=3))
    driver, keys = host_driver(make_watcher, env, lambda n: env, split=True), run_keys(jax.random.key(0))
    state = driver.init(keys.init, settings, ())
    driver.advance(keys.train, settings, (), state, 0, 1, progress_at(0, 1))
    driver.close()
    expected = (
        "send a, send b, receive a, send a, receive b, send b, receive a, send a, receive b, send b, receive a, receive b"
    )
    assert ", ".join(env.notes) == f"{expected}, close a, close b"


def test_only_an_accelerator_is_given_groups(monkeypatch):
    """On a CPU, acting and stepping share the cores."""
    for backend, calls in (("cpu", 0), ("gpu", 2)):
        env = Script("all", [])
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        host_driver(make_watcher, env, lambda n, env=env: env).close()
        assert len([note for note in env.notes if note in ("close a", "close b")]) == calls


def test_environments_of_a_group_have_the_seeds_of_their_place():
    whole = envs.make("envpool/CartPole-v1", 4)
    groups = groups_of(envs.make("envpool/CartPole-v1", 4), True)
    parts = [group.env.reset(7 + group.rows.start) for group in groups]
    np.testing.assert_array_equal(np.concatenate(parts), whole.reset(7))


# --- whole games ------------------------------------------------------------------------------------------------------


def test_records_and_scores_are_of_whole_games_where_a_lost_life_ends_an_episode(tmp_path):
    """Five lives of Breakout; a random game takes 170 to 400 steps."""
    settings = DQNConfig(num_envs=2, rollout_length=4, capacity=64, batch_size=2, learning_starts=1_000, torso="atari2013")
    options = {"episodic_life": True, "max_episode_steps": 300}
    run = Run("dqn", "envpool/Breakout-v5", settings, options, total_steps=1_008, eval_episodes=2, num_rows=1)
    summary = start(run, tmp_path / "run")
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert 2 <= row["episodes"] <= 8 and row["length_mean"] > 120
    assert summary["evaluation"]["episodes"] == 2
    protocol = summary["protocol"]
    assert protocol["env_settings"]["episodic_life"] and protocol["env_settings"]["noop_max"] == 30
    assert protocol["episodes_per_environment"] == 1 and protocol["policy"].startswith("greedy")


# --- a replay that is kept elsewhere ----------------------------------------------------------------------------------

SMALL = DQNConfig(num_envs=4, rollout_length=2, num_updates=2, hidden=(16,), capacity=256, batch_size=16, learning_starts=64)


def test_a_replay_on_another_device_gives_the_same_agent():
    """The programs are others, so it is equal within tolerance."""

    def train(replay_device):
        env = envs.make("envpool/CartPole-v1", 4)
        driver, keys = host_driver(make_dqn, env, lambda n: env, replay_device=replay_device), run_keys(jax.random.key(0))
        settings = as_arrays(SMALL)
        state = driver.init(keys.init, settings, ())
        state, sums = driver.advance(keys.train, settings, (), state, 8, 20, progress_at(0, 28, 8, 8))
        driver.close()
        return state, sums

    (apart, apart_sums), (whole, whole_sums) = train(jax.devices("cpu")[0]), train(None)
    assert_close(apart, whole)
    assert_close(apart_sums, whole_sums)


TWO_DEVICES = """
import sys
import jax
from pathlib import Path
from jaxrl import Run, start
from jaxrl.agents import DQNConfig
from jaxrl.runs import prepare
from jaxrl.runs.restore import restore

class Limits:
    def __call__(self):
        return 1_000, 10**9

prepare.memory_limits = Limits()
prepare._check_memory = lambda shapes: None
here, there = jax.devices()
jax.default_backend = lambda: "accelerator"
local_devices = jax.local_devices
jax.local_devices = lambda backend=None: [there] if backend else local_devices()
config = DQNConfig(num_envs=4, rollout_length=2, num_updates=2, hidden=(16,), capacity=256, batch_size=16, learning_starts=64)
run = Run("dqn", "envpool/CartPole-v1", config, total_steps=400, eval_episodes=2, num_rows=4, checkpoint_seconds=0.0)
folder = Path(sys.argv[1])
start(run, folder)
state = restore(prepare.prepare(run), folder, print)[0]
assert all(leaf.devices() == {there} for leaf in jax.tree.leaves(state.agent.replay)), "replay"
assert all(leaf.devices() == {here} for leaf in jax.tree.leaves((state.agent.policy, state.agent.opt_state))), "policy"
assert int(state.agent.replay.size) == 256
"""


def test_a_replay_that_does_not_fit_the_accelerator_is_kept_in_host_memory(tmp_path):
    """Two CPU devices, of which the first passes for an accelerator of a thousand bytes."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "NPROC": "1"}
    run_python("-W", "ignore", "-c", TWO_DEVICES, str(tmp_path / "run"), env=environment)


# --- environments that fail -------------------------------------------------------------------------------------------

DYING = """
import os, signal, sys
import gymnasium
from jaxrl import cli
from jaxrl.envs.gymnasium import make

def dying(num_envs):
    env = make("CartPole-v1", num_envs, vectorization_mode="async")
    step, count = env.step, [0]
    def step_and_kill(action):
        count[0] += 1
        if count[0] == 60:
            os.kill(env._vector_env.processes[0].pid, signal.SIGKILL)
        return step(action)
    env.step = step_and_kill
    return env

if __name__ == "__main__":
    cli.main(sys.argv[1:])
"""


def test_an_environment_whose_process_dies_ends_the_run_with_a_line_and_a_checkpoint(tmp_path):
    (tmp_path / "dying.py").write_text(DYING)
    sizes = ["--num-envs", "2", "--hidden", "8", "--capacity", "64", "--batch-size", "8", "--learning-starts", "8"]
    rows = ["--num-rows", "20", "--checkpoint-seconds", "0", "--total-steps", "400", "--eval-episodes", "2", "--out", "run"]
    command = ["-W", "ignore", "dying.py", "train", "dqn", "--env", "dying:dying", *sizes, *rows]
    _, err = run_python(*command, code=1, cwd=tmp_path)
    lines = [line for line in err.splitlines() if line.startswith("jaxrl: ")]
    assert len(lines) == 1 and "env='gymnasium/CartPole-v1' failed in step" in lines[0]
    assert lines[0].endswith("go on with: jaxrl resume run")
    assert "Traceback" not in err
    assert (tmp_path / "run" / "checkpoints").exists()
