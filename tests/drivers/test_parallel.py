"""One run over several devices and processes: the result of one device, the same bits after a resume, one set of files.

Devices and processes must stand before JAX starts, so every run here is a process of its own.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import time

import jax
import numpy as np
import pytest

import jaxrl
from helpers import assert_close, assert_same_bits, ended, run_python, started
from jaxrl import parallel
from jaxrl.agents.value.dqn import DQNConfig
from jaxrl.cli import commands as cli
from jaxrl.drivers import processes
from jaxrl.drivers.mesh import gather, place
from jaxrl.drivers.processes import connect
from jaxrl.errors import UsageError
from jaxrl.records import checkpoint
from jaxrl.records.checkpoint import damage
from jaxrl.records.console import say
from jaxrl.records.rows import WALL_CLOCK_FIELDS, read_rows
from jaxrl.runs import train as runs
from jaxrl.runs.definition import Run, read_run
from jaxrl.runs.prepare import prepare
from jaxrl.runs.restore import restore

NETWORK = ("--env", "CartPole-v1", "--num-envs", "4", "--hidden", "8", "--eval-episodes", "2", "--checkpoint-seconds", "0")
ROLLOUTS = (*NETWORK, "--rollout-length", "16", "--total-steps", "640", "--num-rows", "2")
A2C, PPO = ("a2c", *ROLLOUTS), ("ppo", *ROLLOUTS, "--num-minibatches", "2")
DQN = (
    "dqn",
    *NETWORK,
    "--capacity",
    "64",
    "--batch-size",
    "8",
    "--learning-starts",
    "32",
    "--total-steps",
    "80",
    "--num-rows",
    "4",
)
"""10 iterations of A2C and PPO in two rows; 20 of DQN in four, 8 of them warm-up."""

COMMANDS = """
import sys
from pathlib import Path
from jaxrl import cli

for command in Path(sys.argv[1]).read_text().splitlines():
    try:
        cli.main(command.split())
    except SystemExit as stop:
        if stop.code != 2:
            raise
"""

PARTITION = """
import re
import sys
import jax, numpy as np
from jaxrl import make
from jaxrl.agents import load_agent
from jaxrl.config import as_arrays
from jaxrl.drivers.device import device_driver
from jaxrl.drivers.mesh import make_mesh
from jaxrl.loop import plan, run_keys

assert jax.config.jax_threefry_partitionable
make_a2c, config_class = load_agent("a2c")
config = as_arrays(config_class(num_envs=14, rollout_length=5, hidden=(8,)))
env = make("CartPole-v1", 14)
driver = device_driver(make_a2c, env, lambda n: make("CartPole-v1", n), mesh=make_mesh(2, 14))
keys = run_keys(jax.random.key(0))
state = driver.init(keys.init, config, env.params)
assert [leaf.addressable_shards[0].data.shape[0] for leaf in jax.tree.leaves((state.env, state.obs))] == 8 * [7]
assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state.agent))
count = np.int32(1)
progress = plan(config, env.spec, 70).progress(0)
program = driver.advance.lower(keys.train, config, env.params, state, count, count, progress).compile().as_text()
# Per device 7 of 14 environments and 35 of 70 transitions, and the gradients are summed over the devices.
assert re.search(r"f32\\[7,4\\]", program) and not re.search(r"f32\\[14,\\d", program)
assert re.search(r"f32\\[(35|5,7),8\\]", program) and not re.search(r"f32\\[(70|5,14),8\\]", program)
assert re.search(r"f32\\[.*all-reduce\\(", program)
"""


def environment(devices=None):
    kept = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    return kept if devices is None else kept | {"JAX_NUM_CPU_DEVICES": str(devices)}


def rows(folder):
    found = read_rows(folder / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in WALL_CLOCK_FIELDS} for row in found]


def final_state(folder):
    """Read on the one device of this process, whatever the run had."""
    restored = restore(prepare(read_run(folder)), folder, say)
    assert restored is not None
    return restored[0]


def trained(folder, *runs):
    """Runs on one and on two devices, from one process that has two."""
    commands = [
        ["train", *arguments, "--devices", str(devices), "--out", str(folder / f"{arguments[0]}{devices}")]
        for arguments in runs
        for devices in (1, 2)
    ]
    (folder / "commands").write_text("\n".join(" ".join(command) for command in commands))
    run_python("-c", COMMANDS, str(folder / "commands"), env=environment(2))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs"), A2C, DQN)


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("agent", "iterations"), [("a2c", 10), ("dqn", 20), pytest.param("ppo", 10, marks=pytest.mark.slow)])
def test_two_devices_give_the_result_of_one(request, agent, iterations, tmp_path):
    """PPO shuffles what is divided, and takes long to compile."""
    folder = trained(tmp_path, PPO) if agent == "ppo" else request.getfixturevalue("folder")
    one, two = (final_state(folder / f"{agent}{devices}") for devices in (1, 2))
    assert int(two.iteration) == iterations
    assert_close(two.agent, one.agent)
    assert_close(two.env, one.env)
    assert json.loads((folder / f"{agent}2" / "config.json").read_text())["devices"] == 2


def test_stepping_and_gradients_are_divided_and_the_agent_is_everywhere(folder):
    run_python("-c", PARTITION, env=environment(2))


def test_a_run_of_two_devices_resumes_to_the_same_bits(folder, tmp_path):
    """As if it had been killed in its third row; `resume` finds the number of devices in config.json."""
    resumed = tmp_path / "run"
    shutil.copytree(folder / "dqn2", resumed)
    for path in (resumed / "checkpoints").iterdir():
        if int(path.name) > 10:
            shutil.rmtree(path)
    (resumed / "summary.json").unlink()
    _, messages = run_python("-m", "jaxrl", "resume", str(resumed), env=environment())
    assert "resuming at 40 env steps\n" in messages and "goes on with" not in messages
    assert_same_bits(final_state(resumed), final_state(folder / "dqn2"))
    assert rows(resumed) == rows(folder / "dqn2")


def test_a_run_of_two_devices_goes_on_with_one_and_says_so(folder, tmp_path, capsys):
    resumed = tmp_path / "run"
    shutil.copytree(folder / "dqn2", resumed)
    for path in (resumed / "checkpoints").iterdir():
        if int(path.name) > 15:
            shutil.rmtree(path)
    (resumed / "summary.json").unlink()
    runs.resume(resumed)
    assert "this run had 2 devices and goes on with 1: the same up to rounding" in capsys.readouterr().err
    assert_close(final_state(resumed).agent, final_state(folder / "dqn1").agent)


def test_a_run_of_two_devices_is_scored_and_loaded_on_one(folder):
    policy = jaxrl.load(folder / "dqn2")
    assert policy(np.zeros((3, 4), np.float32)).shape == (3,)
    cli.main(["evaluate", str(folder / "a2c2"), "--episodes", "2"])


def test_arrays_go_to_the_mesh_and_come_back_as_they_were():
    """On a mesh of the one device here; keys too."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), (parallel.AXIS,))
    run = Run("dqn", "CartPole-v1", DQNConfig(num_envs=2, hidden=(4,), capacity=8, batch_size=2, learning_starts=4))
    prepared = prepare(run)
    state = prepared.driver.init(prepared.keys.init, prepared.config, prepared.env_params)
    state = state._replace(memory=jax.random.split(jax.random.key(0), 2))
    placed = place(state, mesh, 2)
    assert placed.obs.sharding.spec == placed.memory.sharding.spec == jax.sharding.PartitionSpec(parallel.AXIS)
    assert_same_bits(gather(placed)._replace(memory=()), state._replace(memory=()))
    assert_same_bits(gather(placed).memory, jax.random.key_data(state.memory))


def test_without_a_mesh_nothing_is_divided():
    text = jax.jit(lambda x: parallel.replicate(parallel.divide(x, 0))).lower(np.zeros(4)).as_text()
    assert "sharding" not in text


# --- processes --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def two_processes(*words):
    """A command of a run in two processes, process 0 first."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    common = ("-m", "jaxrl", *words, "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id")
    with started(*common, "0", env=environment()) as first, started(*common, "1", env=environment()) as second:
        yield first, second


def until(seen, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not seen() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert seen()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run of two processes, and what these wrote."""
    out = tmp_path_factory.mktemp("runs") / "processes"
    with two_processes("train", *A2C, "--out", str(out)) as pair:
        return out, [ended(process) for process in pair]


def test_two_processes_give_the_result_of_one_and_write_one_set_of_files(folder, undisturbed):
    out, [(shown0, said0), (shown1, said1)] = undisturbed
    assert "640 of 640 env steps" in said0 and str(out / "summary.json") in shown0
    assert "env steps" not in said1 + shown1
    names = {"config.json", "metrics.jsonl", "summary.json", "checkpoints", "curve.png", ".lock"}
    assert {path.name for path in out.iterdir()} == names
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"5", "10"}
    assert len(rows(out)) == 3
    assert_close(final_state(out).agent, final_state(folder / "a2c1").agent)
    assert_close(final_state(out).env, final_state(folder / "a2c1").env)


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [[0], [1]])
def test_a_signal_to_one_of_two_processes_while_they_compile_stops_both_and_resume_ends_as_if_it_never_was(
    undisturbed, tmp_path, signalled
):
    out = tmp_path / "run"
    with two_processes("train", *A2C, "--out", str(out)) as pair:
        until((out / "config.json").exists)
        for index in signalled:
            pair[index].send_signal(signal.SIGTERM)
        said = [ended(process, 130)[1] for process in pair]
    assert all("jaxrl: interrupted; go on with: " in err and "Terminating" not in err for err in said)
    assert damage(out / "checkpoints" / "0") is None
    with two_processes("resume", str(out)) as pair:
        [(_, said), _] = [ended(process) for process in pair]
    assert "resuming at 0 env steps" in said
    assert rows(out) == rows(undisturbed[0])
    assert_same_bits(final_state(out), final_state(undisturbed[0]))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "signalled"), [("SIGTERM", 0), ("SIGINT", 1), ("SIGKILL", 0), ("SIGKILL", 1)])
def test_a_signal_to_one_of_two_processes_amid_training_ends_both_and_resume_goes_on(tmp_path, number, signalled):
    """Both stop at the same step, where the first saves; SIGKILL leaves the last timed checkpoint, and the other says so."""
    out = tmp_path / "run"
    long = (*A2C, "--total-steps", "64000000", "--num-rows", "500000")
    with two_processes("train", *long, "--out", str(out)) as pair:
        until(lambda: (out / "metrics.jsonl").exists() and len((out / "metrics.jsonl").read_text().splitlines()) > 3)
        pair[signalled].send_signal(getattr(signal, number))
        ended(pair[signalled], -9 if number == "SIGKILL" else 130)
        _, said = ended(pair[1 - signalled], 1 if number == "SIGKILL" else 130)
    assert f"resume {out}" in said and "Traceback" not in said
    saved = checkpoint.iterations(out / "checkpoints")
    assert all(damage(out / "checkpoints" / str(iteration)) is None for iteration in saved)
    if number != "SIGKILL":
        assert saved[0] * 64 >= rows(out)[-1]["env_steps"]
    with two_processes("resume", str(out), "--total-steps", str((saved[0] + 10) * 64)) as pair:
        [(_, said), _] = [ended(process) for process in pair]
    assert f"resuming at {saved[0] * 64:,} env steps" in said
    assert int(final_state(out).iteration) == saved[0] + 10


# --- messages ---------------------------------------------------------------------------------------------------------


def refusal(*arguments):
    """The one line that the command line answers with exit code 2."""
    with pytest.raises(UsageError) as caught:
        cli._run(["train", *arguments])
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--devices", "3"), r"devices=3 does not divide num_envs=4; give a divisor such as 2, or other num_envs"),
        (("--devices", "-1"), r"devices=-1 is out of range; give a value at least 0"),
        (("--devices", "two"), r"devices='two' is not of type int; give one such as 1"),
        (("--num-processes", "2"), r"num_processes=2 needs a coordinator; give --coordinator HOST:PORT as well"),
        (("--coordinator", "auto", "--process-id", "0"), r"process_id=0 needs a coordinator; .*"),
        (("--coordinator", "here"), r"coordinator='here' is not HOST:PORT; .*"),
        (("--coordinator", "a:1"), r"num_processes is missing; .*"),
        (("--coordinator", "a:1", "--num-processes", "2"), r"process_id is missing; .*"),
        (("--coordinator", "a:1", "--num-processes", "0", "--process-id", "0"), r"num_processes=0 is out of range; .*"),
        (
            ("--coordinator", "a:1", "--num-processes", "2", "--process-id", "2"),
            r"process_id=2 is out of range; give 0 .*",
        ),
    ],
)
def test_bad_input_costs_one_line_and_writes_nothing(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    assert re.fullmatch(message + r"(; see .*)?", refusal(*PPO, "--out", str(tmp_path / "run"), *arguments))
    assert not (tmp_path / "run").exists()


def test_more_devices_than_there_are_are_refused(tmp_path, monkeypatch):
    """Here JAX has started with one."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    line = refusal(*PPO, "--out", str(tmp_path / "run"), "--devices", "2")
    assert line == "devices=2 exceeds the 1 cpu device(s) that JAX finds here; give at most 1"
    assert not (tmp_path / "run").exists()


def test_host_environments_and_debug_are_refused_on_several_devices(tmp_path):
    out = tmp_path / "run"
    common = f"train a2c --num-envs 2 --rollout-length 8 --devices 2 --out {out} --env"
    (tmp_path / "commands").write_text(f"{common} gymnasium/CartPole-v1\n{common} CartPole-v1 --debug\n")
    _, told = run_python("-c", COMMANDS, str(tmp_path / "commands"), env=environment(2))
    host, debug = told.splitlines()
    assert re.fullmatch("jaxrl: env=gymnasium/CartPole-v1 runs on the host and cannot be divided over 2 devices; .*", host)
    assert debug.startswith("jaxrl: debug=True looks for the first NaN on one device, not on 2; ")
    assert not out.exists()


def test_a_coordinator_that_does_not_answer_or_whose_port_is_taken_costs_one_line(monkeypatch):
    monkeypatch.setattr(processes, "CONNECT_SECONDS", 0)
    with socket.create_server(("", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(UsageError, match=rf"coordinator=localhost:{taken}: port {taken} .*; give a free one"):
            connect(f"localhost:{taken}", 2, 0)
    with pytest.raises(UsageError, match=r"does not answer \(Connection refused\); start process 0 there"):
        connect(f"localhost:{taken}", 2, 1)
