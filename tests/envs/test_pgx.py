"""Board games: their rules against our own, symmetries, what ends a game, and games against an opponent."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pgx as package
import pytest

from helpers import nim, slow_but
from jaxrl.drivers.evaluate import episode_scores
from jaxrl.envs import ENVS, evaluation_options, make, pgx
from jaxrl.envs.tools.board_pictures import board_of, draw_board
from jaxrl.envs.tools.versus import Opponent, mcts_opponent, opponent_of, random_opponent, versus
from jaxrl.errors import UsageError
from jaxrl.types import Agent, Env, Position
from tic_tac_toe import levels, lost, moved


@cache
def stepper(name: str, **options: Any) -> tuple[Env, Any]:
    """One game, and its step compiled once: (obs, action) -> (obs, reward, terminated)."""
    env = make(f"pgx/{name}", 1, **options)
    return env, jax.jit(lambda obs, action: env.model(jax.random.key(0), env.params, obs, action))


def opening(env: Env) -> Position:
    return jax.tree.map(lambda leaf: leaf[0], env.reset(jax.random.key(0), env.params)[1])


def play(name: str, *moves: int, **options: Any) -> tuple[Position, list[float], list[bool]]:
    """The position after the moves, and the rewards and ends on the way."""
    env, step = stepper(name, **options)
    obs, rewards, ends = opening(env), [], []
    for move in moves:
        assert obs.legal[move], f"move {move} is illegal after {moves}"
        obs, reward, over = step(obs, move)
        rewards.append(float(reward))
        ends.append(bool(over))
    return obs, rewards, ends


def test_the_names_are_those_of_the_registry() -> None:
    assert ENVS["pgx"] == tuple(pgx.GAMES)


def test_every_position_of_tic_tac_toe_is_as_our_own_rules_have_it() -> None:
    """All 5,478 that can be reached: who sees what, what is legal, who has won."""
    positions = {(0,) * 9}
    for level in levels(make("pgx/tic_tac_toe", 1)):
        for place, (i, point) in enumerate(level.moves):
            board = moved(level.boards[i], point)
            assert level.reward[place] == float(lost(board)) and level.over[place] == (lost(board) or 0 not in board)
            for stone, plane in ((1, 0), (-1, 1)):
                np.testing.assert_array_equal(level.after.planes[place, ..., plane].reshape(-1), np.array(board) == stone)
            if not level.over[place]:
                np.testing.assert_array_equal(level.after.legal[place], np.array(board) == 0)
            positions.add(board)
    assert len(positions) == 5478


@cache
def three() -> tuple[Any, Any]:
    """Three games side by side, and their step compiled once."""
    env: Any = make("pgx/tic_tac_toe", 3)
    return env, jax.jit(env.step)


def test_an_illegal_action_does_not_reach_the_game() -> None:
    env, step = three()
    state, _ = env.reset(jax.random.key(0), env.params)
    state, timestep = step(jax.random.key(1), env.params, state, jnp.array([4, 4, 4]))
    state, timestep = step(jax.random.key(2), env.params, state, jnp.array([4, -1, 9]))
    assert not timestep.terminated.any() and (timestep.reward == 0).all()
    assert (~timestep.next_obs.legal).tolist() == [[True, False, False, False, True, False, False, False, False]] * 3


def test_each_board_is_drawn_as_it_is() -> None:
    env, step = three()
    state, _ = env.reset(jax.random.key(0), env.params)
    state, timestep = step(jax.random.key(1), env.params, state, jnp.array([4, 0, 8]))
    for index, planes in enumerate(timestep.obs.planes):
        expected = draw_board("tic_tac_toe", board_of("tic_tac_toe", planes, second=True))
        np.testing.assert_array_equal(env.render(env.params, state, index), expected)


def test_both_sides_move_and_the_reward_is_of_who_moved() -> None:
    _, rewards, ends = play("tic_tac_toe", 0, 3, 1, 4, 2)
    assert rewards == [0, 0, 0, 0, 1] and ends == [False] * 4 + [True]
    _, rewards, _ = play("tic_tac_toe", 0, 3, 1, 4, 8, 5)
    assert rewards == [0, 0, 0, 0, 0, 1]
    obs, rewards, ends = play("tic_tac_toe", 0, 1, 2, 4, 3, 5, 7, 6, 8)
    assert rewards == [0] * 9 and ends[-1]
    # A game that is over stays as it is.
    again = stepper("tic_tac_toe")[1](obs, 0)
    assert again[2] and again[1] == 0
    np.testing.assert_array_equal(again[0].planes, obs.planes)


# --- symmetries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", slow_but(("tic_tac_toe", "connect_four"), (n for n in pgx.GAMES if pgx.symmetries(n))))
def test_a_game_played_in_the_mirror_is_the_mirror_image_of_the_game(name: str) -> None:
    env = make(f"pgx/{name}", 1)
    num = len(env.spec.symmetries)
    assert len(set(env.spec.symmetries)) == num == {"connect_four": 1, "hex": 1}.get(name, 7)
    step = jax.jit(jax.vmap(partial(env.model, jax.random.key(0), env.params)))
    images = jax.tree.map(lambda leaf: jnp.stack([leaf] * (num + 1)), opening(env))
    # actions[a] of the board as it is, is a as it becomes.
    to_image = [np.arange(env.spec.action.n), *(np.argsort(symmetry.actions) for symmetry in env.spec.symmetries)]
    generator, over = np.random.default_rng(0), np.zeros(1, bool)
    for _ in range(40):
        if over.any():
            break
        action = generator.choice(np.flatnonzero(images.legal[0]))
        images, reward, over = step(images, np.array([image[action] for image in to_image]))
        assert len(set(reward.tolist())) == len(set(over.tolist())) == 1
        for symmetry, planes, legal in zip(env.spec.symmetries, images.planes[1:], images.legal[1:], strict=True):
            turned = np.rot90(images.planes[0], symmetry.turns)
            np.testing.assert_array_equal(planes, turned[:, ::-1] if symmetry.mirrored else turned)
            np.testing.assert_array_equal(legal, images.legal[0][np.array(symmetry.actions)])


# --- Go ---------------------------------------------------------------------------------------------------------------

PASS = 25


def points(board: str) -> list[int]:
    """Places of the 5 x 5 board by their letters and numbers, such as C3, A1 in the lower left corner."""
    return [PASS if name == "pass" else (5 - int(name[1])) * 5 + "ABCDE".index(name[0]) for name in board.split()]


def test_a_stone_without_liberties_is_taken_and_a_ko_is_not_taken_back_at_once() -> None:
    # Black surrounds C3, White the point beside it: White takes at C3, and Black may not take back at once.
    ko = points("C4 B4 D3 A3 C2 B2 B3 C3")
    obs, _, _ = play("go_5x5", *ko)
    board = np.asarray(obs.planes[..., 0]).reshape(-1), np.asarray(obs.planes[..., 1]).reshape(-1)
    assert not (board[0] | board[1])[points("B3")[0]] and board[1][points("C3")[0]]
    assert not obs.legal[points("B3")[0]] and obs.legal[PASS]
    obs, _, _ = play("go_5x5", *ko, *points("E5 E1"))
    assert obs.legal[points("B3")[0]]


def test_suicide_is_illegal() -> None:
    obs, _, _ = play("go_5x5", *points("A4 E5 B5"))
    assert not obs.legal[points("A5")[0]]


@pytest.mark.parametrize(("komi", "reward"), [(0.5, -1.0), (24.5, -1.0), (25.5, 1.0)])
def test_area_less_komi_decides_after_two_passes(komi: float, reward: float) -> None:
    """Black has a stone, hence the whole board; the second to pass is Black, whose reward that is. A tie is White's."""
    _, rewards, ends = play("go_5x5", *points("C3 pass pass"), komi=komi)
    assert ends == [False, False, True] and rewards[-1] == -reward


def test_white_wins_where_both_have_as_much() -> None:
    _, rewards, _ = play("go_5x5", *points("C3 pass pass"), komi=25.0)
    assert rewards[-1] == -1.0


def test_komi_is_half_a_point_on_small_boards_unless_it_is_given() -> None:
    assert [float(make(f"pgx/go_{n}x{n}", 1).params.komi) for n in (5, 9)] == [0.5, 7.5]
    assert make("pgx/go_5x5", 1).static == make("pgx/go_5x5", 1, komi=3.5).static


@pytest.mark.slow
def test_a_long_game_of_chess_is_cut() -> None:
    game = pgx.game_of("gardner_chess")
    state, _ = game.reset(jax.random.key(0), ())
    bare = package.make("gardner_chess").init(jax.random.key(0)).replace(observation=(), legal_action_mask=())
    counter = jax.tree.unflatten(jax.tree.structure(bare), range(len(state.state)))._step_count
    for count, cut in ((253, False), (255, True)):
        leaves = list(state.state)
        leaves[counter] = jnp.int32(count)
        over = game.step(jax.random.key(0), (), state._replace(state=tuple(leaves)), jnp.argmax(state.legal))
        assert (bool(over.truncated), bool(over.terminated), float(over.reward)) == (cut, False, 0.0)


# --- opponents --------------------------------------------------------------------------------------------------------


def take(number: int) -> Opponent:
    """Always takes so many stones, where it may."""

    def act(key: Any, params: Any, memory: Any, obs: Position) -> Any:
        return jnp.where(obs.legal[:, number - 1], number - 1, 0), memory

    return Opponent(act)


def expected(first: bool, ours: int, theirs: int, stones: int) -> tuple[int, int]:
    """(who has won: 1 or -1, our moves) of a game of Nim."""
    left, us, moves = stones, first, 0
    while True:
        left -= min(ours if us else theirs, left)
        moves += us
        if left == 0:
            return (1 if us else -1), moves
        us = not us


@pytest.mark.parametrize(("ours", "theirs", "stones"), [(1, 2, 7), (2, 1, 7), (2, 2, 4), (1, 1, 3)])
def test_games_against_an_opponent_are_those_that_python_plays(ours: int, theirs: int, stones: int) -> None:
    """Who begins alternates; an answer, and an opening by the opponent, are part of our step."""
    num_envs = 3
    env = versus(nim(num_envs, stones), take(theirs))
    assert env.spec.num_players == 1 and env.spec.has_return and env.model is None
    state, obs = env.reset(jax.random.key(0), env.params)
    step = jax.jit(env.step)
    seen: list[list[tuple[int, int]]] = [[] for _ in range(num_envs)]
    for time in range(40):
        # Where the opponent has begun we see what it left.
        action = jnp.where(obs.legal[:, ours - 1], ours - 1, 0)
        state, timestep = step(jax.random.key(time), env.params, state, action)
        obs = timestep.obs
        assert not timestep.truncated.any()
        for i in np.flatnonzero(timestep.terminated):
            assert timestep.reward[i] == timestep.info["episode_return"][i]
            seen[i].append((int(timestep.reward[i]), int(timestep.info["episode_length"][i])))
        begun = np.asarray(timestep.terminated)
        second = np.array([(i + len(seen[i])) % 2 == 1 for i in range(num_envs)])
        left = np.asarray(obs.state)
        assert (left[begun & ~second] == stones).all() and (left[begun & second] == stones - min(theirs, stones)).all()
    for i, games in enumerate(seen):
        assert len(games) > 5
        assert games == [expected((i + n) % 2 == 0, ours, theirs, stones) for n in range(len(games))]


def test_a_game_that_is_cut_is_nobodys() -> None:
    env = make("pgx/connect_four", 2, time_limit=3, opponent="random")
    state, _ = env.reset(jax.random.key(0), env.params)
    step, ends = jax.jit(env.step), []
    for time in range(4):
        state, timestep = step(jax.random.key(time), env.params, state, jnp.zeros(2, jnp.int32))
        ends.append(timestep.truncated.tolist())
        assert (timestep.reward == 0).all() and not timestep.terminated.any()
    # Three moves: ours, theirs, ours; or theirs, ours, theirs. So two of our steps, or one.
    assert ends == [[False, True], [True, False], [True, True], [False, True]]


def player(act: Any) -> Agent:
    return Agent(lambda key: (), act, lambda *_: None, respects_legal=True)  # type: ignore[arg-type,return-value]


def random_act(key: Any, policy: Any, memory: Any, obs: Position, progress: Any, explore: bool) -> Any:
    return random_opponent().act(key, (), (), obs)[0], memory, ()


@pytest.mark.slow
def test_a_tree_of_random_playouts_solves_nim_and_beats_random_play() -> None:
    game = nim(64, 7)
    env = versus(game, mcts_opponent(game, 64))
    scores = jax.jit(lambda key: episode_scores(key, player(random_act), env, (), None, 2))(jax.random.key(0)).returns
    # From seven stones who begins wins by leaving six; random play leaves the right number time and again by chance.
    first = np.asarray(scores).reshape(64, 2)[np.arange(64), np.arange(64) % 2]
    second = np.asarray(scores).reshape(64, 2)[np.arange(64), 1 - np.arange(64) % 2]
    assert (second == -1).all() and -0.9 < first.mean() < -0.5


@pytest.mark.parametrize("text", ["", "mcts", "mcts:", "mcts:0", "mcts:-5", "mcts:1.5", "perfect"])
def test_an_unknown_opponent_is_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=f"^opponent='{text}' is unknown; choose random, mcts:N"):
        opponent_of(text, nim(1))


def test_a_game_of_one_player_has_no_opponent() -> None:
    with pytest.raises(UsageError, match="this is no game of two players"):
        versus(make("CartPole-v1", 1), random_opponent())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tic_tac_toe", {"komi": 0.5}, "unknown option of pgx/tic_tac_toe 'komi'"),
        ("go_5x5", {"size": 5}, "unknown option of pgx/go_5x5 'size'"),
        ("go_5x5", {"komi": "much"}, "komi='much' must be of type float"),
        ("go_5x5", {"komi": float("nan")}, "komi=nan"),
        ("go_5x5", {"opponent": "nobody"}, "opponent='nobody' is unknown"),
        ("go_5x5", {"time_limit": 0}, "time_limit=0"),
    ],
)
def test_bad_options_are_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(f"pgx/{name}", 1, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_policy_is_scored_against_random_moves_unless_another_is_named() -> None:
    assert evaluation_options("pgx/go_5x5", {"komi": 3.5}, {}) == {"komi": 3.5, "opponent": "random"}
    assert evaluation_options("pgx/go_5x5", {}, {"opponent": "mcts:20"}) == {"opponent": "mcts:20"}


def test_boards_are_seen_as_pictures() -> None:
    for name, (shape, num_actions) in {"tic_tac_toe": ((3, 3, 2), 9), "go_5x5": ((5, 5, 17), 26)}.items():
        env = make(f"pgx/{name}", 1)
        assert env.spec.obs.leaves[0].shape == shape and env.spec.obs.leaves[0].picture == "HWC"
        assert env.spec.action.n == num_actions and env.spec.num_players == 2 and not env.spec.has_return
