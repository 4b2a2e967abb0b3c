"""Hyperparameter search: Optuna proposes values, a population of all seeds trains each proposal, poor ones end early.

    tuning = Tuning("q_learning", "gridworld/classic", config, draws={"learning_rate": Draw(1e-3, 1.0, log=True)})
    summary = tune(tuning, "runs/search")

A trial is one config with all seeds, the same seeds in every trial. It is cut into rungs; at the end of each it reports the
interquartile mean over seeds of the mean return of the last training episodes, and the pruner decides whether it goes on.
Trials that differ in traced fields alone share one compiled program. Read `_search`, then `_objective`, then `_Trainer.rungs`.

What a search leaves behind: `tune.json` (everything that defines it: `jaxrl.tuning.definition`), `study.db` (Optuna's storage,
unless `storage` names another: `jaxrl.tuning.study`), and `trials.csv`, `curves.csv`, `summary.json` and `history.png`
(`jaxrl.tuning.results`). After SIGKILL at any moment `resume` trains the trial that was interrupted again and goes on;
what it finds is what an undisturbed search finds, since a trial's random numbers come from its place in the study and not from
the process (but for halving and Hyperband, where the interrupted trial's reports and number still count). Several processes,
each with a folder of its own, may share a storage.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.analysis.results import show_value
from jaxrl.analysis.stats import interquartile_mean
from jaxrl.drivers.evaluate import summarize
from jaxrl.drivers.memory import batch_limit
from jaxrl.errors import UsageError
from jaxrl.loop import Plan, recent_return, row_ends
from jaxrl.records.console import say
from jaxrl.records.files import write_json
from jaxrl.records.folders import alone, check_places, new_folder
from jaxrl.runs.definition import follow_stream, read_values
from jaxrl.startup import process_begun
from jaxrl.sweeps import batch as batches
from jaxrl.sweeps.batch import Batch
from jaxrl.sweeps.plan import Group, configure, make_groups
from jaxrl.sweeps.population import EnvParams, make_members
from jaxrl.sweeps.unit import DoesNotFitError, Worker
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
from jaxrl.tuning.study import (
    STATES,
    best_trial,
    check_definition,
    fail_abandoned,
    fail_silent,
    is_over,
    is_surplus,
    open_own_storage,
    open_storage,
    open_study,
    prune,
    quiet,
    report,
    retry_failed,
    storage_errors,
    suggest,
    trials_of,
)


def tune(tuning: Tuning, folder: str | Path, notice: str = "") -> dict[str, Any]:
    """Searches in the new folder `folder` and returns the summary.

    Args:
      notice: a line to say once everything has been checked.

    Raises:
      UsageError: bad input; nothing was written.
    """
    folder = Path(folder)
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
        return _search(tuning, folder)


def resume(folder: str | Path) -> dict[str, Any]:
    """Goes on with a search that was interrupted or ran out of time, and writes its tables again.

    Raises:
      UsageError: no search there, its storage is gone, or another process works on it.
    """
    folder = Path(folder)
    check_package()
    tuning = read_tuning(folder)
    check_tuning(tuning)
    if tuning.storage is not None:
        check_definition(tuning, open_storage(tuning.storage))
    check_places(folder, ("study.db", "trials.csv", "curves.csv", "summary.json", "history.png"))
    with alone(folder):  # So a trial of the folder that still runs must be of a dead process.
        follow_stream(Tuning, folder)
        return _search(tuning, folder)


def _search(tuning: Tuning, folder: Path) -> dict[str, Any]:
    """Trains trials until the search is over or out of time, then writes its results."""
    begun, worker = process_begun(), str(read_values(Tuning, folder).get("worker"))
    with quiet(), storage_errors(tuning.storage or str(folder / "study.db")):
        study = open_study(tuning, open_own_storage(tuning, folder))
        fail_abandoned(study, worker, tuning.storage is None)
        trainer = _Trainer(tuning, folder)
        objective = _objective(tuning, study, trainer, worker)
        if names := static_fields(tuning):
            say(f"another value of {', '.join(names)} may be another program to compile")
        while True:
            fail_silent(study)
            retry_failed(tuning, study)
            if is_over(tuning, study) or time.perf_counter() - begun >= (tuning.max_seconds or math.inf):
                break
            if len(trials_of(study, "COMPLETE", "PRUNED", "RUNNING")) >= tuning.num_trials:
                time.sleep(1.0)  # Another process trains the last ones, and this one takes over should it die.
                continue
            study.optimize(objective, n_trials=1, catch=(_SurplusError,))
            _say_last(tuning, study, worker)
            write_trials(folder / "trials.csv", tuning, study)
        return write_results(tuning, study, folder, time.perf_counter() - begun)


class _SurplusError(Exception):
    """Processes that share a study began more trials than it lacks; this one is not trained."""


def _objective(tuning: Tuning, study: Any, trainer: _Trainer, worker: str) -> Callable[[Any], float]:
    """What Optuna maximizes."""

    def objective(trial: Any) -> float:
        trial.set_user_attr("worker", worker)
        if is_surplus(tuning, study, trial):
            trial.set_user_attr("surplus", True)
            raise _SurplusError
        begun, compiled, env_steps = time.perf_counter(), trainer.worker.compilations, 0
        point = suggest(trial, tuning)
        try:
            for rung in trainer.rungs(point):
                env_steps = rung.env_steps
                _report(trial, rung, tuning)
            final = rung.scores if tuning.objective == "training" else trainer.evaluate(rung)
            return _final(trial, final)
        except (UsageError, DoesNotFitError) as error:
            what = "all seeds together do not fit into the memory" if isinstance(error, DoesNotFitError) else str(error)
            if not static_fields(tuning):
                raise UsageError(f"seeds={tuning.seeds}: {what}; give fewer seeds") from None
            prune(f"trial {trial.number} cannot be trained: {what}")
        finally:
            trial.set_user_attr("env_steps", env_steps)
            trial.set_user_attr("compilations", trainer.worker.compilations - compiled)
            trial.set_user_attr("seconds", round(time.perf_counter() - begun, 3))

    return objective


def _report(trial: Any, rung: _Rung, tuning: Tuning) -> None:
    """Tells Optuna the score of a rung; ends the trial if the pruner says so, or if a NaN settles its score."""
    score = _score(rung.scores)
    if score is None:
        return
    if score == -math.inf:
        prune(f"trial {trial.number} became NaN")
    env_steps = rung.batch.iteration * rung.plan.steps_per_iteration
    trial.set_user_attr("curve", [*trial.user_attrs.get("curve", ()), (env_steps, score)])
    report(trial, score, rung.number, tuning)


def _final(trial: Any, scores: Sequence[float | None]) -> float:
    """The value of a trial that trained to the end; a seed in which no episode ended is as bad as a NaN."""
    value = _score([-math.inf if score is None else score for score in scores])
    if value is None or value == -math.inf:
        prune(f"trial {trial.number} has no value: a run became NaN, or no episode of it ended")
    return value


class _Rung(NamedTuple):
    """How the runs of a trial stand at the end of a rung.

    Attributes:
      number: from 1.
      env_steps: that all runs have done together.
      scores: of each run the mean return of its last training episodes, -inf if it became NaN, None if no episode ended.
      batch: the runs.
      plan: of each of them.
      num_episodes: of an evaluation.
    """

    number: int
    env_steps: int
    scores: tuple[float | None, ...]
    batch: Batch
    plan: Plan
    num_episodes: int


class _Trainer:
    """Trains points of the search space, with programs that serve all trials they fit.

    Attributes:
      worker: keeps and counts the compiled programs.
    """

    def __init__(self, tuning: Tuning, folder: Path) -> None:
        self.tuning, self.sweep = tuning, as_sweep(tuning)
        self._groups: list[Group] = []
        self._points: list[dict[str, Any]] = []
        self._alike: dict[Any, list[int]] = {}
        self.worker = Worker(self.sweep, self._groups, folder, tuning.memory_limit or batch_limit())

    def rungs(self, point: dict[str, Any]) -> Iterator[_Rung]:
        """Trains a point with all seeds, rung by rung, until no run is left.

        Raises:
          UsageError: fields that do not go together.
          DoesNotFitError: too many seeds for the memory.
        """
        group, params = self._group(point)
        schedule, seeds = self._groups[group].schedule, self.tuning.seeds
        num_devices = len(jax.devices())
        population = self.worker.population(group, -(-len(seeds) // num_devices) * num_devices)
        config, _ = configure(self.sweep, point)
        members, shared = make_members(seeds, [config] * len(seeds), [params] * len(seeds), population.varies)
        batch = batches.load(population, members, shared, None, range(len(seeds)), 0)
        scores: list[float | None] = [None] * len(seeds)
        env_steps = 0
        for number, end in enumerate(row_ends(schedule.num_iterations, self.tuning.num_rungs), 1):
            begin = batch.iteration
            batch, sums = batches.advance(batch, schedule, end)
            env_steps += (end - begin) * schedule.steps_per_iteration * len(batch.living)
            gone = [run for run, is_nan in zip(batch.living, sums["nan"], strict=True) if is_nan]
            for run, score in zip(batch.living, _recent_returns(batch), strict=True):
                scores[run] = -math.inf if run in gone else score
            if gone:
                batch = batches.stop(batch, gone, lambda capacity: self.worker.population(group, capacity))
            yield _Rung(number, env_steps, tuple(scores), batch, schedule, self._groups[group].num_episodes)
            if not batch.living:
                return

    def evaluate(self, rung: _Rung) -> tuple[float | None, ...]:
        """Of each run the mean greedy return; scores of a run that became NaN stay."""
        scores, living = list(rung.scores), rung.batch.living
        found = batches.evaluate(rung.batch, rung.plan, living, rung.num_episodes) if living else ()
        for run, episodes in zip(living, found, strict=True):
            scores[run] = summarize(episodes)["mean"]
        return tuple(scores)

    def _group(self, point: dict[str, Any]) -> tuple[int, EnvParams]:
        """Index of the group whose program trains a point, a new one if none does, and the point's own params."""
        alike = self._alike.setdefault(jax.tree.structure(configure(self.sweep, point)[0]), [])
        groups = make_groups(as_sweep(self.tuning, *(self._points[index] for index in alike), point))
        found = next(group for group in groups if len(alike) in group.configs)
        params = found.params[found.configs.index(len(alike))]
        if found.configs[0] < len(alike):
            return alike[found.configs[0]], params
        alike.append(len(self._groups))
        self._groups.append(found)
        self._points.append(point)
        return alike[-1], params


def _recent_returns(batch: Batch) -> list[float | None]:
    """Of each living run the mean return of its last training episodes, None where that is no number."""
    means, _ = recent_return(batch.states.recent)
    return [float(mean) if np.isfinite(mean) else None for mean in means[batch.rows[list(batch.living)]]]


def _score(scores: Sequence[float | None]) -> float | None:
    """Interquartile mean over the seeds that have a score."""
    known = [score for score in scores if score is not None]
    return float(interquartile_mean(np.array(known))) if known else None


def _say_last(tuning: Tuning, study: Any, worker: str) -> None:
    """A line about the last trial of this process."""
    trial = [trial for trial in trials_of(study) if trial.user_attrs.get("worker") == worker][-1]
    best, done = best_trial(study), len(trials_of(study, "COMPLETE", "PRUNED"))
    value = "" if trial.value is None else f" {trial.value:.4g}"
    leader = "" if best is None else f"; best {best.value:.4g} of trial {best.number}"
    values = ", ".join(f"{name} {show_value(value)}" for name, value in trial.params.items())
    if not trial.user_attrs.get("surplus"):
        say(f"{done} of {tuning.num_trials}: trial {trial.number} {STATES[trial.state.name]}{value} ({values}){leader}")
