"""The seconds of a run: each has a name, and together they are its wall clock."""

from __future__ import annotations

import json
import time

import pytest

from jaxrl.analysis.curves import plot_runs
from jaxrl.cli import commands as cli
from jaxrl.records import console as record
from jaxrl.records.console import PARTS
from jaxrl.records.files import write_json
from jaxrl.records.stopwatch import Stopwatch, covered, kept_seconds
from jaxrl.runs.restore import seconds_of

SMALL = ["--num-envs", "2", "--total-steps", "80", "--num-rows", "2", "--eval-episodes", "2", "--eval-every", "40"]


@pytest.mark.parametrize("env", ["probe/constant", "gymnasium/CartPole-v1"])
def test_the_parts_of_a_run_add_up_to_its_wall_clock_from_the_start_of_the_command(env, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxrl.runs.train.plot_runs", plot_runs)
    written = []

    def note(path, values):
        written.append((path.name, time.perf_counter()))
        write_json(path, values)

    monkeypatch.setattr("jaxrl.runs.train.write_json", note)
    begun = time.perf_counter()
    cli.main(["train", "a2c", "--env", env, *SMALL, "--hidden", "4", "--out", "run"])
    seconds = dict(written)["summary.json"] - begun
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    parts = {part: summary[f"{part}_seconds"] for part in PARTS}
    assert sum(parts.values()) == pytest.approx(summary["wall_seconds"], abs=0.1)
    assert summary["wall_seconds"] == pytest.approx(seconds, abs=0.3)
    assert min(parts.values()) > 0, parts  # Also what a run of the host compiles.
    err = capsys.readouterr().err
    assert all(part in err for part in PARTS)


@pytest.fixture
def still(monkeypatch):
    """A clock that stands."""
    monkeypatch.setattr(time, "perf_counter", lambda: 1000.0)


def test_what_is_compiled_in_the_midst_of_a_part_counts_once_and_not_to_it(still):
    assert covered([(1.0, 4.0), (2.0, 3.0), (6.0, 9.0), (0.0, 0.5)], 0.75, 8.0) == pytest.approx(5.0)
    watch = Stopwatch(time.perf_counter() - 10.0, {"training": 5.0})
    watch.close()
    watch._hear("/jax/core/compile/backend_compile_duration", 4.0)
    watch._hear("/jax/other", 2.0)
    watch.lap("training")
    assert watch.seconds["compile"] == pytest.approx(4.0)
    assert watch.seconds["training"] == pytest.approx(5.0 + 6.0)
    assert watch.wall == pytest.approx(15.0)


def test_seconds_of_work_side_by_side_divide_the_wall_clock_and_are_kept_for_the_next_process(still, tmp_path):
    watch = Stopwatch(time.perf_counter() - 10.0, {})
    watch.close()
    watch._hear("/jax/core/compile/backend_compile_duration", 4.0)  # Two processes side by side say what they compiled.
    watch.keep(tmp_path / "state" / "seconds.json", every=100.0)
    assert not (tmp_path / "state").exists()
    watch.keep(tmp_path / "state" / "seconds.json")
    later = Stopwatch(time.perf_counter() - 2.0, kept_seconds(tmp_path / "state" / "seconds.json"))
    later.close()
    later.lap("saving")
    named = later.named([{"compile": 6.0, "training": 9.0}, {"compile": 2.0, "evaluation": 3.0}])
    assert named["compile_seconds"] == pytest.approx(10.0 * 8.0 / 20.0)
    assert named["training_seconds"] == pytest.approx(10.0 * 9.0 / 20.0)
    assert named["evaluation_seconds"] == pytest.approx(10.0 * 3.0 / 20.0)
    assert named["saving_seconds"] == pytest.approx(2.0)
    assert named["wall_seconds"] == pytest.approx(12.0)


def test_seconds_that_were_kept_and_are_damaged_are_counted_anew(tmp_path, capsys):
    (tmp_path / "seconds.json").write_text('{"compile": "long"}')
    assert kept_seconds(tmp_path / "seconds.json") == {}
    assert "seconds.json is damaged" in capsys.readouterr().err


def test_the_time_left_does_not_count_what_is_compiled_later(monkeypatch):
    """A second of training for each of ten env steps, and before the third a hundred of compiling."""
    now = [0.0]
    monkeypatch.setattr(record.time, "perf_counter", lambda: now[0])
    watch = Stopwatch(0.0, {})
    watch.close()
    bar = record.Bar(10, 0, None, compiles=True, clock=watch.working)
    for seconds, compiled in ((3.0, 0.0), (1.0, 0.0), (101.0, 100.0)):
        now[0] += seconds
        watch._hear("/jax/core/compile/backend_compile_duration", compiled)
        if compiled:
            watch.lap("training", whole=True)
        bar.advance(bar.done_steps + 1, None)
    assert bar._speed() == pytest.approx((1.0, 7.0))


def test_what_was_done_before_says_nothing_of_the_speed_and_the_total_is_what_will_be_done(capsys, monkeypatch):
    now = iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(record.time, "perf_counter", lambda: next(now))
    bar = record.Bar(100, 0, record.console())
    bar.skip(40)
    bar.advance(50, None)
    bar.aim(20)
    bar.advance(60, None)
    assert capsys.readouterr().err.splitlines() == [
        "50 of 100 env steps, 10 steps/s, 5 s left",
        "60 of 70 env steps, 10 steps/s, 1 s left",
    ]


def test_the_seconds_of_older_checkpoints_are_read_and_what_is_no_number_is_passed_over():
    assert seconds_of({"wall_seconds": 9.0, "compile_seconds": 4.0}) == {"compile": 4.0, "training": 5.0}
    now = {"seconds": {"compile": 3.0, "training": 2.0}, "wall_seconds": 9.0, "compile_seconds": 4.0}
    assert seconds_of(now) == {"compile": 3.0, "training": 2.0}
    assert seconds_of({"seconds": {"compile": "x", "training": 2.0}}) == {"training": 2.0}
    assert seconds_of({"seconds": "x"}) == seconds_of({"wall_seconds": "x"}) == seconds_of({}) == {}


def test_the_time_left_does_not_count_what_is_compiled_before_the_first_report(monkeypatch, capsys):
    clock = iter([100.0, 102.0, 104.0])  # A hundred seconds of compiling, then two for each 10 of 100 env steps.
    monkeypatch.setattr(record.time, "perf_counter", lambda: next(clock))
    bar = record.Bar(100, 0, record.console(), compiles=True)
    for done in (10, 20, 30):
        bar.advance(done, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "10 of 100 env steps"
    assert lines[1] == "20 of 100 env steps, 5 steps/s, 16 s left"
    assert lines[2] == "30 of 100 env steps, 5 steps/s, 14 s left"
