"""Units of a sweep on a Ray cluster: one worker for each GPU, or for each CPU core where there is no GPU.

The cluster is the one that Ray is connected to already, that `RAY_ADDRESS` names, or one that is started on this machine for
the sweep. JAX_PLATFORMS=cpu keeps to cores where there are GPUs too. jaxrl must be installed on every machine, and the sweep's
folder must be on a file system that all of them share and that can lock files (a local disk, NFS): units, checkpoints and
outcomes travel through it, and nothing else does.

Workers are actors, so that each keeps its device and its compiled programs from unit to unit. When one dies another takes its
place and its unit goes on from the last checkpoint. A unit's folder is locked by the process that works on it; the system
releases the lock when that process ends, so a worker that is only thought dead is waited for and never raced.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ray
from ray.exceptions import RayError, RayTaskError

from jaxrl.drivers.memory import batch_limit
from jaxrl.errors import EnvError, UsageError
from jaxrl.interrupts import held_back, never
from jaxrl.records.console import doing, say
from jaxrl.records.files import read_json, write_json
from jaxrl.records.folders import lock
from jaxrl.startup import ONE_CORE, command
from jaxrl.sweeps.outcome import read_outcome, unit_folder
from jaxrl.sweeps.plan import Sweep, make_groups
from jaxrl.sweeps.population import choose_batching
from jaxrl.sweeps.progress import Rows
from jaxrl.sweeps.store import read_sweep
from jaxrl.sweeps.task import work
from jaxrl.sweeps.unit import DoesNotFitError, ProgressCallback, Unit, Worker, Workers, untold

POLL_SECONDS = 0.5
"""Between looks at how far units have come."""

MAX_DEATHS = 3
"""Workers that may die in a row at one unit without any progress."""

PATIENCE_SECONDS = 60
"""Between lines that say that no worker has begun."""

_STORE_BYTES = 100 * 2**20
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


@contextlib.contextmanager
def ray_executor(
    sweep: Sweep, folder: Path, progress: ProgressCallback, interrupted: Callable[[], bool] = never
) -> Iterator[Workers]:
    """Workers on a Ray cluster; they are gone at the end, and so is a cluster that was started for them.

    Raises:
      UsageError: the cluster cannot be reached, or its workers cannot start or do not see `folder`.
    """
    with _cluster():
        pool = _Pool(sweep, folder.resolve(), progress, interrupted)
        try:
            yield Workers(execute=pool.execute, num_devices=1, **pool.cut())
        finally:
            pool.close()


def check_cluster() -> None:
    """Checks quickly that someone answers at `RAY_ADDRESS`; Ray itself would try for minutes.

    Raises:
      UsageError: no one does.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if ray.is_initialized() or not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> UsageError:
    return UsageError(
        f"RAY_ADDRESS={address!r} leads to no cluster ({_line(error)}); give the address of a running one, or unset it"
    )


@contextlib.contextmanager
def _cluster() -> Iterator[None]:
    """Connects to a cluster, or starts one, and leaves it as it was found."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    on_terminate = signal.getsignal(signal.SIGTERM)
    if address:
        try:
            ray.init(address, **_QUIET)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from None
    else:
        cores = len(os.sched_getaffinity(0))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        with warnings.catch_warnings():
            # Ray starts its processes with fork and exec, which is safe; JAX warns of any fork.
            warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
            with doing("starting Ray on this machine"):
                ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=_STORE_BYTES, **_QUIET)
        say(f"started Ray on this machine with {cores} cores; set RAY_ADDRESS to use a cluster")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # which Ray has taken over
    try:
        yield
    finally:
        ray.shutdown()


# --- in a worker's process ------------------------------------------------------------------------------------------


class _RayWorker:
    """Works on units in a process of its own."""

    def __init__(self, folder: str, paths: Sequence[str]) -> None:
        sys.path += [path for path in paths if path not in sys.path]
        self.folder = Path(folder)
        self.worker: Worker | None = None
        self.signalled = never

    def begin(self) -> dict[str, Any]:
        """Checks that the sweep can be seen from here, and says what this worker is.

        Raises:
          UsageError: it cannot be seen.
        """
        host = socket.gethostname()
        if not (self.folder / "sweep.json").is_file():
            raise UsageError(
                f"out={self.folder} is not seen by the Ray worker on {host}; give a folder that all machines share"
            )
        share = batch_limit() // (os.cpu_count() or 1) if jax.default_backend() == "cpu" else batch_limit()
        return {"host": host, "pid": os.getpid(), "limit": share, "batching": choose_batching("auto")}

    def work(self, unit: Unit, limit: int) -> dict[str, Any]:
        """What came of a unit; or `held_by`, if another process is at work on it, None if it was interrupted and is to go on.

        Raises:
          DoesNotFitError: with a capacity that should fit.
        """
        if self.worker is None:
            sweep = read_sweep(self.folder)
            self.worker = Worker(sweep, make_groups(sweep), self.folder, limit, self._interrupted)
        folder = unit_folder(self.folder, unit.name)
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / "lock", _process(os.getpid(), socket.gethostname())) as holder:
            if holder is None:
                try:
                    with held_back() as self.signalled:
                        return work(self.worker, unit, untold)
                except KeyboardInterrupt:  # All is saved.
                    return {"held_by": None}
        time.sleep(POLL_SECONDS)
        return {"held_by": holder}

    def _interrupted(self) -> bool:
        return self.signalled() or _stop_file(self.folder).exists()


def _stop_file(folder: Path) -> Path:
    """Tells the workers of the sweep in `folder`, wherever they are, to save and to stop."""
    return folder / "state" / "stop"


def _holder(folder: Path) -> str:
    """The process that last worked on a unit."""
    path = folder / "lock"
    return (path.read_text(errors="replace") if path.exists() else "") or "another process"


def _process(pid: int, host: str) -> str:
    return f"pid {pid} on {host}"


# --- in the driver --------------------------------------------------------------------------------------------------


class _Job(NamedTuple):
    """What an actor is doing: a unit, or None as it begins."""

    actor: Any
    unit: Unit | None


class _Pool:
    """Actors, what each is doing, and how far runs have come."""

    def __init__(self, sweep: Sweep, folder: Path, progress: ProgressCallback, interrupted: Callable[[], bool] = never) -> None:
        self.sweep, self.folder, self.interrupted = sweep, folder, interrupted
        _stop_file(folder).unlink(missing_ok=True)
        self.jobs: dict[Any, _Job] = {}
        self.idle: list[Any] = []
        self.about: dict[Any, dict[str, Any]] = {}
        self.groups: dict[Any, set[int]] = {}
        self.deaths: dict[str, tuple[int, int]] = {}
        self.said: set[str] = set()
        self.rows = Rows(folder, progress)
        self.limit = 0
        resources = ray.cluster_resources()
        use_gpus = resources.get("GPU", 0) >= 1 and os.environ.get("JAX_PLATFORMS") != "cpu"
        self.options: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(use_gpus)}
        if not use_gpus:
            self.options["runtime_env"] = {"env_vars": ONE_CORE}
        self.num_workers = max(min(int(resources.get("GPU" if use_gpus else "CPU", 0)), sweep.num_runs), 1)
        for _ in range(self.num_workers):
            self._hire()

    def cut(self) -> dict[str, Any]:
        """What units are cut for; a sweep keeps to what it began with, so that its units are the same when it goes on."""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise
        path = self.folder / "state" / "ray.json"
        if not path.exists():
            first = next(iter(self.about.values()))
            batching = first["batching"] if self.sweep.batching == "auto" else self.sweep.batching
            path.parent.mkdir(exist_ok=True)
            limit = self.sweep.memory_limit or first["limit"]
            write_json(path, {"num_workers": self.num_workers, "limit": limit, "batching": batching})
        fix = f"remove {path.parent} and train all again with: {command('resume', self.folder)}"
        cut = read_json(path, {"num_workers": int, "limit": int, "batching": str}, fix)
        self.limit = cut["limit"]
        return cut

    def _begin(self) -> None:
        """Waits for the first worker."""
        begun = time.monotonic()
        while not self.about:
            if self.interrupted():
                raise KeyboardInterrupt
            self._wait(set(), {})
            if time.monotonic() - begun > PATIENCE_SECONDS:
                wanted = f"{self.options['num_cpus']} CPU and {self.options['num_gpus']} GPU"
                say(f"the Ray cluster has no room yet for a worker ({wanted}); waiting")
                begun = time.monotonic()

    def execute(self, units: Sequence[Unit]) -> list[dict[str, Any]]:
        """Does units and returns their outcomes in the order given.

        Raises:
          DoesNotFitError, UsageError, EnvError: as a worker raised it; units of other groups are worked on meanwhile.
        """
        outcomes: dict[str, dict[str, Any]] = {}
        for unit in units:
            if (done := read_outcome(self.folder, unit.name)) is not None:
                outcomes[unit.name] = done
                self.rows.read(unit, before=True)
        names = {unit.name for unit in units}
        while missing := names - outcomes.keys():
            busy = {job.unit.name for job in self.jobs.values() if job.unit}
            if self.interrupted():
                self._stop()
            self._assign([unit for unit in units if unit.name in missing - busy])
            self._wait(names, outcomes)
        return [outcomes[unit.name] for unit in units]

    def close(self) -> None:
        """Ends the workers, whatever they are doing."""
        for actor in self.groups:
            ray.kill(actor)
        self.idle, self.jobs, self.groups = [], {}, {}

    def _stop(self) -> None:
        """Lets the workers save.

        Raises:
          KeyboardInterrupt: when they have.
        """
        _stop_file(self.folder).touch()
        working = [ref for ref, job in self.jobs.items() if job.unit]
        if working:
            ray.wait(working, num_returns=len(working))
        _stop_file(self.folder).unlink()
        raise KeyboardInterrupt

    def _hire(self) -> None:
        paths = [str(Path(path).resolve()) for path in sys.path]
        actor: Any = ray.remote(_RayWorker).options(**self.options).remote(str(self.folder), paths)
        self.groups[actor] = set()
        self.jobs[actor.begin.remote()] = _Job(actor, None)

    def _assign(self, waiting: list[Unit]) -> None:
        """Gives units to idle workers: of a group that it has compiled, else of one that few have."""
        while waiting and self.idle:
            actor = self.idle.pop()
            known = self.groups[actor]
            others = [group for groups in self.groups.values() for group in groups]
            unit = min(waiting, key=lambda unit: (unit.group not in known, others.count(unit.group)))
            waiting.remove(unit)
            known.add(unit.group)
            self.rows.read(unit, before=True)
            self.jobs[actor.work.remote(unit, self.limit)] = _Job(actor, unit)

    def _wait(self, wanted: set[str], outcomes: dict[str, dict[str, Any]]) -> None:
        """Waits a little, puts what was done into `outcomes`, and replaces workers that died.

        Raises:
          DoesNotFitError, UsageError, EnvError: as a worker raised it at one of the `wanted` units.
        """
        ready, _ = ray.wait(list(self.jobs), timeout=POLL_SECONDS)
        for unit in [job.unit for job in self.jobs.values() if job.unit]:
            self.rows.read(unit)
        for ref in ready:
            job = self.jobs.pop(ref)
            try:
                self._done(job, ray.get(ref), outcomes)
            except RayTaskError as error:
                self.idle.append(job.actor)
                if isinstance(error.cause, DoesNotFitError) and job.unit and job.unit.name not in wanted:
                    continue  # it was cut again already
                if isinstance(error.cause, (DoesNotFitError, UsageError, EnvError)):
                    raise error.cause from None
                raise
            except RayError as error:
                self._died(job, error)

    def _done(self, job: _Job, result: dict[str, Any], outcomes: dict[str, dict[str, Any]]) -> None:
        self.idle.append(job.actor)
        if job.unit is None:
            self.about[job.actor] = result
        elif "held_by" not in result:
            outcomes[job.unit.name] = result
        elif result["held_by"] and job.unit.name not in self.said:
            self.said.add(job.unit.name)
            say(f"{job.unit.name} is still worked on by {result['held_by']}; waiting for it")

    def _died(self, job: _Job, error: RayError) -> None:
        """Puts another worker in the place of one that died.

        Raises:
          UsageError: workers die again and again without any progress.
        """
        with contextlib.suppress(RayError, ValueError):
            ray.kill(job.actor)
        self.groups.pop(job.actor)
        about = self.about.pop(job.actor, None)
        who = f"the Ray worker with {_process(about['pid'], about['host'])}" if about else "a Ray worker"
        if job.unit is None:
            where, end = "its start", "another one takes its place"
            self._count_death("start", len(self.about), error)
        else:
            where, end = job.unit.name, "another one goes on from the last checkpoint"
            if about and _holder(unit_folder(self.folder, job.unit.name)) == _process(about["pid"], about["host"]):
                self._count_death(job.unit.name, self.rows.steps(job.unit), error)
        say(f"{who} died at {where} ({type(error).__name__}); {end}")
        self._hire()

    def _count_death(self, where: str, progress: int, error: RayError) -> None:
        number, before = self.deaths.get(where, (0, -1))
        number = number + 1 if progress == before else 1
        self.deaths[where] = (number, progress)
        if number == MAX_DEATHS:
            raise UsageError(
                f"{number} Ray workers died at {where} without progress ({_line(error)}); "
                "lower memory_limit if memory ran out, and check that jaxrl is installed on every machine"
            )


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error).strip().partition("\n")[0]
