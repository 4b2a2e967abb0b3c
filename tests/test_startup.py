"""What is said before JAX has started: commands as they must be typed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from jaxrl.startup import command


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A `jaxrl` in `.venv/bin` below the current folder."""
    path = tmp_path / ".venv" / "bin" / "jaxrl"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.defpath)
    return path


@pytest.mark.parametrize("given", [".venv/bin/jaxrl", "{cwd}/.venv/bin/jaxrl"])
def test_a_program_that_is_not_on_the_path_is_named_from_here(program, monkeypatch, given):
    monkeypatch.setattr(sys, "argv", [given.format(cwd=Path.cwd())])
    assert command("resume", Path("runs/a")) == ".venv/bin/jaxrl resume runs/a"


def test_a_program_on_the_path_is_named_alone_and_words_are_quoted(program, monkeypatch):
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.defpath}")
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert command("resume", "runs/my run") == "jaxrl resume 'runs/my run'"


def test_another_program_of_that_name_on_the_path_is_not_meant(program, tmp_path, monkeypatch):
    other = tmp_path / "other" / "jaxrl"
    other.parent.mkdir()
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(sys, "argv", [".venv/bin/jaxrl"])
    assert command("list") == ".venv/bin/jaxrl list"


def test_a_module_of_python_stays_one(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/jaxrl/__main__.py", "resume"])
    monkeypatch.setattr(sys, "orig_argv", ["python3", "-m", "jaxrl", "resume"])
    assert command("resume", "a") == "python3 -m jaxrl resume a"
