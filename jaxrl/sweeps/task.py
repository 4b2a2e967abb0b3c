"""A unit of a sweep at work, or a trial of a search: trained row by row, with checkpoints; and all of it, up to its outcome.

outcome = work(worker, unit, progress)            # of a sweep; what was done before is only read

with contextlib.closing(Task(worker, unit, progress)) as task:
    for number in task.rows():                    # of a search, which looks at `task.reports` after each row
        ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.drivers.evaluate import are_numbers, summarize
from jaxrl.drivers.memory import peak_bytes
from jaxrl.drivers.stretches import Pace
from jaxrl.errors import UsageError
from jaxrl.loop import NUM_RECENT, averages, recent_return, row_ends
from jaxrl.records import checkpoint
from jaxrl.records.console import PARTS, doing, number_of, say
from jaxrl.records.files import misfit, write_json
from jaxrl.records.rows import append_rows, cut_rows, plain
from jaxrl.records.stopwatch import Stopwatch
from jaxrl.sweeps import batch as batches
from jaxrl.sweeps import solo
from jaxrl.sweeps.batch import Batch, on_host
from jaxrl.sweeps.outcome import META, NAN, OK, STOPPED, Report, check_rows, read_outcome, unit_folder
from jaxrl.sweeps.plan import configure
from jaxrl.sweeps.population import Population, make_members
from jaxrl.sweeps.unit import ProgressCallback, Unit, Worker, shapes_of
from jaxrl.types import PyTree


def work(worker: Worker, unit: Unit, progress: ProgressCallback) -> dict[str, Any]:
    """Does a unit, or reads what came of it.

    Raises:
      DoesNotFitError: with a capacity that should fit.
      UsageError, EnvError: of a run that is trained alone.
      KeyboardInterrupt: there was an interrupt, and all is saved.
    """
    is_new = unit.name not in worker.told
    worker.told.add(unit.name)
    done = read_outcome(worker.folder, unit.name)
    if done is not None:
        if is_new and not unit.solo:
            progress(sum(report["env_steps"] for report in done["reports"]) - _begun_with(worker.reports(unit)), None, True)
        return done
    path, compiled = unit_folder(worker.folder, unit.name), worker.compilations
    path.mkdir(parents=True, exist_ok=True)
    outcome = unit.about() | (_alone(worker, unit, path) if unit.solo else _together(worker, unit, progress))
    outcome["compilations"] = worker.compilations - compiled
    outcome["rows_bytes"] = (path / "rows.jsonl").stat().st_size
    write_json(path / "outcome.json", outcome)
    return outcome


def _alone(worker: Worker, unit: Unit, path: Path) -> dict[str, Any]:
    """Trains the one run of a unit as a run of its own; its rows are those of the run."""
    (run,), (values,) = unit.runs, unit.values
    worker.compilations += 1
    report, rows, taken = solo.train(solo.run_of(worker.sweep, run, values), path / "run", worker.interrupted)
    (path / "rows.jsonl").write_text("")
    append_rows(path / "rows.jsonl", [row | {"run": run} for row in rows])
    return {"reports": [Report(**report)._asdict()], **taken, "bytes": peak_bytes()}


def _together(worker: Worker, unit: Unit, progress: ProgressCallback) -> dict[str, Any]:
    task = Task(worker, unit, progress)
    try:
        for _ in task.rows():
            pass
        if unit.is_last:
            task.evaluate()
        worker.keep(unit.name, task.save())
    finally:
        task.close()
    reports = [report._asdict() for report in task.reports]
    return {"reports": reports, "seconds": round(task.watch.wall, 3), "parts": task.watch.seconds, "bytes": task.bytes}


def _begun_with(reports: Sequence[Report]) -> int:
    return sum(report.env_steps for report in reports)


class Task:
    """A unit at work.

    Attributes:
      batch: its runs, from the first row on.
      reports: how each of them stands.
      watch: its seconds by part, of this process and of those before it.
      bytes: that its programs need at most.
    """

    batch: Batch

    def __init__(self, worker: Worker, unit: Unit, progress: ProgressCallback) -> None:
        self.worker, self.unit, self.progress = worker, unit, progress
        self.path = unit_folder(worker.folder, unit.name)
        self.sweep, self.group = worker.sweep, worker.groups[unit.group]
        self.schedule = self.group.schedule
        self.reports, self.bytes = worker.reports(unit), 0
        self.watch, self._saved = Stopwatch(time.perf_counter(), {}), time.perf_counter()
        self._pace, self._sums = Pace(self.schedule), dict[str, np.ndarray]()

    def close(self) -> None:
        self.watch.close()

    def rows(self) -> Iterator[int]:
        """Trains row by row; gives the number of each, from 1, once it is written. Those before a checkpoint do not come again.

        Raises:
          DoesNotFitError, KeyboardInterrupt: as of `work`.
        """
        self.batch = self._start()
        self.watch.lap("prepare")
        for number, end in enumerate(row_ends(self.schedule.num_iterations, self.sweep.num_rows), 1):
            if self.batch.iteration < end <= self.unit.end and self.batch.living:
                self._advance(end)
                self._stop()
                self.watch.lap("training")
                yield number
                self.watch.lap("saving")
                if end < self.unit.end and self._seconds_since_saved() >= self.sweep.checkpoint_seconds:
                    self.save()

    def evaluate(self) -> None:
        """Scores the runs that live at the end."""
        self._evaluate(self.batch.living)

    def save(self, sums: Mapping[str, np.ndarray] | None = None) -> PyTree:
        """Writes a checkpoint of all runs of the unit, and returns their states on the host.

        Args:
          sums: of the living, of a row that is not complete.
        """
        states = batches.host_states(self.batch)
        rows = self.path / "rows.jsonl"
        meta = {
            "rows_bytes": rows.stat().st_size if rows.exists() else 0,
            "reports": [report._asdict() for report in self.reports],
            "iteration": self.batch.iteration,
            "seconds": round(self.watch.wall, 3),
            "parts": self.watch.seconds,
            "sums": {name: (values.tolist(), str(values.dtype)) for name, values in (sums or {}).items()},
        }
        checkpoint.save(self.path / "checkpoints", self.batch.iteration, states, meta)
        self.watch.lap("saving")
        self._saved = time.perf_counter()
        return states

    def _seconds_since_saved(self) -> float:
        return time.perf_counter() - self._saved

    def _start(self) -> Batch:
        unit, rows = self.unit, self.path / "rows.jsonl"
        population = self._population(unit.capacity)
        self.watch.lap("compile")
        configs = [configure(self.sweep, values)[0] for values in unit.values]
        seeds = [self.sweep.seed_of(run) for run in unit.runs]
        params = [self.group.params[self.group.configs.index(self.sweep.config_of(run))] for run in unit.runs]
        members, shared = make_members(seeds, configs, params, self.group.varies)
        everyone = range(len(unit.runs))
        restored = self._restored()
        if restored is None:
            self.path.mkdir(parents=True, exist_ok=True)
            rows.write_text("")
            states = None if unit.sources is None else self.worker.states(unit.sources)
            return batches.load(population, members, shared, states, everyone, unit.begin)
        begun_with, iteration = _begun_with(self.reports), restored.meta["iteration"]
        self.reports = [Report(**report) for report in restored.meta["reports"]]
        parts, wanted = restored.meta.get("parts"), dict.fromkeys(PARTS, float)
        self.watch.add({"training": restored.meta["seconds"]} if parts is None or misfit(parts, wanted) else parts)
        self._sums = {name: np.asarray(*held) for name, held in restored.meta.get("sums", {}).items()}
        cut_rows(rows, restored.meta["rows_bytes"])
        living = [index for index in everyone if self.reports[index].status == OK]
        ended = sum(report.env_steps for report in self.reports if report.status != OK)
        self.progress(ended + iteration * self.schedule.steps_per_iteration * len(living) - begun_with, None, True)
        states = jax.tree.map(on_host, restored.state)
        population = self._population(batches.fitting_capacity(population, len(living)))
        return batches.load(population, members, shared, states, living, iteration)

    def _restored(self) -> checkpoint.Restored | None:
        """The last whole checkpoint; None where there is none, or the rows before it are lost."""
        shapes = shapes_of(self.group, len(self.unit.runs))
        restored = checkpoint.restore(self.path / "checkpoints", lambda meta: shapes, say, meta_types=META)
        try:
            if restored is not None:
                check_rows(self.path / "rows.jsonl", restored.meta["rows_bytes"])
        except UsageError as error:
            say(str(error))
            return None
        return restored

    def _population(self, capacity: int) -> Population:
        population = self.worker.population(self.unit.group, capacity)
        self.bytes = max(self.bytes, population.num_bytes)
        return population

    def _advance(self, end: int) -> None:
        """Runs up to iteration `end`, with a row for each living run."""
        begin, living = self.batch.iteration, self.batch.living
        sums = self._stretches(end)
        scores, episodes = (leaf[self.batch.rows] for leaf in recent_return(self.batch.states.recent))
        nan, env_steps = sums.pop("nan"), end * self.schedule.steps_per_iteration
        with np.errstate(divide="ignore", invalid="ignore"):
            means = averages(sums)
        learned = means["updates"].any()
        rows = []
        for place, index in enumerate(living):
            values = {name: mean[place] for name, mean in means.items() if learned or name in _WARMUP}
            rows.append({"kind": "train", "run": self.unit.runs[index], "env_steps": env_steps} | plain(values))
            score = float(scores[index]) if np.isfinite(scores[index]) and not nan[place] else None
            self.reports[index] = Report(NAN if nan[place] else OK, env_steps, score, int(episodes[index]))
        append_rows(self.path / "rows.jsonl", rows)
        shown: list[Any] = [row["return_mean"] for row in rows if row["return_mean"] is not None]
        num_steps = (end - begin) * self.schedule.steps_per_iteration * len(living)
        self.progress(num_steps, sum(shown) / len(shown) if shown else None)

    def _stretches(self, end: int) -> dict[str, np.ndarray]:
        """Runs up to iteration `end`; a checkpoint is written where it is time for one, or an interrupt comes.

        Raises:
          KeyboardInterrupt: once that is written.
        """
        sums, self._sums = self._sums, {}
        while self.batch.iteration < end:
            begin, started = self.batch.iteration, time.perf_counter()
            is_over, seconds = self.worker.interrupted(), self.sweep.checkpoint_seconds
            if is_over or 0 < seconds <= self._seconds_since_saved():
                self.watch.lap("training")
                self.save(sums)
                started = time.perf_counter()
            if is_over:
                raise KeyboardInterrupt
            self.batch, sums = batches.advance(self.batch, self.schedule, self._pace.end(begin, end), sums)
            self._pace.note(begin, self.batch.iteration, time.perf_counter() - started)
        return sums

    def _stop(self) -> None:
        """Takes out runs that became NaN, and runs that reached the return at which to stop, which are evaluated."""
        goal, living = self.sweep.stop_return, self.batch.living
        gone = [index for index in living if self.reports[index].status == NAN]
        if goal is not None and self.batch.iteration < self.schedule.num_iterations:
            reached = [index for index in living if _reached(self.reports[index], goal)]
            self.watch.lap("training")
            self._evaluate(reached)
            for index in reached:
                self.reports[index] = self.reports[index]._replace(status=STOPPED)
            gone += reached
        if gone:
            self.batch = batches.stop(self.batch, gone, self._population)

    def _evaluate(self, runs: Sequence[int]) -> None:
        if not runs:
            return
        with doing(f"evaluating {number_of(len(runs), 'run')}, compiling if need be"):
            found = batches.evaluate(self.batch, self.schedule, runs, self.group.num_episodes)
        for index, score in zip(runs, map(summarize, found), strict=True):
            report = self.reports[index]
            training = {"mean": report.final_return, "episodes": report.episodes}
            status = report.status if are_numbers(self.group.env.spec, training, score) else NAN
            self.reports[index] = report._replace(status=status, eval_return=score["mean"])
        self.watch.lap("evaluation")


_WARMUP = ("updates", "episodes", "return_mean", "length_mean")
"""What a row holds while nothing is learned yet."""


def _reached(report: Report, goal: float) -> bool:
    """True if the mean of enough training episodes is at the goal."""
    return report.episodes >= NUM_RECENT and report.final_return is not None and report.final_return >= goal
