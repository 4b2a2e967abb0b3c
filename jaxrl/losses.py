"""Losses as plain maths on arrays; leading axes are free and nothing here knows a network or a config.

Time stands in the names: `q_tm1` are values at t - 1, where the action was taken, `r_t` and `discount_t` what came of it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.types import Array


def q_learning_target(r_t: Array, discount_t: Array, q_t: Array, q_t_selector: Array | None = None) -> Array:
    """r_t + discount_t * q_t[argmax_a q_t_selector[a]].

    Args:
      r_t, discount_t: [...]; discount_t = gamma * (1 - terminated).
      q_t: [..., A] values of the successor, from the target network.
      q_t_selector: [..., A] values that choose the action; None chooses by `q_t` itself. The online network's values make it
        double Q-learning.

    Returns:
      [...] target, without gradient. Mnih et al. 2015, Algorithm 1; van Hasselt, Guez and Silver 2016, eq. 4.
    """
    if q_t_selector is None:
        value_t = jnp.max(q_t, axis=-1)
    else:
        value_t = select(q_t, jnp.argmax(q_t_selector, axis=-1))
    return jax.lax.stop_gradient(r_t + discount_t * value_t)


def select(q: Array, action: Array) -> Array:
    """q[..., a] for [..., A] values and [...] actions; a product with a one-hot row, which is fast on every backend."""
    return jnp.sum(q * jax.nn.one_hot(action, q.shape[-1], dtype=q.dtype), axis=-1)


def squared(td_error: Array) -> Array:
    """td_error^2 / 2."""
    return 0.5 * jnp.square(td_error)


def huber(td_error: Array, delta: Array | float = 1.0) -> Array:
    """td_error^2 / 2 up to |td_error| = delta, then linear with slope delta. Huber 1964.

    With delta = 1 its gradient is the TD error clipped to [-1, 1], as in Mnih et al. 2015 (Methods).
    """
    absolute = jnp.abs(td_error)
    inside = jnp.minimum(absolute, delta)
    return 0.5 * jnp.square(inside) + delta * (absolute - inside)
