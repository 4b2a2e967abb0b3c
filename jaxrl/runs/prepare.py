"""From the definition of a run to all that it needs: environment, agent, driver, plan; checked, and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrl.agents import load_agent
from jaxrl.config import Config, as_arrays, check_config, check_fits
from jaxrl.drivers.device import Driver, device_driver
from jaxrl.drivers.evaluate import NUM_EPISODES, acting_in, split_episodes
from jaxrl.drivers.host import host_driver
from jaxrl.drivers.memory import device_bytes, host_bytes, num_bytes, rollout_bytes
from jaxrl.drivers.mesh import check_division, make_mesh
from jaxrl.drivers.rehearse import rehearse
from jaxrl.envs import evaluation_options, make
from jaxrl.errors import UsageError
from jaxrl.fields import MAX_COUNT
from jaxrl.loop import Plan, RunKeys, build_in, plan, run_keys
from jaxrl.runs.actor import make_env, with_opponent
from jaxrl.runs.definition import Recorded, Run, Training, check_run
from jaxrl.startup import process_begun
from jaxrl.types import Agent, Array, Env, HostEnv, MakeAgent, PyTree

REPLAY_SHARE = 0.8
"""Share of a memory that a replay may take."""
_MANY_ENVS = 10_000
"""Below, the state of the environments is small beside any memory."""


class Prepared(NamedTuple):
    """A run that passed every check, with its driver.

    Attributes:
      agent: with its model, as it was trained.
      env: the training environment; closed with the driver, after which its `spec` and `units` still serve.
      evaluation: in what the policy is scored.
      agent_shapes: the agent's state as `jax.ShapeDtypeStruct`s.
      protocol: how the policy is scored, for the summary.
      begun: when this process, or this call, did, as of `time.perf_counter`.
    """

    run: Run
    driver: Driver
    plan: Plan
    config: Config
    agent: Agent
    env: Env | HostEnv
    env_params: PyTree
    evaluation: Evaluation
    keys: RunKeys
    agent_shapes: PyTree
    protocol: dict[str, Any]
    begun: float


class Evaluation(NamedTuple):
    """In what a policy is scored.

    Attributes:
      options: of the environment.
      make_env: (num_envs) -> environments.
      params: of the environment.
      num_episodes: of one evaluation.
      agent: as it acts there.
      static: `Env.static` of the environment.
    """

    options: dict[str, Any]
    make_env: Callable[[int], Any]
    params: PyTree
    num_episodes: int
    agent: Agent
    static: Any = None


def prepare(run: Run, divided: bool = False) -> Prepared:
    """Checks a run and builds what it needs.

    Args:
      divided: use all of the run's devices, and all processes; otherwise one device serves.

    Raises:
      UsageError: one line for whatever does not fit.
      OwnCodeError: your own agent or environment raised.
    """
    begun = process_begun()
    check_run(run)
    check_config(run.config)
    check_division(run.devices, run.config.num_envs)
    make_agent, config_class = load_agent(run.agent)
    check_fits(run.config, config_class, run.agent)
    mesh = make_mesh(run.devices, run.config.num_envs) if divided else None
    env = make_env(run.env, run.config.num_envs, **run.env_options)
    _check_mesh(run, mesh, env)
    schedule = plan(run.config, env.spec, run.total_steps)
    check_stops(run, schedule)
    _check_batch(env, run.config.num_envs, schedule.rollout_length, mesh.size if mesh else 1)
    config, keys = as_arrays(run.config), _keys(np.uint32(run.seed))
    agent = build_in(make_agent, config, env)
    evaluation = evaluation_of(run, run.env_options, make_agent, config, env)
    rehearse(make_agent, agent, config, env, schedule)
    agent_shapes = jax.eval_shape(agent.init, keys.init)
    if isinstance(env, Env):
        _check_memory(agent_shapes)
        driver = _kept_driver(run, make_agent, env, evaluation, mesh)
    else:
        elsewhere = _replay_device(agent_shapes) if agent.replay is not None else None
        _check_memory(without_replay(agent_shapes) if elsewhere else agent_shapes)
        driver = host_driver(make_agent, env, evaluation.make_env, run.debug, elsewhere)
    params, protocol = env.params if isinstance(env, Env) else (), _protocol(run, evaluation, env)
    return Prepared(run, driver, schedule, config, agent, env, params, evaluation, keys, agent_shapes, protocol, begun)


KEPT: dict[Any, Driver] = {}
"""Drivers with their compiled programs, the last ones used, for further runs of the same in this process."""

_MOST_KEPT = 4


def _kept_driver(run: Run, make_agent: MakeAgent, env: Env, evaluation: Evaluation, mesh: Mesh | None) -> Driver:
    """The driver of an earlier run whose program is the same, or a new one.

    Programs of your own agents and environments are not kept: what their code reads may have changed.
    """
    structure = jax.tree.structure((env.params, evaluation.params))
    program = (
        run.agent,
        make_agent,
        run.env,
        env.static,
        evaluation.static,
        env.spec,
        env.num_envs,
        structure,
        run.debug,
        mesh,
    )
    is_own = ":" in run.agent or ":" in run.env or env.static is None or evaluation.static is None
    driver = None if is_own else KEPT.pop(program, None)
    if driver is None:
        driver = device_driver(make_agent, env, evaluation.make_env, run.debug, mesh)
    if not is_own:
        KEPT[program] = driver
    while len(KEPT) > _MOST_KEPT:
        KEPT.pop(next(iter(KEPT)))
    return driver


@jax.jit
def _keys(seed: Array) -> RunKeys:
    """One small program instead of one for each operation."""
    return run_keys(jax.random.key(seed))


def evaluation_of(
    training: Training, env_options: Mapping[str, Any], make_agent: MakeAgent, config: Config, env: Env | HostEnv
) -> Evaluation:
    """What policies of an agent are scored in that are trained in `env`, made with `env_options`.

    Raises:
      UsageError: an environment that the policy could not act in.
    """
    options = evaluation_options(training.env, env_options, training.eval_env_options)
    made = with_opponent(training.env, options)
    other: Any = env if options == env_options else make(training.env, 1, **made)
    agent = acting_in(make_agent, config, env, other.spec)
    if other is not env and not isinstance(other, Env):
        other.close()

    def make_env(num_envs: int) -> Any:
        return make(training.env, num_envs, **made)

    params, finite = (other.params, other.num_episodes) if isinstance(other, Env) else ((), None)
    static = other.static if isinstance(other, Env) else None
    return Evaluation(options, make_env, params, training.eval_episodes or finite or NUM_EPISODES, agent, static)


def _protocol(run: Run, evaluation: Evaluation, env: Any) -> dict[str, Any]:
    """How the final policy is scored; the settings are those that the environment says it was made with."""
    return {
        "policy": "greedy, with the final parameters",
        "return": "of whole episodes (games, where a lost life ends an episode), rewards neither clipped nor scaled",
        "episodes_per_environment": split_episodes(evaluation.num_episodes)[1],
        "env_options": evaluation.options,
        "other_than_in_training": sorted(
            name for name, value in evaluation.options.items() if run.env_options.get(name, evaluation) != value
        ),
        "env_settings": getattr(env, "settings", {}),
    }


def _check_mesh(run: Run, mesh: Mesh | None, env: Any) -> None:
    if mesh is None:
        return
    if not isinstance(env, Env):
        env.close()
        raise UsageError(
            f"env={run.env} runs on the host and cannot be divided over {mesh.size} devices; "
            "leave --devices and --coordinator away, or choose an environment of the compiled program"
        )
    if run.debug:
        raise UsageError(f"debug=True looks for the first NaN on one device, not on {mesh.size}; leave one of the two away")


def memory_limits() -> tuple[int, int]:
    """Bytes of the device's memory and of the host's."""
    host = host_bytes()
    return device_bytes(jax.local_devices()[0]) or host, host


def _replay_device(agent_shapes: PyTree) -> jax.Device | None:
    """A CPU for a replay that does not fit beside the rest on the accelerator, but does into the host's memory."""
    device, host = memory_limits()
    if jax.default_backend() == "cpu" or not device * REPLAY_SHARE < replay_bytes(agent_shapes) < host * REPLAY_SHARE:
        return None
    return jax.local_devices(backend="cpu")[0]


def check_stops(recorded: Recorded, schedule: Plan) -> None:
    """Refuses more evaluations or snapshots than anyone waits for, each of which ends a call of the compiled program."""
    num_steps = schedule.num_iterations * schedule.steps_per_iteration
    if -(-schedule.num_iterations // recorded.num_rows) * schedule.steps_per_iteration >= 2**31:
        raise UsageError(
            f"num_rows={recorded.num_rows} leaves 2^31 env steps or more to a row, whose episodes are counted in 32 bits; "
            f"give at least {num_steps // 2**30}"
        )
    for name in ("eval_every", "keep_every"):
        every = getattr(recorded, name, 0)
        if every and num_steps // max(every, schedule.steps_per_iteration) > MAX_COUNT:
            raise UsageError(
                f"{name}={every} stops the training more than {MAX_COUNT} times; give at least {num_steps // MAX_COUNT}"
            )


def _check_batch(env: Env | HostEnv, num_envs: int, length: int, num_devices: int) -> None:
    """Environments and a rollout that exceed the device's memory would hang or kill the process."""
    needed = rollout_bytes(env.spec, length, num_envs)
    if isinstance(env, Env) and num_envs > _MANY_ENVS:
        needed += num_bytes(jax.eval_shape(env.reset, jax.random.key(0), env.params))
    limit = memory_limits()[0] * num_devices
    if needed > limit:
        raise UsageError(
            f"num_envs={num_envs} with {length} steps a rollout takes {needed / 1e9:.1f} GB and the device has "
            f"{limit / 1e9:.1f} GB; lower num_envs or rollout_length"
        )


def _check_memory(agent_shapes: PyTree) -> None:
    """An agent's state (its replay above all) that exceeds the device's memory would hang or kill the process."""
    needed, limit = num_bytes(agent_shapes), memory_limits()[0]
    if needed > limit:
        raise UsageError(
            f"the agent's state takes {needed / 1e9:.1f} GB and the device has {limit / 1e9:.1f} GB; "
            "lower capacity or the sizes of its networks"
        )


def replay_bytes(agent_state: PyTree) -> int:
    return num_bytes(getattr(agent_state, "replay", ()))


def without_replay(agent_state: PyTree) -> PyTree:
    return agent_state._replace(replay=()) if hasattr(agent_state, "replay") else agent_state
