"""The settings of claims for use, as `--tuned` takes them.

    config = jaxrl.tuned_config("ppo", "Pendulum-v1", learning_rate=1e-3)     # those of the claim but for the step size

Where several claims are about an agent and an environment with the same options, the one with `tuned=True` counts.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from jaxrl.agents import load_agent
from jaxrl.arguments import declared, named, plain, registered
from jaxrl.claims import advised, tuned
from jaxrl.claims.claim import Claim, Settings
from jaxrl.config import Config
from jaxrl.errors import UsageError, unknown
from jaxrl.fields import option_words, to_text


def settings(claim: Claim | Settings) -> dict[str, Any]:
    """The fields that a claim gives to whoever takes it."""
    return {**claim.config, "total_steps": claim.total_steps}


def tuned_claim(agent: str, env: str, env_options: Mapping[str, Any]) -> Claim | Settings:
    """The claim whose settings are to be taken.

    Raises:
      UsageError: there is none; the line names what there is for this agent.
    """
    if (claim := tuned(agent, env, env_options)) is not None:
        return claim
    claims = advised()
    own = [claim for claim in claims if claim.agent == agent]
    places = [_shown(claim.env, claim.env_options) for claim in own if isinstance(claim, Claim)]
    alone = [claim.env.partition("/") for claim in own if isinstance(claim, Settings)]
    # Of the environments of a family with a prefix there are too many to be named.
    places += sorted({f"most of {family}" if name else family for family, _, name in alone})
    there = f"{agent} has one for {', '.join(places)}" if places else f"agents with one are {_agents(claims)}"
    raise UsageError(f"tuned: no claim is about agent={agent} in env={_shown(env, env_options)}; {there}")


def _agents(claims: list[Claim | Settings]) -> str:
    return ", ".join(sorted({claim.agent for claim in claims}))


def _shown(env: str, env_options: Mapping[str, Any]) -> str:
    return shlex.join([env, *(option_words("env_option", env_options) if env_options else [])])


def taken(claim: Claim | Settings, config: Config, total_steps: int) -> str:
    """A line that says which settings of a claim a run has."""
    values = {**vars(config), "total_steps": total_steps}
    names = [f"{name}={to_text(value)}" for name, value in settings(claim).items() if values[name] == value]
    own = "" if claim.config else "the agent's defaults, "
    by = f"the claim {claim.name}" if isinstance(claim, Claim) else f"settings of {claim.source}"
    return f"tuned by {by}: {own}{' '.join(names) or 'every field was given'}"


def hint(agent: str, env: str, env_options: Mapping[str, Any], config: Config) -> str:
    """A line that tells of a claim whose settings differ from the defaults that are about to be run; "" without one."""
    config_class = type(config)
    if config != config_class() or (claim := tuned(agent, env, env_options)) is None or config_class(**claim.config) == config:
        return ""
    whose = f"the claim {claim.name} has" if isinstance(claim, Claim) else f"{claim.source} has"
    return f"{whose} settings for {agent} on {env}, and these are the defaults: --tuned (tuned=True) takes them"


@declared(agent=registered("ppo"), env=registered("Pendulum-v1"), env_options=named)
def tuned_config(agent: str, env: str, env_options: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    """The agent's config with the settings of the claim for this environment.

    Args:
      agent, env: names, as of `jaxrl.run`.
      env_options: of the environment; a claim is about an environment with its options.
      fields: of the config, which win.

    Raises:
      UsageError: no claim is about these (the line names what there is for this agent), or an unknown field.
    """
    claim, config_class = tuned_claim(agent, env, env_options or {}), load_agent(agent)[1]
    for name in fields:
        if name not in config_class.__dataclass_fields__:
            raise UsageError(unknown("field", name, config_class.__dataclass_fields__))
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in plain(fields).items()}
    return config_class(**{**claim.config, **given})
