"""What `jaxrl compare` does: whether two sweeps differ, as a table and a sentence.

    print(report(compare(Path("runs/dqn"), Path("runs/double-dqn"))))

Configs with the same swept values are compared with each other, seeds against seeds, and all of them together; where there are
none, all runs with all runs and the best config with the best config. Every difference is second minus first.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.analysis import stats
from jaxrl.analysis.results import ConfigScores, Results, rank, read_results, score_runs, show_value
from jaxrl.analysis.stats import interquartile_mean

LEVEL = 0.05
"""Of the tests."""
_NUM_SHOWN = 30
_NUM_NOTES = 8
_NAMES = {"final_return": "final return", "eval_return": "eval return"}


class Row(NamedTuple):
    """Two samples of runs beside each other.

    Attributes:
      label: what they are.
      num_runs: of the first, of the second.
      iqm: interquartile means of the first, of the second.
      difference: second minus first.
      interval: 95 % bootstrap interval of the difference; None where a side has one run.
      probability: that a run of the second beats one of the first.
      probability_interval: its 95 % bootstrap interval, or None.
      p_value: two-sided permutation test of the interquartile means, or None.
      smallest_p_value: that the test could give for so many runs, or None.
      p_holm: `p_value` corrected by Holm over the configs; None of rows that are no config.
    """

    label: str
    num_runs: tuple[int, int]
    iqm: tuple[float, float]
    difference: float
    interval: tuple[float, float] | None
    probability: float
    probability_interval: tuple[float, float] | None
    p_value: float | None
    smallest_p_value: float | None
    p_holm: float | None = None


class ScoreComparison(NamedTuple):
    """Of one score: `overall`, and of sweeps without common configs `best`, else a row for each common config in `configs`."""

    name: str
    overall: Row
    best: Row | None
    configs: tuple[Row, ...]


class Comparison(NamedTuple):
    """Two sweeps.

    Attributes:
      folders: the first, the second.
      titles: agent and environment of each.
      notes: what else differs, and what the numbers leave out.
      scores: final return, and eval return where both sweeps have it; none where a sweep has no score at all.
      verdict: one sentence.
    """

    folders: tuple[Path, Path]
    titles: tuple[str, str]
    notes: tuple[str, ...]
    scores: tuple[ScoreComparison, ...]
    verdict: str


class _Sample(NamedTuple):
    """Scores [N] of runs and which config [N] each is of."""

    scores: np.ndarray
    strata: np.ndarray


# --- comparing ------------------------------------------------------------------------------------------------------


def compare(folder_a: str | Path, folder_b: str | Path) -> Comparison:
    """Compares two finished sweeps.

    Raises:
      UsageError: a folder without a finished sweep.
    """
    a, b = read_results(folder_a), read_results(folder_b)
    common = _common(a, b)
    found = (_compare_score(name, a, b, common) for name in _NAMES)
    scores = tuple(score for score in found if score is not None)
    if scores and scores[0].name != "final_return":
        scores = ()
    titles = (_title(a), _title(b))
    return Comparison((a.folder, b.folder), titles, _notes(a, b, common), scores, _verdict(scores))


def _title(results: Results) -> str:
    return f"{results.sweep.get('agent')} on {results.sweep.get('env')}"


def _keys(results: Results) -> list[tuple[Any, ...]]:
    """What was swept and its values, for every run."""
    names = sorted(results.fields)
    return [tuple((name, results.values[name][run]) for name in names) for run in range(len(results.run))]


def _common(a: Results, b: Results) -> list[tuple[Any, ...]]:
    """Swept values that both have, in the order of the first."""
    others = set(_keys(b))
    return [key for key in dict.fromkeys(_keys(a)) if key in others]


def _samples(a: Results, b: Results, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores of both, runs that became NaN at the lowest of either; None where one has no score."""
    present = [scores[np.isfinite(scores)] for scores in (getattr(a, name), getattr(b, name))]
    if not min(map(len, present)):
        return None
    lowest = float(np.concatenate(present).min())
    return score_runs(a, name, lowest), score_runs(b, name, lowest)


def _compare_score(name: str, a: Results, b: Results, common: list[tuple[Any, ...]]) -> ScoreComparison | None:
    scores = _samples(a, b, name)
    if scores is None:
        return None
    number = {key: place for place, key in enumerate(common)}
    x, y = (
        _Sample(score, np.array([number.get(key, -1) for key in _keys(results)]))
        for score, results in zip(scores, (a, b), strict=True)
    )
    x, y = (_Sample(*(array[np.isfinite(sample.scores)] for array in sample)) for sample in (x, y))
    shared = sorted(set(x.strata[x.strata >= 0].tolist()) & set(y.strata[y.strata >= 0].tolist()))
    if shared:
        return _compare_configs(name, x, y, shared, [_label(key) for key in common])
    overall = _row("all runs", _Sample(x.scores, np.zeros(len(x.scores))), _Sample(y.scores, np.zeros(len(y.scores))))
    best = [rank(results, score)[0] for results, score in zip((a, b), scores, strict=True)]
    return ScoreComparison(name, overall, _row(f"best: {_name(best[0])} / {_name(best[1])}", *map(_alone, best)), ())


def _compare_configs(name: str, x: _Sample, y: _Sample, shared: list[int], labels: list[str]) -> ScoreComparison:
    x, y = (_Sample(*(array[np.isin(sample.strata, shared)] for array in sample)) for sample in (x, y))
    rows = []
    for stratum in shared:
        own = [_Sample(*(array[sample.strata == stratum] for array in sample)) for sample in (x, y)]
        rows.append(_row(labels[stratum], *own))
    tested = [place for place, row in enumerate(rows) if row.p_value is not None]
    for place, p in zip(tested, stats.holm(np.array([rows[place].p_value for place in tested])), strict=True):
        rows[place] = rows[place]._replace(p_holm=float(p))
    overall = _row("all common configs", x, y) if len(shared) > 1 else rows[0]._replace(p_holm=None)
    return ScoreComparison(name, overall, None, tuple(rows))


def _row(label: str, x: _Sample, y: _Sample) -> Row:
    """The second beside the first; runs are drawn and dealt anew within their config."""
    first, second = (float(interquartile_mean(sample.scores)) for sample in (x, y))
    strata: dict[str, Any] = {"strata_x": y.strata, "strata_y": x.strata}
    probability = stats.probability_of_improvement(y.scores, x.scores, **strata)
    row = Row(label, (len(x.scores), len(y.scores)), (first, second), second - first, None, probability, None, None, None)
    least = stats.smallest_p_value(y.scores, x.scores, **strata)
    several = min(len(x.scores) / len(np.unique(x.strata)), len(y.scores) / len(np.unique(y.strata))) > 1
    if several:
        low, high = stats.difference_interval(y.scores, x.scores, statistic=interquartile_mean, **strata)
        chance = stats.improvement_interval(y.scores, x.scores, **strata)
        row = row._replace(interval=(float(low), float(high)), probability_interval=chance)
    if least < 1.0:
        p = stats.permutation_p_value(y.scores, x.scores, interquartile_mean, **strata)
        row = row._replace(p_value=p, smallest_p_value=least)
    return row


def _alone(config: ConfigScores) -> _Sample:
    return _Sample(config.scores, np.zeros(len(config.scores)))


def _name(config: ConfigScores) -> str:
    return ", ".join(map(show_value, config.values)) or "base config"


def _label(key: tuple[Any, ...]) -> str:
    return ", ".join(f"{name}={show_value(value)}" for name, value in key) or "base config"


# --- words ----------------------------------------------------------------------------------------------------------


def _notes(a: Results, b: Results, common: list[tuple[Any, ...]]) -> tuple[str, ...]:
    notes = []
    for name in ("agent", "env", "env_options", "total_steps"):
        if a.sweep.get(name) != b.sweep.get(name):
            notes.append(f"{name} differs: {a.sweep.get(name)} / {b.sweep.get(name)}")
    mine, other = a.sweep.get("config", {}), b.sweep.get("config", {})
    swept = set(a.fields) & set(b.fields)
    differing = [name for name in {**mine, **other} if name not in swept and mine.get(name) != other.get(name)]
    notes += [f"{name} differs: {mine.get(name)} / {other.get(name)}" for name in differing[:_NUM_NOTES]]
    if len(differing) > _NUM_NOTES:
        notes.append(f"{len(differing) - _NUM_NOTES} more fields differ")
    if not common:
        notes.append(
            "no config in common: all runs are compared, taken as independent, and the best config of each by its own scores"
        )
    left = [len(set(_keys(results))) - len(common) for results in (a, b)]
    if common and any(left):
        notes.append(f"configs of one sweep alone, left out: {left[0]} / {left[1]}")
    failed = [int((results.status == "nan").sum()) for results in (a, b)]
    if any(failed):
        notes.append(f"runs that became NaN, counted as the lowest score: {failed[0]} / {failed[1]}")
    return tuple(notes)


def _verdict(scores: tuple[ScoreComparison, ...]) -> str:
    if not scores:
        return "Nothing can be said: a sweep has no run with a final return."
    row = scores[0].overall
    if row.p_value is None or row.smallest_p_value is None:
        return "Nothing can be said of chance: too few runs; train more seeds."
    what = f"interquartile mean of the final return {_signed(row.difference)}"
    if row.interval is not None:
        what += f" (95 % interval {_signed(row.interval[0])} to {_signed(row.interval[1])})"
    what += f", probability of improvement {row.probability:.2f}, p = {_p(row.p_value)}"
    tested = [config for config in scores[0].configs if config.p_holm is not None]
    if len(scores[0].configs) > 1 and tested:
        differing = sum(config.p_holm is not None and config.p_holm < LEVEL for config in tested)
        what += f"; by themselves {differing} of {len(tested)} configs differ after Holm's correction"
    if row.p_value < LEVEL and row.difference != 0.0:
        return f"The second sweep is {'better' if row.difference > 0 else 'worse'}: {what}."
    if row.smallest_p_value >= LEVEL:
        what += f"; so few runs cannot give p below {_p(row.smallest_p_value)}, train more seeds"
    return f"No difference is shown: {what}."


def report(comparison: Comparison) -> str:
    """The comparison as plain text: a table for each score, and the verdict."""
    lines = [
        f"first:  {comparison.folders[0]}, {comparison.titles[0]}",
        f"second: {comparison.folders[1]}, {comparison.titles[1]}",
        *comparison.notes,
    ]
    for score in comparison.scores:
        rows = sorted(score.configs, key=lambda row: (row.p_value is None, row.p_value, -abs(row.difference)))
        rows = rows if len(rows) > 1 else []
        rows = [score.overall, *([score.best] if score.best else []), *rows]
        lines += ["", f"{_NAMES[score.name]}, interquartile mean over runs", *_table(rows[:_NUM_SHOWN])]
        if len(rows) > _NUM_SHOWN:
            lines.append(f"and {len(rows) - _NUM_SHOWN} more configs")
    return "\n".join([*lines, "", comparison.verdict])


def _table(rows: list[Row]) -> list[str]:
    chance = "P(second better)"
    header = ("", "runs", "first", "second", "difference", "95 % interval", chance, "95 % interval", "p", "p (Holm)")
    cells = [header, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in cells]


def _cells(row: Row) -> tuple[str, ...]:
    chance = row.probability_interval
    return (
        row.label,
        "{} / {}".format(*row.num_runs),
        _number(row.iqm[0]),
        _number(row.iqm[1]),
        _signed(row.difference),
        "-" if row.interval is None else f"{_signed(row.interval[0])} to {_signed(row.interval[1])}",
        f"{row.probability:.2f}",
        "-" if chance is None else f"{chance[0]:.2f} to {chance[1]:.2f}",
        "-" if row.p_value is None else _p(row.p_value),
        "-" if row.p_holm is None else _p(row.p_holm),
    )


def _number(value: float) -> str:
    """Four digits, without an exponent where that is legible."""
    if value == 0.0 or not math.isfinite(value):
        return f"{value + 0.0:g}"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}" if 0 <= digits <= 6 else f"{value:,.0f}" if digits < 0 else f"{value:.3e}"


def _signed(value: float) -> str:
    return f"+{_number(value)}" if value > 0 else _number(value)


def _p(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}" if value >= 0.001 else f"{value:.1g}"
