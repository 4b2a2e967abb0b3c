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
import numpy as np
from jax.sharding import Mesh

from jaxrl import parallel
from jaxrl.config import Config, rollout_length
from jaxrl.drivers import evaluate
from jaxrl.drivers.mesh import gather, local, place, shardings
from jaxrl.loop import Sums, build_in, init_state, key_shape, no_sums, repeat
from jaxrl.types import Array, Env, MakeAgent, Progress, PyTree, RunState


def _unchanged(state: RunState) -> RunState:
    return state


class Driver(NamedTuple):
    """What the command line runs: the same calls for environments on the device and on the host.

    Attributes:
      init: (key, config, env_params) -> RunState, from the stream `RunKeys.init`.
      advance: (key, config, env_params, state, num_observe, num_learn, progress, sums=None) -> (state, sums); does so many
        iterations that only store, then so many that learn, from the stream `RunKeys.train`. The state is donated. Counts are
        numbers, not shapes; `progress` is the run's, its iteration that of the state. The sums of reports are on top of `sums`:
        iterations done in several calls add up to the bits of one.
      no_sums: (config, env_params, state) -> zeros on the host, for the `sums` of the first of several calls.
      evaluate: (key, config, env_params, eval_params, policy, progress, num_episodes) -> `Scores` of greedy episodes by the
        agent of `evaluate.acting_in`; `eval_params` are those of the environment that it is scored in.
      saved: (state) -> the part of the state that a checkpoint can hold.
      shapes: (config, env_params) -> that part of the first state, as `jax.ShapeDtypeStruct`s; compiles nothing.
      restart: (key, config, state) -> the state to go on from after a checkpoint was restored.
      close: () frees what the environments hold.
      keeps_episodes: False where a restored run begins new episodes.
      place: (state) -> the state where `advance` wants it, for arrays that come from elsewhere.
      gather: (state) -> the state as one process can write it; every process calls it.
    """

    init: Callable[..., RunState]
    advance: Callable[..., tuple[RunState, Sums]]
    no_sums: Callable[[Config, PyTree, RunState], Sums]
    evaluate: Callable[..., evaluate.Scores]
    saved: Callable[[RunState], RunState]
    shapes: Callable[[Config, PyTree], RunState]
    restart: Callable[[Array, Config, RunState], RunState]
    close: Callable[[], None]
    keeps_episodes: bool
    place: Callable[[RunState], RunState] = _unchanged
    gather: Callable[[RunState], PyTree] = _unchanged


def make_chunk(make_agent: MakeAgent, env: Env) -> Callable[..., tuple[RunState, Sums]]:
    """(key, config, env_params, state, num_observe, num_learn, progress, sums) -> (state, sums), not yet jitted."""

    def chunk(
        key: Array,
        config: Config,
        env_params: PyTree,
        state: RunState,
        num_observe: Array,
        num_learn: Array,
        progress: Progress,
        sums: Sums | None = None,
    ) -> tuple[RunState, Sums]:
        bound = env._replace(params=env_params)
        length, agent = rollout_length(config, env.spec), build_in(make_agent, config, bound)
        sums = no_sums(agent, bound, state, progress, length) if sums is None else sums
        state, sums = repeat(key, agent, bound, state, num_observe, progress, length, False, sums)
        return repeat(key, agent, bound, state, num_learn, progress, length, True, sums)

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
        return init_state(key, build_in(make_agent, config, bound), bound)

    def evaluate_policy(
        eval_env: Env,
        each: int,
        key: Array,
        config: Config,
        env_params: PyTree,
        eval_params: PyTree,
        policy: PyTree,
        progress: Progress,
    ) -> evaluate.Scores:
        agent = evaluate.acting_in(make_agent, config, env._replace(params=env_params), eval_env.spec)
        return evaluate.episode_scores(key, agent, eval_env._replace(params=eval_params), policy, progress, each)

    def zeros(config: Config, env_params: PyTree, state: RunState) -> Sums:
        bound = env._replace(params=env_params)
        progress, length = Progress(*[np.int32(0)] * 4), rollout_length(config, env.spec)  # type: ignore[arg-type]
        return no_sums(build_in(make_agent, config, bound), bound, state, progress, length)

    chunk = make_chunk(make_agent, env)
    driver = Driver(
        init=init,
        advance=find_nan(chunk) if debug else jax.jit(chunk, donate_argnums=3),
        no_sums=zeros,
        evaluate=evaluate.compiled(evaluate_policy, make_eval_env),
        saved=lambda state: state,
        shapes=lambda config, env_params: jax.eval_shape(init, key_shape(), config, env_params),
        restart=lambda key, config, state: state,
        close=lambda: None,
        keeps_episodes=True,
    )
    return driver if mesh is None else _divided(driver, chunk, mesh, env.num_envs)


def _divided(driver: Driver, chunk: Callable[..., tuple[RunState, Sums]], mesh: Mesh, num_envs: int) -> Driver:
    """`driver` with the environments divided over a mesh of devices."""

    def arranged(state: RunState) -> RunState:
        return jax.lax.with_sharding_constraint(state, shardings(state, mesh, num_envs))

    def init(*arguments: Any) -> RunState:
        with parallel.over(mesh):
            return arranged(driver.init(*arguments))

    def advance(*arguments: Any) -> tuple[RunState, Sums]:
        with parallel.over(mesh):
            state, sums = chunk(*arguments)
            return arranged(state), parallel.replicate(sums)

    def evaluate_policy(
        key: Array, config: Config, env_params: PyTree, eval_params: PyTree, policy: PyTree, *others: Any
    ) -> evaluate.Scores:
        return driver.evaluate(key, config, env_params, eval_params, local(policy), *others)

    return driver._replace(
        init=jax.jit(init),
        advance=jax.jit(advance, donate_argnums=3),
        evaluate=evaluate_policy,
        place=lambda state: place(state, mesh, num_envs),
        gather=gather,
    )
