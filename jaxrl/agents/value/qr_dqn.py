"""Deep Q-learning with quantile regression, QR-DQN (Dabney et al. 2018, Algorithm 1): quantiles of each action's return.

The network gives K quantiles, at the levels (i + 1/2) / K, to each action; acting goes by their means, and learning fits them
to r + gamma z by the quantile Huber loss. All else, flags included, is that of `dqn`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.agents.value.q_values import Outputs, QConfig, make_q_agent
from jaxrl.config import agent_config, static, traced
from jaxrl.maths import distributional
from jaxrl.nets.action_values import ActionValues, layers, legal_values, module_network, torso_of_config
from jaxrl.nets.heads import QNetwork
from jaxrl.nets.inputs import legal_of
from jaxrl.replay.ring import Transitions
from jaxrl.types import Agent, Array, Model, PyTree, Spec


@agent_config
class QRDQNConfig(QConfig):
    """Deep Q-learning with quantile regression."""

    double: bool = static(False, "Choose the target's action with the online network (double Q-learning).")
    num_quantiles: int = static(32, "Quantiles of a distribution of returns.", low=1)
    kappa: float = traced(1.0, "Errors up to which the quantile loss is quadratic.", low=0.0, low_open=True)


class Quantiles(NamedTuple):
    """Quantiles of each action's return.

    Attributes:
      quantile: [..., A, K].
      tau: [..., K] their levels.
      legal: [..., A] bool; None where all actions are.
    """

    quantile: Array
    tau: Array
    legal: Array | None


def mean(output: Quantiles) -> Array:
    """[..., A] action values."""
    return legal_values(jnp.mean(output.quantile, axis=-1), output.legal)


def qr_network(config: QRDQNConfig, spec: Spec) -> ActionValues:
    """Outputs are `Quantiles` at fixed levels."""
    module = QNetwork(spec.action.n, numbers=config.num_quantiles, **layers(config, spec))
    net = module_network(spec, module, torso_of_config(config, spec))

    def apply(key: Array | None, params: PyTree, obs: PyTree) -> Quantiles:
        quantile = net.apply(key, params, obs)
        tau = jnp.broadcast_to(distributional.midpoints(config.num_quantiles), quantile.shape[:-2] + quantile.shape[-1:])
        return Quantiles(quantile, tau, legal_of(obs))

    return ActionValues(net.init, apply, mean)


def quantile_target(config: QRDQNConfig, batch: Transitions, outputs: Outputs) -> Array:
    """[N, K] r_t + discount_t * z, where z are quantiles of the best action's return."""
    best = jnp.argmax(mean(outputs.online_t if config.double else outputs.target_t), axis=-1)
    z = distributional.of_action(outputs.target_t.quantile, best)
    return batch.reward[:, None] + batch.discount[:, None] * z


def quantile_loss(config: QRDQNConfig, batch: Transitions, output: Quantiles, target: Array) -> tuple[Array, Array]:
    """The quantile Huber loss [N], and the difference of the means [N]."""
    quantile = distributional.of_action(output.quantile, batch.action)
    each = distributional.quantile_huber(quantile, output.tau, target, config.kappa)
    return each, jnp.mean(target, axis=-1) - jnp.mean(quantile, axis=-1)


def make_qr_dqn(config: QRDQNConfig, spec: Spec, model: Model | None = None) -> Agent:
    """QR-DQN for discrete actions and any observations.

    Raises:
      UsageError: continuous or mixed actions, or a torso that cannot see the observations.
    """
    return make_q_agent(config, spec, "qr_dqn", target=quantile_target, loss=quantile_loss, network=qr_network)
