"""What defines a hyperparameter search: a `Tuning`, its file `tune.json`, and the checks that it passes before it begins.

    tuning = Tuning("q_learning", "gridworld/classic", config, draws={"learning_rate": Draw(1e-3, 1.0, log=True)})
    check_tuning(tuning)
    check_trainable(tuning)

A searched field is either drawn from a range (`draws`) or has one of some values (`choices`); a point of the search space is a
dict with a value of each, `{"learning_rate": 0.01, "env.slip": 0.1}`. Nothing here calls Optuna. A new setting of the search is
a field of `Tuning`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis.results import format_value
from jaxrl.config import check_config
from jaxrl.errors import UsageError
from jaxrl.fields import MAX_COUNT, MAX_SEED, check_fields, field_types, static
from jaxrl.runs.definition import Training, read_definition, values_of
from jaxrl.runs.definition import to_values as written_values
from jaxrl.sweeps.plan import Batched, Sweep, make_groups
from jaxrl.sweeps.space import ENV_PREFIX, Draw

_NUM_TRIED = 20
"""Random points of a search space of which one must be trainable."""
_PLAIN = (str, int, float, bool, type(None))
"""What Optuna stores as a categorical value; others are stored as text."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning(Batched, Training):
    """Everything that defines a search.

    The pruners are those of Golovin et al. 2017 (median), Li et al. 2020 (ASHA: halving) and Li et al. 2018 (hyperband), and
    count in rungs; tpe is that of Bergstra et al. 2011. Rungs report the mean return of the last training episodes.
    """

    draws: Mapping[str, Draw] = static(dict, "Ranges of searched numbers; env.NAME is an option of the environment.", flag=None)
    choices: Mapping[str, Sequence[Any]] = static(dict, "Values of searched fields.", flag=None)
    num_trials: int = static(50, "Trials that end, complete or pruned, over all processes.", low=1, high=MAX_COUNT)
    seeds: tuple[int, ...] = static((0, 1, 2), "Of the runs of each trial.", low=0, high=MAX_SEED, flag=None)
    num_rungs: int = static(10, "How often a trial reports and may be pruned.", low=1, high=10_000)
    objective: str = static(
        "training",
        "training: mean of the last training episodes; evaluation: of greedy ones.",
        choices=("training", "evaluation"),
    )
    pruner: str = static(
        "median",
        "Which trials end early: median, halving, hyperband, none.",
        choices=("median", "halving", "hyperband", "none"),
    )
    reduction: int = static(3, "halving, hyperband: one trial in so many goes on at each rung (eta).", low=2)
    pruning_startup: int = static(5, "Complete trials before the median prunes.", low=0)
    sampler: str = static("tpe", "What proposes values: tpe or random.", choices=("tpe", "random"))
    sampler_startup: int = static(10, "Random trials before tpe has a model.", low=1)
    sampler_seed: int = static(0, "Seed of the proposals.", low=0, high=MAX_SEED)
    storage: str | None = static(
        None, "URL of Optuna's database, which processes may share; by default study.db in the folder."
    )
    study_name: str | None = static(None, "Name of the study in the database; of agent and environment by default.")
    max_seconds: float | None = static(None, "Begin no further trial after so many seconds.", low=0.0, low_open=True)
    stop_value: float | None = static(None, "Begin no further trial once one has reached this.")

    file = "tune.json"
    what = "search"
    written_by = "`jaxrl tune`"

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what is searched."""
        return (*self.choices, *self.draws)


def to_values(tuning: Tuning) -> dict[str, Any]:
    """What `tune.json` holds."""
    values = written_values(tuning)
    return values | {"versions": values["versions"] | {"optuna": importlib.metadata.version("optuna")}}


def read_tuning(folder: Path) -> Tuning:
    """The search that a folder's `tune.json` describes; errors as of `read_definition`."""
    return read_definition(Tuning, folder)


def as_sweep(tuning: Tuning, *points: Mapping[str, Any]) -> Sweep:
    """The runs of some points of the search space as a sweep."""
    shared = values_of(tuning, Training) | values_of(tuning, Batched)
    return Sweep(**shared, fields=tuning.fields, configs=tuple(dict(point) for point in points), num_rows=tuning.num_rungs)


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
    check_fields(tuning)
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
            group, *_ = make_groups(as_sweep(tuning, _random_point(tuning, rng)))
        except UsageError as error:
            errors.append(error)
            continue
        if group.solo:
            raise UsageError(
                f"env={tuning.env!r} lives on the host, where the seeds of a trial cannot be batched; use jaxrl sweep"
            )
        if not group.env.spec.has_return and tuning.objective == "training":
            raise UsageError(f"objective='training' needs training returns, which env={tuning.env!r} lacks; give evaluation")
        return
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
