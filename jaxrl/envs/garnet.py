"""Garnet problems, random MDPs of a chosen size, as environments.

    env = make("random", num_envs=8, states=100, actions=4, branching=3, seed=1)

The same seed gives the same MDP, whatever the precision and wherever it is drawn.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxrl.envs.tools.mdp_env import mdp_env
from jaxrl.errors import UsageError, unknown
from jaxrl.fields import MAX_SEED, check_count
from jaxrl.mdp.model import MDP, garnet
from jaxrl.types import Env

_DEFAULTS = {"states": 20, "actions": 4, "branching": 3, "seed": 0, "time_limit": 100}
_MAX_SIZE = 10_000_000
"""Transitions that an MDP may have."""


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B copies of one random MDP; it has no terminal state, so only the time limit ends an episode.

    Args:
      options: `states`, `actions`, `branching` (successors of each state and action), `seed`, `time_limit`.

    Raises:
      UsageError: an unknown option or one out of range.
    """
    values = _DEFAULTS | options
    for option, value in values.items():
        if option not in _DEFAULTS:
            raise UsageError(unknown(f"option of garnet/{name}", option, _DEFAULTS))
        check_count(option, value, *((0, MAX_SEED) if option == "seed" else ()))
    return mdp_env(_draw(values), num_envs, values["time_limit"])


def _draw(values: dict[str, int]) -> MDP:
    if values["branching"] > values["states"]:
        raise UsageError(f"branching={values['branching']} exceeds states={values['states']}; lower branching")
    size = values["states"] * values["actions"] * values["branching"]
    if size > _MAX_SIZE:
        raise UsageError(
            f"states={values['states']} makes {size} transitions; lower states, actions or branching ({_MAX_SIZE})"
        )
    # An evaluation makes its environments inside a traced function, where a draw would be no number yet.
    with jax.ensure_compile_time_eval(), jax.enable_x64(False):
        draw = jax.jit(garnet, static_argnums=(1, 2, 3))
        return draw(jax.random.key(values["seed"]), values["states"], values["actions"], values["branching"], discount=0.9)
