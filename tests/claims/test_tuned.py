"""Settings of claims for use: which claim counts, what is taken of it, and that it is said."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

import jaxrl
from jaxrl.agents import A2CConfig
from jaxrl.claims import LAST, Claim, Protocol, Published, all_claims, tuned
from jaxrl.claims.settings import hint, tuned_claim
from jaxrl.cli import main
from jaxrl.cli import options as opts
from jaxrl.errors import UsageError
from jaxrl.runs.definition import Run
from jaxrl.sweeps.api import sweep

PROTOCOL = Protocol(score=LAST)
CLAIM = Claim(
    name="probe",
    agent="a2c",
    env="probe/action",
    config={"num_envs": 2, "rollout_length": 4, "hidden": (8,), "normalize_reward": True},
    total_steps=64,
    published=Published(mean=1.0, source="exact", env_steps=64, random=0.0, protocol=PROTOCOL),
    protocol=PROTOCOL,
)
MASKED = dataclasses.replace(CLAIM, name="masked", env="CartPole-v1", env_options={"mask_observation": (0, 2)}, config={})
QUIET = {"num_rows": 2, "eval_episodes": 2}
SHORT = ["--num-rows", "2", "--eval-episodes", "2"]


@pytest.fixture(autouse=True)
def claims(monkeypatch, tmp_path):
    """Claims of probes in the place of those of a family, and an empty folder."""
    other = dataclasses.replace(CLAIM, name="not advised", config={"gamma": 0.5}, tuned=False)
    monkeypatch.setattr("jaxrl.claims.atari.CLAIMS", (other, CLAIM, MASKED))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def begun(monkeypatch):
    """What `jaxrl train` and `jaxrl.run` would start: the run and what is said of it."""
    found = []

    def start(run, folder, profile=False, notice=""):
        found.append((run, notice))
        raise UsageError("stop=here; go on")

    monkeypatch.setattr("jaxrl.runs.train.start", start)
    monkeypatch.setattr("jaxrl.runs.api.start", start)
    return found


def train(*arguments):
    with pytest.raises(SystemExit):
        main(["train", *arguments])


def test_of_an_agent_an_environment_and_its_options_one_claim_is_advised_at_most():
    places = [
        (claim.agent, claim.env, json.dumps(dict(claim.env_options), sort_keys=True))
        for claim in all_claims().values()
        if isinstance(claim, Claim) and claim.tuned
    ]
    assert len(places) == len(set(places))


def test_an_environment_is_the_same_however_it_and_its_options_are_written():
    assert tuned("a2c", "gymnax/CartPole-v1", {"mask_observation": [0, 2]}) is MASKED
    assert tuned("a2c", "CartPole-v1", {}) is not MASKED
    assert tuned("a2c", "CartPole-v1", {"mask_observation": [0, 2], "gravity": 1.0}) is None
    assert tuned("a2c", "mine:make", {}) is None


@pytest.mark.parametrize("tuned", [3, "false", [True]])
def test_tuned_that_is_no_choice_is_refused_in_python(tuned, tmp_path):
    with pytest.raises(UsageError, match="is no choice; give True, False or None"):
        jaxrl.run("a2c", "probe/action", out=tmp_path / "run", tuned=tuned)
    assert not (tmp_path / "run").exists()


def test_tuned_takes_the_fields_of_the_claim_and_its_env_steps(begun):
    train("a2c", "--env", "probe/action", "--tuned")
    run, notice = begun[0]
    assert run.config == A2CConfig(num_envs=2, rollout_length=4, hidden=(8,), normalize_reward=True)
    assert run.total_steps == 64
    fields = "num_envs=2 rollout_length=4 hidden=8 normalize_reward=true total_steps=64"
    assert notice == f"tuned by the claim probe: {fields}"


def test_fields_given_beside_it_win_and_are_not_said_to_be_taken(begun):
    train("a2c", "--env", "probe/action", "--hidden", "4", "4", "--tuned", "--no-normalize-reward", "--total-steps", "80")
    run, notice = begun[0]
    assert run.config == A2CConfig(num_envs=2, rollout_length=4, hidden=(4, 4)) and run.total_steps == 80
    assert notice == "tuned by the claim probe: num_envs=2 rollout_length=4"


def test_a_claim_of_the_defaults_says_so(begun):
    train("a2c", "--env", "CartPole-v1", "--env-option", "mask_observation=[0,2]", "--tuned", "true")
    assert begun[0][0].config == A2CConfig() and begun[0][0].env_options == {"mask_observation": [0, 2]}
    assert begun[0][1] == "tuned by the claim masked: the agent's defaults, total_steps=64"


def test_without_a_claim_the_line_names_where_there_is_one(begun, capsys):
    train("a2c", "--env", "probe/memory", "--tuned")
    assert not begun
    err = capsys.readouterr().err
    assert re.fullmatch(r"jaxrl: tuned: no claim is about agent=a2c in env=probe/memory; a2c has one for [^\n]*\n", err)
    assert "probe/action" in err and "CartPole-v1 --env-option 'mask_observation=(0, 2)'" in err
    with pytest.raises(UsageError, match=r"agent=dyna_q in env=probe/state; agents with one are .*a2c"):
        tuned_claim("dyna_q", "probe/state", {})


def test_a_run_of_the_defaults_where_a_claim_has_others_says_so_in_one_line(begun):
    train("a2c", "--env", "probe/action")
    assert begun[0][1].startswith("the claim probe has settings for a2c on probe/action") and "\n" not in begun[0][1]
    train("a2c", "--env", "probe/action", "--no-tuned")
    train("a2c", "--env", "probe/action", "--gamma", "0.5")
    train("a2c", "--env", "probe/memory")
    train("a2c", "--env", "CartPole-v1", "--env-option", "mask_observation=[0,2]")
    assert [notice for _, notice in begun[1:]] == [""] * 4
    assert hint("a2c", "probe/action", {}, A2CConfig(**CLAIM.config)) == ""


@pytest.mark.parametrize("flag", [["--tuned"], ["--tuned=true"], ["--tuned", "true"], []])
def test_the_recorded_command_is_the_same_run_whatever_becomes_of_the_claim(flag, monkeypatch):
    arguments = ["--env", "probe/action", *flag, "--gamma", "0.9", "--no-normalize-reward", "--total_steps=80"]
    config, run, own = opts.read_tuned("train", "a2c", arguments, Run, jaxrl.cli.commands.TrainOptions)
    monkeypatch.setattr("jaxrl.claims.atari.CLAIMS", ())
    words = shlex.split(own["command"])
    assert words[:3] == ["jaxrl", "train", "a2c"] and not any(word.startswith("--tuned") for word in words)
    assert not {"--total-steps", "--normalize-reward"} & set(words)
    again = opts.read_tuned("train", "a2c", words[3:], Run, jaxrl.cli.commands.TrainOptions)
    assert again[:2] == (config, run) and (config.num_envs == 2) == bool(flag)


def test_in_python_as_on_the_command_line(begun):
    with pytest.raises(UsageError, match="stop=here"):
        jaxrl.run("a2c", "probe/action", out="a", tuned=True, gamma=0.9, hidden=[4])
    run, notice = begun[0]
    assert run.config == jaxrl.tuned_config("a2c", "probe/action", gamma=0.9, hidden=[4])
    assert run.config == A2CConfig(num_envs=2, rollout_length=4, hidden=(4,), normalize_reward=True, gamma=0.9)
    assert run.total_steps == 64 and notice.startswith("tuned by the claim probe: num_envs=2 rollout_length=4 normalize")
    with pytest.raises(UsageError, match=r"unknown.*gama"):
        jaxrl.tuned_config("a2c", "probe/action", gama=0.9)
    with pytest.raises(UsageError, match="no claim is about agent=a2c"):
        jaxrl.tuned_config("a2c", "probe/action", {"time_limit": 3})
    for wrong in ({"a": (1,)}.keys(), {1: 2}):
        with pytest.raises(UsageError, match="env_option"):
            sweep("a2c", "probe/action", out="b", env_options=wrong)


def test_a_sweep_takes_them_for_all_fields_that_it_does_not_sweep(monkeypatch):
    found = []

    def start(planned, folder, notice):
        found.append((planned, notice))
        raise UsageError("stop=here; go on")

    monkeypatch.setattr("jaxrl.sweeps.driver.start_or_resume", start)
    monkeypatch.setattr("jaxrl.sweeps.driver.start", start)
    with pytest.raises(UsageError, match="stop=here"):
        sweep("a2c", "probe/action", grid={"rollout_length": [2, 3]}, out="b", tuned=True)
    with pytest.raises(SystemExit):
        main(["sweep", "a2c", "--env", "probe/action", "--tuned", "--grid", "rollout_length=2,3", "--devices", "1"])
    for planned, notice in found:
        assert planned.config == A2CConfig(**CLAIM.config) and planned.total_steps == 64
        assert planned.configs == ({"rollout_length": 2}, {"rollout_length": 3})
        assert notice.startswith("tuned by the claim probe")
    assert found[1][0].command.startswith("jaxrl sweep a2c --num-envs 2 --rollout-length 4 --hidden 8 --normalize-reward true")


def test_a_mistake_is_one_line_without_what_there_is_to_say_of_claims(capsys):
    train("a2c", "--env", "probe/action", "--tuned", "--total-steps", "99999999999")
    assert re.fullmatch(r"jaxrl: total_steps=[^\n]+\n", capsys.readouterr().err)


@pytest.mark.slow
def test_what_is_taken_is_said_when_the_run_begins_and_not_when_it_goes_on(capsys):
    main(["train", "a2c", "--env", "probe/action", "--tuned", *SHORT, "--out", "a"])
    assert capsys.readouterr().err.count("tuned by the claim probe: num_envs=2") == 1
    assert json.loads(Path("a/config.json").read_text())["config"]["hidden"] == [8]
    main(["resume", "a"])
    assert jaxrl.run("a2c", "probe/action", out="a", tuned=True, **QUIET).summary["env_steps"] == 64
    assert "claim" not in capsys.readouterr().err
