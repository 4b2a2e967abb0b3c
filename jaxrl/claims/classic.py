"""Classic control: RL Baselines3 Zoo's tuned single runs, CleanRL's means of three seeds, Gymnasium's threshold."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxrl.claims.claim import GREEDY, LAST, Claim, Protocol, Published

RANDOM = {
    "CartPole-v1": 22.0,
    "Acrobot-v1": -500.0,
    "MountainCar-v0": -200.0,
    "MountainCarContinuous-v0": -33.0,
    "Pendulum-v1": -1230.0,
}
"""Mean return of random play; the least possible where it never ends an episode."""
TUNING_SEEDS = (100, 101, 102, 103, 104)
_ONE_ENV: Mapping[str, Any] = {
    "num_envs": 1,
    "learning_rate_end_share": 1.0,
    "double": False,
    "loss": "huber",
    "max_grad_norm": 10.0,
}
"""As that zoo trains DQN: one environment, a constant step size, a single Huber loss."""
_CARTPOLE_50K: Mapping[str, Any] = {
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
}
_ACROBOT_100K: Mapping[str, Any] = {
    "rollout_length": 4,
    "num_updates": 4,
    "learning_starts": 128,
    "learning_rate": 6.3e-4,
    "epsilon_end": 0.1,
    "exploration_fraction": 0.12,
    "target_period": 250,
    "hidden": (256, 256),
}
"""That zoo's settings of DQN and of QR-DQN, above those of CartPole in 50,000 env steps."""
_QUANTILES: Mapping[str, Any] = {name: value for name, value in _ONE_ENV.items() if name != "loss"}
_ZOO_OWN = "The zoo's own settings, chosen there for one run."
_CARTPOLE: Mapping[str, Any] = {
    "num_envs": 8,
    "rollout_length": 32,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "num_epochs": 20,
    "num_minibatches": 1,
    "entropy_coef": 0.0,
}
_PENDULUM: Mapping[str, Any] = {
    "num_envs": 4,
    "rollout_length": 1_024,
    "learning_rate": 1e-3,
    "learning_rate_end_share": 1.0,
    "gamma": 0.9,
    "num_epochs": 10,
    "entropy_coef": 0.0,
}


def zoo(
    agent: str, env: str, total_steps: int, mean: float, deviation: float | None, config: Mapping[str, Any], **more: Any
) -> Claim:
    """A figure of RL Baselines3 Zoo: one tuned agent, its deviation over greedy episodes."""
    budget, rules = more.pop("budget", total_steps), more.pop("rules", env.removeprefix("envpool/"))
    episodes = more.pop("episodes", None)
    protocol = Protocol(score=GREEDY, episodes=more.get("eval_episodes", 100), rules=rules)
    published = Published(
        mean=mean,
        deviation=deviation,
        kind="none" if deviation is None else "episodes",
        num_seeds=1,
        source=f"RL Baselines3 Zoo, benchmark.md{more.pop('version', '')}",
        env_steps=budget,
        random=more.pop("random", None) or RANDOM[env],
        protocol=Protocol(score=GREEDY, episodes=episodes, rules=rules),
    )
    named = {"name": f"{agent}-{rules}", "group": "classic", "chosen_on": TUNING_SEEDS} | more
    return Claim(agent=agent, env=env, config=config, total_steps=total_steps, published=published, protocol=protocol, **named)


def _cleanrl(
    agent: str,
    env: str,
    mean: float,
    deviation: float,
    file: str,
    minutes: float | None,
    deviations: str = "",
    config: Mapping[str, Any] = MappingProxyType({}),
) -> Claim:
    """A figure of CleanRL: three seeds, the mean return of the last training episodes."""
    protocol = Protocol(score=LAST, episodes=100, rules=env)
    published = Published(
        mean=mean,
        deviation=deviation,
        kind="seeds",
        num_seeds=3,
        source=f"CleanRL, documentation, {file}",
        env_steps=500_000,
        random=RANDOM[env],
        protocol=protocol,
    )
    own: dict[str, Any] = {"agent": agent, "env": env, "total_steps": 500_000, "chosen_on": TUNING_SEEDS, "group": "classic"}
    own |= {"minutes": minutes, "deviations": deviations, "config": config}
    return Claim(name=f"{agent}-{env}", published=published, protocol=protocol, **own)


def _threshold(agent: str, minutes: float) -> Claim:
    """Gymnasium's registry calls CartPole-v1 solved at a mean return of 475 over 100 episodes; it names no budget."""
    protocol = Protocol(score=LAST, episodes=100, rules="CartPole-v1")
    published = Published(
        mean=475.0,
        source="Gymnasium, registry, reward threshold of CartPole-v1",
        env_steps=500_000,
        random=RANDOM["CartPole-v1"],
        protocol=protocol,
    )
    own: dict[str, Any] = {"agent": agent, "env": "CartPole-v1", "total_steps": 500_000, "chosen_on": TUNING_SEEDS}
    words = "The published figure is the score at which the environment counts as solved; the budget is ours."
    own |= {"deviations": words, "minutes": minutes, "group": "classic"}
    return Claim(name=f"{agent}-CartPole-v1", published=published, protocol=protocol, **own)


_DQN_SEEN = (
    "An earlier default, whose step size fell in a straight line, had been seen on seeds 0 to 9; the seeds 400 to 419 decided "
    "for the present one."
)

_PQN_SEEN = (
    "CleanRL lets epsilon fall to 0.05 over half of the run, with lambda 0.65 and whole rewards. That gave 265, 500 and 500 on "
    "the seeds 100 to 102: a truncated step bootstraps here, so that all states of a run without falls are worth the same, and "
    "a network without a replay forgets what falls are. These settings gave 496.4, 496.0 and 495.7 there."
)

CLAIMS = (
    _cleanrl("dqn", "CartPole-v1", 498.0, 2.0, "dqn_jax.py", 2.9, _DQN_SEEN),
    _cleanrl("ppo", "CartPole-v1", 490.0, 6.0, "ppo.py", 0.3),
    _cleanrl("pqn", "CartPole-v1", 495.0, 7.0, "pqn.py", 1.3, _PQN_SEEN, {"reward_scaling": 0.1, "epsilon_end": 0.1}),
    _threshold("reinforce", 2.5),
    _threshold("actor_critic", 2.1),
    zoo("a2c", "CartPole-v1", 500_000, 500.0, 0.0, {}, episodes=300, minutes=1.5),
    zoo(
        "ppo",
        "CartPole-v1",
        100_000,
        500.0,
        0.0,
        _CARTPOLE,
        name="ppo-CartPole-v1-100k",
        tuned=False,
        deviations="The zoo's own settings, but that its clipping range falls as its step size does and ours stays.",
        episodes=300,
        minutes=2.1,
    ),
    zoo(
        "dqn",
        "CartPole-v1",
        50_000,
        500.0,
        0.0,
        {**_ONE_ENV, **_CARTPOLE_50K},
        name="dqn-CartPole-v1-50k",
        tuned=False,
        deviations=_ZOO_OWN,
        tried="Over the five seeds 100 to 104 these settings gave 500, 390, 500, 90 and 500: at this step size runs reach 500 "
        "and fall from it again. Double Q-learning with a squared loss, a step size that falls to 0 and 2 gradient steps for 4 "
        "env steps gave 198 there, other ratios of gradient steps 246 and 388. The agent's defaults hold 500 in 500,000.",
        episodes=300,
        minutes=5.6,
    ),
    zoo(
        "dqn",
        "Acrobot-v1",
        100_000,
        -76.6,
        11.8,
        {**_ONE_ENV, **_ACROBOT_100K},
        name="dqn-Acrobot-v1-100k",
        episodes=1932,
        minutes=66,
    ),
    zoo(
        "dqn",
        "MountainCar-v0",
        120_000,
        -100.8,
        9.9,
        {
            "num_envs": 1,
            "rollout_length": 16,
            "num_updates": 8,
            "learning_starts": 1_000,
            "learning_rate": 4e-3,
            "gamma": 0.98,
            "epsilon_end": 0.07,
            "target_period": 600,
            "hidden": (128, 128),
        },
        deviations="The zoo's settings, but for double Q-learning, a step size that falls to 0, a squared loss, a larger "
        "replay and half as many units. Its own settings gave the same mean, -102.8, on the seeds that these were chosen on.",
        episodes=1487,
        minutes=23,
    ),
    _cleanrl("c51", "CartPole-v1", 491.0, 10.0, "c51_jax.py", None),
    zoo(
        "qr_dqn",
        "CartPole-v1",
        50_000,
        500.0,
        0.0,
        {**_QUANTILES, **_CARTPOLE_50K, "num_quantiles": 10},
        name="qr_dqn-CartPole-v1-50k",
        deviations=_ZOO_OWN,
        episodes=300,
    ),
    zoo(
        "qr_dqn",
        "Acrobot-v1",
        100_000,
        -69.135,
        9.967,
        {**_QUANTILES, **_ACROBOT_100K, "num_quantiles": 25},
        name="qr_dqn-Acrobot-v1-100k",
        deviations=_ZOO_OWN,
        episodes=2138,
    ),
    zoo(
        "qr_dqn",
        "MountainCar-v0",
        120_000,
        -106.042,
        15.536,
        {
            **_QUANTILES,
            "rollout_length": 16,
            "num_updates": 8,
            "learning_starts": 1_000,
            "learning_rate": 4e-3,
            "gamma": 0.98,
            "epsilon_end": 0.07,
            "exploration_fraction": 0.2,
            "capacity": 10_000,
            "target_period": 600,
            "hidden": (256, 256),
            "num_quantiles": 25,
        },
        deviations=_ZOO_OWN,
        episodes=1414,
    ),
    zoo(
        "ppo",
        "Acrobot-v1",
        1_000_000,
        -73.5,
        18.2,
        {
            "num_envs": 16,
            "rollout_length": 256,
            "learning_rate": 3e-4,
            "gae_lambda": 0.94,
            "num_minibatches": 64,
            "entropy_coef": 0.0,
            "normalize_observation": True,
            "normalize_reward": True,
        },
        tried="The zoo's own settings. A step size that falls to 0 gave -77.6 on the seeds 100 to 104, where these gave -75.2.",
        episodes=2013,
        minutes=2.9,
    ),
    zoo(
        "a2c",
        "Acrobot-v1",
        500_000,
        -83.4,
        17.2,
        {"num_envs": 16, "normalize_observation": True, "normalize_reward": True},
        episodes=1778,
        minutes=12,
    ),
    zoo(
        "ppo",
        "Pendulum-v1",
        98_304,
        -172.2,
        104.2,
        {**_PENDULUM, "num_minibatches": 64},
        budget=100_000,
        eval_episodes=750,
        deviations="The zoo explores by a state-dependent noise (gSDE), ours by a Gaussian of each step.",
        episodes=750,
        minutes=0.8,
    ),
    zoo(
        "ppo",
        "CartPole-v1",
        100_000,
        500.0,
        0.0,
        {**_CARTPOLE, "gru": 64},
        name="ppo-recurrent-CartPole-v1-no-velocity",
        rules="CartPole-v1 without velocities",
        version=", RecurrentPPO (PPO-LSTM) in its later versions",
        env_options={"mask_observation": (0, 2)},
        deviations="The zoo's policy is an LSTM of 256 units and sees velocities of 0; ours is a GRU of 64 and sees none.",
        minutes=6.3,
    ),
    zoo(
        "ppo",
        "Pendulum-v1",
        98_304,
        -217.9,
        None,
        {**_PENDULUM, "num_minibatches": 4, "normalize_reward": True, "gru": 64},
        budget=100_000,
        name="ppo-recurrent-Pendulum-v1-no-velocity",
        rules="Pendulum-v1 without velocity",
        version=", RecurrentPPO (PPO-LSTM) in its later versions",
        env_options={"mask_observation": (0, 1)},
        eval_episodes=750,
        deviations="The zoo's policy is an LSTM of 256 units and sees a velocity of 0; ours is a GRU of 64 and sees none.",
        minutes=6.0,
    ),
    zoo(
        "ppo",
        "MountainCarContinuous-v0",
        500_000,
        88.3,
        2.6,
        {
            "num_envs": 16,
            "rollout_length": 256,
            "gae_lambda": 0.98,
            "num_epochs": 10,
            "num_minibatches": 16,
            "entropy_coef": 0.0,
            "log_std_init": 1.0,
            "normalize_observation": True,
            "normalize_reward": True,
        },
        budget=20_000,
        deviations="The zoo's state-dependent noise (gSDE) finds the goal within 20,000 steps; forces of deviation e = 2.7, "
        "clipped to bangs to either side, take longer.",
        episodes=633,
        minutes=2.8,
    ),
)
