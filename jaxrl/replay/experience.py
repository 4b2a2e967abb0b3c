"""The replay that suits an environment, as three functions: each picture once where observations are stacks of frames, or where
returns take several steps, and whole transitions otherwise.

    experience = make_experience(spec.obs, spec.action, num_envs=8, capacity=50_000, n_step=1, gamma=0.99)
    ring = experience.init()
    ring = experience.store(ring, rollout)
    batches = experience.sample(key, ring, (num_updates, batch_size))      # a `Sample` of [num_updates, batch_size, ...]

`jaxrl.replay.ring` and `jaxrl.replay.frames` hold the rings; an off-policy agent needs this module alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.replay import frames, ring
from jaxrl.replay.ring import Transitions
from jaxrl.types import Array, ArraySpec, PyTree, Rollout, TreeSpec, action_zeros, spec_zeros


class Sample(NamedTuple):
    """What is drawn from a replay; [...] is the shape asked for.

    Attributes:
      transitions: `Transitions`, leaves [..., *].
      place: [...] int32, where they are in the ring.
      probability: [...] float32, of drawing each.
      size: [] int32, transitions that could have been drawn.
    """

    transitions: Transitions
    place: Array
    probability: Array
    size: Array


class Experience(NamedTuple):
    """A replay as pure functions.

    Attributes:
      init: () -> an empty ring.
      store: (ring, rollout [T, B, ...]) -> the ring with T * B transitions more.
      sample: (key, ring, shape) -> `Sample` of that shape, uniform with replacement.
    """

    init: Callable[[], PyTree]
    store: Callable[[PyTree, Rollout], PyTree]
    sample: Callable[[Array, PyTree, tuple[int, ...]], Sample]


def make_experience(
    obs: ArraySpec | TreeSpec,
    action: PyTree,
    num_envs: int,
    capacity: int,
    n_step: int,
    gamma: Array | float,
    extras: PyTree = (),
) -> Experience:
    """The replay for observations and actions of these specs; inside a traced function `gamma` may be a tracer.

    Args:
      capacity: transitions, of which those of frames lose a few to the first and last frames of each episode.
      n_step: steps of a return.
      extras: what `act` returns beside an action and is to be stored, of one environment (arrays or shapes); () for none.
    """
    if n_step > 1 or (isinstance(obs, ArraySpec) and obs.num_frames > 1):
        return _of_frames(obs, action, num_envs, capacity, n_step, gamma, extras)
    keeps_extras = bool(jax.tree.leaves(extras))

    def init() -> ring.Replay:
        seen, zero = spec_zeros(obs), jnp.float32(0.0)
        return ring.init(StoredStep(seen, action_zeros(action), zero, jnp.bool_(False), seen, extras), capacity)

    def store(replay: ring.Replay, rollout: Rollout) -> ring.Replay:
        kept = rollout.extras if keeps_extras else ()
        steps = StoredStep(rollout.obs, rollout.action, rollout.reward, rollout.terminated, rollout.next_obs, kept)
        return ring.add(replay, jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]), steps))

    def sample(key: Array, replay: ring.Replay, shape: tuple[int, ...]) -> Sample:
        index = ring.sample_indices(key, replay, shape)
        steps = ring.gather(replay, index)
        discount = gamma * (1.0 - steps.terminated)
        transitions = Transitions(steps.obs, steps.action, steps.reward, discount, steps.next_obs, steps.extras)
        return _uniform(transitions, index, replay.size)

    return Experience(init, store, sample)


class StoredStep(NamedTuple):
    """What the ring of transitions holds, [N, ...]; `terminated` alone decides bootstrapping."""

    obs: PyTree
    action: PyTree
    reward: Array
    terminated: Array
    next_obs: PyTree
    extras: PyTree


def _of_frames(
    obs: Any, action: PyTree, num_envs: int, capacity: int, n_step: int, gamma: Array | float, extras: PyTree
) -> Experience:
    def sample(key: Array, replay: frames.FrameReplay, shape: tuple[int, ...]) -> Sample:
        index = frames.sample_indices(key, replay, (math.prod(shape),), obs)
        batch = frames.gather(replay, index, obs, n_step, gamma)
        transitions = jax.tree.map(lambda leaf: leaf.reshape(shape + leaf.shape[1:]), batch)
        return _uniform(transitions, index.reshape(shape), jnp.sum(replay.steps.is_start, dtype=jnp.int32))

    return Experience(
        init=lambda: frames.init(obs, num_envs, capacity, action, extras),
        store=lambda replay, rollout: frames.add(replay, rollout, obs),
        sample=sample,
    )


def _uniform(transitions: Transitions, index: Array, size: Array) -> Sample:
    probability = 1.0 / jnp.maximum(size, 1).astype(jnp.float32)
    return Sample(transitions, index, jnp.broadcast_to(probability, index.shape), size)
