"""What the benchmarks train: agents, fields and environments by name. Plain values, so that this needs no package."""

from __future__ import annotations

from typing import Any, NamedTuple


class Case(NamedTuple):
    """What to train: an agent's name, the fields of its config that differ from the defaults, and an environment."""

    agent: str
    fields: dict[str, Any]
    env: str = "CartPole-v1"


PUREJAXRL_DQN: dict[str, Any] = {
    "num_envs": 10,
    "capacity": 10_000,
    "batch_size": 128,
    "hidden": (120, 84),
    "learning_rate": 2.5e-4,
    "learning_rate_end_share": 1.0,
    "epsilon_start": 1.0,
    "epsilon_end": 0.05,
    "exploration_fraction": 0.5,
    "target_period": 500,
    "learning_starts": 10_000,
    "gamma": 0.99,
    "loss": "squared",
    "double": False,
}

PUREJAXRL_PPO: dict[str, Any] = {
    "num_envs": 4,
    "rollout_length": 128,
    "num_epochs": 4,
    "num_minibatches": 4,
    "hidden": (64, 64),
    "activation": "tanh",
    "learning_rate": 2.5e-4,
    "learning_rate_end_share": 0.0,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip": 0.2,
    "clip_value": True,
    "entropy_coef": 0.01,
    "value_coef": 0.5,
    "max_grad_norm": 0.5,
    "normalize_advantage": True,
}

COMMON_SAC: dict[str, Any] = {
    "num_envs": 1,
    "batch_size": 256,
    "hidden": (256, 256),
    "capacity": 20_000,
    "learning_starts": 1_000,
}

PUREJAXRL_PPO_MINATAR: dict[str, Any] = PUREJAXRL_PPO | {
    "num_envs": 64,
    "num_minibatches": 8,
    "activation": "relu",
    "learning_rate": 5e-3,
    "torso": "mlp",
}

CASES: dict[str, Case] = {
    "dqn-purejaxrl": Case("dqn", PUREJAXRL_DQN),
    "dqn-default": Case("dqn", {}),
    "dqn-double-dueling": Case("dqn", PUREJAXRL_DQN | {"double": True, "dueling": True}),
    "dqn-replay-1e6": Case("dqn", PUREJAXRL_DQN | {"capacity": 1_000_000}),
    "dqn-64-envs": Case("dqn", PUREJAXRL_DQN | {"num_envs": 64, "capacity": 9_984}),
    "ppo-purejaxrl": Case("ppo", PUREJAXRL_PPO),
    "ppo-default": Case("ppo", {}),
    "ppo-gru": Case("ppo", {"gru": 64, "num_envs": 8}),
    "ppo-pendulum": Case("ppo", {}, "Pendulum-v1"),
    "a2c-default": Case("a2c", {}),
    "reinforce-default": Case("reinforce", {}),
    "ppo-breakout": Case("ppo", PUREJAXRL_PPO_MINATAR, "Breakout-MinAtar"),
    "ppo-2048-envs": Case("ppo", PUREJAXRL_PPO | {"num_envs": 2_048, "rollout_length": 32, "num_minibatches": 32}),
    "dqn-breakout": Case("dqn", PUREJAXRL_DQN | {"capacity": 50_000}, "Breakout-MinAtar"),
    "sac-common": Case("sac", COMMON_SAC, "Pendulum-v1"),
}
