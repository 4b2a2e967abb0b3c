"""AlphaZero where the truth is known, and in pictures.

`solved` counts how often the moves of a trained run keep what a position is worth:

    jaxrl train alphazero --env pgx/tic_tac_toe --tuned --seed 1 --out runs/ttt
    python experiments/alphazero.py solved runs/ttt --simulations 1 32

    jaxrl train alphazero --env pgx/connect_four --tuned --seed 1 --out runs/c4
    pip install bitbully bitbully-databases
    python experiments/alphazero.py solved runs/c4 --simulations 1 32 200

Of tic-tac-toe these are all positions that can be reached, of connect four random ones, the same every time. A move keeps what
a position is worth if it leads to a win where there is one, and to a draw where there is no better. Positions in which every
move does so say nothing and are counted apart.

    jaxrl match runs/go "gnugo --mode gtp --level 10 --capture-all-dead --seed {seed}" --games 200 --out runs/gnugo
    python experiments/alphazero.py figures runs/go --match runs/gnugo --game 0 --out pictures

`figures` draws a game as `game.gif`, and what network and search think of one of its positions as `opinion.png`.

    python experiments/alphazero.py keep runs/gnugo go_5x5-gnugo
    python experiments/alphazero.py table

`keep` brings the figures of a match and all its games, in one file, into results/alphazero; `table` makes a page of these.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from solved_games import Solved, connect_four, rows, tic_tac_toe

from jaxrl.analysis.curves import save_figure
from jaxrl.analysis.stats import wilson_interval
from jaxrl.errors import UsageError
from jaxrl.matches.games import Game, game_of
from jaxrl.matches.named import Named, named
from jaxrl.matches.pictures import draw_opinion, opinion_of, save_game
from jaxrl.matches.play import play_match
from jaxrl.matches.players import CompiledPlayer, Drawing, run_player
from jaxrl.records.files import read_json, write_json, write_whole
from jaxrl.runs.actor import game_options
from jaxrl.runs.definition import read_run, versions

app = tyro.extras.SubcommandApp()
RESULTS = Path(__file__).parent / "results" / "alphazero"
_AT_ONCE = 250


def moves_of(player: CompiledPlayer, solved: Solved) -> np.ndarray:
    """[N] what a player does in the positions, each as the first of a game."""
    num, parts = len(solved.moves), []
    for start in range(0, num, _AT_ONCE):
        # One shape for all of them, hence one program.
        position = rows(solved.obs, np.minimum(np.arange(start, start + _AT_ONCE), num - 1))
        memory = player.initial_memory(_AT_ONCE)
        parts.append(np.asarray(player.act(jax.random.key(0), player.params, memory, position, Drawing())[0]))
    return np.concatenate(parts)[:num]


def share(kept: np.ndarray) -> dict[str, Any]:
    """How many positions, in how many of them what they are worth is kept, and the share with its 95 % interval."""
    low, high = wilson_interval(int(kept.sum()), len(kept))
    return {"positions": len(kept), "kept": int(kept.sum()), "share": float(kept.mean()), "interval_95": [low, high]}


def _trained(text: str) -> tuple[Named, Path]:
    """The run, or its snapshot, that a text names."""
    who = named(text)
    if who.folder is None:
        raise UsageError(f"run={text!r} is no folder of a run; give one")
    return who, who.folder


@app.command
def solved(
    run: tyro.conf.Positional[str],
    /,
    simulations: tuple[int, ...] = (32,),
    positions: int = 1000,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Counts the positions whose worth the greedy policy of a run keeps.

    Args:
      run: folder of a run of pgx/tic_tac_toe or pgx/connect_four; DIR@N is its snapshot after N env steps.
      simulations: positions looked at before a move; a table row for each.
      positions: of connect four.
      seed: of these.
      out: JSON file to write.
    """
    who, folder = _trained(run)
    env = read_run(folder).env
    if env not in ("pgx/tic_tac_toe", "pgx/connect_four"):
        raise UsageError(f"env={env} of {run} is not solved here; give a run of pgx/tic_tac_toe or pgx/connect_four")
    known = tic_tac_toe() if env == "pgx/tic_tac_toe" else connect_four(positions, seed)
    game, found = game_of(env), {}
    table = Table("simulations", "positions", "worth kept", "share", "95 % interval", "with a mistake to be made", "share")
    for number in simulations:
        start = time.perf_counter()
        player = run_player(folder, game, who.env_steps, number)
        kept = known.kept(moves_of(player, known))
        every, among = share(kept), share(kept[known.open])
        found[str(number)] = {"all": every, "open": among, "seconds": round(time.perf_counter() - start, 1)}
        interval = "[{:.4f}, {:.4f}]".format(*every["interval_95"])
        shares = f"{every['share']:.4f}", interval, f"{among['kept']} of {among['positions']}", f"{among['share']:.4f}"
        table.add_row(str(number), str(every["positions"]), str(every["kept"]), *shares)
    Console().print(table)
    if out is not None:
        about = {"env": env, "trained": player.about() | {"name": folder.name}, "positions": positions, "seed": seed}
        write_json(out, about | {"simulations": found, "versions": versions()})


@app.command
def figures(
    run: tyro.conf.Positional[str],
    /,
    match: Path | None = None,
    game: int = 0,
    ply: int = 6,
    simulations: int | None = None,
    out: Path = Path("pictures"),
) -> None:
    """Draws a game, and what the policy of a run thinks of one of its positions.

    Args:
      run: folder of a run of alphazero; DIR@N is its snapshot after N env steps.
      match: folder of `jaxrl match --out`; without it the run plays itself, its first four moves drawn from the search.
      game: number of the game in the match.
      ply: moves of the game before the position.
      simulations: positions looked at before a move; as many as in the run's evaluations by default.
      out: folder to write to.
    """
    who, folder = _trained(run)
    env, options = read_run(folder).env, game_options(read_run(folder))
    moves, names = _game(who, game_of(env, **options), simulations) if match is None else _recorded(match, game)
    if not 0 <= ply < len(moves):
        raise UsageError(f"ply={ply}: the game has {len(moves)} moves; give less")
    out.mkdir(parents=True, exist_ok=True)
    save_game(out / "game.gif", env, moves, names, **options)
    save_figure(draw_opinion(opinion_of(folder, moves[:ply], simulations, who.env_steps)), out / "opinion.png", "out")
    for name in ("game.gif", "opinion.png"):
        print(out / name)


def _game(who: Named, game: Game, simulations: int | None) -> tuple[list[int], tuple[str, str] | None]:
    """The moves of a game that a run plays against itself."""
    assert who.folder is not None
    player = run_player(who.folder, game, who.env_steps, simulations)
    return list(play_match(game, player, player, 1, opening_moves=4).games[0].moves), None


def _recorded(match: Path, number: int) -> tuple[list[int], tuple[str, str]]:
    """The moves of a match's game, and the names of who began and of the other."""
    found = read_json(match / "match.json", _MATCH, _PLAY_AGAIN)
    if not 0 <= number < len(found["played"]):
        raise UsageError(f"game={number}: the match has {len(found['games'])} games; give less")
    one, names = found["played"][number], (found["a"]["name"], found["b"]["name"])
    return one["moves"], names if one["first"] == 0 else names[::-1]


@app.command
def keep(match: tyro.conf.Positional[Path], name: tyro.conf.Positional[str], /, out: Path = RESULTS) -> None:
    """Copies a match into the results: its figures, and the records of all its games in one file.

    Args:
      match: folder of `jaxrl match --out`.
      name: of the files.
      out: folder to write to.
    """
    found = read_json(match / "match.json", _MATCH, _PLAY_AGAIN)
    del found["played"]
    records = sorted((match / "games").iterdir())
    games = "\n".join(record.read_text() for record in records)
    for player in ("a", "b"):
        # A run is named by its folder's name alone, wherever that lay.
        given = found[player]["name"]
        kept = Path(given).name if "agent" in found[player] else given
        found[player]["name"] = found["summary"][player] = kept
        games = games.replace(given, kept)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{name}.json", found)
    write_whole(out / f"{name}{records[0].suffix}", games)


@app.command
def table(results: Path = RESULTS) -> None:
    """Writes what is kept as a page, `README.md`.

    Args:
      results: folder with what `keep` and `solved` wrote, and for the page.
    """
    matches: list[tuple[str, ...]] = []
    counted: list[tuple[str, ...]] = []
    for path in sorted(results.glob("*.json")):
        found = json.loads(path.read_text())
        if "summary" in found:
            matches += _match_rows(path.stem, found)
        elif "positions" in found:
            counted += _solved_rows(path.stem, found)
    page = "\n".join([*_PAGE, *_rows(_MATCHES, matches), "", *_SOLVED_WORDS, "", *_rows(_SOLVED, counted), ""])
    write_whole(results / "README.md", page)
    print(page)


_MATCH = {"played": list, "a": dict, "b": dict}
_PLAY_AGAIN = "play it again with jaxrl match --out"
_MATCHES = (
    "match",
    "game",
    "against",
    "simulations",
    "colour",
    "score",
    "95 % interval",
    "won, drawn, lost",
    "distinct",
    "disputed",
)
_SOLVED = ("run", "game", "simulations", "positions", "worth kept", "95 % interval", "of those with a mistake to be made")
_PAGE = (
    "# AlphaZero on board games",
    "",
    "Written by `python experiments/alphazero.py table` from the files here. Matches are those of `jaxrl match`: a draw",
    "is half a win, intervals are Wilson's, and the games lie beside the figures, of Go as one SGF collection. The settings",
    "of a run are those of its claim (`jaxrl train alphazero --env ... --tuned`), smaller on 9x9;",
    "[they and more](../../../docs/games.md).",
    "",
)
_SOLVED_WORDS = ("Moves that keep what a position is worth (`python experiments/alphazero.py solved`):",)


def _match_rows(name: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    rows, options = [], " ".join(f"{option} {value}" for option, value in found["env_options"].items())
    for side, colour in (("a_first", "first"), ("b_first", "second")):
        told = found["summary"][side]
        if not told["games"]:
            continue
        rows.append(
            (
                f"`{name}`",
                f"{found['env'].removeprefix('pgx/')} {options}".strip(),
                f"`{found['b']['name']}`",
                str(found["a"].get("simulations", "")),
                colour,
                f"{told['score']:.3f}",
                f"[{told['low']:.3f}, {told['high']:.3f}]",
                f"{told['wins']}, {told['draws']}, {told['losses']}",
                f"{told['distinct']} of {told['games']}",
                str(told["disputed"]),
            )
        )
    return rows


def _solved_rows(name: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"`{name}`",
            found["env"].removeprefix("pgx/"),
            simulations,
            str(told["all"]["positions"]),
            f"{100 * told['all']['share']:.2f} %",
            "[{:.2f}, {:.2f}]".format(*(100 * end for end in told["all"]["interval_95"])),
            f"{told['open']['kept']} of {told['open']['positions']}",
        )
        for simulations, told in found["simulations"].items()
    ]


def _rows(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


if __name__ == "__main__":
    try:
        app.cli(description=__doc__)
    except UsageError as error:
        print(f"alphazero.py: {error}", file=sys.stderr)
        sys.exit(2)
