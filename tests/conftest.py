"""Settings that must stand before JAX is imported: how tests compile, and where compiled programs are kept between runs."""

import importlib.metadata
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxrl" / "tests"

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
# Messages name the command as it must be typed: with the package's own on PATH that is `jaxrl`.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts a command with `&` so, and processes inherit it: no test of an interrupt would ever end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_quick(config: pytest.Config) -> bool:
    """Tests compile much and run little, so most of XLA's optimizations are left out, but not with the longer tests."""
    return "slow or not slow" not in config.option.markexpr


def pytest_configure(config: pytest.Config) -> None:
    if _is_quick(config) and importlib.metadata.version("jaxlib").startswith("0.10."):
        # XLA's older code generator compiles in half the time. XLA ends the process at a flag that it does not know.
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longer tests have half an hour each."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(1800))


_DRAWN: list[bytes] = []


def _draw_once(folders: Sequence[Path], out: Path) -> None:
    """Curves take half a second: after the first run of a process, others have its picture.

    Tests of a run's own picture set `jaxrl.runs.train.plot_runs` to that of `jaxrl.analysis.curves`.
    """
    from jaxrl.analysis.curves import plot_runs

    if not _DRAWN:
        plot_runs(folders, out)
        _DRAWN.append(Path(out).read_bytes())
    Path(out).write_bytes(_DRAWN[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tests marked `optimized` have the optimizations of programs that run long or are measured.

    A command called in this process may set environment variables; those of the next test are as they were.
    """
    import jax

    from jaxrl.records import console

    before = dict(os.environ)
    console.QUIET_SECONDS = 60.0  # What is said of long waits does not depend on how busy this machine is.
    quick = _is_quick(item.config) and item.get_closest_marker("optimized") is None
    jax.config.update("jax_disable_most_optimizations", quick)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(quick))  # Of processes that a test starts.
    if "jaxrl.runs.prepare" in sys.modules:
        sys.modules["jaxrl.runs.prepare"].KEPT.clear()  # Tests change what programs are made of.
    if (runs := sys.modules.get("jaxrl.runs.train")) is not None:
        vars(runs)["plot_runs"] = _draw_once if quick else sys.modules["jaxrl.analysis.curves"].plot_runs
    result = yield
    os.environ.clear()
    os.environ.update(before)
    return result


@pytest.fixture(scope="module")
def no_report() -> Iterator[None]:
    """Sweeps end without their report, which is drawn for seconds."""
    import jax

    from jaxrl.sweeps import driver

    jax.devices()  # A sweep in Python makes a device of each core, unless JAX has started.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "write_report", lambda folder: None)
        yield
