"""The replay of frames against a naive list of transitions, for random episodes, and its sampling, memory and size."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import AS_USERS
from jaxrl.envs import make
from jaxrl.errors import UsageError
from jaxrl.replay import frames
from jaxrl.replay.experience import make_experience
from jaxrl.types import ArraySpec, Discrete, Rollout

GAMMA = 0.9
IDS = Discrete(1)
"""The actions of these steps are their numbers."""
STACK, SIZE = 4, (2, 2)
PICTURES = ArraySpec((STACK, *SIZE), "uint8", num_frames=STACK)
VECTORS = ArraySpec((3,), "float32")
SPECS = {
    "pictures": PICTURES,
    "odd pictures": ArraySpec((2, 3, 1), "uint8", num_frames=2),
    "coloured pictures": ArraySpec((6, 2, 2), "uint8", num_frames=2),
    "vectors": VECTORS,
    "numbers": ArraySpec((), "int32", num_values=9),
}


class Transition(NamedTuple):
    """One step of one environment; `id` is unique and stored as the action."""

    id: int
    obs: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    next_obs: np.ndarray


class Stream:
    """One environment: episodes of random lengths whose first stack is of any kind, and cuts that no flag tells of."""

    def __init__(self, spec: ArraySpec, seed: int) -> None:
        self.spec, self.rng = spec, np.random.default_rng(seed)
        self.frames = [self.frame() for _ in range(spec.num_frames)]
        self.count = 0

    def frame(self) -> np.ndarray:
        spec = self.spec
        shape = (spec.shape[0] // spec.num_frames, *spec.shape[1:]) if spec.num_frames > 1 else spec.shape
        if spec.dtype == "float32":
            return self.rng.normal(size=shape).astype(np.float32)
        # Few values, so that equal frames are common.
        return self.rng.integers(0, 3, shape).astype(spec.dtype)

    def obs(self) -> np.ndarray:
        return self.frames[0] if self.spec.num_frames == 1 else np.concatenate(self.frames)

    def start(self) -> None:
        kind, new = self.rng.choice(["copies", "zeros", "other", "lost life"]), self.frame()
        older = {
            "copies": [new] * (self.spec.num_frames - 1),
            "zeros": [np.zeros_like(new)] * (self.spec.num_frames - 1),
            "other": [self.frame() for _ in range(self.spec.num_frames - 1)],
            "lost life": self.frames[1:],
        }[kind]
        self.frames = [*older, new]

    def step(self) -> Transition:
        obs = self.obs()
        self.frames = [*self.frames[1:], self.frame()]
        next_obs = self.obs()
        terminated, truncated = self.rng.random(2) < [0.2, 0.1]
        if terminated or truncated or self.rng.random() < 0.05:
            self.start()
        self.count += 1
        reward = float(np.float32(self.rng.normal()))
        return Transition(self.count, obs, reward, bool(terminated), bool(truncated and not terminated), next_obs)


class NaiveReplay:
    """A list of transitions and a list of frames, of which the newest `length` are kept."""

    def __init__(self, spec: ArraySpec, length: int) -> None:
        self.spec, self.length = spec, length
        self.transitions: list[tuple[int, Transition]] = []
        self.num_frames, self.last = 0, np.zeros(spec.shape, spec.dtype)

    def add(self, transition: Transition) -> None:
        stack = self.spec.num_frames
        channels = self.spec.shape[0] // stack if stack > 1 else 0
        if not np.array_equal(transition.obs, self.last):
            linked = stack == 1 or np.array_equal(transition.obs[:-channels], self.last[channels:])
            self.num_frames += 1 if linked else stack
        self.transitions.append((self.num_frames, transition))
        self.num_frames += 1
        self.last = transition.next_obs

    def held(self) -> list[Transition]:
        """Those of which every frame is kept."""
        oldest = self.num_frames - self.length + self.spec.num_frames
        return [transition for place, transition in self.transitions if place >= oldest]

    def n_step(self, first: int, n: int) -> tuple[float, float, np.ndarray]:
        """(return, discount, observation behind it) of the transition with this id."""
        rows = [transition for _, transition in self.transitions][first - 1 : first - 1 + n]
        total, discount = 0.0, 1.0
        for index, row in enumerate(rows):
            total += discount * row.reward
            discount *= GAMMA * (not row.terminated)
            is_last = index + 1 == len(rows) or not np.array_equal(rows[index + 1].obs, row.next_obs)
            if row.terminated or row.truncated or is_last:
                break
        return total, discount, row.next_obs


def to_rollout(steps: list[list[Transition]]) -> Rollout:
    """Steps [T][B] as arrays."""

    def stacked(field: str) -> np.ndarray:
        return np.stack([[getattr(step, field) for step in row] for row in steps])

    ids, reward = stacked("id").astype(np.int32), stacked("reward").astype(np.float32)
    return Rollout(stacked("obs"), ids, reward, stacked("terminated"), stacked("truncated"), stacked("next_obs"), (), ())


def filled(spec, length, num_envs, num_rollouts, seed, rollout_length=3):
    """A replay of random steps, and the naive one of each environment."""
    add = _jitted_add(spec)
    ring = frames.init(spec, num_envs, length * num_envs, IDS)
    streams = [Stream(spec, 100 * seed + env) for env in range(num_envs)]
    naive = [NaiveReplay(spec, length) for _ in range(num_envs)]
    for _ in range(num_rollouts):
        steps = [[stream.step() for stream in streams] for _ in range(rollout_length)]
        for row in steps:
            for replay, step in zip(naive, row, strict=True):
                replay.add(step)
        ring = add(ring, to_rollout(steps))
    return ring, naive


@functools.cache
def _jitted_add(spec):
    return jax.jit(lambda ring, rollout: frames.add(ring, rollout, spec))


@functools.cache
def _jitted_sample(spec, num, n_step):
    def sample(key, ring):
        index = frames.sample_indices(key, ring, (num,), spec)
        return index, frames.gather(ring, index, spec, n_step, jnp.float32(GAMMA))

    return jax.jit(sample)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.sampled_from(sorted(SPECS)), st.sampled_from([1, 3]), st.integers(1, 14), st.integers(0, 1000))
def test_samples_are_the_transitions_of_a_naive_list(name, n_step, num_rollouts, seed):
    spec = SPECS[name]
    ring, naive = filled(spec, 13, 2, num_rollouts, seed)
    index, batch = jax.device_get(_jitted_sample(spec, 256, n_step)(jax.random.key(seed), ring))
    seen = [set(), set()]
    for row in range(256):
        env, first = int(index[row]) % 2, int(batch.action[row])
        transition = naive[env].transitions[first - 1][1]
        seen[env].add(first)
        total, discount, next_obs = naive[env].n_step(first, n_step)
        np.testing.assert_array_equal(batch.obs[row], transition.obs)
        np.testing.assert_array_equal(batch.next_obs[row], next_obs)
        np.testing.assert_allclose([batch.reward[row], batch.discount[row]], [total, discount], rtol=1e-5, atol=1e-6)
    assert seen == [{transition.id for transition in replay.held()} for replay in naive]


@pytest.mark.parametrize("num_rollouts", [2, 40])
def test_samples_are_uniform_over_what_is_held(num_rollouts):
    ring, naive = filled(PICTURES, 29, 3, num_rollouts, seed=5)
    index, batch = jax.device_get(_jitted_sample(PICTURES, 20_000, 1)(jax.random.key(1), ring))
    counts = [np.sum((index % 3 == env) & (batch.action == t.id)) for env, replay in enumerate(naive) for t in replay.held()]
    assert sum(counts) == 20_000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_restart_keeps_the_last_successor():
    """A run that goes on with new episodes leaves the last transition before it as it was."""
    stream, naive = Stream(PICTURES, 0), NaiveReplay(PICTURES, 20)
    before, after = stream.step(), Stream(PICTURES, 1).step()
    after = after._replace(id=2)
    ring = frames.init(PICTURES, 1, 20, IDS)
    for step in (before, after):
        naive.add(step)
        ring = _jitted_add(PICTURES)(ring, to_rollout([[step]]))
    _, batch = _jitted_sample(PICTURES, 64, 3)(jax.random.key(0), ring)
    for first, step in ((1, before), (2, after)):
        row = np.flatnonzero(np.asarray(batch.action) == first)[0]
        np.testing.assert_array_equal(batch.obs[row], step.obs)
        np.testing.assert_array_equal(batch.next_obs[row], step.next_obs)


def test_an_empty_replay_is_sampled_without_hanging():
    ring = frames.init(PICTURES, 2, 40, IDS)
    index, _ = _jitted_sample(PICTURES, 8, 1)(jax.random.key(0), ring)
    assert index.shape == (8,)


def test_too_small_a_capacity_is_refused():
    with pytest.raises(UsageError, match=r"capacity=50 is too small for 8 environments .* at least 80"):
        frames.init(PICTURES, 8, 50, IDS)


# --- memory -----------------------------------------------------------------------------------------------------------

ATARI = ArraySpec((4, 84, 84), "uint8", num_frames=4)


def atari_rollout(num_steps, num_envs):
    spec, shape = jax.ShapeDtypeStruct, (num_steps, num_envs)
    obs, flag = spec((*shape, *ATARI.shape), jnp.uint8), spec(shape, jnp.bool_)
    return Rollout(obs, spec(shape, jnp.int32), spec(shape, jnp.float32), flag, flag, obs, (), ())


def num_bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_a_million_frames_take_seven_gigabytes():
    ring = jax.eval_shape(lambda: frames.init(ATARI, 8, 1_000_000, IDS))
    assert ring.frames.shape[0] == 1_000_000
    assert 84 * 84e6 <= num_bytes(ring) <= 84 * 84e6 + 11e6 + 100


@pytest.mark.optimized
def test_the_replay_is_never_copied():
    def run(ring, key, rollout):
        def body(i, carry):
            ring, total = carry
            ring = frames.add(ring, jax.tree.map(lambda leaf: leaf + i.astype(leaf.dtype), rollout), ATARI)
            index = frames.sample_indices(jax.random.fold_in(key, i), ring, (32,), ATARI)
            return ring, total + jnp.sum(frames.gather(ring, index, ATARI, 1, 0.99).obs.astype(jnp.float32))

        return jax.lax.fori_loop(0, 100, body, (ring, jnp.float32(0.0)))

    ring = jax.eval_shape(lambda: frames.init(ATARI, 8, 100_000, IDS))
    arguments = (ring, jax.eval_shape(jax.random.key, 0), atari_rollout(4, 8))
    memory = jax.jit(run, donate_argnums=0).lower(*arguments).compile(AS_USERS).memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes - memory.alias_size_in_bytes
    assert used <= 1.05 * num_bytes(ring)


# --- the choice of a replay -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "n_step", "of_frames"), [(VECTORS, 1, False), (VECTORS, 3, True), (PICTURES, 1, True), (PICTURES, 3, True)]
)
def test_stacks_and_returns_of_several_steps_are_kept_as_frames(spec, n_step, of_frames):
    ring = make_experience(spec, IDS, 2, 40, n_step, GAMMA).init()
    assert isinstance(ring, frames.FrameReplay) == of_frames


def test_both_replays_give_the_same_transitions():
    steps = to_rollout([[stream.step()] for stream in [Stream(VECTORS, 3)] for _ in range(12)])
    seen = []
    for n_step in (1, 2):
        experience = make_experience(VECTORS, IDS, 1, 60, n_step, GAMMA)
        ring = jax.jit(experience.store)(experience.init(), steps)
        sample = jax.jit(experience.sample, static_argnums=2)
        batch = jax.device_get(sample(jax.random.key(0), ring, (2, 300))).transitions
        rows = np.unique(batch.action.reshape(-1), return_index=True)
        seen.append((rows[0], batch.obs.reshape(-1, 3)[rows[1]]))
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    np.testing.assert_array_equal(seen[0][1], seen[1][1])


def test_breakout_comes_out_of_the_replay_as_it_went_in():
    """Lost points, lost lives and time limits of real pictures: 300 steps of three environments."""
    env = make("envpool/Breakout-v5", 3, episodic_life=True, max_episode_steps=70)
    spec = env.spec.obs
    assert spec.num_frames == 4
    rng, obs, rows = np.random.default_rng(0), env.reset(0), []
    for time in range(300):
        action = rng.integers(0, 4, 3).astype(np.int32)
        step = env.step(action)
        ids = np.arange(3, dtype=np.int32) + 3 * time
        rows.append(Rollout(obs, ids, step.reward, step.terminated, step.truncated, step.next_obs, (), ()))
        obs = step.obs
    env.close()
    rollout = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    assert rollout.terminated.any() and rollout.truncated.any()
    ring = jax.jit(lambda ring, rollout: frames.add(ring, rollout, spec))(frames.init(spec, 3, 2000, IDS), rollout)
    _, batch = jax.device_get(_jitted_sample(spec, 512, 1)(jax.random.key(0), ring))
    time, index = batch.action // 3, batch.action % 3
    np.testing.assert_array_equal(batch.obs, rollout.obs[time, index])
    np.testing.assert_array_equal(batch.next_obs, rollout.next_obs[time, index])
    np.testing.assert_array_equal(batch.reward, rollout.reward[time, index])
    np.testing.assert_array_equal(batch.discount == 0, rollout.terminated[time, index])
