"""DQN on CartPole-v1, jaxrl beside its peers: the same hyperparameters, machine and hour.

    python benchmarks/peers.py --out benchmarks/results/peers.json

Every run is a process of its own, one after the other, repeats interleaved so that a busy machine troubles all alike. Compiling
is timed apart from running. Each peer is installed into a virtual environment of its own under `.cache/peers/`, with the JAX
version that jaxrl runs on. PureJaxRL is no package: get a checkout and name its folder,

    git clone https://github.com/luchris429/purejaxrl && PUREJAXRL_DIR=purejaxrl python benchmarks/peers.py

SBX is left out unless `--peers` names it: it needs torch, whose default build is a download of gigabytes. A smaller build can
be asked for with `--sbx-pip`, which adds arguments to its `pip install`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RUNNERS = Path(__file__).resolve().parent / "_peer_runners"
CACHE = ROOT / ".cache" / "peers"

SETTINGS: dict[str, Any] = {
    "env": "CartPole-v1",
    "num_envs": 10,
    "capacity": 10_000,
    "batch_size": 128,
    "hidden": [120, 84],
    "sbx_hidden": 100,
    "learning_rate": 2.5e-4,
    "gamma": 0.99,
    "epsilon_start": 1.0,
    "epsilon_end": 0.05,
    "learning_starts": 10_000,
    "target_period": 500,
}
"""PureJaxRL's hyperparameters, for all peers; one update every `num_envs` env steps, epsilon falls over half of the run."""


class Peer(NamedTuple):
    """A library to measure.

    Attributes:
      requirements: what its virtual environment needs; empty for jaxrl, which runs on this interpreter.
      shims: what its runner replaces so that it works with current packages.
      deviations: where its program differs from the common settings.
    """

    requirements: tuple[str, ...] = ()
    shims: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()


PEERS = {
    "jaxrl": Peer(deviations=("a warm-up phase without updates takes the place of a test at every step",)),
    "purejaxrl": Peer(
        ("gymnax<1", "six", "flashbax"),
        ("wandb is an empty module", "jax.tree_map is jax.tree.map"),
        (
            "a replayed transition's successor may belong to the next episode; time limits count as terminations",
            "the loss is the squared TD error without the factor 1/2, which Adam does not notice",
        ),
    ),
    "rejax": Peer(
        ("rejax", "gymnax<1", "six"),
        (),
        ("no evaluation during training", "uniform actions until learning starts", "time limits count as terminations"),
    ),
    "sbx": Peer(
        ("sbx-rl",),
        (),
        (
            "environments are Gymnasium's, in Python",
            "two hidden layers of 100 units (it has one size for both): 10,802 parameters against 10,934",
            "Huber loss instead of squared",
            "uniform actions until learning starts; all environments explore at once",
            "compile_seconds is the wall time of a first call of 2,000 env steps",
            "compare its speed only: here it does not learn, and neither does Stable-Baselines3's own DQN (return 10)",
        ),
    ),
}
DEFAULT_PEERS = ("jaxrl", "purejaxrl", "rejax")


class Unavailable(Exception):
    """A peer that cannot be measured, with the reason in one line."""


def main() -> int:
    """Measures, prints a table and writes JSON; exit status 1 where jaxrl or every peer named failed."""
    args = parse_arguments()
    console = Console()
    settings = SETTINGS | {"steps": args.steps, "exploration_steps": args.steps // 2}
    pythons, skipped = prepare(args, console)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    for repeat in range(args.repeats):
        for name in [n for n in pythons if n not in skipped]:
            with console.status(f"{name}, repeat {repeat + 1} of {args.repeats}"):
                try:
                    runs[name].append(run_once(name, pythons[name], settings, seed=repeat))
                except Unavailable as reason:
                    skipped[name] = str(reason)
                    console.print(f"{name}: {reason}", style="yellow", markup=False, soft_wrap=True)
                    continue
            last = runs[name][-1]
            console.print(f"{name}: {last['steps_per_second']:,.0f} env steps/s, compile {last['compile_seconds']:.1f} s")
    report = summarise(settings, runs, skipped)
    if report["peers"]:
        console.print(table(report))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n")
        console.print(f"wrote {args.out}; it also says what each return is of, and where a peer deviates", soft_wrap=True)
    return 0 if report["peers"] and "jaxrl" not in skipped else 1


def parse_arguments() -> argparse.Namespace:
    """The command line; exits with status 2 on bad input."""
    parser = argparse.ArgumentParser(description="DQN on CartPole-v1: jaxrl beside its peers.")
    parser.add_argument("--steps", type=int, default=500_000, help="env steps of a run (default 500000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each peer (default 3)")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(DEFAULT_PEERS), help="who takes part")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of every JAX peer alike; 0 leaves it to JAX")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--sbx-pip", default="", help="more pip arguments for SBX's environment, such as a build of torch")
    args = parser.parse_args()
    if args.steps <= SETTINGS["learning_starts"] or args.steps % SETTINGS["num_envs"]:
        parser.error(f"--steps={args.steps} must be a multiple of 10 above {SETTINGS['learning_starts']}; give such a number")
    if args.threads < 0:
        parser.error(f"--threads={args.threads} is out of range; give at least 0")
    if args.threads:
        os.environ["NPROC"] = str(args.threads)
    if args.repeats < 1:
        parser.error(f"--repeats={args.repeats} is out of range; give at least 1")
    return args


# --- the peers' environments ----------------------------------------------------------------------------------------


def prepare(args: argparse.Namespace, console: Console) -> tuple[dict[str, str], dict[str, str]]:
    """The interpreter of each peer, and why those without one are skipped."""
    pythons, skipped = {}, {}
    for name in args.peers:
        try:
            with console.status(f"{name}: preparing its environment"):
                pythons[name] = interpreter(name, shlex.split(args.sbx_pip) if name == "sbx" else [])
        except Unavailable as reason:
            skipped[name] = str(reason)
            console.print(f"{name}: {reason}", style="yellow", markup=False, soft_wrap=True)
    return pythons, skipped


def interpreter(name: str, extra: list[str]) -> str:
    """A Python that can run this peer; makes its virtual environment where there is none for these requirements.

    Raises:
      Unavailable: no checkout, or pip failed.
    """
    if name == "purejaxrl":
        check_checkout()
    peer = PEERS[name]
    if not peer.requirements:
        return sys.executable
    wanted = [*peer.requirements, f"jax=={importlib.metadata.version('jax')}", *extra]
    folder = CACHE / name
    stamp, python = folder / "requirements.json", folder / "bin" / "python"
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return str(python)
    call([sys.executable, "-m", "venv", "--clear", str(folder)], f"no virtual environment in {folder}")
    call([str(python), "-m", "pip", "install", "--quiet", *wanted], "pip install failed")
    stamp.write_text(json.dumps(wanted))
    return str(python)


def check_checkout() -> None:
    """Makes sure that PUREJAXRL_DIR names a checkout.

    Raises:
      Unavailable: with the way to get one.
    """
    folder = os.environ.get("PUREJAXRL_DIR")
    if not folder:
        raise Unavailable("skipped; git clone https://github.com/luchris429/purejaxrl and set PUREJAXRL_DIR to its folder")
    if not (Path(folder) / "purejaxrl" / "dqn.py").exists():
        raise Unavailable(f"skipped; PUREJAXRL_DIR={folder} has no purejaxrl/dqn.py; name the checkout's top folder")


def call(command: list[str], failure: str, **options: Any) -> str:
    """Runs a command and returns what it printed.

    Raises:
      Unavailable: it failed; ends with the last line it wrote.
    """
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Unavailable(f"{failure}: {lines[-1] if lines else f'exit status {done.returncode}'}")
    return done.stdout


# --- measuring ------------------------------------------------------------------------------------------------------


def run_once(name: str, python: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """One run in a process of its own, without a compilation cache.

    Raises:
      Unavailable: the run failed.
    """
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "PYTHONPATH")}
    if name == "jaxrl":
        environment["PYTHONPATH"] = str(ROOT)
    if "PUREJAXRL_DIR" in environment:
        environment["PUREJAXRL_DIR"] = str(Path(environment["PUREJAXRL_DIR"]).resolve())
    load = os.getloadavg()[0]
    command = [python, str(RUNNERS / f"run_{name}.py"), json.dumps(settings), str(seed)]
    line = json.loads(call(command, "failed", env=environment).splitlines()[-1])
    return line | {"seed": seed, "steps_per_second": settings["steps"] / line["run_seconds"], "load_before": load}


def summarise(settings: dict[str, Any], runs: dict[str, list[dict[str, Any]]], skipped: dict[str, str]) -> dict[str, Any]:
    """What goes into the JSON file."""
    peers = {name: summarise_peer(name, values) for name, values in runs.items() if values}
    own = peers.get("jaxrl")
    for peer in peers.values():
        peer["jaxrl_is_faster_by"] = own["steps_per_second"] / peer["steps_per_second"] if own else None
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": os.environ.get("NPROC", "default"),
            "python": platform.python_version(),
        },
        "settings": settings,
        "peers": peers,
        "skipped": skipped,
    }


def summarise_peer(name: str, values: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and all values of one peer."""
    columns = {field: [value[field] for value in values] for field in ("steps_per_second", "compile_seconds", "final_return")}
    finals = [value for value in columns["final_return"] if value is not None]
    return {
        "steps_per_second": statistics.median(columns["steps_per_second"]),
        "compile_seconds": statistics.median(columns["compile_seconds"]),
        "final_return": statistics.median(finals) if finals else None,
        "return_kind": values[0]["return_kind"],
        "all": columns | {"seed": [v["seed"] for v in values], "load_before": [v["load_before"] for v in values]},
        "versions": values[0]["versions"],
        "revision": revision(name),
        "shims": PEERS[name].shims,
        "deviations": PEERS[name].deviations,
    }


def revision(name: str) -> str | None:
    """The commit of a peer that runs from a checkout."""
    folder = {"jaxrl": str(ROOT), "purejaxrl": os.environ.get("PUREJAXRL_DIR")}.get(name)
    try:
        return call(["git", "-C", folder, "rev-parse", "HEAD"], "no git").strip() if folder else None
    except (Unavailable, OSError):
        return None


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(report: dict[str, Any]) -> Table:
    """The report as a table, fastest first."""
    result = Table(title=f"DQN, {report['settings']['env']}, {report['settings']['steps']:,} env steps")
    for column in ("peer", "env steps/s", "all runs", "jaxrl is faster by", "compile s", "final return"):
        result.add_column(column, justify="left" if column == "peer" else "right")
    for name, peer in sorted(report["peers"].items(), key=lambda item: -item[1]["steps_per_second"]):
        factor, final = peer["jaxrl_is_faster_by"], peer["final_return"]
        result.add_row(
            name,
            f"{peer['steps_per_second']:,.0f}",
            " ".join(f"{value:,.0f}" for value in peer["all"]["steps_per_second"]),
            "" if factor is None else f"{factor:.2f}",
            f"{peer['compile_seconds']:.1f}",
            "" if final is None else f"{final:.0f}",
        )
    return result


if __name__ == "__main__":
    sys.exit(main())
