"""One run over several devices and several processes: the environments are divided, what the agent knows is held by all.

    jaxrl train ppo --env CartPole-v1 --devices 4                                              # four devices here
    jaxrl train ppo --env CartPole-v1 --coordinator host:1234 --num-processes 2 --process-id I  # on each of two machines

A mesh has one axis of devices. The loop says which arrays are divided over it (`divide`: the environments' axis B, an agent's
minibatches) and which are the same everywhere (`replicate`: the agent's state); XLA's partitioner adds the communication, such
as the sum of gradients. So a run means what it means on one device, up to the rounding of sums. Without a mesh both functions
return what they are given, and the compiled programs are those of one device.

All processes run the same programs in lockstep. Process 0 alone writes and speaks; what it decides by its clock, or finds on
its disk, it tells the others.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrl.types import Array, PyTree, RunState, UsageError

AXIS = "envs"
"""Name of the mesh's axis."""

CONNECT_SECONDS = 300
"""How long processes wait for each other when they start."""

SHUTDOWN_SECONDS = 60
"""How long they wait for each other at the end, where process 0 still draws the curve."""


# --- the mesh -------------------------------------------------------------------------------------------------------


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


def over(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """Within it, `divide` and `replicate` speak of this mesh; for use inside a traced function."""
    return contextlib.nullcontext() if mesh is None else jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def divide(tree: PyTree, axis: int, size: int | None = None) -> PyTree:
    """Tells the compiler to divide `axis` of every leaf over the devices; it changes no value.

    Leaves whose axis the devices do not divide, or is not of length `size` where one is given, are left to the compiler.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if AXIS not in mesh.axis_names:
        return tree
    num_devices, spec = mesh.shape[AXIS], PartitionSpec(*axis * [None], AXIS)

    def place(leaf: Array) -> Array:
        if leaf.ndim <= axis or leaf.shape[axis] % num_devices or leaf.shape[axis] != (size or leaf.shape[axis]):
            return leaf
        return jax.lax.with_sharding_constraint(leaf, spec)

    return jax.tree.map(place, tree)


def replicate(tree: PyTree) -> PyTree:
    """Tells the compiler that every device holds all of these arrays; it changes no value."""
    if AXIS not in jax.sharding.get_abstract_mesh().axis_names:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, PartitionSpec()), tree)


# --- a run's state on the mesh --------------------------------------------------------------------------------------


def layout(state: RunState, mesh: Mesh, num_envs: int) -> RunState:
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

    return jax.tree.map(put, state, layout(state, mesh, num_envs))


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


# --- processes ------------------------------------------------------------------------------------------------------


def check_connection(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Checks what `connect` will be given, without waiting for anyone.

    Raises:
      UsageError: one of the three is missing or out of range.
    """
    given = {"num_processes": num_processes, "process_id": process_id}
    if coordinator is None or coordinator == "auto":
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"{name}={value} needs a coordinator; give --coordinator HOST:PORT as well")
        return
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(
            f"coordinator={coordinator!r} is not HOST:PORT; give the address of process 0 and a free port, or auto"
        )
    for name, value in given.items():
        if value is None:
            raise UsageError(f"{name} is missing; with --coordinator HOST:PORT give --num-processes N and --process-id I")
    assert num_processes is not None and process_id is not None
    if num_processes < 1:
        raise UsageError(f"num_processes={num_processes} is out of range; give at least 1")
    if not 0 <= process_id < num_processes:
        raise UsageError(f"process_id={process_id} is out of range; give 0 to {num_processes - 1}, another one to each process")


def connect(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the processes of one run; before any computation.

    Args:
      coordinator: HOST:PORT of process 0, "auto" for what the cluster (Slurm, Open MPI, TPU) says, None for one process.

    Raises:
      UsageError: the other processes were not found.
    """
    check_connection(coordinator, num_processes, process_id)
    if coordinator is None:
        return
    if coordinator != "auto":
        _find(coordinator, is_first=process_id == 0)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    address = {} if coordinator == "auto" else {"coordinator_address": coordinator}
    try:
        jax.distributed.initialize(
            **address,  # type: ignore[arg-type]
            num_processes=num_processes,
            process_id=process_id,
            initialization_timeout=CONNECT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"coordinator={coordinator} did not bring the processes together ({reason}); "
            "start all of them with the same HOST:PORT and the same --num-processes"
        ) from None


def _find(coordinator: str, is_first: bool) -> None:
    """Waits for the port of process 0, or in process 0 checks that it is free: JAX itself would abort with a stack trace.

    Raises:
      UsageError: nobody answers, or the port is taken.
    """
    host, _, port = coordinator.rpartition(":")
    if is_first:
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise UsageError(f"coordinator={coordinator}: port {port} {error.strerror}; give a free one") from None
        return
    give_up = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > give_up:
                raise UsageError(
                    f"coordinator={coordinator} does not answer ({error.strerror or error}); "
                    "start process 0 there, or give its true address"
                ) from None
            time.sleep(0.2)


def is_connected() -> bool:
    """True where a run has several processes."""
    return jax.process_count() > 1


def leave(code: Any) -> None:
    """Ends one of several processes at once; JAX would wait minutes for the others, which wait for this one."""
    if is_connected():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def is_writer() -> bool:
    """True in the process that writes the run's folder and speaks to the user: process 0."""
    return jax.process_index() == 0


def agreed(decision: bool) -> bool:
    """What process 0 decided, in every process."""
    if not is_connected():
        return decision
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(decision)))


def in_writer(action: Callable[[], None]) -> None:
    """Does something in process 0 alone; if it refuses there, it refuses everywhere.

    Raises:
      UsageError: that of process 0.
    """
    refusal = None
    if is_writer():
        try:
            action()
        except UsageError as error:
            refusal = error
    if not agreed(refusal is None):
        raise refusal or UsageError("process 0 refused to begin; its own message says why")
