"""Deep Q-learning with experience replay (Mnih et al. 2013, Algorithm 1) and a target network (Mnih et al. 2015, Algorithm 1).

Acting is epsilon-greedy with an epsilon that falls in a straight line; each iteration stores T x B transitions and then takes
`num_updates` gradient steps on uniform minibatches. Flags make it double (van Hasselt et al. 2016) or dueling (Wang et al.
2016). Deviations from the papers: Adam instead of RMSProp, a learning rate that may fall over the run, and double on by
default, since its final policies are steadier; `--no-double` is the algorithm of 2015. Pictures are seen through that paper's
convolutions, unless `torso` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.config import Config, agent_config, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import exploration, losses, optimizer, schedules
from jaxrl.nets.heads import QNetwork
from jaxrl.nets.inputs import ILLEGAL, legal_of, network_inputs, seen, stored_spec, to_store
from jaxrl.nets.layers import ACTIVATIONS
from jaxrl.nets.torso import TORSO_HELP, TORSOS, torso_of
from jaxrl.replay.experience import Sample, make_experience
from jaxrl.replay.ring import Transitions
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
    off_policy,
    seen_spec,
    spec_zeros,
)


@agent_config
class DQNConfig(Config):
    """Deep Q-learning; the defaults solve CartPole-v1 and Acrobot-v1 in 500,000 env steps."""

    num_envs: int = static(10, "Environments stepped side by side (B).", low=1)
    learning_starts: int = static(10_000, "Env steps of warm-up: experience is stored, nothing is learned.", low=0)
    learning_rate: float = traced(5e-4, "Step size of Adam at the start.", low=0.0, low_open=True)
    learning_rate_end: float = traced(
        0.0, "Share of the step size that is left at the end, after half a cosine; 1 keeps it.", low=0.0, high=1.0
    )
    gamma: float = traced(0.99, "Discount of future rewards.", low=0.0, high=1.0)
    epsilon_start: float = traced(1.0, "Share of random actions at the start.", low=0.0, high=1.0)
    epsilon_end: float = traced(0.05, "Share of random actions after the annealing.", low=0.0, high=1.0)
    exploration_fraction: float = traced(0.2, "Share of the run over which epsilon falls.", low=0.0, high=1.0)
    capacity: int = static(50_000, "Transitions that the replay holds; of pictures in stacks, frames.", low=1)
    batch_size: int = static(128, "Transitions of a minibatch.", low=1)
    n_step: int = static(1, "Steps of the return that a value is fitted to.", low=1)
    num_updates: int = static(1, "Gradient steps in one iteration of T x B env steps.", low=1)
    target_period: int = traced(500, "Env steps between updates of the target network.", low=1)
    tau: float = traced(1.0, "Weight of the online network in a target update; 1 copies it.", low=0.0, high=1.0, low_open=True)
    loss: str = static(
        "squared",
        "Loss of the TD error; huber bounds what one error can pull, and wants a ten times longer target_period.",
        choices=("squared", "huber"),
    )
    double: bool = static(True, "Choose the target's action with the online network (double Q-learning).")
    dueling: bool = static(False, "Separate streams for value and advantage.")
    hidden: tuple[int, ...] = static((120, 84), "Units of each hidden layer.", low=1)
    activation: str = static("relu", "Activation of the hidden layers.", choices=tuple(ACTIVATIONS))
    torso: str = static("auto", TORSO_HELP, choices=TORSOS)
    max_grad_norm: float | None = static(None, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)

    def check(self) -> None:
        if self.batch_size > self.capacity:
            raise UsageError(f"batch_size={self.batch_size} exceeds capacity={self.capacity}; raise capacity")
        per_iteration = self.num_envs * max(self.rollout_length, 1)
        if per_iteration > self.capacity:
            raise UsageError(f"capacity={self.capacity} is below num_envs * rollout_length = {per_iteration}; raise capacity")


class DQNState(NamedTuple):
    """State of the agent.

    Attributes:
      policy: parameters of the online network, all that acting reads.
      target: parameters of the target network.
      opt_state: of `jaxrl.maths.optimizer`.
      replay: the ring of `jaxrl.replay.experience`.
    """

    policy: PyTree
    target: PyTree
    opt_state: PyTree
    replay: PyTree


def make_dqn(config: DQNConfig, spec: Spec, model: Model | None = None) -> Agent:
    """DQN for discrete actions and any observations; of a `Position` it takes, and bootstraps from, legal actions alone.

    Raises:
      UsageError: continuous or mixed actions, or a torso that cannot see the observations.
    """
    if not isinstance(spec.action, Discrete):
        raise UsageError(f"env: dqn needs discrete actions, not {spec.action}; choose an environment with Discrete actions")
    obs_spec = seen_spec(spec.obs)
    torso = torso_of(config.torso, obs_spec)
    network = QNetwork(spec.action.n, config.hidden, config.activation, config.dueling, torso)

    def q_values(params: PyTree, obs: PyTree) -> Array:
        q: Any = network.apply(params, network_inputs(seen(obs), obs_spec, torso))
        legal = legal_of(obs)
        return q if legal is None else jnp.where(legal, q, ILLEGAL)

    replay = make_experience(stored_spec(spec.obs), spec.action, config.num_envs, config.capacity, config.n_step, config.gamma)

    def init(key: Array) -> DQNState:
        params = network.init(key, network_inputs(spec_zeros(obs_spec, (1,)), obs_spec, torso))
        return DQNState(params, jax.tree.map(jnp.copy, params), optimizer.init(params), replay.init())

    def act(
        key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[Array, PyTree, PyTree]:
        q = q_values(policy, obs)
        if not explore:
            return jnp.argmax(q, axis=-1).astype(jnp.int32), memory, ()
        return exploration.epsilon_greedy(key, q, epsilon(progress), legal_of(obs)), memory, ()

    def epsilon(progress: Progress) -> Array:
        return schedules.linear(progress, config.epsilon_start, config.epsilon_end, config.exploration_fraction)

    def store(ring: PyTree, rollout: Rollout) -> PyTree:
        return replay.store(ring, rollout._replace(obs=to_store(rollout.obs), next_obs=to_store(rollout.next_obs)))

    def sample(key: Array, ring: PyTree) -> Sample:
        return replay.sample(key, ring, (config.num_updates, config.batch_size))

    def learn(key: Array, state: DQNState, batches: Sample, progress: Progress) -> tuple[DQNState, Metrics, PyTree]:
        learning_rate = schedules.cosine(progress, config.learning_rate, config.learning_rate * config.learning_rate_end)

        def step(carry: tuple[PyTree, PyTree], batch: Transitions) -> tuple[tuple[PyTree, PyTree], Metrics]:
            grads, metrics = jax.grad(partial(loss, config, q_values), has_aux=True)(carry[0], state.target, batch)
            taken = optimizer.step(carry[0], grads, carry[1], learning_rate, config.max_grad_norm)
            return (taken.params, taken.opt_state), metrics | {"grad_norm": taken.grad_norm}

        (params, opt_state), metrics = jax.lax.scan(step, (state.policy, state.opt_state), batches.transitions)
        every = jnp.maximum(config.target_period // progress.steps_per_iteration, 1)
        due = schedules.is_due(progress, every)
        target = jax.lax.cond(due, lambda: optax.incremental_update(params, state.target, config.tau), lambda: state.target)
        metrics = jax.tree.map(jnp.mean, metrics) | {"epsilon": epsilon(progress), "learning_rate": learning_rate}
        return DQNState(params, target, opt_state, state.replay), metrics, ()

    return off_policy(init, act, ReplayFunctions(store, sample, learn), respects_legal=True)


def loss(
    config: DQNConfig, q_values: Callable[[PyTree, PyTree], Array], params: PyTree, target: PyTree, batch: Transitions
) -> tuple[Array, Metrics]:
    """The loss of the TD errors of a minibatch, with the target network's parameters `target`."""
    selector = q_values(params, batch.next_obs) if config.double else None
    goal = losses.q_learning_target(batch.reward, batch.discount, q_values(target, batch.next_obs), selector)
    q_tm1 = losses.select(q_values(params, batch.obs), batch.action)
    td_error = goal - q_tm1
    value = jnp.mean(losses.huber(td_error) if config.loss == "huber" else losses.squared(td_error))
    return value, {"loss": value, "q_mean": jnp.mean(q_tm1), "td_error": jnp.mean(jnp.abs(td_error))}
