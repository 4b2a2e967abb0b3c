"""Agents of a user's own that return what they should not: one line each, before anything is compiled or written."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import jaxrl
from jaxrl.agents import load_agent
from jaxrl.agents.value.dqn import DQNConfig, make_dqn
from jaxrl.config import Config, agent_config, static
from jaxrl.contracts.agents import RECORDED
from jaxrl.errors import ContractError, OwnCodeError, UsageError
from jaxrl.loop import train
from jaxrl.runs.definition import Run
from jaxrl.runs.prepare import prepare
from jaxrl.types import Agent, ReplayFunctions, off_policy


@agent_config
class WrongConfig(Config):
    """What is wrong with the agent."""

    wrong: str = static("", "The place in `WRONG` of what one function returns.")


class Learned(NamedTuple):
    policy: Any
    count: Any = 0


class Replaying(NamedTuple):
    policy: Any
    replay: Any


WRONG: dict[str, tuple[str, Any, str]] = {
    # name -> (function, what it returns of its last arguments, message)
    "no state": ("init", lambda: None, "init returns a NoneType; return a NamedTuple with a field 'policy'"),
    "dict": ("init", lambda: {"policy": 0}, "init returns a dict; return a NamedTuple with a field 'policy'"),
    "text": ("init", lambda: Learned("zero"), "init returns state.policy as a str; return an array"),
    "memory": ("initial_memory", lambda: jnp.zeros(3), "initial_memory returns memory as float32[3]; return [2, ...]"),
    "pair": ("act", lambda action: (action, ()), "act returns 2 values; return (action, memory, extras)"),
    "nothing": ("act", lambda action: None, "act returns a NoneType; return (action, memory, extras)"),
    "float": ("act", lambda action: (action + 0.5, (), ()), "act returns action as float32[2]; return int32[2], as"),
    "column": ("act", lambda action: (action[:, None], (), ()), "act returns action as int32[2, 1]; return int32[2]"),
    "one": ("act", lambda action: (0, (), ()), "act returns action as int32[]; return int32[2], as spec.action says"),
    "all": ("act", lambda action: (jnp.zeros(2, int), (), ()), "act returns action as int32[2]; return int32[1]"),
    "new memory": ("act", lambda action: (action, action, ()), "act returns memory as a PyTreeDef(*); return a PyTreeDef(())"),
    "extras": ("act", lambda action: (action, (), {"x": 1.0}), "act returns extras['x'] as float32[]; return [2, ...]"),
    "state only": ("update", lambda state: state, "update returns a Learned; return (state, metrics)"),
    "list": ("update", lambda state: (state, [1.0]), "update returns metrics as a list; return a dict of scalars"),
    "vector": (
        "update",
        lambda state: (state, {"loss": jnp.zeros(3)}),
        "update returns metrics['loss'] as float32[3]; return a number",
    ),
    "name": ("update", lambda state: (state, {"loss": "low"}), "update returns metrics['loss'] as a str; return an array"),
    "record": (
        "update",
        lambda state: (state, {"loss": 1.0, "return_mean": 1.0}),
        "update returns metrics['return_mean'], a name that the records of a run have; give it another",
    ),
    "shape": (
        "update",
        lambda state: (state._replace(policy=jnp.zeros(3)), {}),
        "update returns state.policy as float32[3]; return float32[2]",
    ),
    "dtype": (
        "update",
        lambda state: (state._replace(count=0.5), {}),
        "update returns state.count as float32[]; return int32[]",
    ),
    "structure": ("update", lambda state: ((state,), {}), "update returns state as a PyTreeDef((Cust"),
    "observe": ("observe", lambda state: None, "observe returns state as a PyTreeDef(None); return a PyTree"),
    "no replay": ("replay init", lambda: Learned(jnp.zeros(2)), "init returns a Learned; return a NamedTuple with a"),
    "store": ("store", lambda replay: jnp.zeros(9), "replay.store returns replay as float32[9]; return float32[8]"),
    "learn": ("learn", lambda state: (state, {}), "replay.learn returns 2 values; return (state, metrics, feedback)"),
    "learned": (
        "learn",
        lambda state: (state, {"x": state.policy}, ()),
        "replay.learn returns metrics['x'] as float32[2]; return",
    ),
    "absorb": ("absorb", lambda state: state.policy, "replay.absorb returns state as a PyTreeDef(*); return a PyTreeDef(Cust"),
    "feed": ("feed", lambda replay: replay[0], "replay.feed returns replay as float32[]; return float32[8], as it was given"),
}


def make_agent(config: WrongConfig, spec, model=None):
    place, answer, _ = WRONG.get(config.wrong, ("", None, ""))

    def returned(function, right, *arguments):
        return answer(*arguments) if place == function else right

    def init(key):
        return returned("init", Learned(jnp.zeros(2)))

    def act(key, policy, memory, obs, progress, explore):
        action = jnp.zeros(obs.shape[0], jnp.int32)
        return returned("act", (action, memory, ()), action)

    def update(key, state, rollout, progress):
        return returned("update", (state._replace(count=state.count + 1), {"loss": 1.0}), state)

    def initial_memory(num_envs):
        return returned("initial_memory", ())

    def observe(state, rollout):
        return returned("observe", state, state)

    if place not in ("replay init", "store", "learn", "absorb", "feed"):
        return Agent(init, act, update, initial_memory, observe)
    replay = ReplayFunctions(
        store=lambda replay, rollout: returned("store", replay, replay),
        sample=lambda key, replay: replay[:2],
        learn=lambda key, state, batches, progress: returned("learn", (state, {}, ()), state),
        absorb=lambda state, rollout: returned("absorb", state, state),
        feed=lambda replay, batches, feedback: returned("feed", replay, replay),
    )
    return off_policy(lambda key: returned("replay init", Replaying(jnp.zeros(2), jnp.zeros(8))), act, replay)


def run_of(function: str, **fields: Any) -> Run:
    config = load_agent(f"{__name__}:{function}")[1](num_envs=2, **fields)
    return Run(f"{__name__}:{function}", "probe/constant", config, total_steps=8)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_an_agent_must_return(wrong: str) -> None:
    with pytest.raises(ContractError) as error:
        prepare(run_of("make_agent", wrong=wrong))
    assert str(error.value).startswith(f"agent='{__name__}:make_agent': {WRONG[wrong][2]}")


def test_the_pure_run_says_it_in_the_same_line() -> None:
    with pytest.raises(ContractError, match="update returns metrics as a list; return a dict of scalars"):
        train(jax.random.key(0), WrongConfig(num_envs=2, wrong="list"), make_agent, jaxrl.make("probe/constant", 2), 8)


def make_number(config: WrongConfig, spec, model=None):
    return 3


def make_none(config: WrongConfig, spec):
    """Takes no model."""


def make_broken(config: WrongConfig, spec, model=None):
    def init(key):
        return Learned(jnp.zeros(2) + jnp.zeros(3))

    return make_agent(config, spec)._replace(init=init)


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("make_number", ContractError, "returned a int; return a jaxrl.Agent"),
        ("make_none", OwnCodeError, r"failed in make_agent\(config, spec, model\) -> Agent: TypeError: make_none\(\) takes 2"),
        ("make_broken", OwnCodeError, r"failed in init\(key\) -> AgentState: TypeError: add got incompatible shapes"),
    ],
)
def test_what_makes_no_agent_is_told_as_such(function: str, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        prepare(run_of(function))


def make_unresolved(config: Nowhere, spec, model=None):  # type: ignore[name-defined]  # noqa: F821
    """Its annotation names nothing."""


class PlainConfig(Config):
    """Lacks its decorator."""


def make_plain(config: PlainConfig, spec, model=None):
    """Its config is no config."""


def make_unannotated(config, spec: PlainConfig, model=None):
    """The first parameter counts."""


NUMBER = 3


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("make_unresolved", "an annotation of its parameters cannot be resolved (name 'Nowhere' is not defined)"),
        ("make_plain", "PlainConfig is a plain class; decorate it with @jaxrl.agent_config"),
        ("make_unannotated", "its first parameter has no type; annotate it with a @jaxrl.agent_config subclass"),
        ("NUMBER", "is a int; name a function"),
    ],
)
def test_an_agent_without_a_config_is_refused(function: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_agent(f"{__name__}:{function}")
    assert message in str(error.value)


make_part = functools.partial(make_dqn)


def test_a_part_of_an_agent_of_the_package_is_an_agent() -> None:
    assert load_agent(f"{__name__}:make_part")[1] is DQNConfig


def test_no_metric_can_take_a_name_that_the_records_have() -> None:
    """All that the rows of a run say beside the metrics of dqn."""
    lines = (Path(__file__).parents[1] / "fixtures" / "stream1" / "run" / "metrics.jsonl").read_text().splitlines()
    metrics = {"epsilon", "grad_norm", "learning_rate", "loss", "q_mean", "td_error"}
    assert set().union(*map(json.loads, lines)) - metrics == RECORDED - {"run"}
