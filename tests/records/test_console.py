"""What a terminal shows of a user's own names."""

from pathlib import Path

import pytest

from jaxrl.records.console import console, say, summary_table

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
