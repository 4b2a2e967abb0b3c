"""Prioritised replay of sequences for agents with a memory (R2D2), each with the memory that was acted with at its start.

    experience = make_sequences(spec.obs, spec.action, memory, num_envs=8, rollout_length=10, capacity=50_000, length=40, ...)
    ring = experience.store(experience.init(), rollout)                    # rollout [10, 8, ...], its extras the memories
    batches = experience.sample(key, ring, (num_updates, batch_size))      # `Sequences` of [num_updates, batch_size, 40, ...]
    ring = experience.feed(ring, batches, error)                           # [num_updates, batch_size]

A sequence begins where a rollout began and goes on through the rollouts behind it, so that with a length of several rollouts
sequences overlap. It runs on over the ends of episodes, where a memory begins anew; in the paper no sequence does. Observations
and their successors are both held, since the successor of a truncated step is no other step's observation.

Kapturowski et al. 2019, "Recurrent Experience Replay in Distributed Reinforcement Learning", section 2.3.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.replay import prioritized, ring
from jaxrl.replay.experience import Experience, Prioritized, Sample
from jaxrl.types import Array, PyTree, Rollout, TreeSpec, action_zeros, spec_zeros


class Sequences(NamedTuple):
    """Leaves [..., L, *] of L steps in a row of one environment.

    Attributes:
      memory: [..., *] that was acted with at the first step.
    """

    obs: PyTree
    action: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: PyTree
    memory: PyTree


def make_sequences(
    obs: PyTree | TreeSpec,
    action: PyTree,
    memory: PyTree,
    num_envs: int,
    rollout_length: int,
    capacity: int,
    length: int,
    exponent: Array | float,
) -> Experience:
    """The replay for observations and actions of these specs.

    Args:
      memory: of one environment (arrays or shapes).
      rollout_length: T of the rollouts that are stored.
      capacity: transitions; whole rollouts of all environments are held.
      length: L, a multiple of T.
      exponent: sequences are drawn in proportion to their last error to this power, new ones as if theirs were the largest so
        far; 0 draws all alike.

    Raises:
      UsageError: a length that is no multiple of T, or that the replay does not hold.
    """
    if length % rollout_length:
        raise UsageError(
            f"burn_in + sequence_length = {length} is no multiple of rollout_length={rollout_length}; give one that is"
        )
    span, num_held = length // rollout_length, capacity // (num_envs * rollout_length)
    if span > num_held:
        raise UsageError(
            f"capacity={capacity} holds {num_held * rollout_length} steps of each environment, fewer than burn_in + "
            f"sequence_length = {length}; raise capacity"
        )
    environments = jnp.arange(num_envs)

    def init() -> Prioritized:
        batch = (rollout_length, num_envs)
        flags, seen = jnp.zeros(batch, bool), spec_zeros(obs, batch)
        done = jax.tree.map(lambda leaf: jnp.zeros(batch + leaf.shape, leaf.dtype), action_zeros(action))
        memories = jax.tree.map(lambda leaf: jnp.zeros((num_envs, *leaf.shape), leaf.dtype), memory)
        held = Sequences(seen, done, jnp.zeros(batch, jnp.float32), flags, flags, seen, memories)
        return Prioritized(ring.init(held, num_held), prioritized.init(num_held * num_envs))

    def store(held: Prioritized, rollout: Rollout) -> Prioritized:
        first = jax.tree.map(lambda leaf: leaf[0], rollout.extras)
        ends = rollout.terminated, rollout.truncated
        steps = Sequences(rollout.obs, rollout.action, rollout.reward, *ends, rollout.next_obs, first)
        after = ring.add(held.ring, jax.tree.map(lambda leaf: leaf[None], steps))
        # What began where the new rollout lies is gone; what ends with the new rollout is whole.
        begun, whole = held.ring.insert, (held.ring.insert - (span - 1)) % num_held
        priorities = prioritized.put(held.priorities, begun * num_envs + environments, jnp.zeros(num_envs, jnp.float32))
        is_whole = jnp.broadcast_to(after.size >= span, (num_envs,))
        priorities = prioritized.put_new(priorities, whole * num_envs + environments, is_whole, exponent)
        return Prioritized(after, priorities)

    def gather(data: Sequences, place: Array) -> Sequences:
        first, environment = place // num_envs, place % num_envs
        parts = (first[..., None] + jnp.arange(span)) % num_held

        def steps(leaf: Array) -> Array:
            found = leaf[parts, :, environment[..., None]]  # [..., span, T, *]
            return found.reshape(*place.shape, length, *leaf.shape[3:])

        of_steps = jax.tree.map(steps, data._replace(memory=()))
        return of_steps._replace(memory=jax.tree.map(lambda leaf: leaf[first, environment], data.memory))

    def sample(key: Array, held: Prioritized, shape: tuple[int, ...]) -> Sample:
        place, probability = prioritized.sample(key, held.priorities, shape)
        size = jnp.maximum(held.ring.size - (span - 1), 0) * num_envs
        return Sample(gather(held.ring.data, place), place, probability, size)

    def feed(held: Prioritized, drawn: Sample, error: Array) -> Prioritized:
        return held._replace(priorities=prioritized.feed(held.priorities, drawn.place, error, exponent))

    return Experience(init, store, sample, feed)
