"""Verdicts on made-up results: one of each kind, and what must never pass for a success."""

import dataclasses
import math

import pytest

from jaxrl.claims import BEST, GREEDY, LAST, Claim, Protocol, Published, check_claim
from jaxrl.claims.claim import mismatches
from jaxrl.claims.verdict import allowed_half_width, judge, rounding
from jaxrl.errors import UsageError

PUBLISHED = Published(
    mean=480.0,
    deviation=10.0,
    kind="seeds",
    num_seeds=3,
    source="a paper, table 1",
    env_steps=500_000,
    random=20.0,
    protocol=Protocol(score=LAST, sticky_actions=0.1, frame_skip=4, action_set="full", length_cap=0, rules="v1"),
)
CLAIM = Claim(
    name="made-up",
    agent="ppo",
    env="CartPole-v1",
    total_steps=500_000,
    seeds=(0, 1, 2, 3),
    published=PUBLISHED,
    protocol=PUBLISHED.protocol,
)


def scores(*values):
    return dict(enumerate(values))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ((490.0, 495.0, 492.0, 494.0), "above"),
        ((470.0, 490.0, 478.0, 484.0), "reproduced"),
        ((440.0, 450.0, 445.0, 455.0), "below"),
        ((100.0, 900.0, 200.0, 800.0), "inconclusive"),
        ((480.0, 480.0, 480.0, 480.0), "reproduced"),
    ],
)
def test_each_verdict_has_its_scores(values, word):
    assert judge(CLAIM, scores(*values)).word == word


def test_seeds_wild_enough_to_hold_any_mean_are_no_success():
    judged = judge(CLAIM, scores(0.0, 1000.0, 0.0, 1000.0))
    assert judged.interval[0] < 480.0 < judged.interval[1]
    assert judged.word == "inconclusive"


def published(mean, random):
    return dataclasses.replace(PUBLISHED, mean=mean, deviation=None, kind="none", random=random)


@pytest.mark.parametrize(
    ("mean", "random", "digit"),
    [(500.0, 22.0, 0.5), (-76.6, -500.0, 0.05), (-217.91, -1230.0, 0.005), (1.0, 0.0, 0.01), (12139.0, -280.0, 0.5)],
)
def test_a_published_mean_stands_for_what_prints_as_it_does(mean, random, digit):
    assert rounding(published(mean, random)) == pytest.approx(digit)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ((500.0,) * 5, "reproduced"),
        ((499.97, 499.99, 499.98, 499.99, 499.99), "reproduced"),
        ((499.3, 499.4, 499.4, 499.3, 499.4), "below"),
    ],
)
def test_the_last_printed_digit_decides_nothing_that_it_does_not_say(values, word):
    claim = dataclasses.replace(CLAIM, published=published(500.0, 22.0), seeds=tuple(range(5)))
    assert judge(claim, scores(*values)).word == word


def test_the_interval_of_three_seeds_is_their_range():
    claim = dataclasses.replace(CLAIM, seeds=(0, 1, 2))
    assert judge(claim, scores(470.0, 490.0, 478.0)).interval == (470.0, 490.0)


def test_the_width_allowed_is_the_larger_of_deviation_and_a_tenth_of_the_way():
    assert allowed_half_width(CLAIM) == pytest.approx(46.0)  # 0.1 * (480 - 20), above the deviation of 10.
    wide = dataclasses.replace(PUBLISHED, deviation=60.0)
    assert allowed_half_width(dataclasses.replace(CLAIM, published=wide)) == 60.0
    of_episodes = dataclasses.replace(wide, kind="episodes")
    assert allowed_half_width(dataclasses.replace(CLAIM, published=of_episodes)) == pytest.approx(46.0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"score": GREEDY}, "greedy episodes of the final policy"),
        ({"score": BEST}, "mean over seeds is best"),
        ({"sticky_actions": 0.0}, "sticky actions 0.0, published 0.1"),
        ({"frame_skip": 1}, "frame skip 1, published 4"),
        ({"action_set": "minimal"}, "action set minimal, published full"),
        ({"length_cap": 1000}, "length cap 1000, published 0"),
        ({"rules": "v2"}, "rules v2, published v1"),
    ],
)
def test_another_protocol_is_not_comparable_and_says_in_what(change, says):
    claim = dataclasses.replace(CLAIM, protocol=dataclasses.replace(CLAIM.protocol, **change))
    judged = judge(claim, scores(490.0, 495.0, 492.0, 494.0))
    assert judged.word == "not comparable"
    assert says in judged.reasons[0]


def test_a_larger_budget_is_not_comparable_and_a_smaller_one_is():
    good = scores(490.0, 495.0, 492.0, 494.0)
    assert judge(CLAIM, good, env_steps=520_000).word == "not comparable"
    assert judge(CLAIM, good, env_steps=504_000).word == "above"
    assert judge(CLAIM, good, env_steps=100_000).word == "above"


def test_the_number_of_episodes_and_what_is_not_told_are_no_mismatch():
    theirs = dataclasses.replace(PUBLISHED, protocol=dataclasses.replace(PUBLISHED.protocol, episodes=10, frame_skip=None))
    assert mismatches(dataclasses.replace(CLAIM, published=theirs)) == []


def test_what_is_not_told_of_ours_does_not_hide_a_difference():
    ours = dataclasses.replace(CLAIM.protocol, sticky_actions=None)
    assert mismatches(dataclasses.replace(CLAIM, protocol=ours)) == ["sticky actions not told, published 0.1"]


@pytest.mark.parametrize("values", [(490.0,), (490.0, 480.0)])
def test_of_fewer_than_three_seeds_there_is_no_interval(values):
    claim = dataclasses.replace(CLAIM, seeds=tuple(range(len(values))))
    judged = judge(claim, scores(*values))
    assert (judged.word, judged.interval) == ("single run", None)


@pytest.mark.parametrize("failed", [math.nan, math.inf, -math.inf])
def test_a_seed_that_became_nan_or_infinite_counts_as_random_play(failed):
    judged = judge(CLAIM, scores(490.0, failed, 492.0, 494.0))
    assert judged.mean == pytest.approx((490.0 + 20.0 + 492.0 + 494.0) / 4)
    assert judged.num_failed == 1
    assert "1 of 4 seeds failed" in judged.reasons[0]


def test_a_claim_whose_seeds_all_failed_is_below():
    assert judge(CLAIM, scores(*[math.nan] * 4)).word == "below"


def test_an_unfinished_run_has_no_verdict():
    judged = judge(CLAIM, scores(490.0, 495.0, None))
    assert judged.word == "unfinished"
    assert "2, 3" in judged.reasons[-1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chosen_on": (3, 100)}, r"seeds=\[3\]"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "different ones"),
        ({"seeds": 3}, "seeds=3 must be a tuple"),
        ({"config": None}, "config=None must be of type"),
        ({"name": "../elsewhere"}, "is no name of a file"),
        ({"protocol": Protocol(score="luck")}, "'luck'"),
        ({"protocol": Protocol(score=GREEDY, episodes=10)}, "episodes=10 of its protocol are not the 100"),
        ({"protocol": Protocol(score=BEST)}, "eval_every"),
        ({"published": dataclasses.replace(PUBLISHED, kind="vibes")}, "'vibes'"),
        ({"published": dataclasses.replace(PUBLISHED, kind="none")}, "does not fit kind='none'"),
        ({"published": dataclasses.replace(PUBLISHED, deviation=-1.0)}, "deviation=-1.0"),
        ({"published": dataclasses.replace(PUBLISHED, mean=math.nan)}, "mean=nan is not a finite number"),
        ({"published": dataclasses.replace(PUBLISHED, random=500.0)}, "higher scores are better"),
    ],
)
def test_a_claim_whose_statistics_would_mislead_is_refused(change, says):
    with pytest.raises(UsageError, match=says):
        check_claim(dataclasses.replace(CLAIM, **change))
