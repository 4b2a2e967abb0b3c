"""Sweeps in Python.

    result = jaxrl.sweep("ppo", "CartPole-v1", grid={"learning_rate": [1e-4, 3e-4, 1e-3]}, seeds=16, out="runs/rates")
    best = result.best()
    policy = result.policy(best)                  # a function of observations
    result.save(best, "runs/best")                # a run's folder: evaluate, plot, resume, or start others from it

The same call goes on with a sweep that was interrupted, and only reads the results of a finished one. On CPU each core becomes
a device of its own, unless JAX has started already, so call `sweep` before other JAX code.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.analysis.results import Results, best_run, read_results
from jaxrl.arguments import declared, instance, named, path, registered, whole
from jaxrl.errors import UsageError
from jaxrl.fields import MAX_COUNT, is_whole_number
from jaxrl.runs.api import tuned_options
from jaxrl.runs.trained import TrainedPolicy, load
from jaxrl.runs.trained import score as score_run
from jaxrl.startup import devices_are_set
from jaxrl.sweeps import driver
from jaxrl.sweeps.export import folder_of, own_folder, save_run
from jaxrl.sweeps.plan import Sweep, make_sweep
from jaxrl.sweeps.schedulers import Schedule
from jaxrl.sweeps.space import Draw


class SweepResult(NamedTuple):
    """A finished sweep.

    Attributes:
      folder: of the sweep, with `report.html`.
      results: what `results.csv` and `curves.csv` hold.
    """

    folder: Path
    results: Results

    def __repr__(self) -> str:
        returns = self.results.final_return
        best = "" if np.all(np.isnan(returns)) else f", best final return {np.nanmax(returns):.1f} of run {self.best()}"
        return f"SweepResult({self.folder}: {len(returns)} runs{best})"

    def best(self) -> int:
        """The run with the highest final return.

        Raises:
          UsageError: no run has one.
        """
        return best_run(self.results)

    @declared(run=whole(), folder=path)
    def save(self, run: int, folder: str | Path) -> Path:
        """Writes a run as a folder of its own, as `jaxrl train` would have; one that ended early can be resumed.

        Raises:
          UsageError: no such run, it became NaN, or `folder` cannot be used.
        """
        return save_run(self.folder, run, Path(folder))

    @declared(run=whole())
    def policy(self, run: int) -> TrainedPolicy:
        """The trained policy of a run, a function of observations; errors as of `save`."""
        with folder_of(self.folder, run) as folder:
            return load(folder)

    @declared(run=whole())
    def evaluate(
        self, run: int, num_episodes: int = 100, seed: int = 0, env_options: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Greedy score of a run: episodes, mean, std, unfinished; errors as of `save`.

        Args:
          env_options: of the environment, where they differ from those of the sweep's evaluations.
        """
        with folder_of(self.folder, run) as folder:
            return score_run(folder, num_episodes, seed, env_options=env_options)

    @declared(run=whole())
    def run_folder(self, run: int) -> Path:
        """The folder of a run that was trained alone (`batching="solo"`), with its rows, evaluations and checkpoints.

        Raises:
          UsageError: no such run, or it was trained in a batch.
        """
        if (folder := own_folder(self.folder, run)) is None:
            raise UsageError(f"run={run} of {self.folder} was trained in a batch; write its folder with save(run, folder)")
        return folder


@declared(
    agent=registered("dqn"),
    env=registered("CartPole-v1"),
    grid=named,
    draws=named,
    num_draws=whole(1),
    draw_seed=whole(0),
    out=path,
    schedule=instance((Schedule, str), "a jaxrl.Schedule, or the name of a method"),
)
def sweep(
    agent: str,
    env: str,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    draws: Mapping[str, Draw] | None = None,
    num_draws: int = 1,
    draw_seed: int = 0,
    seeds: int | Sequence[int] = 1,
    out: str | Path,
    schedule: Schedule | str = "none",
    tuned: bool | None = None,
    **options: Any,
) -> SweepResult:
    """Trains every combination of hyperparameters with every seed and returns the results; goes on with a sweep begun in `out`.

    Args:
      agent, env: names, or `module:function`, as of `jaxrl train`.
      grid: values of swept fields; `env.NAME` is an option of the environment.
      draws: ranges of fields drawn at random, `num_draws` times for each point of the grid.
      seeds: their number (0, 1, ...), or the seeds.
      out: folder of the sweep; new, empty, or with the same sweep.
      schedule: which runs go on for how long; a name stands for `Schedule(method=name)`.
      tuned: take the settings of the claim for this agent and environment, as of `jaxrl.run`.
      options: of the sweep (`env_options`, a dict, `total_steps`, `eval_episodes`, `eval_every`, `num_rows`, `stop_return`,
        `batching`, `memory_limit`, `executor`, `checkpoint_seconds`: as `jaxrl sweep --help` says), and fields of the agent's
        config.

    Raises:
      UsageError: bad input, or `out` holds something else; nothing was written.
      EnvError: an environment of the host failed; the same call goes on.
    """
    use_all_cores()
    config, own, notice = tuned_options(Sweep, agent, env, tuned, options)
    planned = make_sweep(
        dict(grid or {}),
        dict(draws or {}),
        num_draws,
        draw_seed,
        agent=agent,
        env=env,
        config=config,
        seeds=_seeds(seeds),
        schedule=Schedule(schedule) if isinstance(schedule, str) else schedule,
        command="jaxrl.sweep(...) in Python",
        **own,
    )
    folder = Path(out)
    driver.start_or_resume(planned, folder, notice)
    return SweepResult(folder, read_results(folder))


def _seeds(seeds: Any) -> tuple[int, ...]:
    """0, 1, ... of a number of seeds, or the given seeds."""
    if is_whole_number(seeds):
        if seeds > MAX_COUNT:
            raise UsageError(f"seeds={seeds} is out of range; give at most {MAX_COUNT}")
        return tuple(range(seeds))
    try:
        return tuple(operator.index(seed) for seed in seeds)
    except TypeError:
        raise UsageError(f"seeds={seeds!r} is no whole number and no list of them; give for example 3 or [0, 1, 2]") from None


def use_all_cores(num_devices: int | None = None) -> None:
    """On CPU, makes each core a device of its own (or so many), unless JAX has started or its settings say how many."""
    if num_devices is None and (devices_are_set() or jax.config.values["jax_num_cpu_devices"] > 0):
        return
    try:
        jax.config.update("jax_num_cpu_devices", num_devices or len(os.sched_getaffinity(0)))
    except RuntimeError:
        if num_devices is not None and len(jax.devices()) != num_devices:
            raise UsageError(f"devices={num_devices}, but JAX has started with {len(jax.devices())}; set it earlier") from None
