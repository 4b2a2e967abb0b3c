"""jaxrl's agents at the settings that `peers.py` gives to all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxrl.agents import DQNConfig, PPOConfig, SACConfig, make_dqn, make_ppo, make_sac
from jaxrl.config import Config


def configured(s: dict[str, Any]) -> tuple[Callable[..., Any], Config]:
    """(make_agent, config) of the algorithm `s["algorithm"]`."""
    if s["algorithm"] == "dqn":
        return make_dqn, DQNConfig(
            num_envs=s["num_envs"],
            rollout_length=s["rollout_length"],
            learning_starts=s["learning_starts"],
            learning_rate=s["learning_rate"],
            learning_rate_end_share=1.0,
            gamma=s["gamma"],
            epsilon_start=s["epsilon_start"],
            epsilon_end=s["epsilon_end"],
            exploration_fraction=s["exploration_fraction"],
            capacity=s["capacity"],
            batch_size=s["batch_size"],
            num_updates=1,
            target_period=s["target_period"],
            tau=1.0,
            loss="squared",
            double=False,
            dueling=False,
            hidden=tuple(s["hidden"]),
            activation="relu",
            max_grad_norm=None,
        )
    if s["algorithm"] == "sac":
        return make_sac, SACConfig(
            num_envs=s["num_envs"],
            rollout_length=s["rollout_length"],
            learning_starts=s["learning_starts"],
            learning_rate=s["learning_rate"],
            gamma=s["gamma"],
            capacity=s["capacity"],
            batch_size=s["batch_size"],
            update_to_data=1.0,
            tau=s["tau"],
            hidden=tuple(s["hidden"]),
        )
    return make_ppo, PPOConfig(
        num_envs=s["num_envs"],
        rollout_length=s["rollout_length"],
        learning_rate=s["learning_rate"],
        learning_rate_end_share=0.0,
        gamma=s["gamma"],
        gae_lambda=s["gae_lambda"],
        num_epochs=s["num_epochs"],
        num_minibatches=s["num_minibatches"],
        clip=s["clip"],
        clip_value=True,
        entropy_coef=s["entropy_coef"],
        value_coef=s["value_coef"],
        normalize_advantage=True,
        hidden=tuple(s["hidden"]),
        activation="tanh",
        max_grad_norm=s["max_grad_norm"],
    )
