"""Where else the rows of a run go: TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.errors import UsageError
from jaxrl.records.rows import Row

SINKS = {"tensorboard": "tensorboardX", "wandb": "wandb"}


class Sink(NamedTuple):
    """Somewhere else that rows go.

    Attributes:
      write: (row) -> None; `env_steps` is the x axis.
      close: () -> None.
    """

    write: Callable[[Row], None]
    close: Callable[[], None]


def check_sinks(names: Iterable[str]) -> None:
    """Checks that the packages of sinks are installed.

    Raises:
      UsageError: naming the extra to install.
    """
    for name in names:
        if importlib.util.find_spec(SINKS[name]) is None:
            raise UsageError(f"track={name!r} needs the package {SINKS[name]}; pip install 'jaxrl[{name}]'")


def open_sink(name: str, folder: Path, settings: Mapping[str, Any]) -> Sink:
    """Opens a sink for a run's folder; `settings` are shown beside the run."""
    return _tensorboard(folder, settings) if name == "tensorboard" else _wandb(folder, settings)


def _tensorboard(folder: Path, settings: Mapping[str, Any]) -> Sink:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))
    writer.add_text("config", "```\n" + json.dumps(settings, indent=2) + "\n```")

    def write(row: Row) -> None:
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "env_steps":
                writer.add_scalar(f"{row['kind']}/{name}", value, row["env_steps"])

    return Sink(write, writer.close)


def _wandb(folder: Path, settings: Mapping[str, Any]) -> Sink:
    import wandb

    run = wandb.init(project="jaxrl", dir=str(folder), name=folder.name, config=dict(settings))

    def write(row: Row) -> None:
        values = {f"{row['kind']}/{k}": v for k, v in row.items() if isinstance(v, (int, float)) and k != "env_steps"}
        run.log(values | {"env_steps": row["env_steps"]})

    return Sink(write, run.finish)
