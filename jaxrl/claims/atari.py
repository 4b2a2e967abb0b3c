"""Atari from pixels (through envpool): CleanRL's tables at ten million agent steps."""

from typing import Any

from jaxrl.claims.claim import LAST, Claim, Protocol, Published

_DQN: dict[str, Any] = {
    "num_envs": 8,
    "rollout_length": 4,
    "num_updates": 4,
    "learning_starts": 20_000,
    "capacity": 200_000,
    "batch_size": 32,
    "learning_rate": 2.5e-4,
    "learning_rate_end_share": 0.2,
    "epsilon_end": 0.01,
    "double": False,
    "exploration_fraction": 0.1,
    "target_period": 4_000,
    "n_step": 3,
    "torso": "atari2013",
}
_PPO: dict[str, Any] = {
    "num_envs": 8,
    "rollout_length": 128,
    "learning_rate": 2.5e-4,
    "clip": 0.1,
    "clip_value": True,
}


def _atari(agent: str, game: str, mean: float, deviation: float | None, config: dict[str, Any], total_steps: int) -> Claim:
    """Three seeds, the mean return of the last training games; the network of 2013 needs half the time of Nature's."""
    protocol = Protocol(
        score=LAST, episodes=100, sticky_actions=0.0, frame_skip=4, action_set="minimal", length_cap=27_000, rules=f"{game}-v5"
    )
    return Claim(
        name=f"{agent}-{game}-v5",
        agent=agent,
        env=f"envpool/{game}-v5",
        config=config,
        total_steps=total_steps,
        seeds=(0, 1, 2),
        published=Published(
            mean=mean,
            deviation=deviation,
            kind="none" if deviation is None else "seeds",
            num_seeds=3,
            source=f"CleanRL, documentation, {'dqn_atari_jax.py' if agent == 'dqn' else 'ppo_atari.py'}",
            env_steps=10_000_000,
            random={"Pong": -20.7, "Breakout": 1.7, "BeamRider": 364.0}[game],
            protocol=protocol,
        ),
        protocol=protocol,
        group="atari",
    )


CLAIMS = (
    _atari("dqn", "Pong", 20.4, None, _DQN, 1_536_000),
    _atari("ppo", "Pong", 20.4, 0.2, _PPO, 10_000_000),
    _atari("ppo", "Breakout", 416.3, 43.9, _PPO, 10_000_000),
    _atari("ppo", "BeamRider", 2445.4, 528.9, _PPO, 10_000_000),
)
