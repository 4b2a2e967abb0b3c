"""Pictures of grid worlds and mazes: values, policies and learned models.

    figure = Figure(figsize=(9, 3))
    for axes, what in zip(figure.subplots(1, 3), ({"policy": pi}, {"values": v}, {"model": (successors, rewards)})):
        draw_maze(axes, grid("maze/classic"), **what)

A grid is what `jaxrl.envs.grid` returns; states are numbered as in it. `plot_solution` is what `jaxrl solve --plot` draws.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl.analysis.curves import literal, save_figure

if TYPE_CHECKING:
    from jaxrl.mdp.grid import Grid

_WALL, _CLIFF, _TERMINAL, _UNKNOWN, _EDGE, _INK = "#2d3744", "#de8f34", "#96a0aa", "#e4e8ec", "#c9d1d9", "#1f2937"
_MOST_NUMBERS = 14
"""Cells in a row up to which numbers are legible."""


def draw_maze(
    axes: Any,
    grid: Grid,
    values: np.ndarray | None = None,
    policy: np.ndarray | None = None,
    model: tuple[np.ndarray, np.ndarray] | None = None,
    title: str = "",
) -> Any:
    """Draws a grid with its walls, start and goal, and on it what is given.

    Args:
      axes: of matplotlib.
      values: [S], a heat map with numbers where they fit.
      policy: [S] actions, or [S, A] probabilities: an arrow for each action that is taken.
      model: (successors [S, A] int, -1 where nothing is known yet; rewards [S, A]) as an agent learned them: a line to each
        other cell that a known move leads to, a bar where one stays, the cell's mean known reward as a number.

    Returns:
      The heat map for a colour bar, None without `values`.
    """
    height, width = grid.states.shape
    image = None
    if values is not None:
        image = _heat(axes, grid, np.asarray(values, float))
    _draw_cells(axes, grid, model)
    if values is not None and width <= _MOST_NUMBERS:
        _draw_numbers(axes, grid, np.asarray(values, float), low=policy is not None)
    if policy is not None:
        _draw_policy(axes, grid, np.asarray(policy), lift=0.17 if values is not None and width <= _MOST_NUMBERS else 0.0)
    if model is not None:
        _draw_model(axes, grid, np.asarray(model[0]), np.asarray(model[1], float))
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal", xticks=[], yticks=[])
    if title:
        axes.set_title(literal(title), fontsize="medium")
    return image


def _size(axes: Any, grid: Grid, share: float) -> float:
    """Points of a share of a cell's side, for fonts and lines."""
    height, width = grid.states.shape
    inches = min(axes.bbox.width / width, axes.bbox.height / height) / axes.figure.dpi
    return 72.0 * share * inches


def _heat(axes: Any, grid: Grid, values: np.ndarray) -> Any:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    shown = np.full(grid.states.shape, np.nan)
    shown[grid.states >= 0] = values[grid.states[grid.states >= 0]]
    for y, x, character in _cells(grid):
        if character in "GT":
            shown[y, x] = np.nan
    # The light part of the scale only, so that dark numbers and arrows show everywhere.
    return axes.imshow(shown, cmap=ListedColormap(colormaps["YlGnBu"](np.linspace(0.6, 0.0, 256))), interpolation="nearest")


def _cells(grid: Grid) -> list[tuple[int, int, str]]:
    return [(y, x, character) for y, row in enumerate(grid.rows) for x, character in enumerate(row)]


def _draw_cells(axes: Any, grid: Grid, model: Any) -> None:
    from matplotlib.patches import Rectangle

    fills = {"#": _WALL, "C": _CLIFF, "T": _TERMINAL, "G": _TERMINAL}
    for y, x, character in _cells(grid):
        unknown = model is not None and grid.states[y, x] >= 0 and (np.asarray(model[0])[grid.states[y, x]] < 0).all()
        fill = fills.get(character, _UNKNOWN if unknown and character not in "GT" else "none")
        edge = _WALL if character == "#" else _EDGE
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=fill, edgecolor=edge, linewidth=0.6))
        if character in "SG":
            # Beneath the numbers and arrows: in the upper left corner, G in the middle.
            place, align = ((x, y), ("center", "center")) if character == "G" else ((x - 0.45, y - 0.43), ("left", "top"))
            color = "white" if character == "G" else _INK
            size = _size(axes, grid, 0.5 if character == "G" else 0.22)
            axes.text(*place, character, ha=align[0], va=align[1], fontsize=size, color=color, fontweight="bold")
        elif character.isalpha() and character not in "CT":
            label = character if character.isupper() else f"{character.upper()}'"
            size = _size(axes, grid, 0.22)
            axes.text(x - 0.45, y - 0.43, label, ha="left", va="top", fontsize=size, color=_INK, fontweight="bold")


def _draw_numbers(axes: Any, grid: Grid, values: np.ndarray, low: bool) -> None:
    if np.allclose(values, np.round(values), atol=1e-3):
        digits = 0
    else:
        digits = 1 if np.abs(values).max() >= 2 else 2
    shown = np.round(values, digits) + 0.0  # No minus before a zero.
    for y, x, character in _cells(grid):
        state = grid.states[y, x]
        if state < 0 or character in "GT":
            continue
        text = f"{shown[state]:.{digits}f}"
        size = _size(axes, grid, 0.24 if len(text) < 6 else 0.2)
        axes.text(x, y + (0.27 if low else 0.0), text, ha="center", va="center", fontsize=size, color=_INK)


def _draw_policy(axes: Any, grid: Grid, policy: np.ndarray, lift: float) -> None:
    for y, x, character in _cells(grid):
        state = grid.states[y, x]
        if state < 0 or character in "GT":
            continue
        actions = [int(policy[state])] if policy.ndim == 1 else np.flatnonzero(policy[state] > 1e-6).tolist()
        for action in actions:
            _arrow(axes, grid, (x, y - lift), grid.moves[action], single=len(actions) == 1, scale=0.7 if lift else 1.0)


def _arrow(axes: Any, grid: Grid, at: tuple[float, float], move: tuple[int, int], single: bool, scale: float) -> None:
    """A lone arrow is centred in its cell, one of several starts in the middle."""
    length = (0.56 if single else 0.34) * scale
    back = length / 2 if single else 0.0
    rows, columns = move
    start = (at[0] - back * columns, at[1] - back * rows)
    end = (start[0] + length * columns, start[1] + length * rows)
    style = {"arrowstyle": "-|>", "color": _INK, "shrinkA": 0, "shrinkB": 0}
    style |= {"linewidth": _size(axes, grid, 0.035), "mutation_scale": _size(axes, grid, 0.22 * scale)}
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def _draw_model(axes: Any, grid: Grid, successors: np.ndarray, rewards: np.ndarray) -> None:
    places = {int(state): (x, y) for (y, x), state in np.ndenumerate(grid.states) if state >= 0}
    width = _size(axes, grid, 0.05)
    for state, (x, y) in places.items():
        known = successors[state] >= 0
        if not known.any() or grid.rows[y][x] in "GT":
            continue
        for action in np.flatnonzero(known):
            to_x, to_y = places[int(successors[state, action])]
            if (to_x, to_y) != (x, y):
                axes.plot([x, to_x], [y, to_y], color="#3465a4", alpha=0.5, linewidth=width, solid_capstyle="round", zorder=1)
                continue
            rows, columns = grid.moves[action]
            wall_x, wall_y = x + 0.42 * columns, y + 0.42 * rows
            ends = [wall_x - 0.28 * rows, wall_x + 0.28 * rows], [wall_y - 0.28 * columns, wall_y + 0.28 * columns]
            axes.plot(*ends, color=_CLIFF, linewidth=1.4 * width, solid_capstyle="butt", zorder=1)
        if grid.states.shape[1] <= _MOST_NUMBERS:
            box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
            mean = f"{rewards[state, known].mean():.3g}"
            axes.text(x, y, mean, ha="center", va="center", fontsize=_size(axes, grid, 0.26), color=_INK, bbox=box)


def greedy_actions(q: np.ndarray, tolerance: float = 1e-5) -> np.ndarray:
    """[S, A] equal probabilities of all actions of q [S, A] within `tolerance` of the best."""
    best = q >= q.max(axis=-1, keepdims=True) - tolerance
    return best / best.sum(axis=-1, keepdims=True)


def plot_solution(
    out: Path, title: str, grid: Grid | None, random_values: np.ndarray, values: np.ndarray, q: np.ndarray
) -> None:
    """Writes the picture of the uniformly random policy beside the optimal one: maps of a grid, else values by state.

    Args:
      random_values, values: [S]; random values of NaN are left out.
      q: [S, A] of the optimal policy.

    Raises:
      UsageError: a file that cannot be written.
    """
    from matplotlib.figure import Figure

    if grid is None:
        figure = Figure(figsize=(7.5, 4), layout="constrained")
        _draw_states(figure.add_subplot(), random_values, values)
    else:
        height, width = grid.states.shape
        across = min(14.0, max(5.2, 0.22 * width))
        pictures = [("optimal policy", values, greedy_actions(q))]
        if np.isfinite(random_values).all():
            pictures.insert(0, ("random policy", random_values, np.full(q.shape, 1.0 / q.shape[1])))
        size = (len(pictures) * across + 0.6, max(2.0, across * height / width + 0.7))
        figure = Figure(figsize=size, layout="constrained")
        for axes, (name, shown, policy) in zip(figure.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True):
            figure.colorbar(draw_maze(axes, grid, shown, policy, title=name), ax=axes, shrink=0.8)
    figure.suptitle(literal(title))
    save_figure(figure, out, "plot")


def _draw_states(axes: Any, random_values: np.ndarray, values: np.ndarray) -> None:
    axes.plot(values, "o", ms=4, label="optimal policy")
    axes.plot(random_values, "o", ms=4, label="random policy")
    axes.set(xlabel="state", ylabel="value")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0))
