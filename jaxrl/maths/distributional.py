"""Distributions of returns: categorical ones on fixed atoms, and quantiles; leading axes are free.

A categorical distribution is K probabilities of K atoms, one of quantiles K numbers and their levels tau in [0, 1].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.maths.checks import check_shape, check_type
from jaxrl.maths.losses import huber
from jaxrl.types import Array


def of_action(numbers: Array, action: Array) -> Array:
    """numbers[..., a, :], as a product with a one-hot row.

    Args:
      numbers: [..., A, K].
      action: [...] integers.

    Returns:
      [..., K].
    """
    check_shape(numbers.shape[:-2], action=action)
    check_type(int, action=action)
    return jnp.sum(numbers * jax.nn.one_hot(action, numbers.shape[-2], dtype=numbers.dtype)[..., None], axis=-2)


def project(atoms_p: Array, probability: Array, atoms_q: Array) -> Array:
    """The distribution on evenly spaced `atoms_q` that has as much at each pair of neighbours as linear interpolation gives.

    sum_j p_j [1 - |[z_j] - z_i| / dz]_0^1, where [z_j] is held within the atoms; the mean stays, where nothing lies outside.

    Args:
      atoms_p: [..., K] where the probabilities are.
      probability: [..., K].
      atoms_q: [M] rising.

    Returns:
      [..., M], without gradient.

    References:
      Bellemare, Dabney and Munos 2017, "A Distributional Perspective on Reinforcement Learning", eq. 7.
    """
    check_shape(atoms_p.shape, probability=probability)
    check_shape((None,), atoms_q=atoms_q)
    held = jnp.clip(atoms_p, atoms_q[0], atoms_q[-1])
    distance = jnp.abs(held[..., None, :] - atoms_q[:, None]) / (atoms_q[1] - atoms_q[0])
    return jax.lax.stop_gradient(jnp.sum(jnp.clip(1.0 - distance, 0.0, 1.0) * probability[..., None, :], axis=-1))


def cross_entropy(target: Array, logits: Array) -> Array:
    """-sum_i m_i log p_i.

    Args:
      target: [..., K] probabilities m.
      logits: [..., K] of p.

    Returns:
      [...].

    References:
      Bellemare, Dabney and Munos 2017, "A Distributional Perspective on Reinforcement Learning", Algorithm 1.
    """
    check_shape(logits.shape, target=target)
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def entropy(probability: Array) -> Array:
    """-sum_i p_i log p_i; [..., K] -> [...]."""
    return -jnp.sum(jax.scipy.special.xlogy(probability, probability), axis=-1)


def midpoints(num: int) -> Array:
    """[K] the levels (i + 1/2) / K at which K quantiles are nearest to a distribution (Dabney et al. 2018, lemma 2)."""
    return (jnp.arange(num, dtype=jnp.float32) + 0.5) / num


def quantile_huber(quantile: Array, tau: Array, target: Array, kappa: Array | float) -> Array:
    """sum_i mean_j |tau_i - 1{u_ij < 0}| L_kappa(u_ij) / kappa, u_ij = target_j - quantile_i, L_kappa the Huber loss.

    Divided by kappa, as in the second paper: it tends to the quantile loss |tau - 1{u < 0}| |u| as kappa falls to 0.

    Args:
      quantile: [..., K].
      tau: [..., K] their levels.
      target: [..., M] equally likely numbers.
      kappa: [] above 0.

    Returns:
      [...].

    References:
      Dabney et al. 2018, "Distributional Reinforcement Learning with Quantile Regression", eqs. 9 and 10.
      Dabney et al. 2018, "Implicit Quantile Networks for Distributional Reinforcement Learning", eqs. 2 and 3.
    """
    check_shape(quantile.shape, tau=tau)
    check_shape((*quantile.shape[:-1], None), target=target)
    error = target[..., None, :] - quantile[..., :, None]
    weight = jnp.abs(tau[..., None] - jax.lax.stop_gradient(error < 0.0))
    return jnp.sum(jnp.mean(weight * huber(error, kappa) / kappa, axis=-1), axis=-1)
