"""Records of a match: `games/0001.sgf` of Go, `games/0001.txt` of other games, and `match.json` with all that it was made of.

A game's record is written as it ends, so that of a match that breaks off nothing that was played is lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.errors import UsageError, shown
from jaxrl.matches import sgf
from jaxrl.matches.games import Game
from jaxrl.matches.results import ENDS, MatchResult, Played
from jaxrl.records.files import whole, write_json
from jaxrl.records.folders import new_folder
from jaxrl.runs.definition import versions

FILE = "match.json"
_EVERY_SECONDS = 1.0
_RESULTS = {1: "1-0", 0: "1/2-1/2", -1: "0-1", None: "*"}
_HEADER = re.compile(r'\[(\w+) "((?:[^"\\]|\\.)*)"\]')


class GameText(NamedTuple):
    """A record of a game other than Go; `moves`: as `Game.names` has them."""

    headers: dict[str, str]
    moves: tuple[str, ...]


def write_text(record: GameText) -> str:
    """The record as PGN writes games: a header a line, an empty line, numbered pairs of moves and the result."""
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in record.headers.items()}
    words = [f"{i // 2 + 1}. {move}" if i % 2 == 0 else move for i, move in enumerate(record.moves)]
    lines = [" ".join(words[i : i + 16]) for i in range(0, len(words), 16)]
    headers = [f'[{name} "{value}"]' for name, value in escaped.items()]
    return "\n".join([*headers, "", *lines, record.headers.get("Result", "*")]) + "\n"


def read_text(text: str) -> GameText:
    """A record that `write_text` wrote.

    Raises:
      UsageError: any other text.
    """
    head, _, body = text.partition("\n\n")
    headers = {}
    for line in head.splitlines():
        found = _HEADER.fullmatch(line)
        if found is None:
            raise UsageError(f'record: {shown(line)} is no header; give a file with lines such as [Game "pgx/othello"]')
        headers[found[1]] = re.sub(r"\\(.)", r"\1", found[2])
    words = body.split()
    if not words or words[-1] not in _RESULTS.values():
        raise UsageError("record: it is cut off, there is no result at its end; give a whole file")
    moves: list[str] = []
    for word in words[:-1]:
        number = f"{len(moves) // 2 + 1}."
        if word.endswith("."):
            if word != number or len(moves) % 2:
                raise UsageError(f"record: {shown(word)} stands where {number} or a move is to be; give a whole file")
        else:
            moves.append(word)
    return GameText(headers, tuple(moves))


def record_of(game: Game, names: tuple[str, str], played: Played) -> str:
    """The record of a game; `names` of A and B."""
    first, second = names[played.first], names[1 - played.first]
    said = [f"{name} scores it {score}" for name, score in zip((first, second), played.said, strict=True) if score]
    ended = "; ".join([ENDS[played.how], *said])
    if game.size:
        return sgf.write(sgf.Record(game.size, game.komi, played.moves, first, second, played.result, "Chinese", ended))
    headers = {
        "Game": game.env_id,
        "Number": str(played.number + 1),
        "First": first,
        "Second": second,
        "Result": _RESULTS[played.outcome],
        "Ended": ended,
    }
    return write_text(GameText(headers, tuple(game.names[move] for move in played.moves)))


class Records:
    """The folder of a match.

    Args:
      settings: what `match.json` says of the match beside its games.
    """

    def __init__(self, folder: Path, game: Game, names: tuple[str, str], settings: Mapping[str, Any]) -> None:
        self.folder, self.game, self.names, self.settings = folder, game, names, settings
        self.games, self.begun, self.written = list[Played](), time.perf_counter(), 0.0

    def add(self, played: Played) -> None:
        """Writes a game's record; errors as of `jaxrl.records.files.write_whole`."""
        self.games.append(played)
        with whole(self.folder / "games" / f"{played.number + 1:04d}.{'sgf' if self.game.size else 'txt'}") as path:
            path.write_text(record_of(self.game, self.names, played), encoding="utf-8")
        if time.perf_counter() - self.written > _EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes `match.json` of the games so far."""
        games = tuple(sorted(self.games, key=lambda played: played.number))
        result = MatchResult(self.game, self.names, games, time.perf_counter() - self.begun)
        played = [one._asdict() | {"result": one.result} for one in games]
        about = {
            "env": self.game.env_id,
            "env_options": self.game.options,
            **self.settings,
            "versions": versions("pgx", "mctx"),
        }
        write_json(self.folder / FILE, about | {"summary": result.summary(), "played": played})
        self.written = time.perf_counter()


@contextmanager
def recording(folder: Path, game: Game, names: tuple[str, str], settings: Mapping[str, Any]) -> Iterator[Records]:
    """A new folder for the records of a match; `match.json` is written at the end, however that comes.

    Raises:
      UsageError: the folder is not empty or cannot be written.
    """
    with new_folder(folder):
        (folder / "games").mkdir()
        records = Records(folder, game, names, settings)
        try:
            yield records
        finally:
            records.write()
