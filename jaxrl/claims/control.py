"""Robot locomotion (MuJoCo through envpool) at a million env steps: CleanRL's table."""

from collections.abc import Mapping
from typing import Any

from jaxrl.claims.claim import LAST, Claim, Protocol, Published

PPO: Mapping[str, Any] = {
    "num_envs": 8,
    "rollout_length": 256,
    "learning_starts": 2_048,
    "learning_rate": 3e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "num_epochs": 10,
    "num_minibatches": 32,
    "entropy_coef": 0.0,
    "clip_value": True,
    "normalize_observation": True,
    "normalize_reward": True,
}
"""What PPO is known by on MuJoCo (Huang et al. 2022, "The 37 Implementation Details of Proximal Policy Optimization")."""
_RANDOM = {"HalfCheetah-v4": -280.0, "Hopper-v4": 18.0, "Walker2d-v4": 2.0}


def _ppo_cleanrl(env: str, mean: float, deviation: float) -> Claim:
    """Three seeds, the mean return of the last training episodes."""
    protocol = Protocol(score=LAST, episodes=100, frame_skip=1, length_cap=1000, rules=env)
    return Claim(
        name=f"ppo-{env}",
        agent="ppo",
        env=f"envpool/{env}",
        config=PPO,
        total_steps=1_000_000,
        seeds=(0, 1, 2),
        published=Published(
            mean=mean,
            deviation=deviation,
            kind="seeds",
            num_seeds=3,
            source="CleanRL, documentation, ppo_continuous_action.py",
            env_steps=1_000_000,
            random=_RANDOM[env],
            protocol=protocol,
        ),
        protocol=protocol,
        deviations="Eight environments take 256 steps each where CleanRL's one takes 2,048; settings not searched for.",
        group="control",
    )


CLAIMS = (
    _ppo_cleanrl("HalfCheetah-v4", 1443.0, 46.0),
    _ppo_cleanrl("Hopper-v4", 2383.0, 272.0),
    _ppo_cleanrl("Walker2d-v4", 2288.0, 572.0),
)
