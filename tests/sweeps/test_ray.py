"""Sweeps on Ray: the results of the local executor, whatever happens to workers."""

from __future__ import annotations

import _thread
import contextlib
import csv
import dataclasses
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray

from jaxrl.agents.value.dqn import DQNConfig
from jaxrl.drivers.memory import num_bytes
from jaxrl.errors import UsageError
from jaxrl.records.checkpoint import damage
from jaxrl.records.files import write_json
from jaxrl.runs.definition import to_values
from jaxrl.sweeps import driver, plan
from jaxrl.sweeps.outcome import unit_folder
from jaxrl.sweeps.plan import Sweep, make_groups
from jaxrl.sweeps.ray_executor import _RayWorker, lock, ray_executor
from jaxrl.sweeps.unit import DoesNotFitError, Unit, Workers, untold

pytestmark = [
    pytest.mark.usefixtures("no_report"),
    pytest.mark.filterwarnings("ignore:os.fork"),  # Ray starts its processes with fork and exec
]
RATES = (1e-3, 1e-2)
SWEEP = Sweep(
    agent="dqn",
    env="gridworld/slippery",
    config=DQNConfig(hidden=(16,), capacity=256, batch_size=16, learning_starts=300),
    fields=("learning_rate", "hidden"),
    configs=tuple({"learning_rate": rate, "hidden": hidden} for hidden in ((16,), (8,)) for rate in RATES),
    seeds=(0, 1),
    total_steps=1500,
    eval_episodes=4,
    num_rows=10,
    checkpoint_seconds=0.0,
    batching="serial",
    memory_limit=10**9,
)
RAY_SWEEP = dataclasses.replace(SWEEP, executor="ray")
LIMIT = 1.5
"""Bytes that a unit of `few_bytes` may take, in states of one run."""


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
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=2, num_gpus=0, object_store_memory=100 * 2**20, **options)
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def few_bytes(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Workers]]:
    """A sweep's folder and its workers, with memory for one run each."""
    folder = tmp_path_factory.mktemp("few_bytes")
    sweep = dataclasses.replace(RAY_SWEEP, memory_limit=int(LIMIT * num_bytes(make_groups(SWEEP)[0].shapes)))
    write_json(folder / "sweep.json", to_values(sweep))
    with ray_executor(sweep, folder, untold) as workers:
        yield folder, workers


def unit(name: str, capacity: int) -> Unit:
    """A few iterations of the first run."""
    return Unit(name, 0, (0,), (SWEEP.configs[0],), None, 0, 15, capacity, False)


def results(folder: Path) -> list[dict[str, str]]:
    """Rows of the results without wall clocks."""
    with (folder / "results.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "wall_seconds"} for row in csv.DictReader(file)]


def amid_a_unit(folder: Path, action: Callable[[int], None]) -> None:
    """Calls `action(pid)` once a worker that begins after this call is at a unit that has a checkpoint."""
    begun = time.time()

    def at_work(path: Path) -> bool:
        return path.stat().st_mtime > begun and any(path.parent.glob("checkpoints/[0-9]*/manifest.json"))

    def watch() -> None:
        while True:
            for path in folder.glob("state/*/lock"):
                if at_work(path) and not path.with_name("outcome.json").exists():
                    return action(int(path.read_text().split()[1]))
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()


class Interrupted(NamedTuple):
    """A sweep that was interrupted amid a unit.

    Attributes:
      folder: of the sweep.
      seconds: until it ended.
      damaged: checkpoints that are not whole.
      kept: number of checkpoints.
      told: what was written to standard error.
      is_left: whether Ray was as before.
    """

    folder: Path
    seconds: float
    damaged: list[Path]
    kept: int
    told: str
    is_left: bool


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    folder, moments = tmp_path_factory.mktemp("ray") / "sweep", []

    def interrupt(pid: int) -> None:
        moments.append(time.monotonic())
        _thread.interrupt_main()

    handler, told = signal.getsignal(signal.SIGTERM), io.StringIO()
    amid_a_unit(folder, interrupt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0, 1})  # the number of cores decides the number of batches
        with contextlib.redirect_stderr(told), pytest.raises(KeyboardInterrupt):
            driver.start(RAY_SWEEP, folder)
    seconds = time.monotonic() - moments[0]
    kept = list(folder.glob("state/*/checkpoints/[0-9]*"))
    damaged = [path for path in kept if damage(path)]
    is_left = not ray.is_initialized() and signal.getsignal(signal.SIGTERM) is handler
    return Interrupted(folder, seconds, damaged, len(kept), told.getvalue(), is_left)


@pytest.mark.slow
def test_an_interrupt_ends_the_cluster_soon_and_keeps_checkpoints(interrupted: Interrupted) -> None:
    assert interrupted.seconds < 10
    assert interrupted.kept and not interrupted.damaged
    assert "started Ray on this machine" in interrupted.told and interrupted.is_left


@pytest.mark.parametrize("is_interrupted", [pytest.param(True, marks=pytest.mark.slow), False], ids=["interrupted", "new"])
def test_an_interrupt_and_a_killed_worker_change_no_result(
    local: Path,
    cluster: None,
    is_interrupted: bool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, killed = tmp_path / "sweep", list[int]()

    def kill(pid: int) -> None:
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)

    if is_interrupted:
        folder = request.getfixturevalue("interrupted").folder
        amid_a_unit(folder, kill)
        summary = driver.resume(folder)
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        amid_a_unit(folder, kill)
        summary = driver.start(RAY_SWEEP, folder)
    assert len(killed) == 1 and killed[0] != os.getpid()
    assert len(results(local)) == 8
    assert results(folder) == results(local)
    assert (folder / "curves.csv").read_text() == (local / "curves.csv").read_text()
    assert summary["groups"] == 2 and summary["batches"] == 4
    told = capsys.readouterr().err
    assert f"the Ray worker with pid {killed[0]} on" in told and "another one goes on from the last checkpoint" in told
    assert told.count("died") == 1
    assert "12,000 of 12,000 env steps" in told
    assert ray.is_initialized()


def test_a_program_that_does_not_fit_is_told_to_the_planner(few_bytes: tuple[Path, Workers]) -> None:
    _, workers = few_bytes
    assert workers[1:] == (2, 1, workers.limit, "serial")
    with pytest.raises(DoesNotFitError) as raised:
        workers.execute([unit("large", 3)])
    assert (raised.value.group, raised.value.capacity) == (0, 1)


def test_a_unit_that_another_process_holds_is_waited_for(
    few_bytes: tuple[Path, Workers], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, workers = few_bytes
    unit_folder(folder, "held").mkdir(parents=True)
    with contextlib.ExitStack() as held:
        assert held.enter_context(lock(unit_folder(folder, "held") / "lock", f"pid {os.getpid()} on this machine")) is None
        threading.Timer(2, held.pop_all().close).start()
        outcomes = workers.execute([unit("held", 1)])
    assert outcomes[0]["reports"][0]["env_steps"] == 150
    assert capsys.readouterr().err.count(f"held is still worked on by pid {os.getpid()} on") == 1


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
