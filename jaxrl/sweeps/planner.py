"""Which runs are worked on together: the runs of a rung, cut into units as large as memory allows."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl.drivers.memory import num_bytes
from jaxrl.loop import row_ends
from jaxrl.sweeps.outcome import Report
from jaxrl.sweeps.plan import Group, Sweep
from jaxrl.sweeps.schedulers import Bracket, Continuation
from jaxrl.sweeps.unit import DoesNotFitError, Unit, Workers


class Standing(NamedTuple):
    """How a run stands after the last of the units that it was in: the report, its swept values and seconds of all units."""

    units: tuple[str, ...]
    report: Report
    values: dict[str, Any]
    seconds: float


class Planner:
    """Cuts the runs of a rung into units, each as large as memory allows, and at least one for each worker.

    Attributes:
      refused: programs that were compiled and found too large.
    """

    def __init__(self, sweep: Sweep, groups: Sequence[Group], workers: Workers) -> None:
        self.sweep, self.groups, self.workers, self.refused = sweep, groups, workers, 0
        self.group_of = {config: index for index, group in enumerate(groups) for config in group.configs}
        # A first guess; a compiled program says what it really needs. Each device works on a copy of one run under `serial`.
        copies, overhead = (workers.num_devices, 1.05) if workers.batching == "serial" else (0, 2.0)
        rows = [int(workers.limit / (overhead * num_bytes(group.shapes))) - copies for group in groups]
        self.most = [self._round(most, down=True) for most in rows]

    def work(
        self,
        number: int,
        bracket: Bracket,
        rung: int,
        continued: Mapping[int, Continuation],
        standings: Mapping[int, Standing],
    ) -> tuple[list[Unit], list[dict[str, Any]]]:
        """Does the units of a rung."""
        while True:
            units = [
                unit
                for group in range(len(self.groups))
                for unit in self._units(number, bracket, rung, group, continued, standings)
            ]
            try:
                return units, self.workers.execute(units)
            except DoesNotFitError as error:
                self.most[error.group], self.refused = error.capacity, self.refused + 1

    def _units(
        self,
        number: int,
        bracket: Bracket,
        rung: int,
        group: int,
        continued: Mapping[int, Continuation],
        standings: Mapping[int, Standing],
    ) -> list[Unit]:
        runs = [run for run in sorted(continued) if self.group_of[self.sweep.config_of(run)] == group]
        if not runs:
            return []
        capacity = self._capacity(group, len(runs))
        parts = max(-(-len(runs) // capacity), min(self.workers.num_workers, len(runs)))
        units = []
        for part, chosen in enumerate(np.array_split(runs, parts)):
            of_unit = tuple(int(run) for run in chosen)
            mark = zlib.crc32(repr((of_unit, capacity)).encode())
            units.append(
                Unit(
                    name=f"bracket{number}-rung{rung}-group{group}-part{part}-{mark:08x}",
                    group=group,
                    runs=of_unit,
                    values=tuple(continued[run].values for run in of_unit),
                    sources=tuple((standings[continued[run].source].units[-1], continued[run].source) for run in of_unit)
                    if rung
                    else None,
                    begin=self._iteration(group, bracket.rungs[rung - 1]) if rung else 0,
                    end=self._iteration(group, bracket.rungs[rung]),
                    capacity=capacity,
                    is_last=rung + 1 == len(bracket.rungs),
                    solo=self.groups[group].solo,
                )
            )
        return units

    def _capacity(self, group: int, num_runs: int) -> int:
        """Rows of the group's program: of all its runs, or of a worker's share or as many as fit, in even parts.

        `vmap` shrinks them by halves when few runs are left.
        """
        workers = self.workers
        if self.groups[group].solo:
            return 1
        everyone = -(-len(self.groups[group].configs) * len(self.sweep.seeds) // workers.num_workers)
        parts = -(-everyone // self.most[group])
        capacity = self._round(-(-everyone // parts))
        if workers.batching == "vmap":
            share = -(-num_runs // workers.num_workers)
            while share <= capacity // 2 and capacity // 2 % workers.num_devices == 0:
                capacity //= 2
        return capacity

    def _round(self, rows: int, down: bool = False) -> int:
        """A number of rows that the devices can share."""
        num_devices = self.workers.num_devices
        return max((rows if down else rows + num_devices - 1) // num_devices, 1) * num_devices

    def env_steps(self, bracket: Bracket, continued: Mapping[int, Continuation], rung: int) -> int:
        """Env steps of these runs in a rung, and of those that will go on into the next ones.

        Which will is not known where configs take other iterations; then a mean one stands for them.
        """
        sweep, total, num_configs = self.sweep, 0, len({self.sweep.config_of(run) for run in continued})
        for later in range(rung, len(bracket.rungs)):
            steps = [self._steps(self.group_of[sweep.config_of(run)], bracket, later) for run in continued]
            num_runs = len(steps) if later == rung or bracket.reduction == 1 else num_configs * len(sweep.seeds)
            total += round(sum(steps) * num_runs / max(len(steps), 1))
            num_configs = max(num_configs // bracket.reduction, 1)
        return total

    def _steps(self, group: int, bracket: Bracket, rung: int) -> int:
        """Env steps of a run of a group in a rung."""
        begin = self._iteration(group, bracket.rungs[rung - 1]) if rung else 0
        iterations = self._iteration(group, bracket.rungs[rung]) - begin
        return iterations * self.groups[group].schedule.steps_per_iteration

    def _iteration(self, group: int, env_steps: int) -> int:
        """The first iteration with a row at or after so many env steps."""
        schedule = self.groups[group].schedule
        ends = row_ends(schedule.num_iterations, self.sweep.num_rows)
        return next((end for end in ends if end * schedule.steps_per_iteration >= env_steps), ends[-1])
