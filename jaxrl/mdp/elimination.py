"""Linear systems of Markov chains, solved by elimination without subtractions."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array


class Factors(NamedTuple):
    """I - W = (I - lower) diag(pivot) (I - upper), where lower and upper [S, S] are strictly triangular."""

    lower: Array
    pivot: Array
    upper: Array


def factor(weights: Array, leave: Array) -> Factors:
    """Eliminates in I - W for W = `weights` >= 0 [S, S] whose rows sum to 1 - leave [S].

    States are removed from the chain one after the other. A pivot is 1 - W(k, k), computed as the sum of all other ways out of
    state k: then nothing is ever subtracted, so no digits cancel as gamma approaches 1, no pivoting is needed, and a pivot is
    exactly 0 only where the chain cannot leave a set of states (Grassmann, Taksar & Heyman 1985).

    `jnp.linalg.solve` would do for a single MDP. Under vmap it becomes batched LAPACK calls, and in jaxlib 0.10.2 several of
    these running at the same time on two cores wait for each other for ever; this is plain arithmetic.
    """
    index = jnp.arange(leave.shape[0])

    def remove(k: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        table, leave, pivot = carry
        row = jnp.where(index > k, table[k], 0.0)
        out = leave[k] + jnp.sum(row)
        column = jnp.where(index > k, table[:, k], 0.0) / out
        # Entries of eliminated rows and columns stay as they are: they are the factors.
        return table + column[:, None] * row, leave + column * leave[k], pivot.at[k].set(out)

    table, _, pivot = jax.lax.fori_loop(0, leave.shape[0], remove, (weights, leave, jnp.ones_like(leave)))
    return Factors(jnp.tril(table, -1) / pivot, pivot, jnp.triu(table, 1) / pivot[:, None])


def solve(factors: Factors, right: Array) -> Array:
    """x [S] with (I - W) x = right."""
    return _substitute(factors.upper, _substitute(factors.lower, right) / factors.pivot, backward=True)


def solve_left(factors: Factors, right: Array) -> Array:
    """x [S] with (I - W)^T x = right."""
    return _substitute(factors.lower.T, _substitute(factors.upper.T, right) / factors.pivot, backward=True)


def _substitute(triangle: Array, right: Array, backward: bool = False) -> Array:
    """x [S] with (I - triangle) x = right, for a strictly lower triangle, or a strictly upper one `backward`."""
    size = right.shape[0]

    def add(step: Array, x: Array) -> Array:
        k = size - 1 - step if backward else step
        return x + triangle[:, k] * x[k]

    return jax.lax.fori_loop(0, size, add, right)
