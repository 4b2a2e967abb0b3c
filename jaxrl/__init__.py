"""jaxrl: deep reinforcement learning in JAX.

    import jaxrl
    env = jaxrl.make("CartPole-v1", num_envs=10)
    policy = jaxrl.load("runs/my-run")

Names are imported when they are first used, so `import jaxrl` costs nothing and does not start JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrl.agents import AGENTS as AGENTS
    from jaxrl.config import Config as Config
    from jaxrl.config import static as static
    from jaxrl.config import traced as traced
    from jaxrl.envs import ENVS as ENVS
    from jaxrl.envs import make as make
    from jaxrl.envs.batch import Transition as Transition
    from jaxrl.envs.batch import batch_env as batch_env
    from jaxrl.loop import train as train
    from jaxrl.run import Run as Run
    from jaxrl.run import resume as resume
    from jaxrl.run import start as start
    from jaxrl.sweeps.api import sweep as sweep
    from jaxrl.sweeps.plan import Draw as Draw
    from jaxrl.sweeps.schedules import Schedule as Schedule
    from jaxrl.trained import load as load
    from jaxrl.types import Agent as Agent
    from jaxrl.types import Box as Box
    from jaxrl.types import Discrete as Discrete
    from jaxrl.types import Env as Env
    from jaxrl.types import HostEnv as HostEnv
    from jaxrl.types import Progress as Progress
    from jaxrl.types import Rollout as Rollout
    from jaxrl.types import RunState as RunState
    from jaxrl.types import Spec as Spec
    from jaxrl.types import TimeStep as TimeStep
    from jaxrl.types import UsageError as UsageError

__version__ = "0.1.0"

_HOMES = {
    "jaxrl.agents": ("AGENTS",),
    "jaxrl.config": ("Config", "static", "traced"),
    "jaxrl.envs": ("ENVS", "make"),
    "jaxrl.envs.batch": ("Transition", "batch_env"),
    "jaxrl.loop": ("train",),
    "jaxrl.run": ("Run", "resume", "start"),
    "jaxrl.sweeps.api": ("sweep",),
    "jaxrl.sweeps.plan": ("Draw",),
    "jaxrl.sweeps.schedules": ("Schedule",),
    "jaxrl.trained": ("load",),
    "jaxrl.types": (
        "Agent",
        "Box",
        "Discrete",
        "Env",
        "HostEnv",
        "Progress",
        "Rollout",
        "RunState",
        "Spec",
        "TimeStep",
        "UsageError",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'jaxrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
