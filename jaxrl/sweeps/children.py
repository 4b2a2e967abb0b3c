"""Runs of a sweep that are trained alone, each in a child process: as many at once as there are cores, and as fit into memory.

A child computes on one core, unless it is alone. What it says goes to `log.txt` of its unit. It ends when this process does,
however that ends: the pipe to its standard input closes then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxrl.drivers.memory import batch_limit, num_bytes
from jaxrl.errors import EnvError, UsageError, one_line
from jaxrl.interrupts import EXIT_CODE, never
from jaxrl.records.folders import lock
from jaxrl.startup import ONE_CORE, command, use_compilation_cache
from jaxrl.sweeps.outcome import read_outcome, unit_folder
from jaxrl.sweeps.plan import Group, Sweep
from jaxrl.sweeps.progress import Rows
from jaxrl.sweeps.store import read_sweep
from jaxrl.sweeps.task import work
from jaxrl.sweeps.unit import ProgressCallback, Unit, Worker, Workers, untold

POLL_SECONDS = 0.1
"""Between looks at how far children have come."""

_PROGRAM = (
    "import json, sys; paths, *work = json.loads(sys.argv[1]); sys.path[:] = paths; "
    "from jaxrl.startup import process_start, timed_from; from jaxrl.sweeps.children import main\n"
    "with timed_from(process_start()): main(*work)"
)
"""Of a child; not by `multiprocessing`, which would run the user's script again where it has no `__main__` guard."""

_CODES: dict[int, type[Exception]] = {2: UsageError, 3: EnvError}
"""Exit codes of a child whose last words are one line for the user."""
_WORDS = "jaxrl: "


# --- here -----------------------------------------------------------------------------------------------------------


def child_processes(
    sweep: Sweep, groups: Sequence[Group], folder: Path, progress: ProgressCallback, interrupted: Callable[[], bool] = never
) -> Workers:
    """Workers that train each unit, of one run, in a process of its own."""
    limit = sweep.memory_limit or batch_limit()
    fitting = limit // max(num_bytes(group.shapes) for group in groups)
    at_once = max(min(len(os.sched_getaffinity(0)), sweep.num_runs, fitting), 1)

    def execute(units: Sequence[Unit]) -> list[dict[str, Any]]:
        _train(folder, units, at_once, Rows(folder, progress), interrupted)
        return [read_outcome(folder, unit.name) or {} for unit in units]

    return Workers(execute, at_once, 1, limit, "solo")


class _Child(NamedTuple):
    unit: Unit
    process: subprocess.Popen[bytes]


def _train(folder: Path, units: Sequence[Unit], at_once: int, rows: Rows, interrupted: Callable[[], bool] = never) -> None:
    """Trains the units that are not done.

    Raises:
      EnvError: an environment failed.
      KeyboardInterrupt: there was an interrupt, and the children have saved.
      UsageError: a child failed otherwise.
    """
    waiting = deque(unit for unit in units if read_outcome(folder, unit.name) is None)
    for unit in units:
        rows.read(unit, before=True)
    children: list[_Child] = []
    try:
        while waiting or children:
            while waiting and len(children) < at_once:
                children.append(_begin(folder, waiting.popleft(), at_once))
            time.sleep(POLL_SECONDS)
            if interrupted():
                raise KeyboardInterrupt
            ended = [child for child in children if child.process.poll() is not None]
            for child in children:
                rows.read(child.unit)
            for child in ended:
                if child.process.returncode:
                    raise _failure(folder, child)
                _end(child)
                children.remove(child)
    finally:
        for child in children:
            child.process.terminate()
        for child in children:
            _end(child)


def _begin(folder: Path, unit: Unit, at_once: int) -> _Child:
    path = unit_folder(folder, unit.name)
    path.mkdir(parents=True, exist_ok=True)
    settings = ONE_CORE if jax.default_backend() == "cpu" else {"NPROC": "1", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if at_once == 1:  # It has no others beside it: as many threads as are set here.
        settings = {name: value for name, value in settings.items() if name != "NPROC"}
    paths = [str(Path(path).resolve()) for path in sys.path]
    with (path / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps([paths, str(folder.resolve()), unit._asdict()])],
            env=os.environ | settings,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # An interrupt from the terminal comes to this process alone, which ends its children.
        )
    return _Child(unit, process)


def _end(child: _Child) -> None:
    child.process.wait()
    assert child.process.stdin is not None
    child.process.stdin.close()


def _failure(folder: Path, child: _Child) -> Exception:
    """What became of a child, in one line."""
    code, log = child.process.returncode, unit_folder(folder, child.unit.name) / "log.txt"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix(_WORDS) for line in lines if line.startswith(_WORDS)]
    if code in _CODES and said:
        return _CODES[code](said[-1])
    how = f"was killed by signal {-code}" if code < 0 else f"failed ({lines[-1] if lines else f'exit code {code}'})"
    return UsageError(f"the process of run {child.unit.runs[0]} {how}; see {log}, then go on with: {command('resume', folder)}")


# --- in a child -----------------------------------------------------------------------------------------------------


def main(folder: str, values: dict[str, Any]) -> None:
    """Does one unit; exits with one of `_CODES` and a line for the user where that fails."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_compilation_cache()
    path, unit = Path(folder), Unit(**values)
    try:
        while True:  # Another process may be at work on it, such as the child of a sweep that was killed just now.
            with lock(unit_folder(path, unit.name) / "lock", f"pid {os.getpid()}") as holder:
                if holder is None:
                    work(Worker(read_sweep(path), (), path, 0), unit, untold)
                    return
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:  # By the parent, which says so; all is saved.
        sys.exit(EXIT_CODE)
    except tuple(_CODES.values()) as error:
        print(f"{_WORDS}{one_line(error)}", file=sys.stderr)
        sys.exit(next(code for code, kind in _CODES.items() if isinstance(error, kind)))


def _end_with_parent() -> None:
    """Ends this process when the parent's end of the pipe is closed."""
    while os.read(0, 1):
        pass
    os._exit(1)
