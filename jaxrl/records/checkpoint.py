"""Checkpoints: written whole or not at all, and checked before they are trusted.

A checkpoint is a folder `checkpoints/ITERATION` with the arrays (Orbax) and `manifest.json`: the SHA-256 of every file and what
the run must know to go on. It is written under another name and renamed when complete, so a killed process leaves no half
checkpoint under a valid name; a damaged one is noticed by its sums and the one before it is used. The first that a process
writes into a folder is read back, as `restore` will read it. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxrl.errors import DiskError, UsageError, one_line
from jaxrl.interrupts import is_heard
from jaxrl.records.files import Types, misfit, parse_json, writing
from jaxrl.types import PyTree

KEEP = 3
_PARTIAL = "partial-"
_ALWAYS = ("state/_METADATA", "state/manifest.ocdbt")
"""Files without which Orbax cannot read arrays; it leaves the second out where it fails to merge what it wrote."""
_MOST_READ_BACK = 1_000_000_000
"""Bytes; of a larger one, which could exceed the memory a second time, names and shapes alone are read back."""
_READ_BACK: set[Path] = set()
"""Folders from which this process has read back a checkpoint that it had written."""


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

    Raises:
      DiskError: it cannot be written, or not be read back; those before it are still there.
    """
    with _interrupts_held_back(), writing(folder):
        _save(folder, iteration, state, meta, keep_all)


def _save(folder: Path, iteration: int, state: PyTree, meta: dict[str, Any], keep_all: bool) -> None:
    partial, final = folder / f"{_PARTIAL}{iteration}", folder / str(iteration)
    for left_over in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left_over)
    partial.mkdir(parents=True)
    try:
        with _plain(partial) as plain, _checkpointer() as checkpointer:
            checkpointer.save(plain / "state", args=ocp.args.StandardSave(_named_leaves(state)))
    except Exception as error:  # Of Orbax or tensorstore, which have many.
        raise DiskError(f"{partial} cannot be written ({one_line(error)[:200]})") from error
    manifest = {"meta": meta, "files": {name: _digest(partial / name) for name in _files(partial)}}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    _check_written(partial, manifest["files"], state)
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    found = iterations(folder)
    kept = [other for other in found if other <= iteration][: None if keep_all else KEEP]
    for other in set(found).difference(kept):
        shutil.rmtree(folder / str(other))


def _check_written(path: Path, files: Collection[str], state: PyTree) -> None:
    """Checks which files a checkpoint has that was just written; the first of a folder is read back.

    Raises:
      DiskError: `restore` could not read it.
    """
    fault = next((f"{name} is missing" for name in _ALWAYS if name not in files), None)
    if fault is None and path.parent not in _READ_BACK:
        try:
            _read(path, state, _MOST_READ_BACK)
        except Exception as error:
            fault = one_line(error)[:200]
    if fault is not None:
        raise DiskError(f"{path} was written but cannot be read back ({fault}); give another folder")
    _READ_BACK.add(path.parent)


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """A path to a folder that Orbax reads as it stands: it takes brackets and backslashes for patterns."""
    whole = path.resolve()
    if re.fullmatch(r"[\w ./+,:=@~-]*", str(whole), re.ASCII):
        yield whole
        return
    with tempfile.TemporaryDirectory(prefix="jaxrl-") as scratch:
        link = Path(scratch) / "link"
        link.symlink_to(whole, target_is_directory=True)
        yield link


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Lets an interrupt wait until a checkpoint is whole; Orbax, stopped midway, prints tracebacks on its way out."""
    waiting: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread() or is_heard():
        yield
        return
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
    folder: Path,
    target: Callable[[dict[str, Any]], PyTree],
    warn: Callable[[str], None],
    only: int | None = None,
    meta_types: Types | None = None,
) -> Restored | None:
    """The newest checkpoint that is whole, or None if there is none.

    Args:
      only: the iteration of the one checkpoint that will do.
      target: (meta) -> pytree of arrays or `jax.ShapeDtypeStruct`s with the structure to restore into.
      warn: is given one line for each damaged checkpoint that was passed over.
      meta_types: what `meta` must hold.

    Raises:
      UsageError: a whole checkpoint does not fit the target: it is of another configuration.
    """
    tried: set[int] = set()
    # Listed anew each time: a process that trains may have removed what is about to be read.
    while left := [one for one in (iterations(folder) if only is None else [only]) if one not in tried]:
        path = folder / str(left[0])
        tried.add(left[0])
        fault = damage(path, meta_types or {})
        if fault is None:
            meta = parse_json((path / "manifest.json").read_text(encoding="utf-8"))["meta"]
            try:
                return Restored(_read(path, target(meta)), meta)
            except UsageError:
                raise
            except Exception as error:  # Of Orbax or tensorstore, which have many.
                if damage(path) is None:
                    raise UsageError(
                        f"checkpoint {path} is whole but cannot be read ({one_line(error)[:200]}); use the versions of "
                        "config.json, or remove it to go on from the one before"
                    ) from error
        if path.exists():
            warn(f"checkpoint {path} is damaged ({fault}); using the one before it")
    return None


def damage(path: Path, meta_types: Types | None = None) -> str | None:
    """What is wrong with a checkpoint folder, in a few words, or None if it is whole.

    Args:
      meta_types: what it must say of itself.
    """
    try:
        manifest = parse_json((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "its manifest cannot be read"
    fault = misfit(manifest, {"meta": dict, "files": dict}) or misfit(manifest["meta"], meta_types or {})
    if fault is not None:
        return f"its manifest cannot be read: {fault}"
    present = set(_files(path))
    for name in (*_ALWAYS, *manifest["files"]):
        if name not in present:
            return f"{name} is missing"
        try:
            if _digest(path / name) != manifest["files"].get(name):
                return f"{name} has changed"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def _read(checkpoint: Path, target: PyTree, most_bytes: float = math.inf) -> PyTree:
    """The arrays of a checkpoint; those of one with more than `most_bytes` are only looked for."""
    names = _named_leaves(target)
    abstract = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_sharding(leaf)) for name, leaf in names.items()}
    with _plain(checkpoint) as plain, _checkpointer() as checkpointer:
        stored = checkpointer.metadata(plain / "state").item_metadata.tree
        found = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in stored.items()}
        wanted = {name: (tuple(leaf.shape), np.dtype(leaf.dtype)) for name, leaf in abstract.items()}
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                raise UsageError(
                    f"checkpoint {checkpoint} holds {name} as {found.get(name)}, this run has {wanted.get(name)}; "
                    "use the configuration it was trained with"
                )
        if sum(leaf.size * leaf.dtype.itemsize for leaf in abstract.values()) > most_bytes:
            return None
        arrays = checkpointer.restore(plain / "state", args=ocp.args.StandardRestore(abstract))

    def restored(path: Any, leaf: Any) -> Any:
        empty = jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), _sharding(leaf)) if not leaf.size else None
        return _like(arrays[_name(path)], leaf) if empty is None else empty

    return jax.tree_util.tree_map_with_path(restored, target)


def _sharding(leaf: Any) -> jax.sharding.Sharding:
    """The device of a target's leaf, where it has one of its own here, else the first one."""
    if isinstance(leaf, jax.ShapeDtypeStruct) and isinstance(leaf.sharding, jax.sharding.SingleDeviceSharding):
        return leaf.sharding
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
    if not _is_key(target):
        return array
    impl: list[Any] = []
    jax.eval_shape(lambda key: impl.append(jax.random.key_impl(key)), target)  # Which no shape tells by itself.
    return jax.random.wrap_key_data(array, impl=impl[0])


def iterations(folder: Path) -> list[int]:
    """Iterations that have a checkpoint, newest first."""
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name)), reverse=True)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
