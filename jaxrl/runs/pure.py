"""What follows `jaxrl.train`: the score, the policy and the folder of a result, or of any run of a vmapped one.

    result = jax.jit(jax.vmap(lambda key: jaxrl.train(key, config, make_dqn, env, 500_000)))(keys)
    jaxrl.evaluate(key, result, make_dqn, env)["mean"]         # [8], a score for each run
    policy = jaxrl.policy(result, make_dqn, env, index=3)      # a function of observations
    jaxrl.save(result, "runs/three", "dqn", "CartPole-v1", index=3)

A result holds arrays alone, those of its config among them; what made them is given again: agent and environment, which `save`
needs by the names that a run's folder knows them by.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.arguments import declared, instance, path, place, registered, whole
from jaxrl.config import Config
from jaxrl.contracts import arguments
from jaxrl.contracts.returns import same_structure
from jaxrl.drivers.evaluate import NUM_EPISODES, acting_in, episode_scores, summarize
from jaxrl.errors import UsageError, shown, unknown
from jaxrl.fields import MAX_COUNT, MAX_SEED, is_option
from jaxrl.loop import TrainResult, build_in, plan, rollout_length
from jaxrl.records.rows import Row, plain
from jaxrl.runs.api import RunResult
from jaxrl.runs.definition import Run
from jaxrl.runs.train import adopt, resume
from jaxrl.runs.trained import TrainedPolicy, make_policy
from jaxrl.types import Array, Env, MakeAgent, Progress, Spec

Index = int | tuple[int, ...]
RESULT = instance(TrainResult, "what jaxrl.train returned")


@declared(
    key=arguments.prng_key,
    result=RESULT,
    make_agent=arguments.make_agent,
    env=arguments.pure_env,
    num_episodes=whole(1, MAX_COUNT),
    index=place,
    eval_env=arguments.pure_env,
)
def evaluate(
    key: Array,
    result: TrainResult,
    make_agent: MakeAgent,
    env: Env,
    num_episodes: int | None = None,
    index: Index | None = None,
    eval_env: Env | None = None,
) -> dict[str, Any]:
    """Greedy scores: `episodes`, `mean`, `std`, `unfinished`; arrays over the runs of a vmapped result, else numbers.

    Args:
      key: of the episodes, the same for every run.
      make_agent, env: those that `train` was given.
      num_episodes: at least so many, the same number from each of the B environments; all of a finite environment by default,
        else 100.
      index: one run of a vmapped result.
      eval_env: in which to act, where it is not `env`: other physics, a test set.

    Raises:
      UsageError: no such run, or an environment in which the policy cannot act.
    """
    if index is not None:
        result = member(result, index)
    where = env if eval_env is None else eval_env
    _check_trained(result, make_agent, env)
    num = where.num_episodes or NUM_EPISODES if num_episodes is None else num_episodes
    runs, progress = result.state.iteration.shape, _progress(result, env.spec)

    def scores(key: Array, params: Any, result: TrainResult) -> Any:
        agent = acting_in(make_agent, result.config, env, where.spec)
        acting = where._replace(params=params)
        return episode_scores(key, agent, acting, result.state.agent.policy, progress, -(-num // where.num_envs))

    for _ in runs:
        scores = jax.vmap(scores, in_axes=(None, None, 0))
    found = jax.device_get(jax.jit(scores)(key, where.params, result))
    each = [summarize(jax.tree.map(lambda leaf, run=run: leaf[run], found)) for run in np.ndindex(runs)]
    if not runs:
        return plain(each[0])
    columns = {name: np.array([np.nan if one[name] is None else one[name] for one in each]) for name in each[0]}
    return {name: column.reshape(runs) for name, column in columns.items()}


@declared(result=RESULT, make_agent=arguments.make_agent, env=arguments.pure_env, index=place)
def policy(result: TrainResult, make_agent: MakeAgent, env: Env, index: Index | None = None) -> TrainedPolicy:
    """The greedy policy of a result, a function of observations.

    Args:
      make_agent, env: those that `train` was given.
      index: of a run, where the result is vmapped.

    Raises:
      UsageError: no such run, or none named of several.
    """
    one = member(result, index)
    _check_trained(one, make_agent, env)
    agent = build_in(make_agent, one.config, env)
    made = make_policy(jax.random.key(0), agent, one.state.agent.policy, _progress(one, env.spec), env)
    return dataclasses.replace(made, name=getattr(make_agent, "__name__", "policy"))


@declared(
    result=RESULT,
    folder=path,
    agent=registered("dqn"),
    env=registered("CartPole-v1"),
    seed=whole(0, MAX_SEED),
    index=place,
)
def save(
    result: TrainResult,
    folder: str | Path,
    agent: str,
    env: str,
    *,
    seed: int = 0,
    index: Index | None = None,
    **options: Any,
) -> RunResult:
    """Writes a result as the folder of a run, to evaluate, plot, extend, or start others from, and returns what it holds.

    Args:
      folder: new or empty.
      agent, env: names, or `module:function`, of what it was trained with.
      seed: of what follows, the evaluation and further training. With `jax.random.key(seed)` as the key of `train`, a longer
        training is what it would have been at once.
      index: of a run, where the result is vmapped.
      options: fields of `jaxrl.Run`, above all `env_options`.

    Raises:
      UsageError: bad input, a folder that cannot be used, or a result of another agent or environment; nothing was written.
    """
    one = member(result, index)
    known = [field.name for field in dataclasses.fields(Run) if is_option(field) and field.name not in ("env", "total_steps")]
    for name in options:
        if name == "total_steps":
            raise UsageError("total_steps is that of the result; leave it out, and train on with jaxrl.resume")
        if name not in known:
            raise UsageError(unknown("field of jaxrl.Run", name, known))
    run = Run(agent, env, _as_numbers(one.config), total_steps=int(one.rows["env_steps"][-1]), seed=seed, **options)
    adopt(run, Path(folder), one.state, _rows(one))
    return RunResult.read(Path(folder), resume(folder))


def member(result: TrainResult, index: Index | None) -> TrainResult:
    """One run of a vmapped result; a result of one run needs no index.

    Raises:
      UsageError: no such run, or none named of several.
    """
    runs = result.state.iteration.shape
    place = () if index is None else index if isinstance(index, tuple) else (index,)
    if len(place) != len(runs) or not all(-size <= i < size for i, size in zip(place, runs, strict=True)):
        what = f"index={index} names none of {math.prod(runs)} runs {runs}; give" if runs else f"index={index} of one run; give"
        raise UsageError(f"{what} {'one number for each axis' if runs else 'none'}")
    return jax.tree.map(lambda leaf: leaf[place], result) if place else result


def _check_trained(result: TrainResult, make_agent: MakeAgent, env: Env) -> None:
    """Checks that this agent in this environment is as large as what was trained.

    Raises:
      UsageError: it is another agent, or was trained in another environment.
    """
    arguments.check_pair(make_agent, result.config)
    axes = result.state.iteration.ndim

    def without_runs(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[axes:], leaf.dtype), tree)

    def init(config: Config) -> Any:
        return build_in(make_agent, config, env).init(jax.random.key(0))

    ours, theirs = jax.eval_shape(init, without_runs(result.config)), without_runs(result.state.agent)
    if not same_structure(ours, theirs) or jax.tree.leaves(ours) != jax.tree.leaves(theirs):
        given = f"make_agent={shown(make_agent)}, env={shown(env)}"
        raise UsageError(f"{given}: the networks in the result are of others; give those that it was trained with")


def _progress(result: TrainResult, spec: Spec) -> Progress:
    """The end of a run; the same for all runs of a vmapped result."""
    num_iterations = int(np.ravel(result.state.iteration)[0])
    steps = rollout_length(result.config, spec) * result.config.num_envs
    return plan(result.config, spec, num_iterations * steps).progress(num_iterations)


def _as_numbers(config: Config) -> Config:
    """The config with Python's numbers for arrays, each the shortest that makes the same float32."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        if not field.metadata.get("static", True):
            value = np.asarray(getattr(config, field.name))
            values[field.name] = float(str(value)) if value.dtype == np.float32 else value.item()
    return dataclasses.replace(config, **values)


def _rows(result: TrainResult) -> list[Row]:
    """The rows of one run as `metrics.jsonl` has them."""
    rows = jax.device_get(result.rows)
    first = {"kind": "train", "env_steps": rows["env_steps"]}
    return [
        plain({name: value if name == "kind" else value[place] for name, value in (first | rows).items()})
        for place in range(len(rows["env_steps"]))
    ]
