"""Parallelised Q-learning, PQN (Gallici et al. 2024, Algorithm 1): Q-learning without a replay and without a target network.

Each iteration acts T steps in B environments, epsilon-greedily, and then takes several epochs of minibatch steps towards the
lambda-returns of the rollout, which bootstrap from max_a Q. What keeps that stable is layer normalisation, and many
environments at once. With `gru` the network remembers: minibatches are then whole sequences of environments, and gradients
flow through the T steps of a rollout.

Where an episode ends, the return is cut: after a termination nothing follows, and a truncated step bootstraps from its true
successor, seen with the memory from before the reset. Deviations from the paper's code: there a truncation counts as a
termination; its recurrent network sees the last action as well, learns from a few steps of the rollout before, and makes its
targets anew for each minibatch.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.value.q_values import ValueConfig, act_by_memory, epsilon
from jaxrl.config import MAX_REPEATS, agent_config, rollout_length, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import losses, optimizer, returns, schedules
from jaxrl.maths.minibatches import check_minibatches, epochs, items, swap_axes
from jaxrl.nets.inputs import to_store
from jaxrl.nets.memory_values import MemoryValues, memory_values
from jaxrl.types import Agent, Array, Discrete, Metrics, Model, Progress, PyTree, Rollout, Spec, episode_end


@agent_config
class PQNConfig(ValueConfig):
    """Parallelised Q-learning.

    On CartPole-v1 it scored 496.4, 496.0 and 495.7 (seeds 100 to 102, the last training episodes of 500,000 env steps) with
    `reward_scaling=0.1` and `epsilon_end=0.1`, which `--tuned` takes there, and else the defaults.
    """

    num_envs: int = static(32, "Environments stepped side by side (B).", low=1)
    rollout_length: int = static(
        32, "Steps of each environment in one iteration (T); 0 means the environment's time limit.", low=0
    )
    learning_rate: float = traced(2.5e-4, "Step size of RAdam at the start.", low=0.0, low_open=True)
    learning_rate_end_share: float = traced(
        0.0, "Share of the step size that is left at the end, along a straight line; 1 keeps it.", low=0.0, high=1.0
    )
    td_lambda: float = traced(
        0.65, "Lambda of the returns that values are fitted to; 0 looks one step ahead.", low=0.0, high=1.0
    )
    num_epochs: int = static(4, "Passes over a rollout.", low=1, high=MAX_REPEATS)
    num_minibatches: int = static(8, "Gradient steps in one pass.", low=1)
    reward_scaling: float = traced(1.0, "What rewards are multiplied by to learn from; scores stay as they are.", low=0.0)
    hidden: tuple[int, ...] = static((128, 128), "Units of each hidden layer.", low=1)
    layer_norm: bool = static(True, "Normalise each layer, convolutions included, before its activation.")
    gru: int | None = static(None, "Units of a recurrent core between observation and values; none for feed-forward.", low=1)
    max_grad_norm: float | None = static(10.0, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)


class PQNState(NamedTuple):
    """State of the agent.

    Attributes:
      policy: parameters of the network, all that acting reads.
      opt_state: of `jaxrl.maths.optimizer`.
    """

    policy: PyTree
    opt_state: PyTree


class Acted(NamedTuple):
    """What acting leaves in `Rollout.extras`.

    Attributes:
      memory: [B, units] that was acted with, () of a feed-forward network.
      value: [B] the greatest action value.
    """

    memory: PyTree
    value: Array


class Batch(NamedTuple):
    """What a minibatch holds. Leaves are [N, ...], N transitions; of a recurrent agent [N, T, ...], N sequences.

    Attributes:
      ended: where the episode ended after the step.
      target: what the values of the actions are fitted to.
      memory: [N, units] at the start of each sequence, () without.
    """

    obs: PyTree
    action: Array
    ended: Array
    target: Array
    memory: PyTree


def lambda_targets(config: PQNConfig, network: MemoryValues, policy: PyTree, rollout: Rollout) -> Array:
    """[T, B] Q(lambda): G_t = r_t + gamma ((1 - lambda) max_a Q(s_{t+1}, a) + lambda G_{t+1}), cut where an episode ended.

    The maxima are those of acting, but for what nobody acted on: the successors of the last step and of truncated ones.

    References:
      Gallici et al. 2024, "Simplifying Deep Temporal Difference Learning", section 4; Peng and Williams 1994.
    """

    def value_behind(steps: Rollout) -> Array:
        """Of the true successors of steps [..., B]."""
        memory, _ = network.step(policy, steps.extras.memory, steps.obs)
        return jnp.max(network.step(policy, memory, steps.next_obs)[1], axis=-1)

    last = value_behind(jax.tree.map(lambda leaf: leaf[-1:], rollout))
    acted = jnp.concatenate([rollout.extras.value[1:], last])
    next_value = jax.lax.cond(
        jnp.any(rollout.truncated), lambda: jnp.where(rollout.truncated, value_behind(rollout), acted), lambda: acted
    )
    discount = config.gamma * (1.0 - rollout.terminated)
    reward = config.reward_scaling * rollout.reward
    return returns.lambda_returns(reward, discount, next_value, episode_end(rollout), config.td_lambda)


def make_pqn(config: PQNConfig, spec: Spec, model: Model | None = None) -> Agent:
    """PQN for discrete actions and any observations; of a `Position` it takes, and bootstraps from, legal actions alone.

    Raises:
      UsageError: continuous or mixed actions, a torso that cannot see the observations, or minibatches that do not divide the
        transitions (environments, for a recurrent agent) of an iteration.
    """
    if not isinstance(spec.action, Discrete):
        raise UsageError(f"env: pqn needs discrete actions, not {spec.action}; choose an environment with Discrete actions")
    recurrent = config.gru is not None
    check_minibatches(config.num_minibatches, config.num_envs, rollout_length(config, spec), recurrent)
    network = memory_values(config, spec)

    def init(key: Array) -> PQNState:
        params = network.init(key)
        return PQNState(params, optimizer.init(params))

    def act(
        key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[Array, PyTree, Acted]:
        action, after, q = act_by_memory(network, config, key, policy, memory, obs, progress, explore)
        return action, after, Acted(memory, jnp.max(q, axis=-1))

    def loss(params: PyTree, batch: Batch) -> tuple[Array, Metrics]:
        if recurrent:
            q = swap_axes(network.unroll(params, batch.memory, *swap_axes((batch.obs, batch.ended)))[1])
        else:
            q = network.step(params, (), batch.obs)[1]
        chosen = losses.select(q, batch.action)
        td_error = batch.target - chosen
        value = jnp.mean(losses.squared(td_error))
        return value, {"loss": value, "q_mean": jnp.mean(chosen), "td_error": jnp.mean(jnp.abs(td_error))}

    def update(key: Array, state: PQNState, rollout: Rollout, progress: Progress) -> tuple[PQNState, Metrics]:
        rate = schedules.linear(progress, config.learning_rate, config.learning_rate * config.learning_rate_end_share)
        target = lambda_targets(config, network, state.policy, rollout)
        data = items(Batch(to_store(rollout.obs), rollout.action, episode_end(rollout), target, ()), recurrent)
        data = data._replace(memory=jax.tree.map(lambda leaf: leaf[0], rollout.extras.memory))

        def learn(carry: PQNState, batch: Batch) -> tuple[PQNState, Metrics]:
            grads, metrics = jax.grad(loss, has_aux=True)(carry.policy, batch)
            step = optimizer.step(carry.policy, grads, carry.opt_state, rate, config.max_grad_norm, rectified=True)
            return PQNState(step.params, step.opt_state), metrics | {"grad_norm": step.grad_norm}

        state, metrics = epochs(key, learn, state, data, config.num_epochs, config.num_minibatches)
        return state, metrics | {"epsilon": epsilon(config, progress), "learning_rate": rate}

    return Agent(init, act, update, network.initial_memory, respects_legal=True)
