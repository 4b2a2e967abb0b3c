"""What the functions of a user's own code must return: structures, shapes and dtypes, compared while they are traced."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from jaxrl.errors import ContractError
from jaxrl.types import PyTree, Spec, spec_zeros


def check_shapes(function: str, field: str, found: PyTree, wanted: PyTree, source: str | None = None) -> None:
    """Compares structures, shapes and dtypes; for use while `function` is traced.

    Args:
      source: where what is wanted is said, for the message.

    Raises:
      ContractError: naming the function, the field, what came and what is wanted.
    """
    known = {"obs": ", as spec.obs says", "next_obs": ", as spec.obs says", "state": ", as reset does"}
    source = known.get(field, "") if source is None else source
    if not same_structure(found, wanted):
        refuse(f"{function} returns {field} {_difference(found, wanted)}{source}")
    for (path, leaf), other in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        if (leaf.shape, leaf.dtype) != (other.shape, other.dtype):
            name = field + jax.tree_util.keystr(path)
            refuse(f"{function} returns {name} as {shown(leaf)}; return {shown(other)}{source}")


def _difference(found: PyTree, wanted: PyTree) -> str:
    """How two structures differ, of which the whole may be long."""
    ours, theirs = (str(jax.tree.structure(tree)) for tree in (found, wanted))
    if len(ours) + len(theirs) < 200:
        return f"as a {ours}; return a {theirs}"
    here, there = ({jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)} for tree in (found, wanted))
    for names, what, fix in ((here - there, "with", "leave it out"), (there - here, "without", "keep it")):
        if names:
            return f"{what} {min(names, key=lambda name: (len(name), name))}; {fix}"
    return f"as another kind of tree ({type(found).__name__}); return a {type(wanted).__name__} of the same parts"


def parts_of(function: str, returned: Any, names: tuple[str, ...], is_fit: Callable[[Any], bool] = lambda _: True) -> Any:
    if not isinstance(returned, tuple) or len(returned) != len(names) or not is_fit(returned):
        what = f"{len(returned)} values" if type(returned) is tuple else described(returned)
        refuse(f"{function} returns {what}; return ({', '.join(names)})")
    return returned


def as_arrays(function: str, tree: PyTree, field: str = "") -> PyTree:
    """Every leaf as an array; plain numbers lose their weak types, as a scan would take them."""

    def cast(path: Any, leaf: Any) -> Any:
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        try:
            array = jnp.asarray(leaf)
        except (TypeError, ValueError):
            refuse(f"{function} returns {field}{jax.tree_util.keystr(path)} as a {type(leaf).__name__}; return an array")
        return array if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else jnp.asarray(array, array.dtype)

    return jax.tree.map_with_path(cast, tree)


def narrowed(tree: PyTree, wanted: PyTree) -> PyTree:
    """Arrays of 64 bits, which JAX makes where these are enabled, as those that a spec says, where both are of a kind."""
    if not same_structure(tree, wanted):
        return tree
    return jax.tree.map(lambda leaf, like: cast(leaf, like) if getattr(leaf.dtype, "itemsize", 0) == 8 else leaf, tree, wanted)


def cast(leaf: Any, wanted: Any) -> Any:
    """Integers of any width are actions, and so are floats."""
    same = any(jnp.issubdtype(leaf.dtype, kind) and jnp.issubdtype(wanted.dtype, kind) for kind in (jnp.integer, jnp.floating))
    return leaf.astype(wanted.dtype) if same else leaf


def check_params(params: PyTree) -> None:
    """Checks that an environment's params are numbers and arrays."""
    for path, leaf in jax.tree.leaves_with_path(params):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, (bool, int, float, complex)):
            refuse(f"params{jax.tree_util.keystr(path)} is a {type(leaf).__name__}; give a number or an array")


def check_lead(function: str, field: str, tree: PyTree, num_envs: int) -> None:
    for path, leaf in jax.tree.leaves_with_path(tree):
        if leaf.shape[:1] != (num_envs,):
            name = field + jax.tree_util.keystr(path)
            refuse(f"{function} returns {name} as {shown(leaf)}; return [{num_envs}, ...], one for each environment")


def obs_shapes(spec: Spec, lead: tuple[int, ...] = ()) -> PyTree:
    return jax.eval_shape(lambda: spec_zeros(spec.obs, lead))


def same_structure(one: PyTree, other: PyTree) -> bool:
    a: Any = jax.tree.structure(one)
    b: Any = jax.tree.structure(other)
    return bool(a == b)


def is_array(value: Any) -> bool:
    """Whether a value is one array and no tree of them."""
    return same_structure(value, 0) and hasattr(value, "dtype")


def is_number(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.integer) or jnp.issubdtype(leaf.dtype, jnp.floating)


def is_real(leaf: Any) -> bool:
    return is_number(leaf) or leaf.dtype == jnp.bool_


def described(value: Any) -> str:
    """A value in a message: `float32[2]`, `a dict`."""
    return shown(value) if hasattr(value, "dtype") else f"a {type(value).__name__}"


def shown(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def refuse(message: str) -> NoReturn:
    raise ContractError(message)


def is_own(function: Any) -> bool:
    """Whether a function is a user's; what is made of the package's by `functools.partial` counts as such too."""
    return not str(getattr(function, "__module__", "")).startswith("jaxrl.")


def name_of(function: Any) -> str:
    """`module:function` of a function."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    return f"{getattr(inner, '__module__', '?')}:{getattr(inner, '__qualname__', type(inner).__name__)}"
