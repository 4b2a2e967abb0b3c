"""A user's own agent, checked while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxrl.contracts.returns import (
    as_arrays,
    cast,
    check_lead,
    check_shapes,
    described,
    is_array,
    is_own,
    is_real,
    name_of,
    parts_of,
    refuse,
    same_structure,
)
from jaxrl.errors import own_code
from jaxrl.types import Agent, Array, PyTree, ReplayFunctions, Spec, action_zeros, off_policy

MAKE_AGENT = "make_agent(config, spec, model) -> Agent"
ACT = "act(key, policy, memory, obs, progress, explore) -> (action, memory, extras)"
UPDATE = "update(key, state, rollout, progress) -> (state, metrics)"
RECORDED = frozenset(
    ("kind", "run", "env_steps", "updates", "episodes", "return_mean", "length_mean", "steps_per_second", "wall_seconds")
    + ("eval_return", "eval_return_std", "eval_episodes", "eval_unfinished")
)
"""Names in the rows of a run beside the metrics of an agent, which no metric may take."""
LEARN = "replay.learn(key, state, batches, progress) -> (state, metrics, feedback)"


def checked_agent(make_agent: Callable[..., Agent], config: Any, spec: Spec, model: Any) -> Agent:
    """The agent of a user's `make_agent`, whose functions are checked when they are traced; the package's own as they are.

    Raises:
      ContractError: it returns no `Agent`; later, a function that returns something else than it should.
      OwnCodeError: it raised.
    """
    if not is_own(make_agent):
        return make_agent(config, spec, model)
    whose = f"agent='{name_of(make_agent)}'"
    with own_code(whose, MAKE_AGENT):
        agent = make_agent(config, spec, model)
    if not isinstance(agent, Agent):
        refuse(f"{whose} returned a {type(agent).__name__}; return a jaxrl.Agent")
    checks = _AgentChecks(whose, agent, spec)
    agent = agent._replace(init=checks.init, act=checks.act, initial_memory=checks.initial_memory)
    if agent.replay is not None:
        parts = off_policy(agent.init, agent.act, _checked_replay(whose, agent.replay))
        is_plain = getattr(agent.update, "__module__", "") == off_policy.__module__
        agent = agent._replace(replay=parts.replay)
        checks.agent = agent._replace(update=parts.update, observe=parts.observe) if is_plain else agent
    return agent._replace(observe=checks.observe, update=checks.update)


class _AgentChecks:
    """The functions of an agent, checked."""

    def __init__(self, whose: str, agent: Agent, spec: Spec) -> None:
        self.whose, self.agent, self.spec, self._inner = whose, agent, spec, agent

    def init(self, key: Array) -> Any:
        with own_code(self.whose, "init(key) -> AgentState"):
            state = self._inner.init(key)
            for field in ("policy", "replay") if self._inner.replay is not None else ("policy",):
                if not hasattr(state, field) or not hasattr(state, "_replace"):
                    refuse(f"init returns a {type(state).__name__}; return a NamedTuple with a field {field!r}")
            return as_arrays("init", state, "state")

    def initial_memory(self, num_envs: int) -> PyTree:
        with own_code(self.whose, "initial_memory(num_envs) -> memory"):
            memory = as_arrays("initial_memory", self._inner.initial_memory(num_envs), "memory")
            check_lead("initial_memory", "memory", memory, num_envs)
            return memory

    def act(self, key: Array, policy: PyTree, memory: PyTree, obs: PyTree, progress: Any, explore: bool) -> Any:
        with own_code(self.whose, ACT):
            returned = self._inner.act(key, policy, memory, obs, progress, explore)
            names = ("action", "memory", "extras")
            named = zip(parts_of("act", returned, names), names, strict=True)
            action, after, extras = (as_arrays("act", part, name) for part, name in named)
            num_envs = jax.tree.leaves(obs)[0].shape[0]
            wanted = jax.eval_shape(lambda: action_zeros(self.spec.action, (num_envs,)))
            if same_structure(action, wanted):
                action = jax.tree.map(cast, action, wanted)
            check_shapes("act", "action", action, wanted, ", as spec.action says")
            check_shapes("act", "memory", after, as_arrays("act", memory), ", as it was given")
            check_lead("act", "extras", extras, num_envs)
            return action, after, extras

    def observe(self, state: Any, rollout: Any) -> Any:
        with own_code(self.whose, "observe(state, rollout) -> state"):
            return _same_state("observe", self.agent.observe(state, rollout), state)

    def update(self, key: Array, state: Any, rollout: Any, progress: Any) -> Any:
        with own_code(self.whose, UPDATE):
            returned = self.agent.update(key, state, rollout, progress)
            after, metrics = parts_of("update", returned, ("state", "metrics"), self._is_update)
            return _same_state("update", after, state), _checked_metrics("update", metrics)

    @staticmethod
    def _is_update(returned: Any) -> bool:
        """A state is a tuple too, which may have two fields."""
        return isinstance(returned[1], Mapping) or not hasattr(returned, "policy")


def _checked_replay(whose: str, replay: ReplayFunctions) -> ReplayFunctions:
    def store(held: PyTree, rollout: Any) -> PyTree:
        with own_code(whose, "replay.store(replay, rollout) -> replay"):
            return _same_state("replay.store", replay.store(held, rollout), held, "replay")

    def sample(key: Array, held: PyTree) -> PyTree:
        with own_code(whose, "replay.sample(key, replay) -> batches"):
            return as_arrays("replay.sample", replay.sample(key, held), "batches")

    def learn(key: Array, state: Any, batches: PyTree, progress: Any) -> Any:
        with own_code(whose, LEARN):
            returned = replay.learn(key, state, batches, progress)
            after, metrics, feedback = parts_of("replay.learn", returned, ("state", "metrics", "feedback"))
            return _same_state("replay.learn", after, state), _checked_metrics("replay.learn", metrics), feedback

    def absorb(state: Any, rollout: Any) -> Any:
        with own_code(whose, "replay.absorb(state, rollout) -> state"):
            return _same_state("replay.absorb", replay.absorb(state, rollout), state)

    def feed(held: PyTree, batches: PyTree, feedback: PyTree) -> PyTree:
        with own_code(whose, "replay.feed(replay, batches, feedback) -> replay"):
            return _same_state("replay.feed", replay.feed(held, batches, feedback), held, "replay")

    return ReplayFunctions(store, sample, learn, absorb, feed)


def _same_state(function: str, after: Any, before: Any, field: str = "state") -> Any:
    after = as_arrays(function, after, field)
    check_shapes(function, field, after, before, ", as it was given")
    return after


def _checked_metrics(function: str, metrics: Any) -> dict[str, Array]:
    if not isinstance(metrics, Mapping):
        refuse(f"{function} returns metrics as a {type(metrics).__name__}; return a dict of scalars")
    metrics = as_arrays(function, dict(metrics), "metrics")
    for name, value in metrics.items():
        if not isinstance(name, str) or not is_array(value) or value.shape or not is_real(value):
            refuse(f"{function} returns metrics[{name!r}] as {described(value)}; return a number, []")
        if name in RECORDED:
            refuse(f"{function} returns metrics[{name!r}], a name that the records of a run have; give it another")
    return metrics
