"""Recurrent replay distributed DQN, R2D2 (Kapturowski et al. 2019), in one process: deep Q-learning with a memory.

Each iteration stores a rollout of T x B steps with the memory that was acted with, and then takes `num_updates` gradient steps
on sequences, drawn by priority. The first `burn_in` steps of a sequence only bring the memory up to date with the parameters of
today; from the others values are learned, by double Q-learning, returns of n steps and squashed values. Where an episode ends
in a sequence, the memory begins anew and returns are cut; a truncated step bootstraps from its true successor.

Deviations from the paper: one process and one epsilon that falls, in the place of many actors that each have their own;
a GRU for the LSTM; the last action and reward are not seen; sequences run on over the ends of episodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.value.q_values import QState, ReplayQConfig, act_by_memory, epsilon, moved_target
from jaxrl.config import agent_config, rollout_length, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import losses, optimizer, returns, schedules
from jaxrl.maths.minibatches import swap_axes
from jaxrl.maths.rescaling import expand, squash
from jaxrl.nets.inputs import stored_spec, to_store
from jaxrl.nets.memory_values import MemoryValues, memory_values
from jaxrl.replay.experience import Sample
from jaxrl.replay.prioritized import importance_weights
from jaxrl.replay.sequences import Sequences, make_sequences
from jaxrl.types import (
    Agent,
    Array,
    Discrete,
    Metrics,
    Model,
    Progress,
    PyTree,
    ReplayFunctions,
    Rollout,
    Spec,
    episode_end,
    off_policy,
    where_ended,
)


@agent_config
class R2D2Config(ReplayQConfig):
    """Recurrent replay distributed DQN."""

    num_envs: int = static(16, "Environments stepped side by side (B).", low=1)
    rollout_length: int = static(
        8, "Steps of each environment in one iteration (T), at whose starts sequences begin; 0 means the time limit.", low=0
    )
    learning_starts: int = static(5_000, "Env steps of warm-up: experience is stored, nothing is learned.", low=0)
    batch_size: int = static(32, "Sequences of a minibatch.", low=1)
    burn_in: int = static(8, "First steps of a sequence, which bring the memory up to date and teach nothing.", low=0)
    sequence_length: int = static(16, "Steps of a sequence behind them, from which values are learned.", low=1)
    n_step: int = static(5, "Steps of the return that a value is fitted to.", low=1)
    double: bool = static(True, "Choose the target's action with the online network (double Q-learning).")
    dueling: bool = static(True, "Separate streams for value and advantage.")
    squash_values: bool = static(True, "Learn squashed values, h(x) = sign(x) (sqrt(|x| + 1) - 1) + x / 1000.")
    priority_exponent: float = traced(0.9, "Power of the error in a priority; 0 draws all alike.", low=0.0)
    priority_beta: float = traced(
        0.6, "Share of the priorities' bias that weights take back at the start; at the end all.", low=0.0, high=1.0
    )
    priority_peak: float = traced(
        0.9, "Share of the greatest TD error of a sequence in its priority; the rest is of their mean.", low=0.0, high=1.0
    )
    hidden: tuple[int, ...] = static((64,), "Units of each hidden layer before the memory.", low=1)
    gru: int = static(64, "Units of the recurrent core between observation and values.", low=1)
    layer_norm: bool = static(False, "Normalise each layer before the memory, convolutions included.")
    max_grad_norm: float | None = static(40.0, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)

    def check(self) -> None:
        per_iteration = self.num_envs * max(self.rollout_length, 1)
        if per_iteration > self.capacity:
            raise UsageError(f"capacity={self.capacity} is below num_envs * rollout_length = {per_iteration}; raise capacity")


class Found(NamedTuple):
    """What comes of N sequences of L learned steps.

    Attributes:
      td_error: [L, N].
      q: [L, N] values of the actions done, squashed where the config says so.
    """

    td_error: Array
    q: Array


def td_errors(config: R2D2Config, network: MemoryValues, params: PyTree, fixed: PyTree, batch: Sequences) -> Found:
    """The errors of sequences [N, L, ...]; gradients go through the values that `params` give to the actions done, alone.

    h(sum_k gamma^k r_{t+k} + gamma^n h^-1(q'(s_{t+n}, argmax_a q(s_{t+n}, a)))) - q(s_t, a_t), with q' of `fixed`, n less where
    an episode or the sequence ends sooner.

    References:
      Kapturowski et al. 2019, section 2.3.
    """
    steps = swap_axes(batch._replace(memory=()))
    early = jax.tree.map(lambda leaf: leaf[: config.burn_in], steps)
    late = jax.tree.map(lambda leaf: leaf[config.burn_in :], steps)

    def seen(params: PyTree) -> tuple[Array, Array]:
        """(q [L, N, A] of the learned steps, and of their successors)."""
        memory = jax.lax.stop_gradient(_burnt_in(network, params, batch.memory, early)) if config.burn_in else batch.memory
        memories, q = network.unroll(params, memory, late.obs, episode_end(late))
        return q, network.step(params, memories, late.next_obs)[1]

    squashed, expanded = (squash, expand) if config.squash_values else (_as_it_is, _as_it_is)
    q, q_next = seen(params)
    fixed_next = seen(fixed)[1]
    chosen = jnp.argmax(q_next if config.double else fixed_next, axis=-1)
    next_value = expanded(losses.select(fixed_next, chosen))
    discount = config.gamma * (1.0 - late.terminated)
    target = squashed(returns.n_step_returns(late.reward, discount, next_value, episode_end(late), config.n_step))
    q = losses.select(q, late.action)
    return Found(jax.lax.stop_gradient(target) - q, q)


def _as_it_is(x: Array) -> Array:
    return x


def _burnt_in(network: MemoryValues, params: PyTree, memory: PyTree, steps: Sequences) -> PyTree:
    """The memory [N, units] behind steps [K, N, ...]."""
    ended = episode_end(steps)
    memories, _ = network.unroll(params, memory, steps.obs, ended)
    return where_ended(ended[-1], network.initial_memory(ended.shape[1]), memories[-1])


def make_r2d2(config: R2D2Config, spec: Spec, model: Model | None = None) -> Agent:
    """R2D2 for discrete actions and any observations; of a `Position` it takes, and bootstraps from, legal actions alone.

    Raises:
      UsageError: continuous or mixed actions, a torso that cannot see the observations, or sequences that do not fit the
        rollouts or the replay.
    """
    if not isinstance(spec.action, Discrete):
        raise UsageError(f"env: r2d2 needs discrete actions, not {spec.action}; choose an environment with Discrete actions")
    network = memory_values(config, spec, config.dueling)
    replay = make_sequences(
        stored_spec(spec.obs),
        spec.action,
        jax.ShapeDtypeStruct((config.gru,), jnp.float32),
        config.num_envs,
        rollout_length(config, spec),
        config.capacity,
        config.burn_in + config.sequence_length,
        config.priority_exponent,
    )

    def init(key: Array) -> QState:
        params = network.init(key)
        return QState(params, jax.tree.map(jnp.copy, params), optimizer.init(params), replay.init())

    def act(
        key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[Array, PyTree, PyTree]:
        action, after, _ = act_by_memory(network, config, key, policy, memory, obs, progress, explore)
        return action, after, memory

    def store(ring: PyTree, rollout: Rollout) -> PyTree:
        return replay.store(ring, rollout._replace(obs=to_store(rollout.obs), next_obs=to_store(rollout.next_obs)))

    def sample(key: Array, ring: PyTree) -> Sample:
        return replay.sample(key, ring, (config.num_updates, config.batch_size))

    def objective(params: PyTree, fixed: PyTree, batch: Sequences, weight: Array) -> tuple[Array, tuple[Metrics, Array]]:
        found = td_errors(config, network, params, fixed, batch)
        size = jnp.abs(found.td_error)
        loss = jnp.mean(weight * losses.squared(found.td_error))
        priority = config.priority_peak * jnp.max(size, axis=0) + (1.0 - config.priority_peak) * jnp.mean(size, axis=0)
        return loss, ({"loss": loss, "q_mean": jnp.mean(found.q), "td_error": jnp.mean(size)}, priority)

    def learn(key: Array, state: QState, batches: Sample, progress: Progress) -> tuple[QState, Metrics, Array]:
        learning_rate = schedules.cosine(progress, config.learning_rate, config.learning_rate * config.learning_rate_end_share)
        weights = importance_weights(batches.probability, schedules.linear(progress, config.priority_beta, 1.0))

        def step(carry: tuple[PyTree, PyTree], item: tuple[Sequences, Array]) -> tuple[tuple[PyTree, PyTree], Any]:
            grads, (metrics, priority) = jax.grad(objective, has_aux=True)(carry[0], state.target, *item)
            taken = optimizer.step(carry[0], grads, carry[1], learning_rate, config.max_grad_norm)
            return (taken.params, taken.opt_state), (metrics | {"grad_norm": taken.grad_norm}, priority)

        (params, opt_state), (metrics, priority) = jax.lax.scan(
            step, (state.policy, state.opt_state), (batches.transitions, weights)
        )
        metrics = jax.tree.map(jnp.mean, metrics) | {"epsilon": epsilon(config, progress), "learning_rate": learning_rate}
        return QState(params, moved_target(config, params, state.target, progress), opt_state, state.replay), metrics, priority

    return off_policy(
        init,
        act,
        ReplayFunctions(store, sample, learn, feed=replay.feed),
        network.initial_memory,
        respects_legal=True,
    )
