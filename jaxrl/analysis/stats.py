"""Statistics of few runs: interquartile mean, bootstrap intervals, probability of improvement, performance profiles.

A run gives one score; runs that differ by their seed alone are a sample, and a handful of them says little by its mean alone.
What to report instead is set out in Agarwal, Schwarzer, Castro, Courville and Bellemare 2021, "Deep reinforcement learning at
the edge of the statistical precipice" (NeurIPS), cited below as Agarwal et al.

    low, high = bootstrap_interval(scores, statistic=interquartile_mean)
    better = probability_of_improvement(scores, other_scores)

Scores are plain NumPy arrays without missing values: [N] of N runs. Where runs come from several tasks or configs, `strata` [N]
says which: runs are then drawn anew within each, so that every draw holds as many of each as the sample does. Results are
the same in every call: draws come from a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

_BLOCK = 4_000_000
"""Numbers that a bootstrap holds at once."""
_PERMUTATIONS = 9999

Statistic = Callable[..., Any]
"""(values [..., N, ...], axis=) -> the values without that axis, as `numpy.mean` is."""


# --- one number for many runs ---------------------------------------------------------------------------------------


def interquartile_mean(values: np.ndarray, axis: int | None = None) -> Any:
    """Mean of the middle half of the runs: less at the mercy of one outlier than the mean, less wasteful than the median.

    Whole runs are cut: floor(N / 4) of each end, so of fewer than 4 none is, and of 10 the middle 6 remain. That is
    `scipy.stats.trim_mean(values, 0.25)`, which Agarwal et al., section 4.3, use too.

    Args:
      values: [..., N, ...].
      axis: that of the runs; None takes all values as runs.
    """
    from scipy.stats import trim_mean

    return trim_mean(values, 0.25, axis=axis)


def optimality_gap(values: np.ndarray, target: float = 1.0, axis: int | None = None) -> Any:
    """How far runs stay below a target on average: mean of max(target - value, 0). Lower is better.

    What exceeds the target does not make up for what falls short. Agarwal et al., section 4.3.

    Args:
      values: [..., N, ...].
      target: the score that is good enough, such as an environment's threshold of being solved.
    """
    return np.maximum(target - np.asarray(values, float), 0.0).mean(axis=axis)


def area_under_curve(env_steps: np.ndarray, values: np.ndarray) -> float:
    """Height of a learning curve on average: its integral by trapezoids over env steps, divided by their range.

    Args:
      env_steps: [K], increasing.
      values: [K]; NaN where the curve has no value. Such points are left out, so that a gap is bridged by a line, and the
        range is that from the first value to the last.

    Returns:
      NaN without any value, the value itself of a single one.

    Raises:
      ValueError: lengths that differ, or env steps that do not increase.
    """
    from scipy.integrate import trapezoid

    env_steps, values = np.asarray(env_steps, float), np.asarray(values, float)
    if env_steps.shape != values.shape or env_steps.ndim != 1:
        raise ValueError(f"env_steps {env_steps.shape} and values {values.shape} must be two lists of one length")
    if (np.diff(env_steps) <= 0).any():
        raise ValueError("env_steps do not increase; sort the curve and leave double points out")
    present = ~np.isnan(values)
    env_steps, values = env_steps[present], values[present]
    if len(values) < 2:
        return float(values[0]) if len(values) else math.nan
    return float(trapezoid(values, env_steps) / (env_steps[-1] - env_steps[0]))


def performance_profile(values: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """Fraction of runs that score above each tau: P(X > tau), the score distribution of Agarwal et al., section 4.2.

    Args:
      values: [N].
      taus: [K].

    Returns:
      [K], not increasing where taus increase.
    """
    return _above(values, taus).mean(axis=0)


def profile_band(
    values: np.ndarray, taus: np.ndarray, level: float = 0.95, draws: int = 2000, strata: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of `performance_profile` at each tau for itself.

    Returns:
      low, high: [K].
    """
    return bootstrap_interval(_above(values, taus), level, draws, strata=strata)


def _above(values: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """[N, K] 1 where a run scores above tau, else 0."""
    return (np.asarray(values, float)[:, None] > np.asarray(taus, float)).astype(float)


# --- bootstrap ------------------------------------------------------------------------------------------------------


def bootstrap_interval(
    values: np.ndarray,
    level: float = 0.95,
    draws: int = 2000,
    statistic: Statistic = np.mean,
    strata: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of a statistic over axis 0, the mean unless another is given.

    Of a single run the interval is that run: it says nothing then.

    Args:
      values: [N, ...].
      strata: [N] labels; runs are drawn anew within each (Agarwal et al., section 4.1).

    Returns:
      low, high: [...]. Efron and Tibshirani 1993, section 13.3.
    """
    return _interval(_bootstrap(values, statistic, strata, draws, seed=0), level)


def difference_interval(
    x: np.ndarray,
    y: np.ndarray,
    level: float = 0.95,
    draws: int = 2000,
    statistic: Statistic = np.mean,
    strata_x: np.ndarray | None = None,
    strata_y: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of statistic(x) - statistic(y), both drawn anew independently.

    Args:
      x, y: [N, ...], [M, ...].
      strata_x, strata_y: [N], [M] labels.
    """
    differences = _bootstrap(x, statistic, strata_x, draws, seed=0) - _bootstrap(y, statistic, strata_y, draws, seed=1)
    return _interval(differences, level)


def _bootstrap(values: np.ndarray, statistic: Statistic, strata: np.ndarray | None, draws: int, seed: int) -> np.ndarray:
    """[draws, ...] the statistic of as many samples drawn with replacement."""
    values = np.asarray(values, float)
    index = _drawn(len(values), strata, draws, np.random.default_rng(seed))
    blocks = np.array_split(index, max(1, min(draws, math.ceil(draws * values.size / _BLOCK))))
    return np.concatenate([np.asarray(statistic(values[block], axis=1)) for block in blocks])


def _drawn(num: int, strata: np.ndarray | None, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[draws, num] indices drawn with replacement within each stratum."""
    if num == 0:
        raise ValueError("values is empty; a bootstrap needs at least one run")
    if strata is None:
        return rng.integers(0, num, (draws, num))
    index = np.empty((draws, num), int)
    for members in _members(strata, num):
        index[:, members] = members[rng.integers(0, len(members), (draws, len(members)))]
    return index


def _members(strata: np.ndarray, num: int) -> list[np.ndarray]:
    """Indices of the runs of each stratum."""
    strata = np.asarray(strata)
    if strata.shape != (num,):
        raise ValueError(f"strata has shape {strata.shape} for {num} runs; give one label for each run")
    return [np.flatnonzero(strata == label) for label in np.unique(strata)]


def _interval(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(samples, [tail, 1.0 - tail], axis=0)
    return low, high


def wilson_interval(successes: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, which holds also near 0 and 1, and of few trials.

    Args:
      successes: of the trials; a draw counts half, with which the interval is rather too wide than too narrow.
      trials: at least 1.

    References:
      Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    share, scale = successes / trials, 1.0 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z * math.sqrt(share * (1.0 - share) / trials + z * z / (4 * trials * trials)) / scale
    return max(middle - half, 0.0), min(middle + half, 1.0)


# --- two samples ----------------------------------------------------------------------------------------------------


def probability_of_improvement(
    x: np.ndarray, y: np.ndarray, strata_x: np.ndarray | None = None, strata_y: np.ndarray | None = None
) -> float:
    """P(X > Y) + P(X = Y) / 2: how likely a run of X beats one of Y. It is the Mann-Whitney U of x divided by N M.

    Args:
      x, y: [N], [M].
      strata_x, strata_y: [N], [M] labels, the same ones in both; the mean of the strata's probabilities is taken then.
        Agarwal et al., section 4.3.
    """
    return float(np.mean([_wins(x_s, y_s).mean() for x_s, y_s in _pairs(x, y, strata_x, strata_y)]))


def improvement_interval(
    x: np.ndarray,
    y: np.ndarray,
    level: float = 0.95,
    draws: int = 2000,
    strata_x: np.ndarray | None = None,
    strata_y: np.ndarray | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `probability_of_improvement`; x and y are drawn anew independently."""
    rng = np.random.default_rng(0)
    pairs = _pairs(x, y, strata_x, strata_y)
    total = np.zeros(draws)
    for x_s, y_s in pairs:
        # How often each run is drawn is all that matters: [draws, N] and [draws, M].
        share_x, share_y = (rng.multinomial(len(z), np.full(len(z), 1 / len(z)), draws) / len(z) for z in (x_s, y_s))
        total += (share_x @ _wins(x_s, y_s) * share_y).sum(axis=1)
    low, high = _interval(total / len(pairs), level)
    return float(low), float(high)


def _wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[N, M] 1 where x beats y, 1/2 where they tie, else 0."""
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def _pairs(
    x: np.ndarray, y: np.ndarray, strata_x: np.ndarray | None, strata_y: np.ndarray | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores of both samples stratum by stratum."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if not len(x) or not len(y):
        raise ValueError(f"x has {len(x)} and y {len(y)} runs; each needs at least one")
    if strata_x is None and strata_y is None:
        return [(x, y)]
    if strata_x is None or strata_y is None or set(np.unique(strata_x)) != set(np.unique(strata_y)):
        raise ValueError("strata_x and strata_y must hold the same labels")
    return [(x[m], y[n]) for m, n in zip(_members(strata_x, len(x)), _members(strata_y, len(y)), strict=True)]


def permutation_p_value(
    x: np.ndarray,
    y: np.ndarray,
    statistic: Statistic = np.mean,
    strata_x: np.ndarray | None = None,
    strata_y: np.ndarray | None = None,
) -> float:
    """Two-sided permutation test of statistic(x) = statistic(y): were runs dealt to x and y by chance?

    Runs are dealt anew within their stratum: of a single one in all ways where these are fewer than 10,000
    (`scipy.stats.permutation_test`), else 9,999 times by chance with the sample itself counted in (Phipson and Smyth 2010), so
    that p is never 0. Twice the smaller tail is taken.
    """
    pairs = _pairs(x, y, strata_x, strata_y)
    if len(pairs) == 1 and min(map(len, pairs[0])) > 1:
        from scipy.stats import permutation_test

        def difference(a: np.ndarray, b: np.ndarray, axis: int) -> Any:
            return statistic(a, axis=axis) - statistic(b, axis=axis)

        test = permutation_test(
            pairs[0],
            difference,
            vectorized=True,
            n_resamples=_PERMUTATIONS,
            batch=1000,
            random_state=np.random.default_rng(0),
        )
        return float(test.pvalue)
    rng = np.random.default_rng(0)
    dealt_x, dealt_y = [], []
    for x_s, y_s in pairs:
        pooled = rng.permuted(np.tile(np.concatenate([x_s, y_s]), (_PERMUTATIONS, 1)), axis=1)
        dealt_x.append(pooled[:, : len(x_s)])
        dealt_y.append(pooled[:, len(x_s) :])
    by_chance = statistic(np.concatenate(dealt_x, axis=1), axis=1) - statistic(np.concatenate(dealt_y, axis=1), axis=1)
    found = statistic(np.concatenate([a for a, _ in pairs]), axis=0) - statistic(np.concatenate([b for _, b in pairs]), axis=0)
    # Sums in another order may differ in their last bits: those are ties.
    slack = 1e-12 * max(abs(float(found)), float(np.abs(by_chance).max()))
    tails = [(by_chance >= found - slack).sum(), (by_chance <= found + slack).sum()]
    return min(1.0, 2.0 * (min(tails) + 1) / (_PERMUTATIONS + 1))


def smallest_p_value(
    x: np.ndarray, y: np.ndarray, strata_x: np.ndarray | None = None, strata_y: np.ndarray | None = None
) -> float:
    """The p that `permutation_p_value` gives at best for samples of these sizes: 2 over the number of ways to deal them."""
    ways = math.prod(math.comb(len(x_s) + len(y_s), len(x_s)) for x_s, y_s in _pairs(x, y, strata_x, strata_y))
    return min(1.0, 2.0 / min(ways, _PERMUTATIONS + 1))


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values of many tests, raised so that the chance of any false alarm stays at the level of one test.

    The k-th smallest of n becomes the largest of (n - i) p_i over i = 0 .. k, at most 1. Holm 1979.

    Args:
      p_values: [n].
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    result = np.empty_like(p_values)
    result[order] = np.minimum(raised, 1.0)
    return result
