"""What a network sees of an observation: vectors for hidden layers, pictures for convolutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.maths.checks import check_shape, check_type
from jaxrl.types import BYTE, Array, ArraySpec, Position, PyTree, TreeSpec, flat_size, tree_spec

VECTORS = ("mlp", "simba")
"""Torsos that see vectors; the others see pictures."""


def flatten(obs: PyTree, spec: ArraySpec | TreeSpec) -> Array:
    """Observations [..., *shape] as float32 vectors [..., F].

    Quantities are divided by their scale, integers of finitely many values become one-hot vectors, the leaves of a tree are
    joined.
    """
    if isinstance(spec, TreeSpec):
        return jnp.concatenate([flatten(*pair) for pair in zip(jax.tree.leaves(obs), spec.leaves, strict=True)], axis=-1)
    check_shape((..., *spec.shape), obs=obs)
    if spec.scale != 1.0:
        check_type(np.dtype(spec.dtype).type, obs=obs)
    leading = obs.shape[: obs.ndim - len(spec.shape)]
    if spec.num_values is not None:
        obs = jax.nn.one_hot(obs, spec.num_values)
    return _scaled(obs.reshape((*leading, flat_size(spec))), spec)


def _scaled(x: Array, spec: ArraySpec) -> Array:
    x = x.astype(jnp.float32)
    return x if spec.scale == 1.0 else x / spec.scale


def picture_shape(spec: ArraySpec | TreeSpec) -> tuple[int, int, int] | None:
    """(H, W, C) of an observation that is a picture, as its spec says; None of any other."""
    if not isinstance(spec, ArraySpec) or spec.picture is None:
        return None
    first, middle, last = spec.shape
    return (middle, last, first) if spec.picture == "CHW" else (first, middle, last)


def network_inputs(obs: PyTree, spec: ArraySpec | TreeSpec, torso: str) -> Array:
    """What a torso sees of observations [..., *shape]: those of `VECTORS` [..., F], others pictures [..., H, W, C].

    Bytes that are to be seen from 0 to 1 stay bytes, which convolutions move before they scale them; no other bytes reach them.
    """
    if torso in VECTORS:
        return flatten(obs, spec)
    assert isinstance(spec, ArraySpec)
    check_shape((..., *spec.shape), obs=obs)
    x = jnp.moveaxis(obs, -3, -1) if spec.picture == "CHW" else obs
    return x if spec.dtype == "uint8" and spec.scale == BYTE else _scaled(x, spec)


ILLEGAL = -(2.0**100)
"""Value of an action that must not be taken: below all others, and finite, so that a discount of 0 makes it 0."""


def seen(obs: PyTree) -> PyTree:
    """What networks see of an observation, of the spec `seen_spec`."""
    return obs.planes if isinstance(obs, Position) else obs


def legal_of(obs: PyTree) -> Array | None:
    """[..., A] bool, the legal actions of a `Position`; None of any other observation, in which all are."""
    return obs.legal if isinstance(obs, Position) else None


def to_store(obs: PyTree) -> PyTree:
    """What a replay keeps of an observation, of the spec `stored_spec`: all but the state that a model looks ahead with."""
    return obs._replace(state=()) if isinstance(obs, Position) else obs


def stored_spec(spec: ArraySpec | TreeSpec) -> ArraySpec | TreeSpec:
    """The spec of what `to_store` returns."""
    return tree_spec(to_store(jax.tree.unflatten(spec.treedef, spec.leaves))) if isinstance(spec, TreeSpec) else spec
