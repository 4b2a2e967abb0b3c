"""A game of two players and an opponent, as an environment of one player.

    env = versus(game, random_opponent())

Our player has the first move in every other game: that of environment i in its n-th game, both counted from 0, where i + n is
even. A step is our move and the opponent's answer; where a game begins with the opponent's move, that has been made when we see
it. The return is +1, 0 or -1, and a game that is cut is truncated at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.search.trees import playout_search
from jaxrl.envs.tools.batch import most
from jaxrl.errors import UsageError
from jaxrl.maths.exploration import random_legal
from jaxrl.types import Array, Env, Position, PyTree, TimeStep, episode_end, where_ended


def _no_memory(num_envs: int) -> PyTree:
    return ()


class Opponent(NamedTuple):
    """Who plays the other side.

    Attributes:
      act: (key, params, memory, obs [B, ...]) -> (action [B], memory).
      params: what its actions depend on; part of the environment's params, hence traced.
      initial_memory: (num_envs) -> memory [B, ...] before a game.
      static: what `act` has baked in: opponents with equal `static` are one compiled program; None where that is not known.
    """

    act: Callable[[Array, PyTree, PyTree, Position], tuple[Array, PyTree]]
    params: PyTree = ()
    initial_memory: Callable[[int], PyTree] = _no_memory
    static: Hashable | None = None


class VersusParams(NamedTuple):
    """The environment's params: the game's and the opponent's."""

    game: PyTree
    opponent: PyTree


class VersusState(NamedTuple):
    """State of B environments.

    Attributes:
      game: of the game.
      memory: [B, ...] of the opponent.
      second: [B] bool, whether the opponent has the first move in the running game.
      score: [B] float32, our rewards in it.
      length: [B] int32, our moves in it.
    """

    game: PyTree
    memory: PyTree
    second: Array
    score: Array
    length: Array


def random_opponent() -> Opponent:
    """Plays any legal action, all alike probable."""

    def act(key: Array, params: PyTree, memory: PyTree, obs: Position) -> tuple[Array, PyTree]:
        return random_legal(key, obs.legal), memory

    return Opponent(act, static="random")


def mcts_opponent(game: Env, num_simulations: int) -> Opponent:
    """Searches a tree with random playouts and no network (`jaxrl.agents.search.trees.playout_search`)."""
    model, longest = game.model, game.spec.time_limit
    assert model is not None and longest is not None

    def act(key: Array, params: PyTree, memory: PyTree, obs: Position) -> tuple[Array, PyTree]:
        def bound(key: Array, obs: PyTree, action: PyTree) -> tuple[PyTree, Array, Array]:
            return model(key, params, obs, action)

        return playout_search(key, bound, obs, num_simulations, longest).action, memory

    return Opponent(act, game.params, static=("mcts", num_simulations))


def opponent_of(text: str, game: Env) -> Opponent:
    """The opponent that a text names: `random`, or `mcts:N` for N simulations a move.

    Raises:
      UsageError: any other text.
    """
    if text == "random":
        return random_opponent()
    if (num_simulations := mcts_simulations(text)) is not None:
        return mcts_opponent(game, num_simulations)
    raise UsageError(
        f"opponent={text!r} is unknown; choose random, mcts:N for N simulations a move, such as mcts:200, or a run's folder; a "
        "program that plays Go plays in `jaxrl match`"
    )


def mcts_simulations(text: str) -> int | None:
    """N of `mcts:N`, None of any other text."""
    kind, _, number = text.partition(":")
    is_number = kind == "mcts" and number.isascii() and number.isdigit() and len(number) < 8
    return int(number) if is_number and 0 < int(number) <= 1_000_000 else None


def versus(game: Env, opponent: Opponent) -> Env:
    """The game as an environment in which `opponent` plays the other side.

    Raises:
      UsageError: a game of one player.
    """
    if game.spec.num_players != 2:
        raise UsageError("opponent: this is no game of two players; leave it out")
    play = _Versus(game, opponent)
    longest = game.spec.time_limit
    spec = game.spec._replace(num_players=1, has_return=True, time_limit=longest and (longest + 1) // 2)
    static = None if None in (game.static, opponent.static) else ("versus", game.static, opponent.static)
    params = VersusParams(game.params, opponent.params)
    render = play.render if game.render else None
    return game._replace(spec=spec, params=params, reset=play.reset, step=play.step, model=None, render=render, static=static)


class _Versus(NamedTuple):
    """The functions of the environment."""

    game: Env
    opponent: Opponent

    def reset(self, key: Array, params: VersusParams) -> tuple[VersusState, Position]:
        key_reset, key_reply = jax.random.split(key)
        game, obs = self.game.reset(key_reset, params.game)
        num_envs = self.game.num_envs
        second = jnp.arange(num_envs) % 2 == 1
        score, length = jnp.zeros(num_envs, jnp.float32), jnp.zeros(num_envs, jnp.int32)
        state = VersusState(game, self.opponent.initial_memory(num_envs), second, score, length)
        state, step = self.reply(key_reply, params, state, obs, second)
        return state, where_ended(second, step.obs, obs)

    def reply(
        self, key: Array, params: VersusParams, state: VersusState, obs: Position, turn: Array
    ) -> tuple[VersusState, TimeStep]:
        """The opponent's move where it is its `turn` [B]; the rest stays as it is, and its part of the step means nothing."""
        key_act, key_step = jax.random.split(key)
        action, memory = self.opponent.act(key_act, params.opponent, state.memory, obs)
        game, step = self.game.step(key_step, params.game, state.game, action)
        fresh = self.opponent.initial_memory(self.game.num_envs)
        memory = where_ended(turn, where_ended(episode_end(step), fresh, memory), state.memory)
        return state._replace(game=where_ended(turn, game, state.game), memory=memory), step

    def step(self, key: Array, params: VersusParams, state: VersusState, action: Array) -> tuple[VersusState, TimeStep]:
        key_ours, key_answer, key_first = jax.random.split(key, 3)
        game, ours = self.game.step(key_ours, params.game, state.game, action)
        over = episode_end(ours)
        fresh = self.opponent.initial_memory(self.game.num_envs)
        state = state._replace(game=game, memory=where_ended(over, fresh, state.memory))
        # Where our move ended the game and we began it, the opponent begins the next.
        turn = ~over | ~state.second
        state, theirs = self.reply(key_answer, params, state, ours.obs, turn)
        answered = ~over
        reward = ours.reward - jnp.where(answered, theirs.reward, 0.0)
        terminated = jnp.where(answered, theirs.terminated, ours.terminated)
        truncated = jnp.where(answered, theirs.truncated, ours.truncated)
        next_obs = where_ended(answered, theirs.next_obs, ours.next_obs)
        obs = where_ended(turn, theirs.obs, ours.obs)
        ended = terminated | truncated
        begins = ended & answered & ~state.second
        state, obs = self.begun(key_first, params, state, obs, begins)
        score, length = state.score + reward, state.length + 1
        info = {"episode_return": score, "episode_length": length}
        score, length = jnp.where(ended, 0.0, score), jnp.where(ended, 0, length)
        state = state._replace(second=state.second ^ ended, score=score, length=length)
        return state, TimeStep(obs, reward, terminated, truncated, next_obs, info)

    def begun(
        self, key: Array, params: VersusParams, state: VersusState, obs: Position, begins: Array
    ) -> tuple[VersusState, Position]:
        """The opponent's first move in games that its last move before has made room for; seldom any."""

        def begin() -> tuple[VersusState, Position]:
            after, step = self.reply(key, params, state, obs, begins)
            return after, where_ended(begins, step.obs, obs)

        return jax.lax.cond(most(jnp.any(begins)), begin, lambda: (state, obs))

    def render(self, params: VersusParams, state: VersusState, index: int) -> Any:
        assert self.game.render is not None
        return self.game.render(params.game, state.game, index)
