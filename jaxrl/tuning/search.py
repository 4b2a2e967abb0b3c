"""Hyperparameter search: Optuna proposes values, a population of all seeds trains each proposal, poor ones end early.

    tuning = Tuning("q_learning", "gridworld/classic", config, draws={"learning_rate": Draw(1e-3, 1.0, log=True)})
    summary = tune(tuning, "runs/search")

A trial is one config with all seeds, the same seeds in every trial. It is cut into rungs; at the end of each it reports the
interquartile mean over seeds of the mean return of the last training episodes, and the pruner decides whether it goes on.
Trials that differ in traced fields alone share one compiled program. Read `_train_trials`, `_objective` and `_Trainer.task`.

What a search leaves behind: `tune.json` (everything that defines it: `jaxrl.tuning.definition`), `study.db` (Optuna's storage,
unless `storage` names another: `jaxrl.tuning.study`), and `trials.csv`, `curves.csv`, `summary.json` and `history.png`
(`jaxrl.tuning.results`). Under `state/` the present trial has its checkpoints until it ends: after an interrupt or SIGKILL at
any moment `resume` goes on from the last one. It finds what an undisturbed search finds, since a trial's random numbers come
from its place in the study and not from the process. Several processes, each with a folder of its own, may share a storage.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.analysis.results import show_value
from jaxrl.analysis.stats import interquartile_mean
from jaxrl.drivers.memory import batch_limit
from jaxrl.errors import UsageError
from jaxrl.interrupts import held_back
from jaxrl.records.console import doing, number_of, say
from jaxrl.records.files import write_json
from jaxrl.records.folders import alone, check_places, new_folder
from jaxrl.records.stopwatch import Stopwatch, kept_seconds
from jaxrl.runs.definition import follow_stream, read_values
from jaxrl.startup import process_begun
from jaxrl.sweeps.outcome import NAN, unit_folder
from jaxrl.sweeps.plan import Group, configure, make_groups
from jaxrl.sweeps.population import EnvParams
from jaxrl.sweeps.task import Task
from jaxrl.sweeps.unit import DoesNotFitError, ProgressCallback, Unit, Worker
from jaxrl.tuning.definition import (
    Tuning,
    as_sweep,
    check_package,
    check_trainable,
    check_tuning,
    read_tuning,
    static_fields,
    to_values,
)
from jaxrl.tuning.results import write_results, write_trials
from jaxrl.tuning.storage import open_own_storage, open_storage, quiet, storage_errors
from jaxrl.tuning.study import (
    STATES,
    SurplusError,
    begun_trial,
    best_trial,
    check_definition,
    fail_abandoned,
    fail_silent,
    is_over,
    is_surplus,
    open_study,
    prune,
    report,
    retry_failed,
    suggest,
    trials_of,
    work_on,
)


def tune(tuning: Tuning, folder: str | Path, notice: str = "") -> dict[str, Any]:
    """Searches in the new folder `folder` and returns the summary.

    Args:
      notice: a line to say once everything has been checked.

    Raises:
      UsageError: bad input; nothing was written.
    """
    begun, folder = process_begun(), Path(folder)
    check_package()
    check_tuning(tuning)
    check_trainable(tuning)
    if tuning.storage is not None:
        check_definition(tuning, open_storage(tuning.storage))
    with new_folder(folder, tuning.what, tuning.file):
        write_json(folder / tuning.file, to_values(tuning) | {"worker": uuid.uuid4().hex})
        if tuning.storage is not None and "@" in tuning.storage:
            (folder / tuning.file).chmod(0o600)  # The URL may hold a password.
        if notice:
            say(notice)
        return _search(tuning, folder, begun)


def resume(folder: str | Path) -> dict[str, Any]:
    """Goes on with a search that was interrupted or ran out of time, and writes its tables again.

    Raises:
      UsageError: no search there, its storage is gone, or another process works on it.
    """
    begun, folder = process_begun(), Path(folder)
    check_package()
    tuning = read_tuning(folder)
    check_tuning(tuning)
    if tuning.storage is not None:
        check_definition(tuning, open_storage(tuning.storage))
    check_places(
        folder, ("study.db", "trials.csv", "curves.csv", "summary.json", "history.png", "state/seconds.json"), ("state",)
    )
    with alone(folder):  # So a trial of the folder that still runs must be of a dead process.
        follow_stream(Tuning, folder)
        return _search(tuning, folder, begun)


def _search(tuning: Tuning, folder: Path, begun: float) -> dict[str, Any]:
    """Trains trials until the search is over or out of time, then writes its results."""
    worker, clock = str(read_values(Tuning, folder).get("worker")), folder / "state" / "seconds.json"
    watch = Stopwatch(begun, kept_seconds(clock))
    with quiet(), storage_errors(tuning.storage or str(folder / "study.db")), contextlib.closing(watch):
        study = open_study(tuning, open_own_storage(tuning, folder))
        say(f"{number_of(tuning.num_trials, 'trial')} of {number_of(len(tuning.seeds), 'seed')} in {folder}")
        if names := static_fields(tuning):
            say(f"another value of {', '.join(names)} may be another program to compile")
        try:
            with held_back() as interrupted:
                trainer = _Trainer(tuning, folder, interrupted, lambda *_: watch.keep(clock, tuning.checkpoint_seconds))
                end = begun + (tuning.max_seconds or math.inf)
                _train_trials(tuning, study, folder, worker, trainer, watch, end)
            return write_results(tuning, study, folder, worker, watch)
        finally:
            watch.keep(clock)


def _train_trials(
    tuning: Tuning, study: Any, folder: Path, worker: str, trainer: _Trainer, watch: Stopwatch, end: float
) -> None:
    """Trains trials until the search is over or out of time.

    Args:
      end: when it is, as of `time.perf_counter`.

    Raises:
      KeyboardInterrupt: there was an interrupt, and the present trial is saved.
    """
    is_private, objective = tuning.storage is None, _objective(tuning, study, trainer, worker)
    while True:
        if is_over(tuning, study):
            fail_abandoned(study, worker, is_private)
            return
        if time.perf_counter() >= end:
            return
        if trainer.worker.interrupted():
            raise KeyboardInterrupt
        trial = begun_trial(study, worker, is_private)
        if trial is None:
            fail_silent(study)
            retry_failed(tuning, study)
            if len(trials_of(study, "COMPLETE", "PRUNED", "RUNNING")) >= tuning.num_trials:
                time.sleep(1.0)  # Another process trains the last ones, and this one takes over should it die.
                continue
            trial = study.ask()
        watch.lap("prepare")
        work_on(study, trial, objective)
        watch.lap("training", whole=True)
        shutil.rmtree(trainer.folder_of(trial.number), ignore_errors=True)
        _say_ended(tuning, study, trial.number)
        write_trials(folder / "trials.csv", tuning, study)
        watch.lap("saving")


def _objective(tuning: Tuning, study: Any, trainer: _Trainer, worker: str) -> Callable[[Any], float]:
    """What Optuna maximizes."""

    def objective(trial: Any) -> float:
        before, compiled = trial.user_attrs, trainer.worker.compilations
        trial.set_user_attr("worker", worker)
        if is_surplus(tuning, study, trial):
            trial.set_user_attr("surplus", True)
            raise SurplusError
        trial.set_user_attr("attempts", before.get("attempts", 0) + 1)
        point, task = suggest(trial, tuning), None
        shown = ", ".join(f"{name} {show_value(value)}" for name, value in point.items())
        try:
            with contextlib.closing(trainer.task(trial.number, point)) as task:
                with doing(f"training trial {trial.number} ({shown})", elsewhere=False):
                    for rung in task.rows():
                        _report(trial, rung, task, tuning)
                if tuning.objective == "evaluation":
                    task.evaluate()
                return _final(trial, _scores(task, tuning.objective))
        except (UsageError, DoesNotFitError) as error:
            what = "all seeds together do not fit into the memory" if isinstance(error, DoesNotFitError) else str(error)
            if not static_fields(tuning):
                raise UsageError(f"seeds={tuning.seeds}: {what}; give fewer seeds") from None
            prune(f"trial {trial.number} cannot be trained: {what}")
        except KeyboardInterrupt:
            trial.set_user_attr("attempts", before.get("attempts", 0))
            raise
        finally:
            trial.set_user_attr("env_steps", sum(report.env_steps for report in task.reports) if task else 0)
            trial.set_user_attr("compilations", before.get("compilations", 0) + trainer.worker.compilations - compiled)
            trial.set_user_attr("parts", task.watch.seconds if task else {})
            trial.set_user_attr("seconds", round(task.watch.wall, 3) if task else 0.0)

    return objective


def _report(trial: Any, rung: int, task: Task, tuning: Tuning) -> None:
    """Tells Optuna the score of a rung; ends the trial if the pruner says so, or if a NaN settles its score."""
    score = _score(_scores(task, "training"))
    if score is None:
        return
    if score == -math.inf:
        prune(f"trial {trial.number} became NaN")
    env_steps, curve = task.batch.iteration * task.schedule.steps_per_iteration, trial.user_attrs.get("curve", ())
    told = [steps for steps, _ in curve]
    if env_steps in told[:-1]:
        return  # By a process before this one, and the trial went on.
    if env_steps not in told:
        trial.set_user_attr("curve", [*curve, (env_steps, score)])
        if trial.user_attrs["attempts"] > 1:
            trial.set_user_attr("attempts", 1)
    report(trial, score, rung, tuning)


def _scores(task: Task, objective: str) -> list[float | None]:
    """Of each run of a trial the mean return of its last training episodes, or of greedy ones; -inf if it became NaN."""
    scores = [report.final_return if objective == "training" else report.eval_return for report in task.reports]
    return [-math.inf if report.status == NAN else score for report, score in zip(task.reports, scores, strict=True)]


def _final(trial: Any, scores: Sequence[float | None]) -> float:
    """The value of a trial that trained to the end; a seed in which no episode ended is as bad as a NaN."""
    value = _score([-math.inf if score is None else score for score in scores])
    if value is None or value == -math.inf:
        prune(f"trial {trial.number} has no value: a run became NaN, or no episode of it ended")
    return value


class _Trainer:
    """Trains points of the search space, with programs that serve all trials they fit.

    Attributes:
      worker: keeps and counts the compiled programs.
    """

    def __init__(self, tuning: Tuning, folder: Path, interrupted: Callable[[], bool], progress: ProgressCallback) -> None:
        self.tuning, self.progress = tuning, progress
        self._groups: list[Group] = []
        self._points: list[dict[str, Any]] = []
        self._alike: dict[Any, list[int]] = {}
        self.worker = Worker(as_sweep(tuning), self._groups, folder, tuning.memory_limit or batch_limit(), interrupted)

    def folder_of(self, number: int) -> Path:
        """Where a trial keeps its checkpoints until it ends."""
        return unit_folder(self.worker.folder, f"trial{number}")

    def task(self, number: int, point: dict[str, Any]) -> Task:
        """A point with all seeds, to be trained rung by rung.

        Raises:
          UsageError: fields that do not go together.
        """
        index, params = self._group(point)
        # All runs of the trial are of one config, the first.
        group = self._groups[index] = self._groups[index]._replace(configs=(0,), params=(params,))
        self.worker.sweep = as_sweep(self.tuning, point)
        num_runs, num_devices = len(self.tuning.seeds), len(jax.devices())
        unit = Unit(
            name=self.folder_of(number).name,
            group=index,
            runs=tuple(range(num_runs)),
            values=(point,) * num_runs,
            sources=None,
            begin=0,
            end=group.schedule.num_iterations,
            capacity=-(-num_runs // num_devices) * num_devices,
            is_last=True,
        )
        return Task(self.worker, unit, self.progress)

    def _group(self, point: dict[str, Any]) -> tuple[int, EnvParams]:
        """Index of the group whose program trains a point, a new one if none does, and the point's own params."""
        alike = self._alike.setdefault(jax.tree.structure(configure(self.worker.sweep, point)[0]), [])
        groups = make_groups(as_sweep(self.tuning, *(self._points[index] for index in alike), point))
        found = next(group for group in groups if len(alike) in group.configs)
        params = found.params[found.configs.index(len(alike))]
        if found.configs[0] < len(alike):
            return alike[found.configs[0]], params
        alike.append(len(self._groups))
        self._groups.append(found)
        self._points.append(point)
        return alike[-1], params


def _score(scores: Sequence[float | None]) -> float | None:
    """Interquartile mean over the seeds that have a score."""
    known = [score for score in scores if score is not None]
    return float(interquartile_mean(np.array(known))) if known else None


def _say_ended(tuning: Tuning, study: Any, number: int) -> None:
    """A line about a trial."""
    trial = next(trial for trial in trials_of(study) if trial.number == number)
    best, done = best_trial(study), len(trials_of(study, "COMPLETE", "PRUNED"))
    value = "" if trial.value is None else f" {trial.value:.4g}"
    leader = "" if best is None else f"; best {best.value:.4g} of trial {best.number}"
    values = ", ".join(f"{name} {show_value(value)}" for name, value in trial.params.items())
    if not trial.user_attrs.get("surplus"):
        say(f"{done} of {tuning.num_trials}: trial {trial.number} {STATES[trial.state.name]}{value} ({values}){leader}")
