"""Settings that must stand before JAX is imported: compiled programs are kept between test runs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax"

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.fixture(scope="module")
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module that compiles much and runs little leaves out most of XLA's optimizations and takes half the time.

    With the longer tests (`make test-all`) its programs are optimized as anywhere else.
    """
    import jax

    quick = "slow or not slow" not in request.config.option.markexpr
    jax.config.update("jax_disable_most_optimizations", quick)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(int(quick)))  # Of processes that a test starts.
        yield
    jax.config.update("jax_disable_most_optimizations", False)
