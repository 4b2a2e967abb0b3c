"""A batch of runs as one compiled program: seeds and traced hyperparameters are its batch axis.

All runs of a population share one program structure (the same static fields) and advance together. Two ways to work through
them give the same numbers up to rounding, which learning amplifies in time: `vmap`, right on an accelerator, and `serial`,
right on a CPU, where each device (one a core) takes its runs one after another and updates their states in place. Either is
spread over all devices with `shard_map`.

A population has `capacity` rows, a multiple of the number of devices; row r belongs to device r // (capacity / devices). Rows
without a run hold copies of another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl.config import Config, as_arrays, rollout_length
from jaxrl.drivers import evaluate
from jaxrl.drivers.device import make_chunk
from jaxrl.loop import RunKeys, Sums, build_in, init_state, no_sums, run_keys
from jaxrl.types import Array, Env, MakeAgent, Progress, PyTree, RunState

BATCHINGS = ("auto", "serial", "vmap")
_AXIS = "run"


class EnvParams(NamedTuple):
    """Params of the environment that a run is trained in, and of the one that it is scored in, None if that is the same."""

    train: PyTree
    evaluate: PyTree


class Members(NamedTuple):
    """What tells the runs of a population apart, each leaf with an axis over rows in front.

    Attributes:
      keys: `RunKeys` of typed keys.
      config: the agent's, with traced fields.
      params: `EnvParams` of those leaves that differ between runs, None in the place of the others.
    """

    keys: RunKeys
    config: Config
    params: EnvParams


class Turns(NamedTuple):
    """Which rows rows_of part in a call.

    Attributes:
      order: [capacity] int32, for each device first the rows that rows_of part, numbered on that device.
      counts: [devices] int32, how many of them.
    """

    order: Any
    counts: Any


class Population(NamedTuple):
    """Compiled functions over the rows of a population. Its states are `RunState`s without `iteration`, which all rows share.

    `shared` are the `EnvParams` that all rows have in common: one copy on each device, however many rows there are.

    Attributes:
      capacity: rows.
      sharding: of the axis over rows.
      batching: `serial` or `vmap`.
      varies: `EnvParams` of bools, which leaves are in `Members.params` and not in `shared`.
      init: (members, shared) -> states.
      advance: (members, shared, turns, states, sums, num_observe, num_learn, progress) -> (states, sums), each with an axis
        over rows; `sums["nan"]` is true where a policy holds a NaN. The states and the sums so far are donated. Only `turns`
        are advanced under `serial`; `vmap` advances every row.
      evaluate: (members, shared, turns, policies, progress, num_episodes) -> `Scores` with [capacity, episodes].
      state_shapes: of the states.
      sum_shapes: of the sums.
      num_bytes: that the compiled training program needs on all devices together.
    """

    capacity: int
    sharding: NamedSharding
    batching: str
    varies: EnvParams
    init: Callable[[Members, EnvParams], PyTree]
    advance: Callable[..., tuple[PyTree, Sums]]
    evaluate: Callable[..., evaluate.Scores]
    state_shapes: PyTree
    sum_shapes: Sums
    num_bytes: int


def choose_batching(batching: str) -> str:
    """`auto` is `serial` on CPU and `vmap` on an accelerator."""
    if batching != "auto":
        return batching
    return "serial" if jax.default_backend() == "cpu" else "vmap"


def make_members(
    seeds: Sequence[int], configs: Sequence[Config], params: Sequence[EnvParams], varies: EnvParams
) -> tuple[Members, EnvParams]:
    """The rows of runs with the same static fields, as NumPy arrays but for the keys, and the params that they share."""
    keys = jax.vmap(lambda seed: run_keys(jax.random.key(seed)))(np.asarray(seeds, np.uint32))
    own = [chosen(one, varies) for one in params]
    shared = chosen(params[0], jax.tree.map(lambda differs: not differs, varies))
    return Members(keys, stack([as_arrays(config) for config in configs]), stack(own)), shared


def differing(params: Sequence[EnvParams]) -> EnvParams:
    """`EnvParams` of bools: which leaves are not the same in all of these."""

    def differs(first: Any, *others: Any) -> bool:
        return any(other is not first and not np.array_equal(first, other) for other in others)

    return jax.tree.map(differs, *params)


def chosen(tree: PyTree, which: PyTree) -> PyTree:
    """`tree` with None for the leaves that `which`, a tree of bools, does not name."""
    return jax.tree.map(lambda leaf, is_chosen: leaf if is_chosen else None, tree, which)


def joined(one: PyTree, other: PyTree) -> PyTree:
    """The tree of which `chosen` made two, each with what the other lacks."""
    return jax.tree.map(lambda a, b: b if a is None else a, one, other, is_leaf=lambda leaf: leaf is None)


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Trees of equal structure as one tree on the host, with an axis over them in front of every leaf."""

    def join(*leaves: Any) -> Any:
        if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            return jnp.stack(leaves)
        return np.stack([np.asarray(leaf) for leaf in leaves])

    return jax.tree.map(join, *trees)


def rows_of(tree: PyTree, rows: np.ndarray) -> PyTree:
    """Rows of a tree, on the host."""

    def pick(leaf: Any) -> Any:
        return leaf[rows] if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)[rows]

    return jax.tree.map(pick, tree)


def without_iteration(state: RunState) -> PyTree:
    """A run's state without what all runs of a population share."""
    return state._replace(iteration=())  # type: ignore[arg-type]


def place(num_runs: int, capacity: int, num_devices: int) -> np.ndarray:
    """[num_runs] rows, dealt out to the devices in turn."""
    index = np.arange(num_runs)
    return (index % num_devices) * (capacity // num_devices) + index // num_devices


def make_turns(rows: Sequence[int] | np.ndarray, capacity: int, num_devices: int) -> Turns:
    """Lets `rows` rows_of part."""
    each = capacity // num_devices
    order, counts = np.zeros((num_devices, each), np.int32), np.zeros(num_devices, np.int32)
    for row in rows:
        device = row // each
        order[device, counts[device]] = row % each
        counts[device] += 1
    return Turns(order.reshape(-1), counts)


def make_population(
    make_agent: MakeAgent,
    env: Env,
    make_eval_env: Callable[[int], Env],
    config: Config,
    varies: EnvParams,
    eval_params: PyTree,
    capacity: int,
    batching: str,
) -> Population:
    """Compiles the training program of a population.

    Args:
      env, make_eval_env, config, eval_params: of any of its runs; traced fields and params come from the members.
      varies: which params differ between its runs.
      capacity: rows, a multiple of the number of devices.
      batching: `serial` or `vmap`.
    """
    mesh = Mesh(np.array(jax.devices()), (_AXIS,))
    sharding = NamedSharding(mesh, P(_AXIS))
    row = _Row(make_agent, env, make_chunk(make_agent, env))
    shapes = _shapes(row, config, EnvParams(env.params, eval_params), varies)
    functions = _Functions(row, mesh, capacity, batching)
    rows = partial(_arranged, sharding, (capacity,))
    arguments = (
        rows(shapes.member),
        _arranged(NamedSharding(mesh, P()), (), shapes.shared),
        Turns(rows(_NUMBER), jax.ShapeDtypeStruct((mesh.size,), jnp.int32, sharding=sharding)),
        rows(shapes.state),
        rows(shapes.sums),
    )
    compiled = jax.jit(functions.advance, donate_argnums=(3, 4), out_shardings=sharding)
    program = compiled.lower(*arguments, *_COUNTS).compile()
    return Population(
        capacity=capacity,
        sharding=sharding,
        batching=batching,
        varies=varies,
        init=jax.jit(functions.init, out_shardings=sharding),
        advance=program,
        evaluate=evaluate.compiled(functions.evaluate, make_eval_env),
        state_shapes=rows(shapes.state),
        sum_shapes=rows(shapes.sums),
        num_bytes=_program_bytes(program) * mesh.size,
    )


_NUMBER = jax.ShapeDtypeStruct((), jnp.int32)
_COUNTS: Any = (_NUMBER, _NUMBER, Progress(_NUMBER, _NUMBER, _NUMBER, _NUMBER))  # type: ignore[arg-type]
"""num_observe, num_learn and progress of a call."""


class _Shapes(NamedTuple):
    """`jax.ShapeDtypeStruct`s of one row, and of what all rows share."""

    member: Members
    shared: EnvParams
    state: PyTree
    sums: Sums


def _shapes(row: _Row, config: Config, params: EnvParams, varies: EnvParams) -> _Shapes:
    def member_of(params: EnvParams) -> tuple[Members, EnvParams]:
        own, common = chosen(params, varies), chosen(params, jax.tree.map(lambda differs: not differs, varies))
        return Members(run_keys(jax.random.key(0)), as_arrays(config), own), common

    member, shared = jax.eval_shape(member_of, params)
    state = jax.eval_shape(row.init, shared, member)
    return _Shapes(member, shared, state, jax.eval_shape(row.no_sums, shared, member, state))


class _Functions:
    """What a population does, over the rows of all devices."""

    def __init__(self, row: _Row, mesh: Mesh, capacity: int, batching: str) -> None:
        self.row, self.mesh, self.capacity, self.batching = row, mesh, capacity, batching
        self.each = _serial if batching == "serial" else _vmap

    def over_devices(self, function: Callable[..., Any], roles: str) -> Callable[..., Any]:
        """`function` on each device's share of its arguments; of those marked `s` in `roles` all have the whole."""
        specs = tuple(P() if role == "s" else P(_AXIS) for role in roles)
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=P(_AXIS), check_vma=False)

    def init(self, members: Members, shared: EnvParams) -> PyTree:
        def share(members: Members, shared: EnvParams) -> PyTree:
            one = partial(self.row.init, shared)
            return jax.lax.map(one, members) if self.batching == "serial" else jax.vmap(one)(members)

        return self.over_devices(share, "rs")(members, shared)

    def advance(
        self, members: Members, shared: EnvParams, turns: Turns, states: PyTree, sums: Sums, *counts: Any
    ) -> tuple[PyTree, Sums]:
        def share(members: Members, shared: EnvParams, turns: Turns, buffers: PyTree, *counts: Any) -> Any:
            return self.each(lambda member, held: self.row.advance(shared, member, *held, *counts), turns, members, buffers)

        return self.over_devices(share, "rsrrsss")(members, shared, turns, (states, sums), *counts)

    def evaluate(
        self,
        eval_env: Env,
        each: int,
        members: Members,
        shared: EnvParams,
        turns: Turns,
        policies: PyTree,
        progress: Progress,
    ) -> evaluate.Scores:
        def share(members: Members, shared: EnvParams, turns: Turns, policies: PyTree, scores: Any, progress: Progress) -> Any:
            def row(pair: tuple[Members, PyTree], _: Any) -> evaluate.Scores:
                return self.row.evaluate(eval_env, each, shared, *pair, progress)

            return self.each(row, turns, (members, policies), scores)

        shape = (self.capacity, eval_env.num_envs * each)
        scores = evaluate.Scores(jnp.full(shape, jnp.nan, jnp.float32), jnp.ones(shape, bool))
        return self.over_devices(share, "rsrrrs")(members, shared, turns, policies, scores, progress)


class _Row(NamedTuple):
    """What is done with one run of a population, as pure functions of its member and what all share."""

    make_agent: MakeAgent
    env: Env
    chunk: Callable[..., tuple[RunState, Sums]]

    def init(self, shared: EnvParams, member: Members) -> PyTree:
        bound = self.env._replace(params=joined(member.params, shared).train)
        return without_iteration(init_state(member.keys.init, build_in(self.make_agent, member.config, bound), bound))

    def no_sums(self, shared: EnvParams, member: Members, state: RunState) -> Sums:
        bound = self.env._replace(params=joined(member.params, shared).train)
        agent, progress = build_in(self.make_agent, member.config, bound), Progress(*[jnp.int32(0)] * 4)
        state, length = state._replace(iteration=progress.iteration), rollout_length(member.config, self.env.spec)
        return no_sums(agent, bound, state, progress, length) | {"nan": np.zeros((), bool)}

    def advance(
        self,
        shared: EnvParams,
        member: Members,
        state: RunState,
        sums: Sums,
        num_observe: Array,
        num_learn: Array,
        progress: Progress,
    ) -> tuple[PyTree, Sums]:
        params, state = joined(member.params, shared).train, state._replace(iteration=progress.iteration)
        counted = {name: value for name, value in sums.items() if name != "nan"}
        state, sums = self.chunk(member.keys.train, member.config, params, state, num_observe, num_learn, progress, counted)
        return without_iteration(state), sums | {"nan": _has_nan(state.agent.policy)}

    def evaluate(
        self, eval_env: Env, each: int, shared: EnvParams, member: Members, policy: PyTree, progress: Progress
    ) -> evaluate.Scores:
        params = joined(member.params, shared)
        trained_in = self.env._replace(params=params.train)
        agent = evaluate.acting_in(self.make_agent, member.config, trained_in, eval_env.spec)
        bound = eval_env._replace(params=params.train if params.evaluate is None else params.evaluate)
        key = jax.random.fold_in(member.keys.evaluate, progress.iteration)
        return evaluate.episode_scores(key, agent, bound, policy, progress, each)


def _arranged(sharding: NamedSharding, leading: tuple[int, ...], tree: PyTree) -> PyTree:
    """Shapes of `tree` with axes in front, on these devices."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*leading, *leaf.shape), leaf.dtype, sharding=sharding), tree)


def _vmap(function: Callable[..., PyTree], turns: Turns, rows: PyTree, buffers: PyTree) -> PyTree:
    """`function(row, buffer)` of every row at once."""
    return jax.vmap(function)(rows, buffers)


def _serial(function: Callable[..., PyTree], turns: Turns, rows: PyTree, buffers: PyTree) -> PyTree:
    """`buffers[r] = function(rows[r], buffers[r])` for the rows r whose turn it is, one after another and in place."""

    def pick(tree: PyTree, index: Array) -> PyTree:
        return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), tree)

    def turn(position: Array, buffers: PyTree) -> PyTree:
        index = turns.order[position]
        result = function(pick(rows, index), pick(buffers, index))
        return jax.tree.map(lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, index, 0), buffers, result)

    return jax.lax.fori_loop(0, turns.counts[0], turn, buffers)


def _has_nan(policy: PyTree) -> Array:
    leaves = [leaf for leaf in jax.tree.leaves(policy) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.any(jnp.stack([jnp.any(jnp.isnan(leaf)) for leaf in leaves])) if leaves else jnp.bool_(False)


def _program_bytes(program: Any) -> int:
    """Bytes of arguments, results and temporaries on one device, less those that share memory."""
    memory = program.memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return int(used - memory.alias_size_in_bytes)
