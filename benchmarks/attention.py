"""The attention model's training: images/s, the share of the machine's matrix-product rate, where the time goes, and memory.

    python benchmarks/attention.py --out attention.json

Each case runs in a process of its own with one CPU thread, then with two. The rate it is held to is that of the model's own
largest product, in the same shapes and the same process. The arithmetic of an iteration of B pictures and T glimpses is that
of its matrix products, 2 m k n each:

    acting     T times B rows: patches P -> U, location 2 -> U, what and where U -> F, seen F -> H, before H -> H,
               hidden H -> L, mean L -> 2, classes H -> A
    forward    the glimpse network's on T B rows at once, the core's T times on B, hidden, mean and baseline on T B,
               classes on B
    backward   the gradient of every weight, which is as much as forward; and of every input, which is as much less that of
               patches and location, which are data, and of the baseline, whose gradient ends there

with U = glimpse_units, F = 2 U, H = units, L = location_units, P numbers in the patches and A classes. Drawing pictures, the
retina, rectifiers and the optimizer count nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import tyro

GLIMPSES = (2, 4, 6, 8, 12, 16)
BATCHES = (32, 128, 512)


class Case(NamedTuple):
    """An environment and its options."""

    env: str
    options: dict[str, int]


CASES = {
    "28x28, 6 glimpses of 8x8": Case("glimpse/digits", {"num_glimpses": 6, "size": 8}),
    "60x60 translated, 8 glimpses of 12x12 at 3 scales": Case(
        "glimpse/mnist-translated", {"num_glimpses": 8, "size": 12, "num_scales": 3}
    ),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure, and where the figures go."""

    out: Path | None = None
    threads: tuple[int, ...] = (1, 2)
    """CPU threads of compiled programs."""
    num_envs: int = 128
    """Pictures of one step of learning (B)."""
    loops: int = 200
    """Iterations in one timed loop, of which the best of five counts."""
    memory: bool = True
    """Whether to compile for other numbers of glimpses and pictures, to see what memory they need."""
    worker: str | None = None
    """Internal: measure one case in this process."""


def main(options: Options) -> None:
    """Measures every case in a process of its own and prints one JSON object."""
    if options.worker:
        print(json.dumps(measure(CASES[options.worker], options)))
        return
    report: dict[str, Any] = {}
    for name, case in CASES.items():
        if not _is_there(case):
            print(f"{name}: left out, MNIST is not there", file=sys.stderr)
            continue
        report[name] = {}
        for threads in options.threads:
            command = [sys.executable, __file__, "--worker", name, "--num-envs", str(options.num_envs)]
            command += ["--loops", str(options.loops)]
            command.append("--memory" if options.memory and threads == options.threads[0] else "--no-memory")
            environment = dict(os.environ) | {"NPROC": str(threads), "JAX_ENABLE_COMPILATION_CACHE": "false"}
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            found = report[name][f"{threads} thread" + "s" * (threads > 1)] = json.loads(done.stdout)
            print(
                f"{name}, {threads} threads: {found['images_per_second']:,} images/s, {found['share_of_largest_product']:.0%}",
                file=sys.stderr,
            )
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def _is_there(case: Case) -> bool:
    """Whether an environment's pictures can be had."""
    from jaxrl.envs import make
    from jaxrl.errors import UsageError

    try:
        make(case.env, 1, **case.options)
    except UsageError:
        return False
    return True


# --- arithmetic -----------------------------------------------------------------------------------------------------


class Product(NamedTuple):
    """`times` products [m, k] @ [k, n]."""

    m: int
    k: int
    n: int
    times: int = 1

    @property
    def flops(self) -> int:
        return 2 * self.m * self.k * self.n * self.times


def products(config: Any, spec: Any) -> dict[str, dict[str, Product]]:
    """part -> layer -> product, as in the module's formula."""
    patches, location = (leaf.shape for leaf in spec.obs.leaves)
    seen, units, num, length = patches[0] * patches[1] * patches[2], config.glimpse_units, config.num_envs, spec.time_limit
    glimpse = {"patches": (seen, units), "location": (location[0], units)}
    glimpse |= dict.fromkeys(("what", "where"), (units, 2 * units))
    core = {"seen": (2 * units, config.units), "before": (config.units, config.units)}
    hidden = config.location_units
    heads = {"hidden": (config.units, hidden), "mean": (hidden, 2), "baseline": (config.units, 1)}
    heads |= {"classes": (config.units, spec.action.label.n)}
    rows = num * length
    forward = {name: Product(rows, *size) for name, size in glimpse.items()}
    forward |= {name: Product(num, *size, length) for name, size in core.items()}
    forward |= {name: Product(num if name == "classes" else rows, *size) for name, size in heads.items()}
    acting = {name: Product(num, *size, length) for name, size in (glimpse | core | heads).items() if name != "baseline"}
    ends = ("patches", "location", "baseline")
    backward = {name: p._replace(times=p.times * (1 if name in ends else 2)) for name, p in forward.items()}
    return {"act": acting, "forward": forward, "backward": backward}


# --- one case -------------------------------------------------------------------------------------------------------


def measure(case: Case, options: Options) -> dict[str, Any]:
    """Everything about one case with this process's number of threads."""
    import jax
    from limits import machine, matmul_rate, seconds_each

    from jaxrl import loop
    from jaxrl.agents import RAMConfig, make_ram
    from jaxrl.config import as_arrays
    from jaxrl.envs import make
    from jaxrl.envs.tools.retina import retina

    config = RAMConfig(num_envs=options.num_envs)
    arrays, env = as_arrays(config), make(case.env, config.num_envs, **case.options)
    agent, length = loop.build_in(make_ram, arrays, env), env.spec.time_limit
    keys, progress = loop.run_keys(jax.random.key(0)), loop.plan(config, env.spec, 10**8).progress(0)
    state = jax.jit(lambda key: loop.init_state(key, agent, env))(keys.init)
    params, n = env.params, options.loops  # In the carry, so that the data set is no constant of the program.
    first = loop.iteration_keys(keys.train, 0, length)
    rollout = jax.jit(lambda: loop.collect(first, agent, env, state, progress)[1])()

    def whole(_: Any, carry: Any) -> Any:
        state, params, _ = carry
        state, sums = loop.iterate(keys.train, agent, env._replace(params=params), state, progress, length, learn=True)
        return state, params, sums

    def acting(index: Any, carry: Any) -> Any:
        policy, obs, _ = carry

        def step(memory: Any, row: Any) -> Any:
            action, memory, _ = agent.act(row[0], policy, memory, row[1], progress, True)
            return memory, action

        rows = (loop.iteration_keys(keys.train, index, length).act, obs)
        _, actions = jax.lax.scan(step, agent.initial_memory(config.num_envs), rows)
        # What is done feeds what is seen next, so nothing can be left out.
        return policy, obs._replace(location=obs.location + 1e-9 * actions.location + 1e-9 * actions.label[..., None]), actions

    def environments(index: Any, carry: Any) -> Any:
        state, params, actions, _ = carry
        rows = (loop.iteration_keys(keys.train, index, length).env, actions)
        state, seen = jax.lax.scan(lambda state, row: env.step(row[0], params, state, row[1]), state, rows)
        return state, params, actions, seen

    def looking(_: Any, carry: Any) -> Any:
        pictures, location, _ = carry
        size, scales = case.options["size"], case.options.get("num_scales", 1)
        seen = jax.lax.map(lambda where: jax.vmap(lambda p, at: retina(p, at, size, scales))(pictures, where), location)
        return pictures, location + 1e-9 * seen.mean((-3, -2, -1))[..., None], seen

    def learning(index: Any, carry: Any) -> Any:
        state, rollout, _ = carry
        state, metrics = agent.update(jax.random.fold_in(keys.train, index), state, rollout, progress)
        return state, rollout, metrics

    actions = rollout.action
    seconds = {
        "iteration": seconds_each(whole, (state, params, None), n),
        "act": seconds_each(acting, (state.agent.policy, rollout.obs, None), n),
        "environment": seconds_each(environments, (state.env, params, actions, None), n),
        "environment: retina alone": seconds_each(looking, (state.env.picture, rollout.obs.location, None), n),
        "update": seconds_each(learning, (state.agent, rollout, None), n),
    }
    seconds["rest"] = seconds["iteration"] - seconds["act"] - seconds["environment"] - seconds["update"]
    parts = products(config, env.spec)
    flops = {part: sum(product.flops for product in layers.values()) for part, layers in parts.items()}
    largest = max((p for layers in parts.values() for p in layers.values()), key=lambda p: 2 * p.m * p.k * p.n)
    rate, total = matmul_rate(*largest[:3]), sum(flops.values())
    per_second = total / seconds["iteration"] / 1e9
    learned = flops["forward"] + flops["backward"]
    result = machine() | {
        "num_envs": config.num_envs,
        "images_per_second": round(config.num_envs / seconds["iteration"]),
        "mflop_per_iteration": {part: round(value / 1e6, 2) for part, value in flops.items()}
        | {"total": round(total / 1e6, 2)},
        "largest_product": f"{largest.m}x{largest.k} @ {largest.k}x{largest.n}",
        "gflops_largest_product": round(rate, 1),
        "gflops_training": round(per_second, 1),
        "share_of_largest_product": round(per_second / rate, 3),
        "share_of_largest_product_by_part": {
            "act": round(flops["act"] / seconds["act"] / 1e9 / rate, 3),
            "update": round(learned / seconds["update"] / 1e9 / rate, 3),
        },
        "microseconds": {name: round(value * 1e6, 1) for name, value in seconds.items()},
    }
    if options.memory:
        result["temporary_mb_by_glimpses"] = {str(t): temporary_mb(case, config, num_glimpses=t) for t in GLIMPSES}
        result["temporary_mb_by_pictures"] = {
            str(b): temporary_mb(case, dataclasses.replace(config, num_envs=b)) for b in BATCHES
        }
    return result


def temporary_mb(case: Case, config: Any, **options: int) -> float:
    """What one compiled iteration needs beside its arguments and results, in megabytes."""
    import jax

    from jaxrl import loop
    from jaxrl.agents import make_ram
    from jaxrl.config import as_arrays
    from jaxrl.envs import make

    arrays, env = as_arrays(config), make(case.env, config.num_envs, **case.options | options)
    agent, length = loop.build_in(make_ram, arrays, env), env.spec.time_limit
    progress = loop.plan(config, env.spec, 10**8).progress(0)
    state = jax.eval_shape(lambda key: loop.init_state(key, agent, env), loop.key_shape())

    def run(key: Any, params: Any, state: Any) -> Any:
        return loop.iterate(key, agent, env._replace(params=params), state, progress, length, True)

    compiled = jax.jit(run, donate_argnums=2).lower(loop.key_shape(), env.params, state).compile()
    return round(compiled.memory_analysis().temp_size_in_bytes / 1e6, 3)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
