"""Tree search for games of two players who take turns: with a network, as AlphaZero's, or with random playouts alone.

The tree is mctx's, and this module alone imports it. A node holds the `state` of a `Position`; what networks see of it is made
when the node is, and dropped. All values are those of the player to move, so a successor's counts with a minus.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.maths.exploration import random_legal
from jaxrl.nets.inputs import ILLEGAL
from jaxrl.types import Array, Model, Position, PyTree

Evaluate = Callable[[Position], tuple[Array, Array]]
"""(positions [B, ...]) -> (logits [B, A], value [B] for the player to move)."""


class Searched(NamedTuple):
    """What a search found, of B positions.

    Attributes:
      action: [B] int32, to be played.
      policy: [B, A] float32, what the search recommends; 0 of illegal actions.
      value: [B] float32, the outcome that the player to move may expect of the action.
      values: [B, A] float32, that outcome of each action; -inf of those that were not looked at, of which a policy knows no
        more than the network.
    """

    action: Array
    policy: Array
    value: Array
    values: Array


def gumbel_search(
    key: Array,
    model: Model,
    evaluate: Evaluate,
    obs: Position,
    num_simulations: int,
    max_considered: int = 16,
    gumbel_scale: Array | float = 1.0,
    value_scale: Array | float = 0.1,
) -> Searched:
    """The search that improves a policy even with few simulations: actions are drawn without replacement by their logits plus
    Gumbel noise, the simulations shared out by sequential halving.

    Args:
      max_considered: actions at the root that are looked at.
      gumbel_scale: of the noise; 0 plays the best action.
      value_scale: c_scale of the paper's equation 8, by which outcomes from -1 to 1 count beside logits, times 50 and the most
        visits. They are not stretched to the range of those in a position, as mctx does by default: where all actions are
        about as good, that would learn from noise.

    References:
      Danihelka et al. 2022, "Policy improvement by planning with Gumbel", Algorithm 2 and equations 8 and 11.
    """
    mctx = _mctx()
    found = mctx.gumbel_muzero_policy(
        (),
        key,
        _root(evaluate, obs),
        _recurrent(model, evaluate),
        num_simulations,
        invalid_actions=~obs.legal,
        max_num_considered_actions=max_considered,
        gumbel_scale=gumbel_scale,
        qtransform=partial(mctx.qtransform_completed_by_mix_value, value_scale=value_scale, rescale_values=False),
    )
    return _searched(found)


def puct_search(
    key: Array,
    model: Model,
    evaluate: Evaluate,
    obs: Position,
    num_simulations: int,
    temperature: Array | float,
    dirichlet_fraction: Array | float,
    dirichlet_alpha: Array | float,
    exploration: Array | float = 1.25,
) -> Searched:
    """AlphaZero's own search. The recommended policy is the share of visits.

    Args:
      temperature: [] or [B], actions are drawn by visits to the power 1 / temperature; 0 takes the most visited.
      dirichlet_fraction: share of noise in the priors of the root.
      dirichlet_alpha: of the noise, which legal actions alone have.
      exploration: c_init of the paper.

    References:
      Silver et al. 2018, "A general reinforcement learning algorithm that masters chess, shogi, and Go through self-play",
      supplementary materials, "Search".
    """
    mctx = _mctx()
    key_noise, key = jax.random.split(key)
    root = _root(evaluate, obs)
    # Of independent Gamma draws, any subset divided by its sum is Dirichlet.
    draws = jnp.where(obs.legal, jax.random.gamma(key_noise, dirichlet_alpha, obs.legal.shape), 0.0)
    noise = draws / jnp.maximum(jnp.sum(draws, axis=-1, keepdims=True), 1e-30)
    prior = (1.0 - dirichlet_fraction) * jax.nn.softmax(root.prior_logits) + dirichlet_fraction * noise
    root = root.replace(prior_logits=jnp.where(obs.legal, jnp.log(jnp.maximum(prior, 1e-30)), ILLEGAL))
    found = mctx.muzero_policy(
        (),
        key,
        root,
        _recurrent(model, evaluate),
        num_simulations,
        invalid_actions=~obs.legal,
        dirichlet_fraction=0.0,
        pb_c_init=exploration,
        temperature=jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), obs.legal.shape[:1])[:, None],
    )
    return _searched(found)


def playout_search(
    key: Array, model: Model, obs: Position, num_simulations: int, longest: int, exploration: float = 2.0**0.5
) -> Searched:
    """Monte-Carlo tree search without a network: a new position is valued by one game of random moves from it.

    Args:
      longest: moves after which a random game counts as drawn.
      exploration: c of the upper bound q + c sqrt(log N / n), of outcomes from -1 to 1.

    References:
      Kocsis and Szepesvari 2006, "Bandit based Monte-Carlo Planning".
    """
    mctx = _mctx()
    key_root, key = jax.random.split(key)

    def evaluate(key: Array, obs: Position) -> tuple[Array, Array]:
        return jnp.zeros(obs.legal.shape, jnp.float32), playouts(key, model, obs, longest)

    def expand(_: Any, key: Array, action: Array, state: PyTree) -> tuple[Any, PyTree]:
        key_model, key_playout = jax.random.split(key)
        return _recurrent(model, partial(evaluate, key_playout))((), key_model, action, state)

    def choose(key: Array, tree: Any, node: Array, depth: Any = 0) -> Array:
        """The legal action of the largest upper bound, of those not tried yet any."""
        visits, legal = tree.children_visits[node], tree.children_prior_logits[node] > 0.5 * ILLEGAL
        value = tree.children_rewards[node] + tree.children_discounts[node] * tree.children_values[node]
        bound = exploration * jnp.sqrt(jnp.log(jnp.maximum(tree.node_visits[node], 1)) / jnp.maximum(visits, 1))
        untried = 1e3 + jax.random.uniform(key, visits.shape)
        return jnp.argmax(jnp.where(legal, jnp.where(visits == 0, untried, value + bound), -jnp.inf)).astype(jnp.int32)

    tree = mctx.search(
        (),
        key,
        root=_root(partial(evaluate, key_root), obs),
        recurrent_fn=expand,
        root_action_selection_fn=choose,
        interior_action_selection_fn=choose,
        num_simulations=num_simulations,
        invalid_actions=~obs.legal,
    )
    summary = tree.summary()
    action = jnp.argmax(jnp.where(obs.legal, summary.visit_counts, -1), axis=-1).astype(jnp.int32)
    return Searched(action, summary.visit_probs, _value(summary, action), _values(summary))


def playouts(key: Array, model: Model, obs: Position, longest: int) -> Array:
    """[B] outcomes, for the players to move, of games of random legal moves; 0 of one that is not over after `longest`."""
    batch = obs.legal.shape[0]

    class Game(NamedTuple):
        legal: Array
        state: PyTree
        outcome: Array
        sign: Array
        over: Array
        time: Array

    def move(game: Game) -> Game:
        key_action, key_model = jax.random.split(jax.random.fold_in(key, game.time))
        action = random_legal(key_action, game.legal)
        after, reward, terminated = _moved(key_model, model, game.state, action)
        outcome = game.outcome + jnp.where(game.over, 0.0, game.sign * reward)
        return Game(after.legal, after.state, outcome, -game.sign, game.over | terminated, game.time + 1)

    start = Game(
        obs.legal, obs.state, jnp.zeros(batch, jnp.float32), jnp.ones(batch, jnp.float32), jnp.zeros(batch, bool), jnp.int32(0)
    )
    return jax.lax.while_loop(lambda game: ~jnp.all(game.over) & (game.time < longest), move, start).outcome


def _mctx() -> Any:
    try:
        # Perhaps while a function of ours is traced.
        with jax.ensure_compile_time_eval():
            import mctx
    except ImportError:
        raise UsageError("a search needs the package mctx; pip install 'jaxrl[games]'") from None
    return mctx


def _root(evaluate: Evaluate, obs: Position) -> Any:
    logits, value = evaluate(obs)
    return _mctx().RootFnOutput(prior_logits=jnp.where(obs.legal, logits, ILLEGAL), value=value, embedding=obs.state)


def _moved(key: Array, model: Model, state: PyTree, action: Array) -> tuple[Position, Array, Array]:
    """The model of B positions, of which only the state is known."""
    keys = jax.random.split(key, action.shape[0])
    return jax.vmap(lambda key, state, action: model(key, Position((), (), state), action))(keys, state, action)  # type: ignore[arg-type]


def _recurrent(model: Model, evaluate: Evaluate) -> Callable[..., tuple[Any, PyTree]]:
    def recurrent(_: Any, key: Array, action: Array, state: PyTree) -> tuple[Any, PyTree]:
        obs, reward, terminated = _moved(key, model, state, action)
        logits, value = evaluate(obs)
        output = _mctx().RecurrentFnOutput(
            reward=reward,
            discount=jnp.where(terminated, 0.0, -1.0),
            prior_logits=jnp.where(obs.legal, logits, ILLEGAL),
            value=jnp.where(terminated, 0.0, value),
        )
        return output, obs.state

    return recurrent


def _searched(found: Any) -> Searched:
    action, summary = found.action.astype(jnp.int32), found.search_tree.summary()
    return Searched(action, found.action_weights, _value(summary, action), _values(summary))


def _values(summary: Any) -> Array:
    return jnp.where(summary.visit_counts > 0, summary.qvalues, -jnp.inf)


def _value(summary: Any, action: Array) -> Array:
    """[B] of the action alone: the mean over all that was tried counts bad actions as often as sequential halving does."""
    return jnp.take_along_axis(summary.qvalues, action[:, None], axis=-1)[:, 0]
