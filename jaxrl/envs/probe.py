"""Probe environments: tiny ones with exactly known answers, each of which one kind of bug fails.

    env = make("probe/truncation", num_envs=8)

Every docstring states the exact values; `tests/test_agents.py` holds agents to them. An agent that learns all of them
bootstraps, discounts, explores and remembers correctly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.errors import UsageError, unknown
from jaxrl.types import Array, ArraySpec, Box, Discrete, Env, PyTree, Spec, tree_spec

_VECTOR = ArraySpec((1,), "float32")


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B probe environments; see the functions of this module for what each one knows."""
    if options:
        raise UsageError(f"probe/{name} has no option {next(iter(options))!r}; leave it out")
    if name not in _PROBES:
        raise UsageError(unknown("probe", name, _PROBES))
    return _PROBES[name](num_envs)


def constant(num_envs: int) -> Env:
    """One step, observation 0, reward 1. V = 1: the value head and the loss work."""

    def reset(key: Array, params: PyTree) -> tuple[PyTree, Array]:
        return (), jnp.zeros(1)

    def step(key: Array, params: PyTree, state: PyTree, action: Array) -> Transition:
        return Transition((), jnp.zeros(1), 1.0, True)

    return batch_env(Spec(_VECTOR, Discrete(2), 1), (), reset, step, num_envs, static=())


def observation(num_envs: int) -> Env:
    """One step, observation x = -1 or +1 at random, reward x. V(x) = x: the value depends on the observation."""

    def reset(key: Array, params: PyTree) -> tuple[Array, Array]:
        cue = _random_sign(key)
        return cue, cue[None]

    def step(key: Array, params: PyTree, state: Array, action: Array) -> Transition:
        return Transition(state, state[None], state, True)

    return batch_env(Spec(_VECTOR, Discrete(2), 1), (), reset, step, num_envs, static=())


def discount(num_envs: int) -> Env:
    """Two steps, observations 0 then 1, rewards 0 then 1. V(0) = gamma, V(1) = 1: bootstrapping and discounting."""

    def reset(key: Array, params: PyTree) -> tuple[Array, Array]:
        return jnp.float32(0.0), jnp.zeros(1)

    def step(key: Array, params: PyTree, state: Array, action: Array) -> Transition:
        return Transition(state + 1.0, (state + 1.0)[None], state, state >= 1.0)

    return batch_env(Spec(_VECTOR, Discrete(2), 2), (), reset, step, num_envs, static=())


def action(num_envs: int) -> Env:
    """One step, observation 0; reward +1 for action 1, -1 for action 0. Q(0, a) = 2a - 1: the action taken is credited."""

    def reset(key: Array, params: PyTree) -> tuple[PyTree, Array]:
        return (), jnp.zeros(1)

    def step(key: Array, params: PyTree, state: PyTree, action: Array) -> Transition:
        return Transition((), jnp.zeros(1), 2.0 * action - 1.0, True)

    return batch_env(Spec(_VECTOR, Discrete(2), 1), (), reset, step, num_envs, static=())


def target(num_envs: int) -> Env:
    """One step, observation x = -1 or +1 at random; reward -(a - x / 2)^2 for a continuous action a. Best: a = x / 2 with 0."""

    def reset(key: Array, params: PyTree) -> tuple[Array, Array]:
        cue = _random_sign(key)
        return cue, cue[None]

    def step(key: Array, params: PyTree, state: Array, action: Array) -> Transition:
        return Transition(state, state[None], -jnp.square(action[0] - state / 2.0), True)

    return batch_env(Spec(_VECTOR, Box((1,)), 1), (), reset, step, num_envs, static=())


def truncation(num_envs: int) -> Env:
    """One step and reward 1 always; observation +1 is terminated after it, observation -1 truncated.

    The true successor of either is the observation itself, the reset draws one at random. V(+1) = 1 and
    V(-1) = 1 / (1 - gamma). An agent that takes a truncation for a termination learns V(-1) = 1; one that bootstraps from
    the reset observation learns something between.
    """

    def reset(key: Array, params: PyTree) -> tuple[Array, Array]:
        cue = _random_sign(key)
        return cue, cue[None]

    def step(key: Array, params: PyTree, state: Array, action: Array) -> Transition:
        return Transition(state, state[None], 1.0, state > 0, state < 0)

    return batch_env(Spec(_VECTOR, Discrete(2), 1), (), reset, step, num_envs, static=())


MEMORY_DELAY = 3


def memory(num_envs: int) -> Env:
    """A cue -1 or +1 is shown once, then zeros; at step `MEMORY_DELAY` action 1 is right for +1 and action 0 for -1.

    Reward +1 for right, -1 for wrong, 0 before. A recurrent agent reaches a return of 1; one without memory gets 0 on
    average, whatever it does.
    """

    def reset(key: Array, params: PyTree) -> tuple[tuple[Array, Array], Array]:
        cue = _random_sign(key)
        return (cue, jnp.int32(0)), cue[None]

    def step(key: Array, params: PyTree, state: tuple[Array, Array], action: Array) -> Transition:
        cue, time = state
        last = time >= MEMORY_DELAY - 1
        reward = jnp.where(last, cue * (2.0 * action - 1.0), 0.0)
        return Transition((cue, time + 1), jnp.zeros(1), reward, last)

    return batch_env(Spec(_VECTOR, Discrete(2), MEMORY_DELAY), (), reset, step, num_envs, static=())


class MixedAction(NamedTuple):
    """A choice and an amount."""

    choice: Any
    amount: Any


def mixed(num_envs: int) -> Env:
    """Observations are a dict {"cue": [1], "level": [] int32}, actions a choice of two and an amount in [-1, 1].

    One step; reward 1 if the choice is 1 exactly where the cue is +1, minus (amount - level / 2)^2. Best return: 1.
    """
    shape = jax.eval_shape(lambda: {"cue": jnp.zeros(1), "level": jnp.int32(0)})
    spec = Spec(tree_spec(shape), MixedAction(Discrete(2), Box(())), 1)

    def reset(key: Array, params: PyTree) -> tuple[PyTree, PyTree]:
        key_cue, key_level = jax.random.split(key)
        state = {"cue": _random_sign(key_cue)[None], "level": jax.random.randint(key_level, (), -1, 2)}
        return state, state

    def step(key: Array, params: PyTree, state: PyTree, action: MixedAction) -> Transition:
        right = (action.choice == 1) == (state["cue"][0] > 0)
        miss = jnp.square(action.amount - state["level"] / 2.0)
        return Transition(state, state, right.astype(jnp.float32) - miss, True)

    return batch_env(spec, (), reset, step, num_envs, static=())


class Regulator(NamedTuple):
    """x' = A x + B a costs x' Q x + a' R a a step.

    Attributes:
      dynamics: [2, 2] A.
      control: [2, 1] B.
      state_cost: [2, 2] Q.
      action_cost: [1, 1] R.
    """

    dynamics: Any
    control: Any
    state_cost: Any
    action_cost: Any


LQR = Regulator(((1.0, 0.5), (0.0, 1.0)), ((0.25,), (1.0,)), ((1.0, 0.0), (0.0, 1.0)), ((2.0,),))
"""A point on a line with position and velocity, pushed for half a second at a time."""


def lqr(num_envs: int) -> Env:
    """A linear system with quadratic costs, `LQR`, from positions and velocities in [-3/4, 3/4], cut off after five steps.

    Nothing terminates it, so its values are those of a task without an end: V(x) = -x' P x, where P solves the Riccati equation

        P = Q + gamma A' P A - gamma A' P B K,    K = gamma (R + gamma B' P B)^-1 B' P A,

    and the best action is -K x. It stays within 0.88 of 1 from every start, for every discount from 0.9 to 1. The reward is of
    the state in which the action is taken.

    Anderson and Moore 1989, "Optimal Control: Linear Quadratic Methods", section 2.4.
    """

    def reset(key: Array, params: Regulator) -> tuple[Array, Array]:
        state = jax.random.uniform(key, (2,), jnp.float32, -0.75, 0.75)
        return state, state

    def step(key: Array, params: Regulator, state: Array, action: Array) -> Transition:
        # Sums, not products of matrices, which an accelerator may round to fewer bits.
        after = jnp.sum(params.dynamics * state, axis=1) + jnp.sum(params.control * action, axis=1)
        cost = jnp.sum(params.state_cost * jnp.outer(state, state)) + jnp.sum(params.action_cost * jnp.outer(action, action))
        return Transition(after, after, -cost, False)

    spec = Spec(ArraySpec((2,), "float32"), Box((1,)))
    params = Regulator(*(np.array(matrix, np.float32) for matrix in LQR))
    return batch_env(spec, params, reset, step, num_envs, time_limit=5, static=())


class CounterState(NamedTuple):
    """A whole game's state, handed out as the observation: [] int32 total and [] int32 moves left."""

    total: Array
    moves_left: Array


def state(num_envs: int) -> Env:
    """A game whose observation is its state and which has a `model`: take 1 or 2 three times, reward 1 if the sum is 4.

    From the start the best value is 1; after (1, 1) or (2, 1) one action wins, after (2, 2) none does. This is what a search
    gets its root from.
    """

    def reset(key: Array, params: PyTree) -> tuple[CounterState, CounterState]:
        start = CounterState(jnp.int32(0), jnp.int32(3))
        return start, start

    def model(key: Array, params: PyTree, state: CounterState, action: Array) -> tuple[CounterState, Array, Array]:
        after = CounterState(state.total + 1 + action, state.moves_left - 1)
        over = after.moves_left == 0
        return after, (over & (after.total == 4)).astype(jnp.float32), over

    def step(key: Array, params: PyTree, state: CounterState, action: Array) -> Transition:
        after, reward, over = model(key, params, state, action)
        return Transition(after, after, reward, over)

    spec = Spec(tree_spec(CounterState(jnp.int32(0), jnp.int32(0))), Discrete(2), 3)
    return batch_env(spec, (), reset, step, num_envs, model=model, static=())


def _random_sign(key: Array) -> Array:
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)


_PROBES: dict[str, Callable[[int], Env]] = {
    "constant": constant,
    "observation": observation,
    "discount": discount,
    "action": action,
    "target": target,
    "truncation": truncation,
    "memory": memory,
    "mixed": mixed,
    "state": state,
    "lqr": lqr,
}
