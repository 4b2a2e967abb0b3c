"""DQN or PPO on CartPole-v1, SAC on Pendulum-v1, jaxrl beside its peers: the same hyperparameters, machine and hour.

    python benchmarks/peers.py --out benchmarks/results/peers.json
    python benchmarks/peers.py --algorithm ppo --out benchmarks/results/peers-ppo.json
    python benchmarks/peers.py --algorithm ppo --seeds 16 --out benchmarks/results/peers-ppo-16-seeds.json
    python benchmarks/peers.py --algorithm sac --peers jaxrl rejax sbx --threads 1 --out benchmarks/results/peers-sac.json

Every run is a process of its own, one after the other, repeats interleaved so that a busy machine troubles all alike. Compiling
is timed apart from running. With `--seeds N` a run trains N seeds in one vmapped program, and its rate counts the env steps of
all of them. Each peer is installed into a virtual environment of its own under `.cache/peers/`, with the JAX version that jaxrl
runs on. PureJaxRL is no package: get a checkout and name its folder,

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
import re
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
CHECKOUTS = {"purejaxrl": "PUREJAXRL_DIR", "pgx": "PGX_DIR"}
"""The environment variable that names the checkout of a peer which is no package."""
ABSOLUTE_PATH = r"(?<![\w:/.])(/[\w.+-]+){2,}"

SETTINGS: dict[str, dict[str, Any]] = {
    "dqn": {
        "env": "CartPole-v1",
        "num_envs": 10,
        "rollout_length": 1,
        "capacity": 10_000,
        "batch_size": 128,
        "hidden": [120, 84],
        "sbx_hidden": 100,
        "learning_rate": 2.5e-4,
        "gamma": 0.99,
        "epsilon_start": 1.0,
        "epsilon_end": 0.05,
        "exploration_fraction": 0.5,
        "learning_starts": 10_000,
        "target_period": 500,
    },
    "ppo": {
        "env": "CartPole-v1",
        "num_envs": 4,
        "rollout_length": 128,
        "num_epochs": 4,
        "num_minibatches": 4,
        "hidden": [64, 64],
        "learning_rate": 2.5e-4,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip": 0.2,
        "entropy_coef": 0.01,
        "value_coef": 0.5,
        "max_grad_norm": 0.5,
        "adam_eps": 1e-5,
    },
    "sac": {
        "env": "Pendulum-v1",
        "num_envs": 1,
        "rollout_length": 1,
        "capacity": 20_000,
        "batch_size": 256,
        "hidden": [256, 256],
        "learning_rate": 1e-3,
        "gamma": 0.99,
        "tau": 0.005,
        "learning_starts": 1_000,
    },
}
"""PureJaxRL's hyperparameters of DQN and PPO, and the common ones of SAC, for all peers.

SAC takes one update every env step, DQN one every `num_envs` env steps. PPO has tanh networks for actor and critic apart,
normalises the advantages of each minibatch, clips the value function as well, and lets the learning rate fall to zero along a
straight line.
"""


class Program(NamedTuple):
    """What there is to say of a peer's program for one algorithm.

    Attributes:
      deviations: where it differs from the common settings.
      shims: what its runner replaces so that it works with current packages.
      shims_for_seeds: what its runner replaces beyond that where several seeds are one program.
    """

    deviations: tuple[str, ...] = ()
    shims: tuple[str, ...] = ()
    shims_for_seeds: tuple[str, ...] = ()


class Peer(NamedTuple):
    """A library to measure.

    Attributes:
      programs: by algorithm.
      requirements: what its virtual environment needs; empty for jaxrl, which runs on this interpreter.
      vmaps: whether several seeds can be one program.
    """

    programs: dict[str, Program]
    requirements: tuple[str, ...] = ()
    vmaps: bool = True


PEERS = {
    "jaxrl": Peer(
        {
            "dqn": Program(("a warm-up phase without updates takes the place of a test at every step",)),
            "ppo": Program(("a time limit bootstraps from the value of the true successor",)),
            "sac": Program(("a warm-up phase without updates takes the place of a test at every step",)),
        }
    ),
    "purejaxrl": Peer(
        {
            "dqn": Program(
                (
                    "a replayed transition's successor may belong to the next episode; time limits count as terminations",
                    "the loss is the squared TD error without the factor 1/2, which Adam does not notice",
                ),
                ("wandb is an empty module", "jax.tree_map is jax.tree.map"),
            ),
            "ppo": Program(
                ("time limits count as terminations",),
                ("brax and navix are modules without content",),
                ("orthogonal initial weights are normal ones of the same scale: a batched QR decomposition can hang on CPU",),
            ),
        },
        ("gymnax<1", "six", "flashbax", "distrax"),
    ),
    "rejax": Peer(
        {
            "dqn": Program(
                (
                    "no evaluation during training",
                    "uniform actions until learning starts",
                    "time limits count as terminations",
                )
            ),
            "ppo": Program(
                (
                    "no evaluation during training",
                    "time limits count as terminations",
                    "each component of the gradient is clipped at 0.5, not the global norm",
                    "actor and critic have an optimizer each, whose Adam has eps 1e-8",
                    "initial weights are LeCun-normal, not orthogonal",
                    "the learning rate is given as a schedule where a number is expected",
                )
            ),
            "sac": Program(
                (
                    "no evaluation during training",
                    "its own actions, not uniform ones, until learning starts",
                    "time limits count as terminations",
                    "the actor is updated before the critics",
                )
            ),
        },
        ("rejax", "gymnax<1", "six"),
    ),
    "sbx": Peer(
        {
            "dqn": Program(
                (
                    "environments are Gymnasium's, in Python",
                    "two hidden layers of 100 units (it has one size for both): 10,802 parameters against 10,934",
                    "Huber loss instead of squared",
                    "uniform actions until learning starts; all environments explore at once",
                    "compile_seconds is the wall time of a first call of 2,000 env steps",
                    "compare its speed only: here it does not learn, and neither does Stable-Baselines3's own DQN (return 10)",
                )
            ),
            "ppo": Program(
                (
                    "environments are Gymnasium's, in Python",
                    "the value function is not clipped, and its loss lacks the factor 1/2",
                    "actor and critic have an optimizer each",
                    "initial weights are LeCun-normal but for the actor's last layer",
                    "the learning rate is one iteration ahead in its fall to zero",
                    "compile_seconds is the wall time of a first call of 1,024 env steps",
                )
            ),
            "sac": Program(
                (
                    "environments are Gymnasium's, in Python",
                    "the critics' loss lacks the factor 1/2, which Adam does not notice",
                    "compile_seconds is the wall time of a first call of 200 env steps",
                )
            ),
        },
        ("sbx-rl",),
        vmaps=False,
    ),
}
DEFAULT_PEERS = ("jaxrl", "purejaxrl", "rejax")


class Unavailable(Exception):
    """A peer that cannot be measured, with the reason in one line."""


def main() -> int:
    """Measures, prints a table and writes JSON; exit status 1 where jaxrl or every peer named failed."""
    args = parse_arguments()
    console = Console()
    settings = {"algorithm": args.algorithm} | SETTINGS[args.algorithm] | {"steps": args.steps, "seeds": args.seeds}
    pythons, skipped = prepare(args, console)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    for repeat in range(args.repeats):
        for name in [n for n in pythons if n not in skipped]:
            with console.status(f"{name}, repeat {repeat + 1} of {args.repeats}"):
                try:
                    runs[name].append(run_once(name, pythons[name], settings, repeat, args.timeout))
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
    parser = argparse.ArgumentParser(description="DQN, PPO or SAC: jaxrl beside its peers.")
    parser.add_argument("--algorithm", choices=list(SETTINGS), default="dqn", help="what is trained (default dqn)")
    parser.add_argument("--steps", type=int, help="env steps of a seed, in whole iterations (default 500000, 20000 of sac)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds in one vmapped program (default 1)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each peer (default 3)")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(DEFAULT_PEERS), help="who takes part")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of every JAX peer alike; 0 leaves it to JAX")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a run counts as hung (default 1800)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--sbx-pip", default="", help="more pip arguments for SBX's environment, such as a build of torch")
    args = parser.parse_args()
    settings = SETTINGS[args.algorithm]
    args.steps = args.steps or (20_000 if args.algorithm == "sac" else 500_000)
    iteration = settings["num_envs"] * settings["rollout_length"]
    least = settings.get("learning_starts", 0) + iteration
    for option, value, low in (
        ("steps", args.steps, least),
        ("seeds", args.seeds, 1),
        ("repeats", args.repeats, 1),
        ("threads", args.threads, 0),
        ("timeout", args.timeout, 1),
    ):
        if value < low:
            parser.error(f"--{option}={value} is out of range; give at least {low}")
    args.steps -= args.steps % iteration
    if args.threads:
        os.environ["NPROC"] = str(args.threads)
    return args


# --- the peers' environments ----------------------------------------------------------------------------------------


def prepare(args: argparse.Namespace, console: Console) -> tuple[dict[str, str], dict[str, str]]:
    """The interpreter of each peer, and why those without one are skipped."""
    pythons, skipped = {}, {}
    for name in args.peers:
        try:
            if args.seeds > 1 and not PEERS[name].vmaps:
                raise Unavailable("skipped; its environments are on the host, so several seeds are no single program")
            with console.status(f"{name}: preparing its environment"):
                pythons[name] = interpreter(name, args.algorithm, shlex.split(args.sbx_pip) if name == "sbx" else [])
        except Unavailable as reason:
            skipped[name] = str(reason)
            console.print(f"{name}: {reason}", style="yellow", markup=False, soft_wrap=True)
    return pythons, skipped


def interpreter(name: str, algorithm: str, extra: list[str]) -> str:
    """A Python that can run this peer; makes its virtual environment where there is none for these requirements.

    Raises:
      Unavailable: no checkout, or pip failed.
    """
    if algorithm not in PEERS[name].programs:
        raise Unavailable(f"skipped; it has no {algorithm}")
    if name == "purejaxrl":
        check_checkout(CHECKOUTS[name], "https://github.com/luchris429/purejaxrl", f"purejaxrl/{algorithm}.py")
    peer = PEERS[name]
    return python_with(name, [*peer.requirements, *extra]) if peer.requirements else sys.executable


def python_with(name: str, requirements: list[str]) -> str:
    """The Python of the virtual environment `name`, which has these and jaxrl's JAX; makes it where there is none such.

    Raises:
      Unavailable: pip failed.
    """
    wanted = [*requirements, f"jax=={importlib.metadata.version('jax')}"]
    folder = CACHE / name
    stamp, python = folder / "requirements.json", folder / "bin" / "python"
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return str(python)
    call([sys.executable, "-m", "venv", "--clear", str(folder)], f"no virtual environment for {name}")
    call([str(python), "-m", "pip", "install", "--quiet", *wanted], "pip install failed")
    stamp.write_text(json.dumps(wanted))
    return str(python)


def check_checkout(variable: str, url: str, script: str) -> None:
    """Makes sure that an environment variable names a checkout of a repository, which has this script.

    Raises:
      Unavailable: with the way to get one.
    """
    folder = os.environ.get(variable)
    if not folder:
        raise Unavailable(f"skipped; git clone {url} and set {variable} to its folder")
    if not (Path(folder) / script).exists():
        raise Unavailable(f"skipped; the folder {variable} has no {script}; name the checkout's top folder")


def call(command: list[str], failure: str, timeout: float | None = None, **options: Any) -> str:
    """Runs a command and returns what it printed.

    Raises:
      Unavailable: it failed, with the last line it wrote (absolute paths, which say nothing elsewhere, left out), or it hangs.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"hangs, or needs a longer --timeout; no result within {timeout:g} s") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = lines[-1] if lines else f"exit status {done.returncode}"
        raise Unavailable(f"{failure}: {re.sub(ABSOLUTE_PATH, '[path]', last)}")
    return done.stdout


# --- measuring ------------------------------------------------------------------------------------------------------


def run_once(name: str, python: str, settings: dict[str, Any], seed: int, timeout: float) -> dict[str, Any]:
    """One run in a process of its own, without a compilation cache.

    Raises:
      Unavailable: the run failed or took longer than `timeout` seconds.
    """
    load = os.getloadavg()[0]
    command = [python, str(RUNNERS / f"run_{name}.py"), json.dumps(settings), str(seed)]
    line = json.loads(call(command, "failed", timeout, env=surroundings(name)).splitlines()[-1])
    finals = [value for value in line["final_returns"] if value is not None]
    return line | {
        "seed": seed,
        "steps_per_second": settings["seeds"] * settings["steps"] / line["run_seconds"],
        "final_return": statistics.mean(finals) if finals else None,
        "load_before": load,
    }


def surroundings(name: str) -> dict[str, str]:
    """The environment variables of a peer's process."""
    variables = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "PYTHONPATH")}
    checkouts = {k: str(Path(v).resolve()) for k, v in variables.items() if k in CHECKOUTS.values()}
    return variables | checkouts | ({"PYTHONPATH": str(ROOT)} if name == "jaxrl" else {})


def summarise(settings: dict[str, Any], runs: dict[str, list[dict[str, Any]]], skipped: dict[str, str]) -> dict[str, Any]:
    """What goes into the JSON file."""
    peers = {name: summarise_peer(name, settings, values) for name, values in runs.items() if values}
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


def summarise_peer(name: str, settings: dict[str, Any], values: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and all values of one peer; the final return of a run with several seeds is their mean."""
    fields = ("steps_per_second", "compile_seconds", "final_return", "final_returns", "seed", "load_before")
    columns = {field: [value[field] for value in values] for field in fields}
    program, several = PEERS[name].programs[settings["algorithm"]], settings["seeds"] > 1
    finals = [value for value in columns["final_return"] if value is not None]
    return {
        "steps_per_second": statistics.median(columns["steps_per_second"]),
        "compile_seconds": statistics.median(columns["compile_seconds"]),
        "final_return": statistics.median(finals) if finals else None,
        "return_kind": values[0]["return_kind"],
        "all": columns,
        "versions": values[0]["versions"],
        "revision": revision(name),
        "shims": program.shims + (program.shims_for_seeds if several else ()),
        "deviations": program.deviations,
    }


def revision(name: str) -> str | None:
    """The commit of a peer that runs from a checkout."""
    folder = str(ROOT) if name == "jaxrl" else os.environ.get(CHECKOUTS.get(name, ""))
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
    settings = report["settings"]
    seeds = f", {settings['seeds']} seeds in one program" if settings["seeds"] > 1 else ""
    result = Table(title=f"{settings['algorithm'].upper()}, {settings['env']}, {settings['steps']:,} env steps{seeds}")
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
