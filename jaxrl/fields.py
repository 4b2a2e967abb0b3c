"""Declared fields: a field's type, default, help and range are written once, its checks, text, JSON and option follow.

    @dataclasses.dataclass(frozen=True)
    class Options:
        folder: str = static(..., "Folder of the run.", positional=True)
        seed: int = static(0, "Seed of everything random.", low=0)

`check_fields` validates on the host, `from_text` reads a value as it is written on the command line or in a grid, `to_json` and
`from_json` write and read files, and `jaxrl.cli.options` makes the options of a command. Imports no JAX.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import re
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from jaxrl.errors import UsageError, shown, unknown

T = TypeVar("T")

MAX_SEED = 2**32 - 1
MAX_COUNT = 1_000_000
"""The most rows, episodes, seeds or the like that one command makes: as much as fits into memory and is worth a wait."""


MAX_REPEATS = 100_000
"""The most gradient steps, passes or imagined steps of one iteration, whose draws are made at once."""


def static(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    choices: Sequence[Any] = (),
    flag: str | None = "",
    metavar: str = "",
    positional: bool = False,
) -> Any:
    """A field that sets a shape, a count or a branch: another value is another program.

    Args:
      default: its value; `...` where one must be given, a class such as `dict` where each instance has its own.
      low, high: inclusive bounds of each element; `low_open` excludes `low` itself; infinities are no number.
      flag: name of the option and in messages, that of the field by default; None hides the field from the command line.
      metavar: what the help shows in place of the value, its type by default.
      positional: the option is given without its flag.
    """
    ranges = {"low": low, "high": high, "low_open": low_open, "choices": choices}
    return declare(default, help, **ranges, flag=flag, metavar=metavar, positional=positional)


def declare(default: Any, help: str, **metadata: Any) -> Any:
    """A dataclass field with metadata; `static` and `jaxrl.config.traced` say what it holds."""
    metadata = {"help": help, "static": True, **metadata}
    if default is ...:
        return dataclasses.field(metadata=metadata)
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def field_types(cls: type) -> dict[str, Any]:
    """Declared type of each field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def default_of(field: dataclasses.Field) -> Any:
    """The default of a field, `...` where one must be given."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return ... if field.default is dataclasses.MISSING else field.default


def name_of(field: dataclasses.Field) -> str:
    """What messages call a field."""
    return field.metadata.get("flag") or field.name


def is_option(field: dataclasses.Field) -> bool:
    """Whether a field is an option of its command."""
    return field.metadata.get("flag", "") is not None


def kind_of(declared: Any) -> tuple[bool, type, bool]:
    """(may be None, element type, is a tuple) of a declared field type."""
    optional = False
    if isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union:
        arguments = [a for a in typing.get_args(declared) if a is not type(None)]
        optional, declared = len(arguments) < len(typing.get_args(declared)), arguments[0]
    is_tuple = typing.get_origin(declared) is tuple
    declared = typing.get_args(declared)[0] if is_tuple else declared
    return optional, typing.get_origin(declared) or declared, is_tuple


# --- checks ---------------------------------------------------------------------------------------------------------


def check_fields(instance: Any) -> None:
    """Checks types, ranges and choices of a dataclass's fields, on the host.

    Raises:
      UsageError: naming the field, the value and the fix.
    """
    declared = field_types(type(instance))
    for field in dataclasses.fields(instance):
        check_value(field, declared[field.name], getattr(instance, field.name))


def check_value(field: dataclasses.Field, declared: Any, value: Any) -> None:
    """Checks one value of a field; errors as of `check_fields`."""
    optional, base, is_tuple = kind_of(declared)
    if value is None and optional:
        return
    name, meta = name_of(field), field.metadata
    if declared == dict[str, Any] and isinstance(value, dict):
        for option, given in value.items():
            check_option(name, option, given)
    if is_tuple and not isinstance(value, tuple):
        raise UsageError(f"{name}={shown(value)} must be a tuple of {base.__name__}s{_such_as(field)}")
    for item in value if is_tuple else (value,):
        if not _has_type(item, base) or (meta.get("static", True) and _is_scalar_array(item)):
            raise UsageError(f"{name}={shown(value)} must be of type {_type_name(declared)}{_such_as(field)}")
        if base in (int, float):
            _check_range(name, item, meta)
        if meta.get("choices") and item not in meta["choices"]:
            raise UsageError(f"{name}={item!r} is unknown; choose one of {', '.join(map(str, meta['choices']))}")


def check_option(what: str, name: str, value: Any) -> None:
    """Checks an option of an environment, whose type only the environment knows.

    Raises:
      UsageError: a value that no file could hold, or the number of environments, which is a field of the config.
    """
    if name == "num_envs":
        raise UsageError(f"{what}: num_envs={shown(value)} is no option of the environment; give it as the field num_envs")
    if not isinstance(name, str):
        raise UsageError(f"{what}: {shown(name)} is no name of an option; give names as texts")
    if not _is_plain(value):
        raise UsageError(f"{what}: {name}={shown(value)} is no finite number, text, bool, None or list of them; give one")


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold a value, and a float each of its numbers."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(value, (int, float)):
        return abs(value) < 1e300
    return value is None or isinstance(value, str)


def differing(name: str, ours: Any, theirs: Any) -> str:
    """`name=theirs` where two values differ; of two dicts, such as of a config's fields, the first field that does."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        name = next(field for field in {**theirs, **ours} if ours.get(field, ...) != theirs.get(field, ...))
        theirs = theirs.get(name)
    return f"{name}={shown(theirs)}"


def _such_as(field: dataclasses.Field) -> str:
    default = default_of(field)
    return "" if default is ... else f", such as {default!r}"


def _check_range(name: str, value: Any, meta: Mapping[str, Any]) -> None:
    low, high, low_open = meta.get("low", -math.inf), meta.get("high", math.inf), meta.get("low_open", False)
    if value != value or value in (math.inf, -math.inf):
        raise UsageError(f"{name}={value} is not a finite number; give a finite one")
    if not low <= value <= high or (low_open and value == low):
        bounds = [str(bound) if isinstance(bound, int) else f"{bound:g}" for bound in (low, high)]
        if high == math.inf:
            wanted = f"{'above' if low_open else 'at least'} {bounds[0]}"
        else:
            wanted = f"in {'(' if low_open else '['}{', '.join(bounds)}]"
        raise UsageError(f"{name}={value} is out of range; give a value {wanted}")


def _has_type(value: Any, base: Any) -> bool:
    import numpy as np

    if base is Any:
        return True
    if base is bool:
        return isinstance(value, (bool, np.bool_))
    if isinstance(value, (bool, np.bool_)):
        return False
    if base is float:
        return isinstance(value, (int, float, np.floating, np.integer)) or _is_scalar_array(value)
    if base is int:
        return is_whole_number(value) or _is_scalar_array(value)
    return isinstance(value, base)


def is_whole_number(value: Any) -> bool:
    """True of Python's and NumPy's integers; a bool is none."""
    import numpy as np

    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_count(name: str, value: Any, low: int = 1, high: int = 2**31 - 1) -> None:
    """Raises `UsageError` for what is no whole number in [low, high]."""
    if not is_whole_number(value) or value < low:
        raise UsageError(f"{name}={value!r} is out of range; give a whole number of at least {low}")
    if value > high:
        raise UsageError(f"{name}={value!r} is out of range; give at most {high}")


def _is_scalar_array(value: Any) -> bool:
    import numpy as np

    is_array = getattr(value, "ndim", None) == 0 and not isinstance(value, np.generic)
    return is_array and isinstance(value.dtype, np.dtype)  # A key has another dtype.


def _type_name(declared: Any) -> str:
    return declared.__name__ if isinstance(declared, type) else str(declared).replace(" | None", " or none")


# --- text -----------------------------------------------------------------------------------------------------------


def from_text(field: dataclasses.Field, declared: Any, *texts: str) -> Any:
    """Reads a value of a field as it is written on the command line or in a grid; the checks of its range are apart.

    A tuple of numbers is written `128x128`, `128,128` or as texts of their own, None as `none`, a dict as texts NAME=VALUE.

    Raises:
      UsageError: text that is not of the field's type.
    """
    optional, base, is_tuple = kind_of(declared)
    text = " ".join(texts)
    if base is dict:
        return dict(_name_value(name_of(field), item) for item in texts)
    if optional and text.lower() == "none":
        return None
    try:
        if is_tuple:
            parts = texts if base is str else [part for item in texts for part in re.split("[x,]", item)]
            return tuple(_scalar(part, base) for part in parts)
        return _scalar(text, base)
    except ValueError:
        text = text if len(text) < 100 else f"{text[:100]}…"
        fix = "give true or false" if base is bool else example(field)
        raise UsageError(f"{name_of(field)}={text!r} is not of type {_type_name(declared)}; {fix}") from None


def _scalar(text: str, base: type) -> Any:
    if base is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if base in (int, float) and not text.isascii():  # Python reads the digits of every script.
        raise ValueError(text)
    return base(text)


def _name_value(option: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{option}={text!r} is not NAME=VALUE; write for example gravity=12")
    return name, literal(value)


def literal(text: str) -> Any:
    """A Python literal, true, false or none, or else the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        with warnings.catch_warnings(action="ignore"):  # Of what looks like a number and is none.
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def from_literal(value: Any) -> str:
    """The inverse of `literal`."""
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, str) and literal(value) == value else repr(value)


def example(field: dataclasses.Field) -> str:
    """The advice to give a value such as the default, or the least one where that is none."""
    default, low = default_of(field), field.metadata.get("low", -math.inf)
    value = int(low) if default is None and math.isfinite(low) and low == int(low) else default
    return "give one" if default is ... else f"give one such as {to_text(value)}"


def to_text(value: Any) -> str:
    """The inverse of `from_text`: `64x64` for a tuple, `none`, `true`, all digits of a float."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return "x".join(map(to_text, value)) if isinstance(value, (tuple, list)) else str(value)


def to_words(instance: Any) -> list[str]:
    """A dataclass as options of the command line: those of its fields that differ from their defaults."""
    words = []
    for field in filter(is_option, dataclasses.fields(instance)):
        value = getattr(instance, field.name)
        if value != default_of(field):
            words += option_words(name_of(field), value)
    return words


def option_words(name: str, value: Any) -> list[str]:
    """An option of the command line with its value, as `from_text` reads it."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, Mapping):
        return [flag, *(f"{option}={from_literal(item)}" for option, item in value.items())]
    if isinstance(value, (tuple, list)):
        return [flag, *map(to_text, value)]
    text = to_text(value)
    return [f"{flag}={text}"] if text.startswith("--") else [flag, text]


# --- JSON -----------------------------------------------------------------------------------------------------------


def to_json(instance: Any) -> dict[str, Any]:
    """Plain numbers, strings, lists and dicts of a dataclass's fields."""
    return {f.name: _plain(getattr(instance, f.name)) for f in dataclasses.fields(instance)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def from_json(cls: type[T], values: Mapping[str, Any]) -> T:
    """The inverse of `to_json`; a value of another form stays as it is, for `check_fields` to name.

    Raises:
      UsageError: a field that `cls` does not have (a file of another version), or one that is missing.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{values!r} holds no fields of {cls.__name__}; give a table of names and values")
    declared, values = field_types(cls), renamed(cls, values)
    for name in values:
        if name not in declared:
            raise UsageError(unknown(f"field of {cls.__name__}", name, declared))
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in values and default_of(field) is ...:
            raise UsageError(f"{field.name} is missing; give it a value")
    return cls(**{name: _typed(declared[name], value) for name, value in values.items()})


def renamed(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names of a dataclass's fields, where a file of an earlier version has earlier names."""
    former = {field.metadata.get("formerly"): field.name for field in dataclasses.fields(cls)}
    return {former.get(name, name): value for name, value in values.items()}


def _typed(declared: Any, value: Any) -> Any:
    base, inner = typing.get_origin(declared), typing.get_args(declared)
    if declared == dict[str, Any]:  # Options of an environment have no declared types.
        return value
    if isinstance(value, list):
        return tuple(_typed(inner[0], item) for item in value) if inner else from_list(value)
    if isinstance(value, dict) and isinstance(base, type) and issubclass(base, Mapping):
        return {name: _typed(inner[1], item) for name, item in value.items()}
    if hasattr(declared, "_fields"):
        if not isinstance(value, dict) or set(value) != set(declared._fields):
            raise UsageError(f"{value!r} is no {declared.__name__}; give {', '.join(declared._fields)}")
        return declared(**value)
    if isinstance(value, dict) and isinstance(declared, type) and dataclasses.is_dataclass(declared):
        return from_json(declared, value)
    return value


def from_list(value: Any) -> Any:
    """A field's value as JSON gives it back: its lists are tuples."""
    return tuple(value) if isinstance(value, list) else value
