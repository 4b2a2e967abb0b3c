"""Kills training runs with SIGKILL, resumes them and compares them with an undisturbed run, bit for bit.

    python benchmarks/kill_resume.py --out kill_resume.json
    python benchmarks/kill_resume.py --agent alphazero --env pgx/tic_tac_toe --steps 10000 --num-envs 16 --kills 3 \
        --fields="--num-simulations 4 --blocks 0 --channels 8 --capacity 1024" --out kill_resume-alphazero.json

Ten random moments and three chosen ones: before the first checkpoint, during a checkpoint write, and between a logged row
and its checkpoint. A chosen moment is hit for certain: the process kills itself there. Exits with 1 if anything differs: the
arrays of the final checkpoint, the rows of metrics but for wall-clock fields, the evaluation.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

PREPARE = """
import os, signal
from jaxrl.records import checkpoint
from jaxrl.runs import train
saves = []
save, digest, keep = train.save_state, checkpoint._digest, checkpoint.save
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
def counted(*arguments):
    saves.append(1)
    if len(saves) == KILL_AT and not DURING:
        die()
    if len(saves) == KILL_AT:
        checkpoint._digest = die
    return save(*arguments)
train.save_state = counted
"""
"""Makes a process kill itself at its `KILL_AT`th checkpoint: before it, or `DURING` its write, when its arrays are on disk."""

MOMENTS = {
    "before the first checkpoint": "KILL_AT, DURING = 1, False",
    "during a checkpoint write": "KILL_AT, DURING = 3, True",
    "between a row and its checkpoint": "KILL_AT, DURING = 4, False",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """How many kills, of which run."""

    kills: int = 10
    """Kills at random moments."""
    agent: str = "dqn"
    env: str = "CartPole-v1"
    num_envs: int = 10
    steps: int = 30_000
    seed: int = 0
    """Seed of the moments."""
    fields: str = "--hidden 32 --learning-starts 1000"
    """More options of the run, as on the command line."""
    out: Path | None = None


def main(options: Options) -> None:
    """Runs all kills, prints a table and exits with 1 if a resumed run differs."""
    with tempfile.TemporaryDirectory() as name:
        results = measure(options, Path(name))
    table = Table("killed", "state of the folder", "resumed run")
    for result in results:
        table.add_row(result["moment"], result["found"], result["difference"] or "equal")
    Console().print(table)
    if options.out:
        about = {name: value for name, value in dataclasses.asdict(options).items() if name not in ("out", "kills")}
        options.out.write_text(json.dumps(about | {"kills": results}, indent=2) + "\n")
    sys.exit(any(result["difference"] for result in results))


def measure(options: Options, folder: Path) -> list[dict[str, Any]]:
    """One result per kill: its moment, what the dead run's folder held, and the first difference or None."""
    reference = folder / "reference"
    start(options, reference).wait()
    results = []
    for number, (moment, hook) in enumerate(MOMENTS.items()):
        run = folder / f"chosen-{number}"
        process = start(options, run, hook)
        if process.wait() != -signal.SIGKILL:
            raise SystemExit(f"the run was to be killed {moment}, but ended with {process.returncode}")
        results.append({"moment": moment} | resume_and_compare(run, reference))
    if options.kills:
        begun = time.perf_counter()
        start(options, folder / "timed").wait()
        seconds = time.perf_counter() - begun
    moments = random.Random(options.seed)
    while len(results) < len(MOMENTS) + options.kills:
        run = folder / f"random-{len(results)}"
        process, wait = start(options, run), moments.uniform(0.2, 1.0) * seconds
        time.sleep(wait)
        process.kill()
        # A moment before anything was written, or after the end, is no kill of a run: another one is drawn.
        if process.wait() == -signal.SIGKILL and (run / "config.json").exists():
            results.append({"moment": f"after {wait:.2f} s"} | resume_and_compare(run, reference))
    return results


def start(options: Options, folder: Path, hook: str | None = None) -> subprocess.Popen:
    """Starts a training run in a process of its own."""
    command = ["train", options.agent, "--env", options.env, "--total-steps", str(options.steps), "--out", str(folder)]
    command += ["--num-envs", str(options.num_envs), "--num-rows", "20", "--checkpoint-seconds", "0"]
    command += ["--eval-every", str(options.steps // 3), "--eval-episodes", "10", *shlex.split(options.fields)]
    before = f"{hook}\n{PREPARE}" if hook else ""
    return python(f"{before}\nfrom jaxrl.cli import main\nmain({command!r})")


def python(program: str) -> subprocess.Popen:
    """A process that runs a program in silence."""
    environment = os.environ | {"NPROC": "1", "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def resume_and_compare(run: Path, reference: Path) -> dict[str, Any]:
    """Resumes a killed run and says how it differs from the reference."""
    whole = sorted(int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))
    found = f"{len(whole)} checkpoints" + (", a partial one" if list((run / "checkpoints").glob("partial-*")) else "")
    process = python(f"from jaxrl.cli import main\nmain(['resume', {str(run)!r}])")
    _, errors = process.communicate()
    if process.returncode:
        return {"found": found, "difference": f"resume ended with {process.returncode}: {errors.decode()[-300:]}"}
    return {"found": found, "difference": difference(run, reference)}


def difference(run: Path, reference: Path) -> str | None:
    """The first thing in which two finished runs differ, or None."""
    from jaxrl.records.rows import WALL_CLOCK_FIELDS, read_rows

    rows = [
        [{k: v for k, v in row.items() if k not in WALL_CLOCK_FIELDS} for row in read_rows(folder / "metrics.jsonl")]
        for folder in (run, reference)
    ]
    if rows[0] != rows[1]:
        return f"metrics differ: {len(rows[0])} rows against {len(rows[1])}"
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (run, reference)]
    for name in ("env_steps", "evaluation", "training_return", "status"):
        if summaries[0][name] != summaries[1][name]:
            return f"summary differs in {name}"
    return different_arrays(run, reference)


def different_arrays(run: Path, reference: Path) -> str | None:
    """The first array of the final checkpoints whose bits differ, or None."""
    import jax
    import numpy as np

    from jaxrl.runs.definition import read_run
    from jaxrl.runs.prepare import prepare
    from jaxrl.runs.restore import restore

    states = []
    for folder in (run, reference):
        restored = restore(prepare(read_run(folder)), folder, lambda line: None)
        assert restored is not None
        states.append(jax.tree_util.tree_flatten_with_path(restored[0])[0])
    for (path, mine), (_, theirs) in zip(*states, strict=True):
        if np.asarray(mine).tobytes() != np.asarray(theirs).tobytes():
            return f"{jax.tree_util.keystr(path)} differs"
    return None


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
