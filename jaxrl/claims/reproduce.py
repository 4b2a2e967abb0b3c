"""Runs claims and writes what came of them: a JSON, a figure, and the row of a table.

    result = reproduce(find("ppo-CartPole-v1"), Path("reproduced"))
    result["verdict"]                             # "above", "reproduced", "below", ...

The seeds of a claim are one sweep in `OUT/runs/NAME`: a batch of one program where the environment is pure, runs side by side
where it lives on the host. A claim that was interrupted goes on there, and one that is complete is only read.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis.results import Results
from jaxrl.claims.claim import BEST, GREEDY, SCORES, Claim, Table, check_claim
from jaxrl.claims.figure import draw_claim
from jaxrl.claims.verdict import BELOW, REPRODUCED, Judged, judge
from jaxrl.errors import UsageError
from jaxrl.records.files import write_json
from jaxrl.records.rows import plain, read_rows
from jaxrl.runs.definition import versions
from jaxrl.sweeps.api import SweepResult, sweep

QUICK_SHARE = 0.05
"""Of a claim's env steps that `--quick` trains for."""
QUICK_SEEDS = 2


def reproduce(
    claim: Claim, out: Path, num_seeds: int | None = None, quick: bool = False, executor: str = "local"
) -> dict[str, Any]:
    """Runs a claim's seeds, or goes on with them, and returns what is written to `OUT/NAME.json`.

    Args:
      num_seeds: how many of the claim's seeds; more are counted on from the last one. All of the claim's by default.
      quick: a small version: `QUICK_SEEDS` seeds, `QUICK_SHARE` of the env steps, no verdict.
      executor: of `jaxrl.sweep`.

    Raises:
      UsageError: a claim that does not fit its agent or environment, or a folder that holds another.
    """
    check_claim(claim)
    claim = _sized(claim, num_seeds, quick)
    name = f"{claim.name}-quick" if quick else claim.name
    trained = sweep(
        claim.agent,
        claim.env,
        seeds=claim.seeds,
        out=out / "runs" / name,
        env_options=dict(claim.env_options),
        total_steps=claim.total_steps,
        eval_every=claim.eval_every,
        eval_episodes=claim.eval_episodes,
        batching="solo" if claim.eval_every else "auto",
        executor=executor,
        **claim.config,
    )
    scores = seed_scores(trained, claim.protocol.score)
    judged = judge(claim, scores, int(trained.results.env_steps.max()))
    if quick:
        judged = judged._replace(word="quick: no verdict", interval=None, reasons=())
    result = _result(claim, trained, scores, judged)
    write_json(out / f"{name}.json", result)
    draw_claim(claim, trained, judged, out / f"{name}.png")
    return result


def _sized(claim: Claim, num_seeds: int | None, quick: bool) -> Claim:
    num_seeds = min(QUICK_SEEDS, len(claim.seeds)) if quick and num_seeds is None else num_seeds
    seeds = claim.seeds
    if num_seeds is not None:
        further = (seed for seed in range(max(seeds) + 1, 2**32) if seed not in claim.chosen_on)
        seeds = (*seeds[:num_seeds], *(next(further) for _ in range(num_seeds - len(seeds))))
    steps = max(round(claim.total_steps * QUICK_SHARE), 1) if quick else claim.total_steps
    return dataclasses.replace(claim, seeds=seeds, total_steps=steps, eval_every=0 if quick else claim.eval_every)


def seed_scores(trained: SweepResult, kind: str) -> dict[int, float | None]:
    """Of each seed its score of a kind; NaN of a run that became NaN, None where no episode ended."""
    results = trained.results
    found = _best(trained) if kind == BEST else results.eval_return if kind == GREEDY else results.final_return
    scores: dict[int, float | None] = {}
    for seed, status, score in zip(results.seed, results.status, found, strict=True):
        failed = status == "nan"
        scores[int(seed)] = math.nan if failed else None if math.isnan(score) else float(score)
    return scores


def _best(trained: SweepResult) -> np.ndarray:
    """[N] the best evaluation of each run's training, the last one among them."""
    best = []
    for run in trained.results.run:
        rows = read_rows(trained.run_folder(int(run)) / "metrics.jsonl")
        values = [row["eval_return"] for row in rows if row["kind"] == "eval" and row["eval_return"] is not None]
        best.append(max(values, default=math.nan))
    return np.array(best, float)


def _result(claim: Claim, trained: SweepResult, scores: dict[int, float | None], judged: Judged) -> dict[str, Any]:
    results = trained.results
    return {
        "claim": dataclasses.asdict(claim) | {"env_options": dict(claim.env_options), "config": dict(claim.config)},
        "command": f"jaxrl reproduce {claim.name}",
        "verdict": judged.word,
        "reasons": list(judged.reasons),
        "score": SCORES[claim.protocol.score],
        **plain({"mean": judged.mean, "iqm": judged.iqm}),
        "interval_95": None if judged.interval is None else list(judged.interval),
        "num_seeds": judged.num_seeds,
        "num_failed": judged.num_failed,
        "scores": plain({str(seed): score for seed, score in scores.items()}),
        "greedy_returns": _listed(results, "eval_return"),
        "last_training_returns": _listed(results, "final_return"),
        "env_steps": int(results.env_steps.max()),
        "wall_seconds": results.summary["wall_seconds"],
        "config": results.sweep["config"],
        "versions": results.sweep["versions"],
        "device": results.sweep["device"],
        "date": time.strftime("%Y-%m-%d"),
    }


def reproduce_table(table: Table, out: Path) -> dict[str, Any]:
    """Solves the MDP of a published table and compares every value; returns what is written to `OUT/NAME.json`.

    Raises:
      UsageError: the environment has no known MDP, or another number of states.
    """
    import jax

    from jaxrl import envs
    from jaxrl.mdp import solvers

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
        "command": f"jaxrl reproduce {table.name}",
        "verdict": REPRODUCED if worst <= table.tolerance + 1e-9 else BELOW,
        "reasons": [],
        "score": "values of all states",
        "largest_difference": round(worst, 6),
        "values": [round(float(value), 6) for value in ours],
        "wall_seconds": round(time.perf_counter() - began, 3),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    write_json(out / f"{table.name}.json", result)
    return result


def _listed(results: Results, name: str) -> list[float | None]:
    return list(plain({str(seed): value for seed, value in zip(results.seed, getattr(results, name), strict=True)}).values())
