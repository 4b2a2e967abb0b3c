"""SARSA (Rummery and Niranjan 1994; Sutton 1996) and expected SARSA (van Seijen et al. 2009): the values of what acts.

    SARSA            Q(s, a) += alpha (r + gamma Q(s', a') - Q(s, a)), a' the action taken next
    expected SARSA   Q(s, a) += alpha (r + gamma sum_a' pi(a' | s') Q(s', a') - Q(s, a)), pi epsilon-greedy

On-policy: both learn the values of the epsilon-greedy policy, random actions included, and expected SARSA spares the noise of
drawing a'. Sutton & Barto 2018, sections 6.4 and 6.6.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.tabular import table as tabular
from jaxrl.agents.tabular.q_learning import one_step_agent
from jaxrl.agents.tabular.table import Change, TabularConfig
from jaxrl.types import Agent, Array, Model, Progress, Rollout, Spec, episode_end


class Steps(NamedTuple):
    """Transitions with leaves [..., B]; `counts` int32 is 0 for one that is not to be learned from."""

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Array
    counts: Array


class SarsaState(NamedTuple):
    """State of the agent.

    Attributes:
      policy: [S, A] action values, all that acting reads.
      visits: [S, A] int32, how often each pair was learned from.
      pending: [B] the last steps of the previous rollout, whose next action had not been taken.
    """

    policy: Array
    visits: Array
    pending: Steps


def make_expected_sarsa(config: TabularConfig, spec: Spec, model: Model | None = None) -> Agent:
    """Expected SARSA for discrete actions and observations that name a state."""
    return one_step_agent(config, tabular.table_shape(spec, "expected_sarsa"), tabular.soft_value)


def make_sarsa(config: TabularConfig, spec: Spec, model: Model | None = None) -> Agent:
    """SARSA for discrete actions and observations that name a state.

    The target's action is the one then taken, so a step is learned when that is known: the last step of a rollout waits for the
    next one. With rollouts of one step this is the textbook's order, in which a' is chosen before Q(s, a) changes. Where an
    episode ends nothing waits; a truncated step bootstraps with an action that is drawn as if it were taken.
    """
    shape = tabular.table_shape(spec, "sarsa")

    def init(key: Array) -> SarsaState:
        table, index, flag = (
            tabular.init_table(config, shape),
            jnp.zeros(config.num_envs, jnp.int32),
            jnp.zeros(config.num_envs, bool),
        )
        return SarsaState(*table, Steps(index, index, jnp.zeros(config.num_envs, jnp.float32), flag, flag, index, index))

    def update(key: Array, state: SarsaState, rollout: Rollout, progress: Progress) -> tuple[SarsaState, dict[str, Array]]:
        steps, pending = in_order(state.pending, rollout)
        next_action = jnp.concatenate([rollout.action, rollout.action[-1:]])
        chance, rate = tabular.epsilon(config, progress), tabular.step_size(config, progress)

        def one(state: SarsaState, row: tuple[Array, Steps, Array]) -> tuple[SarsaState, Change]:
            key, step, taken = row
            q_t = state.policy[step.next_obs]
            drawn = tabular.behave(key, q_t, chance)
            a_t = jnp.where(step.truncated, drawn, taken)
            value_t = jnp.take_along_axis(q_t, a_t[:, None], axis=1)[:, 0]
            target = step.reward + config.gamma * (1.0 - step.terminated) * value_t
            return tabular.learn(state, step.obs, step.action, target, step.counts, rate)

        keys = jax.random.split(key, len(next_action))
        state, change = jax.lax.scan(one, state, (keys, steps, next_action))
        return state._replace(pending=pending), tabular.metrics(config, progress, change)

    return Agent(init=init, act=tabular.acting(config), update=update)


def in_order(pending: Steps, rollout: Rollout) -> tuple[Steps, Steps]:
    """The pending steps and the rollout's, [T + 1, B], and those of its last ones that are pending now, [B].

    A pending step counts only where the rollout goes on from its successor: after a restart from a checkpoint, an environment
    outside the compiled program begins a new episode.
    """
    counts = jnp.ones_like(rollout.action)
    counts = counts.at[-1].set(episode_end(rollout)[-1].astype(counts.dtype))
    own = Steps(*rollout[:6], counts)
    goes_on = pending.next_obs == rollout.obs[0]
    waited = pending._replace(counts=pending.counts * goes_on)
    steps = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), waited, own)
    last = jax.tree.map(lambda leaf: leaf[-1], own)
    return steps, last._replace(counts=1 - last.counts)
