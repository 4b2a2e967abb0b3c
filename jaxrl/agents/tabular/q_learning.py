"""Q-learning with a table (Watkins 1989, "Learning from Delayed Rewards"; Watkins and Dayan 1992).

    Q(s, a) += alpha (r + gamma max_a' Q(s', a') - Q(s, a))

Off-policy: the values of the greedy policy are learned while an epsilon-greedy one acts. Sutton & Barto 2018, section 6.5.
"""

from __future__ import annotations

from jaxrl.agents.tabular import table as tabular
from jaxrl.agents.tabular.table import TabularConfig, TabularState
from jaxrl.types import Agent, Array, Model, Progress, Rollout, Spec


def make_q_learning(config: TabularConfig, spec: Spec, model: Model | None = None) -> Agent:
    """Q-learning for discrete actions and observations that name a state."""
    return one_step_agent(config, tabular.table_shape(spec, "q_learning"), tabular.greedy_value)


def one_step_agent(config: TabularConfig, shape: tuple[int, int], next_value: tabular.NextValue) -> Agent:
    """The agent that learns from each step alone, given the value of the successor."""

    def init(key: Array) -> TabularState:
        return tabular.init_table(config, shape)

    def update(key: Array, state: TabularState, rollout: Rollout, progress: Progress) -> tuple[TabularState, dict[str, Array]]:
        state, change = tabular.learn_rollout(config, state, rollout, progress, next_value)
        return state, tabular.metrics(config, progress, change)

    return Agent(init=init, act=tabular.acting(config), update=update)
