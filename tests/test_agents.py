"""The contract suite: every registered agent keeps these promises, and a new one inherits the suite by being registered.

A tiny configuration of each agent is compiled once (`setup`) and shared by its checks. `VALUE_OF` says how to read a state's
value out of an agent's policy; an agent without an entry fails. `VARIANTS` are more configurations of registered agents. Agents
with a table need observations that name a state: they play a small MDP and twins of the probes, and are held to the same. Those
that look at pictures play a few glimpses, and are to find what they can only find by looking for it. Those that play both sides
of a game are to play one that is solved. Those that act continuously play twins of the probes whose actions are a number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import JaxHostEnv, assert_close, nim, progress_at, slow_but
from jaxrl.agents import AGENTS, load_agent
from jaxrl.agents.continuous.crossq import CrossQConfig, crossq_networks
from jaxrl.agents.search.alphazero import network_of
from jaxrl.agents.value.c51 import c51_network
from jaxrl.agents.value.iqn import iqn_network
from jaxrl.agents.value.qr_dqn import qr_network
from jaxrl.checks import trial
from jaxrl.checks.probes import make_probe
from jaxrl.checks.trial import TINY, Trial
from jaxrl.config import Config, as_arrays, check_config
from jaxrl.drivers.host import host_driver
from jaxrl.envs import make
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.envs.tools.mdp_env import mdp_env
from jaxrl.loop import build, build_in, init_state, iterate, plan, train
from jaxrl.maths.rescaling import expand
from jaxrl.mdp.model import MDP, make_mdp
from jaxrl.nets.actor_critic import actor_critic
from jaxrl.nets.critics import actor_critics
from jaxrl.nets.glimpse import Glimpse, Look
from jaxrl.nets.heads import QNetwork
from jaxrl.nets.memory_values import memory_values
from jaxrl.runs.pure import evaluate
from jaxrl.types import ArraySpec, Box, Discrete, Env, Position, RunState, Spec, TimeStep, tree_spec

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo-recurrent": ("ppo", {"gru": 8, "normalize_observation": True, "normalize_reward": True, "target_kl": 0.5}),
    "pqn-recurrent": ("pqn", {"gru": 8}),
    "dqn-n_step": ("dqn", {"rollout_length": 2, "num_updates": 2, "n_step": 3}),
    "dqn-noisy": ("dqn", {"noisy": True, "munchausen": True}),
    "rainbow-none": (
        "rainbow",
        {"double": False, "dueling": False, "n_step": 1, "prioritized": False, "noisy": False, "distributional": False},
    ),
    "dqn-prioritized": ("dqn", {"rollout_length": 2, "num_updates": 2, "n_step": 3, "prioritized": True}),
    "a2c-normalized": ("a2c", {"normalize_observation": True, "normalize_reward": True, "normalize_advantage": True}),
    "reinforce-average": ("reinforce", {"baseline": "average", "discounted": True}),
    "sarsa-rollouts": ("sarsa", {"rollout_length": 3, "average": True}),
    "dyna_q-plus": ("dyna_q", {"rollout_length": 2, "num_successors": 2, "plus": True}),
    "sac-box": (
        "sac",
        {"num_critics": 3, "dropout": 0.1, "layer_norm": True, "policy_delay": 3, "actor_guide": "mean", "n_step": 2}
        | {"normalize_observation": True, "noise_correlation": 0.5},
    ),
}
"""Configurations under which an agent carries other state: name -> (agent, fields)."""

TABULAR = ("dyna_q", "expected_sarsa", "monte_carlo", "q_learning", "sarsa")
"""Agents whose observations must name a state."""

ATTENTION = ("ram",)
"""Agents that see pictures through glimpses."""

GAMES = ("alphazero",)
"""Agents that play both sides of a game."""

CONTINUOUS = ("crossq", "ddpg", "td3", "tqc", "sac-box")
"""Agents and variants that act in a box."""

ROLLOUTS = ("ppo", "pqn")
"""Agents whose rollouts are long unless they are told otherwise."""

DISTRIBUTIONAL = ("c51", "iqn", "qr_dqn", "rainbow")
"""Agents of distributions of returns, whose probes are left to the longer tests."""

OWN_TASKS = {*ATTENTION, *GAMES}
"""Agents that learn other things than the probes."""

PROBE = {"num_envs": 16, "hidden": (32,), "capacity": 1024, "batch_size": 64, "learning_starts": 256, "gamma": 0.5} | {
    "learning_rate": 5e-3,
    "target_period": 64,
    "epsilon_end": 0.5,
    "loss": "squared",
    "update_to_data": 0.25,
    "auto_temperature": False,
    "temperature": 1e-3,
    "num_atoms": 21,
    "v_min": -5.0,
    "v_max": 5.0,
}
"""Fields for learning the probe environments in a few seconds."""

OWN_FIELDS: dict[str, dict[str, Any]] = {
    "ppo": {"rollout_length": 8, "num_minibatches": 2},
    "a2c": {"rollout_length": 4},
    "pqn": {"rollout_length": 8, "num_minibatches": 2, "learning_rate": 2e-2},
    "c51": {"learning_rate": 2e-2},
    "rainbow": {"learning_rate": 2e-2},
}
"""Of single agents there: rollouts short enough that a probe sees hundreds of updates; steps that take logits far from 0, where
an observation of 0 moves the last biases alone."""


def _dqn_value(config: Any, env: Any, state: Any, obs: jax.Array) -> jax.Array:
    network = QNetwork(env.spec.action.n, config.hidden, config.activation, config.dueling)
    return network.apply(state.policy, obs).max(-1)  # type: ignore[union-attr]


def _distribution_value(config: Any, env: Any, state: Any, obs: jax.Array) -> jax.Array:
    network = {"QRDQNConfig": qr_network, "IQNConfig": iqn_network}.get(type(config).__name__, c51_network)(config, env.spec)
    return network.values(network.apply(None, state.policy, obs)).max(-1)


def _pqn_value(config: Any, env: Any, state: Any, obs: jax.Array) -> jax.Array:
    network = memory_values(config, env.spec)
    return network.step(state.policy, network.initial_memory(len(obs)), obs)[1].max(-1)


def _r2d2_value(config: Any, env: Any, state: Any, obs: jax.Array) -> jax.Array:
    network = memory_values(config, env.spec, config.dueling)
    return expand(network.step(state.policy, network.initial_memory(len(obs)), obs)[1].max(-1))


def _critic_value(config: Any, env: Any, state: Any, obs: jax.Array) -> jax.Array:
    return actor_critic(config, env.spec, getattr(config, "gru", None)).evaluate(state.policy, obs)


def _table_value(config: Any, env: Any, state: Any, obs: jax.Array) -> jax.Array:
    return state.policy[obs].max(-1)


def _guided_value(make_agent: Any, config: Any, env: Any, state: Any, obs: jax.Array) -> jax.Array:
    """What the critics say of the greedy action, on average."""
    num_outputs = env.spec.action.n if isinstance(env.spec.action, Discrete) else getattr(config, "num_quantiles", 1)
    crosses = isinstance(config, CrossQConfig)
    networks = crossq_networks(config, env.spec) if crosses else actor_critics(config, env.spec, 1, num_outputs)
    agent = build(make_agent, as_arrays(config), env.spec)
    action, _, _ = agent.act(jax.random.key(0), state.policy, (), obs, progress_at(1, 1), False)
    seen = networks.view.inputs(state.policy.moments, obs)
    if num_outputs > 1 and not isinstance(env.spec.action, Discrete):
        return networks.outputs(state.critic, seen, action).mean((0, 2))
    return networks.q(state.critic, seen, action).mean(0)


VALUE_OF = (
    {name: _critic_value for name in ("reinforce", "actor_critic", "a2c", "ppo")}
    | {name: _table_value for name in TABULAR}
    | {"dqn": _dqn_value, "pqn": _pqn_value, "r2d2": _r2d2_value}
    | {name: partial(_guided_value, load_agent(name)[0]) for name in ("crossq", "ddpg", "td3", "sac", "tqc")}
    | {name: _distribution_value for name in DISTRIBUTIONAL}
)
"""(config, env, agent's state, obs [N, ...]) -> [N] state values."""


def make_suite_env(name: str, num_envs: int) -> Env:
    """What an agent plays in the checks that are not about what it learns."""
    if agent_of(name) in ATTENTION:
        return make("glimpse/digits", num_envs, num_glimpses=3, size=4)  # type: ignore[return-value]
    if agent_of(name) in GAMES:
        return nim(num_envs, 4)
    if name in CONTINUOUS:
        return make("Pendulum-v1", num_envs, time_limit=50)  # type: ignore[return-value]
    if agent_of(name) not in TABULAR:
        return make("CartPole-v1", num_envs, max_steps_in_episode=50)  # type: ignore[return-value]
    # A slippery row of six states whose last one ends an episode: each step costs 1, in the fourth 3; left and right.
    state = np.arange(6)
    left, right = np.maximum(state - 1, 0), np.minimum(state + 1, 5)
    successors = np.stack([np.stack([left, right], axis=1), np.stack([right, left], axis=1)], axis=1)
    probabilities = np.broadcast_to(np.float32([0.8, 0.2]), successors.shape)
    rewards = np.broadcast_to(np.where(state == 3, -3.0, -1.0)[:, None], (6, 2))
    return mdp_env(make_mdp(successors, probabilities, rewards, 0.9, terminal=state == 5), num_envs, time_limit=10)


PROBES = ("constant", "observation", "discount", "action", "truncation")
"""Probe environments of one observation and two actions; `make_probes` names them by their places here."""


class Probes(NamedTuple):
    """Probe environments that differ in `env.params` alone, so that learning any of them is one program.

    Attributes:
      env: of the first one.
      params: probe -> what it puts in the place of `env.params`.
    """

    env: Env
    params: dict[str, Any]


def make_probes(name: str, num_envs: int) -> Probes:
    """Probes; for an agent with a table, their twins whose observations are states 0, 1, ... in the same order."""
    if agent_of(name) not in TABULAR:
        probes = _switched([make(f"probe/{probe}", num_envs) for probe in PROBES])
        return probes._replace(env=_between(probes.env)) if name in CONTINUOUS else probes
    params = {probe: _twin(probe) for probe in PROBES}
    # One step more than most of them have: they are over before it. State 1 of `truncation` is cut off by it.
    return Probes(mdp_env(params[PROBES[0]], num_envs, time_limit=2), params)


def _switched(envs: list[Any]) -> Probes:
    """The environment whose params say which of `envs` is played; its state holds one of each."""

    def reset(key: jax.Array, which: jax.Array) -> tuple[Any, jax.Array]:
        states, observations = zip(*(env.reset(key, env.params) for env in envs), strict=True)
        return states, jnp.stack(observations)[which]

    def stepper(index: int) -> Callable[..., Any]:
        def step(key: jax.Array, states: tuple[Any, ...], action: jax.Array) -> tuple[Any, TimeStep]:
            state, timestep = envs[index].step(key, envs[index].params, states[index], action)
            return (*states[:index], state, *states[index + 1 :]), timestep

        return step

    steppers = [stepper(index) for index in range(len(envs))]

    def step(key: jax.Array, which: jax.Array, states: tuple[Any, ...], action: jax.Array) -> tuple[Any, TimeStep]:
        return jax.lax.switch(which, steppers, key, states, action)

    spec = envs[0].spec._replace(time_limit=max(env.spec.time_limit for env in envs))
    places = {probe: jnp.int32(index) for index, probe in enumerate(PROBES)}
    return Probes(Env(spec, envs[0].num_envs, places[PROBES[0]], reset, step), places)


def _between(env: Env) -> Env:
    """The twin of a probe whose actions are a number in [-1, 1]: rewards of those between the two lie in a straight line."""

    def step(key: jax.Array, which: jax.Array, states: Any, action: jax.Array) -> tuple[Any, TimeStep]:
        return env.step(key, which, states, (action[:, 0] + 1.0) / 2.0)

    return env._replace(spec=env.spec._replace(action=Box((1,))), step=step)


def _twin(probe: str) -> MDP:
    rewards = {
        "constant": [[1.0, 1.0], [0.0, 0.0]],
        "observation": [[-1.0, -1.0], [1.0, 1.0]],
        "discount": [[0.0, 0.0], [1.0, 1.0]],
        "action": [[-1.0, 1.0], [0.0, 0.0]],
        "truncation": [[1.0, 1.0], [1.0, 1.0]],
    }[probe]
    successors = np.full((3, 2, 1), 2)
    if probe == "discount":
        successors[0] = 1
    if probe == "truncation":
        successors[1] = 1
    initial = [0.5, 0.5, 0.0] if probe in ("observation", "truncation") else [1.0, 0.0, 0.0]
    terminal = np.array([False, False, True])
    return make_mdp(successors, np.ones((3, 2, 1), np.float32), [*rewards, [0.0, 0.0]], 0.5, initial=initial, terminal=terminal)


def agent_of(name: str) -> str:
    """The agent of a name, which may be that of a variant."""
    return VARIANTS.get(name, (name, {}))[0]


def observed(name: str, cues: list[float]) -> jax.Array:
    """The observations of a probe as an agent sees them: [N, 1] numbers, or [N] states for a table."""
    return jnp.arange(len(cues)) if agent_of(name) in TABULAR else jnp.array(cues)[:, None]


def fitted(name: str, fields: dict[str, Any]) -> Config:
    """The config of an agent or variant with those of `fields` that it has."""
    agent, own = VARIANTS.get(name, (name, {}))
    _, config_class = load_agent(agent)
    known = {f.name for f in dataclasses.fields(config_class)}
    config = config_class(**{k: v for k, v in fields.items() if k in known} | own)
    check_config(config)
    return config


NAMES = sorted([*AGENTS, *VARIANTS])
QUICK = ("actor_critic", "dqn", "sarsa")
"""Those of which every check is among the quick tests; the others leave three to the longer ones."""

SLOW_PROBES = ("crossq", "ddpg", "r2d2", "tqc", *DISTRIBUTIONAL)
"""Agents whose probes are left to the longer tests; what they must get right there, DQN, TD3 and SAC must too."""
PROBED = slow_but(set(AGENTS).difference(SLOW_PROBES), sorted(set(AGENTS).difference(OWN_TASKS)))
"""Those that learn the probes."""

each_agent = pytest.mark.parametrize("name", slow_but(QUICK, NAMES), scope="module")


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def setup(name: str) -> Trial:
    make_agent, _ = load_agent(agent_of(name))
    config = fitted(name, TINY | ({"rollout_length": 16} if agent_of(name) in ROLLOUTS else {}))
    return trial.make_trial(make_agent, config, lambda n: make_suite_env(name, n))


@pytest.fixture(scope="module")
def after(setup: Trial) -> RunState:
    """The state after the warm-up and 20 iterations."""
    return setup.trained()


@pytest.fixture
def trained(after: RunState) -> RunState:
    """A copy that may be donated."""
    return trial.copy(after)


def test_same_key_gives_same_bits(setup: Trial, trained: RunState) -> None:
    trial.same_key_same_bits(setup, trained)


def test_another_key_gives_another_policy(setup: Trial, trained: RunState) -> None:
    trial.another_key_another_policy(setup, trained)


def test_state_structure_is_stable(setup: Trial, trained: RunState) -> None:
    trial.state_keeps_its_types(setup, trained)


def test_an_update_changes_the_policy_and_a_warm_up_does_not(setup: Trial, trained: RunState) -> None:
    trial.learning_changes_the_policy_alone(setup, trained)


def test_another_number_of_iterations_or_value_of_a_traced_field_compiles_nothing(setup: Trial, trained: RunState) -> None:
    trial.numbers_compile_nothing(setup, trained)
    assert setup.driver.advance._cache_size() == 1  # type: ignore[attr-defined]


def test_halves_with_a_checkpoint_between_equal_the_whole_bit_for_bit(setup: Trial, trained: RunState) -> None:
    trial.halves_with_a_checkpoint_equal_the_whole(setup, trained)
    assert setup.driver.advance._cache_size() == 1  # type: ignore[attr-defined]


@each_agent
def test_a_vmapped_member_equals_its_solo_run(setup: Trial, trained: RunState) -> None:
    trial.vmapped_equals_solo(setup, trained)


@each_agent
def test_every_traced_field_can_be_a_batch_axis_alone(setup: Trial) -> None:
    """That all can be at once is shown above."""
    trial.every_traced_field_can_be_a_batch_axis(setup)


@each_agent
def test_the_host_driver_equals_the_device_driver(setup: Trial, trained: RunState) -> None:
    env = JaxHostEnv(setup.env, setup.keys.init, setup.keys.train, setup.plan.rollout_length)
    driver = host_driver(setup.make_agent, env, lambda n: env)
    state = driver.init(setup.keys.init, setup.config, ())
    state, sums = driver.advance(setup.keys.train, setup.config, (), state, setup.plan.num_warmup, 20, setup.plan.progress(0))
    assert_close(state.agent, trained.agent)
    assert_close((state.recent, state.iteration), (trained.recent, trained.iteration))
    _, device_sums = setup.advance(setup.init(), setup.plan.num_warmup, 20)
    assert sums.keys() == device_sums.keys()
    assert_close(dict(sums), dict(device_sums))


def test_a_greedy_action_ignores_exploration(setup: Trial, trained: RunState) -> None:
    trial.greedy_ignores_exploration(setup, trained)


def test_metrics_are_finite_scalars(name: str, setup: Trial) -> None:
    size_of_update = {"metric/td_error", "metric/table_change"} if agent_of(name) in TABULAR else {"metric/grad_norm"}
    assert {"metric/loss"} | size_of_update <= set(trial.metrics_are_finite(setup))


def test_the_state_keeps_its_32_bits_where_64_are_enabled(name: str) -> None:
    """Traced and not compiled: what arises without a type has 64 bits there, and no scan carries it."""
    make_agent, _ = load_agent(agent_of(name))
    config = fitted(name, TINY | ({"rollout_length": 4} if agent_of(name) in ROLLOUTS else {}))
    with jax.enable_x64(True):
        tabular, own = agent_of(name) in TABULAR, agent_of(name) in OWN_TASKS
        env: Any = make_suite_env(name, config.num_envs) if own else make_probe(config.num_envs, names_states=tabular)
        env = make("probe/lqr", config.num_envs) if name in CONTINUOUS else env
        agent, key, schedule = build_in(make_agent, as_arrays(config), env), jax.random.key(0), plan(config, env.spec, 4000)
        before = jax.eval_shape(lambda key: init_state(key, agent, env), key)
        length = schedule.rollout_length
        after, _ = jax.eval_shape(lambda s: iterate(key, agent, env, s, schedule.progress(0), length, True), before)
    for (path, a), b in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        is_key = jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
        assert a.dtype == b.dtype and (is_key or a.dtype.itemsize <= 4), jax.tree_util.keystr(path)


# --- what must be learned -------------------------------------------------------------------------------------------


class Learned(NamedTuple):
    config: Config
    env: Any
    state: Any


@cache
def learner(name: str, steps: int = 16_000) -> tuple[Config, Probes, Callable[..., Any]]:
    """The config, the probes and (params of a probe) -> the agent's state, compiled once for all of them; gamma is 0.5."""
    make_agent, _ = load_agent(name)
    config = fitted(name, PROBE | OWN_FIELDS.get(name, {}))
    made = make_probes(name, config.num_envs)

    @jax.jit
    def run(params: Any) -> Any:
        return train(jax.random.key(0), config, make_agent, made.env._replace(params=params), steps).state.agent

    return config, made, run


@cache
def learn_probe(name: str, probe: str) -> Learned:
    """What the agent learns of a probe environment."""
    config, made, run = learner(name)
    return Learned(config, made.env, run(made.params[probe]))


@pytest.mark.parametrize(
    ("probe", "cues", "values"),
    [
        ("constant", [0.0], [1.0]),
        ("observation", [-1.0, 1.0], [-1.0, 1.0]),
        ("discount", [0.0, 1.0], [0.5, 1.0]),
        ("action", [0.0], [1.0]),
        ("truncation", [1.0, -1.0], [1.0, 2.0]),
    ],
)
@pytest.mark.parametrize("name", PROBED)
def test_the_value_of_a_probe_is_learned(name: str, probe: str, cues: list[float], values: list[float]) -> None:
    """On `truncation` only bootstrapping a truncated step from its true successor, and no terminated one, is right."""
    learned = VALUE_OF[name](*learn_probe(name, probe), observed(name, cues))
    np.testing.assert_allclose(learned, values, atol=0.1)


@pytest.mark.parametrize("name", PROBED)
def test_the_better_action_is_chosen(name: str) -> None:
    config, env, state = learn_probe(name, "action")
    agent = build(load_agent(name)[0], as_arrays(config), env.spec)
    obs, progress = jnp.repeat(observed(name, [0.0]), 2, axis=0), progress_at(1, 1)
    action, _, _ = agent.act(jax.random.key(0), state.policy, agent.initial_memory(2), obs, progress, False)
    np.testing.assert_allclose(action.ravel(), [1, 1], atol=0.1 if name in CONTINUOUS else 0)


def make_hidden(num_envs: int) -> Env:
    """Two glimpses: the first says on which side (x < 0 or x > 0) the second will see what the picture shows, 0 or 1.

    Who looks there is always right; who does not, or looks without regard to the first, is so three times in four.
    """

    def seen(state: dict[str, jax.Array], location: jax.Array) -> Glimpse:
        told = jnp.where(location[0] * state["side"] > 0, state["label"], 0.5)
        patch = jnp.where(state["first"], state["side"], 2 * told - 1).astype(jnp.float32)
        return Glimpse(patch.reshape(1, 1, 1), location)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Glimpse]:
        side, label = jax.random.bernoulli(key, 0.5, (2,))
        state = {"side": jnp.where(side, 1.0, -1.0), "label": label.astype(jnp.int32), "first": jnp.bool_(True)}
        return state, seen(state, jnp.zeros(2))

    def step(key: jax.Array, params: Any, state: Any, action: Look) -> Transition:
        over, right = ~state["first"], action.label == state["label"]
        state = state | {"first": jnp.bool_(False)}
        reward = jnp.where(over & right, 1.0, 0.0)
        return Transition(state, seen(state, action.location), reward, over, info={"label": state["label"]})

    obs = tree_spec(Glimpse(ArraySpec((1, 1, 1), "float32", picture="HWC"), ArraySpec((2,), "float32")))
    return batch_env(Spec(obs, Look(Box((2,)), Discrete(2)), 2), (), reset, step, num_envs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTENTION)
def test_what_a_picture_shows_is_looked_for_where_a_glimpse_says(name: str) -> None:
    """At a step size of 1e-2 a hidden layer of the location network stays with one side for some seeds."""
    fields = {"num_envs": 64, "units": 16, "glimpse_units": 16, "location_std": 0.3, "learning_rate": 1e-3}
    config, env, key = fitted(name, fields), make_hidden(64), jax.random.key(0)
    make_agent, _ = load_agent(name)
    result = jax.jit(lambda key: train(key, config, make_agent, env, 128_000))(key)
    assert evaluate(key, result, make_agent, env, 256)["mean"] >= 0.99


@pytest.mark.parametrize("name", GAMES)
def test_a_solved_game_is_played_as_it_is_solved(name: str) -> None:
    """Nim with one or two stones: to leave a multiple of three wins, and the value says who will have won."""
    fields = {"num_envs": 16, "rollout_length": 8, "num_simulations": 8, "channels": 8, "blocks": 0, "learning_rate": 1e-2}
    make_agent, _ = load_agent(name)
    config, env = fitted(name, fields | {"capacity": 1024, "batch_size": 64, "num_updates": 4}), nim(16, 10)
    result = jax.jit(lambda key: train(key, config, make_agent, env, 12_800))(jax.random.key(0))
    left = jnp.arange(1, 11)
    obs = Position((jnp.arange(11) == left[:, None])[:, None, :, None], left[:, None] >= jnp.array([1, 2]), left)
    agent = build_in(make_agent, as_arrays(config), env)
    policy, progress = result.state.agent.policy, progress_at(1, 1)
    action, _, _ = agent.act(jax.random.key(0), policy, agent.initial_memory(10), obs, progress, False)
    wins = left % 3 != 0
    assert (action + 1)[wins].tolist() == (left % 3)[wins].tolist()
    _, value = network_of(config, env.spec).apply(policy, obs.planes)
    np.testing.assert_allclose(value, jnp.where(wins, 1.0, -1.0), atol=0.3)
