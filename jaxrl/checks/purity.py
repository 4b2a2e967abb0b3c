"""Whether a function is the same program whenever it is traced; what Python draws or counts in it would be baked in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxrl.checks.suite import Broken, as_numbers


def same_program(name: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Traces a function twice, and compares operations and numbers.

    Raises:
      Broken: where they differ.
    """
    traces = (jax.make_jaxpr(lambda *given: function(*given))(*arguments) for _ in range(2))
    for first, second in itertools.zip_longest(*map(_parts, traces), fillvalue=("its end", None)):
        if first[0] != second[0] or not _equal(first[1], second[1]):
            differ = f"{first[0]}: {first[1]} against {second[1]}" if first[0] == second[0] else f"{first[0]}, then {second[0]}"
            raise Broken(
                f"{name} is another program when it is traced again ({' '.join(differ.split())[:100]}); draw with jax.random "
                "from its key and not from np.random, and count in its state and not in Python"
            )


def _parts(program: Any) -> Iterator[tuple[str, Any]]:
    """Operations and the numbers in them, in order."""
    if isinstance(program, ClosedJaxpr):
        yield from (("a constant", value) for value in program.consts)
        program = program.jaxpr
    for equation in program.eqns:
        name = equation.primitive.name
        yield name, None
        yield from ((name, part.val) for part in equation.invars if isinstance(part, Literal))
        for value in jax.tree.leaves(equation.params, is_leaf=lambda leaf: isinstance(leaf, (ClosedJaxpr, Jaxpr))):
            if isinstance(value, (ClosedJaxpr, Jaxpr)):
                yield from _parts(value)
            elif isinstance(value, (int, float, np.ndarray)):
                yield name, value


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    a, b = as_numbers(a), as_numbers(b)
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
