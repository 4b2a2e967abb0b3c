"""PPO: its first losses worked out in numpy, its flags, and what it must learn of the probe environments."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import assert_close, progress_at, random_rollout
from jaxrl.agents.policy_gradient.ppo import PPOConfig, make_ppo
from jaxrl.config import as_arrays
from jaxrl.drivers.evaluate import episode_scores
from jaxrl.envs import make
from jaxrl.errors import UsageError
from jaxrl.loop import build, train
from jaxrl.maths.minibatches import permutations, until_target
from jaxrl.nets.actor_critic import Seen, actor_critic
from jaxrl.types import ArraySpec, Discrete, Spec

SPEC = Spec(ArraySpec((3,), "float32"), Discrete(4))
T, B, GAMMA, LAMBDA, RATE = 6, 4, 0.9, 0.8, 0.01
START = progress_at(0, 10)
ONE_STEP = {"num_epochs": 1, "num_minibatches": 1}


@cache
def setup(**fields):
    """An agent, its networks, its first state, a compiled update and a random rollout from a random memory."""
    base = {"num_envs": B, "rollout_length": T, "hidden": (8,), "gamma": GAMMA, "gae_lambda": LAMBDA, "learning_rate": RATE}
    config = PPOConfig(**base | {"entropy_coef": 0.0} | fields)
    agent = make_ppo(as_arrays(config), SPEC)
    memory = () if config.gru is None else np.random.default_rng(5).normal(size=(B, config.gru)).astype(np.float32)
    return SimpleNamespace(
        networks=actor_critic(config, SPEC, config.gru),
        state=jax.jit(agent.init)(jax.random.key(0)),
        update=jax.jit(agent.update),
        rollout=random_rollout(SPEC, T, B, memory),
        memory=memory,
    )


@cache
def updated(**fields):
    """The state and the metrics after one update."""
    s = setup(**fields)
    return s.update(jax.random.key(1), s.state, s.rollout, START)


def advantages(s, params):
    """Values and advantages [T, B] step by step: the memory starts again after an end, but not for the successor's value."""
    networks, rollout = s.networks, jax.tree.map(np.asarray, s.rollout)
    step, value_of = jax.jit(networks.step), jax.jit(networks.value)
    value, next_value, memory = np.zeros((T, B)), np.zeros((T, B)), s.memory
    ended = rollout.terminated | rollout.truncated
    for t in range(T):
        memory, features = step(params, memory, Seen(rollout.obs[t]))
        value[t] = value_of(params, features)
        next_value[t] = value_of(params, step(params, memory, Seen(rollout.next_obs[t]))[1])
        memory = jax.tree.map(lambda leaf, t=t: np.where(ended[t][:, None], 0.0, leaf).astype(np.float32), memory)
    advantage, running = np.zeros((T, B)), np.zeros(B)
    for t in reversed(range(T)):
        delta = rollout.reward[t] + GAMMA * ~rollout.terminated[t] * next_value[t] - value[t]
        running = delta + GAMMA * LAMBDA * ~ended[t] * running
        advantage[t] = running
    return value, advantage


CORES = pytest.mark.parametrize("gru", [None, 5], ids=["feed-forward", "recurrent"])


# --- the first gradient step, by hand -------------------------------------------------------------------------------


@CORES
def test_the_first_losses_are_those_of_advantages_by_hand(gru):
    """The ratio is 1, so the policy loss is minus the mean advantage, and the value loss half its mean square."""
    fields = {"gru": gru, "normalize_advantage": False, **ONE_STEP}
    value, advantage = advantages(setup(**fields), setup(**fields).state.policy.params)
    metrics = updated(**fields)[1]
    np.testing.assert_allclose(metrics["policy_loss"], -advantage.mean(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * np.mean(advantage**2), rtol=1e-4)
    explained = 1.0 - advantage.var() / (advantage + value).var()
    np.testing.assert_allclose(metrics["explained_variance"], explained, rtol=1e-3, atol=1e-4)


@CORES
def test_the_first_minibatch_has_a_ratio_of_one(gru):
    """For a recurrent agent only if it replays the rollout from the memory it acted with, resets included."""
    metrics = updated(gru=gru, normalize_advantage=False, **ONE_STEP)[1]
    assert metrics["approx_kl"] == pytest.approx(0.0, abs=1e-10)
    assert metrics["clip_fraction"] == 0.0


def test_standardised_advantages_have_mean_zero():
    plain, standard = (updated(normalize_advantage=flag, gru=None, **ONE_STEP)[1] for flag in (False, True))
    assert abs(plain["policy_loss"]) > 0.01
    assert abs(standard["policy_loss"]) < 1e-6
    np.testing.assert_allclose(plain["value_loss"], standard["value_loss"], rtol=1e-5)


def test_the_loss_weighs_its_parts():
    fields = {"value_coef": 0.7, "entropy_coef": 0.3}
    metrics = updated(**fields, **ONE_STEP)[1]
    total = metrics["policy_loss"] + 0.7 * metrics["value_loss"] - 0.3 * metrics["entropy"]
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
    # The first policy is nearly uniform over four actions.
    np.testing.assert_allclose(metrics["entropy"], np.log(4.0), rtol=1e-3)


@pytest.mark.parametrize("clip_value", [False, True])
def test_value_clipping_holds_the_second_epoch_near_the_old_values(clip_value):
    """Metrics are means of the two epochs; the second one sees the parameters after the first step."""
    clip = 1e-3
    fields = {"normalize_advantage": False, "gru": None}
    one, s = updated(**fields, **ONE_STEP)[0], setup(**fields, **ONE_STEP)
    two = updated(num_epochs=2, num_minibatches=1, clip=clip, clip_value=clip_value, **fields)[1]
    value, advantage = advantages(s, s.state.policy.params)
    new, target = advantages(s, one.policy.params)[0], value + advantage
    second = (new - target) ** 2
    if clip_value:
        assert np.mean(np.abs(new - value) > clip) > 0.5
        second = np.maximum(second, (value + np.clip(new - value, -clip, clip) - target) ** 2)
    np.testing.assert_allclose(two["value_loss"], np.mean([0.5 * advantage**2, 0.5 * second]), rtol=1e-4)


@CORES
def test_advantages_estimated_anew_are_those_of_the_value_function_of_each_pass(gru):
    """Metrics are means of the two passes; the ratio stays that to the policy that acted, and the targets follow the values."""
    fields = {"normalize_advantage": False, "gru": gru, "clip": 1e3}
    one, s = updated(**fields, **ONE_STEP)[0], setup(**fields, **ONE_STEP)
    two = updated(num_epochs=2, num_minibatches=1, recompute_advantage=True, **fields)[1]
    (_, first), (_, second) = (advantages(s, state.policy.params) for state in (s.state, one))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(two["value_loss"], np.mean([0.5 * first**2, 0.5 * second**2]), rtol=1e-4)
    ended = s.rollout.terminated | s.rollout.truncated

    def log_prob(params):
        features = s.networks.unroll(params, s.memory, Seen(s.rollout.obs), ended)[1]
        return s.networks.distribution(params, features).log_prob(s.rollout.action)

    ratio = jax.jit(lambda new, old: jnp.exp(log_prob(new) - log_prob(old)))(one.policy.params, s.state.policy.params)
    np.testing.assert_allclose(two["policy_loss"], -np.mean([first, ratio * second]), rtol=1e-4, atol=1e-6)


# --- when updates stop ----------------------------------------------------------------------------------------------

MANY = {"num_epochs": 4, "num_minibatches": 4}


def farthest(fields):
    """The largest move of a parameter in one update."""
    before, after = setup(**fields).state.policy.params, updated(**fields)[0].policy.params
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b), initial=0.0)), before, after)))


@CORES
def test_a_tiny_target_kl_stops_after_the_first_minibatch(gru):
    """Its ratio is 1, so it takes one step of Adam, which moves no parameter by more than the learning rate."""
    fields = {"target_kl": 1e-8, "gru": gru, **MANY}
    assert updated(**fields)[1]["updates_taken"] == 1 / 16
    assert 0.5 * RATE < farthest(fields) <= 1.001 * RATE


def test_without_a_target_kl_every_minibatch_takes_a_step():
    assert updated(**MANY)[1]["updates_taken"] == 1.0
    assert farthest(MANY) > 3.0 * RATE


def test_a_target_kl_that_is_never_reached_changes_nothing():
    (state, metrics), (plain, plain_metrics) = updated(target_kl=1e3, **MANY), updated(**MANY)
    assert_close(state.policy, plain.policy)
    assert_close(metrics, plain_metrics)


def test_updates_stop_for_good_once_the_target_kl_is_exceeded():
    """The minibatch that finds 5 above the target of 1 takes no step, nor does any later one, however small its own."""

    def learn(num_steps, kl):
        return num_steps + 1, {"approx_kl": kl}

    kls = jnp.array([0.0, 1.0, 5.0, 0.0, 2.0, 0.0])
    (num_steps, stopped), metrics = jax.lax.scan(until_target(learn, 1.0), (0, jnp.bool_(False)), kls)
    assert num_steps == 2 and stopped
    assert metrics["taken"].tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("gru", "given", "what"), [(None, 5, "num_envs * rollout_length = 24"), (8, 3, "num_envs = 4")])
def test_minibatches_that_do_not_divide_are_refused(gru, given, what):
    config = PPOConfig(num_envs=B, rollout_length=T, num_minibatches=given, gru=gru)
    with pytest.raises(UsageError) as error:
        make_ppo(config, SPEC)
    assert str(error.value) == f"num_minibatches={given} does not divide {what}; give a number that does"


def test_a_recurrent_policy_acts_in_any_number_of_environments():
    """An evaluation of seven episodes, where minibatches divide the four environments of training."""
    agent = make_ppo(as_arrays(PPOConfig(num_envs=B, num_minibatches=2, gru=5)), SPEC)
    state = jax.jit(agent.init)(jax.random.key(0))
    obs = jnp.ones((7, *SPEC.obs.shape))
    action, _, _ = agent.act(jax.random.key(1), state.policy, agent.initial_memory(7), obs, START, False)
    assert action.shape == (7,)


# --- what must be learned -------------------------------------------------------------------------------------------


def learned_returns(probe, steps, **fields):
    """Greedy returns of 64 episodes after learning a probe environment."""
    base = {"num_envs": 16, "rollout_length": 8, "hidden": (16,), "num_minibatches": 2, "learning_rate": 1e-2, "gamma": 0.9}
    config = PPOConfig(**base | {"entropy_coef": 0.0} | fields)
    env, test_env = make(f"probe/{probe}", config.num_envs), make(f"probe/{probe}", 64)

    @jax.jit
    def run(key):
        policy = train(key, config, make_ppo, env, steps).state.agent.policy
        agent = build(make_ppo, as_arrays(config), test_env.spec)
        return episode_scores(jax.random.key(1), agent, test_env, policy, START, 1).returns

    return np.asarray(run(jax.random.key(0)))


@pytest.mark.parametrize("distribution", ["gaussian", "tanh_gaussian"])
def test_the_best_continuous_action_is_learned(distribution):
    """The return is -(a - x / 2)^2, so every action is within 0.05 of the best; one that ignores x gets -0.25 at best."""
    assert learned_returns("target", 10_000, distribution=distribution).min() > -(0.05**2)


def test_mixed_actions_are_learned_from_a_tree_of_observations():
    """The best return is 1; 0.83 with a constant amount, 0.5 with a choice that ignores the cue."""
    assert learned_returns("mixed", 20_000).mean() > 0.95


def test_a_recurrent_agent_remembers():
    assert learned_returns("memory", 20_000, gru=16).mean() > 0.9


@pytest.mark.slow
def test_an_agent_without_memory_cannot_remember():
    """So that the test above asks for memory: it is right half of the time, whatever it does."""
    assert learned_returns("memory", 20_000).mean() < 0.5


@pytest.mark.parametrize("size", [1, 2, 7, 512])
def test_permutations_hold_every_index_once(size):
    orders = np.asarray(permutations(jax.random.key(0), 5, size))
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(size), (5, 1)))


def test_every_order_is_as_likely():
    """6,000 orders of 3: each of the 6 is drawn 1,000 times, give or take 4.5 deviations of 29."""
    orders = np.asarray(permutations(jax.random.key(1), 6000, 3))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 4.5 * np.sqrt(6000 * (1 / 6) * (5 / 6))


def test_orders_of_many_items_are_permutations_too():
    orders = np.asarray(permutations(jax.random.key(2), 1, 2**16 + 1))
    np.testing.assert_array_equal(np.sort(orders[0]), np.arange(2**16 + 1))
