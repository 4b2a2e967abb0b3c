"""Which runs of a sweep go on: rungs, brackets and survivors by hand, and the decisions of population-based training."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl.errors import UsageError
from jaxrl.sweeps.schedulers import (
    Bracket,
    Continuation,
    Explored,
    Schedule,
    brackets,
    check_schedule,
    exploit_and_explore,
    survivors,
)

HYPERBAND_81 = {
    # Li et al. 2018, algorithm 1 with R = 81 and eta = 3, by hand: (configs, resource) of each rung.
    4: [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    3: [(34, 3), (11, 9), (3, 27), (1, 81)],
    2: [(15, 9), (5, 27), (1, 81)],
    1: [(8, 27), (2, 81)],
    0: [(5, 81)],
}


def numbers(bracket):
    """(configs, env steps) of each rung."""
    left, found = list(bracket.configs), []
    for env_steps in bracket.rungs:
        found.append((len(left), env_steps))
        left = survivors(dict.fromkeys(left, 0.0), bracket.reduction)
    return found


# --- halving and Hyperband --------------------------------------------------------------------------------------------


def test_without_a_schedule_every_config_trains_to_the_end():
    assert brackets(Schedule(), 3, 1000) == (Bracket((0, 1, 2), (1000,), 1),)


def test_nine_configs_are_halved_twice_by_three():
    (bracket,) = brackets(Schedule("halving"), 9, 900)
    assert numbers(bracket) == [(9, 100), (3, 300), (1, 900)]


def test_halving_divides_as_often_as_there_are_configs_to_divide():
    (bracket,) = brackets(Schedule("halving", reduction=2), 7, 1000)
    assert numbers(bracket) == [(7, 250), (3, 500), (1, 1000)]


def test_the_first_rung_of_halving_has_at_least_min_steps():
    (bracket,) = brackets(Schedule("halving", min_steps=101), 9, 900)
    assert numbers(bracket) == [(9, 300), (3, 900)]


def test_halving_of_many_configs_over_few_steps_has_no_rung_twice():
    (bracket,) = brackets(Schedule("halving"), 3**6, 10)
    assert bracket.rungs == (2, 4, 10)


def test_hyperband_deals_the_brackets_of_its_paper():
    dealt = brackets(Schedule("hyperband", min_steps=1), 143, 81)
    assert [numbers(bracket) for bracket in dealt] == list(HYPERBAND_81.values())


def test_hyperband_starts_at_a_twenty_seventh_by_default():
    assert [bracket.rungs[0] for bracket in brackets(Schedule("hyperband"), 100, 27_000)] == [1000, 3000, 9000, 27_000]


def test_a_third_survives_and_ties_go_to_the_lower_index():
    assert survivors({4: 1.0, 2: 5.0, 7: 3.0, 1: 3.0, 9: 0.0, 3: -1.0}, 3) == [1, 2]


def test_one_survives_however_many_are_asked_to_go():
    assert survivors({3: -5.0, 8: -4.0}, 3) == [8]


def test_nan_loses_against_any_score():
    assert survivors({0: math.nan, 1: -1e9, 2: math.nan}, 3) == [1]


METHODS = st.sampled_from(["none", "halving", "hyperband", "pbt"])


@settings(max_examples=200, deadline=None)
@given(METHODS, st.integers(1, 300), st.integers(1, 2_000_000), st.integers(2, 5), st.integers(0, 9), st.data())
def test_brackets_share_out_the_configs_and_end_with_the_whole_training(method, num_configs, total, reduction, seed, data):
    min_steps = data.draw(st.none() | st.integers(1, total))
    schedule = Schedule(method, reduction=reduction, min_steps=min_steps, seed=seed)
    found = brackets(schedule, num_configs, total)
    assert sorted(config for bracket in found for config in bracket.configs) == list(range(num_configs))
    assert found == brackets(schedule, num_configs, total)
    for bracket in found:
        assert bracket.configs
        assert bracket.rungs[-1] == total
        assert bracket.rungs[0] >= (min_steps or 1 if method in ("halving", "hyperband") else 1)
        assert all(early < late for early, late in zip(bracket.rungs, bracket.rungs[1:], strict=False))
        assert numbers(bracket)[-1][0] >= 1


# --- population-based training ----------------------------------------------------------------------------------------

RATE = {"learning_rate": Explored(1e-5, 1e-1, False, False)}


def values_of(scores, value=1e-3):
    return {run: {"learning_rate": value * (run + 1)} for run in scores}


def test_the_worst_fifth_copies_the_best_fifth_with_a_perturbed_value():
    scores = {run: float(score) for run, score in enumerate([3, 9, 1, 7, 5, 0, 8, 2, 4, 6])}
    values = values_of(scores)
    steps = exploit_and_explore(scores, values, RATE, Schedule("pbt"), 0)
    replaced = {run for run, step in steps.items() if step != Continuation(run, values[run])}
    assert replaced == {5, 2}
    for run in replaced:
        source = steps[run].source
        assert source in (1, 6)
        before = values[source]["learning_rate"]
        assert steps[run].values["learning_rate"] == pytest.approx(before * 1.25) or steps[run].values[
            "learning_rate"
        ] == pytest.approx(before / 1.25)


def test_both_directions_are_explored():
    scores = {run: float(run) for run in range(40)}
    steps = exploit_and_explore(scores, values_of(scores, 1e-4), RATE, Schedule("pbt", pbt_share=0.5), 0)
    ratios = [step.values["learning_rate"] / (1e-4 * (step.source + 1)) for run, step in steps.items() if step.source != run]
    assert {round(ratio, 6) for ratio in ratios} == {1.25, 0.8}


def test_a_failed_run_is_replaced_before_a_bad_one():
    scores = {0: 1.0, 1: math.nan, 2: 2.0, 3: 3.0, 4: 4.0}
    steps = exploit_and_explore(scores, values_of(scores), RATE, Schedule("pbt"), 0)
    assert {run: step.source for run, step in steps.items()} == {0: 0, 1: 4, 2: 2, 3: 3, 4: 4}


def test_every_failed_run_is_replaced_by_one_that_did_not_fail():
    scores = {0: math.nan, 1: math.nan, 2: math.nan, 3: 1.0}
    steps = exploit_and_explore(scores, values_of(scores), RATE, Schedule("pbt"), 0)
    assert {step.source for step in steps.values()} == {3}


def test_runs_without_a_score_yet_go_on_as_they_are():
    scores = dict.fromkeys(range(5), None)
    values = values_of(scores)
    steps = exploit_and_explore(scores, values, RATE, Schedule("pbt"), 0)
    assert steps == {run: Continuation(run, values[run]) for run in scores}


def test_a_run_without_a_score_yet_is_no_source_and_is_not_replaced():
    scores = {0: None, 1: 1.0, 2: math.nan, 3: 0.5, 4: None}
    steps = exploit_and_explore(scores, values_of(scores), RATE, Schedule("pbt"), 0)
    assert {run: step.source for run, step in steps.items()} == {0: 0, 1: 1, 2: 1, 3: 3, 4: 4}


def test_a_population_that_failed_altogether_has_nothing_to_copy():
    scores = dict.fromkeys(range(4), math.nan)
    steps = exploit_and_explore(scores, values_of(scores), RATE, Schedule("pbt"), 0)
    assert {run: step.source for run, step in steps.items()} == {0: 0, 1: 1, 2: 2, 3: 3}


def test_the_only_run_left_goes_on():
    assert exploit_and_explore({7: 1.0}, {7: {"learning_rate": 0.1}}, RATE, Schedule("pbt"), 3) == {
        7: Continuation(7, {"learning_rate": 0.1})
    }


def test_an_open_bound_is_not_reached():
    explored = {"x": Explored(0.9, 2.0, True, False)}
    steps = exploit_and_explore({0: 1.0, 1: 0.0}, {0: {"x": 1.0}, 1: {"x": 1.0}}, explored, Schedule("pbt", pbt_factor=2.0), 0)
    assert steps[1].values["x"] in (1.0, 2.0)


SCORES = st.none() | st.just(math.nan) | st.floats(-1e6, 1e6)


@settings(max_examples=200, deadline=None)
@given(st.lists(SCORES, min_size=1, max_size=12), st.integers(0, 5), st.integers(0, 5), st.booleans(), st.data())
def test_explored_values_stay_in_range_and_of_their_type(scored, seed, rung, is_int, data):
    scores = dict(enumerate(scored))
    low, high = (3, 50) if is_int else (0.5, 0.999)
    value = st.integers(low, high) if is_int else st.floats(low, high)
    values = {run: {"x": data.draw(value), "fixed": run} for run in scores}
    explored = {"x": Explored(low - 0.4 * is_int, high + 0.6 * is_int, False, is_int)}
    schedule = Schedule("pbt", pbt_share=0.5, pbt_factor=1.6, seed=seed)
    steps = exploit_and_explore(scores, values, explored, schedule, rung)
    assert steps == exploit_and_explore(scores, values, explored, schedule, rung)
    assert set(steps) == set(scores)
    for step in steps.values():
        assert low <= step.values["x"] <= high
        assert isinstance(step.values["x"], int if is_int else float)
        assert step.values["fixed"] == step.source


def test_decisions_change_with_the_rung_and_the_seed():
    scores = {run: float(run) for run in range(20)}

    def decided(seed, rung):
        return exploit_and_explore(scores, values_of(scores), RATE, Schedule("pbt", pbt_share=0.5, seed=seed), rung)

    assert decided(0, 0) == decided(0, 0)
    assert decided(0, 0) != decided(0, 1)
    assert decided(0, 0) != decided(1, 0)


# --- settings out of range --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "num_configs", "message"),
    [
        (Schedule("half"), 9, r"schedule='half' is unknown; choose one of none, halving, hyperband, pbt"),
        (Schedule("halving", reduction=1), 9, r"reduction=1 is out of range; give a value at least 2"),
        (Schedule("halving", min_steps=0), 9, r"min_steps=0 is out of range; give a value at least 1"),
        (Schedule("halving", min_steps=1001), 9, r"min_steps=1001 is out of range"),
        (Schedule("pbt", pbt_steps=2000), 9, r"pbt_steps=2000 is out of range; give at most total_steps=1000"),
        (Schedule("pbt", pbt_share=0.6), 9, r"pbt_share=0.6 is out of range; give a value in \(0, 0.5\]"),
        (Schedule("pbt", pbt_share=math.nan), 9, r"pbt_share=nan is not a finite number"),
        (Schedule("pbt", pbt_factor=1.0), 9, r"pbt_factor=1.0 is out of range; give a value above 1"),
        (Schedule("pbt"), 3, r"schedule='pbt' needs a population, the sweep has runs=3; give at least 4"),
        (Schedule("halving"), 1, r"schedule='halving' has nothing to choose from: the sweep has one config; sweep a field"),
        (Schedule("hyperband"), 1, r"schedule='hyperband' has nothing to choose from"),
        (Schedule("halving"), 2, r"schedule='halving' with reduction=3, .* stops none of the 2 configs early; lower"),
        (Schedule("halving", min_steps=500), 9, r"min_steps=500 stops none of the 9 configs early; lower"),
        (Schedule("hyperband", min_steps=1000), 9, r"min_steps=1000 stops none of the 9 configs early; lower"),
    ],
)
def test_a_setting_out_of_range_is_named(schedule, num_configs, message):
    with pytest.raises(UsageError, match=message) as error:
        check_schedule(schedule, num_configs, num_configs, 1000)
    assert "\n" not in str(error.value)
