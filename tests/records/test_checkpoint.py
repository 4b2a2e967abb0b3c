"""Checkpoints under any name, read back when they are written, and passed over when they are damaged."""

import contextlib
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import DiskError
from jaxrl.records import checkpoint

STATE = {"x": jnp.arange(3)}
SHAPES = {"x": jnp.zeros(3, int)}
META = {"steps": int, "seconds": float}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints 1 and 2; tests change copies of them only."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for iteration in (1, 2):
        checkpoint.save(folder, iteration, {"x": jnp.arange(3) + iteration}, {"steps": iteration, "seconds": 0.5})
    return folder


def restored(folder):
    """Iteration of the checkpoint that is used, and the lines that were said."""
    said = []
    found = checkpoint.restore(folder, lambda meta: SHAPES, said.append, meta_types=META)
    return found and found.meta["steps"], said


@pytest.mark.parametrize("name", ["hidden=[64,64]", "a\\b", os.fsdecode(b"\xff*?")])
def test_a_folder_of_any_name_holds_checkpoints(tmp_path, name):
    folder = tmp_path / name
    checkpoint.save(folder, 5, STATE, {})
    found = checkpoint.restore(folder, lambda meta: SHAPES, pytest.fail)
    np.testing.assert_array_equal(found.state["x"], [0, 1, 2])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_keys_are_read_back_by_their_shapes_alone(tmp_path, impl):
    key = jax.random.key(7, impl=impl)
    checkpoint.save(tmp_path, 5, {"key": key}, {})
    shapes = jax.eval_shape(lambda: {"key": jax.random.key(0, impl=impl)})
    found = checkpoint.restore(tmp_path, lambda meta: shapes, pytest.fail).state["key"]
    assert found.dtype == key.dtype and jax.random.bits(found) == jax.random.bits(key)


def test_a_checkpoint_that_cannot_be_read_back_is_not_kept(tmp_path, monkeypatch):
    """Orbax leaves arrays unmerged where the folder's name is a pattern."""
    monkeypatch.setattr(checkpoint, "_plain", contextlib.nullcontext)
    with pytest.raises(DiskError, match="was written but cannot be read back"):
        checkpoint.save(tmp_path / "[64]", 5, STATE, {})
    assert checkpoint.iterations(tmp_path / "[64]") == []


def test_the_first_checkpoint_of_a_folder_is_read_back_and_later_ones_are_not(tmp_path, monkeypatch):
    read, count = checkpoint._read, []
    monkeypatch.setattr(checkpoint, "_read", lambda *given: count.append(given) or read(*given))
    for iteration in (1, 2, 3):
        checkpoint.save(tmp_path, iteration, STATE, {})
    assert len(count) == 1


def test_names_that_are_no_iterations_are_passed_over(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "copy")
    for name in ("²", "٣", "007", "-1", "1e3", "partial-9"):
        (folder / name).mkdir()
    (folder / "9").write_text("a file")
    assert checkpoint.iterations(folder) == [2, 1]
    assert restored(folder) == (2, [])


def changed(**values):
    return lambda manifest: manifest | values


def with_meta(**values):
    return lambda manifest: manifest | {"meta": manifest["meta"] | values}


@pytest.mark.parametrize(
    "craft",
    {
        "a list": lambda manifest: [1, 2],
        "no sums": lambda manifest: {"meta": manifest["meta"]},
        "no meta": lambda manifest: {"files": manifest["files"]},
        "files as a list": changed(files=["state/_METADATA"]),
        "files without arrays": changed(files={}),
        "a sum that is no text": lambda manifest: manifest | {"files": dict.fromkeys(manifest["files"], 3)},
        "a file elsewhere": lambda manifest: manifest | {"files": manifest["files"] | {"../../2/manifest.json": "0"}},
        "a whole path": lambda manifest: manifest | {"files": manifest["files"] | {"/etc/passwd": "0"}},
        "meta as a text": changed(meta="steps"),
        "meta without a name": changed(meta={"steps": 2}),
        "steps as a text": with_meta(steps="2"),
        "negative steps": with_meta(steps=-1),
        "steps as a bool": with_meta(steps=True),
        "seconds that are no number": with_meta(seconds=float("nan")),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_manifest_that_says_something_else_means_the_checkpoint_before(two, tmp_path, craft):
    folder = shutil.copytree(two, tmp_path / "copy")
    path = folder / "2" / "manifest.json"
    path.write_text(json.dumps(craft[1](json.loads(path.read_text()))))
    used, (line,) = restored(folder)
    assert used == 1
    assert line.startswith(f"checkpoint {folder / '2'} is damaged (")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"meta": '], ids=["empty", "bytes", "deep", "cut"])
def test_a_manifest_that_cannot_be_read_means_the_checkpoint_before(two, tmp_path, content):
    folder = shutil.copytree(two, tmp_path / "copy")
    (folder / "2" / "manifest.json").write_bytes(content)
    assert restored(folder)[0] == 1


def test_a_folder_in_the_place_of_a_manifest_means_the_checkpoint_before(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "copy")
    (folder / "2" / "manifest.json").unlink()
    (folder / "2" / "manifest.json").mkdir()
    assert restored(folder)[0] == 1


def test_a_checkpoint_that_is_removed_while_it_is_read_is_not_called_damaged(two, tmp_path, monkeypatch):
    """A process that trains goes on while another one reads."""
    folder, read = shutil.copytree(two, tmp_path / "copy"), checkpoint._read

    def late(path, target):
        if path.name == "2":
            path.rename(folder / "3")
        return read(path, target)

    monkeypatch.setattr(checkpoint, "_read", late)
    assert restored(folder) == (2, [])
