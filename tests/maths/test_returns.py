"""Returns and advantages against rlax segment by segment, against sums written out in numpy, and by hand.

rlax knows no ends inside a sequence, so it is given each episode alone: the segment of a column from one end to the next.
The sums in numpy are the forward view of Sutton & Barto (eq. 12.18), where the code goes backward.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl.maths import returns

T, B, GAMMA = 8, 4, 0.9

lambda_returns, reward_to_go, episode_returns, gae, vtrace, discount_powers = map(
    jax.jit,
    (
        returns.lambda_returns,
        returns.reward_to_go,
        returns.episode_returns,
        returns.gae,
        returns.vtrace,
        returns.discount_powers,
    ),
)
n_step_returns = jax.jit(returns.n_step_returns, static_argnums=4)
recurrence = jax.jit(returns.recurrence, static_argnames="reverse")


class Case(NamedTuple):
    """Random arrays [T, B]; `next_value` is `value` one step on except after an end, where the true successor is another."""

    reward: np.ndarray
    discount: np.ndarray
    value: np.ndarray
    next_value: np.ndarray
    ended: np.ndarray
    log_rho: np.ndarray


def make_case(terminated, truncated, seed):
    rng = np.random.default_rng(seed)
    reward, value, successor, log_rho = rng.normal(size=(4, T, B)).astype(np.float32)
    ended = terminated | truncated
    next_value = np.where(ended, successor, np.concatenate([value[1:], successor[-1:]]))
    discount = (GAMMA * (1.0 - terminated)).astype(np.float32)
    return Case(reward, discount, value, next_value, ended, log_rho)


@pytest.fixture(scope="module")
def case():
    """Columns: no end; a termination and one at the last step; a truncation, then an episode of one step; both kinds."""
    terminated, truncated = np.zeros((2, T, B), bool)
    terminated[[3, 7], 1] = True
    truncated[2, 2] = terminated[3, 2] = truncated[7, 2] = True
    truncated[2, 3] = terminated[6, 3] = True
    return make_case(terminated, truncated, seed=0)


@pytest.fixture(scope="module", params=range(3))
def random_case(request):
    """Ends anywhere."""
    rng = np.random.default_rng(10 + request.param)
    terminated = rng.random((T, B)) < 0.2
    return make_case(terminated, ~terminated & (rng.random((T, B)) < 0.2), seed=request.param)


def segments(ended):
    """(column, slice of its rows) of every episode in a rollout."""
    for b in range(B):
        start = 0
        for t in range(T):
            if ended[t, b] or t == T - 1:
                yield b, slice(start, t + 1)
                start = t + 1


def by_segment(function, ended, *arrays, **settings):
    """[T, B] of what `function` makes of each segment of `arrays`."""
    result = np.full((T, B), np.nan)
    for b, rows in segments(ended):
        result[rows, b] = function(*(array[rows, b] for array in arrays), **settings)
    return result


def by_step(function, ended):
    """[T, B] of `function(b, steps)`, `steps` from each step to the last of its segment."""
    result = np.full((T, B), np.nan)
    for b, rows in segments(ended):
        for t in range(rows.start, rows.stop):
            result[t, b] = function(b, range(t, rows.stop))
    return result


def n_step_sum(case, b, steps, n):
    """r_t + ... + discount^(n-1) r_{t+n-1} + discount^n V_{t+n} over at most the segment."""
    total, factor = 0.0, 1.0
    for k in steps[:n]:
        total += factor * case.reward[k, b]
        factor *= case.discount[k, b]
    return total + factor * case.next_value[steps[:n][-1], b]


def lambda_sum(case, b, steps, lambda_):
    """(1 - lambda) sum_n lambda^(n-1) G^(n), the rest of the weight on the longest."""
    longest = len(steps)
    weights = [(1.0 - lambda_) * lambda_ ** (n - 1) for n in range(1, longest)] + [lambda_ ** (longest - 1)]
    return sum(w * n_step_sum(case, b, steps, n) for n, w in enumerate(weights, start=1))


def first_four(case):
    return tuple(map(jnp.asarray, (case.reward, case.discount, case.next_value, case.ended)))


def for_gae(case):
    return tuple(map(jnp.asarray, case[:5]))


def for_vtrace(case):
    return tuple(map(jnp.asarray, case))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def column(*values):
    return jnp.array(values, jnp.float32)[:, None]


# --- the same as rlax -----------------------------------------------------------------------------------------------


rlax_lambda_returns = jax.jit(rlax.lambda_returns)
rlax_n_step_returns = jax.jit(rlax.n_step_bootstrapped_returns, static_argnames="n")


@jax.jit
def rlax_gae(reward, discount, value, next_value, lambda_):
    return rlax.truncated_generalized_advantage_estimation(reward, discount, lambda_, jnp.append(value, next_value[-1]))


@jax.jit
def rlax_vtrace(reward, discount, value, next_value, log_rho, clip_rho):
    """With lambda 1; below it rlax mixes q_t with V, where the paper takes v_{t+1} alone."""
    rho = jnp.exp(log_rho)
    return rlax.vtrace_td_error_and_advantage(value, next_value, reward, discount, rho, 1.0, clip_rho, clip_rho)


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_lambda_returns_equal_rlax(case, lambda_):
    arrays = case.reward, case.discount, case.next_value
    expected = by_segment(rlax_lambda_returns, case.ended, *arrays, lambda_=lambda_)
    close(lambda_returns(*first_four(case), lambda_), expected)


def test_a_lambda_of_each_step_equals_rlax(case):
    lambda_ = np.random.default_rng(5).random((T, B)).astype(np.float32)
    expected = by_segment(rlax_lambda_returns, case.ended, case.reward, case.discount, case.next_value, lambda_)
    close(lambda_returns(*first_four(case), lambda_), expected)


def test_reward_to_go_equals_rlax(case):
    reference = lambda r, d, v: rlax.discounted_returns(r, d, v[-1])  # noqa: E731
    expected = by_segment(jax.jit(reference), case.ended, case.reward, case.discount, case.next_value)
    close(reward_to_go(*first_four(case)), expected)


@pytest.mark.parametrize("n", [1, 3, 20])
def test_n_step_returns_equal_rlax(case, n):
    arrays = case.reward, case.discount, case.next_value
    close(n_step_returns(*first_four(case), n), by_segment(rlax_n_step_returns, case.ended, *arrays, n=n))


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_gae_equals_rlax(case, lambda_):
    close(gae(*for_gae(case), lambda_), by_segment(rlax_gae, case.ended, *case[:4], lambda_=lambda_))


@pytest.mark.parametrize("clip_rho", [0.8, 3.0])
def test_vtrace_equals_rlax(case, clip_rho):
    def reference(part):
        found = lambda *arrays: getattr(rlax_vtrace(*arrays, clip_rho), part)  # noqa: E731
        return by_segment(found, case.ended, *case[:4], case.log_rho)

    found = vtrace(*for_vtrace(case), clip_rho=clip_rho)
    close(found.target, case.value + reference("errors"))
    close(found.advantage, reference("pg_advantage"))


# --- the same as sums written out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_lambda_returns_are_the_weighted_n_step_returns(random_case, lambda_):
    expected = by_step(lambda b, steps: lambda_sum(random_case, b, steps, lambda_), random_case.ended)
    close(lambda_returns(*first_four(random_case), lambda_), expected)


def test_reward_to_go_is_the_sum_of_discounted_rewards(random_case):
    expected = by_step(lambda b, steps: n_step_sum(random_case, b, steps, T), random_case.ended)
    close(reward_to_go(*first_four(random_case)), expected)


@pytest.mark.parametrize("n", [1, 2, 5, T, 40])
def test_n_step_returns_are_sums_of_n_rewards(random_case, n):
    expected = by_step(lambda b, steps: n_step_sum(random_case, b, steps, n), random_case.ended)
    close(n_step_returns(*first_four(random_case), n), expected)


@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_gae_is_the_sum_of_discounted_errors(random_case, lambda_):
    reward, discount, value, next_value, ended, _ = random_case
    delta = reward + discount * next_value - value

    def advantage(b, steps):
        return sum((GAMMA * lambda_) ** k * delta[t, b] for k, t in enumerate(steps))

    close(gae(*for_gae(random_case), lambda_), by_step(advantage, ended))


def test_vtrace_is_equation_one_of_its_paper(random_case):
    reward, discount, value, next_value, ended, log_rho = random_case
    lambda_, clip_rho, clip_c = 0.8, 1.5, 0.7
    rho, c = np.minimum(clip_rho, np.exp(log_rho)), lambda_ * np.minimum(clip_c, np.exp(log_rho))
    delta = rho * (reward + discount * next_value - value)

    def target(b, steps):
        return value[steps[0], b] + sum(
            np.prod([discount[i, b] * c[i, b] for i in steps[:k]]) * delta[t, b] for k, t in enumerate(steps)
        )

    targets = by_step(target, ended)

    def advantage(b, steps):
        t = steps[0]
        successor = targets[t + 1, b] if len(steps) > 1 else next_value[t, b]
        return rho[t, b] * (reward[t, b] + discount[t, b] * successor - value[t, b])

    found = vtrace(*for_vtrace(random_case), lambda_, clip_rho, clip_c)
    close(found.target, targets)
    close(found.advantage, by_step(advantage, ended))


def test_episode_returns_repeat_the_return_of_the_first_step(random_case):
    expected = np.full((T, B), np.nan)
    for b, rows in segments(random_case.ended):
        expected[rows, b] = n_step_sum(random_case, b, range(rows.start, rows.stop), T)
    close(episode_returns(*first_four(random_case)), expected)


def test_discount_powers_count_from_the_first_step_of_each_episode(random_case):
    expected = np.full((T, B), np.nan)
    for b, rows in segments(random_case.ended):
        expected[rows, b] = GAMMA ** np.arange(rows.stop - rows.start)
    close(discount_powers(GAMMA, jnp.asarray(random_case.ended)), expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 33])
def test_recurrence_equals_a_loop(length, reverse):
    factor, own = np.random.default_rng(length).normal(size=(2, length, 3)).astype(np.float32)
    expected, x = np.zeros_like(own), np.zeros(3)
    for t in range(length)[:: -1 if reverse else 1]:
        x = own[t] + factor[t] * x
        expected[t] = x
    np.testing.assert_allclose(recurrence(factor, own, reverse), expected, rtol=1e-3, atol=1e-4)


def test_recurrence_takes_one_factor_for_all_steps():
    assert recurrence(0.5, column(8.0, 4.0, 2.0), reverse=False)[:, 0].tolist() == [8.0, 8.0, 6.0]
    assert recurrence(0.5, column(8.0, 4.0, 2.0), reverse=True)[:, 0].tolist() == [10.5, 5.0, 2.0]


# --- by hand --------------------------------------------------------------------------------------------------------

REWARD, NEXT_VALUE = column(1.0, 2.0, 4.0), column(16.0, 32.0, 8.0)
ENDS_AT_1 = column(0.0, 1.0, 0.0).astype(bool)
TRUNCATED, TERMINATED = column(0.5, 0.5, 0.5), column(0.5, 0.0, 0.5)
"""Discounts of three steps with gamma 0.5 whose second one is truncated or terminated."""


def test_a_truncated_step_bootstraps():
    found = reward_to_go(REWARD, TRUNCATED, NEXT_VALUE, ENDS_AT_1)
    assert found[:, 0].tolist() == [10.0, 18.0, 8.0]  # 1 + 18/2, 2 + 32/2, and 4 + 8/2 at the end of the rollout


def test_a_terminated_step_does_not_bootstrap():
    found = reward_to_go(REWARD, TERMINATED, NEXT_VALUE, ENDS_AT_1)
    assert found[:, 0].tolist() == [2.0, 2.0, 8.0]  # 1 + 2/2, 2, and 4 + 8/2


def test_the_last_step_of_the_rollout_bootstraps():
    found = reward_to_go(REWARD, TRUNCATED, NEXT_VALUE, jnp.zeros((3, 1), bool))
    assert found[:, 0].tolist() == [4.0, 6.0, 8.0]  # 1 + 6/2, 2 + 8/2, 4 + 8/2


def test_an_advantage_bootstraps_at_a_truncation_only():
    value = column(3.0, 5.0, 7.0)
    truncated = gae(REWARD, TRUNCATED, value, NEXT_VALUE, ENDS_AT_1, 0.5)
    terminated = gae(REWARD, TERMINATED, value, NEXT_VALUE, ENDS_AT_1, 0.5)
    # Errors 1 + 16/2 - 3 = 6, 2 + 32/2 - 5 = 13 or 2 - 5 = -3, 4 + 8/2 - 7 = 1; carried on by gamma lambda = 1/4.
    assert truncated[:, 0].tolist() == [9.25, 13.0, 1.0]
    assert terminated[:, 0].tolist() == [5.25, -3.0, 1.0]


def test_two_steps_are_cut_short_by_an_end():
    found = n_step_returns(REWARD, TERMINATED, NEXT_VALUE, ENDS_AT_1, 2)
    assert found[:, 0].tolist() == [2.0, 2.0, 8.0]  # 1 + 2/2 + 0, then 2 alone, and 4 + 8/2
    found = n_step_returns(REWARD, TRUNCATED, NEXT_VALUE, ENDS_AT_1, 2)
    assert found[:, 0].tolist() == [10.0, 18.0, 8.0]  # 1 + 2/2 + 32/4, 2 + 32/2


def test_importance_weights_are_clipped_separately():
    """rho = min(2, 4) and c = min(1, 4): v_1 = 1 + 2 (1 + 8/2 - 1), v_0 = 0 + 2 (1 + 1/2 - 0) + (1/2) (v_1 - 1)."""
    ratio, ended = jnp.log(column(4.0, 4.0)), jnp.zeros((2, 1), bool)
    found = vtrace(
        column(1.0, 1.0), column(0.5, 0.5), column(0.0, 1.0), column(1.0, 8.0), ended, ratio, clip_rho=2.0, clip_c=1.0
    )
    np.testing.assert_allclose(found.target[:, 0], [7.0, 9.0], rtol=1e-6)
    np.testing.assert_allclose(found.advantage[:, 0], [11.0, 8.0], rtol=1e-6)  # 2 (1 + 9/2 - 0), 2 (1 + 8/2 - 1)


def test_episode_returns_of_two_episodes_in_a_column():
    reward, ended = column(1.0, 2.0, 3.0, 4.0), column(0.0, 1.0, 0.0, 0.0).astype(bool)
    discount, next_value = column(0.5, 0.0, 0.5, 0.5), column(9.0, 9.0, 9.0, 8.0)
    found = episode_returns(reward, discount, next_value, ended)
    assert found[:, 0].tolist() == [2.0, 2.0, 7.0, 7.0]  # 1 + 2/2; 3 + 4/2 + 8/4
    found = episode_returns(reward, discount, jnp.zeros((4, 1)), ended)
    assert found[:, 0].tolist() == [2.0, 2.0, 5.0, 5.0]  # 1 + 2/2; 3 + 4/2


def test_discount_powers_of_three_episodes_in_a_column():
    ended = column(0.0, 1.0, 0.0, 0.0, 1.0, 0.0).astype(bool)
    assert discount_powers(0.5, ended)[:, 0].tolist() == [1.0, 0.5, 1.0, 0.5, 0.25, 1.0]


def test_discount_powers_of_gamma_zero_keep_the_first_step():
    ended = column(0.0, 0.0, 1.0, 0.0).astype(bool)
    assert discount_powers(0.0, ended)[:, 0].tolist() == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("n", [0, -3])
def test_fewer_than_one_step_is_refused(n):
    with pytest.raises(ValueError, match=f"n={n} is out of range; give at least 1"):
        n_step_returns(REWARD, TRUNCATED, NEXT_VALUE, ENDS_AT_1, n)


# --- properties -----------------------------------------------------------------------------------------------------

FUNCTIONS = {
    "lambda_returns": lambda case: lambda_returns(*first_four(case), 0.9),
    "reward_to_go": lambda case: reward_to_go(*first_four(case)),
    "episode_returns": lambda case: episode_returns(*first_four(case)),
    "n_step_returns": lambda case: n_step_returns(*first_four(case), 4),
    "gae": lambda case: gae(*for_gae(case), 0.9),
    "vtrace": lambda case: vtrace(*for_vtrace(case)),
}
"""Every function with settings under which a step sees several others."""


@pytest.fixture(scope="module", params=FUNCTIONS)
def function(request):
    return jax.jit(FUNCTIONS[request.param])


def test_nothing_leaks_across_an_end(case, function):
    """Column 3 is truncated at step 2 and terminated at 6: what other episodes are like leaves its second one bit for bit."""
    other = Case(*(array.copy() for array in case))
    for array in (other.reward, other.value, other.next_value, other.log_rho):
        array[:3, 3] += 5.0
        array[7:, 3] -= 5.0
    before, after = function(case), function(other)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a[3:7, 3], b[3:7, 3])
        assert not np.any(a[:3, 3] == b[:3, 3]) and not np.any(a[7:, 3] == b[7:, 3])


def test_a_batch_of_rollouts_equals_each_alone(case, function):
    cases = case, make_case(case.ended[::-1], np.roll(case.ended, 1, axis=1), seed=4)
    found = jax.jit(jax.vmap(function))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases))
    for i, alone in enumerate(cases):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(function(alone)), strict=True):
            close(a[i], b)


@pytest.mark.parametrize("function", ["episode_returns", "gae", "vtrace"], indirect=True)
def test_gradients_are_those_of_finite_differences(case, function):
    """Along a random direction of rewards, values and successors, in which every function is linear."""

    def total(case):
        return sum(jnp.sum(leaf * weight) for leaf in jax.tree.leaves(function(case)))

    weight, reward, value, next_value = np.random.default_rng(3).normal(size=(4, T, B)).astype(np.float32)
    moved = case._replace(reward=case.reward + reward, value=case.value + value, next_value=case.next_value + next_value)
    grads = jax.jit(jax.grad(total, allow_int=True))(case)
    slope = np.sum(grads.reward * reward) + np.sum(grads.value * value) + np.sum(grads.next_value * next_value)
    np.testing.assert_allclose(slope, total(moved) - total(case), rtol=1e-3, atol=1e-3)


def test_vtrace_stays_finite_where_the_policies_have_nothing_in_common(case):
    log_rho = jnp.where(case.log_rho > 0, 1e6, -1e6)
    found, grads = jax.jit(jax.value_and_grad(lambda x: jnp.sum(sum(returns.vtrace(*for_gae(case), x)))))(log_rho)
    assert np.isfinite(found) and np.isfinite(grads).all()


def test_vtrace_on_policy_has_the_monte_carlo_targets(case):
    found = vtrace(*for_gae(case), np.zeros((T, B), np.float32))
    close(found.target, by_step(lambda b, steps: n_step_sum(case, b, steps, T), case.ended))


def test_vtrace_of_a_policy_that_never_acts_so_leaves_the_values(case):
    found = vtrace(*for_gae(case), np.full((T, B), -np.inf, np.float32))
    np.testing.assert_array_equal(found.target, case.value)
    assert not np.any(found.advantage)
