"""Off-policy continuous control: RL Baselines3 Zoo's tuned single runs on Pendulum, CleanRL's three seeds on MuJoCo."""

from collections.abc import Mapping
from typing import Any

from jaxrl.claims.claim import LAST, Claim, Protocol, Published
from jaxrl.claims.classic import zoo
from jaxrl.claims.control import RANDOM

_SMALL: Mapping[str, Any] = {"hidden": (64, 64)}
_LARGE: Mapping[str, Any] = {"capacity": 1_000_000, "learning_rate": 3e-4}


def _pendulum(agent: str, mean: float, deviation: float) -> Claim:
    return zoo(
        agent,
        "Pendulum-v1",
        20_000,
        mean,
        deviation,
        _SMALL,
        episodes=750,
        seeds=(1, 2, 3, 4, 5),
        chosen_on=(0,),
        deviations="Hidden layers of 64 units, a fifteenth of the arithmetic of 256; else the agent's defaults.",
        group="continuous",
    )


def _mujoco(agent: str, task: str, mean: float, deviation: float, config: Mapping[str, Any]) -> Claim:
    """Three seeds, the mean return of the last training episodes."""
    rules = f"{task}-v4"
    return Claim(
        name=f"{agent}-{rules}",
        agent=agent,
        env=f"envpool/{rules}",
        config={**_LARGE, **config},
        total_steps=1_000_000,
        seeds=(0, 1, 2),
        published=Published(
            mean=mean,
            deviation=deviation,
            kind="seeds",
            num_seeds=3,
            source=f"CleanRL, documentation, {agent}_continuous_action.py",
            env_steps=1_000_000,
            random=RANDOM[task],
            protocol=Protocol(score=LAST, frame_skip=1, length_cap=1000, rules=f"{task}-v2"),
        ),
        protocol=Protocol(score=LAST, episodes=100, frame_skip=1, length_cap=1000, rules=rules),
        eval_every=20_000,
        eval_episodes=10,
        deviations="The tasks' fourth version has the second one's rules, and a newer MuJoCo."
        + (" One step size for actor and critics, where CleanRL's critics have 1e-3." if agent == "sac" else ""),
        group="continuous",
    )


_SAC: Mapping[str, Any] = {"learning_starts": 5_000}
_TD3: Mapping[str, Any] = {"learning_starts": 25_000}

CLAIMS = (
    _pendulum("sac", -156.995, 88.714),
    _pendulum("td3", -151.855, 90.227),
    _pendulum("ddpg", -152.099, 94.282),
    _pendulum("tqc", -151.340, 87.893),
    zoo(
        "sac",
        "MountainCarContinuous-v0",
        50_000,
        94.679,
        1.134,
        {
            **_SMALL,
            "gamma": 0.999,
            "learning_rate": 3e-4,
            "learning_starts": 2_000,
            "noise_correlation": 0.95,
            "tau": 0.01,
        },
        episodes=1443,
        seeds=(1, 2, 3, 4, 5),
        chosen_on=(100,),
        deviations="The zoo explores with state-dependent noise (gSDE), which is a function of the state for an episode; ours "
        "is noise that lasts for some twenty steps, from the warm-up on. Step size, discount and minibatches are ours too.",
        minutes=5.7,
        group="continuous",
    ),
    _mujoco("sac", "HalfCheetah", 9634.89, 1423.73, _SAC),
    _mujoco("sac", "Hopper", 2310.46, 342.82, _SAC),
    _mujoco("sac", "Walker2d", 3591.45, 911.33, _SAC),
    _mujoco("td3", "HalfCheetah", 9018.31, 1078.31, _TD3),
    _mujoco("td3", "Hopper", 3391.78, 232.21, _TD3),
    _mujoco("td3", "Walker2d", 4246.07, 1210.84, _TD3),
)
