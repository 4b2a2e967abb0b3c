"""`jaxrl ratings`: how strong a run's checkpoints are, beside players that everybody knows."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from jaxrl.cli import options as opts
from jaxrl.errors import fail
from jaxrl.fields import MAX_COUNT, MAX_SEED, static
from jaxrl.interrupts import ended_at_once
from jaxrl.startup import use_compilation_cache, use_threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatingsOptions(opts.Threads):
    """Options of `jaxrl ratings`."""

    folder: str = static(..., "Folder of a run of a game that was trained with --keep-every.", metavar="DIR", positional=True)
    games: int = static(100, "Games of each match; both have the first move in half of them.", low=2, high=MAX_COUNT)
    anchor: str = static("random", "Whose rating is 0: a player as of jaxrl match, or @N, the run's policy after N env steps.")
    against: tuple[str, ...] = static(
        (), "Players besides the anchor: random, mcts:100, another run's DIR, a Go program's command.", metavar="PLAYER"
    )
    checkpoints: int = static(10, "The most checkpoints that play; of more so many, evenly spaced.", low=2, high=1000)
    simulations: int | None = static(
        None, "Positions that a checkpoint looks at before a move, in the place of its own number.", low=1, high=1_000_000
    )
    opening_moves: int = static(
        4, "The first so many moves of each game are drawn from what a search recommends, so that games differ.", low=0
    )
    seed: int = static(0, "Seed of what the players draw.", low=0, high=MAX_SEED)


def ratings(arguments: list[str]) -> None:
    """jaxrl ratings DIR [--games N] [--anchor PLAYER] [--against PLAYER ...] [--checkpoints N] ..."""
    options = opts.parse(RatingsOptions, arguments, "jaxrl ratings")
    folder = opts.path_of("folder", options.folder)
    if folder.is_dir() and not os.access(folder, os.W_OK):
        fail(f"folder={folder} is read-only, and the ratings belong there; give another")
    use_threads(arguments)
    use_compilation_cache()
    from jaxrl.analysis.curves import draw_or_say, save_figure
    from jaxrl.analysis.ratings import draw_ratings, table
    from jaxrl.matches.engines import end_all
    from jaxrl.matches.ladder import climb
    from jaxrl.records.console import doing, say
    from jaxrl.records.files import write_json
    from jaxrl.runs.definition import versions

    asked: dict[str, Any] = {
        "anchor": options.anchor,
        "num_games": options.games,
        "num_checkpoints": options.checkpoints,
        "simulations": options.simulations,
        "opening_moves": options.opening_moves,
        "seed": options.seed,
    }

    kept = folder / "ratings-matches.json"

    def interrupted() -> str:
        end_all()
        return f"interrupted; the matches that were over are in {kept}, and the same command goes on after them"

    with ended_at_once(interrupted), doing(f"rating the checkpoints of {folder}"):
        climbed = climb(folder, options.against, **asked, on_match=say, kept=kept)
    write_json(folder / "ratings.json", {**asked, **climbed.values(), "versions": versions("pgx", "mctx")})
    kept.unlink(missing_ok=True)
    title = f"{folder.name}: {climbed.game.env_id}, {options.games} games a match"
    drawn = folder / "elo.png"
    draw_or_say(
        lambda: save_figure(draw_ratings(climbed.ratings, climbed.checkpoints, options.anchor, title), drawn, "folder"),
        "the ratings are in ratings.json",
    )
    print(table(climbed.ratings))
    print(f"{folder / 'ratings.json'}\n{drawn}")
