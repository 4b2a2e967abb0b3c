"""Configs: frozen dataclasses whose fields are traced (numbers that may be swept in one compiled program) or static.

    @agent_config
    class MyConfig(Config):
        learning_rate: float = traced(1e-3, "Step size of Adam.", low=0.0, low_open=True)
        hidden: tuple[int, ...] = static((64, 64), "Units of each hidden layer.", low=1)

A traced field becomes a leaf of the pytree; a static one sets shapes, counts or branches and takes part in the hash of the
compiled program. `check_config` validates on the host, `as_arrays` casts leaves before a compiled call and `override` reads
values given as text on the command line or in a grid.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UsageError, unknown
from jaxrl.types import Spec

C = TypeVar("C", bound="Config")
_DTYPES = {float: jnp.float32, int: jnp.int32, bool: jnp.bool_}


def traced(default: Any, help: str, *, low: float = -math.inf, high: float = math.inf, low_open: bool = False) -> Any:
    """A field that may be swept without compiling again: a float, int or bool.

    Args:
      low, high: inclusive bounds on the host; `low_open` excludes `low` itself.
    """
    return _field(default, help, low, high, low_open, (), static=False)


def static(default: Any, help: str, *, low: float = -math.inf, high: float = math.inf, choices: tuple[Any, ...] = ()) -> Any:
    """A field that sets a shape, a count or a branch: another value is another program. Bounds hold for each element."""
    return _field(default, help, low, high, False, choices, static=True)


def _field(default: Any, help: str, low: float, high: float, low_open: bool, choices: tuple, static: bool) -> Any:
    metadata = {"help": help, "low": low, "high": high, "low_open": low_open, "choices": choices, "static": static}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(field_specifiers=(dataclasses.field,), frozen_default=True)
def agent_config(cls: type[C]) -> type[C]:
    """Makes `cls` a frozen dataclass and a pytree: traced fields are leaves, static fields are structure."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    static_names = [f.name for f in dataclasses.fields(cls) if f.metadata.get("static", True)]
    jax.tree_util.register_dataclass(cls, data_fields=[n for n in names if n not in static_names], meta_fields=static_names)
    return cls


config = agent_config
"""The name that this decorator had first."""


@agent_config
class Config:
    """The fields that every agent has: how much experience one iteration gathers before it updates."""

    num_envs: int = static(8, "Environments stepped side by side (B).", low=1)
    rollout_length: int = static(
        1, "Steps of each environment in one iteration (T); 0 means the environment's time limit.", low=0
    )
    learning_starts: int = static(0, "Env steps of warm-up: experience is stored, nothing is learned.", low=0)

    def check(self) -> None:
        """Rules between fields; raises `UsageError`. Ranges of single fields are declared with the field."""


def rollout_length(config: Config, spec: Spec) -> int:
    """T: `config.rollout_length`, where 0 stands for the environment's time limit."""
    if config.rollout_length:
        return config.rollout_length
    if spec.time_limit is None:
        raise UsageError("rollout_length=0 stands for the time limit, but the environment has none; give a length")
    return spec.time_limit


def field_types(cls: type) -> dict[str, Any]:
    """Declared type of each field of a config class."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def check_config(config: Config) -> None:
    """Checks types, ranges and the rules between fields, on the host.

    Raises:
      UsageError: naming the field, the value and the fix.
    """
    declared = field_types(type(config))
    for field in dataclasses.fields(config):
        _check_field(field, declared[field.name], getattr(config, field.name))
    config.check()


def _check_field(field: dataclasses.Field, declared: Any, value: Any) -> None:
    optional, base, is_tuple = _unpack(declared)
    if value is None and optional:
        return
    values = value if is_tuple else (value,)
    if is_tuple and not isinstance(value, tuple):
        raise UsageError(f"{field.name}={value!r} must be a tuple of {base.__name__}s, such as {field.default!r}")
    meta = field.metadata
    for item in values:
        if not _has_type(item, base) or (meta.get("static", True) and _is_scalar_array(item)):
            raise UsageError(f"{field.name}={value!r} must be of type {_type_name(declared)}, such as {field.default!r}")
        if base in (int, float):
            _check_range(field.name, item, meta)
        if base is int and not -(2**31) <= item < 2**31:
            raise UsageError(f"{field.name}={item} does not fit 32 bits; give a value below {2**31}")
        if meta.get("choices") and item not in meta["choices"]:
            raise UsageError(f"{field.name}={value!r} is unknown; choose one of {', '.join(map(str, meta['choices']))}")


def _check_range(name: str, value: Any, meta: Mapping[str, Any]) -> None:
    low, high, low_open = meta.get("low", -math.inf), meta.get("high", math.inf), meta.get("low_open", False)
    if value != value or value in (math.inf, -math.inf):
        raise UsageError(f"{name}={value} is not a finite number; give a finite one")
    if value < low or value > high or (low_open and value == low):
        if high == math.inf:
            wanted = f"{'above' if low_open else 'at least'} {low:g}"
        else:
            wanted = f"in {'(' if low_open else '['}{low:g}, {high:g}]"
        raise UsageError(f"{name}={value} is out of range; give a value {wanted}")


def _has_type(value: Any, base: type) -> bool:
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
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_scalar_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray)) and value.ndim == 0


def _unpack(declared: Any) -> tuple[bool, type, bool]:
    """(may be None, element type, is a tuple) of a declared field type."""
    optional = False
    if isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union:
        arguments = [a for a in typing.get_args(declared) if a is not type(None)]
        optional, declared = len(arguments) < len(typing.get_args(declared)), arguments[0]
    if typing.get_origin(declared) is tuple:
        return optional, typing.get_args(declared)[0], True
    return optional, declared, False


def _type_name(declared: Any) -> str:
    return declared.__name__ if isinstance(declared, type) else str(declared)


def as_arrays(config: C) -> C:
    """Casts every traced leaf to a strong array of its declared dtype, so that equal structures share one program.

    0.99, `np.float32(0.99)` and 1 would otherwise compile three times. Leaves that are already arrays keep their shape,
    so a batch of configs can be cast as well.
    """
    declared = field_types(type(config))
    leaves = {
        f.name: jnp.asarray(getattr(config, f.name), _DTYPES[declared[f.name]])
        for f in dataclasses.fields(config)
        if not f.metadata.get("static", True)
    }
    return dataclasses.replace(config, **leaves)  # type: ignore[arg-type]


def override(config: C, values: Mapping[str, str]) -> C:
    """A copy of `config` with fields set from text; a tuple is written `128x128` or `128,128`, None as `none`.

    Raises:
      UsageError: unknown field (with the nearest names) or text that is not of the field's type.
    """
    declared = field_types(type(config))
    parsed = {}
    for name, text in values.items():
        if name not in declared:
            raise UsageError(unknown("field", name, declared))
        parsed[name] = parse_value(name, text, declared[name])
    return dataclasses.replace(config, **parsed)


def parse_value(name: str, text: str, declared: Any) -> Any:
    """Reads one value of a declared field type from text."""
    optional, base, is_tuple = _unpack(declared)
    if optional and text.lower() == "none":
        return None
    try:
        if is_tuple:
            return tuple(_parse_scalar(part, base) for part in text.replace(",", "x").split("x") if part)
        return _parse_scalar(text, base)
    except ValueError:
        raise UsageError(f"{name}={text!r} is not of type {_type_name(declared)}; give one such value") from None


def _parse_scalar(text: str, base: type) -> Any:
    if base is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return base(text)


def to_json(config: Config) -> dict[str, Any]:
    """Plain numbers, strings and lists for `config.json`."""

    def plain(value: Any) -> Any:
        if isinstance(value, (jax.Array, np.ndarray, np.generic)):
            return value.item()
        return list(value) if isinstance(value, tuple) else value

    return {f.name: plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_json(cls: type[C], values: Mapping[str, Any]) -> C:
    """The inverse of `to_json`.

    Raises:
      UsageError: a field that `cls` does not have (a run of another version).
    """
    declared = field_types(cls)
    for name in values:
        if name not in declared:
            raise UsageError(unknown(f"field of {cls.__name__}", name, declared))
    return cls(**{name: from_list(value) for name, value in values.items()})


def from_list(value: Any) -> Any:
    """A field's value as JSON gives it back: its lists are tuples."""
    return tuple(value) if isinstance(value, list) else value


def literal(text: str) -> Any:
    """A Python literal, true or false, or else the text itself."""
    try:
        return ast.literal_eval(text.capitalize() if text.lower() in ("true", "false") else text)
    except (ValueError, SyntaxError):
        return text
