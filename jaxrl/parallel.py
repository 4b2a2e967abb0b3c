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
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from jaxrl.types import Array, PyTree

AXIS = "envs"
"""Name of the mesh's axis."""


# --- the mesh -------------------------------------------------------------------------------------------------------


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
