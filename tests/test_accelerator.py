"""`benchmarks/accelerator.py` at the scale of a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "accelerator.py"


def call(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=900)


def test_what_there_is_can_be_drawn_alone_and_bad_numbers_are_one_line(tmp_path):
    rates = {str(seeds): {"seeds": seeds, "steps_per_second": 1e4 * seeds} for seeds in (1, 16, 256)}
    results = {"machine": {"device": "a card"}, "parts": {"ppo-cartpole": rates | {"seconds": {"seconds": 3.0}}}}
    out, image = tmp_path / "found.json", tmp_path / "found.png"
    out.write_text(json.dumps(results))
    done = call("--parts", "--out", str(out), "--figure", str(image))
    assert done.returncode == 0 and json.loads(out.read_text()) == results and image.stat().st_size > 5_000
    wrong = call("--seconds", "21")
    assert wrong.returncode == 2 and "seconds=21.0 is out of range; give more than 0 and at most 20" in wrong.stderr
    assert call("--parts", "nothing").returncode == 2


@pytest.mark.slow
def test_parts_are_measured_one_after_the_other_and_a_part_anew_keeps_the_others(tmp_path):
    out = tmp_path / "found.json"
    flags = ("--small", "--seconds", "0.2", "--out", str(out), "--parts")
    done = call(*flags, "headline-ppo", "dqn-cartpole", "replay", "equality")
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    parts = found["parts"]
    assert found["small"] and found["machine"]["platform"] == "cpu" and "jax" in found["machine"]["versions"]
    assert parts["headline-ppo"]["whole"]["seeds"] == 3 and parts["headline-ppo"]["whole"]["last_returns_mean"] > 9.0
    assert parts["dqn-cartpole"]["3"]["steps_per_second"] > 0 and parts["dqn-cartpole"]["1"]["compile_seconds"] > 0
    assert set(parts["replay"]) == {"device", "host memory", "seconds"}
    assert len(parts["equality"]) == 8 and all(one.get("holds", True) for one in parts["equality"].values())
    done = call(*flags, "nature")
    again = json.loads(out.read_text())["parts"]
    assert (
        done.returncode == 0 and again["replay"] == parts["replay"] and again["nature"]["batch 4"]["share_of_large_product"] > 0
    )
