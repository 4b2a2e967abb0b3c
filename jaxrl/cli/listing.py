"""`jaxrl list`: what can be named. Imports no JAX."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from jaxrl.cli import options as opts


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
    opts.say_next("train one", "train", "dqn", "--env", "CartPole-v1")


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
    paths = sorted(Path("experiments").glob("*.py"))
    print("experiments" if paths else "experiments: none here; they are in the folder experiments/ of a clone of jaxrl")
    for path in paths:
        text = path.read_text()
        if "__main__" not in text:  # A module that experiments share.
            continue
        doc = ast.get_docstring(ast.parse(text)) or ""
        print(f"  {path}  {doc.splitlines()[0] if doc else ''}")
