"""The attention model along several paths of glimpses at once, as an evaluation may ask: `samples`."""

import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest

import jaxrl
from helpers import progress_at, write_images
from jaxrl.agents.attention.ram import RAMConfig, make_ram, networks_of
from jaxrl.agents.policy_gradient.ppo import PPOConfig, make_ppo
from jaxrl.config import as_arrays
from jaxrl.drivers.evaluate import acting_in, episode_scores
from jaxrl.envs import make
from jaxrl.errors import UsageError
from jaxrl.loop import build_in
from jaxrl.nets.glimpse import Glimpse
from jaxrl.runs.definition import Run
from jaxrl.runs.train import start
from jaxrl.runs.trained import episode_pictures, load, score
from jaxrl.types import spec_zeros

CONFIG = RAMConfig(num_envs=4, units=8, glimpse_units=4)
OPTIONS = {"num_glimpses": 3, "size": 4, "num_scales": 2}
NUM_TEST, KEY = 23, jax.random.key(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    random = np.random.default_rng(0)
    train, test = (random.integers(0, 256, (number, 12, 12), np.uint8) for number in (12, NUM_TEST))
    return write_images(tmp_path_factory.mktemp("images"), train, test)


@pytest.fixture(autouse=True)
def _images(images, monkeypatch):
    monkeypatch.setenv("JAXRL_DATA_DIR", str(images))


def made(num_envs, **options):
    return make("glimpse/mnist", num_envs, **OPTIONS | options)


def agents(config=CONFIG, **options):
    """The agent as it is trained, and as it acts in an evaluation with these options."""
    env, config = made(config.num_envs), as_arrays(config)
    return build_in(make_ram, config, env), acting_in(make_ram, config, env, made(1, **{"split": "test"} | options).spec)


@pytest.mark.parametrize("core", ["rnn", pytest.param("lstm", marks=pytest.mark.slow)])
def test_several_paths_are_each_what_one_would_be_and_their_probabilities_are_averaged(core):
    config, env, progress = as_arrays(RAMConfig(num_envs=4, units=8, glimpse_units=4, core=core)), made(4), progress_at(0, 1)
    alone, together = agents(config, samples=5)
    networks, params = networks_of(config, env.spec), alone.init(KEY).policy
    # Larger weights of the classifier, so that averaging probabilities and averaging logits differ.
    params = params | {"classifier": jax.tree.map(lambda leaf: 20 * leaf, params["classifier"])}
    random = np.random.default_rng(1)
    shapes = spec_zeros(env.spec.obs, (3, 4, 5))
    glimpses = jax.tree.map(lambda leaf: random.uniform(-1, 1, leaf.shape).astype(np.float32), shapes)
    act_together, act_alone = (jax.jit(partial(agent.act, explore=False)) for agent in (together, alone))
    said = jax.jit(networks.heads)
    memory, memories = together.initial_memory(4), [alone.initial_memory(4) for _ in range(5)]
    for time in range(3):
        seen = Glimpse(glimpses.patches[time], glimpses.location[time])
        action, memory, _ = act_together(KEY, params, memory, seen, progress)
        probabilities = 0.0
        for path in range(5):
            obs = Glimpse(seen.patches[:, path], seen.location[:, path])
            one, memories[path], _ = act_alone(KEY, params, memories[path], obs, progress)
            np.testing.assert_allclose(action.location[:, path], one.location, atol=1e-6)
            features = memories[path] if core == "rnn" else memories[path][1]
            logits = np.asarray(said(params, features).logits, float)
            probabilities = probabilities + np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        np.testing.assert_array_equal(action.label, probabilities.argmax(-1))


@pytest.mark.parametrize("options", [{"samples": 5}, {"samples": 5, "num_glimpses": 2}, {"num_glimpses": 5}])
def test_a_policy_is_scored_with_more_paths_and_other_numbers_of_glimpses_each_picture_once(options):
    alone, agent = agents(**options)
    params, env = alone.init(KEY).policy, made(5, split="test", **options)
    scores = jax.jit(lambda p: episode_scores(KEY, agent, env._replace(params=p), params, progress_at(0, 1), 5))(env.params)
    assert scores.counts.sum() == NUM_TEST and set(np.asarray(scores.returns).tolist()) <= {0.0, 1.0}


def test_what_the_networks_do_depend_on_may_not_differ():
    with pytest.raises(UsageError, match=r"eval_env_options: obs is .*\(3, 3, 2\).* there and .*\(4, 4, 2\).* in training"):
        agents(size=3)
    with pytest.raises(UsageError, match="eval_env_options: obs is"):
        agents(samples=5, num_scales=1)


def test_another_agent_does_not_take_an_axis_of_samples():
    with pytest.raises(UsageError, match="eval_env_options: obs is"):
        acting_in(make_ppo, as_arrays(PPOConfig(num_envs=4)), made(4), made(1, split="test", samples=5).spec)


@pytest.mark.slow
def test_runs_and_sweeps_are_scored_along_several_paths(tmp_path):
    run = Run("ram", "glimpse/mnist", CONFIG, total_steps=96, num_rows=1, env_options=OPTIONS, eval_env_options={"samples": 3})
    assert start(run, tmp_path / "run")["evaluation"]["episodes"] == NUM_TEST
    plain = start(dataclasses.replace(run, eval_env_options={}), tmp_path / "plain")["evaluation"]
    assert score(tmp_path / "run", env_options={"samples": 1}) == score(tmp_path / "plain")
    assert plain["episodes"] == NUM_TEST
    assert load(tmp_path / "run").spec == made(4).spec
    assert len(list(episode_pictures(tmp_path / "run", 0))) == 3
    swept = jaxrl.sweep(
        "ram", "glimpse/mnist", seeds=2, total_steps=96, num_rows=1, env_options=OPTIONS, eval_env_options={"samples": 3},
        out=tmp_path / "sweep", num_envs=4, units=8, glimpse_units=4,
    )  # fmt: skip
    assert swept.results.eval_return[0] == json.loads((tmp_path / "run" / "summary.json").read_text())["evaluation"]["mean"]
    assert swept.evaluate(1, env_options={"samples": 2})["episodes"] == NUM_TEST
