"""What a run reports: rows of `metrics.jsonl`, sinks such as TensorBoard, the progress bar and the final table.

Knows rows of plain numbers, nothing of algorithms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
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


def open_bar(total_steps: int, done_steps: int, out: Console) -> Bar:
    """A live bar on a terminal: env steps, env steps/s, the last return and the time left. Elsewhere ten plain lines."""
    if not out.is_terminal:
        return _plain_bar(total_steps, done_steps, out)
    bar = Progress(
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} env steps"),
        BarColumn(),
        TextColumn("{task.fields[rate]} steps/s"),
        TextColumn("return {task.fields[score]}"),
        TimeRemainingColumn(),
        console=out,
    )
    task = bar.add_task("train", total=total_steps, completed=done_steps, rate="-", score="-")
    started = time.perf_counter()
    bar.start()

    def advance(env_steps: int, score: float | None) -> None:
        rate = (env_steps - done_steps) / max(time.perf_counter() - started, 1e-9)
        shown = "-" if score is None else f"{score:.1f}"
        bar.update(task, completed=min(env_steps, total_steps), rate=f"{rate:,.0f}", score=shown)

    return Bar(advance, bar.stop)


def _plain_bar(total_steps: int, done_steps: int, out: Console) -> Bar:
    started = time.perf_counter()
    shown = {"tenths": 10 * done_steps // total_steps}

    def advance(env_steps: int, score: float | None) -> None:
        tenths = 10 * env_steps // total_steps
        if tenths <= shown["tenths"]:
            return
        shown["tenths"] = tenths
        seconds = max(time.perf_counter() - started, 1e-9)
        rate = (env_steps - done_steps) / seconds
        left = (total_steps - env_steps) / max(rate, 1e-9)
        score_text = "" if score is None else f", return {score:.1f}"
        out.print(f"{env_steps:,} of {total_steps:,} env steps, {rate:,.0f} steps/s{score_text}, {max(left, 0):.0f} s left")

    return Bar(advance, lambda: None)


def summary_table(summary: Mapping[str, Any], folder: Path) -> Table:
    """The end of a run as a table."""
    table = Table(title=f"{summary['agent']} on {summary['env']}, seed {summary['seed']}", show_header=False)
    evaluation, training = summary["evaluation"], summary["training_return"]
    rows = {
        "greedy return": _score(evaluation),
        "last training episodes": _score(training),
        "env steps": f"{summary['env_steps']:,}",
        "env steps/s": f"{summary['steps_per_second']:,.0f}" if summary["steps_per_second"] else "-",
        "compile": f"{summary['compile_seconds']:.1f} s",
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
