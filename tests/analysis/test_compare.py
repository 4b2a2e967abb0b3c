"""`jaxrl compare`: whether two sweeps differ."""

import json
import re

import numpy as np
import pytest
import scipy.stats
from test_report import write_sweep

from jaxrl.analysis.compare import compare, report
from jaxrl.analysis.results import read_results
from jaxrl.errors import UsageError

RATES = [(1e-4,), (1e-3,), (1e-2,)]


def make(folder, score, configs=RATES, fields=("learning_rate",), **keywords):
    """A sweep of which every config scores `score` but for a little chance that differs between folders."""
    noise = np.random.default_rng(len(folder.name))
    return write_sweep(folder, fields, configs, quality=lambda _: score + noise.normal(), **keywords)


def test_a_better_sweep_is_called_better(tmp_path):
    a, b = make(tmp_path / "a", 100.0), make(tmp_path / "other", 140.0)
    found = compare(a, b)
    overall = found.scores[0].overall
    assert overall.num_runs == (9, 9)
    assert overall.interval[0] < overall.difference < overall.interval[1]
    assert overall.interval[0] > 20.0
    assert overall.probability == 1.0
    assert overall.p_value < 0.01
    assert found.verdict.startswith("The second sweep is better: interquartile mean of the final return +")


def test_the_other_way_round_it_is_worse(tmp_path):
    a, b = make(tmp_path / "a", 100.0), make(tmp_path / "other", 140.0)
    found = compare(b, a)
    assert found.verdict.startswith("The second sweep is worse: ")
    assert found.scores[0].overall.difference == pytest.approx(-compare(a, b).scores[0].overall.difference)
    assert found.scores[0].overall.probability == 0.0


def test_a_sweep_does_not_differ_from_itself(tmp_path):
    a = make(tmp_path / "a", 100.0)
    found = compare(a, a)
    assert found.verdict.startswith("No difference is shown: ")
    assert found.notes == ()
    assert [score.name for score in found.scores] == ["final_return", "eval_return"]
    for row in (found.scores[0].overall, *found.scores[0].configs):
        assert (row.difference, row.probability) == (0.0, 0.5)
        assert row.p_value > 0.9


def test_configs_are_matched_by_their_values(tmp_path):
    a = make(tmp_path / "a", 100.0, [(1e-4,), (1e-3,), (5e-2,)], num_seeds=4)
    b = make(tmp_path / "b", 100.0, [(1e-3,), (1e-4,), (7e-1,)], num_seeds=5)
    found = compare(a, b)
    rows = found.scores[0].configs
    assert [row.label for row in rows] == ["learning_rate=0.0001", "learning_rate=0.001"]
    first, second = read_results(a), read_results(b)
    x, y = first.final_return[first.config == 0], second.final_return[second.config == 1]
    assert rows[0].num_runs == (4, 5)
    assert rows[0].iqm == pytest.approx((np.sort(x)[1:3].mean(), np.sort(y)[1:4].mean()))
    u = scipy.stats.mannwhitneyu(y, x).statistic
    assert rows[0].probability == pytest.approx(u / 20)
    assert "configs of one sweep alone, left out: 1 / 1" in found.notes
    assert found.scores[0].overall.num_runs == (8, 10)


def test_spread_between_configs_does_not_hide_a_difference(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, better in zip(folders, (0.0, 25.0), strict=True):
        write_sweep(folder, ("x",), [(1,), (2,), (3,)], 5, lambda config, more=better: 1000.0 * config[0] + more)
    overall = compare(*folders).scores[0].overall
    assert overall.probability == 1.0
    assert overall.p_value < 0.01
    assert 20.0 < overall.interval[0] < overall.interval[1] < 30.0


def test_p_values_of_configs_are_corrected(tmp_path):
    found = compare(make(tmp_path / "a", 100.0, num_seeds=5), make(tmp_path / "other", 103.0, num_seeds=5))
    rows = sorted(found.scores[0].configs, key=lambda row: row.p_value)
    by_hand = np.minimum(
        1.0, np.maximum.accumulate([row.p_value * factor for row, factor in zip(rows, (3, 2, 1), strict=True)])
    )
    assert [row.p_holm for row in rows] == pytest.approx(by_hand)
    assert re.search(r"\d of 3 configs differ after Holm's correction", found.verdict)


def test_sweeps_without_common_configs_are_compared_as_wholes(tmp_path):
    a, b = make(tmp_path / "a", 100.0, [(1,), (2,)]), make(tmp_path / "b", 160.0, [(4,), (5,), (6,)])
    found = compare(a, b)
    assert any(note.startswith("no config in common") for note in found.notes)
    assert found.scores[0].configs == ()
    assert found.scores[0].overall.num_runs == (6, 9)
    assert found.scores[0].best.num_runs == (3, 3)
    assert found.verdict.startswith("The second sweep is better")


def test_other_fields_swept_are_no_match(tmp_path):
    found = compare(make(tmp_path / "a", 1.0, [(1,)]), make(tmp_path / "b", 1.0, [(1,)], fields=("gamma",)))
    assert found.scores[0].configs == ()


def test_sweeps_of_seeds_alone_are_one_config(tmp_path):
    a, b = make(tmp_path / "a", 1.0, [()], ()), make(tmp_path / "other", 1.0, [()], ())
    found = compare(a, b)
    assert [row.label for row in found.scores[0].configs] == ["base config"]
    assert report(found).count("base config") == 2  # Once for each score: the whole is the same.


def test_one_seed_each_says_nothing_of_chance(tmp_path):
    a, b = (make(tmp_path / name, 100.0, [()], (), num_seeds=1) for name in ("a", "b"))
    found = compare(a, b)
    row = found.scores[0].overall
    assert (row.interval, row.probability_interval, row.p_value) == (None, None, None)
    assert found.verdict == "Nothing can be said of chance: too few runs; train more seeds."


def test_few_runs_are_said_to_be_too_few(tmp_path):
    a, b = make(tmp_path / "a", 0.0, [()], (), num_seeds=2), make(tmp_path / "b", 900.0, [()], (), num_seeds=2)
    found = compare(a, b)
    assert found.scores[0].overall.p_value == pytest.approx(1 / 3)
    assert "so few runs cannot give p below 0.33, train more seeds" in found.verdict


def test_one_seed_in_many_configs_can_be_tested(tmp_path):
    configs = [(float(place),) for place in range(12)]
    a, b = make(tmp_path / "a", 0.0, configs, num_seeds=1), make(tmp_path / "b", 90.0, configs, num_seeds=1)
    found = compare(a, b)
    assert found.scores[0].overall.p_value < 0.01
    assert found.scores[0].overall.interval is None
    assert all(row.p_value is None for row in found.scores[0].configs)


def test_failed_runs_count_as_the_lowest_of_both(tmp_path):
    a = make(tmp_path / "a", 50.0, [()], (), num_seeds=4, noise=0.0)
    b = make(tmp_path / "b", 100.0, [()], (), num_seeds=4, noise=0.0, status={0: "nan", 1: "nan"})
    found = compare(a, b)
    lowest = read_results(a).final_return.min()
    best = np.sort(read_results(b).final_return[2:])
    assert found.scores[0].overall.num_runs == (4, 4)
    assert found.scores[0].overall.iqm[1] == pytest.approx((lowest + best[0]) / 2)
    assert "runs that became NaN, counted as the lowest score: 0 / 2" in found.notes


def test_a_sweep_without_scores_is_not_compared(tmp_path):
    a = make(tmp_path / "a", 50.0)
    b = make(tmp_path / "b", 50.0, status=dict.fromkeys(range(9), "nan"))
    found = compare(a, b)
    assert found.scores == ()
    assert found.verdict == "Nothing can be said: a sweep has no run with a final return."
    assert report(found).endswith(found.verdict)


def test_other_differences_are_named(tmp_path):
    a, b = (
        make(tmp_path / "a", 1.0),
        make(tmp_path / "b", 1.0, agent="ppo", env="Acrobot-v1", config={"gamma": 0.9, "hidden": [64, 64]}),
    )
    notes = compare(a, b).notes
    assert "agent differs: dqn / ppo" in notes
    assert "env differs: CartPole-v1 / Acrobot-v1" in notes
    assert "gamma differs: None / 0.9" in notes
    assert not any(note.startswith(("hidden", "learning_rate")) for note in notes)


def test_the_report_is_a_table_and_a_sentence(tmp_path):
    text = report(compare(make(tmp_path / "a", 100.0), make(tmp_path / "other", 140.0)))
    lines = text.splitlines()
    assert lines[0] == f"first:  {tmp_path / 'a'}, dqn on CartPole-v1"
    assert lines[1] == f"second: {tmp_path / 'other'}, dqn on CartPole-v1"
    assert lines[3] == "final return, interquartile mean over runs"
    assert re.split(r"\s{2,}", lines[4].strip())[:4] == ["runs", "first", "second", "difference"]
    assert re.split(r"\s{2,}", lines[5])[:2] == ["all common configs", "9 / 9"]
    assert len(re.split(r"\s{2,}", lines[5])) == 10
    assert "eval return, interquartile mean over runs" in lines
    assert lines[-1].endswith(".")
    assert "nan" not in text


def test_long_tables_are_cut(tmp_path):
    configs = [(float(place),) for place in range(45)]
    a = make(tmp_path / "a", 1.0, configs, num_seeds=1)
    assert report(compare(a, a)).count("and 16 more configs") == 2


def test_a_folder_of_a_run_is_refused(tmp_path):
    a = make(tmp_path / "a", 1.0)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"agent": "dqn"}))
    with pytest.raises(UsageError, match=r"run holds no sweep; give a folder that `jaxrl sweep` wrote"):
        compare(a, run)
