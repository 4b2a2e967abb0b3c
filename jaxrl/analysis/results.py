"""The tables of a sweep's folder: written when it ends, read by the report and by `jaxrl compare`.

    results = read_results(Path("runs/sweep"))
    results.final_return[results.config == 3]

`results.csv` has a row for each run: what was swept, the seed, how it ended and its scores; an empty cell is a value that does
not exist. `curves.csv` has the learning curves, a row for each run and stretch of env steps. Numbers have up to 9 significant
digits, so that a sweep that is run again on the same machine writes the same bytes but for wall clocks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.analysis.stats import bootstrap_interval, interquartile_mean
from jaxrl.errors import UsageError
from jaxrl.records.files import read_json, read_table, write_csv
from jaxrl.startup import command

STATUSES = ("ok", "nan", "stopped")
_SCORES = ("final_return", "eval_return", "area_under_curve")
_BEFORE, _AFTER = ("run", "config"), ("seed", "status", "env_steps", *_SCORES, "wall_seconds")
_CURVE = ("run", "env_steps", "return_mean")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


class Results(NamedTuple):
    """A finished sweep of N runs.

    Attributes:
      folder: that it was read from.
      sweep, summary: `sweep.json` and `summary.json`.
      fields: names of what was swept.
      values: of each field, one value for each run: numbers, bools, strings, tuples or None.
      run, config, seed, env_steps: [N] int; runs of one config differ by their seed alone.
      status: [N] of `STATUSES`.
      final_return, eval_return, area_under_curve, wall_seconds: [N]; NaN where there is none.
      curves: of each run [K, 2] env steps and mean return; NaN where no episode ended.
    """

    folder: Path
    sweep: dict[str, Any]
    summary: dict[str, Any]
    fields: tuple[str, ...]
    values: dict[str, tuple[Any, ...]]
    run: np.ndarray
    config: np.ndarray
    seed: np.ndarray
    status: np.ndarray
    env_steps: np.ndarray
    final_return: np.ndarray
    eval_return: np.ndarray
    area_under_curve: np.ndarray
    wall_seconds: np.ndarray
    curves: tuple[np.ndarray, ...]

    def __repr__(self) -> str:
        return f"Results({self.folder}: {len(self.run)} runs of {len(np.unique(self.config))} configs)"


def best_run(results: Results) -> int:
    """The run with the highest final return.

    Raises:
      UsageError: no run has one.
    """
    if np.all(np.isnan(results.final_return)):
        raise UsageError(f"{results.folder}: no run has a final return, so none is the best; train longer")
    return int(results.run[np.nanargmax(results.final_return)])


# --- writing --------------------------------------------------------------------------------------------------------


def write_results(path: Path, fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes `results.csv` whole or not at all.

    Args:
      fields: names of what was swept.
      rows: a dict for each run, of every column; None or NaN where there is no score.
    """
    lines = []
    for row in rows:
        before, after = ([_cell(row[name]) for name in names] for names in (_BEFORE, _AFTER))
        lines.append([*before, *(format_value(row[field]) for field in fields), *after])
    write_csv(path, [*_BEFORE, *fields, *_AFTER], lines)


def write_curves(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes `curves.csv` whole or not at all; `rows` are dicts of run, env_steps and return_mean (None or NaN for none)."""
    write_csv(path, _CURVE, ([_cell(row[name]) for name in _CURVE] for row in rows))


def _cell(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else format_value(value)


def format_value(value: Any) -> str:
    """A field's value as on the command line: `64x64` for a tuple, `none`, `true`, floats with all digits that they need."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:.9g}"
        return text if float(text) == value else repr(value)
    if isinstance(value, (tuple, list)):
        return "x".join(map(format_value, value)) or "()"
    return str(value)


# --- reading --------------------------------------------------------------------------------------------------------


def read_cell(text: str) -> Any:
    """What `format_value` wrote; a tuple of one number reads as that number."""
    constants: dict[str, Any] = {"none": None, "true": True, "false": False, "()": ()}
    if text in constants:
        return constants[text]
    if re.fullmatch(rf"{_NUMBER}(x{_NUMBER})+", text):
        return tuple(map(read_cell, text.split("x")))
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(_NUMBER, text) else text


def read_results(folder: str | Path, summary: dict[str, Any] | None = None) -> Results:
    """Reads a finished sweep.

    Args:
      summary: that of a sweep whose `summary.json`, which is written last, is not there yet.

    Raises:
      UsageError: a folder without one, one that is not finished, or a table that cannot be read.
    """
    folder = Path(folder)
    if not (folder / "sweep.json").is_file():
        raise UsageError(f"{folder} holds no sweep; give a folder that `jaxrl sweep` wrote")
    for name in ("results.csv", "curves.csv", *(("summary.json",) if summary is None else ())):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder} holds a sweep that is not finished (no {name}); finish it with: {command('resume', folder)}"
            )
    again = _again(folder)
    sweep = read_json(folder / "sweep.json", {}, "run the sweep again")
    summary = read_json(folder / "summary.json", {}, again) if summary is None else summary
    fields = sweep.get("fields")
    if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
        raise UsageError(f"{folder / 'sweep.json'}: fields={fields!r} is not a list of names; run the sweep again")
    rows = read_table(folder / "results.csv", [*_BEFORE, *fields, *_AFTER], again)
    if not rows:
        raise UsageError(f"{folder / 'results.csv'} holds no run; {again}")
    columns = list(zip(*rows, strict=True))
    split = len(_BEFORE) + len(fields)
    values = {name: tuple(map(read_cell, column)) for name, column in zip(fields, columns[len(_BEFORE) : split], strict=True)}
    numbers = dict(zip(_BEFORE + _AFTER, columns[: len(_BEFORE)] + columns[split:], strict=True))
    status = np.array(numbers.pop("status"))
    arrays = {name: _numbers(folder / "results.csv", name, column) for name, column in numbers.items()}
    for number, text in enumerate(status):
        if text not in STATUSES:
            raise UsageError(
                f"{folder / 'results.csv'} line {number + 2}: status={str(text)!r} is none of {', '.join(STATUSES)}"
            )
    curves = read_curves(folder / "curves.csv", arrays["run"])
    return Results(folder, sweep, summary, tuple(fields), values, status=status, curves=curves, **arrays)


def _again(folder: Path) -> str:
    return f"write it again with: {command('resume', folder)}"


def _numbers(path: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    """[N] int, or float of columns whose cells may be empty."""
    kind: Any = int if name in ("run", "config", "seed", "env_steps") else float
    result = []
    for number, text in enumerate(cells):
        try:
            result.append(math.nan if kind is float and not text else kind(np.int64(text) if kind is int else text))
        except (ValueError, OverflowError):
            raise UsageError(f"{path} line {number + 2}: {name}={text!r} is not a number; {_again(path.parent)}") from None
    return np.array(result, kind)


def read_curves(path: Path, run: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of each of these runs [K, 2] env steps and mean return; errors as of `read_table`."""
    rows = read_table(path, _CURVE, _again(path.parent))
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    of, env_steps, value = (_numbers(path, name, column) for name, column in zip(_CURVE, columns, strict=True))
    points = np.stack([env_steps.astype(float), value], axis=1)
    return tuple(points[of == number] for number in run)


# --- scores ---------------------------------------------------------------------------------------------------------


class ConfigScores(NamedTuple):
    """A hyperparameter combination and the scores of its M runs that have one.

    Attributes:
      number: that of `results.csv`.
      values: of the swept fields.
      label: short name for plots, such as `3: 0.001, 64x64`.
      runs: rows of all its runs, with or without a score.
      scores: [M].
      iqm: their interquartile mean, NaN without any.
      interval: 95 % bootstrap interval over its runs, None of fewer than two.
    """

    number: int
    values: tuple[Any, ...]
    label: str
    runs: np.ndarray
    scores: np.ndarray
    iqm: float
    interval: tuple[float, float] | None


def score_runs(results: Results, name: str = "final_return", lowest: float | None = None) -> np.ndarray:
    """[N] one score for each run; NaN where there is none.

    A run that became NaN failed, and to leave it out would flatter its config: it counts as the lowest score.

    Args:
      lowest: that score; by default the lowest of the sweep.
    """
    scores = getattr(results, name).copy()
    finite = scores[np.isfinite(scores)]
    if len(finite):
        scores[results.status == "nan"] = finite.min() if lowest is None else lowest
    return scores


def rank(results: Results, scores: np.ndarray) -> list[ConfigScores]:
    """All configs, the one with the best interquartile mean first, those without a score last.

    Args:
      scores: [N], as `score_runs` gives.
    """
    ranked = [_config(results, scores, int(number)) for number in np.unique(results.config)]
    return sorted(ranked, key=lambda config: (math.isnan(config.iqm), -config.iqm if config.iqm == config.iqm else 0.0))


def _config(results: Results, scores: np.ndarray, number: int) -> ConfigScores:
    runs = np.flatnonzero(results.config == number)
    values = tuple(results.values[name][runs[0]] for name in results.fields)
    text = ", ".join(map(show_value, values)) or "base config"
    own = scores[runs]
    own = own[np.isfinite(own)]
    iqm, interval = math.nan, None
    if len(own):
        iqm = float(interquartile_mean(own))
    if len(own) > 1:
        low, high = bootstrap_interval(own, statistic=interquartile_mean)
        interval = (float(low), float(high))
    label = text if not results.fields else f"{number}: {text if len(text) <= 30 else text[:29] + '…'}"
    return ConfigScores(number, values, label, runs, own, iqm, interval)


def show_value(value: Any) -> str:
    """A field's value for people: floats of 4 digits."""
    return f"{value:.4g}" if isinstance(value, float) else format_value(value)
