"""Pictures of games and of what a trained policy thinks of a position.

save_game("game.gif", "pgx/go_9x9", record.moves, players=("alphazero", "gnugo"))      # record = sgf.read(text)
figure = draw_opinion(opinion_of("runs/go", moves=(40, 39)))
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.agents import load_agent
from jaxrl.agents.search.alphazero import network_of
from jaxrl.envs import make, pictures_per_second
from jaxrl.envs.tools.board_pictures import board_of, draw_board, draw_game, places
from jaxrl.envs.tools.boards import BOARDS, FOOT, kind_of
from jaxrl.envs.tools.render import save_gif
from jaxrl.errors import UsageError
from jaxrl.loop import build_in
from jaxrl.nets.inputs import ILLEGAL
from jaxrl.runs.actor import game_options
from jaxrl.runs.trained import read_trained
from jaxrl.types import Position

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INK, _BEST, _SHOWN = "#1f3b63", "#d9534f", 0.005


def save_game(
    path: str | os.PathLike[str],
    env_id: str,
    moves: Sequence[int],
    players: tuple[str, str] | None = None,
    fps: float | None = None,
    **options: Any,
) -> None:
    """A game as a GIF, a picture a move.

    Args:
      env_id: such as `pgx/go_9x9`.
      moves: actions of both sides in turns, from the first one.
      players: names of the first and the second one; by default those of their colours.
      fps: pictures a second; by default as `jaxrl evaluate --gif` has it.
      options: of the environment.

    Raises:
      UsageError: a game without pictures, or a move that is illegal or comes after the end.
      DiskError: it cannot be written; a file of that name is as it was.
    """
    plies = [(position.planes, outcome) for position, outcome in positions(env_id, moves, **options)]
    frames = draw_game(env_id.removeprefix("pgx/"), plies, players)
    save_gif(path, frames, fps or pictures_per_second(env_id), hold=1.0)


def positions(env_id: str, moves: Sequence[int], **options: Any) -> Iterator[tuple[Position, float | None]]:
    """The positions of a game from the first one on, each with its outcome for the first player where it is over; errors as of
    `save_game`."""
    if not env_id.startswith("pgx/") or options.get("opponent", "none") != "none":
        raise UsageError(f"env={env_id}: there are no pictures of it as a game; choose one such as pgx/go_9x9")
    env: Any = make(env_id, 1, **options)
    key, sign, outcome = jax.random.key(0), 1.0, None
    model = jax.jit(lambda obs, action: env.model(key, env.params, obs, action))
    position = jax.tree.map(lambda leaf: leaf[0], env.reset(key, env.params)[1])
    yield position, outcome
    for number, move in enumerate(moves, 1):
        if outcome is not None or not 0 <= move < env.spec.action.n or not position.legal[move]:
            raise UsageError(f"moves: move {number} is {move}, which is illegal there; give a game of {env_id}")
        position, reward, is_over = model(position, jnp.int32(move))
        outcome = sign * float(reward) if is_over else None
        yield position, outcome
        sign = -sign


class Opinion(NamedTuple):
    """What a trained policy thinks of a position; all of it as the player to move sees it.

    Attributes:
      env_id: of the game.
      planes, legal: of the position.
      second: whether the second player is to move.
      prior: [A] the network's probabilities of the legal actions.
      value: the outcome that the network expects, from -1 to 1.
      policy: [A] what the search recommends.
      searched: the outcome that the search expects of the action that it takes.
      action: that action.
      simulations: of the search.
    """

    env_id: str
    planes: np.ndarray
    legal: np.ndarray
    second: bool
    prior: np.ndarray
    value: float
    policy: np.ndarray
    searched: float
    action: int
    simulations: int


def opinion_of(
    folder: str | os.PathLike[str], moves: Sequence[int] = (), simulations: int | None = None, env_steps: int | None = None
) -> Opinion:
    """What the AlphaZero policy of a run thinks of the position after some moves.

    Args:
      moves: actions of both sides in turns.
      simulations: positions that the search looks at; None is what the run's evaluations have.
      env_steps: of a snapshot; None is the last whole checkpoint.

    Raises:
      UsageError: no run of a policy that searches, no checkpoint, or moves that are no game or a whole one.
    """
    loaded = read_trained(Path(folder), env_steps)
    loaded.prepared.driver.close()
    run, env = loaded.prepared.run, loaded.prepared.env
    config: Any = loaded.prepared.config
    if not hasattr(config, "eval_simulations"):
        raise UsageError(f"{folder} holds a policy of {run.agent}, which does not search; give a run of alphazero")
    if simulations is not None:
        config = dataclasses.replace(config, eval_simulations=simulations)
    position, outcome = list(positions(run.env, moves, **game_options(run)))[-1]
    if outcome is not None:
        raise UsageError(f"moves: the game is over after these {len(moves)}; give fewer")
    obs = jax.tree.map(lambda leaf: leaf[None], position)

    @jax.jit
    def think(params: Any, obs: Position) -> Any:
        agent = build_in(load_agent(run.agent)[0], config, env)
        action, _, found = agent.act(jax.random.key(run.seed), params, agent.initial_memory(1), obs, loaded.progress, False)
        logits, value = network_of(config, env.spec).apply(params, obs.planes)
        return jax.nn.softmax(jnp.where(obs.legal, logits, ILLEGAL)), value, found, action

    prior, value, found, action = jax.device_get(think(loaded.params, obs))
    simulations = config.eval_simulations or config.num_simulations
    rest = (found.policy[0], float(found.value[0]), int(action[0]), simulations)
    return Opinion(
        run.env, np.asarray(position.planes), np.asarray(position.legal), len(moves) % 2 == 1, prior[0], float(value[0]), *rest
    )


def draw_opinion(opinion: Opinion) -> Figure:
    """The board with the network's priors, and beside it with what the search recommends; the values above.

    Probabilities stand on the points where the actions are points, above the columns in connect four, and below the board for
    a pass.

    Raises:
      UsageError: a game whose actions are no points, such as chess.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    name = opinion.env_id.removeprefix("pgx/")
    board = board_of(name, opinion.planes, opinion.second)
    if kind_of(name) in ("chess", "shogi"):
        raise UsageError(f"env={opinion.env_id}: its actions are no points of the board; give another game")
    picture = draw_board(name, board)[:-FOOT]
    who = BOARDS[kind_of(name)].names[opinion.second]
    has_bars = kind_of(name) == "connect_four"
    height = 9.6 * picture.shape[0] / picture.shape[1] / 2 + (1.5 if has_bars else 0.6)
    figure = Figure((9.6, height), facecolor="#f7f8fa", layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.03))
    sides = (
        (f"network: {opinion.value:+.2f} for {who}", opinion.prior),
        (f"search, {opinion.simulations} simulations: {opinion.searched:+.2f}", opinion.policy),
    )
    grid: Any = figure.subplots(2, 2, height_ratios=(1, 3.6)) if has_bars else [[None] * 2, figure.subplots(1, 2)]
    for bars, axes, (title, shares) in zip(*grid, sides, strict=True):
        axes.imshow(picture, interpolation="antialiased")
        axes.set_axis_off()
        (axes if bars is None else bars).set_title(title, fontsize="medium")
        centers = places(name, *board.cells.shape)
        if bars is None:
            _draw_points(axes, centers.reshape(-1, 2), shares, opinion)
        else:
            _draw_bars(bars, centers[0, :, 0], shares, opinion, picture.shape[1])
    return figure


def _draw_points(axes: Any, centers: np.ndarray, shares: np.ndarray, opinion: Opinion) -> None:
    """A disc on each point that has a share, the darker the larger it is; the action that is taken has a ring."""
    from matplotlib.patches import Circle

    radius = 0.4 * float(np.linalg.norm(centers[1] - centers[0]))
    size = max(5.0, min(11.0, 0.25 * radius + 3.0))
    for action, (x, y) in enumerate(centers):
        if opinion.legal[action] and shares[action] >= _SHOWN:
            strength = 0.2 + 0.8 * float(shares[action]) ** 0.5
            is_best = action == opinion.action and shares is opinion.policy
            axes.add_patch(Circle((x, y), radius, fc=_INK, alpha=strength, lw=0))
            if is_best:
                axes.add_patch(Circle((x, y), radius, fill=False, ec=_BEST, lw=2.0))
            color = "white" if strength > 0.45 else "black"
            axes.text(x, y, f"{100 * shares[action]:.0f}", color=color, ha="center", va="center_baseline", fontsize=size)
    name = "swap" if opinion.env_id == "pgx/hex" else "pass"
    others = [f"{name} {shares[action]:.0%}" for action in range(len(centers), len(shares)) if opinion.legal[action]]
    if others:
        axes.text(0.5, -0.01, ", ".join(others), transform=axes.transAxes, ha="center", va="top", fontsize="small")


def _draw_bars(axes: Any, centers: np.ndarray, shares: np.ndarray, opinion: Opinion, width: int) -> None:
    """A bar above each column."""
    colors = [_BEST if a == opinion.action and shares is opinion.policy else _INK for a in range(len(shares))]
    axes.bar(centers, shares, width=0.7 * (centers[1] - centers[0]), color=colors)
    for x, share in zip(centers, shares, strict=True):
        axes.text(x, share, f"{100 * share:.0f}", ha="center", va="bottom", fontsize="small")
    axes.set(xlim=(0, width), ylim=(0, 1.2 * max(shares)), xticks=[], yticks=[], facecolor="none")
    axes.spines[["top", "left", "right"]].set_visible(False)
