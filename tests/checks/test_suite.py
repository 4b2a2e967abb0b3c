"""The suite finds what is wrong: each toy breaks one promise, and the line says which."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents.tabular.q_learning import make_q_learning
from jaxrl.agents.tabular.table import TabularConfig
from jaxrl.checks.agents import AgentSuite
from jaxrl.checks.environments import env_checks
from jaxrl.checks.probes import PROBES
from jaxrl.checks.suite import Broken, Check
from jaxrl.cli import main
from jaxrl.cli.check import _report
from jaxrl.config import Config, agent_config, traced
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.types import Agent, ArraySpec, Box, Discrete, Env, Spec, TimeStep

slow = pytest.mark.slow
SPEC = Spec(ArraySpec((1,), "float32"), Discrete(2), 5)


def walk(num_envs, wrong="", pace=1.0):
    """Counts its steps from a random start, five an episode; `wrong` names the promise that it breaks."""
    spec = SPEC._replace(action=Box(())) if wrong == "ends" else SPEC
    calls = itertools.count(1)

    def start(key):
        return jnp.zeros(num_envs) if wrong == "odd" else jax.random.uniform(key, (num_envs,))

    def reset(key, params):
        place = start(key)
        return (place, jnp.zeros(num_envs, jnp.int32)), place[:, None]

    def step(key, params, state, action):
        place, time = state[0] + (pace if wrong == "baked" else params), state[1] + 1
        place = place + {"drawn": np.random.rand(), "counted": next(calls)}.get(wrong, 0)
        ended = time >= (7 if wrong == "limit" else 5)
        begun = jnp.where(ended, place if wrong == "stays" else start(key), place)
        reward = jnp.log(1 - action) if wrong == "ends" else jnp.full(num_envs, jnp.nan if wrong == "nan" else 1.0)
        length = jnp.full(num_envs, 5) if wrong != "records" else time + 1
        info = {"episode_return": time * (wrong != "odd"), "episode_length": length}
        obs = begun[:, None] + (wrong == "obs")
        after = obs if wrong == "odd" else place[:, None]
        flags = (ended, ended & False) if wrong == "flagged" else (ended & False, ended)
        timestep = TimeStep(obs, reward, *flags, after, info)
        return (begun, jnp.where(ended, 0, time)), timestep

    return Env(spec, num_envs, jnp.float32(pace), reset, step)


def of_env(promise: str, name: str, **options: Any) -> Any:
    return {check.promise: check for check in env_checks(f"{__name__}:{name}", options)}[promise].run()


@pytest.mark.parametrize(
    ("wrong", "promise", "line"),
    [
        pytest.param(
            "limit",
            "episodes end within the time limit",
            "an episode goes on after 5 steps",
            marks=pytest.mark.slow,
        ),
        ("records", "info has the records of episodes", r"info\['episode_length'\] is 6 where an episode of 5 steps ended"),
        pytest.param(
            "stays",
            "obs is the next observation, next_obs the true successor",
            "obs equals next_obs wherever",
            marks=pytest.mark.slow,
        ),
        ("obs", "obs is the next observation, next_obs the true successor", "obs differs from next_obs where no episode ended"),
        pytest.param(
            "ends",
            "actions at both ends of their range are taken",
            "with the highest actions, reward",
            marks=pytest.mark.slow,
        ),
        ("baked", "physics are params and not baked in", "pace=1.6 is baked into reset or step; put it into params"),
    ],
)
def test_an_environment_that_breaks_a_promise_is_told_which(wrong: str, promise: str, line: str) -> None:
    assert of_env(promise, "walk") is None
    with pytest.raises(Broken, match=line):
        of_env(promise, "walk", wrong=wrong)


@pytest.mark.parametrize("wrong", ["drawn", "counted"])
def test_what_python_draws_or_counts_in_a_step_is_found(wrong: str) -> None:
    """It is the same in all games of one program, and so in two games with the same key."""
    with pytest.raises(
        Broken, match=r"step is another program when it is traced again \(add: .* against .*draw with jax.random"
    ):
        of_env("the same key plays the same", "walk", wrong=wrong)


def rooms(num_envs):
    """Observes 0 to 5 where its spec says that there are three values."""
    spec = Spec(ArraySpec((), "int32", num_values=3), Discrete(2), 5)

    def step(key, params, state, action):
        return Transition(state + 1, state + 1, 1.0, state >= 5)

    return batch_env(spec, {}, lambda key, params: (jnp.int32(0), jnp.int32(0)), step, num_envs, time_limit=9)


def test_observations_beyond_their_number_of_values_are_found() -> None:
    with pytest.raises(Broken, match="with random actions, obs holds 3 where the spec says num_values=3; raise it, or give"):
        of_env("observations and rewards are numbers that the spec allows", "rooms")


def test_what_is_right_in_some_environments_alone_is_told() -> None:
    """A fixed start is next_obs at a truncation, the return is 0; neither is wrong for certain."""
    checks = {check.promise: check for check in env_checks(f"{__name__}:walk", {"wrong": "odd"})}
    note = checks["obs is the next observation, next_obs the true successor"].run()
    assert "next_obs is what a reset returns at each of the 80 steps that were truncated" in note
    note = checks["info has the records of episodes"].run()
    assert "info['episode_return'] is 0 where the rewards of an episode add up to 5; right only if" in note
    assert checks["episodes end within the time limit"].run() is None


@slow
def test_a_time_limit_that_is_flagged_as_a_termination_is_told() -> None:
    note = of_env("episodes end within the time limit", "walk", wrong="flagged")
    assert "all 80 episodes that reached the limit of 5 steps were flagged terminated; right only if" in note


@slow
def test_rewards_that_are_no_numbers_are_told_as_such() -> None:
    with pytest.raises(Broken, match="rewards are not finite, and so no return is"):
        of_env("a policy can be scored", "walk", wrong="nan")


class Dice:
    """A `HostEnv` that does not go by its seed."""

    def __init__(self, num_envs):
        self.spec, self.num_envs, self.random = SPEC, num_envs, np.random.default_rng(0)

    def reset(self, seed):
        return self.random.random((self.num_envs, 1), np.float32)

    def step(self, action):
        obs, ended = self.reset(0), np.ones(self.num_envs, bool)
        info = {"episode_return": obs[:, 0], "episode_length": np.ones(self.num_envs, int)}
        return TimeStep(obs, obs[:, 0], ended, ~ended, obs, info)

    def close(self):
        pass


def test_environments_of_the_host_go_by_their_seed() -> None:
    with pytest.raises(Broken, match="two games with the same key"):
        of_env("the same key plays the same", "Dice")


# --- agents -----------------------------------------------------------------------------------------------------------


@agent_config
class StillConfig(Config):
    """No fields of its own."""


class Learned(NamedTuple):
    policy: Any


def make_still(config: StillConfig, spec, model=None):
    """Learns nothing; its greedy action is drawn."""

    def act(key, policy, memory, obs, progress, explore):
        return jax.random.randint(key, obs.shape[:1], 0, 2), memory, ()

    return Agent(
        lambda key: Learned(jax.random.normal(key)), act, lambda key, state, rollout, progress: (state, {"x": jnp.nan})
    )


@pytest.fixture(scope="module")
def still() -> AgentSuite:
    return AgentSuite(f"{__name__}:make_still", {}, None, {})


@pytest.mark.parametrize(
    ("promise", "line"),
    [
        (
            "an update changes the policy, a warm-up does not",
            "the policy is the same after 20 iterations",
        ),
        ("metrics are finite numbers", r"metrics\['x'\] is nan after 20 iterations"),
        ("a greedy action ignores exploration", "greedy actions with two keys, at the start and the end of a run: .* differs"),
    ],
)
def test_an_agent_that_breaks_a_promise_is_told_which(still: AgentSuite, promise: str, line: str) -> None:
    checks = {check.promise: check for check in still.checks()}
    assert checks["the same key gives the same bits"].run() is None
    with pytest.raises(Broken, match=line):
        checks[promise].run()


def careless(change):
    """Q-learning whose rollouts are changed before it learns."""

    def make_agent(config: TabularConfig, spec, model=None):
        agent = make_q_learning(config, spec, model)

        def update(key, state, rollout, progress):
            return agent.update(key, state, rollout._replace(**change(rollout)), progress)

        return agent._replace(update=update)

    return make_agent


make_cut = careless(lambda rollout: {"terminated": rollout.terminated | rollout.truncated})
make_endless = careless(lambda rollout: {"terminated": rollout.terminated & False})
make_greedy = careless(lambda rollout: {"terminated": rollout.terminated | True})


@pytest.mark.parametrize(
    ("name", "probe"),
    [
        ("make_cut", "a truncated step bootstraps, from its true successor"),
        pytest.param("make_endless", "a truncated step bootstraps, from its true successor", marks=slow),
        pytest.param("make_greedy", "rewards that come later are discounted", marks=slow),
    ],
)
def test_a_probe_is_failed_by_what_it_is_for(name: str, probe: str) -> None:
    suite = AgentSuite(f"{__name__}:{name}", {}, None, {})
    assert suite.learns("actions depend on the observation") is None
    with pytest.raises(Broken, match=r"after 16000 env steps with learning_rate .* it chooses 0, not 1, in state 0"):
        suite.learns(probe)


@agent_config
class PlainConfig(Config):
    """A table by plain gradient steps, of which those of Adam would be far too small."""

    learning_rate: float = traced(0.1, "Step size of the mean gradient.")
    gamma: float = traced(0.99, "Discount.")


def plain_q(best):
    """Q-learning by gradient steps on a table; `best` is what a state is worth, of the values [..., A] of its actions."""

    def make_agent(config: PlainConfig, spec, model=None):
        def act(key, policy, memory, obs, progress, explore):
            greedy = jnp.argmax(obs @ policy, axis=-1).astype(jnp.int32)
            return (jax.random.randint(key, greedy.shape, 0, 2) if explore else greedy), memory, ()

        def update(key, state, rollout, progress):
            goal = rollout.reward + config.gamma * (1 - rollout.terminated) * best(rollout.next_obs @ state.policy)

            def loss(q):
                return jnp.mean((jnp.sum(rollout.obs @ q * jax.nn.one_hot(rollout.action, 2), -1) - goal) ** 2)

            return Learned(state.policy - config.learning_rate * jax.grad(loss)(state.policy)), {}

        return Agent(lambda key: Learned(jax.random.normal(key, (4, 2)) / 100), act, update)

    return make_agent


make_plain, make_worst = plain_q(lambda q: jnp.max(q, axis=-1)), plain_q(lambda q: jnp.min(q, axis=-1))


def test_a_right_agent_is_not_called_wrong_for_its_step_size() -> None:
    suite = AgentSuite(f"{__name__}:make_plain", {}, None, {})
    assert [suite.learns(name) for name in PROBES] == [None] * 5


@slow
def test_what_is_worth_its_worst_action_is_found() -> None:
    suite = AgentSuite(f"{__name__}:make_worst", {}, None, {})
    assert suite.learns("rewards that come later are discounted") is None
    with pytest.raises(
        Broken, match=r"with learning_rate 0.005 or 0.1 or 0.05 it chooses 0, not 1, in state 0: a state is worth"
    ):
        suite.learns("the best of the next actions counts")


# --- the command ------------------------------------------------------------------------------------------------------


def make_wrong(config: StillConfig, spec, model=None):
    return make_still(config, spec)._replace(update=lambda key, state, rollout, progress: state)


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        ((f"{__name__}:walk",), 0, "all 1 checks hold"),
        (("probe/constant",), 0, "all 1 checks hold"),
        ((f"{__name__}:make_still", "--num-envs", "2"), 0, "all 2 checks hold"),
        ((f"{__name__}:make_wrong",), 1, "1 of 1 checks do not hold"),
    ],
)
def test_the_command_prints_a_line_a_promise(capsys, arguments, code, last) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", *arguments, "--quick"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == code and lines[-1] == last
    assert lines[0].startswith("ok " if code == 0 else "WRONG  functions return what their contracts say: agent=")


def test_a_failure_of_all_checks_is_told_once(capsys) -> None:
    def fails():
        raise Broken("act takes an illegal action")

    assert _report([Check("one", fails), Check("two", fails), Check("three", lambda: None)], (Broken,)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["WRONG  one: act takes an illegal action", "WRONG  two: the same as of 'one'"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (f"{__name__}:nothing", "has no 'nothing'; check its name"),
        ("CartPole-v2", "did you mean CartPole-v1"),
        ("nomodule:f", "no module"),
    ],
)
def test_what_cannot_be_loaded_is_bad_input(capsys, name, line) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", name])
    assert stop.value.code == 2 and line in capsys.readouterr().err
