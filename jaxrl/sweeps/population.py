"""A batch of runs as one compiled program: seeds and traced hyperparameters are its batch axis.

All runs of a population share one program structure (the same static fields) and advance together. Two ways to work through
them give the same numbers: `vmap`, right on an accelerator, and `serial`, right on a CPU, where each device (one a core) takes
its runs one after another and updates their states in place. Either is spread over all devices with `shard_map`.

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

from jaxrl.config import Config, as_arrays
from jaxrl.drivers import evaluate
from jaxrl.drivers.device import make_chunk
from jaxrl.loop import MakeAgent, RunKeys, Sums, build, init_state, run_keys
from jaxrl.types import Array, Env, Progress, PyTree, RunState

BATCHINGS = ("auto", "serial", "vmap")
_AXIS = "run"


class Members(NamedTuple):
    """What tells the runs of a population apart, each leaf with an axis over rows in front.

    Attributes:
      keys: `RunKeys` of typed keys.
      config: the agent's, with traced fields.
      env_params: physics.
    """

    keys: RunKeys
    config: Config
    env_params: PyTree


class Turns(NamedTuple):
    """Which rows take part in a call.

    Attributes:
      order: [capacity] int32, for each device first the rows that take part, numbered on that device.
      counts: [devices] int32, how many of them.
    """

    order: Any
    counts: Any


class Population(NamedTuple):
    """Compiled functions over the rows of a population. Its states are `RunState`s without `iteration`, which all rows share.

    Attributes:
      capacity: rows.
      sharding: of the axis over rows.
      batching: `serial` or `vmap`.
      init: (members) -> states.
      advance: (members, turns, states, iteration, num_warmup, num_learn, num_iterations) -> (states, sums), each with an axis
        over rows; `sums["nan"]` is true where a policy holds a NaN. The states are donated. Only `turns` are advanced under
        `serial`; `vmap` advances every row.
      evaluate: (members, turns, policies, iteration, num_iterations, num_episodes) -> [capacity, episodes] greedy returns.
      state_shapes: of the states.
      num_bytes: that the compiled training program needs on all devices together.
    """

    capacity: int
    sharding: NamedSharding
    batching: str
    init: Callable[[Members], PyTree]
    advance: Callable[..., tuple[PyTree, Sums]]
    evaluate: Callable[..., Array]
    state_shapes: PyTree
    num_bytes: int


def choose_batching(batching: str) -> str:
    """`auto` is `serial` on CPU and `vmap` on an accelerator."""
    if batching != "auto":
        return batching
    return "serial" if jax.default_backend() == "cpu" else "vmap"


def make_members(seeds: Sequence[int], configs: Sequence[Config], env_params: Sequence[PyTree]) -> Members:
    """The rows of runs with the same static fields, as NumPy arrays but for the keys."""
    keys = jax.vmap(lambda seed: run_keys(jax.random.key(seed)))(np.asarray(seeds, np.uint32))
    return Members(keys, stack([as_arrays(config) for config in configs]), stack(env_params))


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Trees of equal structure as one tree on the host, with an axis over them in front of every leaf."""

    def join(*leaves: Any) -> Any:
        if jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            return jnp.stack(leaves)
        return np.stack([np.asarray(leaf) for leaf in leaves])

    return jax.tree.map(join, *trees)


def take(tree: PyTree, rows: np.ndarray) -> PyTree:
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
    """Lets `rows` take part."""
    each = capacity // num_devices
    order, counts = np.zeros((num_devices, each), np.int32), np.zeros(num_devices, np.int32)
    for row in rows:
        device = row // each
        order[device, counts[device]] = row % each
        counts[device] += 1
    return Turns(order.reshape(-1), counts)


def make_population(
    make_agent: MakeAgent, env: Env, make_eval_env: Callable[[int], Env], config: Config, capacity: int, batching: str
) -> Population:
    """Compiles the training program of a population.

    Args:
      env, make_eval_env, config: of any of its runs; traced fields and params come from the members.
      capacity: rows, a multiple of the number of devices.
      batching: `serial` or `vmap`.
    """
    mesh = Mesh(np.array(jax.devices()), (_AXIS,))
    sharding = NamedSharding(mesh, P(_AXIS))
    chunk = make_chunk(make_agent, env)
    each = _serial if batching == "serial" else _vmap

    def agent_of(member: Members, env: Env) -> Any:
        return build(make_agent, member.config, env.spec, env.num_envs, env.model)

    def over_devices(function: Callable[..., Any], num_rows: int, num_shared: int) -> Callable[..., Any]:
        """`function` on each device's share of its first `num_rows` arguments; the others are the same everywhere."""
        specs = (P(_AXIS),) * num_rows + (P(),) * num_shared
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P(_AXIS), check_vma=False)

    def init_one(member: Members) -> PyTree:
        bound = env._replace(params=member.env_params)
        return without_iteration(init_state(member.keys.init, agent_of(member, bound), bound))

    def init_share(members: Members) -> PyTree:
        return jax.lax.map(init_one, members) if batching == "serial" else jax.vmap(init_one)(members)

    def advance_one(member: Members, state: RunState, iteration: Array, *lengths: Array) -> tuple[PyTree, Sums]:
        state = state._replace(iteration=iteration)
        state, sums = chunk(member.keys.train, member.config, member.env_params, state, *lengths)
        return without_iteration(state), sums | {"nan": _has_nan(state.agent.policy)}

    def advance_share(members: Members, turns: Turns, states: PyTree, sums: Sums, *shared: Array) -> tuple[PyTree, Sums]:
        def row(member: Members, buffers: tuple[PyTree, Sums]) -> tuple[PyTree, Sums]:
            return advance_one(member, buffers[0], *shared)

        return each(row, turns, members, (states, sums))

    def evaluate_share(
        num_episodes: int, members: Members, turns: Turns, policies: PyTree, returns: Array, progress: Progress
    ) -> Array:
        num_envs, episodes = evaluate.split_episodes(num_episodes)
        eval_env = make_eval_env(num_envs)

        def row(inputs: tuple[Members, PyTree], _: Array) -> Array:
            member, policy = inputs
            bound = eval_env._replace(params=member.env_params)
            key = jax.random.fold_in(member.keys.evaluate, progress.iteration)
            return evaluate.episode_returns(key, agent_of(member, bound), bound, policy, progress, episodes)

        return each(row, turns, (members, policies), returns)

    member = jax.eval_shape(lambda: Members(run_keys(jax.random.key(0)), as_arrays(config), env.params))
    numbers = [jax.ShapeDtypeStruct((), jnp.int32)] * 4
    state = jax.eval_shape(init_one, member)
    _, sums = jax.eval_shape(advance_one, member, state, *numbers)
    rows = partial(_rows, capacity, sharding)
    turns = Turns(rows(jax.ShapeDtypeStruct((), jnp.int32)), jax.ShapeDtypeStruct((mesh.size,), jnp.int32, sharding=sharding))

    def advance(members: Members, turns: Turns, states: PyTree, *shared: Array) -> tuple[PyTree, Sums]:
        zeros = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), sums)
        return over_devices(advance_share, 4, 4)(members, turns, states, zeros, *shared)

    def evaluate_policies(
        members: Members, turns: Turns, policies: PyTree, iteration: Array, num_iterations: Array, num_episodes: int
    ) -> Array:
        num_envs, episodes = evaluate.split_episodes(num_episodes)
        returns = jnp.full((capacity, num_envs * episodes), jnp.nan)
        share = over_devices(partial(evaluate_share, num_episodes), 4, 1)
        return share(members, turns, policies, returns, Progress(iteration, num_iterations))

    compiled = jax.jit(advance, donate_argnums=2, out_shardings=sharding)
    program = compiled.lower(rows(member), turns, rows(state), *numbers).compile()
    return Population(
        capacity=capacity,
        sharding=sharding,
        batching=batching,
        init=jax.jit(over_devices(init_share, 1, 0), out_shardings=sharding),
        advance=program,
        evaluate=jax.jit(evaluate_policies, static_argnums=5),
        state_shapes=rows(state),
        num_bytes=_program_bytes(program) * mesh.size,
    )


def _rows(capacity: int, sharding: NamedSharding, tree: PyTree) -> PyTree:
    """Shapes of `capacity` rows of `tree`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((capacity, *leaf.shape), leaf.dtype, sharding=sharding), tree)


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
