"""The loop for environments that live on the host (Gymnasium, envpool): the same agents, the same key schedule.

Acting and updating are the same compiled functions as on the device; only the environment's step is a call into NumPy between
them. With an accelerator, the environments are stepped in two groups: one while the device acts for the other. Host
environments cannot be saved: a resumed run restores the agent exactly and begins new episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import Config, rollout_length
from jaxrl.drivers import evaluate
from jaxrl.drivers.device import Driver
from jaxrl.drivers.learner import Learner, make_learner
from jaxrl.loop import (
    IterationKeys,
    Sums,
    build_in,
    iteration_keys,
    next_memory,
    no_episodes,
    to_rollout,
)
from jaxrl.types import (
    Agent,
    Array,
    HostEnv,
    MakeAgent,
    Progress,
    PyTree,
    Rollout,
    RunState,
    SplitHostEnv,
    TimeStep,
    counted,
    episode_end,
    game_over,
)


class HostGroup(NamedTuple):
    """Environments that are stepped together while the device acts for another group.

    Attributes:
      env: the environments.
      rows: their place among all B.
      send: (action [b, ...]) -> None, starts a step.
      receive: () -> TimeStep of the step that was started.
    """

    env: HostEnv
    rows: slice
    send: Callable[[PyTree], None]
    receive: Callable[[], TimeStep]


def groups_of(env: HostEnv, split: bool) -> list[HostGroup]:
    """The environments in the groups that their `split` makes, if they have one and are to be split, else all in one."""
    parts = env.split() if split and isinstance(env, SplitHostEnv) else [env]
    groups, first = [], 0
    for part in parts:
        rows = slice(first, first + part.num_envs)
        groups.append(HostGroup(part, rows, *((part.send, part.receive) if isinstance(part, SplitHostEnv) else _at_once(part))))
        first = rows.stop
    return groups


def _at_once(env: HostEnv) -> tuple[Callable[[PyTree], None], Callable[[], TimeStep]]:
    """`send` and `receive` of environments that can only be stepped whole."""
    results: list[TimeStep] = []
    return lambda action: results.append(env.step(action)), results.pop


def host_driver(
    make_agent: MakeAgent,
    env: HostEnv,
    make_eval_env: Callable[[int], HostEnv],
    debug: bool = False,
    replay_device: jax.Device | None = None,
    split: bool | None = None,
) -> Driver:
    """The driver for host environments.

    Environments in two groups keep cores and device busy: the device acts for one group while the other is stepped. Each step
    acts with the policy of its iteration, as without groups.

    Args:
      make_eval_env: (num_envs) -> environments for an evaluation, closed after it.
      debug: check every operation of an update for NaN; slower.
      replay_device: where the replay is kept and sampled, if not where the agent learns: a CPU, whose memory is the host's.
      split: into groups, where the environments can be; None splits them unless the device is a CPU. There, acting and stepping
        share the cores, and DQN trains on eight Ataris 11 % faster in one group than in two (`benchmarks/host.py`).
    """
    split = jax.default_backend() != "cpu" if split is None else split
    groups = groups_of(env, split)
    acting = _acting(make_agent, env, groups)
    loop = _HostLoop(env, groups, acting, make_learner(acting.agent_of, replay_device, debug, env.spec.has_return))

    def evaluate_policy(
        key: Array,
        config: Config,
        env_params: PyTree,
        eval_params: PyTree,
        policy: PyTree,
        progress: Progress,
        num_episodes: int,
    ) -> evaluate.Scores:
        eval_env = make_eval_env(evaluate.split_episodes(num_episodes)[0])
        agent = evaluate.acting_in(make_agent, config, env, eval_env.spec)
        return host_episode_scores(key, agent, lambda num_envs: eval_env, policy, progress, num_episodes)

    return Driver(
        init=loop.init,
        advance=loop.advance,
        no_sums=lambda config, env_params, state: {},
        evaluate=evaluate_policy,
        saved=lambda state: state._replace(obs=(), memory=()),
        shapes=loop.shapes,
        restart=loop.restart,
        close=loop.close,
        keeps_episodes=False,
    )


class _Acting(NamedTuple):
    """What the device does between the steps of host environments.

    Attributes:
      agent_of: (config) -> Agent.
      keys_of: (key, config, iteration) -> keys of the iteration.
      act: (keys [T], time, group, config, policy, progress, memory, obs) -> (action, memory, extras) of one group.
      first_memories: (config) -> memory of each group.
      remember: (config, timestep, memory) -> the memory to act with next.
    """

    agent_of: Callable[[Config], Agent]
    keys_of: Callable[[Array, Config, Array], IterationKeys]
    act: Callable[..., tuple[PyTree, PyTree, PyTree]]
    first_memories: Callable[[Config], tuple[PyTree, ...]]
    remember: Callable[[Config, TimeStep, PyTree], PyTree]


def _acting(make_agent: MakeAgent, env: HostEnv, groups: Sequence[HostGroup]) -> _Acting:
    def agent_of(config: Config) -> Agent:
        return build_in(make_agent, config, env)

    @jax.jit
    def keys_of(key: Array, config: Config, iteration: Array) -> IterationKeys:
        return iteration_keys(key, iteration, rollout_length(config, env.spec))

    @jax.jit
    def act(
        keys: Array, time: Array, group: Array, config: Config, policy: PyTree, progress: Progress, memory: PyTree, obs: PyTree
    ) -> tuple[PyTree, PyTree, PyTree]:
        key_act = keys[time] if len(groups) == 1 else jax.random.fold_in(keys[time], group)
        return agent_of(config).act(key_act, policy, memory, obs, progress, True)

    @jax.jit
    def first_memories(config: Config) -> tuple[PyTree, ...]:
        return tuple(agent_of(config).initial_memory(group.env.num_envs) for group in groups)

    @jax.jit
    def remember(config: Config, timestep: TimeStep, memory: PyTree) -> PyTree:
        return next_memory(agent_of(config), timestep, memory, timestep.reward.shape[0])

    return _Acting(agent_of, keys_of, act, first_memories, remember)


class _HostLoop:
    """Iterations over environments in groups; the functions of a `Driver`."""

    def __init__(self, env: HostEnv, groups: Sequence[HostGroup], acting: _Acting, learner: Learner) -> None:
        self.env, self.groups, self.acting, self.learner = env, groups, acting, learner

    def init(self, key: Array, config: Config, env_params: PyTree) -> RunState:
        key_agent, key_env = jax.random.split(key)
        agent_state = self.learner.init(key_agent, config)
        memory = _joined(self.acting.first_memories(config))
        return RunState(agent_state, (), _joined(self._reset(key_env)), memory, no_episodes(), jnp.int32(0))

    def shapes(self, config: Config, env_params: PyTree) -> RunState:
        recent, iteration = jax.eval_shape(lambda: (no_episodes(), jnp.int32(0)))
        return RunState(self.learner.shapes(config), (), (), (), recent, iteration)

    def restart(self, key: Array, config: Config, state: RunState) -> RunState:
        return state._replace(obs=_joined(self._reset(key)), memory=_joined(self.acting.first_memories(config)))

    def advance(
        self,
        key: Array,
        config: Config,
        env_params: PyTree,
        state: RunState,
        num_observe: int,
        num_learn: int,
        progress: Progress,
        sums: Sums | None = None,
    ) -> tuple[RunState, Sums]:
        total = dict(sums or {})
        for count, learn in ((int(num_observe), False), (int(num_learn), True)):
            for _ in range(count):
                state, new = self._iterate(key, config, state, progress, learn)
                before = {name: total[name] for name in new if name in total}
                total |= _add(before, new) if before else new
        return state, jax.device_get(total)

    def close(self) -> None:
        for group in self.groups:
            group.env.close()

    def _reset(self, key: Array) -> list[PyTree]:
        """The first observations of each group."""
        return [group.env.reset(_seed(key) + group.rows.start) for group in self.groups]

    def _iterate(self, key: Array, config: Config, state: RunState, progress: Progress, learn: bool) -> tuple[RunState, Sums]:
        progress = progress._replace(iteration=jnp.asarray(state.iteration))
        keys = self.acting.keys_of(key, config, progress.iteration)
        obs = [jax.tree.map(lambda leaf, rows=group.rows: leaf[rows], state.obs) for group in self.groups]
        memory = [jax.tree.map(lambda leaf, rows=group.rows: leaf[rows], state.memory) for group in self.groups]
        if self.acting.agent_of(config).fresh_episodes:
            obs, memory = self._reset(keys.reset), list(self.acting.first_memories(config))
        rollout = self._collect(keys.act, config, state.agent.policy, progress, obs, memory)
        agent_state, recent, sums = self.learner.end(keys.update, config, state.agent, state.recent, rollout, progress, learn)
        return RunState(agent_state, (), _joined(obs), _joined(memory), recent, progress.iteration + 1), sums

    def _collect(
        self, keys: Array, config: Config, policy: PyTree, progress: Progress, obs: list[PyTree], memory: list[PyTree]
    ) -> Rollout:
        """Acts T steps in every group; `obs` and `memory` of the groups are replaced by what follows the last step."""
        length = rollout_length(config, self.env.spec)
        rollout = _RolloutBuffer(length, self.env.num_envs)
        acted: list[tuple[PyTree, PyTree]] = [((), ())] * len(self.groups)

        def begin(time: int, index: int) -> None:
            """Acts for one group and starts its step."""
            draw = (keys, np.int32(time), np.int32(index))
            action, memory[index], extras = self.acting.act(*draw, config, policy, progress, memory[index], obs[index])
            acted[index] = jax.tree.map(np.asarray, (action, extras))
            self.groups[index].send(acted[index][0])

        for index in range(len(self.groups)):
            begin(0, index)
        for time in range(length):
            for index, group in enumerate(self.groups):
                timestep = group.receive()
                step = to_rollout(obs[index], acted[index][0], timestep, acted[index][1])
                if jax.tree.leaves(memory[index]) and np.any(episode_end(timestep)):
                    memory[index] = self.acting.remember(config, timestep, memory[index])
                obs[index] = timestep.obs
                if time + 1 < length:
                    begin(time + 1, index)
                rollout.write(time, group.rows, step)  # While the next step is under way.
        return rollout.rows


class _RolloutBuffer:
    """A rollout that is filled as the groups' steps arrive; every iteration has a new one, since JAX may read it later."""

    def __init__(self, length: int, num_envs: int) -> None:
        self._shape = (length, num_envs)
        self.rows: Any = None

    def write(self, time: int, rows: slice, step: Rollout) -> None:
        """Row `time` of the environments `rows`; leaves of `step` are [b, ...]."""
        if self.rows is None:
            self.rows = jax.tree.map(lambda leaf: np.empty(self._shape + np.shape(leaf)[1:], leaf.dtype), step)

        def assign(whole: np.ndarray, leaf: Any) -> None:
            whole[time, rows] = leaf

        jax.tree.map(assign, self.rows, step)


def _joined(parts: Sequence[PyTree]) -> PyTree:
    """The groups' leaves [b, ...] as one [B, ...]."""
    if len(parts) == 1:
        return parts[0]
    return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)


@jax.jit
def _add(before: Sums, sums: Sums) -> Sums:
    """The sums on top of those that there were before."""
    return {name: before[name] + value if name in before else value for name, value in sums.items()}


def host_episode_scores(
    key: Array, agent: Agent, make_env: Callable[[int], HostEnv], policy: PyTree, progress: Progress, num_episodes: int
) -> evaluate.Scores:
    """Greedy returns on host environments; `jaxrl.drivers.evaluate.episode_scores` for the host."""
    num_envs, each = evaluate.split_episodes(num_episodes)
    env = make_env(num_envs)
    act = jax.jit(partial(agent.act, explore=False))
    remember = jax.jit(partial(next_memory, agent, num_envs=num_envs))
    key_reset, key = jax.random.split(key)
    obs, memory = env.reset(_seed(key_reset)), agent.initial_memory(num_envs)
    returns, counts = np.full((num_envs, each), np.nan, np.float32), np.ones((num_envs, each), bool)
    finished = np.zeros(num_envs, int)
    for time in range((env.spec.time_limit or evaluate.MAX_STEPS) * each):
        action, memory, _ = act(jax.random.fold_in(key, time), policy, memory, obs, progress)
        timestep = env.step(jax.tree.map(np.asarray, action))
        for index in np.flatnonzero(game_over(timestep) & (finished < each)):
            score = timestep.info["episode_return"][index]
            returns[index, finished[index]] = np.inf if np.isnan(score) else score
            counts[index, finished[index]] = counted(timestep)[index]
            finished[index] += 1
        if np.all(finished >= each):
            break
        if jax.tree.leaves(memory):
            memory = remember(timestep, memory)
        obs = timestep.obs
    env.close()
    return evaluate.Scores(returns.reshape(-1), counts.reshape(-1))


def _seed(key: Array) -> int:
    """A seed for a host environment, below 2^31."""
    return int(jax.random.bits(key, dtype=jnp.uint32) >> 1)
