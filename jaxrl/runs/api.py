"""Runs in Python.

    result = jaxrl.run("ppo", "CartPole-v1", out="runs/a", total_steps=200_000, learning_rate=3e-4)
    result.summary["evaluation"]                  # {"episodes": 100, "mean": 500.0, "std": 0.0}
    policy = result.policy()                      # a function of observations

The same call goes on with a run that was interrupted, and only reads the results of a finished one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.agents import load_agent
from jaxrl.arguments import declared, path, plain, registered
from jaxrl.claims import settings
from jaxrl.config import Config
from jaxrl.errors import UsageError, fail, shown, unknown
from jaxrl.fields import differing, is_option
from jaxrl.records.rows import Row, read_rows
from jaxrl.runs.definition import Run, Training, config_values, read_values
from jaxrl.runs.train import resume, start
from jaxrl.runs.trained import TrainedPolicy, load, score


class RunResult(NamedTuple):
    """A finished run.

    Attributes:
      folder: of the run, with `curve.png`.
      summary: what `summary.json` holds.
      rows: what `metrics.jsonl` holds, a dict for each stretch of training (`kind` "train") and each evaluation ("eval").
    """

    folder: Path
    summary: dict[str, Any]
    rows: list[Row]

    def __repr__(self) -> str:
        mean, of = self.summary["evaluation"]["mean"], self.summary
        shown = "none" if mean is None else f"{mean:.1f}"
        what = f"{of['agent']} on {of['env']}, seed {of['seed']}, {of['env_steps']:,} env steps"
        return f"RunResult({self.folder}: {what}, greedy return {shown}, {len(self.rows)} rows)"

    @classmethod
    def read(cls, folder: Path, summary: dict[str, Any]) -> RunResult:
        """The result of a run that has ended."""
        return cls(folder, summary, read_rows(folder / "metrics.jsonl"))

    def policy(self, env_steps: int | None = None) -> TrainedPolicy:
        """The trained policy, or its snapshot after so many env steps (`keep_every`); errors as of `jaxrl.load`."""
        return load(self.folder, env_steps)

    def evaluate(
        self,
        num_episodes: int | None = None,
        seed: int = 0,
        env_steps: int | None = None,
        env_options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Greedy score: episodes, mean, std, unfinished.

        Args:
          num_episodes: all of a finite environment by default, else 100.
          env_steps: of a snapshot.
          env_options: of the environment, where they differ from those of the run's evaluations.
        """
        return score(self.folder, num_episodes, seed, env_steps, env_options)


@declared(agent=registered("dqn"), env=registered("CartPole-v1"), out=path)
def run(agent: str, env: str, *, out: str | os.PathLike[str], tuned: bool | None = None, **options: Any) -> RunResult:
    """Trains an agent in an environment and returns the results; goes on with the same run begun in `out`.

    Args:
      agent, env: names, or `module:function`, as of `jaxrl train`.
      out: folder of the run; new, empty, or with the same run.
      tuned: take the settings of the claim for this agent and environment, total steps among them; `options` win. With False
        no line tells of one.
      options: fields of `jaxrl.Run` (`seed`, `total_steps`, `env_options`, a dict, `eval_every`, `num_rows`, `keep_every`,
        `init_from` and the others that `jaxrl train --help` names), and fields of the agent's config.

    Raises:
      UsageError: bad input, or `out` holds something else; nothing was written.
    """
    config, own, notice = tuned_options(Run, agent, env, tuned, options)
    given, folder = Run(agent, env, config, **own), Path(out)
    if (folder / Run.file).exists():
        _check_same(given, folder)
        summary = resume(folder)
    else:
        summary = start(given, folder, notice=notice)
    return RunResult.read(folder, summary)


def tuned_options(
    cls: type[Training], agent: str, env: str, tuned: bool | None, options: Mapping[str, Any]
) -> tuple[Config, dict[str, Any], str]:
    """As of `split_options`, with the settings of the claim below the options if `tuned`; and what there is to say of it."""
    config_class = load_agent(agent)[1]
    if tuned not in (None, True, False):
        fail(f"tuned={shown(tuned)} is no choice; give True, False or None")
    env_options = options.get("env_options", {})
    env_options = env_options if isinstance(env_options, Mapping) else {}  # What is wrong is said where the run is checked.
    claim = settings.tuned_claim(agent, env, env_options) if tuned else None
    config, own = split_options(cls, config_class, {**(settings.settings(claim) if claim else {}), **options})
    if claim is not None:
        return config, own, settings.taken(claim, config, own["total_steps"])
    return config, own, settings.hint(agent, env, env_options, config) if tuned is None else ""


def split_options(cls: type[Training], config_class: type[Config], options: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """The agent's config, and the fields of a run or sweep, of options given by name; lists stand for tuples.

    Raises:
      UsageError: an option that neither has.
    """
    known, own = config_class.__dataclass_fields__, {f.name for f in dataclasses.fields(cls) if is_option(f)}
    values: dict[str, Any] = plain(options)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    for name in values:
        if name not in known and name not in own:
            raise UsageError(unknown("field", name, {**known, **dict.fromkeys(own)}))
    config = config_class(**{name: value for name, value in values.items() if name not in own})
    return config, {name: value for name, value in values.items() if name in own}


def _check_same(given: Run, folder: Path) -> None:
    """Checks that a folder holds this run.

    Raises:
      UsageError: it holds another.
    """
    ours, theirs = json.loads(json.dumps(config_values(given))), read_values(Run, folder)
    for name in (field.name for field in dataclasses.fields(Run)):
        if name in theirs and ours[name] != theirs[name]:
            what = differing(name, ours[name], theirs[name])
            raise UsageError(f"out={folder} holds another run ({what}); give another folder")
