"""`jaxrl match` from the command line: players by their names, what is written, what is refused, programs that play Go."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from test_gtp_command import trained

from helpers import ended, started
from jaxrl.agents import load_agent
from jaxrl.cli import commands as cli
from jaxrl.matches import sgf
from jaxrl.records.files import write_json
from jaxrl.runs.definition import Run, config_values

SCRIPT = shlex.join([sys.executable, "-SE", str(Path(__file__).parent.parent / "gtp_engine.py")])
TTT = ("--env", "pgx/tic_tac_toe")
GO = ("--env", "pgx/go_5x5")


def matched(capsys, *arguments):
    cli.main(["match", *map(str, arguments)])
    return json.loads(capsys.readouterr().out.splitlines()[0])


def refused(capsys, *arguments):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["match", *map(str, arguments)])
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def untrained(folder, env="pgx/tic_tac_toe", agent="alphazero", **options):
    """The folder of a run that has no checkpoint yet."""
    folder.mkdir()
    write_json(folder / "config.json", config_values(Run(agent, env, load_agent(agent)[1](), options)))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["random"], "b is missing"),
        (["random", "random"], "env is missing; neither player is a run, so give the game"),
        (["random", "nobody", *TTT], "player='nobody': it names no folder and no program; give a run's folder, random, mcts:N"),
        (["random", "gnuuugo --mode gtp", *GO], "there is no program 'gnuuugo' here"),
        (["random", "gnugo 'x", *GO], "is no command line (No closing quotation)"),
        (["random", "mcts:0", *TTT], "player='mcts:0'"),
        (["random", "random", "--env", "probe/constant"], "env=probe/constant is no game of two players"),
        (["random", "random", *TTT, "--games", "0"], "games=0 is out of range"),
        (["random", "random", *TTT, "--simulations", "3"], "simulations=3: neither player is a run"),
        (["random", "mcts:2", *TTT, "--simulations-b", "3"], "simulations=3: mcts:2 is no run"),
        (["random", f"{SCRIPT} resign", *TTT], "speaks the Go Text Protocol, and the game is pgx/tic_tac_toe"),
        (["random", f"{sys.executable} -SE -c 1", *GO], "ended with code 0 (at the command 'name')"),
        (["random", "random", *TTT, "--out", "."], "out=. is not empty"),
        (["random", "random", *TTT, "--first-moves", "z9"], "first_moves: move 1, 'z9', is no move of pgx/tic_tac_toe"),
        (["random", "random", *GO, "--env-option", "size=3"], "unknown option of pgx/go_5x5 'size'"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert message in refused(capsys, *arguments)


@pytest.mark.slow
def test_runs_of_other_games_are_one_line(tmp_path, capsys):
    ttt, four, komi = untrained(tmp_path / "ttt"), untrained(tmp_path / "c4", "pgx/connect_four"), tmp_path / "komi"
    assert f"{four} is for pgx/connect_four, and {ttt} for pgx/tic_tac_toe" in refused(capsys, ttt, four)
    assert "is for pgx/tic_tac_toe, and env for pgx/hex" in refused(capsys, ttt, "random", "--env", "pgx/hex")
    five = untrained(tmp_path / "go", "pgx/go_5x5"), untrained(komi, "pgx/go_5x5", komi=2.5)
    assert f"{komi} has komi=2.5, and {five[0]} komi=0.5; say which it is to be: --env-option komi=VALUE" in refused(
        capsys, *five
    )
    assert "env_steps=7 has no snapshot" in refused(capsys, f"{ttt}@7", "random")
    assert "has no whole checkpoint yet" in refused(capsys, ttt, "random")
    learner = untrained(tmp_path / "ppo", agent="ppo", opponent="random")
    assert f"agent=ppo of {learner} does not search" in refused(capsys, learner, "random", "--simulations", "3")


@pytest.mark.slow
def test_a_program_that_fails_ends_the_match_and_keeps_its_games(tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="1"):
        cli.main(["match", "random", f"{SCRIPT} resign die", *GO, "--parallel", "1", "--games", "9", "--out", str(out)])
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("jaxrl: engine ") and said[-1].endswith(
        "ended with code 3: 'no more stones' (at the command 'genmove b')"
    )
    assert sgf.read((out / "games" / "0001.sgf").read_text()).result == "B+Resign"
    kept = json.loads((out / "match.json").read_text())
    assert kept["summary"]["all"]["games"] == 1 and kept["games"] == 9 and kept["b"]["engine"] == "Script"


@pytest.mark.slow
def test_runs_play_each_other_and_others_and_the_same_again(tmp_path, capsys):
    run = trained("pgx/tic_tac_toe", tmp_path / "run")
    capsys.readouterr()
    first, again = (
        matched(capsys, run, "mcts:3", "--games", 5, "--opening-moves", 2, "--out", tmp_path / name) for name in ("a", "b")
    )
    assert {**first, "seconds": 0} == {**again, "seconds": 0} and first["all"]["games"] == 5
    assert sorted(path.name for path in (tmp_path / "a" / "games").iterdir()) == [f"000{i}.txt" for i in range(1, 6)]
    kept = json.loads((tmp_path / "a" / "match.json").read_text())
    assert (kept["a"]["agent"], kept["a"]["simulations"], kept["a"]["env_steps"]) == ("alphazero", 2, 8)
    # Without chance, both games of which each begins one are the same game.
    alone = matched(capsys, run, run, "--games", 6, "--simulations", 4)
    assert alone["all"]["distinct"] == 1 and alone["all"]["score"] == 0.5


@pytest.mark.slow
def test_our_own_program_plays_through_the_driver_without_a_fault(tmp_path, capsys):
    run = trained("pgx/go_5x5", tmp_path / "go")
    capsys.readouterr()
    ours = shlex.join([sys.executable, "-m", "jaxrl", "gtp", str(run), "--seed", "3"])
    found = matched(capsys, "random", ours, *GO, "--env-option", "komi=2.5", "--games", 4, "--out", tmp_path / "out")
    assert found["all"]["games"] == 4 and found["all"]["void"] == 0 and found["all"]["disputed"] == 0
    kept = json.loads((tmp_path / "out" / "match.json").read_text())
    assert kept["env_options"] == {"komi": 2.5} and kept["b"]["engine"] == "jaxrl alphazero"
    for played in kept["played"]:
        assert played["how"] in ("passes", "longest") and {*played["said"]} == {"", played["result"]}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gnugo", path="/usr/games") is None, reason="GNU Go is not installed")
def test_a_hundred_games_of_gnu_go_without_a_fault(tmp_path, capsys):
    gnugo = "/usr/games/gnugo --mode gtp --level 1 --seed {seed} --chinese-rules --positional-superko --capture-all-dead"
    found = matched(capsys, "random", gnugo, *GO, "--games", 200, "--parallel", 2, "--out", tmp_path / "out")
    for name in ("a_first", "b_first"):
        assert found[name]["games"] == 100 and found[name]["void"] == 0 and found[name]["losses"] == 100
        assert found[name]["distinct"] >= 90
    for path in (tmp_path / "out" / "games").iterdir():
        record = sgf.read(path.read_text())
        assert record.komi == 0.5 and "gnugo" in record.black + record.white


@pytest.mark.slow
def test_an_interrupt_ends_the_programs_and_keeps_the_games(tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    arguments = ("match", "random", f"{SCRIPT} --log {log} resign silent", *GO, "--parallel", "1", "--out", str(out))
    with started("-m", "jaxrl", *arguments) as process:
        deadline = time.monotonic() + 120
        while not (log.exists() and "genmove b" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        _, said = ended(process, 130)
    assert said.splitlines()[-1] == f"jaxrl: interrupted; the games that were over are in {out / 'games'}"
    assert (out / "games" / "0001.sgf").exists()
    time.sleep(0.5)
    running = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _says(path, str(log))]
    assert running == []


def _says(path, text):
    with contextlib.suppress(OSError):
        return text.encode() in path.read_bytes()
    return False
