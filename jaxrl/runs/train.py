"""A run and its folder: prepare, train in chunks, log, evaluate, checkpoint, resume.

Everything is checked before anything is written. What a run leaves behind: `config.json` (everything that rebuilds it),
`metrics.jsonl`, `summary.json`, `checkpoints/` and `curve.png`. After SIGKILL at any moment `resume` reaches the same
parameters bit for bit and the same rows but for wall-clock fields.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.analysis.curves import draw_or_say, plot_runs
from jaxrl.arguments import declared, instance, path, whole
from jaxrl.drivers.evaluate import are_numbers, summarize
from jaxrl.drivers.mesh import fitting
from jaxrl.drivers.processes import agreed, in_writer, is_writer
from jaxrl.errors import UsageError
from jaxrl.interrupts import held_back
from jaxrl.loop import Plan, Sums, recent_return, row_ends
from jaxrl.records.console import Bar, console
from jaxrl.records.files import write_json
from jaxrl.records.folders import alone, check_places, new_folder
from jaxrl.records.rows import Row, append_row, append_rows, cut_rows, plain
from jaxrl.records.sinks import open_sink
from jaxrl.records.stopwatch import Stopwatch
from jaxrl.runs.advance import Rows, advance, env_steps_of
from jaxrl.runs.definition import Run, config_values, follow_stream, read_run, read_summary
from jaxrl.runs.extend import adopt_end, read_extended, set_total
from jaxrl.runs.prepare import Prepared, prepare
from jaxrl.runs.restore import (
    doing_once,
    held_sums,
    load_state,
    refill,
    restore,
    save_snapshot,
    save_state,
    say_once,
    seconds_at_end,
    seconds_of,
    with_replay,
)
from jaxrl.runs.stored import snapshots
from jaxrl.startup import command
from jaxrl.types import PyTree, RunState

# --- training -------------------------------------------------------------------------------------------------------


@declared(run=instance(Run, "a jaxrl.Run(...)"), folder=path)
def start(run: Run, folder: str | Path, profile: bool = False, notice: str = "") -> dict[str, Any]:
    """Trains a new run in `folder` and returns its summary, as `summary.json` holds it.

    Args:
      profile: leave a trace of some iterations in the middle of the run in `profile/`.
      notice: a line to say once everything has been checked.

    Raises:
      UsageError: bad input; nothing was written.
    """
    folder, prepared = Path(folder), prepare(run, divided=True)
    if run.init_from and run.extend_from:
        raise UsageError(f"init_from={run.init_from} and extend_from={run.extend_from} are both given; leave one away")
    initial = load_state(Path(run.init_from), prepared) if run.init_from else None
    extended = read_extended(prepared)

    with contextlib.ExitStack() as held:

        def claim() -> None:
            held.enter_context(new_folder(folder, Run.what, Run.file))
            write_json(folder / Run.file, config_values(run))

        in_writer(claim)
        if notice:
            say_once(notice)
        if extended is not None:
            adopt_end(prepared, folder, extended)
            return _go_on(prepared, folder, profile)
        return _begin(prepared, folder, initial, profile)


def _begin(prepared: Prepared, folder: Path, learned: PyTree | None, profile: bool = False) -> dict[str, Any]:
    say_once(f"the run goes to {folder}")
    started = time.perf_counter()
    with doing_once(f"compiling the first state of {prepared.run.agent}"):
        state = jax.block_until_ready(prepared.driver.init(prepared.keys.init, prepared.config, prepared.env_params))
    seconds = time.perf_counter() - started
    if learned is not None:
        state = prepared.driver.place(state._replace(agent=with_replay(learned, state.agent)))
    return _train(prepared, folder, state, {"init_seconds": seconds}, profile)


@declared(folder=path, total_steps=whole(1))
def resume(folder: str | Path, total_steps: int | None = None) -> dict[str, Any]:
    """Goes on with a run that was interrupted, from its last whole checkpoint, or from the start if it has none.

    Args:
      total_steps: env steps to train for, instead of those that the run was begun with; a finished run goes on too.

    Raises:
      UsageError: no run there, or more env steps than that are done.
    """
    folder = Path(folder)
    run = _on_devices_here(read_run(folder))
    if total_steps is not None and total_steps != run.total_steps:
        prepared = prepare(dataclasses.replace(run, total_steps=total_steps), divided=True)
        with contextlib.ExitStack() as held:
            in_writer(lambda: held.enter_context(alone(folder)))
            in_writer(lambda: set_total(prepared, folder))
            return _go_on(prepared, folder)
    if (summary := _finished(folder, say_once)) is None:
        in_writer(lambda: check_places(folder, ("metrics.jsonl", "curve.png"), ("checkpoints", "snapshots")))
        prepared = prepare(run, divided=True)
        with contextlib.ExitStack() as held:
            in_writer(lambda: held.enter_context(alone(folder)))
            summary = _finished(folder, lambda line: None)  # Perhaps by the process that held the folder until now.
            if summary is None:
                return _go_on(prepared, folder)
    say_once(f"{folder} is complete; nothing to do")
    return summary


def _finished(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The summary of a run that process 0 finds complete, None of one that is not."""
    found: list[dict[str, Any] | None] = []
    in_writer(lambda: found.append(read_summary(folder, warn)))
    return next(iter(found), None) or {} if agreed(any(found)) else None


def _go_on(prepared: Prepared, folder: Path, profile: bool = False) -> dict[str, Any]:
    run = prepared.run
    in_writer(lambda: follow_stream(Run, folder))
    restored = restore(prepared, folder, say_once)
    if restored is None and (extended := read_extended(prepared)) is not None:
        adopt_end(prepared, folder, extended)
        restored = restore(prepared, folder, say_once)
    if restored is None:
        say_once("no whole checkpoint yet: starting again from config.json")
        in_writer(lambda: (folder / "metrics.jsonl").unlink(missing_ok=True))
        return _begin(prepared, folder, load_state(Path(run.init_from), prepared) if run.init_from else None)
    state, meta = restored
    meta |= {"seconds": seconds_at_end(folder, int(state.iteration), meta)}
    is_trained, env_steps = _is_trained(prepared, state), env_steps_of(prepared, state)
    in_writer(lambda: cut_rows(folder / "metrics.jsonl", meta["metrics_bytes"], None if is_trained else env_steps))
    if is_trained:
        return _train(prepared, folder, state, meta)
    say_once(f"resuming at {env_steps:,} env steps")
    if not prepared.driver.keeps_episodes:
        say_once("host environments cannot be saved: the agent is restored exactly, its episodes begin anew")
        key = jax.random.fold_in(prepared.keys.init, state.iteration)
        state = prepared.driver.restart(key, prepared.config, state)
    if not meta["has_replay"]:
        state = refill(prepared, state, say_once)
    return _train(prepared, folder, state, meta, profile)


def _on_devices_here(run: Run) -> Run:
    """The run on as many of its devices as there are; the results are then the same up to rounding."""
    present = jax.local_device_count()
    if run.devices <= present:
        return run
    devices = fitting(present, run.config.num_envs)
    say_once(f"this run had {run.devices} devices and goes on with {devices}: the same up to rounding, not bit for bit")
    return dataclasses.replace(run, devices=devices)


def adopt(run: Run, folder: Path, state: RunState, rows: list[Row]) -> None:
    """Makes a new folder of a run that was trained elsewhere, as of an interrupted run: `resume` goes on with it.

    Args:
      rows: of `metrics.jsonl`.

    Raises:
      UsageError: bad input; nothing was written.
    """
    prepared = prepare(run)
    if jax.tree.map(np.shape, state.agent) != jax.tree.map(np.shape, prepared.agent_shapes):
        raise UsageError(f"the state is not that of agent={run.agent} in env={run.env}; name those that it was trained with")
    with new_folder(folder, Run.what, Run.file):
        write_json(folder / Run.file, config_values(run))
        append_rows(folder / "metrics.jsonl", rows)
        save_state(prepared, folder, state, {})
    prepared.driver.close()


class _Journal:
    """Where the rows of a run go: its file and its sinks, from the process that writes; the progress bar follows them."""

    def __init__(self, prepared: Prepared, folder: Path, state: RunState) -> None:
        run, self.writes, self.path = prepared.run, is_writer(), folder / "metrics.jsonl"
        self.sinks = [open_sink(name, folder, config_values(run)) for name in run.track] if self.writes else []
        total, is_shown = prepared.plan.num_iterations * prepared.plan.steps_per_iteration, not _is_trained(prepared, state)
        self.bar = Bar(total, env_steps_of(prepared, state), console() if self.writes and is_shown else None)
        self.warned = False

    def write(self, row: Row, seconds: float) -> None:
        row = row | {"wall_seconds": round(seconds, 3)}
        if self.writes:
            append_row(self.path, row)
        for sink in self.sinks:
            sink.write(row)
        if row["kind"] == "train":
            self.bar.advance(row["env_steps"], row["return_mean"])
            if _has_nan(row) and not self.warned:
                say_once(f"metrics became NaN before {row['env_steps']:,} env steps; --debug finds where")
                self.warned = True

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


def _train(prepared: Prepared, folder: Path, state: RunState, meta: Mapping[str, Any], profile: bool = False) -> dict[str, Any]:
    """Trains from a state to the end; `meta` is that of its checkpoint."""
    watch = Stopwatch(prepared.begun, seconds_of(meta))
    with contextlib.closing(watch):
        watch.lap("prepare")
        watch.move("prepare", "compile", meta.get("init_seconds", 0.0))
        state, final, rate = _learn(prepared, folder, state, meta, profile, watch)
        summary = _summary(prepared, state, final, rate)
        summary["snapshots"] = list(snapshots(folder, prepared.plan.steps_per_iteration))
        if is_writer():
            watch.lap("saving")
            with doing_once("drawing curve.png"):
                draw_or_say(
                    lambda: plot_runs([folder], folder / "curve.png"), f"draw curve.png with: {command('plot', folder)}"
                )
            watch.lap("plotting")
        summary |= watch.named()
        if is_writer():
            # Last, because it marks the run as complete.
            write_json(folder / "summary.json", plain(summary))
    return summary


def _learn(
    prepared: Prepared, folder: Path, state: RunState, meta: Mapping[str, Any], profile: bool, watch: Stopwatch
) -> tuple[RunState, Row, float | None]:
    """The state at the end of training, the row of the last evaluation, and env steps/s."""
    run, schedule = prepared.run, prepared.plan
    zeros: Sums = {}
    sums = zeros
    if not _is_trained(prepared, state):
        zeros = prepared.driver.no_sums(prepared.config, prepared.env_params, state)
        with doing_once(f"compiling {run.agent} on {run.env}"):
            state, sums = advance(prepared, state, int(state.iteration), zeros | held_sums(meta))
    watch.lap("compile")
    first, last_checkpoint, before = int(state.iteration), time.perf_counter(), watch.seconds["training"]
    journal, profiled = _Journal(prepared, folder, state), _profiled_end(run, schedule, first) if profile else None
    with held_back() as interrupted, contextlib.closing(journal.bar):
        training = Rows(prepared, zeros, interrupted)
        for end in (end for end in _boundaries(run, schedule) if end > first):
            state, sums, row = training.next(state, sums, end, folder / "profile" if end == profiled else None)
            watch.lap("training")
            if row is None:
                save_state(prepared, folder, state, watch.seconds, sums)
                agreed(True)  # Waits for process 0, which writes.
                raise KeyboardInterrupt
            journal.write(row, watch.wall)
            if end in _multiples(run.eval_every, schedule):
                journal.write(_eval_row(prepared, state), watch.wall)
                watch.lap("evaluation")
            if end in _multiples(run.keep_every, schedule):
                save_snapshot(prepared, folder, state)
            is_last = end == schedule.num_iterations
            if agreed(is_last or time.perf_counter() - last_checkpoint >= run.checkpoint_seconds):
                save_state(prepared, folder, state, watch.seconds)
                last_checkpoint = time.perf_counter()
            watch.lap("saving")
    final = _eval_row(prepared, state)
    journal.write(final, watch.wall)
    watch.lap("evaluation")
    journal.close()
    prepared.driver.close()
    done, seconds = (int(state.iteration) - first) * schedule.steps_per_iteration, watch.seconds["training"] - before
    return state, final, round(done / max(seconds, 1e-9), 1) if done else None


def _summary(prepared: Prepared, state: RunState, final: Row, rate: float | None) -> dict[str, Any]:
    """What `summary.json` holds; `final` is the row of the last evaluation, `rate` the env steps/s of training."""
    run, training = prepared.run, _recent_score(state)
    evaluation = {"episodes": final["eval_episodes"], "mean": final["eval_return"], "std": final["eval_return_std"]}
    is_ok = not _has_nan_leaf(state.agent.policy) and are_numbers(prepared.env.spec, training, evaluation)
    return {
        "agent": run.agent,
        "env": run.env,
        "seed": run.seed,
        "status": "ok" if is_ok else "nan",
        "env_steps": env_steps_of(prepared, state),
        "steps_per_second": rate,
        "evaluation": evaluation,
        "training_return": training,
        "protocol": prepared.protocol,
    }


def _is_trained(prepared: Prepared, state: RunState) -> bool:
    """Whether nothing is left to train, but perhaps to evaluate, to draw and to sum up."""
    return int(state.iteration) >= prepared.plan.num_iterations


def _boundaries(run: Run, schedule: Plan) -> list[int]:
    """Iterations after which a row is written: `num_rows` even stretches, every evaluation and every snapshot."""
    return sorted(
        {
            *row_ends(schedule.num_iterations, run.num_rows),
            *_multiples(run.eval_every, schedule),
            *_multiples(run.keep_every, schedule),
        }
    )


def _multiples(every: int, schedule: Plan) -> range:
    """Iterations before the last that are so many env steps apart, rounded up; none for 0."""
    if not every:
        return range(0)
    iterations = max(-(-every // schedule.steps_per_iteration), 1)
    return range(iterations, schedule.num_iterations, iterations)


def _profiled_end(run: Run, schedule: Plan, first: int) -> int | None:
    """The end of the chunk in the middle of those that learn, for `--profile`."""
    ends = [end for end in _boundaries(run, schedule) if end > max(first, schedule.num_warmup)]
    return ends[len(ends) // 2] if ends else None


def _eval_row(prepared: Prepared, state: RunState) -> Row:
    num_episodes, steps = prepared.evaluation.num_episodes, env_steps_of(prepared, state)
    with doing_once(f"evaluating {num_episodes} episodes after {steps:,} env steps, compiling if need be"):
        score = evaluate_state(prepared, state.agent.policy, int(state.iteration), num_episodes)
    return {
        "kind": "eval",
        "env_steps": steps,
        "eval_return": score["mean"],
        "eval_return_std": score["std"],
        "eval_episodes": score["episodes"],
        "eval_unfinished": score["unfinished"],
    }


def evaluate_state(
    prepared: Prepared, policy: PyTree, iteration: int, num_episodes: int, seed: int | None = None
) -> dict[str, Any]:
    """Greedy score of a policy: episodes, mean, std. The key comes from the run's seed and the iteration, or from `seed`."""
    key = jax.random.fold_in(prepared.keys.evaluate, iteration) if seed is None else jax.random.key(seed)
    progress = prepared.plan.progress(iteration)
    params = prepared.env_params, prepared.evaluation.params
    return plain(summarize(prepared.driver.evaluate(key, prepared.config, *params, policy, progress, num_episodes)))


def _has_nan(row: Row) -> bool:
    """True if a metric of an update is missing; means over no episode may be."""
    return bool(row["updates"]) and any(v is None for k, v in row.items() if k not in ("return_mean", "length_mean"))


def _has_nan_leaf(tree: PyTree) -> bool:
    leaves = jax.device_get(jax.tree.leaves(tree))
    return any(np.isnan(leaf).any() for leaf in leaves if np.issubdtype(leaf.dtype, np.floating))


def _recent_score(state: RunState) -> dict[str, Any]:
    """Mean return of the last 100 training episodes."""
    mean, episodes = recent_return(state.recent)
    return plain({"episodes": episodes, "mean": mean})
