"""Atari from pixels: deep Q-learning with the network of 2013 on Pong, and PPO on Breakout.

    python experiments/atari.py --study dqn-Pong-v5

Screens as in Mnih et al. 2015: grey, 84 x 84, stacks of four, each action lasting four frames, rewards clipped to their signs
for training and raw for scores, up to 30 no-ops at the start, the minimal set of actions. Deviations from that paper are those
of `jaxrl.agents.dqn` (Adam) and what the configs below say; exploration ends after a tenth of the run, since it is much
shorter than theirs. `study.py` says what a study is.
"""

from __future__ import annotations

import tyro
from study import Options, Study, run_study

from jaxrl.agents import DQNConfig, PPOConfig

STUDIES = {
    "dqn-Pong-v5": Study(
        "dqn",
        "envpool/Pong-v5",
        DQNConfig(
            num_envs=8,
            rollout_length=4,
            num_updates=4,  # Of 32 transitions, for 32 env steps: half as many as in that paper.
            learning_starts=20_000,
            capacity=200_000,
            batch_size=32,
            learning_rate=2.5e-4,
            learning_rate_end_share=0.2,
            epsilon_end=0.01,
            double=False,
            exploration_fraction=0.1,
            target_period=4_000,
            n_step=3,
            torso="atari2013",
        ),
        15.0,
        total_steps=1_536_000,
        num_seeds=1,
        eval_every=300_000,
        eval_episodes=16,
    ),
    "ppo-Breakout-v5": Study(
        "ppo",
        "envpool/Breakout-v5",
        PPOConfig(
            num_envs=8,
            rollout_length=128,
            learning_rate=2.5e-4,
            clip=0.1,
            clip_value=True,
            torso="atari2013",
        ),
        None,
        total_steps=1_500_000,
        num_seeds=1,
        # Five minutes of play at most, as in the evaluation of Mnih et al. 2015.
        env_options={"episodic_life": True, "max_episode_steps": 4_500},
        eval_every=0,
        eval_episodes=16,
    ),
}

if __name__ == "__main__":
    run_study(tyro.cli(Options, description=__doc__), STUDIES, "atari.py")
