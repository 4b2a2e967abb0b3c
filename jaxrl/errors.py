"""What goes wrong, in one line: bad input, an environment that fails, names that do not exist. Imports no JAX."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any, NoReturn


class UsageError(ValueError):
    """Bad input from the user: one line that names the field, the value received and the fix."""


class EnvError(RuntimeError):
    """An environment failed while it ran (its process died, it raised): one line that names it."""


def fail(message: str) -> NoReturn:
    """Raises `UsageError`."""
    raise UsageError(message)


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist, with the nearest names that do."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(sorted(known)[:12])}"
    return f"unknown {kind} {name!r}; {hint}"


def import_by_name(path: str, what: str) -> Any:
    """The object that `module:function` names.

    Raises:
      UsageError: no such module, or nothing of that name in it.
    """
    module_name, _, attribute = path.partition(":")
    try:
        found = importlib.util.find_spec(module_name) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise UsageError(f"{what}={path!r}: no module {module_name!r} here or on PYTHONPATH; check its name")
    module = importlib.import_module(module_name)
    if not hasattr(module, attribute):
        raise UsageError(f"{what}={path!r}: module {module_name!r} has no {attribute!r}; check its name")
    return getattr(module, attribute)
