"""The account of SAC that `limits.py --agent sac` prints: how near an iteration comes to the products that it needs.

An iteration at the common settings is one env step and one gradient step: a minibatch of 256, two critics, layers of 256-256.
Its products are counted one by one, and each shape is timed alone: forward, gradient of the weights, gradient of the inputs.
Their sum is what the iteration would take if it were nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cases import CASES
from limits import machine, matmul_rate, microseconds, seconds_each

from throughput import measure

BATCH, NUM_CRITICS = 256, 2
ACTOR_SIZES, CRITIC_SIZES = (3, 256, 256, 2), (4, 256, 256, 1)
"""Of Pendulum-v1: three numbers seen, one action."""


class Product(NamedTuple):
    """[m, k] @ [k, n], `count` of them in an iteration; which operand is transposed decides how fast it is."""

    kind: str
    m: int
    k: int
    n: int
    count: int


def products(batch: int = BATCH) -> Iterator[Product]:
    """All matrix products of one iteration.

    Target: the actor and the critics forward. Critics' loss: forward, and backward but for the first inputs. Actor's loss:
    actor and critics forward, the critics' inputs backward, the actor backward but for its first inputs. Acting: one row.
    """
    actor, critic = (list(zip(sizes, sizes[1:], strict=False)) for sizes in (ACTOR_SIZES, CRITIC_SIZES))
    for layers, forward, weights, inputs, first in (
        (actor, 2, 1, 1, 0),
        (critic, 3 * NUM_CRITICS, NUM_CRITICS, 2 * NUM_CRITICS, 1),
    ):
        for place, (k, n) in enumerate(layers):
            yield Product("forward", batch, k, n, forward)
            yield Product("weights", k, batch, n, weights)
            if place:
                yield Product("inputs", batch, n, k, inputs)
            elif first:
                yield Product("inputs", batch, n, k, NUM_CRITICS)
    for k, n in actor:
        yield Product("acting", 1, k, n, 1)


def flops(found: list[Product]) -> int:
    """A multiply and an add are two."""
    return sum(2 * one.m * one.k * one.n * one.count for one in found)


def product_seconds(one: Product, loops: int) -> float:
    """Seconds of one such product inside a compiled loop, by operands laid out as a network has them."""
    import jax
    import jax.numpy as jnp

    x, y = jax.random.normal(jax.random.key(0), (one.m, one.k)), jax.random.normal(jax.random.key(1), (one.k, one.n))
    held = (x.T if one.kind == "weights" else x), (y.T if one.kind == "inputs" else y)

    def step(_: Any, carry: Any) -> Any:
        a, b = carry
        out = (a.T if one.kind == "weights" else a) @ (b.T if one.kind == "inputs" else b)
        return a + 1e-9 * jnp.max(out), b

    return seconds_each(step, held, loops)


def measure_sac(loops: int, steps: int = 12_000) -> dict[str, Any]:
    """Times, rates and shares; `update` repeats the gradient step of a run on the same minibatch."""
    found = list(products())
    training = measure(CASES["sac-common"], steps)
    iteration = 1.0 / max(training["all_steps_per_second"])
    alone = {one: product_seconds(one, loops) for one in dict.fromkeys(found)}
    needed = sum(one.count * alone[one] for one in found)
    large, total = matmul_rate(2048, 2048, 2048), flops(found)
    best = max(large, *(2 * one.m * one.k * one.n / seconds / 1e9 for one, seconds in alone.items()))
    return machine() | {
        "sac_steps_per_second": training["steps_per_second"],
        "sac_microseconds": microseconds({"iteration": iteration, "its products alone": needed}),
        "sac_share_of_the_rate_of_its_products": round(needed / iteration, 3),
        "sac_mflop_per_iteration": round(total / 1e6, 1),
        "sac_gflops": round(total / iteration / 1e9, 1),
        "gflops_of_its_products": round(total / needed / 1e9, 1),
        "gflops_matmul_2048": round(large, 1),
        "sac_share_of_largest_rate": round(total / iteration / 1e9 / best, 3),
        "products": [
            one._asdict()
            | {"microseconds": round(alone[one] * 1e6, 1), "gflops": round(2 * one.m * one.k * one.n / alone[one] / 1e9, 1)}
            for one in found
        ],
    }
