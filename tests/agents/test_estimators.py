"""What the policy-gradient agents estimate: jaxrl's code on sampled episodes against the enumeration of every episode.

The exact side is `experiments/variance_reduction.py` in NumPy; here it is held to finite differences and to sums by hand first.
Inequalities between variances are asserted where they are theorems, and otherwise as facts of this MDP, with a counterexample.
"""

import sys
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))

import variance_reduction as study
from variance_reduction import ESTIMATORS, GAE_LAMBDA, SMALL_MDP, Estimator

NUM_BATCHES, BATCH = 10, 20_000
Z_MAX = 4.5
"""In standard errors. Each of 22 estimators has three free components and a variance, so a right program exceeds it with fewer
than one key in 1,000; a wrong expectation passes if it is off by less than 0.05, where the gradient's norm is 1.2."""

BY_NAME = {estimator.name: estimator for estimator in ESTIMATORS}
UNBIASED = [
    "trajectory-none",
    "trajectory-average",
    "reward_to_go-none-discounted",
    "reward_to_go-average-discounted",
    "reward_to_go-wrong_value-discounted",
    "reward_to_go-value-discounted",
    "reward_to_go-step_optimal-discounted",
    "reward_to_go-optimal-discounted",
    "gae-value-discounted",
    "td-value-discounted",
]
BASELINES = ["none", "average", "wrong_value", "value", "step_optimal", "optimal"]
every_estimator = pytest.mark.parametrize("name", BY_NAME)
with_and_without_discount = pytest.mark.parametrize("discounted", [True, False], ids=["discounted", "undiscounted"])


@cache
def enumeration():
    return study.enumerate_episodes(SMALL_MDP)


@cache
def gradient():
    return study.policy_gradient(SMALL_MDP)


@cache
def table(name):
    return study.baseline_table(SMALL_MDP, enumeration(), BY_NAME[name])


@cache
def exact(name):
    return study.exact(SMALL_MDP, enumeration(), BY_NAME[name], table(name))


@cache
def sampled():
    """Every estimator by jaxrl's code, on the same episodes."""
    tables, exacts = {e: table(e.name) for e in ESTIMATORS}, {e: exact(e.name) for e in ESTIMATORS}
    found = study.monte_carlo(jax.random.key(0), SMALL_MDP, exacts, tables, NUM_BATCHES, BATCH)
    return {estimator.name: result for estimator, result in found.items()}


def suffix(discounted):
    return "-discounted" if discounted else ""


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


# --- the exact side -------------------------------------------------------------------------------------------------


def test_the_enumeration_holds_every_episode_once():
    """Probabilities and returns agree with backward induction, which enumerates nothing."""
    episodes = enumeration()
    close(episodes.prob.sum(), 1.0)
    discounts = SMALL_MDP.gamma ** np.arange(SMALL_MDP.horizon)
    close(episodes.prob @ (discounts @ episodes.reward), SMALL_MDP.start @ study.state_values(SMALL_MDP, SMALL_MDP.logits)[0])
    lengths = episodes.counts.sum(0)
    assert all(episodes.prob[lengths == n].sum() > 0.05 for n in range(1, SMALL_MDP.horizon + 1))


def test_the_gradient_is_that_of_finite_differences():
    """Of the enumerated return, with each episode's probability under the changed policy."""
    episodes, mdp, step = enumeration(), SMALL_MDP, 1e-5
    gains = (mdp.gamma ** np.arange(mdp.horizon)) @ episodes.reward

    def expected_return(logits):
        ratio = study.softmax(logits) / study.softmax(mdp.logits)
        taken = np.where(episodes.counts > 0, ratio[episodes.state, episodes.action], 1.0)
        return (episodes.prob * taken.prod(0)) @ gains

    for index in np.ndindex(*mdp.logits.shape):
        change = np.zeros(mdp.logits.shape)
        change[index] = step
        slope = (expected_return(mdp.logits + change) - expected_return(mdp.logits - change)) / (2 * step)
        np.testing.assert_allclose(gradient()[index], slope, atol=1e-8)


def two_steps(reward, gamma=0.5):
    """State 0, then state 1, then the end, with rewards that do not depend on the action; two equally likely actions."""
    transition = np.zeros((2, 2, 2))
    transition[0, :, 1] = 1.0
    zeros = np.zeros((2, 2))
    reward = np.repeat(np.array(reward)[:, None], 2, axis=1)
    return study.MDP(np.array([1.0, 0.0]), transition, reward, zeros, zeros, np.array([1.0, -4.0]), 2, gamma)


@pytest.mark.parametrize(
    ("estimator", "weights"),
    [
        (Estimator("trajectory"), [4.0, 4.0]),  # 2 + 4/2
        (Estimator("trajectory", "average"), [0.0, 0.0]),
        (Estimator("reward_to_go"), [4.0, 4.0]),
        (Estimator("reward_to_go", discounted=True), [4.0, 2.0]),
        (Estimator("reward_to_go", "value", discounted=True), [0.0, 0.0]),
        (Estimator("reward_to_go", "wrong_value", discounted=True), [-1.0, 2.0]),  # less 5, (less 0)/2
        (Estimator("td", "wrong_value"), [-3.0, 4.0]),  # 2 + 0/2 - 5, 4 - 0
        (Estimator("gae", "wrong_value"), [-3.0 + GAE_LAMBDA * 2.0, 4.0]),
    ],
    ids=lambda value: value.name if isinstance(value, Estimator) else "",
)
def test_two_steps_by_hand(estimator, weights):
    """Rewards 2 and 4, so V is 4 in both states. phi is +-1/2 in the row of its state, so each term has square w^2 / 2."""
    mdp = two_steps([2.0, 4.0])
    episodes = study.enumerate_episodes(mdp)
    found = study.exact(mdp, episodes, estimator, study.baseline_table(mdp, episodes, estimator))
    close(found.mean, 0.0)
    close(found.variance, np.square(weights).sum() / 2)
    close(found.deviation, np.abs(weights)[:, None] / 2 * np.ones(2))


# --- jaxrl's code ---------------------------------------------------------------------------------------------------


@every_estimator
def test_sampled_mean_and_variance_are_the_exact_ones(name):
    scores = study.z_scores(sampled()[name], exact(name), NUM_BATCHES * BATCH)
    assert scores.mean < Z_MAX and abs(scores.variance) < Z_MAX


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in (*UNBIASED, "gae-wrong_value-discounted")])
def test_a_biased_estimator_is_seen_to_be_biased(name):
    """By twice what the comparison above allows, so that one would see a missing gamma^t or a critic's error."""
    error = exact(name).deviation / np.sqrt(NUM_BATCHES * BATCH)
    assert np.max(np.abs(sampled()[name].mean - gradient()) / error) > 2 * Z_MAX


# --- bias, exactly --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNBIASED)
def test_unbiased_estimators_have_the_policy_gradient_as_expectation(name):
    close(exact(name).mean, gradient())


@with_and_without_discount
@pytest.mark.parametrize("name", [f"reward_to_go-{baseline}" for baseline in BASELINES[1:]] + ["gae-value", "td-value"])
def test_no_baseline_and_no_exact_critic_changes_the_expectation(name, discounted):
    close(exact(name + suffix(discounted)).mean, exact("reward_to_go-none" + suffix(discounted)).mean)


def test_a_wrong_critic_biases_td_and_gae():
    """That GAE has the smaller bias is a fact of this MDP and this error."""
    td, gae = (np.linalg.norm(exact(f"{w}-wrong_value-discounted").mean - gradient()) for w in ("td", "gae"))
    assert td > 10 * gae > 0.1


# --- variance, exactly ----------------------------------------------------------------------------------------------


@with_and_without_discount
@pytest.mark.parametrize("baseline", BASELINES[:-1])
def test_a_baseline_costs_its_weighted_squared_distance_from_the_optimal_one(baseline, discounted):
    """Var(b) = Var(b*) + sum_t E[f_t^2 |phi_t|^2 (b - b*)^2]: no baseline has less variance than the optimal one."""
    name, best = (f"reward_to_go-{kind}{suffix(discounted)}" for kind in (baseline, "optimal"))
    episodes, steps = enumeration(), np.arange(SMALL_MDP.horizon)
    factors = SMALL_MDP.gamma**steps if discounted else np.ones(len(steps))
    distance = np.stack([(table(name) - table(best))[t, episodes.state[t]] for t in steps])
    cost = np.square(factors[:, None] * distance) * np.square(episodes.score).sum((2, 3))
    assert episodes.prob @ cost.sum(0) > 1e-3
    close(exact(name).variance, exact(best).variance + episodes.prob @ cost.sum(0))


@with_and_without_discount
@pytest.mark.parametrize("baseline", [kind for kind in BASELINES if kind != "step_optimal"])
def test_the_step_optimal_baseline_has_the_least_variance_step_by_step(baseline, discounted):
    name, best = (f"reward_to_go-{kind}{suffix(discounted)}" for kind in (baseline, "step_optimal"))
    assert exact(best).step_variance < exact(name).step_variance


@with_and_without_discount
def test_a_shorter_look_ahead_with_an_exact_critic_has_less_variance_step_by_step(discounted):
    """Given what came before, an exact critic's TD errors have expectation zero, so their variances add, each times
    (gamma lambda)^2k: the less, the smaller lambda."""
    names = [f"{weight}-value{suffix(discounted)}" for weight in ("td", "gae", "reward_to_go")]
    td, gae, to_go = (exact(name).step_variance for name in names)
    assert td < gae < to_go


def test_reward_to_go_may_vary_more_than_the_whole_return():
    """Rewards 1 and -2 with gamma 1/2: the whole return is always 0, what is left after the first step is not."""
    mdp = two_steps([1.0, -2.0])
    episodes, none = study.enumerate_episodes(mdp), np.zeros((3, 2))
    close(study.exact(mdp, episodes, Estimator("trajectory"), none).variance, 0.0)
    close(study.exact(mdp, episodes, Estimator("reward_to_go", discounted=True), none).variance, 0.5)


def test_each_rung_varies_less_than_the_one_before_on_this_mdp():
    """Not a theorem, by the test above, but for the last baseline."""
    rungs = ["trajectory-none"]
    rungs += [f"reward_to_go-{kind}-discounted" for kind in ("none", "average", "value", "step_optimal", "optimal")]
    variances = [exact(name).variance for name in rungs]
    assert variances == sorted(variances, reverse=True) and len(set(variances)) == len(rungs)


def test_bootstrapping_from_an_exact_critic_varies_less_on_this_mdp():
    """As a sum over steps; step by step it is a theorem, see above."""
    td, gae, to_go = (exact(f"{weight}-value-discounted").variance for weight in ("td", "gae", "reward_to_go"))
    assert td < gae < to_go
