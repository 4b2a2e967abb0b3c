"""The contracts: what an environment, an agent and a run are made of.

Read this module first. An `Env` is two pure functions over a batch of auto-resetting environments, an `Agent` is a few
pure functions in a NamedTuple (as an optimizer is in Optax), and `jaxrl.loop` is the one loop that joins them.

It is long, since these contracts make sense only together: each part is read beside the others.

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

PyTree = Any
Array = jax.Array


# --- what an agent may know of an environment -----------------------------------------------------------------------


BYTE = 255.0
"""`ArraySpec.scale` of brightness in bytes: networks see it from 0 to 1."""


class ArraySpec(NamedTuple):
    """Shape, dtype name and meaning of one array, without any batch axis. Nothing is concluded from shape or dtype:

        ArraySpec((4,), "uint8")                                     # four quantities, which networks see as they are
        ArraySpec((), "int32", num_values=16)                        # one of 16 things: networks see it one-hot
        ArraySpec((84, 84, 3), "uint8", picture="HWC", scale=255.0)  # a picture in bytes, seen from 0 to 1
        ArraySpec((10, 10, 4), "bool", picture="HWC")                # planes of a board, as they are

    Attributes:
      num_values: of integers that name one of finitely many things (the state of an MDP): they are 0 .. num_values - 1. Tabular
        agents need it, networks see such an integer as a one-hot vector. None where numbers are quantities.
      num_frames: of pictures stacked along the first axis, oldest first: how many points in time they show, each with the same
        number of channels. Within an episode, the next observation has this one's frames but for the oldest, and a new one; a
        replay stores each once. 1 for what is no stack.
      picture: "HWC" (height, width, channels) or "CHW": what the three axes of a picture are, for convolutions; None of all
        other arrays.
      scale: by what networks divide quantities, `BYTE` for brightness in bytes.
    """

    shape: tuple[int, ...]
    dtype: str
    num_values: int | None = None
    num_frames: int = 1
    picture: str | None = None
    scale: float = 1.0

    def __repr__(self) -> str:
        fields, usual = zip(self._fields, self, strict=True), self._field_defaults
        said = (f"{name}={value!r}" for name, value in fields if name not in usual or value != usual[name])
        return f"ArraySpec({', '.join(said)})"


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


class Position(NamedTuple):
    """The observation of a game, and of any environment in which not every action is always legal.

    Attributes:
      planes: what networks see.
      legal: [A] bool, the actions that may be taken.
      state: what `Env.model` needs to look ahead, () where nothing does; neither networks nor replays need it.
    """

    planes: PyTree
    legal: Array
    state: PyTree = ()


class Spec(NamedTuple):
    """What an agent may know of an environment. Hashable, hence always static in a compiled program.

    Attributes:
      obs: `ArraySpec`, or `TreeSpec` for a pytree of arrays (a `Position` among them).
      action: `Discrete`, `Box`, or a NamedTuple of both for mixed actions.
      time_limit: decisions after which an episode is truncated at the latest, None where there is no limit.
      num_players: 2 where two players move in turn and the reward is that of the one who moved.
      has_return: False where the sum of an episode's rewards says nothing of how well the agent plays, as in self-play: the
        records then hold no return of training episodes.
    """

    obs: Any
    action: Any
    time_limit: int | None = None
    num_players: int = 1
    has_return: bool = True


def tree_spec(tree: PyTree) -> ArraySpec | TreeSpec:
    """The spec of an unbatched pytree whose leaves are arrays or `jax.ShapeDtypeStruct`s, of quantities, or `ArraySpec`s."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=lambda leaf: isinstance(leaf, ArraySpec))
    specs = tuple(
        leaf if isinstance(leaf, ArraySpec) else ArraySpec(tuple(leaf.shape), np.dtype(leaf.dtype).name) for leaf in leaves
    )
    return specs[0] if jax.tree_util.treedef_is_leaf(treedef) else TreeSpec(treedef, specs)


def position_spec(obs: ArraySpec | TreeSpec) -> Position | None:
    """The parts of the spec of a `Position`, each an `ArraySpec` or `TreeSpec`; None of any other observation."""
    if not isinstance(obs, TreeSpec):
        return None
    tree: Any = jax.tree.unflatten(obs.treedef, obs.leaves)
    return Position(*[tree_spec(part) for part in tree]) if isinstance(tree, Position) else None  # type: ignore[arg-type]


def seen_spec(obs: ArraySpec | TreeSpec) -> ArraySpec | TreeSpec:
    """The spec of what networks see of an observation: the planes of a `Position`, all of any other."""
    position = position_spec(obs)
    return obs if position is None else position.planes


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
        return jax.random.randint(key, leading, 0, action.n, jnp.int32)
    if isinstance(action, Box):
        return jax.random.uniform(key, leading + action.shape, jnp.float32, minval=-1.0, maxval=1.0)
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
