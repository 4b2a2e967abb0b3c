"""MinAtar as its authors play it (Young & Tian 2019), on gymnax's games: `--env-option protocol=published`.

Actions stick with probability 0.1, all six actions are there, and no episode is cut off; Freeway terminates after 2501 steps,
as there. One rule of gymnax's games is put right: in Asterix a new enemy or treasure takes any free row and stays away where
there is none, while gymnax then takes one away.

What differs still from the package `minatar` 1.0.15:

* The action before an episode's first does not stick to that one.
* Seaquest: an enemy submarine that is shot down in the step in which it would have shot does not shoot.
* Seaquest: the observation in which an episode ends at the surface without a diver shows full oxygen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs.tools.batch import Transition
from jaxrl.errors import UsageError
from jaxrl.types import Array, PyTree

PROTOCOLS = ("gymnax", "published")
NO_LIMIT = 2**30
"""Steps of an episode that no limit cuts off."""
FREEWAY_STEPS = 2501

Step = Callable[[Array, PyTree, PyTree, Array], Transition]


def implied_options(name: str, protocol: Any) -> dict[str, Any]:
    """The options that a protocol stands for.

    Args:
      name: gymnax id.
      protocol: one of `PROTOCOLS`.

    Raises:
      UsageError: another protocol, or another game than one of MinAtar.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol={protocol!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
    if not name.endswith("-MinAtar"):
        raise UsageError(f"protocol={protocol!r} is of MinAtar's games, and env={name!r} is none; leave it out")
    if protocol == "gymnax":
        return {}
    return {"sticky_actions": 0.1, "use_minimal_action_set": False, "max_steps_in_episode": NO_LIMIT}


def published(name: str, step: Step) -> Step:
    """gymnax's step of one environment of a game, by the published rules."""
    if name == "Asterix-MinAtar":
        return lambda key, params, state, action: step(key, params, with_entity(key, state), action)
    if name != "Freeway-MinAtar":
        return step

    def freeway(key: Array, params: PyTree, state: PyTree, action: Array) -> Transition:
        moved = step(key, params, state, action)
        return moved._replace(terminated=moved.terminated | (moved.state.time >= FREEWAY_STEPS))

    return freeway


def with_entity(key: Array, state: Any) -> Any:
    """The state of Asterix with what its spawn timer lets in, a treasure in a third of the cases, and the timer set again."""
    key_side, key_gold, key_row = jax.random.split(key, 3)
    from_left, is_gold = jax.random.bernoulli(key_side), jax.random.bernoulli(key_gold, 1.0 / 3.0)
    free, due = state.entities[:, 4] == 0, state.spawn_timer == 0
    row = jnp.argmax(jnp.where(free, jax.random.uniform(key_row, free.shape), -1.0))
    entity = jnp.stack([jnp.where(from_left, 0, 9), row + 1, from_left, is_gold, 1]).astype(state.entities.dtype)
    entities = jnp.where(due & jnp.any(free), state.entities.at[row].set(entity), state.entities)
    return state.replace(entities=entities, spawn_timer=jnp.where(due, state.spawn_speed, state.spawn_timer))
