"""The suite for one environment: shapes first, then what every environment promises, on the device and on the host."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.checks.suite import Broken, Check, close, same_bits
from jaxrl.contracts.environments import OwnHostEnv, checked_env, checked_host_env, trace_env
from jaxrl.drivers.evaluate import episode_scores
from jaxrl.drivers.host import host_episode_scores
from jaxrl.envs import make
from jaxrl.errors import UsageError, import_by_name
from jaxrl.types import (
    Agent,
    Array,
    Box,
    Discrete,
    Env,
    HostEnv,
    Position,
    Progress,
    PyTree,
    Spec,
    TimeStep,
    action_zeros,
    episode_end,
    game_over,
    sample_action,
)

NUM_ENVS = 4
MIN_STEPS, MAX_STEPS = 100, 2_000
"""Steps of random play at least, and at most where the time limit is longer."""


class Played(NamedTuple):
    """What came of playing.

    Attributes:
      first: obs [B, ...] of the reset.
      steps: `TimeStep` of [T, B, ...].
    """

    first: PyTree
    steps: TimeStep


def env_checks(name: str, options: Mapping[str, Any], quick: bool = False) -> Iterator[Check]:
    """The checks of an environment, the fastest first; only what can be traced where `quick`."""
    suite = _Suite(name, options)
    yield Check("it is made, and returns what its contract says", suite.shapes, is_first=True)
    if quick:
        return
    yield Check("the same key plays the same", suite.same_key)
    yield Check("actions at both ends of their range are taken", suite.both_ends)
    yield Check("obs is the next observation, next_obs the true successor", suite.successors)
    yield Check("info has the records of episodes", suite.records)
    yield Check("episodes end within the time limit", suite.time_limit)
    yield Check("physics are params and not baked in", suite.physics)
    yield Check("environments under vmap play as alone", suite.vmapped)
    yield Check("a policy can be scored", suite.scored)


class _Suite:
    """What the checks of one environment share."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name, self.options, self.whose = name, options, f"env={name!r}"

    def make(self, num_envs: int, **options: Any) -> Env | OwnHostEnv:
        env = make(self.name, num_envs, **{**self.options, **options})
        if isinstance(env, Env):
            return checked_env(env, self.whose)
        return env if isinstance(env, OwnHostEnv) else checked_host_env(env, self.whose)

    @cached_property
    def env(self) -> Env | OwnHostEnv:
        return self.make(NUM_ENVS)

    @cached_property
    def length(self) -> int:
        """Steps of random play."""
        return min(max((self.env.spec.time_limit or 0) + 1, MIN_STEPS), MAX_STEPS)

    @cached_property
    def played(self) -> Played:
        return self.play(0)

    def shapes(self) -> None:
        if isinstance(self.env, Env):
            trace_env(self.env)
        else:
            _play_host(self.env, 0, 1, _random)

    def play(self, seed: int) -> Played:
        """Random legal actions."""
        if isinstance(self.env, Env):
            return jax.device_get(self._play(jax.random.key(seed), self.env.params))
        return _play_host(self.env, seed, self.length, _random)

    @cached_property
    def _play(self) -> Callable[[Array, PyTree], Played]:
        assert isinstance(self.env, Env)
        return jax.jit(partial(_play_device, self.env, length=self.length, choose=_random))

    # --- promises -----------------------------------------------------------------------------------------------------

    def same_key(self) -> None:
        same_bits("two games with the same key", self.played._asdict(), self.play(0)._asdict())

    def both_ends(self) -> None:
        for end in (0, 1):
            played = _play(self.env, 20, partial(_extreme, end=end))
            for field in ("obs", "reward", "next_obs"):
                _finite(f"with the {'highest' if end else 'lowest'} actions, {field}", getattr(played.steps, field))
        for field in ("obs", "reward", "next_obs"):
            _finite(f"with random actions, {field}", getattr(self.played.steps, field))

    def successors(self) -> str | None:
        steps, ended = self.played.steps, np.asarray(episode_end(self.played.steps))
        pairs = list(zip(jax.tree.leaves(steps.obs), jax.tree.leaves(steps.next_obs), strict=True))
        for obs, after in pairs:
            if not np.array_equal(obs[~ended], after[~ended], equal_nan=obs.dtype.kind == "f"):
                raise Broken("obs differs from next_obs where no episode ended; both are what follows the action there")
        if not ended.any():
            return f"no episode ended in {len(ended)} steps of {NUM_ENVS} environments"
        starts = self._starts()
        if _vary(starts) and all(np.array_equal(obs[ended], after[ended]) for obs, after in pairs):
            raise Broken("obs equals next_obs wherever an episode ended; obs begins the next episode, next_obs ends this one")
        if not _vary(starts) and not all(
            np.array_equal(obs[ended], np.broadcast_to(start[0], obs[ended].shape))
            for (obs, _), start in zip(pairs, jax.tree.leaves(starts), strict=True)
        ):
            raise Broken("obs where an episode ended is not what a reset returns; begin the next episode there")
        return None

    def _starts(self) -> PyTree:
        """First observations of three resets, [3 B, ...]."""
        if isinstance(self.env, Env):
            resets = [jax.jit(self.env.reset)(jax.random.key(seed), self.env.params)[1] for seed in range(3)]
        else:
            resets = [self.env.reset(seed) for seed in range(3)]
        return jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *resets)

    def records(self) -> str | None:
        steps = self.played.steps
        over, length = np.asarray(game_over(steps)), np.zeros(NUM_ENVS, int)
        for time in range(len(over)):
            length += 1
            found, ended = np.asarray(steps.info["episode_length"][time]), over[time]
            if (found != length)[ended].any():
                raise Broken(
                    f"info['episode_length'] is {found[ended][0]} where an episode of {length[ended][0]} steps ended; "
                    "count every step, and begin again after an end"
                )
            length[ended] = 0
        _finite("info['episode_return']", np.asarray(steps.info["episode_return"])[over])
        return None if over.any() else f"no episode ended in {len(over)} steps of {NUM_ENVS} environments"

    def time_limit(self) -> str | None:
        limit = self.env.spec.time_limit
        if limit is None:
            return "its spec has none; an evaluation gives up on an episode after 100,000 steps"
        if limit > MAX_STEPS:
            return f"{limit} steps are more than {MAX_STEPS}"
        ended, length = np.asarray(episode_end(self.played.steps)), np.zeros(NUM_ENVS, int)
        for row in ended:
            length = np.where(row, 0, length + 1)
            if (length >= limit).any():
                raise Broken(f"an episode goes on after {limit} steps, where spec.time_limit={limit} says that it is truncated")
        return None

    def physics(self) -> str | None:
        """An environment made with another value of an option must play as this one does with the other's params."""
        if not isinstance(self.env, Env):
            return "it lives on the host"
        tried = []
        for option, value in self._numbers():
            try:
                other = self.make(NUM_ENVS, **{option: value})
            except UsageError:
                continue
            if not isinstance(other, Env) or _shapes(other.params) != _shapes(self.env.params) or other.spec != self.env.spec:
                continue
            theirs = jax.device_get(_play(other, 20, _random))
            ours = jax.device_get(_play(self.env._replace(params=other.params), 20, _random))
            tried.append(option)
            try:
                close("", ours._asdict(), theirs._asdict())
            except Broken:
                raise Broken(
                    f"{option}={value} is baked into reset or step; put it into params, or a sweep over it compiles every value"
                ) from None
        return None if tried else "it has no options that are numbers"

    def _numbers(self) -> list[tuple[str, float]]:
        """Options that are numbers, with other values than theirs."""
        given: dict[str, Any] = {}
        if ":" in self.name:
            parameters = inspect.signature(import_by_name(self.name, "env")).parameters
            given = {name: p.default for name, p in parameters.items() if name != "num_envs"}
        numbers = {name: value for name, value in (given | dict(self.options)).items() if type(value) in (int, float)}
        return [(name, value + 1 if isinstance(value, int) else value * 1.5 + 0.1) for name, value in numbers.items()]

    def vmapped(self) -> str | None:
        if not isinstance(self.env, Env):
            return "it lives on the host"
        keys = jnp.stack([jax.random.key(0), jax.random.key(1)])
        both = jax.device_get(jax.jit(jax.vmap(self._play, in_axes=(0, None)))(keys, self.env.params))
        # One comparison that rounds otherwise starts another episode, so the first steps are compared.
        first, alone = (_head(jax.tree.map(lambda leaf: leaf[0], both)), _head(self.played))
        close("a game beside another under vmap and the same alone", first._asdict(), alone._asdict())
        return None

    def scored(self) -> str | None:
        if (self.env.spec.time_limit or MAX_STEPS + 1) > MAX_STEPS:
            return "its episodes may be long"
        counts: Any = map(np.int32, (0, 1, 0, 1))
        key, agent, progress = jax.random.key(0), _random_agent(self.env.spec), Progress(*counts)
        env, scores = self.make(2), None
        if isinstance(env, Env):
            scored = jax.jit(lambda key, params: episode_scores(key, agent, env._replace(params=params), (), progress, 1))
            scores = scored(key, env.params)
        else:
            env.close()
            make_env: Any = self.make
            scores = host_episode_scores(key, agent, make_env, (), progress, 2)
        if not np.isfinite(scores.returns).all():
            raise Broken(f"an evaluation of random actions ends with {np.asarray(scores.returns)}; every episode has to end")
        return None


# --- playing ----------------------------------------------------------------------------------------------------------

Choose = Callable[[Array, Spec, PyTree, int], PyTree]
"""(key, spec, obs, num_envs) -> actions."""


def _random(key: Array, spec: Spec, obs: PyTree, num_envs: int) -> PyTree:
    if isinstance(obs, Position):
        return jnp.argmax(jnp.where(obs.legal, jax.random.uniform(key, obs.legal.shape), -1.0), axis=-1).astype(jnp.int32)
    return sample_action(key, spec.action, (num_envs,))


def _extreme(key: Array, spec: Spec, obs: PyTree, num_envs: int, end: int) -> PyTree:
    if isinstance(obs, Position):
        order = jnp.arange(obs.legal.shape[-1])
        return jnp.argmax(jnp.where(obs.legal, order if end else -order, -order[-1] - 1), axis=-1).astype(jnp.int32)

    def bound(part: Any) -> Any:
        if isinstance(part, (Discrete, Box)):
            lowest, highest = (0, part.n - 1) if isinstance(part, Discrete) else (-1, 1)
            return action_zeros(part, (num_envs,)) + jnp.asarray(
                highest if end else lowest, jnp.result_type(action_zeros(part))
            )
        return type(part)(*map(bound, part))

    return bound(spec.action)


def _play(env: Env | OwnHostEnv, length: int, choose: Choose) -> Played:
    if not isinstance(env, Env):
        return _play_host(env, 0, length, choose)
    run = jax.jit(lambda key, params: _play_device(env, key, params, length=length, choose=choose))
    return jax.device_get(run(jax.random.key(0), env.params))


def _play_device(env: Env, key: Array, params: PyTree, *, length: int, choose: Choose) -> Played:
    key_reset, key = jax.random.split(key)

    def step(carry: tuple[PyTree, PyTree], key: Array) -> tuple[Any, TimeStep]:
        key_act, key_env = jax.random.split(key)
        action = choose(key_act, env.spec, carry[1], env.num_envs)
        state, timestep = env.step(key_env, params, carry[0], action)
        return (state, timestep.obs), timestep

    state, obs = env.reset(key_reset, params)
    return Played(obs, jax.lax.scan(step, (state, obs), jax.random.split(key, length))[1])


def _play_host(env: HostEnv, seed: int, length: int, choose: Choose) -> Played:
    choose_now = jax.jit(lambda key, obs: choose(key, env.spec, obs, env.num_envs))
    first = obs = env.reset(seed)
    rows = []
    for key in jax.random.split(jax.random.key(seed), length):
        timestep = env.step(jax.tree.map(np.asarray, choose_now(key, obs)))
        rows.append(jax.tree.map(np.array, timestep))
        obs = timestep.obs
    return Played(jax.tree.map(np.array, first), jax.tree.map(lambda *leaves: np.stack(leaves), *rows))


def _random_agent(spec: Spec) -> Agent:
    def act(key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Progress, explore: bool) -> Any:
        return _random(key, spec, obs, jax.tree.leaves(obs)[0].shape[0]), memory, ()

    return Agent(lambda key: (), act, lambda *arguments: ((), {}))


def _head(played: Played) -> Played:
    return played._replace(steps=jax.tree.map(lambda leaf: leaf[:20], played.steps))


def _vary(starts: PyTree) -> bool:
    return any((leaf != leaf[:1]).any() for leaf in jax.tree.leaves(starts))


def _shapes(tree: PyTree) -> Any:
    return jax.tree.structure(tree), [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)]


def _finite(what: str, tree: PyTree) -> None:
    for leaf in jax.tree.leaves(tree):
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise Broken(f"{what} is not finite")
