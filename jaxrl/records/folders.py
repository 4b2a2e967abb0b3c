"""Folders that runs, sweeps and searches are written into: their names, and who works on them.

    with new_folder(Path("runs/mine"), "run", "config.json"):     # or alone(folder), where it is there already
        ...                                                       # a second process is refused

The lock is the system's, on the file `.lock`: it ends with the process that holds it, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxrl.errors import UsageError
from jaxrl.records.console import say
from jaxrl.records.files import writing
from jaxrl.startup import command

LOCK = ".lock"


def check_folder(name: str, folder: Path) -> None:
    """Checks that a folder's name is one.

    Raises:
      UsageError: naming the option `name`: no file system or no terminal takes it, or the current folder is gone.
    """
    shown = str(folder).encode("utf-8", "backslashreplace").decode()
    if shown != str(folder) or "\0" in shown:
        raise UsageError(f"{name}={shown!r} is no text that can be shown; give another name")
    try:
        folder.absolute().exists()
    except FileNotFoundError:
        raise UsageError(f"{name}={shown}: the current folder is gone; go to another one") from None
    except OSError as error:
        raise UsageError(f"{name}={shown[:100]} cannot be used ({error.strerror}); give another folder") from None


def check_places(folder: Path, files: Sequence[str] = (), folders: Sequence[str] = ()) -> None:
    """Checks that nothing stands where files and folders of our own are to be written.

    Raises:
      UsageError: a folder where a file is to be, or the other way round.
    """
    for path in (folder / name for name in files):
        if path.is_dir():
            raise UsageError(f"{path} is a folder where a file is to be; remove it")
    for path in (folder / name for name in folders):
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is no folder; remove it")


@contextlib.contextmanager
def new_folder(folder: Path, what: str = "", file: str | None = None) -> Iterator[None]:
    """Makes an empty folder, in which this process works alone.

    Args:
      what, file: a run with its `config.json`, for example, which `jaxrl resume` would go on with; none of what it would not.

    Raises:
      UsageError: it already holds something, another process works on it, or it cannot be written.
    """
    check_folder("out", folder)
    _check_empty(folder, what, file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"out={folder} cannot be written ({error.strerror}); give another folder") from None
    with alone(folder):
        _check_empty(folder, what, file)
        yield


def _check_empty(folder: Path, what: str, file: str | None) -> None:
    if file is not None and (folder / file).exists():
        raise UsageError(
            f"out={folder} already holds a {what}; give another folder, or go on with: {command('resume', folder)}"
        )
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise UsageError(f"out={folder} is not empty; give another folder")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes this the only process that works on a folder; others may read it.

    Raises:
      UsageError: another one does.
    """
    with lock(folder / LOCK, f"process {os.getpid()} on {socket.gethostname()}", required=False) as holder:
        if holder is not None:
            raise UsageError(f"{folder} is worked on by {holder}; wait for its end, or end it")
        yield


_HELD: set[int] = set()
"""Descriptors of the locks that this process holds; a fork of it would keep them beyond its end."""


def _release_in_fork() -> None:
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_release_in_fork)


@contextlib.contextmanager
def lock(path: Path, holder: str, required: bool = True) -> Iterator[str | None]:
    """Holds the lock of a file, unless another process does; the system releases it when the process ends.

    Args:
      holder: what this process says of itself in the file, which stays; what counts is the system's lock on it.
      required: whether to refuse a file system that cannot lock; else the user is told.

    Returns:
      None, or what the process that holds the lock said of itself.

    Raises:
      UsageError: the file cannot be written, or the file system cannot lock.
    """
    try:
        file = path.open("a+b", buffering=0)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}); make its folder writable or give another") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            yield file.read(200).decode(errors="replace") or "another process"
            return
        except OSError as error:
            if required:
                raise UsageError(f"{path.parent} is on a file system without locks ({error.strerror}); give another") from None
            say(f"{path.parent} is on a file system without locks ({error.strerror}): let no other process work on it")
        _HELD.add(file.fileno())
        try:
            with writing(path):
                file.truncate(0)
                file.write(holder.encode())
            yield None
        finally:
            _HELD.discard(file.fileno())
