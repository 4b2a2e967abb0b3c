"""Markov decision processes as arrays, and their exact solutions.

    mdp = make_mdp(successors, probabilities, rewards, discount=0.9, initial=initial, terminal=terminal)

The transition model is sparse: each state and action has K possible successors with their probabilities, so a million states
need no million-by-million matrix. `jaxrl.envs.mdp.mdp_env` plays the same arrays as an environment.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, UsageError


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

    Floating-point arrays keep their precision (float64 needs `jax_enable_x64`).

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
        jnp.asarray(probabilities),
        jnp.asarray(rewards),
        jnp.asarray(discount, probabilities.dtype),
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
