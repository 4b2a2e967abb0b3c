"""A squashing of returns that is undone before they are added up, in the place of clipped rewards.

    h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x

Pohlen et al. 2018, "Observe and Look Further: Achieving Consistent Performance on Atari", section 3.2 and proposition A.2.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxrl.types import Array

EPSILON = 1e-3
"""Of the linear part, by which h has an inverse with a bounded slope; the value of Kapturowski et al. 2019."""


def squash(x: Array) -> Array:
    """h(x), of any shape."""
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + EPSILON * x


def expand(x: Array) -> Array:
    """The inverse of `squash`.

    With e = `EPSILON` and s = sqrt(1 + 4 e (|x| + 1 + e)) it is sign(x) (u^2 - 1), u = (s - 1) / (2 e), of which
    u = 2 (|x| + 1 + e) / (1 + s) keeps the digits that the difference would lose.
    """
    size = jnp.abs(x) + 1.0 + EPSILON
    root = jnp.sqrt(1.0 + 4.0 * EPSILON * size)
    u = 2.0 * size / (1.0 + root)
    return jnp.sign(x) * (jnp.square(u) - 1.0)
