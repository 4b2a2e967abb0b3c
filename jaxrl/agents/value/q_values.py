"""What the agents of action values share: a config, and an agent that acts by a network of them and learns from replay.

Acting is epsilon-greedy with an epsilon that falls in a straight line, or by noisy layers (Fortunato et al. 2018; each
environment has noise of its own, each network one draw for a minibatch, a greedy policy none). Each iteration stores T x B
transitions and then takes `num_updates` gradient steps on minibatches, drawn alike or by priority (Schaul et al. 2016;
priorities change once an iteration, which for one update is as in the paper). An agent is `make_q_agent` with a target, a loss
and a network of its own; `jaxrl.agents.value.dqn` is the one to read.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxrl.config import MAX_REPEATS, Config, agent_config, static, traced
from jaxrl.contracts.parts import check_goals, check_part, check_parts, own_part
from jaxrl.contracts.returns import described, is_array, refuse
from jaxrl.errors import UsageError
from jaxrl.maths import exploration, losses, optimizer, schedules
from jaxrl.nets.action_values import ActionValues, q_network
from jaxrl.nets.inputs import legal_of, stored_spec, to_store
from jaxrl.nets.layers import ACTIVATIONS
from jaxrl.nets.memory_values import MemoryValues
from jaxrl.nets.torso import TORSO_HELP, TORSOS
from jaxrl.replay.experience import Sample, check_sizes, make_experience
from jaxrl.replay.prioritized import importance_weights
from jaxrl.replay.ring import Transitions
from jaxrl.types import (
    Agent,
    Array,
    Discrete,
    Metrics,
    Progress,
    PyTree,
    ReplayFunctions,
    Rollout,
    Spec,
    off_policy,
    spec_zeros,
)


@agent_config
class ValueConfig(Config):
    """What is the same of all agents that act by action values, with an epsilon that falls."""

    gamma: float = traced(0.99, "Discount of future rewards.", low=0.0, high=1.0)
    epsilon_start: float = traced(1.0, "Share of random actions at the start.", low=0.0, high=1.0)
    epsilon_end: float = traced(0.05, "Share of random actions after the annealing.", low=0.0, high=1.0)
    exploration_fraction: float = traced(0.2, "Share of the run over which epsilon falls.", low=0.0, high=1.0)
    activation: str = static("relu", "Activation of the hidden layers.", choices=tuple(ACTIVATIONS))
    torso: str = static("auto", TORSO_HELP, choices=TORSOS)


@agent_config
class ReplayQConfig(ValueConfig):
    """What is the same of all agents that learn action values from replay."""

    num_envs: int = static(10, "Environments stepped side by side (B).", low=1)
    learning_starts: int = static(10_000, "Env steps of warm-up: experience is stored, nothing is learned.", low=0)
    learning_rate: float = traced(5e-4, "Step size of Adam at the start.", low=0.0, low_open=True)
    learning_rate_end_share: float = traced(
        0.0,
        "Share of the step size that is left at the end, after half a cosine; 1 keeps it.",
        low=0.0,
        high=1.0,
        formerly="learning_rate_end",
    )
    capacity: int = static(50_000, "Transitions that the replay holds; of pictures in stacks, frames.", low=1)
    batch_size: int = static(128, "Transitions of a minibatch.", low=1)
    n_step: int = static(1, "Steps of the return that a value is fitted to.", low=1)
    num_updates: int = static(1, "Gradient steps in one iteration of T x B env steps.", low=1, high=MAX_REPEATS)
    target_period: int = traced(500, "Env steps between updates of the target network.", low=1)
    tau: float = traced(1.0, "Weight of the online network in a target update; 1 copies it.", low=0.0, high=1.0, low_open=True)
    double: bool = static(True, "Choose the target's action with the online network (double Q-learning).")
    dueling: bool = static(False, "Separate streams for value and advantage.")
    priority_exponent: float = traced(0.6, "Power of the TD error in a priority; 0 draws all alike.", low=0.0)
    priority_beta: float = traced(
        0.4,
        "Share of the priorities' bias that weights take back at the start; at the end all.",
        low=0.0,
        high=1.0,
    )
    hidden: tuple[int, ...] = static((120, 84), "Units of each hidden layer.", low=1)
    max_grad_norm: float | None = static(None, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)


@agent_config
class QConfig(ReplayQConfig):
    """What agents have beside that whose networks remember nothing."""

    noisy: bool = static(False, "Explore by learned noise in the dense layers (noisy nets), and not by epsilon.")
    noisy_sigma: float = traced(0.5, "Scale of that noise at the start.", low=0.0)
    prioritized: bool = static(False, "Draw transitions in proportion to their last TD error.")

    def check(self) -> None:
        check_sizes(self)


class QState(NamedTuple):
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


def epsilon(config: ValueConfig, progress: Progress) -> Array:
    """[] the share of random actions."""
    return schedules.linear(progress, config.epsilon_start, config.epsilon_end, config.exploration_fraction)


def act_by_memory(
    network: MemoryValues,
    config: ValueConfig,
    key: Array,
    policy: PyTree,
    memory: PyTree,
    obs: PyTree,
    progress: Progress,
    explore: bool,
) -> tuple[Array, PyTree, Array]:
    """(action [B], the memory after it, q [B, A]) of a network that may remember; arguments as of `jaxrl.types.Act`."""
    after, q = network.step(policy, memory, obs)
    if explore:
        return exploration.epsilon_greedy(key, q, epsilon(config, progress), legal_of(obs)), after, q
    return jnp.argmax(q, axis=-1).astype(jnp.int32), after, q


def moved_target(config: ReplayQConfig, params: PyTree, target: PyTree, progress: Progress) -> PyTree:
    """The target network's parameters after an iteration, nearer to the online network's by a share `tau` where that is due."""
    every = jnp.maximum(config.target_period // progress.steps_per_iteration, 1)
    due = schedules.is_due(progress, every)
    return jax.lax.cond(due, lambda: optax.incremental_update(params, target, config.tau), lambda: target)


class Outputs(NamedTuple):
    """What the networks say of a minibatch, without gradient: [N, A] action values, or what another network returns.

    Attributes:
      online_t: the online network's of `next_obs`.
      target_tm1: the target network's of `obs`.
      target_t: the target network's of `next_obs`.
    """

    online_t: PyTree
    target_tm1: PyTree
    target_t: PyTree


class Target(Protocol):
    """(config, batch, outputs) -> what the outputs of the actions done are fitted to, [N] or any tree of [N, ...].

    No gradient is taken through it. `batch` is `Transitions` of [N, ...]: where returns take n steps, `reward` is their
    discounted sum and `discount` that of the value behind them, 0 where the MDP ended.
    """

    def __call__(self, config: Any, batch: Transitions, outputs: Outputs) -> PyTree: ...


class Loss(Protocol):
    """(config, batch, output, target) -> (loss [N], td_error [N]).

    `output` is the online network's of `batch.obs`, through which the gradient of the mean loss goes, and `target` what the
    `Target` made. `td_error` says how wrong each transition was: it is reported, and given back to the replay.
    """

    def __call__(self, config: Any, batch: Transitions, output: PyTree, target: PyTree) -> tuple[Array, Array]: ...


class MakeNetwork(Protocol):
    """(config, spec) -> `ActionValues`, with parameters of any structure."""

    def __call__(self, config: Any, spec: Spec) -> ActionValues: ...


TARGET, LOSS = "target(config, batch, outputs)", "loss(config, batch, output, target)"


def make_q_agent(
    config: QConfig, spec: Spec, name: str, *, target: Target, loss: Loss, network: MakeNetwork = q_network
) -> Agent:
    """An agent for discrete actions and any observations; of a `Position` it takes, and bootstraps from, legal actions alone.

    Args:
      name: of the agent, for messages.
      target, loss, network: see `Target`, `Loss` and `MakeNetwork`. They get `config`, which may be of a subclass with fields
        of its own.

    Raises:
      UsageError: continuous or mixed actions, or a torso that cannot see the observations.
    """
    if not isinstance(spec.action, Discrete):
        raise UsageError(f"env: {name} needs discrete actions, not {spec.action}; choose an environment with Discrete actions")
    with own_part("network", network, "network(config, spec) -> ActionValues"):
        net = network(config, spec)
        if not isinstance(net, ActionValues):
            kind = type(net).__name__
            refuse(f"network(config, spec) returns a {kind}; return ActionValues, such as q_network(config, spec, module)")
    check_part("network", network, "network(config, spec) -> ActionValues", lambda: _try_network(net, spec))
    replay = make_experience(
        stored_spec(spec.obs),
        spec.action,
        config.num_envs,
        config.capacity,
        config.n_step,
        config.gamma,
        exponent=config.priority_exponent if config.prioritized else None,
    )

    def init(key: Array) -> QState:
        params = net.init(key)
        return QState(params, jax.tree.map(jnp.copy, params), optimizer.init(params), replay.init())

    def act(
        key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[Array, PyTree, PyTree]:
        q = net.values(net.apply(jax.random.fold_in(key, 1) if explore else None, policy, obs))
        if not explore:
            return jnp.argmax(q, axis=-1).astype(jnp.int32), memory, ()
        return exploration.epsilon_greedy(key, q, share_of_random(progress), legal_of(obs)), memory, ()

    def act_by_noise(
        key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[Array, PyTree, PyTree]:
        if not explore:
            return act(key, policy, memory, obs, progress, explore)

        def alone(key: Array, obs: PyTree) -> Array:
            """Each environment has noise of its own."""
            q = net.values(net.apply(key, policy, jax.tree.map(lambda leaf: leaf[None], obs)))
            return jnp.argmax(q[0]).astype(jnp.int32)

        return jax.vmap(alone)(jax.random.split(key, jax.tree.leaves(obs)[0].shape[0]), obs), memory, ()

    def share_of_random(progress: Progress) -> Array:
        return jnp.float32(0.0) if config.noisy else epsilon(config, progress)

    def store(ring: PyTree, rollout: Rollout) -> PyTree:
        return replay.store(ring, rollout._replace(obs=to_store(rollout.obs), next_obs=to_store(rollout.next_obs)))

    def sample(key: Array, ring: PyTree) -> Sample:
        return replay.sample(key, ring, (config.num_updates, config.batch_size))

    def objective(
        params: PyTree, fixed: PyTree, key: Array, batch: Transitions, weight: Array | None
    ) -> tuple[Array, tuple[Metrics, Array]]:
        keys = jax.random.split(key, 4)
        outputs = Outputs(
            net.apply(keys[0], params, batch.next_obs),
            net.apply(keys[1], fixed, batch.obs),
            net.apply(keys[2], fixed, batch.next_obs),
        )
        num, outputs = batch.reward.shape[0], jax.lax.stop_gradient(outputs)
        with own_part("target", target, TARGET):
            goal = jax.lax.stop_gradient(check_goals(TARGET, target(config, batch, outputs), num))
        output = net.apply(keys[3], params, batch.obs)
        with own_part("loss", loss, LOSS):
            returned = loss(config, batch, output, goal)
            each, td_error = check_parts(LOSS, returned, ("loss", "td_error"), (num,), "transition")
        value, q_tm1 = jnp.mean(each if weight is None else weight * each), losses.select(net.values(output), batch.action)
        metrics = {"loss": value, "q_mean": jnp.mean(q_tm1), "td_error": jnp.mean(jnp.abs(td_error))}
        return value, (metrics, td_error)

    def learn(key: Array, state: QState, batches: Sample, progress: Progress) -> tuple[QState, Metrics, Array]:
        learning_rate = schedules.cosine(progress, config.learning_rate, config.learning_rate * config.learning_rate_end_share)

        weights = None
        if config.prioritized:
            weights = importance_weights(batches.probability, schedules.linear(progress, config.priority_beta, 1.0))

        def step(
            carry: tuple[PyTree, PyTree], item: tuple[Array, Transitions, Array | None]
        ) -> tuple[tuple[PyTree, PyTree], Any]:
            grads, (metrics, td_error) = jax.grad(objective, has_aux=True)(carry[0], state.target, *item)
            taken = optimizer.step(carry[0], grads, carry[1], learning_rate, config.max_grad_norm)
            return (taken.params, taken.opt_state), (metrics | {"grad_norm": taken.grad_norm}, td_error)

        items = jax.random.split(key, config.num_updates), batches.transitions, weights
        (params, opt_state), (metrics, td_error) = jax.lax.scan(step, (state.policy, state.opt_state), items)
        metrics = jax.tree.map(jnp.mean, metrics) | {"epsilon": share_of_random(progress), "learning_rate": learning_rate}
        return QState(params, moved_target(config, params, state.target, progress), opt_state, state.replay), metrics, td_error

    acting = act_by_noise if config.noisy else act
    acting.__qualname__ = f"make_{name}.{acting.__name__}"  # By which an `Agent` says what made it.
    return off_policy(
        init,
        acting,
        ReplayFunctions(store, sample, learn, feed=replay.feed),
        respects_legal=True,
    )


def _try_network(net: ActionValues, spec: Spec) -> None:
    """Traced alone: the values of one observation, with a key and without."""
    key, obs, wanted = jax.random.key(0), spec_zeros(spec.obs, (1,)), (1, spec.action.n)
    params = net.init(key)
    for drawn in (None, key):
        values = net.values(net.apply(drawn, params, obs))
        if not is_array(values) or values.shape != wanted:
            refuse(
                f"values(apply(key, params, obs)) returns {described(values)}; return {list(wanted)}, a value for each action"
            )
