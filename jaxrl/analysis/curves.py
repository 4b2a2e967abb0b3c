"""Learning curves of runs, sweeps and searches, as an image.

    plot_runs(["runs/a", "runs/b", "runs/sweep"], "curves.png", by=("learning_rate",))

Runs that differ in nothing but the seed make one curve: their mean with a bootstrap interval over runs, each run thin behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.analysis.learned import Curve, group, read_learned
from jaxrl.analysis.stats import bootstrap_interval
from jaxrl.errors import DiskError, UsageError, one_line
from jaxrl.records.console import say
from jaxrl.records.files import whole

_NUM_COLORED, _NUM_WITH_RUNS = 10, 4
"""Curves that have a colour, and up to which single runs are drawn as well."""


def plot_runs(folders: Sequence[Path | str], out: Path | str, by: Sequence[str] = ()) -> None:
    """Draws training return (line), greedy evaluation (dots) and its interval over runs into the image `out`.

    Runs that differ in nothing but the seed make one curve; each is drawn to its end, their mean where all of them are. Of more
    than four curves runs are drawn only beyond their mean, of more than ten the ten that end highest have a colour.

    Args:
      folders: of runs, sweeps and searches.
      by: fields of the runs, or `env.NAME`, that alone tell curves apart.

    Raises:
      UsageError: a folder without metrics, an unknown field, or an image format that cannot be written.
    """
    from matplotlib.figure import Figure

    distinct = {Path(folder).resolve(): Path(folder) for folder in folders}
    title, curves = group([run for folder in distinct.values() for run in read_learned(folder)], by)
    drawn = [_middle(curve) for curve in curves]
    named, rest = list(range(len(curves))), list[int]()
    if len(curves) > _NUM_COLORED:
        named.sort(key=lambda index: -drawn[index].last)
        named, rest = named[:_NUM_COLORED], named[_NUM_COLORED:]
    is_wide = len(named) > 4 or max(len(curve.label) for curve in curves) > 40
    figure = Figure(figsize=(10.5 if is_wide else 7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for index in rest:
        axes.plot(drawn[index].grid, drawn[index].values.mean(0), color="0.78", lw=0.7, zorder=1)
    for place, index in enumerate(named):
        _draw(axes, f"C{place}", curves[index], drawn[index], len(named) <= _NUM_WITH_RUNS)
    if rest:
        axes.plot([], [], color="0.78", lw=1.2, label=f"{len(rest)} more, which end lower")
    if any(len(run.evaluations) for index in named for run in curves[index].runs):
        axes.plot([], [], "o", color="0.4", mec="white", ms=6, label="greedy evaluation")
    if not axes.get_legend_handles_labels()[1]:
        axes.plot([], [], " ", label="no return is a number yet")
    finish(axes, "return (lines: training)")
    head = {"title": literal(title), "alignment": "left"} if len(curves) > 1 else {}
    if is_wide:
        figure.legend(frameon=False, loc="outside right upper", fontsize="small", **head)
    else:
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize="small", **head)
    save_figure(figure, Path(out), "out")


def finish(axes: Any, of: str) -> None:
    """What all axes over env steps have; `of`: what is drawn there."""
    axes.set_xlabel("env steps")
    axes.set_ylabel(of)
    axes.xaxis.set_major_formatter(_steps_formatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def literal(text: str) -> str:
    """Text as matplotlib shows it letter by letter: `$` begins no mathematics, `_` hides nothing from a legend."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def draw_or_say(draw: Callable[[], object], fix: str) -> None:
    """Draws what belongs to results; whatever fails there is said, and the results are written all the same."""
    try:
        draw()
    except Exception as error:
        say(f"it could not be drawn ({one_line(error)}); {fix}")


def save_figure(figure: Any, out: Path, option: str) -> None:
    """Writes a figure of matplotlib whole or not at all.

    Args:
      option: what gave the name, for the message.

    Raises:
      UsageError: a file that cannot be written.
    """
    try:
        with whole(out) as partial:
            figure.savefig(partial, dpi=130, format=out.suffix[1:] or None)
    except (ValueError, DiskError) as error:
        raise UsageError(f"{option}={out} cannot be written ({error}); give a .png, .svg or .pdf file") from None


def _steps_formatter() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


class _Middle(NamedTuple):
    """Where all runs of a curve are.

    Attributes:
      grid: [K] env steps.
      values: [N, K] returns of the runs; none where the runs share no stretch of env steps.
      last: their mean at the end, or the best run's last return.
    """

    grid: np.ndarray
    values: np.ndarray
    last: float


def _middle(curve: Curve) -> _Middle:
    lines = [run.curve for run in curve.runs if len(run.curve)]
    if len(lines) == 1:
        return _Middle(lines[0][:, 0], lines[0][None, :, 1], float(lines[0][-1, 1]))
    begin, end = max((c[0, 0] for c in lines), default=0.0), min((c[-1, 0] for c in lines), default=0.0)
    if begin >= end:
        return _Middle(np.empty(0), np.empty((1, 0)), max((c[-1, 1] for c in lines), default=-math.inf))
    grid = np.linspace(begin, end, 200)
    values = np.stack([np.interp(grid, *c.T) for c in lines])
    return _Middle(grid, values, float(values[:, -1].mean()))


def _draw(axes: Any, color: str, curve: Curve, middle: _Middle, with_runs: bool) -> None:
    """Draws a curve; of its single runs at least what goes on where their mean ends."""
    lines = [run.curve for run in curve.runs if len(run.curve)]
    label, thin = literal(curve.label), {"lw": 0.6, "alpha": 0.35} if len(middle.grid) else {"lw": 1.2}
    if len(lines) > 1:
        longest = max(line[-1, 0] for line in lines)
        for line in lines:
            shown = line if with_runs or not len(middle.grid) else line[line[:, 0] >= middle.grid[-1]]
            axes.plot(*shown.T, color=color, **thin)
        label += f", {len(lines)} runs" + f" of {curve.num_kinds} kinds" * (curve.num_kinds > 1)
        if not len(middle.grid):
            label += " that share no env steps"
        elif middle.grid[-1] < longest:
            shorter, longer = (_steps_formatter()(steps) for steps in (middle.grid[-1], longest))
            label += f", mean to {shorter} of {longer}"
            end = f"{middle.grid[-1]:,.0f} env steps with its shortest run; the longest has {longest:,.0f}"
            say(f"{curve.label}: the mean ends at {end}")
        if len(middle.grid):
            axes.fill_between(
                middle.grid, *bootstrap_interval(middle.values), color=color, alpha=0.2 if with_runs else 0.12, lw=0
            )
    if lines:
        axes.plot(middle.grid, middle.values.mean(0), color=color, lw=1.8, label=label)
    evaluations = np.concatenate([run.evaluations for run in curve.runs])
    if len(evaluations):
        axes.plot(*evaluations.T, "o", color=color, mec="white", ms=6 if len(curve.runs) == 1 else 4)
