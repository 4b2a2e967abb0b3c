"""Evaluation has an environment of its own: other options, other params, another length, in runs, sweeps and from Python."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import DQNConfig
from jaxrl.cli.commands import main
from jaxrl.drivers import evaluate
from jaxrl.runs.definition import Run, read_run
from jaxrl.runs.train import start
from jaxrl.runs.trained import load, score

TINY = {"num_envs": 4, "hidden": (8,), "capacity": 64, "batch_size": 8, "learning_starts": 8}
HERE = "test_evaluation_env:make_pay"

pytestmark = pytest.mark.usefixtures("no_report")


def make_pay(num_envs, pay=1.0, length=3, width=1, finite=0):
    """Episodes of `length` steps, each of which pays `pay`; `finite` of them make an evaluation."""
    spec = jaxrl.Spec(jaxrl.ArraySpec((width,), "float32"), jaxrl.Discrete(2), length)

    def reset(key, params):
        return jnp.int32(0), jnp.zeros(width)

    def step(key, params, time, action):
        return jaxrl.Transition(time + 1, jnp.zeros(width), params["pay"], time + 1 >= length)

    env = jaxrl.batch_env(spec, {"pay": jnp.float32(pay)}, reset, step, num_envs)
    return env._replace(num_episodes=finite or None)


make_pay.evaluation_options = {"finite": 7}  # type: ignore[attr-defined]


def run_of(**options):
    return Run("dqn", HERE, DQNConfig(**TINY), total_steps=80, num_rows=2, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that is paid 1 a step in training and 5 in evaluation, with two snapshots."""
    path = tmp_path_factory.mktemp("evaluation") / "run"
    start(run_of(eval_env_options={"pay": 5.0, "length": 4}, keep_every=24), path)
    return path


def test_a_run_is_scored_in_the_environment_of_its_evaluation(folder):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["training_return"]["mean"] == 3.0
    assert summary["evaluation"] == {"episodes": 7, "mean": 20.0, "std": 0.0}
    protocol = summary["protocol"]
    assert protocol["env_options"] == {"finite": 7, "pay": 5.0, "length": 4}
    assert protocol["other_than_in_training"] == ["finite", "length", "pay"]
    assert read_run(folder).eval_env_options == {"pay": 5.0, "length": 4}
    assert score(folder, 2)["mean"] == 20.0 and score(folder)["episodes"] == 7


def test_snapshots_of_the_policy_are_kept_and_listed(folder):
    assert json.loads((folder / "summary.json").read_text())["snapshots"] == [24, 48, 72]
    first, last = load(folder, env_steps=24), load(folder)
    differ = jax.tree.map(lambda a, b: bool((a != b).any()), first.params, last.params)
    assert any(jax.tree.leaves(differ))
    assert score(folder, 2, env_steps=48)["mean"] == 20.0
    with pytest.raises(jaxrl.UsageError, match=r"env_steps=30 has no snapshot in .*; choose one of: 24, 48, 72"):
        load(folder, env_steps=30)


def test_the_command_line_scores_a_snapshot_elsewhere(folder, capsys):
    main(["evaluate", str(folder), "--at", "24", "--episodes", "3"])
    assert json.loads(capsys.readouterr().out)["mean"] == 20.0


def test_the_environments_of_an_evaluation_are_made_outside_of_its_program():
    made = []

    def make_env(num_envs):
        made.append(int(jnp.sum(jnp.arange(num_envs))))  # Fails while a program is traced.
        return make_pay(num_envs)

    def scores(env, each, scale):
        return evaluate.Scores(scale * jnp.ones(env.num_envs * each), jnp.ones(env.num_envs * each, bool))

    program = evaluate.compiled(scores, make_env)
    assert program(2.0, 3).returns.tolist() == program(2.0, 3).returns.tolist() == [2.0] * 3
    assert program(1.0, 200).returns.shape == (200,)
    assert made == [3, sum(range(100))]


def test_an_environment_in_which_the_policy_cannot_act_is_refused(tmp_path):
    with pytest.raises(jaxrl.UsageError, match=r"eval_env_options: obs is ArraySpec.*; give options that keep it"):
        start(run_of(eval_env_options={"width": 2}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_runs_of_a_sweep_are_scored_with_their_own_physics_elsewhere(tmp_path):
    """Training pays what is swept, evaluation twice as long episodes of it; one program serves all."""
    config = {"num_envs": 4, "rollout_length": 6, "num_minibatches": 2, "num_epochs": 1, "hidden": (8,)}
    result = jaxrl.sweep(
        "ppo",
        "test_evaluation_env:make_static_pay",
        grid={"env.pay": [1.0, 2.0]},
        seeds=2,
        total_steps=48,
        num_rows=1,
        eval_env_options={"length": 6},
        out=tmp_path / "sweep",
        **config,
    )
    assert result.results.final_return.tolist() == [3.0, 3.0, 6.0, 6.0]
    np.testing.assert_allclose(result.results.eval_return, [6.0, 6.0, 12.0, 12.0])
    assert json.loads((tmp_path / "sweep" / "summary.json").read_text())["compilations"] == 1
    assert result.evaluate(3, num_episodes=2)["mean"] == 12.0


def make_static_pay(num_envs, pay=1.0, length=3):
    """As `make_pay`, of which `length` alone is part of the program."""
    return make_pay(num_envs, pay, length)


make_static_pay.static_options = ("length",)  # type: ignore[attr-defined]


def test_a_population_holds_the_params_that_its_runs_share_once(tmp_path):
    """A data set of 10 MB, eight seeds: the compiled program needs one copy of it on the device, not eight."""
    sizes = {}
    for size in (10, 2_500_000):
        sweep = jaxrl.sweep(
            "ppo",
            "test_evaluation_env:make_data",
            env_options={"size": size},
            seeds=8,
            total_steps=8,
            num_rows=1,
            eval_episodes=1,
            out=tmp_path / f"sweep-{size}",
            num_envs=2,
            rollout_length=2,
            num_minibatches=1,
            num_epochs=1,
            hidden=(4,),
        )
        sizes[size] = json.loads((sweep.folder / "summary.json").read_text())["peak_bytes"]
    copies = (sizes[2_500_000] - sizes[10]) / 10e6
    assert 0.9 <= copies / len(jax.devices()) <= 1.1


def make_data(num_envs, size=10):
    """The reward of a step is an entry of a data set in `params`."""
    spec = jaxrl.Spec(jaxrl.ArraySpec((1,), "float32"), jaxrl.Discrete(2), 2)

    def reset(key, params):
        return jnp.int32(0), jnp.zeros(1)

    def step(key, params, time, action):
        return jaxrl.Transition(time + 1, jnp.zeros(1), params[time], time >= 1)

    return jaxrl.batch_env(spec, jnp.arange(size, dtype=jnp.float32), reset, step, num_envs)


def test_a_run_whose_stream_of_random_numbers_has_changed_goes_on_and_says_so_once(tmp_path, capsys):
    folder = tmp_path / "run"
    start(run_of(checkpoint_seconds=0.0), folder)
    (folder / "summary.json").unlink()
    path = folder / "config.json"
    values = json.loads(path.read_text())
    assert values["stream"] == 1
    path.write_text(json.dumps(values | {"stream": 0}))
    capsys.readouterr()
    main(["resume", str(folder)])
    assert "drew its random numbers in another order" in capsys.readouterr().err
    (folder / "summary.json").unlink()
    main(["resume", str(folder)])
    assert "random numbers" not in capsys.readouterr().err


def make_numbers(num_envs, first=0.0, size=50):
    """A data set: an episode is one number and pays it; environment i shows i, i + B, ... and the padding does not count."""
    spec = jaxrl.Spec(jaxrl.ArraySpec((1,), "float32"), jaxrl.Discrete(2), 1)

    def reset(key, params):
        return jnp.int32(-num_envs), jnp.zeros(1)

    def following(key, params, place, index):
        return jnp.where(place < 0, index, place + num_envs), jnp.zeros(1)

    def step(key, params, place, action):
        pays = params.at[place].get(mode="fill", fill_value=1e6)
        return jaxrl.Transition(place, jnp.zeros(1), pays, True, info={"counted": place < size})

    numbers = first + jnp.arange(size, dtype=jnp.float32)
    return jaxrl.batch_env(spec, numbers, reset, step, num_envs, next=following)._replace(num_episodes=size if first else None)


@pytest.mark.parametrize("size", [50, 131])
def test_a_test_set_is_scored_once_whatever_the_number_of_environments(size, tmp_path):
    """131 examples make 66 environments of two, of which the last one is padding worth a million."""
    run = Run("dqn", "test_evaluation_env:make_numbers", DQNConfig(**TINY), {"size": size}, total_steps=40, num_rows=1)
    run = dataclasses.replace(run, eval_env_options={"first": 1000.0})
    summary = start(run, tmp_path / "run")
    assert summary["evaluation"]["episodes"] == size
    assert summary["evaluation"]["mean"] == pytest.approx(1000.0 + (size - 1) / 2)
