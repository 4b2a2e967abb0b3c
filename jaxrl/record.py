"""What a run reports: rows of `metrics.jsonl`, sinks such as TensorBoard, the progress bar and the final table.

Knows rows of plain numbers, nothing of algorithms.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxrl.types import UsageError

Row = dict[str, Any]
WALL_CLOCK_FIELDS = frozenset({"wall_seconds", "steps_per_second"})
"""Fields of a row that differ between two runs of the same thing."""

SINKS = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def console() -> Console:
    """Where progress and messages go: standard error, so that standard output stays for results."""
    return Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line of a message to the user, whatever the width of the terminal."""
    console().print(message, soft_wrap=True, markup=False)


# --- rows -----------------------------------------------------------------------------------------------------------


def plain(values: Mapping[str, Any]) -> Row:
    """Numbers as JSON holds them: arrays become floats or ints, NaN and infinity None."""

    def convert(value: Any) -> Any:
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, float):
            return float(f"{value:.9g}") if math.isfinite(value) else None
        return value

    return {name: convert(value) for name, value in values.items()}


def append_row(path: Path, row: Row) -> None:
    """Appends one row."""
    append_rows(path, [row])


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Appends rows, each in one write, so that a killed process leaves at most one partial last line."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for row in rows:
            os.write(descriptor, (json.dumps(row, allow_nan=False) + "\n").encode())
    finally:
        os.close(descriptor)


def cut_rows(path: Path, num_bytes: int) -> None:
    """Removes the rows that were written after a checkpoint; a file that lost rows is left as it is."""
    held = path.stat().st_size if path.exists() else 0
    if held < num_bytes:
        say(f"{path} holds {held} of the {num_bytes} bytes it had at the checkpoint: rows are lost")
        return
    with path.open("r+b") as file:
        file.truncate(num_bytes)


def read_rows(path: Path) -> list[Row]:
    """All whole rows of a metrics file; a partial last line of a killed run is passed over."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def write_json(path: Path, values: Any) -> None:
    """Writes JSON whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
    partial.replace(path)


# --- sinks ----------------------------------------------------------------------------------------------------------


class Sink(NamedTuple):
    """Somewhere else that rows go.

    Attributes:
      write: (row) -> None; `env_steps` is the x axis.
      close: () -> None.
    """

    write: Callable[[Row], None]
    close: Callable[[], None]


def check_sinks(names: Iterable[str]) -> None:
    """Checks that the sinks exist and that their packages are installed.

    Raises:
      UsageError: naming the extra to install.
    """
    for name in names:
        if name not in SINKS:
            raise UsageError(f"track={name!r} is unknown; choose one of {', '.join(SINKS)}")
        if importlib.util.find_spec(SINKS[name]) is None:
            raise UsageError(f"track={name!r} needs the package {SINKS[name]}; pip install 'jaxrl[{name}]'")


def open_sink(name: str, folder: Path, settings: Mapping[str, Any]) -> Sink:
    """Opens a sink for a run's folder; `settings` are shown beside the run."""
    return _tensorboard(folder, settings) if name == "tensorboard" else _wandb(folder, settings)


def _tensorboard(folder: Path, settings: Mapping[str, Any]) -> Sink:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))
    writer.add_text("config", "```\n" + json.dumps(settings, indent=2) + "\n```")

    def write(row: Row) -> None:
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "env_steps":
                writer.add_scalar(f"{row['kind']}/{name}", value, row["env_steps"])

    return Sink(write, writer.close)


def _wandb(folder: Path, settings: Mapping[str, Any]) -> Sink:
    import wandb

    run = wandb.init(project="jaxrl", dir=str(folder), name=folder.name, config=dict(settings))

    def write(row: Row) -> None:
        values = {f"{row['kind']}/{k}": v for k, v in row.items() if isinstance(v, (int, float)) and k != "env_steps"}
        run.log(values | {"env_steps": row["env_steps"]})

    return Sink(write, run.finish)


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
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _score(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "no episode ended"
    spread = f" ± {score['std']:.1f}" if score.get("std") is not None else ""
    return f"{score['mean']:.1f}{spread} ({score['episodes']} episodes)"
