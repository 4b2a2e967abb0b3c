"""The rules of Go: pgx's results in every move of random games, and positions worked out by hand."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pgx.go
import pytest

from jaxrl.envs import go
from jaxrl.matches.board import area, drawing, move_of, stones
from jaxrl.types import Array, Position


class Seen(NamedTuple):
    """Of each move of each game, what both rules must agree on and what happened, [T, B]."""

    same: Array
    running: Array
    taken: Array
    ko: Array
    by_passes: Array
    by_superko: Array
    by_length: Array
    won: Array


def against_pgx(size: int, num_games: int, num_moves: int, seed: int) -> Seen:
    """Games of random moves, played by both rules; the first half fights on for points where a stone was taken."""
    reference, points = pgx.go.Go(size=size, komi=0.5), size * size
    before = jnp.arange(num_games) < num_games // 2

    def one(ours: Position, theirs: Any, noise: Array, fights: Array) -> tuple[Position, Any, Seen]:
        emptied = (ours.planes[..., 2:16].any(-1) & ~ours.planes[..., :2].any(-1)).reshape(-1)
        liking = noise + jnp.append(jnp.where(emptied & fights, 1.0, 0.0), -0.1)
        action = jnp.argmax(jnp.where(ours.legal, liking, -1.0)).astype(jnp.int32)
        mover, was_over = theirs.current_player, theirs.terminated
        after, reward, over = go.play(size, jnp.float32(0.5), ours.state, action)
        theirs = reference.step(theirs.replace(legal_action_mask=jnp.ones(points + 1, bool)), action)
        same = (
            (after.planes == theirs.observation).all()
            & (after.legal == theirs.legal_action_mask).all()
            & (reward == theirs.rewards[mover])
            & (over == theirs.terminated)
        )
        ends, superko = over & ~was_over, theirs._x.is_psk
        by_passes = theirs._x.consecutive_pass_count >= 2
        seen = Seen(
            same,
            ~was_over,
            (theirs._x.num_captured.sum() > 0),
            theirs._x.ko >= 0,
            ends & by_passes,
            ends & superko,
            ends & ~superko & ~by_passes,
            reward > 0,
        )
        return after, theirs, seen

    def move(carry: tuple[Position, Any], key: Array) -> tuple[tuple[Position, Any], Seen]:
        noise = jax.random.uniform(key, (num_games, points + 1))
        ours, theirs, seen = jax.vmap(one)(*carry, noise, before)
        return (ours, theirs), seen

    @jax.jit
    def games(key: Array) -> Seen:
        ours = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_games, *leaf.shape)), go.start(size))
        theirs = jax.vmap(reference.init)(jax.random.split(key, num_games))
        return jax.lax.scan(move, (ours, theirs), jax.random.split(key, num_moves))[1]

    return jax.tree.map(np.asarray, games(jax.random.key(seed)))


@pytest.mark.parametrize(
    ("size", "num_games", "num_moves"),
    [
        (5, 64, 60),
        pytest.param(5, 512, 60, marks=pytest.mark.slow),
        pytest.param(9, 64, 170, marks=pytest.mark.slow),
        pytest.param(19, 8, 730, marks=pytest.mark.slow),
    ],
)
def test_every_move_of_random_games_is_as_pgx_has_it(size: int, num_games: int, num_moves: int) -> None:
    seen = against_pgx(size, num_games, num_moves, seed=size)
    print({name: part.sum() for name, part in seen._asdict().items()})
    assert seen.same.all(), f"move, game: {np.argwhere(~seen.same)[0]}"
    assert seen.by_superko.any() and seen.by_passes.any() and seen.ko.any() and seen.won.any()
    assert seen.by_length.any() or size > 9
    assert not seen.running[-1].any()


play = jax.jit(partial(go.play, 5))


def game(moves: str, komi: float = 0.5) -> tuple[Position, list[float]]:
    """The position after moves such as `C3 D2 pass`, Black's first, A1 the lower left corner; and their rewards."""
    position, over, rewards = go.start(5), False, []
    for name in moves.split():
        move = move_of(name, 5)
        assert not over and position.legal[move], f"{name} of {moves}"
        position, reward, over = play(jnp.float32(komi), position.state, jnp.int32(move))
        rewards.append(float(reward))
    assert bool(over) == any(rewards)
    return position, rewards


def board(position: Position) -> str:
    """Rows from the top, X black, O white."""
    return " ".join("".join(row.split()[1:-1]) for row in drawing(stones(position.planes)).split("\n")[1:-1])


def test_one_stone_takes_several_chains() -> None:
    position, _ = game("A4 A5 D5 C5 C4 pass B5")
    assert board(position) == ".X.X. X.X.. ..... ..... ....."
    # White has no liberty in either place, Black would have.
    assert not position.legal[move_of("A5", 5)] and not position.legal[move_of("C5", 5)] and position.legal[move_of("B4", 5)]


def test_a_chain_may_not_take_its_own_last_liberty_but_the_others() -> None:
    moves = "A4 A5 B4 E1 C5"
    assert not game(moves)[0].legal[move_of("B5", 5)]
    assert board(game(moves + " pass B5")[0]) == ".XX.. XX... ..... ..... ....O"


def test_what_took_a_single_stone_is_taken_back_at_once_where_more_are_taken() -> None:
    moves = "A3 A4 B3 B4 C4 E1 C5 E2 A5 B5"
    assert board(game(moves)[0]) == ".OX.. OOX.. XX... ....O ....O"
    assert board(game(moves + " A5")[0]) == "X.X.. ..X.. XX... ....O ....O"


def test_a_board_that_came_before_loses_though_it_is_no_ko() -> None:
    """White sends two stones in the corner and gets one back."""
    moves = "A4 C4 B4 D5 E1 B5 pass A5 C5"
    assert board(game(moves)[0]) == "..XO. XXO.. ..... ..... ....X"
    position, rewards = game(moves + " B5")
    assert rewards[-1] == -1.0 and position.legal.all()
    assert board(position) == board(game("A4 C4 B4 D5 E1 B5")[0])


def test_a_pass_repeats_no_board() -> None:
    assert game("C3 pass D2 pass E4")[1] == [0.0] * 5


@pytest.mark.parametrize(("komi", "reward"), [(0.0, 1.0), (-0.5, -1.0)])
def test_points_that_both_reach_are_nobodys_and_a_tie_is_whites(komi: float, reward: float) -> None:
    walls = " ".join(f"B{row} D{row}" for row in range(1, 6))
    assert game(walls + " pass pass", komi)[1][-1] == reward


def test_areas_are_those_of_the_board_as_people_count() -> None:
    boards = np.random.default_rng(0).choice(3, (50, 49), p=(0.6, 0.2, 0.2))
    found = jax.jit(jax.vmap(lambda board: go.area(7, board, jnp.bool_(True))))(jnp.asarray(boards, jnp.uint16))
    as_people = [area(np.array([0, 1, -1])[board].reshape(7, 7)) for board in boards]
    assert found.tolist() == as_people and len(set(as_people)) > 10
