"""A sweep and its folder: plan, train rung by rung, rank, report, resume.

What a sweep leaves behind: `sweep.json` (everything that defines it), `results.csv` (a row for each run), `curves.csv`,
`summary.json`, `report.html`, and under `state/` a folder for each unit of work with its checkpoints. After SIGKILL at any
moment `resume` reaches the same results but for wall clocks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.analysis.curves import draw_or_say
from jaxrl.analysis.report import write_report
from jaxrl.analysis.results import read_results, write_curves, write_results
from jaxrl.analysis.stats import area_under_curve, interquartile_mean
from jaxrl.drivers.memory import batch_limit
from jaxrl.errors import UsageError
from jaxrl.fields import differing, field_types
from jaxrl.interrupts import held_back
from jaxrl.records.console import Bar, console, doing, number_of, say
from jaxrl.records.files import Types, read_json, write_json
from jaxrl.records.folders import alone, check_folder, check_places, new_folder
from jaxrl.records.stopwatch import Stopwatch, kept_seconds
from jaxrl.runs.definition import follow_stream, to_values
from jaxrl.startup import command, process_begun
from jaxrl.sweeps.children import child_processes
from jaxrl.sweeps.outcome import NAN, OK, STOPPED, Report, need_outcome, read_unit_rows
from jaxrl.sweeps.plan import Group, Sweep, make_groups
from jaxrl.sweeps.planner import Planner, Standing
from jaxrl.sweeps.population import choose_batching
from jaxrl.sweeps.schedulers import Bracket, Continuation, Explored, brackets, exploit_and_explore, survivors
from jaxrl.sweeps.space import ENV_PREFIX
from jaxrl.sweeps.store import comparable, read_sweep, read_units
from jaxrl.sweeps.task import work
from jaxrl.sweeps.unit import ProgressCallback, Unit, Worker, Workers

# --- starting and resuming ------------------------------------------------------------------------------------------


def start(sweep: Sweep, folder: Path, notice: str = "") -> dict[str, Any]:
    """Trains a new sweep in `folder` and returns its summary.

    Args:
      notice: a line to say once everything has been checked.

    Raises:
      UsageError: bad input; nothing was written.
    """
    begun, groups = process_begun(), _prepare(sweep)
    if sweep.schedule.method == "pbt":
        explored_fields(sweep)
    if sweep.executor == "local" and not groups[0].solo:
        sweep = dataclasses.replace(sweep, memory_limit=sweep.memory_limit or batch_limit())
    with new_folder(folder, sweep.what, sweep.file):
        write_json(folder / sweep.file, to_values(sweep))
        if notice:
            say(notice)
        return _train(sweep, groups, folder, begun)


def start_or_resume(sweep: Sweep, folder: Path, notice: str = "") -> dict[str, Any]:
    """Starts a sweep, with a `notice`, or goes on with the same one where `folder` holds it.

    Raises:
      UsageError: bad input, or `folder` holds another sweep.
    """
    check_folder("out", folder)
    if not (folder / "sweep.json").exists():
        return start(sweep, folder, notice)
    stored = read_sweep(folder)
    given = dataclasses.replace(sweep, memory_limit=sweep.memory_limit or stored.memory_limit)
    ours, theirs = (comparable(one) for one in (given, stored))
    for name in ours:
        if ours[name] != theirs[name]:
            what = differing(name, ours[name], theirs[name])
            raise UsageError(f"out={folder} holds another sweep ({what}); give another folder")
    return resume(folder)


def resume(folder: Path) -> dict[str, Any]:
    """Goes on with a sweep that was interrupted.

    Raises:
      UsageError: no sweep there.
    """
    begun, sweep = process_begun(), read_sweep(folder)
    if (summary := _finished(folder, say)) is None:
        check_places(folder, ("results.csv", "curves.csv", "report.html", "state/units.json", "state/seconds.json"), ("state",))
        groups = _prepare(sweep)
        with alone(folder):
            summary = _finished(folder, lambda line: None)  # Perhaps by the process that held the folder until now.
            if summary is None:
                follow_stream(Sweep, folder)
                return _train(sweep, groups, folder, begun)
    say(f"{folder} is complete; nothing to do")
    if not (folder / "report.html").exists():
        _report(folder)
    return summary


_SUMMARY: Types = {"agent": str, "env": str, "runs": int, "env_steps": int}


def _finished(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The summary of a finished sweep; None where it, a table or a unit is missing or damaged, which is then done again."""
    check_places(folder, ("summary.json",))
    if not (folder / "summary.json").exists():
        return None
    try:
        if (folder / "state").exists():
            for name in {name for names in read_units(folder) for name in names}:
                need_outcome(folder, name)
        read_results(folder)
        return read_json(folder / "summary.json", _SUMMARY, "it is written again")
    except UsageError as error:
        warn(f"{error}; what is missing is done again")
        return None


def _report(folder: Path) -> None:
    with doing("writing report.html"):
        draw_or_say(lambda: write_report(folder), f"write report.html with: {command('resume', folder)}")


def _prepare(sweep: Sweep) -> tuple[Group, ...]:
    """Checks a sweep, and that its workers can be reached.

    Raises:
      UsageError: one line for whatever does not fit.
    """
    if sweep.executor == "ray" or sweep.batching == "solo":
        # Other processes may share a GPU with this one, which needs little of its memory, if JAX has not taken it yet.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    groups = make_groups(sweep)
    if sweep.executor == "ray":
        from jaxrl.sweeps.ray_executor import check_cluster

        check_cluster()
    return groups


# --- training -------------------------------------------------------------------------------------------------------


def _train(sweep: Sweep, groups: Sequence[Group], folder: Path, begun: float) -> dict[str, Any]:
    """Trains all runs and writes the results; `begun` is when this process did, as of `time.perf_counter`."""
    clock = folder / "state" / "seconds.json"
    watch = Stopwatch(begun, kept_seconds(clock))
    plans = brackets(sweep.schedule, len(sweep.configs), sweep.total_steps)
    programs = "one program" if len(groups) == 1 else f"{len(groups)} programs"
    where = "each in a process of its own" if groups[0].solo else f"compiling {programs} for them"
    of = f"{number_of(len(sweep.configs), 'config')}, {number_of(len(sweep.seeds), 'seed')}"
    say(f"{number_of(sweep.num_runs, 'run')} ({of}) in {folder}; {where}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(watch))
        interrupted = stack.enter_context(held_back())
        bar = _SweepBar(watch, lambda: watch.keep(clock, sweep.checkpoint_seconds))
        workers = stack.enter_context(_workers(sweep, groups, folder, bar.advance, interrupted))
        watch.lap("prepare")
        planner = Planner(sweep, groups, workers)
        stack.callback(watch.keep, clock)
        stack.callback(bar.close)
        standings, outcomes = _train_brackets(planner, plans, bar)
    watch.lap("training", whole=True)
    statuses = _write(sweep, folder, standings)
    watch.lap("saving")
    parts = [outcome.get("parts", {}) for outcome in outcomes]
    summary = {
        "agent": sweep.agent,
        "env": sweep.env,
        "runs": sweep.num_runs,
        "configs": len(sweep.configs),
        "groups": len(groups),
        "batches": len(outcomes),
        "compilations": sum(outcome["compilations"] for outcome in outcomes) + planner.refused,
        "env_steps": sum(standing.report.env_steps for standing in standings.values()),
        "statuses": {status: statuses.count(status) for status in (OK, NAN, STOPPED)},
        "peak_bytes": max(outcome["bytes"] for outcome in outcomes),
    }
    write_json(folder / "summary.json", summary | watch.named(parts))
    _report(folder)
    watch.lap("plotting")
    summary |= watch.named(parts)
    write_json(folder / "summary.json", summary)
    return summary


def _train_brackets(
    planner: Planner, plans: Sequence[Bracket], bar: _SweepBar
) -> tuple[dict[int, Standing], list[dict[str, Any]]]:
    """Trains all runs; how they stand in the end, and the outcomes of all units."""
    standings: dict[int, Standing] = {}
    outcomes: list[dict[str, Any]] = []
    begins = [
        {
            run: Continuation(run, dict(planner.sweep.configs[config]))
            for config in bracket.configs
            for run in planner.sweep.runs_of(config)
        }
        for bracket in plans
    ]
    for number, (bracket, continued) in enumerate(zip(plans, begins, strict=True)):
        later = sum(planner.env_steps(*one, 0) for one in zip(plans[number + 1 :], begins[number + 1 :], strict=True))
        for rung in range(len(bracket.rungs)):
            bar.aim(planner.env_steps(bracket, continued, rung) + later)
            units, found = planner.work(number, bracket, rung, continued, standings)
            for unit, outcome in zip(units, found, strict=True):
                _note(unit, outcome, standings)
            outcomes += found
            if rung + 1 < len(bracket.rungs):
                continued = _next_rung(planner.sweep, bracket, rung, continued, standings)
    bar.aim(0)
    return standings, outcomes


def _note(unit: Unit, outcome: dict[str, Any], standings: dict[int, Standing]) -> None:
    share = outcome["seconds"] / len(unit.runs)
    for run, report, values in zip(unit.runs, outcome["reports"], unit.values, strict=True):
        before = standings[run] if run in standings else Standing((), Report(), {}, 0.0)
        standings[run] = Standing((*before.units, unit.name), Report(**report), values, before.seconds + share)


def _next_rung(
    sweep: Sweep, bracket: Bracket, rung: int, continued: Mapping[int, Continuation], standings: Mapping[int, Standing]
) -> dict[int, Continuation]:
    """Who goes on into the next rung."""
    reports = {run: standings[run].report for run in continued}
    if sweep.schedule.method == "pbt":
        playing = {
            run: math.nan if report.status == NAN else report.final_return
            for run, report in reports.items()
            if report.status != STOPPED
        }
        values = {run: standings[run].values for run in playing}
        return exploit_and_explore(playing, values, explored_fields(sweep), sweep.schedule, rung)
    configs = sorted({sweep.config_of(run) for run in continued})
    scores = {config: _config_score([standings[run].report for run in sweep.runs_of(config)]) for config in configs}
    going = set(survivors(scores, bracket.reduction))
    return {run: one for run, one in continued.items() if sweep.config_of(run) in going and reports[run].status == OK}


def _config_score(reports: Sequence[Report]) -> float:
    """Interquartile mean over seeds; a run without a score counts as the worst possible."""
    scores = [-math.inf if report.final_return is None else report.final_return for report in reports]
    with np.errstate(invalid="ignore"):
        return float(interquartile_mean(np.asarray(scores)))


def explored_fields(sweep: Sweep) -> dict[str, Explored]:
    """The swept fields that population-based training changes, with their ranges.

    Raises:
      UsageError: a swept field that cannot change within a run.
    """
    found = {}
    declared = field_types(type(sweep.config))
    fields = {field.name: field for field in dataclasses.fields(sweep.config)}
    for name in sweep.fields:
        if name.startswith(ENV_PREFIX) or fields[name].metadata.get("static", True) or declared[name] not in (int, float):
            raise UsageError(f"schedule='pbt' cannot change {name} within a run; sweep traced numbers of the agent only")
        meta, draw = fields[name].metadata, sweep.draws.get(name)
        low, high = (draw.low, draw.high) if draw else (meta.get("low", -math.inf), meta.get("high", math.inf))
        found[name] = Explored(low, high, not draw and meta.get("low_open", False), declared[name] is int)
    if not found:
        raise UsageError(
            "schedule='pbt' has nothing to explore; sweep a traced field, such as --draw learning_rate=log:1e-5:1e-2"
        )
    return found


class _SweepBar:
    """A progress bar over all runs, to which units add the env steps they do; `watch` is kept meanwhile."""

    def __init__(self, watch: Stopwatch, keep: Callable[[], None]) -> None:
        self.watch, self.keep = watch, keep
        self.bar: Bar | None = None

    def aim(self, num_left: int) -> None:
        """So many env steps will be done from now on, as far as is known."""
        if self.bar is None:
            self.bar = Bar(num_left, 0, console(), compiles=True, clock=self.watch.working)
        self.bar.aim(num_left)

    def advance(self, num_steps: int, score: float | None, before: bool = False) -> None:
        """More env steps are done, or were before this process."""
        assert self.bar is not None
        if before:
            self.bar.skip(num_steps)
        else:
            self.bar.advance(self.bar.done_steps + num_steps, score)
        self.keep()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


# --- executors ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _workers(
    sweep: Sweep, groups: Sequence[Group], folder: Path, progress: ProgressCallback, interrupted: Callable[[], bool]
) -> Iterator[Workers]:
    """Where units are worked on: in this process, in processes of their own, or by many on a Ray cluster."""
    if sweep.executor == "ray":
        from jaxrl.sweeps.ray_executor import ray_executor

        with ray_executor(sweep, folder, progress, interrupted) as workers:
            yield workers
        return
    if groups[0].solo:
        yield child_processes(sweep, groups, folder, progress, interrupted)
        return
    limit = sweep.memory_limit or batch_limit()
    worker = Worker(sweep, groups, folder, limit, interrupted)

    def execute(units: Sequence[Unit]) -> list[dict[str, Any]]:
        return [work(worker, unit, progress) for unit in units]

    yield Workers(execute, 1, len(jax.devices()), limit, choose_batching(sweep.batching))


# --- results --------------------------------------------------------------------------------------------------------


def _write(sweep: Sweep, folder: Path, standings: Mapping[int, Standing]) -> list[str]:
    """Writes the tables, and which units each run was in; returns the statuses."""
    curves: dict[int, list[tuple[int, float | None]]] = {run: [] for run in range(sweep.num_runs)}
    for name in sorted({name for standing in standings.values() for name in standing.units}):
        for row in read_unit_rows(folder, name):
            curves[row["run"]].append((row["env_steps"], row["return_mean"]))
    rows = [_result(sweep, run, standings[run], sorted(curves[run], key=lambda point: point[0])) for run in curves]
    write_results(folder / "results.csv", sweep.fields, rows)
    points = [(run, *point) for run in curves for point in sorted(curves[run], key=lambda point: point[0])]
    write_curves(folder / "curves.csv", [dict(zip(("run", "env_steps", "return_mean"), p, strict=True)) for p in points])
    write_json(folder / "state" / "units.json", {str(run): standings[run].units for run in curves})
    return [row["status"] for row in rows]


def _result(sweep: Sweep, run: int, standing: Standing, curve: list[tuple[int, float | None]]) -> dict[str, Any]:
    """A row of `results.csv`."""
    report = standing.report
    env_steps, returns = np.array(curve, float).reshape(-1, 2).T
    return standing.values | {
        "run": run,
        "config": sweep.config_of(run),
        "seed": sweep.seed_of(run),
        # A run that a schedule ended early was `ok` at the end of its last rung.
        "status": STOPPED if report.status == OK and report.env_steps < sweep.total_steps else report.status,
        "env_steps": report.env_steps,
        "final_return": report.final_return,
        "eval_return": report.eval_return,
        "area_under_curve": None if report.status == NAN else area_under_curve(env_steps, returns),
        "wall_seconds": round(standing.seconds, 3),
    }
