"""Exact solvers against Sutton & Barto's grids, worked examples, and float64 solutions of NumPy and SciPy.

`dense` writes an MDP as matrices in float64; `numpy_values` solves a policy's linear equations with them, `linear_program`
finds the optimal values (Puterman 1994, section 6.9), both without any code under test.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from jaxrl.envs.tools.mdp_env import mdp_env
from jaxrl.errors import UsageError
from jaxrl.mdp import solvers as mdps
from jaxrl.mdp.ends import can_terminate, check_solvable, greedy_policy, has_proper_policy
from jaxrl.mdp.model import garnet, make_mdp
from jaxrl.nets.inputs import flatten

value_iteration = jax.jit(mdps.value_iteration)
policy_iteration = jax.jit(mdps.policy_iteration, static_argnames="method")
value_iterations, policy_iterations = jax.jit(jax.vmap(mdps.value_iteration)), jax.jit(jax.vmap(mdps.policy_iteration))
policy_evaluation = jax.jit(mdps.policy_evaluation, static_argnames="method")
occupancy = jax.jit(mdps.occupancy, static_argnames="method")
policy_gradient = jax.jit(mdps.softmax_policy_gradient, static_argnames="method")
garnet = jax.jit(garnet, static_argnums=(1, 2, 3), static_argnames="num_terminal")
METHODS = ("solve", "iterate")

FIGURE_3_2 = [
    [3.3, 8.8, 4.4, 5.3, 1.5],
    [1.5, 3.0, 2.3, 1.9, 0.5],
    [0.1, 0.7, 0.7, 0.4, -0.4],
    [-1.0, -0.4, -0.4, -0.6, -1.2],
    [-1.9, -1.3, -1.2, -1.4, -2.0],
]
FIGURE_3_5 = [
    [22.0, 24.4, 22.0, 19.4, 17.5],
    [19.8, 22.0, 19.8, 17.8, 16.0],
    [17.8, 19.8, 17.8, 16.0, 14.4],
    [16.0, 17.8, 16.0, 14.4, 13.0],
    [14.4, 16.0, 14.4, 13.0, 11.7],
]
FIGURE_4_1 = [[0, -14, -20, -22], [-14, -18, -20, -20], [-20, -20, -18, -14], [-22, -20, -14, 0]]
NORTH, EAST, SOUTH, WEST = range(4)


class Dense(NamedTuple):
    """Transition matrices [S, A, S] and expected rewards [S, A] in float64; rows of terminal states are 0."""

    transition: np.ndarray
    reward: np.ndarray


def dense(mdp):
    successors, p, r, terminal = (np.asarray(x) for x in (mdp.successors, mdp.probabilities, mdp.rewards, mdp.terminal))
    num_states, num_actions, _ = successors.shape
    transition = np.zeros((num_states, num_actions, num_states))
    states, actions = np.indices((num_states, num_actions))
    np.add.at(transition, (states[..., None], actions[..., None], successors), p.astype(float))
    reward = np.sum(p.astype(float) * r, axis=-1)
    transition[terminal], reward[terminal] = 0.0, 0.0
    return Dense(transition / np.maximum(transition.sum(-1, keepdims=True), 1e-300), reward)


def under(mdp, policy):
    """P_pi [S, S] and r_pi [S] for probabilities [S, A]."""
    model = dense(mdp)
    return np.einsum("sa,sat->st", policy, model.transition), np.sum(policy * model.reward, axis=1)


def numpy_values(mdp, policy):
    transition, reward = under(mdp, policy)
    return np.linalg.solve(np.eye(len(reward)) - float(mdp.discount) * transition, reward)


def linear_program(mdp):
    """The least v with v >= r + gamma P v for every state and action."""
    model, num_states = dense(mdp), mdp.terminal.shape[0]
    rows = float(mdp.discount) * model.transition - np.eye(num_states)[:, None]
    found = linprog(np.ones(num_states), rows.reshape(-1, num_states), -model.reward.reshape(-1), bounds=(None, None))
    assert found.success
    return found.x


def grid(size, terminal, discount, special=()):
    """Moves on a square that cost `-1`, or as in figure 3.2: `special` names (state, successor, reward) and walls cost 1."""
    state = np.arange(size * size)
    row, column = np.divmod(state, size)
    moves = np.stack([row - 1, row, row + 1, row]), np.stack([column, column + 1, column, column - 1])
    inside = (np.clip(moves[0], 0, size - 1) == moves[0]) & (np.clip(moves[1], 0, size - 1) == moves[1])
    successors = np.where(inside, moves[0] * size + moves[1], state).T
    rewards = np.where(inside.T, 0.0, -1.0) if special else np.full(successors.shape, -1.0)
    for origin, successor, reward in special:
        successors[origin], rewards[origin] = successor, reward
    ends = np.isin(state, terminal)
    return make_mdp(successors[..., None], np.ones((*successors.shape, 1), np.float32), rewards, discount, terminal=ends)


def textbook_grid():
    """Example 3.5: A = (0, 1) leads to (4, 1) for 10, B = (0, 3) to (2, 3) for 5."""
    return grid(5, (), 0.9, special=((1, 21, 10.0), (3, 13, 5.0)))


def corridor(num_states, discount, stay=False, terminal=True):
    """A step costs 1; action 1 goes to the right, where the last state ends, and action 0 to the left or nowhere."""
    state = np.arange(num_states)
    back = state if stay else np.maximum(state - 1, 0)
    successors = np.stack([back, np.minimum(state + 1, num_states - 1)], axis=1)[..., None]
    ends = (state == num_states - 1) & terminal
    return make_mdp(successors, np.ones(successors.shape, np.float32), np.full((num_states, 2), -1.0), discount, terminal=ends)


def garnets(count, *args, **kwargs):
    return jax.jit(jax.vmap(lambda key: garnet(key, *args, **kwargs)))(jax.random.split(jax.random.key(0), count))


def pick(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def double(mdp):
    """In float64, within `jax.enable_x64`."""
    p = np.asarray(mdp.probabilities, float)
    rest = {name: jnp.asarray(np.asarray(getattr(mdp, name), float)) for name in ("rewards", "discount", "initial")}
    return mdp._replace(probabilities=jnp.asarray(p / p.sum(axis=-1, keepdims=True)), **rest)


@pytest.fixture(scope="module")
def thousand():
    """Random MDPs of 15 states, the last two terminal."""
    return garnets(1000, 15, 3, 4, 0.9, num_terminal=2, reward_std=0.5)


def random_policy(num_states, num_actions, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(num_actions), size=num_states).astype(np.float32)


def small_mdp(discount=0.9):
    """Seven states, the last two terminal; rewards depend on the successor."""
    return garnet(jax.random.key(3), 7, 3, 3, discount, num_terminal=2, reward_std=1.0)


@pytest.fixture(scope="module")
def pairs():
    """Random MDPs in which two of four states follow each action."""
    return garnets(3_000, 4, 2, 2, 0.9, reward_std=0.5)


# --- making an MDP --------------------------------------------------------------------------------------------------

TWO = np.array([[[0], [1]], [[1], [0]]])
SURE = np.ones((2, 2, 1), np.float32)
ZERO = np.zeros((2, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"successors": TWO[0]}, r"successors \(2, 1\) and probabilities \(2, 2, 1\) do not match; give both as \[S, A, K\]"),
        ({"probabilities": SURE[:1]}, r"successors \(2, 2, 1\) and probabilities \(1, 2, 1\) do not match"),
        ({"rewards": np.zeros(2)}, r"rewards \(2,\) do not match successors \(2, 2, 1\)"),
        ({"terminal": np.zeros(3, bool)}, r"terminal \(3,\) does not match 2 states"),
        ({"successors": TWO + 1}, r"successors leave 0 \.\. 1; name existing states"),
        ({"successors": TWO - 1}, r"successors leave 0 \.\. 1"),
        ({"successors": TWO.astype(float)}, r"successors leave 0 \.\. 1"),
        ({"rewards": ZERO + np.inf}, r"rewards are not all finite"),
        ({"probabilities": SURE * 0.5}, r"probabilities: row 0 sums to 0\.5 or has a negative entry; make it a distribution"),
        ({"probabilities": SURE * [[[1], [1]], [[1], [-1]]]}, r"probabilities: row 3 sums to -1"),
        ({"terminal": np.ones(2, bool)}, r"terminal marks every state; leave one to start from"),
        ({"initial": np.array([0.5, 0.4])}, r"initial: row 0 sums to 0\.9"),
        ({"initial": np.array([1.0])}, r"initial has 1 entries; give 2"),
        ({"discount": 1.1}, r"discount=1\.1 is out of range; give a value in \[0, 1\]"),
    ],
)
def test_every_mistake_in_an_mdp_is_one_line(changes, message):
    arguments = {"successors": TWO, "probabilities": SURE, "rewards": ZERO, "discount": 0.9} | changes
    with pytest.raises(UsageError, match=message) as caught:
        make_mdp(**arguments)
    assert "\n" not in str(caught.value)


def test_first_states_are_uniform_over_those_that_are_not_terminal():
    mdp = make_mdp(TWO, SURE, ZERO, 0.9, terminal=np.array([False, True]))
    np.testing.assert_array_equal(mdp.initial, [1.0, 0.0])


def test_rows_that_sum_to_one_up_to_rounding_are_normalised():
    p = np.full((2, 2, 3), 0.33334, np.float32)
    mdp = make_mdp(np.zeros((2, 2, 3), int), p, ZERO, 0.9)
    np.testing.assert_allclose(mdp.probabilities, 1.0 / 3.0, rtol=1e-6)


def test_padding_of_probability_zero_changes_nothing():
    successors = np.array([[[1, 0], [0, 1]], [[1, 1], [0, 0]]])
    p = np.array([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]], np.float32)
    rewards = np.array([[[1.0, 99.0], [0.0, 99.0]], [[2.0, 99.0], [0.0, 99.0]]])
    mdp = make_mdp(successors, p, rewards, 0.5)
    # By hand: state 1 stays for 2 / (1 - 0.5) = 4, and state 0 goes there for 1 + 0.5 * 4 = 3.
    np.testing.assert_allclose(value_iteration(mdp).value, [3.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(policy_iteration(mdp).value, [3.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(policy_evaluation(mdp, jnp.array([0, 0])), [3.0, 4.0], rtol=1e-6)
    assert bool(jnp.all(can_terminate(mdp._replace(terminal=jnp.array([False, True]))) == jnp.array([True, True])))
    assert not can_terminate(mdp._replace(terminal=jnp.array([False, True])), jnp.array([1, 0]))[0]


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_terminal_states_are_ignored(method):
    mdp = corridor(3, 0.9)
    loud = mdp._replace(rewards=mdp.rewards.at[2].set(1e6), successors=mdp.successors.at[2].set(0))
    # By hand: the last state ends, so -1 one step before it and -1 - 0.9 two steps before.
    expected = [-1.9, -1.0, 0.0]
    np.testing.assert_allclose(policy_evaluation(loud, jnp.array([1, 1, 0]), method), expected, rtol=1e-6)
    np.testing.assert_allclose(policy_iteration(loud, method).value, expected, rtol=1e-6)
    np.testing.assert_allclose(value_iteration(loud).value, expected, rtol=1e-6)
    np.testing.assert_array_equal(value_iteration(loud).q[2], [0.0, 0.0])
    np.testing.assert_allclose(occupancy(loud, jnp.array([1, 1, 0]), method), [0.5, 0.95, 0.855], rtol=1e-6)


def test_a_value_given_for_a_terminal_state_counts_nothing():
    mdp = corridor(3, 0.9)
    np.testing.assert_allclose(mdps.q_values(mdp, jnp.array([0.0, -1.0, 50.0])), [[-1.0, -1.9], [-1.0, -1.0], [0.0, 0.0]])
    assert mdps.start_value(mdp, jnp.array([-2.0, -1.0, 50.0])) == -1.5


# --- Sutton & Barto -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_random_policy_of_figure_4_1(method):
    mdp = grid(4, (0, 15), 1.0)
    value = policy_evaluation(mdp, mdps.uniform_policy(mdp), method)
    np.testing.assert_allclose(np.reshape(value, (4, 4)), FIGURE_4_1, atol=2e-3)


def test_three_sweeps_of_figure_4_1():
    mdp = grid(4, (0, 15), 1.0)
    value = policy_evaluation(mdp, mdps.uniform_policy(mdp), "iterate", max_sweeps=3)
    np.testing.assert_allclose(np.reshape(value, (4, 4))[0], [0.0, -2.4, -2.9, -3.0], atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_random_policy_of_figure_3_2(method):
    mdp = textbook_grid()
    value = policy_evaluation(mdp, mdps.uniform_policy(mdp), method)
    np.testing.assert_allclose(np.reshape(value, (5, 5)), FIGURE_3_2, atol=0.05)


@pytest.mark.parametrize("solve", [value_iteration, policy_iteration], ids=["value iteration", "policy iteration"])
def test_optimal_values_of_figure_3_5(solve):
    solution = solve(textbook_grid())
    np.testing.assert_allclose(np.reshape(solution.value, (5, 5)), FIGURE_3_5, atol=0.05)
    # Below A the only best action is north, in the lower right corner north and west are equally good.
    assert solution.policy[6] == NORTH
    np.testing.assert_allclose(solution.q[24, NORTH], solution.q[24, WEST], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(mdps.action_gaps(solution.q))[[1, 24]], [0.0, 0.0], atol=1e-4)


# --- random MDPs ----------------------------------------------------------------------------------------------------


def test_value_and_policy_iteration_agree_on_a_thousand_random_mdps(thousand):
    by_value, by_policy = value_iterations(thousand), policy_iterations(thousand)
    scale = np.abs(by_policy.value).max(axis=1)
    assert scale.min() > 0.1
    assert (np.abs(by_value.value - by_policy.value).max(axis=1) / scale).max() < 1e-5
    assert by_policy.num_sweeps.max() <= 12


def test_they_agree_in_double_precision_at_a_discount_of_0_99(thousand):
    with jax.enable_x64(True):
        mdp = double(thousand._replace(discount=np.full(1000, 0.99)))
        by_value, by_policy = value_iterations(mdp, np.full(1000, 1e-9)), policy_iterations(mdp)
        assert by_value.value.dtype == by_policy.value.dtype == np.float64
        np.testing.assert_allclose(by_value.value, by_policy.value, rtol=1e-5, atol=2e-9)


def test_optimal_values_are_those_of_linear_programming(thousand):
    expected = np.stack([linear_program(pick(thousand, i)) for i in range(100)])
    for solve in (value_iterations, policy_iterations):
        np.testing.assert_allclose(solve(thousand).value[:100], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_solves_the_linear_equations(thousand, method):
    policy = np.stack([random_policy(15, 3, seed) for seed in range(100)])
    mdp = pick(thousand, slice(100))
    value = jax.vmap(lambda m, p: policy_evaluation(m, p, method))(mdp, policy)
    expected = [numpy_values(pick(mdp, i), policy[i]) for i in range(100)]
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.optimized
@pytest.mark.parametrize("method", METHODS)
def test_actions_are_the_probabilities_of_a_sure_choice(method):
    mdp, actions = small_mdp(), jnp.array([2, 0, 1, 2, 1, 0, 0])
    expected = numpy_values(mdp, np.eye(3)[np.asarray(actions)])
    np.testing.assert_allclose(policy_evaluation(mdp, actions, method), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(policy_evaluation(mdp, np.eye(3)[np.asarray(actions)], method), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("discount", [0.999, 0.99999])
def test_elimination_loses_no_digits_as_the_discount_approaches_one(discount):
    mdp = garnet(jax.random.key(0), 200, 2, 3, discount)
    policy = np.full((200, 2), 0.5)
    one = mdp._replace(rewards=jnp.ones_like(mdp.rewards))
    # Plain float32 elimination is off by 5e-3 at the second: its pivots lose the digits that 1 - gamma is made of.
    np.testing.assert_allclose(policy_evaluation(one, policy), 1.0 / (1.0 - float(mdp.discount)), rtol=1e-5)
    expected = numpy_values(mdp, policy)
    assert np.abs(policy_evaluation(mdp, policy) - expected).max() < 1e-5 * np.abs(expected).max()


# --- sweeps ---------------------------------------------------------------------------------------------------------


def test_every_sweep_shrinks_the_error_by_the_discount():
    with jax.enable_x64(True):
        mdp = double(small_mdp(0.8))
        best = linear_program(mdp)
        values = jax.device_get([value_iteration(mdp, 0.0, n).value for n in range(1, 30)])
    errors = [np.abs(best).max()] + [np.abs(value - best).max() for value in values]
    assert all(after <= 0.8 * before + 1e-12 for before, after in zip(errors, errors[1:], strict=False))
    assert errors[-1] > 1e-6


@pytest.mark.parametrize("tolerance", [1.0, 1e-2, 1e-4])
def test_value_iteration_stops_within_the_tolerance(tolerance):
    with jax.enable_x64(True):
        mdp = double(small_mdp(0.95))
        solution, best = jax.device_get(value_iteration(mdp, tolerance)), linear_program(mdp)
        value = np.asarray(policy_evaluation(mdp, solution.policy))
    error = np.abs(solution.value - best).max()
    assert error <= tolerance
    assert error > 1e-3 * tolerance
    assert np.max(best - value) <= 2.0 * tolerance + 1e-9


def test_a_tolerance_below_the_precision_ends_all_the_same():
    solution = value_iteration(small_mdp(), 0.0)
    assert solution.num_sweeps < 300


def test_sweeps_end_at_their_limit():
    solution = value_iteration(textbook_grid(), 1e-6, 7)
    assert solution.num_sweeps == 7
    assert solution.residual > 0.1


def test_a_discount_of_zero_counts_the_next_reward_only():
    mdp = textbook_grid()._replace(discount=jnp.float32(0.0))
    expected = [0.0, 10.0, 0.0, 5.0] + 21 * [0.0]
    np.testing.assert_array_equal(value_iteration(mdp).value, expected)
    np.testing.assert_array_equal(policy_iteration(mdp).value, expected)


def test_policy_iteration_ends_where_all_actions_are_equally_good():
    rng = np.random.default_rng(7)
    rows = rng.integers(30, size=(30, 5)), rng.dirichlet(np.ones(5), size=30).astype(np.float32), rng.normal(size=(30, 5))
    # The order of a sum of five differs between the three actions, so they are equal up to rounding only.
    mdp = make_mdp(*(np.stack([np.roll(row, a, axis=1) for a in range(3)], axis=1) for row in rows), discount=0.99)
    q = np.asarray(mdps.q_values(mdp, value_iteration(mdp).value))
    assert (q != q[:, :1]).any()
    solution = policy_iteration(mdp)
    assert solution.num_sweeps == 1
    np.testing.assert_array_equal(solution.policy, np.zeros(30))


def test_policy_iteration_counts_the_sweeps_that_improve():
    # The first policy heads for the end, so the first sweep finds nothing to improve.
    mdp = corridor(5, 0.9)
    solution = policy_iteration(mdp)
    assert solution.num_sweeps == 1
    np.testing.assert_array_equal(solution.policy[:4], [1, 1, 1, 1])
    paid = mdp._replace(rewards=mdp.rewards.at[0, 0].set(1.0))
    # Staying at the left end pays 1 / (1 - 0.9) = 10, so all turn round: 0.9 * 10 - 1 = 8 next to it, then 0.9 * 8 - 1, ...
    np.testing.assert_allclose(policy_iteration(paid).value, [10.0, 8.0, 6.2, 4.58, 0.0], rtol=1e-5)
    assert policy_iteration(paid).num_sweeps > 1


def test_action_gaps_are_best_minus_second_best():
    gaps = mdps.action_gaps(jnp.array([[1.0, 4.0, 3.5], [2.0, 2.0, 0.0], [-3.0, -1.0, -7.0]]))
    np.testing.assert_array_equal(gaps, [0.5, 0.0, 2.0])
    with pytest.raises(UsageError, match=r"q \(3, 1\) has one action; a gap needs two"):
        mdps.action_gaps(jnp.zeros((3, 1)))


def test_greedy_actions_are_the_first_best():
    policy = greedy_policy(jnp.array([[1.0, 4.0, 4.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(policy, [1, 0])
    assert policy.dtype == jnp.int32


# --- without discount -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_random_walk_without_discount_takes_as_long_as_the_gamblers_ruin(method):
    size = 10
    state = np.arange(size + 1)
    successors = np.stack([state - 1, state + 1], axis=1).clip(0, size)[:, None]
    ends = (state == 0) | (state == size)
    mdp = make_mdp(successors, np.full((size + 1, 1, 2), 0.5, np.float32), -np.ones((size + 1, 1)), 1.0, terminal=ends)
    # Feller 1968, section XIV.3: i (size - i) steps from state i.
    np.testing.assert_allclose(policy_evaluation(mdp, jnp.zeros(size + 1, int), method), -state * (size - state), rtol=1e-4)


@pytest.mark.parametrize("stay", [False, True])
def test_optimal_values_without_discount_are_distances(stay):
    mdp = corridor(6, 1.0, stay=stay)
    check_solvable(mdp)
    expected = [-5, -4, -3, -2, -1, 0]
    for solution in (value_iteration(mdp), policy_iteration(mdp), policy_iteration(mdp, "iterate")):
        np.testing.assert_allclose(solution.value, expected)
        np.testing.assert_array_equal(solution.policy[:5], np.ones(5))


def test_value_and_policy_iteration_agree_without_discount_on_random_mdps(thousand):
    mdp = thousand._replace(rewards=-jnp.abs(thousand.rewards) - 0.1, discount=jnp.ones(1000))
    assert jax.vmap(has_proper_policy)(mdp).all()
    value = policy_iterations(mdp).value
    np.testing.assert_allclose(value_iterations(mdp).value, value, rtol=1e-5, atol=1e-5)
    assert value[:, :13].max() <= -0.1


def test_a_proper_policy_needs_a_terminal_state_in_reach_from_everywhere():
    # States 0 -> 1 -> 2 (terminal) and 3 -> 4 -> 3; action 1 of state 4 would leave for 0, but with probability 0.
    successors = np.array([[[1, 0], [0, 0]], [[2, 0], [1, 1]], [[2, 2], [2, 2]], [[4, 4], [3, 3]], [[3, 3], [3, 0]]])
    p = np.tile(np.array([1.0, 0.0], np.float32), (5, 2, 1))
    mdp = make_mdp(successors, p, -np.ones((5, 2)), 1.0, terminal=np.arange(5) == 2)
    np.testing.assert_array_equal(can_terminate(mdp), [True, True, True, False, False])
    assert not has_proper_policy(mdp)
    opened = mdp._replace(probabilities=mdp.probabilities.at[4, 1].set(jnp.array([0.99, 0.01])))
    assert has_proper_policy(opened)
    np.testing.assert_array_equal(can_terminate(opened, jnp.array([0, 0, 0, 0, 0])), [True, True, True, False, False])
    assert can_terminate(opened, mdps.uniform_policy(opened)).all()


def test_no_proper_policy_is_one_line():
    mdp = corridor(4, 1.0, terminal=False)
    with pytest.raises(
        UsageError, match=r"discount=1 needs a terminal state in reach from every state, and state 0 reaches none"
    ):
        check_solvable(mdp)
    check_solvable(corridor(4, 0.99, terminal=False))


def test_an_improper_policy_is_one_line():
    mdp, policy = corridor(4, 1.0), jnp.array([1, 0, 1, 0])
    with pytest.raises(UsageError, match=r"state 0 reaches none under this policy; give a discount below 1 or another policy"):
        check_solvable(mdp, policy)
    assert not jnp.isfinite(policy_evaluation(mdp, policy)[:2]).any()
    check_solvable(mdp, mdps.uniform_policy(mdp))
    check_solvable(mdp, jnp.array([1, 1, 1, 0]))


# --- occupancy and the policy gradient ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_occupancy_is_the_initial_distribution_times_an_inverse(thousand, method):
    mdp, policy = pick(thousand, 0)._replace(terminal=jnp.zeros(15, bool)), random_policy(15, 3)
    transition, _ = under(mdp, policy)
    expected = np.asarray(mdp.initial) @ np.linalg.inv(np.eye(15) - float(mdp.discount) * transition)
    visits = occupancy(mdp, policy, method)
    np.testing.assert_allclose(visits, expected, rtol=1e-5)
    np.testing.assert_allclose(visits.sum(), 10.0, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_occupancy_weighs_rewards_to_the_start_value(method):
    mdp, policy = small_mdp(discount=1.0), random_policy(7, 3)
    visits, (_, reward) = occupancy(mdp, policy, method), under(mdp, policy)
    np.testing.assert_allclose(visits @ reward, np.asarray(mdp.initial) @ numpy_values(mdp, policy), rtol=1e-4)
    # Without discount every episode enters one terminal state once.
    np.testing.assert_allclose(visits[5:].sum(), 1.0, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_policy_gradient_is_the_slope_of_the_start_value(method):
    mdp = small_mdp()
    logits = np.random.default_rng(1).normal(size=(7, 3))

    def start_value(x):
        policy = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
        return np.asarray(mdp.initial, float) @ numpy_values(mdp, policy)

    expected = np.zeros((7, 3))
    for index in np.ndindex(7, 3):
        step = np.zeros((7, 3))
        step[index] = 1e-5
        expected[index] = (start_value(logits + step) - start_value(logits - step)) / 2e-5
    assert np.abs(expected).max() > 0.05
    gradient = policy_gradient(mdp, jnp.asarray(logits, jnp.float32), method)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_evaluation_can_be_differentiated():
    mdp, logits = small_mdp(), jnp.asarray(np.random.default_rng(2).normal(size=(7, 3)), jnp.float32)
    slope = jax.jit(jax.grad(lambda x: mdps.start_value(mdp, mdps.policy_evaluation(mdp, jax.nn.softmax(x)))))(logits)
    np.testing.assert_allclose(slope, policy_gradient(mdp, logits), rtol=1e-4, atol=1e-6)


# --- batches and sizes ----------------------------------------------------------------------------------------------


def test_vmapped_over_discounts_equals_each_alone():
    mdp, discounts = small_mdp(), jnp.array([0.0, 0.5, 0.9, 0.99, 1.0])
    for solve in (value_iteration, policy_iteration):
        together = jax.vmap(lambda gamma, solve=solve: solve(mdp._replace(discount=gamma)))(discounts)
        for i, gamma in enumerate(discounts):
            alone = solve(mdp._replace(discount=gamma))
            np.testing.assert_allclose(together.value[i], alone.value, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(together.policy[i], alone.policy)
            assert abs(int(together.num_sweeps[i] - alone.num_sweeps)) <= 1


@pytest.mark.parametrize(
    "run",
    [
        mdps.policy_iteration,
        lambda mdp: mdps.policy_evaluation(mdp, mdps.uniform_policy(mdp)),
        lambda mdp: mdps.occupancy(mdp, mdps.uniform_policy(mdp)),
    ],
    ids=["policy iteration", "evaluation", "occupancy"],
)
def test_a_population_calls_no_batched_lapack(thousand, run):
    program = jax.jit(jax.vmap(run)).lower(thousand).as_text()
    assert "while" in program
    assert "lapack" not in program


def test_a_million_states_need_no_matrix():
    size = 1_000_000
    successors = ((np.arange(size)[:, None] + [1, 2]) % size)[..., None]
    p = np.ones(successors.shape, np.float32)
    mdp = make_mdp(successors, p, np.tile([1.0, 0.5], (size, 1)), 0.5)
    # By hand: the better action pays 1 for ever, 1 / (1 - 0.5) = 2; the other one 0.5 a step.
    solution = value_iteration(mdp)
    np.testing.assert_allclose(solution.value, 2.0, rtol=1e-6)
    np.testing.assert_allclose(policy_evaluation(mdp, jnp.ones(size, jnp.int32), "iterate"), 1.0, rtol=1e-6)
    np.testing.assert_allclose(occupancy(mdp, solution.policy, "iterate"), 2.0 / size, rtol=1e-5)


def test_a_matrix_of_a_million_states_is_refused():
    mdp = corridor(6_000, 0.9)
    for run in (mdps.policy_evaluation, mdps.occupancy):
        with pytest.raises(UsageError, match=r"method='solve' takes 5000 states and the MDP has 6000; pass method='iterate'"):
            run(mdp, jnp.zeros(6_000, jnp.int32))
    with pytest.raises(UsageError, match="pass method='iterate'"):
        mdps.policy_iteration(mdp)


def test_an_unknown_method_is_one_line():
    with pytest.raises(UsageError, match=r"method='lu' is unknown; choose solve or iterate"):
        mdps.policy_iteration(small_mdp(), "lu")


# --- Garnet ---------------------------------------------------------------------------------------------------------


def test_garnet_rows_are_distributions_over_distinct_successors(thousand):
    ordered = np.sort(thousand.successors, axis=-1)
    assert (np.diff(ordered, axis=-1) > 0).all()
    np.testing.assert_array_equal(np.unique(ordered), np.arange(15))
    assert (np.asarray(thousand.probabilities) >= 0).all()
    np.testing.assert_allclose(np.asarray(thousand.probabilities).sum(-1), 1.0, rtol=1e-6)


def test_garnets_over_keys_equal_each_alone(thousand):
    key = jax.random.split(jax.random.key(0), 1000)[17]
    alone = garnet(key, 15, 3, 4, 0.9, num_terminal=2, reward_std=0.5)
    for one, many in zip(alone, thousand, strict=True):
        np.testing.assert_allclose(many[17], one, rtol=1e-6, atol=1e-7)  # Rewards are differences of numbers near 1.


def test_garnet_successors_are_uniform_over_pairs(pairs):
    first, second = np.sort(pairs.successors.reshape(-1, 2), axis=-1).T
    counts = np.bincount(first * 4 + second, minlength=16)[[1, 2, 3, 6, 7, 11]]
    # Each of the 6 pairs has 4,000 of 24,000, with a deviation of 58.
    np.testing.assert_allclose(counts, 4_000, atol=5 * 58)


def test_garnet_with_every_state_as_a_successor():
    mdp = garnet(jax.random.key(1), 5, 2, 5, 0.9)
    np.testing.assert_array_equal(np.sort(mdp.successors, axis=-1), np.broadcast_to(np.arange(5), (5, 2, 5)))


def test_garnet_cuts_and_rewards_have_their_moments(pairs):
    # Two pieces of [0, 1] cut at a uniform point: mean 1/2, variance 1/12. Rewards: variance 1 + 0.25.
    np.testing.assert_allclose(np.var(pairs.probabilities), 1 / 12, rtol=0.03)
    np.testing.assert_allclose(np.var(pairs.rewards), 1.25, rtol=0.03)
    spread = pairs.rewards[..., 0] - pairs.rewards[..., 1]
    np.testing.assert_allclose(np.var(spread), 2 * 0.25, rtol=0.03)


def test_garnet_terminal_states_are_the_last_and_no_first_states():
    mdp = small_mdp()
    np.testing.assert_array_equal(mdp.terminal, 5 * [False] + 2 * [True])
    np.testing.assert_allclose(mdp.initial, 5 * [0.2] + 2 * [0.0])


@pytest.mark.parametrize(
    ("branching", "num_terminal", "message"),
    [
        (6, 0, r"branching=6 is not in 1 \.\. num_states=5"),
        (0, 0, r"branching=0 is not in 1 \.\. num_states=5"),
        (2, 5, r"num_terminal=5 leaves none of 5 states to start from"),
    ],
)
def test_garnet_mistakes_are_one_line(branching, num_terminal, message):
    with pytest.raises(UsageError, match=message):
        garnet(jax.random.key(0), 5, 2, branching, 0.9, num_terminal=num_terminal)


# --- the environment ------------------------------------------------------------------------------------------------


def play(env, actions, seed=0):
    """Steps with actions [T, B]: the states before, and the time steps, stacked."""

    def step(carry, key_and_action):
        key, action = key_and_action
        state, obs = carry
        state, timestep = env.step(key, env.params, state, action)
        return (state, timestep.obs), (obs, timestep)

    @jax.jit
    def run(key, actions):
        key_reset, key_steps = jax.random.split(key)
        first = env.reset(key_reset, env.params)
        return jax.lax.scan(step, first, (jax.random.split(key_steps, len(actions)), actions))[1]

    return jax.device_get(run(jax.random.key(seed), jnp.asarray(actions)))


def test_transitions_are_as_frequent_as_the_arrays_say():
    mdp = small_mdp()
    actions = np.random.default_rng(0).integers(3, size=(400, 256))
    obs, step = play(mdp_env(mdp, 256, time_limit=20), actions)
    counts, rewards = np.zeros((7, 3, 7)), np.full((7, 3, 7), np.nan)
    np.add.at(counts, (obs, actions, step.next_obs), 1)
    rewards[obs, actions, step.next_obs] = step.reward
    total = counts.sum(axis=-1)
    assert total[:5].min() > 500 and total[5:].sum() == 0
    p = dense(mdp).transition
    deviation = np.sqrt(p * (1 - p) / np.maximum(total, 1)[..., None])
    assert (np.abs(counts / np.maximum(total, 1)[..., None] - p) <= 5 * deviation + 1e-6)[:5].all()
    for s, a in np.ndindex(5, 3):
        np.testing.assert_allclose(rewards[s, a, mdp.successors[s, a]], mdp.rewards[s, a], rtol=1e-6)


def test_episodes_end_in_terminal_states_and_start_where_the_arrays_say():
    mdp = small_mdp()._replace(initial=jnp.array([0.0, 0.3, 0.7, 0.0, 0.0, 0.0, 0.0]))
    obs, step = play(mdp_env(mdp, 256), np.random.default_rng(0).integers(3, size=(200, 256)))
    np.testing.assert_array_equal(step.terminated, step.next_obs >= 5)
    first = step.obs[step.terminated]
    assert first.size > 2_000 and obs.max() < 5
    np.testing.assert_allclose(np.mean(first == 1), 0.3, atol=5 * np.sqrt(0.21 / first.size))
    np.testing.assert_allclose(np.mean(first == 2), 0.7, atol=5 * np.sqrt(0.21 / first.size))


def test_a_time_limit_truncates_and_keeps_the_true_successor():
    mdp = corridor(6, 0.9)._replace(initial=jnp.eye(6)[0])
    obs, step = play(mdp_env(mdp, 1, time_limit=3), np.ones((7, 1), int))
    np.testing.assert_array_equal(obs[:, 0], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(step.truncated[:, 0], [False, False, True, False, False, True, False])
    np.testing.assert_array_equal(step.next_obs[:, 0], [1, 2, 3, 1, 2, 3, 1])
    assert not step.terminated.any()


def test_the_model_of_a_deterministic_mdp_is_its_step():
    env = mdp_env(corridor(4, 0.9), 8)
    actions = np.random.default_rng(1).integers(2, size=(50, 8))
    obs, step = play(env, actions)
    after, reward, terminated = jax.vmap(jax.vmap(lambda s, a: env.model(jax.random.key(0), env.params, s, a)))(obs, actions)
    np.testing.assert_array_equal(after, step.next_obs)
    np.testing.assert_array_equal(reward, step.reward)
    np.testing.assert_array_equal(terminated, step.terminated)
    assert step.terminated.any()


def test_the_model_of_a_stochastic_mdp_draws_its_successors():
    mdp = garnet(jax.random.key(3), 6, 2, 3, 0.9)
    env, keys = mdp_env(mdp, 1), jax.random.split(jax.random.key(0), 4_000)
    after, reward, _ = jax.vmap(lambda key: env.model(key, env.params, jnp.int32(4), jnp.int32(1)))(keys)
    for which in range(3):
        hits = after == mdp.successors[4, 1, which]
        assert abs(float(hits.mean()) - float(mdp.probabilities[4, 1, which])) < 0.04
        np.testing.assert_allclose(reward[hits], mdp.rewards[4, 1, which], rtol=1e-6)


def test_networks_see_states_as_one_hot_vectors():
    env = mdp_env(small_mdp(), 3)
    np.testing.assert_array_equal(flatten(jnp.array([0, 6, 2]), env.spec.obs), np.eye(7)[[0, 6, 2]])
