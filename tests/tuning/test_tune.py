"""`jaxrl tune`: trials, pruning, shared programs, what survives SIGKILL, and messages."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.util
import json
import shlex
import signal
import threading
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optuna
import pytest

from helpers import assert_parts_add_up, run_python, slow_but
from jaxrl.agents.tabular.q_learning import make_q_learning
from jaxrl.agents.tabular.table import TabularConfig
from jaxrl.analysis.learned import read_learned
from jaxrl.cli import commands as cli
from jaxrl.config import config, static, traced
from jaxrl.errors import UsageError
from jaxrl.records import checkpoint
from jaxrl.records.folders import alone
from jaxrl.runs.definition import Run, read_run
from jaxrl.sweeps import batch as batches
from jaxrl.sweeps.space import Draw
from jaxrl.tuning import results as tune_results
from jaxrl.tuning import search as tune_module
from jaxrl.tuning import storage as storage_module
from jaxrl.tuning import study as study_module
from jaxrl.tuning.definition import labels_of, read_tuning
from jaxrl.tuning.results import take_trial, train_command
from jaxrl.tuning.search import Tuning, resume, tune
from jaxrl.types import Agent, Array, Progress, Rollout, Spec

RATES = {"learning_rate": Draw(1e-6, 1.0, log=True)}
TINY = Tuning(
    agent="q_learning",
    env="gridworld/classic",
    config=TabularConfig(num_envs=2, exploration_fraction=0.3),
    draws=RATES,
    num_trials=10,
    seeds=(0, 1),
    total_steps=2000,
    num_rungs=5,
    pruning_startup=2,
    sampler_startup=4,
)
FULL_STEPS = len(TINY.seeds) * TINY.total_steps
FULL_STEPS_PER_ITERATION = FULL_STEPS // 1000

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.append("..")
import test_tune
from jaxrl.tuning import search as tune

report = tune._report

def deadly(trial, rung, *others):
    report(trial, rung, *others)
    if trial.number == 4 and rung == 1:
        os.kill(os.getpid(), signal.SIGKILL)

tune._report = deadly
tune.tune(test_tune.TINY, Path(sys.argv[1]))
"""


@config
class FragileConfig(TabularConfig):
    """Q-learning that breaks where it learns fast."""

    learning_rate: float = traced(0.1, "Above 0.1 the table becomes NaN.", low=0.0)
    fast: bool = static(False, "Doubles the learning rate.")

    def check(self) -> None:
        if self.fast and self.num_envs > 1:
            raise UsageError(f"num_envs={self.num_envs} does not go with fast; give 1")


def make_fragile(config: FragileConfig, spec: Spec, model: Any = None) -> Agent:
    agent = make_q_learning(config, spec, model)

    def update(key: Array, state: Any, rollout: Rollout, progress: Progress) -> tuple[Any, dict[str, Array]]:
        state, metrics = agent.update(key, state, rollout, progress)
        return state._replace(policy=jnp.where(config.learning_rate > 0.1, jnp.nan, state.policy)), metrics

    return agent._replace(update=update)


FRAGILE = dataclasses.replace(TINY, agent="test_tune:make_fragile", config=FragileConfig(), pruner="none", sampler="random")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def found_by(folder: Path) -> list[tuple[str, ...]]:
    """What a search found, without clocks."""
    return [tuple(value for name, value in row.items() if name != "seconds") for row in rows_of(folder)]


def states_of(url: str) -> list[str]:
    (name,) = optuna.get_all_study_names(url)
    return [trial.state.name for trial in optuna.load_study(study_name=name, storage=url).trials]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An undisturbed search."""
    folder = tmp_path_factory.mktemp("tune") / "search"
    return folder, tune(TINY, folder)


Searched = tuple[Path, dict[str, Any]]


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take time; the search above draws one, and what is called `draw` below."""
    monkeypatch.setattr(tune_results, "_draw", lambda *_: None)


draw = tune_results._draw


@pytest.mark.slow
def test_the_best_trial_of_a_search_is_taken_as_a_run(searched: Searched, tmp_path: Path, capsys: Any) -> None:
    """It learns what it learned in the search, and the others can be taken by number."""
    folder, summary = searched
    cli.main(["take", str(folder), "best", "--out", str(tmp_path / "best")])
    run = read_run(tmp_path / "best")
    assert run.config.learning_rate == pytest.approx(summary["best_params"]["learning_rate"])  # type: ignore[attr-defined]
    assert (run.seed, run.total_steps) == (TINY.seeds[0], TINY.total_steps)
    assert str(tmp_path / "best") in capsys.readouterr().out
    with pytest.raises(UsageError, match="run=99 is no trial"):
        take_trial(folder, "99", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_search_holds_the_curve_of_every_trial(searched: Searched) -> None:
    """A trial reports five times; the last report of one that is not pruned is its value."""
    learned = read_learned(searched[0])
    assert [len(run.curve) for run in learned] == [int(row["env_steps"]) * 5 // FULL_STEPS for row in rows_of(searched[0])]
    for run, row in zip(learned, rows_of(searched[0]), strict=True):
        assert run.fields["learning_rate"] == pytest.approx(float(row["learning_rate"]))
        if row["state"] == "complete":
            assert run.curve[-1].tolist() == pytest.approx([TINY.total_steps, float(row["value"])])


def test_the_best_trial_lies_where_learning_works(searched: Searched) -> None:
    """The uniformly random policy has -18.4 and at best -1 a step is paid over 2 steps or so; tiny rates stay at random."""
    _, summary = searched
    assert summary["best_params"]["learning_rate"] > 0.01
    values = {float(row["learning_rate"]): float(row["value"]) for row in rows_of(searched[0])}
    slow = [value for rate, value in values.items() if rate < 1e-4]
    assert slow and max(slow) < -15.0 and summary["best_value"] > -10.0
    assert summary["best_value"] == pytest.approx(max(values.values()))


def test_trials_of_traced_fields_compile_once(searched: Searched) -> None:
    assert searched[1]["compilations"] == 1


def test_a_pruned_trial_ends_early(searched: Searched) -> None:
    rows = rows_of(searched[0])
    pruned = [int(row["env_steps"]) for row in rows if row["state"] == "pruned"]
    assert pruned and max(pruned) < FULL_STEPS
    assert {int(row["env_steps"]) for row in rows if row["state"] == "complete"} == {FULL_STEPS}
    assert searched[1]["env_steps"] == sum(int(row["env_steps"]) for row in rows)


def test_the_folder_says_everything(searched: Searched) -> None:
    folder, summary = searched
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        *("tune.json", "study.db", "trials.csv", "curves.csv", "summary.json", "history.png", "state"),
    }
    assert [path.name for path in (folder / "state").iterdir()] == ["seconds.json"]
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert sum(summary["trials"].values()) == len(rows_of(folder)) == TINY.num_trials and summary["is_over"]
    assert read_tuning(folder) == TINY


def test_the_value_is_the_mean_of_the_last_training_episodes(searched: Searched) -> None:
    """The same config trained as runs of a sweep, whose final return is that mean; two seeds have a plain mean."""
    from jaxrl.analysis.results import read_results
    from jaxrl.sweeps.driver import start
    from jaxrl.sweeps.plan import Sweep

    folder, summary = searched
    swept = Sweep(
        agent=TINY.agent, env=TINY.env, config=TINY.config, fields=("learning_rate",), configs=(summary["best_params"],)
    )
    swept = dataclasses.replace(swept, seeds=TINY.seeds, total_steps=TINY.total_steps, num_rows=5, eval_episodes=2)
    start(swept, folder.parent / "sweep")
    assert summary["best_value"] == pytest.approx(np.mean(read_results(folder.parent / "sweep").final_return), rel=1e-6)


def test_the_parts_of_a_search_add_up_to_its_wall_clock(searched: Searched) -> None:
    """Nothing is evaluated: the objective is the return of training."""
    assert_parts_add_up(searched[1], without=("evaluation",))
    assert searched[1]["trial_seconds"] < searched[1]["wall_seconds"]


def test_a_search_with_the_same_seed_finds_the_same_after_sigkill(searched: Searched, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    run_python("-c", KILLED, str(folder), code=-signal.SIGKILL, cwd=Path(__file__).parent)
    url = f"sqlite:///{folder / 'study.db'}"
    assert states_of(url).count("RUNNING") == 1 and not (folder / "summary.json").exists()
    summary = resume(folder)
    assert states_of(url).count("RUNNING") == states_of(url).count("WAITING") == 0
    assert summary["trials"] == searched[1]["trials"]
    assert found_by(folder) == found_by(searched[0])


def interrupt(patch: pytest.MonkeyPatch, trial: int, iteration: int) -> None:
    """Lets a signal come once that trial has done so many iterations, at the end of a stretch."""
    advance, noted, begun = batches.advance, [], []

    def noting(batch: Any, plan: Any, end: int, *others: Any) -> Any:
        begun.extend([end] * (batch.iteration == 0))
        noted.extend([end] * (len(begun) == trial + 1 and end >= iteration))
        return advance(batch, plan, end, *others)

    patch.setattr(batches, "advance", noting)
    patch.setattr(tune_module, "held_back", lambda: contextlib.nullcontext(lambda: bool(noted)))


def iterations_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Iterations of all trials that going on with a search takes."""
    advance, done = batches.advance, []

    def counting(batch: Any, plan: Any, end: int, *others: Any) -> Any:
        done.append(end - batch.iteration)
        return advance(batch, plan, end, *others)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "advance", counting)
        resume(folder)
    return sum(done)


@pytest.mark.parametrize("pruner", slow_but(["median"], ["median", "halving", "hyperband"]))
def test_an_interrupted_search_goes_on_amid_a_trial_and_finds_what_it_would_have(
    pruner: str, searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when the fourth trial has done some of the 200 iterations of its first rung."""
    num_trials, undisturbed = (5, searched[0]) if pruner == "median" else (10, tmp_path / "undisturbed")
    tuning = dataclasses.replace(TINY, pruner=pruner, num_trials=num_trials)
    if pruner != "median":
        tune(tuning, undisturbed)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, trial=3, iteration=2)
        tune(tuning, tmp_path / "out")
    [iteration] = checkpoint.iterations(tmp_path / "out" / "state" / "trial3" / "checkpoints")
    assert 1 < iteration < 200
    resumed = iterations_done(tmp_path / "out", monkeypatch)
    assert found_by(tmp_path / "out") == found_by(undisturbed)[:num_trials]
    curves = (tmp_path / "out" / "curves.csv").read_text()
    assert curves and (undisturbed / "curves.csv").read_text().startswith(curves)
    rest = sum(int(row["env_steps"]) for row in rows_of(undisturbed)[3:num_trials]) // FULL_STEPS_PER_ITERATION
    assert resumed == rest - iteration
    assert not list((tmp_path / "out" / "state").glob("trial*"))


def test_a_search_killed_after_a_checkpoint_goes_on_from_there(
    searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SIGKILL would, an error that nobody handles ends the process amid the fourth rung of the first trial."""
    report = tune_module._report

    def deadly(trial: Any, rung: int, *others: Any) -> None:
        if rung == 4:
            raise MemoryError
        report(trial, rung, *others)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(tune_module, "_report", deadly)
        tune(dataclasses.replace(TINY, checkpoint_seconds=0.0, num_trials=1), tmp_path / "out")
    assert checkpoint.iterations(tmp_path / "out" / "state" / "trial0" / "checkpoints") == [600, 400, 200]
    assert iterations_done(tmp_path / "out", monkeypatch) == 400
    assert found_by(tmp_path / "out") == found_by(searched[0])[:1]


def test_a_trial_that_kills_its_process_again_and_again_without_getting_further_is_given_up(tmp_path: Path) -> None:
    """It is begun four times; one that gets further, or is interrupted, may be begun more often."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", direction="maximize")
    begun = study.ask()
    begun.set_user_attr("worker", "here")
    for attempts in (1, 3):
        begun.set_user_attr("attempts", attempts)
        assert study_module.begun_trial(study, "here", False).number == 0
        assert study_module.begun_trial(study, "elsewhere", False) is None
    begun.set_user_attr("attempts", 4)
    assert study_module.begun_trial(study, "here", False) is None
    study_module.retry_failed(TINY, study)
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


def test_another_sampler_seed_finds_something_else(searched: Searched, tmp_path: Path) -> None:
    tune(dataclasses.replace(TINY, sampler_seed=1, num_trials=1), tmp_path / "other")
    assert found_by(tmp_path / "other")[0] != found_by(searched[0])[0]


def test_resuming_what_is_over_trains_nothing(searched: Searched) -> None:
    before = (searched[0] / "trials.csv").read_text()
    assert resume(searched[0])["compilations"] == searched[1]["compilations"]
    assert (searched[0] / "trials.csv").read_text() == before


def test_a_budget_ends_a_search_that_resume_goes_on_with(tmp_path: Path) -> None:
    short = dataclasses.replace(TINY, num_trials=2, max_seconds=1e-9)
    assert tune(short, tmp_path / "out")["is_over"] is False and rows_of(tmp_path / "out") == []
    path = tmp_path / "out" / "tune.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_seconds": None}))
    assert resume(tmp_path / "out")["trials"]["complete"] == 2


def test_a_value_to_stop_at_ends_a_search(tmp_path: Path, capsys: Any) -> None:
    summary = tune(dataclasses.replace(TINY, stop_value=-1000.0), tmp_path / "out")
    assert summary["trials"] == {"complete": 1, "pruned": 0, "failed": 0} and summary["is_over"]
    told = f"{TINY.num_trials} trials of {len(TINY.seeds)} seeds in {tmp_path / 'out'}\n"
    assert capsys.readouterr().err.startswith(told)


def test_each_static_value_compiles_once_and_physics_not_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_results, "_draw", draw)
    choices = {"rollout_length": (1, 2), "env.slip": (0.1, 0.3), "average": (False,)}
    summary = tune(
        dataclasses.replace(TINY, choices=choices, num_trials=8, sampler="random", pruner="none"),
        tmp_path / "out",
    )
    lengths = {row["rollout_length"] for row in rows_of(tmp_path / "out")}
    assert lengths == {"1", "2"} and {row["env.slip"] for row in rows_of(tmp_path / "out")} == {"0.1", "0.3"}
    assert summary["compilations"] == 2
    assert set(summary["importances"]) == {*choices, "learning_rate"}
    assert (tmp_path / "out" / "history.png").stat().st_size > 10_000


def test_a_trial_that_becomes_nan_ends_at_once_and_is_never_the_best(tmp_path: Path) -> None:
    tuning = dataclasses.replace(FRAGILE, draws={"learning_rate": Draw(0.02, 0.18)}, num_trials=6)
    summary = tune(tuning, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    broken = [row for row in rows if float(row["learning_rate"]) > 0.1]
    assert 0 < len(broken) < 6 and summary["best_params"]["learning_rate"] <= 0.1
    assert {(row["state"], row["value"], int(row["env_steps"])) for row in broken} == {("pruned", "", FULL_STEPS // 5)}
    assert {row["state"] for row in rows if row not in broken} == {"complete"}


def test_values_that_do_not_go_together_are_pruned_untrained(tmp_path: Path) -> None:
    fixed = FragileConfig(num_envs=2)
    tuning = dataclasses.replace(FRAGILE, config=fixed, draws={}, choices={"fast": (True, False)}, num_trials=6)
    tune(tuning, tmp_path / "out")
    ends = {(row["fast"], row["state"], row["env_steps"]) for row in rows_of(tmp_path / "out")}
    assert ends == {("true", "pruned", "0"), ("false", "complete", str(FULL_STEPS))}


def test_seeds_that_do_not_fit_the_memory_are_named(tmp_path: Path) -> None:
    """One run needs far less than its program, whose share of the limit is known when it is compiled."""
    many = dataclasses.replace(TINY, seeds=tuple(range(8)), memory_limit=10_000)
    with pytest.raises(UsageError, match="all seeds together do not fit into the memory; give fewer seeds"):
        tune(many, tmp_path / "out")


def test_greedy_episodes_can_be_the_objective(tmp_path: Path) -> None:
    """Training explores to the end, so the greedy return of the same trial is higher."""
    rate = {"learning_rate": Draw(0.5, 0.51)}
    tuning = dataclasses.replace(TINY, draws=rate, num_trials=1, eval_episodes=20)
    values = [
        tune(dataclasses.replace(tuning, objective=objective), tmp_path / objective)["best_value"]
        for objective in ("training", "evaluation")
    ]
    assert values[1] > values[0]


@pytest.mark.parametrize("pruner", ["halving", "hyperband"])
def test_every_pruner_prunes(pruner: str, tmp_path: Path) -> None:
    summary = tune(dataclasses.replace(TINY, pruner=pruner, reduction=2, num_trials=12, sampler="random"), tmp_path / "out")
    assert summary["trials"]["pruned"] > 0 and summary["trials"]["complete"] > 0


def test_a_study_from_before_an_option_existed_has_its_default(tmp_path: Path) -> None:
    storage = storage_module.open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    study = study_module.open_study(TINY, storage)
    older = {name: value for name, value in study.user_attrs["jaxrl"].items() if name != "reduction"}
    study.set_user_attr("jaxrl", older)
    study_module.check_definition(TINY, storage)
    with pytest.raises(UsageError, match="is another search"):
        study_module.check_definition(dataclasses.replace(TINY, reduction=2), storage)


def test_processes_share_a_storage(tmp_path: Path) -> None:
    """Two searches side by side, with a folder each, do the trials of one."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    shared = dataclasses.replace(TINY, storage=url, num_trials=9)
    summaries: dict[str, dict[str, Any]] = {}

    def work(name: str) -> None:
        summaries[name] = tune(shared, tmp_path / name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = [state for state in states_of(url) if state in ("COMPLETE", "PRUNED")]
    assert len(ended) == 9 and "RUNNING" not in states_of(url)
    assert summaries["a"]["best_value"] == summaries["b"]["best_value"]
    rates = [row["learning_rate"] for row in rows_of(tmp_path / "a") if row["state"] != "failed"]
    assert len(set(rates)) == 9
    with pytest.raises(UsageError, match=r"is another search \(total_steps=2000\); give another study_name"):
        tune(dataclasses.replace(shared, total_steps=3000), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_trial_of_a_dead_process_elsewhere_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "GRACE", 1)
    monkeypatch.setattr(storage_module, "HEARTBEAT", 1)
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    shared = dataclasses.replace(TINY, storage=url, num_trials=2)
    tune(dataclasses.replace(shared, num_trials=1), tmp_path / "a")
    (name,) = optuna.get_all_study_names(url)
    storage = optuna.storages.RDBStorage(url)
    trial = optuna.load_study(study_name=name, storage=storage).ask()
    trial.suggest_float("learning_rate", 1e-6, 1.0, log=True)
    trial.set_user_attr("worker", "of another machine")
    storage.record_heartbeat(trial._trial_id)
    time.sleep(2.5)
    summary = tune(shared, tmp_path / "b")
    assert summary["trials"]["failed"] == 1 and summary["trials"]["complete"] == 2
    assert float(rows_of(tmp_path / "b")[-1]["learning_rate"]) == pytest.approx(trial.params["learning_rate"], rel=1e-6)


def test_values_that_kill_the_process_are_given_up(tmp_path: Path) -> None:
    """Such a trial is tried four times in all; the next trial has other values."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", direction="maximize")
    study.sampler = study_module._make_sampler(TINY, study)
    for _ in range(5):
        with study_module.quiet():
            study_module.retry_failed(TINY, study)
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-6, 1.0, log=True)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    rates = [trial.params["learning_rate"] for trial in study.trials]
    assert len(set(rates[:4])) == 1 and rates[4] != rates[0]


def test_the_command_trains_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `jaxrl train` makes of the command is the searched config."""
    from jaxrl.runs import train as runs

    given: list[Any] = []

    def start(run: Run, *_: Any) -> None:
        given.append(run)
        raise SystemExit(0)

    monkeypatch.setattr(runs, "start", start)
    handler = signal.getsignal(signal.SIGTERM)
    from jaxrl.agents.value.dqn import DQNConfig

    options = {"gravity": 12.5, "fast": True, "size": (3, 4), "mode": None}
    tuning = Tuning("dqn", "CartPole-v1", DQNConfig(), env_options=options, total_steps=1000, eval_episodes=7, seeds=(3,))
    point = {
        "hidden": (32, 16),
        "learning_rate": 1.2345678901234e-5,
        "double": False,
        "env.length": 0.75,
        "max_grad_norm": None,
    }
    command = train_command(tuning, point)
    with pytest.raises(SystemExit):
        cli.main(shlex.split(command)[1:])
    signal.signal(signal.SIGTERM, handler)
    fields = {name: value for name, value in point.items() if not name.startswith("env.")}
    assert given[0].config == dataclasses.replace(DQNConfig(), **fields)
    assert given[0].env_options == options | {"length": 0.75}
    assert (given[0].total_steps, given[0].eval_episodes, given[0].seed, given[0].env) == (1000, 7, 3, "CartPole-v1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draws": {}}, "nothing to search; give .* or values such as --choice gamma=0.9,0.99"),
        ({"num_trials": 0}, "num_trials=0 is out of range; give a value in .1, 1000000."),
        ({"num_rungs": 0}, "num_rungs=0 is out of range"),
        ({"pruner": "best"}, "pruner='best' is unknown; choose one of median"),
        ({"sampler": "best"}, "sampler='best' is unknown; choose one of tpe"),
        ({"objective": "best"}, "objective='best' is unknown"),
        ({"choices": {"learning_rate": (0.1,)}}, "field 'learning_rate' has both choices and a draw"),
        ({"draws": {}, "choices": {"gamma": ()}}, "choices of 'gamma' are none"),
        ({"draws": {"learning_rate": Draw(0.1, 2.0)}}, "learning_rate=2.0 is out of range"),
        ({"draws": {"learning_rat": Draw(0.1, 2.0)}}, "unknown field 'learning_rat'"),
        ({"draws": {"num_envs": Draw(1.2, 1.8)}}, "holds no whole number"),
        ({"draws": {"gamma": Draw(0.0, 1.0, log=True)}}, "is no range"),
        ({"choices": {"average": (True, 3)}}, "average=3 must be of type bool"),
        ({"choices": {"env.slop": (0.1,)}}, "'slop'; did you mean slip"),
        ({"env": "gridworld/none"}, "none"),
        ({"seeds": (1, 1)}, "not all different"),
        ({"total_steps": 0}, "total_steps=0 is out of range"),
        ({"storage": "nowhere"}, "storage='nowhere' cannot be opened"),
        ({"storage": "sqlite:////nowhere/at/all.db"}, "cannot be opened"),
        ({"storage": "mongo://me:secret@host/name"}, r"storage='mongo://me:\*\*\*@host/name' cannot be opened"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as error:
        tune(dataclasses.replace(TINY, **changes), tmp_path / "out")
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--choice", "gamma"], "choice='gamma' is not FIELD=VALUES"),
        (["--choice", "gamma=0.9", "--choice", "gamma=0.8"], "choice: field 'gamma' is given twice"),
        (["--draw", "average=uniform:0:1"], "average is not a number; put its values into the choices"),
    ],
)
def test_messages_name_the_options_of_the_command(
    option: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxrl.cli.sweeps.use_all_cores", lambda _: None)
    monkeypatch.setattr("jaxrl.cli.options.guarded", lambda job, _: job())
    with pytest.raises(SystemExit):
        cli.main(["tune", "q_learning", "--env", "gridworld/classic", *option, "--out", str(tmp_path / "out")])
    output = "".join(capsys.readouterr())
    assert message in output and "grid:" not in output and "grid=" not in output
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "optuna" else find(name, *rest))
    with pytest.raises(UsageError, match=r"needs the package optuna; pip install 'jaxrl\[tune\]'"):
        tune(TINY, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_are_guarded(searched: Searched, tmp_path: Path) -> None:
    folder, _ = searched
    with pytest.raises(UsageError, match=f"already holds a search; give another folder, or go on with: jaxrl resume {folder}"):
        tune(TINY, folder)
    with pytest.raises(UsageError, match="holds no search"):
        resume(tmp_path)
    with alone(folder), pytest.raises(UsageError, match="is worked on by process"):
        resume(folder)


def test_a_tuple_travels_as_text() -> None:
    assert labels_of([(64, 64), (32,), None, "relu", 3, 0.5, True]) == ["64x64", "32", None, "relu", 3, 0.5, True]


def test_a_single_seed_that_never_ends_an_episode_is_not_yet_bad() -> None:
    """Interquartile mean of known scores by hand; whole quarters are cut, so of four the middle two remain."""
    assert tune_module._score([None, None]) is None
    assert tune_module._score([None, 3.0]) == 3.0
    assert tune_module._score([1.0, 2.0, -jnp.inf]) == -jnp.inf
    assert tune_module._score([-jnp.inf, 1.0, 2.0, 9.0]) == 1.5
