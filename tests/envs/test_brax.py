"""Brax's robots: the states of its own step, episodes of ours, options, pictures. Where brax is installed."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import ENVS, brax, make
from jaxrl.envs.tools.physics import simulation_of
from jaxrl.errors import UsageError

package = pytest.importorskip("brax.envs")

NAME, OPTIONS = "inverted_pendulum", {"backend": "spring", "n_frames": 1, "time_limit": 2}
NUM_ENVS = 2


@cache
def played():
    """(first state, TimeStep, state, TimeStep, state) of two steps, the second of which ends the episodes."""
    env = make(f"brax/{NAME}", NUM_ENVS, **OPTIONS)

    @jax.jit
    def run(params, action):
        first, _ = env.reset(jax.random.key(0), params)
        state, one = env.step(jax.random.key(1), params, first, action)
        last, two = env.step(jax.random.key(2), params, state, action)
        return first, one, state, two, last

    return env, run(env.params, jnp.array([[0.5], [-0.25]]))


def test_the_static_table_is_what_brax_registers_but_for_its_test():
    assert set(ENVS["brax"]) == set(package._envs) - {"fast"}


def test_a_step_leads_where_brax_itself_leads():
    _, (first, one, state, _, _) = played()
    robot = package.get_environment(NAME, backend="spring", n_frames=1)
    key = jax.random.split(jax.random.key(0), NUM_ENVS)[1]
    begun = jax.jit(robot.reset)(jax.random.key_data(key))
    moved = jax.jit(robot.step)(begun, jnp.array([-0.25]))
    for ours, theirs in ((simulation_of(first), begun), (simulation_of(state), moved)):
        np.testing.assert_allclose(ours.obs[1], theirs.obs, rtol=1e-5, atol=1e-6)
        for a, b in zip(jax.tree.leaves(ours.pipeline_state), jax.tree.leaves(theirs.pipeline_state), strict=True):
            np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.next_obs[1], moved.obs, rtol=1e-5, atol=1e-6)
    assert one.reward[1] == moved.reward == 1.0 and not one.terminated.any() and not one.truncated.any()


def test_the_time_limit_truncates_and_the_next_episode_begins_afresh():
    _, (first, one, _, two, last) = played()
    assert two.truncated.all() and not two.terminated.any()
    assert np.abs(two.next_obs - one.obs).max() < 0.2 and not np.allclose(two.next_obs, two.obs)
    starts = np.concatenate([simulation_of(first).obs, simulation_of(last).obs])
    assert np.abs(starts).max() <= 0.011 and len(np.unique(starts[:, 0])) == 2 * NUM_ENVS
    np.testing.assert_array_equal(simulation_of(last).obs, two.obs)


def test_a_dict_of_observations_stays_one():
    """Brax's own test environment, whose `privileged_state` a policy would not see."""
    env = _fast(obs_mode="dict_state", asymmetric_obs=True)
    state, obs = env.reset(jax.random.key(0), env.params)
    assert {name: part.shape for name, part in obs.items()} == {"state": (2, 2), "privileged_state": (2, 4)}
    _, timestep = env.step(jax.random.key(1), env.params, state, jnp.ones((2, 1)))
    assert jax.tree.structure(timestep.next_obs) == env.spec.obs.treedef


def _fast(**options):
    from jaxrl.envs.tools.physics import Body, physics_env

    fast = package.get_environment("fast", **options)
    body = Body(lambda key, params: fast.reset(key), lambda params, state, action: fast.step(state, action), 1)
    return physics_env(body, (), 2)


def test_weights_and_limits_are_traced_and_flags_are_not():
    env = make("brax/hopper", 1, backend="spring", healthy_z_range=(0.5, 2.0), terminate_when_unhealthy=False)
    assert "terminate_when_unhealthy" not in env.params and "terminate_when_unhealthy" in repr(env.static)
    np.testing.assert_array_equal(env.params["healthy_z_range"], np.float32([0.5, 2.0]))
    assert env.params["ctrl_cost_weight"] == np.float32(1e-3) and "healthy_z_range" not in repr(env.static)
    assert env.spec.time_limit == 1000


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ant", {"backend": "bullet"}, "backend='bullet' is unknown; choose one of generalized, spring, positional, mjx"),
        ("ant", {"gravity": 1.0}, "unknown option of brax/ant 'gravity'"),
        ("ant", {"n_frames": 0}, "n_frames=0 is out of range"),
        ("ant", {"healthy_reward": "much"}, "healthy_reward='much' does not fit; give a value like 1.0"),
        ("ant", {"healthy_z_range": 1.0}, "healthy_z_range=1.0 does not fit; give a value like"),
        ("ant", {"terminate_when_unhealthy": 1}, "terminate_when_unhealthy=1 is neither True nor False"),
        ("swimmer", {"backend": "spring"}, "env='brax/swimmer' does not run on backend='spring': Unsupported backend"),
    ],
)
def test_a_bad_option_costs_one_line(name, options, message):
    with pytest.raises(UsageError, match=message) as error:
        make(f"brax/{name}", 1, **options)
    assert "\n" not in str(error.value)


def test_a_page_for_the_browser_holds_the_episode():
    _, (first, _, state, _, _) = played()
    states = [jax.tree.map(lambda leaf: leaf[0], simulation_of(one)) for one in (first, state)]
    page = brax.viewer(NAME, OPTIONS, states)
    assert "<html" in page and "viewer.js" in page and len(page) > 2_000


def test_an_episode_is_drawn():
    env, (first, *_) = played()
    picture = env.render(env.params, first, 0)
    assert picture.shape == (320, 480, 3) and picture.dtype == np.uint8 and len(np.unique(picture)) > 3


def test_without_opengl_sticks_are_drawn_where_the_body_is():
    """An inverted pendulum that leans to the right: ink above its cart, on the right of it alone."""
    from jaxrl.envs.tools.physics_pictures import Drawing

    robot = package.get_environment(NAME, backend="spring")
    upright, leaning = (Drawing(robot.sys.mj_model, headless=False).picture([0.0, x], [0.0, 0.0]) for x in (0.0, 0.8))
    assert upright.shape == leaning.shape == (320, 480, 3)
    pole = np.array([120, 130, 142])
    middles = [np.mean(np.nonzero((picture[:130] == pole).all(-1))[1]) for picture in (upright, leaning)]
    assert abs(middles[0] - 240) < 2 < 20 < middles[1] - 240


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVS["brax"])
@pytest.mark.parametrize("backend", ["spring", "generalized", "positional", "mjx"])
def test_every_robot_is_made_and_its_step_traced(name, backend):
    if name == "swimmer" and backend != "generalized":
        return
    env = make(f"brax/{name}", 2, backend=backend)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0), env.params)
    _, timestep = jax.eval_shape(env.step, jax.random.key(0), env.params, state, jnp.zeros((2, *env.spec.action.shape)))
    assert timestep.reward.shape == (2,)
