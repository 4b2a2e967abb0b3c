"""Runs that can be drawn, from the folders of runs, sweeps and searches, and which of them make one curve.

    curves = group(read_learned(Path("runs/sweep")), by=("learning_rate",))

Runs make one curve only if they differ in nothing but the seed, or if `by` says what alone is to tell curves apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.analysis.results import read_cell, read_curves, read_results, show_value
from jaxrl.errors import UsageError, unknown
from jaxrl.records.files import read_json, read_table
from jaxrl.records.rows import read_rows
from jaxrl.startup import command

# What neither changes what is learned nor how: it does not tell curves apart, unless it is asked for.
_NEUTRAL = frozenset(
    {
        *("seed", "seeds", "num_rows", "eval_every", "eval_episodes", "checkpoint_seconds", "keep_every", "track"),
        *("checkpoint_replay", "debug", "devices", "stream", "extend_from"),
    }
)
# What belongs to a sweep or search as a whole, or to a file.
_NO_FIELDS = frozenset(
    {
        *("config", "configs", "fields", "draws", "choices", "env_options", "eval_env_options", "command", "batching"),
        *("memory_limit", "executor", "versions", "device", "worker", "storage", "study_name", "max_seconds", "sampler"),
        *("sampler_seed", "num_trials", "num_rungs", "pruner", "objective", "stop_return"),
    }
)
_MAX_LABEL = 60


class Learned(NamedTuple):
    """How one run learned.

    Attributes:
      name: its folder, and its number there.
      fields: what it was trained with: fields of the run and of its config, options of the environment as `env.NAME`.
      curve: [K, 2] env steps and mean training return.
      evaluations: [E, 2] env steps and mean greedy return.
    """

    name: str
    fields: dict[str, Any]
    curve: np.ndarray
    evaluations: np.ndarray


class Curve(NamedTuple):
    """Runs that make one curve.

    Attributes:
      num_kinds: how many sorts of runs there are among them, which differ in more than the seed.
    """

    label: str
    runs: tuple[Learned, ...]
    num_kinds: int


# --- reading --------------------------------------------------------------------------------------------------------


def read_learned(folder: Path) -> list[Learned]:
    """The run in a folder, or all that a sweep or search there has trained.

    Raises:
      UsageError: it holds none of them, or one that cannot be read or is not finished.
    """
    if (folder / "sweep.json").is_file():
        return _of_sweep(folder)
    if (folder / "tune.json").is_file():
        return _of_search(folder)
    return [_of_run(folder)]


def _of_run(folder: Path) -> Learned:
    fields = _fields(_definition(folder / "config.json"))
    path = folder / "metrics.jsonl"
    if not path.exists():
        raise UsageError(f"{folder} has no metrics.jsonl yet; wait for its first row")
    rows = read_rows(path)
    return Learned(str(folder), fields, _points(rows, "train", "return_mean"), _points(rows, "eval", "eval_return"))


def _points(rows: list[dict[str, Any]], kind: str, field: str) -> np.ndarray:
    """[N, 2] env steps and values of the rows that have one."""
    points = [(row["env_steps"], row[field]) for row in rows if row["kind"] == kind and row.get(field) is not None]
    return np.array(points, float).reshape(-1, 2)


def _of_sweep(folder: Path) -> list[Learned]:
    results = read_results(folder)
    shared = _fields(results.sweep)
    scored = np.stack([results.env_steps, results.eval_return], axis=1)
    return [
        Learned(
            f"{folder} run {results.run[row]}",
            shared | {name: _plain(results.values[name][row]) for name in results.fields} | {"seed": int(results.seed[row])},
            results.curves[row][~np.isnan(results.curves[row][:, 1])],
            scored[row : row + 1][~np.isnan(scored[row : row + 1, 1])],
        )
        for row in range(len(results.run))
    ]


def _of_search(folder: Path) -> list[Learned]:
    """Of each trial the interquartile mean of its seeds, at the ends of its rungs."""
    tuning = _definition(folder / "tune.json")
    shared, names = _fields(tuning), [*tuning["draws"], *tuning["choices"]]
    for name in ("trials.csv", "curves.csv"):
        if not (folder / name).is_file():
            raise UsageError(f"{folder} has no {name} yet; wait for its first trial, or: {command('resume', folder)}")
    header, fix = (
        ["number", "state", "value", *names, "env_steps", "seconds"],
        f"write it again with: {command('resume', folder)}",
    )
    trials = read_table(folder / "trials.csv", header, fix)
    numbers = [read_cell(cell) for trial in trials for cell in (trial[0], trial[2] or "0")]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise UsageError(f"{folder / 'trials.csv'} is damaged (a number or a value is none); {fix}")
    curves = read_curves(folder / "curves.csv", np.array(numbers[::2]))
    learned = []
    for (number, _, value, *values), curve in zip(trials, curves, strict=True):
        given = {name: _plain(read_cell(cell)) for name, cell in zip(names, values, strict=False) if cell}
        ended = [(tuning["total_steps"], value)] if value and tuning["objective"] == "evaluation" else []
        evaluations = np.array(ended, float).reshape(-1, 2)
        learned.append(Learned(f"{folder} trial {number}", shared | given, curve, evaluations))
    return learned


def _definition(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UsageError(f"{path.parent} holds no run; give folders that `jaxrl train`, `sweep` or `tune` wrote")
    return read_json(path, {"agent": str, "env": str, "config": dict, "env_options": dict}, "give another folder")


def _fields(definition: dict[str, Any]) -> dict[str, Any]:
    """What a definition's file says of how its runs were trained, as one flat table."""
    fields = {name: value for name, value in definition.items() if name not in _NO_FIELDS} | definition.get("config", {})
    fields["schedule"] = (definition.get("schedule") or {}).get("method", "none")
    for prefix, name in (("env.", "env_options"), ("eval_env.", "eval_env_options")):
        fields |= {f"{prefix}{option}": value for option, value in definition.get(name, {}).items()}
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    """A value as a table of results holds it, whose numbers have 9 digits and whose tuples of one are that one."""
    if isinstance(value, (list, tuple)):
        return _plain(value[0]) if len(value) == 1 else tuple(map(_plain, value))
    return float(f"{value:.9g}") if isinstance(value, float) else repr(value) if isinstance(value, dict) else value


# --- which runs make one curve --------------------------------------------------------------------------------------


def group(runs: Sequence[Learned], by: Sequence[str] = ()) -> tuple[str, list[Curve]]:
    """What all runs have in common, as a title, and the curves that they make, in the order of what tells them apart.

    Args:
      by: fields that alone tell curves apart; by default all do but the seed and what changes nothing that is learned.

    Raises:
      UsageError: `by` names what no run has.
    """
    known = {name: None for run in runs for name in run.fields}
    for name in by:
        if name not in known:
            raise UsageError(unknown("field", name, known) + "; give --by a field of the runs, or env.NAME")
    shared = {(run.fields["agent"], run.fields["env"]) for run in runs}
    title = " on ".join(next(iter(shared))) if len(shared) == 1 else ""
    members = _members(runs, by, known)
    order = sorted(members, key=lambda key: (key.family, [(name, _rank(value)) for name, value in key.values]))
    labels = [_label(title, key, members[key][0].name) for key in order]
    curves = []
    for key, label in zip(order, labels, strict=True):
        same = tuple(members[key])
        told = label if labels.count(label) == 1 else f"{same[0].name}: {label}"  # Values differ in digits that are not shown.
        curves.append(Curve(told, same, len({_kind(run) for run in same}) if by else 1))
    return title, curves


class _Key(NamedTuple):
    """What the runs of a curve share: agent and environment, and values of the fields that tell curves apart."""

    family: tuple[str, ...]
    values: tuple[tuple[str, Any], ...]


def _members(runs: Sequence[Learned], by: Sequence[str], known: Iterable[str]) -> dict[_Key, list[Learned]]:
    """The runs of each curve."""
    families: dict[tuple[str, ...], list[Learned]] = {}
    for run in runs:
        families.setdefault(() if by else (run.fields["agent"], run.fields["env"]), []).append(run)
    members: dict[_Key, list[Learned]] = {}
    for family, alike in families.items():
        names = tuple(by) or tuple(name for name in known if name not in _NEUTRAL and _tells_apart(name, alike))
        for run in alike:
            values = tuple((name, run.fields.get(name, _missing(name))) for name in names)
            members.setdefault(_Key(family, values), []).append(run)
    return members


def _kind(run: Learned) -> frozenset[tuple[str, Any]]:
    """What tells a run from those that differ in nothing but the seed."""
    return frozenset((name, value) for name, value in run.fields.items() if name not in _NEUTRAL)


def _tells_apart(name: str, runs: list[Learned]) -> bool:
    """Whether runs of one agent and environment differ in a field; that a file of another version lacks it is none."""
    values = {run.fields.get(name, _missing(name)) for run in runs}
    return len(values if "." in name else values - {_missing(name)}) > 1


def _missing(name: str) -> str:
    return "default" if "." in name else "-"


def _rank(value: Any) -> tuple[int, Any]:
    """Sorts numbers by size, whatever stands among them."""
    return (0, value) if isinstance(value, (int, float)) else (1, str(value))


def _label(title: str, key: _Key, name: str) -> str:
    words = [] if title or not key.family else [" on ".join(key.family)]
    words += [f"{field} {show_value(value)}" for field, value in key.values]
    label = ", ".join(words) or title
    if len(label) <= _MAX_LABEL:
        return label
    return f"{Path(name).name}: {label}"[: _MAX_LABEL - 1] + "…"
