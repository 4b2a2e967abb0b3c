"""Go as people write it: points by letters and numbers, a board as text, an area as a score.

A move is the action of `pgx/go_NxN`: row * N + column from the upper left corner, and N * N to pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LETTERS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"
"""Columns from the left; there is no I."""
BLACK, WHITE = "B", "W"


def other(colour: str) -> str:
    """The other player's colour."""
    return WHITE if colour == BLACK else BLACK


def vertex(move: int, size: int) -> str:
    """`C3` or `pass`, of a move."""
    if move == size * size:
        return "pass"
    row, column = divmod(move, size)
    return f"{LETTERS[column]}{size - row}"


def move_of(text: str, size: int) -> int | None:
    """The move that a text such as `c3` or `PASS` names; None where it names none of this board."""
    text = text.upper()
    if text == "PASS":
        return size * size
    column, number = LETTERS[:size].find(text[:1]) if text else -1, text[1:]
    if column < 0 or not (number.isascii() and number.isdigit()) or not 1 <= int(number) <= size:
        return None
    return (size - int(number)) * size + column


def stones(planes: Any) -> np.ndarray:
    """[N, N] 1 of black stones, -1 of white ones, of the planes of one position of Go."""
    planes = np.asarray(planes)
    mine, theirs = planes[..., 0].astype(int), planes[..., 1].astype(int)
    return (mine - theirs) * (-1 if planes[0, 0, -1] else 1)


def area(board: np.ndarray) -> int:
    """Black's points less White's: stones, and empty points that one colour alone can reach. No stone is taken for dead."""
    size, seen, total = len(board), np.zeros(board.shape, bool), int(board.sum())
    for start in zip(*np.nonzero(board == 0), strict=True):
        if seen[start]:
            continue
        group, borders, open_points = 0, set(), [start]
        seen[start] = True
        while open_points:
            row, column = open_points.pop()
            group += 1
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if not (0 <= near[0] < size and 0 <= near[1] < size):
                    continue
                if board[near]:
                    borders.add(int(board[near]))
                elif not seen[near]:
                    seen[near] = True
                    open_points.append(near)
        if len(borders) == 1:
            total += group * borders.pop()
    return total


def score_text(points: float) -> str:
    """`B+3.5`, of Black's points less White's and komi; `0` of a tie."""
    return f"{BLACK if points > 0 else WHITE}+{abs(points):g}" if points else "0"


def drawing(board: np.ndarray) -> str:
    """The board as text: X black, O white, letters and numbers at all sides."""
    size = len(board)
    letters = "   " + " ".join(LETTERS[:size])
    rows = (
        f"{size - row:2d} {' '.join('.XO'[stone] for stone in stones_of_row)} {size - row}"
        for row, stones_of_row in enumerate(board)
    )
    return "\n".join([letters, *rows, letters])
