"""What defines a hyperparameter search: a `Tuning`, its file `tune.json`, and the checks that it passes before it begins.

    tuning = Tuning("q_learning", "gridworld/classic", config, draws={"learning_rate": Draw(1e-3, 1.0, log=True)})
    check_tuning(tuning)
    check_trainable(tuning)

A searched field is either drawn from a range (`draws`) or has one of some values (`choices`); a point of the search space is a
dict with a value of each, `{"learning_rate": 0.01, "env.slip": 0.1}`. Nothing here calls Optuna. A new setting of the search is
a field of `Tuning`, a check here and an option of `jaxrl tune`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.agents import load_agent
from jaxrl.analysis.results import format_value
from jaxrl.config import Config, check_config, field_types, from_json, from_list, to_json
from jaxrl.errors import UsageError
from jaxrl.runs.definition import versions
from jaxrl.sweeps.plan import ENV_PREFIX, Draw, Sweep, make_groups

PRUNERS = ("median", "halving", "hyperband", "none")
SAMPLERS = ("tpe", "random")
OBJECTIVES = ("training", "evaluation")

_NUM_TRIED = 20
"""Random points of a search space of which one must be trainable."""
_PLAIN = (str, int, float, bool, type(None))
"""What Optuna stores as a categorical value; others are stored as text."""


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
    values = read_values(folder)
    try:
        _, config_class = load_agent(values["agent"])
        known = {field.name for field in dataclasses.fields(Tuning)}
        given = {name: value for name, value in values.items() if name in known}
        given["config"] = from_json(config_class, values["config"])
        given["draws"] = {name: Draw(**draw) for name, draw in values["draws"].items()}
        given["choices"] = {name: tuple(map(from_list, items)) for name, items in values["choices"].items()}
        given["seeds"] = tuple(values["seeds"])
        return Tuning(**given)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder / 'tune.json'} is not what `jaxrl tune` wrote ({error!r}); give another folder") from None


def read_values(folder: Path) -> dict[str, Any]:
    """What a folder's `tune.json` holds.

    Raises:
      UsageError: no such file, or it cannot be read.
    """
    path = folder / "tune.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no search (no tune.json); give a folder that `jaxrl tune` wrote") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); give the folder of another search") from None


def as_sweep(tuning: Tuning, *points: Mapping[str, Any]) -> Sweep:
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


def labels_of(values: Sequence[Any]) -> list[Any]:
    """Choices as Optuna stores them: a tuple becomes text such as 64x64."""
    return [value if isinstance(value, _PLAIN) else format_value(value) for value in values]


def choice_of(values: Sequence[Any], label: Any) -> Any:
    """The choice that Optuna stores as `label`."""
    return values[list(map(repr, labels_of(values))).index(repr(label))]


def ends_of(tuning: Tuning, name: str) -> tuple[float, float] | tuple[int, int]:
    """Lowest and highest value of a drawn field; whole numbers where the field is one."""
    draw = tuning.draws[name]
    return (math.ceil(draw.low), math.floor(draw.high)) if is_int(tuning, name) else (draw.low, draw.high)


def is_int(tuning: Tuning, name: str) -> bool:
    """True of a searched field that is a whole number."""
    return field_types(type(tuning.config)).get(name) is int


def static_fields(tuning: Tuning) -> list[str]:
    """Searched fields of which another value may be another program."""
    fields = {field.name: field for field in dataclasses.fields(tuning.config)}
    moving = [name for name in tuning.fields if len(tuning.choices.get(name, (0, 1))) > 1]
    return [name for name in moving if name.startswith(ENV_PREFIX) or fields[name].metadata.get("static", True)]


def check_package() -> None:
    """Raises `UsageError` where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("the search for hyperparameters needs the package optuna; pip install 'jaxrl[tune]'")


def check_tuning(tuning: Tuning) -> None:
    """The settings of the search itself must be in range and its fields searched in one way each.

    Raises:
      UsageError: what does not fit.
    """
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
        raise UsageError(
            "there is nothing to search; give a range such as --draw learning_rate=log:1e-5:1e-2, "
            "or values such as --choice gamma=0.9,0.99"
        )
    for name in tuning.draws:
        if name in tuning.choices:
            raise UsageError(f"field {name!r} has both choices and a draw; give one of them")
    for name, values in tuning.choices.items():
        if not values or len(set(map(repr, labels_of(values)))) < len(values):
            raise UsageError(f"choices of {name!r} are none or not all different: {values!r}; give different ones")


def check_trainable(tuning: Tuning) -> None:
    """Each end of a range and each choice must fit its field, and some point of the space must be trainable.

    Raises:
      UsageError: what does not fit.
    """
    declared = field_types(type(tuning.config))
    alone = type("Alone", (type(tuning.config),), {"check": lambda self: None})  # Rules between fields depend on the others.
    for name in tuning.fields:
        if name in tuning.draws:
            _check_draw(tuning, name, declared.get(name, float))
        for value in tuning.choices.get(name, ()) or ends_of(tuning, name):
            if name in declared:
                check_config(alone(**{**vars(tuning.config), name: value}))
    rng, errors = np.random.default_rng(tuning.sampler_seed), []
    for _ in range(_NUM_TRIED):
        try:
            make_groups(as_sweep(tuning, _random_point(tuning, rng)))
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


def _random_point(tuning: Tuning, rng: np.random.Generator) -> dict[str, Any]:
    point = {name: values[int(rng.integers(len(values)))] for name, values in tuning.choices.items()}
    for name in tuning.draws:
        low, high = ends_of(tuning, name)
        value = float(rng.uniform(low, high))
        point[name] = round(value) if is_int(tuning, name) else value
    return point
