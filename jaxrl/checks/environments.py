"""The suite for one environment: shapes first, then what every environment promises, on the device and on the host."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.checks.play import (
    Played,
    extreme_actions,
    play_device,
    play_host,
    play_once,
    random_actions,
    random_agent,
)
from jaxrl.checks.purity import same_program
from jaxrl.checks.suite import Broken, Check, close, same_bits
from jaxrl.contracts.environments import OwnHostEnv, checked_env, checked_host_env, trace_env
from jaxrl.drivers.evaluate import episode_scores
from jaxrl.drivers.host import host_episode_scores
from jaxrl.errors import UsageError, import_by_name
from jaxrl.runs.actor import make_env
from jaxrl.types import (
    Array,
    Env,
    Progress,
    PyTree,
    TreeSpec,
    episode_end,
    game_over,
)

NUM_ENVS = 4
MIN_STEPS, MAX_STEPS = 100, 2_000
"""Steps of random play at least, and at most where the time limit is longer."""


def env_checks(name: str, options: Mapping[str, Any], quick: bool = False) -> Iterator[Check]:
    """The checks of an environment, the fastest first; only what can be traced where `quick`."""
    suite = _Suite(name, options)
    yield Check("it is made, and returns what its contract says", suite.shapes, is_first=True)
    if quick:
        return
    yield Check("the same key plays the same", suite.same_key)
    yield Check("observations and rewards are numbers that the spec allows", suite.numbers)
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
        env = make_env(self.name, num_envs, **{**self.options, **options})
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
            play_host(self.env, 0, 1, random_actions)

    def play(self, seed: int) -> Played:
        """Random legal actions."""
        if isinstance(self.env, Env):
            return jax.device_get(self._play(jax.random.key(seed), self.env.params))
        return play_host(self.env, seed, self.length, random_actions)

    @cached_property
    def _play(self) -> Callable[[Array, PyTree], Played]:
        assert isinstance(self.env, Env)
        return jax.jit(partial(play_device, self.env, length=self.length, choose=random_actions))

    # --- promises -----------------------------------------------------------------------------------------------------

    def same_key(self) -> None:
        """A game comes out the same, and a trace does: what Python draws or counts is the same in all games of a program."""
        if isinstance(self.env, Env):
            env, key = self.env, jax.random.key(0)
            state, obs = jax.eval_shape(env.reset, key, env.params)
            action = jax.eval_shape(lambda obs: random_actions(key, env.spec, obs, env.num_envs), obs)
            same_program("reset", env.reset, key, env.params)
            same_program("step", env.step, key, env.params, state, action)
        same_bits("two games with the same key", self.played._asdict(), self.play(0)._asdict())

    def numbers(self) -> None:
        self._allowed("with random actions", self.played)

    def both_ends(self) -> None:
        for end in (0, 1):
            played = play_once(self.env, 20, partial(extreme_actions, end=end))
            self._allowed(f"with the {'highest' if end else 'lowest'} actions", played)

    def _allowed(self, when: str, played: Played) -> None:
        """Finite, and below `num_values` where the spec has one."""
        _finite(f"{when}, reward", played.steps.reward)
        specs = self.env.spec.obs.leaves if isinstance(self.env.spec.obs, TreeSpec) else (self.env.spec.obs,)
        for field, tree in (("reset's obs", played.first), ("obs", played.steps.obs), ("next_obs", played.steps.next_obs)):
            _finite(f"{when}, {field}", tree)
            for spec, leaf in zip(specs, jax.tree.leaves(tree), strict=True):
                beyond = leaf[(leaf < 0) | (leaf >= (np.inf if spec.num_values is None else spec.num_values))]
                if spec.num_values is not None and beyond.size:
                    raise Broken(
                        f"{when}, {field} holds {beyond.flat[0]} where the spec says num_values={spec.num_values}; raise it, "
                        f"or give numbers from 0 to {spec.num_values - 1}"
                    )

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
        cut = np.asarray(steps.truncated & ~steps.terminated)
        if not _vary(starts) and cut.any() and _are(pairs, starts, cut) and not _are(pairs, starts, ~ended):
            return (
                f"next_obs is what a reset returns at each of the {cut.sum()} steps that were truncated, as obs is; right only "
                "if the action led there, which cannot be told from outside"
            )
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
        over, length, reward, unlike = np.asarray(game_over(steps)), np.zeros(NUM_ENVS, int), np.zeros(NUM_ENVS), None
        adds_up = self.env.spec.has_return and self.env.spec.num_players == 1
        for time in range(len(over)):
            length += 1
            reward += steps.reward[time]
            found, ended = np.asarray(steps.info["episode_length"][time]), over[time]
            if (found != length)[ended].any():
                raise Broken(
                    f"info['episode_length'] is {found[ended][0]} where an episode of {length[ended][0]} steps ended; "
                    "count every step, and begin again after an end"
                )
            told = np.asarray(steps.info["episode_return"][time], float)
            for value, total in zip(told[ended], reward[ended], strict=True):
                if unlike is None and adds_up and abs(value - total) > 1e-3 * (1 + abs(value) + abs(total)):
                    unlike = f"info['episode_return'] is {value:.6g} where the rewards of an episode add up to {total:.6g}"
            length[ended], reward[ended] = 0, 0
        _finite("info['episode_return']", np.asarray(steps.info["episode_return"])[over])
        if not over.any():
            return f"no episode ended in {len(over)} steps of {NUM_ENVS} environments"
        return unlike and f"{unlike}; right only if rewards are scaled, clipped or shaped and the records are of what they were"

    def time_limit(self) -> str | None:
        limit = self.env.spec.time_limit
        if limit is None:
            return "its spec has none; an evaluation gives up on an episode after 100,000 steps"
        if limit > MAX_STEPS:
            return f"{limit} steps are more than {MAX_STEPS}"
        steps, length, num_terminated, num_cut = self.played.steps, np.zeros(NUM_ENVS, int), 0, 0
        for row, terminated in zip(np.asarray(episode_end(steps)), np.asarray(steps.terminated), strict=True):
            length += 1
            reached = row & (length == limit)
            num_terminated, num_cut = num_terminated + sum(reached & terminated), num_cut + sum(reached & ~terminated)
            length[row] = 0
            if (length >= limit).any():
                raise Broken(f"an episode goes on after {limit} steps, where spec.time_limit={limit} says that it is truncated")
        if limit > 1 and num_terminated and not num_cut:
            return (
                f"all {num_terminated} episodes that reached the limit of {limit} steps were flagged terminated; right only if "
                "the world ends there, else say truncated, so that agents bootstrap"
            )
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
            theirs = jax.device_get(play_once(other, 20, random_actions))
            ours = jax.device_get(play_once(self.env._replace(params=other.params), 20, random_actions))
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
        key, agent, progress = jax.random.key(0), random_agent(self.env.spec), Progress(*counts)
        env, scores = self.make(2), None
        if isinstance(env, Env):
            scored = jax.jit(lambda key, params: episode_scores(key, agent, env._replace(params=params), (), progress, 1))
            scores = scored(key, env.params)
        else:
            env.close()
            make_env: Any = self.make
            scores = host_episode_scores(key, agent, make_env, (), progress, 2)
        if not np.isfinite(self.played.steps.reward).all():
            raise Broken("rewards are not finite, and so no return is; give numbers")
        if not np.isfinite(scores.returns).all():
            raise Broken(f"an evaluation of random actions ends with {np.asarray(scores.returns)}; every episode has to end")
        return None


def _head(played: Played) -> Played:
    return played._replace(steps=jax.tree.map(lambda leaf: leaf[:20], played.steps))


def _are(pairs: list[Any], starts: PyTree, where: np.ndarray) -> bool:
    """Whether next observations are the first ones, of (obs, next_obs) leaf by leaf."""
    return all(
        np.array_equal(after[where], np.broadcast_to(start[0], after[where].shape))
        for (_, after), start in zip(pairs, jax.tree.leaves(starts), strict=True)
    )


def _vary(starts: PyTree) -> bool:
    return any((leaf != leaf[:1]).any() for leaf in jax.tree.leaves(starts))


def _shapes(tree: PyTree) -> Any:
    return jax.tree.structure(tree), [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)]


def _finite(what: str, tree: PyTree) -> None:
    for leaf in jax.tree.leaves(tree):
        if not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise Broken(f"{what} is not finite")
