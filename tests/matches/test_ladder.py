"""Elo over a run's checkpoints, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import jaxrl
from helpers import TINY_SELF_PLAY
from jaxrl import cli


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
