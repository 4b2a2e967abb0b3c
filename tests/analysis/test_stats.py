"""Statistics of few runs, against SciPy and values worked by hand."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxrl.analysis import curves as plot
from jaxrl.analysis import stats
from jaxrl.analysis.stats import interquartile_mean

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
SAMPLES = arrays(float, st.integers(1, 20), elements=NUMBERS)
TIED = arrays(float, st.integers(1, 8), elements=st.integers(0, 4))
RNG = np.random.default_rng(7)
RUNS, OTHERS = RNG.normal(10.0, 3.0, 12), RNG.normal(12.0, 2.0, 9)


# --- one number for many runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 9.0], 4.0),  # Of three none is cut.
        ([9.0, 1.0, 2.0, 3.0], 2.5),
        ([1.0, 2.0, 3.0, 4.0, 100.0], 3.0),  # floor(5 / 4) = 1 of each end.
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 50.0, 90.0], 3.5),  # The middle six of ten.
    ],
)
def test_interquartile_mean_cuts_whole_runs_of_both_ends(values, expected):
    assert interquartile_mean(np.array(values)) == pytest.approx(expected)


@given(SAMPLES)
def test_interquartile_mean_lies_within_the_quartiles_neighbours_and_ignores_order(values):
    ordered, cut = np.sort(values), len(values) // 4
    found = interquartile_mean(values)
    slack = 1e-9 * (1.0 + np.abs(values).max())
    assert ordered[cut] - slack <= found <= ordered[len(values) - 1 - cut] + slack
    assert interquartile_mean(values[::-1]) == pytest.approx(found, abs=slack)


def test_interquartile_mean_reduces_one_axis():
    values = RNG.normal(size=(9, 5))
    expected = [np.sort(values[:, column])[2:7].mean() for column in range(5)]
    np.testing.assert_allclose(interquartile_mean(values, axis=0), expected)


def test_optimality_gap_gives_no_credit_above_the_target():
    assert stats.optimality_gap(np.array([0.5, 2.0, 0.0]), target=1.0) == pytest.approx(0.5)
    assert stats.optimality_gap(np.array([3.0, 4.0]), target=2.0) == 0.0


def test_area_under_curve_is_the_mean_height():
    # Trapezoids: (0 + 10) / 2 * 1 + 10 * 3 = 35 over a range of 4.
    assert stats.area_under_curve(np.array([1, 2, 5]), np.array([0.0, 10.0, 10.0])) == pytest.approx(8.75)


def test_area_under_curve_passes_over_missing_points():
    env_steps, values = np.array([0, 10, 20, 30, 40]), np.array([np.nan, 2.0, np.nan, 6.0, np.nan])
    assert stats.area_under_curve(env_steps, values) == pytest.approx(4.0)
    assert stats.area_under_curve(env_steps[:3], values[:3]) == 2.0
    assert math.isnan(stats.area_under_curve(env_steps[:1], values[:1]))
    assert math.isnan(stats.area_under_curve(np.array([]), np.array([])))


def test_area_under_curve_refuses_env_steps_that_do_not_increase():
    with pytest.raises(ValueError, match="do not increase"):
        stats.area_under_curve(np.array([0, 2, 2]), np.zeros(3))
    with pytest.raises(ValueError, match="one length"):
        stats.area_under_curve(np.array([0, 2]), np.zeros(3))


@given(SAMPLES, arrays(float, 6, elements=NUMBERS))
def test_performance_profile_counts_runs_above_tau(values, taus):
    taus = np.sort(taus)
    profile = stats.performance_profile(values, taus)
    assert profile.tolist() == [sum(value > tau for value in values) / len(values) for tau in taus]
    assert (np.diff(profile) <= 0.0).all()


def test_a_score_at_tau_is_not_above_it():
    assert stats.performance_profile(np.array([1.0, 2.0]), np.array([1.0, 2.0])).tolist() == [0.5, 0.0]


def test_the_band_holds_the_profile():
    taus = np.linspace(4.0, 16.0, 7)
    low, high = stats.profile_band(RUNS, taus)
    profile = stats.performance_profile(RUNS, taus)
    assert ((low <= profile) & (profile <= high)).all()
    # At each tau the count is binomial(12, profile); its quantiles are those of the bootstrap but for chance.
    assert np.abs(low - scipy.stats.binom.ppf(0.025, 12, profile) / 12).max() <= 1 / 12 + 1e-9
    assert np.abs(high - scipy.stats.binom.ppf(0.975, 12, profile) / 12).max() <= 1 / 12 + 1e-9


# --- bootstrap ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", [np.mean, interquartile_mean, np.median])
def test_bootstrap_agrees_with_scipy(statistic):
    low, high = stats.bootstrap_interval(RUNS, draws=20_000, statistic=statistic)
    test = scipy.stats.bootstrap(
        (RUNS,), statistic, method="percentile", n_resamples=20_000, random_state=np.random.default_rng(3)
    )
    width = test.confidence_interval.high - test.confidence_interval.low
    assert low == pytest.approx(test.confidence_interval.low, abs=0.06 * width)
    assert high == pytest.approx(test.confidence_interval.high, abs=0.06 * width)


def test_difference_interval_agrees_with_scipy():
    low, high = stats.difference_interval(RUNS, OTHERS, draws=20_000)
    test = scipy.stats.bootstrap(
        (RUNS, OTHERS),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        method="percentile",
        n_resamples=20_000,
        random_state=np.random.default_rng(3),
    )
    assert low == pytest.approx(test.confidence_interval.low, abs=0.15)
    assert high == pytest.approx(test.confidence_interval.high, abs=0.15)


def test_both_sides_of_a_difference_are_drawn_independently():
    low, high = stats.difference_interval(RUNS, RUNS)
    error = 1.96 * math.sqrt(2.0) * RUNS.std() / math.sqrt(len(RUNS))
    assert (low, high) == pytest.approx((-error, error), rel=0.1)


def test_runs_are_drawn_within_their_stratum():
    # Within each stratum all are equal, so that every draw has the mean of the sample.
    values, strata = np.array([0.0, 8.0, 0.0, 8.0, 8.0]), np.array([3, 1, 3, 1, 1])
    low, high = stats.bootstrap_interval(values, strata=strata)
    assert (low, high) == pytest.approx((4.8, 4.8))
    low, high = stats.bootstrap_interval(values)
    assert high - low > 3.0


def test_a_single_stratum_is_no_stratum():
    plain = stats.bootstrap_interval(RUNS, statistic=interquartile_mean)
    strata = stats.bootstrap_interval(RUNS, statistic=interquartile_mean, strata=np.full(12, "a"))
    assert plain == strata


def test_a_bootstrap_in_blocks_is_that_in_one(monkeypatch):
    values = RNG.normal(size=(6, 40))
    whole = stats.bootstrap_interval(values)
    monkeypatch.setattr(stats, "_BLOCK", 1000)
    np.testing.assert_array_equal(stats.bootstrap_interval(values), whole)


def test_a_wider_level_gives_a_wider_interval():
    narrow, wide = stats.bootstrap_interval(RUNS, level=0.5), stats.bootstrap_interval(RUNS, level=0.99)
    assert wide[0] < narrow[0] < RUNS.mean() < narrow[1] < wide[1]


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    samples = np.random.default_rng(11).normal(size=(400, 20))
    covered = [low <= 0.0 <= high for low, high in (stats.bootstrap_interval(sample, draws=500) for sample in samples)]
    # Percentile intervals of 20 runs are a little narrow: 93 % rather than 95 %.
    assert 0.88 <= np.mean(covered) <= 0.97


@settings(max_examples=25)
@given(SAMPLES)
def test_an_interval_lies_within_the_sample(values):
    low, high = stats.bootstrap_interval(values, draws=50)
    slack = 1e-9 * (1.0 + np.abs(values).max())
    assert values.min() - slack <= low <= high <= values.max() + slack


def test_there_is_one_bootstrap():
    assert plot.bootstrap_interval is stats.bootstrap_interval


@pytest.mark.parametrize(
    ("values", "strata", "message"),
    [([], None, "values is empty"), ([1.0, 2.0], [0], "one label for each run")],
)
def test_bootstrap_refuses_what_it_cannot_draw_from(values, strata, message):
    with pytest.raises(ValueError, match=message):
        stats.bootstrap_interval(np.array(values), strata=strata)


# --- two samples ----------------------------------------------------------------------------------------------------


def test_probability_of_improvement_by_hand():
    # 3 beats 1 and 2 and ties with 3; 1 ties with 1: (2.5 + 0.5) / 6.
    assert stats.probability_of_improvement(np.array([3.0, 1.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.5)


@given(
    arrays(float, st.integers(1, 8), elements=st.integers(0, 4)), arrays(float, st.integers(1, 8), elements=st.integers(0, 4))
)
def test_probability_of_improvement_is_the_mann_whitney_u(x, y):
    u = scipy.stats.mannwhitneyu(x, y).statistic
    assert stats.probability_of_improvement(x, y) == pytest.approx(u / (len(x) * len(y)))
    assert stats.probability_of_improvement(y, x) == pytest.approx(1.0 - stats.probability_of_improvement(x, y))


def test_probability_of_improvement_is_the_mean_over_strata():
    x, y = np.array([5.0, 6.0, 0.0]), np.array([1.0, 1.0, 9.0])
    strata_x, strata_y = np.array([0, 0, 1]), np.array([0, 1, 0])
    # Stratum 0: {5, 6} against {1, 9} is 1/2; stratum 1: 0 against 1 is 0.
    assert stats.probability_of_improvement(x, y, strata_x, strata_y) == pytest.approx(0.25)


def test_improvement_interval_agrees_with_scipy():
    low, high = stats.improvement_interval(RUNS, OTHERS, draws=20_000)
    test = scipy.stats.bootstrap(
        (RUNS, OTHERS),
        stats.probability_of_improvement,
        vectorized=False,
        method="percentile",
        n_resamples=3000,
        random_state=np.random.default_rng(3),
    )
    assert (low, high) == pytest.approx(tuple(test.confidence_interval), abs=0.03)


def test_samples_apart_leave_no_doubt():
    assert stats.improvement_interval(np.array([5.0, 6.0]), np.array([1.0, 2.0, 3.0])) == (1.0, 1.0)


def test_strata_must_be_the_same_in_both():
    with pytest.raises(ValueError, match="same labels"):
        stats.probability_of_improvement(RUNS[:2], RUNS[:2], np.array([0, 1]), np.array([0, 2]))
    with pytest.raises(ValueError, match="same labels"):
        stats.probability_of_improvement(RUNS[:2], RUNS[:2], np.array([0, 1]))
    with pytest.raises(ValueError, match="at least one"):
        stats.probability_of_improvement(RUNS[:0], RUNS)


def test_permutation_test_by_hand():
    # Of the 6 ways to deal 4 runs into pairs one is as extreme on this side: 2 * 1/6.
    assert stats.permutation_p_value(np.array([1.0, 2.0]), np.array([7.0, 9.0])) == pytest.approx(1 / 3)
    assert stats.smallest_p_value(np.array([1.0, 2.0]), np.array([7.0, 9.0])) == pytest.approx(1 / 3)


def test_permutation_test_in_strata_by_hand():
    # Two strata of 2 against 2: one way of 36 has both on their sides.
    x, y, strata = np.array([1.0, 2.0, 101.0, 102.0]), np.array([7.0, 9.0, 107.0, 109.0]), np.array([0, 0, 1, 1])
    assert stats.smallest_p_value(x, y, strata, strata) == pytest.approx(2 / 36)
    assert stats.permutation_p_value(x, y, strata_x=strata, strata_y=strata) == pytest.approx(2 / 36, abs=0.012)
    # Without strata the spread between them hides the difference.
    assert stats.permutation_p_value(x, y) > 0.5


def test_permutation_test_is_fair_where_nothing_differs():
    rng = np.random.default_rng(2)
    strata = np.array([0, 0, 0, 1, 1, 1])
    found = [stats.permutation_p_value(*rng.normal(size=(2, 6)), strata_x=strata, strata_y=strata) for _ in range(60)]
    assert 0.3 < np.mean(found) < 0.7
    assert np.mean(np.array(found) < 0.05) <= 0.15


def test_one_run_against_several_has_a_p_value():
    assert stats.permutation_p_value(np.array([9.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.5, abs=0.03)
    assert stats.permutation_p_value(np.array([9.0]), np.array([9.0, 9.0])) == 1.0


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.8 times 4, 3, 2, 1: the third may not be below the second.
    found = stats.holm(np.array([0.03, 0.01, 0.8, 0.02]))
    np.testing.assert_allclose(found, [0.06, 0.04, 0.8, 0.06])
    assert stats.holm(np.array([])).tolist() == []


@given(arrays(float, st.integers(1, 10), elements=st.floats(0.0, 1.0)))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    raised = stats.holm(p_values)
    assert (raised >= p_values).all()
    assert (raised <= np.minimum(1.0, p_values * len(p_values)) + 1e-12).all()


# --- shares ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (3, 10), (95, 100), (200, 200)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_of_a_share_is_wilsons(successes, trials, level):
    expected = scipy.stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert stats.wilson_interval(successes, trials, level) == pytest.approx(expected, abs=1e-12)


def test_a_half_won_trial_lies_in_between():
    (low, high), (lower, _), (_, higher) = (stats.wilson_interval(successes, 9) for successes in (4.5, 4, 5))
    assert lower < low < high < higher
