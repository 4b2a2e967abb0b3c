"""What the contracts carry beyond one player, all actions and one environment: each is exercised by a toy."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import JaxHostEnv, assert_close, nim, progress_at, slow_but
from jaxrl.agents import load_agent
from jaxrl.config import Config, agent_config, as_arrays
from jaxrl.drivers.device import device_driver
from jaxrl.drivers.evaluate import episode_scores
from jaxrl.drivers.host import host_driver
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.errors import UsageError
from jaxrl.loop import averages, build, build_in, collect, init_state, iteration_keys, run_keys, train
from jaxrl.replay.experience import make_experience
from jaxrl.types import (
    Agent,
    ArraySpec,
    Box,
    Discrete,
    Env,
    Position,
    ReplayFunctions,
    Rollout,
    Spec,
    off_policy,
    position_spec,
    seen_spec,
    tree_spec,
)


@agent_config
class ToyConfig(Config):
    """No fields of its own."""


class Toy(NamedTuple):
    policy: Any
    replay: Any = ()


# --- two players ------------------------------------------------------------------------------------------------------


def make_one_ply(config: ToyConfig, spec: Spec, model: Any = None) -> Agent:
    """Takes what wins at once, else the lowest legal action."""

    def act(key, policy, memory, obs, progress, explore):
        def reward(obs, action):
            return jnp.where(obs.legal[action], model(key, obs, action)[1], -jnp.inf)

        values = jax.vmap(lambda one: jax.vmap(lambda action: reward(one, action))(jnp.arange(spec.action.n)))(obs)
        return jnp.argmax(values, axis=-1).astype(jnp.int32), memory, ()

    def update(key, state, rollout, progress):
        return state, {"reward": jnp.mean(rollout.reward)}

    return Agent(lambda key: Toy(()), act, update, respects_legal=True, max_players=2)


def run(make_agent: Any, env: Env, iterations: int, **fields: Any) -> Any:
    settings, keys = as_arrays(ToyConfig(num_envs=env.num_envs, **fields)), run_keys(jax.random.key(0))
    driver = device_driver(make_agent, env, lambda n: env)
    state = driver.init(keys.init, settings, env.params)
    progress = progress_at(0, iterations)
    return driver.advance(keys.train, settings, env.params, state, np.int32(0), np.int32(iterations), progress)


def test_a_searcher_plays_both_sides_of_a_game_in_its_model() -> None:
    """From three stones the side that moves second takes all that is left, so each game is two moves long."""
    state, sums = run(make_one_ply, nim(4), 6, rollout_length=2)
    assert int(sums["episodes"]) == 4 * 6 and float(averages(sums)["length_mean"]) == 2.0
    assert float(sums["metric/reward"]) == 6 * 0.5
    assert np.isnan(averages(sums)["return_mean"]) and np.isnan(state.recent.returns[: 4 * 6]).all()


@pytest.mark.parametrize("name", ["dqn", "ppo", "reinforce"])
def test_an_agent_of_one_side_is_refused_by_a_game_of_two(name: str) -> None:
    make_agent, config = load_agent(name)
    with pytest.raises(UsageError, match="this is a game of 2 players and this agent plays one side; give it an opponent"):
        build(make_agent, config(), nim(1).spec)


# --- legal actions ----------------------------------------------------------------------------------------------------

NUM_ACTIONS = 4


def masked(num_envs: int) -> Env:
    """One step in which some actions are illegal; a legal one is rewarded with its number, any other costs 10."""

    def reset(key, params):
        legal = jax.random.bernoulli(key, 0.4, (NUM_ACTIONS,)).at[0].set(True)
        return legal, Position(legal.astype(jnp.float32), legal, jnp.int32(7))

    def step(key, params, legal, action):
        reward = jnp.where(legal[action], action.astype(jnp.float32), -10.0)
        nothing = jnp.zeros(NUM_ACTIONS, bool)  # Where the game is over there is nothing to do.
        return Transition(legal, Position(legal.astype(jnp.float32), nothing, jnp.int32(7)), reward, True)

    obs = Position(jnp.zeros(NUM_ACTIONS), jnp.zeros(NUM_ACTIONS, bool), jnp.int32(0))
    return batch_env(Spec(tree_spec(obs), Discrete(NUM_ACTIONS), 1), (), reset, step, num_envs)


_FROM_REPLAY = {"learning_starts": 320, "epsilon_end": 0.5, "capacity": 2_000, "batch_size": 64, "learning_rate": 3e-3}
_ATOMS = {"num_atoms": 21, "v_min": -5.0, "v_max": 5.0}
MASKED: dict[str, dict[str, Any]] = {
    "dqn": _FROM_REPLAY,
    "c51": _FROM_REPLAY | _ATOMS,
    "qr_dqn": _FROM_REPLAY,
    "iqn": _FROM_REPLAY,
    "rainbow": _FROM_REPLAY | _ATOMS,
    "a2c": {"rollout_length": 4, "learning_rate": 1e-2, "entropy_coef": 0.01},
    "ppo": {"rollout_length": 8, "learning_rate": 1e-2},
    "pqn": {"rollout_length": 8, "learning_rate": 1e-2, "epsilon_end": 0.5},
    "r2d2": _FROM_REPLAY | {"gru": 8},
    "reinforce": {},
}


@pytest.mark.parametrize("name", slow_but(("dqn", "a2c"), MASKED))
def test_illegal_actions_are_neither_taken_nor_the_maximum(name: str) -> None:
    make_agent, config_class = load_agent(name)
    config, env = config_class(num_envs=32, hidden=(32,), **MASKED[name]), masked(32)
    agent = build_in(make_agent, as_arrays(config), env)

    @jax.jit
    def learn(key):
        state = train(key, config, make_agent, env, 16_000, num_rows=1).state
        _, rollout = collect(iteration_keys(key, 0, 8), agent, env, state, progress_at(0, 10))
        scores = episode_scores(key, agent, env, state.agent.policy, progress_at(10, 10), 4)
        return rollout, scores

    rollout, scores = learn(jax.random.key(0))
    assert (rollout.reward >= 0).all() and len(np.unique(rollout.action)) == NUM_ACTIONS
    # The best legal action is worth the largest of its numbers: 3 with probability 0.4, else 2, else 1, else 0.
    assert float(scores.returns.min()) >= 0
    best = 3 * 0.4 + 0.6 * (2 * 0.4 + 0.6 * (1 * 0.4))
    assert abs(float(scores.returns.mean()) - best) < 0.35


def test_an_agent_that_would_take_any_action_is_refused() -> None:
    make_agent, config = load_agent("q_learning")
    with pytest.raises(UsageError, match="not every action is always legal here"):
        build(lambda config, spec, model=None: make_plain(), config(), masked(1).spec)
    with pytest.raises(UsageError, match="observations that are one integer"):
        build(make_agent, config(), masked(1).spec)


def make_plain() -> Agent:
    return Agent(lambda key: Toy(()), lambda *_: None, lambda *_: None)  # type: ignore[arg-type,return-value]


def test_the_spec_of_a_position_comes_apart() -> None:
    spec = masked(1).spec.obs
    position = position_spec(spec)
    assert position == Position(ArraySpec((4,), "float32"), ArraySpec((4,), "bool"), ArraySpec((), "int32"))
    assert seen_spec(spec) == ArraySpec((4,), "float32")
    assert position_spec(ArraySpec((4,), "float32")) is None and seen_spec(ArraySpec((4,), "float32")).shape == (4,)


# --- replay: extras, feedback, what is absorbed -----------------------------------------------------------------------

CAPACITY = 8


class Priorities(NamedTuple):
    """A replay of rewards, each with a priority."""

    rewards: jax.Array
    priority: jax.Array
    extras: jax.Array
    place: jax.Array


class Counting(NamedTuple):
    policy: jax.Array
    replay: Priorities
    rewards_seen: jax.Array


def make_prioritized(config: ToyConfig, spec: Spec, model: Any = None) -> Agent:
    """Learns nothing but the sum of what it draws; what was drawn loses half of its priority."""

    def store(replay, rollout):
        rows = (replay.place + jnp.arange(rollout.reward.size)) % CAPACITY
        return Priorities(
            replay.rewards.at[rows].set(rollout.reward.reshape(-1)),
            replay.priority.at[rows].set(1.0),
            replay.extras.at[rows].set(rollout.extras["mark"].reshape(-1)),
            (replay.place + rollout.reward.size) % CAPACITY,
        )

    def sample(key, replay):
        return jax.lax.top_k(replay.priority - jnp.arange(CAPACITY) * 1e-6, 2)[1]

    def learn(key, state, batches, progress):
        return state._replace(policy=state.policy + jnp.sum(batches)), {"loss": jnp.float32(0.0)}, {"seen": batches}

    def feed(replay, batches, feedback):
        return replay._replace(priority=replay.priority.at[feedback["seen"]].multiply(0.5))

    def absorb(state, rollout):
        return state._replace(rewards_seen=state.rewards_seen + rollout.reward.size)

    def act(key, policy, memory, obs, progress, explore):
        return jnp.zeros(obs.shape[:1], jnp.int32), memory, {"mark": obs[:, 0]}

    def init(key):
        empty = Priorities(jnp.zeros(CAPACITY), jnp.zeros(CAPACITY), jnp.zeros(CAPACITY), jnp.int32(0))
        return Counting(jnp.int32(0), empty, jnp.int32(0))

    return off_policy(init, act, ReplayFunctions(store, sample, learn, absorb, feed))


def walk(num_envs: int) -> Env:
    """The observation counts the steps, the reward is the count."""

    def reset(key, params):
        return jnp.float32(0), jnp.zeros(1)

    def step(key, params, count, action):
        return Transition(count + 1, (count + 1)[None], count + 1, False)

    return batch_env(Spec(ArraySpec((1,), "float32"), Discrete(2)), (), reset, step, num_envs)


def test_feedback_halves_the_priority_of_what_was_seen() -> None:
    """Two steps of warm-up, then three iterations of two environments: each draws the two freshest of equal priority."""
    env, settings, keys = walk(2), as_arrays(ToyConfig(num_envs=2)), run_keys(jax.random.key(0))
    driver = device_driver(make_prioritized, env, lambda n: env)
    state = driver.init(keys.init, settings, env.params)
    state, _ = driver.advance(keys.train, settings, env.params, state, np.int32(1), np.int32(3), progress_at(0, 4, 1, 2))
    replay = state.agent.replay
    np.testing.assert_array_equal(replay.rewards, [1, 1, 2, 2, 3, 3, 4, 4])
    # Draws: places 0 and 1, then 2 and 3, then 4 and 5, as what is new comes with a priority of 1.
    np.testing.assert_allclose(replay.priority, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1])
    np.testing.assert_array_equal(replay.extras, [0, 0, 1, 1, 2, 2, 3, 3])
    assert int(state.agent.policy) == 0 + 1 + 2 + 3 + 4 + 5 and int(state.agent.rewards_seen) == 8


@pytest.mark.parametrize("apart", [False, True])
def test_the_host_driver_absorbs_and_feeds_back_wherever_the_replay_is(apart: bool) -> None:
    env, settings, keys = walk(2), as_arrays(ToyConfig(num_envs=2)), run_keys(jax.random.key(0))
    device = device_driver(make_prioritized, env, lambda n: env)
    counts = (np.int32(1), np.int32(3), progress_at(0, 4, 1, 2))
    expected, _ = device.advance(keys.train, settings, env.params, device.init(keys.init, settings, env.params), *counts)
    there = jax.devices("cpu")[0] if apart else None
    host = host_driver(make_prioritized, JaxHostEnv(env, keys.init, keys.train, 1), lambda n: env, replay_device=there)
    found, _ = host.advance(keys.train, settings, (), host.init(keys.init, settings, ()), *counts)
    assert_close(found.agent, expected.agent)


class Mixed(NamedTuple):
    """Mixed actions."""

    choice: Any
    amount: Any


@pytest.mark.parametrize("n_step", [1, 2])
def test_a_replay_keeps_trees_mixed_actions_and_extras(n_step: int) -> None:
    """Transition t has observation t, action t, reward t and extra t, so that what belongs together can be told."""
    obs = tree_spec({"a": jnp.zeros(2), "b": jnp.int32(0)})
    experience = make_experience(obs, Mixed(Discrete(9), Box((2,))), 1, 40, n_step, 0.5, {"memory": jnp.zeros(3)})
    time = jnp.arange(12)[:, None]

    def seen(count: jax.Array) -> Any:
        return {"a": jnp.broadcast_to(count[..., None], (12, 1, 2)).astype(jnp.float32), "b": count}

    extras = {"memory": jnp.broadcast_to(time[..., None], (12, 1, 3)).astype(jnp.float32)}
    action = Mixed(time, jnp.broadcast_to(time[..., None], (12, 1, 2)).astype(jnp.float32))
    never = jnp.zeros((12, 1), bool)
    rollout = Rollout(seen(time), action, time.astype(jnp.float32), never, never, seen(time + 1), extras, {})
    ring = experience.store(experience.init(), rollout)
    sample = experience.sample(jax.random.key(0), ring, (2, 50))
    found = jax.device_get(sample.transitions)
    count = found.obs["b"]
    assert set(np.unique(count)) == set(range(12))
    np.testing.assert_array_equal(found.obs["a"], np.stack([count, count], -1))
    np.testing.assert_array_equal(found.action.choice, count)
    np.testing.assert_array_equal(found.action.amount[..., 0], count)
    np.testing.assert_array_equal(found.extras["memory"][..., 2], count)
    steps = np.minimum(n_step, 12 - count)
    np.testing.assert_array_equal(found.next_obs["b"], count + steps)
    np.testing.assert_allclose(found.reward, count + (steps == 2) * 0.5 * (count + 1))
    assert int(sample.size) == 12
    np.testing.assert_allclose(sample.probability, 1 / 12)


def test_a_game_that_is_told_its_agent_has_the_params_it_trains_with() -> None:
    """The model that an agent gets is bound to the training environment, whatever environment it then acts in."""
    env = nim(2)
    agent = build_in(make_one_ply, as_arrays(ToyConfig(num_envs=2)), env)
    state = init_state(jax.random.key(0), agent, env)
    action, _, _ = agent.act(jax.random.key(0), (), (), state.obs, progress_at(0, 1), False)
    assert action.tolist() == [0, 0]
