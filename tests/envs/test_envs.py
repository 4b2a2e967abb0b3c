"""The registry of environments, the batching of single environments, and the gymnax adapter."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import run_python, slow_but
from jaxrl import envs
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.errors import UsageError
from jaxrl.types import ArraySpec, Box, Discrete, Spec, sample_action


def run(env, key, actions, params=None):
    """(first obs, TimeSteps, states after each step) of actions [T, B]; one compiled program."""

    def steps(params):
        state, obs = env.reset(jax.random.fold_in(key, 0), params)

        def step(state, inputs):
            time, action = inputs
            state, timestep = env.step(jax.random.fold_in(key, 1 + time), params, state, action)
            return state, (timestep, state)

        times = jnp.arange(len(jax.tree.leaves(actions)[0]))
        return obs, jax.lax.scan(step, state, (times, actions))[1]

    # A few steps only: less time for LLVM's optimisations than they take.
    compiled = jax.jit(steps, compiler_options={"xla_backend_optimization_level": 0})
    obs, (timesteps, states) = compiled(env.params if params is None else params)
    return obs, timesteps, states


# --- the registry ---------------------------------------------------------------------------------------------------


def test_the_static_table_is_what_gymnax_registers_but_for_the_one_that_downloads():
    assert set(envs.ENVS["gymnax"]) == set(gymnax.registered_envs) - {"MNISTBandit-bsuite"}


def test_the_static_table_is_what_the_probes_are():
    from jaxrl.envs.probe import _PROBES

    assert envs.ENVS["probe"] == tuple(_PROBES)


def test_importing_the_registry_imports_neither_jax_nor_an_environment_package():
    code = "import sys, jaxrl.envs; print([m for m in ('jax', 'gymnax', 'gymnasium', 'numpy') if m in sys.modules])"
    assert run_python("-c", code)[0].strip() == "[]"


def test_a_bare_id_and_its_full_id_are_the_same_environment():
    assert envs.resolve("CartPole-v1") == envs.resolve("gymnax/CartPole-v1") == ("gymnax", "CartPole-v1")


def test_a_name_with_a_slash_of_its_own_reaches_its_family_whole():
    assert envs.resolve("gymnasium/ALE/Pong-v5") == ("gymnasium", "ALE/Pong-v5")


@pytest.mark.parametrize(
    ("env_id", "nearest"),
    [
        ("CartPole-v2", "CartPole-v1"),
        ("gymnax/CartPol-v1", "CartPole-v1"),
        ("gymnex/CartPole-v1", "gymnax"),
        ("probe/memmory", "probe/memory"),
    ],
)
def test_an_unknown_id_is_answered_with_the_nearest(env_id, nearest):
    with pytest.raises(UsageError, match=f"unknown environment.* did you mean .*{nearest}"):
        envs.make(env_id)


def test_no_environments_at_all_are_refused():
    with pytest.raises(UsageError, match="num_envs=0 is out of range; give a whole number of at least 1"):
        envs.make("CartPole-v1", num_envs=0)


def own_env(num_envs, start=0.0):
    """What a user would write: counts up from `start`, two steps an episode."""

    def reset(key, params):
        return params["start"], params["start"][None]

    def step(key, params, state, action):
        return Transition(state + 1, (state + 1)[None], 1.0, state >= params["start"] + 1)

    return batch_env(Spec(ArraySpec((1,), "float32"), Discrete(2)), {"start": jnp.float32(start)}, reset, step, num_envs)


def not_an_env(num_envs):
    return "CartPole"


def test_your_own_function_is_found_by_its_name_and_takes_options():
    env = envs.make(f"{__name__}:own_env", num_envs=2, start=5.0)
    _, obs = env.reset(jax.random.key(0), env.params)
    np.testing.assert_array_equal(obs, [[5.0], [5.0]])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:f", "no module 'no_such_module'"),
        (f"{__name__}:no_such_function", "has no 'no_such_function'"),
        (f"{__name__}:not_an_env", "returned a str; return a jaxrl.Env or HostEnv"),
    ],
)
def test_a_wrong_name_of_your_own_environment_says_what_is_missing(path, message):
    with pytest.raises(UsageError, match=message):
        envs.make(path)


# --- batch_env ------------------------------------------------------------------------------------------------------


def test_a_time_limit_truncates_and_starts_afresh():
    def reset(key, params):
        return jnp.float32(0.0), jnp.zeros(1)

    def step(key, params, state, action):
        return Transition(state + 1, (state + 1)[None], 2.0, False)

    env = batch_env(Spec(ArraySpec((1,), "float32"), Discrete(2), 3), (), reset, step, 2, time_limit=3)
    _, steps, _ = run(env, jax.random.key(0), jnp.zeros((4, 2), jnp.int32))
    np.testing.assert_array_equal(steps.truncated[:, 0], [False, False, True, False])
    assert not steps.terminated.any()
    np.testing.assert_array_equal(steps.obs[:, 0, 0], [1.0, 2.0, 0.0, 1.0])
    np.testing.assert_array_equal(steps.next_obs[:, 0, 0], [1.0, 2.0, 3.0, 1.0])
    np.testing.assert_array_equal(steps.info["episode_return"][:, 0], [2.0, 4.0, 6.0, 2.0])
    np.testing.assert_array_equal(steps.info["episode_length"][:, 0], [1, 2, 3, 1])


def test_only_the_environment_that_ended_is_reset():
    def reset(key, params):
        return jnp.float32(0.0), jnp.zeros(1)

    def step(key, params, state, action):
        return Transition(state + 1, (state + 1)[None], 0.0, action == 1)

    env = batch_env(Spec(ArraySpec((1,), "float32"), Discrete(2)), (), reset, step, 3)
    _, steps, _ = run(env, jax.random.key(0), jnp.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(steps.obs[..., 0], [[1, 1, 1], [2, 0, 2], [3, 1, 3]])


# --- gymnax ---------------------------------------------------------------------------------------------------------


# Of each suite one environment is among the quick tests.
@pytest.mark.parametrize(
    "env_id", slow_but(("Acrobot-v1", "Catch-bsuite", "Breakout-MinAtar", "Pong-misc", "Pendulum-v1"), envs.ENVS["gymnax"])
)
def test_every_gymnax_environment_steps_in_a_scan_with_traced_parameters(env_id):
    env = envs.make(env_id, num_envs=2)
    actions = sample_action(jax.random.key(1), env.spec.action, (3, 2))
    # The scan itself refuses a state whose structure, shapes or types change from step to step.
    obs, steps, _ = run(env, jax.random.key(0), actions)
    assert (obs.shape, obs.dtype) == ((2, *env.spec.obs.shape), env.spec.obs.dtype)
    for leaf in (steps.obs, steps.next_obs):
        assert (leaf.shape, leaf.dtype) == ((3, 2, *env.spec.obs.shape), env.spec.obs.dtype)
    assert (steps.reward.shape, steps.reward.dtype) == ((3, 2), jnp.float32)
    assert (steps.terminated.dtype, steps.truncated.dtype) == (jnp.bool_, jnp.bool_)
    assert not (steps.terminated & steps.truncated).any()
    assert (steps.info["episode_return"].dtype, steps.info["episode_length"].dtype) == (jnp.float32, jnp.int32)
    assert np.isfinite(np.asarray(steps.obs, np.float32)).all()


@pytest.fixture(scope="module")
def pushed_cartpole():
    """CartPole pushed to the right for 12 steps, in which every pole falls once: (env, first obs, steps, states)."""
    env = envs.make("CartPole-v1", num_envs=3)
    return env, *run(env, jax.random.key(3), jnp.ones((12, 3), jnp.int32))


def test_cartpole_is_gymnax_cartpole_step_for_step(pushed_cartpole):
    _, first, steps, _ = pushed_cartpole
    theirs, params = gymnax.make("CartPole-v1")
    _, blank = theirs.reset_env(jax.random.key(0), params)
    for i in range(3):
        x, x_dot, theta, theta_dot = first[i]
        state = blank.replace(x=x, x_dot=x_dot, theta=theta, theta_dot=theta_dot)
        last = int(np.argmax(steps.terminated[:, i]))
        assert steps.terminated[last, i]
        for t in range(last + 1):
            _, state, reward, terminated, truncated, info = theirs.step(jax.random.key(t), state, 1, params)
            np.testing.assert_allclose(steps.next_obs[t, i], info["final_observation"], rtol=1e-5, atol=1e-6)
            assert steps.reward[t, i] == reward
            assert (bool(steps.terminated[t, i]), bool(steps.truncated[t, i])) == (bool(terminated), bool(truncated))


def test_where_a_pole_fell_next_obs_is_the_fall_and_obs_the_new_start(pushed_cartpole):
    _, _, steps, states = pushed_cartpole
    fell = np.asarray(steps.terminated)
    assert (fell.sum(axis=0) >= 1).all()
    limit = 12 * 2 * np.pi / 360
    assert (np.abs(steps.next_obs[fell][:, 2]) > limit).all()
    assert (np.abs(steps.obs[fell]) <= 0.05).all()
    np.testing.assert_array_equal(steps.obs[fell][:, 2], states.inner.theta[fell])
    np.testing.assert_array_equal(steps.obs[~fell], steps.next_obs[~fell])


def test_every_start_of_an_episode_is_a_fresh_one(pushed_cartpole):
    _, first, steps, _ = pushed_cartpole
    starts = np.concatenate([first, steps.obs[np.asarray(steps.terminated)]])
    assert len(starts) >= 6
    assert len(np.unique(starts, axis=0)) == len(starts)


def test_the_episode_return_counts_up_and_starts_again_after_the_end(pushed_cartpole):
    _, _, steps, _ = pushed_cartpole
    for i in range(3):
        last = int(np.argmax(steps.terminated[:, i]))
        expected = list(range(1, last + 2)) + list(range(1, 12 - last))
        np.testing.assert_array_equal(steps.info["episode_length"][:, i], expected)
        np.testing.assert_array_equal(steps.info["episode_return"][:, i], expected)


def test_the_limit_truncates_and_does_not_terminate():
    env = envs.make("CartPole-v1", num_envs=2, max_steps_in_episode=4)
    _, steps, _ = run(env, jax.random.key(0), jnp.array([[0, 0], [1, 1], [0, 0], [1, 1], [0, 0]]))
    assert env.spec.time_limit == 4
    np.testing.assert_array_equal(steps.truncated[:, 0], [False, False, False, True, False])
    assert not steps.terminated.any()
    assert (np.abs(steps.next_obs[3] - steps.obs[3]).max(axis=-1) > 0).all()


def test_a_fall_in_the_last_step_before_the_limit_is_a_termination(pushed_cartpole):
    _, _, steps, _ = pushed_cartpole
    last = int(np.argmax(steps.terminated[:, 0]))
    env = envs.make("CartPole-v1", num_envs=3, max_steps_in_episode=last + 1)
    _, limited, _ = run(env, jax.random.key(3), jnp.ones((12, 3), jnp.int32))
    assert limited.terminated[last, 0]
    assert not limited.truncated[last, 0]


def pendulum_after_one_step(theta, theta_dot, torque, g):
    """Gymnasium's equation of the pendulum with m = l = 1 and dt = 0.05."""
    return np.clip(theta_dot + (1.5 * g * np.sin(theta) + 3.0 * torque) * 0.05, -8.0, 8.0)


@pytest.mark.parametrize(("action", "torque"), [(1.0, 2.0), (-1.0, -2.0), (0.25, 0.5), (7.0, 2.0)])
def test_actions_between_minus_one_and_one_become_the_bounds_of_the_environment(action, torque):
    env = envs.make("Pendulum-v1", num_envs=2)
    assert env.spec.action == Box((1,))
    first, steps, _ = run(env, jax.random.key(0), jnp.full((1, 2, 1), action))
    theta = np.arctan2(first[:, 1], first[:, 0])
    expected = pendulum_after_one_step(theta, np.asarray(first[:, 2]), torque, 10.0)
    np.testing.assert_allclose(steps.next_obs[0, :, 2], expected, rtol=1e-5)


def test_physics_is_an_option():
    env = envs.make("Pendulum-v1", num_envs=2, g=3.0)
    first, steps, _ = run(env, jax.random.key(0), jnp.zeros((1, 2, 1)))
    theta = np.arctan2(first[:, 1], first[:, 0])
    np.testing.assert_allclose(
        steps.next_obs[0, :, 2], pendulum_after_one_step(theta, np.asarray(first[:, 2]), 0.0, 3.0), rtol=1e-5
    )


def test_physics_is_traced_and_can_be_mapped_over():
    env = envs.make("Pendulum-v1", num_envs=2)
    gravities = jnp.array([0.0, 5.0, 20.0])
    state, first = env.reset(jax.random.key(0), env.params)

    @jax.jit
    def velocities(gravity):
        params = env.params.replace(g=gravity)
        return env.step(jax.random.key(1), params, state, jnp.zeros((2, 1)))[1].next_obs[:, 2]

    theta = np.arctan2(first[:, 1], first[:, 0])
    expected = [pendulum_after_one_step(theta, np.asarray(first[:, 2]), 0.0, g) for g in gravities]
    np.testing.assert_allclose(jax.vmap(velocities)(gravities), expected, rtol=1e-5)


def test_another_physics_runs_the_same_program():
    light, heavy = envs.make("CartPole-v1", num_envs=2), envs.make("CartPole-v1", num_envs=2, gravity=20.0)
    state, _ = light.reset(jax.random.key(0), light.params)
    step = jax.jit(light.step)
    one = step(jax.random.key(1), light.params, state, jnp.zeros(2, jnp.int32))[1]
    other = step(jax.random.key(1), heavy.params, state, jnp.zeros(2, jnp.int32))[1]
    assert step._cache_size() == 1
    assert (one.next_obs != other.next_obs).any()


def test_the_sums_of_masses_follow_the_masses():
    params = envs.make("CartPole-v1", masspole=0.5, length=2.0).params
    assert float(params.total_mass) == pytest.approx(1.5)
    assert float(params.polemass_length) == pytest.approx(1.0)


def test_a_sum_of_masses_that_is_given_stays():
    assert float(envs.make("CartPole-v1", masspole=0.5, total_mass=9.0).params.total_mass) == 9.0


def test_an_option_of_the_constructor_reaches_it():
    assert envs.make("DeepSea-bsuite", size=5).spec.obs.shape == (5, 5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"gravty": 1.0}, "unknown option of CartPole-v1 'gravty'; did you mean gravity"),
        ({"gravity": float("nan")}, "gravity=nan is not finite; give a finite number such as 9.8"),
        ({"gravity": "strong"}, "gravity='strong' is not a number"),
        ({"gravity": [1.0, 2.0]}, r"gravity=\[1.0, 2.0\] has shape \(2,\); give one of shape \(\)"),
        ({"max_steps_in_episode": 0}, "max_steps_in_episode=0 is out of range; give at least 1"),
        ({"max_steps_in_episode": 2.5}, "max_steps_in_episode=2.5 is no whole number"),
    ],
)
def test_a_wrong_option_is_answered_with_the_fix(option, message):
    with pytest.raises(UsageError, match=message):
        envs.make("CartPole-v1", **option)


def test_an_option_of_a_probe_is_refused():
    with pytest.raises(UsageError, match="probe/constant has no option 'gravity'"):
        envs.make("probe/constant", gravity=1.0)


def test_an_environment_draws_itself():
    env = envs.make("CartPole-v1", num_envs=2)
    state, _ = env.reset(jax.random.key(0), env.params)
    pictures = [env.render(env.params, state, i) for i in range(2)]
    assert pictures[0].dtype == np.uint8
    assert (pictures[0] != pictures[1]).any()
