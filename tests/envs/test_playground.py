"""MuJoCo Playground: the states of its own step, episodes of ours, options, what is not installed. Where playground is."""

from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import ENVS, make
from jaxrl.envs.tools.physics import simulation_of
from jaxrl.errors import UsageError

package = pytest.importorskip("mujoco_playground")

NAME, NUM_ENVS = "CartpoleBalance", 2


@cache
def played():
    """(first state, TimeStep, state, TimeStep, state) of two steps, the second of which ends the episodes."""
    env = make(f"playground/{NAME}", NUM_ENVS, time_limit=2)

    @jax.jit
    def run(params, action):
        first, _ = env.reset(jax.random.key(0), params)
        state, one = env.step(jax.random.key(1), params, first, action)
        last, two = env.step(jax.random.key(2), params, state, action)
        return first, one, state, two, last

    return env, run(env.params, jnp.array([[0.5], [-0.25]]))


def test_the_static_table_is_what_playground_registers():
    assert set(ENVS["playground"]) == set(package.registry.ALL_ENVS)


def test_a_step_leads_where_playground_itself_leads():
    _, (first, one, state, _, _) = played()
    task = package.registry.load(NAME, config_overrides={"impl": "jax"})
    key = jax.random.split(jax.random.key(0), NUM_ENVS)[1]
    begun = jax.jit(task.reset)(jax.random.key_data(key))
    moved = jax.jit(task.step)(begun, jnp.array([-0.25]))
    for ours, theirs in ((simulation_of(first), begun), (simulation_of(state), moved)):
        np.testing.assert_allclose(ours.obs[1], theirs.obs, rtol=1e-5, atol=1e-6)
        for name in ("qpos", "qvel", "xpos", "ctrl", "time"):
            np.testing.assert_allclose(getattr(ours.data, name)[1], getattr(theirs.data, name), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.next_obs[1], moved.obs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.reward[1], moved.reward, rtol=1e-5)
    assert not one.terminated.any() and not one.truncated.any()


def test_the_time_limit_truncates_and_the_next_episode_begins_afresh():
    _, (first, _, _, two, last) = played()
    assert two.truncated.all() and not two.terminated.any() and not np.allclose(two.next_obs, two.obs)
    starts = np.concatenate([simulation_of(first).data.qpos, simulation_of(last).data.qpos])
    assert np.abs(starts).max() <= 0.1 and len(np.unique(starts[:, 0])) == 2 * NUM_ENVS
    np.testing.assert_array_equal(simulation_of(last).obs, two.obs)


def test_the_limit_is_that_of_the_config_unless_it_is_given():
    assert make("playground/PendulumSwingup", 1).spec.time_limit == 1000
    assert played()[0].spec.time_limit == 2


def test_robots_that_are_not_installed_are_not_fetched(monkeypatch, tmp_path):
    from mujoco_playground._src import mjx_env

    monkeypatch.setattr(mjx_env, "MENAGERIE_PATH", tmp_path / "robots")
    monkeypatch.setattr(mjx_env, "_clone_with_progress", lambda *args: pytest.fail("it was fetched"))
    with pytest.raises(
        UsageError, match=r"env='playground/Go1Getup' needs the robots of MuJoCo Menagerie.* not downloaded"
    ) as error:
        make("playground/Go1Getup", 1)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"impl": "bullet"}, "impl='bullet' is unknown; choose one of jax, warp"),
        ({"ctrl_dt": "long"}, "ctrl_dt='long' does not fit; give a value like 0.01"),
        ({"sim_dt": 0.0}, "sim_dt=0.0 is out of range"),
        ({"vision": True}, "unknown option of playground/CartpoleBalance 'vision'"),
        ({"friction": 1.0}, "unknown option of playground/CartpoleBalance 'friction'"),
        ({"action_repeat": 0}, "action_repeat=0 is out of range"),
    ],
)
def test_a_bad_option_costs_one_line(options, message):
    with pytest.raises(UsageError, match=message) as error:
        make(f"playground/{NAME}", 1, **options)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="where there is a GPU, Warp runs")
def test_warp_without_a_gpu_is_refused():
    with pytest.raises(UsageError, match="impl='warp' needs an NVIDIA GPU"):
        make(f"playground/{NAME}", 1, impl="warp")


def test_an_episode_is_drawn():
    env, (first, *_) = played()
    picture = env.render(env.params, first, 0)
    assert picture.shape == (320, 480, 3) and picture.dtype == np.uint8 and len(np.unique(picture)) > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", package.dm_control_suite.ALL_ENVS)
def test_every_task_of_the_control_suite_is_made_and_its_step_traced(name):
    env = make(f"playground/{name}", 2)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0), env.params)
    _, timestep = jax.eval_shape(env.step, jax.random.key(0), env.params, state, jnp.zeros((2, *env.spec.action.shape)))
    assert timestep.reward.shape == (2,)
