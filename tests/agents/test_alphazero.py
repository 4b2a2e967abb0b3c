"""AlphaZero: searches against exact play, outcomes of games in the replay, the loss, symmetries."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import nim, progress_at
from jaxrl.agents.search.alphazero import (
    AlphaZeroConfig,
    Batch,
    Lesson,
    Memory,
    loss_of,
    make_alphazero,
    moves_of,
    opened,
    turned,
)
from jaxrl.agents.search.trees import gumbel_search, playout_search, playouts, puct_search
from jaxrl.config import as_arrays
from jaxrl.envs import make
from jaxrl.errors import UsageError
from jaxrl.loop import build_in, train
from jaxrl.replay import games
from jaxrl.types import Position, Symmetry
from tic_tac_toe import Board, levels, lost, moved, rows, worth

STONES = 10
NIM = nim(1, STONES)
LEFT = jnp.arange(1, STONES + 1)


def model(key: Any, obs: Position, action: Any) -> Any:
    return NIM.model(key, (), obs, action)  # type: ignore[misc]


def positions(left: jax.Array) -> Position:
    """Of Nim, with so many stones left; the planes are not looked at."""
    return Position(jnp.zeros((len(left), 1, 1, 1)), left[:, None] >= jnp.array([1, 2]), left)


def ignorant(obs: Position) -> tuple[jax.Array, jax.Array]:
    """A network that knows nothing."""
    return jnp.zeros(obs.legal.shape), jnp.zeros(obs.legal.shape[0])


def chosen(policy: jax.Array, action: jax.Array) -> jax.Array:
    return jnp.take_along_axis(policy, action[:, None], axis=-1)[:, 0]


# --- searches ---------------------------------------------------------------------------------------------------------

SEARCHES = {
    "gumbel": lambda key, obs: gumbel_search(key, model, ignorant, obs, 300, gumbel_scale=0.0),
    "puct": lambda key, obs: puct_search(key, model, ignorant, obs, 300, 0.0, 0.0, 0.3),
    "playouts": lambda key, obs: playout_search(key, model, obs, 200, STONES),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_finds_what_wins(name: str) -> None:
    """A network that knows nothing is no hindrance where the tree reaches the end of the game; values have the right sign."""
    found = jax.jit(SEARCHES[name])(jax.random.key(0), positions(LEFT))
    wins = np.asarray(LEFT % 3 != 0)
    assert (found.action + 1)[wins].tolist() == (LEFT % 3)[wins].tolist()
    assert (found.value[wins] > 0).all() and (found.value[~wins] < 0).all()
    np.testing.assert_allclose(found.policy.sum(-1), 1.0, rtol=1e-5)
    # With one stone left, only one may be taken.
    assert found.policy[0, 1] == 0.0 and found.action[0] == 0


def test_a_gumbel_search_recommends_by_logits_and_by_values_as_they_are() -> None:
    """Of two stones: to take both wins, to leave one is worth what the network says of it. Each action is tried once, so that
    values count 0.1 (50 + 1) times, however near they are to each other."""

    def evaluate(obs: Position, left_one: float) -> tuple[jax.Array, jax.Array]:
        return jnp.broadcast_to(jnp.array([0.7, -0.2]), obs.legal.shape), jnp.where(obs.state == 1, left_one, 0.5)

    @jax.jit
    def recommended(left_one: float) -> jax.Array:
        of = partial(evaluate, left_one=left_one)
        return gumbel_search(jax.random.key(0), model, of, positions(jnp.array([2])), 2, gumbel_scale=0.0).policy[0]

    for left_one in (0.3, -0.9):
        logits = np.array([0.7 - 5.1 * left_one, -0.2 + 5.1])
        np.testing.assert_allclose(recommended(left_one), np.exp(logits) / np.exp(logits).sum(), rtol=1e-4)


@pytest.mark.parametrize("name", ["gumbel", "puct"])
def test_noise_never_makes_an_action_legal(name: str) -> None:
    obs = positions(jnp.ones(512, jnp.int32))
    search = {
        "gumbel": lambda key: gumbel_search(key, model, ignorant, obs, 4, gumbel_scale=10.0),
        "puct": lambda key: puct_search(key, model, ignorant, obs, 4, 5.0, 1.0, 0.03),
    }[name]
    found = jax.jit(search)(jax.random.key(0))
    assert (found.action == 0).all() and (found.policy[:, 1] == 0.0).all()


def test_a_temperature_draws_by_visits_and_none_takes_the_most_visited() -> None:
    """One temperature for each position: the first half of them draws, the rest does not."""
    obs = positions(jnp.full(400, 6))
    temperature = jnp.where(jnp.arange(400) < 200, 1.0, 0.0)
    found = jax.jit(lambda key: puct_search(key, model, ignorant, obs, 16, temperature, 0.0, 0.3))(jax.random.key(0))
    assert len(np.unique(found.action[:200])) == 2
    assert (chosen(found.policy, found.action)[200:] == found.policy[200:].max(-1)).all()
    share = np.mean(found.action[:200] == 1)
    assert abs(share - found.policy[:200, 1].mean()) < 4 * np.sqrt(0.25 / 200)


def test_random_games_end_as_often_as_they_do_by_exact_calculation() -> None:
    exact = [-1.0]  # Who is to move without a stone has lost.
    for left in range(1, STONES + 1):
        exact.append(np.mean([-exact[left - taken] for taken in (1, 2) if taken <= left]))
    left = jnp.repeat(LEFT, 2000)
    found = jax.jit(lambda key: playouts(key, model, positions(left), STONES))(jax.random.key(0)).reshape(STONES, 2000)
    assert set(np.unique(found)) == {-1.0, 1.0}
    np.testing.assert_allclose(found.mean(1), exact[1:], atol=4 / np.sqrt(2000))


def test_a_game_too_long_counts_as_drawn() -> None:
    found = jax.jit(lambda key: playouts(key, model, positions(jnp.full(8, STONES)), 2))(jax.random.key(0))
    assert (found == 0).all()


# --- outcomes ---------------------------------------------------------------------------------------------------------


def rows_of(*columns: list[tuple[float, str]]) -> games.Moves:
    """Rewards and ends ("t" terminated, "c" cut, "" neither) of each column's games."""
    reward = jnp.array([[reward for reward, _ in column] for column in columns], jnp.float32).T
    over, cut = (jnp.array([[end == name for _, end in column] for column in columns]).T for name in "tc")
    return games.Moves(jnp.arange(reward.size).reshape(reward.shape), reward, over, cut)


def test_an_outcome_is_that_of_the_game_as_the_player_sees_it_who_moved() -> None:
    replay = games.init(jnp.zeros((2,), jnp.int32), 8)
    first = [(0.0, ""), (0.0, ""), (1.0, "t"), (0.0, "")], [(0.0, ""), (0.0, "c"), (0.0, ""), (0.0, "")]
    replay = games.add(replay, rows_of(*first))
    found = games.outcomes(replay)
    assert found.outcome[:4].T.tolist() == [[1, -1, 1, 0], [0, 0, 0, 0]]
    assert found.known[:4].T.tolist() == [[True, True, True, False], [False] * 4]
    # The games go on, and what was open gets its outcome; a draw is one as well, and what was cut stays without.
    then = [(0.0, ""), (-1.0, "t"), (0.0, "t"), (0.0, "")], [(0.0, ""), (0.0, ""), (1.0, "t"), (0.0, "")]
    replay = games.add(replay, rows_of(*then))
    found = games.outcomes(replay)
    assert found.outcome.T.tolist() == [[1, -1, 1, -1, 1, -1, 0, 0], [0, 0, 1, -1, 1, -1, 1, 0]]
    assert found.known.T.tolist() == [[True] * 7 + [False], [False] * 2 + [True] * 5 + [False]]
    # Around the ring's seam: the oldest four rows make room, and the last open game ends in them.
    replay = games.add(replay, rows_of([(1.0, "t"), *[(0.0, "")] * 3], [(0.0, ""), (1.0, "t"), *[(0.0, "")] * 2]))
    found = games.outcomes(replay)
    assert found.outcome[:4].T.tolist() == [[1, 0, 0, 0], [-1, 1, 0, 0]]
    assert found.outcome[4:].T.tolist() == [[1, -1, 0, -1], [1, -1, 1, 1]]
    assert found.known[:4].T.tolist() == [[True, False, False, False], [True, True, False, False]]


def test_only_what_is_held_is_drawn_and_all_of_it_alike() -> None:
    replay = games.add(games.init(jnp.zeros((3,), jnp.int32), 8), rows_of(*[[(0.0, "")] * 2] * 3))
    index = games.sample_indices(jax.random.key(0), replay, (6000,))
    counts = np.bincount(np.asarray(games.gather(replay.data.kept, index)), minlength=6)
    assert len(counts) == 6 and (abs(counts - 1000) < 4 * np.sqrt(1000)).all()


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_paper_by_hand() -> None:
    legal = jnp.array([[True, True, False], [True, True, True]])
    policy = jnp.array([[0.75, 0.25, 0.0], [0.5, 0.25, 0.25]])
    logits, value = jnp.array([[0.0, 0.0, 9.0], [0.0, 0.0, 0.0]]), jnp.array([0.5, 0.9])
    batch = Batch(Lesson(jnp.zeros((2, 1, 1, 1)), legal, policy), jnp.array([-1.0, 0.0]), jnp.array([2.0, 0.0]))
    total, metrics = loss_of(AlphaZeroConfig(value_weight=2.0), logits, value, batch)
    np.testing.assert_allclose(metrics["value_loss"], 1.5**2, rtol=1e-6)
    np.testing.assert_allclose(metrics["policy_loss"], (np.log(2) + np.log(3)) / 2, rtol=1e-6)
    np.testing.assert_allclose(total, 2 * 1.5**2 + (np.log(2) + np.log(3)) / 2, rtol=1e-6)
    assert metrics["known"] == 0.5
    nothing = batch._replace(weight=jnp.zeros(2))
    assert loss_of(AlphaZeroConfig(), logits, value, nothing)[1]["value_loss"] == 0.0
    gradient = jax.grad(lambda logits: loss_of(AlphaZeroConfig(), logits, value, batch)[0])(logits)
    assert gradient[0, 2] == 0.0 and np.isfinite(gradient).all()


def test_positions_are_turned_with_what_is_recommended_in_them() -> None:
    """Each point's plane holds its own number, so what is recommended at a point must stand where that number stands."""
    symmetries = make("pgx/tic_tac_toe", 1).spec.symmetries
    planes = jnp.broadcast_to(jnp.arange(9.0).reshape(1, 3, 3, 1), (400, 3, 3, 1))
    policy = jnp.broadcast_to(jnp.arange(9.0), (400, 9))
    lesson = turned(jax.random.key(0), Lesson(planes, policy > 3, policy), symmetries)
    np.testing.assert_array_equal(lesson.planes.reshape(400, 9), lesson.policy)
    np.testing.assert_array_equal(lesson.legal, lesson.policy > 3)
    kinds, counts = np.unique(lesson.policy, axis=0, return_counts=True)
    assert len(kinds) == 8 and (abs(counts - 50) < 4 * np.sqrt(50)).all()
    mirrored = turned(
        jax.random.key(0), Lesson(planes[:, :, :2], policy[:, :2] > 0, policy[:, :2]), (Symmetry(0, True, (1, 0)),)
    )
    swapped = np.asarray(mirrored.policy[:, 0] == 1.0)
    np.testing.assert_array_equal(mirrored.planes[swapped][:, 0, :, 0], [[1.0, 0.0]] * swapped.sum())
    np.testing.assert_array_equal(mirrored.planes[~swapped][:, 0, :, 0], [[0.0, 1.0]] * (~swapped).sum())


@pytest.mark.slow
def test_a_puct_search_draws_moves_only_early_in_a_game() -> None:
    config = AlphaZeroConfig(
        search="puct", temperature_moves=3, num_simulations=8, dirichlet_fraction=0.0, blocks=0, channels=4
    )
    env = nim(64, STONES)
    agent = build_in(make_alphazero, as_arrays(config), env)
    obs = env.reset(jax.random.key(0), ())[1]
    policy = agent.init(jax.random.key(0)).policy

    @jax.jit
    def act(played: Any) -> Any:
        memory = Memory(played, jnp.zeros(64, jnp.int32))
        return agent.act(jax.random.key(1), policy, memory, obs, progress_at(0, 1), True)

    action, memory, _ = act(jnp.zeros(64, jnp.int32))
    assert len(np.unique(action)) == 2 and (memory.played == 1).all()
    action, memory, found = act(jnp.full(64, 3))
    assert (chosen(found.policy, action) == found.policy.max(-1)).all() and (memory.played == 4).all()


# --- random openings --------------------------------------------------------------------------------------------------


def test_games_begin_with_random_moves_in_their_share_and_number() -> None:
    """Of 4,000 games: a quarter begins at random, with one to four moves, as many each; later moves are the search's."""
    config, num = AlphaZeroConfig(opening_share=0.25, opening_moves=4), 4000
    legal, searched = jnp.broadcast_to(jnp.array([True, False, True]), (num, 3)), jnp.zeros(num, jnp.int32)
    memory, counts, random = Memory(*jnp.zeros((2, num), jnp.int32)), [], jnp.zeros(num, bool)
    for move in range(6):
        action, opening, random = opened(jax.random.key(move), config, legal, memory, searched)
        assert not (np.asarray(action) == 1).any() and (action[~random] == 0).all()
        assert move or abs(np.mean(action[random]) - 1.0) < 4 / np.sqrt(num * 0.25)
        counts.append(int(random.sum()))
        memory = Memory(memory.played + 1, opening)
    np.testing.assert_allclose(counts, np.array([4, 3, 2, 1, 0, 0]) * num / 16, atol=4 * np.sqrt(num * 0.25 * 0.75))


def test_the_outcome_behind_a_random_move_is_learned_and_that_before_it_is_not() -> None:
    """Whole games of Nim with openings of one to three moves: what is known are the positions behind the last random one."""
    config = AlphaZeroConfig(
        num_envs=32,
        rollout_length=16,
        num_simulations=4,
        blocks=0,
        channels=4,
        capacity=512,
        opening_share=1.0,
        opening_moves=3,
    )
    env = nim(config.num_envs, STONES)
    agent = build_in(make_alphazero, as_arrays(config), env)
    state, memory, (world, obs) = agent.init(jax.random.key(0)), agent.initial_memory(32), env.reset(jax.random.key(0), ())

    @jax.jit
    def step(key: Any, world: Any, memory: Any, obs: Position) -> Any:
        action, after, extras = agent.act(key, state.policy, memory, obs, progress_at(0, 1), True)
        world, made = env.step(key, (), world, action)
        fresh = jax.tree.map(lambda old: jnp.where(made.terminated, 0, old), after)
        return world, fresh, made, extras

    kept = []
    for number in range(16):
        world, memory, made, extras = step(jax.random.key(number), world, memory, obs)
        kept.append((made.reward, made.terminated, made.truncated, extras.random))
        obs = made.obs
    reward, over, cut, random = map(jnp.stack, zip(*kept, strict=True))
    lesson = SimpleNamespace(planes=reward, legal=over), SimpleNamespace(policy=reward, random=random)
    rollout: Any = SimpleNamespace(obs=lesson[0], extras=lesson[1], reward=reward, terminated=over, truncated=cut)
    held = games.add(games.init(Lesson(*jnp.zeros((3, 32))), 16), moves_of(rollout))
    known = np.asarray(games.outcomes(held).known)
    assert known.any() and random.any(axis=0).all()
    for column in range(32):
        ends = np.flatnonzero(over[:, column])
        for first, last in zip([0, *(ends[:-1] + 1)], ends, strict=False):
            by_chance = np.flatnonzero(random[first : last + 1, column])
            assert 1 <= len(by_chance) <= 3 and (by_chance == np.arange(len(by_chance))).all()
            assert not known[first : first + len(by_chance), column].any()
            assert known[first + len(by_chance) : last + 1, column].all()


def test_what_it_cannot_play_is_one_line() -> None:
    config, game = AlphaZeroConfig(), nim(64)
    with pytest.raises(UsageError, match="looks ahead with the environment's model, which this one does not have"):
        make_alphazero(config, game.spec)
    with pytest.raises(UsageError, match="agent=alphazero plays board games, which this environment is not"):
        make_alphazero(config, make("CartPole-v1", 1).spec, model)
    with pytest.raises(UsageError, match="capacity=10 is below num_envs \\* rollout_length = 1024"):
        AlphaZeroConfig(capacity=10).check()


# --- perfect play -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.timeout(1200)
def test_tic_tac_toe_is_played_perfectly_from_every_position() -> None:
    """All 4,520 positions that can be reached and are not over: no move makes a win less, or a draw a loss."""
    config = AlphaZeroConfig(opening_share=0.5, opening_moves=7)
    env = make("pgx/tic_tac_toe", config.num_envs)
    result = jax.jit(lambda key: train(key, config, make_alphazero, env, 150_000))(jax.random.key(0))
    agent = build_in(make_alphazero, as_arrays(config), env)
    policy, progress = result.state.agent.policy, progress_at(1, 1)

    @jax.jit
    def move(obs: Position) -> jax.Array:
        return agent.act(jax.random.key(0), policy, agent.initial_memory(1024), obs, progress, False)[0]

    boards, parts = [], []
    for level in levels(make("pgx/tic_tac_toe", 1)):
        boards += level.boards
        parts.append(level.obs)
    assert len(boards) == 4520
    padded = rows(jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts), np.arange(5 * 1024) % 4520)
    actions = np.concatenate([move(rows(padded, slice(i, i + 1024))) for i in range(0, 5 * 1024, 1024)])[:4520]
    chosen = dict(zip(boards, actions.tolist(), strict=True))
    wrong = [board for board, point in chosen.items() if -worth(moved(board, point)) < worth(board)]
    assert not wrong, f"{len(wrong)} of {len(boards)}, such as {wrong[0]}"

    def loses(board: Board) -> bool:
        """Whether some play of the other's beats ours, with us to move."""
        if lost(board) or 0 not in board:
            return lost(board)
        after = moved(board, chosen[board])
        return not lost(after) and any(loses(moved(after, point)) for point in range(9) if after[point] == 0)

    empty = (0,) * 9
    assert not loses(empty) and not any(loses(moved(empty, point)) for point in range(9))
