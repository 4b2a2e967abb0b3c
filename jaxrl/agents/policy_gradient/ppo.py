"""Proximal policy optimization (Schulman et al. 2017, Algorithm 1), feed-forward or recurrent.

Each iteration acts T steps in B environments, estimates advantages by GAE, and then takes several epochs of minibatch steps on
the clipped objective. Value clipping, advantage normalisation, learning-rate annealing and a stop at a target KL divergence are
flags (Huang et al. 2022, "The 37 Implementation Details of Proximal Policy Optimization"), and so are advantages that are
estimated anew before each pass (Andrychowicz et al. 2021, "What Matters for On-Policy Deep Actor-Critic Methods?", 3.5). With
`gru` the minibatches are whole sequences of environments, and gradients flow through the T steps of a rollout.

A truncated step bootstraps from the value of its true successor, which for a recurrent agent is seen with the memory from
before the reset.

An agent that differs in its advantages, its loss or its networks is `make_ppo` with a function in that place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

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
from jaxrl.config import MAX_REPEATS, agent_config, rollout_length, static, traced
from jaxrl.contracts.parts import own_part
from jaxrl.contracts.returns import described, parts_of, refuse, same_structure
from jaxrl.maths import losses, optimizer
from jaxrl.maths.minibatches import check_minibatches, epochs, explained_variance, items, standardize, swap_axes
from jaxrl.nets.actor_critic import ActorCritic, Params, Seen, actor_critic
from jaxrl.types import Agent, Array, Metrics, Model, Progress, PyTree, Rollout, Spec, episode_end

ADAM_EPS = 1e-5


@agent_config
class PPOConfig(RolloutConfig):
    """Proximal policy optimization."""

    num_envs: int = static(8, "Environments stepped side by side (B).", low=1)
    rollout_length: int = static(
        128, "Steps of each environment in one iteration (T); 0 means the environment's time limit.", low=0
    )
    learning_rate: float = traced(1e-3, "Step size of Adam at the start.", low=0.0, low_open=True)
    entropy_coef: float = traced(0.01, "Weight of the entropy bonus.", low=0.0)
    gae_lambda: float = traced(0.95, "Lambda of the advantage estimate; 1 is Monte Carlo.", low=0.0, high=1.0)
    num_epochs: int = static(4, "Passes over a rollout.", low=1, high=MAX_REPEATS)
    num_minibatches: int = static(4, "Gradient steps in one pass.", low=1)
    clip: float = traced(0.2, "How far the probability ratio may move from 1.", low=0.0, low_open=True)
    clip_value: bool = static(False, "Hold each new value within `clip` of the old one.")
    normalize_advantage: bool = static(True, "Standardise the advantages of each minibatch.")
    recompute_advantage: bool = static(
        False, "Estimate advantages and the value's targets anew before each pass, by the value function as it is then."
    )
    target_kl: float | None = static(None, "End an iteration's updates at this KL divergence from the old policy.", low=1e-8)
    critic_hidden: tuple[int, ...] | None = static(
        None, "Units of each hidden layer of the critic where they are not those of the actor.", low=1
    )
    gru: int | None = static(None, "Units of a recurrent core between observation and heads; none for feed-forward.", low=1)


class Batch(NamedTuple):
    """What a minibatch holds. Leaves are [N, ...], N transitions; of a recurrent agent [N, T, ...], N sequences.

    Attributes:
      inputs: observations as the networks take them.
      ended: where the episode ended after the step.
      memory: [N, units] at the start of each sequence, () without.
    """

    inputs: Seen
    action: PyTree
    ended: Array
    log_prob: Array
    value: Array
    advantage: Array
    target: Array
    memory: PyTree


class Fitted(NamedTuple):
    """What the policy being fitted says of a minibatch: [N] each, of a recurrent agent [N, T].

    Attributes:
      log_prob: of the actions done.
      value: of the observations.
      entropy: of the distributions over actions.
    """

    log_prob: Array
    value: Array
    entropy: Array


class Loss(Protocol):
    """(config, batch, fitted) -> (loss [], metrics).

    The gradient goes through `fitted` alone. Of `batch`, `advantage` [N] is standardised where the config says so, `log_prob`
    and `value` [N] are the old policy's, and `target` [N] is what `fitted.value` is fitted to. With `target_kl`, the metrics
    need `approx_kl`.
    """

    def __call__(self, config: Any, batch: Batch, fitted: Fitted) -> tuple[Array, Metrics]: ...


def clipped_loss(config: PPOConfig, batch: Batch, fitted: Fitted) -> tuple[Array, Metrics]:
    """The clipped objective of a minibatch, with value loss and entropy bonus (eq. 9)."""
    ratio, log_ratio = losses.probability_ratio(fitted.log_prob, batch.log_prob)
    policy_loss = jnp.mean(losses.clipped_surrogate(ratio, batch.advantage, config.clip))
    if config.clip_value:
        value_loss = jnp.mean(losses.clipped_value(fitted.value, batch.value, batch.target, config.clip))
    else:
        value_loss = jnp.mean(losses.squared(fitted.value - batch.target))
    entropy = jnp.mean(fitted.entropy)
    total = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
    return total, {
        "loss": total,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        # Schulman 2020, "Approximating KL Divergence": (r - 1) - log r is unbiased and never negative.
        "approx_kl": jnp.mean(ratio - 1.0 - log_ratio),
        "clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > config.clip),
    }


def ppo_networks(config: PPOConfig, spec: Spec) -> ActorCritic:
    """Actor and critic, with a recurrent core where the config names one."""
    return actor_critic(config, spec, config.gru, critic_hidden=config.critic_hidden)


def make_ppo(
    config: PPOConfig,
    spec: Spec,
    model: Model | None = None,
    *,
    advantage: EstimateAdvantage = gae,
    loss: Loss = clipped_loss,
    network: MakeActorCritic = ppo_networks,
) -> Agent:
    """PPO for discrete, continuous and mixed actions and any observations; of a `Position`, legal actions alone.

    Args:
      advantage, loss, network: see `EstimateAdvantage`, `Loss` and `MakeActorCritic`; by default those of the paper. They get
        `config`, which may be of a subclass with fields of its own.

    Raises:
      UsageError: minibatches that do not divide the transitions (environments, for a recurrent agent) of an iteration.
    """
    check_minibatches(config.num_minibatches, config.num_envs, rollout_length(config, spec), config.gru is not None)
    networks = policy.made(network, config, spec)

    def update(key: Array, state: RolloutState, rollout: Rollout, progress: Progress) -> tuple[RolloutState, Metrics]:
        scale, data, estimates = prepare(config, networks, advantage, state, rollout)
        rate = policy.learning_rate(config, progress)

        def learn(carry: tuple[Params, PyTree], batch: Batch) -> tuple[tuple[Params, PyTree], Metrics]:
            grads, metrics = jax.grad(partial(objective, config, networks, loss), has_aux=True)(carry[0], batch)
            step = optimizer.step(carry[0], grads, carry[1], rate, config.max_grad_norm, ADAM_EPS)
            return (step.params, step.opt_state), metrics | {"grad_norm": step.grad_norm}

        carry = state.policy.params, state.opt_state

        def renew(carry: tuple[Params, PyTree], data: Batch) -> Batch:
            return data._replace(**estimates(carry[0])._asdict()) if config.recompute_advantage else data

        (params, opt_state), metrics = epochs(
            key, learn, carry, data, config.num_epochs, config.num_minibatches, config.target_kl, renew
        )
        metrics |= {"explained_variance": explained_variance(data.target, data.value), "learning_rate": rate}
        # Merged after learning, so that the ratio of the first minibatch is exactly 1.
        changed = networks.absorb(state.policy._replace(params=params), rollout.obs)
        unit = policy.unit_of_value(state.returns)
        return RolloutState(changed, opt_state, scale, policy.returns_seen(state.returns, unit * data.target)), metrics

    return policy.agent(networks, partial(policy.first_state, config), update)


def prepare(
    config: PPOConfig, networks: ActorCritic, advantage: EstimateAdvantage, state: RolloutState, rollout: Rollout
) -> tuple[PyTree, Batch, Callable[[Params], policy.Estimate]]:
    """What an iteration learns from.

    Returns:
      (the reward scale with the rollout merged, everything that the old policy says about it, as [N, ...], and what other
      parameters make of its advantages and targets).
    """
    (params, moments), ended = state.policy, episode_end(rollout)
    scale, reward = policy.scaled_reward(config, state.reward_scale, rollout)
    inputs, next_inputs = networks.inputs(moments, rollout.obs), networks.inputs(moments, rollout.next_obs)
    memory = jax.tree.map(lambda leaf: leaf[0], rollout.extras)
    unit = policy.unit_of_value(state.returns)

    laid = partial(items, sequences=config.gru is not None)

    def judge(params: Params) -> tuple[PyTree, Array, policy.Estimate]:
        """(features, the critic's outputs, advantages, and what those outputs are fitted to)."""
        memories, features = networks.unroll(params, memory, inputs, ended)
        output = networks.value(params, features)
        next_value = unit * networks.value(params, networks.step(params, memories, next_inputs)[1])
        discount = config.gamma * (1.0 - rollout.terminated)
        found = policy.estimated(advantage, config, Steps(reward, discount, unit * output, next_value, ended))
        return features, output, found._replace(target=found.target / unit)

    features, value, estimate = judge(params)
    log_prob = networks.distribution(params, features).log_prob(rollout.action)
    batch = laid(Batch(inputs, rollout.action, ended, log_prob, value, *estimate, ()))
    if config.gru is not None:
        batch = batch._replace(memory=memory)
    return scale, batch, lambda params: laid(judge(params)[2])


def objective(config: PPOConfig, networks: ActorCritic, loss: Loss, params: Params, batch: Batch) -> tuple[Array, Metrics]:
    """The loss of what the networks say of a minibatch."""
    if config.gru is not None:
        features = swap_axes(networks.unroll(params, batch.memory, *swap_axes((batch.inputs, batch.ended)))[1])
    else:
        _, features = networks.step(params, batch.memory, batch.inputs)
    chosen, value = networks.distribution(params, features), networks.value(params, features)
    advantage = standardize(batch.advantage) if config.normalize_advantage else batch.advantage
    fitted = Fitted(chosen.log_prob(batch.action), value, chosen.entropy())
    function = "loss(config, batch, fitted)"
    with own_part("loss", loss, function):
        returned = loss(config, batch._replace(advantage=advantage), fitted)
    total, metrics = parts_of(function, returned, ("loss", "metrics"))
    if not same_structure(total, 0) or jnp.shape(total) != ():
        refuse(f"{function} returns loss as {described(total)}; return its mean, a scalar")
    if not isinstance(metrics, dict):
        refuse(f"{function} returns metrics as {described(metrics)}; return a dict of scalars")
    if config.target_kl is not None and "approx_kl" not in metrics:
        refuse(f"{function} returns no metric approx_kl, which target_kl={config.target_kl} needs; return one")
    return total, metrics
