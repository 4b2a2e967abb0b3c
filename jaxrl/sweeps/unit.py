"""One unit of a sweep's work: some runs of one group, from the beginning to the end of a rung, with rows and checkpoints.

A unit is a folder under `state/` of the sweep. Whatever happens to the process, working on the unit again goes on from its last
whole checkpoint and ends with the same `outcome.json`, which is written last and marks the unit as done. Units of one rung do
not depend on each other, so an executor may run them anywhere, in any order and more than once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.drivers.evaluate import are_numbers, summarize
from jaxrl.drivers.memory import peak_bytes
from jaxrl.drivers.stretches import Pace
from jaxrl.errors import UsageError
from jaxrl.interrupts import never
from jaxrl.loop import NUM_RECENT, averages, recent_return, row_ends
from jaxrl.records import checkpoint
from jaxrl.records.console import say
from jaxrl.records.files import write_json
from jaxrl.records.rows import append_rows, cut_rows, plain
from jaxrl.startup import command
from jaxrl.sweeps import batch as batches
from jaxrl.sweeps import solo
from jaxrl.sweeps.batch import Batch, on_host
from jaxrl.sweeps.outcome import META, NAN, OK, STOPPED, Report, check_rows, need_outcome, read_outcome, unit_folder
from jaxrl.sweeps.plan import Group, Sweep, configure
from jaxrl.sweeps.population import Population, choose_batching, make_members, make_population, stack
from jaxrl.types import Env, PyTree

ProgressCallback = Callable[[int, float | None], None]


class Unit(NamedTuple):
    """What is to be done; plain JSON values, so that it can travel.

    Attributes:
      name: of its folder.
      group: index of its group.
      runs: their numbers.
      values: of each run the values of the swept fields.
      sources: of each run the unit and the run whose final state it starts from; None starts afresh.
      begin, end: iterations.
      capacity: rows of the population that trains it.
      is_last: the runs end here, and are evaluated.
      solo: its one run is trained alone, in `run/`.
    """

    name: str
    group: int
    runs: tuple[int, ...]
    values: tuple[dict[str, Any], ...]
    sources: tuple[tuple[str, int], ...] | None
    begin: int
    end: int
    capacity: int
    is_last: bool
    solo: bool = False

    def about(self) -> dict[str, Any]:
        """What its outcome says of it."""
        return {"group": self.group, "runs": self.runs, "values": self.values}


class DoesNotFitError(Exception):
    """The compiled program of a population needs more than the memory limit; `capacity` rows should fit."""

    def __init__(self, group: int, capacity: int) -> None:
        super().__init__(group, capacity)
        self.group, self.capacity = group, capacity


class Worker:
    """Works on units in this process; keeps compiled programs, and states that a next rung may start from.

    Attributes:
      compilations: training programs compiled so far.
    """

    def __init__(
        self,
        sweep: Sweep,
        groups: Sequence[Group],
        folder: Path,
        limit: int,
        interrupted: Callable[[], bool] = never,
    ) -> None:
        self.sweep, self.groups, self.folder, self.limit, self.interrupted = sweep, groups, folder, limit, interrupted
        self.compilations = 0
        self._programs: dict[tuple[int, int], Population] = {}
        self._finals: dict[str, PyTree] = {}

    def work(self, unit: Unit, progress: ProgressCallback) -> dict[str, Any]:
        """Does a unit, or reads what came of it.

        Args:
          progress: is given the env steps done since the last call and the mean return of the runs.

        Raises:
          DoesNotFitError: with a capacity that should fit.
          UsageError, EnvError: of a run that is trained alone.
        """
        done = read_outcome(self.folder, unit.name)
        if done is not None:
            return done
        path, compiled = unit_folder(self.folder, unit.name), self.compilations
        path.mkdir(parents=True, exist_ok=True)
        outcome = self._alone(unit, path) if unit.solo else _Task(self, unit, path, progress).run()
        outcome["compilations"] = self.compilations - compiled
        outcome["rows_bytes"] = (path / "rows.jsonl").stat().st_size
        write_json(path / "outcome.json", outcome)
        return outcome

    def _alone(self, unit: Unit, path: Path) -> dict[str, Any]:
        """Trains the one run of a unit as a run of its own; its rows are those of the run."""
        (run,), (values,) = unit.runs, unit.values
        self.compilations += 1
        report, rows, seconds = solo.train(solo.run_of(self.sweep, run, values), path / "run")
        (path / "rows.jsonl").write_text("")
        append_rows(path / "rows.jsonl", [row | {"run": run} for row in rows])
        return unit.about() | {"reports": [Report(**report)._asdict()], "seconds": seconds, "bytes": peak_bytes()}

    def population(self, group: int, capacity: int) -> Population:
        """The compiled program of a group with so many rows.

        Raises:
          DoesNotFitError: with a capacity that should fit.
        """
        if (group, capacity) not in self._programs:
            made, batching = self.groups[group], choose_batching(self.sweep.batching)
            assert isinstance(made.env, Env)
            self.compilations += 1
            program = make_population(
                made.make_agent,
                made.env,
                made.make_eval_env,
                made.config,
                made.varies,
                made.params[0].evaluate,
                capacity,
                batching,
            )
            devices = program.sharding.num_devices
            if program.num_bytes > self.limit and capacity > devices:
                fitting = int(capacity * self.limit / program.num_bytes) // devices * devices
                raise DoesNotFitError(group, max(min(fitting, capacity - devices), devices))
            if program.num_bytes > self.limit:
                say(f"memory_limit={self.limit} bytes is below the {program.num_bytes} of the smallest batch; it runs anyway")
            self._programs[group, capacity] = program
        return self._programs[group, capacity]

    def states(self, sources: Sequence[tuple[str, int]]) -> PyTree:
        """Final states of runs of finished units, in this order, [n] in front of every leaf, on the host."""
        index = {name: need_outcome(self.folder, name)["runs"] for name, _ in sources}
        for name in index:
            if name not in self._finals:
                self._finals[name] = final_states(self.groups, self.folder, name)
        states = stack([batches.entry(self._finals[name], index[name].index(run)) for name, run in sources])
        self._finals = {}
        return states

    def reports(self, sources: Sequence[tuple[str, int]]) -> list[Report]:
        """How runs of finished units stood at their ends."""
        outcomes = {name: need_outcome(self.folder, name) for name, _ in sources}
        return [Report(**outcomes[name]["reports"][outcomes[name]["runs"].index(run)]) for name, run in sources]

    def keep(self, name: str, states: PyTree) -> None:
        """Keeps final states for the next rung, unless that takes much memory."""
        self._finals[name] = states
        if sum(leaf.nbytes for leaf in jax.tree.leaves(self._finals)) > self.limit // 4:
            self._finals = {}


def final_states(groups: Sequence[Group], folder: Path, name: str) -> PyTree:
    """States of all runs of a finished unit without their `iteration`, [n] in front of every leaf, on the host.

    Raises:
      UsageError: it has no whole checkpoint of its end.
    """
    outcome, path = need_outcome(folder, name), unit_folder(folder, name)
    target = _shapes(groups[outcome["group"]], len(outcome["runs"]))
    last = next(iter(checkpoint.iterations(path / "checkpoints")), -1)
    restored = checkpoint.restore(path / "checkpoints", lambda meta: target, say, last, META)
    if restored is None:
        fix = f"remove {path / 'outcome.json'} and do it again with: {command('resume', folder)}"
        raise UsageError(f"{path} is done, but the checkpoint of its end is not whole; {fix}")
    return jax.tree.map(on_host, restored.state)


def _shapes(group: Group, num_runs: int) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_runs, *leaf.shape), leaf.dtype), group.shapes)


class _Task:
    """A unit at work: its batch and how each run stands."""

    def __init__(self, worker: Worker, unit: Unit, path: Path, progress: ProgressCallback) -> None:
        self.worker, self.unit, self.path, self.progress = worker, unit, path, progress
        self.sweep, self.group = worker.sweep, worker.groups[unit.group]
        self.schedule = self.group.schedule
        self.reports = worker.reports(unit.sources) if unit.sources else [Report() for _ in unit.runs]
        self.before, self.bytes = 0.0, 0
        self.begun = time.perf_counter()
        self.pace, self.sums = Pace(self.schedule), dict[str, np.ndarray]()

    def run(self) -> dict[str, Any]:
        batch = self._start()
        saved = time.perf_counter()
        for end in row_ends(self.schedule.num_iterations, self.sweep.num_rows):
            if batch.iteration < end <= self.unit.end and batch.living:
                batch = self._stop(self._advance(batch, end))
                if end < self.unit.end and time.perf_counter() - saved >= self.sweep.checkpoint_seconds:
                    self._save(batch)
                    saved = time.perf_counter()
        if self.unit.is_last:
            self._evaluate(batch, batch.living)
        states = self._save(batch)
        self.worker.keep(self.unit.name, states)
        reports = [report._asdict() for report in self.reports]
        return self.unit.about() | {"reports": reports, "seconds": self._seconds(), "bytes": self.bytes}

    def _start(self) -> Batch:
        unit, rows = self.unit, self.path / "rows.jsonl"
        population = self._population(unit.capacity)
        configs = [configure(self.sweep, values)[0] for values in unit.values]
        seeds = [self.sweep.seed_of(run) for run in unit.runs]
        params = [self.group.params[self.group.configs.index(self.sweep.config_of(run))] for run in unit.runs]
        members, shared = make_members(seeds, configs, params, self.group.varies)
        everyone = range(len(unit.runs))
        restored = self._restored()
        if restored is None:
            rows.write_text("")
            states = None if unit.sources is None else self.worker.states(unit.sources)
            return batches.load(population, members, shared, states, everyone, unit.begin)
        self.reports = [Report(**report) for report in restored.meta["reports"]]
        self.before = restored.meta["seconds"]
        self.sums = {name: np.asarray(*held) for name, held in restored.meta.get("sums", {}).items()}
        cut_rows(rows, restored.meta["rows_bytes"])
        living = [index for index in everyone if self.reports[index].status == OK]
        states = jax.tree.map(on_host, restored.state)
        population = self._population(batches.fitting_capacity(population, len(living)))
        return batches.load(population, members, shared, states, living, restored.meta["iteration"])

    def _restored(self) -> checkpoint.Restored | None:
        """The last whole checkpoint; None where there is none, or the rows before it are lost."""
        shapes = _shapes(self.group, len(self.unit.runs))
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

    def _advance(self, batch: Batch, end: int) -> Batch:
        """Runs up to iteration `end`, with a row for each living run."""
        begin, living = batch.iteration, batch.living
        batch, sums = self._stretches(batch, end)
        scores, episodes = (leaf[batch.rows] for leaf in recent_return(batch.states.recent))
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
        return batch

    def _stretches(self, batch: Batch, end: int) -> tuple[Batch, dict[str, np.ndarray]]:
        """Runs up to iteration `end`, and ends with a checkpoint where an interrupt comes before.

        Raises:
          KeyboardInterrupt: once that is written.
        """
        sums, self.sums = self.sums, {}
        while batch.iteration < end:
            begin, started = batch.iteration, time.perf_counter()
            if self.worker.interrupted():
                self._save(batch, sums)
                raise KeyboardInterrupt
            batch, sums = batches.advance(batch, self.schedule, self.pace.end(begin, end), sums)
            self.pace.note(begin, batch.iteration, time.perf_counter() - started)
        return batch, sums

    def _stop(self, batch: Batch) -> Batch:
        """Takes out runs that became NaN, and runs that reached the return at which to stop, which are evaluated."""
        goal, gone = self.sweep.stop_return, [index for index in batch.living if self.reports[index].status == NAN]
        if goal is not None and batch.iteration < self.schedule.num_iterations:
            reached = [index for index in batch.living if _reached(self.reports[index], goal)]
            self._evaluate(batch, reached)
            for index in reached:
                self.reports[index] = self.reports[index]._replace(status=STOPPED)
            gone += reached
        if not gone:
            return batch
        return batches.stop(batch, gone, self._population)

    def _evaluate(self, batch: Batch, runs: Sequence[int]) -> None:
        if not runs:
            return
        found = batches.evaluate(batch, self.schedule, runs, self.group.num_episodes)
        for index, score in zip(runs, map(summarize, found), strict=True):
            report = self.reports[index]
            training = {"mean": report.final_return, "episodes": report.episodes}
            status = report.status if are_numbers(self.group.env.spec, training, score) else NAN
            self.reports[index] = report._replace(status=status, eval_return=score["mean"])

    def _save(self, batch: Batch, sums: Mapping[str, np.ndarray] | None = None) -> PyTree:
        """Writes a checkpoint of all runs of the unit, and returns their states on the host.

        Args:
          sums: of the living, of a row that is not complete.
        """
        states = batches.host_states(batch)
        rows = self.path / "rows.jsonl"
        meta = {
            "rows_bytes": rows.stat().st_size if rows.exists() else 0,
            "reports": [report._asdict() for report in self.reports],
            "iteration": batch.iteration,
            "seconds": self._seconds(),
            "sums": {name: (values.tolist(), str(values.dtype)) for name, values in (sums or {}).items()},
        }
        checkpoint.save(self.path / "checkpoints", batch.iteration, states, meta)
        return states

    def _seconds(self) -> float:
        return round(self.before + time.perf_counter() - self.begun, 3)


_WARMUP = ("updates", "episodes", "return_mean", "length_mean")
"""What a row holds while nothing is learned yet."""


def _reached(report: Report, goal: float) -> bool:
    """True if the mean of enough training episodes is at the goal."""
    return report.episodes >= NUM_RECENT and report.final_return is not None and report.final_return >= goal


Execute = Callable[[Sequence[Unit]], list[dict[str, Any]]]
"""Does units, in any order, and returns their outcomes in the order given."""


class Workers(NamedTuple):
    """Who works on units.

    Attributes:
      execute: does them.
      num_workers: units that are worked on at once.
      num_devices: of each worker.
      limit: bytes that a unit may take.
      batching: `serial`, `vmap` or `solo`.
    """

    execute: Execute
    num_workers: int
    num_devices: int
    limit: int
    batching: str
