"""`jaxrl check`: the contract suite for one agent or environment, a line a promise."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import time
from collections.abc import Iterable
from typing import Any

from jaxrl.agents import AGENTS
from jaxrl.cli import options as opts
from jaxrl.envs import resolve
from jaxrl.errors import OwnCodeError, UsageError, import_by_name, one_line, own_report
from jaxrl.fields import static
from jaxrl.startup import use_compilation_cache, use_threads

USAGE = """usage: jaxrl check NAME [--quick] [options]

Checks one agent or environment against its contracts: shapes and types at once, then what takes compiling.

  module:make_agent   an agent of your own, or the name of one: [--env ENV] [--env-option NAME=VALUE ...] [--FIELD VALUE ...]
  module:make         an environment of your own, or the id of one: [--env-option NAME=VALUE ...]

`jaxrl check AGENT --help` lists every option.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckOptions(opts.Threads):
    """Options of `jaxrl check`."""

    quick: bool = static(False, "Only what can be seen without compiling.")
    env_options: dict[str, Any] = static(dict, "Physics or arguments of the environment: gravity=12.", flag="env_option")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckAgentOptions:
    """Options of `jaxrl check AGENT`."""

    env: str | None = static(None, "Environment to check it in; by default the smallest that it can play.")


def check(arguments: list[str]) -> None:
    """jaxrl check NAME [--quick] [--env ENV] [--env-option NAME=VALUE ...] [--FIELD VALUE ...]"""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    name, arguments = arguments[0], arguments[1:]
    use_threads(arguments)
    use_compilation_cache()
    from jaxrl.checks.suite import Broken, Check

    checks: Iterable[Check]
    if _is_agent(name):
        from jaxrl.checks.agents import AgentSuite

        config, own, of_agent = opts.read_agent("check", name, arguments, CheckOptions, CheckAgentOptions)
        given = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if _is_given(f.name, arguments)}
        checks = AgentSuite(name, given, of_agent["env"], own["env_options"]).checks(own["quick"])
        words = name, "--env", of_agent["env"] or "ENV"
    else:
        from jaxrl.checks.environments import env_checks

        own = opts.read("jaxrl check", arguments, CheckOptions)[0]
        checks = env_checks(name, own["env_options"], own["quick"])
        words = "ppo", "--env", name
    code = _report(checks, (Broken, UsageError, OwnCodeError))
    if not code:
        opts.say_next("train", "train", *words)
    sys.exit(code)


def _is_agent(name: str) -> bool:
    """An environment is made for a number of them, an agent is not."""
    if name in AGENTS:
        return True
    if ":" not in name:
        resolve(name)
        return False
    function = import_by_name(name, "check")
    try:
        return "num_envs" not in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _is_given(field: str, arguments: list[str]) -> bool:
    flags = [argument.partition("=")[0].removeprefix("--").replace("-", "_") for argument in arguments if argument[:2] == "--"]
    return field in flags or f"no_{field}" in flags


def _report(checks: Iterable[Any], kinds: tuple[type[Exception], ...]) -> int:
    """Prints a line a check as it is done; the exit code."""
    from jaxrl.checks.suite import findings

    num, broken, begun, told = 0, 0, time.perf_counter(), dict[str, str]()
    for finding in findings(checks, kinds):
        num, seconds, begun = num + 1, time.perf_counter() - begun, time.perf_counter()
        if finding.error is None:
            line = f"-      {finding.promise}: {finding.note}" if finding.note else f"ok     {finding.promise}"
            print(f"{line} ({seconds:.1f} s)", flush=True)
            continue
        broken += 1
        line = one_line(finding.error)
        if line in told:
            print(f"WRONG  {finding.promise}: the same as of '{told[line]}'", flush=True)
            continue
        told[line] = finding.promise
        report = own_report(finding.error) if isinstance(finding.error, OwnCodeError) else None
        if report is not None:
            print(report.frames)
        print(f"WRONG  {finding.promise}: {line}", flush=True)
    print(f"all {num} checks hold" if not broken else f"{broken} of {num} checks do not hold")
    return int(broken > 0)
