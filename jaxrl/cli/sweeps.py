"""`jaxrl sweep`, `jaxrl tune`, `jaxrl take` and `jaxrl compare`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxrl.cli import options as opts
from jaxrl.errors import UsageError
from jaxrl.startup import argument, use_compilation_cache, use_devices, use_threads

_SHARED = ("env", "env_option", "total_steps", "eval_episodes", "num_rows", "checkpoint_seconds")
"""Options of `jaxrl train` that mean the same here."""


def _sweep_options() -> dict[str, tuple[Any, Any]]:
    """The options of `jaxrl sweep` that are not fields of the agent's config."""
    shared = opts.train_options()
    return {name: shared[name] for name in _SHARED} | {
        "grid": _repeated("Values of a field, every combination is trained: learning_rate=1e-4,3e-4, hidden=64x64,128x128; "
                          "env.NAME is an option of the environment. May be given several times."),
        "draw": _repeated("Range of a field to draw from: learning_rate=log:1e-5:1e-2 or gamma=uniform:0.9:0.999. "
                          "May be given several times."),
        "num_draws": opts.option(int, 1, "Random draws, each with every combination of the grid."),
        "draw_seed": opts.option(int, 0, "Seed of the draws and of random decisions of the schedule."),
        "seeds": opts.option(int, 1, "Seeds 0, 1, ... of each config."),
        "schedule": opts.option(
            str, "none", "none trains every run to its end; halving and hyperband drop the worst configs early; "
            "pbt is population-based training."
        ),
        "reduction": opts.option(int, 3, "halving, hyperband: one config in so many goes on at each rung."),
        "min_steps": opts.option(int | None, None, "halving, hyperband: env steps of the first rung."),
        "pbt_steps": opts.option(int | None, None, "pbt: env steps between exploitations; a twentieth of the training."),
        "pbt_share": opts.option(float, 0.2, "pbt: share of the runs that is replaced by copies of the best."),
        "pbt_factor": opts.option(float, 1.25, "pbt: explored values are multiplied or divided by it."),
        "stop_return": opts.option(
            float | None, None, "Stop a run when the mean return of its last 100 training episodes reaches this."
        ),
        "batching": opts.option(str, "auto", "How runs are batched: serial (each core its own), vmap, or auto by the device."),
        "memory_limit": opts.option(int | None, None, "Bytes that one batch of runs may take; most of the memory by default."),
        "executor": opts.option(str, "local", "local, or ray: tasks on a Ray cluster (RAY_ADDRESS, or a local one)."),
        "devices": opts.option(int, 0, "CPU devices to make; 0 is one a core."),
        "threads": opts.option(int | None, None, "CPU threads of compiled programs, for all devices; by default one a device."),
        "out": opts.option(str | None, None, "Folder of the sweep; a new one under runs/ by default."),
    }  # fmt: skip


def _repeated(help: str) -> tuple[Any, Any]:
    kind, field = opts.option(tuple[str, ...], (), help, metavar="FIELD=VALUES")
    return Annotated[kind, tyro.conf.UseAppendAction], field


def sweep(arguments: list[str]) -> None:
    """jaxrl sweep AGENT --env ENV [--grid FIELD=V1,V2,...]... [--seeds N] ..."""
    command = f"jaxrl sweep {shlex.join(arguments)}"
    given = opts.agent_of("sweep", arguments)
    if given is None:
        return
    agent, arguments = given
    use_all_cores(arguments)
    config, values = opts.parse_agent("sweep", agent, _sweep_options(), arguments)
    out = Path(values["out"] or opts.default_folder(f"sweep-{agent}", values["env"], 0))

    def job() -> dict[str, Any]:
        from jaxrl.sweeps.driver import start

        return start(planned_sweep(agent, config, values, command), out)

    finish(opts.guarded(job, out), out)


def planned_sweep(agent: str, config: Any, values: dict[str, Any], command: str) -> Any:
    """The sweep that the options describe.

    Raises:
      UsageError: options that do not fit.
    """
    from jaxrl.sweeps.plan import Sweep, make_configs, parse_draws, parse_grid
    from jaxrl.sweeps.schedules import Schedule

    grid, draws = parse_grid(type(config), values["grid"]), parse_draws(type(config), values["draw"])
    if values["num_draws"] != 1 and not draws:
        raise UsageError(f"num_draws={values['num_draws']} but nothing is drawn; give --draw FIELD=log:LOW:HIGH")
    if values["seeds"] < 1:
        raise UsageError(f"seeds={values['seeds']} is out of range; give at least 1")
    tuned = ("reduction", "min_steps", "pbt_steps", "pbt_share", "pbt_factor")
    schedule = Schedule(values["schedule"], **{name: values[name] for name in tuned}, seed=values["draw_seed"])
    names = ("env", "total_steps", "eval_episodes", "num_rows", "stop_return", "batching", "memory_limit", "executor")
    return Sweep(
        agent=agent,
        config=config,
        fields=(*grid, *draws),
        configs=make_configs(grid, draws, values["num_draws"], values["draw_seed"], config),
        draws=draws,
        env_options=dict(opts.name_value(text) for text in values["env_option"]),
        seeds=tuple(range(values["seeds"])),
        schedule=schedule,
        checkpoint_seconds=values["checkpoint_seconds"],
        command=command,
        **{name: values[name] for name in names},
    )


def use_all_cores(arguments: list[str]) -> None:
    """Makes each core a device of its own where there is no accelerator; read when JAX starts, so this must come first."""
    text = argument(arguments, "--devices") or "0"
    if not text.isdigit():
        raise UsageError(f"devices={text!r} is out of range; give 0 or more")
    num_devices = int(text) or len(os.sched_getaffinity(0))
    use_threads(arguments, num_devices)
    use_devices(str(num_devices))


def finish(summary: dict[str, Any], out: Path) -> None:
    """Shows the best configs and where the results are."""
    from rich.table import Table

    from jaxrl.analysis.results import rank, read_results, score_runs, show_value
    from jaxrl.records.console import console

    results = read_results(out)
    ranked = rank(results, score_runs(results))
    table = Table(title=f"{summary['agent']} on {summary['env']}: {summary['runs']} runs, {summary['env_steps']:,} env steps")
    for column in ("config", *results.fields, "final return (IQM)", "runs"):
        table.add_column(column, justify="right")
    for config in ranked[:5]:
        values = [show_value(value) for value in config.values]
        table.add_row(str(config.number), *values, f"{config.iqm:.1f}", str(len(config.runs)))
    console().print(table)
    print(f"{out / 'results.csv'}\n{out / 'report.html'}")


def resume(out: Path, arguments: list[str]) -> None:
    """jaxrl resume DIR, of a sweep."""
    use_all_cores(arguments)

    def job() -> dict[str, Any]:
        from jaxrl.sweeps.driver import resume

        return resume(out)

    finish(opts.guarded(job, out), out)


def _tune_options() -> dict[str, tuple[Any, Any]]:
    """The options of `jaxrl tune` that are not fields of the agent's config."""
    shared, sweep = opts.train_options(), _sweep_options()
    return {name: shared[name] for name in ("env", "env_option", "total_steps", "eval_episodes")} | {
        "draw": sweep["draw"],
        "choice": _repeated("Values of a field to choose from: hidden=64x64,128x128. May be given several times."),
        "num_trials": opts.option(int, 50, "Trials, complete or pruned."),
        "seeds": opts.option(int, 3, "Seeds 0, 1, ... of each trial, trained together; its score is their interquartile mean."),
        "num_rungs": opts.option(int, 10, "How often a trial reports and may be pruned."),
        "objective": opts.option(str, "training", "training: mean of the last training episodes; evaluation: of greedy ones."),
        "pruner": opts.option(str, "median", "median, halving, hyperband or none."),
        "reduction": opts.option(int, 3, "halving, hyperband: one trial in so many goes on at each rung."),
        "pruning_startup": opts.option(int, 5, "Complete trials before the median prunes."),
        "sampler": opts.option(str, "tpe", "tpe or random."),
        "sampler_startup": opts.option(int, 10, "Random trials before tpe has a model."),
        "sampler_seed": opts.option(int, 0, "Seed of the proposals."),
        "storage": opts.option(
            str | None, None, "URL of Optuna's database, which processes may share; study.db in the folder."
        ),
        "study_name": opts.option(str | None, None, "Name of the study in the database; of agent and environment by default."),
        "max_seconds": opts.option(float | None, None, "Begin no further trial after so many seconds."),
        "stop_value": opts.option(float | None, None, "Begin no further trial once one has reached this."),
        **{name: sweep[name] for name in ("batching", "memory_limit", "devices", "threads")},
        "out": opts.option(str | None, None, "Folder of the search; a new one under runs/ by default."),
    }


def tune(arguments: list[str]) -> None:
    """jaxrl tune AGENT --env ENV [--draw FIELD=log:LOW:HIGH]... [--choice FIELD=V1,V2,...]... ..."""
    command = f"jaxrl tune {shlex.join(arguments)}"
    given = opts.agent_of("tune", arguments)
    if given is None:
        return
    agent, arguments = given
    use_all_cores(arguments)
    config, values = opts.parse_agent("tune", agent, _tune_options(), arguments)
    out = Path(values.pop("out") or opts.default_folder(f"tune-{agent}", values["env"], values["sampler_seed"]))
    for name in ("threads", "devices"):
        values.pop(name)

    def job() -> dict[str, Any]:
        from jaxrl.sweeps.plan import parse_draws, parse_grid
        from jaxrl.tuning.search import Tuning, tune

        draws = parse_draws(type(config), values.pop("draw"), "choices")
        choices = parse_grid(type(config), values.pop("choice"), "choice")
        seeds, env_options = tuple(range(values.pop("seeds"))), dict(opts.name_value(text) for text in values.pop("env_option"))
        named: dict[str, Any] = {
            "draws": draws,
            "choices": choices,
            "seeds": seeds,
            "env_options": env_options,
            "command": command,
        }
        return tune(Tuning(agent=agent, config=config, **named, **values), out)

    _finish_tune(opts.guarded(job, out), out)


def resume_tune(out: Path, arguments: list[str]) -> None:
    """jaxrl resume DIR, of a search."""
    use_all_cores(arguments)

    def job() -> dict[str, Any]:
        from jaxrl.tuning.search import resume

        return resume(out)

    _finish_tune(opts.guarded(job, out), out)


def _finish_tune(summary: dict[str, Any], out: Path) -> None:
    print(f"{out / 'trials.csv'}\n{out / 'history.png'}")


def take(arguments: list[str]) -> None:
    """jaxrl take DIR RUN --out FOLDER"""
    fields = {
        "folder": opts.folder("Folder of the sweep."),
        "run": opts.positional(int, "Number of the run, as in results.csv."),
        "out": opts.option(str, ..., "Folder to write: an ordinary run, to evaluate, plot, resume or start others from."),
        "threads": opts.train_options()["threads"],
    }
    parsed = opts.parse(opts.make_options("TakeOptions", fields), arguments, "jaxrl take")
    use_threads(arguments)
    use_compilation_cache()
    from jaxrl.sweeps.export import save_run

    print(save_run(Path(parsed.folder), parsed.run, Path(parsed.out)))


def compare(arguments: list[str]) -> None:
    """jaxrl compare DIR DIR"""
    fields = {"first": opts.folder("Folder of a sweep."), "second": opts.folder("Folder of another sweep.")}
    parsed = opts.parse(opts.make_options("CompareOptions", fields), arguments, "jaxrl compare")
    from jaxrl.analysis.compare import compare, report

    print(report(compare(Path(parsed.first), Path(parsed.second))))


COMMANDS = {"sweep": sweep, "tune": tune, "compare": compare, "take": take}
RESUME = {"sweep": resume, "tune": resume_tune}
