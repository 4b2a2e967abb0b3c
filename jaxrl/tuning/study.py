"""All that a hyperparameter search says to Optuna: sampler, pruner, and the trials of a study.

    study = open_study(tuning, open_storage("sqlite:///study.db"))
    work_on(study, study.ask(), lambda trial: train(suggest(trial, tuning)))
    best_trial(study)

A study is the list of trials in a database, which several processes may work on. A trial is RUNNING until its process tells how
it ended: COMPLETE or PRUNED. Where the process died, that of the same folder goes on with the trial (`begun_trial`), or others
that share the study take it for a FAIL (`fail_silent`), whose values wait in the queue for another try (`retry_failed`).
Another sampler or pruner is a branch of `_make_sampler` or `_make_pruner`, and a name in `jaxrl.tuning.definition`. Optuna is
imported inside the functions, since it is an extra.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from jaxrl.errors import UsageError
from jaxrl.fields import default_of, differing
from jaxrl.records.console import say
from jaxrl.tuning.definition import Tuning, choice_of, ends_of, is_int, labels_of, to_values
from jaxrl.tuning.storage import GRACE, HEARTBEAT, quiet

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
"""How a trial may end: Optuna's name and the one in `trials.csv`."""

_MOST_RETRIES = 3
"""How often a trial is trained again whose process died; its values may be what kills it."""
_NOT_COMPARED = (
    "num_trials",
    "storage",
    "study_name",
    "max_seconds",
    "checkpoint_seconds",
    "batching",
    "memory_limit",
    "command",
)
"""What processes that share a study may have different."""


def check_definition(tuning: Tuning, storage: Any) -> None:
    """Raises `UsageError` if the storage holds another study of that name."""
    import optuna

    name = _study_name(tuning)
    if name not in optuna.get_all_study_names(storage):
        return
    with quiet():
        study = optuna.load_study(study_name=name, storage=storage)
    theirs, ours = study.user_attrs.get("jaxrl"), _definition(tuning)
    if theirs is None and not study.get_trials(deepcopy=False):
        return
    known = {field.name: default_of(field) for field in dataclasses.fields(tuning)} | (theirs or {})
    others = [field for field in ours if known[field] != ours[field]]
    if others:
        field = others[0]
        other = differing(field, ours[field], theirs[field]) if theirs and field in theirs else "not of jaxrl"
        raise UsageError(f"study_name={name!r} in the storage is another search ({other}); give another study_name")


def _study_name(tuning: Tuning) -> str:
    return tuning.study_name or f"jaxrl {tuning.agent} {tuning.env}"


def _definition(tuning: Tuning) -> dict[str, Any]:
    """What all processes of a study must agree on."""
    values = json.loads(json.dumps(to_values(tuning)))
    return {name: value for name, value in values.items() if name not in (*_NOT_COMPARED, "versions", "device")}


def open_study(tuning: Tuning, storage: Any) -> Any:
    """The study of a search, a new one where the storage has none of its name."""
    import optuna

    study = optuna.create_study(
        storage=storage,
        study_name=_study_name(tuning),
        direction="maximize",
        pruner=_make_pruner(tuning),
        load_if_exists=True,
    )
    study.sampler = _make_sampler(tuning, study)
    if "jaxrl" not in study.user_attrs:
        study.set_user_attr("jaxrl", _definition(tuning))
    return study


def _make_pruner(tuning: Tuning) -> Any:
    """A pruner whose resource is the number of a rung, from 1."""
    from optuna import pruners

    if tuning.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=tuning.pruning_startup)
    if tuning.pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=tuning.reduction)
    if tuning.pruner == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=tuning.num_rungs, reduction_factor=tuning.reduction)
    return pruners.NopPruner()


def _make_sampler(tuning: Tuning, study: Any) -> Any:
    """A sampler that begins every trial with random numbers of the trial's place in the study.

    So a study that was interrupted goes on as it would have, and processes that share one do not propose the same.
    """
    from optuna import samplers

    def fresh(place: int) -> Any:
        seed = int(np.random.SeedSequence((tuning.sampler_seed, place)).generate_state(1)[0])
        if tuning.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed, n_startup_trials=tuning.sampler_startup, constant_liar=True)

    class PlacedSampler(samplers.BaseSampler):
        def __init__(self) -> None:
            self._inner = fresh(0)

        def before_trial(self, of: Any, trial: Any) -> None:
            self._inner = fresh(_place(study, trial.number))
            self._inner.before_trial(of, trial)

        def infer_relative_search_space(self, of: Any, trial: Any) -> Any:
            return self._inner.infer_relative_search_space(of, trial)

        def sample_relative(self, of: Any, trial: Any, search_space: Any) -> Any:
            return self._inner.sample_relative(of, trial, search_space)

        def sample_independent(self, of: Any, trial: Any, name: str, distribution: Any) -> Any:
            return self._inner.sample_independent(of, trial, name, distribution)

        def after_trial(self, of: Any, trial: Any, state: Any, values: Any) -> None:
            self._inner.after_trial(of, trial, state, values)

    return PlacedSampler()


def _place(study: Any, number: int) -> int:
    """How many trials before this one were not given up for another try."""
    return sum(trial.number < number and not (_failed(trial) and not _is_given_up(trial)) for trial in trials_of(study))


def trials_of(study: Any, *states: str) -> list[Any]:
    """All trials of a study, or those in some states, by number."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if not states or trial.state.name in states]


def best_trial(study: Any) -> Any:
    """The complete trial with the highest value, the first of equals; None if there is none."""
    return max(trials_of(study, "COMPLETE"), key=lambda trial: trial.value, default=None)


def is_over(tuning: Tuning, study: Any) -> bool:
    """True once enough trials have ended or one has reached `stop_value`."""
    best = best_trial(study)
    reached = best is not None and tuning.stop_value is not None and best.value >= tuning.stop_value
    return reached or len(trials_of(study, "COMPLETE", "PRUNED")) >= tuning.num_trials


def _failed(trial: Any) -> bool:
    return trial.state.name == "FAIL"


def _attempts(trial: Any) -> int:
    """Processes that worked on a trial since it last got further."""
    return int(trial.user_attrs.get("attempts", 0))


def _is_given_up(trial: Any) -> bool:
    return max(len(trial.system_attrs.get("retry_history", ())), _attempts(trial) - 1) >= _MOST_RETRIES


class SurplusError(Exception):
    """Processes that share a study began more trials than it lacks; this one is not trained."""


def is_surplus(tuning: Tuning, study: Any, trial: Any) -> bool:
    """True if the trials before this one are all that the study lacks, as processes that share it may begin too many."""
    return sum(other.number < trial.number and not _failed(other) for other in trials_of(study)) >= tuning.num_trials


def begun_trial(study: Any, worker: str, is_private: bool) -> Any:
    """A trial that the process of this folder began and did not end, to go on with; None if there is none.

    One at which processes died again and again without getting further has failed.
    """
    from optuna.trial import Trial

    for trial in _abandoned(study, worker, is_private):
        if (is_private or trial.user_attrs.get("worker") == worker) and _attempts(trial) <= _MOST_RETRIES:
            return Trial(study, trial._trial_id)
        _fail(study, trial)
    return None


def fail_abandoned(study: Any, worker: str, is_private: bool) -> None:
    """Marks trials as failed that still run although the process of this folder, which ran them, is dead."""
    for trial in _abandoned(study, worker, is_private):
        _fail(study, trial)


def _abandoned(study: Any, worker: str, is_private: bool) -> Iterator[Any]:
    for trial in trials_of(study, "RUNNING"):
        owner = trial.user_attrs.get("worker")
        age = time.time() - trial.datetime_start.timestamp()
        if is_private or owner == worker or (owner is None and age > GRACE):
            yield trial


def _fail(study: Any, trial: Any) -> None:
    from optuna.trial import TrialState

    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def work_on(study: Any, trial: Any, objective: Callable[[Any], float]) -> None:
    """Trains a trial and tells how it ended; one that is interrupted, by a signal or an error, runs on for `begun_trial`."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    with _signs_of_life(study, trial):
        try:
            value = objective(trial)
        except TrialPruned:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except SurplusError:
            _fail(study, trial)
        else:
            study.tell(trial, value, skip_if_finished=True)


@contextlib.contextmanager
def _signs_of_life(study: Any, trial: Any) -> Iterator[None]:
    """Tells the storage again and again that a trial is worked on."""
    is_over = threading.Event()

    def beat() -> None:
        study._storage.record_heartbeat(trial._trial_id)
        while not is_over.wait(HEARTBEAT):
            study._storage.record_heartbeat(trial._trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def fail_silent(study: Any) -> None:
    """Marks trials as failed whose process, wherever it was, has given no sign of life for long."""
    from optuna.storages import fail_stale_trials

    fail_stale_trials(study)


def retry_failed(tuning: Tuning, study: Any) -> None:
    """Puts the values of failed trials into the queue, unless they have failed too often.

    Where not all values had been proposed none is kept: the sampler proposes the same again.
    """
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    retry = RetryHeartbeatStaleTrialCallback(max_retry=_MOST_RETRIES)
    again = {number for trial in trials_of(study) for number in trial.system_attrs.get("retry_history", ())}
    for trial in trials_of(study, "FAIL"):
        if trial.number not in again and not trial.user_attrs.get("surplus") and not _is_given_up(trial):
            trial = copy.deepcopy(trial)  # The callback changes it.
            trial.user_attrs = {}
            if len(trial.params) < len(tuning.fields):
                trial.params, trial.distributions = {}, {}
            retry(study, trial)


def suggest(trial: Any, tuning: Tuning) -> dict[str, Any]:
    """The values of a trial."""
    point: dict[str, Any] = {}
    for name, values in tuning.choices.items():
        point[name] = choice_of(values, trial.suggest_categorical(name, labels_of(values)))
    for name, draw in tuning.draws.items():
        propose = trial.suggest_int if is_int(tuning, name) else trial.suggest_float
        point[name] = propose(name, *ends_of(tuning, name), log=draw.log)
    return point


def report(trial: Any, score: float, rung: int, tuning: Tuning) -> None:
    """Tells Optuna the score of a rung, and ends the trial before its last one if the pruner says so."""
    from optuna import TrialPruned

    trial.report(score, rung)
    if rung < tuning.num_rungs and trial.should_prune():
        raise TrialPruned


def prune(why: str) -> NoReturn:
    """Ends the trial that is being trained, and says why."""
    from optuna import TrialPruned

    say(why)
    raise TrialPruned


def point_of(trial: Any, tuning: Tuning) -> dict[str, Any]:
    """The values of a trial, of the types of their fields."""
    point = {name: trial.params[name] for name in tuning.fields if name in trial.params}
    return {name: choice_of(tuning.choices[name], value) if name in tuning.choices else value for name, value in point.items()}


def importances_of(study: Any) -> dict[str, float] | None:
    """How much each field matters for being among the best (PED-ANOVA, Watanabe et al. 2023); None of too little to tell."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = trials_of(study, "COMPLETE")
    if len({trial.value for trial in complete}) < 2 or len(complete[0].params) < 2:
        return None
    try:
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return None
    return {name: float(value) for name, value in found.items()} if all(map(math.isfinite, found.values())) else None
