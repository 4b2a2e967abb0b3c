"""Returns and advantages of a rollout, as plain maths on [T, B] arrays (trailing axes free, time first).

Two ends of an episode are kept apart throughout. `discount_t = gamma * (1 - terminated_t)` is zero where the MDP ended, so
nothing is bootstrapped there. `ended_t = terminated_t | truncated_t` cuts the recursion, so nothing of the next episode leaks
in: a truncated step bootstraps from `next_value_t = V(next_obs_t)`, the value of its true successor. The rollout's last step
bootstraps likewise. Where there is no value function, zeros in its place cut a return off at a truncation.

Arrays of other shapes than these raise an AssertionError that names the argument and both shapes: nothing is broadcast.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.maths.checks import check_equal_shape, check_shape, check_type
from jaxrl.types import Array


def lambda_returns(reward: Array, discount: Array, next_value: Array, ended: Array, lambda_: Array | float = 1.0) -> Array:
    """G_t = r_t + discount_t ((1 - lambda) V_{t+1} + lambda G_{t+1}), with V_{t+1} alone where an episode or the rollout ends.

    Args:
      reward: [T, B] r_t, what came of the action at t.
      discount: [T, B] gamma * (1 - terminated).
      next_value: [T, B] V(next_obs_t) of the true successor.
      ended: [T, B] bool, where an episode ended.
      lambda_: [] or [T, B]; 1 is the Monte-Carlo return, 0 the one-step target.

    Returns:
      [T, B].

    References:
      Sutton & Barto 2018, eq. 12.20 for state values.
    """
    _check(reward, ended, lambda_, discount=discount, next_value=next_value)
    carried = discount * jnp.where(_cut(ended), 0.0, lambda_)
    own = reward + (discount - carried) * next_value
    return recurrence(carried, own, reverse=True)


def reward_to_go(reward: Array, discount: Array, next_value: Array, ended: Array) -> Array:
    """G_t = r_t + discount_t G_{t+1}, the Monte-Carlo return from t on; the end of the rollout bootstraps.

    Args:
      reward: [T, B] r_t, what came of the action at t.
      discount: [T, B] gamma * (1 - terminated).
      next_value: [T, B] V(next_obs_t) of the true successor; zeros take no bootstrap at all.
      ended: [T, B] bool, where an episode ended.

    Returns:
      [T, B].

    References:
      Sutton & Barto 2018, eq. 3.9.
    """
    return lambda_returns(reward, discount, next_value, ended, 1.0)


def episode_returns(reward: Array, discount: Array, next_value: Array, ended: Array) -> Array:
    """The return of the whole episode at each of its steps: `reward_to_go` of the episode's first step in the rollout.

    Args:
      reward: [T, B] r_t, what came of the action at t.
      discount: [T, B] gamma * (1 - terminated).
      next_value: [T, B] V(next_obs_t) of the true successor; zeros take no bootstrap at all.
      ended: [T, B] bool, where an episode ended.

    Returns:
      [T, B].

    References:
      Williams 1992, section 5: the weight of every step in "episodic REINFORCE".
    """
    first = _first(ended)
    to_go = reward_to_go(reward, discount, next_value, ended)
    return recurrence(1.0 - first, first * to_go, reverse=False)


def discount_powers(gamma: Array | float, ended: Array) -> Array:
    """gamma^k at the k-th step of its episode, counted from 0 at the episode's first step in the rollout.

    Args:
      gamma: [].
      ended: [T, B] bool, where an episode ended.

    Returns:
      [T, B] float32.

    References:
      Sutton & Barto 2018, section 13.3: the factor gamma^t.
    """
    check_shape((), gamma=gamma)
    check_type(bool, ended=ended)
    first = _first(ended)
    return recurrence(gamma * (1.0 - first), first, reverse=False)


def n_step_returns(reward: Array, discount: Array, next_value: Array, ended: Array, n: int) -> Array:
    """r_t + ... + discount^(n-1) r_{t+n-1} + discount^n V_{t+n}, with fewer steps where an episode or the rollout ends sooner.

    Args:
      reward: [T, B] r_t, what came of the action at t.
      discount: [T, B] gamma * (1 - terminated).
      next_value: [T, B] V(next_obs_t) of the true successor.
      ended: [T, B] bool, where an episode ended.
      n: at least 1, static.

    Returns:
      [T, B].

    Raises:
      ValueError: n is below 1.

    References:
      Sutton & Barto 2018, eq. 7.1.
    """
    if n < 1:
        raise ValueError(f"n={n} is out of range; give at least 1")
    _check(reward, ended, discount=discount, next_value=next_value)
    cut, padding = _cut(ended), jnp.zeros_like(reward[:1])
    one_step = reward + discount * next_value
    result = one_step
    for _ in range(n - 1):
        result = jnp.where(cut, one_step, reward + discount * jnp.concatenate([result[1:], padding]))
    return result


def gae(reward: Array, discount: Array, value: Array, next_value: Array, ended: Array, lambda_: Array | float = 0.95) -> Array:
    """A_t = delta_t + discount_t lambda A_{t+1}, delta_t = r_t + discount_t V_{t+1} - V_t; A_t = delta_t where an episode ends.

    Args:
      reward: [T, B] r_t, what came of the action at t.
      discount: [T, B] gamma * (1 - terminated).
      value: [T, B] V(obs_t).
      next_value: [T, B] V(next_obs_t) of the true successor.
      ended: [T, B] bool, where an episode ended.
      lambda_: [] or [T, B]; 1 is the Monte-Carlo advantage, 0 the one-step TD error.

    Returns:
      [T, B].

    References:
      Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation", eq. 16.
    """
    _check(reward, ended, lambda_, discount=discount, value=value, next_value=next_value)
    delta = reward + discount * next_value - value
    return recurrence(discount * jnp.where(_cut(ended), 0.0, lambda_), delta, reverse=True)


class VTrace(NamedTuple):
    """What `vtrace` returns.

    Attributes:
      target: [T, B] v_t, the goal of the value function.
      advantage: [T, B] clipped importance weight times the advantage of the action, for the policy gradient.
    """

    target: Array
    advantage: Array


def vtrace(
    reward: Array,
    discount: Array,
    value: Array,
    next_value: Array,
    ended: Array,
    log_rho: Array,
    lambda_: Array | float = 1.0,
    clip_rho: Array | float = 1.0,
    clip_c: Array | float = 1.0,
) -> VTrace:
    """Off-policy corrected value targets and policy-gradient advantages.

    v_t = V_t + delta_t + discount_t c_t (v_{t+1} - V_{t+1}), delta_t = rho_t (r_t + discount_t V_{t+1} - V_t), with
    rho_t = min(clip_rho, pi / mu) and c_t = lambda min(clip_c, pi / mu). At an end v_{t+1} is V_{t+1}.

    Args:
      reward: [T, B] r_t, what came of the action at t.
      discount: [T, B] gamma * (1 - terminated).
      value: [T, B] V(obs_t).
      next_value: [T, B] V(next_obs_t) of the true successor.
      ended: [T, B] bool, where an episode ended.
      log_rho: [T, B] log pi(a_t) - log mu(a_t), pi the policy that learns and mu the one that acted.
      lambda_: [] or [T, B]; 1 is the paper's, 0 the one-step target.
      clip_rho: [] upper limit of the weight of delta_t.
      clip_c: [] upper limit of the weight of what is carried on.

    Returns:
      `VTrace`.

    References:
      Espeholt et al. 2018, "IMPALA", eq. 1 and section 4.2 (with q_t from v_{t+1}).
    """
    _check(reward, ended, lambda_, discount=discount, value=value, next_value=next_value, log_rho=log_rho)
    check_shape((), clip_rho=clip_rho, clip_c=clip_c)
    ratio = jnp.exp(jnp.minimum(log_rho, 80.0))  # Beyond, float32 overflows and the gradient is NaN.
    rho, c, cut = jnp.minimum(clip_rho, ratio), lambda_ * jnp.minimum(clip_c, ratio), _cut(ended)
    delta = rho * (reward + discount * next_value - value)
    target = value + recurrence(discount * jnp.where(cut, 0.0, c), delta, reverse=True)
    next_target = jnp.where(cut, next_value, jnp.concatenate([target[1:], next_value[-1:]]))
    return VTrace(target, rho * (reward + discount * next_target - value))


def _check(reward: Array, ended: Array, lambda_: Array | float = 1.0, **floats: Array) -> None:
    """All have the shape of `reward`, but `lambda_` may be []; `ended` is bool, so that it is taken for nothing else."""
    check_equal_shape(reward=reward, ended=ended, **floats)
    check_shape((), reward.shape, lambda_=lambda_)
    check_type(bool, ended=ended)
    check_type(float, **floats)


def _cut(ended: Array) -> Array:
    """Where the recursion stops: at an episode's end and at the end of the rollout."""
    return ended.at[-1].set(True)


def _first(ended: Array) -> Array:
    """1.0 at an episode's first step in the rollout, else 0.0."""
    ended = ended.astype(jnp.float32)
    return jnp.concatenate([jnp.ones_like(ended[:1]), ended[:-1]])


def recurrence(factor: Array | float, own: Array, reverse: bool) -> Array:
    """x_t = own_t + factor_t x_{t-1} along the first axis, x_0 = own_0; or with x_{t+1} and x_T = own_T where `reverse`.

    It takes log2(T) vector operations instead of T small ones.

    Args:
      factor: [] or [T, ...] of `own`'s shape.
      own: [T, ...].
      reverse: static.

    Returns:
      [T, ...].
    """
    check_shape((), own.shape, factor=factor)

    def join(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
        return earlier[0] * later[0], later[1] + later[0] * earlier[1]

    factor = jnp.broadcast_to(factor, own.shape)
    return jax.lax.associative_scan(join, (factor, own), reverse=reverse)[1]
