"""Experience replay that stores each picture once: observations that are stacks of frames, and n-step returns.

    ring = init(obs_spec, 8, 1_000_000, Discrete(6))            # 7.1 GB for frames of 84 x 84 bytes
    ring = add(ring, rollout, obs_spec)                         # [T, B, ...]
    index = sample_indices(key, ring, (32,), obs_spec)
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

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.replay.ring import Transitions, uniform_index
from jaxrl.types import Array, ArraySpec, PyTree, Rollout, TreeSpec, action_zeros, episode_end, spec_zeros

_MAX_DRAWS = 1000


class Steps(NamedTuple):
    """What a slot knows of the transition that starts there, [L * B] each.

    Attributes:
      is_start: whether one does; a slot may also hold a frame of an episode's first stack, or its last frame.
      action: as the environment takes it, [L * B, ...].
      reward: float32.
      terminated: the MDP ended.
      ended: the episode ended, for whatever reason.
      extras: what `act` returned beside the action, [L * B, ...], where it is stored.
    """

    is_start: Array
    action: PyTree
    reward: Array
    terminated: Array
    ended: Array
    extras: PyTree = ()


class FrameReplay(NamedTuple):
    """B rings of L slots; slot s of environment b is row s * B + b.

    Attributes:
      frames: [L * B, F], a frame as a vector; of a tree of arrays, one of each.
      steps: `Steps`.
      tip: [B] int32, the newest slot: the last frame of the last transition's successor.
      filled: [B] int32, slots written so far, at most L.
    """

    frames: PyTree
    steps: Steps
    tip: Array
    filled: Array


def init(obs_spec: ArraySpec | TreeSpec, num_envs: int, capacity: int, action: PyTree, extras: PyTree = ()) -> FrameReplay:
    """Empty rings of `capacity` slots in all, rounded down to a multiple of B.

    Args:
      action: its spec.
      extras: what is stored with each step, of one environment (arrays or shapes); () for nothing.

    Raises:
      UsageError: too few slots for a stack and its successor in each environment.
    """
    length, stack = capacity // num_envs, _stack(obs_spec)
    least = num_envs * (2 * stack + 2)
    if capacity < least:
        raise UsageError(
            f"capacity={capacity} is too small for {num_envs} environments and stacks of {stack} frames; give at least {least}"
        )
    rows = length * num_envs
    no = jnp.zeros(rows, jnp.bool_)
    kept = jax.tree.map(lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype), extras)
    steps = Steps(no, action_zeros(action, (rows,)), jnp.zeros(rows, jnp.float32), no, no, kept)
    frames = jax.tree.map(lambda leaf: jnp.zeros((rows, math.prod(leaf.shape) // stack), leaf.dtype), _shapes(obs_spec))
    return FrameReplay(frames, steps, jnp.full(num_envs, length - 1, jnp.int32), jnp.ones(num_envs, jnp.int32))


def add(replay: FrameReplay, rollout: Rollout, obs_spec: ArraySpec | TreeSpec) -> FrameReplay:
    """Stores T steps of B environments over the oldest slots."""

    def store(replay: FrameReplay, step: Rollout) -> tuple[FrameReplay, None]:
        return _add(replay, step, obs_spec), None

    kept = rollout.extras if jax.tree.leaves(replay.steps.extras) else ()
    return jax.lax.scan(store, replay, rollout._replace(extras=kept, info=()))[0]


def _add(replay: FrameReplay, step: Rollout, obs_spec: ArraySpec | TreeSpec) -> FrameReplay:
    """Stores one step of each environment, leaves [B, ...]."""
    stack = _stack(obs_spec)
    obs, behind = _to_rows(step.obs, stack), _to_rows(step.next_obs, stack)
    latest = _rows(replay, replay.tip[:, None] + jnp.arange(1 - stack, 1))
    held = jax.tree.map(lambda ring: ring[latest], replay.frames)
    continues = _agree(obs, held)
    follows = _agree(jax.tree.map(lambda rows: rows[:, :-1], obs), jax.tree.map(lambda rows: rows[:, 1:], held))
    start = replay.tip + jnp.where(continues, 0, jnp.where(follows, 1, stack))
    # The stack ends at `start`, where it may be held already; the successor's frame comes behind it.
    slots = start[:, None] + jnp.arange(1 - stack, 2)
    rows, at = _rows(replay, slots), _rows(replay, start[:, None])[:, 0]
    frames = jax.tree.map(
        lambda ring, first, last: ring.at[rows].set(jnp.concatenate([first, last[:, -1:]], axis=1), unique_indices=True),
        replay.frames,
        obs,
        behind,
    )
    is_new = slots > replay.tip[:, None]
    outside = replay.steps.is_start.shape[0]
    is_start = replay.steps.is_start.at[jnp.where(is_new, rows, outside)].set(False, mode="drop")
    fields = Steps(jnp.ones_like(step.terminated), step.action, step.reward, step.terminated, episode_end(step), step.extras)
    steps = jax.tree.map(
        lambda ring, value: ring.at[at].set(value.astype(ring.dtype), unique_indices=True),
        replay.steps._replace(is_start=is_start),
        fields,
    )
    length = _length(replay)
    filled = jnp.minimum(replay.filled + start + 1 - replay.tip, length)
    return FrameReplay(frames, steps, (start + 1) % length, filled)


def changed(before: FrameReplay, after: FrameReplay, obs_spec: ArraySpec | TreeSpec) -> tuple[Array, Array]:
    """(rows [B * K], whether a transition that can be drawn starts there) of all rows where that has changed by an `add` of one
    step; in the place of others stands the number of rows."""
    stack, length, num_envs = _stack(obs_spec), _length(before), before.tip.shape[0]
    advance = ((after.tip - before.tip) % length)[:, None]
    # From the newest slot of before to where a stack would reach into the newest frames of now.
    offset = jnp.arange(2 * stack + 1)
    is_start = offset == advance - 1
    has_changed = is_start | ((offset > 0) & (offset < advance + stack))
    rows = _rows(before, before.tip[:, None] + offset)
    return jnp.where(has_changed, rows, length * num_envs).reshape(-1), is_start.reshape(-1)


def sample_indices(key: Array, replay: FrameReplay, shape: tuple[int, ...], obs_spec: ArraySpec | TreeSpec) -> Array:
    """Rows at which a transition starts, uniform with replacement over those whose frames are all held, int32 of `shape`.

    Slots are drawn, and drawn again where none starts there: the few that hold an episode's first stack or last frame.
    """
    num_envs, length = replay.tip.shape[0], _length(replay)
    # The stack of a slot whose age is above L - S reaches over the ring's seam, into the newest frames.
    ages = jnp.clip(replay.filled - 1, 0, length - _stack(obs_spec))
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


def gather(replay: FrameReplay, index: Array, obs_spec: ArraySpec | TreeSpec, n_step: int, gamma: Array | float) -> Transitions:
    """The transitions that start at these rows.

    A return of n steps ends early where the episode did, or where nothing newer is held; it is bootstrapped from the
    observation behind the last step that it counts.

    Args:
      index: [N] from `sample_indices`.
    """
    num_envs, stack = replay.tip.shape[0], _stack(obs_spec)
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
    places = jax.lax.optimization_barrier(rows(jnp.arange(1 - stack, n_step + 1)))
    window = jax.lax.optimization_barrier(jax.tree.map(lambda ring: ring[places], replay.frames))

    def stacked(pick: Callable[[Array], Array]) -> PyTree:
        return jax.tree.map(lambda leaf, like: pick(leaf).reshape(-1, *like.shape), window, _shapes(obs_spec))

    last = (num_steps[:, None] + jnp.arange(stack))[..., None]
    return Transitions(
        stacked(lambda leaf: leaf[:, :stack]),
        jax.tree.map(lambda leaf: leaf[:, 0], steps.action),
        jnp.sum(weight * steps.reward, axis=1),
        discount,
        stacked(lambda leaf: leaf[:, 1:] if n_step == 1 else jnp.take_along_axis(leaf, last, axis=1)),
        jax.tree.map(lambda leaf: leaf[:, 0], steps.extras),
    )


def _stack(obs_spec: ArraySpec | TreeSpec) -> int:
    """Frames of an observation; the arrays of a tree are kept whole."""
    return obs_spec.num_frames if isinstance(obs_spec, ArraySpec) else 1


def _shapes(obs_spec: ArraySpec | TreeSpec) -> PyTree:
    """`jax.ShapeDtypeStruct`s of one observation."""
    return jax.eval_shape(lambda: spec_zeros(obs_spec))


def _length(replay: FrameReplay) -> int:
    return replay.steps.is_start.shape[0] // replay.tip.shape[0]


def _rows(replay: FrameReplay, slots: Array) -> Array:
    """Rows [B, K] of slots [B, K], of which there may be more than L or fewer than 0."""
    num_envs = replay.tip.shape[0]
    return slots % _length(replay) * num_envs + jnp.arange(num_envs)[:, None]


def _to_rows(obs: PyTree, stack: int) -> PyTree:
    """Observations [B, *shape] as rows [B, S, F]."""
    return jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], stack, -1), obs)


def _agree(a: PyTree, b: PyTree) -> Array:
    """[B] whether rows [B, K, F] of two trees are equal."""
    same = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.all(x == y, axis=(1, 2)), a, b))
    return functools.reduce(jnp.logical_and, same)
