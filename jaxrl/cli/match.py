"""`jaxrl match`: two players play games, and the score of one is told with its interval."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

from jaxrl.cli import options as opts
from jaxrl.errors import fail
from jaxrl.fields import MAX_COUNT, MAX_SEED, static
from jaxrl.interrupts import ended_at_once
from jaxrl.startup import use_compilation_cache, use_threads

_PLAYER = "a run's folder (DIR@N: its snapshot after N env steps), random, mcts:N, or the command of a program that speaks GTP."


def _simulations(of: str) -> Any:
    return static(None, f"Positions looked at before a move by {of}, in the place of its own number.", low=1, high=1_000_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchOptions(opts.Threads):
    """Options of `jaxrl match`."""

    a: str = static(..., f"Player A: {_PLAYER}", metavar="A", positional=True)
    b: str = static(..., "Player B, as A.", metavar="B", positional=True)
    games: int = static(100, "Games; A has the first move in every other one.", low=1, high=MAX_COUNT)
    first: str = static(
        "both",
        "Who has the first move: both in turn, or a or b in all games (their halves of a match).",
        choices=("both", "a", "b"),
    )
    env: str | None = static(None, "The game, where neither player is a run, such as pgx/connect_four.")
    env_options: dict[str, Any] = static(dict, "Options of the game, over those of the runs: komi=0.5.", flag="env_option")
    seed: int = static(0, "Seed of what the players draw.", low=0, high=MAX_SEED)
    simulations: int | None = _simulations("each player that is a run")
    simulations_a: int | None = _simulations("A")
    simulations_b: int | None = _simulations("B")
    opening_moves: int = static(
        0,
        "The first so many moves of each game are drawn from what a search recommends, so that players without chance do not "
        "play one game again and again.",
        low=0,
    )
    opening_temperature: float = static(
        1.0,
        "They are drawn by probabilities to the power of 1 / opening_temperature: above 1 more games differ, and more of these "
        "moves are mistakes.",
        low=0.01,
        high=100.0,
    )
    opening_margin: float = static(
        2.0,
        "They are drawn from moves that the search values at most so much less than its best one, of outcomes from -1 to 1; 2 "
        "leaves out none that it looked at.",
        low=0.0,
        high=2.0,
    )
    first_moves: tuple[str, ...] = static(
        (),
        "Moves that every game begins with, by the names that records have: C3. What is drawn comes behind them.",
        metavar="MOVE",
    )
    parallel: int = static(2, "Games side by side where a program plays, each a process of it.", low=1, high=256)
    engine_seconds: float = static(60.0, "Seconds in which a program has to answer.", low=0.1, high=86_400.0)
    out: str | None = static(None, "New folder for a record of every game (SGF of Go) and match.json.")


def match(arguments: list[str]) -> None:
    """jaxrl match A B [--games N] [--env ENV] [--first-moves MOVE ...] [--opening-moves K] [--out DIR] ..."""
    options = opts.parse(MatchOptions, arguments, "jaxrl match")
    out = None if options.out is None else opts.path_of("out", options.out)
    use_threads(arguments)
    use_compilation_cache()
    from jaxrl.matches.engines import end_all
    from jaxrl.matches.named import game_between, named, player_of
    from jaxrl.matches.play import play_match
    from jaxrl.matches.players import Player
    from jaxrl.matches.records import FILE, recording
    from jaxrl.matches.results import result_table
    from jaxrl.records.console import console, doing

    def interrupted() -> str:
        end_all()
        return "interrupted" if out is None else f"interrupted; the games that were over are in {out / 'games'}"

    who = named(options.a), named(options.b)
    if options.simulations is not None and not any(one.folder for one in who):
        fail(f"simulations={options.simulations}: neither player is a run; leave it out")
    own = (options.simulations_a, options.simulations_b)
    with contextlib.ExitStack() as held:
        held.enter_context(ended_at_once(interrupted))
        game = game_between(who, options.env, options.env_options)
        first_moves = game.moves_of(options.first_moves)

        def player(place: int) -> Player:
            simulations = own[place] or (options.simulations if who[place].folder else None)
            made = player_of(who[place], game, simulations, options.parallel, options.engine_seconds)
            held.callback(made.close)
            return made

        a, b = player(0), player(1)
        on_game: Any = {}
        if out is not None:
            names = (
                "games",
                "first",
                "seed",
                "first_moves",
                "opening_moves",
                "opening_temperature",
                "opening_margin",
                "parallel",
                "engine_seconds",
            )
            settings = {"a": a.about(), "b": b.about(), **{name: getattr(options, name) for name in names}}
            on_game = {"on_game": held.enter_context(recording(out, game, (options.a, options.b), settings)).add}
        with doing(f"playing {options.games} games of {options.a} and {options.b}"):
            opening = (options.opening_moves, options.opening_temperature, options.opening_margin, first_moves)
            result = play_match(game, a, b, options.games, options.seed, *opening, options.first, **on_game)
    console().print(result_table(result))
    print(json.dumps(result.summary()))
    if out is not None:
        print(out / FILE)
