"""Board games of two players; the rules of Go are ours, with pgx's results, and all others are pgx's.

    env = make("go_5x5", num_envs=64, komi=0.5)

    tic_tac_toe, connect_four, othello, hex (11 x 11), go_5x5 .. go_9x9, go_13x13, go_19x19, gardner_chess, chess, shogi

Both sides move through the same `step`: an observation is a `Position` as the player to move sees it, and a reward is that of
the player who moved, +1 for a win, -1 for a loss, 0 for a draw and for every move before the last. An illegal action never
reaches the game; the first legal one is played in its place. With `opponent` one side is played by another, and what remains
is an ordinary environment of one player; see `jaxrl.envs.tools.versus`.

Go is scored by area; komi is added to White's, and White wins where both are equal. A board that came before (positional
superko) loses for who repeats it, and a game is scored as it stands after 2 * size^2 moves, a pass being one. A game of chess
or shogi that pgx cuts after so many moves is truncated: nobody's, rather than drawn.

Koyamada et al. 2023, "Pgx: Hardware-Accelerated Parallel Game Simulators for Reinforcement Learning".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import go
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.envs.tools.versus import Opponent, opponent_of, versus
from jaxrl.errors import UsageError, unknown
from jaxrl.fields import check_fields, static
from jaxrl.types import Array, ArraySpec, Discrete, Env, Position, PyTree, Spec, Symmetry, tree_spec


class Rules(NamedTuple):
    """A game of this family.

    Attributes:
      longest: moves after which a game is over at the latest.
      cut: whether a game is truncated then, as long as nobody has won.
      turns: quarter turns of the board that leave the rules as they are.
      mirrored: whether its mirror image does so too.
      size: side of the board of Go, 0 of any other game.
    """

    longest: int
    cut: bool = False
    turns: tuple[int, ...] = (0,)
    mirrored: bool = False
    size: int = 0


_ALL_TURNS = (0, 1, 2, 3)

GAMES: dict[str, Rules] = {
    "tic_tac_toe": Rules(9, turns=_ALL_TURNS, mirrored=True),
    "connect_four": Rules(42, mirrored=True),
    "othello": Rules(128, turns=_ALL_TURNS, mirrored=True),
    "hex": Rules(122, turns=(0, 2)),
    **{f"go_{n}x{n}": Rules(2 * n * n, turns=_ALL_TURNS, mirrored=True, size=n) for n in (5, 6, 7, 8, 9, 13, 19)},
    "gardner_chess": Rules(256, cut=True),
    "chess": Rules(512, cut=True),
    "shogi": Rules(512, cut=True),
}
"""Each game by its name. Othello has 60 moves, and a pass between any two of them at the most."""


@dataclasses.dataclass(frozen=True)
class GoRules:
    """The options of Go."""

    komi: float = static(7.5, "Points that White has in advance; White wins where both have as many.", low=-400.0, high=400.0)


_SMALL = 9
"""Boards below this size have a komi of 0.5 unless it is given: there is no usual one."""


class GoParams(NamedTuple):
    """The environment's params where the game is Go; `komi`: [] float32."""

    komi: Array


class GameState(NamedTuple):
    """State of one game.

    Attributes:
      legal: [A] bool.
      state: of its `Position`.
    """

    legal: Array
    state: PyTree


class Game(NamedTuple):
    """The functions of one game.

    Attributes:
      rules: what is said of it in `GAMES`.
      start: (key, params) -> the `Position` that it begins with.
      play: (key, params, state, action) -> (the `Position` after a legal move, reward of who moved [], terminated [] bool,
        truncated [] bool).
      seen: (state) -> (the planes of its `Position`, how many moves have been made []).
    """

    name: str
    rules: Rules
    start: Callable[[Array, PyTree], Position]
    play: Callable[[Array, PyTree, PyTree, Array], tuple[Position, Array, Array, Array]]
    seen: Callable[[PyTree], tuple[Array, Array]]

    def reset(self, key: Array, params: PyTree) -> tuple[GameState, Position]:
        """The start of a game."""
        position = self.start(key, params)
        return GameState(position.legal, position.state), position

    def step(self, key: Array, params: PyTree, state: GameState, action: Array) -> Transition:
        """A move of one game; the first legal one where `action` is not legal."""
        num_actions = state.legal.shape[0]
        legal = state.legal[jnp.clip(action, 0, num_actions - 1)] & (action >= 0) & (action < num_actions)
        action = jnp.where(legal, action, jnp.argmax(state.legal))
        position, reward, terminated, truncated = self.play(key, params, state.state, action)
        return Transition(GameState(position.legal, position.state), position, reward, terminated, truncated)

    def model(self, key: Array, params: PyTree, obs: Position, action: Array) -> tuple[Position, Array, Array]:
        """`Env.model`: after a legal action. A game that is over stays as it is, with a reward of 0."""
        return self.play(key, params, obs.state, action)[:3]

    def render(self, params: PyTree, state: GameState) -> np.ndarray:
        """The board of one game, drawn."""
        from jaxrl.envs.tools.board_pictures import board_of, draw_board

        planes, moves = self.seen(state.state)
        return draw_board(self.name, board_of(self.name, planes, bool(moves % 2)))


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B games of a kind.

    Args:
      name: of `GAMES`.
      options: `komi` of Go; `time_limit`, moves after which a game is truncated; `opponent`, who plays one side: `random`,
        `mcts:N` for a tree search of N simulations without a network, or an `Opponent`; none where both sides are the agent's.

    Raises:
      UsageError: an option that the game does not have, a bad value, or pgx is not installed.
    """
    time_limit, opponent = options.pop("time_limit", None), options.pop("opponent", None)
    game = game_of(name)
    params = _params(name, game.rules, options)
    opening = jax.eval_shape(game.start, jax.random.key(0), params)
    planes: Any = ArraySpec(opening.planes.shape, opening.planes.dtype.name, picture="HWC")
    spec = Spec(
        tree_spec(opening._replace(planes=planes)),
        Discrete(opening.legal.shape[0]),
        time_limit=game.rules.longest,
        num_players=2,
        has_return=False,
        symmetries=symmetries(name),
    )
    static = ("pgx", name, time_limit)
    env = batch_env(
        spec,
        params,
        game.reset,
        game.step,
        num_envs,
        time_limit=time_limit,
        model=game.model,
        render=game.render,
        static=static,
    )
    if opponent in (None, "none"):
        return env
    return versus(env, opponent if isinstance(opponent, Opponent) else opponent_of(str(opponent), env))


def evaluation_options(name: str) -> dict[str, Any]:
    """A policy is scored against a player of random moves, unless another opponent is named."""
    return {"opponent": "random"}


def _params(name: str, rules: Rules, options: dict[str, Any]) -> PyTree:
    if not rules.size:
        for option in options:
            raise UsageError(unknown(f"option of pgx/{name}", option, ("time_limit", "opponent")))
        return ()
    for option in options:
        if option != "komi":
            raise UsageError(unknown(f"option of pgx/{name}", option, ("komi", "time_limit", "opponent")))
    go = GoRules(**({"komi": 0.5} if rules.size < _SMALL else {}) | options)
    check_fields(go)
    return GoParams(jnp.float32(go.komi))


def symmetries(name: str) -> tuple[Symmetry, ...]:
    """The symmetries of a game; of the actions that are no point of the board (a pass), each stays what it is."""
    rules, found = GAMES[name], []
    for mirrored in (False, True)[: 1 + rules.mirrored]:
        for turns in rules.turns:
            if not (mirrored or turns):
                continue
            if name == "connect_four":
                moved = np.arange(7)[::-1]
                found.append(Symmetry(turns, mirrored, tuple(moved.tolist())))
                continue
            side = rules.size or {"tic_tac_toe": 3, "othello": 8, "hex": 11}[name]
            points = np.rot90(np.arange(side * side).reshape(side, side), turns)
            moved = (points[:, ::-1] if mirrored else points).reshape(-1)
            others = () if name == "tic_tac_toe" else (side * side,)
            found.append(Symmetry(turns, mirrored, (*moved.tolist(), *others)))
    return tuple(found)


def game_of(name: str) -> Game:
    """A game of `GAMES`.

    Raises:
      UsageError: where pgx is not installed, which has the rules of all but Go.
    """
    rules = GAMES[name]
    return _go(name, rules) if rules.size else _of_pgx(name, rules)


def _go(name: str, rules: Rules) -> Game:
    def start(key: Array, params: GoParams) -> Position:
        return go.start(rules.size)

    def play(key: Array, params: GoParams, state: go.GoState, action: Array) -> tuple[Position, Array, Array, Array]:
        return *go.play(rules.size, params.komi, state, action), jnp.bool_(False)

    def seen(state: go.GoState) -> tuple[Array, Array]:
        return go.planes_of(rules.size, state), state.moves

    return Game(name, rules, start, play, seen)


def _of_pgx(name: str, rules: Rules) -> Game:
    try:
        # Its tables are arrays that it makes when it is imported, perhaps while a function of ours is traced.
        with jax.ensure_compile_time_eval():
            import pgx

            env = pgx.make(name)
    except ImportError:
        raise UsageError(f"env='pgx/{name}' needs the package pgx; pip install 'jaxrl[games]'") from None
    template = jax.eval_shape(env.init, jax.random.key(0))
    bare = jax.tree.structure(template.replace(observation=(), legal_action_mask=()))

    def position(state: Any) -> Position:
        """Of pgx's state all is kept but its observation and its legal actions."""
        leaves = tuple(jax.tree.leaves(state.replace(observation=(), legal_action_mask=())))
        return Position(state.observation, state.legal_action_mask, leaves)

    def start(key: Array, params: PyTree) -> Position:
        return position(env.init(key))

    def joined(leaves: tuple[Array, ...]) -> Any:
        """pgx's state. All actions count as legal, since those that are not are kept from it."""
        state: Any = jax.tree.unflatten(bare, leaves)
        return state.replace(
            observation=jnp.zeros(template.observation.shape, template.observation.dtype),
            legal_action_mask=jnp.ones(template.legal_action_mask.shape, bool),
        )

    def play(key: Array, params: PyTree, leaves: tuple[Array, ...], action: Array) -> tuple[Position, Array, Array, Array]:
        before = joined(leaves)
        after = env.step(before, action, key)
        reward = after.rewards[before.current_player].astype(jnp.float32)
        cut = rules.cut & (after._step_count >= rules.longest) & (reward == 0.0) & ~before.terminated
        return position(after), reward, after.terminated & ~cut, after.terminated & cut

    def seen(leaves: tuple[Array, ...]) -> tuple[Array, Array]:
        state = joined(leaves)
        return env.observe(state), state._step_count

    return Game(name, rules, start, play, seen)
