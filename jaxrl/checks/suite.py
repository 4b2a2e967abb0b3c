"""A suite of checks and its report: a line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.records.console import doing
from jaxrl.types import PyTree


class Broken(AssertionError):
    """A promise that is not kept: one line that says what came and what should have."""


class Check(NamedTuple):
    """A promise and how it is tried.

    Attributes:
      promise: in one line.
      run: () -> None, or a word on why there was nothing to try; raises `Broken` where it is not kept, and
        `jaxrl.errors.ContractError` or `OwnCodeError` where it cannot be tried.
      is_first: nothing behind it can be tried where it is broken.
    """

    promise: str
    run: Callable[[], str | None]
    is_first: bool = False


class Finding(NamedTuple):
    """What came of a check; `error` is None where the promise holds, `note` says why there was nothing to try."""

    promise: str
    error: Exception | None
    note: str | None


def findings(checks: Iterable[Check], kinds: tuple[type[Exception], ...]) -> Iterable[Finding]:
    """Tries one after another; errors that are not of these kinds are raised."""
    for check in checks:
        try:
            with doing(f"checking: {check.promise}"):
                note, error = check.run(), None
        except kinds as found:
            note, error = None, found
        yield Finding(check.promise, error, note)
        if error is not None and check.is_first:
            return


def same_bits(what: str, a: PyTree, b: PyTree) -> None:
    """Compares two trees bit for bit.

    Raises:
      Broken: naming the first leaf that differs.
    """
    _compare(what, a, b, lambda x, y: np.array_equal(x, y, equal_nan=np.issubdtype(x.dtype, np.inexact)))


def close(what: str, a: PyTree, b: PyTree) -> None:
    """Compares within the tolerance that different programs for the same computation are allowed; errors as of `same_bits`."""
    _compare(what, a, b, lambda x, y: np.allclose(x.astype(float), y.astype(float), 1e-4, 1e-5, equal_nan=True))


def as_numbers(value: Any) -> np.ndarray:
    """An array on the host; typed keys, which NumPy has not, as their data."""
    is_key = hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(value) if is_key else value)


def _compare(what: str, a: PyTree, b: PyTree, equal: Callable[[Any, Any], bool]) -> None:
    ours, theirs = jax.tree.leaves_with_path(a), jax.tree.leaves(b)
    if len(ours) != len(theirs):
        raise Broken(f"{what}: {len(ours)} arrays against {len(theirs)}")
    for (path, x), y in zip(ours, theirs, strict=True):
        x, y = as_numbers(x), as_numbers(y)
        if x.shape != y.shape or not equal(x, y):
            place = tuple(np.argwhere(x != y)[0]) if x.shape == y.shape and x.ndim else ()
            values = f"{x[place]} against {y[place]}" if x.shape == y.shape else f"shape {x.shape} against {y.shape}"
            raise Broken(f"{what}: {jax.tree_util.keystr(path) or 'the array'} differs, {values}")
