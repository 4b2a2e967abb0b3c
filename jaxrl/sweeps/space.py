"""The configs of a sweep: every combination of a grid's values, and random draws from ranges.

Swept fields are fields of the agent's config, or options of the environment as `env.NAME`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.config import Config
from jaxrl.errors import UsageError, shown, unknown
from jaxrl.fields import MAX_COUNT, check_option, field_types, from_text, literal

ENV_PREFIX = "env."


class Draw(NamedTuple):
    """Values drawn at random from [low, high]; with `log` their logarithm is uniform."""

    low: float
    high: float
    log: bool = False


def make_configs(
    grid: Mapping[str, Sequence[Any]], draws: Mapping[str, Draw], num_draws: int, seed: int, config: Config
) -> tuple[dict[str, Any], ...]:
    """Every combination of the grid's values, each with every one of `num_draws` random draws.

    Args:
      seed: of the draws.
      config: says which drawn fields are whole numbers.

    Raises:
      UsageError: an unknown field, one both in the grid and drawn, a grid without values or with one twice, an empty range, or
        numbers out of range.
    """
    for name in draws:
        if name in grid:
            raise UsageError(f"field {name!r} is both in the grid and drawn; choose one")
        check_draw(type(config), name, draws[name])
    if num_draws < 1 or (num_draws > 1 and not draws):
        raise UsageError(f"num_draws={num_draws} for {len(draws)} drawn fields; give at least 1, and more only with draws")
    num_configs = math.prod(len(values) if hasattr(values, "__len__") else 1 for values in grid.values()) * num_draws
    if num_configs > MAX_COUNT:
        raise UsageError(f"num_draws={num_draws} with this grid makes {num_configs} configs; give at most {MAX_COUNT}")
    if seed < 0:
        raise UsageError(f"seed={seed} of the draws is out of range; give at least 0")
    rng = np.random.default_rng(seed)
    drawn = [{name: draw_value(rng, draw, _is_int(config, name)) for name, draw in draws.items()} for _ in range(num_draws)]
    columns = [_grid_values(name, values) for name, values in grid.items()]
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*columns)]
    return tuple(point | other for point in points for other in (drawn if draws else [{}]))


def _grid_values(name: str, values: Any) -> list[Any]:
    """The values of one field as plain Python objects."""
    given = [] if isinstance(values, str) or not np.iterable(values) else list(values)
    if not given:
        raise UsageError(f"grid: {name}={values!r} is no list of values; give one or more in a list")
    scalar = (np.generic, np.ndarray, jax.Array)
    plain = [value.item() if isinstance(value, scalar) and value.ndim == 0 else value for value in given]
    seen: set[str] = set()
    for value in plain:
        if name.startswith(ENV_PREFIX):
            check_option("grid", name.removeprefix(ENV_PREFIX), value)
        if repr(value) in seen:
            raise UsageError(f"grid: {name} has the value {value!r} twice; give each once")
        seen.add(repr(value))
    return plain


def check_draw(config_class: type[Config], name: str, draw: Draw, values: str = "grid") -> None:
    check_name(config_class, name)
    if not isinstance(draw, Draw) or not all(isinstance(bound, (int, float, np.number)) for bound in draw[:2]):
        raise UsageError(f"draw: {name}={shown(draw)} is no range; give jaxrl.Draw(low, high), with numbers")
    if not -1e300 < draw.low < draw.high < 1e300:
        raise UsageError(f"draw: {name} has low={draw.low:g}, high={draw.high:g}; give finite ones with LOW < HIGH")
    if draw.log and draw.low <= 0:
        raise UsageError(f"draw: {name} has low={draw.low:g}, which has no logarithm; raise LOW above 0, or draw uniformly")
    if name.startswith(ENV_PREFIX):
        check_option("draw", name.removeprefix(ENV_PREFIX), draw.low)
        return
    if field_types(config_class)[name] not in (int, float):
        raise UsageError(f"draw: {name} is not a number; put its values into the {values}")
    meta = config_class.__dataclass_fields__[name].metadata
    low, high = meta.get("low", -math.inf), meta.get("high", math.inf)
    if not low <= draw.low < draw.high <= high:
        raise UsageError(f"draw: {name} has low={draw.low:g}, high={draw.high:g}; stay in [{low:g}, {high:g}]")


def draw_value(rng: np.random.Generator, draw: Draw, is_int: bool) -> float | int:
    """One value of a range."""
    value = math.exp(rng.uniform(math.log(draw.low), math.log(draw.high))) if draw.log else rng.uniform(draw.low, draw.high)
    return round(value) if is_int else float(value)


def _is_int(config: Config, name: str) -> bool:
    return field_types(type(config)).get(name) is int


def parse_grid(config_class: type[Config], texts: Sequence[str], option: str = "grid") -> dict[str, list[Any]]:
    """`learning_rate=1e-4,3e-4` and `hidden=64x64,128x128`, one text a field.

    Args:
      option: what messages call the texts.

    Raises:
      UsageError: an unknown field, a value of another type, a field given twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, values = _field_text(option, text, config_class, "learning_rate=1e-4,3e-4")
        parsed = _parse(config_class, name, values)
        if name in grid:
            raise UsageError(f"{option}: field {name!r} is given twice; give all its values at once")
        grid[name] = parsed
    return grid


def parse_draws(config_class: type[Config], texts: Sequence[str], values: str = "grid") -> dict[str, Draw]:
    """`learning_rate=log:1e-5:1e-2` and `gamma=uniform:0.9:0.999`, one text a field.

    Args:
      values: what messages call the place of values that are no range.

    Raises:
      UsageError: an unknown field, one that is not a number or is given twice, or no range.
    """
    draws: dict[str, Draw] = {}
    for text in texts:
        name, domain = _field_text("draw", text, config_class, "learning_rate=log:1e-5:1e-2")
        kind, *bounds = domain.split(":")
        try:
            low, high = (float(bound) for bound in bounds)
        except ValueError:
            kind, low, high = "", 0.0, 0.0
        if kind not in ("log", "uniform"):
            raise UsageError(f"draw={text!r} is no range; write {name}=log:LOW:HIGH or {name}=uniform:LOW:HIGH")
        if name in draws:
            raise UsageError(f"draw: field {name!r} is given twice; give one range")
        draws[name] = Draw(low, high, kind == "log")
        check_draw(config_class, name, draws[name], values)
    return draws


def _field_text(option: str, text: str, config_class: type[Config], example: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise UsageError(f"{option}={text!r} is not FIELD=VALUES; write for example {example}")
    name = name.strip().removeprefix("--")
    name = name if name.startswith(ENV_PREFIX) else name.replace("-", "_")
    check_name(config_class, name)
    return name, values


def check_name(config_class: type[Config], name: str) -> None:
    known = field_types(config_class)
    if not name.startswith(ENV_PREFIX) and name not in known:
        raise UsageError(unknown("field", name, known) + f"; options of the environment are written {ENV_PREFIX}NAME")


def _parse(config_class: type[Config], name: str, text: str) -> list[Any]:
    """The values of a field; between brackets and quotes a comma separates none of an option of the environment."""
    if name.startswith(ENV_PREFIX):
        together = literal(f"[{text}]")
        return together if isinstance(together, list) else [literal(value) for value in text.split(",")]
    field, declared = config_class.__dataclass_fields__[name], field_types(config_class)[name]
    return [from_text(field, declared, value) for value in text.split(",")]
