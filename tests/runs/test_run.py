"""Runs and their folders: what they leave behind, how they resume, and what happens when something is damaged."""

import contextlib
import dataclasses
import itertools
import json
import re
import shutil
import tokenize
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.checkify import JaxRuntimeError

import jaxrl
from helpers import assert_same_bits
from jaxrl.agents.value.dqn import DQNConfig
from jaxrl.analysis.curves import plot_runs
from jaxrl.errors import UsageError
from jaxrl.records import checkpoint
from jaxrl.records.console import say
from jaxrl.records.folders import LOCK
from jaxrl.records.rows import WALL_CLOCK_FIELDS, read_rows
from jaxrl.runs import advance
from jaxrl.runs import prepare as prepare_module
from jaxrl.runs import train as runs
from jaxrl.runs.definition import Run, config_values, read_run
from jaxrl.runs.prepare import prepare
from jaxrl.runs.restore import restore

CONFIG = DQNConfig(num_envs=4, hidden=(16,), capacity=256, batch_size=16, learning_starts=64)
RUN = Run("dqn", "CartPole-v1", CONFIG, total_steps=2000, eval_episodes=4, num_rows=10, checkpoint_seconds=0.0)
"""500 iterations of 4 env steps, 16 of them warm-up; 10 rows of 50 iterations, a checkpoint after each."""
HOST_RUN = dataclasses.replace(RUN, env="gymnasium/CartPole-v1", total_steps=400, num_rows=4)


def state_and_meta(folder):
    """The newest whole checkpoint of a run."""
    return restore(prepare(read_run(folder)), folder, say)


def final_state(folder):
    return state_and_meta(folder)[0]


def rows(folder, kind=("train", "eval")):
    """Rows of a run without what the clock decides; every line of the file must be whole."""
    found = [row for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if row["kind"] in kind]
    return [{name: value for name, value in row.items() if name not in WALL_CLOCK_FIELDS} for row in found]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupted(finished, folder, last):
    """A copy of a finished run as if it had been killed after its row at iteration `last` + 50, before the checkpoint of it."""
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    (folder / "curve.png").unlink()
    for path in (folder / "checkpoints").iterdir():
        if int(path.name) > last:
            shutil.rmtree(path)
    return folder


def assert_same_end(folder, reference):
    assert_same_bits(final_state(folder), final_state(reference))
    assert rows(folder) == rows(reference)
    ends = [json.loads((path / "summary.json").read_text()) for path in (folder, reference)]
    for name in ("agent", "env", "seed", "status", "env_steps", "evaluation", "training_return"):
        assert ends[0][name] == ends[1][name]


def stop_after(monkeypatch, count, job):
    """Runs a job in stretches of at most 37 iterations; an interrupt comes after so many of them."""

    @contextlib.contextmanager
    def held_back():
        asked = itertools.count(1)
        yield lambda: next(asked) > count

    class Pace(advance.Pace):
        def end(self, begin, end):
            return min(super().end(begin, end), begin + 37)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runs, "held_back", held_back)
        patch.setattr(advance, "Pace", Pace)
        job()


def started_from(monkeypatch):
    """A list that will hold the agent's state and the iteration with which training begins."""
    begun, train = [], runs._train

    def spy(prepared, folder, state, before, profile=False):
        begun.append(jax.device_get((state.agent, state.iteration)))
        return train(prepared, folder, state, before, profile)

    monkeypatch.setattr(runs, "_train", spy)
    return begun


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """An undisturbed run with all its ten checkpoints; tests change copies of it only."""
    folder = tmp_path_factory.mktemp("runs") / "reference"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "KEEP", 100)
        patch.setattr(runs, "plot_runs", plot_runs)
        runs.start(RUN, folder)
    return folder


@pytest.fixture(scope="module")
def host_reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "host"
    runs.start(HOST_RUN, folder)
    return folder


# --- what a run leaves behind -----------------------------------------------------------------------------------------


def test_a_state_larger_than_the_memory_is_refused():
    """A CartPole transition takes 41 bytes."""
    config = dataclasses.replace(CONFIG, capacity=2_000_000_000)
    with pytest.raises(UsageError, match=r"the agent's state takes 82\.0 GB .*; lower capacity"):
        prepare(Run(agent="dqn", env="CartPole-v1", config=config))


def test_a_run_leaves_five_things(reference):
    names = {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "curve.png"}
    assert {path.name for path in reference.iterdir()} == names | {LOCK}
    assert (reference / "curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert {path.name for path in (reference / "checkpoints").iterdir()} == {str(i) for i in range(50, 501, 50)}


def test_only_the_last_three_checkpoints_stay(host_reference):
    assert {path.name for path in (host_reference / "checkpoints").iterdir()} == {"50", "75", "100"}


def test_config_json_rebuilds_the_run_and_names_the_versions(reference):
    assert read_run(reference) == RUN
    versions = json.loads((reference / "config.json").read_text())["versions"]
    assert versions["jaxrl"] == jaxrl.__version__
    assert versions["jax"] == jax.__version__


def test_each_row_counts_env_steps_updates_and_episodes(reference):
    train = [row for row in read_rows(reference / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["env_steps"] for row in train] == list(range(200, 2001, 200))
    assert [row["updates"] for row in train] == [34] + 9 * [50]
    assert all(row["episodes"] > 0 and row["steps_per_second"] > 0 for row in train)
    assert all({"loss", "q_mean", "td_error", "grad_norm", "epsilon", "learning_rate"} <= row.keys() for row in train)
    seconds = [row["wall_seconds"] for row in train]
    assert seconds == sorted(seconds)


def test_a_cartpole_row_pays_one_a_step(reference):
    for row in rows(reference, ("train",)):
        assert row["return_mean"] == pytest.approx(row["length_mean"])


def test_episodes_are_those_that_the_env_steps_hold(reference):
    lived = sum(row["episodes"] * row["length_mean"] for row in rows(reference, ("train",)))
    running = np.asarray(final_state(reference).env.episode_length)
    assert round(lived) + int(running.sum()) == 2000


def test_the_evaluation_row_is_the_last_and_carries_the_greedy_return(reference):
    last = read_rows(reference / "metrics.jsonl")[-1]
    assert (last["kind"], last["env_steps"], last["eval_episodes"], last["eval_unfinished"]) == ("eval", 2000, 4, 0)
    summary = json.loads((reference / "summary.json").read_text())
    assert summary["evaluation"] == {"episodes": 4, "mean": last["eval_return"], "std": last["eval_return_std"]}


def test_summary_says_what_was_run_and_how_fast(reference):
    summary = json.loads((reference / "summary.json").read_text())
    assert (summary["agent"], summary["env"], summary["seed"], summary["status"]) == ("dqn", "CartPole-v1", 0, "ok")
    assert summary["env_steps"] == 2000
    assert 0 < summary["compile_seconds"] < summary["wall_seconds"]
    assert summary["steps_per_second"] > 0


def test_the_training_return_is_the_mean_of_the_last_hundred_episodes(reference):
    state = final_state(reference)
    assert int(state.recent.total) == sum(row["episodes"] for row in rows(reference, ("train",))) >= 100
    score = json.loads((reference / "summary.json").read_text())["training_return"]
    assert score == {"episodes": 100, "mean": pytest.approx(np.asarray(state.recent.returns).mean())}


def test_an_option_of_the_environment_reaches_config_json_training_and_evaluation(tmp_path):
    folder = tmp_path / "run"
    summary = runs.start(dataclasses.replace(RUN, env_options={"max_steps_in_episode": 7}), folder)
    assert json.loads((folder / "config.json").read_text())["env_options"] == {"max_steps_in_episode": 7}
    assert summary["training_return"]["mean"] == 7.0
    assert summary["evaluation"] == {"episodes": 4, "mean": 7.0, "std": 0.0}


def test_a_profile_is_a_trace_of_the_middle_and_changes_nothing(reference, tmp_path, capsys):
    folder = tmp_path / "run"
    runs.start(RUN, folder, profile=True)
    assert len(list((folder / "profile").rglob("*.xplane.pb"))) == 1
    assert f"profile of 50 iterations in {folder / 'profile'}; look at it with: xprof" in capsys.readouterr().err
    assert "profile" not in json.loads((folder / "config.json").read_text())
    assert_same_bits(final_state(folder), final_state(reference))


def test_evaluating_while_training_does_not_change_training(reference, tmp_path):
    folder = tmp_path / "run"
    runs.start(dataclasses.replace(RUN, eval_every=600), folder)
    assert_same_bits(final_state(folder), final_state(reference))
    assert [row["env_steps"] for row in rows(folder, ("eval",))] == [600, 1200, 1800, 2000]


# --- resume -----------------------------------------------------------------------------------------------------------


def test_resume_of_a_finished_run_does_nothing(reference, capsys):
    before = contents(reference)
    assert runs.resume(reference) == json.loads((reference / "summary.json").read_text())
    assert contents(reference) == before
    assert capsys.readouterr().err == f"{reference} is complete; nothing to do\n"


@pytest.mark.parametrize("last", [50, 450, 500])
def test_resume_from_a_checkpoint_is_bit_for_bit_the_undisturbed_run(reference, tmp_path, capsys, last):
    folder = interrupted(reference, tmp_path / "run", last)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "env_st')
    runs.resume(folder)
    assert (f"resuming at {4 * last:,} env steps\n" in capsys.readouterr().err) == (last < 500)  # Nothing is left to train.
    assert_same_end(folder, reference)
    assert (folder / "curve.png").exists()


def test_resume_without_a_checkpoint_starts_again(reference, tmp_path, capsys):
    folder = interrupted(reference, tmp_path / "run", 0)
    runs.resume(folder)
    assert "no whole checkpoint yet: starting again from config.json\n" in capsys.readouterr().err
    assert_same_end(folder, reference)


def test_resume_removes_a_half_written_checkpoint(reference, tmp_path):
    folder = interrupted(reference, tmp_path / "run", 450)
    partial = folder / "checkpoints" / "partial-475"
    shutil.copytree(folder / "checkpoints" / "450" / "state", partial / "state")
    runs.resume(folder)
    assert_same_end(folder, reference)
    assert not partial.exists()


def test_resume_adds_the_seconds_of_earlier_processes(reference, tmp_path):
    folder = interrupted(reference, tmp_path / "run", 450)
    manifest = folder / "checkpoints" / "450" / "manifest.json"
    values = json.loads(manifest.read_text())
    assert not {"wall_seconds", "compile_seconds"} & set(values["meta"])  # They follow from the seconds.
    values["meta"]["seconds"] = {"compile": 300.0, "training": 700.0}
    manifest.write_text(json.dumps(values))
    summary = runs.resume(folder)
    assert 1000 < summary["wall_seconds"] < 1060
    assert 300 < summary["compile_seconds"] < 360


def test_resume_says_that_rows_are_lost_and_goes_on(reference, tmp_path, capsys):
    folder = interrupted(reference, tmp_path / "run", 450)
    (folder / "metrics.jsonl").unlink()
    runs.resume(folder)
    assert "rows are lost" in capsys.readouterr().err
    assert_same_bits(final_state(folder), final_state(reference))
    assert [row["env_steps"] for row in rows(folder)] == [2000, 2000]


# --- damaged checkpoints ----------------------------------------------------------------------------------------------


def largest_file(path):
    return max((file for file in (path / "state").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(path):
    file = largest_file(path)
    file.write_bytes(file.read_bytes()[:-1])


def flip_one_byte(path):
    file = largest_file(path)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def remove_manifest(path):
    (path / "manifest.json").unlink()


def remove_a_file(path):
    largest_file(path).unlink()


def garble_manifest(path):
    (path / "manifest.json").write_text("[1, 2]")


DAMAGES = [truncate, flip_one_byte, remove_manifest, remove_a_file, garble_manifest]


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(reference, tmp_path, capsys, harm):
    folder = interrupted(reference, tmp_path / "run", 450)
    harm(folder / "checkpoints" / "450")
    state, _ = state_and_meta(folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"checkpoint {folder / 'checkpoints' / '450'} is damaged (")
    assert line.endswith("); using the one before it")
    assert int(state.iteration) == 400
    assert_same_bits(state, final_state(interrupted(reference, tmp_path / "before", 400)))


def test_a_run_with_a_damaged_checkpoint_resumes_to_the_same_end(reference, tmp_path, capsys):
    folder = interrupted(reference, tmp_path / "run", 450)
    flip_one_byte(folder / "checkpoints" / "450")
    runs.resume(folder)
    assert "resuming at 1,600 env steps\n" in capsys.readouterr().err
    assert_same_end(folder, reference)


def test_a_run_whose_checkpoints_are_all_damaged_starts_again_and_says_so(reference, tmp_path, capsys):
    folder = interrupted(reference, tmp_path / "run", 150)
    for path in (folder / "checkpoints").iterdir():
        truncate(path)
    runs.resume(folder)
    err = capsys.readouterr().err
    assert err.count("is damaged") == 3
    assert "starting again from config.json\n" in err
    assert_same_end(folder, reference)


def test_a_new_checkpoint_outlives_later_ones_that_were_damaged(tmp_path):
    for iteration in (20, 30, 40):
        checkpoint.save(tmp_path, iteration, {"x": jnp.arange(3)}, {})
        truncate(tmp_path / str(iteration))
    checkpoint.save(tmp_path, 10, {"x": jnp.arange(3) + 7}, {"note": 1})
    restored = checkpoint.restore(tmp_path, lambda meta: {"x": jnp.zeros(3, int)}, print)
    np.testing.assert_array_equal(restored.state["x"], [7, 8, 9])
    assert restored.meta == {"note": 1}


def test_a_checkpoint_of_other_sizes_is_refused_by_name(reference, tmp_path):
    folder = interrupted(reference, tmp_path / "run", 450)
    config = json.loads((folder / "config.json").read_text())
    config["config"]["hidden"] = [8]
    (folder / "config.json").write_text(json.dumps(config))
    # Adam's moments are one vector: 4 * 16 + 16 + 16 * 2 + 2 = 114 parameters against 4 * 8 + 8 + 8 * 2 + 2 = 58.
    with pytest.raises(UsageError, match=r"holds agent/opt_state/mu as \(\(114,\).*this run has \(\(58,\)"):
        runs.resume(folder)


# --- a replay that is left out ----------------------------------------------------------------------------------------


def test_a_replay_above_the_limit_is_left_out_and_refilled_on_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jaxrl.runs.restore.REPLAY_LIMIT", 0)
    runs.start(RUN, tmp_path / "whole")
    folder = interrupted(tmp_path / "whole", tmp_path / "run", 450)
    saved, meta = state_and_meta(folder)
    assert not meta["has_replay"]
    assert int(saved.agent.replay.size) == 0
    begun = started_from(monkeypatch)
    summary = runs.resume(folder)
    ((agent, iteration),) = begun
    assert_same_bits(agent._replace(replay=()), saved.agent._replace(replay=()))
    assert (int(agent.replay.size), int(iteration)) == (64, 450)
    assert "the replay was left out of the checkpoint: refilling it with 64 env steps\n" in capsys.readouterr().err
    assert (summary["env_steps"], summary["status"]) == (2000, "ok")
    assert [row["env_steps"] for row in rows(folder, ("train",))] == list(range(200, 2001, 200))


def test_a_replay_above_the_limit_is_kept_where_it_is_asked_for(reference, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxrl.runs.restore.REPLAY_LIMIT", 0)
    folder = tmp_path / "run"
    runs.start(dataclasses.replace(RUN, checkpoint_replay=True, checkpoint_seconds=1e6), folder)
    assert_same_bits(final_state(folder).agent.replay, final_state(reference).agent.replay)


# --- starting from another run ----------------------------------------------------------------------------------------


def test_init_from_starts_from_the_learned_weights_with_an_empty_replay(reference, tmp_path, monkeypatch):
    begun = started_from(monkeypatch)
    runs.start(dataclasses.replace(RUN, init_from=str(reference), seed=1), tmp_path / "run")
    ((agent, iteration),) = begun
    assert_same_bits(agent._replace(replay=()), final_state(reference).agent._replace(replay=()))
    assert (int(agent.replay.size), int(iteration)) == (0, 0)


def test_init_from_is_kept_as_a_path_that_holds_anywhere(reference, tmp_path, monkeypatch):
    monkeypatch.chdir(reference.parent)
    run = dataclasses.replace(RUN, init_from=reference.name)
    assert config_values(run)["init_from"] == str(reference)


@pytest.mark.parametrize(
    "changes", [{"config": dataclasses.replace(CONFIG, hidden=(8,))}, {"env": "Acrobot-v1"}], ids=["hidden", "env"]
)
def test_init_from_refuses_networks_of_another_size_and_writes_nothing(reference, tmp_path, changes):
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match="its networks do not fit"):
        runs.start(dataclasses.replace(RUN, init_from=str(reference), **changes), folder)
    assert not folder.exists()


def test_init_from_a_run_without_a_checkpoint_is_refused(reference, tmp_path):
    bare = interrupted(reference, tmp_path / "bare", 0)
    with pytest.raises(UsageError, match="no whole checkpoint yet"):
        runs.start(dataclasses.replace(RUN, init_from=str(bare)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- host environments ------------------------------------------------------------------------------------------------


def test_a_host_environment_trains(host_reference):
    summary = json.loads((host_reference / "summary.json").read_text())
    assert (summary["env_steps"], summary["evaluation"]["episodes"], summary["status"]) == (400, 4, "ok")
    assert [row["updates"] for row in rows(host_reference, ("train",))] == [9, 25, 25, 25]


def test_a_host_run_resumes_with_new_episodes_and_exactly_the_checkpoints_agent(host_reference, tmp_path, monkeypatch, capsys):
    folder = interrupted(host_reference, tmp_path / "run", 75)
    saved = final_state(folder)
    begun = started_from(monkeypatch)
    summary = runs.resume(folder)
    ((agent, iteration),) = begun
    assert_same_bits(agent, jax.device_get(saved.agent))
    assert int(iteration) == 75
    line = "host environments cannot be saved: the agent is restored exactly, its episodes begin anew\n"
    assert line in capsys.readouterr().err
    assert summary["env_steps"] == 400
    assert rows(folder)[:3] == rows(host_reference)[:3]


# --- the trained policy -----------------------------------------------------------------------------------------------


def greedy(params, obs):
    """The action of the greater value, computed with NumPy: one ReLU layer, one linear layer."""
    first, last = params["params"]["MLP_0"]["Dense_0"], params["params"]["Dense_0"]
    hidden = np.maximum(obs @ np.asarray(first["kernel"]) + np.asarray(first["bias"]), 0.0)
    return np.argmax(hidden @ np.asarray(last["kernel"]) + np.asarray(last["bias"]), axis=-1)


@pytest.mark.parametrize("num_obs", [1, 64])
def test_load_gives_the_final_policy_as_a_function_of_batches(reference, num_obs):
    policy = jaxrl.load(reference)
    obs = np.random.default_rng(0).normal(size=(num_obs, 4)).astype(np.float32)
    action = np.asarray(policy(obs))
    assert (action.shape, action.dtype) == ((num_obs,), np.int32)
    np.testing.assert_array_equal(action, greedy(final_state(reference).agent.policy, obs))


def test_load_of_a_host_run_gives_its_policy(host_reference):
    obs = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    expected = greedy(final_state(host_reference).agent.policy, obs)
    np.testing.assert_array_equal(jaxrl.load(host_reference)(obs), expected)


def test_load_of_a_run_without_a_checkpoint_says_how_to_get_one(reference, tmp_path):
    folder = interrupted(reference, tmp_path / "run", 0)
    with pytest.raises(UsageError, match=f"go on with: jaxrl resume {re.escape(str(folder))}"):
        jaxrl.load(folder)


# --- NaN --------------------------------------------------------------------------------------------------------------

DIVERGING = dataclasses.replace(RUN, config=dataclasses.replace(CONFIG, learning_rate=1e30))


def test_a_run_that_becomes_nan_says_so_once_and_is_marked(tmp_path, capsys):
    summary = runs.start(DIVERGING, tmp_path / "run")
    assert summary["status"] == "nan"
    assert capsys.readouterr().err.count("metrics became NaN before 200 env steps; --debug finds where\n") == 1
    assert rows(tmp_path / "run")[-2]["loss"] is None


def test_debug_stops_at_the_first_nan_and_names_its_line(tmp_path):
    with pytest.raises(JaxRuntimeError, match=r"nan generated by primitive: \w+\. \S+\.py:\d+: \S+") as error:
        runs.start(dataclasses.replace(DIVERGING, debug=True), tmp_path / "run")
    name, line, source = re.search(r"(\S+\.py):(\d+): (.*)", str(error.value)).groups()
    assert Path(name).is_relative_to(Path(jaxrl.__file__).parent)
    assert Path(name).read_text().splitlines()[int(line) - 1].strip() == source
    assert not (tmp_path / "run" / "summary.json").exists()


# --- safety -----------------------------------------------------------------------------------------------------------


def test_nothing_in_the_package_pickles():
    for path in Path(jaxrl.__file__).parent.rglob("*.py"):
        with path.open("rb") as file:
            names = {token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.NAME}
        assert not {name for name in names if "pickle" in name or name in ("dill", "joblib", "marshal", "shelve")}, path


# --- interrupts -------------------------------------------------------------------------------------------------------


def test_a_run_interrupted_in_the_midst_of_rows_ends_as_if_it_never_was(reference, tmp_path, monkeypatch, capsys):
    folder, run = tmp_path / "run", dataclasses.replace(RUN, checkpoint_seconds=30.0)
    stop_after(monkeypatch, 2, lambda: runs.start(run, folder))
    assert checkpoint.iterations(folder / "checkpoints") == [9] and not (folder / "metrics.jsonl").exists()
    stop_after(monkeypatch, 8, lambda: runs.resume(folder))
    assert len(rows(folder)) > 1
    runs.resume(folder)
    assert "resuming at 36 env steps" in capsys.readouterr().err
    assert_same_end(folder, reference)


# --- compiled once ----------------------------------------------------------------------------------------------------


def test_a_run_of_the_same_program_in_one_process_has_its_compiled_driver():
    driver = prepare(RUN).driver
    config = dataclasses.replace(CONFIG, learning_rate=0.1)
    options = {"gravity": 12.0}
    assert prepare(dataclasses.replace(RUN, seed=3, total_steps=99_000, config=config, env_options=options)).driver is driver
    for changes in ({"env": "Acrobot-v1"}, {"config": dataclasses.replace(CONFIG, num_envs=8)}, {"debug": True}):
        assert prepare(dataclasses.replace(RUN, **changes)).driver is not driver


def test_the_program_of_an_own_environment_is_not_kept(monkeypatch, tmp_path):
    (tmp_path / "own_kept.py").write_text(
        "import jaxrl\ndef make_env(num_envs):\n    return jaxrl.make('CartPole-v1', num_envs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = dataclasses.replace(RUN, env="own_kept:make_env")
    assert prepare(run).driver is not prepare(run).driver


def test_a_checkpoint_is_read_without_the_program_that_began_the_run(reference, monkeypatch):
    def never(*arguments):
        raise AssertionError("compiled")

    make = prepare_module.device_driver
    monkeypatch.setattr(prepare_module, "device_driver", lambda *arguments: make(*arguments)._replace(init=never))
    assert jaxrl.load(reference)(np.zeros((3, 4), np.float32)).shape == (3,)
