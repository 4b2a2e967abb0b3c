"""The picture of a claim: our curves, the interval of our score, and the published figure as a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis.curves import save_figure
from jaxrl.analysis.stats import bootstrap_interval
from jaxrl.claims.claim import SCORES, Claim
from jaxrl.claims.verdict import Judged
from jaxrl.sweeps.api import SweepResult

_OURS, _PUBLISHED = "#3b6fd4", "#d9534f"
_POINTS = 200


def draw_claim(claim: Claim, trained: SweepResult, judged: Judged, out: Path) -> None:
    """Draws training returns over env steps (thin: seeds; bold: mean with its 95 % interval), and the published figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    _draw_curves(axes, [curve[~np.isnan(curve[:, 1])] for curve in trained.results.curves])
    published = claim.published
    axes.axhline(published.mean, color=_PUBLISHED, lw=1.6, ls="--", label=f"published: {published.mean:g}{_spread(claim)}")
    if published.deviation is not None:
        low, high = published.mean - published.deviation, published.mean + published.deviation
        axes.axhspan(low, high, color=_PUBLISHED, alpha=0.08, lw=0)
    if judged.num_seeds:
        errors = None
        if judged.interval is not None:
            errors = np.abs(np.array(judged.interval) - judged.mean)[:, None]
        label = f"ours, {SCORES[claim.protocol.score]}: {judged.mean:.4g}"
        axes.errorbar([trained.results.env_steps.max() * 1.02], [judged.mean], errors, fmt="o", color="#1f2937", label=label)
    axes.set_title(f"{claim.name}: {judged.word}".replace("$", r"\$"), loc="left", fontsize="medium")
    axes.set(xlabel="env steps", ylabel="training return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, out, "out")


def _spread(claim: Claim) -> str:
    deviation = claim.published.deviation
    return "" if deviation is None else f" ± {deviation:g} ({claim.published.kind})"


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
    axes.plot(grid, values.mean(axis=0), color=_OURS, lw=2.0, label=f"ours, training, {len(curves)} seeds")
