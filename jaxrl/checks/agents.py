"""The suite for one agent: shapes first, then what every agent promises, then what it must be able to learn."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.agents import load_agent
from jaxrl.checks import probes, trial
from jaxrl.checks.suite import Broken, Check
from jaxrl.checks.trial import Trial, fitted, make_trial
from jaxrl.config import Config, as_arrays, check_config
from jaxrl.drivers.rehearse import rehearse
from jaxrl.envs import make
from jaxrl.errors import OwnCodeError, UsageError
from jaxrl.loop import build, train
from jaxrl.runs.actor import make_env
from jaxrl.types import ArraySpec, Discrete, Env, Position, RunState, Spec, tree_spec

PROBE = {
    "num_envs": 16,
    "hidden": (32,),
    "capacity": 1024,
    "batch_size": 64,
    "learning_starts": 256,
    "gamma": probes.GAMMA,
    "target_period": 64,
    "epsilon_end": 0.5,
    "num_minibatches": 2,
    "update_to_data": 0.25,
}
"""Fields for learning the probes in a few seconds, of every agent that has them."""

PROBE_STEPS, LONGEST_ROLLOUT = 16_000, 8
RATES = (5e-3, 5e-2)
"""Step sizes that are tried beside an agent's own; the first suits most, and so comes first."""


class AgentSuite:
    """The checks of one agent, made when they are asked for."""

    def __init__(self, name: str, given: Mapping[str, Any], env: str | None, env_options: Mapping[str, Any]) -> None:
        self.make_agent, self.config_class = load_agent(name)
        self.given, self._env, self._env_options = given, env, env_options

    def checks(self, quick: bool = False) -> Iterator[Check]:
        """The checks, the fastest first; only what can be traced where `quick`."""
        yield Check("functions return what their contracts say", self.shapes, is_first=True)
        yield Check("every traced field can be swept", lambda: trial.every_traced_field_can_be_a_batch_axis(self.trial))
        if quick:
            return
        for promise, function in _PROMISES.items():
            yield Check(promise, partial(self._holds, function))
        yield Check("metrics are finite numbers", self._metrics)
        yield Check("only legal actions are taken", self.legal)
        for name in probes.PROBES:
            yield Check(name, partial(self.learns, name))

    # --- in a small environment ---------------------------------------------------------------------------------------

    @cached_property
    def trial(self) -> Trial:
        """In the environment that was given, or in the first small one that the agent can play.

        Raises:
          UsageError: it can play none.
        """
        config = fitted(self.config_class, trial.TINY, self.given)
        if self._env is not None:
            return make_trial(self.make_agent, config, self._made)
        refused: Exception | None = None
        for make_world in _WORLDS:
            try:
                made = make_trial(self.make_agent, config, make_world)
                build(self.make_agent, made.config, made.env.spec, None)
                return made
            except (UsageError, OwnCodeError) as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def _made(self, num_envs: int) -> Env:
        env = make_env(str(self._env), num_envs, **self._env_options)
        if not isinstance(env, Env):
            env.close()
            raise UsageError(f"env={self._env!r} lives on the host; check an agent in an environment of the compiled program")
        return env

    @cached_property
    def trained(self) -> RunState:
        return self.trial.trained()

    def shapes(self) -> None:
        made = self.trial
        agent = build(self.make_agent, made.config, made.env.spec)
        rehearse(self.make_agent, agent, made.config, made.env, made.plan)

    def _holds(self, promise: Callable[[Trial, RunState], None]) -> None:
        promise(self.trial, trial.copy(self.trained))

    def _metrics(self) -> str | None:
        return None if trial.metrics_are_finite(self.trial) else "update reports none"

    # --- what it takes and learns -------------------------------------------------------------------------------------

    def legal(self) -> str | None:
        """Actions under random masks, with exploration and without, at the start and the end of a run."""
        if not build(self.make_agent, self.trial.config, self.trial.env.spec).respects_legal:
            return "it does not say that it respects them (Agent.respects_legal)"
        num_actions, num_envs = 4, 64
        zeros = Position(jnp.zeros(num_actions), jnp.zeros(num_actions, bool), jnp.int32(0))
        config = as_arrays(dataclasses.replace(fitted(self.config_class, trial.TINY, self.given), num_envs=num_envs))
        agent = build(self.make_agent, config, Spec(tree_spec(zeros), Discrete(num_actions), 1))
        legal = jax.random.bernoulli(jax.random.key(0), 0.4, (num_envs, num_actions)).at[:, 0].set(True)
        obs = Position(legal.astype(jnp.float32), legal, jnp.zeros(num_envs, jnp.int32))
        policy, memory = jax.jit(agent.init)(jax.random.key(1)).policy, agent.initial_memory(num_envs)
        for explore in (True, False):
            for iteration in (0, self.trial.plan.num_iterations):
                action = agent.act(jax.random.key(2), policy, memory, obs, self.trial.plan.progress(iteration), explore)[0]
                if not bool(jnp.take_along_axis(legal, action[:, None], axis=1).all()):
                    raise Broken(f"act takes an illegal action (explore={explore}); mask what obs.legal does not allow")
        return None

    def learns(self, name: str) -> str | None:
        """The greedy actions after learning a probe."""
        if "gamma" not in {f.name for f in dataclasses.fields(self.config_class)}:
            return "its config has no field gamma"
        names_states = isinstance(self.trial.env.spec.obs, ArraySpec) and self.trial.env.spec.obs.num_values is not None
        if not isinstance(self.trial.env.spec.action, Discrete):
            return "it takes no discrete actions"
        probe, run, rates = probes.PROBES[name], self._learner(names_states), self._rates(names_states)
        table = jax.tree.map(jnp.asarray, probe.table)
        faults = [_fault(probe, run(table, rates[0], 0))]
        # A step size may be too small or too large for a right agent; by mere chance a wrong one is not right with two keys.
        for rate in rates[1:] if faults[0] else ():
            faults += [_fault(probe, run(table, rate, 0)) or _fault(probe, run(table, rate, 1))]
        if all(faults):
            tried = "" if rates[0] is None else f" with learning_rate {' or '.join(map(str, rates))}"
            raise Broken(f"after {PROBE_STEPS} env steps{tried} it chooses {faults[0]}: {probe.fault}")
        return None

    def _rates(self, names_states: bool) -> list[float | None]:
        """Step sizes to try a probe with; [None] where there is one, which the config has."""
        own = {f.name: f for f in trial.traced_fields(self.config_class())}.get("learning_rate")
        if own is None or "learning_rate" in self.given:
            return [None]
        config, rates = self._probe_config(names_states), list[float | None]()
        tried: tuple[Any, ...] = (RATES[0], own.default, *RATES[1:])
        for rate in dict.fromkeys(tried):
            with contextlib.suppress(UsageError):
                check_config(dataclasses.replace(config, **{"learning_rate": rate}))
                rates.append(rate)
        return rates

    def _learner(self, names_states: bool) -> Callable[..., Any]:
        if self._compiled is not None:
            return self._compiled
        config = self._probe_config(names_states)
        env = probes.make_probe(config.num_envs, names_states)

        @jax.jit
        def run(table: Any, rate: Any, seed: Any) -> Any:
            tried = config if rate is None else dataclasses.replace(config, **{"learning_rate": rate})
            state = train(jax.random.key(seed), tried, self.make_agent, env._replace(params=table), PROBE_STEPS, 1).state
            agent, seen = build(self.make_agent, as_arrays(tried), env.spec), probes.observations(names_states)
            progress = self.trial.plan.progress(self.trial.plan.num_iterations)
            memory = agent.initial_memory(len(seen))
            return agent.act(jax.random.key(1), state.agent.policy, memory, seen, progress, False)[0]

        self._compiled = run
        return run

    _compiled: Callable[..., Any] | None = None

    def _probe_config(self, names_states: bool) -> Config:
        config = fitted(self.config_class, PROBE, self.given)
        # So short that there are hundreds of updates.
        length = min(config.rollout_length, LONGEST_ROLLOUT)
        config = dataclasses.replace(config, rollout_length=self.given.get("rollout_length", length))
        check_config(config)
        return config


def _fault(probe: probes.Probe, action: Any) -> str:
    """What is chosen where something else is best; empty where all is right."""
    wrong = [(int(action[state]), best, state) for state, best in probe.best.items() if action[state] != best]
    return "{}, not {}, in state {}".format(*wrong[0]) if wrong else ""


_PROMISES = {
    "the state keeps its types": trial.state_keeps_its_types,
    "the same key gives the same bits": trial.same_key_same_bits,
    "another key gives another policy": trial.another_key_another_policy,
    "an update changes the policy, a warm-up does not": trial.learning_changes_the_policy_alone,
    "a greedy action ignores exploration": trial.greedy_ignores_exploration,
    "one piece equals halves with a checkpoint between": trial.halves_with_a_checkpoint_equal_the_whole,
    "other numbers compile nothing": trial.numbers_compile_nothing,
    "alone equals beside another run under vmap": trial.vmapped_equals_solo,
}
"""What holds of the state after some iterations."""

_WORLDS: tuple[Callable[[int], Any], ...] = (
    partial(probes.make_probe, names_states=False),
    partial(probes.make_probe, names_states=True),
    *(partial(make, f"probe/{name}") for name in ("target", "mixed", "state")),
    partial(make, "glimpse/digits", num_glimpses=3, size=4),
)
"""Small environments of every kind of observation and action."""
