"""Games as GIFs, and pictures of what a policy thinks of a position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxrl
from helpers import TINY_SELF_PLAY
from jaxrl.errors import UsageError
from jaxrl.matches.pictures import Opinion, draw_opinion, opinion_of, positions, save_game

GAME = "pgx/tic_tac_toe"


def test_a_game_becomes_a_gif_of_all_its_positions(tmp_path: Path) -> None:
    save_game(tmp_path / "game.gif", GAME, (0, 3, 1, 4, 2), players=("one", "two"))
    with Image.open(tmp_path / "game.gif") as picture:
        assert picture.n_frames == 6  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_outcome_is_the_first_player_s() -> None:
    assert [outcome for _, outcome in positions(GAME, (0, 3, 1, 4, 2))] == [None] * 5 + [1.0]
    assert [outcome for _, outcome in positions(GAME, (0, 3, 1, 4, 8, 5))][-1] == -1.0
    assert [outcome for _, outcome in positions(GAME, (0, 1, 2, 4, 3, 5, 7, 6, 8))][-1] == 0.0
    with pytest.raises(UsageError, match="moves: move 6 is 5, which is illegal there"):
        list(positions(GAME, (0, 3, 1, 4, 2, 5)))


@pytest.mark.parametrize("moves", [(0, 0), (9,), (-1,)])
def test_a_game_with_an_illegal_move_leaves_no_gif(tmp_path: Path, moves: tuple[int, ...]) -> None:
    with pytest.raises(
        UsageError, match=f"moves: move {len(moves)} is {moves[-1]}, which is illegal there; give a game of {GAME}"
    ):
        save_game(tmp_path / "game.gif", GAME, moves)
    assert not list(tmp_path.iterdir())


def test_a_world_that_is_no_game_has_no_picture_of_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="env=CartPole-v1: there are no pictures of it as a game"):
        save_game(tmp_path / "game.gif", "CartPole-v1", (0, 1))


def opinion(env_id: str, shape: tuple[int, int], num_actions: int) -> Opinion:
    prior, policy, legal = np.zeros(num_actions), np.zeros(num_actions), np.ones(num_actions, bool)
    prior[:2], policy[0], legal[1] = (0.7, 0.3), 1.0, env_id == "pgx/connect_four"
    planes = np.zeros((*shape, 2), bool)
    return Opinion(env_id, planes, legal, True, prior, 0.25, policy, -0.5, 0, 32)


def texts(axes: Any) -> set[str]:
    return {text.get_text() for text in axes.texts} | ({axes.get_title()} - {""})


def test_an_opinion_is_drawn_on_the_points_of_the_board() -> None:
    network, search = draw_opinion(opinion("pgx/go_5x5", (5, 5), 26)).axes
    # Of an illegal action nothing is drawn; the pass stands below.
    assert texts(network) == {"network: +0.25 for White", "70", "pass 0%"}
    assert texts(search) == {"search, 32 simulations: -0.50", "100", "pass 0%"}
    assert len(network.patches) == 1 and len(search.patches) == 2  # With the ring of what is played.


def test_an_opinion_of_connect_four_is_drawn_above_its_columns() -> None:
    bars, others, boards, _ = draw_opinion(opinion("pgx/connect_four", (6, 7), 7)).axes
    assert texts(bars) == {"network: +0.25 for Yellow", "70", "30", "0"} and "100" in texts(others)
    assert [bar.get_height() for bar in bars.patches] == [0.7, 0.3, 0, 0, 0, 0, 0]
    middles = [bar.get_x() + bar.get_width() / 2 for bar in bars.patches]
    assert boards.get_xlim()[0] + 0.5 < middles[0] < middles[-1] < boards.get_xlim()[1]
    assert bars.get_xlim()[1] - bars.get_xlim()[0] == boards.get_xlim()[1] - boards.get_xlim()[0]


def test_an_opinion_on_actions_that_are_no_points_is_refused() -> None:
    with pytest.raises(UsageError, match="env=pgx/gardner_chess: its actions are no points of the board"):
        draw_opinion(opinion("pgx/gardner_chess", (5, 5), 25)._replace(planes=np.zeros((5, 5, 115))))


@pytest.mark.slow
def test_a_trained_policy_has_an_opinion(tmp_path: Path) -> None:
    run = tmp_path / "run"
    jaxrl.run("alphazero", GAME, out=run, total_steps=64, eval_episodes=2, **TINY_SELF_PLAY)
    found = opinion_of(run, (4, 0), simulations=9)
    assert found.prior[[0, 4]].tolist() == found.policy[[0, 4]].tolist() == [0, 0] and not found.second
    assert found.prior.sum() == pytest.approx(1.0) == found.policy.sum()
    assert abs(found.value) <= 1.0 and abs(found.searched) <= 1.0 and found.legal[found.action] and found.simulations == 9
    with pytest.raises(UsageError, match="the game is over after these 5"):
        opinion_of(run, (0, 3, 1, 4, 2))
