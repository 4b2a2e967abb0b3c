"""Losses as plain maths on arrays; leading axes are free and nothing here knows a network or a config.

Time stands in the names: `q_tm1` are values at t - 1, where the action was taken, `r_t` and `discount_t` what came of it.
Arrays of other shapes than these raise an AssertionError that names the argument and both shapes: nothing is broadcast.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.maths.checks import check_equal_shape, check_shape, check_type
from jaxrl.types import Array


def q_learning_target(r_t: Array, discount_t: Array, q_t: Array, q_t_selector: Array | None = None) -> Array:
    """r_t + discount_t * q_t[argmax_a q_t_selector[a]].

    Args:
      r_t: [...] reward.
      discount_t: [...] gamma * (1 - terminated).
      q_t: [..., A] values of the successor, from the target network.
      q_t_selector: [..., A] values that choose the action; None chooses by `q_t` itself. The online network's values make it
        double Q-learning.

    Returns:
      [...] target, without gradient.

    References:
      Mnih et al. 2015, "Human-level control through deep reinforcement learning", Algorithm 1.
      van Hasselt, Guez and Silver 2016, "Deep Reinforcement Learning with Double Q-learning", eq. 4.
    """
    check_shape(q_t.shape[:-1], r_t=r_t, discount_t=discount_t)
    if q_t_selector is None:
        value_t = jnp.max(q_t, axis=-1)
    else:
        check_equal_shape(q_t=q_t, q_t_selector=q_t_selector)
        value_t = select(q_t, jnp.argmax(q_t_selector, axis=-1))
    return jax.lax.stop_gradient(r_t + discount_t * value_t)


def munchausen_target(
    r_t: Array, discount_t: Array, q_tm1: Array, a_tm1: Array, q_t: Array, scaling: Array | float, temperature: Array | float
) -> Array:
    """r_t + alpha [tau log pi(a_tm1 | s_tm1)]_-1^0 + discount_t * sum_a pi(a | s_t) (q_t[a] - tau log pi(a | s_t)).

    pi = softmax(q / tau); the last sum is tau log sum_a exp(q_t[a] / tau).

    Args:
      r_t: [...] reward.
      discount_t: [...] gamma * (1 - terminated).
      q_tm1: [..., A] values of the state acted in, from the target network.
      a_tm1: [...] the action done.
      q_t: [..., A] values of the successor, from the target network.
      scaling: [] alpha.
      temperature: [] tau above 0.

    Returns:
      [...] target, without gradient.

    References:
      Vieillard, Pietquin and Geist 2020, "Munchausen Reinforcement Learning", eq. 2 and section 3; the bound -1 is its l_0.
    """
    check_shape(q_t.shape[:-1], r_t=r_t, discount_t=discount_t, a_tm1=a_tm1)
    check_equal_shape(q_t=q_t, q_tm1=q_tm1)
    check_shape((), scaling=scaling, temperature=temperature)
    log_prob = select(jnp.maximum(jax.nn.log_softmax(q_tm1 / temperature), -1e30), a_tm1)
    value_t = temperature * jax.nn.logsumexp(q_t / temperature, axis=-1)
    return jax.lax.stop_gradient(r_t + scaling * jnp.clip(temperature * log_prob, -1.0, 0.0) + discount_t * value_t)


def select(q: Array, action: Array) -> Array:
    """q[..., a], as a product with a one-hot row, which is fast on every backend.

    Args:
      q: [..., A] action values.
      action: [...] integers.

    Returns:
      [...].
    """
    check_shape(q.shape[:-1], action=action)
    check_type(int, action=action)
    return jnp.sum(q * jax.nn.one_hot(action, q.shape[-1], dtype=q.dtype), axis=-1)


def squared(td_error: Array) -> Array:
    """td_error^2 / 2.

    Args:
      td_error: [...] float.

    Returns:
      [...].
    """
    check_type(float, td_error=td_error)
    return 0.5 * jnp.square(td_error)


def huber(td_error: Array, delta: Array | float = 1.0) -> Array:
    """td_error^2 / 2 up to |td_error| = delta, then linear with slope delta.

    With delta = 1 its gradient is the TD error clipped to [-1, 1].

    Args:
      td_error: [...] float.
      delta: [].

    Returns:
      [...].

    References:
      Huber 1964, "Robust Estimation of a Location Parameter".
      Mnih et al. 2015, "Human-level control through deep reinforcement learning", Methods: the clipped error.
    """
    check_shape((), delta=delta)
    check_type(float, td_error=td_error)
    absolute = jnp.abs(td_error)
    inside = jnp.minimum(absolute, delta)
    return 0.5 * jnp.square(inside) + delta * (absolute - inside)


def soft_value(log_prob: Array, q: Array, temperature: Array | float) -> Array:
    """sum_a pi(a|s) (q(s, a) - temperature log pi(a|s)), the value of a state whose policy is paid for its entropy.

    Args:
      log_prob: [..., A] log pi(a|s); finite also where an action is never taken.
      q: [..., A].
      temperature: [].

    Returns:
      [...].

    References:
      Christodoulou 2019, "Soft Actor-Critic for Discrete Action Settings", eq. 10.
    """
    check_equal_shape(log_prob=log_prob, q=q)
    check_shape((), temperature=temperature)
    return jnp.sum(jnp.exp(log_prob) * (q - temperature * log_prob), axis=-1)


def temperature(log_temperature: Array, entropy: Array, target_entropy: Array | float) -> Array:
    """exp(log_temperature) (entropy - target_entropy): down this loss the temperature rises where the entropy is too low.

    Args:
      log_temperature: [].
      entropy: [] of the policy, which carries no gradient.
      target_entropy: [].

    Returns:
      [].

    References:
      Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", eq. 18.
    """
    check_shape((), log_temperature=log_temperature, entropy=entropy, target_entropy=target_entropy)
    return jnp.exp(log_temperature) * jax.lax.stop_gradient(entropy - target_entropy)


def policy_gradient(log_prob: Array, advantage: Array) -> Array:
    """-log pi(a_t | s_t) * advantage_t, whose gradient is the score-function estimator; the advantage carries no gradient.

    Args:
      log_prob: [...] log pi(a_t | s_t).
      advantage: [...].

    Returns:
      [...].

    References:
      Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", eq. 5.
      Sutton et al. 2000, "Policy Gradient Methods for Reinforcement Learning with Function Approximation", theorem 1.
    """
    check_equal_shape(log_prob=log_prob, advantage=advantage)
    return -log_prob * jax.lax.stop_gradient(advantage)


MAX_LOG_RATIO = 20.0
"""Ratios of probabilities stay within exp(+-20), so that a policy that ran away gives a large loss and not NaN."""


def probability_ratio(log_prob: Array, old_log_prob: Array) -> tuple[Array, Array]:
    """pi(a) / pi_old(a) and its logarithm, the latter within +-`MAX_LOG_RATIO`.

    Args:
      log_prob: [...] log pi(a).
      old_log_prob: [...] log pi_old(a).

    Returns:
      [...] and [...].
    """
    check_equal_shape(log_prob=log_prob, old_log_prob=old_log_prob)
    log_ratio = jnp.clip(log_prob - old_log_prob, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    return jnp.exp(log_ratio), log_ratio


def clipped_surrogate(ratio: Array, advantage: Array, clip: Array | float) -> Array:
    """-min(ratio * advantage, clip(ratio, 1 - clip, 1 + clip) * advantage).

    Args:
      ratio: [...] pi(a) / pi_old(a).
      advantage: [...]; it carries no gradient.
      clip: [].

    Returns:
      [...], to be minimised.

    References:
      Schulman et al. 2017, "Proximal Policy Optimization Algorithms", eq. 7.
    """
    check_equal_shape(ratio=ratio, advantage=advantage)
    check_shape((), clip=clip)
    advantage = jax.lax.stop_gradient(advantage)
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)


def clipped_value(value: Array, old_value: Array, target: Array, clip: Array | float) -> Array:
    """The larger of the squared errors (halved) of `value` and of `value` held within `clip` of `old_value`.

    Args:
      value: [...] V(s_t), which is fitted.
      old_value: [...] V(s_t) before the update.
      target: [...].
      clip: [].

    Returns:
      [...].

    References:
      Engstrom et al. 2020, "Implementation Matters in Deep RL", section 3, item 1.
    """
    check_equal_shape(value=value, old_value=old_value, target=target)
    check_shape((), clip=clip)
    near = old_value + jnp.clip(value - old_value, -clip, clip)
    return jnp.maximum(squared(value - target), squared(near - target))
