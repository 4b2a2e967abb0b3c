"""The rules of Go, as functions of one game, to be mapped over many.

    position = start(9)
    position, reward, terminated = play(9, komi, position.state, action)

A move is row * N + column, or N * N to pass. A game is scored by area, White wins where both have as much, a board that came
before (positional superko) loses for who repeats it, and after 2 N^2 moves a game is scored as it stands.

Nothing is searched on the board before a game is scored. A stone knows its chain, and the chain's sums of 1, i and i^2 over all
pairs of one of its stones and an empty point i beside it, of which a move changes few. A chain is taken when its sum of 1 is 0,
and has one liberty where (sum of i)^2 = (sum of 1) (sum of i^2). All of it is arithmetic on whole boards.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tools.batch import most
from jaxrl.types import Array, Position

PAST = 8
"""Boards that a player sees: the present one and those before."""
BLACK, WHITE = 1, 2
_ONE = 1 << 20
"""The sum of i has the bits below this one of a word, and the sum of 1 the others; on 19 x 19 both have room to spare."""


class GoState(NamedTuple):
    """State of a game on P = N * N points.

    Attributes:
      boards: [P] uint16, of the last boards two bits each, the present one's lowest: 0 empty, 1 black, 2 white.
      chains: [P] int16, of a stone 1 + the place of one stone of its chain; of an empty point 0.
      sums: [2, P] uint32, of a stone the sums of its chain: 2^20 (sum of 1) + sum of i, and sum of i^2; of an empty point 0.
      seen: [2, 2 P] uint32, hashes of the boards after each move.
      hash: [2] uint32, of the present board.
      moves: [] int32, how many have been made.
      passed: [] bool, whether the last was a pass.
      over: [] bool.
    """

    boards: Array
    chains: Array
    sums: Array
    seen: Array
    hash: Array
    moves: Array
    passed: Array
    over: Array


def start(size: int) -> Position:
    """The empty board."""
    points = size * size
    state = GoState(
        boards=jnp.zeros(points, jnp.uint16),
        chains=jnp.zeros(points, jnp.int16),
        sums=jnp.zeros((2, points), jnp.uint32),
        seen=jnp.zeros((2, 2 * points), jnp.uint32),
        hash=jnp.zeros(2, jnp.uint32),
        moves=jnp.int32(0),
        passed=jnp.bool_(False),
        over=jnp.bool_(False),
    )
    return Position(planes_of(size, state), jnp.ones(points + 1, bool), state)


def play(size: int, komi: Array, state: GoState, action: Array) -> tuple[Position, Array, Array]:
    """A legal move. A game that is over stays as it is, with a reward of 0, and all actions count as legal in it.

    Args:
      komi: [] float32, added to White's area.
      action: [] int32.

    Returns:
      The position as the next player sees it, the reward [] of who moved, and whether the game is over [] bool.
    """
    points = size * size
    action = jnp.asarray(action, jnp.int32)
    mine = _to_move(state)
    placed, taken = _placed(size, state, action)
    moved = placed._replace(moves=state.moves + 1, passed=action == points)

    repeats = ~moved.passed & jnp.any(jnp.all(state.seen == moved.hash[:, None], axis=0))
    scored = ~repeats & ((moved.passed & state.passed) | (moved.moves >= 2 * points))
    ends = (repeats | scored) & ~state.over
    black_wins = area(size, moved.boards & 3, scored & ends) > komi
    reward = jnp.where(~repeats & (black_wins == (mine == BLACK)), 1.0, -1.0)

    after = jax.tree.map(lambda old, new: jnp.where(state.over, old, new), state, moved._replace(over=ends))
    legal = jnp.append(_legal(size, moved) & ~_ko(size, state, action, taken), True) | after.over
    return Position(planes_of(size, after), legal, after), jnp.where(ends, reward, 0.0).astype(jnp.float32), after.over


def area(size: int, stones: Array, wanted: Array) -> Array:
    """[] int32, Black's stones and the empty points from which White cannot be reached, less the same of White.

    Args:
      stones: [P].
      wanted: [] bool; the area is 0 where it is not, which costs nothing as long as none is.
    """
    stones = jnp.where(wanted, stones, 0).astype(jnp.uint8)

    def spread(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        reached = carry[0]
        up, down, left, right = _beside(size, reached)
        more = jnp.where(stones == 0, reached | up | down | left | right, stones)
        return more, jnp.any(more != reached)

    # Two bits a point: whether Black, and whether White reaches it.
    reached = jax.lax.while_loop(lambda carry: most(carry[1]), spread, (stones, jnp.any(stones > 0)))[0]
    return jnp.sum(reached == BLACK, dtype=jnp.int32) - jnp.sum(reached == WHITE, dtype=jnp.int32)


class _Tables(NamedTuple):
    """Constants of a board.

    Attributes:
      near: [P + 1, 4] int32, the four points beside each, P for one that is outside, as all are of a pass.
      weights: [2, P + 1] uint32, what a point adds to the sums of a chain beside it; 0 outside.
      hashes: [2, 2, P] uint32, of each word, colour and point (Zobrist 1970).
    """

    near: np.ndarray
    weights: np.ndarray
    hashes: np.ndarray


@cache
def _tables(size: int) -> _Tables:
    points = size * size
    places = np.pad(np.arange(points).reshape(size, size), 1, constant_values=points)
    sides = (places[:-2, 1:-1], places[2:, 1:-1], places[1:-1, :-2], places[1:-1, 2:])
    near = np.append(np.stack([side.reshape(-1) for side in sides], axis=-1), np.full((1, 4), points), axis=0)
    place = np.arange(points, dtype=np.uint32)
    weights = np.pad(np.stack([_ONE + place, place**2]).astype(np.uint32), ((0, 0), (0, 1)))
    hashes = np.random.default_rng(0).integers(0, 2**32, (2, 2, points), np.uint32)
    return _Tables(near.astype(np.int32), weights, hashes)


def _placed(size: int, state: GoState, action: Array) -> tuple[GoState, Array]:
    """The state with a stone at `action`, and [P] bool, the stones that it took."""
    tables, mine = _tables(size), _to_move(state)
    place, stones = jnp.arange(size * size, dtype=jnp.int32), state.boards & 3
    here, sides = place == action, jnp.asarray(tables.near)[action]

    # Each chain beside the stone loses a liberty, once for each of its stones there.
    beside = state.chains.at[sides].get(mode="fill", fill_value=0)
    touched = sum(((state.chains == chain) & (chain > 0)).astype(jnp.uint32) for chain in beside)
    sums = state.sums - touched * jnp.asarray(tables.weights)[:, action, None]
    taken = (stones == _other(mine)) & (sums[0] < _ONE)
    freed = jnp.zeros_like(sums)
    for i, side in enumerate(_beside(size, taken)):
        freed += jnp.where(side, tables.weights[:, tables.near[:-1, i]], 0)

    # One's own become one with it, whose sums are those of each and what is empty beside the stone, before and now.
    whole = here | ((stones == mine) & (touched > 0))
    one_each = whole & (state.chains == place + 1)
    empty = stones.at[sides].get(mode="fill", fill_value=3) == 0
    total = _sum(jnp.where(one_each, sums, 0) + jnp.where(whole, freed, 0))
    total += _sum(jnp.where(empty, jnp.asarray(tables.weights)[:, sides], 0))
    chains = jnp.where(taken, 0, jnp.where(whole, action + 1, state.chains)).astype(jnp.int16)
    sums = jnp.where(taken, 0, jnp.where(whole, total[:, None], sums))
    sums = _freed(sums, chains, freed, (stones == mine) & ~whole & (freed[0] > 0))

    board = jnp.where(taken, 0, jnp.where(here, mine, stones))
    black, white = jnp.asarray(tables.hashes[:, 0]), jnp.asarray(tables.hashes[:, 1])
    is_black = (mine == BLACK) ^ taken
    change = jnp.where(taken | here, jnp.where(is_black, black, white), 0)
    hash = state.hash ^ jax.lax.reduce_xor(change, (1,))
    now = jnp.arange(2 * size * size, dtype=jnp.int32) == state.moves
    seen = jnp.where(now, hash[:, None], state.seen)
    return state._replace(boards=state.boards << 2 | board, chains=chains, sums=sums, seen=seen, hash=hash), taken


def _freed(sums: Array, chains: Array, freed: Array, left: Array) -> Array:
    """The sums [2, P] where chains get what stones that were taken leave beside them, `freed` [2, P], chain by chain.

    Args:
      left: [P] bool, the stones of those chains that have some beside them.
    """

    def one(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        left, sums = carry
        chain = jnp.max(jnp.where(left, chains, 0))
        whole = (chains == chain) & (chain > 0)
        return left & ~whole, sums + jnp.where(whole, _sum(jnp.where(whole, freed, 0))[:, None], 0)

    return jax.lax.while_loop(lambda carry: most(jnp.any(carry[0])), one, (left, sums))[1]


def _legal(size: int, state: GoState) -> Array:
    """[P] bool, where a stone may be put but for ko: beside an empty point, a chain of one's own with a liberty more, or one of
    the other's without."""
    stones, count, total = state.boards & 3, state.sums[0] // _ONE, state.sums[0] % _ONE
    # Modulo 2^32: the difference of both sides is below that on boards of 19 x 19.
    last_liberty = total * total == count * state.sums[1]
    up, down, left, right = _beside(size, (stones == 0) | ((stones == _to_move(state)) != last_liberty))
    return (stones == 0) & (up | down | left | right)


def _ko(size: int, state: GoState, action: Array, taken: Array) -> Array:
    """[P] bool, where the stone at `action` may not be taken at once: it took a single one with all around it the other's."""
    sides = (state.boards & 3).at[jnp.asarray(_tables(size).near)[action]].get(mode="fill", fill_value=3)
    alone = jnp.all((sides == 3) | (sides == _other(_to_move(state))))
    return taken & alone & (jnp.sum(taken, dtype=jnp.int32) == 1)


def planes_of(size: int, state: GoState) -> Array:
    """[N, N, 17] bool: the stones of who is to move and of the other, of each board, newest first; whether White is to move."""
    mine = _to_move(state)
    boards = (state.boards[:, None] >> jnp.arange(0, 2 * PAST, 2, dtype=jnp.uint16)) & 3
    stones = jnp.stack([boards == mine, boards == _other(mine)], axis=-1).reshape(size, size, 2 * PAST)
    return jnp.concatenate([stones, jnp.broadcast_to(mine == WHITE, (size, size, 1))], axis=-1)


def _to_move(state: GoState) -> Array:
    """[] uint16, the colour of the player to move."""
    return (1 + state.moves % 2).astype(jnp.uint16)


def _other(colour: Array) -> Array:
    return 3 - colour


def _beside(size: int, board: Array) -> tuple[Array, Array, Array, Array]:
    """What is above, below, left and right of each point of a board [P]; 0 outside."""
    padded = jnp.pad(board.reshape(size, size), 1)
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    up, down, left, right = (side.reshape(-1) for side in sides)
    return up, down, left, right


def _sum(values: Array) -> Array:
    """[2] uint32, the sums over the last axis."""
    return jnp.sum(values, axis=-1, dtype=jnp.uint32)
