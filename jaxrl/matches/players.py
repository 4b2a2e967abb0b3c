"""Who plays: trained policies, random moves and tree searches, at many boards at once or at one.

    game = game_of("pgx/tic_tac_toe")
    a, b = run_player("runs/ttt", game), plain_player("mcts:200", game)

A player sits down at G boards, with one side of all of them, and is asked for its moves there, all at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.agents.search.alphazero import Extras
from jaxrl.agents.search.trees import playout_search
from jaxrl.envs import make
from jaxrl.envs.pgx import GoParams
from jaxrl.envs.tools.versus import mcts_simulations
from jaxrl.errors import UsageError
from jaxrl.loop import bound_model
from jaxrl.matches.games import Game, go_size
from jaxrl.matches.gtp import Choose
from jaxrl.maths.exploration import random_legal
from jaxrl.runs.actor import Moving, trained_actor
from jaxrl.runs.definition import Run, read_run
from jaxrl.types import Array, Position, PyTree

RESIGNS = -1
"""In the place of a move."""


class Drawing(NamedTuple):
    """How moves are drawn from those that a search looked at.

    Attributes:
      temperature: by what it recommends, to the power of 1 / temperature; 0 takes its best one.
      margin: they are worth at most so much less than the best one, of outcomes from -1 to 1; 2 leaves out none.
    """

    temperature: Array | float = 0.0
    margin: Array | float = 2.0


class Turn(NamedTuple):
    """G boards at which the same side is to move.

    Attributes:
      key: of this turn alone.
      position: [G, ...].
      moves: of each game, those that led to it.
      running: [G] bool; of other games no move is wanted.
      drawing: by players that search.
    """

    key: Array
    position: Position
    moves: Sequence[Sequence[int]]
    running: np.ndarray
    drawing: Drawing


class Seat(Protocol):
    """One side of G games.

    Attributes:
      has_own_rules: whether it may make a board of Go again, which loses by ours.
    """

    has_own_rules: bool

    def ask(self, turn: Turn) -> Callable[[], np.ndarray]:
        """Begins to think; what is returned waits for the moves, [G] of them, `RESIGNS` where it gives up."""
        ...

    def score(self, place: int, moves: Sequence[int]) -> str:
        """What a player with rules of its own says of the end of game `place`; "" of others."""
        ...

    def leave(self) -> None:
        """All games are over."""
        ...


class Player(Protocol):
    """Who can play a game.

    Attributes:
      name: as messages and records have it.
      at_once: the most games that it plays side by side.
    """

    @property
    def name(self) -> str: ...

    @property
    def at_once(self) -> int: ...

    def sit(self, numbers: Sequence[int], num_boards: int, side: int) -> Seat:
        """Begins games.

        Args:
          numbers: of the games, counted from 0.
          num_boards: G, at least as many; no move is wanted at the others.
          side: 0 with the first move, 1 with the second.
        """
        ...

    def about(self) -> dict[str, Any]:
        """What identifies it, for a file."""
        ...

    def close(self) -> None:
        """Ends what it has started."""
        ...


# --- players of compiled programs -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class CompiledPlayer:
    """A player whose moves at all boards are one call of a compiled program.

    Attributes:
      act: (key, params, memory, position [G, ...], drawing) -> (action [G], memory), compiled.
      params: what its moves depend on; players that differ in nothing else share a program.
      initial_memory: (G) -> memory [G, ...] before a game.
      details: for `about`.
    """

    name: str
    act: Callable[..., tuple[Array, PyTree]]
    params: PyTree = ()
    initial_memory: Callable[[int], PyTree] = lambda num: ()
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    at_once: int = 128

    def sit(self, numbers: Sequence[int], num_boards: int, side: int) -> Seat:
        return _CompiledSeat(self, self.initial_memory(num_boards))

    def about(self) -> dict[str, Any]:
        return {"name": self.name} | self.details

    def close(self) -> None:
        """It has started nothing."""


class _CompiledSeat:
    has_own_rules = False

    def __init__(self, player: CompiledPlayer, memory: PyTree) -> None:
        self.player, self.memory = player, memory

    def ask(self, turn: Turn) -> Callable[[], np.ndarray]:
        player = self.player
        action, self.memory = player.act(turn.key, player.params, self.memory, turn.position, turn.drawing)
        return lambda: np.asarray(action)

    def score(self, place: int, moves: Sequence[int]) -> str:
        return ""

    def leave(self) -> None:
        """Nothing is left behind."""


def _drawn(key: Array, policy: Array, values: Array, best: Array, drawing: Drawing) -> Array:
    """[G] moves.

    Args:
      policy: [G, A] probabilities.
      values: [G, A], -inf of moves that were not looked at: they may be any mistake.
      best: [G], of which the values of the others fall short.
    """
    most = jnp.take_along_axis(values, best[:, None], axis=-1)
    is_good = (values > -jnp.inf) & (values >= most - drawing.margin)
    logits = jnp.where(is_good, jnp.log(policy), -jnp.inf) / jnp.maximum(drawing.temperature, 1e-3)
    return jnp.where(drawing.temperature > 0.0, jax.random.categorical(key, logits), best).astype(jnp.int32)


def plain_player(text: str, game: Game) -> CompiledPlayer:
    """`random`, or `mcts:N` for a tree search of N simulations without a network.

    Raises:
      UsageError: any other text.
    """
    if text == "random":
        return CompiledPlayer(text, jax.jit(lambda key, params, memory, obs, drawing: (random_legal(key, obs.legal), memory)))
    num_simulations, model = mcts_simulations(text), bound_model(game.env)
    if num_simulations is None:
        raise UsageError(f"player={text!r} is unknown; choose random, or mcts:N for N simulations a move, such as mcts:200")
    assert model is not None

    def act(key: Array, params: PyTree, memory: PyTree, obs: Position, drawing: Drawing) -> tuple[Array, PyTree]:
        key, key_draw = jax.random.split(key)
        found = playout_search(key, model, obs, num_simulations, game.longest)
        return _drawn(key_draw, found.policy, found.values, found.action, drawing), memory

    return CompiledPlayer(text, jax.jit(act), details={"simulations": num_simulations})


def run_player(folder: str | Path, game: Game, env_steps: int | None = None, simulations: int | None = None) -> CompiledPlayer:
    """The trained policy of a run, as it is scored: greedy, with the simulations of its evaluations.

    Where moves are to be drawn, they are by what its search recommends, or as in training where it does not search.

    Args:
      env_steps: of a snapshot (`--keep-every`); None is the last whole checkpoint.
      simulations: positions looked at before a move, in the place of those of the run's evaluations.

    Raises:
      UsageError: no run of this game, no checkpoint, no such snapshot, or simulations of a policy that does not search.
    """
    folder = Path(folder)
    actor = trained_actor(folder, game.env_id, game.env, env_steps, simulations)
    act_in = actor.act

    def act(key: Array, params: PyTree, memory: PyTree, obs: Position, drawing: Drawing) -> tuple[Array, PyTree]:
        key, key_draw = jax.random.split(key)
        action, after, found = act_in(key, params, memory, obs, False)
        if isinstance(found, Extras):
            return _drawn(key_draw, found.policy, found.values, action, drawing), after
        return jnp.where(drawing.temperature > 0.0, act_in(key_draw, params, memory, obs, True)[0], action), after

    name = str(folder) if env_steps is None else f"{folder}@{env_steps}"
    details = {
        "agent": actor.run.agent,
        "env_steps": env_steps or actor.env_steps,
        "simulations": simulations_of(actor.run, simulations),
    }
    return CompiledPlayer(name, jax.jit(act), actor.params, actor.initial_memory, details)


def simulations_of(run: Run, given: int | None) -> int | None:
    """Positions that a run's policy looks at before a move where it is scored; None of one that does not search."""
    config: Any = run.config
    return None if not hasattr(config, "eval_simulations") else given or config.eval_simulations or config.num_simulations


# --- a player of one game of Go ---------------------------------------------------------------------------------------


def go_run(folder: Path) -> tuple[Run, int]:
    """The run in a folder, and the size of the board of Go that it was trained for.

    Raises:
      UsageError: no run, or one of another game.
    """
    run = read_run(folder)
    size = go_size(run.env)
    if not size:
        raise UsageError(f"{folder} holds a policy for {run.env}, and this is for Go; give a run of one such as pgx/go_5x5")
    return run, size


def go_player(folder: Path, num_simulations: int | None = None, seed: int = 0) -> Choose:
    """The trained policy of a run as a player of Go; it knows the komi of the game that it plays.

    Args:
      num_simulations: positions looked at before a move; None is what the run's evaluations have.

    Raises:
      UsageError: no run of Go, no checkpoint, or simulations of a policy that does not search.
    """
    run, _ = go_run(folder)
    env: Any = make(run.env, 1)
    actor = trained_actor(folder, run.env, env, None, num_simulations)

    @jax.jit
    def act(key: Array, params: Moving, komi: Array, position: Position, played: Array) -> tuple[Array, Array]:
        obs = jax.tree.map(lambda leaf: leaf[None], position)
        memory = jax.tree.map(lambda leaf: jnp.full_like(leaf, played), actor.initial_memory(1))
        action, _, found = actor.act(key, params._replace(game=GoParams(komi)), memory, obs, False)
        return action[0], getattr(found, "value", jnp.zeros(1))[0]

    def choose(position: Position, komi: float, moves: tuple[int, ...]) -> tuple[int, float]:
        key = jax.random.fold_in(jax.random.key(seed), len(moves))
        move, value = act(key, actor.params, jnp.float32(komi), position, jnp.int32(len(moves)))
        return int(move), float(value)

    return choose
