"""The contract suite: every registered agent keeps these promises, and a new one inherits the suite by being registered.

A tiny configuration of each agent is compiled once (`setup`) and shared by its checks. `VALUE_OF` says how to read a state's
value out of an agent's policy; an agent without an entry fails. `VARIANTS` are more configurations of registered agents. Agents
with a table need observations that name a state: they play a small MDP and twins of the probes, and are held to the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import JaxHostEnv, assert_close, assert_same_bits, copy, progress_at, slow_but
from jaxrl.agents import AGENTS, load_agent
from jaxrl.config import Config, as_arrays, check_config
from jaxrl.drivers.device import Driver, device_driver, make_chunk
from jaxrl.drivers.host import host_driver
from jaxrl.envs import make
from jaxrl.envs.tools.mdp_env import mdp_env
from jaxrl.loop import Plan, RunKeys, build, plan, run_keys, train
from jaxrl.mdp.model import MDP, make_mdp
from jaxrl.nets.actor_critic import actor_critic
from jaxrl.nets.heads import QNetwork
from jaxrl.records import checkpoint
from jaxrl.types import Env, RunState, TimeStep

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo-recurrent": ("ppo", {"gru": 8, "normalize_observation": True, "normalize_reward": True, "target_kl": 0.5}),
    "dqn-n_step": ("dqn", {"rollout_length": 2, "num_updates": 2, "n_step": 3}),
    "a2c-normalized": ("a2c", {"normalize_observation": True, "normalize_reward": True, "normalize_advantage": True}),
    "reinforce-average": ("reinforce", {"baseline": "average", "discounted": True}),
    "sarsa-rollouts": ("sarsa", {"rollout_length": 3, "average": True}),
    "dyna_q-plus": ("dyna_q", {"rollout_length": 2, "num_successors": 2, "plus": True}),
}
"""Configurations under which an agent carries other state: name -> (agent, fields)."""

TABULAR = ("dyna_q", "expected_sarsa", "monte_carlo", "q_learning", "sarsa")
"""Agents whose observations must name a state."""

TINY = {
    "num_envs": 4,
    "hidden": (16,),
    "capacity": 256,
    "batch_size": 16,
    "learning_starts": 32,
    "target_period": 40,
    "num_minibatches": 2,
    "num_value_updates": 2,
    "num_planning_steps": 2,
}
"""Fields made small in every agent that has them."""

PROBE = {"num_envs": 16, "hidden": (32,), "capacity": 1024, "batch_size": 64, "learning_starts": 256, "gamma": 0.5} | {
    "learning_rate": 5e-3,
    "target_period": 64,
    "epsilon_end": 0.5,
    "loss": "squared",
}
"""Fields for learning the probe environments in a few seconds."""

ROLLOUT_OF = {"ppo": {"rollout_length": 8, "num_minibatches": 2}, "a2c": {"rollout_length": 4}}
"""Rollouts short enough that a probe sees hundreds of updates."""


def _dqn_value(config: Any, env: Any, policy: Any, obs: jax.Array) -> jax.Array:
    network = QNetwork(env.spec.action.n, config.hidden, config.activation, config.dueling)
    return network.apply(policy, obs).max(-1)  # type: ignore[union-attr]


def _critic_value(config: Any, env: Any, policy: Any, obs: jax.Array) -> jax.Array:
    return actor_critic(config, env.spec, getattr(config, "gru", None)).evaluate(policy, obs)


def _table_value(config: Any, env: Any, policy: Any, obs: jax.Array) -> jax.Array:
    return policy[obs].max(-1)


VALUE_OF = (
    {name: _critic_value for name in ("reinforce", "actor_critic", "a2c", "ppo")}
    | {name: _table_value for name in TABULAR}
    | {"dqn": _dqn_value}
)
"""(config, env, policy, obs [N, ...]) -> [N] state values."""


def make_suite_env(name: str, num_envs: int) -> Env:
    """What an agent plays in the checks that are not about what it learns."""
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
        return _switched([make(f"probe/{probe}", num_envs) for probe in PROBES])
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


def on_device(state: RunState) -> RunState:
    """Tied to its device as restored arrays are: one program then advances a first state and a restored one."""
    return jax.device_put(state, jax.local_devices()[0])


class Setup(NamedTuple):
    name: str
    make_agent: Any
    config: Config
    env: Any
    driver: Driver
    plan: Plan
    keys: RunKeys

    def init(self) -> RunState:
        return on_device(self.driver.init(self.keys.init, self.config, self.env.params))

    def advance(self, state: RunState, warmup: int, learn: int, config: Config | None = None) -> tuple[RunState, Any]:
        counts = np.int32(warmup), np.int32(learn), self.plan.progress(0)
        return self.driver.advance(self.keys.train, config or self.config, self.env.params, state, *counts)


NAMES = sorted([*AGENTS, *VARIANTS])
QUICK = ("actor_critic", "dqn", "ppo-recurrent", "sarsa")
"""Those of which every check is among the quick tests; the others leave three to the longer ones."""

each_agent = pytest.mark.parametrize("setup", slow_but(QUICK, NAMES), indirect=True, scope="module")


@pytest.fixture(scope="module", params=NAMES)
def setup(request: pytest.FixtureRequest) -> Setup:
    name = request.param
    make_agent, _ = load_agent(agent_of(name))
    config = fitted(name, TINY | ({"rollout_length": 16} if agent_of(name) == "ppo" else {}))
    env = make_suite_env(name, config.num_envs)
    schedule = plan(config, env.spec, 4000)
    driver = device_driver(make_agent, env, lambda n: make_suite_env(name, n))
    return Setup(name, make_agent, as_arrays(config), env, driver, schedule, run_keys(jax.random.key(3)))


@pytest.fixture(scope="module")
def trained(setup: Setup) -> RunState:
    """The state after the warm-up and 20 iterations."""
    return setup.advance(setup.init(), setup.plan.num_warmup, 20)[0]


def test_same_key_gives_same_bits(setup: Setup, trained: RunState) -> None:
    again, _ = setup.advance(setup.init(), setup.plan.num_warmup, 20)
    assert_same_bits(trained, again)


def test_another_key_gives_another_policy(setup: Setup, trained: RunState) -> None:
    other = setup._replace(keys=run_keys(jax.random.key(4)))
    state, _ = other.advance(other.init(), setup.plan.num_warmup, 20)
    leaves = zip(jax.tree.leaves(state.agent.policy), jax.tree.leaves(trained.agent.policy), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


def test_state_structure_is_stable(setup: Setup, trained: RunState) -> None:
    before, after = setup.init(), trained
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type)


def test_an_update_changes_the_policy_and_a_warm_up_does_not(setup: Setup, trained: RunState) -> None:
    """Moments of observations are gathered in a warm-up too: they are seen, not learned."""

    def parameters(state: RunState) -> Any:
        return getattr(state.agent.policy, "params", state.agent.policy)

    state = setup.init()
    start = copy(parameters(state))
    warm, _ = setup.advance(state, 5, 0)
    assert_same_bits(parameters(warm), start)
    leaves = zip(jax.tree.leaves(parameters(trained)), jax.tree.leaves(start), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


def test_another_number_of_iterations_or_value_of_a_traced_field_compiles_nothing(setup: Setup, trained: RunState) -> None:
    advance = setup.driver.advance
    before = advance._cache_size()  # type: ignore[attr-defined]
    assert before == 1
    for field in dataclasses.fields(setup.config):
        value = getattr(setup.config, field.name)
        if not field.metadata["static"]:
            other = dataclasses.replace(setup.config, **{field.name: value * 0.9})
            setup.advance(copy(trained), 0, 3, as_arrays(other))
    plain = dataclasses.replace(
        setup.config, **{f.name: np.asarray(getattr(setup.config, f.name)).item() for f in _traced(setup.config)}
    )
    setup.advance(copy(trained), 2, 1, as_arrays(plain))
    assert advance._cache_size() == before  # type: ignore[attr-defined]


def _traced(config: Config) -> list[dataclasses.Field]:
    return [f for f in dataclasses.fields(config) if not f.metadata["static"]]


def test_halves_with_a_checkpoint_between_equal_the_whole_bit_for_bit(setup: Setup, trained: RunState, tmp_path: Any) -> None:
    half, _ = setup.advance(setup.init(), setup.plan.num_warmup, 10)
    checkpoint.save(tmp_path, int(half.iteration), half, {"note": 1})
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), trained)
    restored = checkpoint.restore(tmp_path, lambda meta: shapes, pytest.fail)
    assert restored is not None
    num_programs = setup.driver.advance._cache_size()  # type: ignore[attr-defined]
    whole, _ = setup.advance(on_device(restored.state), 0, 10)
    assert_same_bits(whole, trained)
    assert setup.driver.advance._cache_size() == num_programs  # type: ignore[attr-defined]


@each_agent
def test_a_vmapped_member_equals_its_solo_run(setup: Setup, trained: RunState) -> None:
    """Over 20 iterations within tolerance, every traced field a batch axis; the second member has another learning rate."""
    batch = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), setup.config)
    rate = np.asarray(setup.config.learning_rate)  # type: ignore[attr-defined]
    batch = dataclasses.replace(batch, learning_rate=np.stack([rate, rate / 2]))
    axes = RunState(agent=0, env=0, obs=0, memory=0, recent=0, iteration=None)
    init = jax.vmap(setup.driver.init, in_axes=(0, 0, None), out_axes=axes)
    chunk = jax.vmap(make_chunk(setup.make_agent, setup.env), in_axes=(0, 0, None, axes, None, None, None), out_axes=(axes, 0))

    @jax.jit
    def run(keys: RunKeys, config: Config, params: Any, warmup: Any, total: Any) -> RunState:
        state = init(keys.init, config, params)
        return chunk(keys.train, config, params, state, warmup, np.int32(20), total)[0]

    keys = jax.jit(jax.vmap(run_keys))(jnp.stack([jax.random.key(3), jax.random.key(7)]))
    counts = np.int32(setup.plan.num_warmup), setup.plan.progress(0)
    state = jax.device_get(run(keys, batch, setup.env.params, *counts))
    member = jax.tree.map(lambda leaf: leaf[0], state._replace(iteration=state.iteration[None]))
    assert_close(member, trained)


@each_agent
def test_every_traced_field_can_be_a_batch_axis_alone(setup: Setup) -> None:
    """Traced without compiling: a field that shaped anything would fail here. That all can be at once is shown above."""
    chunk = make_chunk(setup.make_agent, setup.env)

    @jax.jit
    def run(config: Config) -> RunState:
        """Traced once for all fields."""
        state = setup.driver.init(setup.keys.init, config, setup.env.params)
        return chunk(setup.keys.train, config, setup.env.params, state, 3, 3, setup.plan.progress(0))[0]

    axes = RunState(agent=0, env=0, obs=0, memory=0, recent=0, iteration=None)
    for field in _traced(setup.config):
        value = getattr(setup.config, field.name)
        config = dataclasses.replace(setup.config, **{field.name: jnp.stack([value, value])})
        config_axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else None, config)
        shapes = jax.eval_shape(jax.vmap(run, in_axes=(config_axes,), out_axes=axes, axis_size=2), config)
        assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(shapes.agent)), field.name


@each_agent
def test_the_host_driver_equals_the_device_driver(setup: Setup, trained: RunState) -> None:
    env = JaxHostEnv(setup.env, setup.keys.init, setup.keys.train, setup.plan.rollout_length)
    driver = host_driver(setup.make_agent, env, lambda n: env)
    state = driver.init(setup.keys.init, setup.config, ())
    state, sums = driver.advance(setup.keys.train, setup.config, (), state, setup.plan.num_warmup, 20, setup.plan.progress(0))
    assert_close(state.agent, trained.agent)
    assert_close((state.recent, state.iteration), (trained.recent, trained.iteration))
    _, device_sums = setup.advance(setup.init(), setup.plan.num_warmup, 20)
    assert sums.keys() == device_sums.keys()
    assert_close(dict(sums), dict(device_sums))


def test_a_greedy_action_ignores_exploration(setup: Setup, trained: RunState) -> None:
    agent = build(setup.make_agent, setup.config, setup.env.spec)
    memory = agent.initial_memory(4)
    start, end = (progress_at(i, 100) for i in (0, 100))
    first = agent.act(jax.random.key(0), trained.agent.policy, memory, trained.obs, start, False)
    second = agent.act(jax.random.key(1), trained.agent.policy, memory, trained.obs, end, False)
    assert_same_bits(first[:2], second[:2])


def test_metrics_are_finite_scalars(setup: Setup) -> None:
    _, sums = setup.advance(setup.init(), setup.plan.num_warmup, 20)
    names = [name for name in sums if name.startswith("metric/")]
    size_of_update = {"metric/td_error", "metric/table_change"} if agent_of(setup.name) in TABULAR else {"metric/grad_norm"}
    assert {"metric/loss"} | size_of_update <= set(names)
    for name in names:
        assert sums[name].shape == () and np.isfinite(sums[name]), name


# --- what must be learned -------------------------------------------------------------------------------------------


class Learned(NamedTuple):
    config: Config
    env: Any
    policy: Any


@cache
def learner(name: str, steps: int = 16_000) -> tuple[Config, Probes, Callable[..., Any]]:
    """The config, the probes and (params of a probe) -> policy, compiled once for all of them; gamma is 0.5."""
    make_agent, _ = load_agent(name)
    config = fitted(name, PROBE | ROLLOUT_OF.get(name, {}))
    made = make_probes(name, config.num_envs)

    @jax.jit
    def run(params: Any) -> Any:
        return train(jax.random.key(0), config, make_agent, made.env._replace(params=params), steps).state.agent.policy

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
@pytest.mark.parametrize("name", sorted(AGENTS))
def test_the_value_of_a_probe_is_learned(name: str, probe: str, cues: list[float], values: list[float]) -> None:
    """On `truncation` only bootstrapping a truncated step from its true successor, and no terminated one, is right."""
    learned = VALUE_OF[name](*learn_probe(name, probe), observed(name, cues))
    np.testing.assert_allclose(learned, values, atol=0.1)


@pytest.mark.parametrize("name", sorted(AGENTS))
def test_the_better_action_is_chosen(name: str) -> None:
    config, env, policy = learn_probe(name, "action")
    agent = build(load_agent(name)[0], as_arrays(config), env.spec)
    obs, progress = jnp.repeat(observed(name, [0.0]), 2, axis=0), progress_at(1, 1)
    action, _, _ = agent.act(jax.random.key(0), policy, agent.initial_memory(2), obs, progress, False)
    assert action.tolist() == [1, 1]
