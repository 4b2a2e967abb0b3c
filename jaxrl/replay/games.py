"""A replay of games: positions as they come, each with the outcome of its game as soon as that is known.

    replay = init(example, capacity_rows=512)      # example: what is kept of one row of B positions
    replay = add(replay, rows)                     # [T, B, ...]
    targets = outcomes(replay)                     # [rows, B], of all that is held
    index = sample_indices(key, replay, (256,))

B games run side by side, one column each, and a game goes on in the same column in the next rows. So a game that is not over at
the end of a rollout is no loss: its positions are held, and get their outcome with the rows that end it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.maths.returns import reward_to_go
from jaxrl.replay import ring
from jaxrl.types import Array, PyTree


class Moves(NamedTuple):
    """What is held of each move.

    Attributes:
      kept: pytree of [rows, B, ...], what a learner wants of the position.
      reward: [rows, B] float32 of the player who moved.
      terminated: [rows, B] bool, the game was over.
      truncated: [rows, B] bool, it was cut.
    """

    kept: PyTree
    reward: Array
    terminated: Array
    truncated: Array


class Outcomes(NamedTuple):
    """Of all moves that are held.

    Attributes:
      outcome: [rows, B] float32, the sum of rewards of the rest of the game as the player sees it who moved; 0 where unknown.
      known: [rows, B] bool, False of a game that is not over yet, or was cut.
    """

    outcome: Array
    known: Array


def init(kept: PyTree, num_rows: int) -> ring.Replay:
    """An empty replay; `kept`: what is held of one row of positions, [B, ...] (arrays or shapes)."""
    num_envs = jax.tree.leaves(kept)[0].shape[0]
    numbers, flags = jnp.zeros(num_envs, jnp.float32), jnp.zeros(num_envs, bool)
    return ring.init(Moves(kept, numbers, flags, flags), num_rows)


def add(replay: ring.Replay, moves: Moves) -> ring.Replay:
    """Stores T rows [T, B, ...] over the oldest ones; each call goes on where the games of the last one were."""
    return ring.add(replay, moves)


def outcomes(replay: ring.Replay) -> Outcomes:
    """The outcomes of all games; players take turns, so what one wins the other loses."""
    moves: Moves = replay.data
    # From the oldest row to the newest. Rows that hold nothing yet come first, and nothing before a row depends on it.
    parts = jax.tree.map(lambda rows: jnp.roll(rows, -replay.insert, axis=0), (moves.reward, moves.terminated, moves.truncated))
    reward, terminated, truncated = parts
    ended, nothing = terminated | truncated, jnp.zeros_like(reward)
    over, goes_on = terminated.astype(jnp.float32), 1.0 - ended.astype(jnp.float32)
    known = reward_to_go(over, goes_on, nothing, ended) > 0.0
    outcome = reward_to_go(reward, -goes_on, nothing, ended)
    return Outcomes(*(jnp.roll(rows, replay.insert, axis=0) for rows in (jnp.where(known, outcome, 0.0), known)))


def sample_indices(key: Array, replay: ring.Replay, shape: tuple[int, ...]) -> Array:
    """Places (row * B + column) of moves that are held, uniform with replacement, int32 of `shape`."""
    num_envs = replay.data.reward.shape[1]
    return ring.uniform_index(key, shape, replay.size * num_envs)


def gather(rows: PyTree, index: Array) -> PyTree:
    """What stands at these places of [rows, B, ...]: [*index.shape, ...]."""
    return jax.tree.map(lambda leaf: leaf[index // leaf.shape[1], index % leaf.shape[1]], rows)
