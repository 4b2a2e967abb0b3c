"""What this machine can do, and what fraction of it training reaches.

    python benchmarks/limits.py --out limits.json

Measures the rate of matrix products (large ones, and of the sizes in DQN's minibatch) and counts the arithmetic of one DQN
iteration, to say which share of the machine's rate a whole training iteration uses.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro


@dataclasses.dataclass(frozen=True)
class Options:
    """Where the figures go."""

    out: Path | None = None
    threads: int = 0
    """CPU threads of compiled programs; 0 leaves it to JAX."""


def main(options: Options) -> None:
    """Measures and prints; one JSON object."""
    if options.threads:
        os.environ["NPROC"] = str(options.threads)
    result = measure()
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def measure() -> dict[str, Any]:
    """Rates in GFLOP/s (a multiply and an add are two)."""
    import jax

    from throughput import PUREJAXRL, measure_dqn

    large = matmul_rate(2048, 2048, 2048)
    layers = {f"{m}x{k} @ {k}x{n}": matmul_rate(m, k, n) for m, k, n in ((128, 4, 120), (128, 120, 84), (10, 120, 84))}
    training = measure_dqn(PUREJAXRL, 200_000)
    flops = dqn_flops(batch=128, acting=10, sizes=(4, 120, 84, 2))
    rate = flops * (training["steps_per_second"] / 10) / 1e9
    best = max(large, *layers.values())
    return {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "threads": os.environ.get("NPROC", "default"),
        "jax": jax.__version__,
        "gflops_matmul_2048": round(large, 1),
        "gflops_matmul_dqn_layers": {name: round(value, 1) for name, value in layers.items()},
        "dqn_steps_per_second": training["steps_per_second"],
        "dqn_mflop_per_iteration": round(flops / 1e6, 3),
        "dqn_gflops": round(rate, 1),
        "dqn_share_of_largest_rate": round(rate / best, 3),
    }


def dqn_flops(batch: int, acting: int, sizes: tuple[int, ...]) -> int:
    """Arithmetic of the matrix products in one DQN iteration.

    Target and online forward pass, the gradient of each weight, the gradient of each layer's input but the first's, and acting.
    """
    products = [a * b for a, b in zip(sizes, sizes[1:], strict=False)]
    forward, inputs = sum(products), sum(products[1:])
    return 2 * (batch * (2 * forward + forward + inputs) + acting * forward)


def matmul_rate(m: int, k: int, n: int, seconds: float = 0.5) -> float:
    """GFLOP/s of a product [m, k] @ [k, n] inside a compiled loop, the best of five."""
    import jax
    import jax.numpy as jnp

    a, b = jax.random.normal(jax.random.key(0), (m, k)), jax.random.normal(jax.random.key(1), (k, n))
    repeats = max(int(seconds * 5e10 / (2 * m * k * n)), 2)

    @jax.jit
    def loop(a: jax.Array, b: jax.Array) -> jax.Array:
        # The product feeds the next one's input, so no product can be left out or moved out of the loop.
        return jax.lax.fori_loop(0, repeats, lambda _, a: a + 1e-9 * jnp.max(a @ b), a)

    return 2 * m * k * n * repeats / best_time(lambda: loop(a, b)) / 1e9


def best_time(run: Callable[[], Any], repeats: int = 5) -> float:
    """Shortest wall-clock seconds of a call, after one that compiles."""
    import jax

    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
