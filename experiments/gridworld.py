"""The grid worlds of Sutton & Barto: their figures 3.2, 3.5 and 4.1 from the exact solvers.

    python experiments/gridworld.py

Prints every table beside the book's (Sutton & Barto 2018, Reinforcement Learning, second edition) and writes
`experiments/results/gridworld.json` and `.png`.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("NPROC", "1")  # Small arrays are fastest with one CPU thread; JAX reads this when it starts.

import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

from jaxrl import mdp as mdps
from jaxrl.analysis import draw_maze, greedy_actions
from jaxrl.envs import gridworld
from jaxrl.records import write_json

FIGURE_3_2 = """
 3.3  8.8  4.4  5.3  1.5
 1.5  3.0  2.3  1.9  0.5
 0.1  0.7  0.7  0.4 -0.4
-1.0 -0.4 -0.4 -0.6 -1.2
-1.9 -1.3 -1.2 -1.4 -2.0
"""
FIGURE_3_5 = """
22.0 24.4 22.0 19.4 17.5
19.8 22.0 19.8 17.8 16.0
17.8 19.8 17.8 16.0 14.4
16.0 17.8 16.0 14.4 13.0
14.4 16.0 14.4 13.0 11.7
"""
# Rows of the 4 x 4 grid after k sweeps. The book cuts -1.75 to -1.7 and -2.4375 to -2.4.
FIGURE_4_1 = {
    0: "0.0 0.0 0.0 0.0  0.0 0.0 0.0 0.0  0.0 0.0 0.0 0.0  0.0 0.0 0.0 0.0",
    1: "0.0 -1.0 -1.0 -1.0  -1.0 -1.0 -1.0 -1.0  -1.0 -1.0 -1.0 -1.0  -1.0 -1.0 -1.0 0.0",
    2: "0.0 -1.7 -2.0 -2.0  -1.7 -2.0 -2.0 -2.0  -2.0 -2.0 -2.0 -1.7  -2.0 -2.0 -1.7 0.0",
    3: "0.0 -2.4 -2.9 -3.0  -2.4 -2.9 -3.0 -2.9  -2.9 -3.0 -2.9 -2.4  -3.0 -2.9 -2.4 0.0",
    10: "0.0 -6.1 -8.4 -9.0  -6.1 -7.7 -8.4 -8.4  -8.4 -8.4 -7.7 -6.1  -9.0 -8.4 -6.1 0.0",
    None: "0.0 -14 -20 -22  -14 -18 -20 -20  -20 -20 -18 -14  -22 -20 -14 0.0",
}


class Table(NamedTuple):
    """Values of one figure, beside the book's.

    Attributes:
      values, book: [S].
      q: [S, A] of `values`, whose best actions are the arrows.
    """

    name: str
    world: str
    title: str
    values: np.ndarray
    q: np.ndarray
    book: np.ndarray


@dataclasses.dataclass(frozen=True)
class Options:
    """Where the results go."""

    results: Path = Path("experiments/results")


def main(options: Options) -> None:
    """Computes the tables, compares and draws them."""
    tables = [*_figures_of_chapter_3(), *_figure_4_1()]
    rows = []
    for table in tables:
        difference = float(np.abs(table.values - table.book).max())
        print(f"{table.name}: {table.title}; largest difference from the book {difference:.3f}")
        print(np.array2string(np.round(table.values, 1).reshape(_shape(table)) + 0.0, suppress_small=True), end="\n\n")
        rows.append(
            {
                "name": table.name,
                "env": f"gridworld/{table.world}",
                "what": table.title,
                "values": np.round(table.values.astype(float), 4).reshape(_shape(table)).tolist(),
                "book": table.book.reshape(_shape(table)).tolist(),
                "largest_difference": difference,
            }
        )
    options.results.mkdir(parents=True, exist_ok=True)
    source = "Sutton & Barto 2018, second edition, figures 3.2, 3.5 and 4.1, which print one digit"
    write_json(
        options.results / "gridworld.json", {"command": "python experiments/gridworld.py", "source": source, "tables": rows}
    )
    _draw(tables, options.results / "gridworld.png")


def _figures_of_chapter_3() -> list[Table]:
    mdp = gridworld.make_mdp("jumps")
    value = mdps.policy_evaluation(mdp, mdps.uniform_policy(mdp))
    best = mdps.value_iteration(mdp)
    random_q = mdps.q_values(mdp, value)
    return [
        Table("figure 3.2", "jumps", "random policy, gamma 0.9", np.asarray(value), np.asarray(random_q), _numbers(FIGURE_3_2)),
        Table(
            "figure 3.5", "jumps", "optimal policy, gamma 0.9", np.asarray(best.value), np.asarray(best.q), _numbers(FIGURE_3_5)
        ),
    ]


def _figure_4_1() -> list[Table]:
    """Iterative evaluation of the random policy, all states at once; the arrows are greedy in the values so far."""
    mdp = gridworld.make_mdp("classic")
    tables, value = [], jnp.zeros(16)
    for k in range(max(filter(None, FIGURE_4_1)) + 1):
        q = mdps.q_values(mdp, value)
        if k in FIGURE_4_1:
            tables.append(_sweep(f"k = {k}", value, q, FIGURE_4_1[k]))
        value = q.mean(axis=1)
    value = mdps.policy_evaluation(mdp, mdps.uniform_policy(mdp))
    return [*tables, _sweep("k = ∞", value, mdps.q_values(mdp, value), FIGURE_4_1[None])]


def _sweep(title: str, value: jnp.ndarray, q: jnp.ndarray, book: str) -> Table:
    return Table("figure 4.1", "classic", title, np.asarray(value), np.asarray(q), _numbers(book))


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def _shape(table: Table) -> tuple[int, ...]:
    return gridworld.grid_of(table.world).states.shape


def _draw(tables: list[Table], out: Path) -> None:
    figure = Figure(figsize=(12.5, 13), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.05, 1.5])
    above.suptitle("Figures 3.2 and 3.5: values of the random and of the optimal policy; arrows are greedy actions")
    below.suptitle("Figure 4.1: the random policy evaluated by k sweeps; arrows are greedy in the values so far")
    axes = [*above.subplots(1, 2), *below.subplots(2, 3).ravel()]
    for place, table in zip(axes, tables, strict=True):
        draw_maze(place, gridworld.grid_of(table.world), table.values, greedy_actions(table.q), title=table.title)
    figure.savefig(out, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
