"""Markov decision processes as arrays, and their exact solutions.

    mdp = make_mdp(successors, probabilities, rewards, discount=0.9, initial=initial, terminal=terminal)
    check_solvable(mdp)
    solution = value_iteration(mdp, tolerance=1e-6)

The transition model is sparse: each state and action has K possible successors with their probabilities, so a million states
need no million-by-million matrix. `jaxrl.envs.tools.mdp_env` plays the same arrays as an environment. All functions but
`make_mdp` and `check_solvable` are pure: jit them, or vmap them over discounts (`mdp._replace(discount=...)`) or stacked MDPs.

Letters in shapes: S states, A actions, K successors. Where a function has a `method`, "solve" eliminates in a dense [S, S]
matrix and "iterate" repeats sweeps over the sparse arrays, for S too large for a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.mdp.elimination import factor, solve, solve_left
from jaxrl.mdp.ends import greedy_policy, reach_terminal
from jaxrl.mdp.model import MDP
from jaxrl.types import Array

MAX_DENSE_STATES = 5_000

Method = Literal["solve", "iterate"]


class Solution(NamedTuple):
    """What value and policy iteration return.

    Attributes:
      value: [S], 0 in terminal states.
      q: [S, A], one backup of `value`.
      policy: [S] int32, the first greedy action of `q`; of policy iteration the last policy, which is greedy up to rounding.
      num_sweeps: [] int32, sweeps over all states; of policy iteration only those that improve the policy.
      residual: [] largest change of a value in the last sweep; of policy iteration the largest gain that a change of action
        still promises.
    """

    value: Array
    q: Array
    policy: Array
    num_sweeps: Array
    residual: Array


# --- one step of look-ahead -----------------------------------------------------------------------------------------


def q_values(mdp: MDP, value: Array) -> Array:
    """Values of actions by one backup.

        q(s, a) = sum_k p_k (r_k + gamma value(s_k)), where value(s_k) counts 0 if s_k is terminal; q = 0 if s is terminal

    Args:
      value: [S].

    Returns:
      [S, A].
    """
    return _backup(mdp, _expected_rewards(mdp), jnp.where(mdp.terminal, 0.0, value))


def uniform_policy(mdp: MDP) -> Array:
    """[S, A], every action equally likely."""
    num_states, num_actions, _ = mdp.successors.shape
    return jnp.full((num_states, num_actions), 1.0 / num_actions, mdp.probabilities.dtype)


def action_gaps(q: Array) -> Array:
    """By how much the best action of q [S, A] exceeds the second best: [S], 0 where two are best.

    Raises:
      UsageError: there is but one action.
    """
    if q.shape[-1] < 2:
        raise UsageError(f"q {q.shape} has one action; a gap needs two")
    best = jax.lax.top_k(q, 2)[0]
    return best[..., 0] - best[..., 1]


def start_value(mdp: MDP, value: Array) -> Array:
    """[] the expectation of value [S] over the first state."""
    return jnp.sum(mdp.initial * jnp.where(mdp.terminal, 0.0, value))


def _expected_rewards(mdp: MDP) -> Array:
    """[S, A], 0 in terminal states."""
    return jnp.where(mdp.terminal[:, None], 0.0, jnp.sum(mdp.probabilities * mdp.rewards, axis=-1))


def _backup(mdp: MDP, rewards: Array, value: Array) -> Array:
    """[S, A] out of expected rewards [S, A] and values [S] that are 0 in terminal states."""
    ahead = jnp.sum(mdp.probabilities * value[mdp.successors], axis=-1)
    return rewards + jnp.where(mdp.terminal, 0.0, _discount(mdp))[:, None] * ahead


def _discount(mdp: MDP) -> Array:
    return jnp.asarray(mdp.discount, mdp.probabilities.dtype)


# --- optimal values -------------------------------------------------------------------------------------------------


def value_iteration(mdp: MDP, tolerance: float = 1e-6, max_sweeps: int = 100_000) -> Solution:
    """Optimal values by repeated backups of all states at once, from 0.

        value <- max_a q(value)

    For gamma < 1 it stops where gamma / (1 - gamma) |change|_max <= tolerance, which bounds the error of every value by
    `tolerance` and the loss of the greedy policy by twice that. For gamma = 1 there is no such bound: it stops where no value
    changed by more than `tolerance`. A tolerance finer than the precision of the numbers is not reached: a change of two units
    in the last place of the largest value also ends it. `max_sweeps` ends it in any case; `residual` tells.

    For gamma = 1 a terminal state must be in reach from every state (`check_solvable`), and never getting there must cost
    without bound, as it does where each step costs (Bertsekas & Tsitsiklis 1991).

    Source: Sutton & Barto 2018, section 4.4; Puterman 1994, theorem 6.3.1 for the bound.
    """
    rewards = _expected_rewards(mdp)
    zeros = jnp.zeros(mdp.terminal.shape, mdp.probabilities.dtype)
    found = _fixed_point(lambda v: jnp.max(_backup(mdp, rewards, v), axis=-1), zeros, mdp, tolerance, max_sweeps, _max_norm)
    q = _backup(mdp, rewards, found.x)
    return Solution(found.x, q, greedy_policy(q), found.num_sweeps, found.residual)


def policy_iteration(
    mdp: MDP, method: Method = "solve", tolerance: float = 1e-6, max_sweeps: int = 100_000, max_improvements: int = 1_000
) -> Solution:
    """Optimal values by evaluating a policy and improving it, until no action is better than the policy's own.

    An action changes only where another is better by more than rounding can feign (16 units in the last place of the largest
    value, plus twice the tolerance of an iterative evaluation): among equally good actions it would else go round for ever.
    The first policy heads for a terminal state by the fewest transitions, so for gamma = 1 it is proper wherever any policy is,
    and improving keeps it so under the condition that `value_iteration` names.

    Args:
      tolerance, max_sweeps: of each evaluation with method "iterate", which starts from the policy before.
      max_improvements: ends it in any case; then `value` is that of the policy before the one returned.

    Raises:
      UsageError: an unknown method, or more states than "solve" takes.

    Source: Howard 1960; Sutton & Barto 2018, section 4.3.
    """
    _check_method(method, mdp)
    rewards, dtype = _expected_rewards(mdp), mdp.probabilities.dtype
    margin = 2.0 * tolerance if method == "iterate" else 0.0

    def improve(carry: tuple[Solution, Array]) -> tuple[Solution, Array]:
        before, _ = carry
        value = _evaluate(mdp, before.policy, method, tolerance, max_sweeps, before.value)
        q = _backup(mdp, rewards, value)
        gain = jnp.max(q, axis=-1) - jnp.take_along_axis(q, before.policy[:, None], axis=-1)[:, 0]
        better = gain > margin + 16.0 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(q))
        policy = jnp.where(better, greedy_policy(q), before.policy)
        return Solution(value, q, policy, before.num_sweeps + 1, jnp.max(gain)), jnp.any(better)

    def unfinished(carry: tuple[Solution, Array]) -> Array:
        return carry[1] & (carry[0].num_sweeps < max_improvements)

    _, policy = reach_terminal(mdp, jnp.ones(rewards.shape, bool))
    first = Solution(jnp.zeros_like(rewards[:, 0]), jnp.zeros_like(rewards), policy, jnp.int32(0), jnp.zeros((), dtype))
    return jax.lax.while_loop(unfinished, improve, (first, jnp.bool_(True)))[0]


# --- a given policy -------------------------------------------------------------------------------------------------


def policy_evaluation(
    mdp: MDP, policy: Array, method: Method = "solve", tolerance: float = 1e-6, max_sweeps: int = 100_000
) -> Array:
    """Values of a policy: the solution of v = r_pi + gamma P_pi v.

    Args:
      policy: [S] actions, or [S, A] probabilities.
      method: "solve" is exact up to rounding; "iterate" stops as `value_iteration` does.

    Returns:
      [S], 0 in terminal states. For gamma = 1 the policy must reach a terminal state from everywhere
      (`check_solvable(mdp, policy)`); otherwise the equation is singular and the values are not finite or not converged.

    Raises:
      UsageError: an unknown method, or more states than "solve" takes.

    Source: Sutton & Barto 2018, section 4.1.
    """
    _check_method(method, mdp)
    zeros = jnp.zeros(mdp.terminal.shape, mdp.probabilities.dtype)
    return _evaluate(mdp, policy, method, tolerance, max_sweeps, zeros)


def occupancy(mdp: MDP, policy: Array, method: Method = "solve", tolerance: float = 1e-6, max_sweeps: int = 100_000) -> Array:
    """How often a policy visits each state, discounted.

        d(s) = sum_t gamma^t P(s_t = s), the solution of d = initial + gamma P_pi^T d

    It is not normalised: the sum over s is 1 / (1 - gamma) where no state is terminal, so (1 - gamma) d is then a distribution.
    An episode counts its terminal state once, on entry.

    Args:
      policy: [S] actions, or [S, A] probabilities; for gamma = 1 as `policy_evaluation` says.
      tolerance: of method "iterate": bound on sum_s |error| for gamma < 1.

    Returns:
      [S].

    Raises:
      UsageError: an unknown method, or more states than "solve" takes.

    Source: Sutton et al. 2000, section 1 (start-state formulation); Puterman 1994, section 6.9.
    """
    _check_method(method, mdp)
    chain = _chain(mdp, policy)
    if method == "solve":
        return solve_left(factor(_matrix(chain), chain.exit), mdp.initial)

    def sweep(visits: Array) -> Array:
        return mdp.initial.at[chain.successors].add(chain.weights * visits[:, None])

    return _fixed_point(sweep, mdp.initial, mdp, tolerance, max_sweeps, lambda x: jnp.sum(jnp.abs(x))).x


def softmax_policy_gradient(
    mdp: MDP, logits: Array, method: Method = "solve", tolerance: float = 1e-6, max_sweeps: int = 100_000
) -> Array:
    """The exact gradient of the start value of the policy pi = softmax(logits) with respect to the logits.

        d start_value / d logits(s, a) = d(s) pi(a | s) (q(s, a) - v(s)), with `occupancy` d

    Args:
      logits: [S, A].

    Returns:
      [S, A], 0 in terminal states.

    Raises:
      UsageError: an unknown method, or more states than "solve" takes.

    Source: Sutton, McAllester, Singh & Mansour 2000, theorem 1.
    """
    policy = jax.nn.softmax(logits, axis=-1)
    q = q_values(mdp, policy_evaluation(mdp, policy, method, tolerance, max_sweeps))
    advantage = q - jnp.sum(policy * q, axis=-1, keepdims=True)
    return occupancy(mdp, policy, method, tolerance, max_sweeps)[:, None] * policy * advantage


class _Chain(NamedTuple):
    """The Markov chain of an MDP under a policy, with J successors of each state.

    Attributes:
      successors: [S, J] int32.
      weights: [S, J], gamma times the probabilities; 0 in terminal states.
      rewards: [S] expected; 0 in terminal states.
      exit: [S], 1 - gamma, and 1 in terminal states: what the weights of a row lack to a sum of 1.
    """

    successors: Array
    weights: Array
    rewards: Array
    exit: Array


def _chain(mdp: MDP, policy: Array) -> _Chain:
    rewards, discount = _expected_rewards(mdp), jnp.where(mdp.terminal, 0.0, _discount(mdp))
    if policy.ndim == 1:
        successors, probabilities = (
            jnp.take_along_axis(x, policy[:, None, None], axis=1)[:, 0] for x in (mdp.successors, mdp.probabilities)
        )
        reward = jnp.take_along_axis(rewards, policy[:, None], axis=1)[:, 0]
    else:
        policy = policy.astype(rewards.dtype)
        successors = mdp.successors.reshape(rewards.shape[0], -1)
        probabilities = (policy[..., None] * mdp.probabilities).reshape(successors.shape)
        reward = jnp.sum(policy * rewards, axis=-1)
    return _Chain(successors, discount[:, None] * probabilities, reward, 1.0 - discount)


def _evaluate(mdp: MDP, policy: Array, method: Method, tolerance: float, max_sweeps: int, start: Array) -> Array:
    chain = _chain(mdp, policy)
    if method == "solve":
        return solve(factor(_matrix(chain), chain.exit), chain.rewards)

    def sweep(value: Array) -> Array:
        return chain.rewards + jnp.sum(chain.weights * value[chain.successors], axis=-1)

    return _fixed_point(sweep, start, mdp, tolerance, max_sweeps, _max_norm).x


def _check_method(method: str, mdp: MDP) -> None:
    if method not in ("solve", "iterate"):
        raise UsageError(f"method={method!r} is unknown; choose solve or iterate")
    num_states = mdp.terminal.shape[0]
    if method == "solve" and num_states > MAX_DENSE_STATES:
        raise UsageError(f"method='solve' takes {MAX_DENSE_STATES} states and the MDP has {num_states}; pass method='iterate'")


# --- numerics -------------------------------------------------------------------------------------------------------


class _FixedPoint(NamedTuple):
    """[S] the last iterate, the sweeps and the norm of the last change, both []."""

    x: Array
    num_sweeps: Array
    residual: Array


def _max_norm(x: Array) -> Array:
    return jnp.max(jnp.abs(x))


def _fixed_point(
    sweep: Callable[[Array], Array],
    start: Array,
    mdp: MDP,
    tolerance: float,
    max_sweeps: int,
    norm: Callable[[Array], Array],
) -> _FixedPoint:
    """Repeats x <- sweep(x), a contraction by gamma in the norm, until x is within `tolerance` of the fixed point."""
    discount, resolution = _discount(mdp), jnp.finfo(start.dtype)
    # |x - x*| <= gamma / (1 - gamma) |x - x_before| for a contraction; gamma = 1 has the change itself.
    enough = jnp.where(discount < 1.0, tolerance * (1.0 - discount) / jnp.maximum(discount, resolution.tiny), tolerance)

    def body(carry: _FixedPoint) -> _FixedPoint:
        x = sweep(carry.x)
        return _FixedPoint(x, carry.num_sweeps + 1, norm(x - carry.x))

    def unfinished(carry: _FixedPoint) -> Array:
        small = carry.residual <= jnp.maximum(enough, 2.0 * resolution.eps * norm(carry.x))
        return (carry.num_sweeps < max_sweeps) & ~small

    first = _FixedPoint(start, jnp.int32(0), jnp.array(jnp.inf, start.dtype))
    return jax.lax.while_loop(unfinished, body, first)


def _matrix(chain: _Chain) -> Array:
    """[S, S] dense weights W."""
    num_states = chain.rewards.shape[0]
    rows = jnp.arange(num_states)[:, None]
    return jnp.zeros((num_states, num_states), chain.weights.dtype).at[rows, chain.successors].add(chain.weights)
