"""What the adapters of host environments share: Gymnasium's spaces as a `Spec`, casts between the two, and episode records.

The functions take a Gymnasium space, whichever package made it. An adapter is a class over its package's vector environment
that casts, steps, resets what ended, and counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrl.envs.tools.bounds import is_bounded, rescale
from jaxrl.errors import UsageError
from jaxrl.types import ArraySpec, Box, Discrete, PyTree, TreeSpec, Units, tree_spec

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


def observation_spec(space: Any, env_id: str) -> ArraySpec | TreeSpec:
    """The spec of what `cast_observation` returns.

    Raises:
      UsageError: observations that are no arrays of one shape; the message names `env_id`.
    """
    return tree_spec(_observation_zeros(space, env_id))


def cast_observation(space: Any, obs: PyTree) -> PyTree:
    """A fresh copy of an observation, or of a batch of them, in the types of `Spec`; discrete ones count from 0."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: cast_observation(part, obs[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(cast_observation(part, obs[i]) for i, part in enumerate(space.spaces))
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        obs = np.asarray(obs) - space.start
    return np.array(obs, _narrow(space))


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


def native_action(space: Any, action: PyTree) -> np.ndarray:
    """Actions [B, ...] of `Spec` as the environment takes them."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return np.asarray(action, space.dtype) + space.start
    scaled: np.ndarray = rescale(np.asarray(action, space.dtype), space.low, space.high, np)
    return scaled


def units(observation_space: Any, action_space: Any) -> Units:
    """The maps of an environment with these spaces, on NumPy arrays."""
    return Units(
        lambda params, obs: cast_observation(observation_space, obs), lambda params, action: native_action(action_space, action)
    )


def _observation_zeros(space: Any, env_id: str) -> PyTree:
    """Zeros of one observation, cast as `cast_observation` does."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: _observation_zeros(part, env_id) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_observation_zeros(part, env_id) for part in space.spaces)
    if isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return np.zeros(space.shape, _narrow(space))
    raise UsageError(
        f"env={env_id!r} has observations of {type(space).__name__}, which are no arrays of one shape; "
        "wrap it so that it observes a Box"
    )


def _narrow(space: Any) -> str:
    """Name of the dtype of observations of `space`: at most 32 bits, which is what JAX computes in."""
    name = np.dtype(space.dtype).name
    return _NARROW.get(name, name)
