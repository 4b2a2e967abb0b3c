"""Episodes for a score: the return of a greedy policy.

Each of B environments contributes the same number of episodes, each from its reset: taking the first N episodes to finish
would favour short ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.types import Agent, Array, Env, Progress, PyTree, episode_end, game_over, where_ended

MAX_ENVS = 128
MAX_STEPS = 100_000
"""Steps after which an evaluation in an environment without time limit gives up on an episode."""


def split_episodes(num_episodes: int) -> tuple[int, int]:
    """(environments, episodes in each) that make at least `num_episodes` in all.

    Raises:
      UsageError: no positive number.
    """
    if num_episodes < 1:
        raise UsageError(f"episodes={num_episodes} is out of range; give at least 1")
    each = -(-num_episodes // MAX_ENVS)
    return -(-num_episodes // each), each


class _Tally(NamedTuple):
    """What an evaluation carries; `finished`: [B] episodes ended, `running`: [B] and `returns`: [B, each] sums of reward."""

    env: PyTree
    obs: PyTree
    memory: PyTree
    finished: Array
    running: Array
    returns: Array
    time: Array


def episode_returns(key: Array, agent: Agent, env: Env, policy: PyTree, progress: Progress, each: int) -> Array:
    """Greedy returns of `each` episodes in every environment, [B * each] float32.

    The return is the raw score where the environment records one (`info["episode_return"]`), so clipped rewards do not count.
    An episode that does not end within the time limit, or `MAX_STEPS` where there is none, is NaN.
    """
    limit = (env.spec.time_limit or MAX_STEPS) * each
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
        score = timestep.info.get("episode_return", running)
        place = jnp.where(over, tally.finished, each)
        returns = tally.returns.at[rows, place].set(score, mode="drop")
        return _Tally(
            env_state,
            timestep.obs,
            memory,
            tally.finished + over,
            jnp.where(over, 0.0, running),
            returns,
            tally.time + 1,
        )

    key_reset, key = jax.random.split(key)
    env_state, obs = env.reset(key_reset, env.params)
    start = _Tally(
        env_state,
        obs,
        agent.initial_memory(env.num_envs),
        jnp.zeros(env.num_envs, jnp.int32),
        jnp.zeros(env.num_envs),
        jnp.full((env.num_envs, each), jnp.nan),
        jnp.int32(0),
    )
    return jax.lax.while_loop(unfinished, step, start).returns.reshape(-1)


def summarize(returns: Any) -> dict[str, float | int | None]:
    """Episodes, mean and standard deviation (over episodes) of returns; unfinished episodes are counted apart."""
    finished = [float(r) for r in returns if r == r]
    num = len(finished)
    mean = sum(finished) / num if num else None
    std = (sum((r - mean) ** 2 for r in finished) / num) ** 0.5 if mean is not None else None
    return {"episodes": num, "mean": mean, "std": std, "unfinished": len(list(returns)) - num}
