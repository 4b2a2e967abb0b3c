"""Advantage actor-critic, the synchronous form of A3C (Mnih et al. 2016, Algorithm S3).

Each iteration acts a few steps in B environments, bootstraps from the critic, and takes one gradient step on the sum of the
policy loss, the value loss and the entropy bonus. With `gae_lambda` 1 the advantage is the n-step one of the paper, n counting
to the end of the rollout. Deviations: Adam instead of shared RMSProp, and a learning rate that falls to zero.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from jaxrl.agents.policy_gradient import policy
from jaxrl.agents.policy_gradient.policy import (
    EstimateAdvantage,
    MakeActorCritic,
    RolloutConfig,
    RolloutState,
    Steps,
    gae,
)
from jaxrl.config import agent_config, static, traced
from jaxrl.maths import losses, optimizer
from jaxrl.maths.minibatches import explained_variance, standardize
from jaxrl.nets.actor_critic import Params, Policy, actor_critic
from jaxrl.types import Agent, Array, Metrics, Model, Progress, PyTree, Rollout, Spec, episode_end


@agent_config
class A2CConfig(RolloutConfig):
    """Advantage actor-critic."""

    num_envs: int = static(8, "Environments stepped side by side (B).", low=1)
    rollout_length: int = static(
        5, "Steps of each environment in one iteration (T); 0 means the environment's time limit.", low=0
    )
    learning_rate: float = traced(1.5e-3, "Step size of Adam at the start.", low=0.0, low_open=True)
    gae_lambda: float = traced(1.0, "Lambda of the advantage estimate; 1 is the n-step advantage.", low=0.0, high=1.0)
    normalize_advantage: bool = static(False, "Standardise the advantages of a rollout.")


def make_a2c(
    config: A2CConfig,
    spec: Spec,
    model: Model | None = None,
    *,
    advantage: EstimateAdvantage = gae,
    network: MakeActorCritic = actor_critic,
) -> Agent:
    """A2C for discrete, continuous and mixed actions and any observations.

    Args:
      advantage, network: see `EstimateAdvantage` and `MakeActorCritic`; they get `config`, which may be of a subclass.
    """
    networks = policy.made(network, config, spec)

    def loss(
        params: Params, moments: PyTree, rollout: Rollout, reward: Array, unit: Array
    ) -> tuple[Array, tuple[Metrics, Array]]:
        """The loss, and (metrics, the returns [T, B] that the values are fitted to)."""
        features, next_features = (
            networks.step(params, (), networks.inputs(moments, obs))[1] for obs in (rollout.obs, rollout.next_obs)
        )
        chosen, value = networks.distribution(params, features), networks.value(params, features)
        next_value = networks.value(params, next_features)
        discount = config.gamma * (1.0 - rollout.terminated)
        fixed = jax.lax.stop_gradient((unit * value, unit * next_value))
        weight, target = policy.estimated(advantage, config, Steps(reward, discount, *fixed, episode_end(rollout)))
        weight = standardize(weight) if config.normalize_advantage else weight
        policy_loss = jnp.mean(losses.policy_gradient(chosen.log_prob(rollout.action), weight))
        value_loss = jnp.mean(losses.squared(value - target / unit))
        entropy = jnp.mean(chosen.entropy())
        total = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
        metrics = {
            "loss": total,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "explained_variance": explained_variance(target, unit * value),
        }
        return total, (metrics, target)

    def update(key: Array, state: RolloutState, rollout: Rollout, progress: Progress) -> tuple[RolloutState, Metrics]:
        params, moments = state.policy
        scale, reward = policy.scaled_reward(config, state.reward_scale, rollout)
        unit = policy.unit_of_value(state.returns)
        grads, (metrics, target) = jax.grad(loss, has_aux=True)(params, moments, rollout, reward, unit)
        rate = policy.learning_rate(config, progress)
        step = optimizer.step(params, grads, state.opt_state, rate, config.max_grad_norm)
        changed = networks.absorb(Policy(step.params, moments), rollout.obs)
        metrics |= {"grad_norm": step.grad_norm, "learning_rate": rate}
        return RolloutState(changed, step.opt_state, scale, policy.returns_seen(state.returns, target)), metrics

    return policy.agent(networks, partial(policy.first_state, config), update)
