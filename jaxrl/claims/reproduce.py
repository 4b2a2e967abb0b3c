"""Runs claims and writes what came of them: a JSON, a figure, and the row of a table.

    result = reproduce(find("ppo-CartPole-v1"), Path("reproduced"))
    result["verdict"]                             # "above", "reproduced", "below", ...

The seeds of a claim are one sweep in `OUT/runs/NAME`: a batch of one program where the environment is pure, runs side by side
where it lives on the host. A claim that was interrupted goes on there, and one that is complete is only read.

Seeds that were killed go on from their last checkpoint. Environments of the host cannot be saved: there a seed that was killed
begins again, so that its score is that of an undisturbed run, and only one that was interrupted (Ctrl-C) goes on from the agent
that it saved then, with new episodes.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl import envs
from jaxrl.agents import load_agent
from jaxrl.analysis.curves import draw_or_say
from jaxrl.analysis.results import Results
from jaxrl.claims.claim import BEST, GREEDY, SCORES, Claim, Table, check_claim, run_name, sized
from jaxrl.claims.figure import draw_claim
from jaxrl.claims.verdict import BELOW, REPRODUCED, Judged, judge
from jaxrl.errors import UsageError, unknown
from jaxrl.records.files import write_json, writing
from jaxrl.records.rows import plain, read_rows
from jaxrl.runs.definition import versions
from jaxrl.sweeps.api import SweepResult, sweep
from jaxrl.sweeps.export import own_folder
from jaxrl.types import Env

CHECKPOINT_SECONDS, _NEVER = 30.0, 1e9
"""Between checkpoints of a run."""
_MAPPINGS = ("env_options", "eval_env_options", "config")
"""Fields of a claim."""


def reproduce(
    claim: Claim,
    out: Path,
    num_seeds: int | None = None,
    quick: bool = False,
    executor: str = "local",
    typed: str | None = None,
) -> dict[str, Any]:
    """Runs a claim's seeds, or goes on with them, and returns what is written to `OUT/NAME.json`.

    A quick version and one of another number of seeds have names of their own, so that no result of the claim is lost to them.

    Args:
      num_seeds: how many of the claim's seeds; more are counted on from the last one. All of the claim's by default.
      quick: a small version: two seeds and a twentieth of the env steps, no verdict.
      executor: of `jaxrl.sweep`.
      typed: what `jaxrl reproduce` is given to find the claim, its name by default.

    Raises:
      UsageError: a claim that does not fit its agent or environment, or a folder that holds another.
      EnvError: an environment failed; the same call goes on.
      DiskError: a file could not be written.
    """
    check_claim(claim)
    _check_config(claim)
    run, name = sized(claim, num_seeds, quick), run_name(claim, num_seeds, quick)
    trained = sweep(
        run.agent,
        run.env,
        seeds=run.seeds,
        out=out / "runs" / name,
        env_options=dict(run.env_options),
        eval_env_options=dict(run.eval_env_options),
        total_steps=run.total_steps,
        eval_every=run.eval_every,
        eval_episodes=run.eval_episodes,
        batching="solo" if run.eval_every else "auto",
        checkpoint_seconds=_NEVER if _is_on_host(run) else CHECKPOINT_SECONDS,
        executor=executor,
        **run.config,
    )
    scores = seed_scores(trained, run.protocol.score)
    judged = judge(run, scores, int(trained.results.env_steps.max()))
    if quick:
        judged = judged._replace(word="quick: no verdict", interval=None, reasons=())
    elif len(run.seeds) != len(claim.seeds):
        reason = f"{len(run.seeds)} seeds, where the claim has {len(claim.seeds)}"
        judged = judged._replace(reasons=(*judged.reasons, reason))
    options = ["--quick"] * quick + ["--seeds", str(num_seeds)] * (num_seeds is not None)
    result = _result(claim, trained, scores, judged) | {
        "command": shlex.join(["jaxrl", "reproduce", typed or claim.name, *options])
    }
    if run.eval_every:  # The end beside the best, and the best beside what is no evaluation.
        beside, kind = ("final", GREEDY) if run.protocol.score == BEST else ("best", BEST)
        other = judge(run, seed_scores(trained, kind))
        result[beside] = plain({"mean": other.mean}) | {"interval_95": None if quick else _interval(other)}
    _write(result, out / f"{name}.json")
    draw_or_say(lambda: draw_claim(claim, trained, judged, out / f"{name}.png"), "the same command draws it again")
    return result


def _check_config(claim: Claim) -> None:
    """Refuses what the agent's config does not have, before a sweep would take it for an argument of its own."""
    known = load_agent(claim.agent)[1].__dataclass_fields__
    for field in claim.config:
        if field not in known:
            raise UsageError(f"claim={claim.name!r}: config: {unknown('field', str(field), known)}")


def _is_on_host(claim: Claim) -> bool:
    if not envs.is_own(claim.env):
        return envs.resolve(claim.env)[0] in envs.HOST
    env = envs.make(claim.env, 1, **claim.env_options)
    if isinstance(env, Env):
        return False
    env.close()
    return True


def seed_scores(trained: SweepResult, kind: str) -> dict[int, float]:
    """Of each seed its score of a kind; NaN of a run that failed: it became NaN, or no episode ended."""
    results = trained.results
    found = _best(trained) if kind == BEST else results.eval_return if kind == GREEDY else results.final_return
    found = np.where(results.status == "nan", math.nan, found)
    return {int(seed): float(score) for seed, score in zip(results.seed, found, strict=True)}


def _best(trained: SweepResult) -> np.ndarray:
    """[N] each run's evaluation at that time of training at which the mean over runs is greatest, as such figures are printed.

    The mean of every run's own best would be larger. Times at which a run has no evaluation do not count.
    """
    curves: list[dict[int, float]] = []
    for run in trained.results.run:
        rows = read_rows(trained.run_folder(int(run)) / "metrics.jsonl")
        curves.append({row["env_steps"]: row["eval_return"] for row in rows if row["kind"] == "eval"})
    shared = [steps for steps in curves[0] if all(curve.get(steps) is not None for curve in curves)]
    values = np.array([[curve[steps] for steps in shared] for curve in curves], float)
    return values[:, values.mean(axis=0).argmax()] if shared else np.full(len(curves), math.nan)


def _result(claim: Claim, trained: SweepResult, scores: Mapping[int, float], judged: Judged) -> dict[str, Any]:
    results, seconds = trained.results, _seconds(trained)
    return {
        "claim": dataclasses.asdict(claim) | {name: plain(getattr(claim, name)) for name in _MAPPINGS},
        "verdict": judged.word,
        "reasons": list(judged.reasons),
        "score": SCORES[claim.protocol.score],
        **plain({"mean": judged.mean, "iqm": judged.iqm}),
        "interval_95": _interval(judged),
        "num_seeds": judged.num_seeds,
        "num_failed": judged.num_failed,
        "scores": plain({str(seed): score for seed, score in scores.items()}),
        "greedy_returns": _listed(results, "eval_return"),
        "last_training_returns": _listed(results, "final_return"),
        "env_steps": int(results.env_steps.max()),
        "wall_seconds": round(seconds, 3),
        "minutes": round(seconds / 60, 2),
        "cores": len(os.sched_getaffinity(0)),
        "config": results.sweep["config"],
        "versions": results.sweep["versions"],
        "device": results.sweep["device"],
        "date": time.strftime("%Y-%m-%d", time.localtime((trained.folder / "summary.json").stat().st_mtime)),
    }


def _interval(judged: Judged) -> list[float] | None:
    return None if judged.interval is None else list(plain(dict(zip(("low", "high"), judged.interval, strict=True))).values())


def _seconds(trained: SweepResult) -> float:
    """Of work on all cores, over all processes that were interrupted; what was done again after a kill counts once."""
    results = trained.results
    is_serial = results.sweep["executor"] == "local" and own_folder(trained.folder, 0) is None
    at_once = 1 if is_serial else min(len(os.sched_getaffinity(0)), results.summary["batches"])
    return float(results.wall_seconds.sum()) / at_once


def reproduce_table(table: Table, out: Path, typed: str | None = None) -> dict[str, Any]:
    """Solves the MDP of a published table and compares every value; returns what is written to `OUT/NAME.json`.

    Raises:
      UsageError: the environment has no known MDP, or another number of states.
    """
    import jax

    from jaxrl.mdp import solvers

    check_claim(table)
    began = time.perf_counter()
    envs.exact(table.env, table.gamma, **table.env_options)  # What it imports must not make its constants in double precision.
    with jax.enable_x64(True):
        mdp = envs.exact(table.env, table.gamma, **table.env_options)
        policy = solvers.value_iteration(mdp, 1e-9).value if table.policy == "optimal" else None
        value = solvers.policy_evaluation(mdp, solvers.uniform_policy(mdp)) if policy is None else policy
    ours, published = np.asarray(value, float), np.asarray(table.values, float)
    if ours.shape != published.shape:
        raise UsageError(
            f"{table.name}: {table.env} has {len(ours)} states and the table {len(published)} values; give as many"
        )
    worst = float(np.abs(ours - published).max())
    result = {
        "claim": dataclasses.asdict(table) | {"env_options": dict(table.env_options)},
        "command": shlex.join(["jaxrl", "reproduce", typed or table.name]),
        "verdict": REPRODUCED if worst <= table.tolerance + 1e-9 else BELOW,
        "reasons": [],
        "score": "values of all states",
        "largest_difference": round(worst, 6),
        "values": [round(float(value), 6) for value in ours],
        "wall_seconds": round(time.perf_counter() - began, 3),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    _write(result, out / f"{table.name}.json")
    return result


def _write(result: dict[str, Any], path: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)


def _listed(results: Results, name: str) -> list[float | None]:
    return list(plain({str(seed): value for seed, value in zip(results.seed, getattr(results, name), strict=True)}).values())
