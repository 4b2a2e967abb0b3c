"""Finite Markov decision processes as arrays: the model, its checks and random ones."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UsageError
from jaxrl.types import Array


class MDP(NamedTuple):
    """A finite MDP with S states, A actions and at most K successors of each; a pytree of arrays, to jit and vmap over.

    Attributes:
      successors: [S, A, K] int32.
      probabilities: [S, A, K], rows sum to 1; padding has probability 0.
      rewards: [S, A, K] of the transition to each successor.
      discount: [] gamma.
      initial: [S] distribution of the first state.
      terminal: [S] bool; nothing happens after such a state: its value is 0, whatever its rows say.
    """

    successors: Array
    probabilities: Array
    rewards: Array
    discount: Array
    initial: Array
    terminal: Array


def make_mdp(
    successors: np.ndarray,
    probabilities: np.ndarray,
    rewards: np.ndarray,
    discount: float,
    initial: np.ndarray | None = None,
    terminal: np.ndarray | None = None,
) -> MDP:
    """An MDP from arrays, checked on the host.

    Args:
      successors, probabilities: [S, A, K].
      rewards: [S, A, K], or [S, A] where they do not depend on the successor.
      discount: in [0, 1].
      initial: [S]; None is uniform over the states that are not terminal.
      terminal: [S] bool; None is no terminal state.

    Floating-point arrays keep their precision (float64 needs `jax_enable_x64`). Rows that sum to 1 only up to 1e-4 are divided
    by their sum: with a discount near 1 the excess would grow without bound.

    Raises:
      UsageError: shapes that do not fit, a row of probabilities that is negative or does not sum to 1, a successor out of
        range, rewards that are not finite, no state to start from.
    """
    successors, probabilities = np.asarray(successors), np.asarray(probabilities)
    if successors.ndim != 3 or probabilities.shape != successors.shape:
        raise UsageError(
            f"successors {successors.shape} and probabilities {probabilities.shape} do not match; give both as [S, A, K]"
        )
    num_states = successors.shape[0]
    rewards = np.asarray(rewards, probabilities.dtype)
    if rewards.shape == successors.shape[:2]:
        rewards = np.broadcast_to(rewards[..., None], successors.shape)
    terminal = np.zeros(num_states, bool) if terminal is None else np.asarray(terminal, bool)
    _check_rows(successors, probabilities, rewards, terminal)
    if initial is None:
        if terminal.all():
            raise UsageError("terminal marks every state; leave one to start from")
        initial = ~terminal / np.sum(~terminal)
    initial = np.asarray(initial, probabilities.dtype)
    _check_distribution("initial", initial.reshape(1, -1), num_states)
    if not 0.0 <= discount <= 1.0:
        raise UsageError(f"discount={discount} is out of range; give a value in [0, 1]")
    return MDP(
        jnp.asarray(successors, jnp.int32),
        jnp.asarray(probabilities / probabilities.sum(axis=-1, keepdims=True)),
        jnp.asarray(rewards),
        jnp.asarray(discount, jnp.result_type(probabilities)),
        jnp.asarray(initial),
        jnp.asarray(terminal),
    )


def _check_rows(successors: np.ndarray, probabilities: np.ndarray, rewards: np.ndarray, terminal: np.ndarray) -> None:
    num_states, num_actions, _ = successors.shape
    if rewards.shape != successors.shape:
        raise UsageError(f"rewards {rewards.shape} do not match successors {successors.shape}; give [S, A, K] or [S, A]")
    if terminal.shape != (num_states,):
        raise UsageError(f"terminal {terminal.shape} does not match {num_states} states; give [S]")
    if not np.issubdtype(successors.dtype, np.integer) or successors.min() < 0 or successors.max() >= num_states:
        raise UsageError(f"successors leave 0 .. {num_states - 1}; name existing states")
    if not np.isfinite(rewards).all():
        raise UsageError("rewards are not all finite; give finite numbers")
    _check_distribution("probabilities", probabilities.reshape(num_states * num_actions, -1), successors.shape[2])


def _check_distribution(name: str, rows: np.ndarray, size: int) -> None:
    if rows.shape[1] != size:
        raise UsageError(f"{name} has {rows.shape[1]} entries; give {size}")
    wrong = (rows < 0).any(axis=1) | (np.abs(rows.sum(axis=1) - 1.0) > 1e-4)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UsageError(f"{name}: row {row} sums to {rows[row].sum():.6g} or has a negative entry; make it a distribution")


def garnet(
    key: Array,
    num_states: int,
    num_actions: int,
    branching: int,
    discount: Array | float,
    num_terminal: int = 0,
    reward_std: float = 0.0,
) -> MDP:
    """A random MDP, pure so that a thousand of them are one `vmap` over keys.

    Every state and action has `branching` distinct successors, drawn uniformly; their probabilities are the lengths into which
    uniform points cut [0, 1]. Expected rewards [S, A] are standard normal.

    Args:
      num_terminal: the last states that are terminal; the first state is uniform over the others.
      reward_std: deviation of a transition's reward from its expectation, by successor.

    Raises:
      UsageError: more successors than states, or no state to start from.

    Source: Archibald, McKinnon & Thomas 1995; Bhatnagar, Sutton, Ghavamzadeh & Lee 2009.
    """
    if not 1 <= branching <= num_states:
        raise UsageError(f"branching={branching} is not in 1 .. num_states={num_states}; give a number of distinct successors")
    if not 0 <= num_terminal < num_states:
        raise UsageError(f"num_terminal={num_terminal} leaves none of {num_states} states to start from; give fewer")
    key_successors, key_cuts, key_mean, key_noise = jax.random.split(key, 4)
    shape = (num_states, num_actions, branching)
    cuts = jnp.sort(jax.random.uniform(key_cuts, (*shape[:2], branching - 1)), axis=-1)
    probabilities = jnp.diff(cuts, axis=-1, prepend=0.0, append=1.0)
    mean = jax.random.normal(key_mean, shape[:2])
    rewards = mean[..., None] + reward_std * jax.random.normal(key_noise, shape)
    terminal = jnp.arange(num_states) >= num_states - num_terminal
    initial = jnp.where(terminal, 0.0, 1.0 / (num_states - num_terminal)).astype(probabilities.dtype)
    gamma = jnp.asarray(discount, probabilities.dtype)
    return MDP(_distinct(key_successors, shape, num_states), probabilities, rewards, gamma, initial, terminal)


def _distinct(key: Array, shape: tuple[int, int, int], num_states: int) -> Array:
    """[S, A, K] int32, distinct along K and uniform, without a permutation of the states for each row (Floyd's sampling,
    Bentley & Floyd 1987)."""
    first = num_states - shape[2]

    def add(index: Array, chosen: Array) -> Array:
        largest = first + index
        drawn = jax.random.randint(jax.random.fold_in(key, index), shape[:2], 0, largest + 1, jnp.int32)
        taken = jnp.any(chosen == drawn[..., None], axis=-1)
        return chosen.at[..., index].set(jnp.where(taken, largest.astype(jnp.int32), drawn))

    return jax.lax.fori_loop(0, shape[2], add, jnp.full(shape, -1, jnp.int32))
