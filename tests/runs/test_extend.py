"""Longer training: another total for a run, finished or not, and new runs that go on where another one ended."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from test_run import CONFIG, RUN, assert_same_end, contents, rows, stop_after

import jaxrl
from jaxrl.cli import commands as cli
from jaxrl.errors import UsageError
from jaxrl.runs import train as runs
from jaxrl.runs.definition import read_run

LONGER = 2600


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 2000 env steps; tests change copies of it only."""
    folder = tmp_path_factory.mktemp("extended") / "finished"
    runs.start(RUN, folder)
    return folder


@pytest.fixture(scope="module")
def extended(finished, tmp_path_factory):
    """The finished run of 2000 env steps, trained to 2600."""
    folder = tmp_path_factory.mktemp("extended") / "run"
    shutil.copytree(finished, folder)
    jaxrl.resume(folder, total_steps=LONGER)
    return folder


def test_a_finished_run_trains_on_to_another_total(extended, finished):
    assert json.loads((extended / "summary.json").read_text())["env_steps"] == LONGER
    assert read_run(extended) == dataclasses.replace(read_run(finished), total_steps=LONGER)
    steps = [row["env_steps"] for row in rows(extended, ("train",))]
    assert steps == sorted(set(steps)) and steps[-1] == LONGER
    # The old rows stay, with the score at the old end; the learning rate falls to 0 at the new end.
    assert rows(extended)[:11] == rows(finished) and rows(finished)[10]["kind"] == "eval"
    assert rows(extended, ("train",))[10]["learning_rate"] > rows(finished, ("train",))[-1]["learning_rate"]


def assert_goes_on(folder, finished):
    """Every part of the seconds is above that of the run that was extended, and the wall clock of the rows never falls."""
    after, before = (json.loads((run / "summary.json").read_text()) for run in (folder, finished))
    assert all(after[name] >= before[name] for name in before if name.endswith("_seconds"))
    clock = [json.loads(line)["wall_seconds"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert clock == sorted(clock)


def test_the_clock_of_a_run_that_trains_on_goes_on(extended, finished):
    assert_goes_on(extended, finished)


def test_a_run_that_is_interrupted_after_its_extension_ends_as_if_it_never_was(
    extended,
    finished,
    tmp_path,
    monkeypatch,
    capsys,
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    stop_after(monkeypatch, 2, lambda: runs.resume(folder, total_steps=LONGER))
    assert not (folder / "summary.json").exists()
    score = rows(finished)[10]["eval_return"]
    told = f"training to 2,600 env steps instead of 2,000 (greedy return {score:.1f} after 2,000): schedules"
    assert told in capsys.readouterr().err
    runs.resume(folder)
    assert_same_end(folder, extended)
    assert_goes_on(folder, finished)


def test_a_total_below_what_is_done_is_refused_and_nothing_changes(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = contents(folder) | {".lock": b""}
    with pytest.raises(UsageError, match="total_steps=1000 is below the 2,000 env steps that are done"):
        runs.resume(folder, total_steps=1000)
    assert contents(folder) | {".lock": b""} == before


def test_the_total_that_a_finished_run_has_changes_nothing(finished, capsys):
    assert runs.resume(finished, total_steps=2000)["env_steps"] == 2000
    assert "is complete; nothing to do" in capsys.readouterr().err


def test_a_new_run_goes_on_from_the_end_of_another_with_its_rows(extended, finished, tmp_path, capsys):
    folder, run = tmp_path / "run", dataclasses.replace(RUN, total_steps=LONGER, extend_from=finished)
    before = contents(finished)
    runs.start(run, folder)
    score = rows(finished)[10]["eval_return"]
    assert f"at 2,000 env steps (greedy return {score:.1f} after 2,000); nothing but" in capsys.readouterr().err
    assert_same_end(folder, extended)
    assert contents(finished) == before
    assert_goes_on(folder, finished)
    # As if the process had been killed before the first checkpoint of the new folder.
    (folder / "summary.json").unlink()
    (folder / "metrics.jsonl").unlink()
    shutil.rmtree(folder / "checkpoints")
    runs.resume(folder)
    assert_same_end(folder, extended)


def test_what_differs_from_the_run_that_is_extended_is_said(finished, tmp_path, capsys):
    config = dataclasses.replace(CONFIG, learning_rate=0.5)
    run = dataclasses.replace(RUN, config=config, total_steps=2004, seed=3, extend_from=finished)
    runs.start(run, tmp_path / "run")
    assert "what differs: learning_rate=0.5 (was 0.0005), seed=3 (was 0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"total_steps": 2000}, "total_steps=2000 is not above the 2,000 env steps"),
        ({"env": "Acrobot-v1"}, "has env=CartPole-v1; give the same"),
        ({"config": dataclasses.replace(CONFIG, num_envs=8)}, "has 4 env steps an iteration, this run 8"),
        ({"config": dataclasses.replace(CONFIG, hidden=(8,))}, "use the configuration it was trained with"),
        ({"init_from": "elsewhere"}, "are both given; leave one away"),
    ],
)
def test_a_run_that_cannot_be_extended_so_is_refused(finished, tmp_path, changes, line):
    run = dataclasses.replace(RUN, **({"total_steps": LONGER, "extend_from": finished} | changes))
    with pytest.raises(UsageError, match=line):
        runs.start(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sweep_has_its_end_in_its_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(SystemExit) as stop:
        cli.main(["resume", ".", "--total-steps", "9"])
    assert stop.value.code == 2
    assert "a sweep has its end in its plan; make a run of its best with: jaxrl take" in capsys.readouterr().err
