"""What follows the pure `jaxrl.train`: scores, policies and folders of results, vmapped or not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from helpers import assert_same_bits
from jaxrl.agents import A2CConfig, make_a2c, make_dqn
from jaxrl.errors import UsageError
from jaxrl.records.rows import read_rows
from jaxrl.runs import train as runs

RATES = (1e-6, 0.03)
STEPS = 2_000
CONFIG = A2CConfig(num_envs=4, rollout_length=5, hidden=(8,), gamma=0.5)


class Case(NamedTuple):
    env: jaxrl.Env
    result: object


@pytest.fixture(scope="module")
def case():
    """Two learning rates as one vmapped result, where action 1 is right."""
    env = jaxrl.make("probe/action", 4)

    def run(rate):
        return jaxrl.train(jax.random.key(3), A2CConfig(**{**vars(CONFIG), "learning_rate": rate}), make_a2c, env, STEPS, 3)

    return Case(env, jax.jit(jax.vmap(run))(jnp.array(RATES)))


def test_each_run_of_a_vmapped_result_is_scored(case):
    scores = jaxrl.evaluate(jax.random.key(0), case.result, make_a2c, case.env, num_episodes=10)
    assert scores["episodes"].tolist() == [12, 12] and scores["unfinished"].tolist() == [0, 0]
    one = jaxrl.evaluate(jax.random.key(0), case.result, make_a2c, case.env, num_episodes=10, index=1)
    assert one == {"episodes": 12, "mean": scores["mean"][1], "std": scores["std"][1], "unfinished": 0}
    assert one["mean"] == 1.0


def test_a_result_acts_as_its_networks_say(case):
    policy = jaxrl.policy(case.result, make_a2c, case.env, index=1)
    np.testing.assert_array_equal(policy(np.zeros((2, 1), np.float32)), [1, 1])
    assert "make_a2c" in repr(policy)
    assert len(repr(case.result)) < 400


def test_a_result_is_saved_as_a_run_of_its_own_and_nothing_is_trained_for_it(case, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "advance", None)
    saved = jaxrl.save(case.result, str(tmp_path / "a"), "a2c", "probe/action", seed=3, index=1, eval_episodes=4)
    assert saved.summary["evaluation"] == {"episodes": 4, "mean": 1.0, "std": 0.0} and saved.summary["env_steps"] == STEPS
    assert [row["env_steps"] for row in saved.rows] == [*np.asarray(case.result.rows["env_steps"][1]), STEPS]
    assert saved.rows[0]["return_mean"] == pytest.approx(case.result.rows["return_mean"][1, 0].item(), rel=1e-6)
    assert_same_bits(saved.policy().params, jax.tree.map(lambda leaf: leaf[1], case.result.state.agent.policy))
    assert '"learning_rate": 0.03,' in (saved.folder / "config.json").read_text()
    told = capsys.readouterr().err
    assert "resuming" not in told and "compiling" not in told


@pytest.mark.slow
def test_a_saved_result_trains_on(case, tmp_path):
    folder = jaxrl.save(case.result, tmp_path / "a", "a2c", "probe/action", seed=3, index=0, eval_episodes=4).folder
    summary = jaxrl.resume(str(folder), total_steps=3 * STEPS)
    assert summary["env_steps"] == 3 * STEPS
    steps = [row["env_steps"] for row in read_rows(folder / "metrics.jsonl") if row["kind"] == "train"]
    assert steps[:3] == np.asarray(case.result.rows["env_steps"][0]).tolist() and steps[-1] == 3 * STEPS


def test_arguments_of_another_kind_are_told_in_one_line(case, tmp_path):
    key, runs, env, other = jax.random.key(0), case.result, case.env, jaxrl.make("CartPole-v1", 4)
    for result, make_agent, where, more, what in (
        (runs, make_dqn, env, {}, "config=A2CConfig has no epsilon_start, which agent=make_dqn reads; give a DQNConfig"),
        (runs, "a2c", env, {}, "make_agent='a2c' is of type str; give the function itself"),
        (runs, make_a2c, other, {}, "make_agent=.*, env=Env.*: the networks in the result are of others"),
        (runs, make_a2c, "probe/action", {}, "env='probe/action' is of type str; give what jaxrl.make"),
        (runs.state, make_a2c, env, {}, "result=RunState.* give what jaxrl.train returned"),
        (runs, make_a2c, env, {"index": slice(1)}, "index=slice.* is no index of one run"),
        (runs, make_a2c, env, {"index": 1.0}, "index=1.0 is no index of one run"),
    ):
        with pytest.raises(UsageError, match=f"^{what}"):
            jaxrl.evaluate(key, result, make_agent, where, 4, **more)
        with pytest.raises(UsageError, match=f"^{what}"):
            jaxrl.policy(result, make_agent, where, **{"index": 1, **more})
    for wrong_key, num in ((0, 4), (key, 4.0), (key, 0), (None, 4)):
        with pytest.raises(UsageError, match=r"^(key|num_episodes)=.*; give"):
            jaxrl.evaluate(wrong_key, runs, make_a2c, env, num)
    assert jaxrl.policy(runs, make_a2c, env, index=jnp.int32(1)).normalized([[0.0]]).tolist() == [1]
    for more, what in (
        ({"agent": make_a2c}, "agent=<function make_a2c.*; give its name as text, such as 'dqn' or 'jaxrl.agents.*:make_a2c'"),
        ({"env": env}, "env=Env.*; give its name as text"),
        ({"foo": 1}, "unknown field of jaxrl.Run 'foo'"),
        ({"total_steps": 80}, "total_steps is that of the result; leave it out"),
        ({"seed": 1.5}, "seed=1.5 is no whole number"),
        ({"index": "1"}, "index='1' is no index of one run"),
        ({"folder": None}, "folder=None is of type NoneType; give a path"),
    ):
        with pytest.raises(UsageError, match=f"^{what}"):
            jaxrl.save(runs, **{"folder": tmp_path / "a", "agent": "a2c", "env": "probe/action", "index": 1, **more})
    assert not (tmp_path / "a").exists()


def test_what_was_not_trained_is_not_saved(case, tmp_path):
    for index, agent, what in ((None, "a2c", "2 runs"), (2, "a2c", "2 runs"), (1, "ppo", "give a PPOConfig")):
        with pytest.raises(UsageError, match=what):
            jaxrl.save(case.result, tmp_path / "a", agent, "probe/action", index=index)
    assert not (tmp_path / "a").exists()
