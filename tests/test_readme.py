"""What README shows is true: its examples run, and its table names every agent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxrl.agents import AGENTS
from jaxrl.cli import commands as cli

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_population_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    block = next(block for block in BLOCKS if "vmap" in block)
    exec(compile(block, "README", "exec"), {})
    numbers = [float(text) for text in re.findall(r"\d+\.\d*", capsys.readouterr().out)]
    assert len(numbers) == 3 and all(8 <= number <= 500 for number in numbers)


def test_the_corridor_example_trains_to_the_end_of_the_corridor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight steps of cost 1 are the best there is."""
    (tmp_path / "corridor.py").write_text(next(block for block in BLOCKS if "batch_env" in block))
    monkeypatch.chdir(tmp_path)
    command = next(line for line in README.splitlines() if line.startswith("jaxrl train dqn --env corridor"))
    cli.main([*command.split()[1:], "--out", "run"])
    assert json.loads(Path("run/summary.json").read_text())["evaluation"]["mean"] == -8.0


def test_the_sweep_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    jax.devices()  # JAX has started, so the sweep leaves the number of devices alone.
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(next(block for block in BLOCKS if "jaxrl.sweep(" in block), "README", "exec"), names)
    assert names["result"].results.final_return.shape == (4,)
    assert 8 <= names["result"].evaluate(names["best"])["mean"] <= 500
    assert Path("runs/rates/report.html").exists()


def test_the_table_of_agents_is_true() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)) == set(AGENTS)
