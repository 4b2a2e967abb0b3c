"""What `jaxrl solve` does: the exact solution of an environment whose MDP is known, as text and as a picture.

solved = solve("maze/classic", "value-iteration")
print(report(solved))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import envs
from jaxrl.analysis import mdp_plot
from jaxrl.envs.gridworld import policy_text
from jaxrl.errors import UsageError
from jaxrl.mdp import solvers as mdps
from jaxrl.mdp.ends import can_terminate
from jaxrl.mdp.grid import Grid
from jaxrl.mdp.model import MDP

MAX_SWEEPS = 100_000
_NUM_SHOWN = 20


class Solved(NamedTuple):
    """An environment's MDP and its solution, in NumPy.

    Attributes:
      env_id, method, gamma: what was solved, how.
      grid: the map of a grid, else None.
      value, q, policy, num_sweeps: the fields of `jaxrl.mdp.Solution`: [S], [S, A], [S], [].
      random_value: [S], of the uniformly random policy; NaN where sweeps did not settle.
      start_value, random_start_value: expected over the first state.
    """

    env_id: str
    method: str
    gamma: float
    grid: Grid | None
    value: np.ndarray
    q: np.ndarray
    policy: np.ndarray
    num_sweeps: int
    random_value: np.ndarray
    start_value: float
    random_start_value: float


def solve(
    env_id: str, method: str, gamma: float | None = None, tolerance: float = 1e-6, options: dict[str, Any] | None = None
) -> Solved:
    """Solves an environment by `value-iteration` or `policy-iteration`, in double precision.

    Raises:
      UsageError: an environment without a known MDP, or a gamma of 1 with which values are not finite.
    """
    envs.exact(env_id, gamma, **(options or {}))  # What it imports must not make its constants in double precision.
    with jax.enable_x64(True):
        mdp = envs.exact(env_id, gamma, **(options or {}))
        grid = envs.grid_of(env_id, **(options or {}))
        gamma = float(mdp.discount)
        _check_ends(mdp, gamma, grid)
        how: mdps.Method = "solve" if len(mdp.terminal) <= mdps.MAX_DENSE_STATES else "iterate"
        if method == "value-iteration":
            solution = jax.jit(mdps.value_iteration)(mdp, tolerance, MAX_SWEEPS)
        else:
            solution = jax.jit(lambda m: mdps.policy_iteration(m, how, tolerance, MAX_SWEEPS))(mdp)
        random_value = jax.jit(lambda m: _random_value(m, how, tolerance))(mdp)
        _check_solution(mdp, method, gamma, solution)
        starts = [float(mdps.start_value(mdp, value)) for value in (solution.value, random_value)]
        value, q, policy = (np.asarray(array) for array in (solution.value, solution.q, solution.policy))
        sweeps = int(solution.num_sweeps)
        return Solved(env_id, method, gamma, grid, value, q, policy, sweeps, np.asarray(random_value), *starts)


def _random_value(mdp: MDP, how: mdps.Method, tolerance: float) -> jax.Array:
    """[S] values of the uniformly random policy; NaN where they do not settle, as in a large maze it takes a million steps."""
    value = mdps.policy_evaluation(mdp, mdps.uniform_policy(mdp), how, tolerance, MAX_SWEEPS)
    change = jnp.max(jnp.abs(mdps.q_values(mdp, value).mean(axis=1) - value))
    return jnp.where(change <= tolerance + 1e-9 * jnp.max(jnp.abs(value)), value, jnp.nan)


def _check_ends(mdp: MDP, gamma: float, grid: Grid | None) -> None:
    if gamma < 1.0:
        return
    stuck = ~np.asarray(can_terminate(mdp))
    if stuck.any():
        state = int(np.argmax(stuck))
        place = "" if grid is None else " (row {}, column {})".format(*(np.argwhere(grid.states == state)[0] + 1))
        raise UsageError(
            f"gamma=1 needs an end in reach of every state, and state {state}{place} reaches none; give a lower gamma"
        )


def _check_solution(mdp: MDP, method: str, gamma: float, solution: mdps.Solution) -> None:
    finite = bool(np.isfinite(np.asarray(solution.value)).all())
    if gamma == 1.0 and method == "policy-iteration":
        finite = finite and bool(np.asarray(can_terminate(mdp, solution.policy)).all())
    if not finite or int(solution.num_sweeps) >= MAX_SWEEPS:
        if gamma == 1.0:
            raise UsageError("gamma=1 gives no finite values here, where it pays to go on for ever; give a gamma below 1")
        raise UsageError(f"gamma={gamma}: values do not settle within {MAX_SWEEPS} sweeps; give a larger tolerance")


def report(solved: Solved, encoding: str | None = "utf-8") -> str:
    """Sweeps, values of the start and the policy, as text in what `encoding` can show."""
    value, policy = solved.value, solved.policy
    at_random = _number(solved.random_start_value) if np.isfinite(solved.random_start_value) else "does not settle"
    what = "sweeps" if solved.method == "value-iteration" else "improvements"
    lines = [
        f"{solved.env_id}: {solved.q.shape[0]} states, {solved.q.shape[1]} actions, gamma {solved.gamma:g}",
        f"{solved.method.replace('-', ' ')}: {solved.num_sweeps} {what}",
        f"value of the start: {_number(solved.start_value)} (random policy: {at_random})",
        "policy:",
    ]
    if solved.grid is not None:
        return "\n".join([*lines, policy_text(solved.grid, policy, plain=not _can_show("↑→↓←", encoding))])
    lines.append("  state  action       value")
    for state in range(min(_NUM_SHOWN, len(value))):
        lines.append(f"  {state:5d}  {int(policy[state]):6d}  {_number(float(value[state])):>10s}")
    if len(value) > _NUM_SHOWN:
        lines.append(f"  and {len(value) - _NUM_SHOWN} more")
    return "\n".join(lines)


def draw(solved: Solved, out: Path) -> None:
    """Writes values and policy, the random one beside the optimal one, into the image `out`."""
    title = f"{solved.env_id}, gamma {solved.gamma:g}"
    mdp_plot.plot_solution(out, title, solved.grid, solved.random_value, solved.value, solved.q)


def _number(value: float) -> str:
    return f"{round(value, 4) + 0.0:.6g}"


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
