"""What defines a run: a `Run`, its file `config.json`, and the checks that it passes before anything is written."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import jax

from jaxrl.agents import load_agent
from jaxrl.config import Config, from_json, to_json
from jaxrl.errors import UsageError, unknown
from jaxrl.records.sinks import check_sinks

_PACKAGES = ("jaxrl", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy", "orbax-checkpoint")


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that defines a run.

    Attributes:
      agent: a registered name or `module:function`.
      env: an environment id or `module:function`.
      config: the agent's config.
      env_options: physics and arguments of the environment.
      seed: of everything random.
      total_steps: env steps.
      eval_every: env steps between evaluations while training; 0 evaluates only at the end.
      eval_episodes: episodes of each evaluation; None is all of a finite environment, or 100.
      eval_env_options: of the environment in which the policy is scored, on top of `env_options`.
      keep_every: env steps between snapshots of the policy; 0 keeps none.
      num_rows: rows of training metrics over the run.
      track: names of further sinks.
      init_from: folder of a run whose learned state this one starts from.
      checkpoint_seconds: wall-clock seconds between checkpoints; the last state is always kept.
      checkpoint_replay: keep even a replay above `REPLAY_LIMIT` bytes in checkpoints.
      debug: stop at the first NaN and say where it arose.
      devices: devices over which each process divides the environments; 0 for all of them.
    """

    agent: str
    env: str
    config: Config
    env_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    total_steps: int = 500_000
    eval_every: int = 0
    eval_episodes: int | None = None
    num_rows: int = 100
    eval_env_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    keep_every: int = 0
    track: tuple[str, ...] = ()
    init_from: str | None = None
    checkpoint_seconds: float = 30.0
    checkpoint_replay: bool = False
    debug: bool = False
    devices: int = 1


def check_run(run: Run) -> None:
    lowest = {"seed": 0, "eval_every": 0, "eval_episodes": 1, "num_rows": 1, "total_steps": 1, "devices": 0}
    for name, low in lowest.items():
        value = getattr(run, name)
        if value < low:
            raise UsageError(f"{name}={value} is out of range; give at least {low}")
    if run.seed >= 2**32:
        raise UsageError(f"seed={run.seed} is out of range; give a value below 2^32")
    if not run.checkpoint_seconds >= 0:
        raise UsageError(f"checkpoint_seconds={run.checkpoint_seconds} is out of range; give at least 0")
    check_sinks(run.track)


def claim_folder(folder: Path) -> None:
    """Makes an empty folder for a run.

    Raises:
      UsageError: it already holds a run or other files, or cannot be written.
    """
    if (folder / "config.json").exists():
        raise UsageError(f"out={folder} already holds a run; give another folder, or go on with: jaxrl resume {folder}")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"out={folder} is not empty; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"out={folder} cannot be written ({error.strerror}); give another folder") from None


def config_values(run: Run) -> dict[str, Any]:
    """What `config.json` holds."""
    values = {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name != "config"}
    values["track"] = list(run.track)
    values["init_from"] = str(Path(run.init_from).absolute()) if run.init_from else None
    return values | {"config": to_json(run.config), "versions": versions(), "device": jax.local_devices()[0].device_kind}


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_run(folder: Path) -> Run:
    """The run that a folder's `config.json` describes.

    Raises:
      UsageError: no run there, or one of another version of jaxrl.
    """
    try:
        values = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no run (no config.json); give a folder that `jaxrl train` wrote") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / 'config.json'} cannot be read ({error}); give the folder of another run") from None
    if not isinstance(values, dict):
        raise UsageError(f"{folder / 'config.json'} is not the config of a run; give the folder of another run")
    known = {f.name for f in dataclasses.fields(Run)}
    given = {name: value for name, value in values.items() if name not in ("versions", "device")}
    for name in given:
        if name not in known:
            raise UsageError(unknown("field of config.json", name, known))
    _check_stored(folder, given)
    _, config_class = load_agent(given["agent"])
    given["config"] = from_json(config_class, given["config"])
    return Run(**(given | {"track": tuple(given.get("track", ()))}))


def _check_stored(folder: Path, given: dict[str, Any]) -> None:
    """Checks that the fields of a `config.json` are there and of the type that `config_values` writes."""
    kinds: dict[str, Any] = {"agent": str, "env": str, "config": dict, "env_options": dict, "track": list}
    kinds |= dict.fromkeys(("seed", "total_steps", "eval_every", "eval_episodes", "num_rows", "devices"), int)
    kinds |= {"init_from": (str, type(None)), "checkpoint_seconds": (int, float), "checkpoint_replay": bool, "debug": bool}
    for name in ("agent", "env", "config"):
        if name not in given:
            raise UsageError(f"{folder / 'config.json'} has no field {name!r}; give the folder of another run")
    for name, value in given.items():
        if not isinstance(value, kinds[name]):
            raise UsageError(f"{folder / 'config.json'}: {name}={value!r} has the wrong type; give the folder of another run")
