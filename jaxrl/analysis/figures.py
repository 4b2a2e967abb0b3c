"""Figures of a sweep's report, each a function of the results and of its configs, best first.

    image = svg(draw_curves, results, ranked)

A config has the same colour in all figures: the ten best have one each, the rest are grey.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxrl.analysis import stats
from jaxrl.analysis.curves import literal
from jaxrl.analysis.results import ConfigScores, Results, show_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#3b6fd4", "#e8963a", "#d9534f", "#2f9e77", "#8b5cd6", "#c2508f", "#4aa8c9", "#9b7653", "#93a12c", "#6b7280")
NUM_COLORED = len(COLORS)
NUM_COMPARED = 8
"""Configs of the matrix and of the profiles."""
NUM_DOTS = 25
_GREY, _INK, _FAILED = "#b6bec9", "#334155", "#d9534f"
_WIDTH = 10.6
_POINTS = 100
_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#94a3b8",
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e8f0",
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "svg.hashsalt": "jaxrl",
}


def svg(draw: Callable[..., Figure], *arguments: Any) -> bytes:
    """The picture that a function of this module draws, the same bytes for the same results."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        image = io.BytesIO()
        figure = draw(*arguments)
        figure.savefig(image, format="svg", dpi=130, metadata={"Date": None, "Creator": None})
    return image.getvalue()


def _figure(height: float, width: float = _WIDTH) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def color_of(ranked: list[ConfigScores]) -> dict[int, str]:
    """Colours of the best configs, by their number."""
    return {config.number: color for config, color in zip(_scored(ranked), COLORS, strict=False)}


def _label(config: ConfigScores) -> str:
    return literal(config.label)


def _scored(ranked: list[ConfigScores]) -> list[ConfigScores]:
    return [config for config in ranked if len(config.scores)]


# --- learning curves ------------------------------------------------------------------------------------------------


def draw_curves(results: Results, ranked: list[ConfigScores]) -> Figure:
    """Training return over env steps: interquartile mean of a config's runs with its interval."""
    from matplotlib.ticker import EngFormatter

    figure = _figure(4.6)
    axes = figure.add_subplot()
    colors = color_of(ranked)
    rest = [config for config in ranked if config.number not in colors]
    axes.add_collection(_grey_curves(results, rest))
    for place, config in enumerate(_scored(ranked)[:NUM_COLORED]):
        grid, values = _curve_of(results, config)
        if not len(values):
            continue
        order = 4 - place / NUM_COLORED
        if len(values) > 1:
            low, high = stats.bootstrap_interval(values, draws=1000, statistic=stats.interquartile_mean)
            axes.fill_between(grid, low, high, color=colors[config.number], alpha=0.14, lw=0, zorder=order)
        center = stats.interquartile_mean(values, axis=0)
        runs = f"  ({len(values)} runs)" if len(values) > 1 else ""
        axes.plot(grid, center, color=colors[config.number], lw=1.9, zorder=order, label=_label(config) + runs)
    if rest:
        axes.plot([], [], color=_GREY, lw=1.2, label=f"{len(rest)}{' more' * bool(colors)} config{'s' * (len(rest) > 1)}")
    axes.set(xlabel="env steps", ylabel="training return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(x=0.01)
    axes.autoscale_view()
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


def _grey_curves(results: Results, configs: list[ConfigScores]) -> Any:
    from matplotlib.collections import LineCollection

    lines = [
        np.stack([grid, stats.interquartile_mean(values, axis=0)], axis=1)
        for grid, values in (_curve_of(results, config) for config in configs)
        if len(values)
    ]
    return LineCollection(
        lines, color=_GREY, lw=0.7, alpha=0.6 if len(lines) < 100 else 0.3, zorder=1, rasterized=len(lines) > 50
    )


def _curve_of(results: Results, config: ConfigScores) -> tuple[np.ndarray, np.ndarray]:
    """Grid [K] of env steps and values [M, K] of the config's runs, without those that became NaN unless all did.

    A run that stopped early goes on at its last value: to leave out runs that stopped since they were good would tell less.
    """
    curves = {run: results.curves[run][~np.isnan(results.curves[run][:, 1])] for run in config.runs}
    runs = [run for run in config.runs if len(curves[run]) > 1]
    runs = [run for run in runs if results.status[run] != "nan"] or runs
    if not runs:
        return np.empty(0), np.empty((0, 0))
    begin, end = max(curves[run][0, 0] for run in runs), max(curves[run][-1, 0] for run in runs)
    if begin >= end:
        return np.empty(0), np.empty((0, 0))
    grid = np.linspace(begin, end, _POINTS)
    return grid, np.stack([np.interp(grid, *curves[run].T) for run in runs])


# --- configs beside each other --------------------------------------------------------------------------------------


def draw_dots(ranked: list[ConfigScores]) -> Figure:
    """Interquartile mean of each config with its interval, each run faint behind."""
    shown, colors = _scored(ranked)[:NUM_DOTS], color_of(ranked)
    figure = _figure(0.85 + 0.27 * len(shown))
    axes = figure.add_subplot()
    for place, config in enumerate(shown):
        color = colors.get(config.number, "#7d8896")
        if len(config.scores) > 1:
            axes.plot(config.scores, np.full(len(config.scores), place), "o", color=color, ms=3.5, alpha=0.35, mew=0)
        if config.interval is not None:
            axes.plot(config.interval, [place, place], color=color, lw=2.4, solid_capstyle="round")
        axes.plot(config.iqm, place, "o", color=color, mec="white", mew=1.0, ms=7.5)
    axes.set(xlabel="final return", ylim=(len(shown) - 0.4, -0.6))
    axes.set_yticks(range(len(shown)), [_label(config) for config in shown], fontsize="small")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


def draw_improvement(ranked: list[ConfigScores]) -> Figure:
    """Probability that a run of the row's config beats one of the column's."""
    shown = _scored(ranked)[:NUM_COMPARED]
    figure = _figure(1.5 + 0.56 * len(shown), min(_WIDTH, 4.2 + 0.98 * len(shown)))
    axes = figure.add_subplot()
    matrix = np.full((len(shown), len(shown)), np.nan)
    for row, column in np.ndindex(matrix.shape):
        if row != column:
            x, y = shown[row].scores, shown[column].scores
            matrix[row, column] = stats.probability_of_improvement(x, y)
            _write_probability(axes, row, column, float(matrix[row, column]), x, y)
    image = axes.imshow(matrix, cmap="RdBu", vmin=-0.12, vmax=1.12, aspect="auto")
    labels = [_label(config) for config in shown]
    axes.set_yticks(range(len(shown)), labels, fontsize="small")
    axes.set_xticks(range(len(shown)), [label.split(":")[0] for label in labels], fontsize="small")
    axes.set(xlabel="… beats a run of config", ylabel="chance that a run of config …")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, boundaries=np.linspace(0, 1, 101), ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    return figure


def _write_probability(axes: Axes, row: int, column: int, value: float, x: np.ndarray, y: np.ndarray) -> None:
    color = "white" if abs(value - 0.5) > 0.36 else _INK
    if min(len(x), len(y)) < 2:
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
        return
    low, high = stats.improvement_interval(x, y)
    weight = "bold" if low > 0.5 or high < 0.5 else "normal"
    axes.text(column, row - 0.12, f"{value:.2f}", ha="center", va="center", color=color, weight=weight)
    axes.text(column, row + 0.24, f"{low:.2f}-{high:.2f}", ha="center", va="center", color=color, fontsize=7)


def draw_profiles(scores: np.ndarray, strata: np.ndarray, ranked: list[ConfigScores]) -> Figure:
    """Fraction of runs that score above tau, of the best configs and of all runs.

    Args:
      scores: [N] of the runs that have one.
      strata: [N] their configs.
    """
    figure = _figure(4.0)
    axes = figure.add_subplot()
    margin = 0.02 * (scores.max() - scores.min() or 1.0)
    taus = np.linspace(scores.min() - margin, scores.max() + margin, 400)
    shown = [config for config in _scored(ranked)[:NUM_COMPARED] if len(config.scores) > 1]
    whole = len(shown) != 1 or len(scores) > len(shown[0].scores)
    if whole and len(scores) > 1:
        # One run in each config: drawn anew within configs they would never differ.
        one_each = len(np.unique(strata)) == len(strata)
        low, high = stats.profile_band(scores, taus, draws=500, strata=None if one_each else strata)
        axes.fill_between(taus, low, high, color=_GREY, alpha=0.25, lw=0)
    if whole:
        profile = stats.performance_profile(scores, taus)
        axes.plot(taus, profile, color="#64748b", ls=(0, (4, 2)), lw=1.6, label=f"all {len(scores)} runs")
    colors = color_of(ranked)
    for config in shown:
        color = colors[config.number]
        low, high = stats.profile_band(config.scores, taus)
        axes.fill_between(taus, low, high, color=color, alpha=0.1, lw=0)
        axes.plot(taus, stats.performance_profile(config.scores, taus), color=color, lw=1.8, label=_label(config))
    axes.set(xlabel="τ (final return)", ylabel="fraction of runs above τ", ylim=(-0.02, 1.02))
    axes.margins(x=0)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


# --- hyperparameters ------------------------------------------------------------------------------------------------


class _Scale(NamedTuple):
    """Where a field's values lie on an axis: [N] positions; names of categories, None of numbers."""

    positions: np.ndarray
    names: list[str] | None
    log: bool


def _scale(values: tuple[Any, ...]) -> _Scale:
    """Numbers lie where they are, on a logarithmic axis where they span more than a factor of 30; else categories."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        positions = np.array(values, float)
        return _Scale(positions, None, bool(positions.min() > 0 and positions.max() > 30 * positions.min()))
    kinds = sorted(set(values), key=_order)
    return _Scale(
        np.array([kinds.index(value) for value in values], float), [literal(show_value(kind)) for kind in kinds], False
    )


def _order(value: Any) -> tuple[int, Any]:
    if isinstance(value, (int, float)):
        return 1, (float(value),)
    return (0, ()) if value is None else (2, value) if isinstance(value, tuple) else (3, (str(value),))


def draw_sensitivity(results: Results, scores: np.ndarray) -> Figure:
    """Score of every run against each swept field, with the interquartile mean of runs of alike values.

    Args:
      scores: [N]; NaN of runs without one, which are left out.
    """
    columns = min(3, len(results.fields))
    rows = math.ceil(len(results.fields) / columns)
    figure = _figure(3.1 * rows, _WIDTH if columns > 1 else 6.5)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, field in zip(panels, results.fields, strict=False):
        _draw_field(axes, field, _scale(results.values[field]), scores, results.status == "nan")
    for axes in panels[len(results.fields) :]:
        axes.set_visible(False)
    for axes in panels[::columns]:
        axes.set_ylabel("final return")
    return figure


def _draw_field(axes: Axes, field: str, scale: _Scale, scores: np.ndarray, failed: np.ndarray) -> None:
    present = np.isfinite(scores)
    x = scale.positions + (0.0 if scale.names is None else np.random.default_rng(0).uniform(-0.14, 0.14, len(scores)))
    alive = present & ~failed
    crowd = 0.55 if len(scores) < 120 else 0.3
    axes.plot(x[alive], scores[alive], "o", color="#7f9bd1", ms=4, mew=0, alpha=crowd)
    axes.plot(x[failed & present], scores[failed & present], "x", color=_FAILED, ms=5, mew=1.2, alpha=0.8)
    centers = _centers(scale.positions[present], scores[present])
    if len(centers) > 1:
        place, middle, low, high = np.array(centers).T
        axes.vlines(place, low, high, color="#1e3a8a", lw=2.2)
        style = "o-" if scale.names is None else "o"
        axes.plot(place, middle, style, color="#1e3a8a", lw=1.4, ms=6.5, mec="white", mew=1.0)
    if scale.log:
        axes.set_xscale("log")
    if scale.names is not None:
        slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if sum(map(len, scale.names)) > 28 else {}
        axes.set_xticks(range(len(scale.names)), scale.names, fontsize="small", **slanted)
        axes.set_xlim(-0.6, len(scale.names) - 0.4)
        axes.grid(visible=False, axis="x")
    axes.set_xlabel(literal(field))


def _centers(positions: np.ndarray, scores: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Place, interquartile mean and its interval of the runs at each value, or in bins of as many runs each of random draws."""
    kinds = np.unique(positions)
    if 2 * len(kinds) <= len(positions) and len(kinds) <= 12:
        groups = [np.flatnonzero(positions == kind) for kind in kinds]
    else:
        groups = np.array_split(np.argsort(positions, kind="stable"), min(8, len(positions) // 6) or 1)
    result = []
    for members in groups:
        low, high = stats.bootstrap_interval(scores[members], statistic=stats.interquartile_mean)
        middle = stats.interquartile_mean(scores[members])
        result.append((float(np.median(positions[members])), float(middle), float(low), float(high)))
    return result


def draw_parallel(results: Results, ranked: list[ConfigScores]) -> Figure:
    """A line for each config through its values, coloured by its interquartile mean."""
    import matplotlib
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    shown = _scored(ranked)[::-1]
    first = [config.runs[0] for config in shown]
    score = np.array([config.iqm for config in shown])
    scales = [_scale(tuple(results.values[field][run] for run in first)) for field in results.fields]
    scales.append(_Scale(score, None, False))
    heights = np.stack([_unit(scale) for scale in scales], axis=1)
    figure = _figure(4.2)
    axes = figure.add_subplot()
    colors = matplotlib.colormaps["viridis_r"]
    norm = Normalize(score.min(), score.max() if score.max() > score.min() else score.min() + 1.0)
    smooth, lines = _smooth(heights)
    width = 2.2 if len(shown) <= 30 else 1.5
    found = LineCollection(
        [np.stack([smooth, line], axis=1) for line in lines], array=score, cmap=colors, norm=norm, lw=width, alpha=0.8
    )
    found.set_rasterized(len(shown) > 150)
    axes.add_collection(found)
    for place, scale in enumerate(scales):
        _draw_scale(axes, place, scale)
    names = [*map(literal, results.fields), "final return\n(IQM)"]
    axes.set_xticks(range(len(names)), names)
    axes.set(xlim=(-0.35, len(names) - 0.6), ylim=(-0.05, 1.05), yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0, pad=8)
    figure.colorbar(found, ax=axes, fraction=0.025, pad=0.01, label="final return (IQM)").outline.set_visible(False)
    return figure


def _unit(scale: _Scale) -> np.ndarray:
    """[N] heights in [0, 1]."""
    positions = np.log(scale.positions) if scale.log else scale.positions
    span = np.ptp(positions)
    return (positions - positions.min()) / span if span > 0 else np.full(len(positions), 0.5)


def _smooth(heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves that pass each axis level, so that lines which meet on one can be told apart: x [P], y [N, P]."""
    part = np.linspace(0.0, 1.0, 21)[:-1]
    ease = part * part * (3.0 - 2.0 * part)
    x = [place + part for place in range(heights.shape[1] - 1)]
    y = [a[:, None] + (b - a)[:, None] * ease for a, b in zip(heights.T[:-1], heights.T[1:], strict=True)]
    return np.concatenate([*x, [heights.shape[1] - 1.0]]), np.concatenate([*y, heights[:, -1:]], axis=1)


def _draw_scale(axes: Axes, place: int, scale: _Scale) -> None:
    axes.plot([place, place], [0, 1], color="#64748b", lw=1.1, zorder=3)
    for text, height in _ticks(scale):
        axes.plot([place - 0.012, place + 0.012], [height, height], color="#64748b", lw=1.1, zorder=3)
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
        axes.text(place - 0.025, height, text, ha="right", va="center", fontsize=8, zorder=4, bbox=box)


def _ticks(scale: _Scale) -> list[tuple[str, float]]:
    """Texts and heights: every value where there are few, else five places from end to end."""
    heights = _unit(scale)
    kinds, first = np.unique(scale.positions, return_index=True)
    if scale.names is not None:
        return [(scale.names[int(kind)], float(heights[run])) for kind, run in zip(kinds, first, strict=True)]
    if len(kinds) <= 6 and np.diff(np.sort(heights[first])).min(initial=1.0) > 0.04:
        return [(show_value(float(kind)), float(heights[run])) for kind, run in zip(kinds, first, strict=True)]
    places = np.linspace(0.0, 1.0, 5)
    low, high = kinds[0], kinds[-1]
    values = low * (high / low) ** places if scale.log else low + (high - low) * places
    return [(f"{value:.3g}", float(height)) for value, height in zip(values, places, strict=True)]
