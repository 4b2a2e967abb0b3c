"""The end of an iteration with host environments: records of the episodes, and an update.

Where a replay does not fit beside the networks, it is stored and sampled on a device of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import SingleDeviceSharding

from jaxrl.config import Config
from jaxrl.drivers.device import find_nan
from jaxrl.loop import Sums, finish, key_shape, record, reported
from jaxrl.types import (
    Agent,
    Array,
    Progress,
    PyTree,
    RecentEpisodes,
    ReplayFunctions,
    Rollout,
    ignore_feedback,
    replay_keys,
    unchanged,
)


class Learner(NamedTuple):
    """The agent apart from acting.

    Attributes:
      init: (key, config) -> AgentState.
      shapes: (config) -> its `jax.ShapeDtypeStruct`s, those of a replay elsewhere with its device.
      end: (key, config, AgentState, recent, rollout, progress, learn) -> (AgentState, recent, sums); the state is donated.
    """

    init: Callable[[Array, Config], PyTree]
    shapes: Callable[[Config], PyTree]
    end: Callable[..., tuple[PyTree, RecentEpisodes, Sums]]


def make_learner(
    agent_of: Callable[[Config], Agent], replay_device: jax.Device | None, debug: bool, has_return: bool
) -> Learner:
    """Compiles the end of an iteration, with the replay on a device of its own if there is one.

    Args:
      debug: check every operation for NaN.
      has_return: of the environment's spec.
    """

    def init(key: Array, config: Config) -> PyTree:
        return agent_of(config).init(key)

    def compiled(function: Callable[..., Any], donated: int) -> Callable[..., Any]:
        return find_nan(function) if debug else jax.jit(function, donate_argnums=donated)

    if replay_device is not None:
        divided = _DividedLearner(agent_of, init, compiled, replay_device, has_return)
        return Learner(divided.init, divided.shapes, divided.end)

    def end(
        learn: bool,
        key: Array,
        config: Config,
        agent_state: PyTree,
        recent: RecentEpisodes,
        rollout: Rollout,
        progress: Progress,
    ) -> tuple[PyTree, RecentEpisodes, Sums]:
        return finish(key, agent_of(config), agent_state, recent, rollout, progress, learn, has_return)

    ends = {learn: compiled(partial(end, learn), 2) for learn in (False, True)}
    return Learner(jax.jit(init), partial(shapes_of, init), lambda *arguments: ends[arguments[-1]](*arguments[:-1]))


def shapes_of(init: Callable[[Array, Config], PyTree], config: Config) -> PyTree:
    return jax.eval_shape(init, key_shape(), config)


class _DividedLearner:
    """Stores, samples and feeds back on `replay_device`, absorbs and learns where everything else is."""

    def __init__(
        self,
        agent_of: Callable[[Config], Agent],
        init: Callable[[Array, Config], PyTree],
        compiled: Callable[[Callable[..., Any], int], Callable[..., Any]],
        replay_device: jax.Device,
        has_return: bool,
    ) -> None:
        self.agent_of, self.has_return = agent_of, has_return
        self.here, self.there = jax.local_devices()[0], replay_device
        functions = self.functions
        self._init = jax.jit(init)
        self._store = jax.jit(lambda config, replay, rollout: functions(config).store(replay, rollout), donate_argnums=1)
        self._sample = jax.jit(lambda key, config, replay: functions(config).sample(key, replay))
        self._feed = jax.jit(
            lambda config, replay, batches, feedback: functions(config).feed(replay, batches, feedback), donate_argnums=1
        )
        self._observe, self._learn = compiled(self._absorb_and_record, 1), compiled(self._learn_from, 2)

    def functions(self, config: Config) -> ReplayFunctions:
        replay = self.agent_of(config).replay
        assert replay is not None, "an agent without replay functions has no replay to keep elsewhere"
        return replay

    def _absorb_and_record(
        self, config: Config, agent_state: PyTree, recent: RecentEpisodes, rollout: Rollout
    ) -> tuple[PyTree, RecentEpisodes, Sums]:
        return self.functions(config).absorb(agent_state, rollout), *record(recent, rollout, False, self.has_return)

    def _learn_from(
        self, key: Array, config: Config, agent_state: PyTree, batches: PyTree, progress: Progress
    ) -> tuple[PyTree, Sums, PyTree]:
        agent_state, metrics, feedback = self.functions(config).learn(key, agent_state, batches, progress)
        return agent_state, reported(metrics), feedback

    def init(self, key: Array, config: Config) -> PyTree:
        state = self._init(*jax.device_put((key, config), self.there))
        return jax.device_put(state._replace(replay=()), self.here)._replace(replay=jax.device_put(state.replay, self.there))

    def shapes(self, config: Config) -> PyTree:
        state, there = shapes_of(self._init, config), SingleDeviceSharding(self.there)
        place = partial(jax.ShapeDtypeStruct, sharding=there)
        return state._replace(replay=jax.tree.map(lambda leaf: place(leaf.shape, leaf.dtype), state.replay))

    def end(
        self,
        key: Array,
        config: Config,
        agent_state: PyTree,
        recent: RecentEpisodes,
        rollout: Rollout,
        progress: Progress,
        learn: bool,
    ) -> tuple[PyTree, RecentEpisodes, Sums]:
        config_there = jax.device_put(config, self.there)
        replay = self._store(config_there, agent_state.replay, jax.device_put(rollout, self.there))
        if self.functions(config).absorb is unchanged:
            rollout = rollout._replace(obs=(), next_obs=(), extras=())  # Pictures that nothing here reads stay away from it.
        agent_state, recent, sums = self._observe(config, agent_state._replace(replay=()), recent, rollout)
        if learn:
            keys = replay_keys(key)
            drawn = self._sample(jax.device_put(keys.sample, self.there), config_there, replay)
            batches = jax.device_put(drawn, self.here)
            agent_state, metrics, feedback = self._learn(keys.learn, config, agent_state, batches, progress)
            sums = sums | metrics
            if self.functions(config).feed is not ignore_feedback:
                replay = self._feed(config_there, replay, drawn, jax.device_put(feedback, self.there))
        return agent_state._replace(replay=replay), recent, sums
