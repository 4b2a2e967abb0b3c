"""A policy taken out of jaxrl: from the environment's own observations to its own actions, as it was scored inside.

Each adapter's environments are played once more through their own package, by nothing but the policy, and must return what the
evaluation found.
"""

from typing import NamedTuple

import envpool
import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import jaxrl
from helpers import progress_at
from jaxrl.drivers.evaluate import episode_scores
from jaxrl.drivers.host import host_episode_scores
from jaxrl.runs.definition import Run
from jaxrl.runs.train import start
from jaxrl.runs.trained import make_policy
from jaxrl.types import Agent, Box, Spec, Units, flat_size

KEY, PROGRESS = jax.random.key(3), progress_at(0, 1)


def wild_agent(spec: Spec, recurrent: bool = False) -> Agent:
    """Its actions, often out of [-1, 1], are a function of the observation and, where it is recurrent, of the steps so far."""

    def act(key, policy, memory, obs, progress, explore):
        x = obs.reshape(obs.shape[0], -1).astype(jnp.float32) @ policy
        if recurrent:
            memory, x = memory + 1, x + memory[:, None]
        return (
            (jnp.tanh(x) * 2 if isinstance(spec.action, Box) else jnp.int32(jnp.abs(x[:, 0]) * 3) % spec.action.n),
            memory,
            (),
        )

    memory = (lambda num_envs: jnp.zeros(num_envs)) if recurrent else (lambda num_envs: ())
    return Agent(init=lambda key: (), act=act, update=lambda *_: ((), {}), initial_memory=memory)


@jaxrl.agent_config
class WildConfig(jaxrl.Config):
    pass


class Wild(NamedTuple):
    policy: jax.Array


def make_wild(config: WildConfig, spec: Spec, model=None) -> Agent:
    agent = wild_agent(spec)
    return agent._replace(
        init=lambda key: Wild(10 * jnp.asarray(wild_weights(spec))), update=lambda key, state, *_: (state, {})
    )


def wild_weights(spec: Spec) -> np.ndarray:
    actions = int(np.prod(spec.action.shape)) if isinstance(spec.action, Box) else 1
    return np.random.default_rng(0).normal(size=(flat_size(spec.obs._replace(num_values=None)), actions)).astype(np.float32)


def policy_in(env, recurrent=False):
    agent = wild_agent(env.spec, recurrent)
    return agent, make_policy(KEY, agent, wild_weights(env.spec), PROGRESS, env)


def device_score(env, agent, policy):
    return float(episode_scores(KEY, agent, env, policy.params, PROGRESS, 1).returns[0])


def host_score(env_id, agent, policy, **options):
    """(return, seed of the episode) of an evaluation in an environment of the host."""
    seeds = []

    def make(num_envs):
        env = jaxrl.make(env_id, num_envs, **options)
        reset, env.reset = env.reset, lambda seed: seeds.append(seed) or reset(seed)
        return env

    return float(host_episode_scores(KEY, agent, make, policy.params, PROGRESS, 1).returns[0]), seeds[0]


def plain_gymnasium_return(env, seed, policy):
    obs, total, ended = env.reset(seed=seed)[0], 0.0, False
    while not ended:
        obs, reward, terminated, truncated, _ = env.step(policy(np.asarray(obs)[None])[0])
        total, ended = total + float(reward), terminated or truncated
    return total


class Lopsided(gymnasium.Env):
    """Rewards tell what was observed and done: observations 10 to 14, actions in a `space`."""

    observation_space = spaces.Discrete(5, start=10)

    def __init__(self, actions="box"):
        self.action_space = spaces.Discrete(3, start=4) if actions == "discrete" else spaces.Box(-2.0, 0.2, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self):
        self.at = int(self.np_random.integers(10, 15))
        return self.at

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        reward = float(np.sum(action)) * self.at
        return self.observe(), reward, self.steps == 7, False, {}


@pytest.fixture(autouse=True, scope="module")
def registered():
    gymnasium.register("jaxrl-test/Lopsided-v0", Lopsided)
    yield
    del gymnasium.registry["jaxrl-test/Lopsided-v0"]


@pytest.mark.parametrize("actions", ["discrete", "box"])
def test_a_policy_plays_a_gymnasium_environment_as_it_was_scored(actions):
    env = jaxrl.make("gymnasium/jaxrl-test/Lopsided-v0", actions=actions)
    agent, policy = policy_in(env)
    env.close()
    found, seed = host_score("gymnasium/jaxrl-test/Lopsided-v0", agent, policy, actions=actions)
    plain = gymnasium.make("jaxrl-test/Lopsided-v0", actions=actions)
    assert found == pytest.approx(plain_gymnasium_return(plain, seed, policy), rel=1e-6)


@pytest.mark.parametrize("actions", ["discrete", "box"])
def test_a_policy_of_the_host_is_part_of_a_compiled_program(actions):
    env = jaxrl.make("gymnasium/jaxrl-test/Lopsided-v0", actions=actions)
    _, policy = policy_in(env)
    env.close()
    obs = np.arange(10, 15)
    np.testing.assert_allclose(jax.jit(policy)(obs), policy(obs), rtol=1e-5)


def test_a_policy_is_a_function_to_jit_vmap_and_differentiate():
    _, policy = policy_in(jaxrl.make("Pendulum-v1"))
    weights, obs = policy.params, np.full((2, 3), 0.1 / np.abs(policy.params).sum(), np.float32)
    np.testing.assert_allclose(jax.jit(policy)(obs), policy(obs), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(policy.normalized)(obs), policy.normalized(obs), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(policy)(obs[None])[0], policy(obs), rtol=1e-6)
    slope = jax.grad(lambda obs: policy(obs).sum())(obs)  # Of 2 * 2 tanh(obs @ weights): torques, and the agent's own factor.
    np.testing.assert_allclose(slope, 4 * (1 - np.tanh(obs @ weights) ** 2) @ weights.T, rtol=1e-4)
    assert {policy: 1}[policy] == 1 and policy != policy.normalized


def test_observations_may_be_lists_and_others_are_told_in_one_line():
    _, policy = policy_in(jaxrl.make("CartPole-v1"))
    np.testing.assert_array_equal(policy([[1, 2, 3, 4.0]]), policy(np.array([[1, 2, 3, 4.0]])))
    ragged, wide, alone = [[1.0], [1.0, 2.0]], np.zeros((3, 5)), np.zeros(4)
    for wrong in (wide, alone, [0.0] * 4, None, [None], "x", ragged, {"obs": wide}, 3, np.zeros((2, 3, 4)), (1.0, 2.0)):
        with pytest.raises(jaxrl.UsageError, match=r"^obs=.* is no batch of observations; give float32\[B, 4\], or a list"):
            policy(wrong)
    with pytest.raises(jaxrl.UsageError, match="memory=None is not that of 2 environments"):
        policy.step(np.zeros((2, 4)), None)
    _, policy = policy_in(jaxrl.make("gridworld/classic"))
    with pytest.raises(jaxrl.UsageError, match=r"obs=float64\[1\] is no batch of observations; give int32\[B\]"):
        policy([1.5])


def test_a_policy_plays_an_envpool_environment_as_it_was_scored():
    options = {"max_episode_steps": 30}
    agent, policy = policy_in(jaxrl.make("envpool/Pendulum-v1"))
    found, seed = host_score("envpool/Pendulum-v1", agent, policy, **options)
    pool = envpool.make_gymnasium("Pendulum-v1", num_envs=1, seed=seed, max_episode_steps=31)
    obs, rewards = pool.reset()[0], []
    for _ in range(30):
        obs, reward, *_ = pool.step(policy(obs))
        rewards.append(reward[0])
    pool.close()
    assert found == pytest.approx(np.sum(rewards), rel=1e-5)


def plain_gymnax_return(name, options, policy):
    """The return of the episode that an evaluation plays in the first of one environments."""
    env, params = gymnax.make(name)
    params = params.replace(**options)
    key_reset, key = jax.random.split(KEY)
    obs, state = env.reset_env(jax.random.split(key_reset, 1)[0], params)
    step, total = jax.jit(env.step_env), 0.0
    for time in range(params.max_steps_in_episode):
        key_step = jax.random.split(jax.random.split(jax.random.fold_in(key, time))[1], 1)[0]
        obs, state, reward, *_ = step(key_step, state, policy(obs[None])[0], params)
        total += float(reward)
    return total


@pytest.mark.parametrize("wrappers", [{}, {"mask_observation": [0, 2]}, {"sticky_actions": 0.0}])
def test_a_policy_plays_a_gymnax_environment_as_it_was_scored(wrappers):
    options = {"max_steps_in_episode": 20, "max_torque": 1.5}
    env = jaxrl.make("Pendulum-v1", **options, **wrappers)
    agent, policy = policy_in(env)
    found = device_score(env, agent, policy)
    if "sticky_actions" not in wrappers:  # It splits keys of its own.
        assert found == pytest.approx(plain_gymnax_return("Pendulum-v1", options, policy), rel=1e-4)
    same = policy.normalized(np.ones((2, len(policy.params))))
    np.testing.assert_allclose(policy(np.ones((2, 3))), 1.5 * np.clip(same, -1, 1), rtol=1e-5)


def make_oven(num_envs, hottest=500.0):
    """Observes degrees as shares of `hottest` and takes heat in watts: its maps are the user's own."""
    spec = jaxrl.Spec(jaxrl.ArraySpec((1,), "float32"), jaxrl.Box((1,)), 5)
    units = Units(lambda params, degrees: degrees / params, lambda params, action: 1000.0 * (action + 1.0))

    def reset(key, params):
        return jnp.full(1, 20.0), units.to_obs(params, jnp.full(1, 20.0))

    def step(key, params, degrees, action):
        degrees = degrees + units.to_action(params, action) / 100.0
        return jaxrl.Transition(degrees, units.to_obs(params, degrees), degrees[0], False)

    return jaxrl.batch_env(spec, jnp.float32(hottest), reset, step, num_envs, time_limit=5, units=units)


def test_a_policy_plays_an_environment_of_ones_own_as_it_was_scored():
    env = jaxrl.make("test_trained:make_oven", hottest=300.0)
    agent, policy = policy_in(env)
    degrees, total = np.full((1, 1), 20.0, np.float32), 0.0
    for _ in range(5):
        degrees = degrees + policy(degrees) / 100.0
        total += float(degrees[0, 0])
    assert device_score(env, agent, policy) == pytest.approx(total, rel=1e-5)


class Thermometer:
    """An own environment of the host: Fahrenheit to the agent, Celsius outside."""

    units = Units(
        to_obs=lambda params, celsius: np.float32(celsius * 1.8 + 32), to_action=lambda params, action: 4 + np.asarray(action)
    )

    def __init__(self, num_envs):
        self.spec, self.num_envs = Spec(jaxrl.ArraySpec((1,), "float32"), jaxrl.Discrete(2)), num_envs

    def reset(self, seed):
        self.celsius = np.full((self.num_envs, 1), seed % 30.0)
        return self.units.to_obs((), self.celsius)

    def step(self, action):
        self.celsius = self.celsius + self.units.to_action((), action)[:, None]
        obs, reward, ended = self.units.to_obs((), self.celsius), np.float32(self.celsius[:, 0]), self.celsius[:, 0] > 60
        return jaxrl.TimeStep(
            obs, reward, ended, np.zeros_like(ended), obs, {"episode_return": reward, "episode_length": reward}
        )

    def close(self):
        pass


def test_an_environment_of_ones_own_on_the_host_may_have_units_too():
    agent, policy = policy_in(jaxrl.make("test_trained:Thermometer"))
    found, seed = host_score("test_trained:Thermometer", agent, policy)
    celsius = np.full((1, 1), seed % 30.0)
    while celsius[0, 0] <= 60:
        celsius = celsius + policy(celsius)[:, None]
    assert found == np.float32(celsius[0, 0])


@pytest.mark.parametrize("env_id", ["maze/classic", "probe/target"])
def test_in_a_world_without_units_of_its_own_both_policies_are_one(env_id):
    env = jaxrl.make(env_id)
    _, policy = policy_in(env)
    obs = np.arange(4, dtype=env.spec.obs.dtype).reshape(4, *env.spec.obs.shape)
    np.testing.assert_array_equal(policy(obs), policy.normalized(obs))


def test_a_recurrent_policy_steps_in_both_units():
    _, policy = policy_in(jaxrl.make("Pendulum-v1"), recurrent=True)
    obs, memory = np.ones((2, 3), np.float32), policy.initial_memory(2)
    for _ in range(3):
        same, _ = policy.normalized.step(obs, memory)
        action, memory = policy.step(obs, memory)
        np.testing.assert_array_equal(action, 2.0 * np.clip(same, -1, 1))
    np.testing.assert_array_equal(memory, [3, 3])
    with pytest.raises(jaxrl.UsageError, match="this policy is recurrent"):
        policy(obs)


def test_a_policy_of_stacked_frames_says_that_it_needs_them():
    _, policy = policy_in(jaxrl.make("Pendulum-v1", frame_stack=2))
    with pytest.raises(
        jaxrl.UsageError, match=r"frame_stack=2: this policy acts on the last 2 observations .*normalized\(obs\)"
    ):
        policy(np.ones((1, 3)))
    assert policy.normalized(np.ones((1, 3, 2))).shape == (1, 1)


def test_a_loaded_policy_stays_within_the_bounds_of_its_environment(tmp_path):
    config = WildConfig(num_envs=2)
    start(
        Run("test_trained:make_wild", "gymnasium/jaxrl-test/Lopsided-v0", config, total_steps=16, num_rows=1), tmp_path / "run"
    )
    policy = jaxrl.load(tmp_path / "run")
    inside = policy.normalized(np.arange(5, dtype=np.int32))
    assert (np.abs(inside) > 1).any()
    np.testing.assert_allclose(policy(np.arange(10, 15)), -0.9 + 1.1 * np.clip(np.float64(inside), -1, 1), rtol=1e-6)
    assert policy(np.arange(10, 15)).max() == 0.2
