"""What every runner shares: its arguments, one way to time a compiled run, and the JSON line it ends with.

A runner is a script of its own because each peer lives in another virtual environment; it may use nothing of jaxrl.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from typing import Any


def arguments() -> tuple[dict[str, Any], int]:
    """(settings, seed) as `peers.py` gives them: a JSON object and a number."""
    return json.loads(sys.argv[1]), int(sys.argv[2])


def time_compiled(train: Callable[[Any], Any], key: Any) -> tuple[Any, float, float]:
    """(result, seconds to compile, seconds to run) of a whole run that is one function of its key."""
    import jax

    start = time.perf_counter()
    compiled = jax.jit(train).lower(key).compile()
    middle = time.perf_counter()
    result = jax.block_until_ready(compiled(key))
    return result, middle - start, time.perf_counter() - middle


def report(
    *, compile_seconds: float, run_seconds: float, final_return: float | None, return_kind: str, packages: tuple[str, ...]
) -> None:
    """Ends a runner with one line of JSON."""
    versions = {name: importlib.metadata.version(name) for name in packages}
    line = {
        "compile_seconds": compile_seconds,
        "run_seconds": run_seconds,
        "final_return": final_return,
        "return_kind": return_kind,
        "versions": versions,
    }
    print(json.dumps(line), flush=True)
