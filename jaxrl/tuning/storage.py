"""The database of a hyperparameter search: opened, and what it says against that is one line.

with quiet(), storage_errors("study.db"):
    storage = open_storage("sqlite:///study.db")
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxrl.errors import DiskError, UsageError, one_line
from jaxrl.tuning.definition import Tuning

HEARTBEAT, GRACE = 20, 120
"""Seconds between signs of life of a trial, and without one until another process takes it for dead."""
_NUM_OPENINGS = 5


def open_own_storage(tuning: Tuning, folder: Path) -> Any:
    """The database of a search.

    Raises:
      UsageError: it cannot be opened, or is lost.
    """
    if tuning.storage is not None:
        return open_storage(tuning.storage)
    file = folder / "study.db"
    if (folder / "trials.csv").exists() and not (file.exists() and file.stat().st_size):
        raise UsageError(f"{file}, where the trials of this search are, is missing or empty; search again in another folder")
    return open_storage("sqlite:///study.db", file)


def open_storage(url: str, file: Path | None = None) -> Any:
    """The database of a URL, made where it does not exist.

    Args:
      file: that the database of SQLite is, whatever its name; a URL could not hold every name.

    Raises:
      UsageError: it cannot be opened; a password in the URL is not shown.
    """
    from optuna.storages import RDBStorage

    arguments: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    shown, fix = f"storage={_hide_password(url)!r}", "give a URL such as sqlite:///FILE or postgresql://HOST/NAME"
    if file is not None:
        arguments = {"creator": lambda: sqlite3.connect(file, timeout=60, check_same_thread=False)}
        shown, fix = str(file), f"the search has to be made again; its trials are in {file.parent / 'trials.csv'}"
    for attempt in range(_NUM_OPENINGS):
        try:
            with quiet():
                return RDBStorage(url, engine_kwargs=arguments, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
        except Exception as error:  # Every database driver has errors of its own.
            what = _hide_password(" ".join(str(error).split())[:200])
            if attempt + 1 == _NUM_OPENINGS or not re.search("exists|unique|locked", what, re.IGNORECASE):
                raise UsageError(f"{shown} cannot be opened ({what}); {fix}") from None
        time.sleep(0.5)  # Another process makes the tables at this moment.
    raise AssertionError("unreachable")


@contextlib.contextmanager
def storage_errors(shown: str) -> Iterator[None]:
    """Raises what a database says while it is used as one line: `DiskError`."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        what = _hide_password(one_line(error)[:200])
        raise DiskError(f"{shown} cannot be read or written ({what})") from error


def _hide_password(text: str) -> str:
    return re.sub(r"(://[^:@/\s]*):[^@\s]*@", r"\1:***@", text)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing of its own."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        warnings.filterwarnings("ignore", message="The reported value is ignored")  # A process before this one told it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)
