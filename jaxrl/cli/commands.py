"""The `jaxrl` command.

Bad input ends with exit code 2 and one line on standard error; nothing has been written then. JAX is imported only by the
commands that compute, so help and lists are instant.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxrl.cli import options as opts
from jaxrl.cli.listing import list_names
from jaxrl.errors import EnvError, UsageError, fail, one_line, own_report, unknown
from jaxrl.fields import MAX_COUNT, MAX_SEED, static, to_text
from jaxrl.interrupts import EXIT_CODE, ended_at_once, held_back
from jaxrl.startup import (
    as_number,
    command,
    not_silent,
    number_behind,
    process_start,
    timed_from,
    use_compilation_cache,
    use_devices,
    use_threads,
)

USAGE = """usage: jaxrl COMMAND ...

  train AGENT --env ENV    train an agent; a new folder under runs/ unless --out names one
  sweep AGENT --env ENV    hyperparameters and seeds at once: --grid learning_rate=1e-4,1e-3 --seeds 16
  tune AGENT --env ENV     search for hyperparameters with Optuna
  resume DIR               go on with a run, sweep or search that was interrupted
  evaluate DIR             score a trained policy; --gif FILE shows it
  plot DIR [DIR ...]       learning curves of runs, sweeps and searches
  compare DIR DIR          whether two sweeps differ
  take DIR RUN --out DIR   a run of a sweep as a folder of its own
  match A B                two players of a game, each a run's DIR, random, mcts:N or a Go program's command
  ratings DIR              Elo of a run's checkpoints over its training, beside named players
  gtp DIR                  a trained player of Go speaks the Go Text Protocol, for GoGui, Sabaki and the like
  check NAME               your own agent or environment (module:function) against its contracts
  reproduce NAME ...       published results, run and compared; --list shows them
  solve ENV                exact values and policy of a grid world, a maze or another finite MDP
  list [agents|envs|experiments]

`jaxrl COMMAND --help` explains a command, `jaxrl train AGENT --help` every field of an agent's config.
Start with: jaxrl train dqn --env CartPole-v1
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 2 bad input, 1 failure, 130 interrupted."""
    begun = process_start() if arguments is None else time.perf_counter()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with contextlib.suppress(FileNotFoundError):  # The current folder is gone; not every command needs one.
        sys.path.insert(0, os.getcwd())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # A folder's name may hold what the terminal cannot show.
    try:
        with ended_at_once(lambda: "interrupted"), not_silent(arguments), timed_from(begun):
            _run(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UsageError as error:
        print(f"jaxrl: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("jaxrl: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not opts.is_reported(error):
            raise
        opts.say_failure(error)
        sys.exit(2 if own_report(error) else 1)


def _run(arguments: list[str]) -> None:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(USAGE, end="")
    elif name == "--version":
        import jaxrl

        print(jaxrl.__version__)
    elif name not in COMMANDS:
        fail(unknown("command", name, COMMANDS))
    else:
        COMMANDS[name](arguments[1:])


# --- train ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions(opts.Threads):
    """Options of `jaxrl train` beside the fields of a run."""

    out: str | None = static(None, "Folder of the run; a new one under runs/ by default.")
    tuned: bool | None = opts.tuned()
    opponent: str | None = opts.opponent("--eval-env-option")
    profile: bool = static(False, "Trace some iterations in the middle of the run into DIR/profile/.")


def train(arguments: list[str]) -> None:
    """jaxrl train AGENT --env ENV ..."""
    given = opts.agent_of("train", arguments)
    if given is None:
        return
    agent, arguments = given
    use_threads(arguments)
    use_devices(number_behind(arguments, "--devices"))
    from jaxrl.runs.definition import Run

    config, run, processes, own = opts.read_tuned("train", agent, arguments, Run, opts.Processes, TrainOptions)
    out = opts.out_folder(own["out"], agent, run["env"], run["seed"])
    run["eval_env_options"] = opts.with_opponent(run["eval_env_options"], own["opponent"])

    def job() -> dict[str, Any]:
        from jaxrl.runs.train import start

        return start(Run(agent=agent, config=config, **run), out, own["profile"], own["notice"])

    _run_job(job, out, processes)


def _stored(folder: Path) -> dict[str, Any]:
    """What a run on disk says of itself, nothing where there is none; `read_run` finds what is wrong with it."""
    from jaxrl.records.files import read_json

    try:
        return read_json(folder / "config.json", {}, "")
    except UsageError:
        return {}


def _run_job(job: Callable[[], dict[str, Any]], out: Path, processes: dict[str, Any]) -> None:
    """Joins the processes of a run, trains, and shows the end."""
    from jaxrl.drivers.processes import connect, is_connected, is_writer, leave

    connect(**processes)

    def together() -> dict[str, Any]:
        with held_back():  # From here on: the others would wait for one that ended before they can agree on where to stop.
            return job()

    try:
        summary = opts.guarded(together if is_connected() else job, out)
    except SystemExit as stop:
        leave(stop.code, together=stop.code == EXIT_CODE)
        raise
    except (RuntimeError, ValueError) as error:
        if not is_connected() or isinstance(error, (UsageError, EnvError)):
            raise
        print(f"jaxrl: stopped, since another process of this run ended: {one_line(error)[:200]}", file=sys.stderr)
        print(f"jaxrl: go on with the same processes and: {command('resume', out)}", file=sys.stderr)
        leave(1)
    if is_writer():
        _finish(summary, out)


def _finish(summary: dict[str, Any], out: Path) -> None:
    from jaxrl.records.console import console, summary_table

    console().print(summary_table(summary, out))
    print(f"{out / 'summary.json'}\n{out / 'curve.png'}")
    gif = _gif(summary["env"])
    opts.say_next("watch it" if gif else "a score over other episodes", "evaluate", out, *gif)


def _gif(env: str) -> list[str]:
    """`--gif cartpole.gif` for an environment that has pictures."""
    from jaxrl.envs import has_pictures

    name = re.sub(r"[^a-z0-9].*", "", env.rpartition("/")[2].lower())
    return ["--gif", f"{name or 'episode'}.gif"] if has_pictures(env) else []


# --- the other commands ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumeOptions(opts.Threads):
    """Options of `jaxrl resume`."""

    folder: str = static(..., "Folder of the run, sweep or search.", positional=True)
    total_steps: int | None = static(
        None, "Of a run, finished or not: env steps to train for instead of those it was begun with.", low=1
    )


def resume(arguments: list[str]) -> None:
    """jaxrl resume DIR [--total-steps N]"""
    own, processes = opts.read("jaxrl resume", arguments, ResumeOptions, opts.Processes)
    out = opts.path_of("folder", own["folder"])
    for file, kind in (("sweep.json", "sweep"), ("tune.json", "tune")):
        if (out / file).exists():
            if own["total_steps"] is not None:
                end = command("take", out, "best", "--out", f"{out}-best")
                fail(f"total_steps={own['total_steps']}: a {kind} has its end in its plan; make a run of its best with: {end}")
            from jaxrl.cli import sweeps

            sweeps.RESUME[kind](out, arguments)
            return
    use_threads(arguments)
    use_devices(as_number(str(_stored(out).get("devices", 0))))

    def job() -> dict[str, Any]:
        from jaxrl.runs.train import resume as resume_run

        return resume_run(out, own["total_steps"])

    _run_job(job, out, processes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of `jaxrl evaluate`."""

    folder: str = static(..., "Folder of the run.", positional=True)
    episodes: int | None = static(None, "Episodes to play; all of a finite environment, else 100.", low=1, high=MAX_COUNT)
    seed: int = static(0, "Seed of the episodes.", low=0, high=MAX_SEED)
    env_options: dict[str, Any] = static(
        dict,
        "Options of the environment to act in where they differ from those of the run's evaluations: gravity=12.",
        flag="env_option",
    )
    opponent: str | None = opts.opponent("--env-option")
    run: str | None = static(None, "Of a sweep's folder: number of the run, as in results.csv; the best by default.")
    seeds: bool = static(False, "Of a sweep's folder: score all runs of that run's config, one for each seed, and their mean.")
    at: int | None = static(None, "Env steps of the snapshot to play, of a run with --keep-every; the last policy by default.")
    gif: str | None = static(None, "Write one episode as a GIF to this file.")
    html: str | None = static(None, "Of brax: write one episode to this file, for a browser, where it is seen from all sides.")


def evaluate(arguments: list[str]) -> None:
    """jaxrl evaluate DIR [--run N] [--seeds] [--episodes N] [--seed S] [--env-option A=B] [--at N] [--gif F] [--html F]"""
    options = opts.parse(EvaluateOptions, arguments, "jaxrl evaluate")
    opts.check_film("gif", options.gif)
    opts.check_film("html", options.html)
    use_threads(arguments)
    use_compilation_cache()
    folder = opts.path_of("folder", options.folder)
    if (folder / "sweep.json").exists():
        from jaxrl.cli import sweeps

        sweeps.evaluate(folder, options.run or "best", options.seeds, lambda one, about: _score(one, options, about))
    elif options.run is not None or options.seeds:
        fail(f"{'run' if options.run is not None else 'seeds'}: {folder} holds no sweep; leave it out")
    else:
        _score(folder, options, {})
    if not options.gif and (gif := _gif(_stored(folder).get("env", ""))):
        opts.say_next("watch it", "evaluate", folder, *gif)
    else:
        opts.say_next("how it learned", "plot", folder)


def _score(folder: Path, options: EvaluateOptions, about: dict[str, Any]) -> dict[str, Any]:
    """Prints the score of a run behind what is said `about` it, and draws it."""
    from jaxrl.records.console import doing
    from jaxrl.runs import trained

    where = options.seed, options.at, opts.with_opponent(options.env_options, options.opponent)
    with doing(f"drawing an episode for {options.gif}", elsewhere=False):
        frames = trained.episode_pictures(folder, *where) if options.gif else None
    page = trained.episode_page(folder, *where) if options.html else ""
    found = trained.score(folder, options.episodes, *where)
    print(json.dumps(about | found))
    if options.gif and frames is not None:
        from jaxrl.envs import pictures_per_second
        from jaxrl.envs.tools.render import save_gif

        with doing(f"drawing an episode for {options.gif}"):
            save_gif(options.gif, frames, pictures_per_second(_stored(folder).get("env", "")), hold=1.0)
        print(options.gif)
    if options.html:
        from jaxrl.records.files import write_whole

        write_whole(Path(options.html), page)
        print(options.html)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """Options of `jaxrl plot`."""

    folders: tuple[str, ...] = static(
        ...,
        "Folders of runs, sweeps and searches; runs that differ in nothing but the seed make one curve.",
        metavar="DIR",
        positional=True,
    )
    by: tuple[str, ...] = static(
        (),
        "Fields of the runs or their configs, or env.NAME, that alone tell curves apart: --by learning_rate.",
        metavar="FIELD",
    )
    out: str = static("curve.png", "Image to write: .png, .svg or .pdf.")


def plot(arguments: list[str]) -> None:
    """jaxrl plot DIR [DIR ...] [--by FIELD ...] [--out FILE]"""
    options = opts.parse(PlotOptions, arguments, "jaxrl plot")
    from jaxrl.analysis.curves import plot_runs
    from jaxrl.records.console import doing

    fields = [name if "." in name else name.replace("-", "_") for name in options.by]
    with doing(f"drawing {options.out}"):
        plot_runs([opts.path_of("folders", folder) for folder in options.folders], opts.path_of("out", options.out), fields)
    print(options.out)
    first = Path(options.folders[0])
    if (first / "tune.json").exists():
        opts.say_next("the best trial as a run", "take", first, "best", "--out", f"{first}-best")
    else:
        opts.say_next("a score", "evaluate", first)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolveOptions:
    """Options of `jaxrl solve`."""

    env: str = static(
        ...,
        "Environment whose MDP is known, such as gridworld/classic, maze/classic, garnet/random.",
        metavar="ENV",
        positional=True,
    )
    method: str = static("value-iteration", "How it is solved.", choices=("value-iteration", "policy-iteration"))
    gamma: float | None = static(None, "Discount; by default the environment's own, 1 in a maze.", low=0.0, high=1.0)
    tolerance: float = static(1e-6, "Value iteration ends where values are known this well.", low=0.0, low_open=True)
    plot: str | None = static(None, "Draw values and policy, beside those of the random policy, into this image.")
    env_options: dict[str, Any] = static(dict, "Physics or arguments of the environment: gravity=12.", flag="env_option")


def solve(arguments: list[str]) -> None:
    """jaxrl solve ENV [--method M] [--gamma G] [--tolerance T] [--plot FILE] [--env-option NAME=VALUE ...]"""
    options = opts.parse(SolveOptions, arguments, "jaxrl solve")
    opts.check_image("plot", options.plot)
    use_threads(arguments)
    use_compilation_cache()
    from jaxrl.cli import solve as solving
    from jaxrl.records.console import doing

    with doing(f"solving {options.env}", elsewhere=False):
        solved = solving.solve(options.env, options.method, options.gamma, options.tolerance, options.env_options)
        if options.plot is not None:
            solving.draw(solved, Path(options.plot))
    print(solving.report(solved, sys.stdout.encoding))
    if options.plot is not None:
        print(options.plot)
    given = [f"{name}={to_text(value)}" for name, value in options.env_options.items()]
    opts.say_next("learn it", "train", "q_learning", "--env", options.env, *(["--env-option", *given] if given else []))


def _of(module: str, name: str) -> Callable[[list[str]], None]:
    """A command of another module of `jaxrl.cli`, which is imported when it is called."""

    def run(arguments: list[str]) -> None:
        getattr(importlib.import_module(f"jaxrl.cli.{module}"), name)(arguments)

    return run


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "plot": plot,
    "solve": solve,
    "sweep": _of("sweeps", "sweep"),
    "tune": _of("sweeps", "tune"),
    "compare": _of("sweeps", "compare"),
    "reproduce": _of("reproduce", "reproduce"),
    "take": _of("sweeps", "take"),
    "match": _of("match", "match"),
    "ratings": _of("ratings", "ratings"),
    "gtp": _of("gtp", "gtp"),
    "check": _of("check", "check"),
    "list": list_names,
}
