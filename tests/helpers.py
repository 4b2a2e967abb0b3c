"""What several test modules share: a pure environment behind the host contract, and comparisons of states."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxrl.loop import iteration_keys
from jaxrl.types import Env, PyTree, TimeStep


class JaxHostEnv:
    """A pure environment as a `HostEnv` that draws the keys the device driver would draw.

    Args:
      key_init, key_train: the streams of the run.
      length: T.
    """

    def __init__(self, env: Env, key_init: jax.Array, key_train: jax.Array, length: int) -> None:
        self.spec, self.num_envs = env.spec, env.num_envs
        self._env, self._key_train, self._length = env, key_train, length
        self._key_reset = jax.random.split(key_init)[1]
        self._steps = 0
        self._step = jax.jit(env.step)

    def reset(self, seed: int) -> PyTree:
        self._state, obs = self._env.reset(self._key_reset, self._env.params)
        return jax.device_get(obs)

    def step(self, action: PyTree) -> TimeStep:
        iteration, time = divmod(self._steps, self._length)
        key = iteration_keys(self._key_train, iteration, self._length).env[time]
        self._steps += 1
        self._state, timestep = self._step(key, self._env.params, self._state, action)
        return jax.device_get(timestep)

    def close(self) -> None:
        pass


def assert_same_bits(a: PyTree, b: PyTree) -> None:
    """Equal structure and equal bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def assert_close(a: PyTree, b: PyTree, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Equal within the tolerance that different programs for the same computation are allowed."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x, float), np.asarray(y, float), rtol=rtol, atol=atol)


def copy(tree: Any) -> Any:
    """A copy that survives the donation of the original."""
    return jax.tree.map(lambda leaf: jax.numpy.array(leaf, copy=True), tree)
