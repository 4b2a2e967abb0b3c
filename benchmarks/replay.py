"""Microseconds of one addition, one minibatch and one update of priorities, by how transitions are drawn, as JSON.

    python benchmarks/replay.py --out replay.json

`uniform` is `jaxrl.replay.experience` without priorities, `prioritized` with them, on CartPole's transitions; `tree` is
`jaxrl.replay.prioritized` alone, by the number of children of a node. Each figure is the least of `repeats` runs of many
iterations in one compiled loop.
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

    capacity: tuple[int, ...] = (1_000_000, 50_000)
    num_envs: int = 8
    batch_size: int = 32
    widths: tuple[int, ...] = (2, 16, 32, 128)
    """Children of a node."""
    repeats: int = 20
    iterations: int = 200
    threads: int = 1
    """CPU threads of compiled programs; 0 leaves it to JAX."""
    out: Path | None = None


def main(options: Options) -> None:
    """Measures every case and prints one JSON object."""
    if options.threads:
        os.environ["NPROC"] = str(options.threads)
    import jax

    from jaxrl.replay import prioritized

    cases = []
    for capacity in options.capacity:
        for name, exponent in (("uniform", None), ("prioritized", 0.6)):
            cases.append({"capacity": capacity, "replay": name} | measured(*whole(options, capacity, exponent), options))
            print(json.dumps(cases[-1]), file=sys.stderr)
        for width in options.widths:
            prioritized.WIDTH = width
            cases.append({"capacity": capacity, "tree": width} | measured(*tree(options, capacity), options))
            print(json.dumps(cases[-1]), file=sys.stderr)
        prioritized.WIDTH = 32
    report = {
        "unit": "microseconds an iteration",
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


def whole(options: Options, capacity: int, exponent: float | None) -> tuple[Any, Callable[..., Any]]:
    """(a full ring, (key, ring) -> ring) of one iteration."""
    import jax
    import jax.numpy as jnp

    from jaxrl.replay.experience import make_experience
    from jaxrl.types import ArraySpec, Discrete, Rollout

    shape = (1, options.num_envs)
    obs, flag = jnp.ones((*shape, 4)), jnp.zeros(shape, bool)
    step = Rollout(obs, jnp.zeros(shape, jnp.int32), jnp.ones(shape), flag, flag, obs, (), {})
    replay = make_experience(ArraySpec((4,), "float32"), Discrete(2), options.num_envs, capacity, 1, 0.99, exponent=exponent)

    def iterate(key: Any, ring: Any) -> Any:
        ring = replay.store(ring, step)
        drawn = replay.sample(key, ring, (1, options.batch_size))
        return replay.feed(ring, drawn, jnp.sum(drawn.transitions.obs, axis=-1) + drawn.place)

    large = capacity // options.num_envs
    rollout = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (large, *leaf.shape[1:])), step)
    return jax.jit(lambda: replay.store(replay.init(), rollout))(), iterate


def tree(options: Options, capacity: int) -> tuple[Any, Callable[..., Any]]:
    """(priorities, (key, priorities) -> priorities) of one iteration."""
    import jax
    import jax.numpy as jnp

    from jaxrl.replay import prioritized

    everything = jnp.arange(capacity)

    def iterate(key: Any, held: Any) -> Any:
        first = jax.random.bits(key, (), jnp.uint32) % (capacity - options.num_envs)
        place = first.astype(jnp.int32) + jnp.arange(options.num_envs)
        held = prioritized.put_new(held, place, jnp.ones(place.shape, bool), 0.6)
        drawn, probability = prioritized.sample(key, held, (1, options.batch_size))
        return prioritized.feed(held, drawn, probability * capacity, 0.6)

    return jax.jit(lambda: prioritized.put(prioritized.init(capacity), everything, jnp.ones(capacity)))(), iterate


def measured(state: Any, iterate: Callable[..., Any], options: Options) -> dict[str, float]:
    """Microseconds an iteration, wall clock and of this process's CPU, and seconds of CPU to compile."""
    import jax

    def run(state: Any, key: Any) -> Any:
        return jax.lax.fori_loop(0, options.iterations, lambda i, state: iterate(jax.random.fold_in(key, i), state), state)

    start = time.process_time()
    compiled = jax.jit(run, donate_argnums=0).lower(state, jax.random.key(0)).compile()
    compile_seconds, least = time.process_time() - start, [float("inf")] * 2
    for index in range(options.repeats):
        start_wall, start = time.perf_counter(), time.process_time()
        state = jax.block_until_ready(compiled(state, jax.random.key(index)))
        spent = time.perf_counter() - start_wall, time.process_time() - start
        least = [min(pair) for pair in zip(least, spent, strict=True)]
    wall, cpu = (round(1e6 * seconds / options.iterations, 1) for seconds in least)
    return {"wall": wall, "cpu": cpu, "compile_seconds": round(compile_seconds, 2)}


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
