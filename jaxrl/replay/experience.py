"""The replay that suits an environment, as three functions: each picture once where observations are stacks of frames, or where
returns take several steps, and whole transitions otherwise.

    experience = make_experience(obs_spec, num_envs=8, capacity=50_000, n_step=1, gamma=0.99)
    ring = experience.init()
    ring = experience.store(ring, rollout)
    batches = experience.sample(key, ring, (num_updates, batch_size))      # Transitions [num_updates, batch_size, ...]

`jaxrl.replay` and `jaxrl.frame_replay` hold the rings; an off-policy agent with discrete actions needs this module alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.replay import frames as frame_replay
from jaxrl.replay import ring as replay
from jaxrl.replay.ring import Transitions
from jaxrl.types import Array, ArraySpec, PyTree, Rollout, spec_zeros


class Experience(NamedTuple):
    """A replay as pure functions.

    Attributes:
      init: () -> an empty ring.
      store: (ring, rollout [T, B, ...]) -> the ring with T * B transitions more.
      sample: (key, ring, shape) -> `Transitions` [*shape, ...], uniform with replacement.
    """

    init: Callable[[], PyTree]
    store: Callable[[PyTree, Rollout], PyTree]
    sample: Callable[[Array, PyTree, tuple[int, ...]], Transitions]


def make_experience(obs_spec: ArraySpec, num_envs: int, capacity: int, n_step: int, gamma: Array | float) -> Experience:
    """The replay for discrete actions and these observations; inside a traced function `gamma` may be a tracer.

    Args:
      capacity: transitions, of which those of frames lose a few to the first and last frames of each episode.
      n_step: steps of a return.
    """
    if obs_spec.num_frames == 1 and n_step == 1:
        return _of_transitions(obs_spec, capacity, gamma)
    return _of_frames(obs_spec, num_envs, capacity, n_step, gamma)


class Step(NamedTuple):
    """What the ring of transitions holds, [N, ...]; `terminated` alone decides bootstrapping."""

    obs: Array
    action: Array
    reward: Array
    terminated: Array
    next_obs: Array


def _of_transitions(obs_spec: ArraySpec, capacity: int, gamma: Array | float) -> Experience:
    def init() -> replay.Replay:
        obs, zero = spec_zeros(obs_spec), jnp.float32(0.0)
        return replay.init(Step(obs, jnp.int32(0), zero, jnp.bool_(False), obs), capacity)

    def store(ring: replay.Replay, rollout: Rollout) -> replay.Replay:
        steps = Step(rollout.obs, rollout.action, rollout.reward, rollout.terminated, rollout.next_obs)
        return replay.add(ring, jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]), steps))

    def sample(key: Array, ring: replay.Replay, shape: tuple[int, ...]) -> Transitions:
        steps = replay.gather(ring, replay.sample_indices(key, ring, shape))
        discount = gamma * (1.0 - steps.terminated)
        return Transitions(steps.obs, steps.action, steps.reward, discount, steps.next_obs)

    return Experience(init, store, sample)


def _of_frames(obs_spec: ArraySpec, num_envs: int, capacity: int, n_step: int, gamma: Array | float) -> Experience:
    def init() -> frame_replay.FrameReplay:
        return frame_replay.init(obs_spec, num_envs, capacity)

    def store(ring: frame_replay.FrameReplay, rollout: Rollout) -> frame_replay.FrameReplay:
        return frame_replay.add(ring, rollout, obs_spec)

    def sample(key: Array, ring: frame_replay.FrameReplay, shape: tuple[int, ...]) -> Transitions:
        index = frame_replay.sample_indices(key, ring, (math.prod(shape),), obs_spec)
        batch = frame_replay.gather(ring, index, obs_spec, n_step, gamma)
        return jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), batch)

    return Experience(init, store, sample)
