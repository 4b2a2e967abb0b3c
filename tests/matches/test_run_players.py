"""Trained policies as players of matches."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents.search.alphazero import Extras
from jaxrl.matches import players


@pytest.mark.parametrize("searches", [True, False])
def test_moves_are_drawn_from_what_the_search_recommends_and_else_as_in_training(monkeypatch, searches) -> None:
    def act(key: Any, params: Any, memory: Any, obs: Any, explore: bool) -> Any:
        policy = jnp.array([[0.0, 1.0]] * 2)
        extras = Extras(policy, jnp.zeros(2), jnp.zeros(2, bool), jnp.zeros((2, 2))) if searches else ()
        return jnp.full(2, 2 * explore, jnp.int32), memory, extras

    config = SimpleNamespace(eval_simulations=0, num_simulations=8)
    actor = SimpleNamespace(act=act, params=(), initial_memory=lambda num: (), env_steps=10)
    actor.run = SimpleNamespace(agent="alphazero", config=config)
    monkeypatch.setattr(players, "trained_actor", lambda *arguments: actor)
    game: Any = SimpleNamespace(env_id="pgx/tic_tac_toe", env=None)
    player = players.run_player("runs/x", game)
    for temperature, expected in ((1.0, 1 if searches else 2), (0.0, 0)):
        moves, _ = player.act(jax.random.key(0), (), (), None, players.Drawing(temperature))
        assert moves.tolist() == [expected] * 2


def test_a_temperature_flattens_what_a_search_recommends_and_never_makes_a_move_legal() -> None:
    policy, num = jnp.tile(jnp.array([0.9, 0.1, 0.0]), (4000, 1)), 4000
    for temperature, first in ((0.5, 81 / 82), (1.0, 0.9), (2.0, 0.75), (100.0, 0.5)):
        every = jnp.zeros(policy.shape)
        moves = players._drawn(jax.random.key(0), policy, every, jnp.full(num, 2), players.Drawing(temperature))
        counts = np.bincount(np.asarray(moves), minlength=3)
        assert counts[2] == 0 and abs(counts[0] - first * num) < 4 * np.sqrt(num * first * (1 - first) + 1)


def test_what_a_search_did_not_look_at_is_not_drawn() -> None:
    policy, values = jnp.tile(jnp.array([0.1, 0.6, 0.3]), (1000, 1)), jnp.tile(jnp.array([0.2, -jnp.inf, 0.5]), (1000, 1))
    moves = players._drawn(jax.random.key(0), policy, values, jnp.full(1000, 2), players.Drawing(1.0))
    counts = np.bincount(np.asarray(moves), minlength=3)
    assert counts[1] == 0 and abs(counts[0] - 250) < 60
    assert set(players._drawn(jax.random.key(0), policy, values, jnp.full(1000, 2), players.Drawing(0.0)).tolist()) == {2}


def test_moves_worth_less_than_the_best_by_more_than_the_margin_are_not_drawn() -> None:
    policy, values = (
        jnp.tile(jnp.array([0.4, 0.2, 0.3, 0.1]), (1000, 1)),
        jnp.tile(jnp.array([0.0, 0.5, 0.375, 0.875]), (1000, 1)),
    )
    for margin, drawn in ((0.0, {1, 3}), (0.125, {1, 2, 3}), (0.5, {0, 1, 2, 3})):
        # The search's best move is the second, whatever it found of others by fewer visits.
        moves = players._drawn(jax.random.key(0), policy, values, jnp.full(1000, 1), players.Drawing(1.0, margin))
        assert set(moves.tolist()) == drawn
