"""The loop: act T steps in B environments, then update once. It serves every agent.

`train` is a whole run as one pure function, to jit, vmap or differentiate through. `jaxrl.drivers` runs the same iterations in
chunks, for the command line.

Randomness is a function of (key, iteration) and never carried, so a run can stop and go on anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import parallel
from jaxrl.arguments import declared, whole
from jaxrl.config import Config, as_arrays, rollout_length
from jaxrl.contracts import arguments
from jaxrl.contracts.agents import checked_agent
from jaxrl.contracts.environments import checked_if_own
from jaxrl.errors import UsageError
from jaxrl.plan import Plan as Plan
from jaxrl.plan import plan as plan
from jaxrl.plan import row_ends as row_ends
from jaxrl.types import (
    Agent,
    Array,
    Env,
    HostEnv,
    MakeAgent,
    Model,
    Progress,
    PyTree,
    RecentEpisodes,
    Rollout,
    RunState,
    Spec,
    TimeStep,
    counted,
    episode_end,
    first_episode_mask,
    position_spec,
    where_ended,
)

Sums = dict[str, Any]
"""Sums of reports by name, arrays of JAX or of NumPy."""
NUM_RECENT = 100
_WRAP = NUM_RECENT * 2 * (2**30 // (2 * NUM_RECENT))


class RunKeys(NamedTuple):
    """The three independent streams of a run, so that evaluating more often cannot change training."""

    init: Array
    train: Array
    evaluate: Array


class IterationKeys(NamedTuple):
    """Keys of one iteration.

    Attributes:
      reset: for environments that start afresh.
      act, env: [T] keys, one a step.
      update: for the agent's update.
    """

    reset: Array
    act: Array
    env: Array
    update: Array


def run_keys(key: Array) -> RunKeys:
    """Splits a run's key into its streams."""
    return RunKeys(*jax.random.split(key, 3))


def iteration_keys(key: Array, iteration: Array | int, rollout_length: int) -> IterationKeys:
    """The keys of one iteration, from the training stream. Both drivers draw them here."""
    keys = jax.random.split(jax.random.fold_in(key, iteration), 2 + 2 * rollout_length)
    return IterationKeys(keys[0], keys[2::2], keys[3::2], keys[1])


def build(make_agent: MakeAgent, config: Config, spec: Spec, model: Model | None = None) -> Agent:
    """The agent for environments of `spec`; inside a traced function its numbers may be tracers.

    Raises:
      UsageError: the agent needs whole episodes and T does not cover the time limit, or it cannot play this kind of game.
      ContractError, OwnCodeError: your own `make_agent` returned no agent, or raised.
    """
    length, agent = rollout_length(config, spec), checked_agent(make_agent, config, spec, model)
    if agent.fresh_episodes and (spec.time_limit is None or length < spec.time_limit):
        raise UsageError(
            f"rollout_length={length} does not cover the time limit {spec.time_limit}; "
            "this agent needs whole episodes, so give rollout_length 0"
        )
    if position_spec(spec.obs) is not None and not agent.respects_legal:
        raise UsageError("env: not every action is always legal here, and this agent takes any; choose one such as dqn or ppo")
    if spec.num_players > agent.max_players:
        raise UsageError(
            f"env: this is a game of {spec.num_players} players and this agent plays one side; give it an opponent, or choose "
            "an agent that plays both"
        )
    return agent


def build_in(make_agent: MakeAgent, config: Config, env: Env | HostEnv) -> Agent:
    """The agent for the training environment `env`, with its model if it has one.

    Raises:
      UsageError: the numbers of environments differ, the environment's episodes run out, or what `build` raises.
    """
    if env.num_envs != config.num_envs:
        raise UsageError(f"num_envs={config.num_envs} but the environment has {env.num_envs}; make both the same")
    if isinstance(env, Env) and env.num_episodes is not None:
        raise UsageError(
            f"env_options: an environment of {env.num_episodes} episodes, such as a test set, is for evaluations; give these "
            "options in eval_env_options"
        )
    return build(make_agent, config, env.spec, bound_model(env))


def bound_model(env: Env | HostEnv) -> Model | None:
    """The environment's model with its params, None where it has none."""
    if not isinstance(env, Env) or env.model is None:
        return None
    model, params = env.model, env.params
    return lambda key, obs, action: model(key, params, obs, action)


# --- one iteration --------------------------------------------------------------------------------------------------


def init_state(key: Array, agent: Agent, env: Env) -> RunState:
    """The state before the first iteration; `key` is the stream `RunKeys.init`."""
    key_agent, key_env = jax.random.split(key)
    env_state, obs = env.reset(key_env, env.params)
    return RunState(agent.init(key_agent), env_state, obs, agent.initial_memory(env.num_envs), no_episodes(), jnp.int32(0))


def no_episodes() -> RecentEpisodes:
    """The records of a run in which no episode has ended yet."""
    return RecentEpisodes(jnp.zeros(NUM_RECENT, jnp.float32), jnp.int32(0))


def iterate(
    key: Array, agent: Agent, env: Env, state: RunState, progress: Progress, length: int, learn: bool
) -> tuple[RunState, Sums]:
    """Acts `length` steps in every environment, then updates once (or only stores, where `learn` is False).

    Args:
      key: the stream `RunKeys.train`.
      progress: of the run, for schedules; its `iteration` is taken from the state.

    Returns:
      The next state and the sums of what is reported: episodes, their returns and lengths, updates and the update's metrics.
    """
    keys = iteration_keys(key, state.iteration, length)
    progress = progress._replace(iteration=state.iteration)
    if agent.fresh_episodes:
        env_state, obs = env.reset(keys.reset, env.params)
        state = state._replace(env=env_state, obs=obs, memory=agent.initial_memory(env.num_envs))
    state, rollout = collect(keys, agent, env, state, progress)
    agent_state, recent, sums = finish(
        keys.update, agent, state.agent, state.recent, rollout, progress, learn, env.spec.has_return
    )
    return state._replace(agent=parallel.replicate(agent_state), recent=recent, iteration=state.iteration + 1), sums


def collect(keys: IterationKeys, agent: Agent, env: Env, state: RunState, progress: Progress) -> tuple[RunState, Rollout]:
    """Acts T steps in B environments with exploration."""

    def step(carry: tuple[PyTree, PyTree, PyTree], key: tuple[Array, Array]) -> tuple[Any, Rollout]:
        env_state, obs, memory = carry
        action, memory, extras = agent.act(key[0], state.agent.policy, memory, obs, progress, True)
        env_state, timestep = env.step(key[1], env.params, env_state, action)
        memory = next_memory(agent, timestep, memory, env.num_envs)
        row = to_rollout(obs, action, timestep, extras)
        return parallel.divide(((env_state, timestep.obs, memory), row), axis=0, size=env.num_envs)

    carry, rollout = jax.lax.scan(step, (state.env, state.obs, state.memory), (keys.act, keys.env))
    rollout = parallel.divide(rollout, axis=1, size=env.num_envs)
    return state._replace(env=carry[0], obs=carry[1], memory=carry[2]), rollout


def next_memory(agent: Agent, timestep: TimeStep, memory: PyTree, num_envs: int) -> PyTree:
    """The memory to act with next: the initial one where an episode ended."""
    return where_ended(episode_end(timestep), agent.initial_memory(num_envs), memory)


def to_rollout(obs: PyTree, action: PyTree, timestep: TimeStep, extras: PyTree) -> Rollout:
    """One row of a rollout."""
    return Rollout(
        obs,
        action,
        timestep.reward,
        timestep.terminated,
        timestep.truncated & ~timestep.terminated,
        timestep.next_obs,
        extras,
        timestep.info,
    )


def finish(
    key: Array,
    agent: Agent,
    agent_state: PyTree,
    recent: RecentEpisodes,
    rollout: Rollout,
    progress: Progress,
    learn: bool,
    has_return: bool = True,
) -> tuple[PyTree, RecentEpisodes, Sums]:
    """The end of an iteration: records of the episodes that ended, and an update with its metrics or only storing."""
    recent, sums = record(recent, rollout, agent.fresh_episodes, has_return)
    if not learn:
        return agent.observe(agent_state, rollout), recent, sums
    agent_state, metrics = agent.update(key, agent_state, rollout, progress)
    return agent_state, recent, sums | reported(metrics)


def reported(metrics: dict[str, Array]) -> Sums:
    """An update's metrics as the sums of one iteration."""
    return {f"metric/{name}": value.astype(jnp.float32) for name, value in metrics.items()} | {"updates": jnp.int32(1)}


def record(
    recent: RecentEpisodes, rollout: Rollout, fresh_episodes: bool, has_return: bool = True
) -> tuple[RecentEpisodes, Sums]:
    """Counts the episodes that ended and keeps the last returns, NaN where the environment has none."""
    ended = counted(rollout)
    ended = (ended & first_episode_mask(ended) if fresh_episodes else ended).reshape(-1)
    returns = rollout.info["episode_return"].reshape(-1).astype(jnp.float32) if has_return else jnp.full(ended.shape, jnp.nan)
    lengths = rollout.info["episode_length"].reshape(-1)
    num = jnp.sum(ended, dtype=jnp.int32)
    # The ring needs the total modulo its size alone, and whether that many have ended: below 2^30 it never leaves 32 bits.
    recent = recent._replace(total=recent.total - (recent.total >= _WRAP) * jnp.int32(_WRAP // 2))
    rank = jnp.cumsum(ended, dtype=jnp.int32) - 1
    # Only the last NUM_RECENT of this rollout are written, each to its own place; index NUM_RECENT is dropped.
    kept = ended & (rank >= num - NUM_RECENT)
    place = jnp.where(kept, (recent.total + rank) % NUM_RECENT, NUM_RECENT)
    recent = RecentEpisodes(recent.returns.at[place].set(returns, mode="drop"), recent.total + num)
    sums = {
        "episodes": num,
        "return_sum": jnp.sum(jnp.where(ended, returns, 0.0)),
        "length_sum": jnp.sum(jnp.where(ended, lengths, 0).astype(jnp.float32)),
    }
    return recent, sums


def repeat(
    key: Array,
    agent: Agent,
    env: Env,
    state: RunState,
    count: Array | int,
    progress: Progress,
    length: int,
    learn: bool,
    sums: Sums | None = None,
) -> tuple[RunState, Sums]:
    """`count` iterations of one kind, and the sums of their reports on top of `sums`."""

    def body(_: Array, carry: tuple[RunState, Sums]) -> tuple[RunState, Sums]:
        state, sums = carry
        state, new = iterate(key, agent, env, state, progress, length, learn)
        return state, {**sums, **{name: sums[name] + value for name, value in new.items()}}

    if sums is None:
        shapes = jax.eval_shape(lambda s: iterate(key, agent, env, s, progress, length, learn)[1], state)
        sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.fori_loop(0, count, body, (state, sums))


def key_shape() -> jax.ShapeDtypeStruct:
    """Of a typed key, in the place of one where only shapes count."""
    return jax.eval_shape(lambda: jax.random.key(0))


def no_sums(agent: Agent, env: Env, state: RunState, progress: Progress, length: int) -> Sums:
    """Zeros on the host, for the sums of iterations that warm up and learn; `state` may be shapes."""
    shapes = jax.eval_shape(lambda key, s: iterate(key, agent, env, s, progress, length, True)[1], key_shape(), state)
    return {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}


# --- a whole run as one pure function -------------------------------------------------------------------------------


class TrainResult(NamedTuple):
    """What `train` returns.

    Attributes:
      state: the final `RunState`; `state.agent.policy` acts.
      rows: dict of [R] arrays, one row per stretch of learning, with the mean of each metric, `return_mean` (NaN where no
        episode ended), `episodes` and `env_steps`.
      config: that it was trained with, its traced fields as arrays.
    """

    state: RunState
    rows: dict[str, Array]
    config: Config

    def __repr__(self) -> str:
        shape = self.rows["env_steps"].shape
        runs = f", {shape[:-1]} runs" if shape[:-1] else ""
        return f"TrainResult({self.state}, {shape[-1]} rows of {', '.join(self.rows)}{runs})"


@declared(
    key=arguments.prng_key,
    config=arguments.agent_config,
    make_agent=arguments.make_agent,
    env=arguments.pure_env,
    total_steps=whole(1),
    num_rows=whole(1),
)
def train(
    key: Array,
    config: Config,
    make_agent: MakeAgent,
    env: Env,
    total_steps: int,
    num_rows: int = 20,
    env_params: PyTree | None = None,
) -> TrainResult:
    """A whole run: initialise, warm up, learn. Pure in `key`, `config`'s traced fields and the environment's params.

        runs = jax.vmap(lambda key: train(key, DQNConfig(), make_dqn, env, 500_000))(jax.random.split(key, 8))

    Args:
      key: a typed key; the whole run is a function of it.
      config: its traced fields may be tracers; static fields are structure.
      make_agent: such as `jaxrl.agents.make_dqn`.
      env: from `make`, with `config.num_envs` environments.
      total_steps: env steps, rounded up to whole iterations.
      num_rows: rows of metrics.
      env_params: in the place of `env.params`, which a jitted closure over `env` would bake into the program (a data set).

    Raises:
      UsageError: an argument of another kind, or settings that contradict each other.
      ContractError, OwnCodeError: your own agent or environment returned what it should not, or raised.
    """
    arguments.check_pair(make_agent, config)
    if env_params is not None:
        arguments.check_params(env, env_params)
        env = env._replace(params=env_params)
    env = checked_if_own(env)
    schedule = plan(config, env.spec, total_steps)
    counter = jax.dtypes.canonicalize_dtype(np.int64)  # 32 bits, where 64 are not enabled.
    if schedule.num_iterations * schedule.steps_per_iteration > np.iinfo(counter).max:
        raise UsageError(f"total_steps={total_steps} is out of range; give fewer than 2^31 where JAX counts in 32 bits")
    config = as_arrays(config)
    agent = build_in(make_agent, config, env)
    keys, progress = run_keys(key), schedule.progress(0)
    state = init_state(keys.init, agent, env)
    state, _ = repeat(keys.train, agent, env, state, schedule.num_warmup, progress, schedule.rollout_length, learn=False)
    num_learn = schedule.num_iterations - schedule.num_warmup
    num_rows = min(num_rows, num_learn)

    def stretch(state: RunState, count: int) -> tuple[RunState, dict[str, Array]]:
        state, sums = repeat(keys.train, agent, env, state, count, progress, schedule.rollout_length, learn=True)
        return state, averages(sums) | {"env_steps": state.iteration.astype(counter) * schedule.steps_per_iteration}

    count, rest = divmod(num_learn, num_rows)
    state, first = stretch(state, count + rest)
    state, others = jax.lax.scan(lambda state, _: stretch(state, count), state, None, length=num_rows - 1)
    return TrainResult(state, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, others), config)


def recent_return(recent: RecentEpisodes) -> tuple[np.ndarray, np.ndarray]:
    """(mean return of the last training episodes, NaN without any; how many these are), on the host.

    Args:
      recent: of one run, or with axes over runs in front.
    """
    returns, total = np.asarray(recent.returns), np.asarray(recent.total)
    episodes = np.minimum(total, NUM_RECENT)
    kept = np.arange(NUM_RECENT) < episodes[..., None]
    with np.errstate(invalid="ignore"):
        return np.where(kept, returns, 0.0).sum(-1, dtype=np.float64) / episodes, episodes


def averages(sums: Mapping[str, Any]) -> dict[str, Any]:
    """Means from sums and counts; NaN where nothing was counted."""
    updates, episodes = sums.get("updates", jnp.int32(0)), sums["episodes"]
    means = {name.removeprefix("metric/"): value / updates for name, value in sums.items() if name.startswith("metric/")}
    return {
        "updates": updates,
        "episodes": episodes,
        "return_mean": sums["return_sum"] / episodes,
        "length_mean": sums["length_sum"] / episodes,
        **means,
    }
