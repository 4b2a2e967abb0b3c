"""Matches: who begins, what is drawn, which games are nobody's, how they are counted; nim and its winners by hand."""

from __future__ import annotations

from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from helpers import nim
from jaxrl.envs.pgx import symmetries
from jaxrl.errors import UsageError
from jaxrl.matches.games import Game, distinct, game_of
from jaxrl.matches.play import play_match
from jaxrl.matches.players import RESIGNS, CompiledPlayer, Drawing, plain_player
from jaxrl.matches.results import MatchResult, Played, result_table


def four_stones(num_envs: int) -> Any:
    """Who begins wins by taking one."""
    return nim(num_envs, 4)


@cache
def game() -> Game:
    return game_of("test_play:four_stones")


def player(name: str, act: Any, at_once: int = 128) -> CompiledPlayer:
    return CompiledPlayer(name, lambda key, params, memory, obs, drawing: (act(obs, drawing), memory), at_once=at_once)


def perfect(obs: Any, drawing: Drawing) -> Any:
    """Leaves a multiple of three where it can; action 0 takes one stone."""
    return jnp.where(obs.state % 3 == 2, 1, 0).astype(jnp.int32)


def ones(obs: Any, drawing: Drawing) -> Any:
    return jnp.zeros(obs.state.shape, jnp.int32)


def test_each_begins_every_other_game() -> None:
    result = play_match(game(), player("a", perfect), player("b", perfect), 6)
    assert [(one.number, one.first, one.of_a) for one in result.games] == [(i, i % 2, 1 - 2 * (i % 2)) for i in range(6)]
    assert all(one.moves == (0, 0, 1) and one.how == "over" and one.result == "B+" for one in result.games)
    # By taking one stone only, of four who begins never takes the last.
    result = play_match(game(), player("a", ones), player("b", ones), 3)
    assert [one.of_a for one in result.games] == [-1, 1, -1]
    assert result.tally().score == pytest.approx(1 / 3) and result.tally(0).losses == 2 and result.tally(1).wins == 1


@pytest.mark.parametrize(("num_games", "at_once"), [(1, 128), (7, 3), (5, 1), (4, 2)])
def test_every_game_is_played_once_however_many_stand_side_by_side(num_games: int, at_once: int) -> None:
    told: list[int] = []
    result = play_match(
        game(), player("a", perfect), player("b", ones, at_once), num_games, on_game=lambda one: told.append(one.number)
    )
    assert [one.number for one in result.games] == list(range(num_games)) == sorted(told)
    # It wins from four stones when it begins, and when the other begins and leaves three it cannot.
    assert result.tally(0).wins == -(-num_games // 2)


@pytest.mark.parametrize(("first", "numbers"), [("a", [0, 2, 4, 6, 8]), ("b", [1, 3, 5, 7, 9])])
def test_one_side_may_have_the_first_move_in_all_games(first: str, numbers: list[int]) -> None:
    result = play_match(game(), player("a", perfect), player("b", perfect, 2), 5, first=first)
    assert [one.number for one in result.games] == numbers and {one.first for one in result.games} == {numbers[0]}
    side = 0 if first == "a" else 1
    assert result.tally(side).games == 5 and result.tally(1 - side).games == 0 and result.tally(1 - side).score is None
    assert result_table(result).columns[1].header == "all" and len(result_table(result).columns) == 3


def test_the_first_moves_alone_are_drawn() -> None:
    heard: list[tuple[str, int, Drawing]] = []

    def listen(name: str, obs: Any, drawing: Drawing) -> Any:
        heard.append((name, int(obs.state[0]), drawing))
        return ones(obs, drawing)

    play_match(
        game(),
        player("a", partial(listen, "a")),
        player("b", partial(listen, "b")),
        1,
        opening_moves=2,
        opening_temperature=3.0,
        opening_margin=0.5,
    )
    drawn, best = Drawing(3.0, 0.5), Drawing()
    assert heard == [("a", 4, drawn), ("b", 3, drawn), ("a", 2, best), ("b", 1, best)]
    heard.clear()
    # Two stones are taken before anybody is asked, of which the first player took both.
    a, b = (player(name, partial(listen, name)) for name in "ab")
    result = play_match(game(), a, b, 1, opening_moves=1, opening_temperature=3.0, opening_margin=0.5, first_moves=(1,))
    assert heard == [("b", 2, drawn), ("a", 1, best)] and result.games[0].moves == (1, 0, 0)


def test_moves_are_known_by_their_names() -> None:
    assert game().moves_of(["0", "1"]) == (0, 1)
    for names, message in (
        (["0", "x"], r"first_moves: move 2, 'x', is no move of test_play:four_stones; its moves are 0, 1"),
        (["1", "0", "1"], "first_moves: move 3, '1', is illegal"),
        (["1", "1"], "first_moves: move 2, '1', ends the game"),
    ):
        with pytest.raises(UsageError, match=message):
            game().moves_of(names)


def test_a_game_without_an_end_is_nobodys() -> None:
    result = play_match(game()._replace(longest=3), player("a", ones), player("b", ones), 2)
    assert [(one.how, one.outcome, one.result) for one in result.games] == [("cut", None, "Void")] * 2
    tally = result.tally()
    assert (tally.void, tally.wins, tally.draws, tally.losses, tally.score, tally.low) == (2, 0, 0, 0, None, None)


def test_who_resigns_has_lost_and_an_illegal_move_is_never_made() -> None:
    def resign(obs: Any, drawing: Drawing) -> Any:
        return jnp.full(obs.state.shape, RESIGNS, jnp.int32)

    result = play_match(game(), player("a", ones), player("b", resign), 2)
    assert [(one.of_a, one.how, one.moves, one.result) for one in result.games] == [
        (1, "resigned", (0,), "B+Resign"),
        (1, "resigned", (), "W+Resign"),
    ]
    twos = player("twos", lambda obs, drawing: jnp.ones(obs.state.shape, jnp.int32))
    assert play_match(game(), player("a", ones), twos, 1).games[0].moves == (0, 1, 0)  # Of one stone two cannot be taken.


def test_random_moves_are_the_same_for_a_seed_and_differ_between_games_and_sides() -> None:
    random = plain_player("random", game())
    games = [play_match(game(), random, random, 32, seed=seed).games for seed in (0, 0, 1)]
    assert games[0] == games[1] != games[2]
    assert {len(one.moves) for one in games[0]} == {2, 3, 4} and {one.outcome for one in games[0]} == {-1, 1}


@pytest.mark.slow
def test_a_search_draws_its_first_moves_and_then_takes_the_best() -> None:
    searching = plain_player("mcts:40", game())
    result = play_match(game(), searching, player("b", ones), 40, seed=3, opening_moves=1)
    begun = [one.moves for one in result.games if one.first == 0]
    assert {moves[0] for moves in begun} == {0, 1}  # Most visits are of the right one, some of the other.
    # Behind it, two stones are left where it took one, and both are taken.
    assert all(moves[2] == 1 for moves in begun if moves[0] == 0)
    sure = play_match(game(), searching, player("b", ones), 20, seed=3)
    assert sure.tally(0).wins == 10 and sure.tally(0).distinct == 1


def test_games_are_counted_by_their_moves_and_up_to_the_symmetries_of_the_board() -> None:
    env: Any = SimpleNamespace(spec=SimpleNamespace(symmetries=symmetries("tic_tac_toe")))
    corners = [(0, 4, 1), (2, 4, 5), (8, 4, 7), (0, 4, 3), (0, 4, 1)]
    assert distinct(corners, env) == (4, 1)
    assert distinct([*corners, (1, 4, 0), ()], env) == (6, 3)
    bare: Any = SimpleNamespace(spec=SimpleNamespace(symmetries=()))
    assert distinct(corners, bare) == (4, 4) and distinct([], bare) == (0, 0)


def test_a_draw_counts_half_and_what_is_nobodys_nothing() -> None:
    outcomes = [1, 1, 0, None, -1]
    played = tuple(Played(i, i % 2, (i,), outcome, "over") for i, outcome in enumerate(outcomes))
    result = MatchResult(game(), ("x", "y"), played, 1.0)
    tally = result.tally()
    # A: won, lost, drawn, nothing, lost.
    assert (tally.wins, tally.draws, tally.losses, tally.void, tally.games) == (1, 1, 2, 1, 5)
    assert tally.score == pytest.approx(1.5 / 4) and tally.low < tally.score < tally.high
    assert result.summary()["a_first"]["score"] == pytest.approx(0.5)
    assert result_table(result).row_count == 7


def test_an_environment_of_one_player_is_one_line() -> None:
    with pytest.raises(UsageError, match="env=probe/constant is no game of two players with a model"):
        game_of("probe/constant")
    with pytest.raises(UsageError, match="player='best' is unknown; choose random, or mcts:N"):
        plain_player("best", game())
    assert np.array_equal(game().opening(3).state, [4, 4, 4])
