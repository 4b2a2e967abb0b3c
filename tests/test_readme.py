"""What README and the pages of docs/ show is true: their examples run, README names every agent, links lead somewhere."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import AGENTS
from jaxrl.agents.value.q_values import Outputs
from jaxrl.cli import commands as cli
from jaxrl.replay.ring import Transitions

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
BLOCK = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
BLOCKS = BLOCK.findall(README)
OF_A_PAGE = {
    "own_agent": lambda names: Path("runs/residual/summary.json").exists() and Path("runs/penalty/summary.json").exists(),
    "own_environment": lambda names: -0.1 < names["result"].summary["evaluation"]["mean"] < 0.0,
    "python": lambda names: names["scores"]["mean"].shape == (3,) and names["saved"].summary["env_steps"] == 5_000,
    "reproduce": lambda names: names["result"]["verdict"] == "quick: no verdict" and len(names["result"]["scores"]) == 2,
    "sweeps": lambda names: names["result"].results.final_return.shape == (4,),
}
"""Pages with a session, and what holds at its end."""


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


@pytest.mark.slow
def test_attention_learns_offline_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXRL_DATA_DIR", str(tmp_path))
    command = next(line for line in README.splitlines() if line.startswith("jaxrl train ram"))
    cli.main([*command.partition("#")[0].split()[1:], "--out", "run"])
    assert json.loads(Path("run/summary.json").read_text())["evaluation"]["mean"] > 0.85


@pytest.fixture
def munchausen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """README's file, as a user has it."""
    (tmp_path / "munchausen.py").write_text(next(block for block in BLOCKS if "MunchausenConfig" in block))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("munchausen")
    del sys.modules["munchausen"]


def test_the_munchausen_target_is_what_it_is_by_hand(munchausen: Any) -> None:
    """Temperature 1/2, weight 0.9. Before: policies (1/4, 3/4), and one whose bonus of -5 is held at -1. Behind: of values 0,
    V = ln(2) / 2; of 1 and 1 + ln(3) / 2, V = 1 + ln(2). The second transition ended."""
    config = munchausen.MunchausenConfig(entropy_temperature=0.5, munchausen_scaling=0.9)
    half_ln3 = math.log(3.0) / 2
    before = jnp.array([[0.0, half_ln3], [0.0, half_ln3], [0.0, 5.0]])
    behind = jnp.array([[0.0, 0.0], [7.0, 3.0], [1.0, 1.0 + half_ln3]])
    batch = Transitions((), jnp.array([0, 1, 0]), jnp.array([2.0, 1.0, 0.0]), jnp.array([0.5, 0.0, 0.5]), ())
    found = munchausen.target(config, batch, Outputs(behind * jnp.nan, before, behind))
    np.testing.assert_allclose(found, [1.549455, 0.870543, -0.053426], atol=1e-5)


@pytest.mark.slow
def test_the_munchausen_example_trains(munchausen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command = next(line for line in README.splitlines() if line.startswith("jaxrl train munchausen"))
    cli.main([*command.split()[1:], "--seed", "1", "--out", "run"])
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["evaluation"]["mean"] > 450
    assert json.loads(Path("run/config.json").read_text())["config"]["munchausen_scaling"] == 0.5


@pytest.mark.slow
def test_the_run_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(next(block for block in BLOCKS if "jaxrl.run(" in block), "README", "exec"), names)
    assert (
        names["result"].summary["evaluation"]["mean"] > 100
        and "RunResult(runs/ppo: ppo on CartPole-v1" in capsys.readouterr().out
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", OF_A_PAGE)
def test_the_session_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks are entered one after another; one behind "saved as `name.py`" is that file."""
    jax.devices()  # JAX has started, so a sweep leaves the number of devices alone.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCK.finditer(PAGES[page]):
        before = PAGES[page][: block.start()].rsplit("\n\n", 2)[-2:]
        if file := re.search(r"[Ss]ave[sd]?\b[^.]*?\bas `(\w+\.py)`", " ".join(before)):
            (tmp_path / file[1]).write_text(block[1])
        else:
            exec(compile(block[1], page, "exec"), names)
    assert OF_A_PAGE[page](names)


def test_every_page_with_blocks_has_a_session() -> None:
    assert {page for page, text in PAGES.items() if BLOCK.search(text)} == set(OF_A_PAGE)


def test_links_of_the_pages_lead_to_files() -> None:
    experiments = [(path.parent, path.read_text()) for path in (ROOT / "experiments").rglob("*.md")]
    for folder, text in ((ROOT, README), *experiments, *((ROOT / "docs", text) for text in PAGES.values())):
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (folder / target).exists(), target


def test_the_table_of_agents_is_true() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE)) == set(AGENTS)
