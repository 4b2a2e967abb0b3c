"""Image data sets: idx files of a user's folder, of the cache, and from mirrors that are made up here."""

import gzip
import hashlib
import http.client
import io
import urllib.error

import numpy as np
import pytest

from helpers import idx
from jaxrl.envs.tools import datasets
from jaxrl.envs.tools.datasets import MD5, mnist, read_idx
from jaxrl.errors import DiskError, UsageError

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = MD5


def pixels(number, size=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, size, size), np.uint8)


ARRAYS = {IMAGES: pixels(12), LABELS: np.arange(12) % 10, TEST_IMAGES: pixels(5, seed=1), TEST_LABELS: np.arange(5)}


def write(folder, pack=lambda data: data, end="", **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in {**ARRAYS, **arrays}.items():
        (folder / f"{name}{end}").write_bytes(pack(idx(array)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that `JAXRL_DATA_DIR` names; no mirror answers."""
    monkeypatch.setenv("JAXRL_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(datasets.urllib.request, "urlopen", lambda url, timeout: pytest.fail(f"asked for {url}"))
    return tmp_path


def assert_is_ours(found):
    for array, wanted in zip(found, ARRAYS.values(), strict=True):
        np.testing.assert_array_equal(array, wanted)
        assert array.dtype == np.uint8 and not array.flags.writeable


def one_line_of(call, *arguments):
    with pytest.raises(UsageError) as error:
        call(*arguments)
    assert "\n" not in str(error.value) and "; " in str(error.value)
    return str(error.value)


# --- a folder of the user's -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "mnist"])
@pytest.mark.parametrize(("pack", "end"), [(bytes, ""), (gzip.compress, ".gz"), (gzip.compress, ""), (bytes, ".gz")])
def test_four_files_are_read_packed_or_not_from_the_folder_or_its_mnist(folder, place, pack, end):
    write(folder / place, pack, end)
    assert_is_ours(mnist())


def test_a_data_set_is_read_once_in_a_process(folder):
    write(folder)
    first = mnist()
    (folder / IMAGES).unlink()
    assert mnist().train_images is first.train_images


def test_bright_pixels_stay_bright(folder):
    image = np.array([[0, 127], [128, 200]])
    write(folder, **{IMAGES: np.stack([image] * 12), TEST_IMAGES: np.full((5, 2, 2), 255)})
    assert mnist().train_images[0].tolist() == [[0, 127], [128, 200]]
    assert mnist().test_images.astype(float).mean() == 255.0


def test_a_folder_without_the_files_is_one_line_that_names_them(folder):
    write(folder)
    (folder / TEST_LABELS).unlink()
    line = one_line_of(mnist)
    assert line.startswith(f"JAXRL_DATA_DIR={str(folder)!r} has no t10k-labels-idx1-ubyte (or t10k-labels-idx1-ubyte.gz)")
    assert all(name in line for name in MD5)


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({IMAGES: pixels(11)}, f"{IMAGES} holds 11 images, {LABELS} 12 labels"),
        ({TEST_LABELS: np.arange(4)}, f"{TEST_IMAGES} holds 5 images, {TEST_LABELS} 4 labels"),
        ({LABELS: np.arange(12)}, f"{LABELS} holds the label 11, above 9"),
        ({IMAGES: np.zeros((12, 4, 3))}, f"{IMAGES} holds an array of 12x4x3 instead of square images"),
        ({IMAGES: np.zeros(12)}, f"{IMAGES} holds an array of 12 instead of square images"),
        ({LABELS: pixels(12)}, f"{LABELS} holds an array of 12x4x4 instead of labels"),
        ({TEST_IMAGES: pixels(5, size=6)}, f"{TEST_IMAGES} holds images of 6x6, {IMAGES} of 4x4"),
    ],
)
def test_files_that_do_not_belong_together_are_one_line(folder, arrays, what):
    write(folder, **arrays)
    assert one_line_of(mnist) == f"{folder}: {what}; put four files there that belong together"


# --- one file -------------------------------------------------------------------------------------------------------

WHOLE = idx(np.arange(12))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it begins with nothing instead of 00000801 for labels or 00000803 for images"),
        (b"\0\0\x08", "it begins with 000008 instead"),
        (b"<html>not found</html>", "it begins with 3c68746d instead"),
        (b"\0\0\x0d\1" + WHOLE[4:], "it begins with 00000d01 instead"),
        (b"\0\0\x08\3\0\0", "6 bytes instead of"),
        (WHOLE[:-1], "19 bytes instead of 20"),
        (WHOLE + b"\0", "21 bytes instead of 20"),
        (b"\0\0\x08\3" + b"\xff" * 12 + b"\1" * 4, "20 bytes instead of 79228162458924105385300197391"),
        (idx(np.zeros(0)), "it holds nothing"),
        (gzip.compress(WHOLE, mtime=0)[:-9], "what gzip packed cannot be unpacked"),
        (gzip.compress(WHOLE, mtime=0) + b"more", "what gzip packed cannot be unpacked"),
        (gzip.compress(WHOLE, mtime=0)[:-8] + bytes(8), "what gzip packed cannot be unpacked"),
        (b"\x1f\x8b", "what gzip packed cannot be unpacked"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, data, why):
    path = tmp_path / LABELS
    path.write_bytes(data)
    line = one_line_of(read_idx, path)
    assert line.startswith(f"{path} is damaged ({why}") and line.endswith("); put the original file in its place")


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path):
    (tmp_path / LABELS).mkdir()
    assert one_line_of(read_idx, tmp_path / LABELS).startswith(f"{tmp_path / LABELS} cannot be read (Is a directory); ")


# --- the cache and the mirrors --------------------------------------------------------------------------------------


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """What each mirror answers: a function of the file's name. `asked` holds the addresses; the cache is `tmp_path`'s."""

    class Mirrors:
        asked = ()
        first = second = staticmethod(lambda name: gzip.compress(idx(ARRAYS[name]), mtime=0))
        cache = tmp_path / "jaxrl" / "mnist"

        def open(self, url, timeout):
            assert url.startswith("https://") and url.endswith(".gz") and 0 < timeout <= 60
            self.asked += (url,)
            answer = self.first if url.startswith(datasets.MIRRORS[0]) else self.second
            return io.BytesIO(answer(url.rpartition("/")[2].removesuffix(".gz")))

    monkeypatch.delenv("JAXRL_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(datasets, "MD5", {name: hashlib.md5(idx(array)).hexdigest() for name, array in ARRAYS.items()})
    made = Mirrors()
    monkeypatch.setattr(datasets.urllib.request, "urlopen", made.open)
    yield made
    assert not list(tmp_path.rglob("*.partial"))


def again():
    """As another process sees it."""
    datasets._mnist.cache_clear()
    return mnist()


def offline(name):
    raise urllib.error.URLError("no route to host")


def test_what_is_not_here_is_downloaded_once_and_kept(mirrors):
    assert_is_ours(mnist())
    assert mirrors.asked == tuple(f"{datasets.MIRRORS[0]}/{name}.gz" for name in MD5)
    assert {path.name for path in mirrors.cache.iterdir()} == set(MD5)
    assert_is_ours(again())
    assert len(mirrors.asked) == 4


def test_files_that_a_user_put_in_the_cache_are_taken(mirrors):
    write(mirrors.cache, gzip.compress, ".gz")
    assert_is_ours(mnist())
    assert not mirrors.asked


def cut_short(name):
    raise http.client.IncompleteRead(b"")


@pytest.mark.parametrize(
    "answer",
    [
        offline,
        cut_short,
        lambda name: b"<html>Sign in</html>",
        lambda name: gzip.compress(idx(ARRAYS[name]), mtime=0)[:-3],
        lambda name: gzip.compress(idx(ARRAYS[name] + 1), mtime=0),
    ],
    ids=["offline", "cut", "another page", "half", "other data"],
)
def test_a_mirror_that_fails_or_sends_something_else_is_passed_over(mirrors, answer):
    mirrors.first = answer
    assert_is_ours(mnist())
    assert len(mirrors.asked) == 8


def test_a_damaged_file_in_the_cache_is_downloaded_again(mirrors):
    mnist()
    (mirrors.cache / LABELS).write_bytes(idx(ARRAYS[LABELS])[:-1])
    assert_is_ours(again())
    assert len(mirrors.asked) == 5
    assert (mirrors.cache / LABELS).read_bytes() == idx(ARRAYS[LABELS])


def test_offline_is_one_line_that_says_where_to_put_which_files(mirrors):
    mirrors.first = mirrors.second = offline
    line = one_line_of(mnist)
    assert line.startswith("MNIST is not here and cannot be downloaded (https://") and line.count("no route to host") == 2
    assert "set JAXRL_DATA_DIR to a folder with" in line and all(name in line for name in MD5)
    assert not mirrors.cache.exists()


def test_a_download_that_no_mirror_has_whole_is_never_taken(mirrors):
    mirrors.first = mirrors.second = lambda name: gzip.compress(idx(ARRAYS[name])[:-1], mtime=0)
    assert "its checksum is" in one_line_of(mnist)
    assert not mirrors.cache.exists()


def test_two_processes_that_download_at_once_both_have_it(mirrors, monkeypatch):
    own, names = type(mirrors.cache).replace, []

    def replace(partial, path):
        # Between the other's writing and its renaming, this one does the whole.
        names.append(partial.name)
        if len(names) == 1:
            assert_is_ours(again())
        own(partial, path)

    monkeypatch.setattr(type(mirrors.cache), "replace", replace)
    assert_is_ours(mnist())
    assert len(set(names)) == len(names) == 5
    assert_is_ours(again())


def test_a_cache_that_cannot_be_written_is_one_line(mirrors):
    mirrors.cache.parent.write_text("a file in its place")
    with pytest.raises(DiskError, match="cannot be written"):
        mnist()


def test_the_checksums_and_names_are_of_the_original_files():
    # The published ones, of the unpacked files.
    assert [MD5[name][:8] for name in MD5] == ["6bbc9ace", "a25bea73", "2646ac64", "27ae3e4e"]
