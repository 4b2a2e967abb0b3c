"""Microseconds of a step of B environments by how many episodes end in it, with two ways to reset, as JSON.

    python benchmarks/resets.py --out resets.json

`groups` is `batch_env`: only what ended is reset. `all` is the plain way: where any episode ended, all B are drawn and
selected from, which under `vmap` happens in every step. `cartpole` has a cheap reset; that of `dear`, 100 small matrix
products, costs far more than its step. Each figure is the least of `repeats` runs of many steps in one compiled loop.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    num_envs: tuple[int, ...] = (8, 2048)
    rows: tuple[int, ...] = (1, 16)
    """Vmapped copies; 1 is without vmap."""
    repeats: int = 5
    seconds: float = 0.2
    """Of one run, about."""
    threads: int = 1
    """CPU threads of compiled programs; 0 leaves it to JAX."""
    out: Path | None = None


def main(options: Options) -> None:
    """Measures every case and prints one JSON object."""
    if options.threads:
        os.environ["NPROC"] = str(options.threads)
    import jax

    cases = []
    for name in ("cartpole", "dear"):
        for num_envs in options.num_envs:
            ways = {"all": reset_all(*single(name), num_envs), "groups": batched(*single(name), num_envs)}
            for rows in options.rows:
                for ending in (0, 1, max(2, num_envs // 20), num_envs):
                    figures = microseconds(ways, num_envs, rows, ending, options)
                    cases.append({"env": name, "num_envs": num_envs, "rows": rows, "ending": ending} | figures)
                    print(json.dumps(cases[-1]), file=sys.stderr)
    report = {
        "unit": "microseconds a step of all rows",
        "threads": options.threads,
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "cases": cases,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def single(name: str) -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    """(params, reset, step) of one environment, whose episode ends where the action is 1."""
    import gymnax
    import jax
    import jax.numpy as jnp

    from jaxrl.envs.tools.batch import Transition

    if name == "cartpole":
        env, params = gymnax.make("CartPole-v1")

        def reset(key: Any, params: Any) -> Any:
            return env.reset_env(key, params)[::-1]

        def step(key: Any, params: Any, state: Any, action: Any) -> Transition:
            obs, state, reward, *_ = env.step_env(key, state, action, params)
            return Transition(state, obs, reward, action == 1)

        return params, reset, step

    def dear_reset(key: Any, params: Any) -> Any:
        start = jax.lax.fori_loop(0, 100, lambda _, x: jnp.tanh(params @ x), jax.random.normal(key, (16,)))
        return start, start

    def dear_step(key: Any, params: Any, state: Any, action: Any) -> Transition:
        return Transition(0.9 * state, 0.9 * state, 1.0, action == 1)

    return jax.random.normal(jax.random.key(0), (16, 16)) / 4.0, dear_reset, dear_step


def batched(params: Any, reset: Callable[..., Any], step: Callable[..., Any], num_envs: int) -> Any:
    """`batch_env` itself."""
    import jax

    from jaxrl.envs.tools.batch import batch_env
    from jaxrl.types import Discrete, Spec, tree_spec

    spec = Spec(tree_spec(jax.eval_shape(reset, jax.random.key(0), params)[1]), Discrete(2))
    return batch_env(spec, params, reset, step, num_envs)


def reset_all(params: Any, reset: Callable[..., Any], step: Callable[..., Any], num_envs: int) -> Any:
    """The same environments, in which all are drawn where one ended."""
    import jax
    import jax.numpy as jnp

    from jaxrl.envs.tools.batch import BatchState, Transition, strong
    from jaxrl.types import TimeStep, where_ended

    def step_batch(key: Any, params: Any, state: BatchState, action: Any) -> tuple[BatchState, TimeStep]:
        keys = jax.random.split(key, 2 * num_envs)[:num_envs]
        moved = Transition(*strong(tuple(jax.vmap(step, in_axes=(0, None, 0, 0))(keys, params, state.inner, action))))
        reward, ended = jnp.asarray(moved.reward, jnp.float32), moved.terminated
        total, length = state.episode_return + reward, state.episode_length + 1

        def restart(_: None) -> Any:
            keys = jax.random.split(key, 2 * num_envs)[num_envs:]
            fresh = strong(jax.vmap(reset, in_axes=(0, None))(keys, params))
            return where_ended(ended, fresh, (moved.state, moved.obs))

        inner, obs = jax.lax.cond(jnp.any(ended), restart, lambda _: (moved.state, moved.obs), None)
        timestep = TimeStep(
            obs, reward, ended, moved.truncated & ~ended, moved.obs, {"episode_return": total, "episode_length": length}
        )
        return BatchState(inner, jnp.where(ended, 0.0, total), jnp.where(ended, 0, length)), timestep

    return batched(params, reset, step, num_envs)._replace(step=step_batch)


def microseconds(ways: dict[str, Any], num_envs: int, rows: int, ending: int, options: Options) -> dict[str, float]:
    """Of each way, the time of a step in which `ending` of the environments end, in every row others."""
    import numpy as np

    shifts = np.arange(rows)[:, None] * 3
    action = np.zeros((rows, num_envs), np.int32)
    if ending:
        np.put_along_axis(action, (np.linspace(0, num_envs, ending, endpoint=False).astype(int) + shifts) % num_envs, 1, 1)
    runs = {name: prepared(env, action, options.seconds) for name, env in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, run in runs.items():
            times[name].append(run())
    return {name: round(1e6 * min(values), 2) for name, values in times.items()}


def prepared(env: Any, action: Any, seconds: float) -> Callable[[], float]:
    """A function that steps for about so many seconds and returns the seconds of one step."""
    import jax

    def steps(key: Any, action: Any, count: Any) -> Any:
        def step(i: Any, carry: Any) -> Any:
            state, timestep = env.step(jax.random.fold_in(key, i), env.params, carry[0], action)
            return state, timestep

        first = env.reset(key, env.params)[0]
        return jax.lax.fori_loop(0, count, step, env.step(key, env.params, first, action))

    rows = len(action)
    keys = jax.random.split(jax.random.key(0), rows)
    compiled = jax.jit(jax.vmap(steps, (0, 0, None)) if rows > 1 else steps)
    args = (keys, action) if rows > 1 else (keys[0], action[0])

    def timed(count: int) -> float:
        started = time.perf_counter()
        jax.block_until_ready(compiled(*args, count))
        return (time.perf_counter() - started) / count

    timed(1)
    count = max(3, int(seconds / timed(20)))
    return lambda: timed(count)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
