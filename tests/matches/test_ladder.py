"""Elo over a run's checkpoints, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import jaxrl
from helpers import TINY_SELF_PLAY
from jaxrl import cli
from jaxrl.matches import ladder
from jaxrl.matches.games import Game
from jaxrl.matches.players import Player
from jaxrl.matches.results import MatchResult, Played


def test_matches_that_were_over_are_not_played_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, kept = tmp_path / "run", tmp_path / "run" / "ratings-matches.json"
    jaxrl.run("alphazero", "pgx/tic_tac_toe", out=run, total_steps=32, keep_every=16, eval_episodes=2, **TINY_SELF_PLAY)
    played = list[tuple[str, str]]()

    def won_by_the_first(game: Game, a: Player, b: Player, num_games: int, seed: int, opening_moves: int) -> MatchResult:
        if len(played) == 2:
            raise KeyboardInterrupt
        played.append((a.name, b.name))
        games = tuple(Played(n, n % 2, (0, n), 1 if n else -1, "over", None, ("", "")) for n in range(num_games))
        return MatchResult(game, (a.name, b.name), games, 0.0)

    monkeypatch.setattr(ladder, "play_match", won_by_the_first)
    with pytest.raises(KeyboardInterrupt):
        ladder.climb(run, num_games=4, kept=kept)
    assert played == [("@16", "@32"), ("@16", "random")]
    assert [row["wins"] + row["draws"] + row["losses"] for row in json.loads(kept.read_text())["matches"]] == [4, 4]

    played.clear()
    resumed = ladder.climb(run, num_games=4, kept=kept)
    assert played == [("@32", "random")]
    assert [(one.first, one.second) for one in resumed.scores] == [("@16", "@32"), ("@16", "random"), ("@32", "random")]
    assert all(one.wins + one.losses == 4 for one in resumed.scores) and resumed.distinct == [4, 4, 4]

    played.clear()
    with pytest.raises(KeyboardInterrupt):
        ladder.climb(run, num_games=4, seed=1, kept=kept)
    assert len(played) == 2, "matches by another seed are other matches"
    kept.write_text('{"matches": [{"first": "@16"}]}')
    with pytest.raises(SystemExit, match="2"):
        cli.main(["ratings", str(run), "--games", "4"])
    assert "ratings-matches.json is damaged (second is missing); delete it" in capsys.readouterr().err


@pytest.mark.slow
def test_checkpoints_and_named_players_are_rated_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    jaxrl.run("alphazero", "pgx/tic_tac_toe", out=run, total_steps=64, keep_every=16, eval_episodes=2, **TINY_SELF_PLAY)
    cli.main(["ratings", str(run), "--games", "6", "--checkpoints", "3", "--against", "mcts:2"])
    assert capsys.readouterr().out.splitlines()[-2:] == [str(run / "ratings.json"), str(run / "elo.png")]
    found = json.loads((run / "ratings.json").read_text())
    assert [player["player"] for player in found["players"]] == ["@16", "@48", "@64", "random", "mcts:2"]
    assert [player["env_steps"] for player in found["players"]] == [16, 48, 64, None, None]
    assert found["players"][3]["elo"] == 0.0 and found["anchor"] == "random"
    pairs = [(match["first"], match["second"]) for match in found["matches"]]
    assert pairs[:2] == [("@16", "@48"), ("@48", "@64")] and pairs[-1] == ("random", "mcts:2") and len(pairs) == 2 + 3 * 2 + 1
    assert all(match["wins"] + match["draws"] + match["losses"] == 6 >= match["distinct"] > 1 for match in found["matches"])
    assert (run / "elo.png").stat().st_size > 10_000
    assert not (run / "ratings-matches.json").exists()
    for anchor, message in (("@32", "anchor=@32 is no checkpoint"), ("nobody", "player='nobody': it names no folder")):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["ratings", str(run), "--anchor", anchor, "--checkpoints", "3"])
        assert message in capsys.readouterr().err
    (run / "snapshots").rename(tmp_path / "elsewhere")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["ratings", str(run)])
    assert (
        "holds one checkpoint, and a curve needs two; train with --keep-every N, such as --keep-every 6"
        in capsys.readouterr().err
    )
