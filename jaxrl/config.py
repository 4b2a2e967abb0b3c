"""Configs: frozen dataclasses whose fields are traced (numbers that may be swept in one compiled program) or static.

    @agent_config
    class MyConfig(Config):
        learning_rate: float = traced(1e-3, "Step size of Adam.", low=0.0, low_open=True)
        hidden: tuple[int, ...] = static((64, 64), "Units of each hidden layer.", low=1)

A traced field becomes a leaf of the pytree; a static one sets shapes, counts or branches and takes part in the hash of the
compiled program. `check_config` validates on the host and `as_arrays` casts leaves before a compiled call.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import typing
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.arguments import plain
from jaxrl.errors import UsageError
from jaxrl.fields import MAX_REPEATS as MAX_REPEATS
from jaxrl.fields import check_value, declare, field_types, kind_of
from jaxrl.fields import is_whole_number as is_whole_number
from jaxrl.fields import static as static
from jaxrl.types import Spec

C = TypeVar("C", bound="Config")
_DTYPES = {float: jnp.float32, int: jnp.int32, bool: jnp.bool_}


def traced(
    default: Any, help: str, *, low: float = -math.inf, high: float = math.inf, low_open: bool = False, formerly: str = ""
) -> Any:
    """A field that may be swept without compiling again: a float, int or bool.

    Args:
      low, high: inclusive bounds on the host; `low_open` excludes `low` itself.
      formerly: its name in files of earlier versions.
    """
    return declare(default, help, low=low, high=high, low_open=low_open, formerly=formerly, static=False)


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


def check_config(config: Config) -> None:
    """Checks types, ranges and the rules between fields, on the host; within a traced function, of what is no tracer.

    Raises:
      UsageError: naming the field, the value and the fix.
    """
    declared = field_types(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, jax.core.Tracer):
            continue
        if isinstance(value, jax.Array) and isinstance(value.dtype, np.dtype) and not field.metadata["static"]:
            value = np.asarray(value)[()]
        check_value(field, declared[field.name], value)
        for item in value if isinstance(value, tuple) else (value,):
            if kind_of(declared[field.name])[1] is int and item is not None and not -(2**31) <= int(item) < 2**31:
                raise UsageError(f"{field.name}={item} does not fit 32 bits; give a value below {2**31}")
    with contextlib.suppress(jax.errors.ConcretizationTypeError):  # Of a rule for a tracer.
        config.check()


def check_known(config: C) -> C:
    """Checks what is known of a config within a traced function, and returns it with plain numbers for known scalars.

    Raises:
      UsageError: as of `check_config`, and a field that holds many numbers.
    """
    config = plain(config)
    for name, value in vars(config).items():
        if isinstance(value, jax.Array) and value.ndim:
            raise UsageError(f"{name} has the shape {value.shape}; give one number, or jax.vmap over them")
    check_config(config)
    return config


def check_fits(config: Config, config_class: Any, agent: str) -> None:
    """Checks that a config has the fields that an agent reads.

    Raises:
      UsageError: naming the first that it has not.
    """
    if missing := [name for name in getattr(config_class, "__dataclass_fields__", ()) if not hasattr(config, name)]:
        kind = type(config).__name__
        raise UsageError(f"config={kind} has no {missing[0]}, which agent={agent} reads; give a {config_class.__name__}")


def config_class_of(make_agent: Any) -> Any:
    """The type of the first parameter of a function, or of the one that `functools.partial` was given; None where it has none.

    Raises:
      NameError, AttributeError, SyntaxError: an annotation that cannot be resolved.
    """
    while isinstance(make_agent, functools.partial):
        make_agent = make_agent.func
    function = make_agent if inspect.isroutine(make_agent) or isinstance(make_agent, type) else type(make_agent).__call__
    try:
        names = list(inspect.signature(make_agent).parameters)
        return typing.get_type_hints(function).get(names[0]) if names else None
    except (TypeError, ValueError):
        return None


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
