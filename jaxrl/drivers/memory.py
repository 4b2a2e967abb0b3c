"""How much memory there is, and how much arrays take."""

from __future__ import annotations

import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxrl.types import PyTree, Spec, sample_action, spec_zeros

ACCELERATOR_SHARE, HOST_SHARE = 0.85, 0.6
"""Shares of a memory that a batch of runs may take by default."""


def num_bytes(tree: PyTree) -> int:
    """Bytes of arrays, or of arrays with these shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def rollout_bytes(spec: Spec, length: int, num_envs: int) -> int:
    """Bytes of the observations, actions, rewards and ends of T = `length` steps in B = `num_envs` environments."""
    key = jax.random.key(0)
    row = jax.eval_shape(lambda: (spec_zeros(spec.obs, (2,)), sample_action(key, spec.action, (1,)), jnp.zeros(2, jnp.float32)))
    return num_bytes(row) * length * num_envs


def host_bytes() -> int:
    """Of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_bytes() -> int:
    """The most of this machine's memory that this process has held so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def device_bytes(device: jax.Device) -> int | None:
    """Of an accelerator's memory; None of a CPU, which has the host's."""
    return (device.memory_stats() or {}).get("bytes_limit")


def batch_limit() -> int:
    """Bytes that a batch of runs may take by default: most of the accelerators' memory, or 60 % of the machine's."""
    limits = [device_bytes(device) for device in jax.local_devices()]
    if all(limits):
        return int(ACCELERATOR_SHARE * sum(limit or 0 for limit in limits))
    return int(HOST_SHARE * host_bytes())
