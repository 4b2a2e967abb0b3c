"""What defines a run: a `Run`, its file `config.json`, and the checks that it passes before anything is written.

A new option of runs, sweeps and searches is one line in `Training`, one of runs alone a line in `Run`: its checks, its text on
the command line, its help and its place in the file follow from it (`jaxrl.fields`).
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import jax

from jaxrl.agents import load_agent
from jaxrl.arguments import plain
from jaxrl.config import Config
from jaxrl.errors import UsageError
from jaxrl.fields import MAX_COUNT, MAX_SEED, check_fields, check_value, from_json, renamed, static, to_json
from jaxrl.records.console import say
from jaxrl.records.files import Types, misfit, read_json, write_json
from jaxrl.records.folders import check_folder, check_places
from jaxrl.records.sinks import SINKS, check_sinks

_PACKAGES = ("jaxrl", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy", "orbax-checkpoint")
_OF_FAMILIES = {
    "brax": ("brax", "mujoco", "mujoco-mjx"),
    "playground": ("playground", "mujoco", "mujoco-mjx", "warp-lang"),
}
"""Packages that results of a family of environments depend on beside them."""
_NO_FIELDS = ("versions", "device", "worker", "stream")
"""What a definition's file holds beside its fields."""
STREAM = 1
"""Version of the order in which random numbers are drawn; files without one are of the first."""


@dataclasses.dataclass(frozen=True)
class Training:
    """What runs, sweeps and searches have in common: who learns where, and for how long."""

    agent: str = static(..., "Registered name of the agent, or your own module:function.", flag=None)
    env: str = static(..., "Environment: CartPole-v1, family/id, or your own module:function.")
    config: Config = static(..., "The agent's config, without what is swept or searched.", flag=None)
    env_options: dict[str, Any] = static(
        dict, "Physics or arguments of the environment, such as gravity=12.", flag="env_option"
    )
    _: dataclasses.KW_ONLY
    total_steps: int = static(500_000, "Env steps to train for.", low=1)
    eval_episodes: int | None = static(
        None, "Episodes of each evaluation; all of a finite environment, else 100.", low=1, high=MAX_COUNT
    )
    eval_env_options: dict[str, Any] = static(
        dict, "Options of the environment that policies are scored in, where they differ from training.", flag="eval_env_option"
    )
    checkpoint_seconds: float = static(
        30.0, "Wall-clock seconds between checkpoints; 0 writes one after every row or rung, 1e9 none on the way.", low=0
    )

    what: ClassVar[str]
    file: ClassVar[str]
    """That holds the definition in its folder."""
    written_by: ClassVar[str]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not isinstance(value := getattr(self, field.name), tuple):
                object.__setattr__(self, field.name, plain(value))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recorded:
    """What runs and sweeps have in common: what is recorded. Runs of a batch are evaluated at their ends only."""

    num_rows: int = static(100, "Rows of metrics over the run.", low=1, high=MAX_COUNT)
    eval_every: int = static(0, "Env steps between evaluations while training; 0 evaluates at the end only.", low=0)


@dataclasses.dataclass(frozen=True)
class Run(Recorded, Training):
    """Everything that defines a run: `Run("ppo", "CartPole-v1", PPOConfig(gamma=0.999), {"gravity": 12}, seed=1)`.

    `jaxrl.start(run, folder)` trains it and `jaxrl.resume(folder)` goes on with it.
    """

    seed: int = static(0, "Seed of everything random.", low=0, high=MAX_SEED)
    _: dataclasses.KW_ONLY
    keep_every: int = static(0, "Env steps between snapshots of the policy, kept beside the checkpoints; 0 keeps none.", low=0)
    track: tuple[str, ...] = static((), "Further sinks for metrics: tensorboard, wandb.", choices=tuple(SINKS))
    init_from: str | None = static(None, "Folder of a run whose learned state this one starts from.")
    extend_from: str | None = static(None, "Folder of a run that this one goes on from where it ended, with its rows.")
    checkpoint_replay: bool = static(False, "Keep a replay above 1 GB in checkpoints too.")
    debug: bool = static(False, "Stop at the first NaN and say where it arose (slower).")
    devices: int = static(
        1,
        "Devices over which the environments are divided, a divisor of num_envs; 0 for all that JAX finds. "
        "On a CPU as many are made. The result is that of one device up to rounding.",
        low=0,
    )

    file = "config.json"
    what = "run"
    written_by = "`jaxrl train`"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("init_from", "extend_from"):
            if isinstance(path := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(path))


D = TypeVar("D", bound=Training)


def check_run(run: Run) -> None:
    """Checks the fields of a run, but for its config.

    Raises:
      UsageError: what does not fit.
    """
    check_fields(run)
    check_sinks(run.track)


def values_of(definition: Training, cls: type) -> dict[str, Any]:
    """The values of the fields that a definition has of a class that it shares with others."""
    return {f.name: getattr(definition, f.name) for f in dataclasses.fields(cls)}


def config_values(run: Run) -> dict[str, Any]:
    """What `config.json` holds."""
    given = {name: getattr(run, name) for name in ("init_from", "extend_from")}
    return to_values(run) | {name: str(Path(path).absolute()) if path else None for name, path in given.items()}


def to_values(definition: Training) -> dict[str, Any]:
    """What the file of a definition holds: its fields, versions and the device."""
    values = to_json(definition)
    for name in ("env_options", "eval_env_options"):
        text = values[name].get("opponent")
        if isinstance(text, str) and folder_of(text) is not None:
            values[name] = values[name] | {"opponent": str(Path(text).absolute())}
    packages = versions(*_OF_FAMILIES.get(definition.env.partition("/")[0], ()))
    return values | {"stream": STREAM, "versions": packages, "device": jax.local_devices()[0].device_kind}


def folder_of(text: str) -> tuple[Path, int | None] | None:
    """The folder that a player's text names, and the env steps of `DIR@N`, a snapshot; None of any other text."""
    folder, at, env_steps = text.rpartition("@")
    if Path(text).is_dir():
        return Path(text), None
    if at and env_steps.isascii() and env_steps.isdigit() and len(env_steps) < 19 and Path(folder).is_dir():
        return Path(folder), int(env_steps)
    return None


def follow_stream(cls: type[Training], folder: Path) -> None:
    """Says once of an interrupted run, sweep or search that it cannot go on as it would have; it goes on all the same."""
    values = read_values(cls, folder)
    if values.get("stream", 1) != STREAM:
        say(f"{folder} began with another version, which drew its random numbers in another order: it goes on with new ones")
        write_json(folder / cls.file, values | {"stream": STREAM})


def versions(*others: str) -> dict[str, str | None]:
    """Versions of Python and of the packages that a result depends on, and of `others`."""
    return {"python": platform.python_version()} | {name: _version(name) for name in (*_PACKAGES, *others)}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_run(folder: Path) -> Run:
    """The run that a folder's `config.json` describes; errors as of `read_definition`."""
    return read_definition(Run, folder)


def read_summary(folder: Path, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The summary of a run, None of one that is not finished; a damaged one counts as none, and `warn` is given a line.

    Raises:
      UsageError: a folder is in its place.
    """
    path = folder / "summary.json"
    check_places(folder, (path.name,))
    if not path.exists():
        return None
    try:
        values = read_json(path, _SUMMARY, _AGAIN)
        for name in ("evaluation", "training_return"):
            if fault := misfit(values[name], _SCORE):
                raise UsageError(f"{path} is damaged ({name}: {fault}); {_AGAIN}")
    except UsageError as error:
        warn(str(error))
        return None
    return values


_AGAIN = "it is written again, from the last checkpoint"
_MAYBE = (float, type(None))
_SCORE: Types = {"episodes": int, "mean": _MAYBE}
_SUMMARY: Types = {
    **dict.fromkeys(("agent", "env", "status"), str),
    **dict.fromkeys(("seed", "env_steps"), int),
    **dict.fromkeys(("wall_seconds", "compile_seconds"), float),
    "steps_per_second": _MAYBE,
    "evaluation": dict,
    "training_return": dict,
}


def read_definition(cls: type[D], folder: Path) -> D:
    """The run, sweep or search that a folder's file describes.

    Raises:
      UsageError: no such file, or one of another version of jaxrl.
    """
    given = {name: value for name, value in read_values(cls, folder).items() if name not in _NO_FIELDS}
    try:
        check_value(cls.__dataclass_fields__["agent"], str, given.get("agent"))
        _, config_class = load_agent(given["agent"])
        if "config" in given:
            given["config"] = from_json(config_class, given["config"])
        if isinstance(given.get("fields"), list) and isinstance(given.get("configs"), list):  # Of a sweep.
            given["fields"] = list(renamed(config_class, dict.fromkeys(given["fields"])))
            given["configs"] = [renamed(config_class, values) for values in given["configs"]]
        definition = from_json(cls, given)
        check_fields(definition)
    except UsageError as error:
        raise UsageError(f"{folder / cls.file}: {error}; or give another folder") from None
    return definition


def read_values(cls: type[Training], folder: Path) -> dict[str, Any]:
    """What a folder's file holds; errors as of `read_definition`."""
    check_folder(cls.what, folder)
    if not (folder / cls.file).exists():
        raise UsageError(f"{folder} holds no {cls.what} (no {cls.file}); give a folder that {cls.written_by} wrote")
    return read_json(folder / cls.file, {}, "give another folder")
