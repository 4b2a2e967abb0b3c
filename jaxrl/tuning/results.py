"""What a search leaves behind for people: `trials.csv`, `curves.csv`, `summary.json`, `history.png`, a table, a command.

    write_trials(Path("trials.csv"), tuning, study)               # after every trial
    summary = write_results(tuning, study, folder, worker, watch) # at the end, and again by `jaxrl resume`
    train_command(tuning, summary["best_params"])                 # trains the best values as an ordinary run

All but the seconds of the summary comes from the study, so a lost file is written again by `jaxrl resume`. A new column of
`trials.csv` goes into `write_trials`, a new key of the summary into `write_results`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis.curves import draw_or_say, literal, save_figure
from jaxrl.analysis.results import format_value, show_value, write_curves
from jaxrl.errors import UsageError
from jaxrl.fields import to_words
from jaxrl.records.console import console, say
from jaxrl.records.files import write_csv, write_json
from jaxrl.records.stopwatch import Stopwatch
from jaxrl.runs.definition import Run, Training, values_of
from jaxrl.runs.train import start
from jaxrl.startup import command
from jaxrl.sweeps.export import run_number
from jaxrl.sweeps.plan import configure
from jaxrl.tuning.definition import Tuning, as_sweep, check_package, read_tuning
from jaxrl.tuning.storage import open_own_storage, quiet, storage_errors
from jaxrl.tuning.study import (
    STATES,
    best_trial,
    importances_of,
    is_over,
    open_study,
    point_of,
    trials_of,
)


def write_results(tuning: Tuning, study: Any, folder: Path, worker: str, watch: Stopwatch) -> dict[str, Any]:
    """Writes the tables, the figure and the summary, and shows the best trials.

    Args:
      worker: that of this folder, whose trials took what `watch` says.
    """
    trials, best, importances = trials_of(study, *STATES), best_trial(study), importances_of(study)
    write_trials(folder / "trials.csv", tuning, study)
    counts = {label: len(trials_of(study, state)) for state, label in STATES.items()}
    summary = {
        "agent": tuning.agent,
        "env": tuning.env,
        "objective": tuning.objective,
        "is_over": is_over(tuning, study),
        "best_trial": best and best.number,
        "best_value": best and best.value,
        "best_params": best and point_of(best, tuning),
        "command": best and train_command(tuning, point_of(best, tuning)),
        "trials": counts,
        "compilations": sum(trial.user_attrs.get("compilations", 0) for trial in trials),
        "env_steps": sum(trial.user_attrs.get("env_steps", 0) for trial in trials),
        "importances": importances,
        "trial_seconds": round(sum(trial.user_attrs.get("seconds", 0.0) for trial in trials), 3),
    }
    watch.lap("saving")
    history = folder / "history.png"
    draw_or_say(lambda: _draw(tuning, trials, importances, history), f"draw {history} with: {command('resume', folder)}")
    watch.lap("plotting")
    summary |= watch.named(trial.user_attrs.get("parts", {}) for trial in trials if trial.user_attrs.get("worker") == worker)
    write_json(folder / "summary.json", summary)
    if best is None:
        say("no trial was complete, so none is the best; look at trials.csv")
    else:
        console().print(_table(tuning, study))
    if not summary["is_over"]:
        say(f"{counts['complete'] + counts['pruned']} of {tuning.num_trials} trials; go on with: {command('resume', folder)}")
    return summary


def write_trials(path: Path, tuning: Tuning, study: Any) -> None:
    """Writes a row for each trial that ended, whole or not at all, and its scores at the ends of rungs into `curves.csv`."""
    rows: list[list[Any]] = []
    curves: list[dict[str, Any]] = []
    for trial in trials_of(study, *STATES):
        point, attrs = point_of(trial, tuning), trial.user_attrs
        value = "" if trial.value is None else format_value(trial.value)
        values = [format_value(point[name]) if name in point else "" for name in tuning.fields]
        numbers = [attrs.get("env_steps", ""), attrs.get("seconds", "")]
        rows.append([trial.number, STATES[trial.state.name], value, *values, *numbers])
        curves += [{"run": trial.number, "env_steps": steps, "return_mean": score} for steps, score in attrs.get("curve", ())]
    write_csv(path, ["number", "state", "value", *tuning.fields, "env_steps", "seconds"], rows)
    write_curves(path.with_name("curves.csv"), curves)


def take_trial(folder: Path, trial: str, out: Path) -> dict[str, Any]:
    """Trains a trial of a search, with the first of its seeds, as a run in the new folder `out`, and returns its summary.

    A search keeps scores and no networks; what is trained here is what was scored there, up to rounding.

    Args:
      trial: its number, or best.

    Raises:
      UsageError: no such trial, or `out` cannot be used; nothing was written.
    """
    check_package()
    tuning = read_tuning(folder)
    if tuning.storage is None and not (folder / "study.db").is_file():
        raise UsageError(f"{folder} holds no study.db, where the trials of its search are; search again")
    with quiet(), storage_errors(tuning.storage or str(folder / "study.db")):
        trials = trials_of(study := open_study(tuning, open_own_storage(tuning, folder)), "COMPLETE", "PRUNED")
        best = best_trial(study)
    if trial == "best" and best is None:
        raise UsageError(f"{folder}: no trial is complete, so none is the best; go on with: {command('resume', folder)}")
    number = best.number if trial == "best" else run_number(trial)
    point = next((point_of(one, tuning) for one in trials if one.number == number), None)
    if point is None:
        known = ", ".join(str(one.number) for one in trials[:20]) or "none"
        raise UsageError(f"run={number} is no trial of {folder} that has ended; give best or one of: {known}")
    say(f"trial {number} with seed {tuning.seeds[0]} is trained again, since a search keeps no networks")
    return start(run_of_point(tuning, point), out)


def run_of_point(tuning: Tuning, point: Mapping[str, Any]) -> Run:
    """The run of a point of the search space with the first of the seeds."""
    config, env_options = configure(as_sweep(tuning), point)
    return Run(**values_of(tuning, Training) | {"config": config, "env_options": env_options}, seed=tuning.seeds[0])


def train_command(tuning: Tuning, point: Mapping[str, Any]) -> str:
    """The command line that trains a point of the search space, with the first of the seeds."""
    run = run_of_point(tuning, point)
    return shlex.join(["jaxrl", "train", tuning.agent, *to_words(run), *to_words(run.config)])


def _table(tuning: Tuning, study: Any) -> Any:
    """The best five trials, a column each."""
    from rich.table import Table

    best = sorted(trials_of(study, "COMPLETE"), key=lambda trial: (-trial.value, trial.number))[:5]
    points = [point_of(trial, tuning) for trial in best]
    title = f"{tuning.agent} on {tuning.env}: the best trials"
    table = Table("trial", *(str(trial.number) for trial in best), title=title)
    table.add_row("value", *(f"{trial.value:.4g}" for trial in best))
    for name in tuning.fields:
        table.add_row(name, *(show_value(point[name]) for point in points))
    table.add_row("env steps", *(f"{trial.user_attrs.get('env_steps', 0):,}" for trial in best))
    return table


def _draw(tuning: Tuning, trials: Sequence[Any], importances: Mapping[str, float] | None, out: Path) -> None:
    """All trials and the best so far against env steps used, and the importances."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(10.0 if importances else 6.5, 4.2), layout="constrained")
    left, *right = figure.subplots(1, 2 if importances else 1, squeeze=False, width_ratios=[2, 1][: 2 if importances else 1])[0]
    ended = sorted(trials, key=lambda trial: (trial.datetime_complete, trial.number))
    used = np.cumsum([trial.user_attrs.get("env_steps", 0) for trial in ended])
    for state, style in (("PRUNED", {"mfc": "white", "mec": "0.6"}), ("COMPLETE", {"color": "C0", "mec": "white"})):
        chosen = [index for index, trial in enumerate(ended) if trial.state.name == state and trial.value is not None]
        if not chosen:
            continue
        left.plot(used[chosen], [ended[i].value for i in chosen], "o", ms=6, label=f"{STATES[state]} trials", **style)
        if state == "COMPLETE":
            best = np.maximum.accumulate([ended[index].value for index in chosen])
            left.step([*used[chosen], used[-1]], [*best, best[-1]], where="post", color="C3", lw=1.8, label="best so far")
    left.set_xlabel("env steps of all trials")
    left.set_ylabel(f"{'training' if tuning.objective == 'training' else 'greedy'} return (interquartile mean of seeds)")
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    if left.has_data():
        left.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize="small")
    for axes in right:
        names = sorted(importances or {}, key=lambda name: (importances or {})[name])
        axes.barh(list(map(literal, names)), [(importances or {})[name] for name in names], height=0.5, color="C0")
        axes.set_xlabel("importance (PED-ANOVA)")
    for axes in (left, *right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, out, "out")
