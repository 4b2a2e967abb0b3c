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
from typing import Any

from jaxrl.arguments import plain
from jaxrl.claims.claim import BEST as BEST
from jaxrl.claims.claim import GREEDY as GREEDY
from jaxrl.claims.claim import LAST as LAST
from jaxrl.claims.claim import Claim, Table, check_claim
from jaxrl.claims.claim import Protocol as Protocol
from jaxrl.claims.claim import Published as Published
from jaxrl.envs import is_own, resolve
from jaxrl.errors import UsageError, import_by_name, unknown

FAMILIES = ("classic", "control", "minatar", "atari", "tables")


def all_claims() -> dict[str, Claim | Table]:
    """Every registered claim by its name; a family is a module of this package, and the claims' group."""
    found: dict[str, Claim | Table] = {}
    for family in FAMILIES:
        for claim in importlib.import_module(f"jaxrl.claims.{family}").CLAIMS:
            found[claim.name] = claim
    return found


def select(names: Sequence[str]) -> list[Claim | Table]:
    """The claims that names stand for: of claims, of groups, or `FILE.py:NAME` and `module:NAME` of one's own.

    Raises:
      UsageError: an unknown name (with the nearest ones), or an object that is no claim.
    """
    known, chosen = all_claims(), []
    for name in names:
        if name in FAMILIES:
            chosen += [claim for claim in known.values() if claim.group == name]
        elif ":" in name:
            chosen.append(_own(name))
        elif name in known:
            chosen.append(known[name])
        else:
            raise UsageError(unknown("claim", name, [*known, *FAMILIES]))
    return list({claim.name: claim for claim in chosen}.values())


def find(name: str) -> Claim | Table:
    """One claim; errors as of `select`."""
    found = select([name])
    if len(found) != 1:
        raise UsageError(f"claim={name!r} is a group of {len(found)} claims; name one of them")
    return found[0]


def tuned(agent: str, env: str, env_options: Mapping[str, Any]) -> Claim | None:
    """The claim whose settings are advised for an agent in an environment with these options, None without one.

    It is the one with `tuned=True`; of an agent, an environment and its options there is at most one.
    """
    wanted = _place(env, env_options)
    for claim in all_claims().values():
        if isinstance(claim, Claim) and claim.tuned and claim.agent == agent and _place(claim.env, claim.env_options) == wanted:
            return claim
    return None


def _place(env: str, env_options: Mapping[str, Any]) -> tuple[Any, Any]:
    """An environment and its options, however they are written: gymnax/CartPole-v1 is CartPole-v1, a tuple is a list."""
    return (env if is_own(env) else resolve(env)), json.loads(json.dumps(plain(env_options), default=repr, skipkeys=True))


def _own(path: str) -> Claim | Table:
    place, _, name = path.partition(":")
    if place.endswith(".py"):
        file = Path(place)
        if not file.is_file():
            raise UsageError(f"claim={path!r}: there is no file {place}; check its name")
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec is not None and spec.loader is not None
        sys.path.insert(0, str(file.resolve().parent))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not hasattr(module, name):
            raise UsageError(f"claim={path!r}: {place} has no {name!r}; check its name")
        claim = getattr(module, name)
    else:
        claim = import_by_name(path, "claim")
    if not isinstance(claim, Claim | Table):
        raise UsageError(f"claim={path!r} is a {type(claim).__name__}; make it a jaxrl.claims.Claim")
    if isinstance(claim, Claim):
        check_claim(claim)
    return claim
