"""Training throughput: env steps/s, compile seconds and peak memory, as JSON.

    python benchmarks/throughput.py --out throughput.json

Each case runs in a process of its own, so that compile time is cold and peak memory is its own. The cases `dqn-purejaxrl` and
`ppo-purejaxrl` have PureJaxRL's published hyperparameters: DQN with 10 environments, replay 10,000, batch 128, one update per
10 env steps and a 120-84 network; PPO with 4 environments, 128 steps, 4 epochs of 4 minibatches and 64-64 networks. All env
steps count, of REINFORCE those after an episode's end as well, from which it learns nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tyro
from cases import CASES, Case


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    cases: tuple[str, ...] = tuple(CASES)
    steps: int = 500_000
    repeats: int = 3
    threads: int = 1
    """CPU threads of compiled programs; 0 leaves it to JAX. Small networks are fastest with one."""
    out: Path | None = None
    worker: str | None = None
    """Internal: measure one case in this process."""


def main(options: Options) -> None:
    """Runs every case in a process of its own and prints one JSON object."""
    if options.worker:
        print(json.dumps(measure(CASES[options.worker], options.steps, options.repeats)))
        return
    results = {}
    for case in options.cases:
        if case not in CASES:
            raise SystemExit(f"cases={case!r} is unknown; choose of {', '.join(CASES)}")
        command = [sys.executable, __file__, "--worker", case, "--steps", str(options.steps)]
        environment = dict(os.environ) | ({"NPROC": str(options.threads)} if options.threads else {})
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        done = subprocess.run(
            [*command, "--repeats", str(options.repeats)], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        results[case] = json.loads(done.stdout)
        print(f"{case}: {results[case]['steps_per_second']:,.0f} env steps/s", file=sys.stderr)
    report = {"steps": options.steps, "threads": options.threads, "python": platform.python_version(), "cases": results}
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def measure(case: Case, steps: int, repeats: int = 3) -> dict[str, Any]:
    """Env steps/s of a whole run, warm-up included (median of `repeats`), and what compiling it took."""
    import jax
    import numpy as np

    from jaxrl.agents import load_agent
    from jaxrl.config import as_arrays, check_config
    from jaxrl.drivers.device import make_chunk
    from jaxrl.envs import make
    from jaxrl.loop import build_in, init_state, plan, run_keys
    from jaxrl.types import Env

    make_agent, config_class = load_agent(case.agent)
    config = config_class(**case.fields)
    check_config(config)
    env = make(case.env, config.num_envs)
    assert isinstance(env, Env)
    schedule, arrays = plan(config, env.spec, steps), as_arrays(config)
    init = jax.jit(lambda key: init_state(key, build_in(make_agent, arrays, env), env))
    chunk = jax.jit(make_chunk(make_agent, env), donate_argnums=3)
    keys = [run_keys(jax.random.key(seed)) for seed in range(repeats)]
    counts = [*map(np.int32, schedule.split(0, schedule.num_iterations)), schedule.progress(0)]
    state = init(keys[0].init)
    started = time.perf_counter()
    compiled = chunk.lower(keys[0].train, arrays, env.params, state, *counts).compile()
    compile_seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    rates = []
    for key in keys:
        state = jax.block_until_ready(init(key.init))
        started = time.perf_counter()
        jax.block_until_ready(compiled(key.train, arrays, env.params, state, *counts))
        rates.append(schedule.num_iterations * schedule.steps_per_iteration / (time.perf_counter() - started))
    replay = getattr(jax.eval_shape(init, keys[0].init).agent, "replay", ())
    replay_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(replay))
    return {
        "steps_per_second": round(sorted(rates)[len(rates) // 2], 1),
        "all_steps_per_second": [round(rate, 1) for rate in rates],
        "compile_seconds": round(compile_seconds, 2),
        "peak_resident_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "replay_mb": round(replay_bytes / 1e6, 2),
        "program_mb": round(
            (
                memory.argument_size_in_bytes
                + memory.output_size_in_bytes
                + memory.temp_size_in_bytes
                - memory.alias_size_in_bytes
            )
            / 1e6,
            2,
        ),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
