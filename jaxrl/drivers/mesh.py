"""A run's state on a mesh of devices: who holds what, and the way there and back."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrl.errors import UsageError
from jaxrl.parallel import AXIS
from jaxrl.types import Array, PyTree, RunState


def make_mesh(devices: int, num_envs: int) -> Mesh | None:
    """The mesh of a run, None for one device of one process.

    Args:
      devices: how many of its devices each process gives, 0 for all.

    Raises:
      UsageError: fewer devices than that, or a number of them that does not divide `num_envs`.
    """
    present = jax.local_device_count()
    if devices > present:
        kind = jax.local_devices()[0].platform
        raise UsageError(
            f"devices={devices} exceeds the {present} {kind} device(s) that JAX finds here; give at most {present}"
        )
    count, processes = devices or present, jax.process_count()
    check_division(count * processes, num_envs, f" in {processes} processes" if processes > 1 else "")
    if count * processes == 1:
        return None
    chosen = [device for index in range(processes) for device in jax.local_devices(index)[:count]]
    return Mesh(np.array(chosen), (AXIS,), axis_types=(AxisType.Auto,))


def check_division(devices: int, num_envs: int, where: str = "") -> None:
    """Checks that every device gets the same number of environments.

    Raises:
      UsageError: it does not.
    """
    if num_envs % max(devices, 1):
        fewer = fitting(devices, num_envs)
        raise UsageError(
            f"devices={devices}{where} does not divide num_envs={num_envs}; give a divisor such as {fewer}, or other num_envs"
        )


def fitting(devices: int, num_envs: int) -> int:
    """The largest number of devices, at most this many, that divides `num_envs`."""
    return max(n for n in range(1, min(devices, num_envs) + 1) if num_envs % n == 0)


def shardings(state: RunState, mesh: Mesh, num_envs: int) -> RunState:
    """The sharding of each array of a state: [B, ...] of environments and memory divided, all else everywhere."""
    everywhere, divided = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))

    def of_envs(leaf: Any) -> NamedSharding:
        return divided if leaf.ndim and leaf.shape[0] == num_envs else everywhere

    same = jax.tree.map(lambda _: everywhere, state)
    envs = {name: jax.tree.map(of_envs, getattr(state, name)) for name in ("env", "obs", "memory")}
    return same._replace(**envs)


def place(state: RunState, mesh: Mesh, num_envs: int) -> RunState:
    """A state whose arrays may lie on one device of each process, such as one read from a checkpoint, laid over the mesh."""

    def put(leaf: Any, sharding: NamedSharding) -> Array:
        if getattr(leaf, "sharding", None) == sharding:
            return leaf
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
        held = np.asarray(leaf)
        return jax.make_array_from_callback(held.shape, sharding, lambda index: held[index])

    return jax.tree.map(put, state, shardings(state, mesh, num_envs))


def gather(tree: PyTree) -> PyTree:
    """The whole of every array in this process's memory, as NumPy; typed keys as their data. All processes must call it."""

    def whole(leaf: Any) -> np.ndarray:
        data = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        if data.is_fully_addressable or data.is_fully_replicated:
            return np.asarray(data)
        return multihost_utils.process_allgather(data, tiled=True)

    return jax.tree.map(whole, tree)


def local(tree: PyTree) -> PyTree:
    """Arrays that every device holds, on the first device of this process."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
