"""The processes of one run: how they find each other, who writes, and how they end.

All of them run the same programs in lockstep. Process 0 alone writes and speaks; what it decides by its clock, or finds on its
disk, it tells the others.
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

from jaxrl.errors import UsageError

CONNECT_SECONDS = 300
"""How long processes wait for each other when they start."""

SHUTDOWN_SECONDS = 60
"""How long they wait for each other at the end, where process 0 still draws the curve."""


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


def leave(code: Any, together: bool = False) -> None:
    """Ends one of several processes at once; JAX would wait minutes for the others, which wait for this one.

    Args:
      together: the others leave now as well; none is gone before all have come so far, which JAX would take for a failure.
    """
    if is_connected():
        if together:
            with contextlib.suppress(RuntimeError):
                jax.distributed.shutdown()
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


def shared(number: int, flag: bool) -> tuple[int, bool]:
    """(the number that process 0 gives, whether any process raises its flag), in every process."""
    if not is_connected():
        return number, flag
    both = multihost_utils.process_allgather(np.array([number, flag], np.int32))
    return int(both[0, 0]), bool(both[:, 1].any())


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
