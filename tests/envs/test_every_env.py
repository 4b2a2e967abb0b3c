"""Every environment that `jaxrl list envs` names, but for physics, is trained and scored, alone and in a sweep."""

import numpy as np
import pytest

import jaxrl
from helpers import write_images
from jaxrl.agents import load_agent
from jaxrl.envs import known_ids
from jaxrl.runs.definition import Run
from jaxrl.runs.train import start

TINY = {"num_envs": 2, "rollout_length": 8, "num_minibatches": 2, "num_epochs": 1, "hidden": (4,)}
OPTIONS = {"gridworld/custom": {"map": "S.G"}}
PHYSICS = ("brax/", "playground/")
"""Families that take minutes to compile, and packages that are not installed for tests; they have tests of their own."""
HOST = ["gymnasium/CartPole-v1", "gymnasium/FrozenLake-v1", "envpool/CartPole-v1"]


def options_of(env_id):
    """Episodes that are over after a few steps, where the environment lets one say so."""
    family = env_id.partition("/")[0]
    limit = {} if family in ("probe", "glimpse", "gymnasium", "envpool") else {"time_limit": 5}
    return limit | ({"opponent": "random"} if family == "pgx" else {}) | OPTIONS.get(env_id, {})


@pytest.mark.slow
@pytest.mark.parametrize("env_id", [*(name for name in known_ids() if not name.startswith(PHYSICS)), *HOST])
def test_an_environment_is_trained_and_scored(env_id, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRL_DATA_DIR", str(write_images(tmp_path, *[np.zeros((3, 28, 28), np.uint8)] * 2)))
    run = Run(
        "ppo", env_id, load_agent("ppo")[1](**TINY), total_steps=32, num_rows=1, eval_episodes=2, env_options=options_of(env_id)
    )
    found = start(run, tmp_path / "run")["evaluation"]
    assert found["episodes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["FourRooms-misc", "MetaMaze-misc"])
def test_an_environment_that_computes_when_it_is_made_is_swept(env_id, tmp_path):
    result = jaxrl.sweep(
        "ppo", env_id, seeds=2, total_steps=32, eval_episodes=2, env_options=options_of(env_id), out=tmp_path / "sweep", **TINY
    )
    assert result.evaluate(result.best(), 2)["episodes"] == 2
