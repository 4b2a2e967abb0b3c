"""Agents with a table: Dyna-Q's planning steps on a maze, SARSA and Q-learning on a cliff, the three pictures of a maze.

    python experiments/maze.py

The maze is that of Sutton & Barto 2018, example 8.1 (14 steps at best, reward 1 at the goal, gamma 0.95), the cliff that of
example 6.6 (each step costs 1, the cliff 100 and leads back to the start, no discount), with the book's settings: epsilon 0.1,
alpha 0.1 in the maze and 0.5 at the cliff. For the greedy policies at the cliff alpha falls to 0, since else that of SARSA is
mostly noise. Writes `maze.png`, `maze-dyna.png`, `cliff.png` and `maze.json` to `experiments/results/`.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("NPROC", "1")  # Small tables are fastest with one CPU thread; JAX reads this when it starts.

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure

import jaxrl
from jaxrl.agents import DynaQConfig, TabularConfig, load_agent
from jaxrl.analysis import bootstrap_interval, draw_maze
from jaxrl.config import Config
from jaxrl.envs import gridworld
from jaxrl.records import write_json
from jaxrl.runs.definition import config_values
from jaxrl.types import Array, Env

MAZE = {
    "map": ".......#G/..#....#./S.#....#./..#....../.....#.../.........",
    "step_reward": 0.0,
    "rewards": {"G": 1.0},
    "time_limit": 1_000_000,
}
"""No episode of the maze is cut off."""
MAZE_STEPS, CLIFF_STEPS, WINDOW = 10_000, 30_000, 10
CLIFF_EPISODES = 500
PLANNING = {0: "#6b7280", 5: "#d97706", 50: "#1d4ed8"}
CLIFF_AGENTS = {"q_learning": "#b91c1c", "sarsa": "#1d4ed8", "expected_sarsa": "#0f766e"}
_SOFT = {"epsilon_start": 0.1, "epsilon_end": 0.1}


class Runs(NamedTuple):
    """What seeds of one agent did; E is the number of episodes that every one of them finished.

    Attributes:
      lengths, returns: [seeds, E] of the first E episodes.
      finished: [seeds, env steps] episodes finished by then.
      state: the agents' final states, leaves [seeds, ...].
    """

    lengths: np.ndarray
    returns: np.ndarray
    finished: np.ndarray
    state: Any


def play(name: str, config: Config, env: Env, steps: int, num_seeds: int) -> Runs:
    """Seeds 0 to `num_seeds` - 1, with one row of metrics for each env step."""
    make_agent, _ = load_agent(name)

    def one(key: Array) -> Any:
        result = jaxrl.train(key, config, make_agent, env, steps, num_rows=steps)
        return result.state.agent, {k: result.rows[k] for k in ("episodes", "length_mean", "return_mean")}

    keys = jax.vmap(jax.random.key)(np.arange(num_seeds))
    state, rows = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))
    ended = rows["episodes"] > 0
    count = ended.sum(1).min()
    lengths, returns = (
        np.stack([r[e][:count] for r, e in zip(rows[k], ended, strict=True)]) for k in ("length_mean", "return_mean")
    )
    return Runs(lengths, returns, ended.cumsum(1), state)


def score(values: np.ndarray) -> dict[str, Any]:
    """Mean over seeds [seeds] with its interval."""
    low, high = bootstrap_interval(values)
    return {"mean": float(values.mean()), "interval_95": [float(low), float(high)], "seeds": values.tolist()}


def first_time(runs: Runs, episodes: int) -> np.ndarray:
    """[seeds] env steps until so many episodes are finished, all steps where they never are."""
    reached = runs.finished >= episodes
    return np.where(reached.any(1), reached.argmax(1) + 1, runs.finished.shape[1]).astype(float)


# --- figures ----------------------------------------------------------------------------------------------------------


def draw_curve(axes: Any, x: np.ndarray, values: np.ndarray, label: str, color: str) -> None:
    """Mean of values [seeds, N] with its interval."""
    low, high = bootstrap_interval(values)
    axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
    axes.plot(x, values.mean(0), color=color, lw=2.0, label=label)


def tidy(axes: Any, xlabel: str, ylabel: str) -> None:
    """What every curve's axes share."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize="small")


def draw_dyna(found: dict[int, Runs], out: Path) -> None:
    """Steps of each episode, as in figure 8.2 of the book, and episodes finished against env steps."""
    figure = Figure(figsize=(11, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    count = min(50, *(runs.lengths.shape[1] for runs in found.values()))
    for num, runs in found.items():
        draw_curve(left, np.arange(1, count + 1), runs.lengths[:, :count], f"{num} planning steps", PLANNING[num])
        draw_curve(right, np.arange(0, MAZE_STEPS, 100), runs.finished[:, ::100], f"{num} planning steps", PLANNING[num])
    left.axhline(14, color="0.2", lw=1.0, ls="--")
    left.text(count, 13.4, "shortest way: 14", ha="right", va="top", fontsize="small", color="0.2")
    ticks = [10, 20, 50, 100, 200, 500, 1000]
    left.set_yscale("log")
    left.set(ylim=(10, None), yticks=ticks, yticklabels=[str(tick) for tick in ticks])
    left.minorticks_off()
    tidy(left, "episode", "steps of the episode")
    tidy(right, "env steps", "episodes finished")
    figure.savefig(out, dpi=130)


def draw_three(runs: Runs, seed: int, out: Path) -> None:
    """Policy, value function and learned model of one run."""
    grid = gridworld.grid_of("custom", **MAZE)
    q, model = runs.state.policy[seed], jax.tree.map(lambda leaf: leaf[seed], runs.state.model)
    known = model.counts[..., 0] > 0
    learned = np.where(known, model.successors[..., 0], -1), model.rewards[..., 0]
    figure = Figure(figsize=(13.5, 3.5), layout="constrained")
    pictures: tuple[dict[str, Any], ...] = (
        {"policy": q.argmax(1), "title": "policy"},
        {"values": q.max(1), "title": "value function"},
        {"model": learned, "title": "learned model: moves seen, mean reward"},
    )
    for axes, picture in zip(figure.subplots(1, 3), pictures, strict=True):
        draw_maze(axes, grid, **picture)
    figure.savefig(out, dpi=130)


def draw_cliff(found: dict[str, Runs], settled: dict[str, Runs], seed: int, out: Path) -> None:
    """Return of each episode, as in example 6.6 of the book, and the greedy policies of Q-learning and SARSA."""
    figure = Figure(figsize=(12.5, 4.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.0, 1.15))
    axes = left.add_subplot()
    for name, runs in found.items():
        values = runs.returns[:, :CLIFF_EPISODES].reshape(len(runs.returns), -1, WINDOW).mean(2)
        draw_curve(axes, (np.arange(values.shape[1]) + 0.5) * WINDOW, values, name, CLIFF_AGENTS[name])
    axes.set_ylim(-110, 0)
    tidy(axes, "episode", f"return, mean of {WINDOW} episodes")
    grid = gridworld.grid_of("cliff")
    for axes, name in zip(right.subplots(2, 1), ("q_learning", "sarsa"), strict=True):
        q = settled[name].state.policy[seed]
        draw_maze(axes, grid, policy=q.argmax(1), title=f"greedy policy of {name}, alpha fallen to 0")
        places = [np.argwhere(grid.states == state)[0] for state in greedy_path(q)]
        axes.plot(*np.array(places).T[::-1], color=CLIFF_AGENTS[name], lw=7, alpha=0.3, solid_capstyle="round")
    figure.savefig(out, dpi=130)


def greedy_path(q: np.ndarray) -> list[int]:
    """States of the cliff from the start on under the greedy policy of q [S, A], at most 100."""
    mdp = gridworld.make_mdp("cliff")
    successors, terminal = np.asarray(mdp.successors)[..., 0], np.asarray(mdp.terminal)
    path = [int(np.argmax(mdp.initial))]
    while not terminal[path[-1]] and len(path) < 100:
        path.append(int(successors[path[-1], q[path[-1]].argmax()]))
    return path


# --- the command --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Options:
    """How many seeds, and where the results go."""

    seeds: int = 50
    """Runs of each agent, seeds 0 to this less 1."""
    shown: int = 0
    """Seed whose policies, values and model are drawn."""
    results: Path = Path("experiments/results")


def main(options: Options) -> None:
    """Runs, writes and prints."""
    if not 0 <= options.shown < options.seeds:
        raise SystemExit(f"shown={options.shown} is out of range; give a seed below seeds={options.seeds}")
    maze_env, cliff_env = gridworld.make("custom", 1, **MAZE), gridworld.make("cliff", 1, time_limit=1_000_000)
    configs = {num: DynaQConfig(gamma=0.95, num_planning_steps=num, **_SOFT) for num in PLANNING}
    dyna = {num: play("dyna_q", config, maze_env, MAZE_STEPS, options.seeds) for num, config in configs.items()}
    cliff_config = TabularConfig(gamma=1.0, learning_rate=0.5, **_SOFT)
    cliff = {name: play(name, cliff_config, cliff_env, CLIFF_STEPS, options.seeds) for name in CLIFF_AGENTS}
    settled_config = dataclasses.replace(cliff_config, learning_rate_end_share=0.0)
    settled = {name: play(name, settled_config, cliff_env, CLIFF_STEPS, options.seeds) for name in CLIFF_AGENTS}
    options.results.mkdir(parents=True, exist_ok=True)
    # Enough random actions at first that every cell of the picture is known.
    curious = dataclasses.replace(configs[50], epsilon_start=1.0)
    draw_three(play("dyna_q", curious, maze_env, MAZE_STEPS, options.shown + 1), options.shown, options.results / "maze.png")
    draw_dyna(dyna, options.results / "maze-dyna.png")
    draw_cliff(cliff, settled, options.shown, options.results / "cliff.png")
    about = config_values(jaxrl.Run("dyna_q", "gridworld/custom", configs[50]))
    result = {
        "command": f"python experiments/maze.py --seeds {options.seeds}",
        "interval": "percentile bootstrap over seeds",
        "maze": {
            "options": MAZE,
            "env_steps": MAZE_STEPS,
            "env_steps_until_10_episodes": {num: score(first_time(runs, 10)) for num, runs in dyna.items()},
            "steps_of_episode_2": {num: score(runs.lengths[:, 1]) for num, runs in dyna.items()},
            "episodes_finished": {num: score(runs.finished[:, -1].astype(float)) for num, runs in dyna.items()},
            "config": about["config"],
        },
        "cliff": {
            "env_steps": CLIFF_STEPS,
            "return_of_episodes_251_to_500": {
                name: score(runs.returns[:, CLIFF_EPISODES // 2 : CLIFF_EPISODES].mean(1)) for name, runs in cliff.items()
            },
            "greedy_steps_with_alpha_fallen_to_0": {
                name: [len(greedy_path(q)) - 1 for q in runs.state.policy] for name, runs in settled.items()
            },
            "config": config_values(jaxrl.Run("sarsa", "gridworld/cliff", cliff_config))["config"],
        },
        "versions": about["versions"],
        "device": about["device"],
    }
    write_json(options.results / "maze.json", result)
    _print(result["maze"]["env_steps_until_10_episodes"], "env steps until 10 episodes, planning steps")
    _print(result["cliff"]["return_of_episodes_251_to_500"], "return at the cliff")


def _print(scores: dict[Any, dict[str, Any]], what: str) -> None:
    for name, found in scores.items():
        low, high = found["interval_95"]
        print(f"{what} {name}: {found['mean']:.1f} [{low:.1f}, {high:.1f}]")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
