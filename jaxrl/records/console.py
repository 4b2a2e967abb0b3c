"""What a run reports: rows of `metrics.jsonl`, sinks such as TensorBoard, the progress bar and the final table.

Knows rows of plain numbers, nothing of algorithms.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from jaxrl.startup import QUIET_SECONDS, no_longer_starting


def console() -> Console:
    """Where progress and messages go: standard error, so that standard output stays for results.

    It shows texts letter by letter: names of folders, environments and agents may hold what rich would read as markup.
    """
    no_longer_starting()
    return _SHOWN[-1].console if _SHOWN else Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(message: str) -> None:
    """One line of a message to the user, whatever the width of the terminal."""
    console().print(message, soft_wrap=True)


def number_of(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# --- what is done now -----------------------------------------------------------------------------------------------


class _Display(Progress):
    """What moves on a terminal: a bar, if there is one, and a line for each thing that is waited for."""

    def __init__(self, out: Console, *columns: Any) -> None:
        self.waits: list[Progress] = []
        super().__init__(*columns, console=out, transient=not columns, redirect_stdout=sys.stdout.isatty())

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.tasks:
            yield from super().get_renderables()
        for wait in list(self.waits):
            yield wait.get_renderable()

    def start(self) -> None:
        _SHOWN.append(self)
        super().start()

    def stop(self) -> None:
        super().stop()
        if self in _SHOWN:
            _SHOWN.remove(self)


AGAIN_SECONDS = 10.0
"""Until a line is said again where there is no terminal; then in twice that time, and so on."""

_SHOWN: list[_Display] = []
"""On the terminal now: one at most, which what else is said there must know."""


@contextlib.contextmanager
def doing(what: str, elsewhere: bool = True) -> Iterator[None]:
    """Says what is done now: a sign that moves until it is done on a terminal, else a line where it takes long, and more later.

    Args:
      elsewhere: say it also where there is no terminal.
    """
    out = console()
    if not out.is_terminal or out.is_dumb_terminal:
        with _said_again(what) if elsewhere else contextlib.nullcontext():
            yield
        return
    line = Progress(SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(), console=out)
    line.add_task(what, total=None)
    with contextlib.nullcontext(_SHOWN[-1]) if _SHOWN else _Display(out) as display:
        display.waits.append(line)
        try:
            yield
        finally:
            display.waits.remove(line)


@contextlib.contextmanager
def _said_again(what: str) -> Iterator[None]:
    """A line, and another one whenever it takes twice as long."""
    ended = threading.Event()

    def tell() -> None:
        seconds = QUIET_SECONDS
        while not ended.wait(seconds):
            say(what)
            seconds = max(2 * seconds, AGAIN_SECONDS)

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


# --- progress -------------------------------------------------------------------------------------------------------


class Bar:
    """Progress: env steps, env steps/s, the last return and the time left. Live on a terminal, elsewhere ten plain lines.

    Args:
      out: None shows nothing.
      compiles: what is compiled comes before the first report, which says nothing of the speed then.
      clock: of the speed, in seconds; by default `time.perf_counter`.
    """

    def __init__(
        self,
        total_steps: int,
        done_steps: int,
        out: Console | None,
        compiles: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.total_steps, self.done_steps, self._out, self._clock = total_steps, done_steps, out, clock
        self._origin = None if compiles else (self._now(), done_steps)
        self._tenths, self._live = 10 * done_steps // total_steps, _live(out, total_steps, done_steps)

    def _now(self) -> float:
        return self._clock() if self._clock else time.perf_counter()

    def advance(self, env_steps: int, score: float | None) -> None:
        """So many env steps are done, with this last return."""
        self.done_steps = env_steps
        found = self._speed()
        if self._live:
            rate, left = ("-", "-") if found is None else (f"{found[0]:,.0f}", f"{found[1]:.0f}")
            shown = "-" if score is None else f"{score:.1f}"
            self._live.update(self._live.task_ids[0], completed=env_steps, rate=rate, score=shown, left=left)
        elif (tenths := 10 * env_steps // self.total_steps) > self._tenths and self._out:
            self._tenths = tenths
            parts = [f"{env_steps:,} of {self.total_steps:,} env steps"]
            parts += [] if found is None else [f"{found[0]:,.0f} steps/s"]
            parts += [] if score is None else [f"return {score:.1f}"]
            parts += [] if found is None else [f"{found[1]:.0f} s left"]
            self._out.print(", ".join(parts))

    def _speed(self) -> tuple[float, float] | None:
        """Env steps/s and the seconds that are left; None where nothing can be known yet."""
        if self._origin is None:
            self._origin = (self._now(), self.done_steps)
            return None
        begun, done_steps = self._origin
        rate = (self.done_steps - done_steps) / max(self._now() - begun, 1e-9)
        return rate, max((self.total_steps - self.done_steps) / max(rate, 1e-9), 0.0)

    def skip(self, num_steps: int) -> None:
        """So many more env steps were done before, and say nothing of the speed."""
        self.done_steps += num_steps
        self._origin = self._origin and (self._origin[0], self._origin[1] + num_steps)
        self._tenths = max(self._tenths, 10 * self.done_steps // self.total_steps)
        if self._live:
            self._live.update(self._live.task_ids[0], completed=self.done_steps)

    def aim(self, num_left: int) -> None:
        """So many env steps will be done from now on."""
        self.total_steps = max(self.done_steps + num_left, 1)
        if self._live:
            self._live.update(self._live.task_ids[0], total=self.total_steps)
        elif not num_left and self._tenths < 10:
            self.advance(self.done_steps, None)

    def close(self) -> None:
        if self._live:
            self._live.stop()


def _live(out: Console | None, total_steps: int, done_steps: int) -> Progress | None:
    """The display of a terminal."""
    if out is None or not out.is_terminal:
        return None
    live = _Display(
        out,
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} env steps"),
        BarColumn(),
        TextColumn("{task.fields[rate]} steps/s"),
        TextColumn("return {task.fields[score]}"),
        TextColumn("{task.fields[left]} s left"),
    )
    live.add_task("train", total=total_steps, completed=done_steps, rate="-", score="-", left="-")
    live.start()
    return live


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
        **_seconds(summary),
        "folder": str(folder),
    }
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def seconds_line(summary: Mapping[str, Any]) -> str:
    """What a sweep or a search took, by part."""
    return ", ".join(f"{name} {seconds}" for name, seconds in _seconds(summary).items())


def _seconds(summary: Mapping[str, Any]) -> dict[str, str]:
    """Seconds by part, as far as a summary holds them, and the wall clock."""
    named = {part: f"{part}_seconds" for part in PARTS} | {"wall clock": "wall_seconds"}
    return {name: f"{summary[key]:.1f} s" for name, key in named.items() if key in summary}


def _score(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return f"no return ({score['episodes']} episodes)" if score["episodes"] else "no episode ended"
    decimals = 1 if abs(score["mean"]) >= 10.0 else 3  # A share of right answers is told by its third.
    spread = f" ± {score['std']:.{decimals}f}" if score.get("std") is not None else ""
    return f"{score['mean']:.{decimals}f}{spread} ({score['episodes']} episodes)"
