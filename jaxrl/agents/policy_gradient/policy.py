"""What the policy-gradient agents share: fields of their configs, the state of those that learn from rollouts, and rewards."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.config import Config, agent_config, static, traced
from jaxrl.contracts.parts import check_part, check_parts, own_part
from jaxrl.contracts.returns import described, is_array, refuse
from jaxrl.maths import normalize, optimizer, returns, schedules
from jaxrl.maths.distributions import num_parameters
from jaxrl.nets.actor_critic import ActorCritic, Policy
from jaxrl.nets.layers import ACTIVATIONS
from jaxrl.nets.torso import TORSO_HELP, TORSOS
from jaxrl.types import Agent, Array, Progress, PyTree, Rollout, Spec, episode_end, spec_zeros


@agent_config
class PolicyConfig(Config):
    """The fields that all policy-gradient agents have."""

    learning_rate: float = traced(1e-3, "Step size of Adam at the start.", low=0.0, low_open=True)
    learning_rate_end_share: float = traced(
        0.0,
        "Share of the step size that is left at the end, along a straight line; 1 keeps it.",
        low=0.0,
        high=1.0,
        formerly="learning_rate_end",
    )
    gamma: float = traced(0.99, "Discount of future rewards.", low=0.0, high=1.0)
    entropy_coef: float = traced(0.0, "Weight of the entropy bonus.", low=0.0)
    max_grad_norm: float | None = static(0.5, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)
    hidden: tuple[int, ...] = static((64, 64), "Units of each hidden layer of actor and critic.", low=1)
    activation: str = static("tanh", "Activation of the hidden layers.", choices=tuple(ACTIVATIONS))
    torso: str = static("auto", TORSO_HELP, choices=TORSOS)
    distribution: str = static(
        "gaussian",
        "Continuous actions: gaussian (clipped by the environment) or tanh_gaussian (squashed into the bounds).",
        choices=("gaussian", "tanh_gaussian"),
    )
    log_std_init: float = traced(0.0, "Log of the first standard deviation of continuous actions.", low=-10.0, high=4.0)
    normalize_observation: bool = static(False, "Normalise observations by running moments.")


@agent_config
class RolloutConfig(PolicyConfig):
    """The fields of agents that learn from rollouts cut anywhere, with one loss for actor and critic."""

    value_coef: float = traced(0.5, "Weight of the value loss.", low=0.0)
    normalize_reward: bool = static(False, "Divide rewards by the running deviation of the discounted return.")
    reward_scaling: float = traced(1.0, "What rewards are multiplied by to learn from; scores stay as they are.", low=0.0)
    normalize_value: bool = static(
        False, "Let the critic predict returns over their running deviation; rewards and advantages stay as they are."
    )


class RolloutState(NamedTuple):
    """State of an agent with a `RolloutConfig`.

    Attributes:
      policy: parameters of actor and critic, and the observations' moments.
      opt_state: of `jaxrl.maths.optimizer`.
      reward_scale: `RewardScale`, () where rewards are not normalised.
      returns: `Moments` of all returns that the critic was fitted to, () where values are not normalised.
    """

    policy: Policy
    opt_state: PyTree
    reward_scale: PyTree
    returns: PyTree = ()


class Steps(NamedTuple):
    """What an advantage is estimated from, [T, B] each and without gradient.

    Attributes:
      reward: scaled where the config says so.
      discount: gamma * (1 - terminated).
      value, next_value: V(obs_t) and V(next_obs_t).
      ended: where an episode ended, for whatever reason.
    """

    reward: Array
    discount: Array
    value: Array
    next_value: Array
    ended: Array


class Estimate(NamedTuple):
    """What an `EstimateAdvantage` returns, [T, B] each: what weighs an action, and what the value function is fitted to."""

    advantage: Array
    target: Array


class EstimateAdvantage(Protocol):
    """(config, steps) -> `Estimate`."""

    def __call__(self, config: Any, steps: Steps) -> Estimate: ...


class MakeActorCritic(Protocol):
    """(config, spec) -> `ActorCritic`, from `jaxrl.nets.actor_critic`; `dataclasses.replace` puts other modules into one."""

    def __call__(self, config: Any, spec: Spec) -> ActorCritic: ...


def gae(config: Any, steps: Steps) -> Estimate:
    """Generalised advantage estimation with `config.gae_lambda`, and the returns that it implies."""
    advantage = returns.gae(steps.reward, steps.discount, steps.value, steps.next_value, steps.ended, config.gae_lambda)
    return Estimate(advantage, advantage + steps.value)


def estimated(advantage: EstimateAdvantage, config: Any, steps: Steps) -> Estimate:
    """What an advantage makes of steps.

    Raises:
      ContractError, OwnCodeError: one of the user's returned something else, or raised.
    """
    call = "advantage(config, steps)"
    with own_part("advantage", advantage, call):
        returned = advantage(config, steps)
    return Estimate(*check_parts(call, returned, Estimate._fields, steps.reward.shape, "step"))


def made(network: MakeActorCritic, config: Any, spec: Spec) -> ActorCritic:
    """The networks; errors as of `estimated`."""
    call = "network(config, spec) -> ActorCritic"
    with own_part("network", network, call):
        networks = network(config, spec)
        if not isinstance(networks, ActorCritic):
            refuse(f"network(config, spec) returns a {type(networks).__name__}; return an ActorCritic, from actor_critic(...)")
    check_part("network", network, call, lambda: _try_networks(networks))
    return networks


def _try_networks(networks: ActorCritic) -> None:
    """Traced alone: what actor and critic say of one observation."""
    spec, first = networks.spec, networks.init(jax.random.key(0))
    inputs = networks.inputs(first.moments, spec_zeros(spec.obs, (1,)))
    features: Any = networks.step(first.params, networks.initial_memory(1), inputs)[1].x
    for name, num in (("actor", num_parameters(spec.action)), ("critic", 1)):
        found: Any = getattr(networks, name).apply(first.params[name], features)
        if not is_array(found) or found.shape != (1, num):
            refuse(f"its {name} returns {described(found)}; return [1, {num}]")


def agent(networks: ActorCritic, init: Any, update: Any, fresh_episodes: bool = False) -> Agent:
    """The `Agent` of these networks; a warm-up only gathers the observations' moments.

    Args:
      init: (policy) -> AgentState with a field `policy`.
      update: the contract's `update`.
    """

    def observe(state: Any, rollout: Rollout) -> Any:
        return state._replace(policy=networks.absorb(state.policy, rollout.obs))

    return Agent(
        init=lambda key: init(networks.init(key)),
        act=networks.act,
        update=update,
        initial_memory=networks.initial_memory,
        observe=observe,
        fresh_episodes=fresh_episodes,
        respects_legal=True,
    )


def first_state(config: RolloutConfig, first: Policy) -> RolloutState:
    """The state before any update."""
    scale = normalize.init_reward_scale(config.num_envs) if config.normalize_reward else ()
    moments = normalize.init_moments(()) if config.normalize_value else ()
    return RolloutState(first, optimizer.init(first.params), scale, moments)


def scaled_reward(config: RolloutConfig, scale: PyTree, rollout: Rollout) -> tuple[PyTree, Array]:
    """The reward scale with a rollout merged (as it is without normalisation), and the rewards [T, B] to learn from."""
    if not config.normalize_reward:
        return scale, config.reward_scaling * rollout.reward
    scale, reward = normalize.scale_rewards(scale, rollout.reward, episode_end(rollout), config.gamma)
    return scale, config.reward_scaling * reward


def unit_of_value(moments: PyTree) -> Array:
    """[] what the critic's outputs are multiplied by to be values: the deviation of the returns seen, 1 where values are not
    normalised.

    This is the scale of van Hasselt et al. 2016, "Learning values across many orders of magnitude", without its shift and its
    correction of the last layer.
    """
    return jnp.sqrt(moments.variance + 1e-8) if moments else jnp.float32(1.0)


def returns_seen(moments: PyTree, target: Array) -> PyTree:
    """The moments with the returns of a rollout [T, B] merged, () where values are not normalised."""
    return normalize.update_moments(moments, target) if moments else ()


def learning_rate(config: PolicyConfig, progress: Progress) -> Array:
    """The step size at this point of the run."""
    return schedules.linear(progress, config.learning_rate, config.learning_rate * config.learning_rate_end_share)
