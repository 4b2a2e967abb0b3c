"""Sizes and values that no one means: one line, at once, and nothing written."""

import shlex
import time

import pytest

from jaxrl.cli import main
from jaxrl.fields import from_literal, literal
from jaxrl.sweeps.api import sweep

CARTPOLE = ("train", "dqn", "--env", "CartPole-v1")
PPO = ("train", "ppo", "--env")
SWEEP = ("sweep", "dqn", "--env", "CartPole-v1")
GREAT = str(10**12)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (*PPO, "CartPole-v1", "--num-envs", "100000000", "--rollout-length", "20"),
            "num_envs=100000000 with 20 steps a rollout",
        ),
        ((*PPO, "Breakout-MinAtar", "--num-envs", "10000000", "--rollout-length", "1"), "num_envs=10000000 with 1 steps a"),
        ((*PPO, "gymnasium/CartPole-v1", "--num-envs", "1000000"), "give at most 10000"),
        ((*CARTPOLE, "--n-step", "2147483647"), "n_step=2147483647 reaches around the replay"),
        ((*CARTPOLE, "--num-updates", "2147483647"), "num_updates=2147483647 is out of range; give a value in [1, 100000]"),
        ((*PPO, "CartPole-v1", "--num-epochs", "2147483647"), "num_epochs=2147483647 is out of range"),
        (
            ("train", "reinforce", "--env", "CartPole-v1", "--num-value-updates", "2147483647"),
            "num_value_updates=214748",
        ),
        (
            ("train", "dyna_q", "--env", "maze/classic", "--num-planning-steps", "2147483647"),
            "num_planning_steps=214748",
        ),
        ((*CARTPOLE, "--num-rows", GREAT), f"num_rows={GREAT} is out of range"),
        ((*CARTPOLE, "--eval-every", "1", "--total-steps", "10000000000"), "give at least 10000"),
        ((*CARTPOLE, "--keep-every", "1", "--total-steps", "10000000000"), "give at least 10000"),
        ((*CARTPOLE, "--eval-episodes", GREAT), f"eval_episodes={GREAT} is out of range"),
        ((*CARTPOLE, "--threads", "2000000"), "threads=2000000 is out of range; give a value in [0, 1024]"),
        ((*CARTPOLE, "--devices", "²"), "devices='²' is not of type int"),
        ((*CARTPOLE, "--seed", "\uff11\uff12"), "seed='\uff11\uff12' is not of type int"),
        ((*CARTPOLE, "--checkpoint-seconds", "inf"), "checkpoint_seconds=inf is not a finite number"),
        (("evaluate", "runs/none", "--episodes", GREAT), f"episodes={GREAT} is out of range"),
        (("evaluate", "runs/none", "--seed", GREAT), f"seed={GREAT} is out of range"),
        ((*SWEEP, "--devices", "²"), "devices='²' is not of type int"),
        ((*SWEEP, "--seeds", "1000000000"), "seeds=1000000000 is out of range"),
        ((*SWEEP, "--draw", "gamma=uniform:0.9:0.99", "--num-draws", "1000000000"), "num_draws=1000000000 is out of range"),
        (
            (*SWEEP, "--grid", *(f"{name}={','.join(map(str, range(1, 200)))}" for name in ("n_step", "tau", "num_updates"))),
            "makes 7880599 configs; give at most 1000000",
        ),
        (("tune", "dqn", "--env", "CartPole-v1", "--num-rungs", GREAT), f"num_rungs={GREAT} is out of range"),
        (("tune", "dqn", "--env", "CartPole-v1", "--max-seconds", "inf"), "max_seconds=inf is not a finite number"),
    ],
)
def test_a_size_that_nothing_could_hold_is_one_line_at_once(arguments, said, tmp_path, monkeypatch, capsys):
    assert_refused(arguments, said, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("option", ["--env-option", "--eval-env-option"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gravity=1e999", "gravity=inf is no finite number"),
        ("gravity=b'1'", "gravity=b'1' is no finite number"),
        ("gravity={1,2}", "gravity={1, 2} is no finite number"),
        ("gravity=[1,{2}]", "gravity=[1, {2}] is no finite number"),
        ("gravity={[]:1}", "gravity='{[]:1}' is not a number"),
        ("gravity=1j", "gravity=1j is no finite number"),
        ("gravity=None", "gravity=None is not a number"),
        (f"gravity={'9' * 400}", "is no finite number"),
        ("num_envs=3", "num_envs=3 is no option of the environment; give it as the field num_envs"),
        ("env_id=3", "unknown option of CartPole-v1 'env_id'"),
        ("name=3", "unknown option of CartPole-v1 'name'"),
        (f"time_limit={GREAT}", f"time_limit={GREAT} is out of range"),
    ],
)
def test_an_option_of_an_environment_that_is_no_plain_value_is_one_line(text, said, option, tmp_path, monkeypatch, capsys):
    assert_refused((*CARTPOLE, option, text), said, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("text", ["env.gravity=b'1'", "env.gravity=1e999", "env.num_envs=1,2", "env.gravity={1,2}"])
def test_a_grid_of_options_is_checked_alike(text, tmp_path, monkeypatch, capsys):
    assert_refused((*SWEEP, "--grid", text), "grid: ", tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("env", "text", "said"),
    [
        ("FourRooms-misc", "goal_fixed=4x1", "cannot be made with goal_fixed='4x1'"),
        ("FourRooms-misc", "goal_fixed=3", "cannot be made with goal_fixed=3"),
        ("FourRooms-misc", "use_visual_obs=maybe", "use_visual_obs='maybe' is not true or false"),
        ("DeepSea-bsuite", "size=1000000000", "size=1000000000 is out of range; give at most 4096"),
        ("garnet/random", "states=1000000000", "states=1000000000 makes 12000000000 transitions"),
        ("maze/random", "height=1000001", "height=1000001, width=15 make too many cells"),
        ("maze/random", "loops=None", "loops=None is out of range"),
    ],
)
def test_an_argument_that_an_environment_cannot_be_made_with_is_one_line(env, text, said, tmp_path, monkeypatch, capsys):
    arguments = ("train", "ppo", "--env", env, "--env-option", text)
    assert_refused(arguments, said, tmp_path, monkeypatch, capsys)


def assert_refused(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxrl.runs.prepare.memory_limits", lambda: (10**10, 10**10))
    begun = time.process_time()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    shown = capsys.readouterr().err
    assert stop.value.code == 2 and said in shown and shown.count("\n") == 1, shown
    assert time.process_time() - begun < 20 and list(tmp_path.iterdir()) == []


def test_python_refuses_a_billion_seeds(tmp_path):
    with pytest.raises(ValueError, match="seeds=1000000000 is out of range"):
        sweep("dqn", "CartPole-v1", seeds=10**9, out=tmp_path / "sweep")


@pytest.mark.parametrize(
    "value", [None, True, 1, -2.5, 0.1 + 0.2, "a b", "none", "True", "12", "(1,)", "=x", "", (4, 1), [1, "x"], {"a": (1,)}]
)
def test_a_value_is_read_as_it_was_written(value):
    assert literal(from_literal(value)) == value and type(literal(from_literal(value))) is type(value)


def test_the_command_in_a_message_is_written_as_it_is_typed(tmp_path, capsys):
    folder = tmp_path / "a b;$c"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["train", "q_learning", "--env", "gridworld/classic", "--out", str(folder)])
    assert f"go on with: jaxrl resume {shlex.quote(str(folder))}\n" in capsys.readouterr().err
