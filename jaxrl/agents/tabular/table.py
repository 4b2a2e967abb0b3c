"""Agents whose action values are a table: what Q-learning, SARSA, Monte-Carlo control and Dyna-Q share.

The observation names a state (`ArraySpec.num_values`), so the policy is an array [S, A] and nothing is approximated. Acting is
epsilon-greedy; where nothing is explored, ties go to the lowest action. Steps are learned in the order in which they were
taken; the B environments of one time step are learned at once, from the same table, and `learn` says what becomes of a pair
(s, a) that several of them did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxrl.config import Config, agent_config, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import exploration, schedules
from jaxrl.types import Array, ArraySpec, Discrete, Progress, PyTree, Rollout, Spec


@agent_config
class TabularConfig(Config):
    """The fields of every agent with a table."""

    num_envs: int = static(1, "Environments stepped side by side (B).", low=1)
    learning_rate: float = traced(
        0.1, "Share of the way to the target that one visit moves a value, at the start.", low=0.0, high=1.0, low_open=True
    )
    learning_rate_end_share: float = traced(
        1.0,
        "Share of the learning rate that is left at the end, after a straight line; 1 keeps it.",
        low=0.0,
        high=1.0,
        formerly="learning_rate_end",
    )
    average: bool = static(False, "Move by 1 / visits of the pair instead: values are plain averages of their targets.")
    gamma: float = traced(0.99, "Discount of future rewards.", low=0.0, high=1.0)
    epsilon_start: float = traced(1.0, "Share of random actions at the start.", low=0.0, high=1.0)
    epsilon_end: float = traced(0.05, "Share of random actions after the annealing.", low=0.0, high=1.0)
    exploration_fraction: float = traced(0.5, "Share of the run over which epsilon falls.", low=0.0, high=1.0)
    initial_value: float = traced(0.0, "First value of every pair; one above what can be had makes a greedy agent explore.")


MAX_VISITS = 2**30
"""Visits after which they are no longer counted."""


class TabularState(NamedTuple):
    """State of an agent that is a table and nothing else.

    Attributes:
      policy: [S, A] action values, all that acting reads.
      visits: [S, A] int32, how often each pair was learned from.
    """

    policy: Array
    visits: Array


Table = TypeVar("Table", bound=Any)
"""`TabularState`, or a NamedTuple with more fields beside its own."""


class Change(NamedTuple):
    """What learning from N pairs did.

    Attributes:
      td_error: [N] target - Q(s, a), 0 where a pair does not count.
      moved: [N] how far Q(s, a) went, others of the same pair included.
      counts: [N] int32.
    """

    td_error: Array
    moved: Array
    counts: Array


NextValue = Callable[[Array, Array], Array]
"""(q_t [..., A], epsilon []) -> [...] value of the successor whose action values are q_t."""


def table_shape(spec: Spec, agent: str) -> tuple[int, int]:
    """(S, A) of an environment.

    Raises:
      UsageError: actions that are not discrete, or observations that do not name a state.
    """
    if not isinstance(spec.action, Discrete):
        raise UsageError(f"env: {agent} needs discrete actions, not {spec.action}; choose an environment with Discrete actions")
    obs = spec.obs
    if not isinstance(obs, ArraySpec) or obs.shape or obs.num_values is None:
        shown = f"shape {obs.shape} without num_values" if isinstance(obs, ArraySpec) else "a tree"
        raise UsageError(
            f"env: {agent} needs observations that are one integer of num_values states, not {shown}; "
            "choose a finite environment, or an agent with a network such as dqn"
        )
    return obs.num_values, spec.action.n


def init_table(config: TabularConfig, shape: tuple[int, int]) -> TabularState:
    """A table of `initial_value`."""
    values = jnp.zeros(shape, jnp.float32) + jnp.asarray(config.initial_value, jnp.float32)
    return TabularState(values, jnp.zeros(shape, jnp.int32))


def epsilon(config: TabularConfig, progress: Progress) -> Array:
    """Share of random actions now, []."""
    return schedules.linear(progress, config.epsilon_start, config.epsilon_end, config.exploration_fraction)


def learning_rate(config: TabularConfig, progress: Progress) -> Array:
    """Share of the way that one visit moves a value now, []; `average` does not read it."""
    return schedules.linear(progress, config.learning_rate, config.learning_rate * config.learning_rate_end_share)


def acting(config: TabularConfig) -> Callable[..., tuple[Array, PyTree, PyTree]]:
    """`Agent.act`: epsilon-greedy on the table's row."""

    def act(
        key: Array, policy: Array, memory: PyTree, obs: Array, progress: Progress, explore: bool
    ) -> tuple[Array, PyTree, PyTree]:
        if explore:
            return behave(key, policy[obs], epsilon(config, progress)), memory, ()
        return jnp.argmax(policy[obs], axis=-1).astype(jnp.int32), memory, ()

    return act


def behave(key: Array, q: Array, epsilon: Array) -> Array:
    """Epsilon-greedy actions [...] for values [..., A], with ties broken at random.

    A table begins with nothing but ties, and always the lowest of them would be a walk into a corner.
    """
    key_tie, key_random = jax.random.split(key)
    is_best = q == jnp.max(q, axis=-1, keepdims=True)
    return exploration.epsilon_greedy(key_random, jnp.where(is_best, jax.random.uniform(key_tie, q.shape), -1.0), epsilon)


def greedy_value(q_t: Array, epsilon: Array) -> Array:
    """max_a q_t[a]: the target policy is greedy, whatever acts (Q-learning)."""
    return jnp.max(q_t, axis=-1)


def soft_value(q_t: Array, epsilon: Array) -> Array:
    """sum_a pi(a) q_t[a] of the epsilon-greedy policy pi (expected SARSA)."""
    return (1.0 - epsilon) * jnp.max(q_t, axis=-1) + epsilon * jnp.mean(q_t, axis=-1)


def learn(state: Table, obs: Array, action: Array, target: Array, counts: Array, rate: Array | None) -> tuple[Table, Change]:
    """Q(s, a) += w (mean target - Q(s, a)), the mean over those of N pairs that are (s, a).

    Let n be their number. With a learning rate, w = 1 - (1 - rate)^n: what n visits in turn would do to their mean target, and
    plainly `rate` where n = 1. Without one, w = n / visits, these n included, which makes Q the average of all targets so far.
    Sutton & Barto 2018, eq. 2.3 and 6.1.

    Args:
      obs, action, target: [N].
      counts: [N] int32, 1 or 0; a pair of count 0 changes nothing.
      rate: [], None for averages.
    """
    before = state.policy[obs, action]
    # An average of so many stands still as good as that; a difference of visits is right beyond 32 bits as well.
    added = counts * (state.visits[obs, action] < MAX_VISITS) if rate is None else counts
    visits = state.visits.at[obs, action].add(added)
    total = visits[obs, action]
    num = jnp.maximum(total - state.visits[obs, action], 1)
    if rate is None:
        weight = num / jnp.maximum(total, 1)
    else:
        weight = -jnp.expm1(num * jnp.log1p(-rate))
    td_error = counts * (target - before)
    policy = state.policy.at[obs, action].add(weight * td_error / num)
    return state._replace(policy=policy, visits=visits), Change(td_error, counts * (policy[obs, action] - before), counts)


def learn_rollout(
    config: TabularConfig, state: Table, rollout: Rollout, progress: Progress, next_value: NextValue
) -> tuple[Table, Change]:
    """One-step learning from the T steps of a rollout in turn, towards r_t + discount_t next_value(q_t).

    A terminated step has discount 0; a truncated one bootstraps from its true successor like any other.

    Returns:
      The state, and `Change` with leaves [T, B].
    """
    chance, rate = epsilon(config, progress), step_size(config, progress)

    def one(state: Table, step: Rollout) -> tuple[Table, Change]:
        discount = config.gamma * (1.0 - step.terminated)
        target = step.reward + discount * next_value(state.policy[step.next_obs], chance)
        return learn(state, step.obs, step.action, target, jnp.ones_like(step.action), rate)

    return jax.lax.scan(one, state, rollout)


def step_size(config: TabularConfig, progress: Progress) -> Array | None:
    """What `learn` takes for a rate: None where values are plain averages."""
    return None if config.average else learning_rate(config, progress)


def metrics(config: TabularConfig, progress: Progress, change: Change) -> dict[str, Array]:
    """Means over the pairs that count: loss = td_error^2, td_error = |td_error|, table_change = |change of Q(s, a)|."""
    num = jnp.maximum(jnp.sum(change.counts), 1)
    return {
        "loss": jnp.sum(jnp.square(change.td_error)) / num,
        "td_error": jnp.sum(jnp.abs(change.td_error)) / num,
        "table_change": jnp.sum(jnp.abs(change.moved)) / num,
        "epsilon": epsilon(config, progress),
        "learning_rate": learning_rate(config, progress),
    }
