"""Agents with a table: updates worked by hand, values from the textbook and from a solver in NumPy, behaviour on a cliff."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import progress_at
from jaxrl.agents import load_agent
from jaxrl.agents.tabular import table as tabular
from jaxrl.agents.tabular.dyna_q import Transition, imagine, init_model, remember
from jaxrl.agents.tabular.table import TabularState
from jaxrl.config import as_arrays
from jaxrl.envs import make
from jaxrl.envs.tools.mdp_env import mdp_env
from jaxrl.errors import UsageError
from jaxrl.loop import build, train
from jaxrl.mdp.model import MDP, make_mdp
from jaxrl.types import Agent, ArraySpec, Box, Discrete, Env, Rollout, Spec

NAMES = ("dyna_q", "expected_sarsa", "monte_carlo", "q_learning", "sarsa")
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""North, east, south, west."""

NOW = progress_at(0, 1)
KEY = jax.random.key(0)


# --- one update, by hand ----------------------------------------------------------------------------------------------

TABLE = np.float32([[0.0, 2.0], [4.0, 1.0]])


@cache
def tiny(name: str, length: int = 1, num_envs: int = 1, **fields: Any) -> tuple[Agent, Any]:
    """A compiled agent of two states and two actions, and its state with `TABLE`; alpha and gamma are 1/2, epsilon is 0."""
    make_agent, config_class = load_agent(name)
    if name == "dyna_q":
        fields = {"num_planning_steps": 0} | fields
    base = {"learning_rate": 0.5, "gamma": 0.5, "epsilon_start": 0.0, "epsilon_end": 0.0, "rollout_length": length}
    config = config_class(**base | {"num_envs": num_envs} | fields)
    agent = build(make_agent, as_arrays(config), Spec(ArraySpec((), "int32", 2), Discrete(2), length))
    agent = agent._replace(act=jax.jit(agent.act, static_argnums=5), update=jax.jit(agent.update))
    return agent, agent.init(KEY)._replace(policy=jnp.asarray(TABLE))


def rollout(*steps: tuple[int, int, float, str, int]) -> Rollout:
    """Steps (obs, action, reward, "" or "terminated" or "truncated", next_obs) of one environment."""
    obs, action, reward, end, next_obs = (np.array(column)[:, None] for column in zip(*steps, strict=True))
    integers = (jnp.asarray(x, jnp.int32) for x in (obs, action, next_obs))
    obs, action, next_obs = integers
    ends = (jnp.asarray(end == name) for name in ("terminated", "truncated"))
    return Rollout(obs, action, jnp.asarray(reward, jnp.float32), *ends, next_obs, (), {})


def updated(agent: Agent, state: Any, steps: Rollout) -> Any:
    return agent.update(KEY, state, steps, NOW)[0]


def test_q_learning_takes_the_best_next_action():
    agent, state = tiny("q_learning")
    after = updated(agent, state, rollout((0, 0, 1.0, "", 1)))
    np.testing.assert_allclose(after.policy, [[1.5, 2.0], [4.0, 1.0]])  # 0 + (1 + 4 / 2 - 0) / 2
    np.testing.assert_array_equal(after.visits, [[1, 0], [0, 0]])


def test_expected_sarsa_takes_the_mean_over_next_actions():
    agent, state = tiny("expected_sarsa", epsilon_start=0.5, epsilon_end=0.5)
    after = updated(agent, state, rollout((0, 0, 1.0, "", 1)))
    np.testing.assert_allclose(after.policy[0, 0], 0.5 * (1.0 + 0.5 * (0.75 * 4.0 + 0.25 * 1.0)))


def test_sarsa_takes_the_next_action_of_the_rollout():
    agent, state = tiny("sarsa", length=2)
    after = updated(agent, state, rollout((0, 0, 1.0, "", 1), (1, 1, 2.0, "", 0)))
    np.testing.assert_allclose(after.policy, [[0.75, 2.0], [4.0, 1.0]])  # 0 + (1 + 1 / 2 - 0) / 2; the second step waits


def test_sarsa_takes_the_first_action_of_the_next_rollout_for_the_last_step():
    agent, state = tiny("sarsa")
    waiting = updated(agent, state, rollout((1, 1, 2.0, "", 0)))
    np.testing.assert_allclose(waiting.policy, TABLE)
    after = updated(agent, waiting, rollout((0, 1, 9.0, "", 1)))
    np.testing.assert_allclose(after.policy, [[0.0, 2.0], [4.0, 2.0]])  # 1 + (2 + 2 / 2 - 1) / 2
    np.testing.assert_array_equal(after.visits, [[0, 0], [0, 1]])


def test_sarsa_forgets_a_waiting_step_where_the_environment_began_anew():
    agent, state = tiny("sarsa")
    waiting = updated(agent, state, rollout((1, 1, 2.0, "", 0)))
    after = updated(agent, waiting, rollout((1, 0, 9.0, "", 1)))
    np.testing.assert_allclose(after.policy, TABLE)


def test_no_action_of_the_next_episode_enters_sarsa():
    agent, state = tiny("sarsa", length=2)
    after = updated(agent, state, rollout((0, 0, 1.0, "terminated", 1), (1, 1, 2.0, "terminated", 0)))
    np.testing.assert_allclose(after.policy, [[0.5, 2.0], [4.0, 1.5]])
    np.testing.assert_array_equal(after.pending.counts, [0])


def test_sarsa_draws_an_action_for_a_truncated_step_and_does_not_take_that_of_the_next_episode():
    agent, state = tiny("sarsa", length=2)
    after = updated(agent, state, rollout((0, 0, 1.0, "truncated", 1), (1, 1, 0.0, "terminated", 0)))
    np.testing.assert_allclose(after.policy[0, 0], 1.5)  # the greedy action 0 of state 1, not action 1


def test_monte_carlo_moves_towards_returns():
    agent, state = tiny("monte_carlo", length=3)
    after = updated(agent, state, rollout((0, 1, 1.0, "", 1), (1, 1, 2.0, "terminated", 0), (0, 0, 9.0, "", 1)))
    np.testing.assert_allclose(after.policy, [[0.0, 2.0], [4.0, 1.5]])  # G = 1 + 2 / 2 and 2; nothing of the next episode


def test_monte_carlo_counts_every_visit():
    agent, state = tiny("monte_carlo", length=2, average=True)
    after = updated(agent, state, rollout((0, 0, 1.0, "", 0), (0, 0, 2.0, "terminated", 0)))
    np.testing.assert_allclose(after.policy[0, 0], 2.0)  # the mean of 1 + 2 / 2 and 2
    assert after.visits[0, 0] == 2


def test_dyna_q_learns_from_an_imagined_step_as_from_a_real_one():
    agent, state = tiny("dyna_q", num_planning_steps=2)
    after = updated(agent, state, rollout((0, 0, 1.0, "", 1)))
    np.testing.assert_allclose(after.policy[0, 0], 3.0 * (1.0 - 0.5**3))  # one real and two imagined steps to 1 + 4 / 2
    assert after.visits[0, 0] == 3


@pytest.mark.parametrize(("end", "value"), [("terminated", 0.5), ("truncated", 1.5), ("", 1.5)])
@pytest.mark.parametrize("name", NAMES)
def test_truncation_bootstraps_and_termination_does_not(name, end, value):
    agent, state = tiny(name)
    after = updated(agent, state, rollout((0, 0, 1.0, end, 1)))
    if name == "sarsa" and not end:
        after = updated(agent, after, rollout((1, 0, 0.0, "truncated", 1)))
    np.testing.assert_allclose(after.policy[0, 0], value)


def test_the_steps_of_a_rollout_are_learned_in_turn():
    agent, state = tiny("q_learning", length=2)
    after = updated(agent, state, rollout((1, 0, 8.0, "terminated", 0), (0, 0, 1.0, "", 1)))
    np.testing.assert_allclose(after.policy, [[2.0, 2.0], [6.0, 1.0]])  # 4 + (8 - 4) / 2, then 0 + (1 + 6 / 2 - 0) / 2


# --- several environments at one pair -----------------------------------------------------------------------------------


learn = jax.jit(tabular.learn)


def learned(targets: list[float], counts: list[int], rate: float | None) -> TabularState:
    state = TabularState(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int32))
    index = np.zeros(len(targets), np.int32)
    return learn(state, index, index, np.float32(targets), np.int32(counts), rate and np.float32(rate))[0]


def test_n_visits_at_once_move_as_far_as_n_visits_in_turn_to_their_mean():
    state = learned([1.0, 3.0], [1, 1], 0.5)
    np.testing.assert_allclose(state.policy, [[1.5, 0.0], [0.0, 0.0]], rtol=1e-6)  # 0 -> 1 -> 1.5 on the way to 2


def test_averages_are_of_all_targets_whether_at_once_or_in_turn():
    together = learned([1.0, 3.0, 8.0], [1, 1, 1], None)
    state = learned([1.0, 3.0], [1, 1], None)
    in_turn, _ = learn(state, *np.zeros((2, 1), np.int32), np.float32([8.0]), np.int32([1]), None)
    np.testing.assert_allclose([together.policy[0, 0], in_turn.policy[0, 0]], [4.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.5, 1.0, None])
def test_a_pair_that_does_not_count_changes_nothing(rate):
    np.testing.assert_array_equal(learned([5.0], [0], rate).policy, np.zeros((2, 2)))
    np.testing.assert_allclose(learned([5.0, 1.0], [0, 1], rate).policy[0, 0], 0.5 if rate == 0.5 else 1.0)


def test_metrics_are_of_the_pairs_that_count():
    agent, state = tiny("q_learning", length=2)
    steps = rollout((1, 0, 8.0, "terminated", 0), (0, 0, 1.0, "", 1))
    found = agent.update(KEY, state, steps, NOW)[1]  # TD errors 4 and 4
    np.testing.assert_allclose([found["loss"], found["td_error"], found["table_change"]], [16.0, 4.0, 2.0])


# --- the model of Dyna-Q ------------------------------------------------------------------------------------------------


remembered, imagined = jax.jit(remember), jax.jit(imagine)


def seen(num_successors: int, *steps: tuple[int, int, float, bool, int], plus: bool = False) -> Any:
    model = init_model(3, 2, num_successors, plus)
    for time, step in enumerate(steps):
        model = remembered(model, jax.tree.map(np.asarray, Transition(*step)), np.int32(time))
    return model


def test_a_model_with_one_place_keeps_the_last_successor():
    model = seen(1, (0, 1, 1.0, False, 1), (0, 1, 5.0, True, 2))
    np.testing.assert_array_equal(model.successors[0, 1], [2])
    np.testing.assert_array_equal(model.rewards[0, 1], [5.0])
    np.testing.assert_array_equal(model.terminated[0, 1], [True])
    np.testing.assert_array_equal(model.pairs[: model.num_pairs], [1])


def test_a_model_counts_successors_and_averages_their_rewards():
    model = seen(2, (0, 1, 1.0, False, 1), (0, 1, 5.0, True, 2), (0, 1, 3.0, False, 1))
    np.testing.assert_array_equal(model.successors[0, 1], [1, 2])
    np.testing.assert_array_equal(model.counts[0, 1], [2, 1])
    np.testing.assert_allclose(model.rewards[0, 1], [2.0, 5.0])


def test_a_full_model_forgets_the_rarest_successor():
    model = seen(2, (0, 1, 0.0, False, 1), (0, 1, 0.0, False, 1), (0, 1, 0.0, False, 2), (0, 1, 7.0, False, 0))
    np.testing.assert_array_equal(model.successors[0, 1], [1, 0])
    np.testing.assert_array_equal(model.counts[0, 1], [2, 1])
    np.testing.assert_allclose(model.rewards[0, 1], [0.0, 7.0])


def test_imagined_steps_are_observed_ones_as_often_as_they_were_observed():
    model = seen(2, (0, 1, 1.0, False, 1), (0, 1, 1.0, False, 1), (0, 1, 5.0, True, 2), (2, 0, 0.0, False, 0))
    # Pairs are drawn by the first number, their successors by the second: two thirds lead from (0, 1) to 1.
    step = imagined(jnp.array([[0.0, 0.49, 0.49, 0.5], [0.0, 0.66, 0.67, 0.9]]), model, 0.0)
    np.testing.assert_array_equal(step.obs, [0, 0, 0, 2])
    np.testing.assert_array_equal(step.action, [1, 1, 1, 0])
    np.testing.assert_array_equal(step.next_obs, [1, 1, 2, 0])
    np.testing.assert_allclose(step.reward, [1.0, 1.0, 5.0, 0.0])
    np.testing.assert_array_equal(step.terminated, [False, False, True, False])


def test_dyna_q_plus_rewards_what_was_not_tried_for_long():
    model = seen(1, (0, 1, 1.0, False, 1), (0, 1, 1.0, False, 1), plus=True)._replace(time=jnp.int32(10))
    step = imagined(jnp.array([[0.0, 0.5], [0.0, 0.0]]), model, 2.0)
    np.testing.assert_array_equal(step.action, [0, 1])
    np.testing.assert_array_equal(step.next_obs, [0, 1])  # the untried action leads back
    np.testing.assert_allclose(step.reward, [2.0 * 10**0.5, 1.0 + 2.0 * 9**0.5], rtol=1e-6)


# --- grids ----------------------------------------------------------------------------------------------------------------


def grid_mdp(rows: int, columns: int, step: Any, discount: float, start: int | None = None, terminal: Any = ()) -> MDP:
    """A deterministic MDP of cells; `step` is (row, column, row after the move, column after it) -> (row, column, reward)."""
    successors = np.zeros((rows * columns, 4, 1), np.int32)
    rewards = np.zeros((rows * columns, 4), np.float32)
    for cell in range(rows * columns):
        for action, (down, right) in enumerate(MOVES):
            here = divmod(cell, columns)
            row, column, rewards[cell, action] = step(*here, here[0] + down, here[1] + right)
            successors[cell, action] = row * columns + column
    ends = np.isin(np.arange(rows * columns), terminal)
    initial = None if start is None else np.eye(rows * columns, dtype=np.float32)[start]
    return make_mdp(successors, np.ones(successors.shape, np.float32), rewards, discount, initial=initial, terminal=ends)


def four_by_four() -> MDP:
    """Sutton & Barto 2018, example 4.1: a step costs 1, two opposite corners end the episode."""

    def step(row: int, column: int, new_row: int, new_column: int) -> tuple[int, int, float]:
        return min(max(new_row, 0), 3), min(max(new_column, 0), 3), -1.0

    return grid_mdp(4, 4, step, 1.0, terminal=(0, 15))


def five_by_five() -> MDP:
    """Sutton & Barto 2018, example 3.5: two cells pay 10 and 5 and lead elsewhere, the walls cost 1, nothing ends."""

    def step(row: int, column: int, new_row: int, new_column: int) -> tuple[int, int, float]:
        if (row, column) == (0, 1):
            return 4, 1, 10.0
        if (row, column) == (0, 3):
            return 2, 3, 5.0
        inside = 0 <= new_row < 5 and 0 <= new_column < 5
        return (new_row, new_column, 0.0) if inside else (row, column, -1.0)

    return grid_mdp(5, 5, step, 0.9)


def soft_values(mdp: MDP, epsilon: float) -> np.ndarray:
    """[S, A] float64: the fixed point of Q = r + gamma ((1 - epsilon) max Q' + epsilon mean Q'), by iteration in NumPy."""
    successors, rewards = np.asarray(mdp.successors)[..., 0], np.asarray(mdp.rewards, float)[..., 0]
    discount = float(mdp.discount) * ~np.asarray(mdp.terminal)[successors]
    q = np.zeros(successors.shape)
    for _ in range(3000):
        value = (1.0 - epsilon) * q.max(1) + epsilon * q.mean(1)
        q = rewards + discount * value[successors]
    return q


RANDOM_4 = np.array([0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0.0])
"""Sutton & Barto 2018, figure 4.1, k = infinity."""
BEST_4 = -np.array([0, 1, 2, 3, 1, 2, 3, 2, 2, 3, 2, 1, 3, 2, 1, 0.0])
RANDOM_5 = np.array([3.3, 8.8, 4.4, 5.3, 1.5, 1.5, 3.0, 2.3, 1.9, 0.5, 0.1, 0.7, 0.7, 0.4, -0.4])
"""Figure 3.2, its upper three rows."""
BEST_5 = [22.0, 24.4, 22.0, 19.4, 17.5, 19.8, 22.0, 19.8, 17.8, 16.0, 17.8, 19.8, 17.8, 16.0, 14.4]
BEST_5 = np.array([*BEST_5, 16.0, 17.8, 16.0, 14.4, 13.0, 14.4, 16.0, 14.4, 13.0, 11.7])
"""Figure 3.5."""


def test_the_solver_of_these_tests_agrees_with_the_textbook():
    np.testing.assert_allclose(soft_values(four_by_four(), 0.0).max(1)[1:15], BEST_4[1:15], atol=1e-6)
    np.testing.assert_allclose(soft_values(four_by_four(), 1.0).mean(1)[1:15], RANDOM_4[1:15], atol=1e-6)
    np.testing.assert_allclose(soft_values(five_by_five(), 0.0).max(1), BEST_5, atol=0.0501)
    np.testing.assert_allclose(soft_values(five_by_five(), 1.0).mean(1)[:15], RANDOM_5, atol=0.0501)


class Schooling(NamedTuple):
    """How an agent learns the grids exactly, or as nearly as its samples allow.

    Attributes:
      fields: of its config.
      steps: env steps.
      rtol, atol: of every action value; they span 21 and 25.
    """

    fields: dict[str, Any]
    steps: int
    rtol: float
    atol: float


EXACT = Schooling({"learning_rate": 1.0, "rollout_length": 8}, 100_000, 0.0, 1e-3)
SCHOOLING = {
    "q_learning": EXACT,
    "expected_sarsa": EXACT,
    "dyna_q": EXACT._replace(fields={"learning_rate": 1.0, "num_planning_steps": 4}, steps=40_000),
    "sarsa": Schooling({"learning_rate": 0.03, "learning_rate_end_share": 0.0, "rollout_length": 8}, 1_000_000, 0.04, 0.25),
    "monte_carlo": Schooling({"learning_rate": 0.01, "learning_rate_end_share": 0.0}, 1_000_000, 0.04, 0.25),
}


ON_GRIDS = [
    *(pytest.param(name, four_by_four, id=f"{name}-4x4", marks=[pytest.mark.slow] * (name == "monte_carlo")) for name in NAMES),
    *(pytest.param(name, five_by_five, id=f"{name}-5x5", marks=[pytest.mark.slow] * (name != "q_learning")) for name in NAMES),
]


@pytest.mark.parametrize(("name", "mdp"), ON_GRIDS)
def test_the_values_of_a_grid_are_learned(name, mdp):
    """Of the best policy off-policy, of the epsilon-greedy one on-policy, with epsilon 1 and 0.5. The 5x5 grid never ends."""
    make_agent, config_class = load_agent(name)
    fields, steps, rtol, atol = SCHOOLING[name]
    mdp, epsilons = mdp(), (1.0, 0.5)
    env = mdp_env(mdp, 16, time_limit=20)

    def run(epsilon: jax.Array) -> jax.Array:
        exploration = {"epsilon_start": epsilon, "epsilon_end": epsilon}
        config = config_class(num_envs=16, gamma=mdp.discount, **fields, **exploration)
        return train(KEY, config, make_agent, env, steps, num_rows=1).state.agent.policy

    found = jax.jit(jax.vmap(run))(jnp.array(epsilons))
    on_policy = name not in ("q_learning", "dyna_q")
    expected = [soft_values(mdp, epsilon if on_policy else 0.0) for epsilon in epsilons]
    going = ~np.asarray(mdp.terminal)
    np.testing.assert_allclose(found[:, going], np.stack(expected)[:, going], rtol=rtol, atol=atol)


# --- the cliff ------------------------------------------------------------------------------------------------------------


def cliff() -> MDP:
    """Sutton & Barto 2018, example 6.6."""

    def step(row: int, column: int, new_row: int, new_column: int) -> tuple[int, int, float]:
        new_row, new_column = min(max(new_row, 0), 3), min(max(new_column, 0), 11)
        return (3, 0, -100.0) if new_row == 3 and 0 < new_column < 11 else (new_row, new_column, -1.0)

    return grid_mdp(4, 12, step, 1.0, start=36, terminal=(47,))


def greedy_path(mdp: MDP, q: np.ndarray, limit: int = 100) -> list[int]:
    """The states of the greedy policy from the start on, the last one included."""
    path, successors = [int(np.argmax(mdp.initial))], np.asarray(mdp.successors)[..., 0]
    while not mdp.terminal[path[-1]] and len(path) <= limit:
        path.append(int(successors[path[-1], np.argmax(q[path[-1]])]))
    return path


def runs(name: str, env: Env, steps: int, num_seeds: int, **fields: Any) -> tuple[np.ndarray, dict[str, np.ndarray], Any]:
    """Tables [seeds, S, A], rows of metrics [seeds, R] and final states."""
    make_agent, config_class = load_agent(name)
    config = config_class(num_envs=env.num_envs, **fields)
    result = jax.jit(jax.vmap(lambda key: train(key, config, make_agent, env, steps)))(jax.random.split(KEY, num_seeds))
    return np.asarray(result.state.agent.policy), jax.tree.map(np.asarray, result.rows), result.state.agent


@pytest.mark.slow
def test_sarsa_keeps_away_from_a_cliff_along_which_q_learning_goes():
    mdp = cliff()
    env, edge = mdp_env(mdp, 1), set(range(25, 35))
    settings = {"gamma": 1.0, "learning_rate": 0.5, "learning_rate_end_share": 0.0, "epsilon_start": 0.1, "epsilon_end": 0.1}
    found = {name: runs(name, env, 40_000, 10, **settings) for name in ("q_learning", "sarsa")}
    paths = {name: [greedy_path(mdp, q) for q in tables] for name, (tables, _, _) in found.items()}
    online = {name: np.nanmean(rows["return_mean"][:, 10:]) for name, (_, rows, _) in found.items()}
    assert all(edge <= set(path) and len(path) == 14 for path in paths["q_learning"])
    assert all(path[-1] == 47 and not edge & set(path) for path in paths["sarsa"])
    assert online["sarsa"] > online["q_learning"] + 10.0


# --- a maze ---------------------------------------------------------------------------------------------------------------

WALLS = {(1, 2), (2, 2), (3, 2), (4, 5), (0, 7), (1, 7), (2, 7)}


def maze() -> MDP:
    """Sutton & Barto 2018, example 8.1: the shortest way from start to goal takes 14 steps and pays 1."""

    def step(row: int, column: int, new_row: int, new_column: int) -> tuple[int, int, float]:
        if not (0 <= new_row < 6 and 0 <= new_column < 9) or (new_row, new_column) in WALLS:
            new_row, new_column = row, column
        return new_row, new_column, float((new_row, new_column) == (0, 8) != (row, column))

    return grid_mdp(6, 9, step, 0.95, start=18, terminal=(8,))


def test_planning_spares_env_steps_and_the_model_is_that_of_the_maze():
    mdp = maze()
    env = mdp_env(mdp, 1)
    settings = {"gamma": 0.95, "epsilon_start": 0.1, "epsilon_end": 0.1}
    _, plain, _ = runs("q_learning", env, 4_000, 8, **settings)
    tables, planned, states = runs("dyna_q", env, 4_000, 8, num_planning_steps=20, **settings)
    assert planned["episodes"].sum() > 5 * plain["episodes"].sum()
    assert planned["episodes"].sum(1).min() > plain["episodes"].sum(1).max()
    lengths = sorted(len(greedy_path(mdp, q)) - 1 for q in tables)
    assert lengths[4] == 14 and lengths[-1] <= 16
    for model in (jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), states.model) for i in range(8)):
        known = model.counts > 0
        assert known.sum() == model.num_pairs > 100
        assert model.counts.sum() == 4_000
        np.testing.assert_array_equal(model.successors[known], np.asarray(mdp.successors)[known])
        np.testing.assert_array_equal(model.rewards[known], np.asarray(mdp.rewards)[known])
        np.testing.assert_array_equal(model.terminated[known], np.asarray(mdp.terminal)[model.successors[known]])


def test_without_planning_dyna_q_is_q_learning():
    env = mdp_env(four_by_four(), 4, time_limit=50)
    q, _, _ = runs("q_learning", env, 4_000, 1, rollout_length=5)
    planned, _, _ = runs("dyna_q", env, 4_000, 1, rollout_length=5, num_planning_steps=0)
    assert np.any(q)
    np.testing.assert_array_equal(q, planned)


def test_a_model_of_chances_has_their_frequencies():
    successors = np.array([[[0, 1], [1, 0]], [[0, 1], [1, 0]]])
    probabilities = np.float32([[[0.7, 0.3], [0.9, 0.1]], [[0.5, 0.5], [0.2, 0.8]]])
    rewards = np.float32([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    env = mdp_env(make_mdp(successors, probabilities, rewards, 0.9), 8, time_limit=50)
    _, _, state = runs("dyna_q", env, 20_000, 1, num_successors=2, epsilon_start=1.0, epsilon_end=1.0, num_planning_steps=1)
    model = jax.tree.map(lambda leaf: np.asarray(leaf[0]), state.model)
    frequency = model.counts / model.counts.sum(-1, keepdims=True)
    order = np.argsort(model.successors, -1), np.argsort(successors, -1)
    for found, expected, tolerance in ((frequency, probabilities, 0.03), (model.rewards, rewards, 1e-4)):
        found, expected = np.take_along_axis(found, order[0], -1), np.take_along_axis(expected, order[1], -1)
        np.testing.assert_allclose(found, expected, atol=tolerance)


# --- what is refused, and what is not drawn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_ties_go_to_the_lowest_action_and_to_a_random_one_while_exploring(name):
    agent, _ = tiny(name)
    policy, obs = jnp.array([[1.0, 1.0], [0.0, 1.0]]), jnp.array([0, 1])
    assert agent.act(KEY, policy, (), obs, NOW, False)[0].tolist() == [0, 1]
    tied, single = (agent.act(KEY, policy, (), jnp.full(1000, s), NOW, True)[0] for s in (0, 1))
    assert 400 < int(tied.sum()) < 600
    assert single.all()


@pytest.mark.parametrize("name", NAMES)
def test_observations_that_name_no_state_are_refused(name):
    make_agent, config_class = load_agent(name)
    env = make("CartPole-v1", 1)
    with pytest.raises(UsageError, match=r"^env: \w+ needs observations that .* choose a finite environment, or .* dqn$"):
        build(make_agent, config_class(), env.spec)


@pytest.mark.parametrize("name", NAMES)
def test_actions_that_are_not_discrete_are_refused(name):
    make_agent, config_class = load_agent(name)
    with pytest.raises(UsageError, match=r"^env: \w+ needs discrete actions, .*; choose an environment with Discrete actions$"):
        build(make_agent, config_class(), Spec(ArraySpec((), "int32", 3), Box((1,)), 5))


def test_monte_carlo_needs_a_time_limit():
    make_agent, config_class = load_agent("monte_carlo")
    with pytest.raises(UsageError, match="time limit"):
        build(make_agent, config_class(), Spec(ArraySpec((), "int32", 3), Discrete(2)))
