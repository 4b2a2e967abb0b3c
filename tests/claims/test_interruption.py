"""A claim that is killed or interrupted ends as one that was left alone, and one that is complete is only read."""

import json
import random
import signal
import time

import pytest

from helpers import ended, started
from jaxrl.claims.table import row_of
from jaxrl.interrupts import EXIT_CODE

pytestmark = pytest.mark.slow

MINE = """
from jaxrl.claims import BEST, GREEDY, LAST, Claim, Protocol, Published

def claim(name, agent, env, score=GREEDY, **more):
    protocol = Protocol(score=score)
    published = Published(mean=100.0, source="nobody", env_steps=10**6, random=20.0, protocol=protocol)
    return Claim(name=name, agent=agent, env=env, seeds=(0, 1, 2), published=published, protocol=protocol, **more)

small = {"num_envs": 4, "hidden": (16,)}
pure = claim("pure", "a2c", "CartPole-v1", total_steps=400_000, config=small)
best = claim("best", "a2c", "CartPole-v1", BEST, total_steps=400_000, config=small, eval_every=50_000)
host = claim("host", "a2c", "gymnasium/CartPole-v1", LAST, total_steps=20_000, config=small)
pool = claim("pool", "a2c", "envpool/Hopper-v4", LAST, total_steps=40_000, config=small)
"""

# A checkpoint is written after every row, so that a kill at any moment leaves one in the midst of a run.
PROGRAM = """
import sys
import jaxrl.claims.reproduce as engine
from jaxrl.cli import main
engine.CHECKPOINT_SECONDS = 0.0
main(["reproduce", *sys.argv[1:]])
"""


def command(folder, name, out):
    (folder / "mine.py").write_text(MINE)
    return started("-c", PROGRAM, f"mine.py:{name}", "--out", str(out), cwd=folder)


def rows_in(out):
    """Rows that the runs have written so far."""
    files = [*out.glob("runs/*/state/*/rows.jsonl"), *out.glob("runs/*/state/*/run/metrics.jsonl")]
    return sum(path.read_bytes().count(b"\n") for path in files)


def stopped(folder, name, out, number, rows):
    """Sends a signal a little after so many further rows; returns what the process had said."""
    rows += rows_in(out)
    with command(folder, name, out) as process:
        until = time.monotonic() + 300
        while rows_in(out) < rows and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(random.uniform(0.0, 0.3))
        assert process.poll() is None, process.communicate()[1][-3000:]
        process.send_signal(number)
        return ended(process, -number if number == signal.SIGKILL else EXIT_CODE)


@pytest.mark.parametrize("name", ["pure", "best", "host", "pool"])
def test_a_claim_killed_twice_ends_with_the_row_of_one_undisturbed(tmp_path, name):
    results = []
    for out, kills in (("calm", 0), ("stormy", 2)):
        for _ in range(kills):
            stopped(tmp_path, name, tmp_path / out, signal.SIGKILL, random.randint(5, 60))
        with command(tmp_path, name, tmp_path / out) as process:
            ended(process, seconds=600)
        results.append(json.loads((tmp_path / out / f"{name}.json").read_text()))
    calm, stormy = results
    assert row_of(calm) | {"minutes": ""} == row_of(stormy) | {"minutes": ""}
    assert calm["scores"] == stormy["scores"]
    assert stormy["wall_seconds"] > 0


def test_an_interrupted_claim_says_how_to_go_on_and_a_complete_one_is_only_read(tmp_path):
    out = tmp_path / "out"
    _, said = stopped(tmp_path, "pure", out, signal.SIGINT, 20)
    assert "interrupted; go on with: " in said and "reproduce mine.py:pure --out" in said
    with command(tmp_path, "pure", out) as process:
        _, first = ended(process, seconds=600)
    written = json.loads((out / "pure.json").read_text())
    with command(tmp_path, "pure", out) as process:
        printed, second = ended(process)
    assert "compiling" in first and "compiling" not in second
    assert "is complete; nothing to do" in second
    assert json.loads((out / "pure.json").read_text()) == written
    assert printed.startswith("pure ")
