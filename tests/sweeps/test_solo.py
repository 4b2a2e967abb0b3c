"""Runs of a sweep that are trained alone, in processes of their own: the runs they would have been without the sweep."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxrl
from helpers import assert_parts_add_up, ended, started
from jaxrl.agents.policy_gradient.a2c import A2CConfig
from jaxrl.agents.tabular.table import TabularConfig
from jaxrl.cli import commands as cli
from jaxrl.drivers.memory import num_bytes
from jaxrl.errors import EnvError, UsageError
from jaxrl.interrupts import never
from jaxrl.records.rows import WALL_CLOCK_FIELDS, read_rows
from jaxrl.runs.definition import read_run
from jaxrl.sweeps import children, driver, export, solo
from jaxrl.sweeps.api import SweepResult
from jaxrl.sweeps.plan import make_groups
from jaxrl.sweeps.progress import Rows
from jaxrl.sweeps.store import read_sweep
from jaxrl.sweeps.unit import untold
from jaxrl.tuning.definition import Tuning, check_trainable, check_tuning

RATES = [0.1, 0.5]
TABLE = {"total_steps": 1600, "num_rows": 20, "eval_episodes": 4, "eval_every": 800}
A2C = {"num_envs": 2, "rollout_length": 5, "hidden": (8,), "learning_rate": 1e-3}
CARTPOLE = {"total_steps": 400, "num_rows": 4, "eval_episodes": 2}


pytestmark = pytest.mark.usefixtures("no_report")


def table_of(folder):
    with (folder / "results.csv").open() as file:
        return [{name: text for name, text in row.items() if name != "wall_seconds"} for row in csv.DictReader(file)]


def rows_of(folder):
    """Rows of a run without wall clocks."""
    rows = read_rows(folder / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in WALL_CLOCK_FIELDS} for row in rows]


def table_sweep(folder, **changes):
    options = {"grid": {"learning_rate": RATES}, "batching": "solo"} | TABLE | changes
    return jaxrl.sweep("q_learning", "gridworld/classic", out=folder, **options)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two runs in an environment of the compiled program."""
    return table_sweep(tmp_path_factory.mktemp("solo") / "table")


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    """Two configs with two seeds in an environment of the host, and how many children there were as each began."""
    at_once, begin, begun = [], children._begin, []

    def spy(*arguments):
        begun.append(begin(*arguments))
        at_once.append(sum(child.process.poll() is None for child in begun))
        return begun[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(children, "_begin", spy)
        patch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
        folder, grid = tmp_path_factory.mktemp("solo") / "cartpole", {"gamma": [0.9, 0.99]}
        found = jaxrl.sweep("a2c", "gymnasium/CartPole-v1", grid=grid, seeds=2, out=folder, **CARTPOLE, **A2C)
    return found, at_once


# --- what a run is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [0, 1])
def test_a_run_is_the_run_that_it_would_have_been_without_the_sweep(table, tmp_path, run):
    config = TabularConfig(learning_rate=RATES[run])
    summary = jaxrl.start(jaxrl.Run("q_learning", "gridworld/classic", config, **TABLE), tmp_path / "run")
    assert rows_of(table.run_folder(run)) == rows_of(tmp_path / "run")
    row = table_of(table.folder)[run]
    assert float(row["final_return"]) == summary["training_return"]["mean"]
    assert float(row["eval_return"]) == summary["evaluation"]["mean"]
    assert (row["status"], int(row["env_steps"])) == ("ok", 1600)
    curve = [(row["env_steps"], row["return_mean"]) for row in rows_of(tmp_path / "run") if row["kind"] == "train"]
    np.testing.assert_array_equal(table.results.curves[run], np.array(curve, float))


def test_runs_are_evaluated_on_their_way(table):
    evaluations = [row["env_steps"] for row in rows_of(table.run_folder(0)) if row["kind"] == "eval"]
    assert evaluations == [800, 1600]


def test_a_sweep_says_what_it_took(table):
    summary = table.results.summary
    assert (summary["runs"], summary["batches"], summary["compilations"], summary["env_steps"]) == (2, 2, 2, 3200)
    assert 50e6 < summary["peak_bytes"] < 5e9  # A process with JAX.
    assert_parts_add_up(summary)  # What the children compile and evaluate too.


def test_environments_of_the_host_are_swept(cartpole):
    found, _ = cartpole
    rows = table_of(found.folder)
    assert [(row["gamma"], row["seed"], row["status"]) for row in rows] == [
        ("0.9", "0", "ok"),
        ("0.9", "1", "ok"),
        ("0.99", "0", "ok"),
        ("0.99", "1", "ok"),
    ]
    for run, row in enumerate(rows):
        alone = read_run(found.run_folder(run))
        assert (alone.config.gamma, alone.seed, alone.env) == (float(row["gamma"]), int(row["seed"]), "gymnasium/CartPole-v1")
        assert 8 <= float(row["final_return"]) <= 500 and 8 <= float(row["eval_return"]) <= 500
    assert len({row["final_return"] for row in rows}) > 1


def test_no_more_runs_train_at_once_than_there_are_cores(cartpole):
    assert len(cartpole[1]) == 4 and max(cartpole[1]) == 2


def test_a_finished_sweep_is_only_read(cartpole, monkeypatch):
    found, _ = cartpole
    monkeypatch.setattr(children, "_begin", None)
    grid = {"gamma": [0.9, 0.99]}
    again = jaxrl.sweep("a2c", "gymnasium/CartPole-v1", grid=grid, seeds=2, out=found.folder, **CARTPOLE, **A2C)
    np.testing.assert_array_equal(again.results.final_return, found.results.final_return)


@pytest.mark.slow
def test_ray_trains_runs_alone_too(table, tmp_path):
    found = table_sweep(tmp_path / "sweep", executor="ray")
    assert table_of(found.folder) == table_of(table.folder)
    assert rows_of(found.run_folder(1)) == rows_of(table.run_folder(1))


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["driver", "worker"])
def test_an_interrupt_of_a_run_that_ray_trains_alone_saves_it_soon_and_changes_no_result(table, tmp_path, whom):
    """A driver ends, and what it leaves goes on; a worker goes on at once, whether Ray lets it hear the signal or not."""
    begun = json.loads((table.folder / "sweep.json").read_text())
    begun |= {"executor": "ray", "total_steps": 60_000, "eval_every": 30_000, "checkpoint_seconds": 1e9, "num_rows": 1000}
    for name in ("reference", "sweep"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sweep.json").write_text(json.dumps(begun))
    folder = tmp_path / "sweep"
    reference = driver.resume(tmp_path / "reference")
    with started("-m", "jaxrl", "resume", str(folder)) as process:
        until_rows(folder, 50)
        if whom == "driver":
            process.send_signal(signal.SIGTERM)
            ended(process, 130, seconds=60)
            assert not (folder / "summary.json").exists()
            assert list(folder.glob("state/*/run/checkpoints/[0-9]*"))
        else:
            os.kill(pid_of(next(folder.glob("state/*/lock"))), signal.SIGINT)
            ended(process)
    resumed = driver.resume(folder)
    assert table_of(folder) == table_of(tmp_path / "reference")
    assert resumed["env_steps"] == reference["env_steps"]
    for run in (0, 1):
        assert rows_of(export.own_folder(folder, run)) == rows_of(export.own_folder(tmp_path / "reference", run))


def until_rows(folder, number):
    """Waits until a run of a sweep has so many rows."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if any(len(path.read_bytes().splitlines()) >= number for path in folder.glob("state/*/run/metrics.jsonl")):
            return
        time.sleep(0.01)
    raise TimeoutError


# --- what is made of a run ----------------------------------------------------------------------------------------------


def test_take_copies_the_folder_of_a_run(table, tmp_path, capsys):
    cli.main(["take", str(table.folder), "1", "--out", str(tmp_path / "run")])
    assert capsys.readouterr().out == f"{tmp_path / 'run'}\n"
    assert rows_of(tmp_path / "run") == rows_of(table.run_folder(1))
    assert (tmp_path / "run" / "summary.json").exists()
    with pytest.raises(UsageError, match=f"out={tmp_path / 'run'} already holds a run"):
        table.save(0, tmp_path / "run")


def test_a_run_of_the_host_is_scored_and_acts(cartpole):
    found, _ = cartpole
    score = found.evaluate(3, num_episodes=2)
    assert score["episodes"] == 2 and 8 <= score["mean"] <= 500
    assert found.policy(3)(np.zeros((5, 4), np.float32)).shape == (5,)


def test_runs_that_do_not_exist_are_named(table):
    with pytest.raises(UsageError, match=r"run=2 is out of range; give a run of .* in \[0, 1\]"):
        table.run_folder(2)


def test_a_run_of_a_batch_has_no_folder(table, monkeypatch):
    monkeypatch.setattr(export, "_units_of", lambda folder, run: ["bracket0-rung0-group0-part0-00000000"])
    with pytest.raises(UsageError, match=r"run=0 of .* was trained in a batch; write its folder with save\(run, folder\)"):
        SweepResult(table.folder, table.results).run_folder(0)


# --- what may happen ----------------------------------------------------------------------------------------------------


def pid_of(path):
    """The process that holds, or last held, a unit."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(path.read_text().split()[1])
    return None


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def ends_soon(pids):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(map(is_alive, pids)):
        time.sleep(0.05)
    return not any(map(is_alive, pids))


def test_a_killed_sweep_takes_its_children_along_and_ends_as_if_it_never_was(table, tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    begun = json.loads((table.folder / "sweep.json").read_text()) | {"checkpoint_seconds": 0.0}
    (folder / "sweep.json").write_text(json.dumps(begun))
    left = folder / "state" / table.run_folder(1).parent.name / "run" / "config.json.partial"
    left.parent.mkdir(parents=True)
    left.write_text("{")  # As of a process that was killed as it began.
    process = subprocess.Popen([sys.executable, "-m", "jaxrl", "resume", str(folder)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(len(path.read_bytes().splitlines()) >= 3 for path in folder.glob("state/*/run/metrics.jsonl")):
            break
        time.sleep(0.002)
    process.kill()
    process.wait()
    pids = [pid for pid in map(pid_of, folder.glob("state/*/lock")) if pid]
    assert process.returncode == -signal.SIGKILL and pids
    assert not (folder / "summary.json").exists()
    assert ends_soon(pids)
    assert not list(folder.glob("state/*/outcome.json"))  # They did not go on to their ends.
    assert list(folder.glob("state/*/run/checkpoints/[0-9]*"))
    driver.resume(folder)
    assert table_of(folder) == table_of(table.folder)
    assert (folder / "curves.csv").read_bytes() == (table.folder / "curves.csv").read_bytes()
    for run in (0, 1):
        assert rows_of(export.own_folder(folder, run)) == rows_of(table.run_folder(run))


def fragile(num_envs):
    """CartPole of Gymnasium, whose 30th step fails where FRAGILE is set."""
    env = jaxrl.make("gymnasium/CartPole-v1", num_envs)
    step, count = env.step, []

    def failing(action):
        count.append(1)
        if len(count) == 30 and "FRAGILE" in os.environ:
            raise EnvError("env='fragile' failed in step: out of luck")
        return step(action)

    env.step = failing
    return env


def test_an_environment_that_fails_ends_the_sweep_with_a_line_and_it_can_go_on(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "sweep"
    words = ["--total-steps", "100", "--num-rows", "10", "--eval-episodes", "2", "--checkpoint-seconds", "0"]
    words += ["--num-envs", "2", "--rollout-length", "5", "--hidden", "8"]
    monkeypatch.setenv("FRAGILE", "1")
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", "a2c", "--env", f"{__name__}:fragile", *words, "--out", str(folder)])
    signal.signal(signal.SIGTERM, handler)
    assert stop.value.code == 1
    line = f"jaxrl: env='fragile' failed in step: out of luck; go on with: jaxrl resume {folder}"
    assert capsys.readouterr().err.splitlines()[-1] == line
    monkeypatch.delenv("FRAGILE")
    driver.resume(folder)
    assert [row["status"] for row in table_of(folder)] == ["ok"]
    log = next(folder.glob("state/*/log.txt")).read_text()
    assert "resuming at 5" in log and "its episodes begin anew" in log


def test_a_child_that_dies_is_named(table, tmp_path):
    log = tmp_path / "state" / "unit" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("Traceback\nMemoryError: no more\n\n")
    unit = children.Unit("unit", 0, (7,), ({},), None, 0, 1, 1, True, True)
    ended = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    ended.wait()
    killed = children._failure(tmp_path, children._Child(unit, ended))
    assert str(killed) == f"the process of run 7 was killed by signal 9; see {log}, then go on with: jaxrl resume {tmp_path}"
    ended.returncode = 1
    raised = children._failure(tmp_path, children._Child(unit, ended))
    assert isinstance(raised, UsageError) and "run 7 failed (MemoryError: no more); see" in str(raised)


def test_a_run_that_became_nan_has_no_score(tmp_path, monkeypatch):
    score = {"mean": 3.0, "episodes": 5}
    summary = {"status": "nan", "env_steps": 40, "training_return": score, "evaluation": score, "wall_seconds": 1.5}
    (tmp_path / "config.json").touch()
    (tmp_path / "metrics.jsonl").touch()
    monkeypatch.setattr(solo, "resume", lambda folder: summary | {"compile_seconds": 1.25})
    report, rows, taken = solo.train(None, tmp_path, never)
    expected = {"status": "nan", "env_steps": 40, "final_return": None, "episodes": 5, "eval_return": None}
    assert (report, rows, taken["seconds"]) == (expected, [], 1.5)
    assert {part: seconds for part, seconds in taken["parts"].items() if seconds} == {"compile": 1.25}


def test_a_child_that_fails_ends_the_others(table, tmp_path, monkeypatch):
    codes, begun = iter(["raise SystemExit(1)", "import time; time.sleep(60)"]), []

    def begin(folder, unit, at_once):
        children.unit_folder(folder, unit.name).mkdir(parents=True)
        (children.unit_folder(folder, unit.name) / "log.txt").write_text("")
        begun.append(subprocess.Popen([sys.executable, "-c", next(codes)], stdin=subprocess.PIPE))
        return children._Child(unit, begun[-1])

    monkeypatch.setattr(children, "_begin", begin)
    units = [children.Unit(f"unit{run}", 0, (run,), ({},), None, 0, 1, 1, True, True) for run in range(3)]
    with pytest.raises(UsageError, match=r"the process of run 0 failed \(exit code 1\)"):
        children._train(tmp_path, units, 2, Rows(tmp_path, untold))
    assert [process.returncode for process in begun] == [1, -signal.SIGTERM]


def test_as_many_train_at_once_as_fit_into_memory(table, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    sweep = dataclasses.replace(read_sweep(table.folder), seeds=(0, 1, 2))
    groups, several = make_groups(sweep), []
    for limit in (None, 2.5, 1.0):
        limited = dataclasses.replace(sweep, memory_limit=limit and int(limit * num_bytes(groups[0].shapes)))
        several.append(children.child_processes(limited, groups, tmp_path, untold).num_workers)
    assert several == [6, 2, 1]


# --- what does not fit --------------------------------------------------------------------------------------------------

GYM = {"agent": "a2c", "env": "gymnasium/CartPole-v1"}
SOLO = {"batching": "solo"}
HALVING = {"schedule": "halving", "grid": {"gamma": [0.7, 0.8, 0.9]}}
PBT = {"schedule": jaxrl.Schedule("pbt", pbt_steps=100), "seeds": 4, "grid": {"learning_rate": [0.1]}}
EARLY = "looks at runs on their way, and runs that train alone"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (GYM | {"batching": "serial"}, "batching='serial': env='gymnasium/CartPole-v1' lives on the host, where runs cannot"),
        (GYM | HALVING, f"schedule='halving' {EARLY} (env='gymnasium/CartPole-v1' lives on the host) go to their ends"),
        (SOLO | PBT, f"schedule='pbt' {EARLY} (batching='solo') go to their ends; leave it out"),
        (SOLO | {"stop_return": 5.0}, f"stop_return=5.0 {EARLY} (batching='solo') go to their ends; leave it out"),
        ({"eval_every": 100}, "eval_every=100: runs of a batch are evaluated at their ends; give batching='solo', or 0"),
        (SOLO | {"eval_every": -1}, "eval_every=-1 is out of range; give a value at least 0"),
        (GYM | {"memory_limit": 100}, "memory_limit=100 bytes is below the"),
        (GYM | {"grid": {"env.wind": [1, 2]}}, "wind"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path, changes, message):
    options = {"agent": "q_learning", "env": "gridworld/classic", "total_steps": 400} | changes
    with pytest.raises(UsageError) as error:
        jaxrl.sweep(**options, out=tmp_path / "sweep")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_search_in_an_environment_of_the_host_is_refused():
    tuning = Tuning("a2c", "gymnasium/CartPole-v1", A2CConfig(num_envs=2, hidden=(8,)), choices={"gamma": (0.9, 0.99)})
    with pytest.raises(UsageError, match="env='gymnasium/CartPole-v1' lives on the host, where the seeds of a trial cannot be"):
        check_trainable(tuning)
    with pytest.raises(UsageError, match="batching='solo' is unknown; choose one of auto, serial, vmap"):
        check_tuning(dataclasses.replace(tuning, batching="solo"))
