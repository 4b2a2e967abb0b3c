"""Agents that see pictures: whose networks they are built of, and what they must learn of a small picture."""

from functools import cache, partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import progress_at, slow_but
from jaxrl.agents import load_agent
from jaxrl.agents.policy_gradient.policy import PolicyConfig
from jaxrl.config import as_arrays
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.errors import UsageError
from jaxrl.loop import build, init_state, run_keys, train
from jaxrl.nets.actor_critic import actor_critic
from jaxrl.nets.heads import QNetwork
from jaxrl.nets.torso import CONVOLUTIONAL
from jaxrl.types import ArraySpec, Discrete, Spec

SPEC = Spec(ArraySpec((4, 36, 36), "uint8", picture="CHW", scale=255.0), Discrete(2), 1)
SMALL = {"num_envs": 16, "gamma": 0.5, "torso": "atari2013"}
RUNS = {
    "dqn": (
        "dqn",
        {"num_envs": 8, "gamma": 0.5, "capacity": 512, "batch_size": 32, "learning_starts": 256, "target_period": 8}
        | {"epsilon_end": 0.5, "dueling": True},
        1_500,
    ),
    "ppo": ("ppo", {"num_envs": 16, "gamma": 0.5, "rollout_length": 4, "num_minibatches": 2, "num_epochs": 2}, 4_000),
    "ppo-recurrent": ("ppo", SMALL | {"rollout_length": 4, "num_minibatches": 2, "gru": 16}, 6_000),
    "a2c-normalized": ("a2c", SMALL | {"rollout_length": 2, "normalize_observation": True}, 10_000),
    "actor_critic": ("actor_critic", SMALL, 10_000),
}
"""name -> (agent, fields, env steps)."""


def bright_half(num_envs):
    """One step: the left or the right half of a noisy picture is bright; +1 for action 0 on left, 1 on right, else -1."""

    def picture(key, side):
        noise = jax.random.randint(key, SPEC.obs.shape, 0, 56)
        bright = (jnp.arange(36) >= 18) == side.astype(bool)
        return (noise + 200 * bright).astype(jnp.uint8)

    def reset(key, params):
        key_side, key_noise = jax.random.split(key)
        side = jax.random.randint(key_side, (), 0, 2)
        return side, picture(key_noise, side)

    def step(key, params, state, action):
        return Transition(state, picture(key, state), jnp.where(action == state, 1.0, -1.0), True)

    return SimpleNamespace(env=batch_env(SPEC, (), reset, step, num_envs), picture=picture)


each_run = pytest.mark.parametrize("name", slow_but(("dqn",), RUNS))


@cache
def learned(name):
    """The agent, its first policy and what it learned."""
    agent, fields, steps = RUNS[name]
    make_agent, config_class = load_agent(agent)
    config = config_class(**fields)
    probe = bright_half(config.num_envs)
    run = jax.jit(partial(train, config=config, make_agent=make_agent, env=probe.env, total_steps=steps, num_rows=2))
    policy = run(jax.random.key(0)).state.agent.policy
    agent = build(make_agent, as_arrays(config), SPEC)
    first = jax.jit(lambda key: init_state(run_keys(key).init, agent, probe.env).agent.policy)(jax.random.key(0))
    return SimpleNamespace(agent=agent, first=first, policy=policy)


def pictures():
    """Four of the left and four of the right half."""
    sides = jnp.repeat(jnp.arange(2), 4)
    return jax.vmap(bright_half(1).picture)(jax.random.split(jax.random.key(9), 8), sides)


@each_run
def test_the_bright_half_is_chosen(name):
    found = learned(name)
    progress = progress_at(1, 1)
    act = jax.jit(partial(found.agent.act, explore=False))
    action, _, _ = act(jax.random.key(0), found.policy, found.agent.initial_memory(8), pictures(), progress)
    assert action.tolist() == [0] * 4 + [1] * 4


@each_run
def test_the_convolutions_learn(name):
    """Heads on random convolutions that stay as they were would choose the bright half as well."""
    found = learned(name)
    first, last = (jax.tree.leaves(getattr(policy, "params", policy)) for policy in (found.first, found.policy))
    for a, b in zip(first, last, strict=True):
        assert a.ndim != 4 or np.max(np.abs(a - b)) > 1e-4


def test_the_action_values_of_pictures_are_the_rewards():
    found = learned("dqn")
    network = QNetwork(2, (), dueling=True, torso="nature")
    q = jax.jit(network.apply)(found.policy, jnp.moveaxis(pictures(), 1, -1))
    np.testing.assert_allclose(q, np.repeat([[1.0, -1.0], [-1.0, 1.0]], 4, axis=0), atol=0.25)


def parameters(spec=SPEC, gru=None, shared=True, **fields):
    """Shapes of an actor and a critic."""
    shapes = jax.eval_shape(actor_critic(PolicyConfig(**fields), spec, gru, shared).init, jax.random.key(0))
    return {name: jax.tree.map(lambda leaf: leaf.shape, params) for name, params in shapes.params.items()}


def test_actor_and_critic_are_linear_on_one_torso():
    found = parameters()
    assert found.keys() == {"actor", "critic", "log_std", "torso"}
    assert found["torso"]["params"].keys() == {"Conv_0", "Conv_1", "Conv_2", "Dense_0"}
    assert found["actor"]["params"] == {"Dense_0": {"kernel": (512, 2), "bias": (2,)}}
    assert found["critic"]["params"] == {"Dense_0": {"kernel": (512, 1), "bias": (1,)}}


def test_a_core_stands_on_the_torso():
    found = parameters(gru=8)
    assert found["core"]["params"]["Dense_0"]["kernel"] == (512, 8)
    assert found["actor"]["params"] == {"Dense_0": {"kernel": (8, 2), "bias": (2,)}}


def test_an_actor_fitted_apart_from_its_critic_has_a_torso_of_its_own():
    found = parameters(shared=False)
    assert found.keys() == {"actor", "critic", "log_std"}
    for name, outputs in (("actor", 2), ("critic", 1)):
        assert found[name]["params"]["Torso_0"].keys() == {"Conv_0", "Conv_1", "Conv_2", "Dense_0"}
        assert found[name]["params"]["Dense_0"]["kernel"] == (512, outputs)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("shape", [(10, 10, 4), (6,)])
def test_small_pictures_and_vectors_are_seen_by_hidden_layers_alone(shape, shared):
    found = parameters(
        Spec(ArraySpec(shape, "float32", picture="HWC" if len(shape) == 3 else None), Discrete(2)), shared=shared
    )
    assert found.keys() == {"actor", "critic", "log_std"}
    assert found["actor"]["params"]["MLP_0"]["Dense_0"]["kernel"] == (np.prod(shape), 64)


def test_moments_of_pictures_have_their_shape():
    config = PolicyConfig(normalize_observation=True)
    policy = jax.eval_shape(actor_critic(config, SPEC).init, jax.random.key(0))
    assert policy.moments.mean.shape == (36, 36, 4)


@pytest.mark.parametrize("name", ["a2c", "actor_critic", "dqn", "ppo", "reinforce"])
def test_a_torso_that_cannot_see_the_observations_is_refused(name):
    make_agent, config_class = load_agent(name)
    for torso in CONVOLUTIONAL:
        with pytest.raises(UsageError, match=f"torso='{torso}' needs pictures"):
            make_agent(as_arrays(config_class(torso=torso)), Spec(ArraySpec((2, 2), "uint8"), Discrete(2), 1))
