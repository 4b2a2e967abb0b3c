"""The loop for environments that live on the host (Gymnasium, envpool): the same agents, the same key schedule.

Acting and updating are the same compiled functions as on the device; only the environment's step is a call into NumPy between
them. Host environments cannot be saved: a resumed run restores the agent exactly and begins new episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import evaluate
from jaxrl.config import Config
from jaxrl.loop import (
    Driver,
    IterationKeys,
    MakeAgent,
    Sums,
    build,
    find_nan,
    finish,
    iteration_keys,
    next_memory,
    no_episodes,
    rollout_length,
    to_rollout,
)
from jaxrl.types import Agent, Array, HostEnv, Progress, PyTree, RecentEpisodes, Rollout, RunState, TimeStep, episode_end


def host_driver(make_agent: MakeAgent, env: HostEnv, make_eval_env: Callable[[int], HostEnv], debug: bool = False) -> Driver:
    """The driver for host environments.

    Args:
      make_eval_env: (num_envs) -> environments for an evaluation, closed after it.
      debug: check every operation of an update for NaN; slower.
    """
    num_envs = env.num_envs

    def keys_of(key: Array, config: Config, iteration: Array) -> IterationKeys:
        return iteration_keys(key, iteration, rollout_length(config, env.spec))

    def agent_of(config: Config) -> Agent:
        return build(make_agent, config, env.spec, num_envs)

    @jax.jit
    def init_agent(key: Array, config: Config) -> tuple[PyTree, PyTree]:
        agent = agent_of(config)
        return agent.init(key), agent.initial_memory(num_envs)

    @jax.jit
    def act(
        key: Array, time: Array, config: Config, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress
    ) -> tuple[PyTree, PyTree, PyTree]:
        key_act = keys_of(key, config, progress.iteration).act[time]
        return agent_of(config).act(key_act, policy, memory, obs, progress, True)

    @jax.jit
    def remember(config: Config, timestep: TimeStep, memory: PyTree) -> PyTree:
        return next_memory(agent_of(config), timestep, memory, num_envs)

    def end_iteration(
        learn: bool,
        key: Array,
        config: Config,
        agent_state: PyTree,
        recent: RecentEpisodes,
        rollout: Rollout,
        progress: Progress,
    ) -> tuple[PyTree, RecentEpisodes, Sums]:
        key_update = keys_of(key, config, progress.iteration).update
        return finish(key_update, agent_of(config), agent_state, recent, rollout, progress, learn)

    def compiled(learn: bool) -> Callable[..., tuple[PyTree, RecentEpisodes, Sums]]:
        function = partial(end_iteration, learn)
        return find_nan(function) if debug else jax.jit(function, donate_argnums=2)

    end = {learn: compiled(learn) for learn in (False, True)}

    def init(key: Array, config: Config, env_params: PyTree) -> RunState:
        key_agent, key_env = jax.random.split(key)
        agent_state, memory = init_agent(key_agent, config)
        return RunState(agent_state, (), env.reset(_seed(key_env)), memory, no_episodes(), jnp.int32(0))

    def restart(key: Array, config: Config, state: RunState) -> RunState:
        _, memory = init_agent(key, config)
        return state._replace(obs=env.reset(_seed(key)), memory=memory)

    def advance(
        key: Array,
        config: Config,
        env_params: PyTree,
        state: RunState,
        num_warmup: int,
        num_learn: int,
        num_iterations: int,
    ) -> tuple[RunState, Sums]:
        reports: list[Sums] = []
        for index in range(int(num_warmup) + int(num_learn)):
            state, sums = iterate(key, config, state, int(num_iterations), learn=index >= int(num_warmup))
            reports.append(sums)
        return state, _add_up(reports)

    def iterate(key: Array, config: Config, state: RunState, num_iterations: int, learn: bool) -> tuple[RunState, Sums]:
        progress = Progress(jnp.asarray(state.iteration), jnp.int32(num_iterations))
        obs, memory = state.obs, state.memory
        if agent_of(config).fresh_episodes:
            key_reset = keys_of(key, config, progress.iteration).reset
            obs, memory = env.reset(_seed(key_reset)), init_agent(key_reset, config)[1]
        rows = []
        for time in range(rollout_length(config, env.spec)):
            action, memory, extras = act(key, jnp.int32(time), config, state.agent.policy, memory, obs, progress)
            action = jax.tree.map(np.asarray, action)
            timestep = env.step(action)
            rows.append(to_rollout(obs, action, timestep, extras))
            if jax.tree.leaves(memory) and np.any(episode_end(timestep)):
                memory = remember(config, timestep, memory)
            obs = timestep.obs
        rollout = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *rows)
        agent_state, recent, sums = end[learn](key, config, state.agent, state.recent, rollout, progress)
        return RunState(agent_state, (), obs, memory, recent, progress.iteration + 1), sums

    def evaluate_policy(
        key: Array, config: Config, env_params: PyTree, policy: PyTree, progress: Progress, num_episodes: int
    ) -> np.ndarray:
        return host_episode_returns(key, make_agent, config, make_eval_env, policy, progress, num_episodes)

    return Driver(
        init=init,
        advance=advance,
        evaluate=evaluate_policy,  # type: ignore[arg-type]
        saved=lambda state: state._replace(obs=(), memory=()),
        restart=restart,
        close=env.close,
        keeps_episodes=False,
    )


def host_episode_returns(
    key: Array,
    make_agent: MakeAgent,
    config: Config,
    make_env: Callable[[int], HostEnv],
    policy: PyTree,
    progress: Progress,
    num_episodes: int,
) -> np.ndarray:
    """Greedy returns on host environments, [episodes] float32; `jaxrl.evaluate.episode_returns` for the host."""
    num_envs, each = evaluate.split_episodes(num_episodes)
    env = make_env(num_envs)
    agent = build(make_agent, config, env.spec, num_envs)
    act = jax.jit(partial(agent.act, explore=False))
    remember = jax.jit(partial(next_memory, agent, num_envs=num_envs))
    key_reset, key = jax.random.split(key)
    obs, memory = env.reset(_seed(key_reset)), agent.initial_memory(num_envs)
    returns = np.full((num_envs, each), np.nan, np.float32)
    finished = np.zeros(num_envs, int)
    for time in range((env.spec.time_limit or evaluate.MAX_STEPS) * each):
        action, memory, _ = act(jax.random.fold_in(key, time), policy, memory, obs, progress)
        timestep = env.step(jax.tree.map(np.asarray, action))
        for index in np.flatnonzero(episode_end(timestep) & (finished < each)):
            returns[index, finished[index]] = timestep.info["episode_return"][index]
            finished[index] += 1
        if np.all(finished >= each):
            break
        if jax.tree.leaves(memory):
            memory = remember(timestep, memory)
        obs = timestep.obs
    env.close()
    return returns.reshape(-1)


def _seed(key: Array) -> int:
    """A seed for a host environment, below 2^31."""
    return int(jax.random.bits(key, dtype=jnp.uint32) >> 1)


def _add_up(reports: list[Sums]) -> Sums:
    """Sums over iterations; warm-up iterations report fewer names."""
    total: Sums = {}
    for report in jax.device_get(reports):
        for name, value in report.items():
            total[name] = total.get(name, 0) + value
    return total
