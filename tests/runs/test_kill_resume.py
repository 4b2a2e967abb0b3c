"""A run killed with SIGKILL at any moment reaches the same end when it is resumed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import kill_resume

TINY = ("--hidden", "16", "--capacity", "256", "--batch-size", "16", "--learning-starts", "1000", "--num-rows", "8")


def test_a_run_killed_while_it_writes_a_checkpoint_resumes_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = "during a checkpoint write"
    monkeypatch.setattr(kill_resume, "MOMENTS", {moment: kill_resume.MOMENTS[moment]})
    options = kill_resume.Options(kills=0, steps=3000, fields=shlex.join([*TINY, "--eval-episodes", "4"]))
    [result] = kill_resume.measure(options, tmp_path)
    assert result["difference"] is None
    assert result["found"] == "2 checkpoints, a partial one"


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "steps"), [(0, 3000), (10, 30_000)], ids=["chosen", "random"])
def test_a_killed_run_resumes_to_the_same_end(kills: int, steps: int, tmp_path: Path) -> None:
    options = kill_resume.Options(kills=kills, steps=steps, fields=shlex.join([*TINY, "--eval-episodes", "4"]))
    results = kill_resume.measure(options, tmp_path)
    assert [result["difference"] for result in results] == [None] * (len(kill_resume.MOMENTS) + kills)
    assert results[0]["found"] == "0 checkpoints"
    assert results[1]["found"] == "2 checkpoints, a partial one"
    assert results[2]["found"] == "3 checkpoints"
