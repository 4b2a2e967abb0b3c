"""Soft actor-critic (Haarnoja et al. 2018): a random actor that is paid for its entropy, at a temperature that tunes itself.

For actions in a box the actor is a normal distribution squashed by tanh, with a mean and a deviation for each observation; for
discrete actions (Christodoulou 2019) it is a categorical one, whose expectations are exact sums. Deviations: the temperature is
the exponential of what is learned, so that it stays positive; with discrete actions the entropy is tuned to a share of log A
that leaves the better of two actions nearly always to be taken, where the paper's 0.98 leaves it nearly to chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.continuous.family import (
    Algorithm,
    Found,
    Loss,
    OffPolicyConfig,
    OffPolicyState,
    TargetsConfig,
    make_off_policy,
    td_loss,
)
from jaxrl.config import agent_config, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import losses, optimizer
from jaxrl.maths.distributions import Categorical, TanhGaussian, from_parameters, num_parameters
from jaxrl.nets.critics import ActorCritics, actor_critics, drawn
from jaxrl.nets.inputs import ILLEGAL
from jaxrl.nets.view import Seen
from jaxrl.replay.ring import Transitions
from jaxrl.types import Agent, Array, Box, Discrete, Model, PyTree, Spec

LOG_STD_MAX = 2.0
"""Of the normal distribution before tanh, as in the authors' code: a wider one puts its actions onto the bounds."""


@agent_config
class SoftConfig(OffPolicyConfig):
    """The fields of agents with a squashed normal distribution that are paid for its entropy."""

    auto_temperature: bool = static(True, "Tune the temperature to the target entropy.")
    temperature: float = traced(
        1.0, "Weight of the entropy in what is earned; where it tunes itself, at the start.", low=0.0, low_open=True
    )
    target_entropy: float = traced(-1.0, "Entropy in nats that is tuned to, for each component of a continuous action.")


@agent_config
class SACConfig(SoftConfig, TargetsConfig):
    """Soft actor-critic."""

    target_entropy_share: float = traced(
        0.3, "Entropy that is tuned to with discrete actions, as a share of log(A), the most there is.", low=0.0, high=1.0
    )
    actor_guide: str = static(
        "min", "What the actor climbs: the least of its critics, or (REDQ, DroQ) their mean.", choices=("min", "mean")
    )


def make_sac(config: SACConfig, spec: Spec, model: Model | None = None) -> Agent:
    """SAC for actions in a box or discrete ones, and any observations; of a `Position`, legal actions alone.

    Raises:
      UsageError: mixed actions, or a torso that cannot see the observations.
    """
    if isinstance(spec.action, Box):
        networks = actor_critics(config, spec, 2 * num_parameters(spec.action), 1)

        def target(key: Array, state: OffPolicyState, batch: Transitions) -> Array:
            found = next_of(config, networks, key, state, batch)
            return batch.reward + batch.discount * (jnp.min(found.outputs[..., 0], axis=0) + found.bonus)

        algorithm = squashed(
            config, networks, td_loss(networks, target), lambda outputs: guide(config, outputs[..., 0]), config.tau
        )
        return make_off_policy(config, spec, "sac", networks, algorithm)
    if isinstance(spec.action, Discrete):
        networks = actor_critics(config, spec, spec.action.n, spec.action.n)
        return make_off_policy(config, spec, "sac", networks, categorical(config, networks))
    raise UsageError(f"env: sac needs a Box or Discrete actions, not {spec.action}; choose an environment with one of them")


def temperature_of(config: SoftConfig, state: OffPolicyState) -> Array:
    """[] the weight of the entropy."""
    return jnp.exp(state.log_temperature) if config.auto_temperature else jnp.float32(config.temperature)


def adjusted(config: SoftConfig, target_entropy: Array | float, state: OffPolicyState, learning_rate: Array) -> OffPolicyState:
    """The state after a gradient step of the temperature, where it tunes itself; it is reported before that step."""
    reported = state.reported | {"temperature": temperature_of(config, state)}
    if not config.auto_temperature:
        return state._replace(reported=reported)
    gradient = jax.grad(losses.temperature)(state.log_temperature, state.reported["entropy"], target_entropy)
    taken = optimizer.step(state.log_temperature, gradient, state.opt_state["temperature"], learning_rate)
    opt_state = state.opt_state | {"temperature": taken.opt_state}
    return state._replace(log_temperature=taken.params, opt_state=opt_state, reported=reported)


def soft_algorithm(
    config: SoftConfig,
    act: Any,
    critic_loss: Loss,
    actor_loss: Loss,
    target_entropy: Array | float,
    tau: Array | float | None,
) -> Algorithm:
    """The `Algorithm` of an agent that is paid for entropy, whose actor's metrics name its "entropy"; `tau`: see `squashed`."""
    return Algorithm(
        act,
        critic_loss,
        actor_loss,
        reports=("actor_loss", "entropy", "temperature"),
        log_temperature=jnp.log(jnp.float32(config.temperature)) if config.auto_temperature else (),
        targets=() if tau is None else ("critic",),
        tau=0.0 if tau is None else tau,
        adjust=lambda state, learning_rate: adjusted(config, target_entropy, state, learning_rate),
    )


def guide(config: SACConfig, q: Array) -> Array:
    """[K, ...] values -> [...] what the actor climbs."""
    return jnp.min(q, axis=0) if config.actor_guide == "min" else jnp.mean(q, axis=0)


# --- actions in a box -------------------------------------------------------------------------------------------------


def policy_of(networks: ActorCritics, actor: PyTree, seen: Seen) -> TanhGaussian:
    """What the actor says of observations [N, *]."""
    return policy_from(networks, networks.actor.apply(actor, seen.x))


def policy_from(networks: ActorCritics, outputs: Any) -> TanhGaussian:
    """What the actor says by its outputs [N, 2 D]."""
    mean, log_std = jnp.split(outputs, 2, axis=-1)
    chosen: TanhGaussian = from_parameters(networks.view.spec.action, mean, jnp.minimum(log_std, LOG_STD_MAX), tanh=True)
    return chosen


class Next(NamedTuple):
    """What a soft target is made of.

    Attributes:
      outputs: [K, N, outputs] of the target's critics, of the action drawn in the next observation.
      bonus: [N] what its entropy is worth, -temperature log pi.
    """

    outputs: Array
    bonus: Array


def next_of(config: SoftConfig, networks: ActorCritics, key: Array, state: OffPolicyState, batch: Transitions) -> Next:
    """What the target's critics, as many as the config draws, say of what the actor would do next."""
    key_action, key_critics, key_drop = jax.random.split(key, 3)
    chosen = policy_of(networks, state.policy.params, batch.next_obs)
    action, log_prob = chosen.sample_and_log_prob(key_action)
    critics = drawn(key_critics, state.target["critic"], config.num_target_critics)
    return Next(networks.outputs(critics, batch.next_obs, action, key_drop), -temperature_of(config, state) * log_prob)


def squashed(
    config: SoftConfig,
    networks: ActorCritics,
    critic_loss: Loss,
    guided: Callable[[Array], Array],
    tau: Array | float | None = None,
) -> Algorithm:
    """An agent whose actor is a squashed normal distribution (Haarnoja et al. 2018, Algorithm 1).

    Args:
      critic_loss: as of `Algorithm`.
      guided: critics' outputs [K, N, outputs] -> [N] what the actor climbs.
      tau: [] weight of the critics in an update of their slowly moving copy; None for none.
    """

    def act(noise: Array, actor: PyTree, seen: Seen, explore: bool) -> Array:
        chosen = policy_of(networks, actor, seen)
        return chosen.at(noise) if explore else chosen.mode()

    def actor_loss(actor: PyTree, state: OffPolicyState, key: Array, batch: Transitions) -> tuple[Array, Found]:
        key_action, key_drop = jax.random.split(key)
        outputs, changed = networks.fit_actor(actor, batch.obs)
        action, log_prob = policy_from(networks, outputs).sample_and_log_prob(key_action)
        q = guided(networks.outputs(state.critic, batch.obs, action, key_drop))
        loss = jnp.mean(temperature_of(config, state) * log_prob - q)
        return loss, Found({"actor_loss": loss, "entropy": -jnp.mean(log_prob)}, changed=changed)

    target_entropy = config.target_entropy * num_parameters(networks.view.spec.action)
    return soft_algorithm(config, act, critic_loss, actor_loss, target_entropy, tau)


# --- discrete actions -------------------------------------------------------------------------------------------------


def logits_of(networks: ActorCritics, actor: PyTree, seen: Seen) -> Array:
    """[N, A] of observations [N, *]; illegal actions are so unlikely that they are never drawn."""
    logits: Any = networks.actor.apply(actor, seen.x)
    return logits if isinstance(seen.legal, tuple) else jnp.where(seen.legal, logits, ILLEGAL)


def categorical(config: SACConfig, networks: ActorCritics) -> Algorithm:
    """SAC with a categorical distribution (Christodoulou 2019, Algorithm 1)."""

    def act(key: Array, actor: PyTree, seen: Seen, explore: bool) -> Array:
        chosen = Categorical(logits_of(networks, actor, seen))
        return chosen.sample(key) if explore else chosen.mode()

    def target(key: Array, state: OffPolicyState, batch: Transitions) -> Array:
        key_critics, key_drop = jax.random.split(key)
        log_prob = jax.nn.log_softmax(logits_of(networks, state.policy.params, batch.next_obs))
        critics = drawn(key_critics, state.target["critic"], config.num_target_critics)
        q = jnp.min(networks.critics.apply(critics, batch.next_obs.x, None, key_drop), axis=0)
        return batch.reward + batch.discount * losses.soft_value(log_prob, q, temperature_of(config, state))

    def actor_loss(actor: PyTree, state: OffPolicyState, key: Array, batch: Transitions) -> tuple[Array, Found]:
        log_prob = jax.nn.log_softmax(logits_of(networks, actor, batch.obs))
        q = jax.lax.stop_gradient(guide(config, networks.critics.apply(state.critic, batch.obs.x, None, key)))
        loss = -jnp.mean(losses.soft_value(log_prob, q, temperature_of(config, state)))
        entropy = jnp.mean(losses.soft_value(log_prob, jnp.zeros_like(q), 1.0))
        return loss, Found({"actor_loss": loss, "entropy": entropy})

    target_entropy = config.target_entropy_share * math.log(networks.view.spec.action.n)
    return soft_algorithm(config, act, td_loss(networks, target), actor_loss, target_entropy, config.tau)
