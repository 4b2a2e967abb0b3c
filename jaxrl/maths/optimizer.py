"""Adam, rectified or not, and gradient descent with momentum, with a step size that is given at every step, so that schedules
may be traced, and clipping by the global norm.

The moments of all parameters are one vector, which updates in a third of the time of many small arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxrl.maths.checks import check_shape
from jaxrl.types import Array, PyTree

EPS = 1e-8
B1, B2 = 0.9, 0.999
"""Decay of Adam's moments."""


class Step(NamedTuple):
    """What `step` returns.

    Attributes:
      params: the new parameters.
      opt_state: the new state of the optimizer.
      grad_norm: [] global norm of the gradient before clipping.
    """

    params: PyTree
    opt_state: PyTree
    grad_norm: Array


def init(params: PyTree) -> PyTree:
    """The state before the first step: zero moments of the parameters as one vector."""
    return optax.scale_by_adam(B1, B2).init(ravel_pytree(params)[0])


def step(
    params: PyTree,
    grads: PyTree,
    opt_state: PyTree,
    learning_rate: PyTree,
    max_grad_norm: float | None = None,
    eps: float = EPS,
    rectified: bool = False,
    b1: Array | float = B1,
) -> Step:
    """One step of Adam down the gradient.

    Args:
      params: tree of parameters.
      grads: tree of the same structure and shapes.
      opt_state: from `init`, or from the step before.
      learning_rate: [], or a tree of [] whose leaves are for the parts of `params` at their places.
      max_grad_norm: the gradient is scaled down to this global norm; None leaves it alone.
      eps: what Adam adds to the root of the second moment.
      rectified: RAdam: the first steps, whose second moment says little, go by the first moment alone, and those after them
        are shorter.
      b1: [] share of the first moment that a gradient leaves.

    References:
      Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", Algorithm 1.
      Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond", Algorithm 2; with the threshold 5 of the
        authors' code for its 4.
    """
    flat, unravel, norm = _clipped(params, grads, learning_rate, max_grad_norm)
    # eps_root keeps the derivative of the root finite where a gradient is exactly zero, for gradients through a whole run.
    direction, opt_state = optax.scale_by_adam(b1, B2, eps=eps, eps_root=1e-20).update(flat, opt_state)
    if rectified:
        weight, is_tractable = _rectification(opt_state.count)
        first_moment = opt_state.mu / -jnp.expm1(opt_state.count * jnp.log(b1))
        direction = jnp.where(is_tractable, weight * direction, first_moment)
    return Step(_moved(params, learning_rate, unravel, direction), opt_state, norm)


def init_momentum(params: PyTree) -> PyTree:
    """The state of `momentum_step` before the first one: no velocity."""
    return jnp.zeros_like(ravel_pytree(params)[0])


def momentum_step(
    params: PyTree,
    grads: PyTree,
    velocity: PyTree,
    learning_rate: PyTree,
    momentum: Array | float,
    max_grad_norm: float | None = None,
) -> Step:
    """One step of gradient descent with momentum: v <- momentum v + g, params <- params - learning_rate v.

    Args:
      velocity: from `init_momentum`, or from the step before.
      momentum: [].
      params, grads, learning_rate, max_grad_norm: as of `step`.

    References:
      Polyak 1964; Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", eq. 1.
    """
    flat, unravel, norm = _clipped(params, grads, learning_rate, max_grad_norm)
    velocity = momentum * velocity + flat
    return Step(_moved(params, learning_rate, unravel, velocity), velocity, norm)


def gradient_of_parts(
    loss: Callable[[PyTree, PyTree], tuple[Array, PyTree]], params: PyTree, batch: PyTree, part_size: int
) -> tuple[PyTree, PyTree]:
    """The gradient of a mean over a minibatch, taken of a part at a time: less memory, and on a CPU less time where a part fits
    its cache.

    Args:
      loss: (params, batch) -> (mean over the batch [], other means over it).
      params: of which the gradient is.
      batch: leaves [N, ...].
      part_size: members of a part at most; it has as many as divide N.

    Returns:
      (gradient of the mean over all N, the other means over all N).
    """
    num = jax.tree.leaves(batch)[0].shape[0]
    size = next(size for size in range(min(part_size, num), 0, -1) if num % size == 0)
    gradient = jax.grad(loss, has_aux=True)
    # What hardly divides is better done at once than one by one.
    if size == num or 2 * size < part_size:
        return gradient(params, batch)
    # Every part has members from all over the batch, so that devices which share a batch share each part.
    parts = jax.tree.map(lambda leaf: jnp.swapaxes(leaf.reshape(size, num // size, *leaf.shape[1:]), 0, 1), batch)

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, tuple[()]]:
        return jax.tree.map(jnp.add, total, gradient(params, part)), ()

    shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda leaf: leaf[0], parts))
    total = jax.lax.scan(add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), parts)[0]
    return jax.tree.map(lambda leaf: leaf * (size / num), total)


def _rectification(count: Array) -> tuple[Array, Array]:
    """(r_t, whether the variance of the adaptive step size is tractable) of the `count`-th step, [] each."""
    most = 2.0 / (1.0 - B2) - 1.0
    # expm1 keeps the digits that 1 - B2^t loses while t is small.
    decayed = count * math.log(B2)
    length = most + 2.0 * count * jnp.exp(decayed) / jnp.expm1(decayed)
    share = (length - 4.0) * (length - 2.0) * most / ((most - 4.0) * (most - 2.0) * length)
    return jnp.sqrt(jnp.maximum(share, 0.0)), length >= 5.0


def _clipped(
    params: PyTree, grads: PyTree, learning_rate: PyTree, max_grad_norm: float | None
) -> tuple[Array, Callable[[Array], PyTree], Array]:
    """(the gradient as one vector, clipped; back to a tree; its norm before)."""
    chex.assert_trees_all_equal_shapes(params, grads, custom_message="tree 0: params, tree 1: grads")
    for rate in jax.tree.leaves(learning_rate):
        check_shape((), learning_rate=rate)
    flat, unravel = ravel_pytree(grads)
    norm = optax.safe_norm(flat, 0.0)  # The derivative of the root of an exact zero would be NaN.
    if max_grad_norm is not None:
        flat = flat * jnp.minimum(1.0, max_grad_norm / jnp.maximum(norm, 1e-12))
    return flat, unravel, norm


def _moved(params: PyTree, learning_rate: PyTree, unravel: Callable[[Array], PyTree], direction: Array) -> PyTree:
    if jax.tree_util.all_leaves([learning_rate]):
        return jax.tree.map(jnp.subtract, params, unravel(learning_rate * direction))

    def move(rate: Array, part: PyTree, direction: PyTree) -> PyTree:
        return jax.tree.map(lambda param, step: param - rate * step, part, direction)

    return jax.tree.map(move, learning_rate, params, unravel(direction))
