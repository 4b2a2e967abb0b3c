"""Pictures of boards: what is drawn where, in whose colour, and which moves of a game are seen."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import nim
from jaxrl.envs import has_pictures, make, pictures_per_second
from jaxrl.envs.tools.board_pictures import board_of, draw_board, draw_game, places
from jaxrl.envs.tools.boards import BOARDS
from jaxrl.envs.tools.versus import Opponent, versus
from jaxrl.runs.trained import _plies, _Stage
from jaxrl.types import Agent

SHAPES = {"tic_tac_toe": (3, 3), "connect_four": (6, 7), "othello": (8, 8), "hex": (11, 11), "go_5x5": (5, 5)}
STONES: dict[str, Any] = {name: BOARDS["go" if name == "go_5x5" else name].colors for name in SHAPES}


def planes_of(mine: list[tuple[int, int]], theirs: list[tuple[int, int]], shape: tuple[int, int]) -> np.ndarray:
    planes = np.zeros((*shape, 2), bool)
    for number, points in enumerate((mine, theirs)):
        for point in points:
            planes[(*point, number)] = True
    return planes


def color_at(name: str, picture: np.ndarray, row: int, column: int, shift: float = 0.0) -> tuple[int, ...]:
    """Of the pixel in the middle of a point, or `shift` times the way to the next column from there."""
    where = places(name, *SHAPES[name])
    x, y = where[row, column] + shift * (where[0, 1] - where[0, 0])
    return tuple(picture[round(y), round(x)].tolist())


@pytest.mark.parametrize("name", ["connect_four", "othello", "hex", "go_5x5"])
def test_a_stone_has_its_player_s_colour_whoever_is_to_move(name: str) -> None:
    first, second = [(2, 1)], [(2, 2)]
    for to_move in (False, True):
        planes = planes_of(*((second, first) if to_move else (first, second)), SHAPES[name])
        picture = draw_board(name, board_of(name, planes, to_move))
        assert (color_at(name, picture, 2, 1), color_at(name, picture, 2, 2)) == STONES[name]
        assert color_at(name, picture, 1, 1, 0.2) not in STONES[name]


def test_a_cross_is_the_first_player_s_and_a_nought_the_second_s() -> None:
    picture = draw_board("tic_tac_toe", board_of("tic_tac_toe", planes_of([(0, 0)], [(0, 1)], (3, 3)), False))
    cross, nought = STONES["tic_tac_toe"]
    assert color_at("tic_tac_toe", picture, 0, 0) == cross
    # A nought is open in the middle, and its line is 0.3 cells away.
    assert color_at("tic_tac_toe", picture, 0, 1) == (255, 255, 255) == color_at("tic_tac_toe", picture, 1, 1)
    assert color_at("tic_tac_toe", picture, 0, 1, 0.3) == nought


@pytest.mark.parametrize("name", SHAPES)
def test_the_last_move_alone_is_marked(name: str) -> None:
    shape = SHAPES[name]
    before = board_of(name, planes_of([(1, 1)], [(2, 2)], shape), False)
    # The first player's stone at (2, 1); what stood there stays, and in Othello some stones turn.
    turned = name == "othello"
    mine, theirs = [(1, 1), (2, 1)] + [(2, 2)] * turned, [(2, 2)] * (not turned)
    after = board_of(name, planes_of(theirs, mine, shape), True)
    changed = (draw_board(name, after, before) != draw_board(name, after)).any(-1)
    x, y = places(name, *shape)[2, 1]
    rows, columns = np.nonzero(changed)
    half = 0.5 * (places(name, *shape)[0, 1] - places(name, *shape)[0, 0])[0]
    assert changed.any() and (abs(rows - y) <= half).all() and (abs(columns - x) <= half).all()


def test_all_pictures_of_a_game_have_one_size_and_the_colours_of_the_first() -> None:
    plies = [
        (planes_of([], [], (6, 7)), None),
        (planes_of([], [(5, 3)], (6, 7)), None),
        (planes_of([(5, 3)], [(4, 3)], (6, 7)), 1.0),
    ]
    first, *rest = draw_game("connect_four", plies, ("a name that is far too long for it", "mcts:200"))
    for picture in rest:
        assert picture.shape == first.shape
    for color in STONES["connect_four"]:
        assert (first == np.array(color)).all(-1).any()
    assert (rest[0] != rest[1]).any()


def test_games_have_pictures_and_are_shown_slowly() -> None:
    assert has_pictures("pgx/go_9x9") and pictures_per_second("pgx/go_9x9") == 2.0


def test_every_position_of_a_game_is_seen_once_with_its_outcome() -> None:
    """Of nim with four stones: we take one, the opponent takes two, we take the last."""

    def take(number: int) -> Any:
        return lambda key, params, memory, obs: (jnp.full(obs.legal.shape[:1], number - 1, jnp.int32), memory)

    game, agent = nim(1, 4), Agent(init=lambda key: (), act=take(1), update=lambda *_: ((), {}))  # type: ignore[arg-type]
    act = partial(lambda *a: (*take(1)(*a), ()))
    for env, left, outcome in (
        (versus(game, Opponent(take(2))), [4, 3, 1, 0], 1.0),
        (game, [4, 3, 2, 1, 0], -1.0),
    ):
        stage: Any = _Stage(None, {}, env, agent, act, (), jax.random.key(0))  # type: ignore[arg-type]
        plies = list(_plies(stage, env, game))
        assert [int(np.argmax(planes[0, :, 0])) for planes, _ in plies] == left
        assert [known for _, known in plies] == [None] * (len(left) - 1) + [outcome]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chess", "gardner_chess", "shogi"])
def test_pieces_stand_as_the_rules_have_them(name: str) -> None:
    """The rows next to the players are mirror images, or half turns in shogi, whoever is to move; one has moved then."""
    env: Any = make(f"pgx/{name}", 1)
    position = jax.tree.map(lambda leaf: leaf[0], env.reset(jax.random.key(0), env.params)[1])
    board = board_of(name, position.planes, False)
    expected = {
        "chess": [4, 2, 3, 5, 6, 3, 2, 4],
        "gardner_chess": [4, 2, 3, 5, 6],
        "shogi": [2, 3, 4, 7, 8, 7, 4, 3, 2],
    }[name]
    assert board.cells[-1].tolist() == expected
    far = -board.cells[::-1] if "chess" in name else -board.cells[::-1, ::-1]
    np.testing.assert_array_equal(board.cells, far)
    move = int(np.flatnonzero(position.legal)[0])
    after, _, _ = jax.jit(env.model)(jax.random.key(0), env.params, position, move)
    moved = board_of(name, after.planes, True)
    changed = np.nonzero(moved.cells != board.cells)
    assert len(changed[0]) == 2 and sorted(moved.cells[changed])[0] == 0 and (board.cells[changed] >= 0).all()
    assert moved.hands.sum() == 0
