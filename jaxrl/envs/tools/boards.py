"""How each board game is drawn: a class for each kind of board, which `jaxrl.envs.tools.board_pictures` calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxrl.envs.tools.canvas import INK, Canvas, Color

_WIDTH, _EDGE, _SMOOTH = 440, 24, 3
FOOT = 36
"""Height of the line below a board."""
_WOOD, _GRAIN, _FELT, _FRAME = (226, 184, 118), (92, 66, 34), (46, 125, 82), (40, 82, 158)
_LIGHT, _DARK, _RECENT = (240, 225, 198), (176, 134, 98), (246, 226, 120)
_BLACK, _WHITE, _RED, _YELLOW, _BLUE = (34, 34, 38), (247, 246, 242), (207, 62, 56), (244, 199, 65), (52, 101, 184)
_PALE, _FAINT, _HOLE, _RIM = (118, 128, 140), (222, 232, 244), (222, 230, 242), ((165, 40, 36), (206, 160, 36))
_GREEN, _PIECE = (28, 84, 54), (250, 232, 196)

LETTERS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"
"""Columns of Go from the left; there is no I."""
_CHESS, _SHOGI = "♟♞♝♜♛♚", ("P", "L", "N", "S", "B", "R", "G", "K", "+P", "+L", "+N", "+S", "+B", "+R")


class Board(NamedTuple):
    """What can be seen of a position.

    Attributes:
      cells: [rows, columns] int, 0 where it is empty, above 0 for a piece of the first player and below for one of the second;
        1 is a stone, of chess 1 to 6 are pawn, knight, bishop, rook, queen, king, and of shogi 1 to 14 pgx's pieces.
      second: whether it is the second player's turn.
      hands: [2, 7] int, pieces of shogi that each player may drop, by their kind; none of other games.
    """

    cells: np.ndarray
    second: bool
    hands: np.ndarray = np.zeros((2, 0), int)


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


class _Squares:
    """A board of squares; the games that are played on one draw their own pieces.

    Attributes:
      names, colors: of the first and the second player.
      letters: of the columns, none where they are not named.
      ground, rule, mark: the colours of the board, of its lines and of what the last move changed.
      downwards: whether rows are counted from above.
    """

    names, colors, letters = ("Black", "White"), (_BLACK, _WHITE), "abcdefgh"
    ground: Color = _FELT
    rule: Color = _GREEN
    mark: Color = _RED
    downwards = False

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.cell: float = (_WIDTH - 2 * _EDGE) // max(rows, columns)
        self.left = (_WIDTH - self.cell * columns) // 2
        self.canvas = Canvas(_WIDTH, self.cell * rows + 2 * _EDGE + FOOT, smooth=_SMOOTH)

    def place(self, row: int, column: int) -> tuple[float, float]:
        """The middle of a point."""
        return self.left + (column + 0.5) * self.cell, _EDGE + (row + 0.5) * self.cell

    def corners(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The upper left and the lower right one of the board."""
        (left, top), (right, bottom), half = self.place(0, 0), self.place(self.rows - 1, self.columns - 1), self.cell / 2
        return (left - half, top - half), (right + half, bottom + half)

    def draw(self, board: Board, recent: np.ndarray) -> None:
        self.field()
        self.lines()
        self.coordinates()
        for row, column in np.ndindex(*board.cells.shape):
            self.piece(self.place(row, column), int(board.cells[row, column]), bool(recent[row, column]))

    def field(self) -> None:
        (left, top), (right, bottom) = self.corners()
        self.canvas.box(left, top, right - left, bottom - top, self.ground)

    def lines(self) -> None:
        (left, top), (right, bottom) = self.corners()
        for number in range(self.columns + 1):
            self.canvas.line([(left + number * self.cell, top), (left + number * self.cell, bottom)], self.rule)
        for number in range(self.rows + 1):
            self.canvas.line([(left, top + number * self.cell), (right, top + number * self.cell)], self.rule)

    def coordinates(self) -> None:
        for column, letter in enumerate(self.letters[: self.columns]):
            x, y = self.place(self.rows - 1, column)
            self.canvas.text((x, y + self.cell / 2 + 4), letter, _PALE, "mt", size=12)
        for row in range(self.rows if self.letters else 0):
            x, y = self.place(row, 0)
            self.canvas.text(
                (x - self.cell / 2 - 6, y), str(row + 1 if self.downwards else self.rows - row), _PALE, "rm", size=12
            )

    def piece(self, at: tuple[float, float], piece: int, is_recent: bool) -> None:
        if piece:
            self.stone(at, 0.42 * self.cell, piece < 0)
            if is_recent:
                self.canvas.disc(at, 0.1 * self.cell, self.mark)

    def stone(self, at: tuple[float, float], radius: float, second: bool) -> None:
        self.canvas.disc(at, radius, self.colors[second], _BLACK if self.colors[second] == _WHITE else None, 0.8)

    def foot(self, board: Board, players: tuple[str, str] | None, caption: str) -> None:
        """The players below the board, whose turn it is, and the caption. A GIF has the colours of its first picture, hence
        all are there before there is a stone on the board."""
        y = self.canvas.size[1] - FOOT / 2 - 2
        self.canvas.text((_WIDTH - _EDGE - 14, y), caption, _PALE, "rm", size=14)
        self.canvas.box(_WIDTH - _EDGE - 8, y - 4, 8, 8, self.mark)
        for second, name in enumerate(players or self.names):
            x = _EDGE + second * (_WIDTH - 2 * _EDGE) * 0.38
            if second == board.second:
                self.canvas.polygon([(x - 14, y - 5), (x - 14, y + 5), (x - 6, y)], INK)
            self.token((x + 9, y), bool(second))
            self.canvas.text((x + 24, y), _short(name), INK, "lm", size=14)

    def token(self, at: tuple[float, float], second: bool) -> None:
        """A small piece of a player."""
        self.stone(at, 8, second)


class _Othello(_Squares):
    """Discs on felt, with the four dots of a tournament's board."""

    downwards = True

    def lines(self) -> None:
        super().lines()
        for row, column in ((2, 2), (2, 6), (6, 2), (6, 6)):
            self.canvas.disc((self.left + column * self.cell, _EDGE + row * self.cell), 3, _GREEN)


class _TicTacToe(_Squares):
    """Crosses and noughts on white."""

    names, colors, letters = ("X", "O"), (_BLUE, _RED), ""
    ground, mark = (255, 255, 255), _FAINT

    def lines(self) -> None:
        width, end = self.cell * self.columns, 6
        for number in (1, 2):
            x, y = self.left + number * self.cell, _EDGE + number * self.cell
            self.canvas.line([(x, _EDGE + end), (x, _EDGE + width - end)], _PALE, 3)
            self.canvas.line([(self.left + end, y), (self.left + width - end, y)], _PALE, 3)

    def piece(self, at: tuple[float, float], piece: int, is_recent: bool) -> None:
        if is_recent:
            self.canvas.box(at[0] - 0.44 * self.cell, at[1] - 0.44 * self.cell, 0.88 * self.cell, 0.88 * self.cell, self.mark)
        if piece:
            self.stone(at, 0.3 * self.cell, piece < 0)

    def stone(self, at: tuple[float, float], radius: float, second: bool) -> None:
        (x, y), width = at, max(2.5, 0.26 * radius)
        if second:
            self.canvas.disc(at, radius + width / 2, None, self.colors[1], width)
            return
        for way in (-1, 1):
            ends = [(x - radius, y - way * radius), (x + radius, y + way * radius)]
            self.canvas.line(ends, self.colors[0], width)
            for end in ends:
                self.canvas.disc(end, width / 2, self.colors[0])


class _ConnectFour(_Squares):
    """Discs behind the holes of a blue board."""

    names, colors, letters = ("Red", "Yellow"), (_RED, _YELLOW), "abcdefg"
    ground, mark = _FRAME, _WHITE

    def lines(self) -> None:
        pass

    def coordinates(self) -> None:
        for column, letter in enumerate(self.letters):
            self.canvas.text((self.place(0, column)[0], _EDGE - 5), letter, _PALE, "mb", size=12)

    def piece(self, at: tuple[float, float], piece: int, is_recent: bool) -> None:
        if not piece:
            self.canvas.disc(at, 0.41 * self.cell, _HOLE)
            return
        self.stone(at, 0.41 * self.cell, piece < 0)
        if is_recent:
            self.canvas.disc(at, 0.1 * self.cell, self.mark)

    def stone(self, at: tuple[float, float], radius: float, second: bool) -> None:
        self.canvas.disc(at, radius, self.colors[second])
        self.canvas.disc(at, 0.73 * radius, None, _RIM[second], 2)


class _Go(_Squares):
    """Stones on the crossings of lines on wood."""

    letters, ground, mark = LETTERS, _WOOD, _GRAIN

    def lines(self) -> None:
        for number in range(self.rows):
            for ends in (((number, 0), (number, self.columns - 1)), ((0, number), (self.rows - 1, number))):
                self.canvas.line([self.place(*end) for end in ends], _GRAIN, 1.7 if number in (0, self.rows - 1) else 1)
        for row, column in _star_points(self.rows):
            self.canvas.disc(self.place(row, column), max(2.2, 0.08 * self.cell), _GRAIN)

    def piece(self, at: tuple[float, float], piece: int, is_recent: bool) -> None:
        if piece:
            self.stone(at, 0.47 * self.cell, piece < 0)
            if is_recent:
                self.canvas.disc(at, 0.24 * self.cell, None, self.colors[piece > 0], max(1.5, 0.06 * self.cell))


def _star_points(size: int) -> Iterable[tuple[int, int]]:
    """The dots of a board of Go."""
    middle, edge = size // 2, 2 if size < 12 else 3
    if size < 7:
        return [(middle, middle)] if size % 2 else []
    lines = (edge, middle, size - 1 - edge) if size % 2 else (edge, size - 1 - edge)
    points = [(row, column) for row in lines for column in lines]
    return points if size > 13 else [point for point in points if (middle in point) == (point == (middle, middle))]


class _Hex(_Squares):
    """Cells of six sides in a slanted board; a player connects the two sides of its colour."""

    names, colors, mark = ("Red", "Blue"), (_RED, _BLUE), _WHITE

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.cell = (_WIDTH - 2 * _EDGE) / (columns + (rows + 1) / 2)
        self.canvas = Canvas(_WIDTH, round(self.cell * (rows * 0.75**0.5 + 0.3) + 2.6 * _EDGE) + FOOT, smooth=_SMOOTH)

    def place(self, row: int, column: int) -> tuple[float, float]:
        return _EDGE + (column + 0.75 + row / 2) * self.cell, 1.3 * _EDGE + (0.6 + row * 0.75**0.5) * self.cell

    def field(self) -> None:
        """The rims, as cells that stand out beyond those of the board."""
        rows, columns, slant = self.rows - 1, self.columns - 1, 0.75**0.5
        for row, column in np.ndindex(self.rows, self.columns):
            x, y = self.place(row, column)
            for is_there, second, way in (
                (row == 0, False, (0.0, -1.0)),
                (row == rows, False, (0.0, 1.0)),
                (column == 0, True, (-slant, 0.5)),
                (column == columns, True, (slant, -0.5)),
            ):
                if is_there:
                    beyond = x + 0.34 * self.cell * way[0], y + 0.34 * self.cell * way[1]
                    self.canvas.polygon(self.outline(beyond), self.colors[second])

    def lines(self) -> None:
        pass

    def piece(self, at: tuple[float, float], piece: int, is_recent: bool) -> None:
        self.canvas.polygon(self.outline(at), self.colors[piece < 0] if piece else _WHITE, _PALE, 1)
        if is_recent:
            self.canvas.disc(at, 0.18 * self.cell, self.mark)

    def outline(self, at: tuple[float, float]) -> list[tuple[float, float]]:
        """The corners of the cell around a point."""
        radius = self.cell / 3**0.5
        angles = (np.arange(6) + 0.5) * np.pi / 3
        return [(at[0] + radius * np.cos(angle), at[1] + radius * np.sin(angle)) for angle in angles]

    def coordinates(self) -> None:
        for column, letter in enumerate("abcdefghijk"):
            x, y = self.place(0, column)
            self.canvas.text((x - 0.25 * self.cell, y - 1.1 * self.cell), letter, _PALE, "mb", size=11)
        for row in range(self.rows):
            x, y = self.place(row, 0)
            self.canvas.text((x - 1.05 * self.cell, y + 0.3 * self.cell), str(row + 1), _PALE, "rm", size=11)

    def token(self, at: tuple[float, float], second: bool) -> None:
        self.canvas.disc(at, 8, self.colors[second])


class _Chess(_Squares):
    """Figures of the kind that books print; the squares that a piece left and came to are coloured."""

    names, colors, mark = ("White", "Black"), (_WHITE, _BLACK), _RECENT

    def lines(self) -> None:
        for row, column in np.ndindex(self.rows, self.columns):
            x, y = self.place(row, column)
            # The lower left corner is dark.
            color = _LIGHT if (row + column + self.rows) % 2 == 0 else _DARK
            self.canvas.box(x - self.cell / 2, y - self.cell / 2, self.cell, self.cell, color)

    def piece(self, at: tuple[float, float], piece: int, is_recent: bool) -> None:
        if is_recent:
            side = 0.5 * self.cell
            self.canvas.box(at[0] - side, at[1] - side, self.cell, self.cell, self.mark)
        if piece:
            self.figure(at, abs(piece) - 1, piece < 0, 0.8 * self.cell)

    def figure(self, at: tuple[float, float], kind: int, second: bool, size: float) -> None:
        color, edge = (_BLACK, _WHITE) if second else (_WHITE, _BLACK)
        self.canvas.text(at, _CHESS[kind], color, "mm", size=size, edge=edge, figures=True)

    def token(self, at: tuple[float, float], second: bool) -> None:
        self.figure(at, 5, second, 24)


class _Shogi(_Squares):
    """Wedges that point at the other side, with letters (K king, G gold, S silver, N knight, L lance, B bishop, R rook, P pawn;
    promoted ones red with a +); what may be dropped stands below and above."""

    names, colors, letters, ground = ("Black", "White"), (_BLACK, _WHITE), "", _WOOD
    rule, mark = _GRAIN, _RECENT

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(rows, columns)
        self.canvas = Canvas(_WIDTH, self.canvas.size[1] + 2 * FOOT - _EDGE, smooth=_SMOOTH)

    def place(self, row: int, column: int) -> tuple[float, float]:
        x, y = super().place(row, column)
        return x, y + FOOT - _EDGE / 2

    def draw(self, board: Board, recent: np.ndarray) -> None:
        super().draw(board, recent)
        for second, hand in enumerate(board.hands):
            y = self.place(0, 0)[1] - self.cell / 2 - 18 if second else self.place(self.rows - 1, 0)[1] + self.cell / 2 + 18
            held = [(kind, number) for kind, number in enumerate(hand.tolist()) if number]
            for place, (kind, number) in enumerate(held):
                x = self.left + 14 + place * 54
                self.wedge((x, y), kind, bool(second), 30)
                self.canvas.text((x + 16, y), f"x {number}", INK, "lm", size=12)

    def piece(self, at: tuple[float, float], piece: int, is_recent: bool) -> None:
        if is_recent:
            side = 0.46 * self.cell
            self.canvas.box(at[0] - side, at[1] - side, 2 * side, 2 * side, self.mark)
        if piece:
            self.wedge(at, abs(piece) - 1, piece < 0, 0.9 * self.cell)

    def wedge(self, at: tuple[float, float], kind: int, second: bool, size: float) -> None:
        way = -1 if second else 1
        shape = ((0.0, -0.48), (0.3, -0.33), (0.4, 0.46), (-0.4, 0.46), (-0.3, -0.33))
        self.canvas.polygon([(at[0] + way * x * size, at[1] + way * y * size) for x, y in shape], _PIECE, _GRAIN, 1)
        color = _RED if kind > 7 else _BLACK
        self.canvas.text((at[0], at[1] + 0.04 * way * size), _SHOGI[kind], color, "mm", size=0.46 * size, turned=second)

    def token(self, at: tuple[float, float], second: bool) -> None:
        self.wedge(at, 7, second, 24)


BOARDS: dict[str, type[_Squares]] = {
    "tic_tac_toe": _TicTacToe,
    "connect_four": _ConnectFour,
    "othello": _Othello,
    "hex": _Hex,
    "go": _Go,
    "chess": _Chess,
    "shogi": _Shogi,
}


def kind_of(name: str) -> str:
    """`go` of any size, `chess` of either; else the game itself."""
    return "go" if name.startswith("go_") else "chess" if name == "gardner_chess" else name
