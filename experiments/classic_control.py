"""Deep Q-learning on classic control: greedy scores over seeds, with intervals and learning curves.

    python experiments/classic_control.py --env CartPole-v1

The configs below were chosen on other seeds than those reported here. Each run is an ordinary run folder under `--runs`; a run
that is complete there is not repeated. Results go to `experiments/results/dqn-ENV.json` and `.png`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("NPROC", "1")  # Small networks run fastest with one CPU thread; JAX reads this when it starts.

import numpy as np
import tyro

import jaxrl
from jaxrl.agents.dqn import DQNConfig
from jaxrl.plot import bootstrap_interval, plot_runs
from jaxrl.record import write_json


class Study(NamedTuple):
    """What is run on one environment; `goal` is the mean greedy return to reach."""

    config: DQNConfig
    total_steps: int
    num_seeds: int
    goal: float


STUDIES = {
    "CartPole-v1": Study(DQNConfig(), 500_000, 10, 480.0),
    "Acrobot-v1": Study(DQNConfig(), 500_000, 5, -95.0),
    "MountainCar-v0": Study(
        DQNConfig(
            num_envs=8,
            rollout_length=2,
            num_updates=4,
            learning_starts=1_000,
            learning_rate=4e-3,
            gamma=0.98,
            epsilon_end=0.07,
            target_period=600,
            hidden=(128, 128),
        ),
        300_000,
        5,
        -150.0,
    ),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Which study to run, and where its runs go."""

    env: str = "CartPole-v1"
    runs: Path = Path("runs/classic_control")
    results: Path = Path("experiments/results")
    eval_every: int = 25_000


def main(options: Options) -> None:
    """Runs one study and writes its results."""
    if options.env not in STUDIES:
        raise SystemExit(f"env={options.env!r} has no study; choose one of {', '.join(STUDIES)}")
    study = STUDIES[options.env]
    folders = [options.runs / f"{options.env}-s{seed}" for seed in range(study.num_seeds)]
    summaries = [_run(options, study, seed, folder) for seed, folder in enumerate(folders)]
    scores = np.array([summary["evaluation"]["mean"] for summary in summaries])
    low, high = bootstrap_interval(scores)
    config = json.loads((folders[0] / "config.json").read_text())
    result = {
        "command": f"python experiments/classic_control.py --env {options.env}",
        "agent": "dqn",
        "env": options.env,
        "goal": study.goal,
        "reached": bool(scores.mean() >= study.goal),
        "mean_greedy_return": float(scores.mean()),
        "interval_95": [float(low), float(high)],
        "interval": "percentile bootstrap over seeds",
        "seeds": list(range(study.num_seeds)),
        "greedy_returns": scores.tolist(),
        "episodes_per_seed": summaries[0]["evaluation"]["episodes"],
        "last_100_training_episodes": [summary["training_return"]["mean"] for summary in summaries],
        "env_steps": summaries[0]["env_steps"],
        "steps_per_second": [summary["steps_per_second"] for summary in summaries],
        "config": config["config"],
        "versions": config["versions"],
        "device": config["device"],
    }
    options.results.mkdir(parents=True, exist_ok=True)
    write_json(options.results / f"dqn-{options.env}.json", result)
    plot_runs(folders, options.results / f"dqn-{options.env}.png")
    print(f"{options.env}: {scores.mean():.1f} [{low:.1f}, {high:.1f}] over {study.num_seeds} seeds, goal {study.goal}")


def _run(options: Options, study: Study, seed: int, folder: Path) -> dict:
    if (folder / "config.json").exists():
        return jaxrl.resume(folder)
    return jaxrl.start(
        jaxrl.Run(
            agent="dqn",
            env=options.env,
            config=study.config,
            seed=seed,
            total_steps=study.total_steps,
            eval_every=options.eval_every,
        ),
        folder,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
