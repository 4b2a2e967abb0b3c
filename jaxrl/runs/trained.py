"""What remains of a run: the trained policy as a function, its score, its picture.

    policy = jaxrl.load("runs/dqn-CartPole-v1")
    action = policy(obs)                     # greedy; both batches [B, ...] as the environment itself has them

Everything is rebuilt from the run's `config.json` and its last whole checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.arguments import declared, named, path, whole
from jaxrl.contracts.returns import described, is_array, is_real
from jaxrl.envs import make
from jaxrl.errors import UsageError, shown
from jaxrl.fields import MAX_COUNT, MAX_SEED
from jaxrl.records.console import doing
from jaxrl.runs.actor import make_env
from jaxrl.runs.definition import Run, read_run
from jaxrl.runs.prepare import Prepared, prepare
from jaxrl.runs.stored import read_policy
from jaxrl.runs.train import evaluate_state
from jaxrl.types import (
    SAME_UNITS,
    Agent,
    Array,
    ArraySpec,
    Env,
    HostEnv,
    Progress,
    PyTree,
    Spec,
    TreeSpec,
    Units,
    game_over,
    position_spec,
    units_of,
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainedPolicy:
    """A trained policy, greedy, from batches of observations to actions, both as the environment itself has them.

    A function like any other, to jit, vmap or differentiate through; two are equal if they are the same one.
    So it acts on what a Gymnasium environment observes, and returns torques in newton metres and numbers from `start` on.
    `normalized` is the same policy from observations to actions of `spec`, where boxes are [-1, 1] and numbers count from 0.

    Attributes:
      params: what acting reads (`AgentState.policy`).
      spec: what an agent knows of the environment.
      act: (params, memory, obs [B, ...]) -> (action [B, ...], memory), those of `spec`, compiled.
      initial_memory: (num_envs) -> memory of a recurrent policy, () for a feed-forward one.
      units: between the environment's own observations and actions and those of `spec`.
      env_params: what `units` reads.
      name: of its agent and environment.
    """

    params: PyTree
    spec: Spec
    act: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
    initial_memory: Callable[[int], PyTree]
    units: Units = SAME_UNITS
    env_params: PyTree = ()
    name: str = "policy"

    def __repr__(self) -> str:
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        return f"TrainedPolicy({self.name}: {size:,} numbers, obs {self.spec.obs}, action {self.spec.action})"

    @property
    def normalized(self) -> TrainedPolicy:
        """The same policy from observations of `spec` to actions of `spec`."""
        return dataclasses.replace(self, units=SAME_UNITS)

    def __call__(self, obs: PyTree) -> PyTree:
        """Actions [B, ...] for observations [B, ...], arrays or lists of numbers, of a policy without memory.

        Raises:
          UsageError: other observations; the policy is recurrent, use `step`; or it sees more than one observation, as under
            `frame_stack`.
        """
        if jax.tree.leaves(self.initial_memory(1)):
            raise UsageError("this policy is recurrent; call step(obs, memory), starting from initial_memory(num_envs)")
        return self.step(obs, ())[0]

    def step(self, obs: PyTree, memory: PyTree) -> tuple[PyTree, PyTree]:
        """(action [B, ...], next memory) for observations [B, ...] and the memory so far; errors as of a call.

        Raises:
          UsageError: observations or a memory of another kind or shape.
        """
        seen = self._seen(obs)
        num = jax.tree.leaves(seen)[0].shape[0]
        ours, theirs = (jax.tree.map(np.shape, tree) for tree in (memory, self.initial_memory(num)))
        if ours != theirs:
            raise UsageError(f"memory={shown(memory)} is not that of {num} environments; start from initial_memory({num})")
        action, memory = self.act(self.params, memory, seen)
        return self.units.to_action(self.env_params, action), memory

    def _seen(self, obs: PyTree) -> PyTree:
        """What the agent sees of observations as the environment has them."""
        spec, is_list = self.spec.obs, lambda part: isinstance(part, list)
        try:
            given = jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf), obs, is_leaf=is_list)
            seen = self.units.to_obs(self.env_params, given)
            if _fits(spec, seen):
                return seen
            said = described(given)
        except UsageError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError):  # As the environment's own map and NumPy raise them.
            said = shown(obs)
        raise UsageError(f"obs={said} is no batch of observations; give {_wanted(spec)}, or a list of such") from None


def _fits(spec: ArraySpec | TreeSpec, obs: PyTree) -> bool:
    """Whether arrays are B observations of `spec` each, whole numbers where they name one of finitely many things."""
    if isinstance(spec, TreeSpec):
        arrays: Any = jax.tree.leaves(obs)
        return (
            jax.tree.structure(obs) == spec.treedef
            and all(map(_fits, spec.leaves, arrays))
            and len({array.shape[:1] for array in arrays}) == 1
        )
    if not is_array(obs) or obs.ndim == 0 or obs.shape[1:] != spec.shape:
        return False
    return is_real(obs) and (spec.num_values is None or not jnp.issubdtype(obs.dtype, jnp.floating))


def _wanted(spec: ArraySpec | TreeSpec) -> str:
    """`float32[B, 4]`, for a message."""
    if isinstance(spec, ArraySpec):
        return f"{spec.dtype}[{', '.join(map(str, ('B', *spec.shape)))}]"
    return shown(jax.tree.unflatten(spec.treedef, list(map(_wanted, spec.leaves)))).replace("'", "")


def make_policy(key: Array, agent: Agent, params: PyTree, progress: Progress, env: Env | HostEnv) -> TrainedPolicy:
    """The greedy policy with these `params` of an agent that was trained in `env`, which may be closed by now."""

    @jax.jit
    def act(params: PyTree, memory: PyTree, obs: PyTree) -> tuple[PyTree, PyTree]:
        action, memory, _ = agent.act(key, params, memory, obs, progress, False)
        return action, memory

    env_params = env.params if isinstance(env, Env) else ()
    return TrainedPolicy(params, env.spec, act, agent.initial_memory, units_of(env), env_params)


class Loaded(NamedTuple):
    """A run as it is read from its folder, with the parameters of a policy and the iteration that they are of."""

    prepared: Prepared
    params: PyTree
    iteration: int

    @property
    def progress(self) -> Progress:
        return self.prepared.plan.progress(self.iteration)


def read_trained(folder: Path, env_steps: int | None = None, env_options: Mapping[str, Any] | None = None) -> Loaded:
    """What a run's last whole checkpoint holds, or a snapshot; arguments and errors are those of `score`.

    The driver is to be closed.
    """
    run = read_run(folder)
    prepared = prepare(dataclasses.replace(run, eval_env_options={**run.eval_env_options, **(env_options or {})}))
    shapes = prepared.driver.shapes(prepared.config, prepared.env_params)
    return Loaded(prepared, *read_policy(folder, shapes, prepared.plan.steps_per_iteration, env_steps))


@declared(folder=path, env_steps=whole())
def load(folder: str | Path, env_steps: int | None = None) -> TrainedPolicy:
    """The trained policy of a run's last whole checkpoint, or of the snapshot after so many env steps (`--keep-every`).

    Raises:
      UsageError: no run, no checkpoint or no such snapshot there.
    """
    loaded = read_trained(Path(folder), env_steps)
    loaded.prepared.driver.close()
    prepared, run = loaded.prepared, loaded.prepared.run
    policy = make_policy(jax.random.key(run.seed), prepared.agent, loaded.params, loaded.progress, prepared.env)
    return dataclasses.replace(policy, name=f"{run.agent} on {run.env}")


@declared(folder=path, num_episodes=whole(1, MAX_COUNT), seed=whole(0, MAX_SEED), env_steps=whole(), env_options=named)
def score(
    folder: str | Path,
    num_episodes: int | None = None,
    seed: int = 0,
    env_steps: int | None = None,
    env_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Greedy score of a run's last whole checkpoint, or of a snapshot: episodes, mean, std, unfinished.

    Args:
      env_options: of the environment to act in, where they differ from those of the run's own evaluations: other physics.

    Raises:
      UsageError: no run, no checkpoint or no such snapshot there, or an environment in which the policy cannot act.
    """
    loaded = read_trained(Path(folder), env_steps, env_options)
    num_episodes = loaded.prepared.evaluation.num_episodes if num_episodes is None else num_episodes
    with doing(f"evaluating {num_episodes} episodes of {folder}"):
        result = evaluate_state(loaded.prepared, loaded.params, loaded.iteration, num_episodes, seed)
    loaded.prepared.driver.close()
    return result


@declared(folder=path, seed=whole(0, MAX_SEED), env_steps=whole(), env_options=named)
def episode_pictures(
    folder: str | Path, seed: int, env_steps: int | None = None, env_options: Mapping[str, Any] | None = None
) -> Iterator[np.ndarray]:
    """Plays one greedy episode as its pictures [height, width, 3] uint8 are asked for; arguments are those of `score`.

    Raises:
      UsageError: the environment has no pictures; before any is asked for.
    """
    stage = _stage(Path(folder), seed, env_steps, env_options)
    env = stage.env
    if not isinstance(env, Env):
        frames = _host_pictures(stage, env)
        return itertools.chain([next(frames)], frames)
    if stage.run.env.startswith("pgx/") and position_spec(env.spec.obs) is not None:
        game: Any = make(stage.run.env, 1, **stage.options | {"opponent": "none"})
        from jaxrl.envs.tools.board_pictures import draw_game

        answers = env.spec.num_players == 1
        names = (stage.run.agent, Path(str(stage.options["opponent"])).name) if answers else None
        return draw_game(stage.run.env.removeprefix("pgx/"), _plies(stage, env, game), names)
    render = env.render
    if render is None:
        raise UsageError(f"gif: there are no pictures of {stage.run.env}; its policy can be scored without --gif")
    return (render(env.params, state, 0) for state in _states(stage, env))


@declared(folder=path, seed=whole(0, MAX_SEED), env_steps=whole(), env_options=named)
def episode_page(
    folder: str | Path, seed: int, env_steps: int | None = None, env_options: Mapping[str, Any] | None = None
) -> str:
    """One greedy episode as a page of HTML that shows it from all sides; arguments are those of `score`.

    Raises:
      UsageError: an environment that is not Brax's, which alone has a viewer.
    """
    env_id = read_run(Path(folder)).env
    if not env_id.startswith("brax/"):
        raise UsageError(f"html: there is a viewer for environments of brax alone, not for {env_id}; leave it out")
    stage = _stage(Path(folder), seed, env_steps, env_options)
    from jaxrl.envs.brax import viewer
    from jaxrl.envs.tools.physics import simulation_of

    assert isinstance(stage.env, Env)
    states = [jax.tree.map(lambda leaf: leaf[0], simulation_of(state)) for state in _states(stage, stage.env)]
    return viewer(env_id.removeprefix("brax/"), stage.options, states)


class _Stage(NamedTuple):
    """Where one greedy episode is played, its actor, and what it depends on; `options`: those of the environment."""

    run: Run
    options: dict[str, Any]
    env: Env | HostEnv
    agent: Agent
    act: Callable[..., Any]
    params: PyTree
    key: Array

    @property
    def limit(self) -> int:
        """Steps after which it is shown no further."""
        return self.env.spec.time_limit or 1000


def _stage(folder: Path, seed: int, env_steps: int | None, env_options: Mapping[str, Any] | None) -> _Stage:
    loaded = read_trained(folder, env_steps, env_options)
    loaded.prepared.driver.close()
    evaluation, run = loaded.prepared.evaluation, loaded.prepared.run
    act = jax.jit(partial(evaluation.agent.act, progress=loaded.progress, explore=False))
    drawn = {} if loaded.prepared.driver.keeps_episodes else {"render_mode": "rgb_array"}
    env = make_env(run.env, 1, **evaluation.options | drawn)
    return _Stage(run, evaluation.options, env, evaluation.agent, act, loaded.params, jax.random.key(seed))


def _states(stage: _Stage, env: Env) -> Iterator[PyTree]:
    """The environment's state before each step, and the last one unless the episode ended there."""
    step, reset = jax.jit(env.step), jax.jit(env.reset)
    key_reset, key = jax.random.split(stage.key)
    state, obs = reset(key_reset, env.params)
    memory = stage.agent.initial_memory(1)
    yield state
    for time in range(stage.limit):
        key_act, key_env = jax.random.split(jax.random.fold_in(key, time))
        action, memory, _ = stage.act(key_act, stage.params, memory, obs)
        state, timestep = step(key_env, env.params, state, action)
        if bool(game_over(timestep)[0]):
            return
        yield state
        obs = timestep.obs


def _plies(stage: _Stage, env: Env, game: Env) -> Iterator[tuple[Array, float | None]]:
    """Plays a game of `env` and gives each of its positions, the last one included, as `draw_game` takes them; between those
    that `env` shows, an opponent's answer in each step, the model of the `game` knows what our move led to."""
    step, model = jax.jit(env.step), jax.jit(game.model)  # type: ignore[arg-type]
    key_reset, key = jax.random.split(stage.key)
    state, obs = env.reset(key_reset, env.params)
    memory, sign = stage.agent.initial_memory(1), 1.0
    yield obs.planes[0], None
    for time in range(stage.limit):
        key_act, key_env = jax.random.split(jax.random.fold_in(key, time))
        action, memory, _ = stage.act(key_act, stage.params, memory, obs)
        ours, _, _ = model(key_env, game.params, jax.tree.map(lambda leaf: leaf[0], obs), action[0])
        state, timestep = step(key_env, env.params, state, action)
        outcome = sign * float(timestep.reward[0]) if bool(timestep.terminated[0]) else None
        shown = timestep.next_obs.planes[0]
        if not np.array_equal(ours.planes, shown):
            yield ours.planes, None
        yield shown, outcome
        if bool(game_over(timestep)[0]):
            return
        obs = timestep.obs
        sign *= -1.0 if env.spec.num_players == 2 else 1.0


def _host_pictures(stage: _Stage, env: Any) -> Iterator[np.ndarray]:
    with contextlib.closing(env):
        seed = int(jax.random.bits(stage.key, dtype=jnp.uint32) >> 1)
        obs, memory = env.reset(seed), stage.agent.initial_memory(1)
        first = env.render_frame()
        if first is None:
            raise UsageError("gif: this environment draws no pictures; its policy can be scored without --gif")
        yield first
        for time in range(stage.limit):
            action, memory, _ = stage.act(jax.random.fold_in(stage.key, time), stage.params, memory, obs)
            timestep = env.step(jax.tree.map(np.asarray, action))
            if bool(game_over(timestep)[0]):
                return
            yield env.render_frame()
            obs = timestep.obs
