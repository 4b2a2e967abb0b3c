"""Trained policies as players of matches."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxrl.agents.search.alphazero import Extras
from jaxrl.matches import players


@pytest.mark.parametrize("searches", [True, False])
def test_moves_are_drawn_from_what_the_search_recommends_and_else_as_in_training(monkeypatch, searches) -> None:
    def act(key: Any, params: Any, memory: Any, obs: Any, explore: bool) -> Any:
        policy = jnp.array([[0.0, 1.0]] * 2)
        extras = Extras(policy, jnp.zeros(2), jnp.zeros(2, bool)) if searches else ()
        return jnp.full(2, 2 * explore, jnp.int32), memory, extras

    config = SimpleNamespace(eval_simulations=0, num_simulations=8)
    actor = SimpleNamespace(act=act, params=(), initial_memory=lambda num: (), env_steps=10)
    actor.run = SimpleNamespace(agent="alphazero", config=config)
    monkeypatch.setattr(players, "trained_actor", lambda *arguments: actor)
    game: Any = SimpleNamespace(env_id="pgx/tic_tac_toe", env=None)
    player = players.run_player("runs/x", game)
    for is_drawn, expected in ((True, 1 if searches else 2), (False, 0)):
        moves, _ = player.act(jax.random.key(0), (), (), None, jnp.bool_(is_drawn))
        assert moves.tolist() == [expected] * 2
