"""Checkpoints: written whole or not at all, and checked before they are trusted.

A checkpoint is a folder `checkpoints/ITERATION` with the arrays (Orbax) and `manifest.json`: the SHA-256 of every file and what
the run must know to go on. It is written under another name and renamed when complete, so a killed process leaves no half
checkpoint under a valid name; a damaged one is noticed by its sums and the one before it is used. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxrl.errors import UsageError
from jaxrl.types import PyTree

KEEP = 3
_PARTIAL = "partial-"


class Restored(NamedTuple):
    """A checkpoint that was read back.

    Attributes:
      state: the pytree, with the target's structure.
      meta: what `save` was given.
    """

    state: PyTree
    meta: dict[str, Any]


def save(folder: Path, iteration: int, state: PyTree, meta: dict[str, Any], keep_all: bool = False) -> None:
    """Writes the checkpoint of `iteration` and removes all but the last `KEEP` of those up to it, or none of these.

    Later ones were damaged and passed over when the run was resumed; they would outlive every whole one.

    Args:
      state: pytree of arrays; typed keys are stored as their data.
      meta: plain JSON values.
    """
    with _interrupts_held_back():
        _save(folder, iteration, state, meta, keep_all)


def _save(folder: Path, iteration: int, state: PyTree, meta: dict[str, Any], keep_all: bool) -> None:
    partial, final = folder / f"{_PARTIAL}{iteration}", folder / str(iteration)
    for left_over in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left_over)
    partial.mkdir(parents=True)
    with _checkpointer() as checkpointer:
        checkpointer.save((partial / "state").resolve(), args=ocp.args.StandardSave(_named_leaves(state)))
    manifest = {"meta": meta, "files": {name: _digest(partial / name) for name in _files(partial)}}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    found = iterations(folder)
    kept = [other for other in found if other <= iteration][: None if keep_all else KEEP]
    for other in set(found).difference(kept):
        shutil.rmtree(folder / str(other))


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Lets an interrupt wait until a checkpoint is whole; Orbax, stopped midway, prints tracebacks on its way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if waiting:
        signal.raise_signal(waiting[0])


def restore(
    folder: Path, target: Callable[[dict[str, Any]], PyTree], warn: Callable[[str], None], only: int | None = None
) -> Restored | None:
    """The newest checkpoint that is whole, or None if there is none.

    Args:
      only: the iteration of the one checkpoint that will do.
      target: (meta) -> pytree of arrays or `jax.ShapeDtypeStruct`s with the structure to restore into.
      warn: is given one line for each damaged checkpoint that was passed over.

    Raises:
      UsageError: a whole checkpoint does not fit the target: it is of another configuration.
    """
    for iteration in iterations(folder) if only is None else [only]:
        path = folder / str(iteration)
        fault = damage(path)
        if fault is None:
            meta = json.loads((path / "manifest.json").read_text())["meta"]
            return Restored(_read(path / "state", target(meta)), meta)
        warn(f"checkpoint {path} is damaged ({fault}); using the one before it")
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, in a few words, or None if it is whole."""
    try:
        files = json.loads((path / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "its manifest cannot be read"
    for name, digest in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if _digest(path / name) != digest:
            return f"{name} has changed"
    return None


def _read(path: Path, target: PyTree) -> PyTree:
    names = _named_leaves(target)
    abstract = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding(leaf)) for name, leaf in names.items()}
    with _checkpointer() as checkpointer:
        stored = checkpointer.metadata(path.resolve()).item_metadata.tree
        found = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in stored.items()}
        wanted = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in abstract.items()}
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                raise UsageError(
                    f"checkpoint {path.parent} holds {name} as {found.get(name)}, this run has {wanted.get(name)}; "
                    "use the configuration it was trained with"
                )
        arrays = checkpointer.restore(path.resolve(), args=ocp.args.StandardRestore(abstract))

    def restored(path: Any, leaf: Any) -> Any:
        empty = jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), _sharding(leaf)) if not leaf.size else None
        return _like(arrays[_name(path)], leaf) if empty is None else empty

    return jax.tree_util.tree_map_with_path(restored, target)


def _sharding(leaf: Any) -> jax.sharding.Sharding:
    """The device of a target's leaf, where it has one of its own here, else the first one."""
    devices = leaf.devices() if isinstance(leaf, jax.Array) else set()
    own = devices & set(jax.local_devices() + jax.local_devices(backend="cpu"))
    return jax.sharding.SingleDeviceSharding(own.pop() if len(devices) == len(own) == 1 else jax.local_devices()[0])


def _checkpointer() -> ocp.Checkpointer:
    """Orbax, working in this process alone: where a run has several, it must not wait for the others."""
    alone = ocp.options.MultiprocessingOptions()
    if jax.process_count() > 1:
        index = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
        )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """Leaves by their path, with typed keys as their data; without empty ones, which Orbax cannot store."""
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): _key_data(leaf) for path, leaf in pairs if leaf.size}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_data(leaf: Any) -> Any:
    if not _is_key(leaf):
        return leaf
    return jax.eval_shape(jax.random.key_data, leaf) if isinstance(leaf, jax.ShapeDtypeStruct) else jax.random.key_data(leaf)


def _like(array: Any, target: Any) -> Any:
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(target)) if _is_key(target) else array


def iterations(folder: Path) -> list[int]:
    """Iterations that have a checkpoint, newest first."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
