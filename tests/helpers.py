"""What several test modules share: a pure environment behind the host contract, comparisons of states, processes that end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.checks.suite import as_numbers
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.envs.tools.datasets import MD5
from jaxrl.loop import iteration_keys
from jaxrl.records.console import PARTS
from jaxrl.types import (
    ArraySpec,
    Discrete,
    Env,
    Position,
    Progress,
    PyTree,
    Rollout,
    Spec,
    TimeStep,
    sample_action,
    spec_zeros,
    tree_spec,
)

_FLAG = "xla_cpu_use_fusion_emitters"
AS_USERS: dict[str, str | bool | int | float] = {_FLAG: True} if _FLAG in os.environ.get("XLA_FLAGS", "") else {}
"""Options of `compile` for a program that is measured: XLA's usual code generator, which conftest.py turns off."""


def slow_but(quick: Iterable[str], names: Iterable[str]) -> list[Any]:
    """Parameters `names` of a test, of which all but `quick` are left to the longer tests."""
    quick = set(quick)
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@contextlib.contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Python in a session of its own, which does not outlive the block; `options` are those of `Popen`."""
    command, pipe = [sys.executable, *arguments], subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # Its own children hold the pipes as well.
        process.wait()
        process.stdout.close()
        process.stderr.close()


def ended(process: subprocess.Popen[str], code: int = 0, seconds: float = 240.0) -> tuple[str, str]:
    """What a process wrote on standard output and error until it ended with `code`, within so many seconds."""
    written = process.communicate(timeout=seconds)
    assert process.returncode == code, written[1][-3000:]
    return written


def run_python(*arguments: str, code: int = 0, seconds: float = 240.0, **options: Any) -> tuple[str, str]:
    """Starts Python and waits for its end; see `started` and `ended`."""
    with started(*arguments, **options) as process:
        return ended(process, code, seconds)


def progress_at(iteration: Any, num_iterations: Any, num_warmup: int = 0, steps_per_iteration: int = 1) -> Progress:
    """How far a run of so many iterations is."""
    counts = (iteration, num_iterations, num_warmup, steps_per_iteration)
    return Progress(*(jax.numpy.int32(count) for count in counts))


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
        self._steps, self._is_new = 0, True
        self._reset = jax.jit(env.reset)

        @jax.jit
        def step(iteration: int, time: int, params: PyTree, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
            return env.step(iteration_keys(key_train, iteration, length).env[time], params, state, action)

        self._step = step

    def reset(self, seed: int) -> PyTree:
        """The first one is the run's, any other that of an iteration of fresh episodes."""
        iteration = self._steps // self._length
        key = self._key_reset if self._is_new else iteration_keys(self._key_train, iteration, self._length).reset
        self._is_new = False
        self._state, obs = self._reset(key, self._env.params)
        return jax.device_get(obs)

    def step(self, action: PyTree) -> TimeStep:
        iteration, time = divmod(self._steps, self._length)
        self._steps += 1
        self._state, timestep = self._step(iteration, time, self._env.params, self._state, action)
        return jax.device_get(timestep)

    def close(self) -> None:
        pass


TINY_SELF_PLAY: dict[str, Any] = {
    "num_envs": 4,
    "rollout_length": 4,
    "capacity": 64,
    "batch_size": 4,
    "num_updates": 1,
    "channels": 4,
    "blocks": 0,
    "num_simulations": 2,
}
"""Fields of an `alphazero` that plays in no time."""


def nim(num_envs: int, stones: int = 3) -> Env:
    """Take one or two stones; who takes the last one has won and gets 1. Both sides are the agent.

    Who is to move with a multiple of three stones left loses against right play. What is seen is a board of stones + 1 points
    in a row, and which of them the number left is.
    """

    def position(left: jax.Array) -> Position:
        return Position((jnp.arange(stones + 1) == left)[None, :, None], left >= jnp.array([1, 2]), left)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Position]:
        return jnp.int32(stones), position(jnp.int32(stones))

    def model(key: jax.Array, params: Any, obs: Position, action: jax.Array) -> tuple[Position, jax.Array, jax.Array]:
        left = jnp.where(obs.state > 0, obs.state - 1 - action, 0)
        return position(left), ((left == 0) & (obs.state > 0)).astype(jnp.float32), left == 0

    def step(key: jax.Array, params: Any, left: jax.Array, action: jax.Array) -> Transition:
        obs, reward, over = model(key, params, position(left), action)
        return Transition(obs.state, obs, reward, over)

    obs = Position(ArraySpec((1, stones + 1, 1), "bool", picture="HWC"), ArraySpec((2,), "bool"), ArraySpec((), "int32"))
    spec = Spec(tree_spec(obs), Discrete(2), stones, num_players=2, has_return=False)
    return batch_env(spec, (), reset, step, num_envs, model=model)


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the idx format, written out by hand."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.astype(np.uint8).tobytes()


def write_images(folder: Path, train: np.ndarray, test: np.ndarray, labels: np.ndarray | None = None) -> Path:
    """The four files of a data set in the folder, for `JAXRL_DATA_DIR`: the label is the last digit of a picture's number.

    Args:
      train, test: [N, H, H] uint8.
      labels: of the test, in the place of that.
    """
    last_digit = [np.arange(len(images)) % 10 for images in (train, test)]
    arrays = [train, last_digit[0], test, last_digit[1] if labels is None else labels]
    for name, array in zip(MD5, arrays, strict=True):
        (folder / name).write_bytes(idx(array))
    return folder


def assert_same_bits(a: PyTree, b: PyTree) -> None:
    """Equal structure and equal bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(as_numbers(x), as_numbers(y))


def assert_parts_add_up(summary: dict[str, Any], without: Iterable[str] = ()) -> None:
    """The seconds of all parts are the wall clock, and none but these is nothing."""
    parts = {part: summary[f"{part}_seconds"] for part in PARTS}
    assert sum(parts.values()) == pytest.approx(summary["wall_seconds"], abs=0.1)
    assert {part for part, seconds in parts.items() if seconds <= 0.0} <= set(without), parts


def assert_close(a: PyTree, b: PyTree, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Equal within the tolerance that different programs for the same computation are allowed."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(as_numbers(x).astype(float), as_numbers(y).astype(float), rtol=rtol, atol=atol)


def copy(tree: Any) -> Any:
    """A copy that survives the donation of the original."""
    return jax.tree.map(lambda leaf: jax.numpy.array(leaf, copy=True), tree)


def random_rollout(spec: Spec, length: int, num_envs: int, memory: PyTree = (), seed: int = 0) -> Rollout:
    """A rollout of random float observations, actions and rewards with ends of both kinds inside.

    Args:
      memory: [B, ...] of a recurrent agent at the first step.
    """
    rng, shape = np.random.default_rng(seed), (length, num_envs)

    def observations() -> PyTree:
        return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), spec_zeros(spec.obs, shape))

    terminated = rng.random(shape) < 0.15
    truncated = ~terminated & (rng.random(shape) < 0.15)
    truncated[length // 2, 0], terminated[length // 2, 0], terminated[length // 3, 1] = True, False, True
    truncated &= ~terminated
    rollout = Rollout(
        observations(),
        sample_action(jax.random.key(seed), spec.action, shape),
        rng.normal(size=shape).astype(np.float32),
        terminated,
        truncated,
        observations(),
        jax.tree.map(lambda leaf: np.broadcast_to(leaf, (length, *leaf.shape)), memory),
        {},
    )
    return jax.tree.map(jax.numpy.asarray, rollout)
