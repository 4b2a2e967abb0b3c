"""Training from one row of metrics to the next, in stretches of about a second, so that an interrupt is answered soon."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from jaxrl.drivers.processes import is_writer, shared
from jaxrl.drivers.stretches import Pace
from jaxrl.loop import Sums, averages
from jaxrl.records.rows import Row, plain
from jaxrl.runs.prepare import Prepared
from jaxrl.runs.restore import say_once
from jaxrl.types import RunState

PROFILE_ITERATIONS = 100
"""Iterations that `--profile` traces at most."""


def env_steps_of(prepared: Prepared, state: RunState) -> int:
    return int(state.iteration) * prepared.plan.steps_per_iteration


def advance(prepared: Prepared, state: RunState, end: int, sums: Sums) -> tuple[RunState, Sums]:
    """Runs up to iteration `end`; the sums of reports, on the host, are on top of `sums`."""
    begin, arguments = int(state.iteration), (prepared.keys.train, prepared.config, prepared.env_params)
    counts = map(np.int32, prepared.plan.split(begin, end))
    state, sums = prepared.driver.advance(*arguments, state, *counts, prepared.plan.progress(begin), sums)
    return jax.block_until_ready(state), jax.device_get(sums)


class Reached(NamedTuple):
    """How far training came.

    Attributes:
      sums: of the reports of a row that is not complete.
      row: None if an interrupt came before its end.
    """

    state: RunState
    sums: Sums
    row: Row | None


class Rows:
    """Trains row by row.

    Args:
      zeros: the sums of no iterations.
      interrupted: () -> whether to stop at the end of the present stretch; if any process of the run says so, all stop.
    """

    def __init__(self, prepared: Prepared, zeros: Sums, interrupted: Callable[[], bool]) -> None:
        self.prepared, self.zeros, self.interrupted = prepared, zeros, interrupted
        self.pace = Pace(prepared.plan)

    def next(self, state: RunState, sums: Sums, end: int, profile: Path | None = None) -> Reached:
        """Runs up to iteration `end`.

        Args:
          sums: of the part of the row that is done.
          profile: the folder for a trace.
        """
        first, started = int(state.iteration), time.perf_counter()
        while (begin := int(state.iteration)) < end:
            until, is_over = shared(self.pace.end(begin, end), self.interrupted())
            if is_over:
                return Reached(state, sums, None)
            now = time.perf_counter()
            if profile is None:
                state, sums = advance(self.prepared, state, until, sums)
                self.pace.note(begin, until, time.perf_counter() - now)
            else:
                state, sums = self._profiled(state, sums, end, profile)
        seconds = time.perf_counter() - started
        rate = (end - first) * self.prepared.plan.steps_per_iteration / seconds
        return Reached(state, self.zeros, self._row(state, sums) | {"steps_per_second": round(rate, 1)})

    def _row(self, state: RunState, sums: Sums) -> Row:
        with np.errstate(divide="ignore", invalid="ignore"):
            means = averages(sums)
        if not means["updates"]:
            means = {name: means[name] for name in ("updates", "episodes", "return_mean", "length_mean")}
        return {"kind": "train", "env_steps": env_steps_of(self.prepared, state)} | plain(means)

    def _profiled(self, state: RunState, sums: Sums, end: int, folder: Path) -> tuple[RunState, Sums]:
        """Runs up to `end` with a trace of the last `PROFILE_ITERATIONS`: one of many more would not fit into memory."""
        begin = max(int(state.iteration), end - PROFILE_ITERATIONS)
        state, sums = advance(self.prepared, state, begin, sums)
        with jax.profiler.trace(str(folder)) if is_writer() else contextlib.nullcontext():
            state, sums = advance(self.prepared, state, end, sums)
        say_once(
            f"profile of {end - begin} iterations in {folder}; look at it with: xprof --logdir {folder} (pip install xprof), "
            "TensorBoard with its profile plugin, or open its *.trace.json.gz in https://ui.perfetto.dev"
        )
        return state, sums
