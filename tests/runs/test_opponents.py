"""A trained policy as the other side of its game: one program for all, kept in the run's file, refused where it is none."""

import json
import os

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import load_agent
from jaxrl.cli import commands as cli
from jaxrl.envs import make
from jaxrl.errors import UsageError
from jaxrl.records.files import write_json
from jaxrl.runs.actor import make_env, run_opponent, with_opponent
from jaxrl.runs.definition import Run, config_values, read_run
from jaxrl.runs.train import resume, start
from jaxrl.runs.trained import score

GAME = "pgx/tic_tac_toe"
TINY = {"num_envs": 2, "rollout_length": 2, "capacity": 64, "batch_size": 4, "num_updates": 1}
SMALL = {"blocks": 0, "channels": 4, "num_simulations": 2}


def tiny(env=GAME, seed=0, **options):
    config = load_agent("alphazero")[1](**TINY, **SMALL)
    return Run("alphazero", env, config, total_steps=8, num_rows=1, eval_episodes=2, seed=seed, **options)


def untrained(folder, run):
    folder.mkdir()
    write_json(folder / "config.json", config_values(run))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    start(tiny(keep_every=4), folder)
    return folder


def test_a_folder_that_does_not_fit_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    other = untrained(tmp_path / "other", tiny("pgx/go_5x5"))
    new = untrained(tmp_path / "new", tiny())
    for text, env, message in (
        (tmp_path / "empty", GAME, "holds no run"),
        (other, "pgx/go_6x6", "holds a policy for pgx/go_5x5, and the game is pgx/go_6x6"),
        (f"{new}@4", GAME, "env_steps=4 has no snapshot"),
        ("nowhere", GAME, "opponent='nowhere' is unknown; choose random, mcts:N"),
        ("gnugo --mode gtp", GAME, "a program that plays Go plays in `jaxrl match`"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            make_env(env, 1, opponent=str(text))
        assert "\n" not in str(caught.value)


def test_an_opponent_by_its_flag_is_that_of_the_evaluation_and_refused_for_one_player(tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr("jaxrl.runs.train.start", lambda run, *others: seen.append(run) or sys_exit())
    for flags in (["--opponent", "mcts:5"], ["--eval-env-option", "opponent=mcts:5", "--opponent", "mcts:5"]):
        with pytest.raises(SystemExit):
            cli.main(["train", "alphazero", "--env", GAME, *flags])
        assert seen.pop().eval_env_options == {"opponent": "mcts:5"}
    capsys.readouterr()
    monkeypatch.undo()
    out = str(tmp_path / "out")
    for arguments, message in (
        (["--env", GAME, "--opponent", "random", "--eval-env-option", "opponent=mcts:5"], "are both given; leave one away"),
        (["--env", "probe/constant", "--opponent", "random"], "opponent"),
        (["--env", "pgx/go_5x5", "--opponent", "nobody"], "opponent='nobody' is unknown"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["train", "alphazero" if "pgx" in arguments[1] else "ppo", *arguments, "--out", out])
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1, said
    assert not os.path.exists(out)


def sys_exit():
    raise SystemExit(3)


def test_the_folder_of_an_opponent_is_kept_with_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    untrained(tmp_path / "other", tiny())
    kept = config_values(tiny(eval_env_options={"opponent": "other"}))
    assert kept["eval_env_options"] == {"opponent": str(tmp_path / "other")}
    assert (
        config_values(tiny(eval_env_options={"opponent": "other@4"}))["eval_env_options"]["opponent"] == f"{tmp_path}/other@4"
    )
    assert config_values(tiny(eval_env_options={"opponent": "random"}))["eval_env_options"] == {"opponent": "random"}


@pytest.mark.slow
def test_it_plays_as_the_policy_does_and_all_of_its_snapshots_are_one_program(folder, tmp_path):
    game = make(GAME, 3)
    opponent, before = run_opponent(folder, GAME, game), run_opponent(folder, GAME, game, 4)
    assert opponent.static == before.static is not None
    assert jax.tree.structure(opponent.params) == jax.tree.structure(before.params)
    obs = game.reset(jax.random.key(0), game.params)[1]
    action, _ = opponent.act(jax.random.key(1), opponent.params, opponent.initial_memory(3), obs)
    policy = jaxrl.load(folder)
    assert np.array_equal(action, policy.step(obs, policy.initial_memory(3))[0])
    made = [make_env(GAME, 2, opponent=text).static for text in (str(folder), f"{folder}@4", "random")]
    assert made[0] == made[1] != made[2]


@pytest.mark.slow
def test_a_run_that_is_scored_against_another_is_resumed_from_anywhere(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    summary = start(tiny(seed=1, eval_env_options={"opponent": folder.name}), tmp_path / "run")
    assert summary["evaluation"]["episodes"] == 2 and summary["evaluation"]["mean"] in (-1.0, -0.5, 0.0, 0.5, 1.0)
    monkeypatch.chdir(tmp_path)
    assert read_run(tmp_path / "run").eval_env_options == {"opponent": str(folder)}
    assert resume(tmp_path / "run", 16)["evaluation"]["episodes"] == 2
    assert json.loads((tmp_path / "run" / "config.json").read_text())["eval_env_options"] == {"opponent": str(folder)}
    # A policy against itself: what one wins as the first the other loses.
    assert score(folder, 2, env_options={"opponent": str(folder)})["mean"] == 0.0


@pytest.mark.slow
def test_a_policy_that_was_trained_against_another_is_an_opponent_too(folder, tmp_path):
    config = load_agent("ppo")[1](num_envs=2, rollout_length=4)
    run = Run("ppo", GAME, config, {"opponent": str(folder)}, total_steps=8, num_rows=1, eval_episodes=2)
    start(run, tmp_path / "ppo")
    found = score(folder, 2, env_options={"opponent": str(tmp_path / "ppo")})
    assert found["episodes"] == 2 and found["mean"] is not None
    assert with_opponent(GAME, {"opponent": "random"}) == {"opponent": "random"}
