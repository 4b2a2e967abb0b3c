"""What a sweep costs, beside PureJaxRL and beside one vmapped batch, and what it survives; compile time included.

    python benchmarks/sweep.py --out sweep.json --figure sweep.png
    PUREJAXRL_DIR=purejaxrl python benchmarks/sweep.py --parts seeds --repeats 3

Parts:
  seeds    16 seeds of DQN and of PPO on CartPole-v1 at PureJaxRL's hyperparameters: the population of a sweep, the same as one
           vmapped batch on one device, a whole sweep with its evaluation and report, PureJaxRL (see `peers.py` for its
           checkout), and one run on one thread. Env steps of all seeds over the seconds of compiling and running, and of
           running alone. `--algorithms sac --num-seeds 8 --steps 2000` does SAC on Pendulum-v1.
  cost     seconds per run of 1, 4, 16, 64 and 256 runs of a small DQN, with everything that a sweep does.
  limits   a 3 x 2 x 8 sweep with two static groups, and 64 runs where memory holds 20.
  kills    32 runs, two of them with an absurd learning rate, killed ten times and resumed; beside an undisturbed sweep and
           beside the 30 alone.
  halving  64 configs of PPO: successive halving beside the full sweep.

Every sweep is a process of its own without a compilation cache, one after the other, repeats interleaved.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from peers import RUNNERS, SETTINGS, Unavailable, call, cpu_name, interpreter, revision
from rich.console import Console
from rich.table import Table

PARTS = ("seeds", "cost", "limits", "kills", "halving")
CONTENDERS = ("population", "one vmapped batch", "whole sweep", "PureJaxRL", "one run")
WALL_CLOCK = ("wall_seconds",)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured, how often."""

    parts: tuple[str, ...] = PARTS
    """Of seeds, cost, limits, kills, halving."""
    algorithms: tuple[str, ...] = ("dqn", "ppo")
    """Of the part `seeds`."""
    contenders: tuple[str, ...] = CONTENDERS
    """Of the part `seeds`."""
    num_seeds: int = 16
    """Of the part `seeds`."""
    steps: int = 500_000
    """Env steps of each seed."""
    repeats: int = 1
    """Of the part `seeds`."""
    timeout: float = 1800.0
    """Seconds after which a run counts as hung."""
    out: Path | None = None
    """JSON file to write; parts and algorithms that are not measured keep what it holds."""
    figure: Path | None = None
    """Image of the cost per run."""


def main() -> int:
    """Measures, prints tables and writes JSON; exit status 1 if something that must hold does not."""
    options = tyro.cli(Options, description=__doc__)
    for part in options.parts:
        if part not in PARTS:
            print(f"parts={part!r} is unknown; choose of {', '.join(PARTS)}", file=sys.stderr)
            return 2
    for algorithm in options.algorithms:
        if algorithm not in SETTINGS:
            print(f"algorithms={algorithm!r} is unknown; choose of {', '.join(SETTINGS)}", file=sys.stderr)
            return 2
    for contender in options.contenders:
        if contender not in CONTENDERS:
            print(f"contenders={contender!r} is unknown; choose of {', '.join(CONTENDERS)}", file=sys.stderr)
            return 2
    console = Console()
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "seeds": lambda: measure_seeds(options, console),
        "cost": lambda: measure_cost(options, console),
        "limits": lambda: measure_limits(console),
        "kills": lambda: measure_kills(console),
        "halving": lambda: measure_halving(console),
    }
    report: dict[str, Any] = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "python": platform.python_version(), "revision": revision("jaxrl")}
    for part in options.parts:
        report[part] = report.get(part, {}) | {"date": time.strftime("%Y-%m-%d"), "machine": machine} | measures[part]()
        if options.out:
            options.out.write_text(json.dumps(report, indent=2) + "\n")
    if options.figure and "cost" in report:
        draw_cost(report["cost"], options.figure)
    return 0 if all(report[part].get("holds", True) for part in options.parts) else 1


# --- speed ----------------------------------------------------------------------------------------------------------


def measure_seeds(options: Options, console: Console) -> dict[str, Any]:
    """Env steps of all seeds over seconds of compiling and running."""
    cores, num_seeds = os.cpu_count() or 1, options.num_seeds
    contenders: dict[str, tuple[str, dict[str, Any]]] = {
        "population": ("sweep", {"batching": "serial", "devices": cores, "whole": False}),
        "one vmapped batch": ("sweep", {"batching": "vmap", "devices": 1, "whole": False}),
        "whole sweep": ("sweep", {"batching": "serial", "devices": cores, "whole": True}),
        "PureJaxRL": ("purejaxrl", {}),
        "one run": ("sweep", {"batching": "vmap", "devices": 1, "whole": False, "seeds": 1}),
    }
    contenders = {name: contenders[name] for name in options.contenders}
    result: dict[str, Any] = {}
    for algorithm in options.algorithms:
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        running: dict[str, list[float]] = {name: [] for name in contenders}
        returns: dict[str, list[float]] = {name: [] for name in contenders}
        skipped: dict[str, str] = {}
        steps = options.steps - options.steps % (SETTINGS[algorithm]["num_envs"] * SETTINGS[algorithm]["rollout_length"])
        for repeat in range(options.repeats):
            for name, (runner, more) in contenders.items():
                settings = {"algorithm": algorithm} | SETTINGS[algorithm] | {"steps": steps, "seeds": num_seeds} | more
                try:
                    line = run_peer(runner, algorithm, settings, repeat, options.timeout)
                except Unavailable as reason:
                    skipped[name] = str(reason)
                    console.print(f"{algorithm}, {name}: {reason}", markup=False, soft_wrap=True)
                    continue
                rates[name].append(settings["seeds"] * steps / (line["compile_seconds"] + line["run_seconds"]))
                running[name].append(settings["seeds"] * steps / line["run_seconds"])
                returns[name].append(statistics.mean(line["final_returns"]))
                console.print(f"{algorithm}, {name}: {rates[name][-1]:,.0f} env steps/s", markup=False)
        medians = {name: statistics.median(values) for name, values in rates.items() if values}
        population = medians.get("population")
        result[algorithm] = {
            "date": time.strftime("%Y-%m-%d"),
            "revision": revision("jaxrl"),
            "env_steps_per_second": medians,
            "population_is_faster_by": {name: population / rate for name, rate in medians.items()} if population else {},
            "without_compiling": {name: statistics.median(values) for name, values in running.items() if values},
            "mean_final_return": {name: statistics.median(values) for name, values in returns.items() if values},
            "all": rates,
            "num_seeds": num_seeds,
            "steps": steps,
            "skipped": skipped,
        }
    table = Table(title=f"{num_seeds} seeds, {options.steps:,} env steps each: env steps/s, compile time included")
    for column in ("", *map(str.upper, options.algorithms)):
        table.add_column(column, justify="right" if column else "left")
    for name in contenders:
        rows = (result[algorithm]["env_steps_per_second"].get(name, float("nan")) for algorithm in options.algorithms)
        table.add_row(name, *(f"{rate:,.0f}" for rate in rows))
    console.print(table)
    return result


def run_peer(runner: str, algorithm: str, settings: dict[str, Any], seed: int, timeout: float) -> dict[str, Any]:
    """One run in a process of its own; what its runner reports."""
    python = interpreter(runner, algorithm, []) if runner != "sweep" else sys.executable
    environment = clean_environment()
    if "devices" in settings:
        environment["NPROC"] = str(settings["devices"])
    if "PUREJAXRL_DIR" in environment:
        environment["PUREJAXRL_DIR"] = str(Path(environment["PUREJAXRL_DIR"]).resolve())
    command = [python, str(RUNNERS / f"run_{runner}.py"), json.dumps(settings), str(seed)]
    return json.loads(call(command, "failed", timeout, env=environment).splitlines()[-1])


def clean_environment() -> dict[str, str]:
    """This process's environment without a compilation cache."""
    return {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "PYTHONPATH")} | {
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent)
    }


def measure_cost(options: Options, console: Console) -> dict[str, Any]:
    """Seconds per run over the number of runs."""
    rows = []
    for num_runs in (1, 4, 16, 64, 256):
        with tempfile.TemporaryDirectory() as folder:
            summary = sweep(Path(folder) / "sweep", "dqn", *SMALL_DQN, "--seeds", str(num_runs))
        rows.append({"runs": num_runs, "seconds": summary["seconds"], "seconds_per_run": summary["seconds"] / num_runs})
        console.print(f"{num_runs} runs: {rows[-1]['seconds_per_run']:.2f} s a run")
    return {"arguments": " ".join(SMALL_DQN), "rows": rows}


SMALL_DQN = ("--env", "CartPole-v1", "--hidden", "32", "--total-steps", "50000", "--learning-starts", "1000")


def draw_cost(cost: dict[str, Any], out: Path) -> None:
    """Seconds per run against runs, both on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    runs, seconds = zip(*((row["runs"], row["seconds_per_run"]) for row in cost["rows"]), strict=True)
    axes.loglog(runs, seconds, "o-", lw=1.8)
    for x, y in zip(runs, seconds, strict=True):
        axes.annotate(f"{y:.2g} s", (x, y), textcoords="offset points", xytext=(4, 6))
    axes.set_xlabel("runs in the sweep")
    axes.set_ylabel("seconds per run, compile time included")
    axes.set_xticks(runs, [str(r) for r in runs])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=130)


# --- sweeps from the command line -----------------------------------------------------------------------------------


def command(folder: Path, *arguments: str) -> list[str]:
    """`jaxrl sweep` into a folder."""
    return [sys.executable, "-m", "jaxrl", "sweep", *arguments, "--out", str(folder)]


def sweep(folder: Path, *arguments: str) -> dict[str, Any]:
    """A whole sweep; its summary and the seconds of the process.

    Raises:
      RuntimeError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(command(folder, *arguments), env=sweep_environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads((folder / "summary.json").read_text()) | {"seconds": time.perf_counter() - start}


def sweep_environment() -> dict[str, str]:
    """Without a compilation cache on disk: an empty name switches it off."""
    return clean_environment() | {"JAX_COMPILATION_CACHE_DIR": ""}


def results(folder: Path, without: tuple[str, ...] = WALL_CLOCK) -> list[dict[str, str]]:
    """Rows of `results.csv`."""
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(file)]


def measure_limits(console: Console) -> dict[str, Any]:
    """Compilations of a sweep with two static groups, and a sweep larger than memory."""
    small = ("--env", "CartPole-v1", "--total-steps", "5000", "--learning-starts", "1000", "--eval-episodes", "10")
    with tempfile.TemporaryDirectory() as scratch:
        grids = ("--grid", "learning_rate=1e-4,3e-4,1e-3", "--grid", "hidden=16,32", "--seeds", "8")
        grouped = sweep(Path(scratch) / "grouped", "dqn", *small, *grids)
        free = sweep(Path(scratch) / "free", "dqn", *small, "--hidden", "16", "--seeds", "64")
        limit = free["peak_bytes"] * 20 // 64
        capped = sweep(Path(scratch) / "capped", "dqn", *small, "--hidden", "16", "--seeds", "64", "--memory-limit", str(limit))
        same = results(Path(scratch) / "free") == results(Path(scratch) / "capped")
    console.print(f"3 x 2 x 8 runs: {grouped['compilations']} compilations in {grouped['groups']} groups")
    console.print(
        f"64 runs in {limit:,} bytes: {capped['batches']} batches, at most {capped['peak_bytes']:,} bytes, same: {same}"
    )
    return {
        "compilations": grouped["compilations"],
        "groups": grouped["groups"],
        "memory_limit": limit,
        "unlimited_bytes": free["peak_bytes"],
        "capped": {name: capped[name] for name in ("batches", "peak_bytes", "compilations", "statuses")},
        "same_results": same,
        "holds": grouped["compilations"] == 2 and capped["peak_bytes"] <= limit and capped["batches"] > 1 and same,
    }


def measure_kills(console: Console, kills: int = 10, seed: int = 0) -> dict[str, Any]:
    """An undisturbed sweep beside one that is killed, and beside one without the runs that fail."""
    base = ("dqn", "--env", "CartPole-v1", "--hidden", "16", "--total-steps", "20000", "--learning-starts", "1000")
    base = (*base, "--seeds", "2", "--checkpoint-seconds", "0", "--eval-episodes", "20")
    rates = [f"{1e-4 * 1.2**k:.4g}" for k in range(15)]
    healthy, failing = ",".join(rates), ",".join([*rates, "1e30"])
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, alone, killed = (Path(scratch) / name for name in ("whole", "alone", "killed"))
        sweep(whole, *base, "--grid", f"learning_rate={failing}")
        sweep(alone, *base, "--grid", f"learning_rate={healthy}")
        moments, arguments = [], command(killed, *base, "--grid", f"learning_rate={failing}")
        for _ in range(kills):
            process = subprocess.Popen(arguments, env=sweep_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            moments.append(kill_after(process, killed, count_rows(killed) + 32 * rng.randint(1, 8), rng.uniform(0.0, 0.5)))
            begun = (killed / "sweep.json").exists()
            arguments = [sys.executable, "-m", "jaxrl", "resume", str(killed)] if begun else arguments
        process = subprocess.run(arguments, env=sweep_environment(), capture_output=True, text=True)
        rows, others = results(whole), results(alone)
        same_after_kills = process.returncode == 0 and results(killed) == rows
        same_without_failing = [row for row in rows if row["status"] != "nan"] == others
    failed = sum(row["status"] == "nan" for row in rows)
    console.print(f"{len(rows)} runs, {failed} became NaN; killed at rows {moments}: same results {same_after_kills}")
    console.print(f"the other {len(others)} are what they are alone: {same_without_failing}")
    return {
        "runs": len(rows),
        "nan": failed,
        "kills": len(moments),
        "killed_at_rows": moments,
        "same_after_kills": same_after_kills,
        "others_same_without_the_failing": same_without_failing,
        "holds": same_after_kills and same_without_failing and failed == 2 and len(set(moments)) > 1,
    }


def kill_after(process: subprocess.Popen, folder: Path, num_rows: int, seconds: float) -> int:
    """SIGKILL so many seconds after a sweep has written so many rows; returns the rows there are then."""
    while count_rows(folder) < num_rows and process.poll() is None:
        time.sleep(0.02)
    time.sleep(seconds)
    if process.poll() is not None:
        raise RuntimeError("the sweep ended before it was to be killed")
    process.send_signal(signal.SIGKILL)
    process.wait()
    return count_rows(folder)


def count_rows(folder: Path) -> int:
    """Rows that the units of a sweep have written so far."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("state/*/rows.jsonl"))


def measure_halving(console: Console) -> dict[str, Any]:
    """The best config of successive halving beside that of the full sweep, by the scores of the full sweep."""
    base = ("ppo", "--env", "Acrobot-v1", "--total-steps", "200000", "--seeds", "4", "--eval-episodes", "20")
    draws = (
        "--draw",
        "learning_rate=log:1e-5:1e-1",
        "--draw",
        "gamma=uniform:0.9:0.999",
        "--draw",
        "entropy_coef=log:1e-4:1e-1",
    )
    with tempfile.TemporaryDirectory() as scratch:
        full = sweep(Path(scratch) / "full", *base, *draws, "--num-draws", "64")
        halved = sweep(Path(scratch) / "halved", *base, *draws, "--num-draws", "64", "--schedule", "halving")
        scores = config_scores(results(Path(scratch) / "full"))
        finished = config_scores([row for row in results(Path(scratch) / "halved") if row["status"] == "ok"])
    best, chosen = max(scores.values()), max(finished, key=lambda config: finished[config])
    share = halved["env_steps"] / full["env_steps"]
    gap = (best - scores[chosen]) / abs(best)
    console.print(
        f"best of 64: {best:.1f}; halving chose one of {scores[chosen]:.1f} ({gap:.1%} below) in {share:.1%} of the steps"
    )
    return {
        "arguments": " ".join((*base, *draws)),
        "full": {"env_steps": full["env_steps"], "seconds": full["seconds"], "best": best},
        "halving": {"env_steps": halved["env_steps"], "seconds": halved["seconds"], "score_of_chosen": scores[chosen]},
        "share_of_env_steps": share,
        "relative_gap": gap,
        "holds": gap <= 0.02 and share <= 1 / 3,
    }


def config_scores(rows: list[dict[str, str]]) -> dict[int, float]:
    """Mean final return of the middle half of each config's seeds; configs with a run without score are left out."""
    runs: dict[int, list[float]] = {}
    for row in rows:
        runs.setdefault(int(row["config"]), []).append(float(row["final_return"] or "nan"))
    trimmed = {config: sorted(values)[len(values) // 4 : len(values) - len(values) // 4] for config, values in runs.items()}
    return {config: statistics.mean(values) for config, values in trimmed.items() if all(v == v for v in runs[config])}


if __name__ == "__main__":
    sys.exit(main())
