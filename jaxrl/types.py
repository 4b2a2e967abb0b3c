"""The contracts: what an environment, an agent and a run are made of.

Read this module first. An `Env` is two pure functions over a batch of auto-resetting environments, an `Agent` is a few
pure functions in a NamedTuple (as an optimizer is in Optax), and `jaxrl.loop` is the one loop that joins them.

What an agent may know of an environment (`Spec` and its parts) is in `jaxrl.spec` and has its names here too. The rest makes
sense only together: each part is read beside the others.

Letters in shapes: T time steps of a rollout, B parallel environments, N minibatch, A actions; time comes first and
`[]` is a scalar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.spec import BYTE as BYTE
from jaxrl.spec import Array as Array
from jaxrl.spec import ArraySpec as ArraySpec
from jaxrl.spec import Box as Box
from jaxrl.spec import Discrete as Discrete
from jaxrl.spec import Position as Position
from jaxrl.spec import PyTree as PyTree
from jaxrl.spec import Spec as Spec
from jaxrl.spec import Symmetry as Symmetry
from jaxrl.spec import TreeSpec as TreeSpec
from jaxrl.spec import action_zeros as action_zeros
from jaxrl.spec import flat_size as flat_size
from jaxrl.spec import position_spec as position_spec
from jaxrl.spec import sample_action as sample_action
from jaxrl.spec import seen_spec as seen_spec
from jaxrl.spec import spec_zeros as spec_zeros
from jaxrl.spec import tree_spec as tree_spec

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


def _same(params: PyTree, x: PyTree) -> PyTree:
    return x


class Units(NamedTuple):
    """The maps between what an environment's own package hands out and takes, and what agents see and do.

    Both are pure, on batches; an adapter's own `step` uses them, so a policy acts elsewhere as it did here.

    Attributes:
      to_obs: (params, observations [B, ...] as the environment itself makes them) -> obs [B, ...] of `Spec.obs`.
      to_action: (params, action [B, ...] of `Spec.action`) -> actions [B, ...] as the environment itself takes them.
    """

    to_obs: Callable[[PyTree, PyTree], PyTree] = _same
    to_action: Callable[[PyTree, PyTree], PyTree] = _same


def _num_numbers(tree: PyTree) -> int:
    """How many numbers the arrays of a tree hold."""
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(tree))


SAME_UNITS = Units()
"""Where an environment's own observations and actions are those of its spec."""


class Env(NamedTuple):
    """B auto-resetting environments as two pure functions.

    Attributes:
      spec: what an agent may know.
      num_envs: B.
      params: traced and unbatched; physics, maps and data sets live here, never in a closure.
      reset: (key, params) -> (state, obs [B, ...]).
      step: (key, params, state, action [B, ...]) -> (state, TimeStep).
      model: optional (key, params, obs, action) -> (obs, reward [], terminated []) of one environment without auto-reset, for
        search: what an agent sees is all that it knows, so an observation leads to the next. The key is for games of chance. A
        wrapper that changes observations, rewards or ends must set it to None.
      render: optional (params, state, index) -> [height, width, 3] uint8: a picture of one of the B environments,
        drawn on the host.
      num_episodes: of an evaluation that is over after so many (a test set), None where episodes never run out. Episodes of the
        last environments beyond that number carry `info["counted"]` = False and count nowhere.
      static: what the functions have baked in beside `spec` and `params`: environments of one kind with equal `static` are one
        compiled program. None where that is not known.
      units: between the environment's own observations and actions and those of `spec`; the same where nothing is said.
    """

    spec: Spec
    num_envs: int
    params: PyTree
    reset: Callable[[Array, PyTree], tuple[PyTree, PyTree]]
    step: Callable[[Array, PyTree, PyTree, PyTree], tuple[PyTree, TimeStep]]
    model: Callable[[Array, PyTree, PyTree, PyTree], tuple[PyTree, Array, Array]] | None = None
    render: Callable[[PyTree, PyTree, int], np.ndarray] | None = None
    num_episodes: int | None = None
    static: Hashable | None = None
    units: Units = SAME_UNITS

    def __repr__(self) -> str:
        return f"Env({self.num_envs} of {self.spec}, params of {_num_numbers(self.params):,} numbers)"


@runtime_checkable
class HostEnv(Protocol):
    """B environments that live on the host (Gymnasium, envpool): the same `TimeStep`, with NumPy leaves.

    It may have an attribute `units`, a `Units` whose functions are given () for the params.
    """

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


def units_of(env: Env | HostEnv) -> Units:
    """The maps between an environment's own units and its spec's; identities where it has none."""
    units: Units = getattr(env, "units", SAME_UNITS)
    return units


def episode_end(step: Any) -> Array:
    """`terminated | truncated` of a `TimeStep` or `Rollout`: where the episode ended, for whatever reason."""
    return step.terminated | step.truncated


def game_over(step: Any) -> Array:
    """Where an episode is over for the records: `info["game_over"]` of an environment that ends episodes within a game, such as
    at a lost life, else `episode_end`."""
    return step.info["game_over"] if "game_over" in step.info else episode_end(step)


def counted(step: Any) -> Array:
    """Where the records count an episode: at `game_over`, but not for the padding of a finite evaluation."""
    return game_over(step) & step.info["counted"] if "counted" in step.info else game_over(step)


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
    """How far a run is. Every schedule is a function of it. Traced, and the same for all runs of a population.

    Attributes:
      iteration: [] int32, iterations done so far, warm-up included.
      num_iterations: [] int32, iterations of the whole run.
      num_warmup: [] int32, the first of them, in which nothing is learned.
      steps_per_iteration: [] int32, T * B. Its product with an iteration may not fit 32 bits: divide instead.
    """

    iteration: Array
    num_iterations: Array
    num_warmup: Array
    steps_per_iteration: Array


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


Metrics = dict[str, Array]
"""Scalars, [] each, by their names."""


class Act(Protocol):
    """Chooses actions.

    Args:
      policy: `AgentState.policy`.
      memory: [B, ...] of a recurrent agent, () of any other.
      obs: [B, ...]; B is free: a group of host environments is smaller than `config.num_envs`.
      explore: False means the greedy action, which ignores all exploration state.

    Returns:
      (action [B, ...], memory, extras [B, ...]); `extras` comes back in the rollout.
    """

    def __call__(
        self, key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[PyTree, PyTree, PyTree]: ...


class Update(Protocol):
    """(key, state, rollout, progress) -> (state, metrics). An off-policy agent stores the rollout first, then learns."""

    def __call__(self, key: Array, state: Any, rollout: Rollout, progress: Progress) -> tuple[Any, Metrics]: ...


class Model(Protocol):
    """(key, obs, action) -> (obs, reward [], terminated []): `Env.model` with the training environment's params."""

    def __call__(self, key: Array, obs: PyTree, action: PyTree) -> tuple[PyTree, Array, Array]: ...


class MakeAgent(Protocol):
    """(config, spec, model) -> Agent, inside a traced function: numbers of the config may be tracers.

    State for each environment is sized by `config.num_envs`, T is `jaxrl.config.rollout_length(config, spec)`; `act` and
    `initial_memory` go by the batch that they are given. `model` is None where the environment has none.
    """

    def __call__(self, config: Any, spec: Spec, model: Model | None = None) -> Agent: ...


def _no_memory(num_envs: int) -> PyTree:
    return ()


def unchanged(state: Any, rollout: Rollout) -> Any:
    """The `observe` and `absorb` of an agent that nothing but learning changes."""
    return state


def _whole(spec: Spec) -> Spec:
    return spec


def ignore_feedback(replay: PyTree, batches: PyTree, feedback: PyTree) -> PyTree:
    """The `feed` of a replay that draws all transitions alike."""
    return replay


class ReplayFunctions(NamedTuple):
    """The update of an agent that learns from replay, in parts, so that the replay may be on another device than the networks:
    in host memory, where it does not fit the accelerator's.

    Attributes:
      store: (replay, rollout) -> replay; `rollout.extras` is what `act` returned.
      sample: (key, replay) -> batches, all that one update learns from.
      learn: (key, state, batches, progress) -> (state, metrics, feedback); leaves `state.replay` alone.
      absorb: (state, rollout) -> state, what every rollout changes beside the replay (running moments, counters), in the
        warm-up too; it leaves `state.replay` alone.
      feed: (replay, batches, feedback) -> replay, what was found out about the batches (priorities), once an iteration.
    """

    store: Callable[[PyTree, Rollout], PyTree]
    sample: Callable[[Array, PyTree], PyTree]
    learn: Callable[[Array, Any, PyTree, Progress], tuple[Any, Metrics, PyTree]]
    absorb: Callable[[Any, Rollout], Any] = unchanged
    feed: Callable[[PyTree, PyTree, PyTree], PyTree] = ignore_feedback


class Agent(NamedTuple):
    """A learning algorithm as pure functions, from `make_agent(config, spec, model=None)`.

    Attributes:
      init: (key) -> AgentState, a NamedTuple with a field `policy`: all that acting reads. A field `replay`, where
        there is one, may be left out of checkpoints and refilled.
      act: see `Act`.
      update: see `Update`.
      initial_memory: (num_envs) -> memory [B, ...] of a recurrent agent, () for a feed-forward one. The loop resets it
        after a step that ended an episode.
      observe: (state, rollout) -> state, which only stores (warm-up); identity for on-policy agents.
      fresh_episodes: the loop resets all environments when an iteration starts and T covers the time limit; the agent
        weighs steps by `first_episode_mask`.
      replay: the parts of `update` where it learns from replay; see `off_policy`.
      respects_legal: it takes only legal actions of a `Position`; an agent that does not is refused there.
      max_players: 2 of an agent that can play both sides of a game.
      interface: (spec) -> the spec as far as its parameters depend on it: they serve wherever `obs` and `action` of that are
        those of training.
    """

    init: Callable[[Array], Any]
    act: Act
    update: Update
    initial_memory: Callable[[int], PyTree] = _no_memory
    observe: Callable[[Any, Rollout], Any] = unchanged
    fresh_episodes: bool = False
    replay: ReplayFunctions | None = None
    respects_legal: bool = False
    max_players: int = 1
    interface: Callable[[Spec], Spec] = _whole

    def __repr__(self) -> str:
        made_by = getattr(self.update if self.replay is None else self.act, "__qualname__", "?").partition(".")[0]
        return f"Agent({made_by}, {'learns from rollouts' if self.replay is None else 'learns from replay'})"


def off_policy(
    init: Callable[[Array], Any],
    act: Act,
    replay: ReplayFunctions,
    initial_memory: Callable[[int], PyTree] = _no_memory,
    respects_legal: bool = False,
) -> Agent:
    """The agent that stores each rollout in its state's field `replay`, then learns from samples of it."""

    def observe(state: Any, rollout: Rollout) -> Any:
        return replay.absorb(state, rollout)._replace(replay=replay.store(state.replay, rollout))

    def update(key: Array, state: Any, rollout: Rollout, progress: Progress) -> tuple[Any, Metrics]:
        state = observe(state, rollout)
        held, keys = state.replay, replay_keys(key)
        batches = replay.sample(keys.sample, held)
        # The replay stays outside, so that no scan of `learn` carries it.
        state, metrics, feedback = replay.learn(keys.learn, state._replace(replay=()), batches, progress)
        return state._replace(replay=replay.feed(held, batches, feedback)), metrics

    return Agent(
        init=init,
        act=act,
        update=update,
        initial_memory=initial_memory,
        observe=observe,
        replay=replay,
        respects_legal=respects_legal,
    )


class ReplayKeys(NamedTuple):
    """Keys of one update from replay."""

    sample: Array
    learn: Array


def replay_keys(key: Array) -> ReplayKeys:
    """The keys of an update; `learn`'s is at a place of the stream that drawing a batch does not reach."""
    return ReplayKeys(key, jax.random.fold_in(key, 2**31 - 1))


# --- a run ----------------------------------------------------------------------------------------------------------


class RecentEpisodes(NamedTuple):
    """The last K training episodes, a ring.

    Attributes:
      returns: [K] float32.
      total: [] int32, episodes finished so far; of more than 2^30, less a multiple of K.
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

    def __repr__(self) -> str:
        runs = self.iteration.shape if hasattr(self.iteration, "shape") else ()
        many = f", {math.prod(runs)} runs" if runs else ""
        return f"RunState({type(self.agent).__name__}, {_num_numbers(self):,} numbers{many})"
