"""Experience replay that stores each picture once: observations that are stacks of frames, and n-step returns.

    ring = init(obs_spec, num_envs=8, capacity=1_000_000)       # 7.1 GB for frames of 84 x 84 bytes
    ring = add(ring, rollout)                                   # [T, B, ...]
    index = sample_indices(key, ring, (32,))
    batch = gather(ring, index, obs_spec, n_step=1, gamma=0.99) # Transitions [32, ...]

Two successive observations of four frames share three of them, and a transition's successor is the next one's observation:
as stacked pairs a frame would be stored eight times. Here each of the B environments has a ring of L slots, one frame a slot,
and one rule holds: **the observation at a slot is the frames of that slot and of the S - 1 before it.** So the successor of the
transition at slot s is the observation at s + 1. Where an observation does not continue the frames before it (a new episode),
all its S frames are stored; an ended episode keeps its last frame as a slot of its own. Both are found by comparing frames, not
by flags: what comes out equals what went in, whatever fills the first stack of an episode, and whether or not a lost life or a
restart of the program cut it.

Mnih et al. 2015, "Methods", store frames in the same spirit. n-step returns: Sutton & Barto 2018, section 7.1, without a
correction for older policies, as in Hessel et al. 2018, "Rainbow".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.replay.ring import Transitions, uniform_index
from jaxrl.types import Array, ArraySpec, Rollout, episode_end

_MAX_DRAWS = 1000


class Steps(NamedTuple):
    """What a slot knows of the transition that starts there, [L * B] each.

    Attributes:
      is_start: whether one does; a slot may also hold a frame of an episode's first stack, or its last frame.
      action: int32.
      reward: float32.
      terminated: the MDP ended.
      ended: the episode ended, for whatever reason.
    """

    is_start: Array
    action: Array
    reward: Array
    terminated: Array
    ended: Array


class FrameReplay(NamedTuple):
    """B rings of L slots; slot s of environment b is row s * B + b.

    Attributes:
      frames: [L * B, F], a frame as a vector.
      steps: `Steps`.
      tip: [B] int32, the newest slot: the last frame of the last transition's successor.
      filled: [B] int32, slots written so far, at most L.
    """

    frames: Array
    steps: Steps
    tip: Array
    filled: Array


def init(obs_spec: ArraySpec, num_envs: int, capacity: int) -> FrameReplay:
    """Empty rings of `capacity` slots in all, rounded down to a multiple of B.

    Raises:
      UsageError: too few slots for a stack and its successor in each environment.
    """
    length, stack = capacity // num_envs, obs_spec.num_frames
    least = num_envs * (2 * stack + 2)
    if capacity < least:
        raise UsageError(
            f"capacity={capacity} is too small for {num_envs} environments and stacks of {stack} frames; give at least {least}"
        )
    size = math.prod(obs_spec.shape) // stack
    rows = length * num_envs
    no, number = jnp.zeros(rows, jnp.bool_), jnp.zeros(rows, jnp.int32)
    steps = Steps(no, number, jnp.zeros(rows, jnp.float32), no, no)
    return FrameReplay(
        jnp.zeros((rows, size), obs_spec.dtype), steps, jnp.full(num_envs, length - 1, jnp.int32), jnp.ones(num_envs, jnp.int32)
    )


def add(replay: FrameReplay, rollout: Rollout, obs_spec: ArraySpec) -> FrameReplay:
    """Stores T steps of B environments over the oldest slots."""

    def one(replay: FrameReplay, step: Rollout) -> tuple[FrameReplay, None]:
        return _add(replay, step, obs_spec), None

    steps = rollout._replace(extras=(), info=())
    return jax.lax.scan(one, replay, steps)[0]


def _add(replay: FrameReplay, step: Rollout, obs_spec: ArraySpec) -> FrameReplay:
    """Stores one step of each environment, leaves [B, ...]."""
    stack = obs_spec.num_frames
    obs, newest = _to_rows(step.obs, obs_spec), _to_rows(step.next_obs, obs_spec)[:, -1:]
    held = replay.frames[_rows(replay, replay.tip[:, None] + jnp.arange(1 - stack, 1))]
    continues = jnp.all(obs == held, axis=(1, 2))
    follows = jnp.all(obs[:, :-1] == held[:, 1:], axis=(1, 2))
    start = replay.tip + jnp.where(continues, 0, jnp.where(follows, 1, stack))
    # The stack ends at `start`, where it may be held already; the successor's frame comes behind it.
    slots = start[:, None] + jnp.arange(1 - stack, 2)
    rows, at = _rows(replay, slots), _rows(replay, start[:, None])[:, 0]
    frames = replay.frames.at[rows].set(jnp.concatenate([obs, newest], axis=1), unique_indices=True)
    is_new = slots > replay.tip[:, None]
    outside = replay.frames.shape[0]
    is_start = replay.steps.is_start.at[jnp.where(is_new, rows, outside)].set(False, mode="drop")
    fields = Steps(jnp.ones_like(step.terminated), step.action, step.reward, step.terminated, episode_end(step))
    steps = jax.tree.map(
        lambda ring, value: ring.at[at].set(value.astype(ring.dtype), unique_indices=True),
        replay.steps._replace(is_start=is_start),
        fields,
    )
    length = _length(replay)
    filled = jnp.minimum(replay.filled + start + 1 - replay.tip, length)
    return FrameReplay(frames, steps, (start + 1) % length, filled)


def sample_indices(key: Array, replay: FrameReplay, shape: tuple[int, ...], obs_spec: ArraySpec) -> Array:
    """Rows at which a transition starts, uniform with replacement over those whose frames are all held, int32 of `shape`.

    Slots are drawn, and drawn again where none starts there: the few that hold an episode's first stack or last frame.
    """
    num_envs, length = replay.tip.shape[0], _length(replay)
    # The stack of a slot whose age is above L - S reaches over the ring's seam, into the newest frames.
    ages = jnp.clip(replay.filled - 1, 0, length - obs_spec.num_frames)
    before = jnp.cumsum(ages) - ages

    def draw(key: Array) -> tuple[Array, Array]:
        number = uniform_index(key, shape, jnp.sum(ages))
        env = jnp.sum(number[..., None] >= before[1:], axis=-1, dtype=jnp.int32)
        slot = (replay.tip[env] - (number - before[env] + 1)) % length
        row = slot * num_envs + env
        return row, replay.steps.is_start[row]

    def draw_again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        count, row, found = carry
        new_row, is_start = draw(jax.random.fold_in(key, count))
        return count + 1, jnp.where(found, row, new_row), found | is_start

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        return ~jnp.all(carry[2]) & (carry[0] < _MAX_DRAWS)

    first = (jnp.int32(1), *draw(key))
    return jax.lax.while_loop(unfinished, draw_again, first)[1]


def gather(replay: FrameReplay, index: Array, obs_spec: ArraySpec, n_step: int, gamma: Array | float) -> Transitions:
    """The transitions that start at these rows.

    A return of n steps ends early where the episode did, or where nothing newer is held; it is bootstrapped from the
    observation behind the last step that it counts.

    Args:
      index: [N] from `sample_indices`.
    """
    num_envs, stack = replay.tip.shape[0], obs_spec.num_frames
    slot, env = index // num_envs, index % num_envs

    def rows(offset: Array) -> Array:
        return (slot[:, None] + offset) % _length(replay) * num_envs + env[:, None]

    steps = jax.tree.map(lambda ring: ring[rows(jnp.arange(n_step))], replay.steps)
    goes_on = replay.steps.is_start[rows(jnp.arange(1, n_step + 1))] & ~steps.ended
    counts = jnp.concatenate([jnp.ones_like(goes_on[:, :1]), jnp.cumprod(goes_on[:, :-1], axis=1).astype(bool)], axis=1)
    num_steps = jnp.sum(counts, axis=1, dtype=jnp.int32)
    weight = counts * jnp.asarray(gamma, jnp.float32) ** jnp.arange(n_step)
    discount = jnp.asarray(gamma, jnp.float32) ** num_steps * (1.0 - jnp.any(counts & steps.terminated, axis=1))
    # Without the barrier, XLA computes places and gathers again for every byte of both observations.
    window = replay.frames[jax.lax.optimization_barrier(rows(jnp.arange(1 - stack, n_step + 1)))]
    window = jax.lax.optimization_barrier(window)
    if n_step == 1:
        behind = window[:, 1:]
    else:
        behind = jnp.take_along_axis(window, (num_steps[:, None] + jnp.arange(stack))[..., None], axis=1)
    return Transitions(
        window[:, :stack].reshape(-1, *obs_spec.shape),
        steps.action[:, 0],
        jnp.sum(weight * steps.reward, axis=1),
        discount,
        behind.reshape(-1, *obs_spec.shape),
    )


def _length(replay: FrameReplay) -> int:
    return replay.frames.shape[0] // replay.tip.shape[0]


def _rows(replay: FrameReplay, slots: Array) -> Array:
    """Rows [B, K] of slots [B, K], of which there may be more than L or fewer than 0."""
    num_envs = replay.tip.shape[0]
    return slots % _length(replay) * num_envs + jnp.arange(num_envs)[:, None]


def _to_rows(obs: Array, obs_spec: ArraySpec) -> Array:
    """Observations [B, *shape] as rows [B, S, F]."""
    return obs.reshape(obs.shape[0], obs_spec.num_frames, -1)
