"""Mazes: from the start to the goal, -1 a step, undiscounted, so a state's value is minus its distance.

    env = make("classic", num_envs=8)
    mdp = make_mdp("random", height=15, width=21, seed=3)

A maze is a grid world (`jaxrl.envs.gridworld` says what a map is, which actions there are and what the options mean).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrl.config import is_whole_number
from jaxrl.envs.gridworld import GridWorld, define, to_env, to_grid, to_mdp
from jaxrl.errors import UsageError
from jaxrl.mdp.grid import Grid
from jaxrl.mdp.model import MDP
from jaxrl.types import Env

WORLDS: dict[str, GridWorld] = {
    # The maze of D. Silver's course on reinforcement learning (2015), lecture 1: 16 steps from the start.
    "classic": GridWorld("##########/##......##/#S.##.#.##/##..##..##/###..#.###/##.#.#..##/##....#..G/##########"),
    # Two ways to the goal: 16 steps winding through the middle, 20 around it.
    "loop": GridWorld(
        "#############/#...........#/#.###.#####.#/#.#...#...#.#/#.#.###.#.#.#/#S..#...#G..#/"
        "#.#.#.###.#.#/#.#...#...#.#/#.#####.###.#/#...........#/#############"
    ),
    "large": GridWorld(""),
    "random": GridWorld(""),
}
"""Mazes by name; `large` and `random` are generated."""

_SIZE_OPTIONS = ("height", "width", "seed", "loops")
_SIZES: dict[str, dict[str, Any]] = {
    "large": {"height": 31, "width": 41, "seed": 1, "loops": 0.1},
    "random": {"height": 11, "width": 15},
}
_MAX_CELLS = 1_000_000
"""Of a random maze, which is made step by step."""


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B mazes whose observation is the number of the cell, row by row.

    Args:
      name: of `WORLDS`.
      options: fields of `GridWorld` but `discount`; for `large` and `random` also those of `random_maze`.

    Raises:
      UsageError: a bad map or option.
    """
    return to_env(_define(name, options), num_envs)


def make_mdp(name: str, discount: float | None = None, /, **options: Any) -> MDP:
    """The exact MDP of a maze: the arrays that `make` plays."""
    return to_mdp(_define(name, options), discount)


def grid_of(name: str, /, **options: Any) -> Grid:
    """The map of a maze, with the numbers of its states."""
    return to_grid(_define(name, options))


def _define(name: str, options: dict[str, Any]) -> GridWorld:
    sizes: dict[str, Any] = dict(_SIZES.get(name, {}))
    if not sizes or "map" in options:
        return define("maze", WORLDS, name, options)
    sizes |= {option: value for option, value in options.items() if option in _SIZE_OPTIONS}
    rest = {option: value for option, value in options.items() if option not in _SIZE_OPTIONS}
    return define("maze", WORLDS, name, {"map": random_maze(**sizes), **rest}, _SIZE_OPTIONS)


def random_maze(height: int = 11, width: int = 15, seed: int = 0, loops: float = 0.0) -> str:
    """A maze from the top left to the bottom right corner, the same for the same arguments.

    Args:
      height, width: cells with the walls around, odd and at least 5.
      loops: share of the inner walls between two corridors that are opened, in [0, 1]; at 0 there is exactly one way.

    Depth-first search with random turns (a random spanning tree of the cells with odd coordinates).

    Raises:
      UsageError: a size or share out of range.
    """
    for name, value in (("height", height), ("width", width)):
        if not is_whole_number(value) or value < 5 or value % 2 == 0:
            raise UsageError(f"{name}={value!r} is no size of a maze; give an odd number of at least 5")
    if height * width > _MAX_CELLS:
        raise UsageError(f"height={height}, width={width} make too many cells; give at most {_MAX_CELLS}")
    if not is_whole_number(seed) or seed < 0:
        raise UsageError(f"seed={seed!r} is out of range; give a whole number of at least 0")
    if isinstance(loops, bool) or not isinstance(loops, (int, float)) or not 0.0 <= loops <= 1.0:
        raise UsageError(f"loops={loops!r} is out of range; give a share in [0, 1]")
    rng = np.random.default_rng(seed)
    free = _spanning_tree(rng, height, width)
    _open_loops(rng, free, loops)
    rows = [["." if cell else "#" for cell in row] for row in free]
    rows[1][1], rows[height - 2][width - 2] = "S", "G"
    return "/".join("".join(row) for row in rows)


def _spanning_tree(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """[height, width] bool, true where one can walk."""
    free = np.zeros((height, width), bool)
    free[1, 1] = True
    path = [(1, 1)]
    while path:
        y, x = path[-1]
        steps = [(j, i) for j, i in ((-1, 0), (0, 1), (1, 0), (0, -1)) if 0 < y + 2 * j < height and 0 < x + 2 * i < width]
        steps = [(j, i) for j, i in steps if not free[y + 2 * j, x + 2 * i]]
        if not steps:
            path.pop()
            continue
        j, i = steps[rng.integers(len(steps))]
        free[y + j, x + i] = free[y + 2 * j, x + 2 * i] = True
        path.append((y + 2 * j, x + 2 * i))
    return free


def _open_loops(rng: np.random.Generator, free: np.ndarray, loops: float) -> None:
    """Opens walls that have corridors on two opposite sides."""
    for y, x in np.argwhere(~free[1:-1, 1:-1]) + 1:
        between = (y + x) % 2 == 1
        if between and rng.random() < loops:
            free[y, x] = True
