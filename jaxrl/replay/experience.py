"""The replay that suits an environment, as three functions: each picture once where observations are stacks of frames, or where
returns take several steps, and whole transitions otherwise.

    experience = make_experience(spec.obs, spec.action, num_envs=8, capacity=50_000, n_step=1, gamma=0.99)
    ring = experience.init()
    ring = experience.store(ring, rollout)
    batches = experience.sample(key, ring, (num_updates, batch_size))      # a `Sample` of [num_updates, batch_size, ...]
    ring = experience.feed(ring, batches, td_error)                        # where transitions are drawn by priority

`jaxrl.replay.ring` and `jaxrl.replay.frames` hold the rings, `jaxrl.replay.prioritized` what their places weigh; an off-policy
agent needs this module alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.replay import frames, prioritized, ring
from jaxrl.replay.prioritized import Priorities
from jaxrl.replay.ring import Transitions
from jaxrl.types import Array, ArraySpec, PyTree, Rollout, TreeSpec, action_zeros, ignore_feedback, spec_zeros


class Sample(NamedTuple):
    """What is drawn from a replay; [...] is the shape asked for.

    Attributes:
      transitions: `Transitions`, leaves [..., *], or the `Sequences` of `jaxrl.replay.sequences`.
      place: [...] int32, where they are in the ring.
      probability: [...] float32, of drawing each.
      size: [] int32, transitions that could have been drawn.
    """

    transitions: Any
    place: Array
    probability: Array
    size: Array


class Experience(NamedTuple):
    """A replay as pure functions.

    Attributes:
      init: () -> an empty ring.
      store: (ring, rollout [T, B, ...]) -> the ring with T * B transitions more.
      sample: (key, ring, shape) -> `Sample` of that shape, with replacement; uniform, or by priority, where each minibatch,
        the last axis of the shape, takes one of each equal part of all priorities.
      feed: (ring, sample, TD errors of the sample's shape) -> the ring with the priorities that come of them.
    """

    init: Callable[[], PyTree]
    store: Callable[[PyTree, Rollout], PyTree]
    sample: Callable[[Array, PyTree, tuple[int, ...]], Sample]
    feed: Callable[[PyTree, Sample, Array], PyTree] = ignore_feedback


class Prioritized(NamedTuple):
    """A ring, and what its places weigh."""

    ring: Any
    priorities: Priorities


def make_experience(
    obs: ArraySpec | TreeSpec,
    action: PyTree,
    num_envs: int,
    capacity: int,
    n_step: int,
    gamma: Array | float,
    extras: PyTree = (),
    exponent: Array | float | None = None,
) -> Experience:
    """The replay for observations and actions of these specs; inside a traced function `gamma` may be a tracer.

    Args:
      capacity: transitions, of which those of frames lose a few to the first and last frames of each episode.
      n_step: steps of a return.
      extras: what `act` returns beside an action and is to be stored, of one environment (arrays or shapes); () for none.
      exponent: transitions are drawn in proportion to the size of their last TD error to this power, new ones as if theirs were
        the largest so far; None draws all alike, which costs less than an exponent of 0.

    References:
      Schaul et al. 2016, "Prioritized Experience Replay", Algorithm 1.
    """
    if n_step > 1 or (isinstance(obs, ArraySpec) and obs.num_frames > 1):
        return _of_frames(obs, action, num_envs, capacity, n_step, gamma, extras, exponent)
    keeps_extras = bool(jax.tree.leaves(extras))

    def init() -> ring.Replay:
        seen, zero = spec_zeros(obs), jnp.float32(0.0)
        return ring.init(StoredStep(seen, action_zeros(action), zero, jnp.bool_(False), seen, extras), capacity)

    def store(replay: ring.Replay, rollout: Rollout) -> ring.Replay:
        kept = rollout.extras if keeps_extras else ()
        steps = StoredStep(rollout.obs, rollout.action, rollout.reward, rollout.terminated, rollout.next_obs, kept)
        return ring.add(replay, jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[2:]), steps))

    def gather(replay: ring.Replay, index: Array) -> Transitions:
        steps = ring.gather(replay, index)
        discount = gamma * (1.0 - steps.terminated)
        return Transitions(steps.obs, steps.action, steps.reward, discount, steps.next_obs, steps.extras)

    def sample(key: Array, replay: ring.Replay, shape: tuple[int, ...]) -> Sample:
        index = ring.sample_indices(key, replay, shape)
        return _uniform(gather(replay, index), index, replay.size)

    if exponent is None:
        return Experience(init, store, sample)

    def store_new(held: Prioritized, rollout: Rollout) -> Prioritized:
        place = (held.ring.insert + jnp.arange(rollout.reward.size)) % capacity
        priorities = prioritized.put_new(held.priorities, place, jnp.ones(place.shape, bool), exponent)
        return Prioritized(store(held.ring, rollout), priorities)

    return _by_priority(init, store_new, gather, lambda replay: replay.size, capacity, exponent)


class SizesConfig(Protocol):
    """What `check_sizes` reads of an agent's config."""

    @property
    def num_envs(self) -> int: ...
    @property
    def rollout_length(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def n_step(self) -> int: ...


def check_sizes(config: SizesConfig) -> None:
    """Checks that a replay holds a minibatch, what an iteration brings, and a return of n steps.

    Raises:
      UsageError: it does not.
    """
    if config.batch_size > config.capacity:
        raise UsageError(f"batch_size={config.batch_size} exceeds capacity={config.capacity}; raise capacity")
    per_iteration = config.num_envs * max(config.rollout_length, 1)
    if per_iteration > config.capacity:
        raise UsageError(f"capacity={config.capacity} is below num_envs * rollout_length = {per_iteration}; raise capacity")
    if config.n_step > 1 and config.n_step >= config.capacity // config.num_envs:
        raise UsageError(
            f"n_step={config.n_step} reaches around the replay, which holds capacity // num_envs = "
            f"{config.capacity // config.num_envs} steps of each environment; lower n_step"
        )


class StoredStep(NamedTuple):
    """What the ring of transitions holds, [N, ...]; `terminated` alone decides bootstrapping."""

    obs: PyTree
    action: PyTree
    reward: Array
    terminated: Array
    next_obs: PyTree
    extras: PyTree


def _of_frames(
    obs: Any,
    action: PyTree,
    num_envs: int,
    capacity: int,
    n_step: int,
    gamma: Array | float,
    extras: PyTree,
    exponent: Array | float | None,
) -> Experience:
    def init() -> frames.FrameReplay:
        return frames.init(obs, num_envs, capacity, action, extras)

    def gather(replay: frames.FrameReplay, index: Array) -> Transitions:
        batch = frames.gather(replay, index.reshape(-1), obs, n_step, gamma)
        return jax.tree.map(lambda leaf: leaf.reshape(index.shape + leaf.shape[1:]), batch)

    def size(replay: frames.FrameReplay) -> Array:
        return jnp.sum(replay.steps.is_start, dtype=jnp.int32)

    def sample(key: Array, replay: frames.FrameReplay, shape: tuple[int, ...]) -> Sample:
        index = frames.sample_indices(key, replay, (math.prod(shape),), obs).reshape(shape)
        return _uniform(gather(replay, index), index, size(replay))

    if exponent is None:
        return Experience(init, lambda replay, rollout: frames.add(replay, rollout, obs), sample)

    def store_new(held: Prioritized, rollout: Rollout) -> Prioritized:
        def add_step(held: Prioritized, step: Rollout) -> tuple[Prioritized, None]:
            after = frames.add(held.ring, step, obs)
            place, is_start = frames.changed(held.ring, after, obs)
            return Prioritized(after, prioritized.put_new(held.priorities, place, is_start, exponent)), None

        return jax.lax.scan(add_step, held, jax.tree.map(lambda leaf: leaf[:, None], rollout._replace(info=())))[0]

    return _by_priority(init, store_new, gather, size, capacity // num_envs * num_envs, exponent)


def _by_priority(
    init: Callable[[], Any],
    store: Callable[[Prioritized, Rollout], Prioritized],
    gather: Callable[[Any, Array], Transitions],
    size: Callable[[Any], Array],
    num_places: int,
    exponent: Array | float,
) -> Experience:
    """The replay of a ring of so many places, `store` of which sets the priorities of what is new."""

    def sample(key: Array, held: Prioritized, shape: tuple[int, ...]) -> Sample:
        place, probability = prioritized.sample(key, held.priorities, shape)
        return Sample(gather(held.ring, place), place, probability, size(held.ring))

    def feed(held: Prioritized, drawn: Sample, td_error: Array) -> Prioritized:
        return held._replace(priorities=prioritized.feed(held.priorities, drawn.place, td_error, exponent))

    return Experience(lambda: Prioritized(init(), prioritized.init(num_places)), store, sample, feed)


def _uniform(transitions: Transitions, index: Array, size: Array) -> Sample:
    probability = 1.0 / jnp.maximum(size, 1).astype(jnp.float32)
    return Sample(transitions, index, jnp.broadcast_to(probability, index.shape), size)
