"""Players and games as texts name them: a run's folder, `random`, `mcts:N`, or the command line of a program that plays Go."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.envs.tools.versus import mcts_simulations
from jaxrl.errors import UsageError, shown
from jaxrl.matches.engines import EnginePlayer
from jaxrl.matches.games import Game, game_of
from jaxrl.matches.players import Player, plain_player, run_player
from jaxrl.runs.actor import game_options
from jaxrl.runs.definition import folder_of, read_run


class Named(NamedTuple):
    """Whom a text names.

    Attributes:
      folder: of a run.
      env_steps: of its snapshot; None is the last checkpoint.
      is_engine: whether the text is the command line of a program.
    """

    text: str
    folder: Path | None = None
    env_steps: int | None = None
    is_engine: bool = False


def named(text: str) -> Named:
    """Whom a text names; `DIR@N` is a run's snapshot after N env steps.

    Raises:
      UsageError: nobody.
    """
    if text == "random" or mcts_simulations(text) is not None:
        return Named(text)
    if (found := folder_of(text)) is not None:
        return Named(text, *found)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"player={text!r} is no command line ({error}); close what is open") from None
    if words and shutil.which(words[0]):
        return Named(text, is_engine=True)
    what = f"there is no program {words[0]!r} here" if len(words) > 1 else "it names no folder and no program"
    raise UsageError(
        f"player={shown(text)}: {what}; give a run's folder, random, mcts:N for N simulations a move, or a program's command "
        "line in quotes, such as 'gnugo --mode gtp'"
    )


def game_between(players: tuple[Named, Named], env: str | None, env_options: Mapping[str, Any]) -> Game:
    """The game that these play: that of the runs among them, with `env_options` on top, or that of `env`.

    Raises:
      UsageError: runs of different games, none and no `env`, or what `game_of` raises.
    """
    runs = {player.text: read_run(player.folder) for player in players if player.folder is not None}
    found = {text: (run.env, game_options(run) | dict(env_options)) for text, run in runs.items()}
    if env is not None:
        found = {"env": (env, {} | dict(env_options))} | found
    if not found:
        raise UsageError("env is missing; neither player is a run, so give the game, such as --env pgx/connect_four")
    (text, (env_id, options)), *others = found.items()
    game = game_of(env_id, **options)
    for other, (other_id, other_options) in others:
        if other_id != env_id:
            raise UsageError(f"{other} is for {other_id}, and {text} for {env_id}; give two of one game")
        if other == "env" or text == "env":
            continue
        theirs = game_of(other_id, **other_options).options
        for name in sorted({*theirs, *game.options}):
            if theirs.get(name) != game.options.get(name):
                raise UsageError(
                    f"{other} has {name}={theirs.get(name)}, and {text} {name}={game.options.get(name)}; "
                    f"say which it is to be: --env-option {name}=VALUE"
                )
    return game


def player_of(player: Named, game: Game, simulations: int | None = None, at_once: int = 2, seconds: float = 60.0) -> Player:
    """The player that a text names.

    Args:
      simulations: of a run's policy.
      at_once, seconds: of a program; see `EnginePlayer`.

    Raises:
      UsageError: what the player's own function raises, or simulations of one that is no run.
    """
    if player.folder is not None:
        return run_player(player.folder, game, player.env_steps, simulations)
    if simulations is not None:
        raise UsageError(f"simulations={simulations}: {player.text} is no run; leave it out")
    if player.is_engine:
        return EnginePlayer(player.text, game, at_once, seconds)
    return plain_player(player.text, game)
