"""What the policy-gradient agents share: weighted statistics, actor, critic and core, and their promises about numbers."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_same_bits, progress_at, random_rollout
from jaxrl.agents import load_agent
from jaxrl.agents.policy_gradient import policy
from jaxrl.agents.policy_gradient.policy import PolicyConfig
from jaxrl.agents.policy_gradient.reinforce import ReinforceConfig
from jaxrl.config import as_arrays, check_config
from jaxrl.envs.probe import MixedAction
from jaxrl.errors import UsageError
from jaxrl.maths.distributions import Categorical
from jaxrl.maths.minibatches import explained_variance, standardize, weighted_mean
from jaxrl.maths.normalize import Moments
from jaxrl.nets.actor_critic import Seen, actor_critic
from jaxrl.types import ArraySpec, Box, Discrete, Spec

DISCRETE = Spec(ArraySpec((3,), "float32"), Discrete(4), 6)
MIXED = Spec(ArraySpec((3,), "float32"), MixedAction(Discrete(3), Box((2,))), 6)
T, B = 6, 4
AGENTS = ("a2c", "actor_critic", "ppo", "reinforce")


def progress(iteration=0):
    return progress_at(iteration, 10)


# --- weighted statistics --------------------------------------------------------------------------------------------


def test_weighted_mean_is_the_mean_of_what_counts():
    assert weighted_mean(jnp.array([1.0, 2.0, 100.0]), jnp.array([3.0, 1.0, 0.0])) == 1.25


def test_weighted_mean_of_nothing_is_zero():
    assert weighted_mean(jnp.array([5.0, 7.0]), jnp.zeros(2)) == 0.0


def test_standardized_values_have_mean_zero_and_deviation_one():
    values = np.random.default_rng(0).normal(5.0, 3.0, size=(4, 50)).astype(np.float32)
    np.testing.assert_allclose(standardize(jnp.asarray(values)), (values - values.mean()) / values.std(), atol=1e-5)


def test_equal_values_standardize_to_zero():
    assert not np.any(standardize(jnp.full((3, 4), 7.25)))


def test_standardize_ignores_what_does_not_count():
    values, weight = jnp.array([1.0, 3.0, 1e6, -4e5]), jnp.array([1.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(standardize(values, weight)[:2], [-1.0, 1.0], rtol=1e-6)  # mean 2, deviation 1


def test_standardize_of_nothing_that_counts_is_finite():
    assert np.isfinite(standardize(jnp.array([1.0, 2.0]), jnp.zeros(2))).all()


@pytest.mark.parametrize(
    ("target", "value", "expected"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 1.0),
        ([1.0, 2.0, 3.0], [6.0, 7.0, 8.0], 1.0),  # an offset varies nothing
        ([1.0, 2.0, 3.0], [9.0, 9.0, 9.0], 0.0),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -3.0),  # errors -2, 0, 2: four times the variance
        ([0.0, 4.0], [0.0, 2.0], 0.75),  # variances 4 and 1
        ([5.0, 5.0], [1.0, 2.0], 0.0),
    ],
)
def test_explained_variance_by_hand(target, value, expected):
    np.testing.assert_allclose(explained_variance(jnp.array(target), jnp.array(value)), expected, rtol=1e-6)


def test_explained_variance_ignores_what_does_not_count():
    target, value, weight = jnp.array([0.0, 4.0, 1e4]), jnp.array([0.0, 2.0, -1e4]), jnp.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(explained_variance(target, value, weight), 0.75, rtol=1e-6)


@pytest.mark.parametrize(("end", "expected"), [(0.0, 0.15), (0.5, 0.225), (1.0, 0.3)])
def test_learning_rate_falls_along_a_line_to_its_share(end, expected):
    """At half of the run."""
    config = as_arrays(PolicyConfig(learning_rate=0.3, learning_rate_end_share=end))
    np.testing.assert_allclose(policy.learning_rate(config, progress(5)), expected, rtol=1e-6)
    np.testing.assert_allclose(policy.learning_rate(config, progress(0)), 0.3, rtol=1e-6)


# --- actor, critic and core -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recurrent():
    """Networks with a core, their parameters, random inputs [T, B, F], a first memory [B, units] and ends [T, B]."""
    networks = actor_critic(PolicyConfig(hidden=(8,)), DISCRETE, gru=5)
    rng = np.random.default_rng(1)
    x, memory = rng.normal(size=(T, B, 3)).astype(np.float32), rng.normal(size=(B, 5)).astype(np.float32)
    ended = np.zeros((T, B), bool)
    ended[2, 0] = ended[0, 1] = ended[4, 1] = ended[5, 2] = True
    params = jax.jit(networks.init)(jax.random.key(0)).params
    return SimpleNamespace(networks=networks, params=params, step=jax.jit(networks.step), x=x, memory=memory, ended=ended)


def test_unroll_steps_from_the_first_memory_and_resets_after_an_end(recurrent):
    """The memory it returns for an ending step is that from before the reset."""
    r, expected = recurrent, []
    memory = r.memory
    for t in range(T):
        after, _ = r.step(r.params, memory, Seen(r.x[t]))
        expected.append(after)
        memory = np.where(r.ended[t][:, None], 0.0, after)
    memories, features = jax.jit(r.networks.unroll)(r.params, r.memory, Seen(r.x), r.ended)
    np.testing.assert_allclose(memories, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features.x, memories)
    assert np.all(np.any(memories[2, 0] != 0.0, axis=-1))


def test_nothing_is_remembered_across_an_end(recurrent):
    r = recurrent
    unroll = jax.jit(lambda params, memory, x, ended: r.networks.unroll(params, memory, Seen(x), ended)[1].x)
    before = unroll(r.params, r.memory, r.x, r.ended)
    changed = r.x.copy()
    changed[:3, 0] += 1.0
    after = unroll(r.params, r.memory, changed, r.ended)
    np.testing.assert_array_equal(before[3:, 0], after[3:, 0])
    assert not np.any(before[:3, 0] == after[:3, 0])


def test_gradients_flow_through_time_up_to_an_end(recurrent):
    r = recurrent
    loss = lambda x: jnp.sum(r.networks.unroll(r.params, r.memory, Seen(x), r.ended)[1].x[-1])  # noqa: E731
    grads = np.abs(jax.jit(jax.grad(loss))(r.x)).max(-1)
    assert np.all(grads[:, 3] > 0.0)  # no end
    assert np.all(grads[3:, 0] > 0.0) and not np.any(grads[:3, 0])  # an end at step 2


def test_without_a_core_features_are_the_inputs():
    networks = actor_critic(PolicyConfig(hidden=(8,)), DISCRETE)
    x = jnp.arange(6.0).reshape(1, 2, 3)
    assert networks.initial_memory(2) == ()
    memory, features = networks.unroll({}, (), Seen(x), jnp.zeros((1, 2), bool))
    assert memory == () and np.array_equal(features.x, x)


def test_the_first_policy_is_nearly_uniform():
    """The actor's last layer starts small, so that no action is ruled out by chance."""
    networks = actor_critic(PolicyConfig(), DISCRETE)
    first = jax.jit(networks.init)(jax.random.key(0))
    x = np.random.default_rng(2).normal(0.0, 3.0, size=(50, 3)).astype(np.float32)
    logits = jax.jit(lambda x: networks.distribution(first.params, Seen(x)).logits)(x)
    np.testing.assert_allclose(jax.nn.softmax(logits), 0.25, atol=0.05)


def test_log_std_starts_at_the_configured_value():
    config = as_arrays(PolicyConfig(hidden=(8,), log_std_init=-1.5))
    assert jax.jit(actor_critic(config, MIXED).init)(jax.random.key(0)).params["log_std"].tolist() == [-1.5, -1.5]


# --- promises of every agent ----------------------------------------------------------------------------------------


NORMALIZED = {"normalize_observation": True, "normalize_advantage": True}


@cache
def build(name, spec=DISCRETE, **fields):
    """An agent with its config, its first state and a compiled update."""
    make_agent, config_class = load_agent(name)
    config = config_class(**{"num_envs": B, "rollout_length": T, "hidden": (8,), "entropy_coef": 0.0} | fields)
    agent = make_agent(as_arrays(config), spec)
    state = jax.jit(agent.init)(jax.random.key(0))
    return SimpleNamespace(agent=agent, state=state, update=jax.jit(agent.update), config=config)


def with_params(state, change):
    return state._replace(policy=state.policy._replace(params=jax.tree.map(change, state.policy.params)))


def assert_finite(tree):
    for leaf in jax.tree.leaves(tree):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", AGENTS)
def test_updates_stay_finite_with_extreme_parameters_and_without_any_advantage(name):
    """Parameters a thousand times too large; then a critic and rewards of 0, so that all advantages are the same."""
    built = build(name, MIXED, normalize_advantage=True, distribution="tanh_gaussian", entropy_coef=0.01)
    rollout = random_rollout(MIXED, T, B)
    extreme = with_params(built.state, lambda leaf: 1e3 * leaf + 10.0)
    for state, reward in ((extreme, rollout.reward), (extreme, 1e4 * rollout.reward)):
        for i in range(3):
            state, metrics = built.update(jax.random.key(i), state, rollout._replace(reward=reward), progress())
            assert_finite((state, metrics))
    nothing = with_params(built.state, jnp.zeros_like)
    assert_finite(built.update(jax.random.key(0), nothing, rollout._replace(reward=jnp.zeros((T, B))), progress()))


@pytest.mark.parametrize("name", AGENTS)
def test_nothing_to_learn_moves_nothing(name):
    """No reward, a critic of 0 and no entropy bonus: every gradient is 0, whatever is standardised."""
    built = build(name, **NORMALIZED)
    params = dict(built.state.policy.params)
    params["critic"] = jax.tree.map(jnp.zeros_like, params["critic"])
    state = built.state._replace(policy=built.state.policy._replace(params=params))
    rollout = random_rollout(DISCRETE, T, B)._replace(reward=jnp.zeros((T, B)))
    after, metrics = built.update(jax.random.key(0), state, rollout, progress())
    assert_same_bits(after.policy.params, params)
    assert metrics["grad_norm"] == 0.0


@pytest.mark.parametrize("name", AGENTS)
def test_moments_of_observations_are_state_that_updates_and_warm_ups_change(name):
    built = build(name, **NORMALIZED)
    rollout = random_rollout(DISCRETE, T, B)._replace(obs=5.0 + 2.0 * random_rollout(DISCRETE, T, B).obs)
    obs = np.asarray(rollout.obs, float).reshape(-1, 3)
    updated, _ = built.update(jax.random.key(0), built.state, rollout, progress())
    for state in (updated, built.agent.observe(built.state, rollout)):
        np.testing.assert_allclose(state.policy.moments.mean, obs.mean(0), rtol=1e-5)
        np.testing.assert_allclose(state.policy.moments.variance, obs.var(0), rtol=1e-4)
        assert state.policy.moments.num_samples == T * B
    assert built.state.policy.moments.num_samples == 0


def test_acting_normalises_by_the_moments_as_they_are():
    """Greedy actions for observations in other units are those for the same observations normalised by hand."""
    built = build("a2c", **NORMALIZED)
    rollout = random_rollout(DISCRETE, T, B)
    rollout = rollout._replace(obs=100.0 + 30.0 * rollout.obs)
    state, _ = built.update(jax.random.key(0), built.state, rollout, progress())
    params = state.policy.params
    obs = np.asarray(rollout.obs, float).reshape(-1, 3)
    normalised = jnp.asarray((obs - obs.mean(0)) / obs.std(0), jnp.float32)
    networks = actor_critic(PolicyConfig(hidden=(8,)), DISCRETE)
    wanted = networks.distribution(params, Seen(normalised)).logits
    found, memory, _ = built.agent.act(jax.random.key(0), state.policy, (), rollout.obs.reshape(-1, 3), progress(), False)
    assert memory == ()
    np.testing.assert_array_equal(found, Categorical(wanted).mode())
    assert len(set(np.asarray(found).tolist())) > 1


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_the_reward_scale_is_state_that_updates_change(name):
    built = build(name, normalize_reward=True, gamma=0.5)
    rollout = random_rollout(DISCRETE, T, B)
    ended, running, sums = np.asarray(rollout.terminated | rollout.truncated), np.zeros(B), []
    for t in range(T):
        running = 0.5 * running + np.asarray(rollout.reward[t])
        sums.append(running)
        running = np.where(ended[t], 0.0, running)
    first, _ = built.update(jax.random.key(0), built.state, rollout, progress())
    np.testing.assert_allclose(first.reward_scale.running, running, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first.reward_scale.moments.variance, np.var(sums), rtol=1e-4)
    second, _ = built.update(jax.random.key(1), first, rollout, progress())
    assert second.reward_scale.moments.num_samples == 2 * T * B


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_units_of_reward_do_not_matter_to_normalised_rewards(name):
    rollout = random_rollout(DISCRETE, T, B)
    built = build(name, normalize_reward=True, gamma=0.5)
    metrics = [
        built.update(jax.random.key(0), built.state, rollout._replace(reward=unit * rollout.reward), progress())[1]
        for unit in (1.0, 1000.0)
    ]
    for field in ("policy_loss", "value_loss", "grad_norm"):
        np.testing.assert_allclose(metrics[0][field], metrics[1][field], rtol=1e-3, atol=1e-5)


ONE_STEP = {"a2c": {}, "ppo": {"num_epochs": 1, "num_minibatches": 1}}


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_values_in_units_of_the_returns_deviation_are_those_values(name):
    """A critic in units of 3 says what one with three times its last layer says; only the value loss is in those units."""
    rollout = random_rollout(DISCRETE, T, B)
    plain, scaled = (build(name, normalize_value=normalize, **ONE_STEP[name]) for normalize in (False, True))
    params = scaled.state.policy.params
    nine = scaled.state._replace(returns=Moments(jnp.float32(0.5), jnp.float32(9.0), jnp.float32(10.0)))
    last = params["critic"]["params"]["Dense_0"]
    critic = {"params": params["critic"]["params"] | {"Dense_0": jax.tree.map(lambda leaf: 3.0 * leaf, last)}}
    thrice = plain.state._replace(policy=plain.state.policy._replace(params=params | {"critic": critic}))
    state, in_units = scaled.update(jax.random.key(0), nine, rollout, progress())
    _, found = plain.update(jax.random.key(0), thrice, rollout, progress())
    for field in ("policy_loss", "entropy", "explained_variance"):
        np.testing.assert_allclose(in_units[field], found[field], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(9.0 * in_units["value_loss"], found["value_loss"], rtol=1e-4)
    assert state.returns.num_samples == 10 + T * B


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_the_returns_that_values_were_fitted_to_are_counted(name):
    """Without a future the return is the reward."""
    built = build(name, normalize_value=True, gamma=0.0, **ONE_STEP[name])
    first, second = (
        random_rollout(DISCRETE, T, B),
        random_rollout(DISCRETE, T, B)._replace(reward=jnp.linspace(-9.0, 9.0, T * B).reshape(T, B)),
    )
    state, rewards = built.state, np.zeros((0, B))
    for rollout in (first, second):
        state, _ = built.update(jax.random.key(0), state, rollout, progress())
        rewards = np.concatenate([rewards, rollout.reward])
        np.testing.assert_allclose(state.returns.mean, rewards.mean(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(policy.unit_of_value(state.returns), rewards.std(), rtol=1e-4)


def test_a_whole_return_is_not_discounted_twice():
    with pytest.raises(UsageError, match="discounted=True is for estimator=reward_to_go"):
        check_config(ReinforceConfig(estimator="trajectory", discounted=True))


@pytest.mark.parametrize("name", ["a2c", "ppo"])
def test_scaled_rewards_are_learned_from_as_if_they_had_come_so(name):
    rollout = random_rollout(DISCRETE, T, B)
    plain, scaled = build(name), build(name, reward_scaling=4.0)
    wanted, _ = plain.update(jax.random.key(0), plain.state, rollout._replace(reward=4.0 * rollout.reward), progress())
    found, _ = scaled.update(jax.random.key(0), scaled.state, rollout, progress())
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    raw, _ = plain.update(jax.random.key(0), plain.state, rollout, progress())
    assert not np.array_equal(*(state.policy.params["critic"]["params"]["Dense_0"]["kernel"] for state in (raw, found)))


def test_a_critic_may_have_other_hidden_layers_than_the_actor():
    params = build("ppo", critic_hidden=(5, 4)).state.policy.params
    kernels = {part: [leaf.shape for leaf in jax.tree.leaves(params[part]) if leaf.ndim == 2] for part in ("actor", "critic")}
    assert sorted(kernels["actor"]) == [(3, 8), (8, 4)] and sorted(kernels["critic"]) == [(3, 5), (4, 1), (5, 4)]
