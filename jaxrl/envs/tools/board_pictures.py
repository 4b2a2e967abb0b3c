"""Pictures of board games, drawn with Pillow: what stands on the board, the last move, and whose turn it is.

    frame = draw_board("go_9x9", board_of("go_9x9", planes, second=False), previous)      # [height, width, 3] uint8

A player keeps its colour and its side of the board whoever is to move: the first one is black in Go, Othello and shogi, white
in chess, and plays down to up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxrl.envs.tools.boards import BOARDS, Board, kind_of


def board_of(name: str, planes: Any, second: bool) -> Board:
    """The board of planes [rows, columns, C] as the player to move sees them.

    Args:
      name: of a game of `jaxrl.envs.pgx`.
      second: whether that is the second player.
    """
    planes, kind, hands = np.asarray(planes), kind_of(name), np.zeros((2, 0), int)
    mine, theirs = {"chess": ((0, 6), (6, 12)), "shogi": ((0, 14), (31, 45))}.get(kind, ((0, 1), (1, 2)))
    pieces = np.arange(1, 1 + mine[1] - mine[0])
    cells = (planes[..., slice(*mine)] @ pieces - planes[..., slice(*theirs)] @ pieces).astype(int)
    if kind == "shogi":
        kinds = np.repeat(np.arange(7), (8, 4, 4, 4, 4, 2, 2))  # Of a hand's planes; gold comes before bishop and rook there.
        counts = [np.bincount(kinds, planes[0, 0, start : start + 28], 7).astype(int) for start in (62, 90)]
        hands = np.array(counts)[:, [0, 1, 2, 3, 5, 6, 4]]
    if not second:
        return Board(cells, second, hands)
    seen = {"chess": (slice(None, None, -1), slice(None)), "shogi": (slice(None, None, -1),) * 2}.get(kind, (slice(None),) * 2)
    return Board(-cells[seen], second, hands[::-1])


def draw_board(
    name: str, board: Board, previous: Board | None = None, players: tuple[str, str] | None = None, caption: str = ""
) -> np.ndarray:
    """A picture of a board.

    Args:
      name: of a game of `jaxrl.envs.pgx`.
      previous: the board before; what came since is marked.
      players: names of the first and the second one, which are written below; by default those of their colours.
      caption: what is written beside them.

    Returns:
      [height, width, 3] uint8, the same height and width for all boards of a game.
    """
    picture = BOARDS[kind_of(name)](*board.cells.shape)
    recent = np.zeros(board.cells.shape, bool) if previous is None else _recent(kind_of(name), previous.cells, board.cells)
    picture.draw(board, recent)
    picture.foot(board, players, caption)
    return picture.canvas.array()


def draw_game(
    name: str, plies: Iterable[tuple[Any, float | None]], players: tuple[str, str] | None = None
) -> Iterator[np.ndarray]:
    """The pictures of a game, as they are asked for.

    Args:
      name: of a game of `jaxrl.envs.pgx`.
      plies: of each position from the first one on the planes [rows, columns, C] as the player to move sees them, and the
        outcome for the first player where the game is over: 1, 0 or -1; None where it is not.
      players: names of the first and the second one.
    """
    previous: Board | None = None
    kind = BOARDS[kind_of(name)]
    for number, (planes, outcome) in enumerate(plies):
        board = board_of(name, planes, bool(number % 2))
        has_passed = previous is not None and (previous.cells == board.cells).all()
        caption = f"move {number}, pass" if has_passed else f"move {number}"
        if outcome is not None:
            caption += ", drawn" if outcome == 0 else f", {kind.names[outcome < 0]} wins"
        yield draw_board(name, board, previous, players, caption)
        previous = board


def places(name: str, rows: int, columns: int) -> np.ndarray:
    """[rows, columns, 2] x and y of the middle of each point in the pictures of a game."""
    picture = BOARDS[kind_of(name)](rows, columns)
    return np.array([[picture.place(row, column) for column in range(columns)] for row in range(rows)])


def _recent(kind: str, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[rows, columns] bool, where the last move went and, of pieces, where it came from."""
    return before != after if kind in ("chess", "shogi") else (before == 0) & (after != 0)
