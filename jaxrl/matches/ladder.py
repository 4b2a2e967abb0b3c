"""How the strength of a run grew: its checkpoints play each other and named players, and all are rated together.

    climbed = climb(Path("runs/c4"), against=("random", "mcts:100"), num_games=100)
    print(table(climbed.ratings))

Each checkpoint plays the one before and the one after, and every named player; the named players play each other.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.analysis.ratings import Rating, Score, rate
from jaxrl.errors import UsageError
from jaxrl.matches.games import Game, game_of
from jaxrl.matches.named import named, player_of
from jaxrl.matches.play import play_match
from jaxrl.matches.players import Player, run_player
from jaxrl.records.files import misfit, read_json, write_json
from jaxrl.runs.actor import game_options, trained_actor
from jaxrl.runs.definition import read_run
from jaxrl.runs.stored import snapshots
from jaxrl.runs.trained import read_trained


class Climbed(NamedTuple):
    """What came of it.

    Attributes:
      game: that was played.
      checkpoints: their names, `@N` of that after N env steps, by N.
      ratings: of checkpoints and named players, in this order.
      scores: of each match.
      distinct: of each match, how many of its games are different ones.
    """

    game: Game
    checkpoints: dict[str, int]
    ratings: list[Rating]
    scores: list[Score]
    distinct: list[int]

    def values(self) -> dict[str, Any]:
        """As plain numbers, for a file."""
        return {
            "env": self.game.env_id,
            "env_options": self.game.options,
            "players": [{"env_steps": self.checkpoints.get(one.player), **one._asdict()} for one in self.ratings],
            "matches": [one._asdict() | {"distinct": num} for one, num in zip(self.scores, self.distinct, strict=True)],
        }


def climb(
    folder: Path,
    against: Sequence[str] = (),
    anchor: str = "random",
    num_games: int = 100,
    num_checkpoints: int = 10,
    simulations: int | None = None,
    opening_moves: int = 4,
    seed: int = 0,
    on_match: Callable[[str], None] = lambda what: None,
    kept: Path | None = None,
) -> Climbed:
    """Plays all matches and rates all players.

    Args:
      against: players besides the checkpoints, as `jaxrl match` names them.
      anchor: whose rating is 0: one of those, or a checkpoint as `@N`; it need not be named twice.
      num_games: of each match.
      num_checkpoints: the most checkpoints that play; of more, so many evenly spaced ones, the first and the last among them.
      simulations: positions that a checkpoint looks at before a move; None is what the run's evaluations have.
      opening_moves: the first so many moves of a game are drawn from what a search recommends.
      on_match: told which match begins.
      kept: a JSON file that holds each match from its end on; a match in it that was played by the same settings is not
        played again. None keeps none.

    Raises:
      UsageError: no run of a game, fewer than two checkpoints, or a player or an anchor that there is not.
    """
    run = read_run(folder)
    game = game_of(run.env, **game_options(run))
    steps = checkpoints_of(folder, num_checkpoints)
    names = {f"@{number}": number for number in steps}
    others = list(dict.fromkeys([*([] if anchor.startswith("@") else [anchor]), *against]))
    if anchor.startswith("@") and anchor not in names:
        raise UsageError(f"anchor={anchor} is no checkpoint of {folder} that plays; choose one of {', '.join(names)}")
    with contextlib.ExitStack() as held:
        named_players = list[Player]()
        for text in others:
            named_players.append(player_of(named(text), game))
            held.callback(named_players[-1].close)
        own = _checkpoint_players(folder, game, steps, simulations)
        pairs = [*zip(own, own[1:], strict=False)]
        pairs += [(checkpoint, other) for checkpoint in own for other in named_players]
        pairs += [(a, b) for place, b in enumerate(named_players) for a in named_players[:place]]
        settings = {"games": num_games, "simulations": simulations, "opening_moves": opening_moves, "seed": seed}
        matches = _Matches(kept, settings | {"options": game.options})
        for number, (a, b) in enumerate(pairs):
            if matches.has(a.name, b.name):
                continue
            on_match(f"match {number + 1} of {len(pairs)}: {a.name} and {b.name}")
            tally = play_match(game, a, b, num_games, seed, opening_moves).tally()
            matches.add(Score(a.name, b.name, tally.wins, tally.draws, tally.losses), tally.distinct)
    scores, distinct = matches.of(pairs)
    order = [player.name for player in [*own, *named_players]]
    found = rate(scores, anchor if anchor in names else named_players[0].name)
    return Climbed(game, names, sorted(found, key=lambda one: order.index(one.player)), scores, distinct)


_ROW = {"first": str, "second": str, "wins": int, "draws": int, "losses": int, "distinct": int, "settings": dict}


class _Matches:
    """Matches that were played, by the names of their players; on disk from the end of each."""

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.rows = list[dict[str, Any]]()
        if path is not None and path.exists():
            fix = "delete it, and its matches are played again"
            self.rows = read_json(path, {"matches": list}, fix)["matches"]
            faults = (misfit(row, _ROW) for row in self.rows)
            if (fault := next((fault for fault in faults if fault is not None), None)) is not None:
                raise UsageError(f"{path} is damaged ({fault}); {fix}")

    def has(self, first: str, second: str) -> bool:
        return self._row(first, second) is not None

    def add(self, score: Score, distinct: int) -> None:
        self.rows.append(score._asdict() | {"distinct": distinct, "settings": self.settings})
        if self.path is not None:
            write_json(self.path, {"matches": self.rows})

    def of(self, pairs: Sequence[tuple[Player, Player]]) -> tuple[list[Score], list[int]]:
        """The scores of these matches, and how many different games each had."""
        rows = [row for a, b in pairs if (row := self._row(a.name, b.name))]
        return [Score(*(row[name] for name in Score._fields)) for row in rows], [row["distinct"] for row in rows]

    def _row(self, first: str, second: str) -> dict[str, Any] | None:
        same = {"first": first, "second": second, "settings": self.settings}
        return next((row for row in self.rows if {name: row.get(name) for name in same} == same), None)


def checkpoints_of(folder: Path, most: int) -> dict[int, int | None]:
    """Policies that a run has kept, `most` of them at most: the env steps that each was trained for, and those of its snapshot;
    None of the last checkpoint where there is no snapshot of it.

    Raises:
      UsageError: fewer than two, or no checkpoint.
    """
    loaded = read_trained(folder)
    loaded.prepared.driver.close()
    each = loaded.prepared.plan.steps_per_iteration
    kept: dict[int, int | None] = {steps: steps for steps in snapshots(folder, each)}
    last = loaded.iteration * each
    kept = dict(sorted((kept if last in kept else kept | {last: None}).items()))
    if len(kept) < 2:
        raise UsageError(
            f"{folder} holds one checkpoint, and a curve needs two; train with --keep-every N, such as "
            f"--keep-every {max(1, loaded.prepared.run.total_steps // 10)}"
        )
    taken = np.unique(np.linspace(0, len(kept) - 1, max(2, most)).round().astype(int))
    return {steps: kept[steps] for steps in np.array(list(kept))[taken].tolist()}


def _checkpoint_players(folder: Path, game: Game, steps: dict[int, int | None], simulations: int | None) -> list[Player]:
    """One compiled program with the parameters of each."""
    first = run_player(folder, game, next(iter(steps.values())), simulations)
    return [
        dataclasses.replace(
            first,
            name=f"@{number}",
            params=trained_actor(folder, game.env_id, game.env, snapshot, simulations).params,
        )
        for number, snapshot in steps.items()
    ]
