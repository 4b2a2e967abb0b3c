"""PPO on robots whose physics run on the device, beside the PPO that Brax and MuJoCo Playground train them with.

    pip install 'jaxrl[brax]' 'jaxrl[playground]'
    python experiments/physics.py playground/CartpoleSwingup
    python experiments/physics.py brax/hopper --seeds 3

Both are trained in turn at the same settings, seed after seed, and evaluated greedily over 128 episodes at the same env steps:
ours by `jaxrl.run`, the other by Brax's `ppo.train`, which Playground uses too. What they reached, and their env steps/s
without compiling, is kept in `results/physics/NAME.json` with curves in `NAME.png`; a run that exists is read, not trained
again.

The settings are the packages' own (`jaxrl.claims.physics`), smaller as said in `TASKS`, so that two cores can train them. Where
ours differs otherwise is said there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import jaxrl
from jaxrl.analysis.curves import save_figure
from jaxrl.analysis.stats import bootstrap_interval
from jaxrl.claims.physics import brax_ppo
from jaxrl.errors import UsageError, unknown
from jaxrl.records.files import read_json, write_json
from jaxrl.records.rows import read_rows
from jaxrl.runs.definition import versions

RESULTS = Path(__file__).parent / "results" / "physics"
NUM_EPISODES = 128


class Task(NamedTuple):
    """A task, and how both train on it.

    Attributes:
      options: of the environment, by jaxrl's names.
      settings: arguments of `jaxrl.claims.physics.brax_ppo`.
      iterations: of training between two evaluations.
      num_evals: evaluations after the first.
    """

    options: dict[str, Any]
    settings: dict[str, Any]
    iterations: int
    num_evals: int

    @property
    def every(self) -> int:
        """Env steps between two evaluations."""
        sizes = self.settings
        return self.iterations * int(sizes["unroll"] * sizes["batch"] * sizes["minibatches"])


TASKS = {
    # config/dm_control_suite_params.py: 2,048 environments, minibatches of 1,024 unrolls, 32 of them, 16 passes.
    "playground/CartpoleSwingup": Task(
        {},
        {
            **{"num_envs": 128, "unroll": 30, "batch": 64, "minibatches": 8, "passes": 4},
            **{"discount": 0.995, "rate": 1e-3, "entropy": 1e-2, "reward": 10.0},
        },
        iterations=10,
        num_evals=10,
    ),
    # notebooks/training.ipynb names none for the hopper; those of the half cheetah, where it has 2,048 environments,
    # minibatches of 512 unrolls, 32 of them, 8 passes.
    "brax/hopper": Task(
        {"backend": "spring"},
        {
            **{"num_envs": 128, "unroll": 20, "batch": 64, "minibatches": 16, "passes": 4},
            **{"discount": 0.97, "rate": 3e-4, "entropy": 1e-3, "reward": 1.0},
        },
        iterations=10,
        num_evals=10,
    ),
}


class Trained(NamedTuple):
    """One run.

    Attributes:
      curve: [N, 2] env steps and mean returns of greedy episodes.
      rate: env steps/s of training, without what compiles.
      seconds: in all.
    """

    curve: list[list[float]]
    rate: float
    seconds: float


def ours(name: str, task: Task, seed: int, out: Path) -> Trained:
    """jaxrl's PPO, in a folder of its own."""
    begun = time.perf_counter()
    result = jaxrl.run(
        "ppo",
        name,
        out=out,
        seed=seed,
        env_options=task.options,
        total_steps=task.every * task.num_evals,
        eval_every=task.every,
        eval_episodes=NUM_EPISODES,
        num_rows=task.num_evals,
        tuned=False,
        **brax_ppo(**task.settings),
    )
    rows = [row for row in read_rows(out / "metrics.jsonl") if row["kind"] == "eval"]
    curve = [[row["env_steps"], row["eval_return"]] for row in rows]
    return Trained(curve, result.summary["steps_per_second"], time.perf_counter() - begun)


def theirs(name: str, task: Task, seed: int, out: Path) -> Trained:
    """Brax's PPO, which writes nothing to `out`."""
    import jax
    from brax.training.agents.ppo import train as ppo

    if not hasattr(jax, "device_put_replicated"):  # Brax 0.14 calls it, on its one device, and JAX 0.10 has it no more.
        jax.device_put_replicated = lambda tree, devices: jax.tree.map(lambda leaf: jax.numpy.stack([leaf]), tree)

    family, robot = name.split("/")
    wrap: Any = None
    if family == "brax":
        from brax import envs

        env, length = envs.get_environment(robot, **task.options), 1000
    else:
        from mujoco_playground import registry, wrapper

        env, wrap = registry.load(robot, config_overrides={"impl": "jax"}), wrapper.wrap_for_brax_training
        length = int(registry.get_default_config(robot).episode_length)
    curve: list[list[float]] = []
    rates: list[float] = []

    def note(env_steps: int, metrics: Any) -> None:
        curve.append([int(env_steps), float(metrics["eval/episode_reward"])])
        if "training/sps" in metrics:
            rates.append(float(metrics["training/sps"]))

    begun, sizes = time.perf_counter(), task.settings
    ppo.train(
        environment=env,
        num_timesteps=task.every * task.num_evals,
        wrap_env_fn=wrap,
        num_envs=sizes["num_envs"],
        episode_length=length,
        learning_rate=sizes["rate"],
        entropy_cost=sizes["entropy"],
        discounting=sizes["discount"],
        unroll_length=sizes["unroll"],
        batch_size=sizes["batch"],
        num_minibatches=sizes["minibatches"],
        num_updates_per_batch=sizes["passes"],
        normalize_observations=True,
        reward_scaling=sizes["reward"],
        seed=seed,
        num_evals=task.num_evals + 1,
        num_eval_envs=NUM_EPISODES,
        deterministic_eval=True,
        progress_fn=note,
    )
    # The first stretch compiles.
    return Trained(curve, float(np.median(rates[1:])), time.perf_counter() - begun)


SIDES = {"jaxrl": ours, "Brax's PPO": theirs}


def draw(name: str, runs: dict[str, list[Trained]], out: Path) -> None:
    """Every run's curve, and the mean of each side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for colour, (side, trained) in zip(("C0", "C1"), runs.items(), strict=True):
        curves = np.array([one.curve for one in trained])
        for curve in curves:
            axes.plot(curve[:, 0], curve[:, 1], colour, alpha=0.3, linewidth=1.0)
        axes.plot(curves[0, :, 0], curves[:, :, 1].mean(axis=0), colour, label=f"{side}, {len(curves)} seeds")
    axes.set(title=name, xlabel="env steps", ylabel=f"mean return of {NUM_EPISODES} greedy episodes")
    axes.legend()
    save_figure(figure, out, "out")


def main(name: tyro.conf.Positional[str], seeds: int = 3, out: Path = Path("runs/physics")) -> None:
    """Trains both and keeps what they reached.

    Args:
      name: of a task in `TASKS`.
      seeds: of each side, from 0.
      out: folder of the runs.
    """
    if name not in TASKS:
        raise UsageError(unknown("task", name, TASKS))
    if seeds < 1:
        raise UsageError(f"seeds={seeds} is below 1; give at least 1")
    task, slug = TASKS[name], name.replace("/", "-")
    runs: dict[str, list[Trained]] = {side: [] for side in SIDES}
    for seed in range(seeds):
        for side, train in SIDES.items():
            path = out / slug / f"{train.__name__}-{seed}.json"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, train(name, task, seed, path.with_suffix(""))._asdict())
            runs[side].append(Trained(**read_json(path, {"curve": list, "rate": float, "seconds": float}, "delete it")))
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = {side: _summary(trained) for side, trained in runs.items()}
    kept = {"task": name, "options": task.options, "settings": task.settings, "seeds": seeds, "found": found}
    write_json(RESULTS / f"{slug}.json", kept | {"versions": versions()})
    draw(name, runs, RESULTS / f"{slug}.png")
    table = Table("", "last evaluation", "95 %", "env steps/s", title=name)
    for side, values in found.items():
        low, high = values["interval_95"]
        table.add_row(side, f"{values['mean']:,.1f}", f"{low:,.1f} .. {high:,.1f}", f"{values['rate']:,.0f}")
    Console().print(table)


def _summary(trained: list[Trained]) -> dict[str, Any]:
    last = np.array([one.curve[-1][1] for one in trained])
    interval = bootstrap_interval(last) if len(last) > 1 else (last[0], last[0])
    return {
        "mean": float(last.mean()),
        "interval_95": [float(bound) for bound in interval],
        "rate": float(np.median([one.rate for one in trained])),
        "runs": [one._asdict() for one in trained],
    }


if __name__ == "__main__":
    try:
        tyro.cli(main, description=__doc__)
    except UsageError as error:
        print(f"physics.py: {error}", file=sys.stderr)
        sys.exit(2)
