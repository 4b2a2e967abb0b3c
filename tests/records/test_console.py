"""What a terminal shows of a user's own names."""

import io
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxrl import startup
from jaxrl.records import console as module
from jaxrl.records.console import Bar, console, doing, say, summary_table

NAMES = ["[/y]", "[bold]x", ":bug:", r"\[a]"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_a_user_are_shown_letter_by_letter(name, capsys):
    score = {"mean": 1.0, "episodes": 3}
    summary = {"agent": f"{name}:a", "env": f"own:{name}", "seed": 1, "evaluation": score, "training_return": score}
    summary |= {"env_steps": 3, "steps_per_second": 1.0, "compile_seconds": 1.0, "wall_seconds": 2.0}
    console().print(summary_table(summary, Path("runs") / name))
    say(f"said of {name}")
    shown = capsys.readouterr().err
    assert f"{name}:a on own:{name}, seed 1" in shown and f"runs/{name} " in shown and f"said of {name}\n" in shown


def test_a_long_folder_is_shown_whole(capsys):
    score = {"mean": 1.0, "episodes": 3}
    summary = {"agent": "a", "env": "e", "seed": 1, "evaluation": score, "training_return": score}
    summary |= {"env_steps": 3, "steps_per_second": 1.0, "compile_seconds": 1.0, "wall_seconds": 2.0}
    console().print(summary_table(summary, Path("x" * 150)))
    assert capsys.readouterr().err.count("x") == 150


# --- what is done now ------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """What a terminal is told."""

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch):
    """From here on, since pytest has a standard error of its own for each phase of a test."""
    found = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", found)
    return found


def test_a_wait_is_a_line_where_there_is_no_terminal_and_another_one_later(monkeypatch, capsys):
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.01)
    with doing("compiling [/y]"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "compiling [/y]\n"
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)
    with doing("compiling"):
        time.sleep(0.2)
    assert capsys.readouterr().err.count("compiling\n") > 1


def test_a_short_wait_and_one_that_another_line_tells_of_say_nothing(monkeypatch, capsys):
    with doing("compiling"):
        pass
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    with doing("training", elsewhere=False):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_a_wait_moves_on_a_terminal_until_it_is_over(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with doing("compiling [/y]"):
        assert eventually(lambda: len(set(re.findall("[⠀-⣿]", terminal.getvalue()))) > 1)
        say("a line")
    shown = terminal.getvalue()
    assert "compiling [/y] 0:00:00" in shown and "a line\n" in shown
    assert "compiling" not in shown[shown.rindex("\x1b[2K") :]


def test_a_wait_beside_a_bar_is_a_line_below_it(monkeypatch):
    terminal = on_terminal(monkeypatch)
    bar = Bar(100, 0, console())
    with doing("evaluating"):
        assert eventually(lambda: "evaluating" in terminal.getvalue())
    bar.advance(100, 1.0)
    bar.close()
    shown = terminal.getvalue()
    assert re.search("0/100 env steps.*\n.*evaluating", shown)
    assert "100/100 env steps" in shown[shown.rindex("\x1b[2K") :] and "evaluating" not in shown[shown.rindex("\x1b[2K") :]


def test_a_command_that_starts_says_so_until_it_says_something_itself(monkeypatch):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(startup, "QUIET_SECONDS", 0.01)
    with startup.not_silent(["train", "dqn", "--seed", "3"]):
        assert eventually(lambda: "jaxrl: train dqn: starting" in terminal.getvalue())
        say("a line")
        assert terminal.getvalue().endswith("\r\x1b[Ka line\n")


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something comes true within some seconds."""
    return any(holds() or time.sleep(0.02) for _ in range(200))
