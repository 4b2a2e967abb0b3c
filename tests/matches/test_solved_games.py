"""`experiments/alphazero.py` and the solved positions that it counts."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tic_tac_toe import moved, worth

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))
import alphazero  # noqa: E402
import solved_games  # noqa: E402

RESULTS = EXPERIMENTS / "results" / "alphazero"


def board_after(moves):
    board = (0,) * 9
    for move in moves:
        board = moved(board, move)
    return board


@pytest.mark.slow
def test_tic_tac_toe_is_solved_as_by_plain_minimax():
    solved = solved_games.tic_tac_toe()
    boards = [board_after(moves) for moves in solved.moves]
    assert len(boards) == len(set(boards)) == 4520
    for board, values in zip(boards, solved.worth, strict=True):
        expected = [-worth(moved(board, point)) if board[point] == 0 else np.nan for point in range(9)]
        np.testing.assert_array_equal(values, expected)


@pytest.mark.slow
def test_random_positions_are_different_ones_of_all_lengths():
    obs, moves = solved_games.random_positions("pgx/connect_four", 200, 0)
    assert len({planes.tobytes() for planes in obs.planes}) == len(moves) == 200
    stones = obs.planes.sum(axis=(1, 2, 3))
    assert stones.tolist() == [len(led) for led in moves] and stones.min() <= 2 and stones.max() >= 25
    again = solved_games.random_positions("pgx/connect_four", 200, 0)[1]
    assert again == moves != solved_games.random_positions("pgx/connect_four", 200, 1)[1]


def test_a_move_keeps_what_a_position_is_worth_where_none_is_better():
    worth_of = np.array([[1.0, 0.0, np.nan], [-1.0, -1.0, -1.0], [0.0, -1.0, 0.0]])
    solved = solved_games.Solved(None, [(), (), ()], worth_of)
    assert solved.open.tolist() == [True, False, True]
    assert solved.kept(np.array([1, 2, 2])).tolist() == [False, True, True]


def test_the_page_of_results_is_what_the_files_say(tmp_path):
    for path in RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    alphazero.table(tmp_path)
    assert (tmp_path / "README.md").read_text() == (RESULTS / "README.md").read_text(), "python experiments/alphazero.py table"
