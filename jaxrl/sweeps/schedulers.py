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
from jaxrl.fields import MAX_SEED, check_fields, static


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a sweep spends its env steps: in full, by synchronous successive halving, in brackets of it, or as a population."""

    method: str = static(
        "none",
        "none trains every run to its end; halving and hyperband drop the worst configs early; "
        "pbt is population-based training.",
        choices=("none", "halving", "hyperband", "pbt"),
        flag="schedule",
    )
    reduction: int = static(3, "halving, hyperband: one config in so many goes on at each rung (eta).", low=2)
    min_steps: int | None = static(
        None, "halving, hyperband: env steps of the first rung, in the bracket that stops earliest; derived by default.", low=1
    )
    pbt_steps: int | None = static(None, "pbt: env steps between exploitations; by default a twentieth of the training.", low=1)
    pbt_share: float = static(
        0.2, "pbt: share of the runs that is replaced by as many of the best.", low=0.0, low_open=True, high=0.5
    )
    pbt_factor: float = static(1.25, "pbt: explored values are multiplied or divided by it.", low=1.0, low_open=True)
    seed: int = static(0, "Seed of random decisions.", low=0, high=MAX_SEED, flag=None)


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


class Continuation(NamedTuple):
    """How a run goes on: with the state of run `source` and these swept values."""

    source: int
    values: dict[str, Any]


def check_schedule(schedule: Schedule, num_configs: int, num_runs: int, total_steps: int) -> None:
    """Checks the settings, and that they fit the sweep.

    Raises:
      UsageError: what does not fit.
    """
    check_fields(schedule)
    for name in ("min_steps", "pbt_steps"):
        if (getattr(schedule, name) or 0) > total_steps:
            raise UsageError(f"{name}={getattr(schedule, name)} is out of range; give at most total_steps={total_steps}")
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
) -> dict[int, Continuation]:
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
    continued = {run: Continuation(run, dict(values[run])) for run in sorted(scores)}
    if failed == len(ranked):
        return continued
    num = min(max(math.ceil(schedule.pbt_share * len(ranked)), failed), len(ranked) - 1)
    best = ranked[: max(min(num, len(ranked) - num), 1)]
    for run in ranked[len(ranked) - num :]:
        source = best[rng.integers(len(best))]
        changed = {name: _perturb(rng, values[source][name], bounds, schedule.pbt_factor) for name, bounds in explored.items()}
        continued[run] = Continuation(source, dict(values[source]) | changed)
    return continued


def _perturb(rng: np.random.Generator, value: float, bounds: Explored, factor: float) -> float | int:
    moved = value * factor if rng.random() < 0.5 else value / factor
    moved = min(max(moved, bounds.low), bounds.high)
    if bounds.is_int:
        rounded = round(moved)
        return rounded - (rounded > bounds.high) + (rounded < bounds.low)
    return float(value if bounds.low_open and moved <= bounds.low else moved)
