"""The contracts: what an environment, an agent and a run are made of.

Read this module first. An `Env` is two pure functions over a batch of auto-resetting environments, an `Agent` is a few
pure functions in a NamedTuple (as an optimizer is in Optax), and `jaxrl.loop` is the one loop that joins them.

Letters in shapes: T time steps of a rollout, B parallel environments, N minibatch, A actions; time comes first and
`[]` is a scalar.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
Array = jax.Array


# --- what an agent may know of an environment -----------------------------------------------------------------------


class ArraySpec(NamedTuple):
    """Shape and dtype name of one array, without any batch axis.

    Attributes:
      num_values: of integers that name one of finitely many things (the state of an MDP): they are 0 .. num_values - 1. Tabular
        agents need it, networks see such an integer as a one-hot vector. None where numbers are quantities.
      num_frames: of pictures stacked along the first axis, oldest first: how many points in time they show, each with the same
        number of channels. Within an episode, the next observation has this one's frames but for the oldest, and a new one; a
        replay stores each once. 1 for what is no stack.
    """

    shape: tuple[int, ...]
    dtype: str
    num_values: int | None = None
    num_frames: int = 1


class TreeSpec(NamedTuple):
    """A pytree of arrays (a dict, a game state): its structure and the `ArraySpec` of each leaf, in flattening order."""

    treedef: jax.tree_util.PyTreeDef
    leaves: tuple[ArraySpec, ...]


class Discrete(NamedTuple):
    """Actions 0 .. n - 1, int32."""

    n: int


class Box(NamedTuple):
    """Actions in [-1, 1] of this shape, float32; the environment's adapter rescales them to the true bounds."""

    shape: tuple[int, ...]


class Spec(NamedTuple):
    """What an agent may know of an environment. Hashable, hence always static in a compiled program.

    Attributes:
      obs: `ArraySpec`, or `TreeSpec` for a pytree of arrays.
      action: `Discrete`, `Box`, or a NamedTuple of both for mixed actions.
      time_limit: decisions after which an episode is truncated at the latest, None where there is no limit.
    """

    obs: Any
    action: Any
    time_limit: int | None = None


def tree_spec(tree: PyTree) -> ArraySpec | TreeSpec:
    """The spec of an unbatched pytree of arrays or of `jax.ShapeDtypeStruct`s."""
    leaves, treedef = jax.tree.flatten(tree)
    specs = tuple(ArraySpec(tuple(leaf.shape), np.dtype(leaf.dtype).name) for leaf in leaves)
    return specs[0] if jax.tree_util.treedef_is_leaf(treedef) else TreeSpec(treedef, specs)


def spec_zeros(spec: ArraySpec | TreeSpec, leading: tuple[int, ...] = ()) -> PyTree:
    """A pytree of zeros with the structure of `spec` and the batch axes `leading` in front."""
    if isinstance(spec, ArraySpec):
        return jnp.zeros(leading + spec.shape, spec.dtype)
    return jax.tree.unflatten(spec.treedef, [spec_zeros(leaf, leading) for leaf in spec.leaves])


def action_zeros(action: Any, leading: tuple[int, ...] = ()) -> PyTree:
    """Actions of zeros for an action spec, with the batch axes `leading` in front."""
    if isinstance(action, Discrete):
        return jnp.zeros(leading, jnp.int32)
    if isinstance(action, Box):
        return jnp.zeros(leading + action.shape, jnp.float32)
    return type(action)(*(action_zeros(part, leading) for part in action))


def sample_action(key: Array, action: Any, leading: tuple[int, ...] = ()) -> PyTree:
    """Uniformly random actions for an action spec, with the batch axes `leading` in front."""
    if isinstance(action, Discrete):
        return jax.random.randint(key, leading, 0, action.n)
    if isinstance(action, Box):
        return jax.random.uniform(key, leading + action.shape, minval=-1.0, maxval=1.0)
    keys = jax.random.split(key, len(action))
    return type(action)(*(sample_action(k, part, leading) for k, part in zip(keys, action, strict=True)))


def flat_size(spec: ArraySpec) -> int:
    """Length of the vector that a network sees of one observation."""
    return math.prod(spec.shape) * (spec.num_values or 1)


# --- environments ---------------------------------------------------------------------------------------------------


class TimeStep(NamedTuple):
    """What B environments return from a step.

    Attributes:
      obs: [B, ...] what the agent sees next, after any auto-reset.
      reward: [B] float32.
      terminated: [B] bool, the MDP ended: do not bootstrap. Wins where both flags are true.
      truncated: [B] bool, a time limit struck: bootstrap from `next_obs`.
      next_obs: [B, ...] the true successor, never a reset observation.
      info: pytree of [B, ...], read by `update` and by the records, never by `act`. The records read
        `info["episode_return"]` and `info["episode_length"]` where an episode ends.
    """

    obs: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: PyTree
    info: PyTree


class Env(NamedTuple):
    """B auto-resetting environments as two pure functions.

    Attributes:
      spec: what an agent may know.
      num_envs: B.
      params: traced and unbatched; physics, maps and data sets live here, never in a closure.
      reset: (key, params) -> (state, obs [B, ...]).
      step: (key, params, state, action [B, ...]) -> (state, TimeStep).
      model: optional (params, state, action) -> (state, reward [], terminated []) of one environment without
        auto-reset, for search.
      render: optional (params, state, index) -> [height, width, 3] uint8: a picture of one of the B environments,
        drawn on the host.
    """

    spec: Spec
    num_envs: int
    params: PyTree
    reset: Callable[[Array, PyTree], tuple[PyTree, PyTree]]
    step: Callable[[Array, PyTree, PyTree, PyTree], tuple[PyTree, TimeStep]]
    model: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, Array, Array]] | None = None
    render: Callable[[PyTree, PyTree, int], np.ndarray] | None = None


@runtime_checkable
class HostEnv(Protocol):
    """B environments that live on the host (Gymnasium, envpool): the same `TimeStep`, with NumPy leaves."""

    spec: Spec
    num_envs: int

    def reset(self, seed: int) -> PyTree:
        """Starts B new episodes and returns obs [B, ...]."""
        ...

    def step(self, action: PyTree) -> TimeStep:
        """Steps all B environments; `action` is NumPy [B, ...]."""
        ...

    def close(self) -> None:
        """Frees what the environments hold."""
        ...


@runtime_checkable
class SplitHostEnv(HostEnv, Protocol):
    """A `HostEnv` whose step can be started and fetched later, and which can be split into groups to be stepped in turn."""

    def split(self) -> list[HostEnv]:
        """The same environments in groups, or `[self]`; asked for before the first reset.

        Environment i of all is seeded with `seed + i` whatever the groups.
        """
        ...

    def send(self, action: PyTree) -> None:
        """Starts the step that `receive` waits for; `action` is NumPy [B, ...]."""
        ...

    def receive(self) -> TimeStep:
        """What `step` would have returned."""
        ...


def episode_end(step: Any) -> Array:
    """`terminated | truncated` of a `TimeStep` or `Rollout`: where the episode ended, for whatever reason."""
    return step.terminated | step.truncated


def game_over(step: Any) -> Array:
    """Where the records count an episode: `info["game_over"]` of an environment that ends episodes within a game, such as at a
    lost life, else `episode_end`."""
    return step.info["game_over"] if "game_over" in step.info else episode_end(step)


def first_episode_mask(ended: Array) -> Array:
    """True up to and including the first end of each column: the steps that count under `fresh_episodes`.

    Args:
      ended: [T, B] bool.
    """
    before = jnp.cumsum(ended, axis=0) - ended
    return before == 0


def where_ended(ended: Array, if_ended: PyTree, otherwise: PyTree) -> PyTree:
    """Selects along the leading axis B of every leaf by `ended`: [B] bool.

    A scalar leaf belongs to all B environments (running statistics of rewards), so no episode's end touches it.
    """

    def select(a: Array, b: Array) -> Array:
        return b if b.ndim == 0 else jnp.where(ended.reshape(ended.shape + (1,) * (b.ndim - 1)), a, b)

    return jax.tree.map(select, if_ended, otherwise)


# --- agents ---------------------------------------------------------------------------------------------------------


class Progress(NamedTuple):
    """How far a run is. Every schedule is a function of it.

    Attributes:
      iteration: [] int32, iterations done so far, warm-up included.
      num_iterations: [] int32, iterations of the whole run.
    """

    iteration: Array
    num_iterations: Array


class Rollout(NamedTuple):
    """T steps of B environments, each leaf [T, B, ...]; `extras` is what `act` returned beside the action."""

    obs: PyTree
    action: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: PyTree
    extras: PyTree
    info: PyTree


def _no_memory(num_envs: int) -> PyTree:
    return ()


def _store_nothing(state: PyTree, rollout: Rollout) -> PyTree:
    return state


class ReplayFunctions(NamedTuple):
    """The update of an agent that learns from replay, in three parts, so that the replay may be on another device than the
    networks: in host memory, where it does not fit the accelerator's.

    Attributes:
      store: (replay, rollout) -> replay.
      sample: (key, replay) -> batches, all that one update learns from.
      learn: (state, batches, progress) -> (state, metrics); leaves `state.replay` alone.
    """

    store: Callable[[PyTree, Rollout], PyTree]
    sample: Callable[[Array, PyTree], PyTree]
    learn: Callable[[PyTree, PyTree, Progress], tuple[PyTree, dict[str, Array]]]


class Agent(NamedTuple):
    """A learning algorithm as pure functions, from `make_agent(config, spec, num_envs, rollout_length, model=None)`.

    Attributes:
      init: (key) -> AgentState, a NamedTuple with a field `policy`: all that acting reads. A field `replay`, where
        there is one, may be left out of checkpoints and refilled.
      act: (key, policy, memory, obs [B, ...], progress, explore) -> (action [B, ...], memory, extras); `explore` is a
        Python bool, and False means the greedy action, which ignores all exploration state. B is that of `obs`: a group
        of host environments is smaller than `num_envs`.
      update: (key, state, rollout, progress) -> (state, metrics), metrics a flat dict of scalars. An off-policy agent
        stores the rollout first, then learns.
      initial_memory: (num_envs) -> memory [B, ...] of a recurrent agent, () for a feed-forward one. The loop resets it
        after a step that ended an episode.
      observe: (state, rollout) -> state, which only stores (warm-up); identity for on-policy agents.
      fresh_episodes: the loop resets all environments when an iteration starts and T covers the time limit; the agent
        weighs steps by `first_episode_mask`.
      replay: the parts of `update` where it learns from replay; see `off_policy`.
    """

    init: Callable[[Array], PyTree]
    act: Callable[..., tuple[PyTree, PyTree, PyTree]]
    update: Callable[[Array, PyTree, Rollout, Progress], tuple[PyTree, dict[str, Array]]]
    initial_memory: Callable[[int], PyTree] = _no_memory
    observe: Callable[[PyTree, Rollout], PyTree] = _store_nothing
    fresh_episodes: bool = False
    replay: ReplayFunctions | None = None


def off_policy(init: Callable[[Array], PyTree], act: Callable[..., Any], replay: ReplayFunctions) -> Agent:
    """The feed-forward agent that stores each rollout in its state's field `replay`, then learns from samples of it."""

    def observe(state: Any, rollout: Rollout) -> Any:
        return state._replace(replay=replay.store(state.replay, rollout))

    def update(key: Array, state: Any, rollout: Rollout, progress: Progress) -> tuple[Any, dict[str, Array]]:
        state = observe(state, rollout)
        return replay.learn(state, replay.sample(key, state.replay), progress)

    return Agent(init=init, act=act, update=update, observe=observe, replay=replay)


# --- a run ----------------------------------------------------------------------------------------------------------


class RecentEpisodes(NamedTuple):
    """The last K training episodes, a ring.

    Attributes:
      returns: [K] float32.
      total: [] int32, episodes finished so far.
    """

    returns: Array
    total: Array


class RunState(NamedTuple):
    """All that a run carries from one iteration to the next. Randomness is not carried: it is a function of
    (key, iteration).

    Attributes:
      agent: the agent's own state.
      env: state of the B environments, () for a host environment.
      obs: [B, ...] what the agent acts on next.
      memory: the agent's memory, [B, ...].
      recent: the last finished training episodes.
      iteration: [] int32, shared by a population.
    """

    agent: PyTree
    env: PyTree
    obs: PyTree
    memory: PyTree
    recent: RecentEpisodes
    iteration: Array
