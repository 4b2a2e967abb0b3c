"""Images to classify, in the idx format of MNIST: from a folder, from the cache, or downloaded. NumPy alone.

    train_images, train_labels, test_images, test_labels = mnist()

`JAXRL_DATA_DIR` names a folder with the four files of MNIST, or of data in the same format (Fashion-MNIST), in it or in its
subfolder `mnist`, packed (.gz) or not. Without it they are in `~/.cache/jaxrl/mnist`, to which MNIST is downloaded once.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.client
import math
import os
import secrets
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrl.errors import UsageError, one_line
from jaxrl.records.console import doing
from jaxrl.records.files import writing
from jaxrl.startup import cache_folder

NUM_CLASSES = 10

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""The files of MNIST and the checksums of what is in them, unpacked."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
"""Where they are downloaded from, packed: the second if the first fails."""

TIMEOUT = 20.0
"""Seconds that a mirror may be silent."""

_FIX = f"set JAXRL_DATA_DIR to a folder with {', '.join(MD5)} (each may end in .gz)"


class Images(NamedTuple):
    """A data set for classification, split; read-only.

    Attributes:
      train_images: [N, H, H] uint8, 0 is black; 60,000 of 28x28 in MNIST.
      train_labels: [N] uint8, classes from 0 to 9.
      test_images: [M, H, H] uint8; 10,000 in MNIST.
      test_labels: [M] uint8.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def mnist() -> Images:
    """MNIST, or what `JAXRL_DATA_DIR` holds in its place; read once in a process.

    Raises:
      UsageError: a file is missing or damaged and cannot be downloaded, or the files do not fit each other.
      DiskError: a download cannot be written.

    References:
      LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document recognition".
    """
    given = os.environ.get("JAXRL_DATA_DIR")
    return _mnist(_resolved(given) if given else None, _resolved(cache_folder() / "mnist"))


def _resolved(path: str | Path) -> Path:
    return Path(os.path.realpath(os.path.expanduser(path)))


@functools.lru_cache(maxsize=4)
def _mnist(given: Path | None, cache: Path) -> Images:
    arrays = {name: read_idx(_given(given, name)) if given else _cached(cache, name) for name in MD5}
    return Images(*_checked(arrays, given or cache))


def _given(folder: Path, name: str) -> Path:
    """The file of this name in a user's folder."""
    found = [path for place in (folder, folder / "mnist") for path in _names(place, name) if os.path.exists(path)]
    if not found:
        raise UsageError(f"JAXRL_DATA_DIR={str(folder)!r} has no {name} (or {name}.gz); {_FIX}, or unset it to download MNIST")
    return found[0]


def _names(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / name, folder / f"{name}.gz"


def _checked(arrays: dict[str, np.ndarray], folder: Path) -> list[np.ndarray]:
    """The four arrays if they are a data set: square images of one size, a label from 0 to 9 for each."""
    names = list(arrays)
    for images, labels in (names[:2], names[2:]):
        shape, label = arrays[images].shape, arrays[labels]
        fault = None
        if len(shape) != 3 or shape[1] != shape[2]:
            fault = f"{images} holds an array of {_times(shape)} instead of square images"
        elif label.ndim != 1:
            fault = f"{labels} holds an array of {_times(label.shape)} instead of labels"
        elif len(label) != shape[0]:
            fault = f"{images} holds {shape[0]} images, {labels} {len(label)} labels"
        elif label.max() >= NUM_CLASSES:
            fault = f"{labels} holds the label {label.max()}, above {NUM_CLASSES - 1}"
        elif shape[1:] != (expected := arrays[names[0]].shape[1:]):
            fault = f"{images} holds images of {_times(shape[1:])}, {names[0]} of {_times(expected)}"
        if fault is not None:
            raise UsageError(f"{folder}: {fault}; put four files there that belong together")
    return list(arrays.values())


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


# --- one file -------------------------------------------------------------------------------------------------------


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file of bytes, packed by gzip or not.

    Returns:
      uint8, read-only: labels [N] or images [N, H, W].

    Raises:
      UsageError: it cannot be read, is of another kind, damaged or empty.
    """
    fix = "put the original file in its place"
    try:
        return parse_idx(unpacked(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or one_line(error)}); {fix}") from None
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}); {fix}") from None


def unpacked(data: bytes) -> bytes:
    """Without gzip's packing, if it is packed.

    Raises:
      ValueError: it is packed and damaged.
    """
    try:
        return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"what gzip packed cannot be unpacked: {one_line(error)}") from None


def parse_idx(data: bytes) -> np.ndarray:
    """The array of idx data: 0, 0, 8 for unsigned bytes, the number of dimensions, each as four bytes, then the bytes.

    Returns:
      uint8, read-only: labels [N] or images [N, H, W].

    Raises:
      ValueError: it is something else, damaged or empty.
    """
    magic, num_dimensions = data[:4].hex(), data[3] if len(data) > 3 else 0
    if magic not in ("00000801", "00000803"):
        raise ValueError(f"it begins with {magic or 'nothing'} instead of 00000801 for labels or 00000803 for images")
    begin = 4 + 4 * num_dimensions
    shape = [int.from_bytes(data[place : place + 4]) for place in range(4, begin, 4)]
    if len(data) != (length := begin + math.prod(shape)):
        raise ValueError(f"{len(data)} bytes instead of {length}")
    if length == begin:
        raise ValueError("it holds nothing")
    # Unsigned: as int8, ink brighter than 127 would be darker than black.
    return np.frombuffer(data, np.uint8, offset=begin).reshape(shape)


# --- the cache ------------------------------------------------------------------------------------------------------


def _cached(folder: Path, name: str) -> np.ndarray:
    """A file of MNIST from the cache, else downloaded to it; what is damaged there is replaced."""
    for path in _names(folder, name):
        try:
            return parse_idx(_original(name, path.read_bytes()))
        except (OSError, ValueError):
            continue
    data = _download(name)
    # Under a name of its own until it is whole: another process may download the same file now.
    partial = folder / f"{name}.{secrets.token_hex(4)}.partial"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.replace(folder / name)
        finally:
            partial.unlink(missing_ok=True)
    return parse_idx(data)


def _original(name: str, data: bytes) -> bytes:
    """Unpacked data if it is what MNIST has under this name.

    Raises:
      ValueError: it is not.
    """
    data = unpacked(data)
    if (found := hashlib.md5(data, usedforsecurity=False).hexdigest()) != MD5[name]:
        raise ValueError(f"its checksum is {found} instead of {MD5[name]}")
    return data


def _download(name: str) -> bytes:
    """A file of MNIST, unpacked, from the first mirror that has it."""
    faults = []
    with doing(f"downloading {name} of MNIST"):
        for mirror in MIRRORS:
            try:
                with urllib.request.urlopen(f"{mirror}/{name}.gz", timeout=TIMEOUT) as answer:
                    return _original(name, answer.read())
            except (OSError, ValueError, http.client.HTTPException) as error:
                faults.append(f"{mirror}: {one_line(error) or type(error).__name__}")
    raise UsageError(f"MNIST is not here and cannot be downloaded ({'; '.join(faults)}); {_FIX}")
