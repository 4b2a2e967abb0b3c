"""A run and its folder: prepare, train in chunks, log, evaluate, checkpoint, resume.

Everything is checked before anything is written. What a run leaves behind: `config.json` (everything that rebuilds it),
`metrics.jsonl`, `summary.json`, `checkpoints/` and `curve.png`. After SIGKILL at any moment `resume` reaches the same
parameters bit for bit and the same rows but for wall-clock fields.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxrl import checkpoint, parallel, plot, record
from jaxrl.agents import load_agent
from jaxrl.config import Config, as_arrays, check_config, from_json, to_json, unknown
from jaxrl.envs import make
from jaxrl.evaluate import split_episodes, summarize
from jaxrl.host_loop import host_driver
from jaxrl.loop import NUM_RECENT, Driver, Plan, RunKeys, averages, build, device_driver, plan, row_ends, run_keys
from jaxrl.types import Env, Progress, PyTree, RunState, UsageError

PROFILE_ITERATIONS = 100
"""Iterations that `--profile` traces at most."""

REPLAY_LIMIT = 1_000_000_000
"""Bytes of replay above which it is left out of checkpoints unless asked for."""

REPLAY_SHARE = 0.8
"""Share of a memory that a replay may take."""

_PACKAGES = ("jaxrl", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy", "orbax-checkpoint")


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that defines a run.

    Attributes:
      agent: a registered name or `module:function`.
      env: an environment id or `module:function`.
      config: the agent's config.
      env_options: physics and arguments of the environment.
      seed: of everything random.
      total_steps: env steps.
      eval_every: env steps between evaluations while training; 0 evaluates only at the end.
      eval_episodes: episodes of each evaluation.
      num_rows: rows of training metrics over the run.
      track: names of further sinks.
      init_from: folder of a run whose learned state this one starts from.
      checkpoint_seconds: wall-clock seconds between checkpoints; the last state is always kept.
      checkpoint_replay: keep even a replay above `REPLAY_LIMIT` bytes in checkpoints.
      debug: stop at the first NaN and say where it arose.
      devices: devices over which each process divides the environments; 0 for all of them.
    """

    agent: str
    env: str
    config: Config
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    total_steps: int = 500_000
    eval_every: int = 0
    eval_episodes: int = 100
    num_rows: int = 100
    track: tuple[str, ...] = ()
    init_from: str | None = None
    checkpoint_seconds: float = 30.0
    checkpoint_replay: bool = False
    debug: bool = False
    devices: int = 1


class Prepared(NamedTuple):
    """A run that passed every check, with its driver.

    Attributes:
      agent_shapes: the agent's state as `jax.ShapeDtypeStruct`s.
      protocol: how the policy is scored, for the summary.
    """

    run: Run
    driver: Driver
    plan: Plan
    config: Config
    env_params: PyTree
    keys: RunKeys
    agent_shapes: PyTree
    protocol: dict[str, Any]


# --- before anything is written -------------------------------------------------------------------------------------


def prepare(run: Run, divided: bool = False) -> Prepared:
    """Checks a run and builds what it needs.

    Args:
      divided: use all of the run's devices, and all processes; otherwise one device serves.

    Raises:
      UsageError: one line for whatever does not fit.
    """
    _check_run(run)
    check_config(run.config)
    parallel.check_division(run.devices, run.config.num_envs)
    make_agent, _ = load_agent(run.agent)
    mesh = parallel.make_mesh(run.devices, run.config.num_envs) if divided else None
    env = make(run.env, run.config.num_envs, **run.env_options)
    _check_mesh(run, mesh, env)
    schedule = plan(run.config, env.spec, run.total_steps)
    config = as_arrays(run.config)

    def make_eval_env(num_envs: int) -> Any:
        return make(run.env, num_envs, **run.env_options)

    model = env.model if isinstance(env, Env) else None
    keys = run_keys(jax.random.key(run.seed))
    agent = build(make_agent, config, env.spec, env.num_envs, model)
    agent_shapes = jax.eval_shape(agent.init, keys.init)
    if isinstance(env, Env):
        _check_memory(agent_shapes)
        driver = device_driver(make_agent, env, make_eval_env, run.debug, mesh)
    else:
        elsewhere = _replay_device(agent_shapes) if agent.replay is not None else None
        _check_memory(_without_replay(agent_shapes) if elsewhere else agent_shapes)
        driver = host_driver(make_agent, env, make_eval_env, run.debug, elsewhere)
    params = env.params if isinstance(env, Env) else ()
    return Prepared(run, driver, schedule, config, params, keys, agent_shapes, _protocol(run, env))


def _protocol(run: Run, env: Any) -> dict[str, Any]:
    """How the final policy is scored; the settings are those that the environment says it was made with."""
    return {
        "policy": "greedy, with the final parameters",
        "return": "of whole episodes (games, where a lost life ends an episode), rewards neither clipped nor scaled",
        "episodes_per_environment": split_episodes(run.eval_episodes)[1],
        "env_options": run.env_options,
        "env_settings": getattr(env, "settings", {}),
    }


def _check_mesh(run: Run, mesh: Mesh | None, env: Any) -> None:
    if mesh is None:
        return
    if not isinstance(env, Env):
        env.close()
        raise UsageError(
            f"env={run.env} runs on the host and cannot be divided over {mesh.size} devices; "
            "leave --devices and --coordinator away, or choose an environment of the compiled program"
        )
    if run.debug:
        raise UsageError(f"debug=True looks for the first NaN on one device, not on {mesh.size}; leave one of the two away")


def _check_run(run: Run) -> None:
    lowest = {"seed": 0, "eval_every": 0, "eval_episodes": 1, "num_rows": 1, "total_steps": 1, "devices": 0}
    for name, low in lowest.items():
        value = getattr(run, name)
        if value < low:
            raise UsageError(f"{name}={value} is out of range; give at least {low}")
    if run.seed >= 2**32:
        raise UsageError(f"seed={run.seed} is out of range; give a value below 2^32")
    if not run.checkpoint_seconds >= 0:
        raise UsageError(f"checkpoint_seconds={run.checkpoint_seconds} is out of range; give at least 0")
    record.check_sinks(run.track)


def _memory_limits() -> tuple[int, int]:
    """Bytes of the device's memory and of the host's."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit") or host, host


def _replay_device(agent_shapes: PyTree) -> jax.Device | None:
    """A CPU for a replay that does not fit beside the rest on the accelerator, but does into the host's memory."""
    device, host = _memory_limits()
    if jax.default_backend() == "cpu" or not device * REPLAY_SHARE < _replay_bytes(agent_shapes) < host * REPLAY_SHARE:
        return None
    return jax.local_devices(backend="cpu")[0]


def _check_memory(agent_shapes: PyTree) -> None:
    """An agent's state (its replay above all) that exceeds the device's memory would hang or kill the process."""
    needed, limit = _num_bytes(agent_shapes), _memory_limits()[0]
    if needed > limit:
        raise UsageError(
            f"the agent's state takes {needed / 1e9:.1f} GB and the device has {limit / 1e9:.1f} GB; "
            "lower capacity or the sizes of its networks"
        )


def claim_folder(folder: Path) -> None:
    """Makes an empty folder for a run.

    Raises:
      UsageError: it already holds a run or other files, or cannot be written.
    """
    if (folder / "config.json").exists():
        raise UsageError(f"out={folder} already holds a run; give another folder, or go on with: jaxrl resume {folder}")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"out={folder} is not empty; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"out={folder} cannot be written ({error.strerror}); give another folder") from None


def config_values(run: Run) -> dict[str, Any]:
    """What `config.json` holds."""
    values = {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name != "config"}
    values["track"] = list(run.track)
    values["init_from"] = str(Path(run.init_from).absolute()) if run.init_from else None
    return values | {"config": to_json(run.config), "versions": versions(), "device": jax.local_devices()[0].device_kind}


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_run(folder: Path) -> Run:
    """The run that a folder's `config.json` describes.

    Raises:
      UsageError: no run there, or one of another version of jaxrl.
    """
    try:
        values = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no run (no config.json); give a folder that `jaxrl train` wrote") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / 'config.json'} cannot be read ({error}); give the folder of another run") from None
    if not isinstance(values, dict):
        raise UsageError(f"{folder / 'config.json'} is not the config of a run; give the folder of another run")
    known = {f.name for f in dataclasses.fields(Run)}
    given = {name: value for name, value in values.items() if name not in ("versions", "device")}
    for name in given:
        if name not in known:
            raise UsageError(unknown("field of config.json", name, known))
    _check_stored(folder, given)
    _, config_class = load_agent(given["agent"])
    given["config"] = from_json(config_class, given["config"])
    return Run(**(given | {"track": tuple(given.get("track", ()))}))


def _check_stored(folder: Path, given: dict[str, Any]) -> None:
    """Checks that the fields of a `config.json` are there and of the type that `config_values` writes."""
    kinds: dict[str, Any] = {"agent": str, "env": str, "config": dict, "env_options": dict, "track": list}
    kinds |= dict.fromkeys(("seed", "total_steps", "eval_every", "eval_episodes", "num_rows", "devices"), int)
    kinds |= {"init_from": (str, type(None)), "checkpoint_seconds": (int, float), "checkpoint_replay": bool, "debug": bool}
    for name in ("agent", "env", "config"):
        if name not in given:
            raise UsageError(f"{folder / 'config.json'} has no field {name!r}; give the folder of another run")
    for name, value in given.items():
        if not isinstance(value, kinds[name]):
            raise UsageError(f"{folder / 'config.json'}: {name}={value!r} has the wrong type; give the folder of another run")


# --- training -------------------------------------------------------------------------------------------------------


def start(run: Run, folder: Path, profile: bool = False) -> dict[str, Any]:
    """Trains a new run in `folder` and returns its summary.

    Args:
      profile: leave a trace of some iterations in the middle of the run in `profile/`.

    Raises:
      UsageError: bad input; nothing was written.
    """
    prepared = prepare(run, divided=True)
    initial = load_state(Path(run.init_from), prepared) if run.init_from else None

    def claim() -> None:
        claim_folder(folder)
        record.write_json(folder / "config.json", config_values(run))

    parallel.in_writer(claim)
    return _begin(prepared, folder, initial, profile)


def _begin(prepared: Prepared, folder: Path, learned: PyTree | None, profile: bool = False) -> dict[str, Any]:
    state = prepared.driver.init(prepared.keys.init, prepared.config, prepared.env_params)
    if learned is not None:
        state = prepared.driver.place(state._replace(agent=_with_replay(learned, state.agent)))
    return _train(prepared, folder, state, _Clock(0.0, 0.0), profile)


def _say(message: str) -> None:
    """A line to the user, once, however many processes a run has."""
    if parallel.is_writer():
        record.say(message)


def resume(folder: Path) -> dict[str, Any]:
    """Goes on with a run that was interrupted, from its last whole checkpoint, or from the start if it has none.

    Raises:
      UsageError: no run there.
    """
    run = _on_devices_here(read_run(folder))
    if (folder / "summary.json").exists():
        _say(f"{folder} is complete; nothing to do")
        return json.loads((folder / "summary.json").read_text())
    prepared = prepare(run, divided=True)
    restored = restore(prepared, folder, _say)
    if restored is None:
        _say("no whole checkpoint yet: starting again from config.json")
        parallel.in_writer(lambda: (folder / "metrics.jsonl").unlink(missing_ok=True))
        return _begin(prepared, folder, load_state(Path(run.init_from), prepared) if run.init_from else None)
    state, meta = restored
    _say(f"resuming at {_env_steps(prepared, state):,} env steps")
    parallel.in_writer(lambda: record.cut_rows(folder / "metrics.jsonl", meta["metrics_bytes"]))
    if not prepared.driver.keeps_episodes:
        _say("host environments cannot be saved: the agent is restored exactly, its episodes begin anew")
        key = jax.random.fold_in(prepared.keys.init, state.iteration)
        state = prepared.driver.restart(key, prepared.config, state)
    if not meta["has_replay"]:
        state = _refill(prepared, state, _say)
    return _train(prepared, folder, state, _Clock(meta["wall_seconds"], meta["compile_seconds"]))


def _on_devices_here(run: Run) -> Run:
    """The run on as many of its devices as there are; the results are then the same up to rounding."""
    present = jax.local_device_count()
    if run.devices <= present:
        return run
    devices = parallel.fitting(present, run.config.num_envs)
    _say(f"this run had {run.devices} devices and goes on with {devices}: the same up to rounding, not bit for bit")
    return dataclasses.replace(run, devices=devices)


def adopt(run: Run, folder: Path, state: RunState, rows: list[record.Row]) -> None:
    """Makes a new folder of a run that was trained elsewhere, as of an interrupted run: `resume` goes on with it.

    Args:
      rows: of `metrics.jsonl`.

    Raises:
      UsageError: bad input; nothing was written.
    """
    prepared = prepare(run)
    claim_folder(folder)
    record.write_json(folder / "config.json", config_values(run))
    record.append_rows(folder / "metrics.jsonl", rows)
    _save(prepared, folder, state, _Clock(0.0, 0.0))
    prepared.driver.close()


class _Clock(NamedTuple):
    """Seconds that earlier processes of this run took, up to the checkpoint."""

    wall: float
    compile: float


def _train(prepared: Prepared, folder: Path, state: RunState, before: _Clock, profile: bool = False) -> dict[str, Any]:
    run, driver, schedule = prepared.run, prepared.driver, prepared.plan
    writes, metrics = parallel.is_writer(), folder / "metrics.jsonl"
    sinks = [record.open_sink(name, folder, config_values(run)) for name in run.track] if writes else []
    begun = time.perf_counter()
    state, _ = jax.block_until_ready(_advance(prepared, state, int(state.iteration)))
    compiled = time.perf_counter()
    clock = _Clock(before.wall, before.compile + compiled - begun)

    def elapsed() -> float:
        return before.wall + time.perf_counter() - begun

    def write(row: record.Row) -> None:
        if writes:
            record.append_row(metrics, row)
        for sink in sinks:
            sink.write(row)

    first = int(state.iteration)
    bar = record.Bar(lambda env_steps, score: None, lambda: None)
    if writes:
        total = schedule.num_iterations * schedule.steps_per_iteration
        bar = record.open_bar(total, _env_steps(prepared, state), record.console())
    profiled = _profiled_end(run, schedule, first) if profile else None
    last_checkpoint = time.perf_counter()
    warned = False
    try:
        for end in _boundaries(run, schedule):
            if end <= first:
                continue
            state, row = _advance_row(prepared, state, end, folder / "profile" if end == profiled else None)
            write(row | {"wall_seconds": round(elapsed(), 3)})
            if not warned and _has_nan(row):
                _say(f"metrics became NaN before {row['env_steps']:,} env steps; --debug finds where")
                warned = True
            if _is_eval(run, schedule, end):
                write(_eval_row(prepared, state) | {"wall_seconds": round(elapsed(), 3)})
            bar.advance(row["env_steps"], row["return_mean"])
            is_last = end == schedule.num_iterations
            if parallel.agreed(is_last or time.perf_counter() - last_checkpoint >= run.checkpoint_seconds):
                _save(prepared, folder, state, clock._replace(wall=elapsed()))
                last_checkpoint = time.perf_counter()
    finally:
        bar.close()
    trained = time.perf_counter()
    final = _eval_row(prepared, state)
    write(final | {"wall_seconds": round(elapsed(), 3)})
    done = (int(state.iteration) - first) * schedule.steps_per_iteration
    rate = round(done / (trained - compiled), 1) if done else None
    summary = _summary(prepared, state, final, clock._replace(wall=elapsed()), rate)
    for sink in sinks:
        sink.close()
    driver.close()
    if writes:
        plot.plot_runs([folder], folder / "curve.png")
        # Last, because it marks the run as complete.
        record.write_json(folder / "summary.json", record.plain(summary))
    return summary


def _summary(prepared: Prepared, state: RunState, final: record.Row, clock: _Clock, rate: float | None) -> dict[str, Any]:
    """What `summary.json` holds; `final` is the row of the last evaluation, `rate` the env steps/s of training."""
    run = prepared.run
    return {
        "agent": run.agent,
        "env": run.env,
        "seed": run.seed,
        "status": "nan" if _has_nan_leaf(state.agent.policy) else "ok",
        "env_steps": _env_steps(prepared, state),
        "wall_seconds": round(clock.wall, 3),
        "compile_seconds": round(clock.compile, 3),
        "steps_per_second": rate,
        "evaluation": {"episodes": final["eval_episodes"], "mean": final["eval_return"], "std": final["eval_return_std"]},
        "training_return": _recent_score(state),
        "protocol": prepared.protocol,
    }


def _boundaries(run: Run, schedule: Plan) -> list[int]:
    """Iterations after which a row is written: `num_rows` even stretches and every evaluation."""
    return sorted({*row_ends(schedule.num_iterations, run.num_rows), *_eval_iterations(run, schedule)})


def _eval_iterations(run: Run, schedule: Plan) -> range:
    if not run.eval_every:
        return range(0)
    every = max(-(-run.eval_every // schedule.steps_per_iteration), 1)
    return range(every, schedule.num_iterations, every)


def _is_eval(run: Run, schedule: Plan, iteration: int) -> bool:
    return iteration in _eval_iterations(run, schedule)


def _advance(prepared: Prepared, state: RunState, end: int) -> tuple[RunState, dict[str, Any]]:
    """Runs up to iteration `end`; warm-up and learning are counted here, so that no step has to ask."""
    begin, schedule = int(state.iteration), prepared.plan
    num_warmup = max(min(end, schedule.num_warmup) - begin, 0)
    return prepared.driver.advance(
        prepared.keys.train,
        prepared.config,
        prepared.env_params,
        state,
        np.int32(num_warmup),
        np.int32(end - begin - num_warmup),
        np.int32(schedule.num_iterations),
    )


def _profiled_end(run: Run, schedule: Plan, first: int) -> int | None:
    """The end of the chunk in the middle of those that learn, for `--profile`."""
    ends = [end for end in _boundaries(run, schedule) if end > max(first, schedule.num_warmup)]
    return ends[len(ends) // 2] if ends else None


def _advance_profiled(prepared: Prepared, state: RunState, end: int, folder: Path) -> tuple[RunState, dict[str, Any]]:
    """As `_advance`, with a trace of its last `PROFILE_ITERATIONS`: a trace of many more would not fit into memory."""
    begin = max(int(state.iteration), end - PROFILE_ITERATIONS)
    state, sums = jax.block_until_ready(_advance(prepared, state, begin))
    context = jax.profiler.trace(str(folder)) if parallel.is_writer() else contextlib.nullcontext()
    with context:
        state, traced = jax.block_until_ready(_advance(prepared, state, end))
    _say(
        f"profile of {end - begin} iterations in {folder}; look at it with: xprof --logdir {folder} (pip install xprof), "
        "TensorBoard with its profile plugin, or open its *.trace.json.gz in https://ui.perfetto.dev"
    )
    return state, {name: sums.get(name, 0) + value for name, value in traced.items()}


def _advance_row(prepared: Prepared, state: RunState, end: int, profile: Path | None) -> tuple[RunState, record.Row]:
    begin, started = int(state.iteration), time.perf_counter()
    if profile is None:
        state, sums = jax.block_until_ready(_advance(prepared, state, end))
    else:
        state, sums = jax.block_until_ready(_advance_profiled(prepared, state, end, profile))
    seconds = time.perf_counter() - started
    with np.errstate(divide="ignore", invalid="ignore"):
        means = averages(jax.device_get(sums))
    if not means["updates"]:
        means = {name: means[name] for name in ("updates", "episodes", "return_mean", "length_mean")}
    rate = (end - begin) * prepared.plan.steps_per_iteration / seconds
    row = {"kind": "train", "env_steps": _env_steps(prepared, state)} | record.plain(means)
    return state, row | {"steps_per_second": round(rate, 1)}


def _eval_row(prepared: Prepared, state: RunState) -> record.Row:
    score = evaluate_state(prepared, state.agent.policy, int(state.iteration), prepared.run.eval_episodes)
    return {
        "kind": "eval",
        "env_steps": _env_steps(prepared, state),
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
    progress = Progress(jnp.int32(iteration), jnp.int32(prepared.plan.num_iterations))
    returns = prepared.driver.evaluate(key, prepared.config, prepared.env_params, policy, progress, num_episodes)
    return record.plain(summarize(np.asarray(returns)))


def _env_steps(prepared: Prepared, state: RunState) -> int:
    return int(state.iteration) * prepared.plan.steps_per_iteration


def _has_nan(row: record.Row) -> bool:
    """True if a metric of an update is missing; means over no episode may be."""
    return bool(row["updates"]) and any(v is None for k, v in row.items() if k not in ("return_mean", "length_mean"))


def _has_nan_leaf(tree: PyTree) -> bool:
    leaves = jax.device_get(jax.tree.leaves(tree))
    return any(np.isnan(leaf).any() for leaf in leaves if np.issubdtype(leaf.dtype, np.floating))


def _recent_score(state: RunState) -> dict[str, Any]:
    """Mean return of the last 100 training episodes."""
    episodes = min(int(state.recent.total), NUM_RECENT)
    returns = np.asarray(state.recent.returns)[:episodes]
    return {"episodes": episodes, "mean": float(returns.mean()) if episodes else None}


# --- checkpoints ----------------------------------------------------------------------------------------------------


def _save(prepared: Prepared, folder: Path, state: RunState, clock: _Clock) -> None:
    saved = prepared.driver.saved(state)
    has_replay = prepared.run.checkpoint_replay or _replay_bytes(state.agent) <= REPLAY_LIMIT
    if not has_replay:
        saved = saved._replace(agent=saved.agent._replace(replay=()))
    iteration, saved = int(state.iteration), prepared.driver.gather(saved)
    if not parallel.is_writer():
        return
    metrics_file = folder / "metrics.jsonl"
    meta = {
        "metrics_bytes": os.path.getsize(metrics_file),
        "has_replay": has_replay,
        "wall_seconds": clock.wall,
        "compile_seconds": clock.compile,
    }
    checkpoint.save(folder / "checkpoints", iteration, saved, meta)


def _replay_bytes(agent_state: PyTree) -> int:
    return _num_bytes(getattr(agent_state, "replay", ()))


def _num_bytes(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _with_replay(agent_state: PyTree, fresh: PyTree) -> PyTree:
    """`agent_state` with the replay of `fresh` in place of one that was left out."""
    return agent_state._replace(replay=fresh.replay) if hasattr(fresh, "replay") else agent_state


def restore(prepared: Prepared, folder: Path, warn: Callable[[str], None]) -> tuple[RunState, dict[str, Any]] | None:
    """The last whole checkpoint as a full state: what it does not hold is as in a new run."""
    fresh = prepared.driver.init(prepared.keys.init, prepared.config, prepared.env_params)

    def target(meta: dict[str, Any]) -> RunState:
        saved = prepared.driver.saved(fresh)
        return saved if meta["has_replay"] else saved._replace(agent=saved.agent._replace(replay=()))

    restored = checkpoint.restore(folder / "checkpoints", target, warn)
    if restored is None:
        return None
    state = restored.state
    if not restored.meta["has_replay"]:
        state = state._replace(agent=_with_replay(state.agent, fresh.agent))
    if not prepared.driver.keeps_episodes:
        state = state._replace(obs=fresh.obs, memory=fresh.memory)
    return prepared.driver.place(state), restored.meta


def _refill(prepared: Prepared, state: RunState, say: Callable[[str], None]) -> RunState:
    """Acts without learning until a replay that was left out holds a warm-up's worth again."""
    count = max(prepared.plan.num_warmup, 1)
    say(f"the replay was left out of the checkpoint: refilling it with {count * prepared.plan.steps_per_iteration:,} env steps")
    iteration, recent = jnp.copy(state.iteration), jax.tree.map(jnp.copy, state.recent)
    key = jax.random.fold_in(prepared.keys.init, int(iteration))
    total = np.int32(prepared.plan.num_iterations)
    state, _ = prepared.driver.advance(key, prepared.config, prepared.env_params, state, np.int32(count), np.int32(0), total)
    return state._replace(iteration=iteration, recent=recent)


def load_state(folder: Path, prepared: Prepared) -> PyTree:
    """The learned state (all but the replay) of a finished or interrupted run, for `init_from`.

    Raises:
      UsageError: no run or no checkpoint there, or one whose arrays do not fit.
    """
    other = prepare(read_run(folder))
    restored = restore(other, folder, _say)
    other.driver.close()
    if restored is None:
        raise UsageError(f"init_from={folder} has no whole checkpoint yet; give another run")
    learned = _without_replay(restored[0].agent)
    if jax.tree.map(jnp.shape, learned) != jax.tree.map(jnp.shape, _without_replay(prepared.agent_shapes)):
        raise UsageError(f"init_from={folder}: its networks do not fit this agent and environment; give the same sizes")
    return learned


def _without_replay(agent_state: PyTree) -> PyTree:
    return agent_state._replace(replay=()) if hasattr(agent_state, "replay") else agent_state
