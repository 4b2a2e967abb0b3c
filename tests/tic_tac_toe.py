"""Tic-tac-toe by rules of our own: every position that can be reached, and what it is worth.

A board is nine numbers, row by row: 1 of the player to move, -1 of the other, 0 of an empty point.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.types import Env, Position, PyTree

Board = tuple[int, ...]
LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
_AT_ONCE = 4096


def moved(board: Board, point: int) -> Board:
    """As the other player sees it after a move."""
    return tuple(-1 if place == point else -stone for place, stone in enumerate(board))


def lost(board: Board) -> bool:
    """Whether the other player has three in a row."""
    return any(all(board[point] == -1 for point in line) for line in LINES)


@cache
def worth(board: Board) -> int:
    """For the player to move, if both play as well as can be: 1, 0 or -1."""
    if lost(board):
        return -1
    return max((-worth(moved(board, point)) for point in range(9) if board[point] == 0), default=0)


class Level(NamedTuple):
    """Games that are not over after so many moves, and all that can follow.

    Attributes:
      boards: N of them.
      obs: [N, ...].
      moves: M pairs of a board's index and a point.
      after, reward, over: [M, ...] what the environment's model says.
    """

    boards: list[Board]
    obs: Position
    moves: list[tuple[int, int]]
    after: Position
    reward: np.ndarray
    over: np.ndarray


def rows(tree: PyTree, index: Any) -> PyTree:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def levels(env: Env) -> Iterator[Level]:
    """From the empty board on, each board once."""
    step = jax.jit(jax.vmap(partial(env.model, jax.random.key(0), env.params)))
    boards, obs = [(0,) * 9], rows(env.reset(jax.random.key(0), env.params)[1], slice(0, 1))
    while boards:
        moves = [(i, point) for i, board in enumerate(boards) for point in range(9) if board[point] == 0]
        # One shape for every level: a program for each would take longer than all of it.
        padded = np.array(moves + [moves[0]] * (-len(moves) % _AT_ONCE), np.int32)
        after, reward, over = rows(step(rows(obs, padded[:, 0]), padded[:, 1]), slice(0, len(moves)))
        yield Level(boards, obs, moves, after, reward, over)
        going = {moved(boards[i], point): place for place, (i, point) in enumerate(moves) if not over[place]}
        boards, obs = list(going), rows(after, np.array(list(going.values()), int))
