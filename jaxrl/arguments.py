"""Arguments of public functions, checked where they enter: of each its kind, which makes a plain value or says what is wanted.

    @declared(folder=path, seed=whole(0, MAX_SEED))
    def play(folder: str | Path, seed: int = 0) -> float: ...

So a wrong argument is one line with its name, its value and the fix, whatever it is. Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from jaxrl.errors import UsageError, shown
from jaxrl.fields import is_whole_number

P = ParamSpec("P")
R = TypeVar("R")
Kind = Callable[[str, Any], Any]
"""(name of the argument, its value) -> the value to go on with; raises `UsageError`."""


def plain(value: Any) -> Any:
    """A value with Python's numbers for the scalars of NumPy and JAX, in dicts, tuples, lists and dataclasses too.

    Traced values, keys and arrays with axes stay as they are.
    """
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [plain(item) for item in value]
        if all(item is before for item, before in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        changed = {name: item for name, before in values.items() if (item := plain(before)) is not before}
        return dataclasses.replace(value, **changed) if changed else value
    if getattr(value, "ndim", None) != 0:
        return value
    try:
        return value.item()
    except (AttributeError, TypeError, NotImplementedError):
        return value


def declared(**kinds: Kind) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function whose arguments are of these kinds; one whose default is None may be None.

    Raises:
      UsageError: from the function, where an argument is not of its kind, unknown or missing.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError as error:
                known = ", ".join(name for name in signature.parameters if name != "self")
                raise UsageError(f"{function.__name__}: {error}; its arguments are {known}") from None
            for name, kind in kinds.items():
                is_left_out = name not in given.arguments
                if not is_left_out and (given.arguments[name] is not None or signature.parameters[name].default is not None):
                    given.arguments[name] = kind(name, given.arguments[name])
            return function(*given.args, **given.kwargs)

        return checked

    return wrap


def refused(name: str, value: Any, fix: str) -> UsageError:
    """The error of a value that is of another kind."""
    what = "a class" if isinstance(value, type) else f"of type {type(value).__name__}"
    return UsageError(f"{name}={shown(value)} is {what}; give {fix}")


def whole(low: int = 0, high: float = math.inf) -> Kind:
    """Whole numbers in [low, high]; those of NumPy and JAX become Python's."""

    def kind(name: str, value: Any) -> int:
        number = plain(value)
        if not is_whole_number(number):
            raise UsageError(f"{name}={shown(value)} is no whole number; give one of at least {low}")
        if not low <= number <= high:
            wanted = f"a whole number of at least {low}" if high == math.inf else f"a whole number in [{low}, {high}]"
            raise UsageError(f"{name}={number} is out of range; give {wanted}")
        return int(number)

    return kind


def instance(cls: type | tuple[type, ...], fix: str) -> Kind:
    """Objects of a class; `fix` says how to get one."""

    def kind(name: str, value: Any) -> Any:
        if not isinstance(value, cls):
            raise refused(name, value, fix)
        return value

    return kind


def registered(example: str) -> Kind:
    """Names as texts, such as `example`, or `module:function`."""

    def kind(name: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        own = f"{value.__module__}:{value.__qualname__}" if inspect.isfunction(value) else "module:function"
        raise refused(name, value, f"its name as text, such as {example!r} or {own!r}")

    return kind


def path(name: str, value: Any) -> Any:
    """Paths of files and folders."""
    if not isinstance(value, str) and not (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)):
        raise refused(name, value, "a path, as text or a pathlib.Path")
    return value


def named(name: str, value: Any) -> dict[str, Any]:
    """Values by names, such as options of an environment; scalars of NumPy and JAX become plain numbers."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name}={shown(value)} has no texts as names of its values; give a dict such as {{'gravity': 12.0}}")
    return {key: plain(item) for key, item in value.items()}


def function(example: str) -> Kind:
    """Functions, such as `example`."""

    def kind(name: str, value: Any) -> Any:
        if not callable(value):
            raise refused(name, value, f"the function itself, such as {example}")
        return value

    return kind


def place(name: str, value: Any) -> int | tuple[int, ...]:
    """Indices: a whole number, or one for each axis."""
    number = plain(value)
    if is_whole_number(number):
        return int(number)
    if isinstance(number, (tuple, list)) and all(map(is_whole_number, number)):
        return tuple(map(int, number))
    raise UsageError(f"{name}={shown(value)} is no index of one run; give a whole number, or a tuple with one for each axis")
