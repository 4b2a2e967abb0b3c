"""What every runner shares: its arguments, one way to time a compiled run, and the lines of JSON that it answers with.

A runner is a script of its own because each peer lives in another virtual environment; it may use nothing of jaxrl.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

LAST_EPISODES = 100


def arguments() -> tuple[dict[str, Any], int]:
    """(settings, seed) as `peers.py` gives them: a JSON object and a number."""
    return json.loads(sys.argv[1]), int(sys.argv[2])


def time_compiled(train: Callable[[Any], Any], key: Any, num_seeds: int) -> tuple[Any, float, float]:
    """(result, seconds to compile, seconds to run) of whole runs, each one function of its key, as one program.

    The result's leaves are [S, ...] for S seeds. A single seed is compiled without that axis.
    """
    import jax

    program = train
    if num_seeds > 1:
        program, key = jax.vmap(train), jax.random.split(key, num_seeds)
    start = time.perf_counter()
    compiled = jax.jit(program).lower(key).compile()
    middle = time.perf_counter()
    result = jax.block_until_ready(compiled(key))
    end = time.perf_counter()
    if num_seeds == 1:
        result = jax.tree.map(lambda leaf: leaf[None], result)
    return result, middle - start, end - middle


def linear_to_zero(s: dict[str, Any]) -> Callable[[Any], Any]:
    """PPO's learning rate as a function of the optimizer's steps: constant within an iteration, zero after the last one."""
    num_iterations = s["steps"] // (s["num_envs"] * s["rollout_length"])
    return lambda count: s["learning_rate"] * (1.0 - (count // (s["num_minibatches"] * s["num_epochs"])) / num_iterations)


def report(
    *, compile_seconds: float, run_seconds: float, final_returns: Iterable[Any], return_kind: str, packages: tuple[str, ...]
) -> None:
    """Ends a runner with one line of JSON.

    Args:
      final_returns: one a seed, NaN where there is none.
    """
    versions = {name: importlib.metadata.version(name) for name in packages}
    line = {
        "compile_seconds": compile_seconds,
        "run_seconds": run_seconds,
        "final_returns": [None if math.isnan(value) else float(value) for value in final_returns],
        "return_kind": return_kind,
        "versions": versions,
    }
    print(json.dumps(line), flush=True)


class Clock(NamedTuple):
    """Seconds of the wall clock, and of the processor for this process, which others on the machine disturb less."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        return cls(time.perf_counter(), time.process_time())

    def since(self) -> dict[str, float]:
        """What has passed since this time."""
        now = Clock.now()
        return {"wall": now.wall - self.wall, "cpu": now.cpu - self.cpu}


def end_turn(seconds: dict[str, dict[str, float]]) -> None:
    """Answers with what a turn took, then waits for the next one; ends the process where there is none."""
    print(json.dumps(seconds), file=sys.__stdout__, flush=True)
    if not sys.stdin.readline():
        sys.exit()
