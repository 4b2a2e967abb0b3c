"""`jaxrl gtp` as a controller starts it."""

import io
import sys

import pytest

from jaxrl.agents import load_agent
from jaxrl.cli import commands as cli
from jaxrl.runs.definition import Run
from jaxrl.runs.train import start

TINY = {"num_envs": 2, "rollout_length": 2, "capacity": 64, "batch_size": 4, "num_updates": 1}
SMALL = {"blocks": 0, "channels": 4, "num_simulations": 2}


def trained(env, folder):
    config = load_agent("alphazero")[1](**TINY, **SMALL)
    start(Run("alphazero", env, config, total_steps=8, num_rows=1, eval_episodes=1), folder)
    return folder


def spoken(monkeypatch, capsys, lines, *arguments):
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    cli.main(["gtp", *map(str, arguments)])
    return capsys.readouterr()


@pytest.mark.slow
def test_a_trained_player_answers_and_nothing_else_stands_on_standard_output(tmp_path, monkeypatch, capsys):
    folder = trained("pgx/go_5x5", tmp_path / "go")
    capsys.readouterr()
    lines = "1 name\nboardsize 5\nkomi 3.5\nplay b C3\n2 genmove w\nboardsize 9\nquit\n"
    out = spoken(monkeypatch, capsys, lines, folder, "--simulations", "4").out.split("\n\n")
    assert out[:4] == ["=1 jaxrl alphazero", "=", "=", "="] and out[5:] == ["? unacceptable size", "=", ""]
    assert out[4][:3] == "=2 " and out[4][3:] != "C3"
    assert out == spoken(monkeypatch, capsys, lines, folder, "--simulations", "4").out.split("\n\n")


@pytest.mark.slow
def test_a_player_of_another_game_is_one_line(tmp_path, capsys):
    folder = trained("pgx/tic_tac_toe", tmp_path / "other")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["gtp", str(folder)])
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "holds a policy for pgx/tic_tac_toe, and this is for Go" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "folder is missing"),
        (["nowhere"], "nowhere holds no run"),
        (["nowhere", "--simulations", "0"], "simulations=0 is out of range"),
        (["nowhere", "--resign-below", "2"], "resign_below=2.0 is out of range"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["gtp", *arguments])
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and message in said.err
