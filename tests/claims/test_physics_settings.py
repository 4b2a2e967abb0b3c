"""Settings that Brax and MuJoCo Playground publish: what they are here, whom they are for, and that `--tuned` takes them."""

import json

import numpy as np
import pytest

import jaxrl
from jaxrl.agents import load_agent
from jaxrl.claims import advised, all_claims, physics, tuned
from jaxrl.claims.claim import Settings
from jaxrl.claims.settings import taken, tuned_claim
from jaxrl.config import check_config
from jaxrl.envs import ENVS, resolve
from jaxrl.envs.tools.playground_tasks import CONTROL_SUITE
from jaxrl.errors import UsageError


def test_the_unrolls_of_brax_are_steps_of_an_iteration():
    """Ant: 2048 * 32 unrolls of 5 steps in 4096 environments are 16 unrolls, 80 steps, of each; a minibatch has 2048."""
    config = jaxrl.tuned_config("ppo", "brax/ant", {"backend": "spring"})
    assert (config.num_envs, config.rollout_length, config.num_minibatches, config.num_epochs) == (4096, 80, 32, 4)
    assert config.num_envs * config.rollout_length / config.num_minibatches == 2048 * 5
    assert (config.reward_scaling, config.gamma, config.entropy_coef, config.clip) == (10.0, 0.97, 1e-2, 0.3)
    assert config.max_grad_norm is None and config.learning_rate_end_share == 1.0
    np.testing.assert_allclose(np.exp(config.log_std_init), np.log1p(np.exp(0.0)), atol=0.005)
    # Brax halves the squared error twice; `value_coef` weighs half of it.
    assert config.value_coef * 0.5 == 0.5 * 0.5


@pytest.mark.parametrize("settings", physics.SETTINGS, ids=lambda settings: settings.name)
def test_settings_are_for_an_environment_that_there_is_and_fit_the_agent(settings):
    family, name = resolve(settings.env)
    assert name in ENVS[family]
    check_config(load_agent(settings.agent)[1](**settings.config))
    assert tuned(settings.agent, settings.env, settings.env_options) is settings


def test_of_an_environment_and_its_options_there_is_one():
    settings = [found for found in advised() if isinstance(found, Settings)]
    places = [(c.agent, c.env, json.dumps(dict(c.env_options), sort_keys=True)) for c in advised()]
    names = [found.name for found in (*all_claims().values(), *settings)]
    assert len(places) == len(set(places)) and len(names) == len(set(names))


def test_what_was_taken_names_its_source():
    settings = tuned_claim("ppo", "brax/inverted_pendulum", {})
    line = taken(settings, jaxrl.tuned_config("ppo", "brax/inverted_pendulum"), settings.total_steps)
    assert line.startswith("tuned by settings of Brax 0.14, notebooks/training.ipynb: num_envs=2048 rollout_length=80 ")
    assert "max_grad_norm=none" in line and "total_steps=2000000" in line


def test_where_there_are_none_the_families_are_named():
    with pytest.raises(
        UsageError, match=r"no claim is about agent=ppo in env=brax/hopper; ppo has one for .*most of brax, most of"
    ):
        tuned_claim("ppo", "brax/hopper", {})


@pytest.mark.parametrize("name", CONTROL_SUITE)
def test_those_of_playground_are_what_the_package_has(name):
    params = pytest.importorskip("mujoco_playground.config.dm_control_suite_params")
    theirs, ours = params.brax_ppo_config(name), tuned("ppo", f"playground/{name}", {})
    wanted = physics.brax_ppo(
        num_envs=theirs.num_envs,
        unroll=theirs.unroll_length,
        batch=theirs.batch_size,
        minibatches=theirs.num_minibatches,
        passes=theirs.num_updates_per_batch,
        discount=theirs.discounting,
        rate=theirs.learning_rate,
        entropy=theirs.entropy_cost,
        reward=theirs.reward_scaling,
    )
    assert (ours.config, ours.total_steps, theirs.action_repeat) == (wanted, theirs.num_timesteps, 1)
