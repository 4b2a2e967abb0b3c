"""A match: two players play games of which each begins every other one.

    game = game_of("pgx/tic_tac_toe")
    result = play_match(game, run_player("runs/ttt", game), plain_player("mcts:200", game), num_games=100)
    result.tally().score

Games are played side by side, move by move: those in which A has the first move, and those in which B has. The rules are the
environment's, and they alone say who has won; of Go see `jaxrl.matches.results.Played`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxrl.matches.board import area, stones
from jaxrl.matches.games import Game
from jaxrl.matches.players import RESIGNS, Drawing, Player, Seat, Turn
from jaxrl.matches.results import MatchResult, Played
from jaxrl.types import Array


def play_match(
    game: Game,
    a: Player,
    b: Player,
    num_games: int = 100,
    seed: int = 0,
    opening_moves: int = 0,
    opening_temperature: float = 1.0,
    opening_margin: float = 2.0,
    first_moves: Sequence[int] = (),
    first: str = "both",
    on_game: Callable[[Played], None] = lambda played: None,
) -> MatchResult:
    """Plays a match; A has the first move in games 0, 2, 4 and so on, B in the others.

    Args:
      a, b: made for this game; they are to be closed.
      opening_moves: so many moves of each game behind `first_moves`, of both sides together, are drawn from what a search
        recommends, by players that can: two players that always take their best move play one game again and again.
      opening_temperature: they are drawn by probabilities to the power of 1 / opening_temperature; above 1 more differ, and
        more are mistakes.
      opening_margin: and only from moves that the search values at most so much less than its best one, outcomes from -1 to 1.
      first_moves: that every game begins with, legal ones; `Game.moves_of` makes them of their names.
      first: "both", or "a" or "b" for those games alone in which A or B has the first move; they keep their numbers.
      on_game: told of each game as it ends.

    Raises:
      EngineError: a player that is a program of its own did what it should not.
    """
    begun, key, played = time.perf_counter(), jax.random.key(seed), list[Played]()
    at_once = min(a.at_once, b.at_once, num_games)
    at_once = -(-num_games // -(-num_games // at_once))  # Rounds of one size.
    num_boards = -(-at_once // 2) if first == "both" else at_once
    opening = Opening(tuple(first_moves), opening_moves, Drawing(opening_temperature, opening_margin))
    every = range(num_games) if first == "both" else range(first == "b", 2 * num_games, 2)
    for start in range(0, num_games, at_once):
        numbers = every[start : start + at_once]
        sides = (((a, b), [n for n in numbers if n % 2 == 0]), ((b, a), [n for n in numbers if n % 2]))
        tables = [
            _Tables(jax.random.fold_in(key, 2 * start + side), game, players, own, num_boards, opening)
            for side, (players, own) in enumerate(sides)
            if own
        ]
        for one in _rounds(tables):
            on_game(one)
            played.append(one)
    played.sort(key=lambda one: one.number)
    return MatchResult(game, (a.name, b.name), tuple(played), time.perf_counter() - begun)


class Opening(NamedTuple):
    """How games begin; see `play_match`."""

    given: tuple[int, ...]
    drawn: int
    drawing: Drawing


def _rounds(tables: list[_Tables]) -> Iterator[Played]:
    """Games as they end."""
    while any(table.running.any() for table in tables):
        waiting = [(table, table.ask()) for table in tables if table.running.any()]
        for table, answer in waiting:
            yield from table.move(answer())
    for table in tables:
        table.leave()


class _Tables:
    """G games, in all of which the same player has the first move and the same number of moves has been made."""

    def __init__(
        self,
        key: Array,
        game: Game,
        players: tuple[Player, Player],
        numbers: Sequence[int],
        num_boards: int,
        opening: Opening,
    ) -> None:
        self.key, self.game, self.numbers, self.opening, self.ply = key, game, numbers, opening, 0
        self.seats: tuple[Seat, ...] = tuple(player.sit(numbers, num_boards, side) for side, player in enumerate(players))
        self.position, self.moves = game.opening(num_boards), [list[int]() for _ in range(num_boards)]
        self.running = np.arange(num_boards) < len(numbers)

    def ask(self) -> Callable[[], np.ndarray]:
        """The moves that are made now, once they are there."""
        given, drawn, opening_drawing = self.opening
        if self.ply < len(given):
            return lambda: np.full(len(self.moves), given[self.ply], np.int32)
        key = jax.random.fold_in(self.key, 2 * self.ply)
        drawing = opening_drawing if self.ply < len(given) + drawn else Drawing()
        return self.seats[self.ply % 2].ask(Turn(key, self.position, self.moves, self.running, drawing))

    def move(self, actions: np.ndarray) -> Iterator[Played]:
        """Makes these moves; the games that end by them."""
        side, key = self.ply % 2, jax.random.fold_in(self.key, 2 * self.ply + 1)
        resigned = self.running & (actions == RESIGNS)
        going, may_repeat = self.running & ~resigned, self.seats[side].has_own_rules
        ply, legal = np.int32(self.ply), np.maximum(actions, 0)
        self.position, *rest = self.game.play(key, self.position, legal, going, ply, may_repeat)
        action, reward, over, repeated = jax.device_get(rest)
        self.ply += 1
        for place in np.flatnonzero(going).tolist():
            self.moves[place].append(int(action[place]))
        is_cut = going & ~over & (self.ply >= self.game.longest)
        ended = resigned | over | is_cut
        self.running = self.running & ~ended
        outcome = np.where(resigned, -1, np.sign(reward)).astype(int) * (1 - 2 * side)
        for place in np.flatnonzero(ended).tolist():
            if is_cut[place] or repeated[place]:
                yield self._played(place, None, "cut" if is_cut[place] else "superko")
            else:
                yield self._played(place, int(outcome[place]), "resigned" if resigned[place] else self._how(place))

    def leave(self) -> None:
        for seat in self.seats:
            seat.leave()

    def _how(self, place: int) -> str:
        """How a game ended that was played to its end."""
        if not self.game.size:
            return "over"
        return "passes" if self.moves[place][-2:] == 2 * [self.game.size**2] else "longest"

    def _played(self, place: int, outcome: int | None, how: str) -> Played:
        moves, number = tuple(self.moves[place]), self.numbers[place]
        points = None
        if self.game.size and how in ("passes", "longest"):
            board = stones(jax.tree.map(lambda leaf: leaf[place], self.position.planes))
            points = area(board) - self.game.komi
        said = [seat.score(place, moves) for seat in self.seats] if points is not None else ["", ""]
        return Played(number, number % 2, moves, outcome, how, points, (said[0], said[1]))
