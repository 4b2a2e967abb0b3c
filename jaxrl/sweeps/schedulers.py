"""Which runs of a sweep go on, for how long, and with which values.

A schedule cuts training into rungs. At the end of a rung all runs have done the same env steps and are ranked together
(synchronously, over all groups and batches); those that go on into the next rung, from which state and with which swept values,
are pure functions of the scores, so a sweep that was killed decides the same again.

Every run keeps the schedules (learning rate, exploration) of the whole training, so a survivor is the run it would have been
alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl.errors import UsageError

METHODS = ("none", "halving", "hyperband", "pbt")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a sweep spends its env steps.

    Attributes:
      method: `none` trains every run to the end; `halving` is synchronous successive halving, `hyperband` several brackets of
        it, `pbt` population-based training.
      reduction: halving and Hyperband keep one config in so many at each rung (eta).
      min_steps: env steps of the first rung of halving and of Hyperband's most aggressive bracket; None derives them.
      pbt_steps: env steps between exploitations; None is a twentieth of the training.
      pbt_share: of the runs that are replaced by as many of the best at each exploitation.
      pbt_factor: explored values are multiplied or divided by it.
      seed: of random decisions.
    """

    method: str = "none"
    reduction: int = 3
    min_steps: int | None = None
    pbt_steps: int | None = None
    pbt_share: float = 0.2
    pbt_factor: float = 1.25
    seed: int = 0


class Bracket(NamedTuple):
    """Runs that are ranked among themselves.

    Attributes:
      configs: indices of its configs.
      rungs: env steps at the end of each rung; the last is the whole training.
      reduction: one config in so many goes on to the next rung.
    """

    configs: tuple[int, ...]
    rungs: tuple[int, ...]
    reduction: int


class Step(NamedTuple):
    """How a run goes on: with the state of run `source` and these swept values."""

    source: int
    values: dict[str, Any]


def check_schedule(schedule: Schedule, num_configs: int, num_runs: int, total_steps: int) -> None:
    """Raises `UsageError` for settings out of range."""
    if schedule.method not in METHODS:
        raise UsageError(f"schedule={schedule.method!r} is unknown; choose one of {', '.join(METHODS)}")
    if schedule.reduction < 2:
        raise UsageError(f"reduction={schedule.reduction} is out of range; give at least 2")
    for name in ("min_steps", "pbt_steps"):
        value = getattr(schedule, name)
        if value is not None and not 1 <= value <= total_steps:
            raise UsageError(f"{name}={value} is out of range; give a value in [1, {total_steps}], total_steps")
    if not 0.0 < schedule.pbt_share <= 0.5:
        raise UsageError(f"pbt_share={schedule.pbt_share} is out of range; give a share in (0, 0.5]")
    if not 1.0 < schedule.pbt_factor < math.inf:
        raise UsageError(f"pbt_factor={schedule.pbt_factor} is out of range; give a factor above 1")
    if schedule.method in ("halving", "hyperband") and num_configs < 2:
        raise UsageError(f"schedule={schedule.method!r} has nothing to choose from: the sweep has one config; sweep a field")
    if schedule.method == "pbt" and num_runs < 4:
        raise UsageError(f"schedule='pbt' needs a population, the sweep has runs={num_runs}; give at least 4 configs or seeds")
    if schedule.method in ("halving", "hyperband") and all(
        len(bracket.rungs) == 1 for bracket in brackets(schedule, num_configs, total_steps)
    ):
        raise UsageError(
            f"schedule={schedule.method!r} with reduction={schedule.reduction}, min_steps={schedule.min_steps} stops none of "
            f"the {num_configs} configs early; lower either, or sweep more configs"
        )


def brackets(schedule: Schedule, num_configs: int, total_steps: int) -> tuple[Bracket, ...]:
    """The brackets of a sweep and their rungs.

    Successive halving (Jamieson and Talwalkar 2016): with reduction eta the rungs end at total / eta^k, ..., total / eta,
    total, as many as `num_configs` can be divided, and after each one config in eta goes on. Hyperband (Li et al. 2018,
    algorithm 1) hedges over how early to stop: bracket s starts at total / eta^s, and the configs are dealt out to the brackets
    in proportion to its n.
    """
    everyone = tuple(range(num_configs))
    eta = schedule.reduction
    if schedule.method == "halving":
        most = min(_log(num_configs, eta), _log(total_steps / (schedule.min_steps or 1), eta))
        return (Bracket(everyone, _rungs(total_steps, eta, most), eta),)
    if schedule.method == "hyperband":
        most = _log(total_steps / (schedule.min_steps or max(total_steps // eta**3, 1)), eta)
        wanted = [math.ceil((most + 1) / (s + 1) * eta**s) for s in range(most, -1, -1)]
        shares = _deal(num_configs, wanted)
        order = np.random.default_rng(schedule.seed).permutation(num_configs)
        parts = np.split(order, np.cumsum(shares)[:-1])
        levels = range(most, -1, -1)
        return tuple(
            Bracket(tuple(sorted(int(c) for c in part)), _rungs(total_steps, eta, s), eta)
            for s, part in zip(levels, parts, strict=True)
            if len(part)
        )
    if schedule.method == "pbt":
        every = schedule.pbt_steps or max(total_steps // 20, 1)
        return (Bracket(everyone, (*range(every, total_steps, every), total_steps), 1),)
    return (Bracket(everyone, (total_steps,), 1),)


def _log(number: float, base: int) -> int:
    """The largest k with base^k <= number."""
    k = 0
    while base ** (k + 1) <= number:
        k += 1
    return k


def _rungs(total_steps: int, eta: int, num_cuts: int) -> tuple[int, ...]:
    return tuple(-(-total_steps // eta**k) for k in range(num_cuts, -1, -1))


def _deal(number: int, weights: Sequence[int]) -> list[int]:
    """`number` things in proportion to weights, by largest remainder."""
    exact = [number * weight / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    for index in sorted(range(len(weights)), key=lambda i: shares[i] - exact[i])[: number - sum(shares)]:
        shares[index] += 1
    return shares


def survivors(scores: Mapping[int, float], reduction: int) -> list[int]:
    """Configs that go on: the best 1 / reduction of them, at least one; a tie goes to the lower index.

    Args:
      scores: config -> score; NaN counts as the worst.
    """
    keep = max(len(scores) // reduction, 1)
    ranked = sorted(scores, key=lambda config: (-_finite(scores[config]), config))
    return sorted(ranked[:keep])


def _finite(score: float) -> float:
    return -math.inf if math.isnan(score) else score


class Explored(NamedTuple):
    """A field that population-based training changes: its range (without `low` if `low_open`), and whether it is whole."""

    low: float
    high: float
    low_open: bool
    is_int: bool


def exploit_and_explore(
    scores: Mapping[int, float | None],
    values: Mapping[int, Mapping[str, Any]],
    explored: Mapping[str, Explored],
    schedule: Schedule,
    rung: int,
) -> dict[int, Step]:
    """Population-based training (Jaderberg et al. 2017, section 4.1, truncation selection).

    Each of the worst runs continues from the state of one of the best, drawn at random, with its values perturbed: each is
    multiplied or divided by `pbt_factor` and kept in its range. Failed runs are replaced first.

    Args:
      scores: run -> score; NaN of a run that failed, None of one that has no score yet and goes on as it is.
      values: run -> swept values.
      explored: fields that may change.
    """
    rng = np.random.default_rng((schedule.seed, rung))
    known = {run: score for run, score in scores.items() if score is not None}
    ranked = sorted(known, key=lambda run: (-_finite(known[run]), run))
    failed = sum(math.isnan(score) for score in known.values())
    steps = {run: Step(run, dict(values[run])) for run in sorted(scores)}
    if failed == len(ranked):
        return steps
    num = min(max(math.ceil(schedule.pbt_share * len(ranked)), failed), len(ranked) - 1)
    best = ranked[: max(min(num, len(ranked) - num), 1)]
    for run in ranked[len(ranked) - num :]:
        source = best[rng.integers(len(best))]
        changed = {name: _perturb(rng, values[source][name], bounds, schedule.pbt_factor) for name, bounds in explored.items()}
        steps[run] = Step(source, dict(values[source]) | changed)
    return steps


def _perturb(rng: np.random.Generator, value: float, bounds: Explored, factor: float) -> float | int:
    moved = value * factor if rng.random() < 0.5 else value / factor
    moved = min(max(moved, bounds.low), bounds.high)
    if bounds.is_int:
        rounded = round(moved)
        return rounded - (rounded > bounds.high) + (rounded < bounds.low)
    return float(value if bounds.low_open and moved <= bounds.low else moved)
