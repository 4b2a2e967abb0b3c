"""Agents that learn from whole episodes: what REINFORCE and the textbook actor-critic share.

An iteration plays B episodes (`fresh_episodes`: environments are reset first, and steps after an episode's end weigh nothing),
takes one step along the policy gradient, and fits the value function to its targets. An agent of this kind is one function,
`weigh`, that says what weighs an action and what the value function is fitted to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.policy_gradient import policy
from jaxrl.agents.policy_gradient.policy import PolicyConfig
from jaxrl.config import MAX_REPEATS, agent_config, static, traced
from jaxrl.maths import losses, optimizer
from jaxrl.maths.minibatches import explained_variance, standardize, weighted_mean
from jaxrl.nets.actor_critic import ActorCritic, Params, Policy, Seen, actor_critic
from jaxrl.types import Agent, Array, Metrics, Progress, PyTree, Rollout, Spec, episode_end, first_episode_mask


@agent_config
class EpisodicConfig(PolicyConfig):
    """The fields of agents that learn from whole episodes."""

    num_envs: int = static(4, "Episodes of one iteration, played side by side (B).", low=1)
    rollout_length: int = static(
        0, "Steps of an iteration (T); 0 means the environment's time limit, the least it may be.", low=0
    )
    value_learning_rate: float = traced(5e-3, "Step size of Adam for the value function, at the start.", low=0.0)
    num_value_updates: int = static(10, "Gradient steps on the value function in one iteration.", low=1, high=MAX_REPEATS)
    normalize_advantage: bool = static(False, "Standardise what weighs the actions of an iteration.")


class EpisodicState(NamedTuple):
    """State of the agent.

    Attributes:
      policy: parameters of actor and critic, and the observations' moments.
      opt_state: of the actor, of `jaxrl.maths.optimizer`.
      value_opt_state: of the critic.
      average: [] moving average of returns.
    """

    policy: Policy
    opt_state: PyTree
    value_opt_state: PyTree
    average: Array


class Episodes(NamedTuple):
    """B episodes [T, B] as `weigh` sees them.

    Attributes:
      discount: gamma * (1 - terminated).
      value, next_value: V(obs_t) and V(next_obs_t).
      counts: 1.0 for the steps of the first episode of each column, else 0.0.
      average: [] moving average of earlier returns.
    """

    reward: Array
    discount: Array
    ended: Array
    value: Array
    next_value: Array
    counts: Array
    average: Array


class Weights(NamedTuple):
    """What `weigh` returns.

    Attributes:
      weight: [T, B] of each action.
      target: [T, B] what the value function is fitted to.
      average: [] the new moving average of returns.
    """

    weight: Array
    target: Array
    average: Array


def policy_loss(log_prob: Array, weight: Array, counts: Array) -> Array:
    """-(1 / B) sum over episodes and their steps of log pi(a_t | s_t) w_t; its gradient is the estimator's, negated.

    Args:
      log_prob, weight, counts: [T, B].
    """
    return jnp.sum(counts * losses.policy_gradient(log_prob, weight)) / log_prob.shape[1]


def episodic_agent(config: EpisodicConfig, spec: Spec, weigh: Callable[[Episodes], Weights], has_value: bool) -> Agent:
    """The agent of a rule for weighing actions.

    Args:
      weigh: pure; no gradient is taken through it.
      has_value: fit a value function; without one `weigh` sees zeros for its values.
    """
    networks = actor_critic(config, spec, shared=False)  # Each has its own optimizer.

    def init(first: Policy) -> EpisodicState:
        actor, critic = split(first.params)
        return EpisodicState(first, optimizer.init(actor), optimizer.init(critic), jnp.float32(0.0))

    def split(params: Params) -> tuple[Params, Params]:
        return {"actor": params["actor"], "log_std": params["log_std"]}, {"critic": params["critic"]}

    def update(key: Array, state: EpisodicState, rollout: Rollout, progress: Progress) -> tuple[EpisodicState, Metrics]:
        (params, moments), ended = state.policy, episode_end(rollout)
        actor, critic = split(params)
        counts = first_episode_mask(ended).astype(jnp.float32)
        x = networks.inputs(moments, rollout.obs)
        value = next_value = jnp.zeros_like(rollout.reward)
        if has_value:
            value, next_value = networks.value(critic, x), networks.value(critic, networks.inputs(moments, rollout.next_obs))
        discount = config.gamma * (1.0 - rollout.terminated)
        found = weigh(Episodes(rollout.reward, discount, ended, value, next_value, counts, state.average))
        weight = standardize(found.weight, counts) if config.normalize_advantage else found.weight
        rate = policy.learning_rate(config, progress)
        grads, metrics = jax.grad(partial(actor_loss, config, networks), has_aux=True)(actor, x, rollout.action, weight, counts)
        step = optimizer.step(actor, grads, state.opt_state, rate, config.max_grad_norm)
        metrics |= {"grad_norm": step.grad_norm, "learning_rate": rate}
        value_opt_state = state.value_opt_state
        if has_value:
            value_rate = rate / config.learning_rate * config.value_learning_rate
            start = critic, state.value_opt_state
            critic, value_opt_state, value_loss = fit_value(config, networks, start, x, found.target, counts, value_rate)
            explained = explained_variance(found.target, value, counts)
            metrics |= {"value_loss": value_loss, "explained_variance": explained}
        changed = networks.absorb(Policy(step.params | critic, moments), rollout.obs)
        return EpisodicState(changed, step.opt_state, value_opt_state, found.average), metrics

    return policy.agent(networks, init, update, fresh_episodes=True)


def actor_loss(
    config: EpisodicConfig,
    networks: ActorCritic,
    actor: Params,
    inputs: Seen,
    action: PyTree,
    weight: Array,
    counts: Array,
) -> tuple[Array, Metrics]:
    """`policy_loss` with the entropy bonus; arrays are [T, B]."""
    chosen = networks.distribution(actor, inputs)
    entropy = weighted_mean(chosen.entropy(), counts)
    loss = policy_loss(chosen.log_prob(action), weight, counts) - config.entropy_coef * entropy
    return loss, {"loss": loss, "entropy": entropy}


def fit_value(
    config: EpisodicConfig,
    networks: ActorCritic,
    start: tuple[Params, PyTree],
    inputs: Seen,
    target: Array,
    counts: Array,
    rate: Array,
) -> tuple[Params, PyTree, Array]:
    """Gradient steps of the critic towards `target` [T, B].

    Args:
      start: its parameters and optimizer state.
      rate: [] step size.

    Returns:
      The new ones, and the loss before the first step.
    """

    def loss(critic: Params) -> Array:
        return weighted_mean(losses.squared(networks.value(critic, inputs) - target), counts)

    def step(carry: tuple[Params, PyTree], _: None) -> tuple[tuple[Params, PyTree], Array]:
        value, grads = jax.value_and_grad(loss)(carry[0])
        taken = optimizer.step(carry[0], grads, carry[1], rate, config.max_grad_norm)
        return (taken.params, taken.opt_state), value

    (critic, opt_state), values = jax.lax.scan(step, start, None, length=config.num_value_updates)
    return critic, opt_state, values[0]
