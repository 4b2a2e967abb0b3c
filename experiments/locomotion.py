"""PPO on robot locomotion (MuJoCo through envpool): training returns over seeds, with intervals and learning curves.

    python experiments/locomotion.py --study ppo-HalfCheetah-v4

The hyperparameters are those that PPO is known by on MuJoCo (Huang et al. 2022, "The 37 Implementation Details of Proximal
Policy Optimization", section "9 details for continuous action domains"): 2,048 steps an iteration, 10 epochs of 32
minibatches, step size 3e-4 falling to 0, observations and rewards normalised, 64-64 units. Here eight environments take 256
steps each where one took 2,048. `study.py` says what a study is.
"""

from __future__ import annotations

import os

os.environ.setdefault("NPROC", "1")  # Small networks run fastest with one CPU thread; JAX reads this when it starts.

import tyro
from study import Options, Study, run_study

from jaxrl.agents import PPOConfig

CONFIG = PPOConfig(
    num_envs=8,
    rollout_length=256,
    learning_starts=2_048,  # One iteration that only gathers the moments of observations.
    learning_rate=3e-4,
    gamma=0.99,
    gae_lambda=0.95,
    num_epochs=10,
    num_minibatches=32,
    entropy_coef=0.0,
    clip_value=True,
    normalize_observation=True,
    normalize_reward=True,
)


def locomotion(env: str, goal: float) -> Study:
    """PPO for a million env steps, scored as published: by the last 100 training episodes."""
    settings = {"total_steps": 1_000_000, "num_seeds": 3, "score": "training_return", "eval_every": 0}
    return Study("ppo", f"envpool/{env}", CONFIG, goal, **settings)


STUDIES = {
    "ppo-HalfCheetah-v4": locomotion("HalfCheetah-v4", 1_400.0),
    "ppo-Hopper-v4": locomotion("Hopper-v4", 2_000.0),
    "ppo-Walker2d-v4": locomotion("Walker2d-v4", 1_900.0),
}

if __name__ == "__main__":
    run_study(tyro.cli(Options, description=__doc__), STUDIES, "locomotion.py")
