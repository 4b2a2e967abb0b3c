"""On-policy Monte-Carlo control with an epsilon-greedy policy, every-visit (Sutton & Barto 2018, section 5.4).

    Q(s, a) += alpha (G - Q(s, a)),  G = r_t + gamma r_{t+1} + ... to the end of the episode

An iteration plays B whole episodes and learns from all their steps at once. Nothing is bootstrapped, with one exception, a
deviation from the textbook: what the time limit cuts off is estimated by the table, sum_a pi(a | s') Q(s', a) at the last
successor, since taking it for an end would make states look good from which the true end is far.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxrl.agents.tabular import table as tabular
from jaxrl.agents.tabular.table import TabularConfig, TabularState
from jaxrl.config import agent_config, static
from jaxrl.maths import returns
from jaxrl.types import Agent, Array, Model, Progress, Rollout, Spec, episode_end, first_episode_mask


@agent_config
class MonteCarloConfig(TabularConfig):
    """Monte-Carlo control."""

    rollout_length: int = static(
        0, "Steps of an iteration (T); 0 means the environment's time limit, the least it may be.", low=0
    )


def make_monte_carlo(config: MonteCarloConfig, spec: Spec, model: Model | None = None) -> Agent:
    """Monte-Carlo control for discrete actions and observations that name a state."""
    shape = tabular.table_shape(spec, "monte_carlo")

    def init(key: Array) -> TabularState:
        return tabular.init_table(config, shape)

    def update(key: Array, state: TabularState, rollout: Rollout, progress: Progress) -> tuple[TabularState, dict[str, Array]]:
        ended = episode_end(rollout)
        counts = first_episode_mask(ended).astype(jnp.int32)
        next_value = tabular.soft_value(state.policy[rollout.next_obs], tabular.epsilon(config, progress))
        discount = config.gamma * (1.0 - rollout.terminated)
        target = returns.reward_to_go(rollout.reward, discount, next_value, ended)
        obs, action, target, counts = (leaf.reshape(-1) for leaf in (rollout.obs, rollout.action, target, counts))
        state, change = tabular.learn(state, obs, action, target, counts, tabular.step_size(config, progress))
        return state, tabular.metrics(config, progress, change)

    return Agent(init=init, act=tabular.acting(config), update=update, fresh_episodes=True)
