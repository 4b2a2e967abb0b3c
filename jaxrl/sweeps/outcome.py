"""What came of the units of a sweep: their folders under `state/`, and how their files are read and checked.

outcome = read_outcome(folder, "b0-r0-0")        # None before the unit is done, and where it must be done again
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.errors import UsageError
from jaxrl.records.console import PARTS, say
from jaxrl.records.files import Types, misfit, read_json
from jaxrl.records.folders import check_places
from jaxrl.records.rows import Row, read_rows
from jaxrl.startup import command

OK, NAN, STOPPED = "ok", "nan", "stopped"

_AGAIN = "this unit is done again"
_MAYBE = (float, type(None))
_REPORT: Types = {"status": str, "env_steps": int, "final_return": _MAYBE, "episodes": int, "eval_return": _MAYBE}
_OUTCOME: Types = {
    **dict.fromkeys(("group", "compilations", "bytes"), int),
    **dict.fromkeys(("runs", "values", "reports"), list),
    "seconds": float,
}
_ROW: Types = {"kind": str, "run": int, "env_steps": int, "return_mean": _MAYBE}
META: Types = {"rows_bytes": int, "reports": list, "iteration": int, "seconds": float}
"""What a checkpoint of a unit says of itself."""


class Report(NamedTuple):
    """How a run stands.

    Attributes:
      status: `ok`, `nan` (its policy holds a NaN, or its returns are no numbers at the end) or `stopped` (it reached the
        return at which to stop).
      env_steps: that it has done.
      final_return: mean of the last training episodes, None if there is none.
      episodes: of which that is the mean.
      eval_return: mean greedy return, None if it was not evaluated.
    """

    status: str = OK
    env_steps: int = 0
    final_return: float | None = None
    episodes: int = 0
    eval_return: float | None = None


def unit_folder(folder: Path, name: str) -> Path:
    """Where a unit of the sweep in `folder` keeps its files."""
    return folder / "state" / name


def read_outcome(folder: Path, name: str) -> dict[str, Any] | None:
    """What came of a unit: group, runs, values, reports, seconds, compilations, bytes, and parts, its seconds by part.

    None before it is done, and where its outcome or its rows are damaged, which is said: it is done again then.
    """
    path = unit_folder(folder, name)
    check_places(path, ("outcome.json", "rows.jsonl"), ("checkpoints",))
    if not (path / "outcome.json").exists():
        return None
    try:
        outcome = read_json(path / "outcome.json", _OUTCOME, _AGAIN)
        if fault := next(filter(None, (misfit(report, _REPORT) for report in outcome["reports"])), None):
            raise UsageError(f"{path / 'outcome.json'} is damaged ({fault}); {_AGAIN}")
        if len({len(outcome[each]) for each in ("runs", "values", "reports")}) > 1:
            raise UsageError(f"{path / 'outcome.json'} is damaged (not all runs have a report); {_AGAIN}")
        if fault := misfit(outcome.get("parts", dict.fromkeys(PARTS, 0.0)), dict.fromkeys(PARTS, float)):
            raise UsageError(f"{path / 'outcome.json'} is damaged (parts: {fault}); {_AGAIN}")
        check_rows(path / "rows.jsonl", outcome.get("rows_bytes", 0))
    except UsageError as error:
        say(str(error))
        return None
    return outcome


def check_rows(path: Path, num_bytes: int) -> None:
    """Checks that the rows of a unit can be read, and are as many bytes as they were at least.

    Raises:
      UsageError: they are not.
    """
    read_rows(path, _ROW)
    if (held := path.stat().st_size) < num_bytes:
        raise UsageError(f"{path} is damaged ({held} of {num_bytes} bytes); {_AGAIN}")


def read_unit_rows(folder: Path, name: str) -> list[Row]:
    """Rows of a finished unit.

    Raises:
      UsageError: they cannot be read.
    """
    return read_rows(unit_folder(folder, name) / "rows.jsonl", _ROW)


def need_outcome(folder: Path, name: str) -> dict[str, Any]:
    """What came of a unit that is done; as `read_outcome`.

    Raises:
      UsageError: it is not done, or damaged.
    """
    if (outcome := read_outcome(folder, name)) is None:
        raise UsageError(f"{unit_folder(folder, name)} is not done; go on with: {command('resume', folder)}")
    return outcome
