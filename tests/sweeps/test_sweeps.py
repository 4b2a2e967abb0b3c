"""A run of a sweep is the run it would have been alone, however it is batched; schedules, what is compiled, and the results."""

from __future__ import annotations

import csv
import json
import logging
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from helpers import assert_close, assert_same_bits, run_python
from jaxrl.agents import load_agent
from jaxrl.agents.value.dqn import DQNConfig
from jaxrl.analysis import curves as plot
from jaxrl.analysis.report import write_report
from jaxrl.analysis.results import read_results
from jaxrl.cli import commands as cli
from jaxrl.drivers.memory import num_bytes, rollout_bytes
from jaxrl.errors import UsageError
from jaxrl.records import checkpoint, console
from jaxrl.records.console import say
from jaxrl.records.folders import LOCK
from jaxrl.records.rows import WALL_CLOCK_FIELDS, read_rows
from jaxrl.runs import train as runs
from jaxrl.runs import trained
from jaxrl.runs.definition import Run, read_run
from jaxrl.runs.prepare import prepare
from jaxrl.runs.restore import restore
from jaxrl.sweeps import api, driver, unit
from jaxrl.sweeps import batch as batches
from jaxrl.sweeps.api import SweepResult, sweep
from jaxrl.sweeps.batch import entry
from jaxrl.sweeps.export import choose, save_run
from jaxrl.sweeps.outcome import read_outcome
from jaxrl.sweeps.plan import make_groups
from jaxrl.sweeps.schedulers import Schedule
from jaxrl.sweeps.store import read_sweep

DQN = {"num_envs": 4, "hidden": (8,), "capacity": 64, "batch_size": 8, "learning_starts": 8}
RATES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
SHORT = {"total_steps": 80, "num_rows": 4, "eval_episodes": 4}
"""20 iterations: as many as different programs may be compared over."""


pytestmark = pytest.mark.usefixtures("no_report")


def dqn_sweep(folder, **changes):
    grid = {"learning_rate": [1e-3, 1e-2], "env.gravity": [9.8, 20.0]}
    options = {"grid": grid, "seeds": [0, 3], "batching": "serial"} | SHORT | DQN | changes
    return sweep("dqn", "CartPole-v1", out=folder, **options)


def table_sweep(folder, **changes):
    options = {"grid": {"learning_rate": RATES}, "total_steps": 900, "num_rows": 9, "eval_episodes": 4} | changes
    return sweep("q_learning", "gridworld/classic", out=folder, **options)


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    return dqn_sweep(tmp_path_factory.mktemp("sweeps") / "serial")


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    """Nine learning rates, all trained to their ends."""
    return table_sweep(tmp_path_factory.mktemp("sweeps") / "rates")


@pytest.fixture(scope="module")
def halved(tmp_path_factory):
    """The same nine, of which three pass 100 env steps and one passes 300."""
    return table_sweep(tmp_path_factory.mktemp("sweeps") / "halved", schedule="halving")


@pytest.fixture(scope="module")
def evolved(tmp_path_factory):
    """A population of five, of which one is replaced after 100 and one after 200 of 300 env steps; what units began with."""
    folder, begun, load = tmp_path_factory.mktemp("sweeps") / "evolved", [], batches.load

    def spy(population, members, shared, states, living, iteration):
        begun.append((members, states))
        return load(population, members, shared, states, living, iteration)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "load", spy)
        schedule = Schedule("pbt", pbt_steps=100)
        result = table_sweep(
            folder, schedule=schedule, grid={"learning_rate": RATES[2:7]}, total_steps=300, num_rows=3, checkpoint_seconds=1e9
        )
    return result, begun


def table(result):
    """`results.csv` without wall clocks."""
    with (result.folder / "results.csv").open() as file:
        return [{name: text for name, text in row.items() if name != "wall_seconds"} for row in csv.DictReader(file)]


def units_of(result, run):
    return json.loads((result.folder / "state" / "units.json").read_text())[str(run)]


def outcomes(result):
    return [json.loads(path.read_text()) for path in result.folder.glob("state/*/outcome.json")]


def state_of(result, run, rung=-1):
    """The state of a run at the end of one of its rungs."""
    name = units_of(result, run)[rung]
    stacked = unit.final_states(make_groups(read_sweep(result.folder)), result.folder, name)
    return entry(stacked, read_outcome(result.folder, name)["runs"].index(run))


def rows_of(result, run):
    """Rows of a run over all its rungs."""
    rows = [row for name in units_of(result, run) for row in read_rows(result.folder / "state" / name / "rows.jsonl")]
    return [{name: value for name, value in row.items() if name != "run"} for row in rows if row["run"] == run]


def solo_rows(folder, kind="train"):
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["kind"] == kind]
    return [{name: value for name, value in row.items() if name not in WALL_CLOCK_FIELDS} for row in rows]


def solo_state(folder):
    state, _ = restore(prepare(read_run(folder)), folder, say)
    return state._replace(iteration=())


def assert_rows_close(found, expected):
    assert [list(row) for row in found] == [list(row) for row in expected]
    for mine, theirs in zip(found, expected, strict=True):
        for name, value in theirs.items():
            assert mine[name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), name


def assert_same_results(result, expected):
    """Within what different programs for the same computation are allowed."""
    mine, theirs = read_results(result.folder), read_results(expected.folder)
    assert (mine.values, list(mine.status)) == (theirs.values, list(theirs.status))
    for name in ("run", "config", "seed", "env_steps"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    for name in ("final_return", "eval_return", "area_under_curve"):
        np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-4)
    for run in mine.run:
        assert_close(state_of(result, run).agent, state_of(expected, run).agent)


# --- a run of a sweep is the run it would have been alone -------------------------------------------------------------


@pytest.mark.parametrize("run", [0, 7])
def test_a_run_is_the_run_of_the_same_config_and_seed(serial, tmp_path, run):
    rate, gravity, seed = [(1e-3, 9.8, 0), None, None, None, None, None, None, (1e-2, 20.0, 3)][run]
    config = DQNConfig(learning_rate=rate, **DQN)
    summary = runs.start(Run("dqn", "CartPole-v1", config, {"gravity": gravity}, seed, **SHORT), tmp_path / "solo")
    assert_rows_close(rows_of(serial, run), solo_rows(tmp_path / "solo"))
    assert_close(state_of(serial, run), solo_state(tmp_path / "solo"))
    row = table(serial)[run]
    assert float(row["eval_return"]) == summary["evaluation"]["mean"]
    assert float(row["final_return"]) == pytest.approx(summary["training_return"]["mean"])
    assert (row["status"], row["env_steps"]) == ("ok", "80")


def test_vmap_gives_the_results_of_serial(serial, tmp_path):
    assert_same_results(dqn_sweep(tmp_path / "vmap", batching="vmap"), serial)


@pytest.mark.slow
def test_several_batches_give_the_results_of_one(serial, tmp_path):
    several = dqn_sweep(tmp_path / "sweep", memory_limit=serial.results.summary["peak_bytes"] * 3 // 8)
    assert several.results.summary["batches"] > 1
    assert_same_results(several, serial)


def test_two_devices_give_the_results_of_one(serial, tmp_path):
    program = f"""
import jax
from jaxrl.sweeps.api import sweep
result = sweep("dqn", "CartPole-v1", grid={{"learning_rate": [1e-3, 1e-2], "env.gravity": [9.8, 20.0]}}, seeds=[0, 3],
    batching="serial", out={str(tmp_path / "two")!r}, **{SHORT | DQN!r})
assert len(jax.devices()) == 2
"""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    run_python("-c", program, env=environment)
    assert_same_results(SweepResult(tmp_path / "two", read_results(tmp_path / "two")), serial)


# --- what is compiled, and what fits ----------------------------------------------------------------------------------


class Compiled(logging.Handler):
    """Names of the programs that XLA compiles, from JAX's own log."""

    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, entry):
        message = entry.getMessage()
        if message.startswith("Finished XLA compilation of"):
            self.names.append(message.split()[4])

    def __enter__(self):
        logging.getLogger("jax").addHandler(self)
        jax.config.update("jax_log_compiles", True)
        return self

    def __exit__(self, *error):
        jax.config.update("jax_log_compiles", False)
        logging.getLogger("jax").removeHandler(self)


def test_a_sweep_compiles_one_training_program_for_each_set_of_static_fields(tmp_path):
    grid = {"learning_rate": RATES[:3], "num_envs": [1, 2]}
    with Compiled() as compiled:
        result = table_sweep(tmp_path / "sweep", grid=grid, seeds=8, total_steps=64, num_rows=3)
    assert (result.results.summary["runs"], result.results.summary["groups"]) == (48, 2)
    assert result.results.summary["compilations"] == 2
    assert sum("advance" in name for name in compiled.names) == 2, compiled.names


def test_a_sweep_that_does_not_fit_at_once_finishes_in_batches_that_do(tmp_path):
    options = {"grid": {"learning_rate": RATES[:8]}, "seeds": 8, "total_steps": 60, "num_rows": 2}
    whole = table_sweep(tmp_path / "whole", **options)
    limit = whole.results.summary["peak_bytes"] * 20 // 64
    parts = table_sweep(tmp_path / "parts", **options, memory_limit=limit)
    done = [outcome for outcome in outcomes(parts) if outcome["runs"]]
    assert sorted(run for outcome in done for run in outcome["runs"]) == list(range(64))
    assert len(done) == parts.results.summary["batches"] >= 4
    assert max(len(outcome["runs"]) for outcome in done) <= 20
    assert max(outcome["bytes"] for outcome in done) == parts.results.summary["peak_bytes"] <= limit
    assert table(parts) == table(whole)
    assert (parts.folder / "curves.csv").read_bytes() == (whole.folder / "curves.csv").read_bytes()


def test_a_limit_below_the_smallest_batch_is_told_and_what_is_compiled(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.0)
    small = {"grid": {"learning_rate": RATES[:2]}, "total_steps": 20, "num_rows": 1}
    group = make_groups(read_sweep(table_sweep(tmp_path / "whole", **small).folder))[0]
    limit = num_bytes(group.shapes) + rollout_bytes(group.env.spec, group.schedule.rollout_length, group.config.num_envs)
    result = table_sweep(tmp_path / "sweep", **small, memory_limit=limit)
    assert [len(outcome["runs"]) for outcome in outcomes(result)] == [1, 1]
    peak, told = result.results.summary["peak_bytes"], capsys.readouterr().err
    assert told.count(f"memory_limit={limit} bytes is below the {peak} of the smallest batch") == 1
    assert (
        "compiling q_learning on gridworld/classic for 2 runs\n" in told and "evaluating 1 run, compiling if need be\n" in told
    )


# --- schedules --------------------------------------------------------------------------------------------------------


def score_after(result, run, env_steps):
    """Mean return of the training episodes, at most 100, that ended within so many env steps."""
    rows = [row for row in rows_of(result, run) if row["env_steps"] <= env_steps and row["episodes"]]
    episodes = sum(row["episodes"] for row in rows)
    assert episodes <= 100
    return sum(row["return_mean"] * row["episodes"] for row in rows) / episodes if episodes else -np.inf


def test_halving_stops_two_thirds_at_each_rung(rates, halved):
    first = sorted(range(9), key=lambda run: (-score_after(rates, run, 100), run))[:3]
    second = sorted(sorted(first), key=lambda run: -score_after(rates, run, 300))[:1]
    expected = ["900" if run in second else "300" if run in first else "100" for run in range(9)]
    assert [row["env_steps"] for row in table(halved)] == expected
    assert [row["status"] for row in table(halved)] == ["ok" if steps == "900" else "stopped" for steps in expected]
    assert [bool(row["eval_return"]) for row in table(halved)] == [steps == "900" for steps in expected]
    assert len(set(expected)) == 3


def test_a_run_of_halving_is_the_run_it_would_have_been(rates, halved):
    for run in range(9):
        mine, alone = rows_of(halved, run), rows_of(rates, run)
        assert mine == alone[: len(mine)]
    (survivor,) = (run for run, row in enumerate(table(halved)) if row["status"] == "ok")
    assert table(halved)[survivor] == table(rates)[survivor]
    assert_same_bits(state_of(halved, survivor), state_of(rates, survivor))


def test_halving_with_rows_further_apart_than_its_rungs_keeps_the_scores(rates, tmp_path):
    """Rungs of 100, 300 and 900 env steps and rows at 450 and 900: the first two rungs end together."""
    coarse = table_sweep(tmp_path / "sweep", schedule="halving", num_rows=2)
    assert sorted(row["env_steps"] for row in table(coarse)) == 8 * ["450"] + ["900"]
    assert all(row["final_return"] for row in table(coarse))
    best = max(table(coarse), key=lambda row: (row["env_steps"], row["final_return"]))
    after = {run: float(row["final_return"]) for run, row in enumerate(table(coarse)) if row["env_steps"] == "450"}
    state = state_of(coarse, int(best["run"]), rung=1)
    assert state.recent.returns[: int(state.recent.total)][-100:].mean() >= max(after.values())


def test_hyperband_runs_each_config_in_its_bracket(rates, tmp_path):
    result = table_sweep(tmp_path / "sweep", schedule=Schedule("hyperband", min_steps=100))
    whole = [run for run, row in enumerate(table(result)) if row["env_steps"] == "900"]
    assert {row["env_steps"] for row in table(result)} == {"100", "300", "900"}
    assert {len(units_of(result, run)) for run in range(9)} == {1, 2, 3}
    for run in whole:
        assert table(result)[run] == table(rates)[run]
    for run in range(9):
        mine = rows_of(result, run)
        assert mine == rows_of(rates, run)[: len(mine)]


def test_population_based_training_continues_from_the_state_that_it_copies(evolved):
    result, begun = evolved
    (_, first), (members, states), _ = begun
    assert first is None
    assert set(units_of(result, 0)) == set(units_of(result, 4))
    scores = [state_of(result, run, rung=0).recent for run in range(5)]
    scores = [float(recent.returns[: int(recent.total)].mean()) for recent in scores]
    worst, best = min(range(5), key=lambda run: (scores[run], -run)), max(range(5), key=lambda run: (scores[run], -run))
    for run in range(5):
        source = best if run == worst else run
        assert_same_bits(entry(states, run), state_of(result, source, rung=0))
    learning_rates = np.asarray(RATES[2:7])
    expected = learning_rates.copy()
    expected[worst] = learning_rates[best]
    ratios = members.config.learning_rate / expected
    np.testing.assert_allclose(np.delete(ratios, worst), 1.0, rtol=1e-6)
    assert np.isclose([ratios[worst]] * 3, [1.25, 0.8, 1.0 / learning_rates[best]]).any()


def test_population_based_training_reports_the_last_values(evolved):
    result, begun = evolved
    members, _ = begun[-1]
    assert [float(row["learning_rate"]) for row in table(result)] == pytest.approx(members.config.learning_rate.tolist())
    assert {row["env_steps"] for row in table(result)} == {"300"}
    assert [len(rows_of(result, run)) for run in range(5)] == 5 * [3]


def test_population_based_training_before_any_episode_ended_replaces_nobody(tmp_path):
    grid = {"learning_rate": [1e-3, 2e-3, 3e-3, 4e-3]}
    schedule = Schedule("pbt", pbt_steps=8)
    result = sweep(
        "dqn",
        "CartPole-v1",
        grid=grid,
        schedule=schedule,
        out=tmp_path / "sweep",
        total_steps=16,
        num_rows=2,
        eval_episodes=4,
        **DQN,
    )
    assert [float(row["learning_rate"]) for row in table(result)] == pytest.approx(grid["learning_rate"])


# --- single runs and results ------------------------------------------------------------------------------------------


def test_a_saved_run_is_the_folder_of_a_run_and_nothing_is_trained_for_it(serial, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "advance", None)
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.0)
    folder = serial.save(7, tmp_path / "run")
    told = capsys.readouterr().err
    assert "writing run 7 of" in told and "evaluating 4 episodes after 80 env steps, compiling if need be\n" in told
    assert "resuming" not in told and "compiling dqn" not in told
    assert read_run(folder) == Run("dqn", "CartPole-v1", DQNConfig(learning_rate=1e-2, **DQN), {"gravity": 20.0}, 3, **SHORT)
    assert solo_rows(folder) == rows_of(serial, 7)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["evaluation"]["mean"] == float(table(serial)[7]["eval_return"])
    assert trained.score(folder, 4, 0)["episodes"] == 4
    plot.plot_runs([folder], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_halving_stopped_goes_on_to_its_end_when_it_is_resumed(rates, halved, tmp_path):
    run = next(run for run, row in enumerate(table(halved)) if row["env_steps"] == "300")
    folder = halved.save(run, tmp_path / "run")
    assert not (folder / "summary.json").exists()
    assert len(solo_rows(folder)) == 3
    summary = runs.resume(folder)
    assert_rows_close(solo_rows(folder), rows_of(rates, run))
    assert_close(solo_state(folder), state_of(rates, run))
    assert summary["evaluation"]["mean"] == float(table(rates)[run]["eval_return"])
    assert summary["env_steps"] == 900


def test_a_run_of_population_based_training_is_saved_with_its_last_values(evolved, tmp_path):
    result, _ = evolved
    folder = result.save(0, tmp_path / "run")
    rate = read_run(folder).config.learning_rate
    assert rate == pytest.approx(float(table(result)[0]["learning_rate"]))
    assert_same_bits(solo_state(folder).agent, jax.tree.map(np.asarray, state_of(result, 0).agent))


@pytest.mark.parametrize(
    ("run", "message"), [(9, r"run=9 is out of range; give a run of .* in \[0, 8\]"), (-1, "run=-1 is out")]
)
def test_a_run_that_does_not_exist_is_refused(rates, tmp_path, run, message):
    with pytest.raises(UsageError, match=message):
        save_run(rates.folder, run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_saved_over_another(rates, tmp_path):
    folder = rates.save(0, tmp_path / "run")
    with pytest.raises(UsageError, match="already holds a run"):
        rates.save(1, folder)


def test_a_sweep_that_is_not_finished_has_no_runs_to_save(rates, tmp_path):
    (tmp_path / "sweep.json").write_bytes((rates.folder / "sweep.json").read_bytes())
    with pytest.raises(UsageError, match="is not finished; go on with: jaxrl resume"):
        save_run(tmp_path, 0, tmp_path / "run")


def test_the_best_run_has_the_highest_final_return(rates):
    returns = [float(row["final_return"]) for row in table(rates)]
    assert rates.best() == int(np.argmax(returns))


def test_without_a_return_none_is_the_best(rates):
    results = rates.results._replace(final_return=np.full(9, np.nan))
    with pytest.raises(UsageError, match="no run has a final return"):
        SweepResult(rates.folder, results).best()


def test_the_policy_of_a_run_is_greedy_in_its_table(rates):
    policy, values = rates.policy(3), np.asarray(state_of(rates, 3).agent.policy)
    np.testing.assert_array_equal(policy(np.arange(len(values))), values.argmax(axis=1))


def test_a_run_is_evaluated_from_its_folder(rates, tmp_path):
    found = rates.evaluate(8, num_episodes=6, seed=5)
    assert found["episodes"] == 6
    assert found == trained.score(rates.save(8, tmp_path / "run"), 6, 5)


def test_a_run_of_a_sweep_and_all_seeds_of_its_config_are_scored_where_they_are(rates, capsys):
    cli.main(["evaluate", str(rates.folder), "--run", "8", "--seeds", "--episodes", "6", "--seed", "5"])
    one, all_seeds = map(json.loads, capsys.readouterr().out.splitlines())
    assert one == {"run": 8, "config": 8, "seed": 0} | rates.evaluate(8, num_episodes=6, seed=5)
    assert all_seeds == {"config": 8, "seeds": 1, **dict.fromkeys(("mean", "low", "high"), one["mean"])}


def test_runs_are_chosen_by_number_as_the_best_and_with_all_seeds():
    folder = Path(__file__).resolve().parent.parent / "fixtures" / "stream1" / "sweep"
    assert [one.run for one in choose(folder, "3")] == [3]
    assert [(one.run, one.config, one.seed) for one in choose(folder, "3", all_seeds=True)] == [(2, 1, 0), (3, 1, 1)]
    returns = read_results(folder).final_return
    assert choose(folder)[0].run == int(np.argmax(returns))
    for text, words in (("4", "run=4 is out of range"), ("x", "run='x' is no whole number")):
        with pytest.raises(UsageError, match=words):
            choose(folder, text)


def test_the_same_sweep_in_the_same_folder_is_read_and_not_trained_again(rates, capsys, monkeypatch):
    monkeypatch.setattr(driver, "_train", None)
    again = table_sweep(rates.folder)
    assert "is complete; nothing to do" in capsys.readouterr().err
    np.testing.assert_array_equal(again.results.final_return, rates.results.final_return)


@pytest.mark.parametrize(
    "changes", [{"seeds": 2}, {"total_steps": 901}, {"gamma": 0.9}, {"grid": {"learning_rate": RATES[:8]}}]
)
def test_another_sweep_in_the_same_folder_is_refused(rates, changes):
    before = (rates.folder / "sweep.json").read_bytes()
    with pytest.raises(UsageError, match=r"holds another sweep \(.*\); give another folder"):
        table_sweep(rates.folder, **changes)
    assert (rates.folder / "sweep.json").read_bytes() == before


def test_a_sweep_leaves_its_tables_a_report_and_its_state(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "write_report", write_report)
    result = sweep("q_learning", "gridworld/classic", out=tmp_path / "sweep", total_steps=200, num_rows=2, eval_episodes=4)
    names = {"sweep.json", "results.csv", "curves.csv", "summary.json", "report.html", "state", LOCK}
    assert {path.name for path in result.folder.iterdir()} == names
    assert read_sweep(result.folder).config == load_agent("q_learning")[1]()
    assert [row["env_steps"] for row in csv.DictReader((result.folder / "curves.csv").open())] == ["100", "200"]


def test_checkpoints_of_a_finished_unit_are_whole(rates):
    for path in rates.folder.glob("state/*/checkpoints/*"):
        assert checkpoint.damage(path) is None


@pytest.mark.parametrize(
    ("variables", "setting"),
    [
        ({"JAX_NUM_CPU_DEVICES": "3"}, ""),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, ""),
        ({}, "jax.config.update('jax_num_cpu_devices', 3)"),
    ],
    ids=["variable", "flag", "script"],
)
def test_devices_that_the_user_has_set_are_kept(variables, setting):
    program = f"import jax\n{setting}\nfrom jaxrl.sweeps import api\napi.use_all_cores()\nprint(len(jax.devices()))"
    kept = {name: value for name, value in os.environ.items() if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    environment = kept | {"JAX_PLATFORMS": "cpu"} | variables
    assert run_python("-c", program, env=environment)[0] == "3\n"


def test_asking_for_other_devices_once_jax_has_started_is_refused():
    jax.devices()
    with pytest.raises(UsageError, match=f"devices=7, but JAX has started with {len(jax.devices())}"):
        api.use_all_cores(7)
