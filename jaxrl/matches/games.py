"""A game of two players as a match needs it: its rules at many boards at once, and how its moves are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import make
from jaxrl.envs.pgx import GAMES
from jaxrl.errors import UsageError
from jaxrl.matches.board import vertex
from jaxrl.types import Array, Env, Position, position_spec, where_ended

_NO_LIMIT = 100_000
"""Moves after which a game without time limit is cut."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_BOARDS = {"pgx/tic_tac_toe": (3, ()), "pgx/othello": (8, ("pass",)), "pgx/hex": (11, ("swap",))}
"""Side of the board, and the names of the actions that are no point of it."""


class Moved(NamedTuple):
    """What came of a move at each of G boards.

    Attributes:
      position: [G, ...].
      action: [G] int32, what was played.
      reward: [G] float32 of who moved.
      over: [G] bool.
      repeated: [G] bool, in Go, the move made a board that came before and lost by it.
    """

    position: Position
    action: Array
    reward: Array
    over: Array
    repeated: Array


class Game(NamedTuple):
    """The game of a match.

    Attributes:
      env_id: of the environment.
      options: of the environment; of Go komi is always among them.
      env: one game, both sides of which are played.
      size: of the board of Go, 0 of any other game.
      longest: moves after which a game that is not over is cut.
      names: of the actions, as records have them.
      play: (key, position [G, ...], action [G], running [G] bool, ply [], may_repeat [] bool) -> `Moved`, compiled. Games that
        are not running stay as they are; in place of an illegal move the first legal one is played. Where a repeated board of
        Go is not allowed, a pass takes the place of a move that makes one.
    """

    env_id: str
    options: dict[str, Any]
    env: Env
    size: int
    longest: int
    names: tuple[str, ...]
    play: Callable[..., Moved]

    def opening(self, num: int) -> Position:
        """[num, ...] the position before the first move."""
        key = jax.random.key(0)
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, num, axis=0), self.env.reset(key, self.env.params)[1])

    def moves_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """The actions that these names, in upper or lower case, stand for, from the first move of a game on.

        Raises:
          UsageError: a name that no move of the game has, or a move that is illegal or ends the game.
        """
        known = {name.lower(): action for action, name in enumerate(self.names)}
        position, moves, still = self.opening(1), list[int](), jnp.ones(1, bool)
        for number, name in enumerate(names):
            said = f"first_moves: move {number + 1}, {name!r},"
            move = known.get(name.lower())
            if move is None:
                raise UsageError(f"{said} is no move of {self.env_id}; its moves are {', '.join(self.names[:3])} ...")
            if not bool(position.legal[0, move]):
                raise UsageError(f"{said} is illegal; leave out the moves from there on")
            moved = self.play(jax.random.key(0), position, jnp.full(1, move, jnp.int32), still, np.int32(number), True)
            if bool(moved.over[0]):
                raise UsageError(f"{said} ends the game; leave out the moves from there on")
            position = moved.position
            moves.append(move)
        return tuple(moves)

    @property
    def komi(self) -> float:
        """White's points in advance, of Go."""
        return float(self.options["komi"])


def game_of(env_id: str, **options: Any) -> Game:
    """The game of an environment.

    Args:
      options: of the environment, without an opponent.

    Raises:
      UsageError: an environment that is no game of two players with a model, or what `make` raises.
    """
    env = make(env_id, 1, **options)
    if not isinstance(env, Env) or env.spec.num_players != 2 or env.model is None or position_spec(env.spec.obs) is None:
        if not isinstance(env, Env):
            env.close()
        raise UsageError(f"env={env_id} is no game of two players with a model; choose one such as pgx/tic_tac_toe")
    size = go_size(env_id)
    if size:
        options = options | {"komi": round(float(env.params.komi), 6)}
    longest = env.spec.time_limit or _NO_LIMIT
    return Game(env_id, options, env, size, longest, _names(env_id, size, env.spec.action.n), _player(env, size))


def go_size(env_id: str) -> int:
    """The size of the board of an environment of Go, 0 of any other."""
    family, _, name = env_id.partition("/")
    return GAMES[name].size if family == "pgx" and name in GAMES else 0


def repeats_board(size: int, move: Any, reward: Any, over: Any, num_moves: Any) -> Any:
    """Whether a move of Go made a board that came before, by the environment's answer to it.

    Args:
      reward: of who made it.
      over: whether the game is over.
      num_moves: with this one; any shape, as of the others.
    """
    # No other move but a pass and the last one allowed can lose at once.
    return over & (move != size * size) & (reward < 0.0) & (num_moves < 2 * size * size)


def _player(env: Env, size: int) -> Callable[..., Moved]:
    assert env.model is not None
    model, params = env.model, env.params

    def after(key: Array, position: Position, action: Array) -> tuple[Position, Array, Array]:
        keys = jax.random.split(key, action.shape[0])
        return jax.vmap(lambda key, obs, action: model(key, params, obs, action))(keys, position, action)

    def after_or_passed(
        key: Array, position: Position, action: Array, num_moves: Array, may_repeat: Array
    ) -> tuple[Array, tuple[Position, Array, Array], Array]:
        """Of Go: (the action, or a pass in place of a repeated board, what comes of it, whether a board was repeated)."""
        half, is_pass = action.shape[0], jnp.full_like(action, size * size)
        twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), position)
        both = after(key, twice, jnp.concatenate([action, is_pass]))
        moved, passed = jax.tree.map(lambda leaf: leaf[:half], both), jax.tree.map(lambda leaf: leaf[half:], both)
        repeated = repeats_board(size, action, moved[1], moved[2], num_moves)
        instead = repeated & ~may_repeat
        return jnp.where(instead, is_pass, action), where_ended(instead, passed, moved), repeated & may_repeat

    @jax.jit
    def play(key: Array, position: Position, action: Array, running: Array, ply: Array, may_repeat: Array) -> Moved:
        legal = jnp.take_along_axis(position.legal, action[:, None], axis=1)[:, 0]
        action = jnp.where(legal, action, jnp.argmax(position.legal, axis=1)).astype(jnp.int32)
        if size:
            action, found, repeated = after_or_passed(key, position, action, ply + 1, may_repeat)
        else:
            found, repeated = after(key, position, action), jnp.zeros_like(running)
        moved, reward, over = found
        return Moved(where_ended(running, moved, position), action, reward, over & running, repeated & running)

    return play


def _names(env_id: str, size: int, num_actions: int) -> tuple[str, ...]:
    """Points by letter and number, a1 in the upper left corner (in Go the lower left, as Go has it); columns of connect four
    by letter; of other games the number of the action."""
    if size:
        return tuple(vertex(action, size) for action in range(num_actions))
    if env_id == "pgx/connect_four":
        return tuple(_LETTERS[:num_actions])
    if env_id in _BOARDS:
        side, others = _BOARDS[env_id]
        return (*(f"{_LETTERS[i % side]}{i // side + 1}" for i in range(side * side)), *others)
    return tuple(map(str, range(num_actions)))


def distinct(games: list[tuple[int, ...]], env: Env) -> tuple[int, int]:
    """How many different games these moves are, and how many up to the symmetries of the game."""
    # Action actions[a] of the board as it is, is action a of the board as it becomes.
    maps = [{before: after for after, before in enumerate(symmetry.actions)} for symmetry in env.spec.symmetries]
    seen = set(games)
    return len(seen), len(
        {min(moves, *(tuple(new[move] for move in moves) for new in maps)) if maps else moves for moves in seen}
    )
