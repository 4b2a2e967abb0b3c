"""Folders and disks that cannot be written: one line each, and what was learned is kept."""

import errno
import os

import pytest

from jaxrl.cli import commands as cli
from jaxrl.records import checkpoint, rows

TRAIN = ("train", "q_learning", "--env", "gridworld/classic", "--total-steps", "200", "--num-rows", "4", "--eval-episodes", "2")


def refusal(capsys, code, *arguments):
    """The line of a command that ends with `code`."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    said = capsys.readouterr().err
    assert end.value.code == code, said
    return said.splitlines()[-1]


def is_full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_leaves_the_last_whole_checkpoint_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    folder, digest = tmp_path / "run", checkpoint._digest
    monkeypatch.setattr(checkpoint, "_digest", lambda path: is_full() if "partial-150" in path.parts else digest(path))
    line = refusal(capsys, 1, *TRAIN, "--checkpoint-seconds", "0", "--out", str(folder))
    assert line.endswith(f"cannot be written (No space left on device); go on with: jaxrl resume {folder}")
    assert checkpoint.iterations(folder / "checkpoints") == [100, 50]
    monkeypatch.undo()
    cli.main(["resume", str(folder)])
    assert "resuming at 100 env steps" in capsys.readouterr().err
    assert len(rows.read_rows(folder / "metrics.jsonl")) == 5


@pytest.mark.parametrize("name", ["a" * 300, os.fsdecode(b"\xff")], ids=["long", "bytes"])
@pytest.mark.parametrize("command", [(*TRAIN, "--out"), ("resume",), ("evaluate",), ("plot",), ("compare", "runs")], ids=str)
def test_a_name_that_cannot_be_used_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, command, name):
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, 2, *command, name).startswith("jaxrl: ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / ".lock").mkdir()
    line = refusal(capsys, 2, *TRAIN, "--out", str(tmp_path))
    assert line.startswith(f"jaxrl: {tmp_path / '.lock'} cannot be written")


def test_a_current_folder_that_is_gone_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "the current folder is gone; go to another one" in refusal(capsys, 2, *TRAIN)
    cli.main(["list", "agents"])
