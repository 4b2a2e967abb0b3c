"""Episodes for a score: the return of a greedy policy.

Each of B environments contributes the same number of episodes, each from its reset: taking the first N episodes to finish
would favour short ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import Config
from jaxrl.errors import UsageError
from jaxrl.fields import MAX_COUNT, is_whole_number
from jaxrl.loop import bound_model, build, build_in
from jaxrl.types import (
    Agent,
    Array,
    Env,
    HostEnv,
    MakeAgent,
    Progress,
    PyTree,
    Spec,
    counted,
    episode_end,
    game_over,
    where_ended,
)

MAX_ENVS = 128
MAX_STEPS = 100_000
"""Steps after which an evaluation in an environment without time limit gives up on an episode."""


def split_episodes(num_episodes: int) -> tuple[int, int]:
    """(environments, episodes in each) that make at least `num_episodes` in all.

    Raises:
      UsageError: no positive number, or more than `MAX_COUNT`.
    """
    if not is_whole_number(num_episodes) or not 1 <= num_episodes <= MAX_COUNT:
        raise UsageError(f"episodes={num_episodes!r} is out of range; give a whole number in [1, {MAX_COUNT}]")
    each = -(-num_episodes // MAX_ENVS)
    return -(-num_episodes // each), each


NUM_EPISODES = 100
"""Episodes of an evaluation where neither the user nor the environment says how many."""


def acting_in(make_agent: MakeAgent, config: Config, env: Env | HostEnv, evaluation: Spec) -> Agent:
    """The agent that was trained in `env` as it acts in an environment of another spec, with the model and params of training.

    Number of players and time limit may differ, and of observations and actions what the agent's `interface` leaves out.

    Raises:
      UsageError: observations or actions differ, or what `build_in` raises.
    """
    agent = build_in(make_agent, config, env)
    ours, theirs = agent.interface(env.spec), agent.interface(evaluation)
    for name in ("obs", "action"):
        here, there = getattr(ours, name), getattr(theirs, name)
        if here != there:
            raise UsageError(f"eval_env_options: {name} is {there} there and {here} in training; give options that keep it")
    seen = env.spec._replace(obs=evaluation.obs, action=evaluation.action)
    return agent if seen == env.spec else build(make_agent, config, seen, bound_model(env))


def compiled(evaluate: Callable[..., Scores], make_env: Callable[[int], Env]) -> Callable[..., Scores]:
    """`evaluate(env, each, *arguments)` as a function of (*arguments, num_episodes), compiled once for each number of episodes.

    The environments are made before, outside of the compiled function, since some look at numbers when they are made; their
    params are among the arguments.
    """

    @functools.lru_cache(maxsize=None, typed=True)
    def program(num_episodes: int) -> Callable[..., Scores]:
        num_envs, each = split_episodes(num_episodes)
        return jax.jit(functools.partial(evaluate, make_env(num_envs)._replace(params=None), each))

    return lambda *arguments: program(arguments[-1])(*arguments[:-1])


class Scores(NamedTuple):
    """What an evaluation found.

    Attributes:
      returns: [episodes] float32, NaN of an episode that did not end in time, inf of one whose return is no number.
      counts: [episodes] bool, False for the padding of a finite evaluation (`Env.num_episodes`).
    """

    returns: Any
    counts: Any


class _Tally(NamedTuple):
    """What an evaluation carries; `finished`: [B] episodes ended, `running`: [B], `scores`: of [B, each] episodes."""

    env: PyTree
    obs: PyTree
    memory: PyTree
    finished: Array
    running: Array
    scores: Scores
    time: Array


def episode_scores(key: Array, agent: Agent, env: Env, policy: PyTree, progress: Progress, each: int) -> Scores:
    """Greedy returns of `each` episodes in every environment, B * each in all.

    The return is the raw score where the environment records one (`info["episode_return"]`), so clipped rewards do not count.
    An episode that does not end within the time limit, or `MAX_STEPS` where there is none, is NaN.
    """
    limit = min((env.spec.time_limit or MAX_STEPS) * each, 2**31 - 1)
    rows = jnp.arange(env.num_envs)

    def unfinished(tally: _Tally) -> Array:
        return jnp.any(tally.finished < each) & (tally.time < limit)

    def step(tally: _Tally) -> _Tally:
        key_act, key_env = jax.random.split(jax.random.fold_in(key, tally.time))
        action, memory, _ = agent.act(key_act, policy, tally.memory, tally.obs, progress, False)
        env_state, timestep = env.step(key_env, env.params, tally.env, action)
        over = game_over(timestep)
        memory = where_ended(episode_end(timestep), agent.initial_memory(env.num_envs), memory)
        running = tally.running + timestep.reward
        score = timestep.info.get("episode_return", running).astype(jnp.float32)
        place = jnp.where(over, tally.finished, each)
        scores = Scores(
            tally.scores.returns.at[rows, place].set(jnp.where(jnp.isnan(score), jnp.inf, score), mode="drop"),
            tally.scores.counts.at[rows, place].set(counted(timestep), mode="drop"),
        )
        return _Tally(
            env_state, timestep.obs, memory, tally.finished + over, jnp.where(over, 0.0, running), scores, tally.time + 1
        )

    key_reset, key = jax.random.split(key)
    env_state, obs = env.reset(key_reset, env.params)
    shape = (env.num_envs, each)
    start = _Tally(
        env_state,
        obs,
        agent.initial_memory(env.num_envs),
        jnp.zeros(env.num_envs, jnp.int32),
        jnp.zeros(env.num_envs, jnp.float32),
        Scores(jnp.full(shape, jnp.nan, jnp.float32), jnp.ones(shape, bool)),
        jnp.int32(0),
    )
    scores = jax.lax.while_loop(unfinished, step, start).scores
    return Scores(scores.returns.reshape(-1), scores.counts.reshape(-1))


def summarize(scores: Scores) -> dict[str, Any]:
    """Episodes, mean and standard deviation (over episodes) of returns; unfinished episodes are counted apart.

    Mean and deviation are None of no episode, and of returns that are no numbers.
    """
    returns = np.asarray(scores.returns, float)[np.asarray(scores.counts)]
    finished = returns[~np.isnan(returns)]
    num = len(finished)
    is_number = num > 0 and bool(np.isfinite(finished).all())
    mean, std = (float(finished.mean()), float(finished.std())) if is_number else (None, None)
    return {"episodes": num, "mean": mean, "std": std, "unfinished": len(returns) - num}


def are_numbers(spec: Spec, training: Mapping[str, Any], evaluation: Mapping[str, Any]) -> bool:
    """Whether the returns of a run are numbers, as `summarize` tells them; training has none where its sum says nothing."""
    scores = (training, evaluation) if spec.has_return else (evaluation,)
    return all(score["mean"] is not None or not score["episodes"] for score in scores)
