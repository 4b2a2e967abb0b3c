"""The `jaxrl` command.

Bad input ends with exit code 2 and one line on standard error; nothing has been written then. JAX is imported only by the
commands that compute, so help and lists are instant.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

USAGE = """usage: jaxrl COMMAND ...

  train AGENT --env ENV    train an agent; a new folder under runs/ unless --out names one
  resume DIR               go on with a run that was interrupted
  evaluate DIR             score a trained policy; --gif FILE shows it
  plot DIR [DIR ...]       learning curves of runs
  solve ENV                exact values and policy of a grid world, a maze or another finite MDP
  list [agents|envs|experiments]

`jaxrl COMMAND --help` explains a command, `jaxrl train AGENT --help` every field of an agent's config.
Start with: jaxrl train dqn --env CartPole-v1
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 2 bad input, 1 failure, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.insert(0, os.getcwd())
    try:
        _run(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError as error:
        if type(error).__name__ != "UsageError":
            raise
        print(f"jaxrl: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("jaxrl: interrupted", file=sys.stderr)
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    command = arguments[0] if arguments else "--help"
    if command in ("-h", "--help"):
        print(USAGE, end="")
    elif command == "--version":
        import jaxrl

        print(jaxrl.__version__)
    elif command not in COMMANDS:
        _fail(_unknown("command", command, COMMANDS))
    else:
        COMMANDS[command](arguments[1:])


def _fail(message: str) -> None:
    from jaxrl.types import UsageError

    raise UsageError(message)


def _unknown(kind: str, name: str, known: Any) -> str:
    from jaxrl.config import unknown

    return unknown(kind, name, known)


# --- options, read by tyro ------------------------------------------------------------------------------------------


def _parse(options: type, arguments: list[str], program: str) -> Any:
    """Reads options with tyro; its boxed error becomes one line."""
    import tyro

    _check_flags(options, arguments)
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(options, args=_bool_flags(options, arguments), prog=program)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        _fail(f"{_one_line(options, arguments, captured.getvalue())}; see {program} --help")


def _one_line(options: type, arguments: list[str], box: str) -> str:
    """Field, value and fix out of a box of tyro's: its frame depends on the terminal, its words do not."""
    text = " ".join(re.sub(r"[│╭╮╰╯]|─+|-{3,}|\+-|-\+", " ", box).split())
    defaults = {f.name: f.default for f in dataclasses.fields(options)}
    if found := re.search(r"Error parsing --([\w-]+)", text):
        name = found[1].replace("-", "_")
        return f"{name}={_given(name, arguments)!r} is not of the right type; give one such as {_shown(defaults[name])}"
    if found := re.search(r"Missing value for argument '--([\w-]+)'", text):
        name = found[1].replace("-", "_")
        return f"{name} has no value; give one such as {_shown(defaults[name])}"
    if found := re.search(r"Missing from [^:]*: (?:--([\w-]+))?", text):
        missing = found[1] or next(name for name, default in defaults.items() if default is dataclasses.MISSING)
        return f"{missing} is missing; give one"
    if found := re.search(r"Unrecognized options: (.*?) (?:Unrecognized|For full)", text):
        return f"unexpected argument {found[1]!r}; leave it out"
    return text or "the arguments cannot be read"


def _given(name: str, arguments: list[str]) -> str:
    """What the user wrote behind a flag."""
    flags = [argument.split("=")[0].replace("-", "_") for argument in arguments]
    start = max(index for index, flag in enumerate(flags) if flag == f"__{name}")
    if "=" in arguments[start]:
        return arguments[start].split("=", 1)[1]
    rest = arguments[start + 1 :]
    return " ".join(rest[: next((index for index, text in enumerate(rest) if text.startswith("--")), len(rest))])


def _shown(default: Any) -> str:
    """A default as it would be written on the command line."""
    if default is dataclasses.MISSING:
        return "the help shows"
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _check_flags(options: type, arguments: list[str]) -> None:
    """Names the nearest flag of one that does not exist."""
    known = {f.name.replace("_", "-") for f in dataclasses.fields(options)}
    for argument in arguments:
        if argument.startswith("--") and argument != "--help":
            name = argument[2:].split("=")[0].replace("_", "-")
            if name not in known and name.removeprefix("no-") not in known:
                _fail(_unknown("field", name, known).replace(f"'{name}'", f"--{name}", 1))


def _bool_flags(options: type, arguments: list[str]) -> list[str]:
    """`--double true` and `--double false` besides tyro's `--double` and `--no-double`, and `none` besides its `None`."""
    flags = {"--" + f.name.replace("_", "-") for f in dataclasses.fields(options) if isinstance(f.default, bool)}
    result: list[str] = []
    for argument in arguments:
        if result and result[-1].replace("_", "-") in flags and not argument.startswith("--"):
            if argument.lower() not in ("true", "false"):
                _fail(f"{result[-1][2:].replace('-', '_')}={argument!r} is not of the right type; give true or false")
            if argument.lower() == "false":
                result[-1] = "--no-" + result[-1][2:]
            continue
        result.append("None" if argument == "none" else argument)
    return result


def _option(kind: Any, default: Any, help: str, **keywords: Any) -> tuple[Any, Any]:
    """Type and field of an option for `dataclasses.make_dataclass`; a `default` of `...` makes it required."""
    import tyro

    field = dataclasses.field() if default is ... else dataclasses.field(default=default)
    return Annotated[kind, tyro.conf.arg(help=help, **keywords)], field


def _options(name: str, fields: dict[str, tuple[Any, Any]]) -> type:
    ordered = sorted(fields.items(), key=lambda item: item[1][1].default is not dataclasses.MISSING)
    return dataclasses.make_dataclass(name, [(key, kind, field) for key, (kind, field) in ordered], frozen=True)


def _folder(help: str) -> tuple[Any, Any]:
    import tyro

    kind, field = _option(str, ..., help)
    return Annotated[kind, tyro.conf.Positional], field


# --- train ----------------------------------------------------------------------------------------------------------


def _train_options() -> dict[str, tuple[Any, Any]]:
    """The options of `jaxrl train` that are not fields of the agent's config."""
    return {
        "env": _option(str, ..., "Environment: CartPole-v1, family/id, or your own module:function."),
        "env_option": _option(
            tuple[str, ...], (), "Physics or arguments of the environment, such as gravity=12.", metavar="NAME=VALUE ..."
        ),
        "total_steps": _option(int, 500_000, "Env steps to train for."),
        "seed": _option(int, 0, "Seed of everything random."),
        "out": _option(str | None, None, "Folder of the run; a new one under runs/ by default."),
        "eval_every": _option(int, 0, "Env steps between evaluations while training; 0 evaluates at the end only."),
        "eval_episodes": _option(int, 100, "Episodes of each evaluation."),
        "num_rows": _option(int, 100, "Rows of metrics over the run."),
        "track": _option(tuple[str, ...], (), "Further sinks for metrics: tensorboard, wandb."),
        "init_from": _option(str | None, None, "Folder of a run whose learned state this one starts from."),
        "checkpoint_seconds": _option(float, 30.0, "Seconds between checkpoints; 0 writes one after every row."),
        "checkpoint_replay": _option(bool, False, "Keep a replay above 1 GB in checkpoints too."),
        "debug": _option(bool, False, "Stop at the first NaN and say where it arose (slower)."),
        "threads": _option(
            int, 1, "CPU threads of compiled programs; 0 leaves it to JAX. Small networks are fastest with one."
        ),
        "devices": _option(
            int,
            1,
            "Devices over which the environments are divided, a divisor of num_envs; 0 for all that JAX finds. "
            "On a CPU as many are made. The result is that of one device up to rounding.",
        ),
        **_process_options(),
        "profile": _option(bool, False, "Trace some iterations in the middle of the run into DIR/profile/."),
    }


def _process_options() -> dict[str, tuple[Any, Any]]:
    """The options of a run over several processes; they are not part of its config."""
    return {
        "coordinator": _option(
            str | None,
            None,
            "HOST:PORT of process 0 for a run over several processes, each started with this same command; "
            "auto takes all three from Slurm, Open MPI or a TPU pod. Process 0 alone writes.",
        ),
        "num_processes": _option(int | None, None, "Processes of the run, with --coordinator HOST:PORT."),
        "process_id": _option(int | None, None, "Which of them this one is, from 0."),
    }


def train(arguments: list[str]) -> None:
    """jaxrl train AGENT --env ENV ..."""
    from jaxrl.agents import AGENTS, load_agent

    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: jaxrl train AGENT --env ENV [options]\n\nagents:")
        for name, entry in AGENTS.items():
            print(f"  {name:10s} {entry.summary}")
        print("  module:function  your own\n\n`jaxrl train AGENT --help` lists every option and field.")
        return
    agent, arguments = arguments[0], arguments[1:]
    _use_threads(arguments)
    _use_devices(_argument(arguments, "--devices"))
    _, config_class = load_agent(agent)
    options = _train_options()
    for field in dataclasses.fields(config_class):
        if field.name in options:
            _fail(f"agent={agent!r}: its config field {field.name!r} is an option of jaxrl train; rename the field")
        options[field.name] = _config_option(config_class, field)
    parsed = _parse(_options("TrainOptions", options), arguments, f"jaxrl train {agent}")
    values = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(parsed)}
    config = config_class(**{f.name: values.pop(f.name) for f in dataclasses.fields(config_class)})
    if values["out"] == "":
        _fail("out='' names no folder; give one, or leave --out away for a new one under runs/")
    out = Path(values.pop("out") or _default_folder(agent, values["env"], values["seed"]))
    env_options = dict(_name_value(text) for text in values.pop("env_option"))
    values.pop("threads")
    profile, processes = values.pop("profile"), {name: values.pop(name) for name in _process_options()}

    def job() -> dict[str, Any]:
        from jaxrl.run import Run, start

        return start(Run(agent=agent, config=config, env_options=env_options, **values), out, profile)

    _run_job(job, out, processes)


def _config_option(config_class: type, field: dataclasses.Field) -> tuple[Any, Any]:
    from jaxrl.config import field_types

    kind = field_types(config_class)[field.name]
    role = "static" if field.metadata.get("static", True) else "traced"
    help = f"{field.metadata.get('help', '')} [{role}]".strip()
    choices = field.metadata.get("choices")
    if choices:
        help = f"{help[: help.rindex('[')]}One of {', '.join(choices)}. [{role}]"
    return _option(kind, field.default if field.default is not dataclasses.MISSING else ..., help)


def _name_value(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        _fail(f"env_option={text!r} is not NAME=VALUE; write for example gravity=12")
    try:
        return name, ast.literal_eval(value.capitalize() if value.lower() in ("true", "false") else value)
    except (ValueError, SyntaxError):
        return name, value


def _default_folder(agent: str, env: str, seed: int) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return re.sub(r"[^\w.\-/]", "_", f"runs/{agent}-{env.replace('/', '-')}-s{seed}-{stamp}")


def _use_threads(arguments: list[str]) -> None:
    """Sets the size of XLA's CPU thread pool; it is read when JAX starts, so this must come first."""
    text = _argument(arguments, "--threads") or "1"
    if not text.isdigit():
        _fail(f"threads={text!r} is out of range; give 0 or more")
    if text != "0":
        os.environ.setdefault("NPROC", text)


def _argument(arguments: list[str], flag: str) -> str | None:
    """The value behind a flag, for what must be known before JAX is imported."""
    text = None
    for index, argument in enumerate(arguments):
        if argument == flag and index + 1 < len(arguments):
            text = arguments[index + 1]
        elif argument.startswith(f"{flag}="):
            text = argument.split("=", 1)[1]
    return text


def _use_devices(text: str | None) -> None:
    """Divides the CPU into devices, where there is no accelerator; read when JAX starts, so this must come first."""
    if (
        text
        and text.isdigit()
        and int(text) > 1
        and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", "")
    ):
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", text)


def _stored_devices(folder: Path) -> str | None:
    """The devices of a run on disk, None where there is none; `read_run` finds what is wrong with it."""
    try:
        return str(json.loads((folder / "config.json").read_text())["devices"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _run_job(job: Callable[[], dict[str, Any]], out: Path, processes: dict[str, Any]) -> None:
    """Joins the processes of a run, trains, and shows the end."""
    from jaxrl import parallel

    parallel.connect(**processes)
    try:
        summary = _guarded(job, out)
    except SystemExit as stop:
        parallel.leave(stop.code)
        raise
    except (RuntimeError, ValueError) as error:
        if not parallel.is_connected() or type(error).__name__ == "UsageError":
            raise
        print(f"jaxrl: stopped, since another process of this run ended: {' '.join(str(error).split())[:200]}", file=sys.stderr)
        print(f"jaxrl: go on with the same processes and: jaxrl resume {out}", file=sys.stderr)
        parallel.leave(1)
    if parallel.is_writer():
        _finish(summary, out)


def _use_compilation_cache() -> None:
    """Compiled programs are kept between runs, unless JAX_COMPILATION_CACHE_DIR says where or is empty."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "jaxrl" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _guarded(job: Callable[[], dict[str, Any]], out: Path) -> dict[str, Any]:
    """Runs a training job; an interrupt or a NaN found by --debug ends it with a line."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    _use_compilation_cache()
    from jax.experimental.checkify import JaxRuntimeError

    try:
        return job()
    except KeyboardInterrupt:
        begun = (out / "config.json").exists()
        print(f"jaxrl: interrupted; {f'go on with: jaxrl resume {out}' if begun else 'nothing was written'}", file=sys.stderr)
        sys.exit(130)
    except JaxRuntimeError as error:
        print(f"jaxrl: the first NaN arose here: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        if not str(error).startswith("env "):
            raise
        print(f"jaxrl: {' '.join(str(error).split())}; go on with: jaxrl resume {out}", file=sys.stderr)
        sys.exit(1)


def _finish(summary: dict[str, Any], out: Path) -> None:
    from jaxrl import record

    record.console().print(record.summary_table(summary, out))
    print(f"{out / 'summary.json'}\n{out / 'curve.png'}")


# --- the other commands ---------------------------------------------------------------------------------------------


def resume(arguments: list[str]) -> None:
    """jaxrl resume DIR"""
    fields = {"folder": _folder("Folder of the run."), "threads": _train_options()["threads"], **_process_options()}
    options = _parse(_options("ResumeOptions", fields), arguments, "jaxrl resume")
    _use_threads(arguments)
    out = Path(options.folder)
    _use_devices(_stored_devices(out))

    def job() -> dict[str, Any]:
        from jaxrl.run import resume as resume_run

        return resume_run(out)

    _run_job(job, out, {name: getattr(options, name) for name in _process_options()})


def evaluate(arguments: list[str]) -> None:
    """jaxrl evaluate DIR [--episodes N] [--seed S] [--gif FILE]"""
    fields = {
        "folder": _folder("Folder of the run."),
        "episodes": _option(int, 100, "Episodes to play with the greedy policy."),
        "seed": _option(int, 0, "Seed of the episodes."),
        "gif": _option(str | None, None, "Write one episode as a GIF to this file."),
    }
    options = _parse(_options("EvaluateOptions", fields), arguments, "jaxrl evaluate")
    if options.seed < 0:
        _fail(f"seed={options.seed} is out of range; give at least 0")
    if options.episodes < 1:
        _fail(f"episodes={options.episodes} is out of range; give at least 1")
    if options.gif and not Path(options.gif).resolve().parent.is_dir():
        _fail(f"gif={options.gif} cannot be written: its folder does not exist; make it first")
    if options.gif and Path(options.gif).is_dir():
        _fail(f"gif={options.gif} is a folder; give the name of a file")
    _use_threads(arguments)
    _use_compilation_cache()
    from jaxrl import trained

    folder = Path(options.folder)
    frames = trained.film(folder, options.seed) if options.gif else None
    print(json.dumps(trained.score(folder, options.episodes, options.seed)))
    if frames is not None:
        from jaxrl.envs.render import save_gif

        save_gif(options.gif, frames, fps=30)
        print(options.gif)


def plot(arguments: list[str]) -> None:
    """jaxrl plot DIR [DIR ...] [--out FILE]"""
    import tyro

    kind, field = _option(tuple[str, ...], ..., "Folders of runs; runs of one agent and environment make one curve.")
    fields = {
        "folders": (Annotated[kind, tyro.conf.Positional], field),
        "out": _option(str, "curve.png", "Image to write: .png, .svg or .pdf."),
    }
    options = _parse(_options("PlotOptions", fields), arguments, "jaxrl plot")
    if not options.folders:
        _fail("plot needs at least one folder of a run; see jaxrl plot --help")
    from jaxrl.plot import plot_runs

    plot_runs([Path(folder) for folder in options.folders], Path(options.out))
    print(options.out)


METHODS = ("value-iteration", "policy-iteration")


def solve(arguments: list[str]) -> None:
    """jaxrl solve ENV [--method M] [--gamma G] [--tolerance T] [--plot FILE] [--env-option NAME=VALUE ...]"""
    import tyro

    help = "Environment whose MDP is known, such as gridworld/classic, maze/classic, garnet/random."
    kind, field = _option(str, ..., help, metavar="ENV")
    fields = {
        "env": (Annotated[kind, tyro.conf.Positional], field),
        "method": _option(str, METHODS[0], f"One of {', '.join(METHODS)}."),
        "gamma": _option(float | None, None, "Discount; by default the environment's own, 1 in a maze."),
        "tolerance": _option(float, 1e-6, "Value iteration ends where values are known this well."),
        "plot": _option(str | None, None, "Draw values and policy, beside those of the random policy, into this image."),
        "env_option": _train_options()["env_option"],
    }
    options = _parse(_options("SolveOptions", fields), arguments, "jaxrl solve")
    if options.method not in METHODS:
        _fail(f"method={options.method!r} is unknown; choose one of {', '.join(METHODS)}")
    if options.gamma is not None and not 0.0 <= options.gamma <= 1.0:
        _fail(f"gamma={options.gamma} is out of range; give a value in [0, 1]")
    if not 0.0 < options.tolerance < float("inf"):
        _fail(f"tolerance={options.tolerance} is out of range; give a finite number above 0")
    _check_image("plot", options.plot)
    _use_threads(arguments)
    _use_compilation_cache()
    from jaxrl import solve as solving

    env_options = dict(_name_value(text) for text in options.env_option)
    solved = solving.solve(options.env, options.method, options.gamma, options.tolerance, env_options)
    if options.plot is not None:
        solving.draw(solved, Path(options.plot))
    print(solving.report(solved, sys.stdout.encoding))
    if options.plot is not None:
        print(options.plot)


def _check_image(name: str, path: str | None) -> None:
    if path is None:
        return
    if Path(path).is_dir() or not path:
        _fail(f"{name}={path!r} names no file; give the name of a .png, .svg or .pdf file")
    if not Path(path).resolve().parent.is_dir():
        _fail(f"{name}={path} cannot be written: its folder does not exist; make it first")


def list_names(arguments: list[str]) -> None:
    """jaxrl list [agents|envs|experiments]"""
    kinds = {"agents": _list_agents, "envs": _list_envs, "experiments": _list_experiments}
    if arguments and arguments[0] in ("-h", "--help"):
        print("usage: jaxrl list [agents|envs|experiments]")
        return
    if len(arguments) > 1 or (arguments and arguments[0] not in kinds):
        print(f"jaxrl: {arguments[-1]!r} cannot be listed; choose one of {', '.join(kinds)}", file=sys.stderr)
        sys.exit(2)
    for kind in arguments or kinds:
        kinds[kind]()


def _list_agents() -> None:
    from jaxrl.agents import AGENTS

    print("agents")
    width = max(map(len, AGENTS))
    for name, entry in AGENTS.items():
        print(f"  {name:{width}s}  {entry.summary}")


def _list_envs() -> None:
    from jaxrl.envs import ENVS, is_bare

    print("envs")
    for family, names in ENVS.items():
        shown = [name if is_bare(family) else f"{family}/{name}" for name in names] or [f"{family}/ID, any id of {family}"]
        print(f"  {family}: " + ", ".join(shown))


def _list_experiments() -> None:
    print("experiments")
    for path in sorted(Path("experiments").glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"  {path}  {doc.splitlines()[0] if doc else ''}")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "plot": plot,
    "solve": solve,
    "list": list_names,
}
