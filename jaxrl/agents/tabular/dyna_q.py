"""Dyna-Q (Sutton 1990, "Integrated Architectures for Learning, Planning, and Reacting"; Sutton & Barto 2018, section 8.2).

Each step is learned from as in Q-learning and remembered in a model; then the agent plans: `num_planning_steps` times it draws
a pair (s, a) that it has observed, asks the model for r and s', and learns from that as if it had happened. `plus` is Dyna-Q+
(section 8.3): an imagined reward grows by kappa sqrt(tau), tau the time since the pair was last tried, and in a state that was
seen all actions are planned with, an untried one as leading back to the state with reward 0.

The model holds K = `num_successors` successors of each pair with how often each followed, their mean reward and whether they
ended the episode; a new one takes an empty place, then that of the rarest. K = 1 keeps the last successor seen, which is exact
where transitions are deterministic; K at least the true number is the maximum-likelihood model. Deviations: pairs are drawn
uniformly, not a state first and then one of its actions; B environments plan B pairs at once.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.tabular import table as tabular
from jaxrl.agents.tabular.table import TabularConfig
from jaxrl.config import MAX_REPEATS, agent_config, rollout_length, static, traced
from jaxrl.types import Agent, Array, Model, Progress, PyTree, Rollout, Spec


@agent_config
class DynaQConfig(TabularConfig):
    """Dyna-Q; `num_planning_steps` 0 is Q-learning."""

    num_planning_steps: int = static(10, "Imagined steps after each env step.", low=0, high=MAX_REPEATS)
    num_successors: int = static(1, "Successors of a pair that the model holds (K); 1 is the last one seen.", low=1)
    plus: bool = static(False, "Dyna-Q+: reward trying again what was not tried for long.")
    kappa: float = traced(1e-3, "Dyna-Q+: size of that reward.", low=0.0)


class TableModel(NamedTuple):
    """What was observed.

    Attributes:
      successors: [S, A, K] int32.
      counts: [S, A, K] int32, how often each followed; 0 is an empty place.
      rewards: [S, A, K] mean reward on the way there.
      terminated: [S, A, K] bool.
      pairs: [S * A] int32, s * A + a of the pairs to plan with, in the order in which they were met.
      num_pairs: [] int32, how many of `pairs` there are.
      last_tried: [S, A] int32, time of the last try; () without `plus`.
      time: [] int32, steps of each environment so far.
    """

    successors: Array
    counts: Array
    rewards: Array
    terminated: Array
    pairs: Array
    num_pairs: Array
    last_tried: PyTree
    time: Array


class Transition(NamedTuple):
    """Steps [...] as the model learns or imagines them."""

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    next_obs: Array


class DynaQState(NamedTuple):
    """State of the agent.

    Attributes:
      policy: [S, A] action values, all that acting reads.
      visits: [S, A] int32, how often each pair was learned from, imagined steps included.
      model: `TableModel`.
    """

    policy: Array
    visits: Array
    model: TableModel


def init_model(num_states: int, num_actions: int, num_successors: int, plus: bool) -> TableModel:
    """A model that has seen nothing: every action leads back to its state with reward 0."""
    shape = (num_states, num_actions, num_successors)
    return TableModel(
        jnp.broadcast_to(jnp.arange(num_states, dtype=jnp.int32)[:, None, None], shape),
        jnp.zeros(shape, jnp.int32),
        jnp.zeros(shape, jnp.float32),
        jnp.zeros(shape, bool),
        jnp.zeros(num_states * num_actions, jnp.int32),
        jnp.int32(0),
        jnp.zeros(shape[:2], jnp.int32) if plus else (),
        jnp.int32(0),
    )


def remember(model: TableModel, step: Transition, time: Array) -> TableModel:
    """The model after one more transition; leaves of `step` and `time` are scalars."""
    model = _meet(model, step, time)
    s, a = step.obs, step.action
    counts = model.counts[s, a]
    known = (model.successors[s, a] == step.next_obs) & (counts > 0)
    is_known = jnp.any(known)
    k = jnp.where(is_known, jnp.argmax(known), jnp.argmin(counts))
    # Their sum, by which successors are drawn, stays within 32 bits.
    count = jnp.where(is_known, jnp.minimum(counts[k], tabular.MAX_VISITS // counts.size), 0) + 1
    mean = jnp.where(is_known, model.rewards[s, a, k], 0.0)
    return model._replace(
        successors=model.successors.at[s, a, k].set(step.next_obs),
        counts=model.counts.at[s, a, k].set(count),
        rewards=model.rewards.at[s, a, k].set(mean + (step.reward - mean) / count),
        terminated=model.terminated.at[s, a, k].set(step.terminated),
    )


def _meet(model: TableModel, step: Transition, time: Array) -> TableModel:
    """Adds a new pair, or with `plus` all pairs of a new state, to those that are planned with."""
    num_actions, size = model.counts.shape[1], model.pairs.size
    plus = not isinstance(model.last_tried, tuple)
    if plus:
        is_new = ~jnp.any(model.counts[step.obs] > 0)
        met = step.obs * num_actions + jnp.arange(num_actions, dtype=jnp.int32)
        tried = model.last_tried.at[step.obs].set(jnp.where(is_new, time, model.last_tried[step.obs]))
        model = model._replace(last_tried=tried.at[step.obs, step.action].set(time))
    else:
        is_new = ~jnp.any(model.counts[step.obs, step.action] > 0)
        met = (step.obs * num_actions + step.action)[None]
    place = jnp.where(is_new, model.num_pairs + jnp.arange(met.size), size)  # Index `size` is dropped.
    pairs = model.pairs.at[place].set(met, mode="drop")
    return model._replace(pairs=pairs, num_pairs=model.num_pairs + jnp.where(is_new, met.size, 0))


def imagine(uniform: Array, model: TableModel, kappa: Array | float) -> Transition:
    """Pairs drawn from those that were met, with a reward and a successor of each from the model.

    Args:
      uniform: [2, B] draws in [0, 1).
    """
    index = (uniform[0] * model.num_pairs).astype(jnp.int32)
    pair = model.pairs[jnp.minimum(index, model.num_pairs - 1)]
    s, a = jnp.divmod(pair, model.counts.shape[1])
    total = jnp.cumsum(model.counts[s, a], axis=-1)
    passed = jnp.sum(total <= uniform[1, :, None] * total[:, -1:], axis=-1)
    k = jnp.minimum(passed, model.counts.shape[2] - 1)
    reward = model.rewards[s, a, k]
    if not isinstance(model.last_tried, tuple):
        reward = reward + kappa * jnp.sqrt((model.time - model.last_tried[s, a]).astype(jnp.float32))
    return Transition(s, a, reward, model.terminated[s, a, k], model.successors[s, a, k])


def make_dyna_q(config: DynaQConfig, spec: Spec, model: Model | None = None) -> Agent:
    """Dyna-Q for discrete actions and observations that name a state."""
    shape, length, num_envs = tabular.table_shape(spec, "dyna_q"), rollout_length(config, spec), config.num_envs

    def init(key: Array) -> DynaQState:
        return DynaQState(*tabular.init_table(config, shape), init_model(*shape, config.num_successors, config.plus))

    def observe(state: DynaQState, rollout: Rollout) -> DynaQState:
        steps = Transition(rollout.obs, rollout.action, rollout.reward, rollout.terminated, rollout.next_obs)
        time = jnp.broadcast_to(state.model.time + jnp.arange(length)[:, None], (length, num_envs))
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1), (steps, time))
        # One after the other: two environments may have done the same pair.
        seen, _ = jax.lax.scan(lambda known, row: (remember(known, *row), None), state.model, flat)
        return state._replace(model=seen._replace(time=seen.time + length))

    def plan(state: DynaQState, uniform: Array, rate: Array | None) -> tuple[DynaQState, None]:
        step = imagine(uniform, state.model, config.kappa)
        value_t = tabular.greedy_value(state.policy[step.next_obs], jnp.float32(0.0))
        target = step.reward + config.gamma * (1.0 - step.terminated) * value_t
        return tabular.learn(state, step.obs, step.action, target, jnp.ones_like(step.action), rate)[0], None

    def update(key: Array, state: DynaQState, rollout: Rollout, progress: Progress) -> tuple[DynaQState, dict[str, Array]]:
        state, change = tabular.learn_rollout(config, state, rollout, progress, tabular.greedy_value)
        state = observe(state, rollout)
        if config.num_planning_steps:
            draws = jax.random.uniform(key, (length * config.num_planning_steps, 2, num_envs))
            rate = tabular.step_size(config, progress)
            state, _ = jax.lax.scan(lambda known, uniform: plan(known, uniform, rate), state, draws)
        return state, tabular.metrics(config, progress, change) | {"num_pairs": state.model.num_pairs}

    return Agent(init=init, act=tabular.acting(config), update=update, observe=observe)
