"""What the commands share: options made of declared fields, jobs that end with one line.

    values = read("jaxrl evaluate", arguments, EvaluateOptions)[0]

An option is a field of a dataclass, declared with `jaxrl.fields.static`. Values are read here; `jaxrl.cli.help` shows them.
Imports no JAX, so that help is instant.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from jaxrl.agents import AGENTS, load_agent
from jaxrl.cli.help import Option, show_help
from jaxrl.errors import ContractError, DiskError, EnvError, UsageError, fail, one_line, own_report, unknown
from jaxrl.fields import (
    check_value,
    default_of,
    example,
    field_types,
    from_text,
    is_option,
    kind_of,
    name_of,
    option_words,
    static,
)
from jaxrl.interrupts import EXIT_CODE, ended_at_once
from jaxrl.startup import MAX_THREADS, command, use_compilation_cache

T = TypeVar("T")

# --- options that several commands have ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threads:
    """What must be known before JAX starts."""

    threads: int = static(
        1,
        "CPU threads of compiled programs; 0 leaves it to JAX. Small networks are fastest with one.",
        low=0,
        high=MAX_THREADS,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """A run over several processes; not part of its config."""

    coordinator: str | None = static(
        None,
        "HOST:PORT of process 0 for a run over several processes, each started with this same command; "
        "auto takes all three from Slurm, Open MPI or a TPU pod. Process 0 alone writes.",
    )
    num_processes: int | None = static(None, "Processes of the run, with --coordinator HOST:PORT.")
    process_id: int | None = static(None, "Which of them this one is, from 0.")


def tuned() -> Any:
    """The option of commands that train an agent; the same of all."""
    return static(
        None,
        "Take the settings of the claim for this agent and environment (jaxrl reproduce --list), env steps among them; fields "
        "given beside it win. --no-tuned leaves out the line that tells of one.",
    )


def opponent(flag: str) -> Any:
    """The option of commands that score a policy of a game."""
    return static(
        None,
        f"Of a game: who plays the other side where the policy is scored: random, mcts:N, or a run's folder; short for {flag} "
        "opponent=.",
    )


def with_opponent(options: dict[str, Any], opponent: str | None) -> dict[str, Any]:
    """Options of an environment with that of `--opponent`.

    Raises:
      UsageError: they name another one.
    """
    if opponent is None:
        return options
    if options.get("opponent", opponent) != opponent:
        fail(f"opponent={opponent} and {options['opponent']} are both given; leave one away")
    return {**options, "opponent": opponent}


# --- reading ----------------------------------------------------------------------------------------------------------


def parse(options: type[T], arguments: list[str], program: str) -> T:
    """The options of a command that one dataclass declares; errors as of `read`."""
    return options(**read(program, arguments, options)[0])


def read(program: str, arguments: list[str], *classes: type, config_class: type | None = None) -> list[dict[str, Any]]:
    """Reads a command's options: the values of the fields of each class, last those of the agent's config.

    Raises:
      UsageError: naming the option, the value and the fix.
    """
    options: dict[str, Option] = {}
    for owner in filter(None, (*classes, config_class)):
        types = field_types(owner)
        for field in filter(is_option, dataclasses.fields(owner)):
            if name_of(field) in options:
                fail(f"{owner.__name__}: its field {field.name!r} is an option of {program}; rename the field")
            options[name_of(field)] = Option(owner, field, types[field.name])
    if "--help" in arguments or "-h" in arguments:
        show_help(program, list(options.values()), config_class)
    try:
        texts = _texts(options, arguments)
        values = {name: _value(option, texts.get(name)) for name, option in options.items()}
    except UsageError as error:
        raise UsageError(f"{error}; see {program} --help") from None
    return [
        {option.field.name: values[name] for name, option in options.items() if option.owner is owner}
        for owner in filter(None, (*classes, config_class))
    ]


def _texts(options: dict[str, Option], arguments: list[str]) -> dict[str, list[str]]:
    """What the user wrote for each option."""
    texts: dict[str, list[str]] = {}
    left, loose = deque(arguments), []
    while left:
        argument = left.popleft()
        if not argument.startswith("--"):
            loose.append(argument)
            continue
        flag, equals, value = argument[2:].partition("=")
        name, given = flag.replace("-", "_"), [value] if equals else []
        if name not in options and _is_flag(options.get(name.removeprefix("no_"))):
            name, given = name.removeprefix("no_"), ["false"]
        if name not in options or options[name].positional:
            _refuse_flag(name, options)
        while left and not left[0].startswith("--") and (options[name].takes_many or not given):
            given.append(left.popleft())
        if not given and not options[name].takes_many:
            if not _is_flag(options[name]):
                fail(f"{name} has no value; {example(options[name].field)}")
            given = ["true"]
        texts[name] = [*texts.get(name, []), *given] if options[name].accumulates else given
    for name, option in options.items():
        if option.positional and loose:
            texts[name], loose = (loose, []) if option.takes_many else (loose[:1], loose[1:])
    if loose:
        fail(f"unexpected argument {loose[0]!r}; leave it out")
    return texts


def _is_flag(option: Option | None) -> bool:
    """Whether an option is written `--double` or `--no-double`, besides `--double true` and `--double false`."""
    return option is not None and kind_of(option.declared)[1] is bool


def _refuse_flag(name: str, options: dict[str, Option]) -> NoReturn:
    known = [known.replace("_", "-") for known, option in options.items() if not option.positional]
    name = name.replace("_", "-")
    fail(unknown("field", name, known).replace(f"'{name}'", f"--{name}", 1))


def _value(option: Option, texts: list[str] | None) -> Any:
    if texts is not None:
        value = from_text(option.field, option.declared, *texts)
        check_value(option.field, option.declared, value)
        return value
    if (value := default_of(option.field)) is ...:
        fail(f"{name_of(option.field)} is missing; give one")
    return value


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


def read_agent(command: str, agent: str, arguments: list[str], *classes: type) -> tuple[Any, ...]:
    """The agent's config and the values of the fields of each class; errors as of `read`."""
    _, config_class = load_agent(agent)
    *values, fields = read(f"jaxrl {command} {agent}", arguments, *classes, config_class=config_class)
    return config_class(**fields), *values


def read_tuned(command: str, agent: str, arguments: list[str], *classes: type) -> tuple[Any, ...]:
    """As of `read_agent`, with the settings of a claim if `--tuned` is given.

    The first class is of the run, sweep or search. The last one's values get `command`, the command with those settings in the
    place of `--tuned`, and `notice`, a line to say of them.
    """
    from jaxrl.claims import settings

    config, run, *others = read_agent(command, agent, arguments, *classes)
    if (tuned := others[-1]["tuned"]) is True:
        claim = settings.tuned_claim(agent, run["env"], run["env_options"])
        given = {text.partition("=")[0].replace("_", "-").replace("--no-", "--") for text in arguments}
        words = (option_words(name, value) for name, value in settings.settings(claim).items())
        arguments = [*(text for item in words if item[0] not in given for text in item), *_untuned(arguments)]
        config, run, *others = read_agent(command, agent, arguments, *classes)
        notice = settings.taken(claim, config, run["total_steps"])
    else:
        notice = settings.hint(agent, run["env"], run["env_options"], config) if tuned is None else ""
    others[-1] |= {"command": shlex.join(["jaxrl", command, agent, *arguments]), "notice": notice}
    return config, run, *others


def _untuned(arguments: list[str]) -> list[str]:
    """Arguments without `--tuned`, which may be followed by its value."""
    behind = ["", *arguments]
    return [
        text
        for before, text in zip(behind, arguments, strict=False)
        if text.partition("=")[0] != "--tuned" and not (before == "--tuned" and not text.startswith("--"))
    ]


def out_folder(out: str | None, agent: str, env: str, seed: int) -> Path:
    """The folder of `--out`; a new one under runs/ by default."""
    if out == "":
        fail("out='' names no folder; give one, or leave --out away for a new one under runs/")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return path_of("out", out or re.sub(r"[^\w.\-/]", "_", f"runs/{agent}-{env.replace('/', '-')}-s{seed}-{stamp}"))


def path_of(name: str, text: str) -> Path:
    """The path that an option names.

    Raises:
      UsageError: no file system takes it, or the current folder is gone.
    """
    from jaxrl.records.folders import check_folder

    check_folder(name, Path(text))
    return Path(text)


# --- jobs -----------------------------------------------------------------------------------------------------------


def say_next(what: str, *words: str | Path) -> None:
    """The line with which a command ends: what one would do next, and with which command."""
    print(f"{what}: {command(*words)}", file=sys.stderr)


def guarded(job: Callable[[], dict[str, Any]], out: Path, again: str = "") -> dict[str, Any]:
    """Runs a training job; an interrupt or a NaN found by --debug ends it with a line.

    Args:
      again: the command that goes on with it, `jaxrl resume OUT` by default.
    """
    go_on = f"go on with: {again or command('resume', out)}"

    def interrupted() -> str:
        return f"interrupted; {go_on if again or has_begun(out) else 'nothing was written'}"

    with ended_at_once(interrupted):
        return _guarded(job, out, interrupted, go_on)


def _guarded(job: Callable[[], dict[str, Any]], out: Path, interrupted: Callable[[], str], go_on: str) -> dict[str, Any]:
    use_compilation_cache()
    from jax.experimental.checkify import JaxRuntimeError

    try:
        return job()
    except KeyboardInterrupt:
        print(f"jaxrl: {interrupted()}", file=sys.stderr)
        sys.exit(EXIT_CODE)
    except JaxRuntimeError as error:
        print(f"jaxrl: the first NaN arose here: {one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if not (isinstance(error, ContractError) or is_reported(error)) or not has_begun(out):
            raise
        say_failure(error, f"; {go_on}")
        sys.exit(1)


def has_begun(out: Path) -> bool:
    return any((out / name).exists() for name in ("config.json", "sweep.json", "tune.json"))


def is_reported(error: Exception) -> bool:
    """Whether an error is told in lines of its own: an environment that failed, a full disk, or a user's own code."""
    return isinstance(error, (EnvError, DiskError)) or (not isinstance(error, UsageError) and own_report(error) is not None)


def say_failure(error: Exception, end: str = "") -> None:
    """Prints the user's own frames, if it was the user's code, and one line."""
    report = own_report(error) if not isinstance(error, UsageError) else None
    if report is not None:
        print(report.frames, file=sys.stderr)
    print(f"jaxrl: {report.line if report else one_line(error)}{end}", file=sys.stderr)


def check_image(name: str, path: str | None) -> None:
    if path is None:
        return
    if path_of(name, path).is_dir() or not path:
        fail(f"{name}={path!r} names no file; give the name of a .png, .svg or .pdf file")
    if not Path(path).resolve().parent.is_dir():
        fail(f"{name}={path} cannot be written: its folder does not exist; make it first")


def check_film(field: str, name: str | None) -> None:
    """Refuses a file that cannot be written, or that is called something else than its `field`."""
    if not name:
        return
    if not path_of(field, name).resolve().parent.is_dir():
        fail(f"{field}={name} cannot be written: its folder does not exist; make it first")
    if Path(name).is_dir():
        fail(f"{field}={name} is a folder; give the name of a file")
    if Path(name).suffix.lower() != f".{field}":
        fail(f"{field}={name} is to be {'a GIF' if field == 'gif' else 'HTML'}; give it a name that ends in .{field}")
    if not os.access(Path(name).resolve().parent, os.W_OK):
        fail(f"{field}={name} cannot be written: its folder is read-only; give another")
