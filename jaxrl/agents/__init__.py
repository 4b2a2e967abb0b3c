"""The registry of agents. An agent's name stands for `module:function`, and your own `module:function` works as well.

The function is `make_agent(config, spec, num_envs, rollout_length, model=None) -> Agent`; the type of its first parameter is
its config class. This module imports no JAX, so that listing the agents is instant.
"""

from __future__ import annotations

import importlib
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jaxrl.config import Config


class Entry(NamedTuple):
    """Where an agent lives and what it is in one line."""

    path: str
    summary: str


AGENTS: dict[str, Entry] = {
    "a2c": Entry("jaxrl.agents.a2c:make_a2c", "Advantage actor-critic on short rollouts."),
    "actor_critic": Entry(
        "jaxrl.agents.actor_critic:make_actor_critic",
        "Actor-critic on whole episodes; Monte-Carlo, one-step TD or GAE advantage.",
    ),
    "dqn": Entry("jaxrl.agents.dqn:make_dqn", "Deep Q-learning with experience replay; double and dueling as flags."),
    "dyna_q": Entry("jaxrl.agents.dyna_q:make_dyna_q", "Q-learning with a table that plans with a learned model; Dyna-Q+."),
    "expected_sarsa": Entry(
        "jaxrl.agents.sarsa:make_expected_sarsa", "SARSA with a table that takes the expectation over the next action."
    ),
    "monte_carlo": Entry(
        "jaxrl.agents.monte_carlo:make_monte_carlo", "Monte-Carlo control with a table: averages the returns of whole episodes."
    ),
    "ppo": Entry("jaxrl.agents.ppo:make_ppo", "Proximal policy optimization, feed-forward or recurrent (gru)."),
    "q_learning": Entry("jaxrl.agents.q_learning:make_q_learning", "Q-learning with a table, off-policy."),
    "reinforce": Entry("jaxrl.agents.reinforce:make_reinforce", "REINFORCE with every step of variance reduction as a flag."),
    "sarsa": Entry("jaxrl.agents.sarsa:make_sarsa", "SARSA with a table, on-policy."),
}


def load_agent(name: str) -> tuple[Callable[..., Any], type[Config]]:
    """The `make_agent` function of an agent's name or `module:function`, and its config class.

    Raises:
      UsageError: an unknown name (with the nearest ones), or a function whose first parameter has no config type.
    """
    from jaxrl.config import Config, unknown
    from jaxrl.envs import import_by_name
    from jaxrl.types import UsageError

    if ":" in name:
        make_agent = import_by_name(name, "agent")
    elif name in AGENTS:
        module, _, attribute = AGENTS[name].path.partition(":")
        make_agent = getattr(importlib.import_module(module), attribute)
    else:
        raise UsageError(unknown("agent", name, AGENTS))
    hints = list(typing.get_type_hints(make_agent).values()) if callable(make_agent) else []
    if not hints or not (isinstance(hints[0], type) and issubclass(hints[0], Config)):
        raise UsageError(f"agent={name!r}: its first parameter has no type; annotate it with a @config subclass of Config")
    return make_agent, hints[0]
