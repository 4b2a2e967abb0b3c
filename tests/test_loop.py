"""The loop's promises, each held by an agent of a few lines: memory, trees, mixed actions, whole episodes, warm-up."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import AS_USERS, JaxHostEnv, assert_close, assert_same_bits, progress_at
from jaxrl.agents.value.dqn import DQNConfig, make_dqn
from jaxrl.config import Config, as_arrays, config, traced
from jaxrl.drivers.device import device_driver, make_chunk
from jaxrl.drivers.evaluate import episode_scores, split_episodes
from jaxrl.drivers.host import host_driver
from jaxrl.envs import make
from jaxrl.envs.probe import MEMORY_DELAY
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.errors import UsageError
from jaxrl.loop import (
    NUM_RECENT,
    averages,
    build,
    collect,
    init_state,
    iterate,
    iteration_keys,
    no_episodes,
    plan,
    record,
    run_keys,
    train,
)
from jaxrl.maths import schedules
from jaxrl.types import (
    Agent,
    ArraySpec,
    Discrete,
    Env,
    Rollout,
    Spec,
    action_zeros,
    first_episode_mask,
    sample_action,
)

ZERO, ONE = jnp.int32(0), jnp.int32(1)


class Plain(NamedTuple):
    """The smallest agent state: something to act by."""

    policy: Any


@config
class PlainConfig(Config):
    """Fields of the agents below."""

    step_size: float = traced(0.2, "Step of the estimate.")


# --- agents of a few lines ------------------------------------------------------------------------------------------


def make_random(config: PlainConfig, spec: Spec, model: Any = None) -> Agent:
    """Acts at random whatever the action space; counts its updates and what it stored."""

    def act(key, policy, memory, obs, progress, explore):
        batch = jax.tree.leaves(obs)[0].shape[:1]
        action = sample_action(key, spec.action, batch) if explore else action_zeros(spec.action, batch)
        return action, memory, {"iteration": jnp.full(batch, progress.iteration)}

    def observe(state, rollout):
        return state._replace(policy=state.policy + jnp.array([0, rollout.reward.size]))

    def update(key, state, rollout, progress):
        state = observe(state, rollout)
        metrics = {"half": schedules.linear(progress, 1.0, 0.0, 0.5), "acted_at": rollout.extras["iteration"].mean()}
        return state._replace(policy=state.policy + jnp.array([1, 0])), metrics

    return Agent(init=lambda key: Plain(jnp.zeros(2, jnp.int32)), act=act, update=update, observe=observe)


def make_recaller(recurrent: bool):
    """Remembers the sum of what it saw (or not), and learns which action at the episode's end pays for which sum."""

    def make_agent(config: PlainConfig, spec: Spec, model: Any = None) -> Agent:
        def act(key, weights, memory, obs, progress, explore):
            memory = memory + obs[:, 0] if recurrent else obs[:, 0]
            greedy = jnp.argmax(memory[:, None] * weights, axis=-1).astype(jnp.int32)
            action = sample_action(key, spec.action, greedy.shape) if explore else greedy
            return action, memory, {"memory": memory}

        def update(key, state, rollout, progress):
            last = first_episode_mask(rollout.terminated) & rollout.terminated
            weight = last[..., None] * jax.nn.one_hot(rollout.action, 2)
            seen = rollout.extras["memory"][..., None]
            error = rollout.reward[..., None] - seen * state.policy
            step = (weight * error * seen).sum((0, 1)) / config.num_envs
            return Plain(state.policy + config.step_size * step), {"loss": jnp.mean(error**2)}

        return Agent(lambda key: Plain(jnp.zeros(2)), act, update, initial_memory=jnp.zeros, fresh_episodes=True)

    return make_agent


def make_searcher(config: PlainConfig, spec: Spec, model: Any = None) -> Agent:
    """Tries every sequence of three moves in the environment's model, from the observation, which is the game's state."""
    sequences = jnp.stack(jnp.meshgrid(*[jnp.arange(spec.action.n)] * 3, indexing="ij"), -1).reshape(-1, 3)

    def value(root, moves):
        def move(carry, action):
            state, total, over = carry
            after, reward, ended = model(jax.random.key(0), state, action)
            return (after, total + jnp.where(over, 0.0, reward), over | ended), None

        return jax.lax.scan(move, (root, 0.0, False), moves)[0][1]

    def act(key, policy, memory, obs, progress, explore):
        values = jax.vmap(lambda root: jax.vmap(lambda moves: value(root, moves))(sequences))(obs)
        return sequences[jnp.argmax(values, axis=-1), 0], memory, ()

    return Agent(lambda key: Plain(()), act, lambda key, state, rollout, progress: (state, {}))


def run_agent(make_agent: Any, env: Env, iterations: int, length: int, **fields: Any) -> Any:
    """(final state, sums) of a run without warm-up."""
    settings = as_arrays(PlainConfig(num_envs=env.num_envs, rollout_length=length, **fields))
    driver = device_driver(make_agent, env, lambda n: env)
    keys = run_keys(jax.random.key(0))
    state = driver.init(keys.init, settings, env.params)
    progress = progress_at(0, iterations)
    return driver.advance(keys.train, settings, env.params, state, np.int32(0), np.int32(iterations), progress)


# --- what the contracts carry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recurrent", "score"), [(True, 1.0), pytest.param(False, 0.0, marks=pytest.mark.slow)])
def test_only_an_agent_with_memory_solves_the_memory_probe(recurrent: bool, score: float) -> None:
    env = make("probe/memory", 64)
    make_agent = make_recaller(recurrent)
    state, _ = run_agent(make_agent, env, 50, MEMORY_DELAY)
    agent = build(make_agent, PlainConfig(num_envs=64, rollout_length=MEMORY_DELAY), env.spec)
    returns, _ = episode_scores(jax.random.key(1), agent, env, state.agent.policy, progress_at(ZERO, ONE), 8)
    assert np.isclose(returns.mean(), score, atol=0.2 if score == 0.0 else 1e-6)


def test_memory_is_reset_after_an_episode_ended() -> None:
    """Along a rollout of several episodes the remembered sum is the running episode's cue, never an older one's."""
    env = make("probe/memory", 8)
    settings = as_arrays(PlainConfig(num_envs=8, rollout_length=12))
    agent = build(make_recaller(True), settings, env.spec)._replace(fresh_episodes=False)
    state = init_state(jax.random.key(0), agent, env)
    _, rollout = collect(iteration_keys(jax.random.key(1), 0, 12), agent, env, state, progress_at(ZERO, ONE))
    cue = rollout.obs[0::MEMORY_DELAY, :, 0]
    np.testing.assert_array_equal(rollout.extras["memory"], jnp.repeat(cue, MEMORY_DELAY, axis=0))


def test_mixed_actions_and_dict_observations_pass_through_the_loop() -> None:
    env = make("probe/mixed", 4)
    _, sums = run_agent(make_random, env, 10, 3)
    assert int(sums["episodes"]) == 10 * 3 * 4


def test_a_search_gets_its_root_from_the_observation() -> None:
    env = make("probe/state", 4)
    _, sums = run_agent(make_searcher, env, 4, 3)
    assert averages(sums)["return_mean"] == 1.0


def test_warm_up_only_stores_and_learning_follows_it() -> None:
    env = make("probe/constant", 4)
    settings = PlainConfig(num_envs=4, rollout_length=2, learning_starts=20)
    result = train(jax.random.key(0), settings, make_random, env, 80)
    updates, stored = result.state.agent.policy
    assert (int(updates), int(stored), int(result.state.iteration)) == (7, 80, 10)


def test_schedules_follow_the_progress_of_the_run() -> None:
    """Ten iterations: 1 - i / 5 up to the half, then 0; their mean is (1 + 0.8 + 0.6 + 0.4 + 0.2) / 10."""
    _, sums = run_agent(make_random, make("probe/constant", 4), 10, 1)
    means = averages(sums)
    assert np.isclose(means["half"], 0.3) and np.isclose(means["acted_at"], 4.5)


# --- whole episodes -------------------------------------------------------------------------------------------------


def ramp(num_envs: int, time_limit: int | None = None) -> Env:
    """Counts up from 0; episodes last 2 or 5 steps by a coin; reward is the count."""

    def reset(key, params):
        return (jnp.float32(0), jnp.where(jax.random.bernoulli(key), 2.0, 5.0)), jnp.zeros(1)

    def step(key, params, state, action):
        count, end = state[0] + 1.0, state[1]
        return Transition((count, end), count[None], count, count >= end)

    spec = Spec(ArraySpec((1,), "float32"), Discrete(2), 5 if time_limit is None else time_limit)
    return batch_env(spec, (), reset, step, num_envs)


def make_whole(config: PlainConfig, spec: Spec, model: Any = None) -> Agent:
    """A random agent that asks for whole episodes."""
    return make_random(config, spec, model)._replace(fresh_episodes=True)


def test_fresh_episodes_start_at_a_reset_and_count_one_episode_each() -> None:
    env = ramp(16)
    state, sums = run_agent(make_whole, env, 6, 0)
    assert int(sums["episodes"]) == 16 * 6
    assert set(np.unique(state.recent.returns[: 16 * 6]).tolist()) == {3.0, 15.0}


def test_whole_episodes_are_not_biased_towards_short_ones() -> None:
    """Half of the episodes are short. Counting whatever ends within a rollout would find about five in seven."""
    _, sums = run_agent(make_whole, ramp(64), 20, 5)
    assert abs(float(averages(sums)["length_mean"]) - 3.5) < 0.15


def test_a_rollout_that_does_not_cover_the_time_limit_is_refused() -> None:
    with pytest.raises(UsageError, match="rollout_length=3 does not cover the time limit 5"):
        build(make_whole, PlainConfig(num_envs=2, rollout_length=3), ramp(2).spec)


def test_first_episode_mask_keeps_the_end_itself() -> None:
    ended = jnp.array([[0, 1], [1, 0], [0, 1]], bool)
    assert first_episode_mask(ended).tolist() == [[True, True], [True, False], [False, False]]


# --- records --------------------------------------------------------------------------------------------------------


def rollout_of(ended: Any, returns: Any) -> Rollout:
    ended, returns = jnp.asarray(ended, bool), jnp.asarray(returns, jnp.float32)
    info = {"episode_return": returns, "episode_length": jnp.ones(ended.shape, jnp.int32)}
    return Rollout((), (), returns, ended, jnp.zeros_like(ended), (), (), info)


def test_the_last_hundred_returns_are_kept_in_order() -> None:
    recent = no_episodes()
    recent, sums = record(recent, rollout_of([[1, 0], [1, 1]], [[7, 8], [9, 10]]), False)
    assert recent.returns[:3].tolist() == [7, 9, 10] and int(recent.total) == 3
    assert (int(sums["episodes"]), float(sums["return_sum"])) == (3, 26.0)
    many = jnp.arange(250.0).reshape(125, 2)
    recent, _ = record(recent, rollout_of(jnp.ones((125, 2)), many), False)
    assert sorted(recent.returns.tolist()) == list(range(250 - NUM_RECENT, 250))
    assert int(recent.total) == 253


def test_episodes_that_end_across_rollouts_are_counted_whole() -> None:
    """CartPole's return is its length: sums over iterations agree with each other."""
    _, sums = run_agent(make_random, make("CartPole-v1", 4), 100, 3)
    assert int(sums["episodes"]) > 20
    assert float(sums["return_sum"]) == float(sums["length_sum"])


# --- keys -----------------------------------------------------------------------------------------------------------


def test_no_two_keys_of_a_run_are_equal() -> None:
    streams = run_keys(jax.random.key(0))
    keys = [jax.random.key_data(k) for k in streams]
    for stream in streams:
        for iteration in range(4):
            drawn = iteration_keys(stream, iteration, 3)
            keys += [jax.random.key_data(k) for k in (drawn.reset, drawn.update, *drawn.act, *drawn.env)]
    assert len({tuple(k.tolist()) for k in keys}) == len(keys)


# --- drivers --------------------------------------------------------------------------------------------------------

SMALL = DQNConfig(num_envs=4, hidden=(16,), capacity=256, batch_size=16, learning_starts=32, target_period=40)


def test_the_pure_run_equals_the_chunked_one() -> None:
    env = make("CartPole-v1", 4)
    schedule = plan(SMALL, env.spec, 32 + 80)
    result = jax.jit(lambda key: train(key, SMALL, make_dqn, env, 32 + 80, num_rows=4))(jax.random.key(0))
    keys, settings = run_keys(jax.random.key(0)), as_arrays(SMALL)
    driver = device_driver(make_dqn, env, lambda n: make("CartPole-v1", n))
    state = driver.init(keys.init, settings, env.params)
    state, sums = driver.advance(keys.train, settings, env.params, state, np.int32(8), np.int32(20), schedule.progress(0))
    assert_close(result.state, state)
    assert result.rows["env_steps"].tolist() == [52, 72, 92, 112]
    assert np.isclose(result.rows["loss"].mean(), averages(sums)["loss"], rtol=1e-4)


def test_a_chunk_split_anywhere_gives_the_same_bits() -> None:
    env, settings = make("CartPole-v1", 4), as_arrays(SMALL)
    driver = device_driver(make_dqn, env, lambda n: make("CartPole-v1", n))
    keys = run_keys(jax.random.key(0))

    def run(parts: list[tuple[int, int]]) -> Any:
        state = driver.init(keys.init, settings, env.params)
        for warmup, learn in parts:
            counts = np.int32(warmup), np.int32(learn), progress_at(0, 40, 8, 4)
            state, _ = driver.advance(keys.train, settings, env.params, state, *counts)
        return state

    assert_same_bits(run([(8, 32)]), run([(3, 0), (5, 1), (0, 0), (0, 30), (0, 1)]))


def test_a_run_can_be_differentiated_with_respect_to_its_learning_rate() -> None:
    """Against a finite difference, where nothing jumps: random actions, and no bootstrap, whose gradient DQN stops."""
    env = make("CartPole-v1", 4)
    fields = {**vars(SMALL), "gamma": 0.0, "epsilon_start": 1.0, "epsilon_end": 1.0}

    @jax.jit
    @jax.value_and_grad
    def final_loss(learning_rate):
        settings = DQNConfig(**{**fields, "learning_rate": learning_rate})
        return train(jax.random.key(0), settings, make_dqn, env, 32 + 40, num_rows=1).rows["loss"][-1]

    _, slope = final_loss(1e-3)
    estimate = (final_loss(1.05e-3)[0] - final_loss(0.95e-3)[0]) / 1e-4
    assert np.isclose(slope, estimate, rtol=0.02) and slope < 0.0


class Batch(NamedTuple):
    """A run as a function of what may be a batch axis, its arguments and its results, compiled as one program.

    Attributes:
      run: (key, learning rate, angle at which the pole has fallen) -> (policy, mean length of training episodes).
      arguments, results: [5] each; the last two runs differ in the angle alone.
    """

    run: Any
    arguments: Any
    results: Any


@pytest.fixture(scope="module")
def batch() -> Batch:
    env = make("CartPole-v1", 4)

    def run(key, learning_rate, angle):
        bound = env._replace(params=env.params.replace(theta_threshold_radians=angle))
        result = train(key, DQNConfig(**{**vars(SMALL), "learning_rate": learning_rate}), make_dqn, bound, 200, num_rows=1)
        return result.state.agent.policy, result.rows["length_mean"][0]

    keys, rates = jax.random.split(jax.random.key(0), 4), jnp.array([1e-3, 1e-2, 1e-1, 1e-3, 1e-3])
    arguments = keys[jnp.array([0, 1, 2, 3, 3])], rates, jnp.array([0.2, 0.2, 0.2, 0.1, 0.4])
    return Batch(run, arguments, jax.jit(jax.vmap(run))(*arguments))


def test_seeds_and_learning_rates_are_batch_axes_of_a_run(batch: Batch) -> None:
    alone = jax.jit(batch.run)(*(argument[1] for argument in batch.arguments))
    assert_close(jax.tree.map(lambda leaf: leaf[1], batch.results), alone)


def test_physics_are_a_batch_axis_of_a_run(batch: Batch) -> None:
    """A pole that may lean further falls later."""
    _, lengths = batch.results
    assert lengths[3] < lengths[4]


@pytest.mark.parametrize("probe", ["memory", "mixed"])
def test_the_host_driver_carries_memory_trees_and_whole_episodes(probe: str) -> None:
    make_agent = make_recaller(True) if probe == "memory" else make_random
    env, length = make(f"probe/{probe}", 8), MEMORY_DELAY
    settings = as_arrays(PlainConfig(num_envs=8, rollout_length=length))
    keys = run_keys(jax.random.key(0))
    device = device_driver(make_agent, env, lambda n: env)
    state = device.init(keys.init, settings, env.params)
    state, sums = device.advance(keys.train, settings, env.params, state, np.int32(0), np.int32(6), progress_at(0, 6))
    host_env = FreshHostEnv(env, keys.init, keys.train, length) if probe == "memory" else None
    host = host_driver(make_agent, host_env or JaxHostEnv(env, keys.init, keys.train, length), lambda n: env)
    host_state = host.init(keys.init, settings, ())
    host_state, host_sums = host.advance(keys.train, settings, (), host_state, 0, 6, progress_at(0, 6))
    assert_close(host_state.agent, state.agent)
    assert_close(dict(host_sums), dict(sums))


class FreshHostEnv(JaxHostEnv):
    """Resets at the start of an iteration with the key that the device driver takes for it."""

    def reset(self, seed: int) -> Any:
        if self._steps or hasattr(self, "_state"):
            key = iteration_keys(self._key_train, self._steps // self._length, self._length).reset
            self._state, obs = self._env.reset(key, self._env.params)
            return jax.device_get(obs)
        return super().reset(seed)


@pytest.mark.optimized
@pytest.mark.parametrize("is_alone", [pytest.param(True, marks=pytest.mark.slow), False], ids=["alone", "four"])
def test_a_population_holds_no_second_replay(is_alone: bool) -> None:
    """Arguments, outputs and temporaries minus what is aliased: at most 1.2 times the replays, alone and for four runs."""
    env = make("CartPole-v1", 10)
    settings = as_arrays(DQNConfig(num_envs=10, capacity=1_000_000))
    chunk = make_chunk(make_dqn, env)
    init = lambda key: init_state(key, build(make_dqn, settings, env.spec), env)  # noqa: E731
    state = jax.eval_shape(init, jax.random.key(0))
    axes = type(state)(agent=0, env=0, obs=0, memory=0, recent=0, iteration=None)
    keys = jax.random.split(jax.random.key(0), 4)
    many = jax.eval_shape(lambda keys: jax.vmap(init, out_axes=axes)(keys), keys)
    population = jax.vmap(chunk, in_axes=(0, None, None, axes, None, None, None), out_axes=(axes, 0))
    counts = (np.int32(1), np.int32(1), progress_at(0, 2, 1, 10))
    function, key, argument = (chunk, keys[0], state) if is_alone else (population, keys, many)
    program = jax.jit(function, donate_argnums=3).lower(key, settings, env.params, argument, *counts)
    memory = program.compile(AS_USERS).memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    used -= memory.alias_size_in_bytes
    replays = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(argument.agent.replay.data))
    assert replays >= (1 if is_alone else 4) * 41e6
    assert used <= 1.2 * replays


# --- plans and evaluation -------------------------------------------------------------------------------------------


def test_a_plan_rounds_steps_up_to_whole_iterations() -> None:
    spec = make("CartPole-v1", 4).spec
    assert plan(PlainConfig(num_envs=4, rollout_length=3, learning_starts=13), spec, 100)[:] == (3, 12, 2, 9)
    assert plan(PlainConfig(num_envs=2, rollout_length=0), spec, 1000)[:] == (500, 1000, 0, 1)


@pytest.mark.parametrize(
    ("fields", "steps", "words"),
    [({}, 0, "total_steps=0"), ({}, -5, "total_steps=-5"), ({"learning_starts": 100}, 100, "learning_starts=100")],
)
def test_a_plan_without_learning_is_refused(fields: dict, steps: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(PlainConfig(**fields), make("CartPole-v1", 1).spec, steps)


@pytest.mark.parametrize(
    ("wanted", "expected"), [(1, (1, 1)), (100, (100, 1)), (128, (128, 1)), (150, (75, 2)), (131, (66, 2))]
)
def test_evaluation_gives_every_environment_the_same_number_of_episodes(wanted: int, expected: tuple[int, int]) -> None:
    assert split_episodes(wanted) == expected


def test_evaluation_is_not_biased_towards_short_episodes() -> None:
    """Half of the ramp's episodes return 3, half 15: a mean of 9; the first to finish would give less."""
    env = ramp(128)
    agent = build(make_random, PlainConfig(num_envs=128), env.spec)
    returns, _ = episode_scores(jax.random.key(0), agent, env, jnp.zeros(2, jnp.int32), progress_at(ZERO, ONE), 4)
    assert returns.shape == (512,)
    assert abs(float(returns.mean()) - 9.0) < 1.0
    assert set(np.unique(returns).tolist()) == {3.0, 15.0}


def test_an_iteration_hands_the_true_successor_to_the_agent() -> None:
    env = make("probe/truncation", 32)
    settings = as_arrays(PlainConfig(num_envs=32))
    agent = build(make_random, settings, env.spec)
    state = init_state(jax.random.key(0), agent, env)
    _, rollout = collect(iteration_keys(jax.random.key(1), 0, 1), agent, env, state, progress_at(ZERO, ONE))
    np.testing.assert_array_equal(rollout.next_obs, rollout.obs)
    np.testing.assert_array_equal(rollout.truncated[0], rollout.obs[0, :, 0] < 0)
    np.testing.assert_array_equal(rollout.terminated[0], rollout.obs[0, :, 0] > 0)


def test_an_iteration_advances_the_counter_by_one() -> None:
    env = make("probe/constant", 2)
    agent = build(make_random, PlainConfig(num_envs=2), env.spec)
    state = init_state(jax.random.key(0), agent, env)
    state, _ = iterate(jax.random.key(1), agent, env, state, progress_at(0, 5), 1, True)
    assert int(state.iteration) == 1


def test_a_config_out_of_range_is_refused_as_far_as_it_is_known():
    """Plainly and within a traced function, where other fields are tracers."""
    env, key = make("probe/constant", 4), jax.random.key(0)

    def run(gamma, **fields):
        return train(key, DQNConfig(num_envs=4, learning_starts=8, gamma=gamma, **fields), make_dqn, env, 16)

    for fields, words in (
        ({"epsilon_end": -3.0}, r"epsilon_end=-3.0 is out of range; give a value in \[0, 1\]"),
        ({"target_period": 2**31}, "target_period=2147483648 does not fit 32 bits"),
        ({"learning_rate": jnp.float32(-1)}, "learning_rate=-1.0 is out of range"),
        ({"capacity": 16}, "batch_size=128 exceeds capacity=16; raise capacity"),
    ):
        for call in (run, lambda gamma, **given: jax.eval_shape(lambda traced: run(traced, **given), gamma)):
            with pytest.raises(UsageError, match=words):
                call(jnp.float32(0.5), **fields)
    with pytest.raises(UsageError, match=r"gamma=2.0 is out of range"):
        run(2.0)
