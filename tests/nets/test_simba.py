"""SimBa's residual torso: parameters counted by hand, a forward pass in numpy, every agent that sees vectors, and a probe."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import progress_at
from jaxrl.agents import AGENTS, load_agent
from jaxrl.agents.continuous.crossq import CrossQConfig, crossq_networks
from jaxrl.agents.value.dqn import DQNConfig, make_dqn
from jaxrl.cli import main
from jaxrl.config import as_arrays, check_config
from jaxrl.envs import make
from jaxrl.loop import build, train
from jaxrl.nets.heads import QNetwork
from jaxrl.nets.layers import SimBa
from jaxrl.types import ArraySpec, Box, Discrete, Spec

VECTOR = ArraySpec((3,), "float32")
SEERS = sorted(name for name in AGENTS if "torso" in load_agent(name)[1].__dataclass_fields__ and name != "ram")
"""Agents that choose a torso for their observations."""


def size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_two_blocks_of_eight_units_have_1192_parameters() -> None:
    """4 inputs: 4 * 8 + 8 = 40; in each block 16 of the normalisation, 8 * 32 + 32 and 32 * 8 + 8; 16 of the last one."""
    params = jax.eval_shape(SimBa((8, 8)).init, jax.random.key(0), jnp.zeros((1, 4)))
    assert size(params) == 40 + 2 * (16 + 288 + 264) + 16 == 1192


def norm(layer: Any, x: np.ndarray) -> np.ndarray:
    z = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return z * np.asarray(layer["scale"]) + np.asarray(layer["bias"])


def dense(layer: Any, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])


def test_blocks_add_to_what_they_are_given_and_a_normalisation_ends_it() -> None:
    network, rng = SimBa((5, 5)), np.random.default_rng(0)
    x = np.float32(rng.normal(size=(2, 6, 3)))
    fresh = jax.jit(network.init)(jax.random.key(0), x)
    params = jax.tree.map(lambda leaf: leaf + np.float32(0.3 * rng.normal(size=leaf.shape)), fresh)
    layers = params["params"]
    y = dense(layers["Dense_0"], x)
    for block in range(2):
        inner = np.maximum(dense(layers[f"Dense_{2 * block + 1}"], norm(layers[f"LayerNorm_{block}"], y)), 0.0)
        assert inner.shape == (2, 6, 20)
        y = y + dense(layers[f"Dense_{2 * block + 2}"], inner)
    np.testing.assert_allclose(jax.jit(network.apply)(params, x), norm(layers["LayerNorm_2"], y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEERS)
def test_every_agent_that_sees_vectors_can_see_them_so(name: str) -> None:
    """Traced and not compiled: weights of two blocks in each network, and actions."""
    make_agent, config_class = load_agent(name)
    fields = {"num_envs": 2, "hidden": (8, 8), "num_minibatches": 2, "torso": "simba"}
    config = config_class(**{k: v for k, v in fields.items() if k in config_class.__dataclass_fields__})
    check_config(config)
    action: Any = Box((1,)) if ".continuous." in make_agent.__module__ else Discrete(2)
    agent = build(make_agent, as_arrays(config), Spec(VECTOR, action, 10))
    state = jax.eval_shape(agent.init, jax.random.key(0))
    for part in [state.policy, state.critic] if hasattr(state, "critic") else [state.policy]:
        shapes = [leaf.shape[-2:] for leaf in jax.tree.leaves(part)]
        assert shapes.count((8, 32)) >= 2 and shapes.count((32, 8)) >= 2
        assert not any("MLP" in jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(part))
    if name == "td3":
        # Both critics see three numbers and an action.
        assert state.critic["params"]["SimBa_0"]["Dense_0"]["kernel"].shape == (2, 4, 8)
    for explore in (True, False):
        given = jax.random.key(0), state.policy, agent.initial_memory(2), jnp.zeros((2, 3)), progress_at(1, 2)
        chosen = jax.eval_shape(lambda *given, explore=explore: agent.act(*given, explore)[0], *given)
        assert chosen.shape == ((2, 1) if isinstance(action, Box) else (2,))


def test_a_recurrent_core_stands_in_front_of_the_blocks() -> None:
    make_agent, config_class = load_agent("ppo")
    config = config_class(torso="simba", gru=6, hidden=(8,), critic_hidden=(4, 4))
    agent = build(make_agent, as_arrays(config), Spec(VECTOR, Discrete(2)))
    policy = jax.eval_shape(agent.init, jax.random.key(0)).policy
    actor, critic = (policy.params[part]["params"]["SimBa_0"] for part in ("actor", "critic"))
    assert actor["Dense_0"]["kernel"].shape == (6, 8) and "Dense_3" not in actor
    assert critic["Dense_4"]["kernel"].shape == (16, 4)


def test_critics_may_be_wider_than_the_actor_and_crossq_normalises_its_blocks_by_batches() -> None:
    """The paper's SAC: one block of 128 units for the actor, two of 512 for critics."""
    networks = crossq_networks(CrossQConfig(torso="simba", hidden=(128,), critic_hidden=(512, 512)), Spec(VECTOR, Box((1,))))
    policy, critic = jax.eval_shape(networks.init, jax.random.key(0))
    actor, critics = policy.params["params"]["SimBa_0"], critic["params"]["SimBa_0"]
    assert actor["Dense_1"]["kernel"].shape == (128, 512) and critics["Dense_4"]["kernel"].shape == (2, 2048, 512)
    for layers, num in ((actor, 2), (critics, 3)):
        assert sum("BatchRenorm" in layer for layer in layers) == num and not any("LayerNorm" in layer for layer in layers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dqn", "--env", "CartPole-v1"), r"hidden=\(120, 84\) are no residual blocks of torso='simba'"),
        (("ppo", "--env", "CartPole-v1", "--critic-hidden", "8", "4"), r"critic_hidden=\(8, 4\) are no residual blocks"),
        (("sac", "--env", "Pendulum-v1", "--critic-hidden", "8", "4"), r"critic_hidden=\(8, 4\) are no residual blocks"),
        (("sac", "--env", "Pendulum-v1", "--layer-norm"), "layer_norm=True is of hidden layers, and torso='simba' has"),
        (("td3", "--env", "Pendulum-v1", "--dropout", "0.1"), "dropout=0.1 is of hidden layers, and torso='simba' has"),
        (("ram", "--env", "glimpse/digits"), "torso"),
    ],
)
def test_what_does_not_fit_is_one_line(arguments: tuple[str, ...], message: str, capsys: Any, tmp_path: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments, "--torso", "simba", "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and re.fullmatch(r"jaxrl: [^\n]+\n", err) and re.search(message, err), err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_deep_q_learning_finds_the_values_of_a_probe_with_it() -> None:
    """`probe/discount` pays 1 at the end of two steps, and gamma is 1/2."""
    config = DQNConfig(num_envs=16, hidden=(16,), torso="simba", capacity=1024, batch_size=64, learning_starts=256)
    config = dataclasses.replace(config, gamma=0.5, learning_rate=5e-3, target_period=64, epsilon_end=0.5)
    env = make("probe/discount", config.num_envs)
    policy = jax.jit(lambda key: train(key, config, make_dqn, env, 16_000).state.agent.policy)(jax.random.key(0))
    q = QNetwork(env.spec.action.n, config.hidden, torso="simba").apply(policy, jnp.array([[0.0], [1.0]]))
    np.testing.assert_allclose(np.max(q, axis=-1), [0.5, 1.0], atol=0.1)
