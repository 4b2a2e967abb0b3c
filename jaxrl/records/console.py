"""What a run reports: rows of `metrics.jsonl`, sinks such as TensorBoard, the progress bar and the final table.

Knows rows of plain numbers, nothing of algorithms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table


def console() -> Console:
    """Where progress and messages go: standard error, so that standard output stays for results.

    It shows texts letter by letter: names of folders, environments and agents may hold what rich would read as markup.
    """
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(message: str) -> None:
    """One line of a message to the user, whatever the width of the terminal."""
    console().print(message, soft_wrap=True)


# --- progress -------------------------------------------------------------------------------------------------------


class Bar(NamedTuple):
    """A progress display.

    Attributes:
      advance: (env_steps so far, last return or None) -> None.
      close: () -> None.
    """

    advance: Callable[[int, float | None], None]
    close: Callable[[], None]


def open_bar(total_steps: int, done_steps: int, out: Console, compiles: bool = False) -> Bar:
    """A live bar on a terminal: env steps, env steps/s, the last return and the time left. Elsewhere ten plain lines.

    Args:
      compiles: what is compiled comes before the first report, which says nothing of the speed then.
    """
    speed = _Speed(total_steps, done_steps, compiles)
    if not out.is_terminal:
        return _plain_bar(total_steps, done_steps, out, speed)
    bar = Progress(
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} env steps"),
        BarColumn(),
        TextColumn("{task.fields[rate]} steps/s"),
        TextColumn("return {task.fields[score]}"),
        TextColumn("{task.fields[left]} s left"),
        console=out,
    )
    task = bar.add_task("train", total=total_steps, completed=done_steps, rate="-", score="-", left="-")
    bar.start()

    def advance(env_steps: int, score: float | None) -> None:
        found, shown = speed.after(env_steps), "-" if score is None else f"{score:.1f}"
        rate, left = ("-", "-") if found is None else (f"{found[0]:,.0f}", f"{found[1]:.0f}")
        bar.update(task, completed=min(env_steps, total_steps), rate=rate, score=shown, left=left)

    return Bar(advance, bar.stop)


class _Speed:
    """Env steps/s and the seconds that are left."""

    def __init__(self, total_steps: int, done_steps: int, compiles: bool) -> None:
        self.total_steps = total_steps
        self.origin = None if compiles else (time.perf_counter(), done_steps)

    def after(self, env_steps: int) -> tuple[float, float] | None:
        """Both after so many env steps; None where nothing can be known yet."""
        if self.origin is None:
            self.origin = (time.perf_counter(), env_steps)
            return None
        begun, done_steps = self.origin
        rate = (env_steps - done_steps) / max(time.perf_counter() - begun, 1e-9)
        return rate, max((self.total_steps - env_steps) / max(rate, 1e-9), 0.0)


def _plain_bar(total_steps: int, done_steps: int, out: Console, speed: _Speed) -> Bar:
    shown = {"tenths": 10 * done_steps // total_steps}

    def advance(env_steps: int, score: float | None) -> None:
        found, tenths = speed.after(env_steps), 10 * env_steps // total_steps
        if tenths <= shown["tenths"]:
            return
        shown["tenths"] = tenths
        parts = [f"{env_steps:,} of {total_steps:,} env steps"]
        parts += [] if found is None else [f"{found[0]:,.0f} steps/s"]
        parts += [] if score is None else [f"return {score:.1f}"]
        parts += [] if found is None else [f"{found[1]:.0f} s left"]
        out.print(", ".join(parts))

    return Bar(advance, lambda: None)


PARTS = ("prepare", "compile", "training", "evaluation", "saving", "plotting")
"""Of the wall clock, which they add up to."""


def summary_table(summary: Mapping[str, Any], folder: Path) -> Table:
    """The end of a run as a table."""
    table = Table(title=f"{summary['agent']} on {summary['env']}, seed {summary['seed']}", show_header=False)
    evaluation, training = summary["evaluation"], summary["training_return"]
    rows = {
        "greedy return": _score(evaluation),
        "last training episodes": _score(training),
        "env steps": f"{summary['env_steps']:,}",
        "env steps/s": f"{summary['steps_per_second']:,.0f}" if summary["steps_per_second"] else "-",
        **{part: f"{summary[f'{part}_seconds']:.1f} s" for part in PARTS if f"{part}_seconds" in summary},
        "wall clock": f"{summary['wall_seconds']:.1f} s",
        "folder": str(folder),
    }
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _score(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "no episode ended"
    spread = f" ± {score['std']:.1f}" if score.get("std") is not None else ""
    return f"{score['mean']:.1f}{spread} ({score['episodes']} episodes)"
