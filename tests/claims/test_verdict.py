"""Verdicts on made-up results: one of each kind, and what must never pass for a success."""

import dataclasses
import math

import pytest

from jaxrl.claims import BEST, GREEDY, LAST, Claim, Protocol, Published, check_claim
from jaxrl.claims.claim import mismatches
from jaxrl.claims.verdict import allowed_half_width, judge
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
        ({"score": BEST}, "best greedy evaluation"),
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
    ours = dataclasses.replace(CLAIM.protocol, episodes=100, frame_skip=None)
    assert mismatches(dataclasses.replace(CLAIM, protocol=ours)) == []


@pytest.mark.parametrize("values", [(490.0,), (490.0, 480.0)])
def test_of_fewer_than_three_seeds_there_is_no_interval(values):
    claim = dataclasses.replace(CLAIM, seeds=tuple(range(len(values))))
    judged = judge(claim, scores(*values))
    assert (judged.word, judged.interval) == ("single run", None)


def test_a_seed_that_became_nan_counts_as_random_play():
    judged = judge(CLAIM, scores(490.0, math.nan, 492.0, 494.0))
    assert judged.mean == pytest.approx((490.0 + 20.0 + 492.0 + 494.0) / 4)
    assert judged.num_failed == 1
    assert "1 of 4 seeds failed" in judged.reasons[0]
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
        ({"protocol": Protocol(score="luck")}, "'luck'"),
        ({"protocol": Protocol(score=BEST)}, "eval_every"),
        ({"published": dataclasses.replace(PUBLISHED, kind="vibes")}, "'vibes'"),
    ],
)
def test_a_claim_whose_statistics_would_mislead_is_refused(change, says):
    with pytest.raises(UsageError, match=says):
        check_claim(dataclasses.replace(CLAIM, **change))
