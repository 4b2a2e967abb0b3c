"""One unit of a sweep's work: some runs of one group, from the beginning to the end of a rung, and who does it.

A unit is a folder under `state/` of the sweep. Whatever happens to the process, working on the unit again goes on from its last
whole checkpoint and ends with the same `outcome.json`, which is written last and marks the unit as done. Units of one rung do
not depend on each other, so an executor may run them anywhere, in any order and more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax

from jaxrl.errors import UsageError
from jaxrl.interrupts import never
from jaxrl.records import checkpoint
from jaxrl.records.console import doing, number_of, say
from jaxrl.startup import command
from jaxrl.sweeps import batch as batches
from jaxrl.sweeps.batch import on_host
from jaxrl.sweeps.outcome import META, Report, need_outcome, unit_folder
from jaxrl.sweeps.plan import Group, Sweep
from jaxrl.sweeps.population import Population, choose_batching, make_population, stack
from jaxrl.types import Env, PyTree


class ProgressCallback(Protocol):
    """Is told env steps done since the last call and the mean return of the runs; `before`: by an earlier process."""

    def __call__(self, num_steps: int, score: float | None, before: bool = False) -> None: ...


def untold(num_steps: int, score: float | None, before: bool = False) -> None:
    """Progress that nobody is told."""


class Unit(NamedTuple):
    """What is to be done; plain JSON values, so that it can travel.

    Attributes:
      name: of its folder.
      group: index of its group.
      runs: their numbers.
      values: of each run the values of the swept fields.
      sources: of each run the unit and the run whose final state it starts from; None starts afresh.
      begin, end: iterations.
      capacity: rows of the population that trains it.
      is_last: the runs end here, and are evaluated.
      solo: its one run is trained alone, in `run/`.
    """

    name: str
    group: int
    runs: tuple[int, ...]
    values: tuple[dict[str, Any], ...]
    sources: tuple[tuple[str, int], ...] | None
    begin: int
    end: int
    capacity: int
    is_last: bool
    solo: bool = False

    def about(self) -> dict[str, Any]:
        """What its outcome says of it."""
        return {"group": self.group, "runs": self.runs, "values": self.values}


class DoesNotFitError(Exception):
    """The compiled program of a population needs more than the memory limit; `capacity` rows should fit."""

    def __init__(self, group: int, capacity: int) -> None:
        super().__init__(group, capacity)
        self.group, self.capacity = group, capacity


class Worker:
    """What units are worked on with in this process; keeps compiled programs, and states that a next rung may start from.

    Attributes:
      interrupted: () -> whether to save and to stop at the end of the present stretch.
      compilations: training programs compiled so far.
      told: names of units whose progress was told.
    """

    def __init__(
        self,
        sweep: Sweep,
        groups: Sequence[Group],
        folder: Path,
        limit: int,
        interrupted: Callable[[], bool] = never,
    ) -> None:
        self.sweep, self.groups, self.folder, self.limit, self.interrupted = sweep, groups, folder, limit, interrupted
        self.compilations, self.told = 0, set[str]()
        self._programs: dict[tuple[int, int], Population] = {}
        self._finals: dict[str, PyTree] = {}

    def population(self, group: int, capacity: int) -> Population:
        """The compiled program of a group with so many rows.

        Raises:
          DoesNotFitError: with a capacity that should fit.
        """
        if (group, capacity) not in self._programs:
            made, batching = self.groups[group], choose_batching(self.sweep.batching)
            assert isinstance(made.env, Env)
            self.compilations += 1
            with doing(f"compiling {self.sweep.agent} on {self.sweep.env} for {number_of(capacity, 'run')}"):
                program = make_population(
                    made.make_agent,
                    made.env,
                    made.make_eval_env,
                    made.config,
                    made.varies,
                    made.params[0].evaluate,
                    capacity,
                    batching,
                )
            devices = program.sharding.num_devices
            if program.num_bytes > self.limit and capacity > devices:
                fitting = int(capacity * self.limit / program.num_bytes) // devices * devices
                raise DoesNotFitError(group, max(min(fitting, capacity - devices), devices))
            if program.num_bytes > self.limit:
                say(f"memory_limit={self.limit} bytes is below the {program.num_bytes} of the smallest batch; it runs anyway")
            self._programs[group, capacity] = program
        return self._programs[group, capacity]

    def states(self, sources: Sequence[tuple[str, int]]) -> PyTree:
        """Final states of runs of finished units, in this order, [n] in front of every leaf, on the host."""
        index = {name: need_outcome(self.folder, name)["runs"] for name, _ in sources}
        for name in index:
            if name not in self._finals:
                self._finals[name] = final_states(self.groups, self.folder, name)
        states = stack([batches.entry(self._finals[name], index[name].index(run)) for name, run in sources])
        self._finals = {}
        return states

    def reports(self, unit: Unit) -> list[Report]:
        """How the runs of a unit stand at its beginning."""
        if unit.sources is None:
            return [Report() for _ in unit.runs]
        outcomes = {name: need_outcome(self.folder, name) for name, _ in unit.sources}
        return [Report(**outcomes[name]["reports"][outcomes[name]["runs"].index(run)]) for name, run in unit.sources]

    def keep(self, name: str, states: PyTree) -> None:
        """Keeps final states for the next rung, unless that takes much memory."""
        self._finals[name] = states
        if sum(leaf.nbytes for leaf in jax.tree.leaves(self._finals)) > self.limit // 4:
            self._finals = {}


def final_states(groups: Sequence[Group], folder: Path, name: str) -> PyTree:
    """States of all runs of a finished unit without their `iteration`, [n] in front of every leaf, on the host.

    Raises:
      UsageError: it has no whole checkpoint of its end.
    """
    outcome, path = need_outcome(folder, name), unit_folder(folder, name)
    target = shapes_of(groups[outcome["group"]], len(outcome["runs"]))
    last = next(iter(checkpoint.iterations(path / "checkpoints")), -1)
    restored = checkpoint.restore(path / "checkpoints", lambda meta: target, say, last, META)
    if restored is None:
        fix = f"remove {path / 'outcome.json'} and do it again with: {command('resume', folder)}"
        raise UsageError(f"{path} is done, but the checkpoint of its end is not whole; {fix}")
    return jax.tree.map(on_host, restored.state)


def shapes_of(group: Group, num_runs: int) -> PyTree:
    """Of the states of so many runs of a group, [n] in front of every leaf."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_runs, *leaf.shape), leaf.dtype), group.shapes)


Execute = Callable[[Sequence[Unit]], list[dict[str, Any]]]
"""Does units, in any order, and returns their outcomes in the order given."""


class Workers(NamedTuple):
    """Who works on units.

    Attributes:
      execute: does them.
      num_workers: units that are worked on at once.
      num_devices: of each worker.
      limit: bytes that a unit may take.
      batching: `serial`, `vmap` or `solo`.
    """

    execute: Execute
    num_workers: int
    num_devices: int
    limit: int
    batching: str
