"""The runs of a population as they are trained: who is in which row, who has stopped, what the rows hold.

Runs are numbered 0 .. n - 1 within their batch. A run that stops is taken to the host with its state and never advanced again.
Under `serial` its row is no longer visited; under `vmap` the rows are repacked into half as many when that is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxrl.drivers.evaluate import Scores
from jaxrl.loop import Plan
from jaxrl.records.console import doing, number_of
from jaxrl.sweeps.population import EnvParams, Members, Population, Turns, make_turns, place, rows_of, stack
from jaxrl.types import PyTree


class Batch(NamedTuple):
    """Runs of one population.

    Attributes:
      population: that trains them.
      members: of all n runs, on the host.
      shared: params that all runs have in common.
      rows: [n] row of each run that has not stopped.
      living: runs that have not stopped.
      stopped: run -> its state on the host.
      on_device: members of the rows.
      turns: of the living.
      states: of the rows, on the devices.
      iteration: that all living runs have reached.
    """

    population: Population
    members: Members
    shared: EnvParams
    rows: np.ndarray
    living: tuple[int, ...]
    stopped: dict[int, PyTree]
    on_device: Members
    turns: Turns
    states: PyTree
    iteration: int


def load(
    population: Population,
    members: Members,
    shared: EnvParams,
    states: PyTree | None,
    living: Sequence[int],
    iteration: int,
) -> Batch:
    """Puts runs into the rows of a population.

    Args:
      members: of all n runs, on the host.
      shared: params that all runs have in common.
      states: of all n runs, [n] in front of every leaf, on the host; None starts them afresh.
      living: runs to go on with.
    """
    num_runs, num_devices = len(members.keys.init), population.sharding.num_devices
    rows, run_of_row = np.zeros(num_runs, int), np.full(population.capacity, living[0] if living else 0)
    rows[list(living)] = place(len(living), population.capacity, num_devices)
    run_of_row[rows[list(living)]] = living
    on_device = jax.device_put(rows_of(members, run_of_row), population.sharding)
    shared = jax.device_put(shared, NamedSharding(population.sharding.mesh, PartitionSpec()))
    stopped = {} if states is None else {run: entry(states, run) for run in range(num_runs) if run not in living}
    if states is None:
        with doing(f"compiling the first states of {number_of(num_runs, 'run')}"):
            held = jax.block_until_ready(population.init(on_device, shared))
    else:
        held = jax.device_put(rows_of(states, run_of_row), population.sharding)
    turns = turns_of(population, rows[list(living)])
    return Batch(population, members, shared, rows, tuple(living), stopped, on_device, turns, held, iteration)


def entry(tree: PyTree, index: int) -> PyTree:
    """Entry `index` along the first axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def turns_of(population: Population, rows: np.ndarray) -> Turns:
    """Turns of some rows, on the devices."""
    turns = make_turns(rows, population.capacity, population.sharding.num_devices)
    return jax.device_put(turns, population.sharding)


def advance(
    batch: Batch, plan: Plan, end: int, sums: Mapping[str, np.ndarray] | None = None
) -> tuple[Batch, dict[str, np.ndarray]]:
    """Advances the living up to iteration `end`.

    Args:
      sums: so far, of the iterations before.

    Returns:
      The batch and its sums, each with an entry for each living run in front.
    """
    population, rows = batch.population, batch.rows[list(batch.living)]
    held = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in population.sum_shapes.items()}
    for name, values in (sums or {}).items():
        held[name][rows] = values
    counts = map(np.int32, plan.split(batch.iteration, end))
    states, sums = population.advance(
        batch.on_device,
        batch.shared,
        batch.turns,
        batch.states,
        jax.device_put(held, population.sharding),
        *counts,
        plan.progress(batch.iteration),
    )
    return batch._replace(states=states, iteration=end), rows_of(sums, rows)


def evaluate(batch: Batch, plan: Plan, runs: Sequence[int], num_episodes: int) -> list[Scores]:
    """Greedy scores of some of the living, in this order."""
    population, rows = batch.population, batch.rows[list(runs)]
    scores = population.evaluate(
        batch.on_device,
        batch.shared,
        turns_of(population, rows),
        batch.states.agent.policy,
        plan.progress(batch.iteration),
        num_episodes,
    )
    return [entry(rows_of(scores, rows), index) for index in range(len(rows))]


def stop(batch: Batch, runs: Iterable[int], make: Callable[[int], Population]) -> Batch:
    """Takes runs out for good.

    Args:
      make: (capacity) -> the population with so many rows.
    """
    gone = set(runs)
    stopped = batch.stopped | {run: jax.tree.map(on_host, entry(batch.states, int(batch.rows[run]))) for run in sorted(gone)}
    living = tuple(run for run in batch.living if run not in gone)
    batch = batch._replace(stopped=stopped, living=living)
    population = batch.population
    capacity = fitting_capacity(population, len(living))
    if capacity < population.capacity:
        return load(make(capacity), batch.members, batch.shared, host_states(batch), living, batch.iteration)
    return batch._replace(turns=turns_of(population, batch.rows[list(living)]))


def fitting_capacity(population: Population, num_living: int) -> int:
    """Rows for so many runs: under `vmap` half of them, and half of those, as long as that is enough."""
    capacity, num_devices = population.capacity, population.sharding.num_devices
    while population.batching == "vmap" and 0 < num_living <= capacity // 2 and capacity // 2 % num_devices == 0:
        capacity //= 2
    return capacity


def host_states(batch: Batch) -> PyTree:
    """States of all n runs on the host, [n] in front of every leaf."""
    held = rows_of(batch.states, batch.rows)
    if not batch.stopped:
        return held
    return stack([batch.stopped.get(run, None) or entry(held, run) for run in range(len(batch.rows))])


def on_host(leaf: Any) -> Any:
    """An array of NumPy; typed keys, which NumPy has not, stay."""
    return leaf if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)
