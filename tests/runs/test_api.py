"""Runs in Python: `jaxrl.run`, paths as texts, and what a notebook shows."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import A2CConfig, DQNConfig, make_a2c, make_dqn
from jaxrl.analysis.compare import compare
from jaxrl.analysis.results import read_results
from jaxrl.errors import UsageError
from jaxrl.runs.train import resume, start
from jaxrl.runs.trained import score
from jaxrl.sweeps.api import SweepResult

STREAM1 = Path(__file__).resolve().parent.parent / "fixtures" / "stream1"
OPTIONS = {"num_envs": 2, "rollout_length": 4, "hidden": [8], "total_steps": 64, "num_rows": 2, "eval_episodes": 3}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "a"
    return jaxrl.run("a2c", "probe/constant", out=str(out), learning_rate=1e-3, **OPTIONS)


def test_a_run_in_python_is_a_run_of_the_command_line(result):
    config = json.loads((result.folder / "config.json").read_text())
    assert config["config"]["learning_rate"] == 1e-3 and config["config"]["hidden"] == [8] and config["total_steps"] == 64
    assert result.summary == json.loads((result.folder / "summary.json").read_text())
    assert [row["kind"] for row in result.rows] == ["train", "train", "eval"]
    assert result.evaluate(5) == {"episodes": 5, "mean": 1.0, "std": 0.0, "unfinished": 0}
    assert result.policy()(jnp.zeros((3, 1))).shape == (3,)


def test_the_same_call_reads_a_finished_run_and_another_is_refused(result):
    again = jaxrl.run("a2c", "probe/constant", out=result.folder, learning_rate=1e-3, **OPTIONS)
    assert again == result
    with pytest.raises(UsageError, match=r"holds another run \(seed=0\)"):
        jaxrl.run("a2c", "probe/constant", out=result.folder, learning_rate=1e-3, seed=1, **OPTIONS)
    with pytest.raises(UsageError, match=r"holds another run \(learning_rate=0.001\); give another folder"):
        jaxrl.run("a2c", "probe/constant", out=result.folder, learning_rate=2e-3, **OPTIONS)
    with pytest.raises(UsageError, match="learning_rat"):
        jaxrl.run("a2c", "probe/constant", out=result.folder, learning_rat=1e-3)


def test_scalars_of_numpy_and_jax_are_plain_numbers(result):
    config = A2CConfig(num_envs=np.int64(2), rollout_length=jnp.int32(4), gamma=np.float32(0.5))
    options = {"gravity": np.float32(9.5), "list": [jnp.int32(1), np.True_]}
    given = jaxrl.Run("a2c", "probe/constant", config, options, seed=jnp.int32(3), total_steps=np.int64(64))
    plain = (given.env_options, given.seed, given.total_steps, given.config.rollout_length, given.config.gamma)
    assert json.loads(json.dumps(plain)) == [{"gravity": 9.5, "list": [1, True]}, 3, 64, 4, 0.5]
    counts = {"total_steps": np.int64(64), "num_rows": jnp.int32(2), "eval_episodes": np.uint8(3), "seed": jnp.int32(0)}
    assert jaxrl.run("a2c", "probe/constant", out=result.folder, learning_rate=1e-3, **{**OPTIONS, **counts}) == result
    with pytest.raises(UsageError, match="env_option: 1 is no name of an option"):
        jaxrl.run("a2c", "CartPole-v1", out=result.folder / "b", env_options={1: 2})
    with pytest.raises(UsageError, match=r"seed=.*key<fry>.* must be of type int"):
        jaxrl.run("a2c", "CartPole-v1", out=result.folder / "b", seed=jax.random.key(0))


def test_scores_are_of_a_whole_number_of_episodes(result):
    for num in (0, -1, 5.0, "5", True):
        with pytest.raises(UsageError, match=f"num_episodes={num!r} is"):
            result.evaluate(num)
    for seed in (-1, 2**70, 1.0):
        with pytest.raises(UsageError, match=f"seed={seed} is"):
            result.evaluate(5, seed)
    assert result.evaluate(np.int64(5), jnp.int32(0))["episodes"] == 5


@pytest.mark.slow
def test_an_interrupted_run_goes_on_by_the_same_call(result):
    (result.folder / "summary.json").unlink()
    again = jaxrl.run("a2c", "probe/constant", out=result.folder, learning_rate=1e-3, **OPTIONS)
    assert again.summary["evaluation"] == result.summary["evaluation"] and (result.folder / "summary.json").exists()


def test_paths_may_be_texts(result):
    folder, config = str(result.folder), A2CConfig(num_envs=2, rollout_length=4, hidden=(8,))
    run = jaxrl.Run("a2c", "probe/constant", config, total_steps=64, init_from=result.folder)
    assert run.init_from == folder and resume(folder)["evaluation"] == result.summary["evaluation"]
    with pytest.raises(UsageError, match="already holds a run"):
        start(run, folder)
    assert score(folder, 3)["mean"] == 1.0
    assert len(read_results(str(STREAM1 / "sweep")).run) == 4
    assert compare(str(STREAM1 / "sweep"), str(STREAM1 / "sweep")).folders == (STREAM1 / "sweep", STREAM1 / "sweep")


def test_what_a_notebook_shows_is_short(result):
    env, results = jaxrl.make("CartPole-v1", 4), read_results(STREAM1 / "sweep")
    config = DQNConfig(num_envs=4)
    shown = {
        str(result): "probe/constant, seed 0, 64 env steps, greedy return 1.0",
        repr(result.policy()): "a2c on probe/constant: 59 numbers",
        repr(SweepResult(STREAM1 / "sweep", results)): "4 runs",
        repr(results): "4 runs",
        repr(env): "Env(4 of Spec(",
        repr(make_dqn(config, env.spec)): "Agent(make_dqn, learns from replay)",
        repr(make_a2c(A2CConfig(), env.spec)): "Agent(make_a2c, learns from rollouts)",
    }
    for text, expected in shown.items():
        assert expected in text and len(text) < 400
