"""Sweeps on Ray: the results of the local executor, whatever happens to workers."""

from __future__ import annotations

import _thread
import contextlib
import csv
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
import ray

from jaxrl import record
from jaxrl.agents.dqn import DQNConfig
from jaxrl.checkpoint import damage
from jaxrl.sweeps import driver, plan
from jaxrl.sweeps.plan import Sweep, make_groups, num_bytes
from jaxrl.sweeps.ray_executor import _RayWorker, lock, ray_executor
from jaxrl.sweeps.unit import DoesNotFitError, Unit, unit_folder
from jaxrl.types import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:os.fork")  # Ray starts its processes with fork and exec
RATES = (1e-4, 1e-3)
SWEEP = Sweep(
    agent="dqn",
    env="CartPole-v1",
    config=DQNConfig(hidden=(16,), capacity=256, batch_size=16, learning_starts=500),
    fields=("learning_rate", "double"),
    configs=tuple({"learning_rate": rate, "double": double} for double in (False, True) for rate in RATES),
    seeds=(0, 1),
    total_steps=2000,
    eval_episodes=4,
    num_rows=20,
    checkpoint_seconds=0.0,
    batching="serial",
    memory_limit=10**9,
)
RAY_SWEEP = dataclasses.replace(SWEEP, executor="ray")
UNIT = Unit("unit", 0, (0,), (SWEEP.configs[0],), None, 0, 20, 3, False)


@pytest.fixture(scope="module", autouse=True)
def same_compilation(quick_compilation: None) -> Iterator[None]:
    """Workers compile as this process does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(int(jax.config.read("jax_disable_most_optimizations"))))
        yield


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep by the local executor."""
    folder = tmp_path_factory.mktemp("local") / "sweep"
    driver.start(SWEEP, folder)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of two cores, to which this process is connected."""
    handler = signal.getsignal(signal.SIGTERM)
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=2, num_gpus=0, object_store_memory=100 * 2**20, **options)
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def prepared(sweep: Sweep, folder: Path) -> Iterator[driver.Workers]:
    """Workers of a sweep whose folder was begun."""
    record.write_json(folder / "sweep.json", driver.to_values(sweep))
    with ray_executor(sweep, folder, lambda num_steps, score: None) as workers:
        yield workers


def results(folder: Path) -> list[dict[str, str]]:
    """Rows of the results without wall clocks."""
    with (folder / "results.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "wall_seconds"} for row in csv.DictReader(file)]


def assert_same(folder: Path, local: Path) -> None:
    assert len(results(local)) == 8
    assert results(folder) == results(local)
    assert (folder / "curves.csv").read_text() == (local / "curves.csv").read_text()


def amid_a_unit(folder: Path, action: Callable[[int], None]) -> threading.Thread:
    """Calls `action(pid)` once a unit of the sweep in `folder` has a checkpoint and is not done."""

    def watch() -> None:
        while True:
            for path in folder.glob("state/*/checkpoints/*/manifest.json"):
                unit = path.parents[2]
                if path.parent.name.isdigit() and not (unit / "outcome.json").exists():
                    return action(int((unit / "lock").read_text().split()[1]))
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_an_interrupted_sweep_ends_soon_and_goes_on(
    local: Path, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It begins on a cluster of its own, which ends with it, and goes on on another."""
    folder, interrupted = tmp_path / "sweep", []

    def interrupt(pid: int) -> None:
        interrupted.append(time.monotonic())
        _thread.interrupt_main()

    handler = signal.getsignal(signal.SIGTERM)
    amid_a_unit(folder, interrupt)
    with pytest.raises(KeyboardInterrupt):
        driver.start(RAY_SWEEP, folder)
    assert time.monotonic() - interrupted[0] < 10
    assert not ray.is_initialized() and signal.getsignal(signal.SIGTERM) is handler
    assert "started Ray on this machine" in capsys.readouterr().err
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("state/*/checkpoints/[0-9]*")}
    assert kept and not any(damage(path) for path in kept)
    request.getfixturevalue("cluster")
    driver.resume(folder)
    assert_same(folder, local)


def test_a_killed_worker_changes_nothing(
    local: Path, cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []

    def kill(pid: int) -> None:
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)

    watcher = amid_a_unit(tmp_path / "sweep", kill)
    summary = driver.start(RAY_SWEEP, tmp_path / "sweep")
    watcher.join(timeout=1)
    assert len(killed) == 1 and killed[0] != os.getpid()
    assert_same(tmp_path / "sweep", local)
    assert summary["groups"] == 2 and summary["batches"] == 4
    told = capsys.readouterr().err
    assert f"the Ray worker with pid {killed[0]} on" in told and "another one goes on from the last checkpoint" in told
    assert told.count("died") == 1
    assert "16,000 of 16,000 env steps" in told
    assert ray.is_initialized()


def test_a_program_that_does_not_fit_is_cut_by_the_planner(cluster: None, tmp_path: Path) -> None:
    limit = int(1.5 * num_bytes(make_groups(SWEEP)[0].shapes))
    with prepared(dataclasses.replace(RAY_SWEEP, memory_limit=limit), tmp_path) as workers:
        assert workers[1:] == (2, 1, limit, "serial")
        with pytest.raises(DoesNotFitError) as raised:
            workers.execute([UNIT])
    assert (raised.value.group, raised.value.capacity) == (0, 1)


def test_a_unit_that_another_process_holds_is_waited_for(
    cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with prepared(RAY_SWEEP, tmp_path) as workers, contextlib.ExitStack() as held:
        assert held.enter_context(lock(unit_folder(tmp_path, "unit"))) is None
        threading.Timer(3, held.pop_all().close).start()
        outcomes = workers.execute([UNIT])
    assert outcomes[0]["runs"] == (0,) and outcomes[0]["reports"][0]["env_steps"] == 200
    told = capsys.readouterr().err
    assert told.count(f"unit is still worked on by pid {os.getpid()} on") == 1


def test_an_address_without_a_cluster_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UsageError, match=r"RAY_ADDRESS='127.0.0.1:1' leads to no cluster .*; give the address of a running"):
        driver.start(RAY_SWEEP, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_folder_that_a_worker_does_not_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out=.* is not seen by the Ray worker on .*; give a folder that all machines share"):
        _RayWorker(str(tmp_path), ()).begin()


def test_a_missing_package_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"executor='ray' needs the package ray; pip install 'jaxrl\[ray\]'"):
        driver.start(RAY_SWEEP, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()
