"""What the studies of several seeds share: their runs, their score with an interval, their results on disk.

A study is an agent, an environment and a config that were chosen on other seeds than those reported. Its seeds are a sweep in
`RUNS/STUDY`, each trained alone, as many at once as there are cores; a study that was interrupted goes on there. Results go to
`experiments/results/STUDY.json` and `.png`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jaxrl
from jaxrl.analysis import bootstrap_interval, plot_runs
from jaxrl.config import Config
from jaxrl.records import write_json


class Study(NamedTuple):
    """What is run.

    Attributes:
      goal: the mean score to reach, None where an agent is expected to fail.
      score: "evaluation" is the greedy return of the final policy, "training_return" that of the last 100 training episodes.
      eval_every: env steps between the dots of the figure.
    """

    agent: str
    env: str
    config: Config
    goal: float | None
    total_steps: int = 500_000
    num_seeds: int = 5
    score: str = "evaluation"
    env_options: Mapping[str, Any] = {}
    eval_every: int = 25_000
    eval_episodes: int = 100


@dataclasses.dataclass(frozen=True)
class Options:
    """Which study to run, and where its runs go."""

    study: str
    """One of those that the script lists."""
    runs: Path = Path("runs/studies")
    results: Path = Path("experiments/results")
    seed: int | None = None
    """Train this seed alone, in `RUNS/STUDY-sSEED`, and write no results."""


def run_study(options: Options, studies: Mapping[str, Study], script: str) -> None:
    """Runs one study and writes its results."""
    if options.study not in studies:
        raise SystemExit(f"study={options.study!r} is unknown; choose one of {', '.join(studies)}")
    study = studies[options.study]
    alone = "" if options.seed is None else f"-s{options.seed}"
    trained = jaxrl.sweep(
        study.agent,
        study.env,
        seeds=study.num_seeds if options.seed is None else [options.seed],
        out=options.runs / f"{options.study}{alone}",
        batching="solo",
        env_options=dict(study.env_options),
        total_steps=study.total_steps,
        eval_every=study.eval_every,
        eval_episodes=study.eval_episodes,
        **vars(study.config),
    )
    if alone:
        return
    folders = [trained.run_folder(run) for run in trained.results.run]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    result = _result(options.study, study, summaries, folders[0], script)
    options.results.mkdir(parents=True, exist_ok=True)
    write_json(options.results / f"{options.study}.json", result)
    plot_runs(folders, options.results / f"{options.study}.png")
    low, high = result["interval_95"]
    print(
        f"{options.study}: {result['mean_score']:.1f} [{low:.1f}, {high:.1f}] over {study.num_seeds} seeds, goal {study.goal}"
    )


def _result(name: str, study: Study, summaries: list[dict], folder: Path, script: str) -> dict[str, Any]:
    scores = np.array([summary[study.score]["mean"] for summary in summaries])
    low, high = bootstrap_interval(scores) if len(scores) > 1 else (scores.mean(), scores.mean())
    config = json.loads((folder / "config.json").read_text())
    return {
        "command": f"python experiments/{script} --study {name}",
        "agent": study.agent,
        "env": study.env,
        "env_options": dict(study.env_options),
        "score": study.score,
        "goal": study.goal,
        "reached": None if study.goal is None else bool(scores.mean() >= study.goal),
        "mean_score": float(scores.mean()),
        "interval_95": [float(low), float(high)],
        "interval": "percentile bootstrap over seeds" if len(scores) > 1 else "none: one seed",
        "seeds": list(range(study.num_seeds)),
        "greedy_returns": [summary["evaluation"]["mean"] for summary in summaries],
        "episodes_per_seed": summaries[0]["evaluation"]["episodes"],
        "last_100_training_episodes": [summary["training_return"]["mean"] for summary in summaries],
        "protocol": summaries[0].get("protocol"),
        "env_steps": summaries[0]["env_steps"],
        "steps_per_second": [summary["steps_per_second"] for summary in summaries],
        "config": config["config"],
        "versions": config["versions"],
        "device": config["device"],
    }
