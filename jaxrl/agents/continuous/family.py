"""What the agents share that learn an actor and its critics off-policy: fields of their configs, state, and the update.

Each iteration stores T x B transitions and then takes `update_to_data` gradient steps for each of them: one of all critics, and
after every `policy_delay`-th one of the actor. An agent says by an `Algorithm` how it acts, what its critics are fitted to and
what its actor climbs. In the warm-up actions are drawn uniformly.

With `num_critics=10, update_to_data=20, policy_delay=20` and the mean of the critics as the actor's guide this is REDQ (Chen et
al. 2021), with two critics, `layer_norm` and `dropout=0.01` in their place DroQ (Hiraoka et al. 2022). Returns of n steps are
not corrected for older policies, nor for the entropy within them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.config import MAX_REPEATS, Config, agent_config, rollout_length, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import exploration, losses, optimizer, schedules
from jaxrl.nets.critics import ActorCritics
from jaxrl.nets.inputs import legal_of, stored_spec, to_store
from jaxrl.nets.layers import ACTIVATIONS
from jaxrl.nets.torso import TORSO_HELP, TORSOS
from jaxrl.nets.view import Policy, Seen
from jaxrl.replay.experience import Sample, check_sizes, make_experience
from jaxrl.replay.ring import Transitions
from jaxrl.types import Agent, Array, Box, Metrics, Progress, PyTree, ReplayFunctions, Rollout, Spec, off_policy, sample_action


@agent_config
class OffPolicyConfig(Config):
    """The fields that all of these agents have."""

    num_envs: int = static(1, "Environments stepped side by side (B).", low=1)
    learning_starts: int = static(1_000, "Env steps of warm-up: actions are uniform, nothing is learned.", low=0)
    learning_rate: float = traced(1e-3, "Step size of Adam at the start, of actor and critics.", low=0.0, low_open=True)
    learning_rate_end_share: float = traced(
        1.0, "Share of the step size that is left at the end, along a straight line; 1 keeps it.", low=0.0, high=1.0
    )
    gamma: float = traced(0.99, "Discount of future rewards.", low=0.0, high=1.0)
    capacity: int = static(200_000, "Transitions that the replay holds.", low=1)
    batch_size: int = static(256, "Transitions of a minibatch.", low=1)
    update_to_data: float = static(1.0, "Gradient steps for each env step.", low=0.0, low_open=True)
    n_step: int = static(1, "Steps of the return that a value is fitted to.", low=1)
    num_critics: int = static(2, "Critics, each with parameters of its own.", low=1)
    num_target_critics: int = static(
        2, "Critics, drawn anew for each gradient step, whose least value is what all are fitted to.", low=1
    )
    layer_norm: bool = static(False, "Normalise the units of each hidden layer of the critics.")
    dropout: float = static(0.0, "Share of the units of each hidden layer of the critics that are dropped.", low=0.0, high=0.9)
    policy_delay: int = static(1, "Gradient steps of the critics for each of the actor.", low=1, high=MAX_REPEATS)
    adam_b1: float = traced(
        0.9, "Share of Adam's mean of gradients that a new one leaves, of actor and critics.", low=0.0, high=0.9999
    )
    hidden: tuple[int, ...] = static((256, 256), "Units of each hidden layer of actor and critics.", low=1)
    critic_hidden: tuple[int, ...] | None = static(
        None, "Units of each hidden layer of the critics; none: those of hidden.", low=1
    )
    activation: str = static("relu", "Activation of the hidden layers.", choices=tuple(ACTIVATIONS))
    torso: str = static("auto", TORSO_HELP, choices=TORSOS)
    noise_correlation: float = static(
        0.0,
        "Correlation of the noise that explores in a box of actions with that of the step before; 0 draws it anew each step.",
        low=0.0,
        high=0.9999,
    )
    max_grad_norm: float | None = static(None, "Global norm that gradients are clipped to; none for no clipping.", low=1e-8)
    normalize_observation: bool = static(False, "Normalise observations by running moments.")

    def check(self) -> None:
        check_sizes(self)
        if self.num_target_critics > self.num_critics:
            raise UsageError(
                f"num_target_critics={self.num_target_critics} exceeds num_critics={self.num_critics}; lower it, or raise that"
            )


@agent_config
class TargetsConfig(OffPolicyConfig):
    """The field of those whose targets are slowly moving copies."""

    tau: float = traced(0.005, "Weight of the online networks in an update of the targets.", low=0.0, high=1.0, low_open=True)


class OffPolicyState(NamedTuple):
    """State of the agent.

    Attributes:
      policy: the actor's variables (parameters, and running statistics where it normalises by batches), and the observations'
        moments.
      critic: those of the critics, leaves [K, ...].
      target: slowly moving copies by name, "actor" and "critic", of those that have one.
      log_temperature: [] of an agent that is paid for entropy, () of another.
      opt_state: by name, "actor", "critic" and "temperature", of `jaxrl.maths.optimizer`.
      reported: what the last gradient step of the actor reported.
      replay: the ring of transitions.
    """

    policy: Policy
    critic: PyTree
    target: dict[str, PyTree]
    log_temperature: PyTree
    opt_state: dict[str, PyTree]
    reported: Metrics
    replay: PyTree


class Found(NamedTuple):
    """What a loss says beside its value.

    Attributes:
      metrics: by name.
      td_error: [N], of the critics alone.
      changed: what takes the place of the network's running statistics, () without; see `jaxrl.nets.critics.Critics.fit`.
    """

    metrics: Metrics
    td_error: Array | tuple[()] = ()
    changed: PyTree = ()


Loss = Callable[[PyTree, OffPolicyState, Array, Transitions], tuple[Array, Found]]
"""(a network's variables, state, key, batch) -> (loss [], what is found)."""


class Algorithm(NamedTuple):
    """What makes an agent of the family. A batch is `Transitions` of [N, ...] whose observations are `Seen`.

    Attributes:
      act: (draw, actor, seen [B, ...], explore) -> action [B, ...]; to explore, `draw` is standard normal noise [B, *shape] for
        actions in a box of that shape, and a key for others.
      critic_loss: of the critics; see `td_loss`.
      actor_loss: of the actor.
      reports: names of the actor's metrics.
      targets: names of the networks that have a slowly moving copy.
      tau: [] weight of those networks in an update of their copies.
      targets_wait: the copies move after gradient steps of the actor alone.
      log_temperature: [] at the start, () without one.
      adjust: (state, learning_rate) -> state, after a gradient step of the actor, whose metrics are in `state.reported`.
    """

    act: Callable[[PyTree, PyTree, Seen, bool], PyTree]
    critic_loss: Loss
    actor_loss: Loss
    reports: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    tau: Array | float = 0.0
    targets_wait: bool = False
    log_temperature: PyTree = ()
    adjust: Callable[[OffPolicyState, Array], OffPolicyState] = lambda state, learning_rate: state


def td_loss(networks: ActorCritics, target: Callable[[Array, OffPolicyState, Transitions], Array]) -> Loss:
    """The `critic_loss` that fits every critic to one target by squared error.

    Args:
      target: (key, state, batch) -> [N], through which no gradient is taken.
    """

    def critic_loss(critic: PyTree, state: OffPolicyState, key: Array, batch: Transitions) -> tuple[Array, Found]:
        key_target, key_fit = jax.random.split(key)
        goal = jax.lax.stop_gradient(target(key_target, state, batch))
        q = networks.q(critic, batch.obs, batch.action, key_fit)
        return squared_error(goal, q)

    return critic_loss


def squared_error(goal: Array, q: Array) -> tuple[Array, Found]:
    """The loss of critics q [K, N] that are fitted to one goal [N], halves of squared errors, summed over critics."""
    td_error = goal - q
    loss = jnp.sum(jnp.mean(losses.squared(td_error), axis=1))
    size = jnp.mean(jnp.abs(td_error), axis=0)
    return loss, Found({"loss": loss, "q_mean": jnp.mean(q), "td_error": jnp.mean(size)}, size)


def num_updates(config: OffPolicyConfig, spec: Spec) -> int:
    """Gradient steps of one iteration.

    Raises:
      UsageError: they are no whole number, or too many.
    """
    steps = config.num_envs * rollout_length(config, spec)
    exact = config.update_to_data * steps
    count = round(exact)
    if count < 1 or abs(exact - count) > 1e-6 * count:
        raise UsageError(
            f"update_to_data={config.update_to_data:g} makes {exact:g} gradient steps of num_envs * rollout_length = {steps} "
            f"env steps; give a multiple of {1 / steps:g}"
        )
    if count > MAX_REPEATS:
        raise UsageError(
            f"update_to_data={config.update_to_data:g} makes {count} gradient steps of num_envs * rollout_length = {steps} env "
            f"steps; give at most {MAX_REPEATS / steps:g}"
        )
    return count


def make_off_policy(config: OffPolicyConfig, spec: Spec, name: str, networks: ActorCritics, algorithm: Algorithm) -> Agent:
    """The `Agent` of an algorithm with these networks.

    Args:
      name: of the agent, for what it says of itself.

    Raises:
      UsageError: an update-to-data ratio that makes no whole number of gradient steps, or noise that lasts of discrete actions.
    """
    shape = spec.action.shape if isinstance(spec.action, Box) else None
    if config.noise_correlation and shape is None:
        raise UsageError(
            f"noise_correlation={config.noise_correlation:g} is of actions in a box, and these are {spec.action}; leave it out"
        )
    count, view = num_updates(config, spec), networks.view
    replay = make_experience(stored_spec(spec.obs), spec.action, config.num_envs, config.capacity, config.n_step, config.gamma)

    def init(key: Array) -> OffPolicyState:
        policy, critic = networks.init(key)
        online = {"actor": policy.params, "critic": critic}
        opt_state = {name: optimizer.init(learned(variables)) for name, variables in online.items()}
        if not isinstance(algorithm.log_temperature, tuple):
            opt_state["temperature"] = optimizer.init(algorithm.log_temperature)
        target = {name: jax.tree.map(jnp.copy, online[name]) for name in algorithm.targets}
        reported = dict.fromkeys(("actor_grad_norm", *algorithm.reports), jnp.float32(0.0))
        return OffPolicyState(policy, critic, target, algorithm.log_temperature, opt_state, reported, replay.init())

    def act(
        key: Array, policy: Policy, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[PyTree, PyTree, PyTree]:
        seen = view.inputs(policy.moments, obs)
        if not explore:
            return algorithm.act(key, policy.params, seen, False), memory, ()
        key_own, key_uniform = jax.random.split(key)
        num_envs, legal = jax.tree.leaves(obs)[0].shape[:1], legal_of(obs)
        draw = key_own if shape is None else jax.random.normal(key_own, num_envs + shape, jnp.float32)
        if config.noise_correlation:
            memory = exploration.lasting(draw, memory, config.noise_correlation)
            draw, uniform = memory.value, exploration.uniform_of(memory.value)
        elif legal is None:
            uniform = sample_action(key_uniform, spec.action, num_envs)
        else:
            uniform = exploration.random_legal(key_uniform, legal)
        own = algorithm.act(draw, policy.params, seen, True)
        return jnp.where(progress.iteration < progress.num_warmup, uniform, own), memory, ()

    def initial_memory(num_envs: int) -> PyTree:
        """What the noise was, where it lasts."""
        return exploration.no_noise(num_envs, shape) if config.noise_correlation and shape is not None else ()

    def absorb(state: OffPolicyState, rollout: Rollout) -> OffPolicyState:
        moments = view.absorb(state.policy.moments, rollout.obs)
        return state._replace(policy=state.policy._replace(moments=moments))

    def store(ring: PyTree, rollout: Rollout) -> PyTree:
        return replay.store(ring, rollout._replace(obs=to_store(rollout.obs), next_obs=to_store(rollout.next_obs)))

    def sample(key: Array, ring: PyTree) -> Sample:
        return replay.sample(key, ring, (count, config.batch_size))

    def learn(key: Array, state: OffPolicyState, batches: Sample, progress: Progress) -> tuple[OffPolicyState, Metrics, Array]:
        rate = schedules.linear(progress, config.learning_rate, config.learning_rate * config.learning_rate_end_share)

        def step(state: OffPolicyState, item: tuple[Array, Array, Transitions]) -> tuple[OffPolicyState, Any]:
            key, number, batch = item
            moments = state.policy.moments
            batch = batch._replace(obs=view.inputs(moments, batch.obs), next_obs=view.inputs(moments, batch.next_obs))
            return gradient_step(config, algorithm, state, key, number, batch, rate)

        # The number of a gradient step in the run, as far as the delay asks for it: the product may not fit 32 bits.
        before = ((progress.iteration - progress.num_warmup) % config.policy_delay) * (count % config.policy_delay)
        items = jax.random.split(key, count), before + jnp.arange(count), batches.transitions
        after, (metrics, td_error) = jax.lax.scan(step, state._replace(replay=()), items)
        metrics = jax.tree.map(jnp.mean, metrics) | {"learning_rate": rate}
        return after._replace(replay=state.replay), metrics, td_error

    act.__qualname__ = f"make_{name}.act"  # By which an `Agent` says what made it.
    return off_policy(init, act, ReplayFunctions(store, sample, learn, absorb), initial_memory, respects_legal=True)


def gradient_step(
    config: OffPolicyConfig,
    algorithm: Algorithm,
    state: OffPolicyState,
    key: Array,
    number: Array,
    batch: Transitions,
    learning_rate: Array,
) -> tuple[OffPolicyState, tuple[Metrics, Array]]:
    """One gradient step of the critics, and one of the actor where it is due.

    Args:
      number: [] int32 of the gradient step, from 0; those are due that `policy_delay` divides once they are done.
      batch: N transitions, with observations as the networks take them.

    Returns:
      The state, and the metrics with what was found of each transition, td_error [N].
    """
    key_critic, key_actor = jax.random.split(key)

    def descend(
        name: str, variables: PyTree, loss: Loss, state: OffPolicyState, key: Array
    ) -> tuple[Any, optimizer.Step, Found]:
        """A network's variables after a step down a loss."""
        params = learned(variables)
        grads, found = jax.grad(lambda params: loss(variables | params, state, key, batch), has_aux=True)(params)
        held = state.opt_state[name]
        taken = optimizer.step(params, grads, held, learning_rate, config.max_grad_norm, b1=config.adam_b1)
        return variables | dict(found.changed) | taken.params, taken, found

    critic, taken, found = descend("critic", state.critic, algorithm.critic_loss, state, key_critic)
    metrics, td_error = found.metrics | {"grad_norm": taken.grad_norm}, jnp.asarray(found.td_error)
    state = state._replace(critic=critic, opt_state=state.opt_state | {"critic": taken.opt_state})

    def improve(state: OffPolicyState) -> OffPolicyState:
        actor, taken, found = descend("actor", state.policy.params, algorithm.actor_loss, state, key_actor)
        state = state._replace(
            policy=state.policy._replace(params=actor),
            opt_state=state.opt_state | {"actor": taken.opt_state},
            reported=found.metrics | {"actor_grad_norm": taken.grad_norm},
        )
        state = algorithm.adjust(state, learning_rate)
        return moved(algorithm, state) if algorithm.targets_wait else state

    if config.policy_delay == 1:
        state = improve(state)
    else:
        # The number is the same for all runs of a population, so that under vmap too only one branch is computed.
        due = (number + 1) % config.policy_delay == 0
        state = jax.lax.cond(due, improve, lambda state: state, state)
    state = state if algorithm.targets_wait else moved(algorithm, state)
    return state, (metrics | state.reported, td_error)


def learned(variables: PyTree) -> PyTree:
    """Those of a network's variables that gradients move."""
    return {"params": variables["params"]}


def moved(algorithm: Algorithm, state: OffPolicyState) -> OffPolicyState:
    """The state with its targets a share `tau` of the way nearer to the networks that learn."""
    online = {"actor": state.policy.params, "critic": state.critic}
    target = {name: optax.incremental_update(online[name], held, algorithm.tau) for name, held in state.target.items()}
    return state._replace(target=target)
