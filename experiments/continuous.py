"""Off-policy agents side by side on MuJoCo, at equal env steps.

    jaxrl train sac --env envpool/HalfCheetah-v4 --tuned --total-steps 300_000 --eval-every 20_000 --out runs/sac
    jaxrl train td3 --env envpool/HalfCheetah-v4 --tuned --total-steps 300_000 --eval-every 20_000 --out runs/td3
    python experiments/continuous.py HalfCheetah-v4 runs/sac runs/td3

Draws the curves of runs, sweeps and searches of one environment, and keeps what each run had reached, in
`results/continuous/NAME.json` and `.png`, and all such files as a page. A score is the mean of the last five evaluations, so
that one lucky evaluation does not make it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxrl.analysis.curves import plot_runs
from jaxrl.analysis.learned import Learned, group, read_learned
from jaxrl.analysis.stats import bootstrap_interval
from jaxrl.errors import UsageError
from jaxrl.records.files import read_json, write_json, write_whole
from jaxrl.runs.definition import versions

RESULTS = Path(__file__).parent / "results" / "continuous"
NUM_LAST = 5
"""Evaluations of which a score is the mean."""
_PAGE = (
    "# Off-policy agents on MuJoCo",
    "",
    "Written by `python experiments/continuous.py` from the files here. A score is the mean return of the last five greedy",
    "evaluations of training; of several seeds their mean, with a bootstrap interval over them.",
    "",
)


def scored(label: str, run: Learned) -> dict[str, Any]:
    """What one run reached, and its evaluations.

    Raises:
      UsageError: a run that was never evaluated.
    """
    if not len(run.evaluations):
        raise UsageError(f"{run.name} has no evaluations; train it with --eval-every 20_000")
    last = run.evaluations[-NUM_LAST:]
    return {
        "label": label,
        "agent": run.fields["agent"],
        "seed": run.fields["seed"],
        "env_steps": int(run.evaluations[-1, 0]),
        "score": float(last[:, 1].mean()),
        "best": float(run.evaluations[:, 1].max()),
        "training_return": float(run.curve[-1, 1]) if len(run.curve) else None,
        "evaluations": [[int(steps), round(value, 2)] for steps, value in run.evaluations.tolist()],
        "fields": {name: value for name, value in run.fields.items() if name != "seed"},
    }


def page(results: Path = RESULTS) -> str:
    """All files of a folder as one table."""
    lines = list(_PAGE)
    for path in sorted(results.glob("*.json")):
        found = read_json(path, {"runs": list}, "keep the runs again")
        lines += [
            f"## {path.stem}",
            "",
            f"![curves]({path.stem}.png)",
            "",
            "| runs | seeds | env steps | score | 95 % | best |",
        ]
        lines.append("| --- | --- | --- | --- | --- | --- |")
        for label in dict.fromkeys(one["label"] for one in found["runs"]):
            runs = [one for one in found["runs"] if one["label"] == label]
            scores = np.array([one["score"] for one in runs])
            low, high = bootstrap_interval(scores) if len(scores) > 1 else (np.nan, np.nan)
            interval = f"{low:,.0f} .. {high:,.0f}" if len(scores) > 1 else ""
            steps = f"{min(one['env_steps'] for one in runs):,}"
            best = f"{max(one['best'] for one in runs):,.0f}"
            seeds = ", ".join(str(one["seed"]) for one in runs)
            lines.append(f"| {label} | {seeds} | {steps} | {scores.mean():,.0f} | {interval} | {best} |")
        lines.append("")
    return "\n".join(lines)


def main(
    name: tyro.conf.Positional[str], runs: tyro.conf.Positional[tuple[Path, ...]], by: tuple[str, ...] = ("agent",)
) -> None:
    """Keeps curves and scores of runs.

    Args:
      name: of the files.
      runs: folders of runs, sweeps and searches.
      by: fields of the runs, or env.NAME, that alone tell curves apart.
    """
    if not runs:
        raise UsageError("runs: there are none; give folders of runs, sweeps or searches behind the name")
    _, curves = group([run for folder in runs for run in read_learned(folder)], by)
    found = [scored(curve.label, run) for curve in curves for run in curve.runs]
    if len({one["fields"]["env"] for one in found}) > 1:
        raise UsageError("runs are of several environments; draw each apart")
    RESULTS.mkdir(parents=True, exist_ok=True)
    plot_runs(runs, RESULTS / f"{name}.png", by)
    write_json(RESULTS / f"{name}.json", {"runs": found, "versions": versions()})
    write_whole(RESULTS / "README.md", page())
    table = Table("runs", "seed", "env steps", "score", "best", "training return")
    for one in found:
        training = "" if one["training_return"] is None else f"{one['training_return']:,.0f}"
        table.add_row(
            one["label"], str(one["seed"]), f"{one['env_steps']:,}", f"{one['score']:,.0f}", f"{one['best']:,.0f}", training
        )
    Console().print(table)


if __name__ == "__main__":
    try:
        tyro.cli(main, description=__doc__)
    except UsageError as error:
        print(f"continuous.py: {error}", file=sys.stderr)
        sys.exit(2)
