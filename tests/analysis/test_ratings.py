"""Elo ratings: by hand, against a general optimiser, and where there is none."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import pytest
from scipy.optimize import minimize

from jaxrl.analysis.ratings import Rating, Score, draw_ratings, rate, table, told
from jaxrl.errors import UsageError


def of(ratings: list[Rating], player: str) -> Rating:
    return next(rating for rating in ratings if rating.player == player)


def test_of_two_players_the_difference_is_that_of_their_odds() -> None:
    """400 log10(w / l), with a standard error of 400 / ln 10 / sqrt(n p (1 - p))."""
    ratings = rate([Score("strong", "weak", wins=30, draws=0, losses=10)], anchor="weak")
    strong = of(ratings, "strong")
    assert strong.elo == pytest.approx(400 * math.log10(3), abs=1e-6)
    assert (strong.games, strong.score) == (40, 0.75)
    half = 1.96 * 400 / math.log(10) / math.sqrt(40 * 0.75 * 0.25)
    assert (strong.low, strong.high) == pytest.approx((strong.elo - half, strong.elo + half), abs=1e-6)
    assert of(ratings, "weak") == Rating("weak", 0.0, 0.0, 0.0, 40, 0.25)


def test_a_draw_is_half_a_win_for_both() -> None:
    drawn = rate([Score("a", "b", 5, 10, 5)], "b")
    assert of(drawn, "a").elo == pytest.approx(0.0, abs=1e-9)
    assert of(rate([Score("a", "b", 20, 20, 0)], "b"), "a").elo == pytest.approx(400 * math.log10(3), abs=1e-6)


def test_ratings_add_up_along_a_chain() -> None:
    """Where each plays its neighbours alone, each difference is that of the two; errors add up in squares."""
    ratings = rate([Score("b", "a", 20, 0, 10), Score("c", "b", 30, 0, 10), Score("c", "d", 10, 0, 40)], "a")
    expected = {"b": 2.0, "c": 6.0, "d": 24.0}
    for player, odds in expected.items():
        assert of(ratings, player).elo == pytest.approx(400 * math.log10(odds), abs=1e-6)
    width = {player: of(ratings, player).high - of(ratings, player).elo for player in expected}
    first = 1.96 * 400 / math.log(10) / math.sqrt(30 * 2 / 9)
    second = 1.96 * 400 / math.log(10) / math.sqrt(40 * 3 / 16)
    assert width["b"] == pytest.approx(first) and width["c"] == pytest.approx(math.hypot(first, second))


def test_a_general_optimiser_finds_the_same() -> None:
    generator, names = np.random.default_rng(0), [f"p{i}" for i in range(6)]
    strength = generator.normal(size=6)
    scores = []
    for i in range(6):
        for j in range(i):
            wins = int(generator.binomial(25, 1 / (1 + math.exp(strength[j] - strength[i]))))
            scores.append(Score(names[i], names[j], wins, 3, 25 - wins))

    def loss(free: np.ndarray) -> float:
        theta, total = dict(zip(names, [0.0, *free], strict=True)), 0.0
        for first, second, wins, draws, losses in scores:
            total += (wins + draws / 2) * math.log1p(math.exp(theta[second] - theta[first]))
            total += (losses + draws / 2) * math.log1p(math.exp(theta[first] - theta[second]))
        return total

    found = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x * 400 / math.log(10)
    ratings = rate(scores, "p0")
    np.testing.assert_allclose([of(ratings, name).elo for name in names], [0.0, *found], atol=1e-3)
    # The order of the table, and who is named first in a pair, change nothing.
    turned = rate([Score(b, a, losses, draws, wins) for a, b, wins, draws, losses in scores[::-1]], "p0")
    np.testing.assert_allclose([of(turned, name).elo for name in names], [0.0, *found], atol=1e-3)


def test_an_infinite_rating_is_a_bound_and_no_number() -> None:
    scores = [Score("best", "middle", 20, 0, 0), Score("middle", "worst", 20, 0, 0), Score("middle", "other", 15, 0, 5)]
    ratings = rate(scores, "middle")
    best, worst = of(ratings, "best"), of(ratings, "worst")
    assert best.elo is None and best.high is None and best.low is not None
    assert worst.elo is None and worst.low is None and worst.high == pytest.approx(-best.low)
    # Of 20.25 points of 20.5: 400 log10(81) less 1.96 standard errors.
    p = 20.25 / 20.5
    assert best.low == pytest.approx(400 * math.log10(81) - 1.96 * 400 / math.log(10) / math.sqrt(20.5 * p * (1 - p)))
    # Those whose rating is finite have it of their own games alone.
    assert of(ratings, "other").elo == pytest.approx(-400 * math.log10(3), abs=1e-6)
    assert told(best).startswith("> ") and told(worst).startswith("< ")
    assert [line.split()[0] for line in table(ratings).splitlines()] == ["player", "best", "middle", "other", "worst"]
    assert "inf" not in table(ratings) and "nan" not in table(ratings)


def test_more_games_won_raise_the_bound() -> None:
    lows = [of(rate([Score("a", "b", num, 0, 0)], "b"), "a").low for num in (1, 10, 100, 1000)]
    assert all(low is not None for low in lows) and lows == sorted(lows) and lows[-1] > 400


def test_of_players_that_nothing_ties_to_the_anchor_nothing_is_said() -> None:
    ratings = rate(
        [Score("a", "b", 3, 0, 1), Score("c", "d", 3, 0, 1), Score("a", "e", 2, 0, 0), Score("f", "e", 2, 0, 0)], "a"
    )
    for player in "cdf":
        assert of(ratings, player)[1:4] == (None, None, None) and told(of(ratings, player)) == "?"
    assert of(ratings, "b").elo is not None and of(ratings, "e").high is not None


@pytest.mark.parametrize(
    ("scores", "anchor", "message"),
    [
        ([], "a", "there are no games"),
        ([Score("a", "b", 0, 0, 0)], "a", "there are no games"),
        ([Score("a", "b", 1, 0, 1)], "c", "anchor='c' played no game; choose one of a, b"),
        ([Score("a", "a", 1, 0, 1)], "a", "is no score of two players"),
        ([Score("a", "b", -1, 0, 1)], "a", "is no score of two players"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(scores: list[Score], anchor: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rate(scores, anchor)


def test_the_curve_has_a_point_a_checkpoint_and_a_line_a_player() -> None:
    scores = [Score("@20", "@10", 6, 0, 4), Score("@10", "random", 8, 1, 1), Score("@30", "@20", 10, 0, 0)]
    ratings = rate([*scores, Score("random", "mcts:5", 0, 0, 10)], "random")
    figure = draw_ratings(ratings, {"@10": 10, "@20": 20, "@30": 30}, "random")
    (axes,) = figure.axes
    curve, arrow, *lines = axes.lines
    assert curve.get_xdata().tolist() == [10, 20]
    assert curve.get_ydata().tolist() == [of(ratings, "@10").elo, of(ratings, "@20").elo]
    # An infinite rating is no point of the curve.
    assert arrow.get_xdata() == [30] and arrow.get_ydata() == [of(ratings, "@30").low]
    assert {line.get_label(): line.get_ydata()[0] for line in lines} == {
        "random: 0, the anchor": 0.0,
        f"mcts:5: {told(of(ratings, 'mcts:5'))}": of(ratings, "mcts:5").low,
    }
    with BytesIO() as file:
        figure.savefig(file)
