"""`jaxrl sweep`, `jaxrl tune`, `jaxrl take` and `jaxrl compare`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrl.cli import options as opts
from jaxrl.errors import UsageError
from jaxrl.fields import MAX_COUNT, MAX_SEED, static
from jaxrl.startup import MAX_DEVICES, MAX_THREADS, number_behind, use_compilation_cache, use_devices, use_threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManyOptions:
    """Options of `jaxrl sweep` and `jaxrl tune` beside their fields."""

    draw: tuple[str, ...] = static(
        (),
        "Range of a field to draw from: learning_rate=log:1e-5:1e-2 or gamma=uniform:0.9:0.999.",
        metavar="FIELD=VALUES",
    )
    devices: int = static(0, "CPU devices to make; 0 is one a core.", low=0, high=MAX_DEVICES)
    threads: int | None = static(
        None, "CPU threads of compiled programs, for all devices; by default one a device.", low=0, high=MAX_THREADS
    )
    out: str | None = static(None, "Folder of the sweep or search; a new one under runs/ by default.")
    tuned: bool | None = opts.tuned()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOptions(ManyOptions):
    """Those of `jaxrl sweep` alone."""

    grid: tuple[str, ...] = static(
        (),
        "Values of a field, every combination is trained: learning_rate=1e-4,3e-4, hidden=64x64,128x128; env.NAME is an option "
        "of the environment.",
        metavar="FIELD=VALUES",
    )
    num_draws: int = static(1, "Random draws, each with every combination of the grid.", low=1, high=MAX_COUNT)
    draw_seed: int = static(0, "Seed of the draws and of random decisions of the schedule.", low=0, high=MAX_SEED)
    seeds: int = static(1, "Seeds 0, 1, ... of each config.", low=1, high=MAX_COUNT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneOptions(ManyOptions):
    """Those of `jaxrl tune` alone."""

    choice: tuple[str, ...] = static(
        (),
        "Values of a field to choose from: hidden=64x64,128x128.",
        metavar="FIELD=VALUES",
    )
    seeds: int = static(
        3, "Seeds 0, 1, ... of each trial, trained together; its score is their interquartile mean.", low=1, high=MAX_COUNT
    )


def sweep(arguments: list[str]) -> None:
    """jaxrl sweep AGENT --env ENV [--grid FIELD=V1,V2,...]... [--seeds N] ..."""
    given = opts.agent_of("sweep", arguments)
    if given is None:
        return
    agent, arguments = given
    use_all_cores(arguments)
    from jaxrl.sweeps.plan import Sweep, make_sweep
    from jaxrl.sweeps.schedulers import Schedule
    from jaxrl.sweeps.space import parse_draws, parse_grid

    config, values, schedule, own = opts.read_tuned("sweep", agent, arguments, Sweep, Schedule, SweepOptions)
    out = opts.out_folder(own["out"], f"sweep-{agent}", values["env"], 0)

    def job() -> dict[str, Any]:
        from jaxrl.sweeps.driver import start

        grid, draws = parse_grid(type(config), own["grid"]), parse_draws(type(config), own["draw"])
        if own["num_draws"] != 1 and not draws:
            raise UsageError(f"num_draws={own['num_draws']} but nothing is drawn; give --draw FIELD=log:LOW:HIGH")
        values.update(agent=agent, config=config, command=own["command"], seeds=tuple(range(own["seeds"])))
        values["schedule"] = Schedule(**schedule, seed=own["draw_seed"])
        return start(make_sweep(grid, draws, own["num_draws"], own["draw_seed"], **values), out, own["notice"])

    finish(opts.guarded(job, out), out)


def use_all_cores(arguments: list[str]) -> None:
    """Makes each core a device of its own where there is no accelerator; read when JAX starts, so this must come first."""
    num_devices = number_behind(arguments, "--devices") or len(os.sched_getaffinity(0))
    use_threads(arguments, num_devices)
    use_devices(num_devices)


def finish(summary: dict[str, Any], out: Path) -> None:
    """Shows the best configs and where the results are."""
    from rich.table import Table

    from jaxrl.analysis.results import rank, read_results, score_runs, show_value
    from jaxrl.records.console import console, say, seconds_line

    results = read_results(out)
    ranked = rank(results, score_runs(results))
    table = Table(title=f"{summary['agent']} on {summary['env']}: {summary['runs']} runs, {summary['env_steps']:,} env steps")
    for column in ("config", *results.fields, "final return (IQM)", "runs"):
        table.add_column(column, justify="right")
    for config in ranked[:5]:
        values = [show_value(value) for value in config.values]
        table.add_row(str(config.number), *values, f"{config.iqm:.1f}", str(len(config.runs)))
    console().print(table)
    say(seconds_line(summary))
    print(f"{out / 'results.csv'}\n{out / 'report.html'}")
    opts.say_next(f"open {out / 'report.html'}, or score the best run", "evaluate", out)


def resume(out: Path, arguments: list[str]) -> None:
    """jaxrl resume DIR, of a sweep."""
    use_all_cores(arguments)

    def job() -> dict[str, Any]:
        from jaxrl.sweeps.driver import resume

        return resume(out)

    finish(opts.guarded(job, out), out)


def tune(arguments: list[str]) -> None:
    """jaxrl tune AGENT --env ENV [--draw FIELD=log:LOW:HIGH]... [--choice FIELD=V1,V2,...]... ..."""
    given = opts.agent_of("tune", arguments)
    if given is None:
        return
    agent, arguments = given
    use_all_cores(arguments)
    from jaxrl.sweeps.space import parse_draws, parse_grid
    from jaxrl.tuning.definition import Tuning

    config, values, own = opts.read_tuned("tune", agent, arguments, Tuning, TuneOptions)
    out = opts.out_folder(own["out"], f"tune-{agent}", values["env"], values["sampler_seed"])

    def job() -> dict[str, Any]:
        from jaxrl.tuning.search import tune

        values["draws"] = parse_draws(type(config), own["draw"], "choices")
        values["choices"] = parse_grid(type(config), own["choice"], "choice")
        values.update(agent=agent, config=config, command=own["command"], seeds=tuple(range(own["seeds"])))
        return tune(Tuning(**values), out, own["notice"])

    _finish_tune(opts.guarded(job, out), out)


def resume_tune(out: Path, arguments: list[str]) -> None:
    """jaxrl resume DIR, of a search."""
    use_all_cores(arguments)

    def job() -> dict[str, Any]:
        from jaxrl.tuning.search import resume

        return resume(out)

    _finish_tune(opts.guarded(job, out), out)


def _finish_tune(summary: dict[str, Any], out: Path) -> None:
    from jaxrl.records.console import say, seconds_line

    say(seconds_line(summary))
    print(f"{out / 'trials.csv'}\n{out / 'history.png'}")
    opts.say_next("the best trial as a run", "take", out, "best", "--out", f"{out}-best")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TakeOptions(opts.Threads):
    """Options of `jaxrl take`."""

    folder: str = static(..., "Folder of the sweep or search.", positional=True)
    run: str = static(
        ..., "Number of the run, as in results.csv (of a search, of the trial, as in trials.csv), or best.", positional=True
    )
    out: str = static(..., "Folder to write: an ordinary run, to evaluate, plot, resume or start others from.")


def take(arguments: list[str]) -> None:
    """jaxrl take DIR RUN|best --out FOLDER"""
    parsed = opts.parse(TakeOptions, arguments, "jaxrl take")
    folder, out = opts.path_of("folder", parsed.folder), opts.path_of("out", parsed.out)
    use_threads(arguments)
    use_compilation_cache()
    if (folder / "tune.json").exists():
        from jaxrl.tuning.results import take_trial

        opts.guarded(lambda: take_trial(folder, parsed.run, out), out)
    else:
        from jaxrl.sweeps.export import choose, save_run

        save_run(folder, choose(folder, parsed.run)[0].run, out)
    print(out)
    opts.say_next("a score", "evaluate", out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of `jaxrl compare`."""

    first: str = static(..., "Folder of a sweep.", positional=True)
    second: str = static(..., "Folder of another sweep.", positional=True)


def compare(arguments: list[str]) -> None:
    """jaxrl compare DIR DIR"""
    parsed = opts.parse(CompareOptions, arguments, "jaxrl compare")
    from jaxrl.analysis.compare import compare, report
    from jaxrl.records.console import doing

    with doing(f"comparing {parsed.first} and {parsed.second}", elsewhere=False):
        compared = report(compare(opts.path_of("first", parsed.first), opts.path_of("second", parsed.second)))
    print(compared)
    opts.say_next("their curves", "plot", parsed.first, parsed.second)


def evaluate(folder: Path, run: str, seeds: bool, score: Callable[[Path, dict[str, Any]], dict[str, Any]]) -> None:
    """jaxrl evaluate DIR, of a sweep: a line for each run, and one for all seeds of a config.

    Args:
      score: (folder of a run, what is said of it) -> its score, printed.
    """
    import numpy as np

    from jaxrl.analysis.stats import bootstrap_interval
    from jaxrl.records.rows import plain
    from jaxrl.sweeps.export import choose, folder_of

    chosen, means = choose(folder, run, seeds), []
    for one in chosen:
        about = {"run": one.run, "config": one.config, "seed": one.seed}
        if one.status == "nan" and seeds:
            print(json.dumps(about | {"status": "nan"}))
            continue
        with folder_of(folder, one.run) as own:
            means.append(score(own, about)["mean"])
    found = np.array([mean for mean in means if mean is not None])
    if seeds and len(found):
        low, high = bootstrap_interval(found)
        scored = plain({"config": chosen[0].config, "seeds": len(found), "mean": found.mean(), "low": low, "high": high})
        print(json.dumps(scored))


COMMANDS = {"sweep": sweep, "tune": tune, "compare": compare, "take": take}
RESUME = {"sweep": resume, "tune": resume_tune}
