"""Every agent on classic control: greedy scores over seeds, with intervals and learning curves.

    python experiments/classic_control.py --study ppo-CartPole-v1

The configs below were chosen on other seeds than those reported here. Each run is an ordinary run folder under `--runs`; a run
that is complete there is not repeated. Results go to `experiments/results/STUDY.json` and `.png`.
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
from jaxrl.agents.a2c import A2CConfig
from jaxrl.agents.actor_critic import ActorCriticConfig
from jaxrl.agents.dqn import DQNConfig
from jaxrl.agents.ppo import PPOConfig
from jaxrl.agents.reinforce import ReinforceConfig
from jaxrl.config import Config
from jaxrl.envs.wrappers import mask_observation
from jaxrl.plot import bootstrap_interval, plot_runs
from jaxrl.record import write_json


def cartpole_without_velocities(num_envs: int) -> jaxrl.Env:
    """CartPole-v1 that shows the cart's position and the pole's angle alone; the rest takes a memory."""
    env = jaxrl.make("CartPole-v1", num_envs)
    assert isinstance(env, jaxrl.Env)
    return mask_observation(env, keep=(0, 2))


class Study(NamedTuple):
    """What is run; `goal` is the mean greedy return to reach, None where an agent is expected to fail."""

    agent: str
    env: str
    config: Config
    goal: float | None
    total_steps: int = 500_000
    num_seeds: int = 5


HIDDEN_VELOCITIES = "classic_control:cartpole_without_velocities"

STUDIES = {
    "dqn-CartPole-v1": Study("dqn", "CartPole-v1", DQNConfig(), 480.0, num_seeds=10),
    "dqn-Acrobot-v1": Study("dqn", "Acrobot-v1", DQNConfig(), -95.0),
    "dqn-MountainCar-v0": Study(
        "dqn",
        "MountainCar-v0",
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
        -150.0,
        300_000,
    ),
    "reinforce-CartPole-v1": Study("reinforce", "CartPole-v1", ReinforceConfig(), 450.0),
    "actor_critic-CartPole-v1": Study("actor_critic", "CartPole-v1", ActorCriticConfig(), 475.0),
    "a2c-CartPole-v1": Study("a2c", "CartPole-v1", A2CConfig(), 475.0),
    "ppo-CartPole-v1": Study("ppo", "CartPole-v1", PPOConfig(), 490.0, 488 * 1024),
    "ppo-Acrobot-v1": Study("ppo", "Acrobot-v1", PPOConfig(), -87.0),
    "ppo-Pendulum-v1": Study(
        "ppo",
        "Pendulum-v1",
        PPOConfig(rollout_length=256, gamma=0.9, num_epochs=10, num_minibatches=16, entropy_coef=0.0, normalize_reward=True),
        -200.0,
    ),
    # Exploration: forces of deviation e = 2.7 at first, clipped to [-1, 1], are bangs to either side. Of 512 episodes with
    # random forces of deviation 2 (4), 7 % (9 %) find the goal, of those with deviation 1 2 %, with 0.5 none.
    "ppo-MountainCarContinuous-v0": Study(
        "ppo",
        "MountainCarContinuous-v0",
        PPOConfig(
            num_envs=16,
            rollout_length=256,
            gae_lambda=0.98,
            num_epochs=10,
            num_minibatches=16,
            entropy_coef=0.0,
            log_std_init=1.0,
            normalize_observation=True,
            normalize_reward=True,
        ),
        92.0,
    ),
    "ppo-hidden-velocities": Study("ppo", HIDDEN_VELOCITIES, PPOConfig(num_envs=16, rollout_length=64), None),
    "ppo-recurrent-hidden-velocities": Study(
        "ppo", HIDDEN_VELOCITIES, PPOConfig(num_envs=16, rollout_length=64, gru=64), 450.0
    ),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Which study to run, and where its runs go."""

    study: str = "dqn-CartPole-v1"
    runs: Path = Path("runs/classic_control")
    results: Path = Path("experiments/results")
    eval_every: int = 25_000


def main(options: Options) -> None:
    """Runs one study and writes its results."""
    if options.study not in STUDIES:
        raise SystemExit(f"study={options.study!r} is unknown; choose one of {', '.join(STUDIES)}")
    study = STUDIES[options.study]
    folders = [options.runs / f"{options.study}-s{seed}" for seed in range(study.num_seeds)]
    summaries = [_run(options, study, seed, folder) for seed, folder in enumerate(folders)]
    scores = np.array([summary["evaluation"]["mean"] for summary in summaries])
    low, high = bootstrap_interval(scores)
    config = json.loads((folders[0] / "config.json").read_text())
    result = {
        "command": f"python experiments/classic_control.py --study {options.study}",
        "agent": study.agent,
        "env": study.env,
        "goal": study.goal,
        "reached": None if study.goal is None else bool(scores.mean() >= study.goal),
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
    write_json(options.results / f"{options.study}.json", result)
    plot_runs(folders, options.results / f"{options.study}.png")
    print(f"{options.study}: {scores.mean():.1f} [{low:.1f}, {high:.1f}] over {study.num_seeds} seeds, goal {study.goal}")


def _run(options: Options, study: Study, seed: int, folder: Path) -> dict:
    if (folder / "config.json").exists():
        return jaxrl.resume(folder)
    return jaxrl.start(
        jaxrl.Run(
            agent=study.agent,
            env=study.env,
            config=study.config,
            seed=seed,
            total_steps=study.total_steps,
            eval_every=options.eval_every,
        ),
        folder,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
