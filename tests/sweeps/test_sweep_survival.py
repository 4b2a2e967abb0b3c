"""A sweep outlives what happens to its runs and to its process: NaN, runs that stop early, SIGKILL at any moment."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import random
import signal
import time

import numpy as np
import pytest

from helpers import assert_close, assert_parts_add_up, assert_same_bits, ended, started
from jaxrl.errors import UsageError
from jaxrl.records import checkpoint
from jaxrl.records import console as record
from jaxrl.records.rows import read_rows
from jaxrl.runs import train as runs
from jaxrl.runs.definition import read_run
from jaxrl.runs.prepare import prepare
from jaxrl.runs.restore import restore
from jaxrl.sweeps import batch as batches
from jaxrl.sweeps import driver, task, unit
from jaxrl.sweeps.api import sweep
from jaxrl.sweeps.batch import entry
from jaxrl.sweeps.export import save_run
from jaxrl.sweeps.outcome import read_outcome
from jaxrl.sweeps.plan import make_groups
from jaxrl.sweeps.schedulers import Schedule
from jaxrl.sweeps.store import read_sweep

DQN = {"num_envs": 4, "hidden": (8,), "capacity": 64, "batch_size": 8, "learning_starts": 8}
SHORT = {"total_steps": 80, "num_rows": 4, "eval_episodes": 4}
ABSURD = 1e30
HALVING = Schedule("halving", reduction=2)


pytestmark = pytest.mark.usefixtures("no_report")


def table(folder, without=("wall_seconds",)):
    with (folder / "results.csv").open() as file:
        return [{name: text for name, text in row.items() if name not in without} for row in csv.DictReader(file)]


def dqn_sweep(folder, learning_rates, **changes):
    options = {"grid": {"learning_rate": learning_rates}} | SHORT | DQN | changes
    return sweep("dqn", "CartPole-v1", out=folder, **options).folder


def table_sweep(folder, **changes):
    options = {"grid": {"learning_rate": [0.01, 0.1, 0.5]}, "seeds": 2, "total_steps": 1600, "num_rows": 8, "eval_episodes": 4}
    return sweep("q_learning", "gridworld/classic", out=folder, **(options | changes)).folder


def states(folder):
    """State of each run at the end of its last rung."""
    units, groups, found = json.loads((folder / "state" / "units.json").read_text()), make_groups(read_sweep(folder)), []
    for run, names in units.items():
        runs = read_outcome(folder, names[-1])["runs"]
        found.append(entry(unit.final_states(groups, folder, names[-1]), runs.index(int(run))))
    return found


def rows(folder):
    """Rows of all units, in the order of units and runs."""
    paths = sorted(folder.glob("state/*/rows.jsonl"))
    return {path.parent.name: read_rows(path) for path in paths}


def interrupted(finished, folder, monkeypatch, saves, **changes):
    """A sweep as `table_sweep` begins it, stopped after so many checkpoints, as if its process had died there."""
    count, save = [], checkpoint.save

    def stopping(*arguments):
        if len(count) == saves:
            raise KeyboardInterrupt
        count.append(1)
        save(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", stopping)
        finished(folder, checkpoint_seconds=0.0, **changes)
    return folder


# --- NaN --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    return dqn_sweep(tmp_path_factory.mktemp("sweeps") / "healthy", [1e-3, 1e-2], seeds=2)


def test_runs_that_become_nan_leave_the_others_alone(healthy, tmp_path):
    folder = dqn_sweep(tmp_path / "sweep", [1e-3, ABSURD, 1e-2], seeds=2)
    numbers = ("run", "config", "wall_seconds")
    found = table(folder, numbers)
    assert found[:2] + found[4:] == table(healthy, numbers)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["statuses"] == {"ok": 4, "nan": 2, "stopped": 0}
    for row in found[2:4]:
        assert (row["status"], row["final_return"], row["eval_return"], row["area_under_curve"]) == ("nan", "", "", "")
        assert 0 < int(row["env_steps"]) < 80
    assert [json.loads(line)["run"] for line in next(folder.glob("state/*/rows.jsonl")).read_text().splitlines()][-4:] == [
        0,
        1,
        4,
        5,
    ]


def test_a_sweep_whose_runs_all_become_nan_ends_and_its_bar_does_not_wait(tmp_path, capsys):
    folder = dqn_sweep(tmp_path / "sweep", [ABSURD])
    assert [row["status"] for row in table(folder)] == ["nan"]
    done = json.loads((folder / "summary.json").read_text())["env_steps"]
    assert done < 80 and f"{done} of {done} env steps" in capsys.readouterr().err


def test_halving_passes_over_runs_that_became_nan(tmp_path):
    folder = dqn_sweep(tmp_path / "sweep", [ABSURD, ABSURD * 2, 1e-3, 1e-2], schedule="halving")
    found = table(folder)
    assert [row["status"] for row in found[:2]] == ["nan", "nan"]
    assert sorted(row["status"] for row in found[2:]) == ["ok", "stopped"]


def test_population_based_training_replaces_a_run_that_became_nan(tmp_path):
    schedule = Schedule("pbt", pbt_steps=40, pbt_share=0.25)
    folder = dqn_sweep(tmp_path / "sweep", [1e-3, 2e-3, 3e-3, ABSURD], schedule=schedule)
    found = table(folder)
    assert [row["status"] for row in found] == 4 * ["ok"]
    assert float(found[3]["learning_rate"]) < 4e-3


REPACKED = {"learning_rates": [ABSURD, 1e-2], "seeds": 4, "batching": "vmap"}
"""Eight runs, of which half become NaN."""


@pytest.fixture(scope="module")
def repacked(tmp_path_factory):
    """The sweep, and the populations that were made for it."""
    made, make = [], unit.make_population

    def spy(*arguments):
        made.append(make(*arguments))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit, "make_population", spy)
        return dqn_sweep(tmp_path_factory.mktemp("sweeps") / "repacked", **REPACKED), made


def test_under_vmap_the_living_are_repacked_and_unchanged(repacked, tmp_path):
    folder, made = repacked
    assert [population.capacity for population in made] == [8, 4]
    alone = dqn_sweep(tmp_path / "alone", [1e-2], seeds=4, batching="vmap")
    assert [row["status"] for row in table(folder)] == 4 * ["nan"] + 4 * ["ok"]
    for mine, theirs in zip(states(folder)[4:], states(alone), strict=True):
        assert_close(mine.agent, theirs.agent)
    for mine, theirs in zip(table(folder)[4:], table(alone), strict=True):
        assert float(mine["final_return"]) == pytest.approx(float(theirs["final_return"]), rel=1e-4)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["compilations"] == 2
    assert summary["peak_bytes"] == max(population.num_bytes for population in made)


def test_a_repacked_batch_that_is_resumed_goes_on_in_as_few_rows(repacked, tmp_path, monkeypatch):
    """Another program for the same rows need not give the same bits."""
    folder = interrupted(dqn_sweep, tmp_path / "sweep", monkeypatch, 3, **REPACKED)
    capacities, advance = [], batches.advance
    monkeypatch.setattr(
        batches, "advance", lambda batch, *lengths: capacities.append(batch.population.capacity) or advance(batch, *lengths)
    )
    driver.resume(folder)
    assert set(capacities) == {4}
    assert table(folder) == table(repacked[0])


# --- runs that reach their goal ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return table_sweep(tmp_path_factory.mktemp("sweeps") / "undisturbed")


@pytest.mark.parametrize("batching", ["serial", pytest.param("vmap", marks=pytest.mark.slow)])
def test_a_run_that_reaches_its_goal_stops_there_and_is_evaluated(undisturbed, tmp_path, batching):
    folder = table_sweep(tmp_path / "sweep", stop_return=-4.0, batching=batching)
    found, all_of_it = table(folder), table(undisturbed)
    stopped = [row for row in found if row["status"] == "stopped"]
    assert stopped and len(stopped) < len(found)
    for row in stopped:
        assert float(row["final_return"]) >= -4.0
        assert int(row["env_steps"]) < 1600
        assert float(row["eval_return"]) <= 0.0
    if batching == "serial":
        assert [row for row in found if row["status"] == "ok"] == [
            row for row, mine in zip(all_of_it, found, strict=True) if mine["status"] == "ok"
        ]
    for run, row in enumerate(found):
        mine = [
            float(line["return_mean"]) for line in csv.DictReader((folder / "curves.csv").open()) if line["run"] == str(run)
        ]
        theirs = csv.DictReader((undisturbed / "curves.csv").open())
        alone = [float(line["return_mean"]) for line in theirs if line["run"] == str(run)]
        assert len(mine) == int(row["env_steps"]) // 200
        np.testing.assert_allclose(mine, alone[: len(mine)], rtol=1e-4)


def test_a_stopped_run_is_evaluated_as_its_solo_run_would_be_there(undisturbed, tmp_path):
    folder = table_sweep(tmp_path / "sweep", stop_return=-4.0)
    run = next(run for run, row in enumerate(table(folder)) if row["status"] == "stopped")
    saved = save_run(folder, run, tmp_path / "run")
    prepared = prepare(read_run(saved))
    state, _ = restore(prepared, saved, record.say)
    score = runs.evaluate_state(prepared, state.agent.policy, int(state.iteration), 4)
    assert float(table(folder)[run]["eval_return"]) == score["mean"]
    assert runs.resume(saved)["evaluation"]["mean"] == float(table(undisturbed)[run]["eval_return"])


# --- interrupted sweeps -----------------------------------------------------------------------------------------------


def assert_same_end(folder, reference):
    assert table(folder) == table(reference)
    assert (folder / "curves.csv").read_bytes() == (reference / "curves.csv").read_bytes()
    summaries = [json.loads((path / "summary.json").read_text()) for path in (folder, reference)]
    for name in ("runs", "groups", "batches", "env_steps", "statuses", "peak_bytes"):
        assert summaries[0][name] == summaries[1][name], name


PROGRAM = """
import sys
from pathlib import Path
from jaxrl.sweeps import driver
driver.write_report = lambda folder: None
driver.resume(Path(sys.argv[1]))
"""


def num_rows_of(folder):
    return sum(len(path.read_bytes().splitlines()) for path in folder.glob("state/*/rows.jsonl"))


def killed(folder, num_rows):
    """Goes on with a sweep in a process of its own and kills that with SIGKILL when there are so many rows."""
    with started("-c", PROGRAM, str(folder), env=os.environ | {"JAX_PLATFORMS": "cpu"}) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and num_rows_of(folder) < num_rows and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        ended(process, -signal.SIGKILL)


KILLED = {"total_steps": 900, "num_rows": 45, "grid": {"learning_rate": [0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]}}


slow = pytest.mark.slow
THRICE = (0.02, 0.3, 0.6)
"""Shares of its rows, after which a sweep is killed within a quarter of them."""


@pytest.mark.parametrize(
    ("schedule", "kills"),
    [pytest.param("none", THRICE, marks=slow), pytest.param("halving", THRICE, marks=slow), ("halving", (0.3,))],
    ids=["none", "halving", "halving-once"],
)
def test_a_sweep_that_is_killed_ends_as_if_it_never_was(tmp_path, schedule, kills):
    reference = table_sweep(tmp_path / "reference", **KILLED, schedule=schedule, seeds=1)
    folder = tmp_path / "sweep"
    folder.mkdir()
    begun = json.loads((reference / "sweep.json").read_text()) | {"checkpoint_seconds": 0.0}
    (folder / "sweep.json").write_text(json.dumps(begun))
    total, moments = num_rows_of(reference), random.Random(schedule)
    for low in kills:
        killed(folder, int(moments.uniform(low, low + 0.25) * total))
    assert not (folder / "summary.json").exists()
    assert list(folder.glob("state/*/checkpoints/*"))
    driver.resume(folder)
    assert_same_end(folder, reference)
    assert rows(folder) == rows(reference)


@pytest.mark.parametrize("saves", [0, pytest.param(5, marks=pytest.mark.slow), 8])
def test_a_sweep_interrupted_at_a_checkpoint_ends_the_same(undisturbed, tmp_path, monkeypatch, saves):
    """Before the first checkpoint, in the middle, and when all is trained but not noted as done."""
    folder = interrupted(table_sweep, tmp_path / "sweep", monkeypatch, min(saves, 7))
    if saves == 8:
        monkeypatch.setattr(task, "write_json", lambda path, values: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            driver.resume(folder)
        monkeypatch.undo()
    driver.resume(folder)
    assert_same_end(folder, undisturbed)


def test_resuming_a_finished_sweep_does_nothing(undisturbed, capsys):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    (undisturbed / "report.html").touch()
    summary = driver.resume(undisturbed)
    (undisturbed / "report.html").unlink()
    assert summary == json.loads((undisturbed / "summary.json").read_text())
    assert capsys.readouterr().err == f"{undisturbed} is complete; nothing to do\n"
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}.keys() == before.keys()


def test_resuming_where_there_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds no sweep \(no sweep.json\); give a folder"):
        driver.resume(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"agent": "q_learning"}'])
def test_a_damaged_sweep_json_is_named(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UsageError, match=r"sweep\.json") as error:
        driver.resume(tmp_path)
    assert "\n" not in str(error.value)


def test_the_parts_of_a_sweep_add_up_to_its_wall_clock(undisturbed):
    """These end without their report, so that plotting may take nothing."""
    assert_parts_add_up(json.loads((undisturbed / "summary.json").read_text()), without={"plotting"})


def test_the_bar_shows_the_env_steps_that_are_done(tmp_path, capsys):
    """Whole iterations of 16 env steps: 7 for 100, with rows after 3, 5 and 7; the worse run ends with the row behind 50."""
    rates = {"learning_rate": [0.01, 0.5]}
    folder = table_sweep(tmp_path / "sweep", grid=rates, seeds=1, num_envs=16, total_steps=100, schedule=HALVING, num_rows=3)
    assert json.loads((folder / "summary.json").read_text())["env_steps"] == 80 + 80 + 32
    assert "192 of 192 env steps" in capsys.readouterr().err


def test_a_sweep_interrupted_in_the_midst_of_a_row_saves_and_ends_as_if_it_never_was(
    undisturbed, tmp_path, monkeypatch, capsys
):
    @contextlib.contextmanager
    def held_back():
        asked = itertools.count(1)
        yield lambda: next(asked) > 2

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(driver, "held_back", held_back)
        table_sweep(tmp_path / "sweep")
    [saved] = (tmp_path / "sweep").glob("state/*/checkpoints")
    assert checkpoint.iterations(saved) == [9] and not rows(tmp_path / "sweep")[saved.parent.name]
    driver.resume(tmp_path / "sweep")
    assert "9,600 of 9,600 env steps" in capsys.readouterr().err
    assert table(tmp_path / "sweep") == table(undisturbed)
    assert rows(tmp_path / "sweep") == rows(undisturbed)
    for state, expected in zip(states(tmp_path / "sweep"), states(undisturbed), strict=True):
        assert_same_bits(state, expected)
