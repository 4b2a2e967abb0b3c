"""The `jaxrl` command: what it accepts, what it refuses in one line, and how soon it answers."""

import dataclasses
import importlib
import inspect
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxrl
from helpers import ended, run_python, started, write_images
from jaxrl.agents import AGENTS, load_agent
from jaxrl.agents.value.dqn import DQNConfig
from jaxrl.cli import commands as cli
from jaxrl.envs import ENVS, make
from jaxrl.fields import to_text
from jaxrl.records import checkpoint
from jaxrl.records.rows import read_rows
from jaxrl.runs import train as runs
from jaxrl.runs import trained as trained_runs
from jaxrl.runs.definition import Run
from jaxrl.types import Env

SIZES = ["--num-envs", "4", "--hidden", "16", "--capacity", "256", "--batch-size", "16", "--learning-starts", "64"]
SHORT = ["--total-steps", "2000", "--eval-episodes", "4", "--num-rows", "10"]
TRAIN = ["train", "dqn", "--env", "CartPole-v1", *SIZES, *SHORT]


@pytest.fixture(autouse=True)
def process(tmp_path, monkeypatch):
    """An empty working directory, and what the command sets in its process is set back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("NPROC", "1")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run; tests change copies of it only."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = DQNConfig(num_envs=4, hidden=(16,), capacity=256, batch_size=16, learning_starts=64)
    runs.start(Run("dqn", "CartPole-v1", config, total_steps=2000, eval_episodes=4, num_rows=10), folder)
    return folder


def contents(folder):
    """Every path below a folder, with the bytes of the files."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refusal(capsys, *arguments):
    """The one line with which the command refuses; it wrote nothing and lost nothing."""
    before = contents(Path.cwd())
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert contents(Path.cwd()) == before
    assert re.fullmatch(r"jaxrl: [^\n]+\n", err)
    return err


def config_of(folder):
    return json.loads((Path(folder) / "config.json").read_text())


# --- refusals ---------------------------------------------------------------------------------------------------------

BAD_VALUES = {
    "--batch-size abc": ["batch_size='abc'", "such as 128"],
    "--num-envs 2.5": ["num_envs='2.5'", "such as 10"],
    "--num-envs=2.5": ["num_envs='2.5'", "such as 10"],
    "--num-envs 0": ["num_envs=0", "at least 1"],
    "--gamma x": ["gamma='x'", "such as 0.99"],
    "--gamma": ["gamma has no value", "such as 0.99"],
    "--gamma 1.5": ["gamma=1.5", "in [0, 1]"],
    "--learning-rate -1": ["learning_rate=-1.0", "above 0"],
    "--learning-rate nan": ["learning_rate=nan", "finite"],
    "--batch-size 512": ["batch_size=512 exceeds capacity=256", "raise capacity"],
    "--capacity 99999999999": ["capacity=99999999999", "below 2147483648"],
    "--hidden 16 x": ["hidden='16 x'", "such as 120x84"],
    "--hidden 0": ["hidden=0", "at least 1"],
    "--double maybe": ["double='maybe'", "true or false"],
    "--loss cubic": ["loss='cubic'", "squared, huber"],
    "--max-grad-norm x": ["max_grad_norm='x'", "such as none"],
    "--batch-sizes 3": ["--batch-sizes", "did you mean batch-size?"],
    "--total-steps -5": ["total_steps=-5", "at least 1"],
    "--total-steps 0": ["total_steps=0", "at least 1"],
    "--total-steps 64": ["learning_starts=64", "total_steps=64", "lower learning_starts"],
    "--total-steps 99999999999": ["total_steps=99999999999", "fewer than 2^31 iterations"],
    "--seed -1": ["seed=-1", "in [0, 4294967295]"],
    "--seed 4294967296": ["seed=4294967296", "in [0, 4294967295]"],
    "--eval-every -1": ["eval_every=-1", "at least 0"],
    "--eval-episodes 0": ["eval_episodes=0", "in [1, 1000000]"],
    "--num-rows 0": ["num_rows=0", "in [1, 1000000]"],
    "--checkpoint-seconds nan": ["checkpoint_seconds=nan", "give a finite one"],
    "--threads many": ["threads='many'", "give one such as 1"],
    "--track nope": ["track='nope'", "tensorboard, wandb"],
    "--env-option gravity": ["env_option='gravity'", "gravity=12"],
    "--env-option gravvity=12": ["'gravvity'", "did you mean gravity?"],
    "--env-option gravity=heavy": ["gravity='heavy'", "such as 9.8"],
    "--env-option gravity=1e60": ["gravity=1e+60", "such as 9.8"],
    "--env Pendulum-v1": ["discrete actions", "Box(shape=(1,))", "choose an environment with Discrete actions"],
    "--env CartPol-v1": ["'CartPol-v1'", "did you mean CartPole-v1"],
    "--env gymnaxx/CartPole-v1": ["'gymnaxx'", "did you mean gymnax"],
    "--env gymnasium/CartPol-v1": ["'CartPol-v1'", "did you mean CartPole-v1"],
    "--env nowhere:make": ["env='nowhere:make'", "check its name"],
    "--env json:dumps": ["env='json:dumps'", "num_envs"],
    "--init-from nowhere": ["nowhere holds no run", "jaxrl train"],
    "--out /proc/nope": ["out=/proc/nope", "give another folder"],
    "stray": ["'stray'", "leave it out"],
}


@pytest.mark.parametrize("arguments", BAD_VALUES)
def test_train_refuses_naming_field_value_and_fix(arguments, capsys):
    line = refusal(capsys, *TRAIN, *arguments.split())
    for words in BAD_VALUES[arguments]:
        assert words in line


def test_an_unknown_agent_is_refused_with_the_nearest_name(capsys):
    assert "unknown agent 'dqm'; did you mean dqn?" in refusal(capsys, "train", "dqm", *TRAIN[2:])


def test_an_unknown_command_is_refused_with_the_nearest_name(capsys):
    assert "unknown command 'trian'; did you mean train" in refusal(capsys, "trian")


def test_a_missing_environment_is_refused(capsys):
    assert "env is missing; give one" in refusal(capsys, "train", "dqn")


def test_an_agent_without_a_config_is_refused(capsys):
    assert "annotate it with a @jaxrl.agent_config subclass of Config" in refusal(capsys, "train", "json:loads", *TRAIN[2:])


def test_out_that_holds_a_run_is_refused_and_the_run_untouched(trained, capsys):
    shutil.copytree(trained, "run")
    line = refusal(capsys, *TRAIN, "--out", "run")
    assert "out=run already holds a run; give another folder, or go on with: jaxrl resume run" in line


def test_out_that_holds_other_files_is_refused(capsys):
    Path("notes").mkdir()
    Path("notes", "a.txt").write_text("mine")
    assert "out=notes is not empty; give another folder" in refusal(capsys, *TRAIN, "--out", "notes")


def test_out_below_a_file_is_refused(capsys):
    Path("file").write_text("mine")
    assert "out=file/run cannot be written (Not a directory)" in refusal(capsys, *TRAIN, "--out", "file/run")


def test_an_empty_out_is_refused(capsys):
    assert "out='' names no folder" in refusal(capsys, *TRAIN, "--out", "")


def test_a_missing_tracker_names_its_extra(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "wandb" else find(name, *more))
    assert "track='wandb' needs the package wandb; pip install 'jaxrl[wandb]'" in refusal(capsys, *TRAIN, "--track", "wandb")


def test_a_missing_gymnasium_names_its_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    line = refusal(capsys, *TRAIN, "--env", "gymnasium/CartPole-v1")
    assert "needs the package gymnasium; pip install 'jaxrl[gymnasium]'" in line


@pytest.mark.parametrize("command", ["resume", "evaluate", "plot"])
def test_a_folder_without_a_run_is_refused(command, capsys):
    Path("empty").mkdir()
    assert "empty holds no run" in refusal(capsys, command, "empty")
    assert "nowhere holds no run" in refusal(capsys, command, "nowhere")
    assert re.search("folders? is missing; give one", refusal(capsys, command))


@pytest.mark.parametrize("command", ["resume", "evaluate", "plot"])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"agent": "dqn"}', '{"agent": ["dqn"]}'])
def test_a_corrupt_config_json_is_refused(command, text, capsys):
    Path("run").mkdir()
    Path("run", "config.json").write_text(text)
    line = refusal(capsys, command, "run")
    assert "run" in line and "give" in line


BAD_STORED = {
    "sead": (1, "unknown field of Run 'sead'; did you mean seed?"),
    "seed": ("x", "seed='x' must be of type int, such as 0"),
    "total_steps": (1.5, "total_steps=1.5 must be of type int, such as 500000"),
    "track": (3, "track=3 must be a tuple of strs"),
    "env": ("CartPol-v1", "did you mean CartPole-v1"),
    "agent": ("dqm", "did you mean dqn?"),
    "env_options": ({"gravvity": 1}, "did you mean gravity?"),
}


@pytest.mark.parametrize("name", BAD_STORED)
@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_config_json_with_a_bad_field_is_refused_by_name(name, command, trained, capsys):
    value, words = BAD_STORED[name]
    Path("run").mkdir()
    Path("run", "config.json").write_text(json.dumps(config_of(trained) | {name: value}))
    assert words in refusal(capsys, command, "run")


def test_a_config_json_with_an_unknown_field_of_the_agent_is_refused(trained, capsys):
    Path("run").mkdir()
    values = config_of(trained)
    values["config"]["bath_size"] = 16
    Path("run", "config.json").write_text(json.dumps(values))
    assert "unknown field of DQNConfig 'bath_size'; did you mean batch_size?" in refusal(capsys, "resume", "run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--episodes", "0"], "episodes=0 is out of range; give a value in [1, 1000000]"),
        (["--episodes", "few"], "episodes='few' is not of type int or none; give one such as 1"),
        (["--seed", "-1"], "seed=-1 is out of range; give a value in [0, 4294967295]"),
        (["--gif", "nowhere/x.gif"], "gif=nowhere/x.gif cannot be written"),
        (["--gif", "."], "gif=. is a folder"),
        (["--gif", "x.mp4"], "gif=x.mp4 is to be a GIF"),
        (["--html", "x.gif"], "html=x.gif is to be HTML; give it a name that ends in .html"),
        (["--html", "x.html"], "html: there is a viewer for environments of brax alone, not for CartPole-v1"),
    ],
)
def test_evaluate_refuses_bad_options(trained, arguments, words, capsys):
    assert words in refusal(capsys, "evaluate", str(trained), *arguments)


def test_a_policy_is_scored_in_another_environment_than_it_was_trained_in(trained, capsys):
    """No pole falls within three steps."""
    cli.main(["evaluate", str(trained), "--episodes", "4", "--env-option", "time_limit=3"])
    assert json.loads(capsys.readouterr().out) == {"episodes": 4, "mean": 3.0, "std": 0.0, "unfinished": 0}
    line = refusal(capsys, "evaluate", str(trained), "--env-option", "mask_observation=[0]")
    assert "obs is ArraySpec(shape=(1,)" in line and "and ArraySpec(shape=(4,)" in line
    assert "seeds: " in refusal(capsys, "evaluate", str(trained), "--seeds")


def test_evaluate_of_a_run_without_a_checkpoint_says_how_to_get_one(trained, capsys):
    Path("run").mkdir()
    shutil.copy(trained / "config.json", "run")
    assert "go on with: jaxrl resume run" in refusal(capsys, "evaluate", "run", "--episodes", "4")


@pytest.mark.parametrize("out", ["curve.foo", "nowhere/curve.png"])
def test_plot_refuses_what_it_cannot_write(trained, out, capsys):
    assert f"out={out} cannot be written" in refusal(capsys, "plot", str(trained), "--out", out)


def test_list_refuses_an_unknown_kind(capsys):
    assert "'gadgets' cannot be listed; choose one of agents, envs, experiments" in refusal(capsys, "list", "gadgets")


# --- help and lists ---------------------------------------------------------------------------------------------------


def cpu_seconds(*arguments):
    """CPU seconds, output and whether JAX was imported ("True" or "False"), of a command in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    at_end = "atexit.register(lambda: print('jax' in sys.modules, file=sys.stderr))"
    program = f"import atexit, sys; {at_end}; from jaxrl.cli import main; main(sys.argv[1:])"
    environment = os.environ | {"COLUMNS": "100"}
    out, err = run_python("-c", program, *arguments, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, out, err.strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        *("--help", "list", "list agents", "list envs", "list experiments", "train --help", "reproduce --help"),
        *("reproduce --list", "reproduce tables classic --list"),
    ],
)
def test_help_and_lists_answer_within_a_second_of_cpu_time_without_jax(arguments):
    seconds, out, imported = cpu_seconds(*arguments.split())
    assert seconds < 1.0
    assert out
    assert imported == "False"


def test_the_help_of_an_agent_answers_within_three_seconds_of_cpu_time():
    assert cpu_seconds("train", "dqn", "--help")[0] < 3.0


def test_the_help_of_an_agent_explains_every_field(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "dqn", "--help"])
    assert stop.value.code == 0
    text = " ".join(re.sub(r"[│|]", " ", capsys.readouterr().out).split())
    for field in dataclasses.fields(DQNConfig):
        role = "static" if field.metadata["static"] else "traced"
        default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else to_text(field.default)
        start = text.index("--" + field.name.replace("_", "-") + " ") if not isinstance(field.default, bool) else 0
        entry = text[start:]
        meaning = re.escape(field.metadata["help"])
        assert re.search(rf"{meaning}( One of [^\[]*)? ?\[{role}\] \(default: {re.escape(default)}\)", entry)


@pytest.mark.parametrize(
    "command", ["evaluate", "plot", "resume", "take", "compare", "reproduce", "solve", "sweep dqn", "tune dqn", "train dqn"]
)
def test_the_help_of_a_command_is_in_boxes_and_shows_how_each_option_is_written(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        cli.main([*command.split(), "--help"])
    out = capsys.readouterr().out
    boxes = ["the agent's config"] if command.endswith("dqn") else []
    boxes.insert(0, {"train": "the run", "sweep": "the sweep", "tune": "the search"}.get(command.split()[0], "options"))
    assert stop.value.code == 0 and re.findall(r"╭─ (.*?) ─", out) == boxes
    assert out.startswith(f"usage: jaxrl {command} ") and "STR" not in out and "None" not in out
    assert max(map(len, out.splitlines())) <= 100


def test_an_option_of_many_values_says_so(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        cli.main(["sweep", "dqn", "--help"])
    text = " ".join(re.sub(r"[│|]", " ", capsys.readouterr().out).split())
    assert "--hidden INT [INT ...]" in text and "--[no-]double" in text
    assert "--grid FIELD=VALUES" in text and "[FIELD=VALUES ...]" in text


@pytest.mark.parametrize(
    ("flag", "ours"),
    [("--lr", "learning-rate"), ("--batch", "batch-size"), ("--total-timesteps", "total-steps"), ("--n-envs", "num-envs")]
    + [
        ("--steps", "total-steps"),
        ("--discount", "gamma"),
        ("--buffer-size", "capacity"),
        ("--target-update-interval", "target-period"),
    ],
)
def test_a_name_of_another_library_suggests_ours(flag, ours, capsys):
    assert f"unknown field {flag}; did you mean {ours}" in refusal(capsys, "train", "dqn", "--env", "CartPole-v1", flag, "1")


def test_a_grid_of_another_librarys_name_suggests_ours(capsys):
    assert "did you mean learning_rate?" in refusal(capsys, "sweep", "dqn", "--env", "CartPole-v1", "--grid", "lr=1,2")


def test_the_help_lists_every_command(capsys):
    cli.main(["--help"])
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {command} ", out, re.MULTILINE) for command in cli.COMMANDS)


def test_lists_name_every_agent_and_environment(capsys):
    cli.main(["list"])
    out = capsys.readouterr().out
    for name in [*AGENTS, *(name for names in ENVS.values() for name in names)]:
        assert name in out


def test_list_shows_the_first_line_of_each_experiment(capsys):
    Path("experiments").mkdir()
    Path("experiments", "mine.py").write_text('"""Does it learn?\n\nMore."""\nif __name__ == "__main__":\n    print()\n')
    Path("experiments", "shared.py").write_text('"""What experiments share."""\n')
    cli.main(["list", "experiments"])
    assert capsys.readouterr().out == "experiments\n  experiments/mine.py  Does it learn?\n"


def test_no_name_of_the_package_is_hidden_by_a_module():
    assert not [name for name in jaxrl.__all__ if inspect.ismodule(getattr(jaxrl, name))]


@pytest.mark.parametrize("name", AGENTS)
def test_every_registered_agent_imports_and_has_a_summary(name):
    make_agent, config_class = load_agent(name)
    assert callable(make_agent)
    assert isinstance(config_class(), jaxrl.Config)
    assert AGENTS[name].summary.endswith(".")


@pytest.mark.parametrize(
    "env_id",
    [
        name if family == "gymnax" else f"{family}/{name}"
        for family in ENVS
        if family not in ("brax", "playground")  # Which are not installed for tests.
        for name in ENVS[family]
    ],
)
def test_every_listed_environment_is_made(env_id, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRL_DATA_DIR", str(write_images(tmp_path, *[np.zeros((3, 28, 28), np.uint8)] * 2)))
    env = make(env_id, 2, **({"map": "S.G"} if env_id == "gridworld/custom" else {}))
    assert isinstance(env, Env)
    assert env.num_envs == 2


# --- what is accepted -------------------------------------------------------------------------------------------------


@pytest.fixture
def parsed(monkeypatch):
    """Runs `jaxrl train` up to where training would begin and returns the `Run` it makes."""

    def parse(*arguments):
        found = []
        monkeypatch.setattr(runs, "start", lambda run, out, profile, notice: found.append((run, out, profile)))
        monkeypatch.setattr(cli, "_finish", lambda summary, out: None)
        cli.main([*TRAIN, *arguments])
        return found[0]

    return parse


@pytest.mark.parametrize(
    ("arguments", "double"),
    [("--double", True), ("--double true", True), ("--double false", False), ("--no-double", False), ("--double False", False)],
)
def test_a_flag_may_be_written_in_each_of_its_ways(parsed, arguments, double):
    assert parsed(*arguments.split(), "--seed", "3")[0].config.double is double


@pytest.mark.parametrize("text", ["32 16", "32x16", "32,16"])
def test_a_tuple_is_written_with_spaces_or_as_in_a_grid(parsed, text):
    assert parsed("--hidden", *text.split())[0].config.hidden == (32, 16)


def test_the_last_of_equal_options_counts_and_those_of_the_environment_come_together(parsed):
    run, _, _ = parsed("--hidden", "64", "--seed=3", "--env-option", "gravity=12", "--hidden", "32", "--env-option=length=0.5")
    assert (run.config.hidden, run.seed, run.env_options) == ((32,), 3, {"gravity": 12, "length": 0.5})


def test_folders_may_stand_behind_the_options(trained, capsys):
    cli.main(["evaluate", "--episodes", "4", str(trained)])
    assert json.loads(capsys.readouterr().out)["episodes"] == 4


def test_an_optional_field_takes_a_number_or_none(parsed):
    assert parsed("--max-grad-norm", "0.5")[0].config.max_grad_norm == 0.5
    assert parsed("--max-grad-norm", "none")[0].config.max_grad_norm is None


def test_environment_options_are_read_as_numbers_truths_and_words(parsed):
    run, _, _ = parsed("--env-option", "gravity=12", "length=0.5", "fast=true", "mode=same_step")
    assert run.env_options == {"gravity": 12, "length": 0.5, "fast": True, "mode": "same_step"}


def test_every_option_reaches_the_run(parsed):
    options = (
        "--seed 7 --eval-every 500 --checkpoint-seconds 2 --checkpoint-replay --debug --init-from other --track tensorboard"
    )
    run, out, profile = parsed(*options.split(), "--devices", "0", "--profile", "--out", "here")
    assert (run.seed, run.eval_every, run.checkpoint_seconds, run.total_steps) == (7, 500, 2.0, 2000)
    assert (run.checkpoint_replay, run.debug, run.init_from, run.track) == (True, True, "other", ("tensorboard",))
    assert (run.devices, out, profile) == (0, Path("here"), True)


def test_without_out_the_folder_is_new_and_names_agent_environment_and_seed(parsed):
    _, out, _ = parsed("--seed", "7", "--env", "gymnasium/CartPole-v1")
    assert re.fullmatch(r"runs/dqn-gymnasium-CartPole-v1-s7-\d{8}-\d{6}", str(out))


# --- whole commands ---------------------------------------------------------------------------------------------------


def test_train_prints_where_its_results_lie(capsys):
    cli.main([*TRAIN, "--out", "run"])
    out, err = capsys.readouterr()
    assert out == "run/summary.json\nrun/curve.png\n"
    assert "2,000 of 2,000 env steps" in err
    assert "greedy return" in err
    assert config_of("run")["config"]["hidden"] == [16]


def test_tensorboard_receives_the_rows():
    cli.main([*TRAIN, "--out", "run", "--track", "tensorboard"])
    (events,) = Path("run", "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_resume_of_a_finished_run_changes_nothing(trained, capsys):
    shutil.copytree(trained, "run")
    before = contents(Path("run"))
    cli.main(["resume", "run"])
    assert contents(Path("run")) == before
    assert "run is complete; nothing to do\n" in capsys.readouterr().err


def test_evaluate_prints_the_score_as_json_and_draws_a_gif(trained, capsys):
    cli.main(["evaluate", str(trained), "--episodes", "4", "--seed", "1", "--gif", "run.gif"])
    score, name = capsys.readouterr().out.splitlines()
    assert name == "run.gif"
    assert json.loads(score).keys() == {"episodes", "mean", "std", "unfinished"}
    assert json.loads(score)["episodes"] == 4
    with Image.open("run.gif") as picture:
        assert (picture.format, picture.n_frames > 1) == ("GIF", True)


def test_glimpses_are_shown_slowly_and_other_episodes_as_films(monkeypatch):
    first = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    frames = [np.roll(first, turn, axis=0) for turn in range(3)]
    monkeypatch.setattr(trained_runs, "score", lambda *_: {})
    monkeypatch.setattr(trained_runs, "episode_pictures", lambda *_: iter(frames))
    for env, durations in (("glimpse/digits", [500, 500, 1500]), ("CartPole-v1", [30, 30, 1020])):
        Path("config.json").write_text(json.dumps({"env": env}))
        cli.main(["evaluate", ".", "--gif", "run.gif"])
        with Image.open("run.gif") as picture:
            shown = []
            for number in range(picture.n_frames):
                picture.seek(number)
                shown.append(picture.info["duration"])
        assert shown == durations, env


def test_equal_seeds_evaluate_equally(trained, capsys):
    for _ in range(2):
        cli.main(["evaluate", str(trained), "--episodes", "4", "--seed", "5"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_commands_end_with_a_line_that_says_what_to_do_next(trained, tmp_path, capsys, monkeypatch):
    program = tmp_path / ".venv" / "bin" / "jaxrl"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [".venv/bin/jaxrl"])
    monkeypatch.setattr(runs, "start", lambda run, out, profile, notice: json.loads((trained / "summary.json").read_text()))
    shutil.copytree(trained, "a run")
    ends = {
        (
            "train",
            "dqn",
            "--env",
            "CartPole-v1",
            "--out",
            "a run",
        ): "watch it: .venv/bin/jaxrl evaluate 'a run' --gif cartpole.gif",
        ("resume", "a run"): "watch it: .venv/bin/jaxrl evaluate 'a run' --gif cartpole.gif",
        ("evaluate", "a run", "--episodes", "2"): "watch it: .venv/bin/jaxrl evaluate 'a run' --gif cartpole.gif",
        ("list", "agents"): "train one: .venv/bin/jaxrl train dqn --env CartPole-v1",
    }
    for arguments, end in ends.items():
        cli.main(list(arguments))
        assert capsys.readouterr().err.splitlines()[-1] == end


def test_a_plot_of_a_search_leads_to_its_best_trial(tmp_path, capsys, monkeypatch):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "tune.json").touch()
    monkeypatch.setattr("jaxrl.analysis.curves.plot_runs", lambda *arguments: None)
    cli.main(["plot", str(tmp_path / "s")])
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"take {tmp_path}/s best --out {tmp_path}/s-best")


def test_plot_of_two_runs_draws_one_picture(trained, capsys):
    shutil.copytree(trained, "again")
    cli.main(["plot", str(trained), "again", "--out", "both.png"])
    assert capsys.readouterr() == ("both.png\n", f"a score: jaxrl evaluate {trained}\n")
    with Image.open("both.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_debug_ends_with_the_line_of_the_first_nan(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*TRAIN, "--learning-rate", "1e30", "--debug", "--out", "run"])
    assert stop.value.code == 1
    assert re.search(
        r"^jaxrl: the first NaN arose here: nan generated by .*\.py:\d+: .*$", capsys.readouterr().err, re.MULTILINE
    )


OWN = '''
from typing import NamedTuple

import jax, jax.numpy as jnp
from jaxrl import Agent, Config, Discrete, Spec, Transition, batch_env, traced
from jaxrl.config import config
from jaxrl.types import ArraySpec

def make_env(num_envs, goal=3, limit=10):
    """Walks right with action 1; a step pays 1 at the goal, which ends the episode."""
    def reset(key, params):
        return jnp.int32(0), jnp.zeros(1)
    def step(key, params, state, action):
        state = state + action
        at_goal = state >= params
        return Transition(state, state[None].astype(jnp.float32), at_goal.astype(jnp.float32), at_goal)
    spec = Spec(ArraySpec((1,), "float32"), Discrete(2), limit)
    return batch_env(spec, jnp.int32(goal), reset, step, num_envs, time_limit=limit)

@config
class OwnConfig(Config):
    rate: float = traced(0.5, "Pull towards action 1.", low=0.0)

class State(NamedTuple):
    policy: jax.Array

def make_agent(config: OwnConfig, spec, model=None):
    def act(key, policy, memory, obs, progress, explore):
        return jnp.full(obs.shape[0], policy > 0.0, jnp.int32), memory, ()
    def update(key, state, rollout, progress):
        return State(state.policy + config.rate), {"policy": state.policy}
    return Agent(lambda key: State(jnp.float32(-1.0)), act, update)
'''


def test_an_own_agent_and_environment_train_evaluate_and_load_by_name(capsys):
    Path("own_rl.py").write_text(OWN)
    own = ["train", "own_rl:make_agent", "--env", "own_rl:make_env", "--env-option", "goal=4", "--rate", "0.25"]
    cli.main([*own, "--num-envs", "2", "--total-steps", "80", "--num-rows", "4", "--eval-episodes", "6", "--out", "run"])
    summary = json.loads(Path("run", "summary.json").read_text())
    # The goal is four steps to the right, and the policy turns right once it is above 0; so each episode pays 1.
    assert summary["evaluation"] == {"episodes": 6, "mean": 1.0, "std": 0.0}
    assert summary["agent"] == "own_rl:make_agent"
    # -1, then 0.25 more in each of 80 / 2 iterations.
    assert float(jaxrl.load("run").params) == 9.0
    capsys.readouterr()
    cli.main(["evaluate", "run", "--episodes", "3"])
    assert json.loads(capsys.readouterr().out) == {"episodes": 3, "mean": 1.0, "std": 0.0, "unfinished": 0}
    assert "gif: there are no pictures of own_rl:make_env" in refusal(capsys, "evaluate", "run", "--gif", "x.gif")
    assert "cannot be called with num_envs, gaol" in refusal(capsys, *own[:4], "--env-option", "gaol=4")


def test_an_option_that_is_no_parameter_reaches_the_evaluation_too():
    Path("own_rl.py").write_text(OWN)
    own = ["train", "own_rl:make_agent", "--env", "own_rl:make_env", "--env-option", "goal=4", "limit=3", "--num-envs", "2"]
    cli.main([*own, "--total-steps", "80", "--eval-episodes", "6", "--out", "run"])
    # The goal is four steps away and an episode has three.
    assert json.loads(Path("run", "summary.json").read_text())["evaluation"] == {"episodes": 6, "mean": 0.0, "std": 0.0}


# --- interrupts -------------------------------------------------------------------------------------------------------


def wait_for(condition, process, seconds=240.0):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_says_how_to_resume_and_keeps_a_whole_checkpoint(number):
    long = ["--total-steps", "2000000000", "--num-rows", "1000000", "--out", "run"]
    with started("-m", "jaxrl", *TRAIN, *long) as process:
        wait_for(Path("run", "metrics.jsonl").exists, process)
        process.send_signal(number)
        out, err = ended(process, 130)
    assert out == ""
    assert "jaxrl: finishing the present stretch, then saving; again to stop now" in err.splitlines()
    assert err.splitlines()[-1] == f"jaxrl: interrupted; go on with: {Path(sys.executable).name} -m jaxrl resume run"
    assert "Traceback" not in err
    whole = [path for path in Path("run", "checkpoints").glob("[0-9]*") if checkpoint.damage(path) is None]
    assert whole
    assert read_rows(Path("run", "metrics.jsonl"))


def test_an_interrupt_before_anything_was_written_says_so(monkeypatch, capsys):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "prepare", interrupt)
    with pytest.raises(SystemExit) as stop:
        cli.main([*TRAIN, "--out", "run"])
    assert stop.value.code == 130
    assert capsys.readouterr().err == "jaxrl: interrupted; nothing was written\n"
    assert not Path("run").exists()
