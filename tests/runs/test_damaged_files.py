"""Own files that are damaged: each command ends well, or with one line that says what is wrong; never with a traceback."""

import contextlib
import json
import shutil

import pytest

from jaxrl.cli import commands as cli
from jaxrl.records.folders import alone
from jaxrl.records.rows import WALL_CLOCK_FIELDS

TRAIN = ("q_learning", "--env", "gridworld/classic", "--total-steps", "200", "--num-rows", "4", "--eval-episodes", "2")
OWN = ("*.json", "*.jsonl", "*.csv", "*.db", "*.png", "*.html", ".lock", "lock", "log.txt")


def run(*arguments):
    """Exit code of a command."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(argument) for argument in arguments])
        raise SystemExit(0)
    return end.value.code or 0


def lines(capsys):
    """What was said, without the progress of training."""
    return [line for line in capsys.readouterr().err.splitlines() if "env steps" not in line]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "run"
    cli.main(["train", *TRAIN, "--checkpoint-seconds", "0", "--keep-every", "100", "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """A sweep in a batch with two rungs, one whose runs are trained alone, and a search."""
    root = tmp_path_factory.mktemp("damaged")
    grid, seeds = ("--grid", "learning_rate=0.1,0.2"), ("--seeds", "2")
    halving = ("--schedule", "halving", "--min-steps", "50", "--reduction", "2")
    cli.main(["sweep", *TRAIN, *grid, *seeds, *halving, "--out", str(root / "batch")])
    cli.main(["sweep", *TRAIN, *seeds, "--batching", "solo", "--out", str(root / "solo")])
    search = ("--draw", "learning_rate=log:1e-3:1", "--num-trials", "2", *seeds)
    cli.main(["tune", *TRAIN[:5], *TRAIN[7:], *search, "--out", str(root / "search")])
    return root


def test_a_damaged_summary_is_written_again_though_no_curve_can_be_drawn(finished, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(finished, tmp_path / "run")
    before = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text('{"agent": ')
    monkeypatch.setattr("jaxrl.runs.train.plot_runs", lambda *_: 1 / 0)
    capsys.readouterr()
    cli.main(["resume", str(folder)])
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{folder / 'summary.json'} cannot be read (")
    assert first.endswith("); it is written again, from the last checkpoint")
    assert any(line.startswith("it could not be drawn (division by zero); ") for line in others)
    after = json.loads((folder / "summary.json").read_text())
    changed = {name for name in before if before[name] != after[name]}
    assert all(name.endswith("_seconds") or name in WALL_CLOCK_FIELDS for name in changed)


def test_a_run_that_another_process_trains_can_be_read_but_not_resumed(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "summary.json").unlink()
    with alone(folder):
        assert fault(capsys, "evaluate", folder, "--episodes", 2) is None
        assert fault(capsys, "plot", folder, "--out", tmp_path / "x.png") is None
        before = sorted(folder.rglob("*"))
        assert run("resume", folder) == 2
        assert f"jaxrl: {folder} is worked on by process " in capsys.readouterr().err
        assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind_of_sweep", ["batch", "solo"])
@pytest.mark.parametrize("name", ["outcome.json", "rows.jsonl", "units.json", "results.csv"])
def test_what_is_damaged_of_a_sweep_is_done_again_to_the_same_results(sweeps, tmp_path, kind_of_sweep, name):
    folder = shutil.copytree(sweeps / kind_of_sweep, tmp_path / "copy")
    curves, harmed = (folder / "curves.csv").read_bytes(), sorted(folder.rglob(name))
    for path in harmed:
        path.write_bytes(path.read_bytes()[:-20])
    cli.main(["resume", str(folder)])
    assert (folder / "curves.csv").read_bytes() == curves
    assert run("take", folder, 1, "--out", tmp_path / "taken") == 0
    assert all(path.read_bytes().endswith((b"}\n", b"\n")) for path in harmed)


# --- each kind of damage ------------------------------------------------------------------------------------------------


def as_folder(path):
    path.unlink()
    path.mkdir()


def retyped(path):
    """Every value of a JSON text of another type."""
    text = path.read_text(errors="replace")
    with contextlib.suppress(ValueError):
        values = json.loads(text)
        other = {name: [value] if isinstance(value, (str, int, float)) else 3 for name, value in dict(values).items()}
        path.write_text(json.dumps(other))
        return
    path.write_text("\n".join('{"kind": 3, "env_steps": "x", "run": []}' for _ in text.splitlines()) + "\n")


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 3),
    "not UTF-8": lambda path: path.write_bytes(path.read_bytes().replace(b"e", b"\xe9")),
    "NULs": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "a list": lambda path: path.write_text("[1, 2]\n"),
    "a number": lambda path: path.write_text("7\n"),
    "null": lambda path: path.write_text("null\n"),
    "an empty table": lambda path: path.write_text("{}\n"),
    "deep": lambda path: path.write_text("[" * 50_000 + "\n"),
    "long digits": lambda path: path.write_text("9" * 5000 + "\n"),
    "retyped": retyped,
    "a folder": as_folder,
    "missing": lambda path: path.unlink(),
}


def damaged(original, copy):
    """(name of a file, kind of damage, damaged copy) for every own file and kind; of files that are not read a few kinds."""
    for path in sorted({found for pattern in OWN for found in original.rglob(pattern)}):
        is_read = path.suffix in (".json", ".jsonl", ".csv", ".db")
        for kind in DAMAGES if is_read else ("bytes", "a folder", "missing"):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(original, copy)
            DAMAGES[kind](copy / path.relative_to(original))
            yield path.relative_to(original), kind, copy


def fault(capsys, *command):
    """What is wrong with how a command ended, None if nothing is."""
    capsys.readouterr()
    try:
        code = run(*command)
    except Exception as error:
        return f"{command[0]} raised {type(error).__name__}: {str(error)[:200]}"
    said = capsys.readouterr().err
    is_line = not code or said.splitlines()[-1].startswith("jaxrl: ")
    return None if code in (0, 1, 2) and is_line and "Traceback" not in said else f"{command[0]} {code}: {said[-500:]}"


def faults(capsys, cases):
    return [
        f"{name} {kind}: {found}"
        for name, kind, commands in cases
        for found in [fault(capsys, *one) for one in commands]
        if found
    ]


@pytest.mark.slow
def test_no_damage_to_a_run_ends_in_a_traceback(finished, tmp_path, capsys):
    def cases():
        for name, kind, folder in damaged(finished, tmp_path / "run"):
            plot = "plot", folder, "--out", tmp_path / "x.png"
            if name.parts[0] == "snapshots":
                yield name, kind, [("evaluate", folder, "--episodes", 2, "--at", 100)]
            else:
                yield name, kind, [plot, ("evaluate", folder, "--episodes", 2), ("resume", folder), plot]

    assert faults(capsys, cases()) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind_of_sweep", ["batch", "solo", "search"])
def test_no_damage_to_a_sweep_or_a_search_ends_in_a_traceback(sweeps, tmp_path, capsys, kind_of_sweep):
    def cases():
        taken = tmp_path / "taken"
        for name, kind, folder in damaged(sweeps / kind_of_sweep, tmp_path / "copy"):
            shutil.rmtree(taken, ignore_errors=True)
            plot, resume = ("plot", folder, "--out", tmp_path / "x.png"), ("resume", folder)
            takes = [("take", folder, 0, "--out", taken), ("compare", folder, sweeps / "batch")]
            yield name, kind, [plot, *([] if kind_of_sweep == "search" else takes), resume, plot]

    assert faults(capsys, cases()) == []
