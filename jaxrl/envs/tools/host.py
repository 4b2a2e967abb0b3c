"""What the adapters of host environments share: Gymnasium's spaces as a `Spec`, casts between the two, and episode records.

The functions take a Gymnasium space, whichever package made it. An adapter is a class over its package's vector environment
that casts, steps, resets what ended, and counts.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tools.bounds import is_bounded, rescale
from jaxrl.errors import UsageError
from jaxrl.types import BYTE, ArraySpec, Box, Discrete, PyTree, TreeSpec, Units, tree_spec

_NARROW = {"float64": "float32", "int64": "int32", "uint64": "uint32"}


class EpisodeRecords:
    """Return and length of the B running episodes, in float64 so that a long sum stays exact."""

    def __init__(self, num_envs: int) -> None:
        self._num_envs = num_envs
        self.begin()

    def begin(self) -> None:
        """All B episodes start."""
        self._return = np.zeros(self._num_envs, np.float64)
        self._length = np.zeros(self._num_envs, np.int32)

    def count(self, reward: np.ndarray, ended: np.ndarray) -> dict[str, np.ndarray]:
        """Counts one step; `reward` and `ended`: [B].

        Returns:
          `episode_return` [B] float32 and `episode_length` [B] int32, this step included.
        """
        total, length = self._return + reward, self._length + np.int32(1)
        self._return, self._length = np.where(ended, 0.0, total), np.where(ended, np.int32(0), length)
        return {"episode_return": total.astype(np.float32), "episode_length": length}


def observation_spec(space: Any, env_id: str, channels_first: bool | None = None) -> ArraySpec | TreeSpec:
    """The spec of what `cast_observation` returns.

    Discrete spaces are categories, all others quantities, which are scaled where they are bytes from 0 to 255. Boxes and binary
    arrays of three axes are pictures.

    Args:
      channels_first: whether pictures are (channels, height, width); None takes them as Gymnasium has them, (height, width,
        channels), but of one whose first axis is the shortest, as in a stack of frames, the spec does not say what it is.

    Raises:
      UsageError: observations that are no arrays of one shape; the message names `env_id`.
    """
    return tree_spec(_leaf_specs(space, env_id, channels_first))


def cast_observation(space: Any, obs: PyTree) -> PyTree:
    """A fresh copy of an observation, or of a batch of them, in the types of `Spec`; discrete ones count from 0."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: cast_observation(part, obs[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(cast_observation(part, obs[i]) for i, part in enumerate(space.spaces))
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        obs = _in(obs).asarray(obs) - space.start
    return _in(obs).array(obs, _narrow(space))


def action_spec(space: Any, env_id: str) -> Discrete | Box:
    """The spec of what `native_action` takes.

    Raises:
      UsageError: actions that are neither discrete nor a bounded box of floats; the message names `env_id`.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    if not isinstance(space, spaces.Box) or np.dtype(space.dtype).kind != "f":
        raise UsageError(f"env={env_id!r} has actions {space}; wrap it so that it takes a Discrete or a float Box")
    if not is_bounded(space.low, space.high):
        raise UsageError(f"env={env_id!r} has unbounded actions {space}; wrap it in gymnasium.wrappers.RescaleAction")
    return Box(tuple(space.shape))


def _in(array: Any) -> Any:
    """The module to compute in: NumPy, or `jax.numpy` where a policy is part of a compiled program."""
    return jnp if isinstance(array, jax.core.Tracer) else np


def native_action(space: Any, action: PyTree) -> Any:
    """Actions [B, ...] of `Spec` as the environment takes them; in at most the bits of JAX where they are traced."""
    from gymnasium import spaces

    xp = _in(action)
    dtype = space.dtype if xp is np else jax.dtypes.canonicalize_dtype(space.dtype)
    if isinstance(space, spaces.Discrete):
        return xp.asarray(action, dtype) + space.start
    return rescale(xp.asarray(action, dtype), space.low, space.high, xp)


def units(observation_space: Any, action_space: Any) -> Units:
    """The maps of an environment with these spaces, on NumPy arrays and on traced ones."""
    return Units(
        lambda params, obs: cast_observation(observation_space, obs), lambda params, action: native_action(action_space, action)
    )


def _leaf_specs(space: Any, env_id: str, channels_first: bool | None) -> PyTree:
    """An `ArraySpec` of each array in an observation."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: _leaf_specs(part, env_id, channels_first) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_leaf_specs(part, env_id, channels_first) for part in space.spaces)
    if isinstance(space, spaces.Discrete):
        return ArraySpec((), _narrow(space), num_values=int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return ArraySpec(tuple(space.shape), _narrow(space), num_values=int(space.nvec.max()))
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        shape, scale = tuple(space.shape), BYTE if _is_bytes(space) else 1.0
        return ArraySpec(shape, _narrow(space), picture=_picture(shape, channels_first), scale=scale)
    raise UsageError(
        f"env={env_id!r} has observations of {type(space).__name__}, which are no arrays of one shape; "
        "wrap it so that it observes a Box"
    )


def _is_bytes(space: Any) -> bool:
    return bool(space.dtype == np.uint8 and hasattr(space, "low") and (space.low == 0).all() and (space.high == BYTE).all())


def _picture(shape: tuple[int, ...], channels_first: bool | None) -> str | None:
    if len(shape) != 3 or (channels_first is None and shape[0] < min(shape[1:])):
        return None
    return "CHW" if channels_first else "HWC"


def _narrow(space: Any) -> str:
    """Name of the dtype of observations of `space`: at most 32 bits, which is what JAX computes in."""
    name = np.dtype(space.dtype).name
    return _NARROW.get(name, name)
