"""What the commands share: options read by tyro, jobs that end with one line.

Imports no JAX, so that help is instant.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from jaxrl.agents import AGENTS, load_agent
from jaxrl.errors import EnvError, fail, one_line, unknown
from jaxrl.startup import use_compilation_cache

# --- options, read by tyro ------------------------------------------------------------------------------------------


def parse(options: type, arguments: list[str], program: str) -> Any:
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
        fail(f"{_one_line(options, arguments, captured.getvalue())}; see {program} --help")


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
                fail(unknown("field", name, known).replace(f"'{name}'", f"--{name}", 1))


def _bool_flags(options: type, arguments: list[str]) -> list[str]:
    """`--double true` and `--double false` besides tyro's `--double` and `--no-double`, and `none` besides its `None`."""
    flags = {"--" + f.name.replace("_", "-") for f in dataclasses.fields(options) if isinstance(f.default, bool)}
    result: list[str] = []
    for argument in arguments:
        if result and result[-1].replace("_", "-") in flags and not argument.startswith("--"):
            if argument.lower() not in ("true", "false"):
                fail(f"{result[-1][2:].replace('-', '_')}={argument!r} is not of the right type; give true or false")
            if argument.lower() == "false":
                result[-1] = "--no-" + result[-1][2:]
            continue
        result.append("None" if argument == "none" else argument)
    return result


def option(kind: Any, default: Any, help: str, **keywords: Any) -> tuple[Any, Any]:
    """Type and field of an option for `dataclasses.make_dataclass`; a `default` of `...` makes it required."""
    import tyro

    field = dataclasses.field() if default is ... else dataclasses.field(default=default)
    return Annotated[kind, tyro.conf.arg(help=help, **keywords)], field


def make_options(name: str, fields: dict[str, tuple[Any, Any]]) -> type:
    ordered = sorted(fields.items(), key=lambda item: item[1][1].default is not dataclasses.MISSING)
    return dataclasses.make_dataclass(name, [(key, kind, field) for key, (kind, field) in ordered], frozen=True)


def folder(help: str) -> tuple[Any, Any]:
    """A folder that is given without a flag."""
    return positional(str, help)


def positional(kind: Any, help: str) -> tuple[Any, Any]:
    """Something that is given without a flag."""
    import tyro

    kind, field = option(kind, ..., help)
    return Annotated[kind, tyro.conf.Positional], field


def train_options() -> dict[str, tuple[Any, Any]]:
    """The options of `jaxrl train` that are not fields of the agent's config."""
    return {
        "env": option(str, ..., "Environment: CartPole-v1, family/id, or your own module:function."),
        "env_option": option(
            tuple[str, ...], (), "Physics or arguments of the environment, such as gravity=12.", metavar="NAME=VALUE ..."
        ),
        "total_steps": option(int, 500_000, "Env steps to train for."),
        "seed": option(int, 0, "Seed of everything random."),
        "out": option(str | None, None, "Folder of the run; a new one under runs/ by default."),
        "eval_every": option(int, 0, "Env steps between evaluations while training; 0 evaluates at the end only."),
        "eval_episodes": option(int, 100, "Episodes of each evaluation."),
        "num_rows": option(int, 100, "Rows of metrics over the run."),
        "track": option(tuple[str, ...], (), "Further sinks for metrics: tensorboard, wandb."),
        "init_from": option(str | None, None, "Folder of a run whose learned state this one starts from."),
        "checkpoint_seconds": option(float, 30.0, "Seconds between checkpoints; 0 writes one after every row."),
        "checkpoint_replay": option(bool, False, "Keep a replay above 1 GB in checkpoints too."),
        "debug": option(bool, False, "Stop at the first NaN and say where it arose (slower)."),
        "threads": option(int, 1, "CPU threads of compiled programs; 0 leaves it to JAX. Small networks are fastest with one."),
        "devices": option(
            int,
            1,
            "Devices over which the environments are divided, a divisor of num_envs; 0 for all that JAX finds. "
            "On a CPU as many are made. The result is that of one device up to rounding.",
        ),
        **process_options(),
        "profile": option(bool, False, "Trace some iterations in the middle of the run into DIR/profile/."),
    }


def process_options() -> dict[str, tuple[Any, Any]]:
    """The options of a run over several processes; they are not part of its config."""
    return {
        "coordinator": option(
            str | None,
            None,
            "HOST:PORT of process 0 for a run over several processes, each started with this same command; "
            "auto takes all three from Slurm, Open MPI or a TPU pod. Process 0 alone writes.",
        ),
        "num_processes": option(int | None, None, "Processes of the run, with --coordinator HOST:PORT."),
        "process_id": option(int | None, None, "Which of them this one is, from 0."),
    }


# --- commands that take an agent ------------------------------------------------------------------------------------


def agent_of(command: str, arguments: list[str]) -> tuple[str, list[str]] | None:
    """The agent that a command is about and the arguments behind it; None after printing the agents, where none is given."""
    if arguments and arguments[0] not in ("-h", "--help"):
        return arguments[0], arguments[1:]
    print(f"usage: jaxrl {command} AGENT --env ENV [options]\n\nagents:")
    for name, entry in AGENTS.items():
        print(f"  {name:10s} {entry.summary}")
    print(f"  module:function  your own\n\n`jaxrl {command} AGENT --help` lists every option and field.")
    return None


def parse_agent(
    command: str, agent: str, options: dict[str, tuple[Any, Any]], arguments: list[str]
) -> tuple[Any, dict[str, Any]]:
    """Reads the options of a command and the fields of the agent's config: (config, values of the options)."""
    _, config_class = load_agent(agent)
    fields = dict(options)
    for field in dataclasses.fields(config_class):
        if field.name in fields:
            fail(f"agent={agent!r}: its config field {field.name!r} is an option of jaxrl {command}; rename the field")
        fields[field.name] = _config_option(config_class, field)
    parsed = parse(make_options(f"{command.capitalize()}Options", fields), arguments, f"jaxrl {command} {agent}")
    values = {f.name: getattr(parsed, f.name) for f in dataclasses.fields(parsed)}
    config = config_class(**{f.name: values.pop(f.name) for f in dataclasses.fields(config_class)})
    if values["out"] == "":
        fail("out='' names no folder; give one, or leave --out away for a new one under runs/")
    return config, values


def _config_option(config_class: type, field: dataclasses.Field) -> tuple[Any, Any]:
    from jaxrl.config import field_types

    kind = field_types(config_class)[field.name]
    role = "static" if field.metadata.get("static", True) else "traced"
    help = f"{field.metadata.get('help', '')} [{role}]".strip()
    choices = field.metadata.get("choices")
    if choices:
        help = f"{help[: help.rindex('[')]}One of {', '.join(choices)}. [{role}]"
    return option(kind, field.default if field.default is not dataclasses.MISSING else ..., help)


def name_value(text: str) -> tuple[str, Any]:
    """Name and value of an `--env-option NAME=VALUE`."""
    from jaxrl.config import literal

    name, equals, value = text.partition("=")
    if not equals or not name:
        fail(f"env_option={text!r} is not NAME=VALUE; write for example gravity=12")
    return name, literal(value)


def default_folder(agent: str, env: str, seed: int) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return re.sub(r"[^\w.\-/]", "_", f"runs/{agent}-{env.replace('/', '-')}-s{seed}-{stamp}")


# --- jobs -----------------------------------------------------------------------------------------------------------


def guarded(job: Callable[[], dict[str, Any]], out: Path) -> dict[str, Any]:
    """Runs a training job; an interrupt or a NaN found by --debug ends it with a line."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    use_compilation_cache()
    from jax.experimental.checkify import JaxRuntimeError

    try:
        return job()
    except KeyboardInterrupt:
        begun = any((out / name).exists() for name in ("config.json", "sweep.json", "tune.json"))
        print(f"jaxrl: interrupted; {f'go on with: jaxrl resume {out}' if begun else 'nothing was written'}", file=sys.stderr)
        sys.exit(130)
    except JaxRuntimeError as error:
        print(f"jaxrl: the first NaN arose here: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except EnvError as error:
        print(f"jaxrl: {one_line(error)}; go on with: jaxrl resume {out}", file=sys.stderr)
        sys.exit(1)


def check_image(name: str, path: str | None) -> None:
    if path is None:
        return
    if Path(path).is_dir() or not path:
        fail(f"{name}={path!r} names no file; give the name of a .png, .svg or .pdf file")
    if not Path(path).resolve().parent.is_dir():
        fail(f"{name}={path} cannot be written: its folder does not exist; make it first")
