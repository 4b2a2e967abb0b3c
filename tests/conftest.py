"""Settings that must stand before JAX is imported: compiled programs are kept between test runs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrl" / "tests"

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts a command with `&` so, and processes inherit it: no test of an interrupt would ever end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tests compile much and run little: without most of XLA's optimizations they take half the time.

    Tests marked `optimized`, and all with the longer ones (`make test-all`), have programs as users have them.
    """
    import jax

    quick = "slow or not slow" not in item.config.option.markexpr and item.get_closest_marker("optimized") is None
    jax.config.update("jax_disable_most_optimizations", quick)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))  # Of processes that a test starts.
    return (yield)
