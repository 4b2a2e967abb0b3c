"""The distributions that agents learn against the exact ones of a small MDP.

From state 0 a step leads to state 1 one time in four, else to state 2; from there the episode ends with 1 or 0, and -1 or -2,
as the action says. With gamma = 1/2 the best return from state 0 is 1/2 one time in four, else -1/2.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import load_agent
from jaxrl.agents.value.c51 import atoms, c51_network
from jaxrl.agents.value.iqn import iqn_network
from jaxrl.agents.value.qr_dqn import qr_network
from jaxrl.envs.tools.mdp_env import mdp_env
from jaxrl.loop import train
from jaxrl.mdp import solvers as mdps
from jaxrl.mdp.model import make_mdp

GAMMA = 0.5
FIELDS: dict[str, Any] = {
    "num_envs": 8,
    "hidden": (32, 32),
    "learning_rate": 3e-3,
    "learning_starts": 500,
    "target_period": 100,
    "epsilon_end": 0.5,
    "capacity": 10_000,
    "gamma": GAMMA,
}
OWN: dict[str, dict[str, Any]] = {
    "c51": {"num_atoms": 9, "v_min": -2.0, "v_max": 2.0},
    "qr_dqn": {"num_quantiles": 8, "kappa": 0.02},
    "iqn": {"num_quantiles": 8, "kappa": 0.02},
}


def coins() -> Any:
    successors = np.array([[[1, 2]] * 2, [[3, 3]] * 2, [[3, 3]] * 2, [[3, 3]] * 2])
    probabilities = np.broadcast_to(np.float32([0.25, 0.75]), successors.shape)
    rewards = np.float32([[0.0, 0.0], [1.0, 0.0], [-1.0, -2.0], [0.0, 0.0]])
    initial = [1.0, 0.0, 0.0, 0.0]
    return make_mdp(successors, probabilities, rewards, GAMMA, initial=initial, terminal=np.arange(4) == 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OWN))
def test_the_distribution_of_returns_is_the_exact_one(name: str) -> None:
    make_agent, config_class = load_agent(name)
    config: Any = config_class(**FIELDS, **OWN[name])
    env = mdp_env(coins(), 8, time_limit=5)
    run = jax.jit(lambda key: train(key, config, make_agent, env, 100_000).state.agent.policy)
    policy, states = run(jax.random.key(0)), jnp.arange(3)
    network = {"c51": c51_network, "qr_dqn": qr_network, "iqn": iqn_network}[name](config, env.spec)
    output = network.apply(None, policy, states)
    optimal = np.asarray(mdps.value_iteration(env.params, 1e-6, 100).q)[:3]
    np.testing.assert_allclose(optimal, [[-0.25, -0.25], [1.0, 0.0], [-1.0, -2.0]], atol=1e-5)
    np.testing.assert_allclose(network.values(output), optimal, atol=0.1)
    if name == "c51":
        probability = np.asarray(jax.nn.softmax(output.logits))[:, 0]
        expected = np.zeros((3, 9))
        places = list(np.asarray(atoms(config)))
        expected[0, [places.index(0.5), places.index(-0.5)]] = 0.25, 0.75
        expected[1, places.index(1.0)] = expected[2, places.index(-1.0)] = 1.0
        np.testing.assert_allclose(probability, expected, atol=0.08)
    else:
        quantile = np.asarray(output.quantile)[:, 0]
        np.testing.assert_allclose(quantile[0], [-0.5] * 6 + [0.5] * 2, atol=0.2)
        np.testing.assert_allclose(quantile[1:], np.broadcast_to([[1.0], [-1.0]], (2, 8)), atol=0.15)
