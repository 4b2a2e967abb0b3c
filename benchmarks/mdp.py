"""Value iteration on a large grid: seconds, sweeps and bytes of the compiled solver beside NumPy and scipy.sparse, as JSON.

    python benchmarks/mdp.py --size 1000 --out mdp.json

A square of `size` x `size` states, moves to the north, east, south and west at a cost of 1 each, and one goal in a corner. In
the case `slip` a move goes to either side with probability 0.1 each, so each action has three successors. All solvers use the
same float32 arrays, start from 0, and stop by the same rule; the compiled one may use more than one core. Without discount a
sweep settles the states one step further from the goal, so a deterministic grid takes 2 size - 1 sweeps.

Each solver runs in a process of its own, so that peak memory is its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

SLIP = 0.1
CASES = ("deterministic", "slip")
SOLVERS = ("jaxrl", "numpy", "scipy.sparse")

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    size: int = 1_000
    """Rows and columns of the grid."""
    discount: float = 1.0
    tolerance: float = 1e-3
    max_sweeps: int = 100_000
    """Also ends a peer's run; lower it to time sweeps only."""
    cases: tuple[str, ...] = CASES
    solvers: tuple[str, ...] = SOLVERS
    out: Path | None = None
    worker: str | None = None
    """Internal: measure one `case/solver` in this process."""


def main(options: Options) -> None:
    """Runs every case and solver in a process of its own; prints a table, then writes one JSON object."""
    for name, given, known in (("cases", options.cases, CASES), ("solvers", options.solvers, SOLVERS)):
        if unknown := set(given) - set(known):
            raise SystemExit(f"{name}={sorted(unknown)} is unknown; choose of {', '.join(known)}")
    if options.worker:
        case, solver = options.worker.split("/")
        print(json.dumps(measure(case, solver, options)))
        return
    results = {f"{case}/{solver}": run(f"{case}/{solver}", options) for case in options.cases for solver in options.solvers}
    show(results, options)
    fields = {name: getattr(options, name) for name in ("size", "discount", "tolerance", "max_sweeps")}
    versions = {name: version(name) for name in ("jax", "numpy", "scipy")}
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    report = fields | machine | versions | {"results": results}
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


def run(worker: str, options: Options) -> dict[str, Any]:
    """One measurement in a process of its own, with cold compilation."""
    fields = {"size": options.size, "discount": options.discount, "tolerance": options.tolerance}
    arguments = [text for name, value in fields.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, __file__, "--worker", worker, "--max-sweeps", str(options.max_sweeps), *arguments]
    environment = dict(os.environ) | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def show(results: dict[str, Any], options: Options) -> None:
    """The table."""
    table = Table(title=f"Value iteration, {options.size} x {options.size} states, discount {options.discount}")
    columns = {
        "seconds": "s",
        "sweeps": "sweeps",
        "ms_per_sweep": "ms/sweep",
        "compile_seconds": "compile s",
        "arrays_mb": "MDP MB",
        "working_mb": "work MB",
        "peak_resident_mb": "peak MB",
    }
    for heading in ("case", "solver", *columns.values()):
        table.add_column(heading, justify="left" if heading in ("case", "solver") else "right")
    for name, result in results.items():
        table.add_row(*name.split("/"), *(str(result[column]) for column in columns))
    Console().print(table)


def grid(size: int, slip: bool) -> Arrays:
    """Successors [S, 4, K] int32, probabilities [S, 4, K], rewards [S, 4] and terminal [S]; the goal is the last state."""
    state = np.arange(size * size, dtype=np.int32)
    row, column = np.divmod(state, np.int32(size))
    moved = [
        np.maximum(row - 1, 0) * size + column,
        row * size + np.minimum(column + 1, size - 1),
        np.minimum(row + 1, size - 1) * size + column,
        row * size + np.maximum(column - 1, 0),
    ]
    straight = np.stack(moved, axis=1).astype(np.int32)
    turns, weights = ((0, 1, -1), (1.0 - 2.0 * SLIP, SLIP, SLIP)) if slip else ((0,), (1.0,))
    successors = np.stack([np.roll(straight, turn, axis=1) for turn in turns], axis=2)
    probabilities = np.broadcast_to(np.array(weights, np.float32), successors.shape)
    return successors, probabilities, np.full(straight.shape, -1.0, np.float32), state == size * size - 1


def measure(case: str, solver: str, options: Options) -> dict[str, Any]:
    """Seconds of a whole solution, what compiling took, and bytes: of the MDP, of the solver beside it, and of the process."""
    arrays = grid(options.size, case == "slip")
    solve = {"jaxrl": solve_jaxrl, "numpy": solve_numpy, "scipy.sparse": solve_scipy}[solver]
    found = solve(arrays, options)
    value, sweeps, seconds = found["value"], found["sweeps"], found["seconds"]
    return {
        "seconds": round(seconds, 3),
        "sweeps": sweeps,
        "ms_per_sweep": round(1e3 * seconds / sweeps, 3),
        "compile_seconds": round(found.get("compile_seconds", 0.0), 2),
        "arrays_mb": round(found["arrays"] / 1e6, 2),
        "working_mb": round(found["working"] / 1e6, 2),
        "peak_resident_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "first_value": round(float(value[0]), 4),
        "mean_value": round(float(np.mean(value, dtype=np.float64)), 4),
    }


def solve_jaxrl(arrays: Arrays, options: Options) -> dict[str, Any]:
    """The compiled solver; `working` is what its program needs beside the MDP, outputs included."""
    import jax

    from jaxrl.mdp.model import make_mdp
    from jaxrl.mdp.solvers import value_iteration

    successors, probabilities, rewards, terminal = arrays
    mdp = make_mdp(successors, probabilities, rewards, options.discount, terminal=terminal)
    started = time.perf_counter()
    solve = jax.jit(lambda mdp: value_iteration(mdp, options.tolerance, options.max_sweeps)).lower(mdp).compile()
    compile_seconds = time.perf_counter() - started
    started = time.perf_counter()
    solution = jax.block_until_ready(solve(mdp))
    seconds = time.perf_counter() - started
    memory: Any = solve.memory_analysis()
    return {
        "value": np.asarray(solution.value),
        "sweeps": int(solution.num_sweeps),
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "arrays": sum(leaf.nbytes for leaf in jax.tree.leaves(mdp)),
        "working": memory.temp_size_in_bytes + memory.output_size_in_bytes,
    }


def solve_numpy(arrays: Arrays, options: Options) -> dict[str, Any]:
    """Fancy indexing; `working` is the largest that live at once in a sweep."""
    successors, probabilities, rewards, terminal = arrays
    gamma = np.float32(options.discount)

    def sweep(value: np.ndarray) -> np.ndarray:
        ahead = np.sum(probabilities * value[successors], axis=-1)
        return np.where(terminal, np.float32(0.0), np.max(rewards + gamma * ahead, axis=-1))

    num_bytes = successors.nbytes + 4 * successors.size + rewards.nbytes + terminal.nbytes
    return repeat(sweep, arrays, options, num_bytes, 2 * 4 * successors.size + 2 * 4 * terminal.size)


def solve_scipy(arrays: Arrays, options: Options) -> dict[str, Any]:
    """One sparse matrix [S A, S] times the values; building it is not timed."""
    from scipy.sparse import csr_array

    successors, probabilities, rewards, terminal = arrays
    num_rows, num_successors = rewards.size, successors.shape[2]
    starts = np.arange(num_rows + 1, dtype=np.int32) * num_successors
    shape = (num_rows, terminal.size)
    matrix = csr_array((np.float32(options.discount) * probabilities.reshape(-1), successors.reshape(-1), starts), shape)

    def sweep(value: np.ndarray) -> np.ndarray:
        q = rewards + (matrix @ value).reshape(rewards.shape)
        return np.where(terminal, np.float32(0.0), np.max(q, axis=-1))

    num_bytes = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes + rewards.nbytes + terminal.nbytes
    return repeat(sweep, arrays, options, num_bytes, 2 * rewards.nbytes + 2 * 4 * terminal.size)


def repeat(
    sweep: Callable[[np.ndarray], np.ndarray], arrays: Arrays, options: Options, num_bytes: int, working: int
) -> dict[str, Any]:
    """The loop of the peers, with the stop rule of `jaxrl.mdp.value_iteration`."""
    discount, value = options.discount, np.zeros(arrays[3].shape, np.float32)
    enough = options.tolerance * (1.0 - discount) / discount if discount < 1.0 else options.tolerance
    started = time.perf_counter()
    sweeps, change, floor = 0, np.inf, 0.0
    while sweeps < options.max_sweeps and change > max(enough, floor):
        before, value = value, sweep(value)
        sweeps, change = sweeps + 1, np.max(np.abs(value - before))
        floor = 2.0 * np.finfo(np.float32).eps * np.max(np.abs(value))
    seconds = time.perf_counter() - started
    return {"value": value, "sweeps": sweeps, "seconds": seconds, "arrays": num_bytes, "working": working}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
