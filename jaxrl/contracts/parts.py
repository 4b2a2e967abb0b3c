"""The parts that a user puts into an agent of the package: a target, a loss, an advantage, a network. Their faults are told
under their names, and not under that of the function of the agent that calls them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.contracts.returns import as_arrays, described, is_array, is_own, parts_of, refuse, same_structure, shown
from jaxrl.contracts.returns import name_of as name_of
from jaxrl.errors import own_code
from jaxrl.types import Array, PyTree


def own_part(name: str, function: Any, call: str) -> AbstractContextManager[None]:
    """Around a call of the part `name`; errors as of `own_code`."""
    return own_code(f"{name}='{name_of(function)}'", call)


def check_part(name: str, function: Any, call: str, try_it: Callable[[], None]) -> None:
    """Traces a part once where it is a user's own, so that its fault is told where the agent is made."""
    if is_own(function):
        with own_part(name, function, call):
            jax.eval_shape(try_it)


def check_parts(call: str, returned: Any, names: tuple[str, ...], shape: tuple[int, ...], what: str) -> tuple[Array, ...]:
    """What a part returned, a tuple of arrays of one shape.

    Args:
      what: one for each of which there is, for the message.

    Raises:
      ContractError: naming the one that is something else.
    """
    parts = parts_of(call, returned, names)
    for name, part in zip(names, parts, strict=True):
        if not same_structure(part, 0) or jnp.shape(part) != shape:
            refuse(f"{call} returns {name} as {described(part)}; return {list(shape)}, one for each {what}")
    return tuple(map(jnp.asarray, parts))


def check_goals(call: str, returned: PyTree, num: int) -> PyTree:
    """What a target returned, every leaf of it [N, ...].

    Raises:
      ContractError: naming the leaf that is something else.
    """
    goals = as_arrays(call, returned)
    if not jax.tree.leaves(goals):
        refuse(f"{call} returns {described(returned)}; return [{num}], one for each transition")
    for path, leaf in jax.tree.leaves_with_path(goals):
        if leaf.shape[:1] != (num,):
            refuse(f"{call} returns {jax.tree_util.keystr(path)}{shown(leaf)}; return [{num}, ...], one for each transition")
    return goals


def check_output(what: str, found: Any, num: int, fix: str) -> None:
    """Checks that a network's output is action values [N, A].

    Raises:
      ContractError: it is something else.
    """
    if not is_array(found) or found.ndim != 2 or found.shape[0] != num:
        refuse(f"{what} takes action values [{num}, A] and the network's output is {described(found)}; {fix}")
