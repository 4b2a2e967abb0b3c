"""How many iterations a run has: env steps, warm-up and rows of metrics in whole iterations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxrl.config import Config, rollout_length
from jaxrl.errors import UsageError
from jaxrl.types import Progress, Spec


class Plan(NamedTuple):
    """How many iterations a run has, and of what kind.

    Attributes:
      rollout_length: T.
      steps_per_iteration: T * B env steps.
      num_warmup: iterations that only store.
      num_iterations: all iterations, warm-up included.
    """

    rollout_length: int
    steps_per_iteration: int
    num_warmup: int
    num_iterations: int

    def progress(self, iteration: int) -> Progress:
        """How far a run is after so many iterations."""
        counts: Any = map(np.int32, (iteration, self.num_iterations, self.num_warmup, self.steps_per_iteration))
        return Progress(*counts)

    def split(self, begin: int, end: int) -> tuple[int, int]:
        """(warm-up, learning) iterations between two of them; counted here, so that no step has to ask."""
        num_warmup = max(min(end, self.num_warmup) - begin, 0)
        return num_warmup, end - begin - num_warmup


def plan(config: Config, spec: Spec, total_steps: int) -> Plan:
    """Turns env steps into iterations; both are rounded up.

    Raises:
      UsageError: no positive number of steps, a warm-up that leaves nothing to learn, or a rollout as long as a time limit
        that the environment does not have.
    """
    length = rollout_length(config, spec)
    per_iteration = length * config.num_envs
    if total_steps < 1:
        raise UsageError(f"total_steps={total_steps} is out of range; give at least 1")
    if per_iteration >= 2**31:
        raise UsageError(f"num_envs={config.num_envs} times {length} steps exceed 2^31 env steps an iteration; lower one")
    if config.learning_starts >= total_steps:
        raise UsageError(
            f"learning_starts={config.learning_starts} leaves nothing of total_steps={total_steps}; lower learning_starts"
        )
    num_iterations = -(-total_steps // per_iteration)
    if num_iterations >= 2**31:
        raise UsageError(f"total_steps={total_steps} makes {num_iterations} iterations; give fewer than 2^31 iterations")
    return Plan(length, per_iteration, -(-config.learning_starts // per_iteration), num_iterations)


def row_ends(num_iterations: int, num_rows: int) -> list[int]:
    """Iterations after which there is a row of metrics: `num_rows` even stretches, at least one iteration each."""
    return sorted({-(-num_iterations * index // num_rows) for index in range(1, num_rows + 1)})
