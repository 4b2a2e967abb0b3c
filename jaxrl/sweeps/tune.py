"""Hyperparameter search: Optuna proposes values, a population of all seeds trains each proposal, poor ones end early.

    tuning = Tuning("q_learning", "gridworld/classic", config, draws={"learning_rate": Draw(1e-3, 1.0, log=True)})
    summary = tune(tuning, Path("runs/search"))

A trial is one config with all seeds, the same seeds in every trial. It is cut into rungs; at the end of each it reports the
interquartile mean over seeds of the mean return of the last training episodes, and the pruner decides whether it goes on.
Trials that differ in traced fields alone share one compiled program.

What a search leaves behind: `tune.json` (everything that defines it), `study.db` (Optuna's storage, unless `storage` names
another), `trials.csv`, `summary.json` and `history.png`. After SIGKILL at any moment `resume` trains the trial that was
interrupted again and goes on; what it finds is what an undisturbed search finds, since a trial's random numbers come from its
place in the study and not from the process (but for halving and Hyperband, where the interrupted trial's reports and number
still count). Several processes, each with a folder of its own, may share a storage.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import importlib.metadata
import importlib.util
import io
import json
import math
import re
import shlex
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import record
from jaxrl.agents import load_agent
from jaxrl.config import Config, check_config, field_types, from_json, to_json
from jaxrl.evaluate import summarize
from jaxrl.loop import NUM_RECENT
from jaxrl.plot import save_figure
from jaxrl.run import claim_folder, versions
from jaxrl.stats import interquartile_mean
from jaxrl.sweeps import batch as batches
from jaxrl.sweeps.batch import Batch
from jaxrl.sweeps.plan import ENV_PREFIX, Draw, Group, Sweep, configure, env_params, make_groups, memory_limit
from jaxrl.sweeps.population import make_members
from jaxrl.sweeps.results import format_value, show_value
from jaxrl.sweeps.unit import DoesNotFitError, Worker, row_ends
from jaxrl.types import UsageError

PRUNERS = ("median", "halving", "hyperband", "none")
SAMPLERS = ("tpe", "random")
OBJECTIVES = ("training", "evaluation")

_HEARTBEAT, _GRACE = 20, 120
"""Seconds between signs of life of a trial, and without one until another process takes it for dead."""
_NUM_OPENINGS = 5
_MOST_RETRIES = 3
"""How often a trial is trained again whose process died; its values may be what kills it."""
_NUM_TRIED = 20
"""Random points of a search space of which one must be trainable."""
_PLAIN = (str, int, float, bool, type(None))
"""What Optuna stores as a categorical value; others are stored as text."""
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Everything that defines a search.

    Attributes:
      agent, env, env_options, total_steps, eval_episodes: as of a `jaxrl.Run`, the same for every run.
      config: the fields that are not searched.
      draws: ranges of searched numbers; `env.NAME` is an option of the environment.
      choices: values of searched fields.
      num_trials: that end, complete or pruned, over all processes.
      seeds: of the runs of each trial.
      num_rungs: how often a trial reports; the pruners count in rungs.
      objective: `training`, the mean return of the last training episodes, or `evaluation`, that of greedy episodes; of
        either the interquartile mean over seeds. Rungs report the former.
      pruner: `median` (Golovin et al. 2017), `halving` (ASHA, Li et al. 2020), `hyperband` (Li et al. 2018) or `none`.
      reduction: halving and Hyperband keep one trial in so many at each rung (eta).
      pruning_startup: complete trials before the median prunes.
      sampler: `tpe` (Bergstra et al. 2011) or `random`.
      sampler_startup: random trials before TPE has a model.
      sampler_seed: of the proposals.
      storage: URL of a database; None is `study.db` in the folder.
      study_name: in the storage; None derives it from agent and environment.
      max_seconds: wall-clock seconds after which this process begins no further trial.
      stop_value: no further trial begins once one has reached it.
      batching, memory_limit: as of a `Sweep`.
      command: what the user typed.
    """

    agent: str
    env: str
    config: Config
    draws: Mapping[str, Draw] = dataclasses.field(default_factory=dict)
    choices: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_trials: int = 50
    seeds: tuple[int, ...] = (0, 1, 2)
    total_steps: int = 500_000
    num_rungs: int = 10
    objective: str = "training"
    eval_episodes: int = 100
    pruner: str = "median"
    reduction: int = 3
    pruning_startup: int = 5
    sampler: str = "tpe"
    sampler_startup: int = 10
    sampler_seed: int = 0
    storage: str | None = None
    study_name: str | None = None
    max_seconds: float | None = None
    stop_value: float | None = None
    batching: str = "auto"
    memory_limit: int | None = None
    command: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what is searched."""
        return (*self.choices, *self.draws)


_NOT_COMPARED = ("num_trials", "storage", "study_name", "max_seconds", "batching", "memory_limit", "command")
"""What processes that share a study may have different."""


# --- starting and resuming ------------------------------------------------------------------------------------------


def tune(tuning: Tuning, folder: Path) -> dict[str, Any]:
    """Searches in the new folder `folder` and returns the summary.

    Raises:
      UsageError: bad input; nothing was written.
    """
    _check_package()
    _check_tuning(tuning)
    _check_trainable(tuning)
    if (folder / "tune.json").exists():
        raise UsageError(f"out={folder} already holds a search; give another folder, or go on with: jaxrl resume {folder}")
    if tuning.storage is not None:
        _check_definition(tuning, _open_storage(tuning.storage))
    claim_folder(folder)
    record.write_json(folder / "tune.json", to_values(tuning) | {"worker": uuid.uuid4().hex})
    if tuning.storage is not None and "@" in tuning.storage:
        (folder / "tune.json").chmod(0o600)  # The URL may hold a password.
    return _search(tuning, folder)


def resume(folder: Path) -> dict[str, Any]:
    """Goes on with a search that was interrupted or ran out of time, and writes its tables again.

    Raises:
      UsageError: no search there, its storage is gone, or another process works on it.
    """
    _check_package()
    tuning = read_tuning(folder)
    _check_tuning(tuning)
    if tuning.storage is not None:
        _check_definition(tuning, _open_storage(tuning.storage))
    return _search(tuning, folder)


def to_values(tuning: Tuning) -> dict[str, Any]:
    """What `tune.json` holds."""
    values = {field.name: getattr(tuning, field.name) for field in dataclasses.fields(tuning)}
    values |= {"config": to_json(tuning.config), "draws": {name: draw._asdict() for name, draw in tuning.draws.items()}}
    values |= {"choices": {name: list(choices) for name, choices in tuning.choices.items()}}
    used = versions() | {"optuna": importlib.metadata.version("optuna")}
    return values | {"versions": used, "device": jax.devices()[0].device_kind}


def read_tuning(folder: Path) -> Tuning:
    """The search that a folder's `tune.json` describes.

    Raises:
      UsageError: no search there, or one of another version of jaxrl.
    """
    values = _read(folder)
    try:
        _, config_class = load_agent(values["agent"])
        known = {field.name for field in dataclasses.fields(Tuning)}
        given = {name: value for name, value in values.items() if name in known}
        given["config"] = from_json(config_class, values["config"])
        given["draws"] = {name: Draw(**draw) for name, draw in values["draws"].items()}
        given["choices"] = {name: tuple(map(_plain, items)) for name, items in values["choices"].items()}
        given["seeds"] = tuple(values["seeds"])
        return Tuning(**given)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder / 'tune.json'} is not what `jaxrl tune` wrote ({error!r}); give another folder") from None


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "tune.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no search (no tune.json); give a folder that `jaxrl tune` wrote") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give the folder of another search") from None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Makes this the only process on a folder, so that a trial of the folder that still runs must be of a dead one."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"another process works on {folder}; wait for its end, or share a storage from another folder"
            ) from None
        yield


# --- checks ---------------------------------------------------------------------------------------------------------


def _check_package() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("the search for hyperparameters needs the package optuna; pip install 'jaxrl[tune]'")


def _check_tuning(tuning: Tuning) -> None:
    for name, low in (
        ("num_trials", 1),
        ("num_rungs", 1),
        ("reduction", 2),
        ("pruning_startup", 0),
        ("sampler_startup", 1),
        ("sampler_seed", 0),
    ):
        if getattr(tuning, name) < low:
            raise UsageError(f"{name}={getattr(tuning, name)} is out of range; give at least {low}")
    for name, known in (("pruner", PRUNERS), ("sampler", SAMPLERS), ("objective", OBJECTIVES)):
        if getattr(tuning, name) not in known:
            raise UsageError(f"{name}={getattr(tuning, name)!r} is unknown; choose one of {', '.join(known)}")
    if tuning.max_seconds is not None and not tuning.max_seconds > 0:
        raise UsageError(f"max_seconds={tuning.max_seconds} is out of range; give seconds above 0")
    if tuning.stop_value is not None and not math.isfinite(tuning.stop_value):
        raise UsageError(f"stop_value={tuning.stop_value} is not a finite number; give one")
    if not tuning.fields:
        raise UsageError("there is nothing to search; give a range such as --draw learning_rate=log:1e-5:1e-2, or a --grid")
    for name in tuning.draws:
        if name in tuning.choices:
            raise UsageError(f"field {name!r} is both in the grid and drawn; choose one")
    for name, values in tuning.choices.items():
        if not values or len(set(map(repr, _labels(values)))) < len(values):
            raise UsageError(f"choices of {name!r} are none or not all different: {values!r}; give different ones")


def _check_trainable(tuning: Tuning) -> None:
    """Each end of a range and each choice must fit its field, and some point of the space must be trainable.

    Raises:
      UsageError: what does not fit.
    """
    declared = field_types(type(tuning.config))
    alone = type("Alone", (type(tuning.config),), {"check": lambda self: None})  # Rules between fields depend on the others.
    for name in tuning.fields:
        if name in tuning.draws:
            _check_draw(tuning, name, declared.get(name, float))
        for value in tuning.choices.get(name, ()) or _ends(tuning, name):
            if name in declared:
                check_config(alone(**{**vars(tuning.config), name: value}))
    rng, errors = np.random.default_rng(tuning.sampler_seed), []
    for _ in range(_NUM_TRIED):
        try:
            make_groups(_sweep(tuning, _random_point(tuning, rng)))
            return
        except UsageError as error:
            errors.append(error)
    raise errors[0]


def _check_draw(tuning: Tuning, name: str, kind: Any) -> None:
    draw = tuning.draws[name]
    if kind not in (int, float):
        raise UsageError(f"draw of {name!r}: it is not a number; give its values as choices")
    if not -math.inf < draw.low < draw.high < math.inf or (draw.log and draw.low <= 0):
        raise UsageError(f"draw of {name!r}: {tuple(draw)} is no range; give LOW < HIGH, above 0 where it is logarithmic")
    if kind is int and math.ceil(draw.low) > math.floor(draw.high):
        raise UsageError(f"draw of {name!r}: {tuple(draw)} holds no whole number; give a wider range")


def _ends(tuning: Tuning, name: str) -> tuple[float, float] | tuple[int, int]:
    draw = tuning.draws[name]
    return (math.ceil(draw.low), math.floor(draw.high)) if _is_int(tuning, name) else (draw.low, draw.high)


def _is_int(tuning: Tuning, name: str) -> bool:
    return field_types(type(tuning.config)).get(name) is int


def _random_point(tuning: Tuning, rng: np.random.Generator) -> dict[str, Any]:
    point = {name: values[int(rng.integers(len(values)))] for name, values in tuning.choices.items()}
    for name in tuning.draws:
        low, high = _ends(tuning, name)
        value = float(rng.uniform(low, high))
        point[name] = round(value) if _is_int(tuning, name) else value
    return point


def _static_fields(tuning: Tuning) -> list[str]:
    """Searched fields of which another value may be another program."""
    fields = {field.name: field for field in dataclasses.fields(tuning.config)}
    moving = [name for name in tuning.fields if len(tuning.choices.get(name, (0, 1))) > 1]
    return [name for name in moving if name.startswith(ENV_PREFIX) or fields[name].metadata.get("static", True)]


# --- the study ------------------------------------------------------------------------------------------------------


def _open_storage(url: str) -> Any:
    from optuna.storages import RDBStorage

    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    for attempt in range(_NUM_OPENINGS):
        try:
            with _quiet():
                return RDBStorage(url, engine_kwargs=arguments, heartbeat_interval=_HEARTBEAT, grace_period=_GRACE)
        except Exception as error:  # Every database driver has errors of its own.
            what = _hide_password(" ".join(str(error).split())[:200])
            if attempt + 1 == _NUM_OPENINGS or not re.search("exists|unique|locked", what, re.IGNORECASE):
                raise UsageError(
                    f"storage={_hide_password(url)!r} cannot be opened ({what}); "
                    "give a URL such as sqlite:///FILE or postgresql://HOST/NAME"
                ) from None
        time.sleep(0.5)  # Another process makes the tables at this moment.
    raise AssertionError("unreachable")


def _hide_password(text: str) -> str:
    return re.sub(r"(://[^:@/\s]*):[^@\s]*@", r"\1:***@", text)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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


def _study_name(tuning: Tuning) -> str:
    return tuning.study_name or f"jaxrl {tuning.agent} {tuning.env}"


def _definition(tuning: Tuning) -> dict[str, Any]:
    """What all processes of a study must agree on."""
    values = json.loads(json.dumps(to_values(tuning)))
    return {name: value for name, value in values.items() if name not in (*_NOT_COMPARED, "versions", "device")}


def _check_definition(tuning: Tuning, storage: Any) -> None:
    """Raises `UsageError` if the storage holds another study of that name."""
    import optuna

    name = _study_name(tuning)
    if name not in optuna.get_all_study_names(storage):
        return
    with _quiet():
        study = optuna.load_study(study_name=name, storage=storage)
    theirs, ours = study.user_attrs.get("jaxrl"), _definition(tuning)
    if theirs is None and not study.get_trials(deepcopy=False):
        return
    differing = [field for field in ours if (theirs or {}).get(field) != ours[field]]
    if differing:
        field = differing[0]
        other = f"{field}={theirs[field]!r}" if theirs and field in theirs else "not of jaxrl"
        raise UsageError(f"study_name={name!r} in the storage is another search ({other}); give another study_name")


def _open_study(tuning: Tuning, storage: Any) -> Any:
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
    return sum(trial.number < number and not (_failed(trial) and _retries(trial) < _MOST_RETRIES) for trial in _trials(study))


def _trials(study: Any, *states: str) -> list[Any]:
    """All trials of a study, or those in some states, by number."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if not states or trial.state.name in states]


def _failed(trial: Any) -> bool:
    return trial.state.name == "FAIL"


def _retries(trial: Any) -> int:
    return trial.user_attrs.get("retries", 0)


def _bury(study: Any, worker: str, is_private: bool) -> None:
    """Marks trials as failed that still run although the process of this folder, which ran them, is dead."""
    from optuna.trial import TrialState

    for trial in _trials(study, "RUNNING"):
        owner = trial.user_attrs.get("worker")
        age = time.time() - trial.datetime_start.timestamp()
        if is_private or owner == worker or (owner is None and age > _GRACE):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _enqueue_again(tuning: Tuning, study: Any) -> None:
    """Puts the values of failed trials into the queue, unless they have failed too often.

    Where not all values had been proposed none is kept: the sampler proposes the same again.
    """
    again = {trial.user_attrs.get("retry_of") for trial in _trials(study)}
    for trial in _trials(study, "FAIL"):
        if trial.number not in again and _retries(trial) < _MOST_RETRIES and not trial.user_attrs.get("surplus"):
            params = trial.params if len(trial.params) == len(tuning.fields) else {}
            study.enqueue_trial(params, user_attrs={"retry_of": trial.number, "retries": _retries(trial) + 1})


# --- training -------------------------------------------------------------------------------------------------------


def _sweep(tuning: Tuning, *points: Mapping[str, Any]) -> Sweep:
    """The runs of some points of the search space as a sweep."""
    return Sweep(
        agent=tuning.agent,
        env=tuning.env,
        config=tuning.config,
        fields=tuning.fields,
        configs=tuple(dict(point) for point in points),
        env_options=tuning.env_options,
        seeds=tuning.seeds,
        total_steps=tuning.total_steps,
        eval_episodes=tuning.eval_episodes,
        num_rows=tuning.num_rungs,
        batching=tuning.batching,
        memory_limit=tuning.memory_limit,
    )


class _Rung(NamedTuple):
    """How the runs of a trial stand at the end of a rung.

    Attributes:
      number: from 1.
      env_steps: that all runs have done together.
      scores: of each run the mean return of its last training episodes, -inf if it became NaN, None if no episode ended.
      batch: the runs.
      num_iterations: of the whole training.
    """

    number: int
    env_steps: int
    scores: tuple[float | None, ...]
    batch: Batch
    num_iterations: int


class _Trainer:
    """Trains points of the search space, with programs that serve all trials they fit.

    Attributes:
      worker: keeps and counts the compiled programs.
    """

    def __init__(self, tuning: Tuning, folder: Path) -> None:
        self.tuning, self.sweep = tuning, _sweep(tuning)
        self._groups: list[Group] = []
        self._points: list[dict[str, Any]] = []
        self._alike: dict[Any, list[int]] = {}
        self.worker = Worker(self.sweep, self._groups, folder, tuning.memory_limit or memory_limit())

    def rungs(self, point: dict[str, Any]) -> Iterator[_Rung]:
        """Trains a point with all seeds, rung by rung, until no run is left.

        Raises:
          UsageError: fields that do not go together.
          DoesNotFitError: too many seeds for the memory.
        """
        group = self._group(point)
        schedule, seeds = self._groups[group].schedule, self.tuning.seeds
        num_devices = len(jax.devices())
        population = self.worker.population(group, -(-len(seeds) // num_devices) * num_devices)
        config, params = configure(self.sweep, point)[0], env_params(self.sweep, point)
        members = make_members(seeds, [config] * len(seeds), [params] * len(seeds))
        batch = batches.load(population, members, None, range(len(seeds)), 0)
        scores: list[float | None] = [None] * len(seeds)
        env_steps = 0
        for number, end in enumerate(row_ends(schedule.num_iterations, self.tuning.num_rungs), 1):
            num_iterations = end - batch.iteration
            num_warmup = max(min(end, schedule.num_warmup) - batch.iteration, 0)
            batch, sums = batches.advance(batch, num_warmup, num_iterations - num_warmup, schedule.num_iterations)
            env_steps += num_iterations * schedule.steps_per_iteration * len(batch.living)
            gone = [run for run, is_nan in zip(batch.living, sums["nan"], strict=True) if is_nan]
            for run, score in zip(batch.living, _recent_returns(batch), strict=True):
                scores[run] = -math.inf if run in gone else score
            if gone:
                batch = batches.stop(batch, gone, lambda capacity: self.worker.population(group, capacity))
            yield _Rung(number, env_steps, tuple(scores), batch, schedule.num_iterations)
            if not batch.living:
                return

    def evaluate(self, rung: _Rung) -> tuple[float | None, ...]:
        """Of each run the mean greedy return; scores of a run that became NaN stay."""
        scores, living = list(rung.scores), rung.batch.living
        returns = batches.evaluate(rung.batch, living, rung.num_iterations, self.tuning.eval_episodes) if living else ()
        for run, episodes in zip(living, returns, strict=True):
            scores[run] = summarize(episodes)["mean"]
        return tuple(scores)

    def _group(self, point: dict[str, Any]) -> int:
        """Index of the group whose program trains a point; a new one if none does."""
        alike = self._alike.setdefault(jax.tree.structure(configure(self.sweep, point)[0]), [])
        groups = make_groups(_sweep(self.tuning, *(self._points[index] for index in alike), point))
        found = next(group for group in groups if len(alike) in group.configs)
        if found.configs[0] < len(alike):
            return alike[found.configs[0]]
        alike.append(len(self._groups))
        self._groups.append(found)
        self._points.append(point)
        return alike[-1]


def _recent_returns(batch: Batch) -> list[float | None]:
    """Of each living run the mean return of its last training episodes."""
    rows = batch.rows[list(batch.living)]
    returns, total = (np.asarray(leaf)[rows] for leaf in batch.states.recent)
    nums = [min(int(num), NUM_RECENT) for num in total]
    return [float(of_run[:num].mean()) if num else None for of_run, num in zip(returns, nums, strict=True)]


def _score(scores: Sequence[float | None]) -> float | None:
    """Interquartile mean over the seeds that have a score."""
    known = [score for score in scores if score is not None]
    return float(interquartile_mean(np.array(known))) if known else None


def _suggest(trial: Any, tuning: Tuning) -> dict[str, Any]:
    """The values of a trial."""
    point: dict[str, Any] = {}
    for name, values in tuning.choices.items():
        labels = _labels(values)
        point[name] = values[list(map(repr, labels)).index(repr(trial.suggest_categorical(name, labels)))]
    for name, draw in tuning.draws.items():
        suggest = trial.suggest_int if _is_int(tuning, name) else trial.suggest_float
        point[name] = suggest(name, *_ends(tuning, name), log=draw.log)
    return point


def _labels(values: Sequence[Any]) -> list[Any]:
    """Choices as Optuna stores them: a tuple becomes text such as 64x64."""
    return [value if isinstance(value, _PLAIN) else format_value(value) for value in values]


class _SurplusError(Exception):
    """Processes that share a study began more trials than it lacks; this one is not trained."""


def _objective(tuning: Tuning, study: Any, trainer: _Trainer, worker: str) -> Callable[[Any], float]:
    """What Optuna maximizes."""

    def objective(trial: Any) -> float:
        trial.set_user_attr("worker", worker)
        if sum(other.number < trial.number and not _failed(other) for other in _trials(study)) >= tuning.num_trials:
            trial.set_user_attr("surplus", True)
            raise _SurplusError
        begun, compiled, env_steps = time.perf_counter(), trainer.worker.compilations, 0
        point = _suggest(trial, tuning)
        try:
            for rung in trainer.rungs(point):
                env_steps = rung.env_steps
                _report(trial, rung, tuning)
            final = rung.scores if tuning.objective == "training" else trainer.evaluate(rung)
            return _final(trial, final)
        except (UsageError, DoesNotFitError) as error:
            what = "all seeds together do not fit into the memory" if isinstance(error, DoesNotFitError) else str(error)
            if not _static_fields(tuning):
                raise UsageError(f"seeds={tuning.seeds}: {what}; give fewer seeds") from None
            return _prune(f"trial {trial.number} cannot be trained: {what}")
        finally:
            trial.set_user_attr("env_steps", env_steps)
            trial.set_user_attr("compilations", trainer.worker.compilations - compiled)
            trial.set_user_attr("seconds", round(time.perf_counter() - begun, 3))

    return objective


def _report(trial: Any, rung: _Rung, tuning: Tuning) -> None:
    """Tells Optuna the score of a rung; ends the trial if the pruner says so, or if a NaN settles its score."""
    from optuna import TrialPruned

    score = _score(rung.scores)
    if score is None:
        return
    if score == -math.inf:
        _prune(f"trial {trial.number} became NaN")
    trial.report(score, rung.number)
    if rung.number < tuning.num_rungs and trial.should_prune():
        raise TrialPruned


def _final(trial: Any, scores: Sequence[float | None]) -> float:
    """The value of a trial that trained to the end; a seed in which no episode ended is as bad as a NaN."""
    value = _score([-math.inf if score is None else score for score in scores])
    if value is None or value == -math.inf:
        return _prune(f"trial {trial.number} has no value: a run became NaN, or no episode of it ended")
    return value


def _prune(why: str) -> float:
    from optuna import TrialPruned

    record.say(why)
    raise TrialPruned


# --- the search -----------------------------------------------------------------------------------------------------


def _search(tuning: Tuning, folder: Path) -> dict[str, Any]:
    from optuna.storages import fail_stale_trials

    begun, worker = time.perf_counter(), _read(folder)["worker"]
    with _lock(folder), _quiet():
        storage = _open_storage(tuning.storage or f"sqlite:///{(folder / 'study.db').absolute()}")
        study = _open_study(tuning, storage)
        _bury(study, worker, tuning.storage is None)
        trainer = _Trainer(tuning, folder)
        objective = _objective(tuning, study, trainer, worker)
        if names := _static_fields(tuning):
            record.say(f"another value of {', '.join(names)} may be another program to compile")
        while True:
            fail_stale_trials(study)
            _enqueue_again(tuning, study)
            if _is_over(tuning, study) or time.perf_counter() - begun >= (tuning.max_seconds or math.inf):
                break
            if len(_trials(study, "COMPLETE", "PRUNED", "RUNNING")) >= tuning.num_trials:
                time.sleep(1.0)  # Another process trains the last ones, and this one takes over should it die.
                continue
            study.optimize(objective, n_trials=1, catch=(_SurplusError,))
            _say_last(tuning, study, worker)
            _write_trials(folder / "trials.csv", tuning, study)
        return _finish(tuning, study, folder, time.perf_counter() - begun)


def _is_over(tuning: Tuning, study: Any) -> bool:
    best = _best(study)
    reached = best is not None and tuning.stop_value is not None and best.value >= tuning.stop_value
    return reached or len(_trials(study, "COMPLETE", "PRUNED")) >= tuning.num_trials


def _best(study: Any) -> Any:
    """The complete trial with the highest value, the first of equals; None if there is none."""
    return max(_trials(study, "COMPLETE"), key=lambda trial: trial.value, default=None)


def _say_last(tuning: Tuning, study: Any, worker: str) -> None:
    """A line about the last trial of this process."""
    trial = [trial for trial in _trials(study) if trial.user_attrs.get("worker") == worker][-1]
    best, done = _best(study), len(_trials(study, "COMPLETE", "PRUNED"))
    value = "" if trial.value is None else f" {trial.value:.4g}"
    leader = "" if best is None else f"; best {best.value:.4g} of trial {best.number}"
    values = ", ".join(f"{name} {show_value(value)}" for name, value in trial.params.items())
    if not trial.user_attrs.get("surplus"):
        record.say(f"{done} of {tuning.num_trials}: trial {trial.number} {_STATES[trial.state.name]}{value} ({values}){leader}")


# --- results --------------------------------------------------------------------------------------------------------


def _finish(tuning: Tuning, study: Any, folder: Path, seconds: float) -> dict[str, Any]:
    """Writes the tables, the figure and the summary, and shows the best trials."""
    trials, best, importances = _trials(study, *_STATES), _best(study), _importances(study)
    _write_trials(folder / "trials.csv", tuning, study)
    counts = {label: len(_trials(study, state)) for state, label in _STATES.items()}
    summary = {
        "agent": tuning.agent,
        "env": tuning.env,
        "objective": tuning.objective,
        "is_over": _is_over(tuning, study),
        "best_trial": best and best.number,
        "best_value": best and best.value,
        "best_params": best and _point(best, tuning),
        "command": best and train_command(tuning, _point(best, tuning)),
        "trials": counts,
        "compilations": sum(trial.user_attrs.get("compilations", 0) for trial in trials),
        "env_steps": sum(trial.user_attrs.get("env_steps", 0) for trial in trials),
        "importances": importances,
        "trial_seconds": round(sum(trial.user_attrs.get("seconds", 0.0) for trial in trials), 3),
        "wall_seconds": round(seconds, 3),
    }
    _draw(tuning, trials, importances, folder / "history.png")
    record.write_json(folder / "summary.json", summary)
    if best is None:
        record.say("no trial was complete, so none is the best; look at trials.csv")
    else:
        record.console().print(_table(tuning, study))
    if not summary["is_over"]:
        record.say(f"{counts['complete'] + counts['pruned']} of {tuning.num_trials} trials; go on with: jaxrl resume {folder}")
    return summary


def _point(trial: Any, tuning: Tuning) -> dict[str, Any]:
    """The values of a trial, of the types of their fields."""
    point = {}
    for name in tuning.fields:
        if name in trial.params:
            point[name] = trial.params[name]
        if name in point and name in tuning.choices:
            values = tuning.choices[name]
            point[name] = values[list(map(repr, _labels(values))).index(repr(point[name]))]
    return point


def train_command(tuning: Tuning, point: Mapping[str, Any]) -> str:
    """The command line that trains a point of the search space, with the first of the seeds."""
    config, env_options = configure(_sweep(tuning), point)
    words = ["jaxrl", "train", tuning.agent, "--env", tuning.env, "--total-steps", str(tuning.total_steps)]
    words += ["--seed", str(tuning.seeds[0])]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", *map(_word, value if isinstance(value, tuple) else [value])]
    if env_options:
        words += ["--env-option", *(f"{name}={_word(value)}" for name, value in env_options.items())]
    return shlex.join(words)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _write_trials(path: Path, tuning: Tuning, study: Any) -> None:
    """Writes a row for each trial that ended, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "state", "value", *tuning.fields, "env_steps", "seconds"])
    for trial in _trials(study, *_STATES):
        point, attrs = _point(trial, tuning), trial.user_attrs
        value = "" if trial.value is None else format_value(trial.value)
        values = [format_value(point[name]) if name in point else "" for name in tuning.fields]
        numbers = [attrs.get("env_steps", ""), attrs.get("seconds", "")]
        writer.writerow([trial.number, _STATES[trial.state.name], value, *values, *numbers])
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text.getvalue(), encoding="utf-8", newline="")
    partial.replace(path)


def _importances(study: Any) -> dict[str, float] | None:
    """How much each field matters for being among the best (PED-ANOVA, Watanabe et al. 2023); None of too little to tell."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = _trials(study, "COMPLETE")
    if len({trial.value for trial in complete}) < 2 or len(complete[0].params) < 2:
        return None
    try:
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return None
    return {name: float(value) for name, value in found.items()} if all(map(math.isfinite, found.values())) else None


def _table(tuning: Tuning, study: Any) -> Any:
    """The best five trials, a column each."""
    from rich.table import Table

    best = sorted(_trials(study, "COMPLETE"), key=lambda trial: (-trial.value, trial.number))[:5]
    points = [_point(trial, tuning) for trial in best]
    title = f"{tuning.agent} on {tuning.env}: the best trials"
    table = Table("trial", *(str(trial.number) for trial in best), title=title)
    table.add_row("value", *(f"{trial.value:.4g}" for trial in best))
    for name in tuning.fields:
        table.add_row(name, *(show_value(point[name]) for point in points))
    table.add_row("env steps", *(f"{trial.user_attrs.get('env_steps', 0):,}" for trial in best))
    return table


def _draw(tuning: Tuning, trials: Sequence[Any], importances: Mapping[str, float] | None, out: Path) -> None:
    """All trials and the best so far against env steps used, and the importances."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(10.0 if importances else 6.5, 4.2), layout="constrained")
    left, *right = figure.subplots(1, 2 if importances else 1, squeeze=False, width_ratios=[2, 1][: 2 if importances else 1])[0]
    ended = sorted(trials, key=lambda trial: (trial.datetime_complete, trial.number))
    used = np.cumsum([trial.user_attrs.get("env_steps", 0) for trial in ended])
    for state, style in (("PRUNED", {"mfc": "white", "mec": "0.6"}), ("COMPLETE", {"color": "C0", "mec": "white"})):
        chosen = [index for index, trial in enumerate(ended) if trial.state.name == state and trial.value is not None]
        if not chosen:
            continue
        left.plot(used[chosen], [ended[i].value for i in chosen], "o", ms=6, label=f"{_STATES[state]} trials", **style)
        if state == "COMPLETE":
            best = np.maximum.accumulate([ended[index].value for index in chosen])
            left.step([*used[chosen], used[-1]], [*best, best[-1]], where="post", color="C3", lw=1.8, label="best so far")
    left.set_xlabel("env steps of all trials")
    left.set_ylabel(f"{'training' if tuning.objective == 'training' else 'greedy'} return (interquartile mean of seeds)")
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    if left.has_data():
        left.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize="small")
    for axes in right:
        names = sorted(importances or {}, key=lambda name: (importances or {})[name])
        axes.barh(names, [(importances or {})[name] for name in names], height=0.5, color="C0")
        axes.set_xlabel("importance (PED-ANOVA)")
    for axes in (left, *right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out, "out")
