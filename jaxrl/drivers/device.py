"""The driver for environments of the compiled program: iterations in chunks, on one device or over a mesh of devices.

A chunk is a `fori_loop` with a traced trip count and a donated state, so that one of another length, another learning rate or
another physics compiles nothing.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxrl import parallel
from jaxrl.config import Config
from jaxrl.drivers import evaluate
from jaxrl.drivers.mesh import gather, layout, local, place
from jaxrl.loop import MakeAgent, Sums, build, init_state, repeat, rollout_length
from jaxrl.types import (
    Array,
    Env,
    Progress,
    PyTree,
    RunState,
)


def _unchanged(state: RunState) -> RunState:
    return state


class Driver(NamedTuple):
    """What the command line runs: the same calls for environments on the device and on the host.

    Attributes:
      init: (key, config, env_params) -> RunState, from the stream `RunKeys.init`.
      advance: (key, config, env_params, state, num_warmup, num_learn, num_iterations) -> (state, sums); does the warm-up
        iterations, then the learning ones, from the stream `RunKeys.train`. The state is donated. Counts are numbers, not
        shapes.
      evaluate: (key, config, env_params, policy, progress, num_episodes) -> [episodes] float32 greedy returns.
      saved: (state) -> the part of the state that a checkpoint can hold.
      restart: (key, config, state) -> the state to go on from after a checkpoint was restored.
      close: () frees what the environments hold.
      keeps_episodes: False where a restored run begins new episodes.
      place: (state) -> the state where `advance` wants it, for arrays that come from elsewhere.
      gather: (state) -> the state as one process can write it; every process calls it.
    """

    init: Callable[..., RunState]
    advance: Callable[..., tuple[RunState, Sums]]
    evaluate: Callable[..., Array]
    saved: Callable[[RunState], RunState]
    restart: Callable[[Array, Config, RunState], RunState]
    close: Callable[[], None]
    keeps_episodes: bool
    place: Callable[[RunState], RunState] = _unchanged
    gather: Callable[[RunState], PyTree] = _unchanged


def make_chunk(make_agent: MakeAgent, env: Env) -> Callable[..., tuple[RunState, Sums]]:
    """(key, config, env_params, state, num_warmup, num_learn, num_iterations) -> (state, sums), not yet jitted."""

    def chunk(
        key: Array,
        config: Config,
        env_params: PyTree,
        state: RunState,
        num_warmup: Array,
        num_learn: Array,
        num_iterations: Array,
    ) -> tuple[RunState, Sums]:
        bound = env._replace(params=env_params)
        length = rollout_length(config, env.spec)
        agent = build(make_agent, config, env.spec, env.num_envs, env.model)
        state, warm = repeat(key, agent, bound, state, num_warmup, num_iterations, length, learn=False)
        state, sums = repeat(key, agent, bound, state, num_learn, num_iterations, length, learn=True)
        return state, sums | {name: sums[name] + warm[name] for name in warm}

    return chunk


def find_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled with a check after every operation; it raises where the first NaN arose.

    Raises:
      jax.experimental.checkify.JaxRuntimeError: names the operation and its line of source.
    """
    from jax.experimental import checkify

    checked = jax.jit(checkify.checkify(function, errors=checkify.nan_checks))

    def run(*arguments: Any) -> Any:
        error, result = checked(*arguments)
        try:
            error.throw()
        except checkify.JaxRuntimeError as found:
            raise checkify.JaxRuntimeError(f"{found} {_source_line(found)}") from found
        return result

    return run


def _source_line(found: BaseException) -> str:
    """The innermost line that traced a failed operation and is not JAX's, Flax's or Optax's own."""
    frames = traceback.extract_tb(found.__cause__.__traceback__ if found.__cause__ else None)
    own = [frame for frame in frames if not re.search(r"[/\\]site-packages[/\\](jax|flax|optax)[/\\]", frame.filename)]
    return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""


def device_driver(
    make_agent: MakeAgent, env: Env, make_eval_env: Callable[[int], Env], debug: bool = False, mesh: Mesh | None = None
) -> Driver:
    """The driver for pure environments: one compiled program a chunk, with a donated state.

    Args:
      make_eval_env: (num_envs) -> environments for an evaluation.
      debug: check every operation for NaN; slower.
      mesh: devices over which the environments are divided; None for one device. Evaluation runs on one device in any case.
    """

    @jax.jit
    def init(key: Array, config: Config, env_params: PyTree) -> RunState:
        bound = env._replace(params=env_params)
        return init_state(key, build(make_agent, config, env.spec, env.num_envs, env.model), bound)

    def evaluate_policy(
        key: Array, config: Config, env_params: PyTree, policy: PyTree, progress: Progress, num_episodes: int
    ) -> Array:
        num_envs, each = evaluate.split_episodes(num_episodes)
        eval_env = make_eval_env(num_envs)._replace(params=env_params)
        agent = build(make_agent, config, eval_env.spec, num_envs, eval_env.model)
        return evaluate.episode_returns(key, agent, eval_env, policy, progress, each)

    chunk = make_chunk(make_agent, env)
    driver = Driver(
        init=init,
        advance=find_nan(chunk) if debug else jax.jit(chunk, donate_argnums=3),
        evaluate=jax.jit(evaluate_policy, static_argnames="num_episodes"),
        saved=lambda state: state,
        restart=lambda key, config, state: state,
        close=lambda: None,
        keeps_episodes=True,
    )
    return driver if mesh is None else _divided(driver, chunk, mesh, env.num_envs)


def _divided(driver: Driver, chunk: Callable[..., tuple[RunState, Sums]], mesh: Mesh, num_envs: int) -> Driver:
    """`driver` with the environments divided over a mesh of devices."""

    def arranged(state: RunState) -> RunState:
        return jax.lax.with_sharding_constraint(state, layout(state, mesh, num_envs))

    def init(*arguments: Any) -> RunState:
        with parallel.over(mesh):
            return arranged(driver.init(*arguments))

    def advance(*arguments: Any) -> tuple[RunState, Sums]:
        with parallel.over(mesh):
            state, sums = chunk(*arguments)
            return arranged(state), parallel.replicate(sums)

    def evaluate_policy(
        key: Array, config: Config, env_params: PyTree, policy: PyTree, progress: Progress, num_episodes: int
    ) -> Array:
        return driver.evaluate(key, config, env_params, local(policy), progress, num_episodes)

    return driver._replace(
        init=jax.jit(init),
        advance=jax.jit(advance, donate_argnums=3),
        evaluate=evaluate_policy,
        place=lambda state: place(state, mesh, num_envs),
        gather=gather,
    )
