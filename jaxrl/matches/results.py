"""What came of a match: each game, and what they say of two players."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jaxrl.analysis.stats import wilson_interval
from jaxrl.matches.board import BLACK, WHITE
from jaxrl.matches.games import Game, distinct

if TYPE_CHECKING:
    from rich.table import Table

ENDS = {
    "over": "played to its end",
    "passes": "both passed; the area as it stands, no stone taken for dead",
    "longest": "the most moves that there are; the area as it stands, no stone taken for dead",
    "resigned": "resigned",
    "superko": "a program made a board that came before, which its rules may allow: nobody's",
    "cut": "cut after the most moves that there are: nobody's",
}
"""How games end."""


class Played(NamedTuple):
    """A game of a match.

    Attributes:
      number: from 0.
      first: 0 where A had the first move, 1 where B had.
      moves: of both sides in turns.
      outcome: of who had the first move, 1 won, 0 drawn, -1 lost; None of a game that is nobody's.
      how: it ended, of `ENDS`.
      points: of Go that was scored, Black's less White's and komi.
      said: what the players say of the score, the first mover's before; "" of players without rules of their own.
    """

    number: int
    first: int
    moves: tuple[int, ...]
    outcome: int | None
    how: str
    points: float | None = None
    said: tuple[str, str] = ("", "")

    @property
    def of_a(self) -> int | None:
        """The outcome of A."""
        return None if self.outcome is None else self.outcome * (1 - 2 * self.first)

    @property
    def result(self) -> str:
        """`B+3.5`, `W+Resign`, `0`, or `Void`, as SGF has it of Black, who has the first move."""
        if self.outcome is None:
            return "Void"
        if self.outcome == 0:
            return "0"
        winner = BLACK if self.outcome > 0 else WHITE
        return f"{winner}+{'Resign' if self.how == 'resigned' else f'{abs(self.points):g}' if self.points else ''}"

    @property
    def is_disputed(self) -> bool:
        """Whether a program says that another player has won."""
        return self.points is not None and any(said[:1].isalpha() and said[:1] != self.result[:1] for said in self.said)


class Tally(NamedTuple):
    """Some games of a match, as A sees them.

    Attributes:
      void: games that are nobody's; they count for nothing else.
      score: (wins + draws / 2) / (wins + draws + losses); None without any.
      low, high: 95 % of the score (`wilson_interval`).
      distinct: different games, by their moves.
      up_to_symmetry: different games where those count as one that a turn or mirror image of the board makes of each other.
      disputed: games of Go that a program scores otherwise.
    """

    games: int
    wins: int
    draws: int
    losses: int
    void: int
    score: float | None
    low: float | None
    high: float | None
    distinct: int
    up_to_symmetry: int
    mean_length: float
    disputed: int


class MatchResult(NamedTuple):
    """A match; `names`: of A and B, `games`: in their order."""

    game: Game
    names: tuple[str, str]
    games: tuple[Played, ...]
    seconds: float

    def tally(self, first: int | None = None) -> Tally:
        """What the games say; `first`: those alone in which A (0) or B (1) had the first move."""
        games = [one for one in self.games if first in (None, one.first)]
        outcomes = [one.of_a for one in games]
        wins, draws, losses = (outcomes.count(outcome) for outcome in (1, 0, -1))
        decided = wins + draws + losses
        points = wins + draws / 2
        low, high = wilson_interval(points, decided) if decided else (None, None)
        score = points / decided if decided else None
        numbers = distinct([one.moves for one in games], self.game.env)
        length = sum(len(one.moves) for one in games) / max(len(games), 1)
        disputed = sum(one.is_disputed for one in games)
        void = len(games) - decided
        return Tally(len(games), wins, draws, losses, void, score, low, high, *numbers, length, disputed)

    def summary(self) -> dict[str, Any]:
        """As plain numbers, for a file or a line."""
        parts = {"all": None, "a_first": 0, "b_first": 1}
        return {
            "a": self.names[0],
            "b": self.names[1],
            **{name: self.tally(first)._asdict() for name, first in parts.items()},
            "seconds": round(self.seconds, 3),
        }


def result_table(result: MatchResult) -> Table:
    """A match as a table."""
    from rich.table import Table

    a, b = result.names
    table = Table(title=f"A {a}, B {b}: {result.game.env_id}, {len(result.games)} games in {result.seconds:.1f} s")
    columns = {"all": result.tally(), "A first": result.tally(0), "B first": result.tally(1)}
    columns = {name: tally for name, tally in columns.items() if tally.games}
    for name in ("", *columns):
        table.add_column(name, justify="right" if name else "left")
    is_scored = any(any(one.said) for one in result.games)
    for row in zip(*(_cells(tally)[: None if is_scored else -1] for tally in columns.values()), strict=True):
        table.add_row(row[0][0], *(value for _, value in row))
    return table


def _cells(tally: Tally) -> list[tuple[str, str]]:
    """What a row is called, and what stands in it."""
    return [
        ("score of A", "-" if tally.score is None else f"{tally.score:.3f}"),
        ("95 %", "-" if tally.low is None else f"{tally.low:.3f} .. {tally.high:.3f}"),
        ("won, drawn, lost", f"{tally.wins}, {tally.draws}, {tally.losses}"),
        ("void", str(tally.void)),
        ("distinct games", f"{tally.distinct} of {tally.games}"),
        ("up to symmetry", str(tally.up_to_symmetry)),
        ("moves of a game", f"{tally.mean_length:.1f}"),
        ("disputed scores", str(tally.disputed)),
    ]
