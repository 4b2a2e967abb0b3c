"""What a sweep trains: which configs and seeds, and which of its runs can share one compiled program.

A run is one config with one seed; run `c * len(seeds) + s` is config c with seed s. Swept fields are fields of the agent's
config, or options of the environment as `env.NAME`. Runs that differ only in seeds, traced fields and traced physics form a
group: one compilation, one batch axis. Where the environment lives on the host, runs cannot be batched: each is trained alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxrl.agents import load_agent
from jaxrl.config import Config, as_arrays, check_config
from jaxrl.drivers.memory import batch_limit, num_bytes, rollout_bytes
from jaxrl.drivers.rehearse import rehearse
from jaxrl.errors import UsageError
from jaxrl.fields import MAX_COUNT, MAX_SEED, check_fields, renamed, static
from jaxrl.loop import Plan, build_in, init_state, plan, run_keys
from jaxrl.runs.actor import make_env
from jaxrl.runs.definition import Recorded, Training
from jaxrl.runs.prepare import Evaluation, check_stops, evaluation_of, memory_limits
from jaxrl.sweeps.population import BATCHINGS, EnvParams, differing, without_iteration
from jaxrl.sweeps.schedulers import Schedule, check_schedule
from jaxrl.sweeps.space import ENV_PREFIX, Draw, check_name, make_configs
from jaxrl.types import Env, HostEnv, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batched:
    """What sweeps and searches have in common: seeds, and how their runs are batched."""

    seeds: tuple[int, ...] = static((0,), "Of the runs of each config.", low=0, high=MAX_SEED, flag=None)
    batching: str = static(
        "auto", "How runs are batched: serial (each core its own), vmap, auto by the device.", choices=BATCHINGS
    )
    memory_limit: int | None = static(
        None,
        "Bytes that one batch of runs may take; by default most of the memory, of a machine or of a Ray worker.",
        low=1,
    )
    command: str = static("", "What the user typed, for the report.", flag=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Batched, Recorded, Training):
    """Everything that defines a sweep."""

    fields: tuple[str, ...] = static((), "Names of the swept fields.", flag=None)
    configs: tuple[Mapping[str, Any], ...] = static(({},), "For each config the value of every swept field.", flag=None)
    draws: dict[str, Draw] = static(dict, "Ranges of drawn fields, for population-based training to explore.", flag=None)
    schedule: Schedule = static(Schedule, "Which runs go on for how long.", flag=None)
    stop_return: float | None = static(None, "Stop a run when the mean return of its last 100 training episodes reaches this.")
    batching: str = static(
        "auto",
        "How runs are batched: serial (each core its own), vmap, solo (each run alone, in a process and a folder of its own), "
        "auto by the device; solo where the environment lives on the host.",
        choices=(*BATCHINGS, "solo"),
    )
    executor: str = static(
        "local", "local, or ray: tasks on a Ray cluster (RAY_ADDRESS, or a local one).", choices=("local", "ray")
    )

    file = "sweep.json"
    what = "sweep"
    written_by = "`jaxrl sweep`"

    @property
    def num_runs(self) -> int:
        return len(self.configs) * len(self.seeds)

    def config_of(self, run: int) -> int:
        """Index of a run's config."""
        return run // len(self.seeds)

    def seed_of(self, run: int) -> int:
        return self.seeds[run % len(self.seeds)]

    def runs_of(self, config: int) -> range:
        return range(config * len(self.seeds), (config + 1) * len(self.seeds))


class Group(NamedTuple):
    """Runs that share one compiled program.

    Attributes:
      make_agent: of the agent.
      solo: each of the runs is trained alone; then `env` may be a `HostEnv`, closed, and the shapes those of the agent's state.
      env, make_eval_env: environments with the params of any of the runs.
      config: of any of the runs; its static fields are those of all.
      schedule: iterations of each run.
      configs: indices of the configs in the group.
      params: of each of these configs the `EnvParams`.
      num_episodes: of the evaluation of a run.
      varies: which of them differ between the configs.
      shapes: of the state of one run, without its `iteration`.
    """

    make_agent: Callable[..., Any]
    solo: bool
    env: Env | HostEnv
    make_eval_env: Callable[[int], Any]
    config: Config
    schedule: Plan
    configs: tuple[int, ...]
    params: tuple[EnvParams, ...]
    varies: EnvParams
    num_episodes: int
    shapes: PyTree


# --- which configs --------------------------------------------------------------------------------------------------


def make_sweep(
    grid: Mapping[str, Sequence[Any]], draws: Mapping[str, Draw], num_draws: int, draw_seed: int, **values: Any
) -> Sweep:
    """A sweep over a grid and random draws, as of `make_configs`; `values` are its other fields."""
    configs = make_configs(grid, draws, num_draws, draw_seed, values["config"])
    return Sweep(fields=(*grid, *draws), configs=configs, draws=dict(draws), **values)


def configure(sweep: Sweep, values: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """The agent's config and the environment's options with swept values set."""
    fields = {name: value for name, value in values.items() if not name.startswith(ENV_PREFIX)}
    options = {name.removeprefix(ENV_PREFIX): value for name, value in values.items() if name.startswith(ENV_PREFIX)}
    return dataclasses.replace(sweep.config, **renamed(type(sweep.config), fields)), sweep.env_options | options


# --- which runs share a program -------------------------------------------------------------------------------------


def make_groups(sweep: Sweep) -> tuple[Group, ...]:
    """Checks a sweep and groups its configs by the program that trains them.

    Raises:
      UsageError: one line for whatever does not fit.
    """
    _check_sweep(sweep)
    make_agent, _ = load_agent(sweep.agent)
    environments = _Environments(sweep, make_agent)
    members: dict[Any, list[int]] = {}
    for index, values in enumerate(sweep.configs):
        config, options = configure(sweep, values)
        check_config(config)
        signature = (jax.tree.structure(config), environments.program(config, options))
        members.setdefault(signature, []).append(index)
    return tuple(_group(sweep, make_agent, environments, configs) for configs in members.values())


def _group(sweep: Sweep, make_agent: Callable[..., Any], environments: _Environments, configs: list[int]) -> Group:
    config, options = configure(sweep, sweep.configs[configs[0]])
    env = environments.make(config.num_envs, options)
    solo = _is_solo(sweep, env)
    schedule = plan(config, env.spec, sweep.total_steps)
    check_stops(sweep, schedule)
    agent = build_in(make_agent, as_arrays(config), env)
    key = run_keys(jax.random.key(0)).init
    if isinstance(env, Env):
        rehearse(make_agent, agent, as_arrays(config), env, schedule)
        shapes, limit = jax.eval_shape(lambda: without_iteration(init_state(key, agent, env))), batch_limit()
    else:
        shapes, limit = jax.eval_shape(agent.init, key), max(memory_limits())
    if not env.spec.has_return and (sweep.schedule.method != "none" or sweep.stop_return is not None):
        what = "stop_return" if sweep.schedule.method == "none" else f"schedule={sweep.schedule.method!r}"
        raise UsageError(f"{what} goes by training returns, and env={sweep.env!r} has none; leave it out")
    limit = sweep.memory_limit or limit
    if (needed := num_bytes(shapes) + rollout_bytes(env.spec, schedule.rollout_length, config.num_envs)) > limit:
        raise UsageError(
            f"memory_limit={limit} bytes is below the {needed} that the state and rollout of one run take; raise it, or lower "
            "capacity, num_envs or network sizes"
        )

    params = tuple(environments.params(*configure(sweep, sweep.configs[index])) for index in configs)
    evaluation = environments.evaluation(config, options)
    return Group(
        make_agent=make_agent,
        solo=solo,
        env=env,
        make_eval_env=evaluation.make_env,
        config=config,
        schedule=schedule,
        configs=tuple(configs),
        params=params,
        varies=differing(params),
        num_episodes=evaluation.num_episodes,
        shapes=shapes,
    )


def _is_solo(sweep: Sweep, env: Env | HostEnv) -> bool:
    """Whether runs are trained alone.

    Raises:
      UsageError: the sweep asks for what runs in a batch, or runs that are alone, cannot do.
    """
    is_host = not isinstance(env, Env)
    if is_host and sweep.batching not in ("auto", "solo"):
        raise UsageError(
            f"batching={sweep.batching!r}: env={sweep.env!r} lives on the host, where runs cannot be batched; give solo or auto"
        )
    solo = is_host or sweep.batching == "solo"
    if sweep.eval_every and not solo:
        raise UsageError(
            f"eval_every={sweep.eval_every}: runs of a batch are evaluated at their ends; give batching='solo', or 0"
        )
    early = {"schedule": sweep.schedule.method, "stop_return": sweep.stop_return}
    for name, value in early.items():
        if solo and value not in ("none", None):
            why = f"env={sweep.env!r} lives on the host" if is_host else "batching='solo'"
            raise UsageError(
                f"{name}={value!r} looks at runs on their way, and runs that train alone ({why}) go to their ends; leave it out"
            )
    return solo


class _Environments:
    """Environments by their options, and whether they run the same program; those of the host are closed at once."""

    def __init__(self, sweep: Sweep, make_agent: Callable[..., Any]) -> None:
        self._sweep, self._env, self._make_agent = sweep, sweep.env, make_agent
        self._made: dict[Any, Env | HostEnv] = {}
        self._evaluations: dict[str, Evaluation] = {}

    def make(self, num_envs: int, options: Mapping[str, Any]) -> Env | HostEnv:
        key = (num_envs, repr(sorted(options.items())))
        if key not in self._made:
            env = make_env(self._env, num_envs, **options)
            if not isinstance(env, Env):
                env.close()
                # Its runs may share an accelerator with this process, which needs little of its memory.
                os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
            self._made[key] = env
        return self._made[key]

    def evaluation(self, config: Config, options: Mapping[str, Any]) -> Evaluation:
        """What a run with this config and these options is scored in."""
        key = repr(sorted(options.items()))
        if key not in self._evaluations:
            self._evaluations[key] = evaluation_of(
                self._sweep, options, self._make_agent, as_arrays(config), self.make(config.num_envs, options)
            )
        return self._evaluations[key]

    def params(self, config: Config, options: Mapping[str, Any]) -> EnvParams:
        """Those of a run with this config and these options."""
        evaluation, env = self.evaluation(config, options), self.make(config.num_envs, options)
        same = evaluation.options == options
        return EnvParams(env.params if isinstance(env, Env) else (), None if same else evaluation.params)

    def program(self, config: Config, options: Mapping[str, Any]) -> Any:
        """Something equal for runs whose environments differ in nothing but the numbers of their params."""
        evaluation = self.evaluation(config, options)
        others = self._baked(evaluation.options, config.num_envs) if evaluation.options != options else ()
        return self._baked(options, config.num_envs), others

    def _baked(self, options: Mapping[str, Any], num_envs: int) -> Any:
        env = self.make(num_envs, options)
        if not isinstance(env, Env):
            return env.spec, repr(sorted(options.items()))
        baked = repr(sorted(options.items())) if env.static is None else env.static
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(env.params))
        return env.spec, jax.tree.structure(env.params), shapes, baked


def _check_sweep(sweep: Sweep) -> None:
    for name in sweep.fields:
        check_name(type(sweep.config), name)
    check_fields(sweep)
    if sweep.num_runs > MAX_COUNT:
        raise UsageError(
            f"seeds: {len(sweep.seeds)} of {len(sweep.configs)} configs are too many; give {MAX_COUNT} runs at most"
        )
    if not sweep.seeds or len(set(sweep.seeds)) < len(sweep.seeds):
        raise UsageError(f"seeds={sweep.seeds} are none or not all different; give different ones")
    if sweep.executor == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("executor='ray' needs the package ray; pip install 'jaxrl[ray]'")
    for name in ("configs", "env_options"):
        try:
            json.dumps(getattr(sweep, name))
        except TypeError as error:
            raise UsageError(f"{name}={getattr(sweep, name)}: {error}; give plain numbers, strings and lists") from None
    check_schedule(sweep.schedule, len(sweep.configs), sweep.num_runs, sweep.total_steps)
