"""jaxrl: deep reinforcement learning in JAX.

    import jaxrl
    env = jaxrl.make("CartPole-v1", num_envs=10)
    policy = jaxrl.load("runs/my-run")

Names are imported when they are first used, so `import jaxrl` costs nothing and does not start JAX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxrl import lazy

if TYPE_CHECKING:
    from jaxrl.agents import AGENTS as AGENTS
    from jaxrl.claims.settings import tuned_config as tuned_config
    from jaxrl.config import Config as Config
    from jaxrl.config import agent_config as agent_config
    from jaxrl.config import static as static
    from jaxrl.config import traced as traced
    from jaxrl.envs import ENVS as ENVS
    from jaxrl.envs import make as make
    from jaxrl.envs.tools.batch import Transition as Transition
    from jaxrl.envs.tools.batch import batch_env as batch_env
    from jaxrl.envs.tools.versus import Opponent as Opponent
    from jaxrl.envs.tools.versus import versus as versus
    from jaxrl.errors import EnvError as EnvError
    from jaxrl.errors import UsageError as UsageError
    from jaxrl.loop import train as train
    from jaxrl.runs.api import run as run
    from jaxrl.runs.definition import Run as Run
    from jaxrl.runs.pure import evaluate as evaluate
    from jaxrl.runs.pure import policy as policy
    from jaxrl.runs.pure import save as save
    from jaxrl.runs.train import resume as resume
    from jaxrl.runs.train import start as start
    from jaxrl.runs.trained import load as load
    from jaxrl.sweeps.api import sweep as sweep
    from jaxrl.sweeps.schedulers import Schedule as Schedule
    from jaxrl.sweeps.space import Draw as Draw
    from jaxrl.types import Agent as Agent
    from jaxrl.types import ArraySpec as ArraySpec
    from jaxrl.types import Box as Box
    from jaxrl.types import Discrete as Discrete
    from jaxrl.types import Env as Env
    from jaxrl.types import HostEnv as HostEnv
    from jaxrl.types import Position as Position
    from jaxrl.types import Progress as Progress
    from jaxrl.types import ReplayFunctions as ReplayFunctions
    from jaxrl.types import Rollout as Rollout
    from jaxrl.types import RunState as RunState
    from jaxrl.types import Spec as Spec
    from jaxrl.types import Symmetry as Symmetry
    from jaxrl.types import TimeStep as TimeStep
    from jaxrl.types import TreeSpec as TreeSpec
    from jaxrl.types import Units as Units
    from jaxrl.types import off_policy as off_policy
    from jaxrl.types import tree_spec as tree_spec

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy.exports(__name__, __file__)
