"""gymnax's small environments as exact MDPs: FrozenLake-misc and FourRooms-misc."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.misc import frozen_lake, rooms

from jaxrl.envs.gymnax import _construct
from jaxrl.errors import UsageError
from jaxrl.mdp.grid import Grid
from jaxrl.mdp.model import MDP, make_mdp
from jaxrl.types import Array, PyTree


def to_mdp(name: str, discount: float = 0.99, **options: Any) -> MDP:
    """The exact MDP of FrozenLake-misc (states: cells, as it observes them) or FourRooms-misc (states: free cells, row by row).

    The environment's own step, with its randomness switched off, says where each of the four directions leads from each state
    and what it pays; how likely each direction is follows from its parameters. The time limit is no part of the MDP.
    FourRooms-misc with `resample_goal_pos` is refused: it is a different MDP for each goal.

    Args:
      options: as `make` takes them.

    Raises:
      UsageError: another environment, or an option as above.
    """
    exact = {"FrozenLake-misc": _frozen_lake, "FourRooms-misc": _four_rooms}
    if name not in exact:
        raise UsageError(f"{name} is not known as an MDP of arrays; choose one of {', '.join(exact)}")
    with jax.enable_x64(False):  # gymnax steps in single precision only.
        successors, rewards, mixture, starts, over = exact[name](*_construct(name, options))
    shape = (len(over), 4, 4)
    return make_mdp(
        np.broadcast_to(successors[:, None, :], shape),
        np.broadcast_to(mixture.astype(jnp.result_type(float)), shape),
        np.broadcast_to(rewards[:, None, :], shape),
        discount,
        initial=starts / starts.sum(),
        terminal=over,
    )


def grid_of(name: str, **options: Any) -> Grid:
    """The map of what `to_mdp` solves, in the characters of `jaxrl.envs.gridworld`."""
    env, _ = _construct(name, options)
    if name == "FrozenLake-misc":
        characters = np.array(list("S.TG"))[np.asarray(env.desc)]
        free, moves = np.ones(characters.shape, bool), frozen_lake._DIRECTIONS
    else:
        free, moves = np.asarray(env.env_map, bool), env.directions
        characters = np.where(free, ".", "#")
        characters[tuple(np.asarray(env.pos_fixed))], characters[tuple(np.asarray(env.goal_fixed))] = "S", "G"
    states = np.where(free, np.cumsum(free).reshape(free.shape) - 1, -1)
    return Grid(tuple("".join(row) for row in characters), states, tuple((int(y), int(x)) for y, x in np.asarray(moves)))


class _Ways(NamedTuple):
    """Where four ways lead from each state, and how likely an action goes each of them.

    Attributes:
      successors, rewards: [S, 4] of each way.
      mixture: [4, 4], action a goes way b with probability mixture[a, b].
      starts, over: [S] bool, where an episode starts (each as likely) and ends.
    """

    successors: np.ndarray
    rewards: np.ndarray
    mixture: np.ndarray
    starts: np.ndarray
    over: np.ndarray


def _frozen_lake(env: Any, params: Any) -> _Ways:
    tiles = np.asarray(env.desc).reshape(-1)
    intended = env.success_rate if env.is_slippery else 1.0
    slippery, env.is_slippery = env.is_slippery, False
    states = frozen_lake.EnvState(position=jnp.arange(env.n_states), time=jnp.zeros(env.n_states, jnp.int32))
    after, rewards = _sure_moves(env, params, states)
    env.is_slippery = slippery
    side = (1.0 - intended) / 2.0
    mixture = intended * np.eye(4) + side * (np.roll(np.eye(4), 1, axis=1) + np.roll(np.eye(4), -1, axis=1))
    over = np.isin(tiles, [frozen_lake.HOLE, frozen_lake.GOAL])
    return _Ways(np.asarray(after.position), rewards, mixture, tiles == frozen_lake.START, over)


def _four_rooms(env: Any, params: Any) -> _Ways:
    if params.resample_goal_pos:
        raise UsageError("resample_goal_pos=True makes every goal another MDP; leave it out and give goal_fixed")
    cells, goal, start = np.asarray(env.coords), np.asarray(env.goal_fixed), np.asarray(env.pos_fixed)
    for option, cell in (("goal_fixed", goal), ("pos_fixed", start)):
        if not (cells == cell).all(axis=1).any():
            raise UsageError(f"{option}={cell.tolist()} is no free cell; give [row, column] of one such as [4, 1]")
    over = (cells == goal).all(axis=1)
    goals, times = jnp.broadcast_to(goal, cells.shape), jnp.zeros(len(cells), jnp.int32)
    states = rooms.EnvState(pos=jnp.asarray(cells), goal=goals, time=times)
    after, rewards = _sure_moves(env, params.replace(fail_prob=0.0), states)
    number = np.full(env.env_map.shape, -1)
    number[tuple(cells.T)] = np.arange(len(cells))
    # With probability 4/3 fail_prob the action is drawn anew from all four.
    anew = min(1.0, float(params.fail_prob) * 4.0 / 3.0)
    mixture = (1.0 - anew) * np.eye(4) + anew / 4.0
    starts = ~over if params.resample_init_pos else (cells == start).all(axis=1)
    if over[starts].any():
        raise UsageError(f"pos_fixed={start.tolist()} is the goal, where gymnax's episode does not end; give another cell")
    return _Ways(number[tuple(np.moveaxis(np.asarray(after.pos), -1, 0))], rewards, mixture, starts, over)


def _sure_moves(env: Any, params: Any, states: PyTree) -> tuple[PyTree, np.ndarray]:
    """Where each of four actions leads from each of S states without chance: next states [S, 4, ...], rewards [S, 4]."""

    def move(state: PyTree, action: Array) -> tuple[PyTree, Array]:
        _, after, reward, _, _ = env.step_env(jax.random.key(0), state, action, params)
        return after, reward

    after, rewards = jax.vmap(jax.vmap(move, in_axes=(None, 0)), in_axes=(0, None))(states, jnp.arange(4))
    return after, np.asarray(rewards, float)
