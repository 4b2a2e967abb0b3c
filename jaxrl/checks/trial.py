"""What every agent promises, each a function of a `Trial`: the agent in a small environment, compiled once.

The tests of the package hold its own agents to the same functions.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.checks.suite import Broken, close, same_bits
from jaxrl.config import Config, as_arrays, check_config
from jaxrl.drivers.device import Driver, device_driver, make_chunk
from jaxrl.loop import Plan, RunKeys, build_in, plan, run_keys
from jaxrl.records import checkpoint
from jaxrl.types import Env, MakeAgent, Progress, RunState

TINY = {
    "num_envs": 4,
    "hidden": (16,),
    "capacity": 256,
    "batch_size": 16,
    "learning_starts": 32,
    "target_period": 40,
    "num_minibatches": 2,
    "num_value_updates": 2,
    "num_planning_steps": 2,
    "units": 16,
    "glimpse_units": 8,
    "blocks": 1,
    "channels": 4,
    "num_simulations": 4,
}
"""Fields made small in every agent that has them."""

ITERATIONS = 20
"""Iterations after which states are compared."""


class Trial(NamedTuple):
    """An agent in a small environment.

    Attributes:
      config: as arrays.
      keys: of the run.
    """

    make_agent: MakeAgent
    config: Any
    env: Env
    driver: Driver
    plan: Plan
    keys: RunKeys

    def init(self) -> RunState:
        return on_device(self.driver.init(self.keys.init, self.config, self.env.params))

    def advance(self, state: RunState, warmup: int, learn: int, config: Any = None) -> tuple[RunState, Any]:
        """The state, which is donated, after so many iterations, and the sums of what they report."""
        counts = np.int32(warmup), np.int32(learn), self.plan.progress(0)
        return self.driver.advance(self.keys.train, config or self.config, self.env.params, state, *counts)

    def trained(self) -> RunState:
        """The state after the warm-up and `ITERATIONS`."""
        return self.advance(self.init(), self.plan.num_warmup, ITERATIONS)[0]


def make_trial(make_agent: MakeAgent, config: Config, make_env: Callable[[int], Env], seed: int = 3) -> Trial:
    """The trial of an agent with this config, which is checked.

    Raises:
      UsageError: what does not fit.
    """
    check_config(config)
    env = make_env(config.num_envs)
    per_iteration = plan(config, env.spec, config.learning_starts + 1).steps_per_iteration
    schedule = plan(config, env.spec, config.learning_starts + 50 * per_iteration)
    driver = device_driver(make_agent, env, make_env)
    return Trial(make_agent, as_arrays(config), env, driver, schedule, run_keys(jax.random.key(seed)))


def fitted(config_class: type[Config], *fields: Mapping[str, Any]) -> Config:
    """The config with those of `fields` that it has, later ones over earlier ones."""
    known = {f.name for f in dataclasses.fields(config_class)}
    return config_class(**{name: value for some in fields for name, value in some.items() if name in known})


def on_device(state: RunState) -> RunState:
    """Tied to its device as restored arrays are: one program then advances a first state and a restored one."""
    return jax.device_put(state, jax.local_devices()[0])


def copy(tree: Any) -> Any:
    """A copy that survives the donation of the original."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


def traced_fields(config: Config) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(config) if not f.metadata["static"]]


# --- promises ---------------------------------------------------------------------------------------------------------


def same_key_same_bits(trial: Trial, trained: RunState) -> None:
    again, _ = trial.advance(trial.init(), trial.plan.num_warmup, ITERATIONS)
    same_bits("two runs with the same key", trained, again)


def another_key_another_policy(trial: Trial, trained: RunState) -> None:
    other = trial._replace(keys=run_keys(jax.random.key(4))).trained()
    if _equal(other.agent.policy, trained.agent.policy):
        raise Broken("runs with two keys end with the same policy; let init or act use the key that they are given")


def state_keeps_its_types(trial: Trial, trained: RunState) -> None:
    before = trial.init()
    if jax.tree.structure(before) != jax.tree.structure(trained):  # type: ignore[operator]
        raise Broken("the state has another structure after an iteration; return the state with the fields that init gave it")
    for (path, a), b in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(trained), strict=True):
        if a.aval != b.aval:
            name = jax.tree_util.keystr(path)
            raise Broken(f"state{name} is {a.aval} at first and {b.aval} later; give its type where it arises: jnp.float32(0)")


def learning_changes_the_policy_alone(trial: Trial, trained: RunState) -> None:
    """Moments of observations are gathered in a warm-up too: they are seen, not learned."""
    state = trial.init()
    start = copy(parameters(state))
    warm, _ = trial.advance(state, 5, 0)
    same_bits("parameters before and after a warm-up, in which observe may only store", parameters(warm), start)
    if _equal(parameters(trained), start):
        raise Broken(f"the policy is the same after {ITERATIONS} iterations; update learns nothing")


def parameters(state: RunState) -> Any:
    """What is learned of a policy."""
    return getattr(state.agent.policy, "params", state.agent.policy)


def numbers_compile_nothing(trial: Trial, trained: RunState) -> None:
    """Another number of iterations or value of a traced field."""
    advance: Any = trial.driver.advance
    before = advance._cache_size()
    for field in traced_fields(trial.config):
        value = getattr(trial.config, field.name)
        other = value * 0.9 if jnp.issubdtype(value.dtype, jnp.inexact) else value
        trial.advance(copy(trained), 0, 3, as_arrays(dataclasses.replace(trial.config, **{field.name: other})))
    plain = {f.name: np.asarray(getattr(trial.config, f.name)).item() for f in traced_fields(trial.config)}
    trial.advance(copy(trained), 2, 1, as_arrays(dataclasses.replace(trial.config, **plain)))
    if advance._cache_size() != before:
        raise Broken("another value of a traced field compiles again; a state that changes its types does this")


def halves_with_a_checkpoint_equal_the_whole(trial: Trial, trained: RunState) -> None:
    half, _ = trial.advance(trial.init(), trial.plan.num_warmup, ITERATIONS // 2)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder), int(half.iteration), half, {"note": 1})
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), trained)
        restored = checkpoint.restore(Path(folder), lambda meta: shapes, _refuse)
    if restored is None:
        raise Broken("a checkpoint of the state cannot be read back; keep arrays in it alone")
    whole, _ = trial.advance(on_device(restored.state), 0, ITERATIONS - ITERATIONS // 2)
    same_bits("one run in a piece and with a checkpoint between two halves", whole, trained)


def _refuse(message: str) -> None:
    raise Broken(message)


def vmapped_equals_solo(trial: Trial, trained: RunState) -> None:
    """Over `ITERATIONS` within tolerance, every traced field a batch axis; the second run has other numbers and another key."""
    fields = {f.name: getattr(trial.config, f.name) for f in traced_fields(trial.config)}
    halved = {name: value / 2 if name == "learning_rate" else value for name, value in fields.items()}
    batch = dataclasses.replace(trial.config, **{name: np.stack([fields[name], halved[name]]) for name in fields})
    axes: Any = RunState(agent=0, env=0, obs=0, memory=0, recent=0, iteration=None)  # type: ignore[arg-type]
    init = jax.vmap(trial.driver.init, in_axes=(0, 0, None), out_axes=axes)
    chunk = jax.vmap(make_chunk(trial.make_agent, trial.env), in_axes=(0, 0, None, axes, None, None, None), out_axes=(axes, 0))

    @jax.jit
    def run(keys: RunKeys, config: Any, params: Any, warmup: Any, total: Progress) -> RunState:
        state = init(keys.init, config, params)
        return chunk(keys.train, config, params, state, warmup, np.int32(ITERATIONS), total)[0]

    second = run_keys(jax.random.key(7))
    keys = jax.tree.map(lambda a, b: jnp.stack([a, b]), trial.keys, second)
    counts = np.int32(trial.plan.num_warmup), trial.plan.progress(0)
    state = jax.device_get(run(keys, batch, trial.env.params, *counts))
    member = jax.tree.map(lambda leaf: leaf[0], state._replace(iteration=state.iteration[None]))
    close("a run beside another under vmap and the same alone", member, trained)


def every_traced_field_can_be_a_batch_axis(trial: Trial) -> None:
    """Traced without compiling: a field that shaped anything would fail here."""
    chunk = make_chunk(trial.make_agent, trial.env)

    @jax.jit
    def run(config: Any) -> RunState:
        """Traced once for all fields."""
        state = trial.driver.init(trial.keys.init, config, trial.env.params)
        return chunk(trial.keys.train, config, trial.env.params, state, 3, 3, trial.plan.progress(0))[0]

    axes: Any = RunState(agent=0, env=0, obs=0, memory=0, recent=0, iteration=None)  # type: ignore[arg-type]
    for field in traced_fields(trial.config):
        value = getattr(trial.config, field.name)
        config = dataclasses.replace(trial.config, **{field.name: jnp.stack([value, value])})
        config_axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, config)
        shapes = jax.eval_shape(jax.vmap(run, in_axes=(config_axes,), out_axes=axes, axis_size=2), config)
        if not all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(shapes.agent)):
            raise Broken(f"{field.name} cannot be swept")


def greedy_ignores_exploration(trial: Trial, trained: RunState) -> None:
    agent = build_in(trial.make_agent, trial.config, trial.env)
    memory = agent.initial_memory(trial.env.num_envs)
    start, end = trial.plan.progress(0), trial.plan.progress(trial.plan.num_iterations)
    first, second = (
        agent.act(jax.random.key(seed), trained.agent.policy, memory, trained.obs, progress, False)[:2]
        for seed, progress in ((0, start), (1, end))
    )
    same_bits("greedy actions with two keys, at the start and the end of a run", first, second)


def metrics_are_finite(trial: Trial) -> list[str]:
    """The names of the metrics, which are numbers."""
    _, sums = trial.advance(trial.init(), trial.plan.num_warmup, ITERATIONS)
    names = [name for name in sums if name.startswith("metric/")]
    for name in names:
        if sums[name].shape or not np.isfinite(sums[name]):
            raise Broken(f"metrics[{name.removeprefix('metric/')!r}] is {sums[name]} after {ITERATIONS} iterations")
    return names


def _equal(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
