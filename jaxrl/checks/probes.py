"""Probes whose best action tells a right agent from a wrong one, whatever it learns inside: no value is asked for.

Each is a table of four states and two actions; all are one environment and differ in its params, so learning them all is one
compiled program. The discount is 1/2. `jaxrl.envs.probe` has the probes whose values are known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.types import Array, ArraySpec, Discrete, Env, Spec

GAMMA = 0.5
NUM_STATES = 4


class Table(NamedTuple):
    """A probe: [S, 2] arrays over states and actions.

    Attributes:
      reward: [S, 2] float32.
      successor: [S, 2] int32.
      terminated, truncated: [S, 2] bool.
      initial: [S] float32, probabilities.
    """

    reward: Any
    successor: Any
    terminated: Any
    truncated: Any
    initial: Any


class Probe(NamedTuple):
    """A table, the best action in some of its states, and what an agent gets wrong that chooses otherwise."""

    table: Table
    best: dict[int, int]
    fault: str


def _table(reward: Any, initial: Any, successor: Any = None, truncated: Any = None, goes_on: Any = None) -> Table:
    """Every step ends an episode but where it `goes_on` or is `truncated`: {(state, action)}."""
    shape = (NUM_STATES, 2)
    rewards, begins = np.zeros(shape, np.float32), np.zeros(NUM_STATES, np.float32)
    rewards[: len(reward)], begins[: len(initial)] = reward, initial
    successors, cut, on = np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(shape, bool)
    for (state, action), after in (successor or {}).items():
        successors[state, action] = after
    for pair in truncated or ():
        cut[pair] = True
    for pair in goes_on or ():
        on[pair] = True
    return Table(rewards, successors, ~(cut | on), cut, begins)


PROBES = {
    "the action taken is credited": Probe(_table([[-1, 1]], [1]), {0: 1}, "the better of two actions is not found"),
    "actions depend on the observation": Probe(
        _table([[1, -1], [-1, 1]], [0.5, 0.5]), {0: 0, 1: 1}, "the better action of two observations is not found"
    ),
    # In state 0 waiting is worth 4 / 2 > 1, in state 1 it is worth 1 / 2 < 1.
    "rewards that come later are discounted": Probe(
        _table([[1, 0], [1, 0], [4, 4], [1, 1]], [0.5, 0.5], {(0, 1): 2, (1, 1): 3}, goes_on={(0, 1), (1, 1)}),
        {0: 1, 1: 0},
        "4 one step later is worth more than 1 now, and 1 one step later less, with gamma 0.5",
    ),
    # In state 0 waiting is worth 4 / 2 > 1 with the better action afterwards; with both alike 1.5 / 2 < 1, with the worse less.
    "the best of the next actions counts": Probe(
        _table([[1, 0], [4, -1]], [0.5, 0.5], {(0, 1): 1}, goes_on={(0, 1)}),
        {0: 1, 1: 0},
        "a state is worth what its best action is worth (4 one step later, with gamma 0.5), not the mean or the worst",
    ),
    # In state 0, action 1 is truncated and leads back: 0.75 + 0.5 * 1.5 = 1.5 > 1. Taken for a termination it is worth 0.75;
    # with the value of the next episode's start, whose mean is below 0, less; a termination that bootstraps gives action 0 2.
    "a truncated step bootstraps, from its true successor": Probe(
        _table([[1, 0.75], [-3, -3]], [0.5, 0.5], {(0, 1): 0}, truncated={(0, 1)}),
        {0: 1},
        "a truncated step must bootstrap from rollout.next_obs (not obs of the next episode), a terminated one must not",
    ),
}


def make_probe(num_envs: int, names_states: bool) -> Env:
    """The environment of all probes, with the table of one whose episodes have two steps as its params.

    Args:
      names_states: observations are the state's number, as a table needs them; else one-hot vectors.
    """
    obs = ArraySpec((), "int32", num_values=NUM_STATES) if names_states else ArraySpec((NUM_STATES,), "float32")

    def seen(state: Array) -> Array:
        return state if names_states else jax.nn.one_hot(state, NUM_STATES, dtype=jnp.float32)

    def reset(key: Array, table: Table) -> tuple[Array, Array]:
        state = jax.random.choice(key, NUM_STATES, p=table.initial).astype(jnp.int32)
        return state, seen(state)

    def step(key: Array, table: Table, state: Array, action: Array) -> Transition:
        after = table.successor[state, action]
        ends = table.terminated[state, action], table.truncated[state, action]
        return Transition(after, seen(after), table.reward[state, action], *ends)

    table = PROBES["rewards that come later are discounted"].table
    return batch_env(Spec(obs, Discrete(2), 2), jax.tree.map(jnp.asarray, table), reset, step, num_envs)


def observations(names_states: bool) -> Array:
    """[S, ...] what is seen in each state."""
    states = jnp.arange(NUM_STATES)
    return states if names_states else jnp.eye(NUM_STATES)
