"""Classic control: RL Baselines3 Zoo's tuned single runs and CleanRL's means of three seeds."""

from collections.abc import Mapping
from typing import Any

from jaxrl.claims.claim import GREEDY, LAST, Claim, Protocol, Published

_RANDOM = {"CartPole-v1": 22.0, "Acrobot-v1": -500.0, "MountainCar-v0": -200.0, "Pendulum-v1": -1230.0}
"""Mean return of random play; the least possible where it never ends an episode."""
_ONE_ENV: Mapping[str, Any] = {
    "num_envs": 1,
    "learning_rate_end_share": 1.0,
    "double": False,
    "loss": "huber",
    "max_grad_norm": 10.0,
}
"""As that zoo trains DQN: one environment, a constant step size, a single Huber loss."""


def _zoo(
    name: str,
    agent: str,
    env: str,
    total_steps: int,
    mean: float,
    deviation: float | None,
    config: Mapping[str, Any],
    **more: Any,
) -> Claim:
    """A figure of RL Baselines3 Zoo: one tuned agent, its deviation over greedy episodes."""
    protocol = Protocol(score=GREEDY, episodes=100, rules=more.pop("rules", env))
    published = Published(
        mean=mean,
        deviation=deviation,
        kind="none" if deviation is None else "episodes",
        num_seeds=1,
        source="RL Baselines3 Zoo, benchmark.md",
        env_steps=total_steps,
        random=_RANDOM[env],
        protocol=protocol,
    )
    own: dict[str, Any] = {"agent": agent, "env": env, "config": config, "total_steps": total_steps}
    return Claim(name=name, published=published, protocol=protocol, group="classic", **own, **more)


def _cleanrl(agent: str, env: str, mean: float, deviation: float, file: str) -> Claim:
    """A figure of CleanRL: three seeds, the mean return of the last training episodes. Ours has the agent's defaults."""
    protocol = Protocol(score=LAST, episodes=100, rules=env)
    published = Published(
        mean=mean,
        deviation=deviation,
        kind="seeds",
        num_seeds=3,
        source=f"CleanRL, documentation, {file}",
        env_steps=500_000,
        random=_RANDOM[env],
        protocol=protocol,
    )
    chosen = tuple(range(100, 105))
    own: dict[str, Any] = {"agent": agent, "env": env, "total_steps": 500_000, "chosen_on": chosen}
    return Claim(name=f"{agent}-{env}", published=published, protocol=protocol, group="classic", **own)


CLAIMS = (
    _cleanrl("dqn", "CartPole-v1", 498.0, 2.0, "dqn_jax.py"),
    _cleanrl("ppo", "CartPole-v1", 490.0, 6.0, "ppo.py"),
    _zoo(
        "dqn-Acrobot-v1-100k",
        "dqn",
        "Acrobot-v1",
        100_000,
        -76.6,
        None,
        {
            **_ONE_ENV,
            "rollout_length": 4,
            "num_updates": 4,
            "learning_starts": 128,
            "learning_rate": 6.3e-4,
            "epsilon_end": 0.1,
            "exploration_fraction": 0.12,
            "target_period": 250,
            "hidden": (256, 256),
        },
        chosen_on=(100, 101, 102, 103, 104),
        deviations="The zoo prints deviations over episodes of 10 to 18 for this environment.",
    ),
    _zoo(
        "dqn-CartPole-v1-50k",
        "dqn",
        "CartPole-v1",
        50_000,
        500.0,
        None,
        {
            **_ONE_ENV,
            "rollout_length": 256,
            "num_updates": 128,
            "learning_starts": 1_000,
            "learning_rate": 2.3e-3,
            "epsilon_end": 0.04,
            "exploration_fraction": 0.16,
            "capacity": 100_000,
            "batch_size": 64,
            "target_period": 10,
            "hidden": (256, 256),
        },
        tuned=False,
        deviations="The zoo's own settings; over the five seeds 100 to 104 they gave 500, 390, 500, 90 and 500.",
    ),
)
