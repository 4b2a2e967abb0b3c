"""Who works on a folder, and which names it may have."""

import os
import signal
import warnings
from pathlib import Path

import pytest

from helpers import started
from jaxrl.errors import UsageError
from jaxrl.records.folders import alone, check_folder, new_folder


def test_a_second_process_on_a_folder_is_refused_until_the_first_is_dead(tmp_path):
    program = "import sys, time; from pathlib import Path; from jaxrl.records.folders import alone\n"
    program += "with alone(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with started("-c", program, str(tmp_path)) as process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(UsageError, match=rf"is worked on by process {process.pid} on .*; wait for its end"),
            alone(tmp_path),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with alone(tmp_path):
            pass


def test_a_fork_does_not_keep_the_lock_of_its_parent(tmp_path):
    (may_end, end), (is_begun, begin) = os.pipe(), os.pipe()
    with alone(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # JAX warns of forks.
        child = os.fork()
        if child == 0:
            os.write(begin, b".")
            os.read(may_end, 1)
            os._exit(0)
    try:
        os.read(is_begun, 1)
        with alone(tmp_path):
            pass
    finally:
        os.write(end, b".")
        os.waitpid(child, 0)


def test_a_new_folder_may_hold_the_lock_of_a_process_that_was_killed_as_it_began(tmp_path):
    with alone(tmp_path / "."):
        pass
    with new_folder(tmp_path, "run", "config.json"):
        (tmp_path / "config.json").touch()
    with pytest.raises(UsageError, match="already holds a run"), new_folder(tmp_path, "run", "config.json"):
        pass


def test_a_folder_of_something_else_is_left_as_it_was(tmp_path):
    (tmp_path / "letter.txt").touch()
    with pytest.raises(UsageError, match="is not empty"), new_folder(tmp_path, "run", "config.json"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("a\0b", "give another name"), ("a" * 300, "File name too long"), (os.fsdecode(b"\xff"), "give another name")],
    ids=["NUL", "long", "bytes"],
)
def test_names_that_no_file_system_or_terminal_takes_are_refused(tmp_path, name, message):
    with pytest.raises(UsageError, match=f"^out=.*{message}"):
        check_folder("out", tmp_path / name)


def test_a_current_folder_that_is_gone_is_named(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match=r"^out=run: the current folder is gone; go to another one$"):
        check_folder("out", Path("run"))
