"""Contracts are Protocols with named arguments, so that a type checker sees a wrong signature."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxrl.types import ArraySpec

WRONG = """
from typing import Any
from jaxrl.config import Config
from jaxrl.loop import build
from jaxrl.types import Agent, Array, Progress, PyTree, Rollout, Spec

def act(key: Array, policy: PyTree, memory: PyTree, obs: PyTree, explore: bool) -> tuple[PyTree, PyTree, PyTree]:
    return obs, memory, ()

def update(key: Array, state: Any, progress: Progress, rollout: Rollout) -> tuple[Any, dict[str, Array]]:
    return state, {}

def make(config: Config, spec: Spec, num_envs: int) -> Agent:
    return Agent(lambda key: (), act, update)

build(make, Config(), Spec((), ()))
"""


@pytest.mark.slow
def test_a_wrong_act_update_or_make_agent_fails_mypy(tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    settings = Path(__file__).parent.parent / "pyproject.toml"
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), str(tmp_path / "wrong.py")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False).stdout
    for name in ("Act", "Update", "MakeAgent"):
        assert f'expected "{name}"' in found


def test_a_spec_shows_what_it_says_and_no_more():
    assert repr(ArraySpec((2,), "uint8", scale=255.0)) == "ArraySpec(shape=(2,), dtype='uint8', scale=255.0)"
