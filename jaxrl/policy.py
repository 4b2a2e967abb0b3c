"""An actor and a critic: what the policy-gradient agents share.

    networks = actor_critic(config, spec)
    policy = networks.init(key)
    distribution = networks.distribution(policy.params, features)

Observations of any kind become one vector, or stay pictures for a convolutional torso, normalised by running moments where the
config says so; torso and core (nothing, or a GRU) turn them into features, from which the actor makes a distribution over
actions and the critic a value. The moments belong to the policy, so they are checkpointed and batched with it, and evaluation
uses them unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import distributions, networks, normalize, optimizer, schedules
from jaxrl.config import Config, config, static, traced
from jaxrl.envs.batch import where_ended
from jaxrl.types import Agent, Array, Progress, PyTree, Rollout, Spec, episode_end, spec_zeros

Params = dict[str, PyTree]


@config
class PolicyConfig(Config):
    """The fields that all policy-gradient agents have."""

    learning_rate: float = traced(1e-3, "Step size of Adam at the start.", low=0.0, low_open=True)
    learning_rate_end: float = traced(
        0.0, "Share of the step size that is left at the end, along a straight line; 1 keeps it.", low=0.0, high=1.0
    )
    gamma: float = traced(0.99, "Discount of future rewards.", low=0.0, high=1.0)
    entropy_coef: float = traced(0.0, "Weight of the entropy bonus.", low=0.0)
    max_grad_norm: float | None = static(0.5, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)
    hidden: tuple[int, ...] = static((64, 64), "Units of each hidden layer of actor and critic.", low=1)
    activation: str = static("tanh", "Activation of the hidden layers.", choices=tuple(networks.ACTIVATIONS))
    torso: str = static("auto", networks.TORSO_HELP, choices=networks.TORSOS)
    distribution: str = static(
        "gaussian",
        "Continuous actions: gaussian (clipped by the environment) or tanh_gaussian (squashed into the bounds).",
        choices=("gaussian", "tanh_gaussian"),
    )
    log_std_init: float = traced(0.0, "Log of the first standard deviation of continuous actions.", low=-10.0, high=4.0)
    normalize_observation: bool = static(False, "Normalise observations by running moments.")


@config
class RolloutConfig(PolicyConfig):
    """The fields of agents that learn from rollouts cut anywhere, with one loss for actor and critic."""

    value_coef: float = traced(0.5, "Weight of the value loss.", low=0.0)
    normalize_reward: bool = static(False, "Divide rewards by the running deviation of the discounted return.")


class Policy(NamedTuple):
    """All that acting reads.

    Attributes:
      params: actor, critic, log_std [D] of D continuous action components, and torso and core where there is one.
      moments: of the observation vectors [F] or pictures [H, W, C], () where they are not normalised.
    """

    params: Params
    moments: PyTree


class RolloutState(NamedTuple):
    """State of an agent with a `RolloutConfig`.

    Attributes:
      policy: parameters of actor and critic, and the observations' moments.
      opt_state: of `jaxrl.optimizer`.
      reward_scale: `RewardScale`, () where rewards are not normalised.
    """

    policy: Policy
    opt_state: PyTree
    reward_scale: PyTree


class ActorCritic(NamedTuple):
    """Networks for one environment as pure functions; see `actor_critic`.

    Inputs, written [..., F], are pictures [..., H, W, C] where the torso is convolutional.

    Attributes:
      init: (key) -> Policy.
      initial_memory: (num_envs) -> memory [B, units], () without a recurrent core.
      inputs: (moments, obs [..., *shape]) -> [..., F].
      unroll: (params, memory [B, ...], inputs [T, B, F], ended [T, B]) -> (memory after each step and before any reset
        [T, B, ...], features [T, B, H]).
      step: (params, memory [..., units], inputs [..., F]) -> (memory, features [..., H]).
      distribution: (params, features [..., H]) -> a distribution of `jaxrl.distributions`.
      value: (params, features [..., H]) -> [...].
      act: the contract's `act`; `extras` is the memory acted with.
      absorb: (policy, obs) -> the policy with the observations' moments merged.
    """

    init: Callable[[Array], Policy]
    initial_memory: Callable[[int], PyTree]
    inputs: Callable[[PyTree, PyTree], Array]
    unroll: Callable[[Params, PyTree, Array, Array], tuple[PyTree, Array]]
    step: Callable[[Params, PyTree, Array], tuple[PyTree, Array]]
    distribution: Callable[[Params, Array], Any]
    value: Callable[[Params, Array], Array]
    act: Callable[..., tuple[PyTree, PyTree, PyTree]]
    absorb: Callable[[Policy, PyTree], Policy]

    def evaluate(self, policy: Policy, obs: PyTree) -> Array:
        """[N] values of observations [N, ...] at the start of an episode."""
        memory = self.initial_memory(jax.tree.leaves(obs)[0].shape[0])
        return self.value(policy.params, self.step(policy.params, memory, self.inputs(policy.moments, obs))[1])


def actor_critic(config: PolicyConfig, spec: Spec, gru: int | None = None, shared: bool = True) -> ActorCritic:
    """Builds the networks for an environment; inside a traced function `config`'s numbers may be tracers.

    Actor and critic share a convolutional torso, on which they are linear (Mnih et al. 2016, supplement, "Experimental
    Setup"), and a core.

    Args:
      gru: units of a recurrent core, None for none.
      shared: False gives actor and critic a convolutional torso each, for agents that fit one without the other.

    Raises:
      UsageError: a torso that cannot see these observations.
    """
    kind = networks.torso_of(config.torso, spec.obs)
    torso = networks.Torso(kind, networks.orthogonal(2.0**0.5)) if shared and kind != "mlp" else None
    hidden, own = (config.hidden, kind) if torso is None else ((), "mlp")
    size = distributions.num_parameters(spec.action)
    actor = networks.Head(size, 0.01, hidden, config.activation, own)
    critic = networks.Head(1, 1.0, hidden, config.activation, own)
    core = None if gru is None else networks.GRU(gru, config.activation)

    def init(key: Array) -> Policy:
        key_actor, key_critic, key_core = jax.random.split(key, 3)
        x = networks.inputs(spec_zeros(spec.obs, (1,)), spec.obs, kind)
        seen = x if torso is None else jnp.zeros((1, networks.CONVOLUTIONAL[kind].units))
        features = seen if gru is None else jnp.zeros((1, gru))
        log_std = jnp.full(distributions.num_stds(spec.action), config.log_std_init, jnp.float32)
        params: Params = {
            "actor": actor.init(key_actor, features),
            "critic": critic.init(key_critic, features),
            "log_std": log_std,
        }
        if torso is not None:
            params["torso"] = torso.init(jax.random.fold_in(key, 3), x)
        if core is not None:
            params["core"] = core.init(key_core, initial_memory(1), seen)
        moments = normalize.init_moments(x.shape[1:]) if config.normalize_observation else ()
        return Policy(params, moments)

    def initial_memory(num_envs: int) -> PyTree:
        return () if gru is None else jnp.zeros((num_envs, gru))

    def inputs(moments: PyTree, obs: PyTree) -> Array:
        x = networks.inputs(obs, spec.obs, kind)
        return normalize.normalize(moments, networks.to_float(x)) if config.normalize_observation else x

    def see(params: Params, x: Array) -> Array:
        return x if torso is None else torso.apply(params["torso"], x)  # type: ignore[return-value]

    def remember(params: Params, memory: PyTree, x: Array) -> tuple[PyTree, Array]:
        if core is None:
            return memory, x
        memory = core.apply(params["core"], memory, x)
        return memory, memory

    def step(params: Params, memory: PyTree, x: Array) -> tuple[PyTree, Array]:
        return remember(params, memory, see(params, x))

    def unroll(params: Params, memory: PyTree, x: Array, ended: Array) -> tuple[PyTree, Array]:
        x = see(params, x)
        if core is None:
            return memory, x

        def one(memory: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            after, _ = remember(params, memory, row[0])
            return where_ended(row[1], initial_memory(after.shape[0]), after), after

        _, memories = jax.lax.scan(one, memory, (x, ended))
        return memories, memories

    def distribution(params: Params, features: Array) -> Any:
        parameters: Any = actor.apply(params["actor"], features)
        tanh = config.distribution == "tanh_gaussian"
        return distributions.from_parameters(spec.action, parameters, params["log_std"], tanh)

    def value(params: Params, features: Array) -> Array:
        values: Any = critic.apply(params["critic"], features)
        return values[..., 0]

    def act(
        key: Array, policy: Policy, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[PyTree, PyTree, PyTree]:
        after, features = step(policy.params, memory, inputs(policy.moments, obs))
        chosen = distribution(policy.params, features)
        return chosen.sample(key) if explore else chosen.mode(), after, memory

    def absorb(policy: Policy, obs: PyTree) -> Policy:
        if not config.normalize_observation:
            return policy
        x = networks.to_float(networks.inputs(obs, spec.obs, kind))
        return policy._replace(moments=normalize.update_moments(policy.moments, x))

    return ActorCritic(init, initial_memory, inputs, unroll, step, distribution, value, act, absorb)


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
    )


def first_state(config: RolloutConfig, num_envs: int, first: Policy) -> RolloutState:
    """The state before any update."""
    scale = normalize.init_reward_scale(num_envs) if config.normalize_reward else ()
    return RolloutState(first, optimizer.init(first.params), scale)


def scaled_reward(config: RolloutConfig, scale: PyTree, rollout: Rollout) -> tuple[PyTree, Array]:
    """The reward scale with a rollout merged, and the rewards [T, B] to learn from; both as they are without normalisation."""
    if not config.normalize_reward:
        return scale, rollout.reward
    return normalize.scale_rewards(scale, rollout.reward, episode_end(rollout), config.gamma)


def learning_rate(config: PolicyConfig, progress: Progress) -> Array:
    """The step size at this point of the run."""
    return schedules.linear(progress, config.learning_rate, config.learning_rate * config.learning_rate_end)


def weighted_mean(values: Array, weight: Array) -> Array:
    """sum(weight * values) / sum(weight) over all axes."""
    return jnp.sum(weight * values) / jnp.maximum(jnp.sum(weight), 1e-8)


def standardize(values: Array, weight: Array | float = 1.0) -> Array:
    """(values - mean) / (deviation + 1e-8) over all axes; zero where all values are equal.

    Args:
      weight: of `values`' shape, 0 for entries that do not count.
    """
    weight = jnp.broadcast_to(weight, values.shape)
    centred = values - weighted_mean(values, weight)
    return centred / (jnp.sqrt(weighted_mean(jnp.square(centred), weight)) + 1e-8)


def explained_variance(target: Array, value: Array, weight: Array | float = 1.0) -> Array:
    """1 - Var(target - value) / Var(target), 0 where the targets do not vary: 1 is a perfect critic, 0 a constant one."""
    weight = jnp.broadcast_to(weight, target.shape)

    def variance(x: Array) -> Array:
        return weighted_mean(jnp.square(x - weighted_mean(x, weight)), weight)

    total = variance(target)
    return jnp.where(total > 1e-8, 1.0 - variance(target - value) / jnp.maximum(total, 1e-8), 0.0)
