"""From the definition of a run to all that it needs: environment, agent, driver, plan; checked, and nothing written."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jaxrl.agents import load_agent
from jaxrl.config import Config, as_arrays, check_config
from jaxrl.drivers.device import Driver, device_driver
from jaxrl.drivers.evaluate import split_episodes
from jaxrl.drivers.host import host_driver
from jaxrl.drivers.mesh import check_division, make_mesh
from jaxrl.envs import make
from jaxrl.errors import UsageError
from jaxrl.loop import Plan, RunKeys, build_in, plan, run_keys
from jaxrl.runs.definition import Run, check_run
from jaxrl.types import Agent, Env, PyTree, Spec

REPLAY_SHARE = 0.8
"""Share of a memory that a replay may take."""


class Prepared(NamedTuple):
    """A run that passed every check, with its driver.

    Attributes:
      agent: with its model, as it was trained.
      spec: of the training environment.
      eval_params: of the environment that the policy is scored in.
      agent_shapes: the agent's state as `jax.ShapeDtypeStruct`s.
      protocol: how the policy is scored, for the summary.
    """

    run: Run
    driver: Driver
    plan: Plan
    config: Config
    agent: Agent
    spec: Spec
    env_params: PyTree
    eval_params: PyTree
    keys: RunKeys
    agent_shapes: PyTree
    protocol: dict[str, Any]


def prepare(run: Run, divided: bool = False) -> Prepared:
    """Checks a run and builds what it needs.

    Args:
      divided: use all of the run's devices, and all processes; otherwise one device serves.

    Raises:
      UsageError: one line for whatever does not fit.
    """
    check_run(run)
    check_config(run.config)
    check_division(run.devices, run.config.num_envs)
    make_agent, _ = load_agent(run.agent)
    mesh = make_mesh(run.devices, run.config.num_envs) if divided else None
    env = make(run.env, run.config.num_envs, **run.env_options)
    _check_mesh(run, mesh, env)
    schedule = plan(run.config, env.spec, run.total_steps)
    config = as_arrays(run.config)

    def make_eval_env(num_envs: int) -> Any:
        return make(run.env, num_envs, **run.env_options)

    keys = run_keys(jax.random.key(run.seed))
    agent = build_in(make_agent, config, env)
    agent_shapes = jax.eval_shape(agent.init, keys.init)
    if isinstance(env, Env):
        _check_memory(agent_shapes)
        driver = device_driver(make_agent, env, make_eval_env, run.debug, mesh)
    else:
        elsewhere = _replay_device(agent_shapes) if agent.replay is not None else None
        _check_memory(without_replay(agent_shapes) if elsewhere else agent_shapes)
        driver = host_driver(make_agent, env, make_eval_env, run.debug, elsewhere)
    params = env.params if isinstance(env, Env) else ()
    return Prepared(run, driver, schedule, config, agent, env.spec, params, params, keys, agent_shapes, _protocol(run, env))


def _protocol(run: Run, env: Any) -> dict[str, Any]:
    """How the final policy is scored; the settings are those that the environment says it was made with."""
    return {
        "policy": "greedy, with the final parameters",
        "return": "of whole episodes (games, where a lost life ends an episode), rewards neither clipped nor scaled",
        "episodes_per_environment": split_episodes(run.eval_episodes)[1],
        "env_options": run.env_options,
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
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit") or host, host


def _replay_device(agent_shapes: PyTree) -> jax.Device | None:
    """A CPU for a replay that does not fit beside the rest on the accelerator, but does into the host's memory."""
    device, host = memory_limits()
    if jax.default_backend() == "cpu" or not device * REPLAY_SHARE < replay_bytes(agent_shapes) < host * REPLAY_SHARE:
        return None
    return jax.local_devices(backend="cpu")[0]


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


def num_bytes(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def without_replay(agent_state: PyTree) -> PyTree:
    return agent_state._replace(replay=()) if hasattr(agent_state, "replay") else agent_state
