"""The picture of a claim: our curves, the interval of our score, and the published figure as a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis.curves import literal, save_figure
from jaxrl.analysis.stats import bootstrap_interval
from jaxrl.claims.claim import DEVIATIONS, SCORES, Claim
from jaxrl.claims.verdict import Judged
from jaxrl.sweeps.api import SweepResult

_OURS, _SCORE, _PUBLISHED, _RANDOM = "#3b6fd4", "#1f2937", "#d9534f", "#6b7280"
_POINTS = 200
_RARE = 0.005
"""Share of a curve's points at each end that the picture may cut off."""


def draw_claim(claim: Claim, trained: SweepResult, judged: Judged, out: Path) -> None:
    """Draws training returns (thin: seeds; bold: mean and its 95 % interval), our score and the published one."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    curves = [curve[~np.isnan(curve[:, 1])] for curve in trained.results.curves]
    _draw_curves(axes, curves)
    published, spread = claim.published, claim.published.deviation or 0.0
    shown = [published.mean - spread, published.mean + spread, published.random]
    axes.axhline(published.mean, color=_PUBLISHED, lw=1.6, ls="--", label=_words(claim))
    axes.axhspan(*shown[:2], color=_PUBLISHED, alpha=0.12, lw=0)
    axes.axhline(published.random, color=_RANDOM, lw=1.0, ls=":", label=f"random play: {published.random:g}")
    if judged.num_seeds:
        low, high = judged.interval or (judged.mean, judged.mean)
        interval = "" if judged.interval is None else f" [{low:.4g}, {high:.4g}], the 95 % interval"
        label = f"ours, {SCORES[claim.protocol.score]}: {judged.mean:.4g}{interval}"
        errors = np.abs(np.array([low, high]) - judged.mean)[:, None]
        place = [trained.results.env_steps.max() * 1.03]
        axes.errorbar(place, [judged.mean], errors, fmt="o", color=_SCORE, ms=5, capsize=4, label=label, zorder=5)
        shown += [low, high]
    shown += [value for curve in curves if len(curve) for value in np.quantile(curve[:, 1], [_RARE, 1.0 - _RARE])]
    margin = 0.05 * (max(shown) - min(shown))
    axes.set_ylim(min(shown) - margin, max(shown) + margin)
    axes.set_title(literal(f"{claim.name}: {judged.word}"), loc="left", fontsize="medium")
    axes.set(xlabel="env steps", ylabel="return of training episodes")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", frameon=False, fontsize="small")
    save_figure(figure, out, "out")


def _words(claim: Claim) -> str:
    published = claim.published
    deviation = "" if published.deviation is None else f" ± {published.deviation:g} ({DEVIATIONS[published.kind]})"
    return literal(f"published: {published.mean:g}{deviation}, {published.source}")


def _draw_curves(axes: Any, curves: list[np.ndarray]) -> None:
    curves = [curve for curve in curves if len(curve)]
    if not curves:
        return
    begin, end = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
    for curve in curves:
        axes.plot(*curve.T, color=_OURS, lw=0.6, alpha=0.4)
    if len(curves) < 2 or begin >= end:
        return
    grid = np.linspace(begin, end, _POINTS)
    values = np.stack([np.interp(grid, *curve.T) for curve in curves])
    axes.fill_between(grid, *bootstrap_interval(values), color=_OURS, alpha=0.2, lw=0)
    axes.plot(
        grid,
        values.mean(axis=0),
        color=_OURS,
        lw=2.0,
        label=f"ours, training: the mean of {len(curves)} seeds and its 95 % interval",
    )
