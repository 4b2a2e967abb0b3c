"""DDPG, TD3, SAC, TQC and CrossQ: targets and losses worked by hand, delays, n-step returns, bad input, and exact answers.

By hand means: networks without hidden layers, whose weights are written down, and minibatches of two transitions or of copies
of one. The longer tests hold the agents to the Riccati equation and to soft value iteration.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

from helpers import progress_at
from jaxrl.agents import load_agent
from jaxrl.agents.continuous.crossq import crossq_networks
from jaxrl.agents.continuous.tqc import truncated
from jaxrl.cli import main
from jaxrl.config import Config, as_arrays, check_config
from jaxrl.envs import make
from jaxrl.envs.probe import LQR
from jaxrl.envs.tools.mdp_env import mdp_env
from jaxrl.errors import UsageError
from jaxrl.loop import build, train
from jaxrl.maths import exploration, losses
from jaxrl.mdp.model import make_mdp
from jaxrl.nets.critics import Critics, JointHead, actor_critics, drawn
from jaxrl.nets.layers import MLP
from jaxrl.nets.view import Seen
from jaxrl.replay.experience import Sample
from jaxrl.replay.ring import Transitions
from jaxrl.types import ArraySpec, Box, Discrete, Rollout, Spec

BOX = Spec(ArraySpec((1,), "float32"), Box((1,)))
TWO = Spec(ArraySpec((1,), "float32"), Discrete(2))
STILL = 1e-12
"""A step size that leaves networks as they are written down."""


def made(name: str, spec: Spec, **fields: Any) -> tuple[Any, Any]:
    """An agent with networks without hidden layers, and its first state."""
    make_agent, config_class = load_agent(name)
    config = config_class(**{"hidden": (), "batch_size": 2, "capacity": 64, "learning_rate": STILL} | fields)
    agent = build(make_agent, as_arrays(config), spec)
    return agent, agent.init(jax.random.key(0))


def linear(kernel: Any, bias: Any) -> Any:
    """Parameters of a network without hidden layers, or with an axis in front of several."""
    return {"params": {"Dense_0": {"kernel": jnp.array(kernel, jnp.float32), "bias": jnp.array(bias, jnp.float32)}}}


def learn(agent: Any, state: Any, transitions: Transitions, num_updates: int = 1, iteration: int = 0, key: int = 0) -> Any:
    """(the state, metrics as floats) after gradient steps on one minibatch."""
    batches = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * num_updates), transitions)
    num = transitions.reward.shape[0]
    sample = Sample(batches, jnp.zeros((num_updates, num), jnp.int32), jnp.ones((num_updates, num)), jnp.int32(num))
    after, metrics, _ = jax.jit(agent.replay.learn)(jax.random.key(key), state, sample, progress_at(iteration, 100))
    return after, {name: float(value) for name, value in metrics.items()}


PAIR = Transitions(
    obs=np.float32([[0.5], [-1.0]]),
    action=np.float32([[0.2], [-0.4]]),
    reward=np.float32([1.0, 2.0]),
    discount=np.float32([0.9, 0.0]),
    next_obs=np.float32([[1.0], [0.3]]),
)


def copies(num: int, **fields: Any) -> Transitions:
    """Of one transition from 0 to 0, whose action is 0, that pays 5 and bootstraps with 0.9."""
    zeros = np.zeros((num, 1), np.float32)
    one = Transitions(zeros, zeros, np.full(num, 5.0, np.float32), np.full(num, 0.9, np.float32), zeros)
    return one._replace(**fields)


def entropy_of_tanh(mean: float, std: float) -> float:
    """In nats, of tanh of a normal variable, by numerical integration."""

    def density(u: float) -> float:
        return math.exp(-0.5 * ((u - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))

    def surprise(u: float) -> float:
        return density(u) * (-math.log(density(u)) + math.log1p(-(math.tanh(u) ** 2)))

    return scipy.integrate.quad(surprise, mean - 7 * std, mean + 7 * std)[0]


# --- targets and losses by hand -----------------------------------------------------------------------------------------


def test_the_critics_of_td3_are_fitted_to_the_least_of_the_targets_and_its_actor_climbs_the_first() -> None:
    """Without smoothing: a' = tanh(0.8 + 0.1) = 0.71630, so q' = min(0.5 + a', 2 - 1) = 1 and y = (1 + 0.9, 2 + 0).

    q1 = s + 2 a + 0.5 is (1.4, -1.3) and q2 = a - s is (-0.3, 0.6): errors (0.5, 3.3) and (2.2, 1.4).
    """
    agent, state = made("td3", BOX, target_noise=0.0, policy_delay=1)
    critic = linear([[[1.0], [2.0]], [[-1.0], [1.0]]], [[0.5], [0.0]])
    state = state._replace(
        policy=state.policy._replace(params=linear([[0.3]], [-0.2])),
        critic=critic,
        target={"actor": linear([[0.8]], [0.1]), "critic": linear([[[0.5], [1.0]], [[2.0], [0.0]]], [[0.0], [-1.0]])},
    )
    _, metrics = learn(agent, state, PAIR)
    assert metrics["loss"] == pytest.approx((0.5**2 + 3.3**2 + 2.2**2 + 1.4**2) / 4, rel=1e-5)
    assert metrics["td_error"] == pytest.approx((0.5 + 3.3 + 2.2 + 1.4) / 4, rel=1e-5)
    assert metrics["q_mean"] == pytest.approx(0.1, rel=1e-4)
    first = [s + 2 * math.tanh(0.3 * s - 0.2) + 0.5 for s in (0.5, -1.0)]
    assert metrics["actor_loss"] == pytest.approx(-sum(first) / 2, rel=1e-5)


def test_ddpg_bootstraps_from_its_one_target_at_the_target_actors_action() -> None:
    agent, state = made("ddpg", BOX)
    state = state._replace(
        critic=linear([[[0.0], [0.0]]], [[0.0]]),
        target={"actor": linear([[0.8]], [0.1]), "critic": linear([[[0.5], [1.0]]], [[0.0]])},
    )
    _, metrics = learn(agent, state, PAIR)
    assert metrics["td_error"] == pytest.approx((1 + 0.9 * (0.5 + math.tanh(0.9)) + 2) / 2, rel=1e-5)


def test_the_targets_action_is_smoothed_by_clipped_noise_within_the_box() -> None:
    """Noise far wider than its clip is +-0.5 nearly always; from 0.8 the upper end is the box's."""
    noisy = np.asarray(exploration.with_noise(jax.random.key(0), jnp.full(1000, 0.8), 1e6, 0.5))
    np.testing.assert_allclose(np.unique(noisy.round(5)), [0.3, 1.0], atol=1e-5)
    plain = np.asarray(exploration.with_noise(jax.random.key(0), jnp.zeros(10_000), 0.2))
    np.testing.assert_allclose([plain.mean(), plain.std()], [0.0, 0.2], atol=0.01)
    # In the agent: the target critics value the action itself, |a'| = 0.5, against critics of 0 and no reward.
    agent, state = made("td3", BOX, target_noise=1e6)
    target = {"actor": linear([[0.0]], [0.0]), "critic": linear([[[0.0], [1.0]], [[0.0], [1.0]]], [[0.0], [0.0]])}
    state = state._replace(critic=linear([[[0.0], [0.0]], [[0.0], [0.0]]], [[0.0], [0.0]]), target=target)
    batch = copies(64, reward=np.zeros(64, np.float32), discount=np.ones(64, np.float32))
    assert learn(agent, state, batch)[1]["td_error"] == pytest.approx(0.5, rel=1e-5)


def test_a_squashed_actor_is_paid_for_its_entropy_in_target_and_loss() -> None:
    """q' = min(3, 2) = 2 everywhere: y = 5 + 0.9 (2 + alpha H), and the actor's loss is -alpha H - min(-1, 1)."""
    num, mean, std, alpha = 40_000, 0.4, 0.7, 0.5
    agent, state = made("sac", BOX, auto_temperature=False, temperature=alpha, batch_size=num, capacity=num)
    nothing = [[[0.0], [0.0]], [[0.0], [0.0]]]
    state = state._replace(
        policy=state.policy._replace(params=linear([[0.0, 0.0]], [mean, math.log(std)])),
        critic=linear(nothing, [[-1.0], [1.0]]),
        target={"critic": linear(nothing, [[3.0], [2.0]])},
    )
    _, metrics = learn(agent, state, copies(num))
    entropy = entropy_of_tanh(mean, std)
    # Five standard errors of a mean of 40,000 whose deviation is below 1.
    assert metrics["entropy"] == pytest.approx(entropy, abs=0.025)
    assert metrics["td_error"] == pytest.approx(5 + 0.9 * (2 + alpha * entropy), abs=0.025)
    assert metrics["actor_loss"] == pytest.approx(-alpha * entropy + 1, abs=0.025)
    assert metrics["temperature"] == pytest.approx(alpha)


def test_the_gradient_of_a_squashed_actor_goes_through_its_action() -> None:
    """q = a and almost no temperature: one step of Adam raises the mean by the step size, whatever the noise."""
    agent, state = made("sac", BOX, auto_temperature=False, temperature=1e-6, learning_rate=0.01)
    up = linear([[[0.0], [1.0]], [[0.0], [1.0]]], [[0.0], [0.0]])
    state = state._replace(policy=state.policy._replace(params=linear([[0.0, 0.0]], [0.1, -2.0])), critic=up)
    after, _ = learn(agent, state, copies(256))
    assert after.policy.params["params"]["Dense_0"]["bias"][0] == pytest.approx(0.11, abs=1e-4)


def test_a_categorical_actor_takes_its_expectations_exactly() -> None:
    """pi = (3/4, 1/4), q' = min((1, 3), (2, 2)) = (1, 2), alpha = 1/2: V = 3/4 (1 + 0.14384) + 1/4 (2 + 0.69315) = 1.53117."""
    agent, state = made("sac", TWO, auto_temperature=False, temperature=0.5)
    state = state._replace(
        policy=state.policy._replace(params=linear([[0.0, 0.0]], [math.log(3.0), 0.0])),
        critic=linear([[[0.0, 0.0]], [[0.0, 0.0]]], [[0.0, 4.0], [2.0, 0.0]]),
        target={"critic": linear([[[0.0, 0.0]], [[0.0, 0.0]]], [[1.0, 3.0], [2.0, 2.0]])},
    )
    _, metrics = learn(agent, state, PAIR._replace(action=np.int32([0, 1])))
    first, second = 1 + 0.9 * 1.53117, 2.0
    # What the critics say of the actions done: (0, 4) and (2, 0).
    errors = [first - 0, second - 4, first - 2, second - 0]
    assert metrics["loss"] == pytest.approx(sum(e**2 for e in errors) / 4, rel=1e-4)
    assert metrics["entropy"] == pytest.approx(0.56234, rel=1e-4)
    # The actor climbs min((0, 4), (2, 0)) = (0, 0), which leaves its entropy.
    assert metrics["actor_loss"] == pytest.approx(-0.5 * 0.56234, rel=1e-4)
    value = losses.soft_value(jnp.log(jnp.array([0.75, 0.25])), jnp.array([1.0, 2.0]), 0.5)
    assert float(value) == pytest.approx(1.53117, rel=1e-5)


def test_the_temperature_rises_where_the_entropy_is_too_low() -> None:
    """J = alpha (H - target), whose derivative by log alpha is J itself: 0.5 (1.5 - 1) = 0.25."""
    value, slope = jax.value_and_grad(losses.temperature)(jnp.log(0.5), jnp.float32(1.5), 1.0)
    assert (float(value), float(slope)) == pytest.approx((0.25, 0.25))
    for share, sign in ((1.0, 1.0), (0.0, -1.0)):
        agent, state = made("sac", TWO, temperature=0.5, target_entropy_share=share, learning_rate=0.01)
        state = state._replace(policy=state.policy._replace(params=linear([[0.0, 0.0]], [1.0, 0.0])))
        after, metrics = learn(agent, state, PAIR._replace(action=np.int32([0, 1])))
        # Adam's first step is the step size.
        assert float(after.log_temperature) == pytest.approx(math.log(0.5) + sign * 0.01, abs=1e-5)
        assert metrics["temperature"] == pytest.approx(0.5)


def test_the_target_of_tqc_pools_the_quantiles_and_leaves_out_the_greatest() -> None:
    """(5, 1, 3) and (2, 6, 4) without one for each critic: 1, 2, 3, 4, whose mean is 2.5; y = 5 + 0.9 q'."""
    pooled = truncated(jnp.array([[[5.0, 1.0, 3.0]], [[2.0, 6.0, 4.0]]]), 1)
    np.testing.assert_array_equal(pooled, [[1.0, 2.0, 3.0, 4.0]])
    fields = {"num_quantiles": 3, "num_dropped": 1, "auto_temperature": False, "temperature": STILL}
    agent, state = made("tqc", BOX, **fields)
    nothing = jnp.zeros((2, 2, 3))
    state = state._replace(
        critic=linear(nothing, [[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]]),
        target={"critic": linear(nothing, [[5.0, 1.0, 3.0], [2.0, 6.0, 4.0]])},
    )
    _, metrics = learn(agent, state, copies(2))
    assert metrics["td_error"] == pytest.approx(((5 + 0.9 * 2.5 - 3) + (5 + 0.9 * 2.5)) / 2, rel=1e-5)
    assert metrics["q_mean"] == pytest.approx(1.5, rel=1e-5)
    # The actor climbs the mean of all quantiles.
    assert metrics["actor_loss"] == pytest.approx(-1.5, rel=1e-5)


@pytest.mark.parametrize(("ratio", "steps"), [(1.0, [0, 1, 1, 2]), (3.0, [1, 3, 4, 6])])
def test_actor_and_targets_of_td3_move_at_every_second_gradient_step(ratio: float, steps: list[int]) -> None:
    agent, state = made("td3", BOX, update_to_data=ratio, learning_rate=0.1)
    for iteration, expected in enumerate(steps):
        before = state
        state, _ = learn(agent, state, PAIR, int(ratio), iteration)
        assert int(state.opt_state["critic"].count) == (iteration + 1) * ratio
        assert int(state.opt_state["actor"].count) == expected
        waited = expected == int(before.opt_state["actor"].count)
        for name in ("actor", "critic"):
            pairs = zip(jax.tree.leaves(before.target[name]), jax.tree.leaves(state.target[name]), strict=True)
            assert all(np.array_equal(a, b) == waited for a, b in pairs)


def test_targets_move_by_tau_and_those_of_sac_at_every_gradient_step() -> None:
    agent, state = made("sac", BOX, tau=0.25, policy_delay=2)
    held, online = linear([[[0.0], [0.0]], [[0.0], [0.0]]], [[4.0], [4.0]]), linear([[[1.0], [1.0]]] * 2, [[0.0], [8.0]])
    after, _ = learn(agent, state._replace(critic=online, target={"critic": held}), PAIR)
    np.testing.assert_allclose(after.target["critic"]["params"]["Dense_0"]["bias"], [[3.0], [5.0]], rtol=1e-5)
    assert int(after.opt_state["actor"].count) == 0


def test_a_subset_of_the_targets_is_drawn_anew_without_replacement() -> None:
    pairs = [np.asarray(drawn(jax.random.key(i), {"a": jnp.arange(4)}, 2)["a"]) for i in range(400)]
    assert all(a != b for a, b in pairs)
    counts = np.bincount(np.concatenate(pairs), minlength=4)
    assert (np.abs(counts - 200) < 4.5 * math.sqrt(400 * 0.5 * 0.5)).all()
    np.testing.assert_array_equal(drawn(jax.random.key(0), jnp.arange(4), 4), np.arange(4))
    # Targets 0, 1 and 2, of which one is drawn: |y| of one gradient step is one of them, and each comes.
    agent, state = made("sac", BOX, num_critics=3, num_target_critics=1, auto_temperature=False, temperature=STILL)
    nothing = [[[0.0], [0.0]]] * 3
    target = {"critic": linear(nothing, [[0.0], [1.0], [2.0]])}
    state = state._replace(critic=linear(nothing, [[0.0]] * 3), target=target)
    batch = copies(2, reward=np.zeros(2, np.float32), discount=np.ones(2, np.float32))
    step = jax.jit(lambda key: agent.replay.learn(key, state, _sample(batch), progress_at(0, 1))[1]["td_error"])
    found = {round(float(step(jax.random.key(i))), 3) for i in range(20)}
    assert found == {0.0, 1.0, 2.0}


def _sample(batch: Transitions) -> Sample:
    num = batch.reward.shape[0]
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], batch)
    return Sample(one, jnp.zeros((1, num), jnp.int32), jnp.ones((1, num)), jnp.int32(num))


# --- what is stored, seen and done --------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminated", [True, False])
def test_returns_of_three_steps_end_with_the_episode_and_a_cut_bootstraps(terminated: bool) -> None:
    """Observations 0 .. 5, rewards 1, 2, 4, 8, 16, discount 1/2; the fifth step ends the episode."""
    agent, state = made("td3", BOX, n_step=3, gamma=0.5, rollout_length=5)
    obs = jnp.arange(6.0)[:, None, None]
    last = (jnp.arange(5) == 4)[:, None]
    rollout = Rollout(
        obs[:-1],
        jnp.zeros((5, 1, 1)),
        2.0 ** jnp.arange(5.0)[:, None],
        last & terminated,
        last & (not terminated),
        obs[1:],
        (),
        {},
    )
    state = agent.observe(state, rollout)
    ring = agent.replay.sample(jax.random.key(0), state.replay).transitions
    found = {float(o): (float(r), float(d), float(n)) for o, r, d, n in zip(*_columns(ring), strict=True)}
    after = 0.0 if terminated else 1.0
    expected = {
        0.0: (1 + 1 + 1, 0.125, 3.0),
        1.0: (2 + 2 + 2, 0.125, 4.0),
        2.0: (4 + 4 + 4, after * 0.125, 5.0),
        3.0: (8 + 8, after * 0.25, 5.0),
        4.0: (16, after * 0.5, 5.0),
    }
    assert len(found) >= 4 and all(found[at] == pytest.approx(expected[at]) for at in found)


def _columns(ring: Transitions) -> tuple[Any, ...]:
    return tuple(np.asarray(leaf).ravel() for leaf in (ring.obs, ring.reward, ring.discount, ring.next_obs))


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac"])
def test_actions_are_uniform_in_the_warm_up_alone(name: str) -> None:
    """The uniform distribution on [-1, 1] has the deviation 1 / sqrt(3)."""
    agent, state = made(name, BOX)
    narrow = [[0.0, 0.0]], [0.5, -9.0]
    params = linear(*narrow) if name == "sac" else linear([[0.0]], [0.5])
    policy = state.policy._replace(params=params)
    obs, memory = jnp.zeros((4000, 1)), ()
    warm, late = progress_at(3, 100, num_warmup=10), progress_at(10, 100, num_warmup=10)
    early = agent.act(jax.random.key(0), policy, memory, obs, warm, True)[0]
    np.testing.assert_allclose([early.mean(), early.std()], [0.0, 3**-0.5], atol=0.04)
    for progress, explore in ((late, True), (warm, False)):
        action = agent.act(jax.random.key(0), policy, memory, obs, progress, explore)[0]
        np.testing.assert_allclose(action.mean(), math.tanh(0.5), atol=0.01)
        deviation = 0.1 if explore and name != "sac" else 0.0
        np.testing.assert_allclose(action.std(), deviation, atol=0.01)


@pytest.mark.parametrize("name", ["ddpg", "sac"])
def test_noise_of_exploration_lasts_within_an_episode(name: str) -> None:
    """Two steps' actions around tanh(0), and uniform ones of the warm-up, correlate as their noise does."""
    agent, state = made(name, BOX, noise_correlation=0.8)
    params = linear([[0.0, 0.0]], [0.0, -2.0]) if name == "sac" else linear([[0.0]], [0.0])
    policy, obs = state.policy._replace(params=params), jnp.zeros((4000, 1))
    for progress in (progress_at(3, 100, num_warmup=10), progress_at(10, 100, num_warmup=10)):
        memory, actions = agent.initial_memory(4000), []
        for seed in range(2):
            action, memory, _ = agent.act(jax.random.key(seed), policy, memory, obs, progress, True)
            actions.append(np.asarray(action)[:, 0])
        assert np.corrcoef(actions[0], actions[1])[0, 1] == pytest.approx(0.8, abs=0.03)
        assert actions[0].std() == pytest.approx(actions[1].std(), rel=0.05)
        anew = agent.act(jax.random.key(2), policy, agent.initial_memory(4000), obs, progress, True)[0]
        assert abs(np.corrcoef(actions[1], np.asarray(anew)[:, 0])[0, 1]) < 0.05
    assert agent.act(jax.random.key(3), policy, memory, obs, progress, False)[1] is memory


def test_noise_that_lasts_is_of_actions_in_a_box() -> None:
    with pytest.raises(UsageError, match=r"noise_correlation=0.5 is of actions in a box, and these are Discrete"):
        made("sac", Spec(ArraySpec((1,), "float32"), Discrete(2)), noise_correlation=0.5)


def test_observations_are_normalised_by_what_was_seen_in_acting_and_learning() -> None:
    """Observations 1 and 5: mean 3, deviation 2, so 7 is seen as 2."""
    agent, state = made("ddpg", BOX, normalize_observation=True, num_envs=2, update_to_data=0.5)
    obs, flags = jnp.array([[[1.0], [5.0]]]), jnp.zeros((1, 2), bool)
    state = agent.observe(state, Rollout(obs, jnp.zeros((1, 2, 1)), jnp.zeros((1, 2)), flags, flags, obs, (), {}))
    policy = state.policy._replace(params=linear([[0.1]], [0.0]))
    action = agent.act(jax.random.key(0), policy, (), jnp.array([[7.0]]), progress_at(0, 1), False)[0]
    assert float(action[0, 0]) == pytest.approx(math.tanh(0.2), rel=1e-4)
    state = state._replace(critic=linear([[[1.0], [0.0]]], [[0.0]]))
    batch = copies(2, obs=np.full((2, 1), 7.0, np.float32))
    assert learn(agent, state, batch)[1]["q_mean"] == pytest.approx(2.0, rel=1e-4)


def test_critics_drop_units_then_normalise_them_each_on_its_own() -> None:
    """(1, 2, 3, 6) has the mean 3 and the variance 3.5."""
    mlp = MLP((4,), "relu", layer_norm=True)
    params = mlp.init(jax.random.key(0), jnp.ones((1, 1)))["params"]
    kernel = {"kernel": jnp.array([[1.0, 2.0, 3.0, 6.0]]), "bias": jnp.zeros(4)}
    out = mlp.apply({"params": params | {"Dense_0": kernel}}, jnp.ones((1, 1)))
    np.testing.assert_allclose(out[0], [0.0, 0.0, 0.0, 3 / 3.5**0.5], atol=1e-4)  # type: ignore[index]
    critics, x = Critics(JointHead(1, (64,), dropout=0.5), 3), jnp.ones((5, 2))
    held = critics.init(jax.random.key(0), x[:1], None)
    whole, again = critics.apply(held, x, None), critics.apply(held, x, None)
    np.testing.assert_array_equal(whole, again)
    same = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], leaf.shape), held)
    dropped = np.asarray(critics.apply(same, x, None, jax.random.key(1)))[..., 0]
    assert len(np.unique(dropped.round(6))) == dropped.size
    assert whole.shape == (3, 5, 1) and len(np.unique(np.asarray(whole).round(6))) == 3


@pytest.mark.parametrize(
    ("name", "spec"), [("crossq", BOX), ("ddpg", BOX), ("td3", BOX), ("tqc", BOX), ("sac", BOX), ("sac", TWO)]
)
def test_an_agent_says_by_which_function_it_was_made(name: str, spec: Spec) -> None:
    make_agent, config_class = load_agent(name)
    assert repr(make_agent(config_class(), spec)) == f"Agent(make_{name}, learns from replay)"


# --- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("td3", "--env", "CartPole-v1"),
            r"td3 needs continuous actions, not Discrete\(n=2\); choose an environment with a Box",
        ),
        (("crossq", "--env", "CartPole-v1"), "crossq needs continuous actions"),
        (("tqc", "--env", "CartPole-v1"), "tqc needs continuous actions"),
        (("tqc", "--env", "Pendulum-v1", "--num-dropped", "25"), "num_dropped=25 leaves none of num_quantiles=25"),
        (("ddpg", "--env", "CartPole-v1"), "ddpg needs continuous actions"),
        (("sac", "--env", "probe/mixed"), "sac needs a Box or Discrete actions"),
        (("sac", "--env", "Pendulum-v1", "--env-option", "max_torque=3e38"), "'Pendulum-v1' has unbounded actions"),
        (("sac", "--env", "Pendulum-v1", "--update-to-data", "0"), "update_to_data=0.0"),
        (("td3", "--env", "Pendulum-v1", "--update-to-data", "0.5"), "update_to_data=0.5 makes 0.5 gradient steps"),
        (("sac", "--env", "Pendulum-v1", "--num-target-critics", "3"), "num_target_critics=3 exceeds num_critics=2"),
        (("sac", "--env", "Pendulum-v1", "--batch-size", "9", "--capacity", "8"), "batch_size=9 exceeds capacity=8"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], message: str, capsys: Any, tmp_path: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments, "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and re.fullmatch(r"jaxrl: [^\n]+\n", err) and re.search(message, err), err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("envs", "length", "ratio", "count"), [(1, 1, 1.0, 1), (8, 4, 0.25, 8), (3, 1, 1 / 3, 1), (1, 1, 20, 20)]
)
def test_the_update_to_data_ratio_is_gradient_steps_for_each_env_step(envs: int, length: int, ratio: float, count: int) -> None:
    agent, state = made("ddpg", BOX, num_envs=envs, rollout_length=length, update_to_data=float(ratio))
    shapes = jax.eval_shape(agent.replay.sample, jax.random.key(0), state.replay)
    assert shapes.transitions.reward.shape == (count, 2)


def test_a_ratio_that_makes_no_whole_number_of_gradient_steps_is_refused() -> None:
    with pytest.raises(UsageError, match=r"makes 0.9 gradient steps of num_envs \* rollout_length = 3 .* multiple of 0.333"):
        made("sac", BOX, num_envs=3, update_to_data=0.3)


# --- exact answers ------------------------------------------------------------------------------------------------------

GAMMA = 0.9
LQR_FIELDS: dict[str, dict[str, Any]] = {
    "crossq": {"auto_temperature": False, "temperature": 0.1, "batch_norm_warmup": 2000},
    "ddpg": {"exploration_noise": 0.5, "tau": 0.02},
    "td3": {"exploration_noise": 0.5, "target_noise": 0.05, "tau": 0.02},
    "sac": {"auto_temperature": False, "temperature": 0.1, "tau": 0.02},
}


@cache
def riccati() -> tuple[np.ndarray, np.ndarray]:
    """(P [2, 2], K [1, 2]) of `probe/lqr` with the discount `GAMMA`."""
    a, b, q, r = (np.array(matrix) for matrix in LQR)
    p = scipy.linalg.solve_discrete_are(math.sqrt(GAMMA) * a, math.sqrt(GAMMA) * b, q, r)
    return p, np.linalg.solve(r + GAMMA * b.T @ p @ b, GAMMA * b.T @ p @ a)


@cache
def learned(name: str) -> tuple[Config, Any]:
    """The config and the agent's state after 30,000 env steps of `probe/lqr`; a smooth activation suits its smooth values."""
    make_agent, config_class = load_agent(name)
    own = {"num_envs": 8, "hidden": (64, 64), "gamma": GAMMA, "batch_size": 128, "capacity": 10_000}
    own |= {"activation": "gelu", "learning_rate_end_share": 0.0, "update_to_data": 0.5}
    config = config_class(**own | LQR_FIELDS[name])
    check_config(config)
    env = make("probe/lqr", config.num_envs)
    state = jax.jit(lambda key: train(key, config, make_agent, env, 30_000).state.agent)(jax.random.key(0))
    return config, state._replace(replay=())


def starts() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.75, 0.75, (512, 2))


def greedy(name: str, obs: np.ndarray) -> np.ndarray:
    config, state = learned(name)
    agent = build(load_agent(name)[0], as_arrays(config), make("probe/lqr", 1).spec)
    return np.asarray(agent.act(jax.random.key(0), state.policy, (), jnp.float32(obs), progress_at(1, 1), False)[0])


def test_the_gain_of_the_riccati_equation_is_feasible_and_its_cost_the_value() -> None:
    """`probe/lqr` is solved by it: simulated for 100 steps, in float64."""
    p, k = riccati()
    assert _cost(lambda x: -x @ k.T) == pytest.approx(np.mean(np.sum(starts() @ p * starts(), axis=1)), rel=1e-6)
    for scale in (0.9, 1.1):
        assert _cost(lambda x, scale=scale: -scale * x @ k.T) > _cost(lambda x: -x @ k.T)


def _cost(policy: Any) -> float:
    """The mean discounted cost of 100 steps from `starts`; actions must lie in the box."""
    a, b, q, r = (np.array(matrix) for matrix in LQR)
    x, total = starts(), 0.0
    for time in range(100):
        action = policy(x)
        assert np.abs(action).max() <= 1.0
        total += GAMMA**time * np.mean(np.sum(x @ q * x, axis=1) + np.sum(action @ r * action, axis=1))
        x = x @ a.T + action @ b.T
    return float(total)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LQR_FIELDS))
def test_a_linear_system_is_controlled_within_five_percent_of_the_optimal_cost(name: str) -> None:
    assert _cost(lambda x: greedy(name, x)) <= 1.05 * _cost(lambda x: -x @ riccati()[1].T)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LQR_FIELDS))
def test_critics_know_the_values_of_the_riccati_equation(name: str) -> None:
    """On average within 0.3, where optimal values have the mean -1.07: 0.03 a step, which bootstrapping multiplies by ten.

    The optimal q(x, a) is -x' P x - m (a + K x)^2 with m = R + gamma B' P B. TD3's noise of deviation s costs m s^2 in each
    step after the first. SAC and CrossQ are paid log of the integral of exp(q / alpha), alpha / 2 log(pi alpha / m), in each.
    """
    p, m = riccati()[0], float((np.array(LQR.action_cost) + GAMMA * np.array(LQR.control).T @ riccati()[0] @ LQR.control)[0, 0])
    soft = 0.1 / 2 * math.log(math.pi * 0.1 / m)
    each = {"ddpg": 0.0, "td3": -m * 0.05**2, "sac": soft, "crossq": soft}[name]
    config, state = learned(name)
    spec = make("probe/lqr", 1).spec
    networks = crossq_networks(config, spec) if name == "crossq" else actor_critics(config, spec, 1, 1)
    q = networks.q(state.critic, Seen(jnp.float32(starts())), jnp.asarray(greedy(name, starts()))).mean(0)
    value = -np.sum(starts() @ p * starts(), axis=1) + each * GAMMA / (1 - GAMMA)
    assert np.mean(np.abs(np.asarray(q) - value)) < 0.3


@pytest.mark.slow
def test_the_temperature_brings_the_entropy_to_its_target() -> None:
    """After 10,000 env steps of the linear system, within 0.1 nats."""
    make_agent, config_class = load_agent("sac")
    config = config_class(num_envs=4, hidden=(32,), batch_size=128, capacity=10_000, target_entropy=-0.5)
    env = make("probe/lqr", config.num_envs)
    rows = jax.jit(lambda key: train(key, config, make_agent, env, 10_000).rows)(jax.random.key(0))
    assert float(rows["entropy"][-1]) == pytest.approx(-0.5, abs=0.1)
    assert 0 < float(rows["temperature"][-1]) < 1


@pytest.mark.slow
def test_discrete_sac_finds_the_values_of_soft_value_iteration() -> None:
    """Four states and three actions at random, each of which leads to two states; temperature 0.3, discount 0.8.

    Values of actions taken more than one time in a hundred, and soft values of the states, within 0.1, where they reach 8.6;
    the others are hardly ever seen. Action probabilities within 0.05.
    """
    rng, alpha, gamma = np.random.default_rng(3), 0.3, 0.8
    successors, share = rng.integers(0, 4, (4, 3, 2)), rng.random((4, 3, 1))
    probabilities, rewards = np.concatenate([share, 1 - share], axis=2), rng.normal(size=(4, 3))
    value = np.zeros(4)
    for _ in range(500):
        q = rewards + gamma * np.sum(probabilities * value[successors], axis=2)
        value = alpha * np.log(np.sum(np.exp(q / alpha), axis=1))
    chances = np.exp((q - value[:, None]) / alpha)
    mdp = make_mdp(successors, np.float32(probabilities), np.float32(rewards), gamma)
    make_agent, config_class = load_agent("sac")
    own = {"num_envs": 8, "hidden": (32,), "gamma": gamma, "capacity": 20_000, "learning_rate_end_share": 0.05}
    config = config_class(**own, learning_rate=3e-3, temperature=alpha, auto_temperature=False, update_to_data=0.5)
    env = mdp_env(mdp, config.num_envs, time_limit=20)
    state = jax.jit(lambda key: train(key, config, make_agent, env, 30_000).state.agent)(jax.random.key(0))
    networks = actor_critics(config, env.spec, 3, 3)
    seen = networks.view.inputs((), jnp.arange(4))
    found = np.asarray(networks.critics.apply(state.critic, seen.x, None)).mean(0)
    policy = np.asarray(jax.nn.softmax(networks.actor.apply(state.policy.params, seen.x)))
    often = chances > 0.01
    assert often.sum() >= 8
    np.testing.assert_allclose(found[often], q[often], atol=0.1)
    np.testing.assert_allclose(policy, chances, atol=0.05)
    np.testing.assert_allclose(np.sum(policy * (found - alpha * np.log(policy)), axis=1), value, atol=0.1)
