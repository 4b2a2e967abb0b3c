"""Published results as claims that can be run: `jaxrl reproduce --list`. Imports no JAX.

claims = all_claims()
claim = find("dqn-CartPole-v1-50k")
ours = find("mine.py:claim")                  # one of your own, from a file or a module
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxrl.arguments import plain
from jaxrl.claims.claim import BEST as BEST
from jaxrl.claims.claim import GREEDY as GREEDY
from jaxrl.claims.claim import LAST as LAST
from jaxrl.claims.claim import Claim, Settings, Table, check_claim
from jaxrl.claims.claim import Protocol as Protocol
from jaxrl.claims.claim import Published as Published
from jaxrl.envs import is_own, resolve
from jaxrl.errors import UsageError, import_module, own_code, unknown

FAMILIES = ("classic", "control", "continuous", "minatar", "atari", "attention", "games", "tables")


def all_claims() -> dict[str, Claim | Table]:
    """Every registered claim by its name; a family is a module of this package, and the claims' group."""
    found: dict[str, Claim | Table] = {}
    for family in FAMILIES:
        for claim in importlib.import_module(f"jaxrl.claims.{family}").CLAIMS:
            found[claim.name] = claim
    return found


def select(names: Sequence[str]) -> dict[str, Claim | Table]:
    """The claims that names stand for: of claims, of groups, or `FILE.py:NAME` and `module:NAME` of one's own.

    Returns:
      Each claim once, by the name that `jaxrl reproduce` takes for it.

    Raises:
      UsageError: an unknown name (with the nearest ones), a file without a name in it, an object that is no claim, or two
        claims of one name.
      OwnCodeError: a file or module of one's own that cannot be imported.
    """
    known = all_claims()
    chosen: dict[str, Claim | Table] = {}
    for name in names:
        if name in FAMILIES:
            chosen |= {claim.name: claim for claim in known.values() if claim.group == name}
        elif ":" in name:
            chosen[name] = _own(name)
        elif name in known:
            chosen[name] = known[name]
        elif name.endswith(".py"):
            raise UsageError(f"claim={name!r} is a file, which may hold several; give {name}:NAME")
        else:
            raise UsageError(unknown("claim", name, [*known, *FAMILIES]))
    called: dict[str, str] = {}
    for given, claim in chosen.items():
        if (other := called.setdefault(claim.name, given)) != given:
            raise UsageError(f"{other} and {given} are both named {claim.name!r}, as their results would be; rename one")
    return chosen


def find(name: str) -> Claim | Table:
    """One claim; errors as of `select`."""
    found = list(select([name]).values())
    if len(found) != 1:
        raise UsageError(f"claim={name!r} is a group of {len(found)} claims; name one of them")
    return found[0]


def title_of(family: str) -> str:
    """What a family's claims are about, in a sentence."""
    return str(importlib.import_module(f"jaxrl.claims.{family}").__doc__).partition("\n")[0]


def advised() -> list[Claim | Settings]:
    """All settings that `--tuned` takes: of the claims with `tuned=True`, and those that come without a figure."""
    claims = [claim for claim in all_claims().values() if isinstance(claim, Claim) and claim.tuned]
    alone = (importlib.import_module(f"jaxrl.claims.{family}").SETTINGS for family in ("physics", "minatar"))
    return [*claims, *(settings for family in alone for settings in family)]


def tuned(agent: str, env: str, env_options: Mapping[str, Any]) -> Claim | Settings | None:
    """The settings that are advised for an agent in an environment with these options, None without any.

    Of an agent, an environment and its options there is at most one in `advised()`.
    """
    wanted = _place(env, env_options)
    for found in advised():
        if found.agent == agent and _place(found.env, found.env_options) == wanted:
            return found
    return None


def _place(env: str, env_options: Mapping[str, Any]) -> tuple[Any, Any]:
    """An environment and its options, however they are written: gymnax/CartPole-v1 is CartPole-v1, a tuple is a list."""
    return (env if is_own(env) else resolve(env)), json.loads(json.dumps(plain(env_options), default=repr, skipkeys=True))


def _own(path: str) -> Claim | Table:
    place, _, name = path.rpartition(":")
    whose = f"claim={path!r}"
    module = _module_of(Path(place), whose) if place.endswith(".py") else import_module(place, whose)
    claim = getattr(module, name, None)
    if claim is None:
        raise UsageError(f"{whose}: {place} has no {name!r}; check its name")
    if not isinstance(claim, Claim | Table):
        raise UsageError(f"{whose} is a {type(claim).__name__}; make it a jaxrl.claims.Claim")
    check_claim(claim)
    return claim


def _module_of(file: Path, whose: str) -> ModuleType:
    """The module in a file, beside which it finds others."""
    if not file.is_file():
        raise UsageError(f"{whose}: there is no file {file}; check its name")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules.setdefault(file.stem, module)  # Dataclasses of its own look for it there.
    with own_code(whose, f"the import of {str(file)!r}"):
        spec.loader.exec_module(module)
    return module
