"""Environments whose returns are no numbers: what is trained in them ends whole, marked, with null."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest

import jaxrl
from jaxrl.agents.tabular.table import TabularConfig
from jaxrl.runs import train as runs
from jaxrl.runs.definition import Run
from jaxrl.runs.trained import score
from jaxrl.sweeps import driver
from jaxrl.sweeps.plan import make_sweep
from jaxrl.sweeps.space import Draw
from jaxrl.tuning.search import Tuning, tune
from jaxrl.tuning.search import resume as resume_search

SIZES = {"total_steps": 200, "eval_episodes": 4}


def paying(value):
    """The classic grid world, but what it says of its returns is `value`; policies learn from its rewards as ever."""

    def make(num_envs: int = 1):
        env = jaxrl.make("gridworld/classic", num_envs)

        def step(key, params, state, action):
            state, timestep = env.step(key, params, state, action)
            returns = timestep.info["episode_return"]
            return state, timestep._replace(info=timestep.info | {"episode_return": returns * 0 + value})

        return env._replace(step=step)

    return make


nan, infinite = paying(jnp.nan), paying(jnp.inf)


@pytest.mark.parametrize("name", [pytest.param("nan", marks=pytest.mark.slow), "infinite"])
def test_a_run_without_numbers_ends_whole_and_marked(tmp_path, name):
    summary = runs.start(Run("q_learning", f"test_no_number:{name}", TabularConfig(), **SIZES, num_rows=2), tmp_path / "run")
    assert summary["status"] == "nan"
    assert (summary["training_return"]["mean"], summary["evaluation"]["mean"]) == (None, None)
    assert summary["evaluation"]["episodes"] == 4
    assert runs.resume(tmp_path / "run") == json.loads(Path(tmp_path / "run" / "summary.json").read_text())
    found = score(tmp_path / "run", 4)
    assert (found["episodes"], found["mean"], found["unfinished"]) == (4, None, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nan", "infinite"])
def test_a_sweep_without_numbers_ends_whole_and_marked(tmp_path, name):
    values = {"agent": "q_learning", "env": f"test_no_number:{name}", "config": TabularConfig(), "seeds": (0, 1), "num_rows": 2}
    summary = driver.start(make_sweep({}, {}, 1, 0, **values, **SIZES), tmp_path / "sweep")
    assert summary["statuses"] == {"ok": 0, "nan": 2, "stopped": 0}
    assert driver.resume(tmp_path / "sweep") == summary


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["training", "evaluation"])
def test_a_search_without_numbers_ends_whole_without_a_best_trial(tmp_path, objective):
    search = Tuning(
        agent="q_learning",
        env="test_no_number:infinite",
        config=TabularConfig(),
        draws={"learning_rate": Draw(1e-3, 1.0, log=True)},
        num_trials=2,
        objective=objective,
        **SIZES,
    )
    assert tune(search, tmp_path / "search")["best_trial"] is None
    assert resume_search(tmp_path / "search")["trials"] == {"complete": 0, "pruned": 2, "failed": 0}
