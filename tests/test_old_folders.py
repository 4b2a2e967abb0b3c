"""Folders that earlier versions wrote: they load, are scored, drawn and resumed with that version's numbers.

`fixtures/stream1` holds a tiny run of DQN, with two checkpoints, and a tiny sweep of PPO.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxrl
from jaxrl.analysis.curves import plot_runs
from jaxrl.analysis.report import write_report
from jaxrl.analysis.results import read_results
from jaxrl.runs.train import resume
from jaxrl.runs.trained import score
from jaxrl.sweeps.export import save_run
from jaxrl.sweeps.plan import configure
from jaxrl.sweeps.store import read_sweep

STREAM1 = Path(__file__).parent / "fixtures" / "stream1"
EXPECTED = json.loads((STREAM1 / "expected.json").read_text())
OBS = np.random.default_rng(0).uniform(-0.2, 0.2, (16, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    return save_run(STREAM1 / "sweep", 3, tmp_path_factory.mktemp("taken") / "run", finish=False)


def assert_same_score(found, expected):
    assert found["episodes"] == expected["episodes"] and found["unfinished"] == expected["unfinished"]
    assert (found["mean"], found["std"]) == pytest.approx((expected["mean"], expected["std"]))


def test_an_old_run_acts_and_scores_as_it_did():
    assert np.asarray(jaxrl.load(STREAM1 / "run")(OBS)).tolist() == EXPECTED["run"]["actions"]
    assert_same_score(score(STREAM1 / "run", 12, 5), EXPECTED["run"]["score"])


def test_a_run_of_an_old_sweep_acts_and_scores_as_it_did(taken):
    assert np.asarray(jaxrl.load(taken)(OBS)).tolist() == EXPECTED["sweep"]["actions"]
    assert_same_score(score(taken, 12, 5), EXPECTED["sweep"]["score"])


def test_old_runs_and_sweeps_are_drawn(tmp_path):
    plot_runs([STREAM1 / "run"], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    np.testing.assert_allclose(read_results(STREAM1 / "sweep").final_return, EXPECTED["sweep"]["final_return"])
    shutil.copytree(STREAM1 / "sweep", tmp_path / "sweep")
    assert "learning_rate" in write_report(tmp_path / "sweep").read_text()


def test_an_old_run_that_was_interrupted_goes_on(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(STREAM1 / "run", folder)
    whole = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "1000")
    summary = resume(folder)
    assert summary["env_steps"] == whole["env_steps"]
    assert summary["evaluation"] == pytest.approx(whole["evaluation"])
    assert summary["training_return"] == pytest.approx(whole["training_return"])


def test_a_sweep_of_a_field_under_its_earlier_name_is_read(tmp_path):
    """What was called `learning_rate_end` is a share, and says so now."""
    shutil.copytree(STREAM1 / "sweep", tmp_path / "sweep")
    path = tmp_path / "sweep" / "sweep.json"
    values = json.loads(path.read_text())
    values["configs"] = [{"learning_rate_end": config["learning_rate"]} for config in values["configs"]]
    path.write_text(json.dumps(values | {"fields": ["learning_rate_end"]}))
    sweep = read_sweep(tmp_path / "sweep")
    assert sweep.fields == ("learning_rate_end_share",)
    wanted = [config["learning_rate_end"] for config in values["configs"]]
    assert [configure(sweep, config)[0].learning_rate_end_share for config in sweep.configs] == wanted
    assert configure(sweep, {"learning_rate_end": 0.5})[0].learning_rate_end_share == 0.5  # As a unit's outcome has it.
