"""All that a hyperparameter search says to Optuna: storage, sampler, pruner, and the trials of a study.

    study = open_study(tuning, open_storage("sqlite:///study.db"))
    study.optimize(lambda trial: train(suggest(trial, tuning)), n_trials=1)
    best_trial(study)

A study is the list of trials in a database, which several processes may work on. A trial is RUNNING until its process tells how
it ended: COMPLETE, PRUNED, or FAIL where the process died (`fail_abandoned`, `fail_silent`); the values of a failed one wait
in the queue for another try (`retry_failed`). Another sampler or pruner is a branch of `_make_sampler` or `_make_pruner`, and
a name in `jaxrl.tuning.definition`. Optuna is imported inside the functions, since it is an extra.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from jaxrl.errors import DiskError, UsageError, one_line
from jaxrl.fields import default_of, differing
from jaxrl.records.console import say
from jaxrl.tuning.definition import Tuning, choice_of, ends_of, is_int, labels_of, to_values

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
"""How a trial may end: Optuna's name and the one in `trials.csv`."""

_HEARTBEAT, _GRACE = 20, 120
"""Seconds between signs of life of a trial, and without one until another process takes it for dead."""
_NUM_OPENINGS = 5
_MOST_RETRIES = 3
"""How often a trial is trained again whose process died; its values may be what kills it."""
_NOT_COMPARED = ("num_trials", "storage", "study_name", "max_seconds", "batching", "memory_limit", "command")
"""What processes that share a study may have different."""


def open_own_storage(tuning: Tuning, folder: Path) -> Any:
    """The database of a search.

    Raises:
      UsageError: it cannot be opened, or is lost.
    """
    if tuning.storage is not None:
        return open_storage(tuning.storage)
    file = folder / "study.db"
    if (folder / "trials.csv").exists() and not (file.exists() and file.stat().st_size):
        raise UsageError(f"{file}, where the trials of this search are, is missing or empty; search again in another folder")
    return open_storage("sqlite:///study.db", file)


def open_storage(url: str, file: Path | None = None) -> Any:
    """The database of a URL, made where it does not exist.

    Args:
      file: that the database of SQLite is, whatever its name; a URL could not hold every name.

    Raises:
      UsageError: it cannot be opened; a password in the URL is not shown.
    """
    from optuna.storages import RDBStorage

    arguments: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    shown, fix = f"storage={_hide_password(url)!r}", "give a URL such as sqlite:///FILE or postgresql://HOST/NAME"
    if file is not None:
        arguments = {"creator": lambda: sqlite3.connect(file, timeout=60, check_same_thread=False)}
        shown, fix = str(file), f"the search has to be made again; its trials are in {file.parent / 'trials.csv'}"
    for attempt in range(_NUM_OPENINGS):
        try:
            with quiet():
                return RDBStorage(url, engine_kwargs=arguments, heartbeat_interval=_HEARTBEAT, grace_period=_GRACE)
        except Exception as error:  # Every database driver has errors of its own.
            what = _hide_password(" ".join(str(error).split())[:200])
            if attempt + 1 == _NUM_OPENINGS or not re.search("exists|unique|locked", what, re.IGNORECASE):
                raise UsageError(f"{shown} cannot be opened ({what}); {fix}") from None
        time.sleep(0.5)  # Another process makes the tables at this moment.
    raise AssertionError("unreachable")


@contextlib.contextmanager
def storage_errors(shown: str) -> Iterator[None]:
    """Raises what a database says while it is used as one line: `DiskError`."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        what = _hide_password(one_line(error)[:200])
        raise DiskError(f"{shown} cannot be read or written ({what})") from error


def _hide_password(text: str) -> str:
    return re.sub(r"(://[^:@/\s]*):[^@\s]*@", r"\1:***@", text)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing of its own."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


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
    return sum(trial.number < number and not (_failed(trial) and _retries(trial) < _MOST_RETRIES) for trial in trials_of(study))


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


def _retries(trial: Any) -> int:
    return len(trial.system_attrs.get("retry_history", ()))


def is_surplus(tuning: Tuning, study: Any, trial: Any) -> bool:
    """True if the trials before this one are all that the study lacks, as processes that share it may begin too many."""
    return sum(other.number < trial.number and not _failed(other) for other in trials_of(study)) >= tuning.num_trials


def fail_abandoned(study: Any, worker: str, is_private: bool) -> None:
    """Marks trials as failed that still run although the process of this folder, which ran them, is dead."""
    from optuna.trial import TrialState

    for trial in trials_of(study, "RUNNING"):
        owner = trial.user_attrs.get("worker")
        age = time.time() - trial.datetime_start.timestamp()
        if is_private or owner == worker or (owner is None and age > _GRACE):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


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
        if trial.number not in again and not trial.user_attrs.get("surplus"):
            trial = copy.deepcopy(trial)  # The callback changes it.
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
