"""What one waits for in the first minutes: CPU seconds above `import jax`, each in a process of its own.

    python benchmarks/first_minutes.py --out first_minutes.json

Trains a short run first, so that compiled programs are in the cache. `gymnax` is what importing gymnax costs alone, most of it
the plotting libraries that it imports: every figure with CartPole-v1 holds it once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tyro
from limits import machine

BEFORE = """
import json, sys, time
import jax; jax.devices()
from jaxrl.startup import use_compilation_cache; use_compilation_cache()
folder = sys.argv[1]
begun = time.process_time()
"""
AFTER = "\nprint(json.dumps(time.process_time() - begun))"
PROGRAMS = {
    "gymnax": "import gymnax",
    "make": 'import jaxrl; jaxrl.make("CartPole-v1")',
    "load": "import jaxrl; jaxrl.load(folder)",
    "evaluate": "from jaxrl.runs.trained import score; score(folder, 100)",
}
"""What is timed from after `import jax` to its end."""

SECOND_START = """
import dataclasses
from pathlib import Path
from jaxrl.runs import advance, train
from jaxrl.runs.definition import read_run
run = read_run(Path(folder))
train.start(run, folder + "-first")
begun, seen = time.perf_counter(), []
one = advance.Rows.next
def first(self, *arguments, **keywords):
    seen.append(time.perf_counter() - begun)
    return one(self, *arguments, **keywords)
advance.Rows.next = first
train.start(dataclasses.replace(run, seed=1), folder + "-second")
print(json.dumps(seen[0]))
"""
"""Wall seconds from the second `start` of a program in one process to its first step of training."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Whose run, and where the figures go."""

    agent: str = "ppo"
    steps: int = 20_000
    out: Path | None = None


def main(options: Options) -> None:
    """Measures and prints; one JSON object."""
    with tempfile.TemporaryDirectory() as name:
        folder = str(Path(name) / "run")
        command = [options.agent, "--env", "CartPole-v1", "--total-steps", str(options.steps), "--out", folder]
        run("from jaxrl.cli import main; main(['train', *sys.argv[1:]])", *command)
        seconds = {what: measured(f"{BEFORE}{program}{AFTER}", folder) for what, program in PROGRAMS.items()}
        second = measured(f"{BEFORE}{SECOND_START}", folder)
    result = {"agent": options.agent, "cpu_seconds": seconds, "second_start_wall_seconds": second, "machine": machine()}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def measured(program: str, *arguments: str) -> float:
    """The number that a program prints at its end."""
    return round(json.loads(run(program, *arguments).splitlines()[-1]), 3)


def run(program: str, *arguments: str) -> str:
    """What a program prints, in a process of its own with one thread."""
    environment: Any = os.environ | {"NPROC": "1", "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    command = [sys.executable, "-c", f"import sys\n{program}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main(tyro.cli(Options))
