"""The map of an MDP whose states are cells of a grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""(rows, columns) of each action: north, east, south, west."""


class Grid(NamedTuple):
    """A map and how states lie on it: what pictures and printed policies need.

    Attributes:
      rows: H texts of W characters.
      states: [H, W] number of the state of each cell, -1 where there is none (walls, cliffs).
      moves: (rows, columns) that each of the A actions goes.
    """

    rows: tuple[str, ...]
    states: np.ndarray
    moves: tuple[tuple[int, int], ...] = MOVES
