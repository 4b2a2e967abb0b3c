"""What a network sees of an observation: vectors for hidden layers, pictures for convolutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.maths.checks import check_shape, check_type
from jaxrl.types import Array, ArraySpec, Position, PyTree, TreeSpec, flat_size, position_spec, spec_zeros, tree_spec


def flatten(obs: PyTree, spec: ArraySpec | TreeSpec) -> Array:
    """Observations [..., *shape] as float32 vectors [..., F].

    Bytes are scaled to [0, 1], integers of finitely many values become one-hot vectors, the leaves of a tree are joined.
    """
    if isinstance(spec, TreeSpec):
        return jnp.concatenate([flatten(*pair) for pair in zip(jax.tree.leaves(obs), spec.leaves, strict=True)], axis=-1)
    check_shape((..., *spec.shape), obs=obs)
    if spec.dtype == "uint8":
        check_type(np.uint8, obs=obs)
    leading = obs.shape[: obs.ndim - len(spec.shape)]
    if spec.num_values is not None:
        obs = jax.nn.one_hot(obs, spec.num_values)
    x = obs.reshape((*leading, flat_size(spec))).astype(jnp.float32)
    return x / 255.0 if spec.dtype == "uint8" else x


def picture_shape(spec: ArraySpec | TreeSpec) -> tuple[int, int, int] | None:
    """(H, W, C) of an observation that is a picture, an array of three axes; None of any other.

    The channels are the first axis where it is shorter than the last, as in a stack of frames [4, 84, 84], else the last, as in
    [84, 84, 3] and [10, 10, 4].
    """
    if not isinstance(spec, ArraySpec) or len(spec.shape) != 3 or spec.num_values is not None:
        return None
    first, middle, last = spec.shape
    return (middle, last, first) if _channels_first(spec) else (first, middle, last)


def _channels_first(spec: ArraySpec) -> bool:
    return spec.shape[0] < spec.shape[-1]


def network_inputs(obs: PyTree, spec: ArraySpec | TreeSpec, torso: str) -> Array:
    """What a torso sees of observations [..., *shape]: "mlp" vectors [..., F], others pictures [..., H, W, C] as they are."""
    if torso == "mlp":
        return flatten(obs, spec)
    assert isinstance(spec, ArraySpec)
    check_shape((..., *spec.shape), obs=obs)
    return jnp.moveaxis(obs, -3, -1) if _channels_first(spec) else obs


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
    return spec if position_spec(spec) is None else tree_spec(jax.eval_shape(lambda: to_store(spec_zeros(spec))))
