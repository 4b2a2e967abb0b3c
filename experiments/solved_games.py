"""Positions of games whose value is known, and the value of every move in them: exactly, and not by any agent of ours.

    solved = tic_tac_toe()               # all 4,520 positions that can be reached and are not over
    solved = connect_four(1000, seed=0)  # random ones, solved by the package bitbully

bitbully (https://github.com/MarkusThill/BitBully) searches connect four to its end, with the help of a table of openings;
`pip install bitbully bitbully-databases`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxrl
from jaxrl.errors import UsageError
from jaxrl.types import Env, Position, PyTree

_AT_ONCE = 4096
Moves = tuple[int, ...]


class Solved(NamedTuple):
    """N positions.

    Attributes:
      obs: [N, ...].
      moves: those that led to each.
      worth: [N, A] of each action to the player to move, 1 a win, 0 a draw, -1 a loss; NaN of an illegal one.
    """

    obs: Position
    moves: list[Moves]
    worth: np.ndarray

    @property
    def open(self) -> np.ndarray:
        """[N] bool, whether there is a mistake to be made."""
        return np.nanmin(self.worth, axis=1) < np.nanmax(self.worth, axis=1)

    def kept(self, action: np.ndarray) -> np.ndarray:
        """[N] bool, whether the actions [N] keep what the positions are worth."""
        return self.worth[np.arange(len(action)), action] == np.nanmax(self.worth, axis=1)


def rows(tree: PyTree, index: Any) -> PyTree:
    """What stands at an index of the first axis, as NumPy's."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


class _Game:
    """A game on the host, one program for any number of positions."""

    def __init__(self, name: str) -> None:
        env: Any = jaxrl.make(name, 1)
        assert isinstance(env, Env) and env.model is not None
        self.opening: Position = rows(jax.jit(env.reset)(jax.random.key(0), env.params)[1], slice(0, 1))
        self.longest = env.spec.time_limit or 0
        self._play = jax.jit(jax.vmap(partial(env.model, jax.random.key(0), env.params)))

    def play(self, obs: Position, action: np.ndarray) -> tuple[Position, np.ndarray, np.ndarray]:
        """Positions after legal actions, the rewards of who moved, and whether the games are over."""
        parts = []
        for start in range(0, len(action), _AT_ONCE):
            index = np.minimum(np.arange(start, start + _AT_ONCE), len(action) - 1)
            parts.append(rows(self._play(rows(obs, index), action[index].astype(np.int32)), slice(0, len(action) - start)))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def tic_tac_toe() -> Solved:
    """Every position that can be reached, solved from the end of the games backwards."""
    game = _Game("pgx/tic_tac_toe")
    levels = list(_levels(game))
    worth: dict[bytes, float] = {}
    found = []
    for level in reversed(levels):
        values = np.full(level.obs.legal.shape, np.nan)
        for (place, action), reward, over, after in zip(level.tried, level.reward, level.over, level.after, strict=True):
            values[place, action] = reward if over else -worth[after]
        worth.update(zip(map(_name, level.obs.planes), np.nanmax(values, axis=1).tolist(), strict=True))
        found.append(values)
    obs = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(level.obs for level in levels))
    return Solved(obs, [moves for level in levels for moves in level.moves], np.concatenate(found[::-1]))


class _Level(NamedTuple):
    """The positions after so many moves, and all (position, action) `tried` in them, with what comes `after` by its name."""

    obs: Position
    moves: list[Moves]
    tried: list[tuple[int, int]]
    reward: np.ndarray
    over: np.ndarray
    after: list[bytes]


def _name(planes: np.ndarray) -> bytes:
    return np.asarray(planes).tobytes()


def _levels(game: _Game) -> Iterator[_Level]:
    obs, moves = game.opening, [()]
    while moves:
        tried = [(int(place), int(action)) for place, action in np.argwhere(obs.legal)]
        places, actions = np.array(tried).T
        after, reward, over = game.play(rows(obs, places), actions)
        names = [_name(planes) for planes in after.planes]
        yield _Level(obs, moves, tried, reward, over, names)
        first = {name: index for index, name in reversed(list(enumerate(names))) if not over[index]}
        index = np.array(sorted(first.values()), int)
        moves = [(*moves[tried[i][0]], tried[i][1]) for i in index]
        obs = rows(after, index)


def random_positions(name: str, num: int, seed: int) -> tuple[Position, list[Moves]]:
    """Different positions of games of random moves, after a number of moves that is uniform as long as games last so long."""
    game, rng = _Game(name), np.random.default_rng(seed)
    found: dict[bytes, tuple[Moves, Position]] = {}
    while len(found) < num:
        obs = rows(game.opening, np.zeros(num, int))
        moves: list[Moves] = [()] * num
        number, over = rng.integers(0, game.longest, num), np.zeros(num, bool)
        reached: dict[int, tuple[Moves, Position]] = {}
        for played in range(game.longest):
            for index in np.flatnonzero((number == played) & ~over):
                reached[index] = moves[index], rows(obs, slice(index, index + 1))
            action = np.argmax(np.where(obs.legal, rng.random(obs.legal.shape), -1.0), axis=1)
            moves = [(*before, int(move)) for before, move in zip(moves, action, strict=True)]
            obs, _, ended = game.play(obs, action)
            over |= ended
        # Game by game, lest the early positions come first and fill it.
        for _, (led, position) in sorted(reached.items()):
            if len(found) < num:
                found.setdefault(_name(position.planes), (led, position))
    obs = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(position for _, position in found.values()))
    return obs, [led for led, _ in found.values()]


def connect_four(num: int, seed: int, score: Callable[[Moves], dict[int, int]] | None = None) -> Solved:
    """Random positions, solved.

    Args:
      score: moves -> of each legal column a number, above 0 where it wins and below where it loses; bitbully's by default.

    Raises:
      UsageError: bitbully is not installed.
    """
    score = score or _bitbully()
    obs, moves = random_positions("pgx/connect_four", num, seed)
    worth = np.full(obs.legal.shape, np.nan)
    for place, led in enumerate(moves):
        for column, value in score(led).items():
            worth[place, column] = np.sign(value)
    assert (np.isfinite(worth) == obs.legal).all()
    return Solved(obs, moves, worth)


def _bitbully() -> Callable[[Moves], dict[int, int]]:
    try:
        import bitbully
    except ImportError:
        raise UsageError("connect four is solved by bitbully; pip install bitbully bitbully-databases") from None
    solver: Any = bitbully.BitBully()
    return lambda moves: solver.score_all_moves(bitbully.Board(list(moves)))
