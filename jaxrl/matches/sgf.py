"""Records of games of Go in the Smart Game Format (FF[4], https://www.red-bean.com/sgf).

text = write(Record(9, 7.5, moves, black="alphazero", white="gnugo"))
record = read(text)
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from jaxrl.errors import UsageError, shown
from jaxrl.matches.board import BLACK, WHITE, other

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TOKEN = re.compile(r"\s*(?:(?P<punctuation>[();])|(?P<name>[A-Za-z]+)|\[(?P<value>(?:\\.|[^\]\\])*)\])", re.DOTALL)
_ESCAPED = re.compile(r"\\(\r\n|.)", re.DOTALL)


class Record(NamedTuple):
    """A game of Go.

    Attributes:
      size: of the board (N).
      komi: White's points in advance.
      moves: actions of `pgx/go_NxN`, Black's first, in turns.
      black, white: the players' names.
      result: such as `B+3.5`, `W+Resign`, or `` of a game that is not over.
      rules: by which it was played.
      comment: on the game.
    """

    size: int
    komi: float
    moves: tuple[int, ...]
    black: str = ""
    white: str = ""
    result: str = ""
    rules: str = "Chinese"
    comment: str = ""


def write(record: Record) -> str:
    """The record as SGF."""
    properties = {
        "GM": "1",
        "FF": "4",
        "CA": "UTF-8",
        "AP": "jaxrl",
        "SZ": str(record.size),
        "KM": f"{record.komi:g}",
        "RU": record.rules,
        "PB": record.black,
        "PW": record.white,
        "RE": record.result,
        "GC": record.comment,
    }
    root = "".join(f"{name}[{_escaped(value)}]" for name, value in properties.items() if value)
    nodes, colour = [], BLACK
    for move in record.moves:
        nodes.append(f";{colour}[{_point(move, record.size)}]")
        colour = other(colour)
    lines = ["".join(nodes[i : i + 10]) for i in range(0, len(nodes), 10)]
    return "\n".join([f"(;{root}", *lines]) + ")\n"


def read(text: str) -> Record:
    """The main line of the first game of an SGF.

    Raises:
      UsageError: what is no SGF, is no game of Go, is cut off, has moves out of turn or stones that are set up.
    """
    nodes = _main_line(text)
    root = nodes[0]
    if root.get("GM", ["1"])[0].strip() != "1":
        raise UsageError(f"sgf: GM={shown(root['GM'][0])} is no game of Go; give one with GM[1]")
    size, komi = _number(root, "SZ", 19), _number(root, "KM", 0.0)
    if size != int(size) or not 1 <= size <= len(_LETTERS):
        raise UsageError(f"sgf: SZ={root['SZ'][0]!r} is no size of a square board; give a number from 1 to {len(_LETTERS)}")
    moves: list[int] = []
    colour = BLACK
    for number, node in enumerate(nodes):
        for setup in ("AB", "AW", "AE"):
            if setup in node:
                raise UsageError(f"sgf: node {number} sets up stones ({setup}); give a game that begins with an empty board")
        for player in (BLACK, WHITE):
            if player not in node:
                continue
            if player != colour:
                raise UsageError(
                    f"sgf: move {len(moves) + 1} is {player}'s and it is {colour}'s turn; give one with alternate moves"
                )
            moves.append(_move(node[player][0], int(size), len(moves) + 1))
            colour = other(colour)
    fields = {"black": "PB", "white": "PW", "result": "RE", "rules": "RU", "comment": "GC"}
    return Record(int(size), komi, tuple(moves), **{field: root.get(name, [""])[0] for field, name in fields.items()})


def _main_line(text: str) -> list[dict[str, list[str]]]:
    """The properties of each node of the first variation."""
    nodes: list[dict[str, list[str]]] = []
    place, depth, closed, name = 0, 0, False, ""
    while text[place:].strip():
        token = _TOKEN.match(text, place)
        if token is None:
            raise UsageError(
                f"sgf: {shown(text[place:].strip()[:20])} is no part of an SGF; give one such as (;GM[1]SZ[9];B[ee])"
            )
        place = token.end()
        if token["punctuation"] == "(":
            depth += 1
        elif token["punctuation"] == ")":
            depth, closed = depth - 1, True
            if depth < 0:
                raise UsageError("sgf: a ) closes nothing; give a whole file")
            if depth == 0:
                break
        elif closed:
            continue  # A variation beside the main line.
        elif token["punctuation"] == ";" and depth:
            nodes.append({})
        elif token["name"] and nodes:
            name = "".join(letter for letter in token["name"] if letter.isupper())
            nodes[-1][name] = []
        elif token["value"] is not None and nodes and name in nodes[-1]:
            nodes[-1][name].append(_ESCAPED.sub(lambda found: found[1].strip("\r\n"), token["value"]))
        else:
            raise UsageError(f"sgf: {shown(token[0].strip()[:20])} stands where it means nothing; give a whole file")
    if depth:
        raise UsageError("sgf: it is cut off, a ) is missing; give a whole file")
    if not nodes:
        raise UsageError("sgf: there is no game in it; give one such as (;GM[1]SZ[9];B[ee])")
    for number, node in enumerate(nodes):
        for name, values in node.items():
            if not values:
                raise UsageError(f"sgf: {name} of node {number} has no value; give a whole file")
    return nodes


def _number(root: dict[str, list[str]], name: str, default: float) -> float:
    text = root.get(name, [str(default)])[0]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"sgf: {name}={shown(text)} is no number; give one")
    return number


def _move(text: str, size: int, number: int) -> int:
    text = text.strip()
    if text == "" or (text == "tt" and size <= 19):
        return size * size
    place = [_LETTERS.find(letter) for letter in text]
    if len(place) != 2 or not all(0 <= part < size for part in place):
        raise UsageError(
            f"sgf: move {number} is {shown(text)}, no point of a board of {size}x{size}; give two letters up to "
            f"{_LETTERS[size - 1]}"
        )
    return place[1] * size + place[0]


def _point(move: int, size: int) -> str:
    if move == size * size:
        return ""
    row, column = divmod(move, size)
    return _LETTERS[column] + _LETTERS[row]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("]", "\\]").replace(":", "\\:")
