"""`experiments/continuous.py`: what it keeps of runs."""

import sys
from pathlib import Path

import numpy as np
import pytest

from jaxrl.analysis.learned import Learned
from jaxrl.errors import UsageError
from jaxrl.records.files import write_json

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))
import continuous  # noqa: E402


def run(seed, returns):
    steps = 20 * np.arange(1, len(returns) + 1)
    evaluations = np.stack([steps, np.array(returns, float)], axis=1).reshape(-1, 2)
    return Learned("runs/x", {"agent": "sac", "env": "envpool/Hopper-v4", "seed": seed}, np.array([[10.0, 3.0]]), evaluations)


def test_a_score_is_the_mean_of_the_last_evaluations(tmp_path):
    found = [continuous.scored("sac", run(0, [100, 1, 2, 3, 4, 5])), continuous.scored("sac", run(7, [5] * 5))]
    assert [one["score"] for one in found] == [3.0, 5.0] and [one["best"] for one in found] == [100.0, 5.0]
    assert found[0]["env_steps"] == 120 and found[0]["training_return"] == 3.0 and "seed" not in found[0]["fields"]
    write_json(tmp_path / "Hopper.json", {"runs": found})
    assert "| sac | 0, 7 | 100 | 4 | 3 .. 5 | 100 |" in continuous.page(tmp_path).splitlines()
    with pytest.raises(UsageError, match="has no evaluations; train it with --eval-every"):
        continuous.scored("sac", run(0, []))


def test_the_committed_page_is_what_the_committed_files_say():
    folder = continuous.RESULTS
    assert not folder.exists() or (folder / "README.md").read_text() == continuous.page(folder)
