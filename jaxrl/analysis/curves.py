"""Learning curves of runs, from their `metrics.jsonl`.

Runs of the same agent and environment make one curve: their mean with a bootstrap interval over runs, and each run thin behind.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis.stats import bootstrap_interval
from jaxrl.errors import UsageError
from jaxrl.records.rows import read_rows


def plot_runs(folders: list[Path], out: Path) -> None:
    """Draws training return (line), greedy evaluation (dots) and its interval over runs into the image `out`.

    Raises:
      UsageError: a folder without metrics, or an image format that cannot be written.
    """
    from matplotlib.figure import Figure

    groups: dict[str, list[Path]] = {}
    for folder in folders:
        groups.setdefault(_label(folder), []).append(folder)
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for index, (label, members) in enumerate(groups.items()):
        _draw_group(axes, f"C{index}", label, members)
    axes.set_xlabel("env steps")
    axes.set_ylabel("return (lines: training)")
    axes.xaxis.set_major_formatter(_steps_formatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot([], [], "o", color="0.4", mec="white", ms=6, label="greedy evaluation")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize="small")
    save_figure(figure, out, "out")


def save_figure(figure: Any, out: Path, option: str) -> None:
    """Writes a figure of matplotlib.

    Args:
      option: what gave the name, for the message.

    Raises:
      UsageError: a file that cannot be written.
    """
    try:
        figure.savefig(out, dpi=130)
    except (ValueError, OSError) as error:
        raise UsageError(f"{option}={out} cannot be written ({error}); give a .png, .svg or .pdf file") from None


def _steps_formatter() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def _label(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text())
        return f"{config['agent']} on {config['env']}"
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} holds no run; give folders that `jaxrl train` wrote") from None


def _curve(folder: Path, kind: str, field: str) -> np.ndarray:
    """[N, 2] env steps and values of the rows that have one."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise UsageError(f"{folder} has no metrics.jsonl yet; wait for its first row")
    rows = [row for row in read_rows(path) if row["kind"] == kind and row.get(field) is not None]
    return np.array([(row["env_steps"], row[field]) for row in rows], float).reshape(-1, 2)


def _draw_group(axes: Any, color: str, label: str, members: list[Path]) -> None:
    curves = [curve for curve in (_curve(m, "train", "return_mean") for m in members) if len(curve)]
    evaluations = np.concatenate([_curve(m, "eval", "eval_return") for m in members])
    begin, end = max((c[0, 0] for c in curves), default=0.0), min((c[-1, 0] for c in curves), default=0.0)
    if len(curves) == 1 or begin >= end:
        # One run, or runs that share no stretch of env steps: there is no mean to draw.
        for index, curve in enumerate(curves):
            axes.plot(*curve.T, color=color, lw=1.8, label=None if index else label)
    else:
        grid = np.linspace(begin, end, 200)
        values = np.stack([np.interp(grid, *c.T) for c in curves])
        for row in values:
            axes.plot(grid, row, color=color, lw=0.6, alpha=0.35)
        low, high = bootstrap_interval(values)
        axes.fill_between(grid, low, high, color=color, alpha=0.2, lw=0)
        axes.plot(grid, values.mean(0), color=color, lw=2.0, label=f"{label}, {len(curves)} runs")
    if len(evaluations):
        size = 6 if len(members) == 1 else 4
        axes.plot(*evaluations.T, "o", color=color, mec="white", ms=size)
