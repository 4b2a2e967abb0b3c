"""PQN: its lambda-returns by hand, step by step and against rlax, its first loss, and how it sees."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from helpers import progress_at, random_rollout
from jaxrl.agents.value.pqn import Acted, PQNConfig, lambda_targets, make_pqn
from jaxrl.config import as_arrays
from jaxrl.errors import UsageError
from jaxrl.loop import build
from jaxrl.nets.memory_values import MemoryValues, memory_values
from jaxrl.types import ArraySpec, Box, Discrete, Rollout, Spec

SPEC = Spec(ArraySpec((3,), "float32"), Discrete(4))
T, B, GAMMA, LAMBDA = 6, 4, 0.9, 0.8
CORES = pytest.mark.parametrize("gru", [None, 5], ids=["feed-forward", "recurrent"])

# Of this network observations are the action values themselves.
TOLD = MemoryValues(lambda key: (), lambda num: (), lambda params, memory, obs: (memory, obs), lambda *_: None)
Q = [[0.0, 1.0], [4.0, 2.0], [0.0, 6.0]]


def told(terminated=(), truncated=(), next_obs=((4.0, 2.0), (0.0, 6.0), (8.0, 0.0))):
    """Three steps of one environment with rewards 1, 2, 3; the successor of the last has the value 8."""
    obs, at = jnp.array(Q)[:, None], lambda steps: jnp.array([[t in steps] for t in range(3)])
    reward, extras = jnp.array([[1.0], [2.0], [3.0]]), Acted((), jnp.max(obs, axis=-1))
    rollout = Rollout(obs, None, reward, at(terminated), at(truncated), jnp.array(next_obs)[:, None], extras, {})
    config = PQNConfig(gamma=0.5, td_lambda=0.5, rollout_length=3, num_envs=1, num_minibatches=1)
    return lambda_targets(as_arrays(config), TOLD, (), rollout)[:, 0].tolist()


def test_lambda_returns_by_hand():
    """3 + 8/2 = 7; 2 + (6/2 + 7/2)/2 = 5.25; 1 + (4/2 + 5.25/2)/2 = 3.3125."""
    assert told() == [3.3125, 5.25, 7.0]


def test_nothing_follows_a_termination():
    """The second step ends the MDP: 2; 1 + (4/2 + 2/2)/2 = 2.5."""
    assert told(terminated=[1], next_obs=((4.0, 2.0), (9.0, 9.0), (8.0, 0.0))) == [2.5, 2.0, 7.0]
    assert told(terminated=[2])[2] == 3.0


def test_a_truncated_step_bootstraps_from_its_true_successor():
    """The second step is cut off before a state worth 10: 2 + 10/2 = 7; 1 + (4/2 + 7/2)/2 = 3.75."""
    assert told(truncated=[1], next_obs=((4.0, 2.0), (10.0, 0.0), (8.0, 0.0))) == [3.75, 7.0, 7.0]


@cache
def setup(gru):
    """An agent, its network, its first state, a compiled update, and a rollout in which successors follow one another."""
    base = {"num_envs": B, "rollout_length": T, "hidden": (8,), "gamma": GAMMA, "td_lambda": LAMBDA, "gru": gru}
    config = PQNConfig(**base, num_epochs=1, num_minibatches=1)
    agent, network = make_pqn(as_arrays(config), SPEC), memory_values(config, SPEC)
    state, rollout = jax.jit(agent.init)(jax.random.key(0)), random_rollout(SPEC, T, B)
    ended = np.asarray(rollout.terminated | rollout.truncated)
    following = np.concatenate([rollout.obs[1:], rollout.next_obs[-1:]])
    next_obs = jnp.asarray(np.where(ended[..., None], rollout.next_obs, following))
    memory = () if gru is None else np.random.default_rng(5).normal(size=(B, gru)).astype(np.float32)
    act, step, acted = jax.jit(agent.act, static_argnames="explore"), jax.jit(network.step), []
    next_value = np.zeros((T, B), np.float32)
    q = np.zeros((T, B, 4), np.float32)
    for t in range(T):
        _, after, extras = act(jax.random.key(t), state.policy, memory, rollout.obs[t], progress_at(0, 10), explore=True)
        acted.append(extras)
        q[t] = step(state.policy, memory, rollout.obs[t])[1]
        next_value[t] = step(state.policy, after, next_obs[t])[1].max(-1)
        memory = jax.tree.map(lambda leaf, t=t: np.where(ended[t][:, None], 0.0, leaf).astype(np.float32), after)
    extras = jax.tree.map(lambda *leaves: jnp.stack(leaves), *acted)
    rollout = rollout._replace(next_obs=next_obs, extras=extras)
    return SimpleNamespace(
        config=config, agent=agent, network=network, state=state, rollout=rollout, ended=ended, q=q, next_value=next_value
    )


def returns(s):
    """[T, B] step by step, from the end."""
    rollout, target, running = jax.tree.map(np.asarray, s.rollout), np.zeros((T, B)), None
    for t in reversed(range(T)):
        cut = s.ended[t] | (t == T - 1)
        behind = s.next_value[t] if running is None else np.where(cut, s.next_value[t], running)
        mixed = np.where(cut, behind, (1 - LAMBDA) * s.next_value[t] + LAMBDA * behind)
        running = target[t] = rollout.reward[t] + GAMMA * ~rollout.terminated[t] * mixed
    return target


@CORES
def test_lambda_returns_step_by_step(gru):
    """Truncated steps see their successor with the memory from before the reset."""
    s = setup(gru)
    assert s.rollout.terminated.any() and (s.rollout.truncated & ~s.rollout.terminated).any()
    found = jax.jit(lambda policy: lambda_targets(s.config, s.network, policy, s.rollout))(s.state.policy)
    np.testing.assert_allclose(found, returns(s), rtol=1e-4, atol=1e-5)


def test_td_errors_are_those_of_rlax_where_no_time_limit_strikes():
    s = setup(None)
    rollout = s.rollout._replace(truncated=jnp.zeros_like(s.rollout.truncated))
    found = jax.jit(lambda policy: lambda_targets(s.config, s.network, policy, rollout))(s.state.policy)
    last = s.network.step(s.state.policy, (), s.rollout.next_obs[-1:])[1]
    q_t = jnp.concatenate([s.q[1:], last])
    discount = GAMMA * (1.0 - rollout.terminated)
    expected = jax.vmap(lambda *args: rlax.q_lambda(*args, LAMBDA), in_axes=1, out_axes=1)(
        jnp.asarray(s.q), rollout.action, rollout.reward, discount, q_t
    )
    q_tm1 = np.take_along_axis(s.q, np.asarray(rollout.action)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(found - q_tm1, expected, rtol=1e-4, atol=1e-5)


@CORES
def test_the_first_loss_is_that_of_the_values_acted_by(gru):
    """For a recurrent agent only if it replays the rollout from the memory it acted with, resets included."""
    s = setup(gru)
    state, metrics = jax.jit(s.agent.update)(jax.random.key(1), s.state, s.rollout, progress_at(0, 10))
    q_tm1 = np.take_along_axis(s.q, np.asarray(s.rollout.action)[..., None], axis=-1)[..., 0]
    error = returns(s) - q_tm1
    np.testing.assert_allclose(metrics["loss"], 0.5 * np.mean(error**2), rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], np.mean(np.abs(error)), rtol=1e-4)
    np.testing.assert_allclose(metrics["q_mean"], q_tm1.mean(), rtol=1e-4, atol=1e-6)
    assert metrics["epsilon"] == 1.0 and metrics["learning_rate"] == np.float32(s.config.learning_rate)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), state.policy, s.state.policy)
    assert all(jax.tree.leaves(changed))


def test_rewards_are_scaled_to_learn_from():
    s = setup(None)
    policy = jax.tree.map(jnp.zeros_like, s.state.policy)
    rollout = s.rollout._replace(extras=s.rollout.extras._replace(value=jnp.zeros((T, B))))
    config = PQNConfig(num_envs=B, rollout_length=T, hidden=(8,), gamma=GAMMA, td_lambda=LAMBDA, reward_scaling=0.1)
    plain, scaled = (lambda_targets(c, s.network, policy, rollout) for c in (s.config, config))
    np.testing.assert_allclose(scaled, 0.1 * plain, rtol=1e-5)


def test_epsilon_falls_in_a_straight_line_and_stays():
    agent = make_pqn(as_arrays(PQNConfig(num_envs=4096, rollout_length=1, exploration_fraction=0.5, epsilon_end=0.2)), SPEC)
    policy, obs = jax.jit(agent.init)(jax.random.key(0)).policy, jnp.zeros((4096, 3))
    act = jax.jit(agent.act, static_argnames="explore")
    greedy = act(jax.random.key(1), policy, (), obs, progress_at(0, 100), explore=False)[0]
    for iteration, epsilon in ((0, 1.0), (25, 0.6), (50, 0.2), (99, 0.2)):
        action = act(jax.random.key(2), policy, (), obs, progress_at(iteration, 100), explore=True)[0]
        assert abs(float(jnp.mean(action != greedy)) - 0.75 * epsilon) < 0.03


@pytest.mark.parametrize(
    ("spec", "fields", "message"),
    [
        (SPEC._replace(action=Box((1,))), {}, "pqn needs discrete actions"),
        (SPEC, {"num_minibatches": 5}, r"num_minibatches=5 does not divide num_envs \* rollout_length = 24"),
        (SPEC, {"num_minibatches": 3, "gru": 4}, "num_minibatches=3 does not divide num_envs = 4"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(spec, fields, message):
    config = PQNConfig(**{"num_envs": B, "rollout_length": T, "num_minibatches": 1} | fields)
    with pytest.raises(UsageError, match=message):
        build(make_pqn, config, spec)


def test_pictures_are_normalised_place_by_place():
    """MinAtar's convolution of 16 filters, and the 128 units behind it, each with its layer norm."""
    config = PQNConfig(torso="minatar")
    spec = Spec(ArraySpec((10, 10, 4), "float32", picture="HWC"), Discrete(6))
    network = memory_values(config, spec)
    params = jax.eval_shape(network.init, jax.random.key(0))["torso"]["params"]
    assert params["LayerNorm_0"]["scale"].shape == (16,) and params["LayerNorm_1"]["scale"].shape == (128,)
    assert params["Dense_0"]["kernel"].shape == (8 * 8 * 16, 128)
    without = memory_values(PQNConfig(torso="minatar", layer_norm=False), spec)
    assert set(jax.eval_shape(without.init, jax.random.key(0))["torso"]["params"]) == {"Conv_0", "Dense_0"}


def test_the_features_of_a_layer_are_normalised_before_the_activation():
    network = memory_values(PQNConfig(hidden=(8,)), SPEC)
    params, obs = jax.jit(network.init)(jax.random.key(0)), jax.random.normal(jax.random.key(1), (5, 3))
    dense, head = (params[part]["params"]["Dense_0"] for part in ("torso", "head"))
    x = np.asarray(obs @ dense["kernel"], np.float64)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    expected = np.maximum(x, 0.0) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(network.step(params, (), obs)[1], expected, rtol=1e-4, atol=1e-5)
