"""What a network sees of an observation: vectors for hidden layers, pictures for convolutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UsageError
from jaxrl.maths.checks import check_shape, check_type
from jaxrl.types import Array, ArraySpec, PyTree, TreeSpec, flat_size


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


def array_obs(spec: object, agent: str) -> ArraySpec:
    """The spec of an observation that must be one array.

    Raises:
      UsageError: the observation is a tree of arrays.
    """
    if not isinstance(spec, ArraySpec):
        raise UsageError(f"env: {agent} needs observations that are one array, not a tree; flatten them with map_observation")
    return spec
