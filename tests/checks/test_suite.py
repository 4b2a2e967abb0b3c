"""The suite finds what is wrong: each toy breaks one promise, and the line says which."""

from __future__ import annotations

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
from jaxrl.checks.suite import Broken
from jaxrl.cli import main
from jaxrl.config import Config, agent_config, traced
from jaxrl.types import Agent, ArraySpec, Box, Discrete, Env, Spec, TimeStep

slow = pytest.mark.slow
SPEC = Spec(ArraySpec((1,), "float32"), Discrete(2), 5)


def walk(num_envs, wrong="", pace=1.0):
    """Counts its steps from a random start, five an episode; `wrong` names the promise that it breaks."""
    spec = SPEC._replace(action=Box(())) if wrong == "ends" else SPEC

    def start(key):
        return jax.random.uniform(key, (num_envs,))

    def reset(key, params):
        place = start(key)
        return (place, jnp.zeros(num_envs, jnp.int32)), place[:, None]

    def step(key, params, state, action):
        place, time = state[0] + (pace if wrong == "baked" else params), state[1] + 1
        ended = time >= (7 if wrong == "limit" else 5)
        begun = jnp.where(ended, place if wrong == "stays" else start(key), place)
        reward = jnp.log(1 - action) if wrong == "ends" else jnp.ones(num_envs)
        length = jnp.full(num_envs, 5) if wrong != "records" else time + 1
        info = {"episode_return": time * 1.0, "episode_length": length}
        obs = begun[:, None] + (wrong == "obs")
        timestep = TimeStep(obs, reward, ended & False, ended, place[:, None], info)
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
