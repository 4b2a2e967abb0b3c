"""Implicit quantile networks, IQN (Dabney et al. 2018b): the quantiles of each action's return at levels that are drawn.

The network takes levels tau beside an observation. Learning draws K of them for each transition and network, and so does
acting; greedy actions go by the quantiles at the levels (i + 1/2) / K. Deviations from the paper: K is one number for acting,
values and targets, and the target's action is chosen by the quantiles that its value is made of. Loss and all else are those of
`qr_dqn`.
"""

from __future__ import annotations

import jax

from jaxrl.agents.value.q_values import make_q_agent
from jaxrl.agents.value.qr_dqn import QRDQNConfig, Quantiles, mean, quantile_loss, quantile_target
from jaxrl.config import agent_config, static
from jaxrl.nets.action_values import ActionValues, layers, module_network, torso_of_config
from jaxrl.nets.heads import ImplicitQuantileNetwork
from jaxrl.nets.inputs import legal_of
from jaxrl.types import Agent, Array, Model, PyTree, Spec


@agent_config
class IQNConfig(QRDQNConfig):
    """Deep Q-learning with implicit quantiles."""

    num_quantiles: int = static(16, "Levels at which quantiles are taken (K).", low=1)


def iqn_network(config: IQNConfig, spec: Spec) -> ActionValues:
    """Outputs are `Quantiles` at levels of their own for each observation."""
    module = ImplicitQuantileNetwork(spec.action.n, num_quantiles=config.num_quantiles, **layers(config, spec))
    net = module_network(spec, module, torso_of_config(config, spec))

    def apply(key: Array | None, params: PyTree, obs: PyTree) -> Quantiles:
        levels = () if key is None else (jax.random.fold_in(key, 1),)
        quantile, tau = net.apply(key, params, obs, *levels)
        return Quantiles(quantile, tau, legal_of(obs))

    return ActionValues(net.init, apply, mean)


def make_iqn(config: IQNConfig, spec: Spec, model: Model | None = None) -> Agent:
    """IQN for discrete actions and any observations.

    Raises:
      UsageError: continuous or mixed actions, or a torso that cannot see the observations.
    """
    return make_q_agent(config, spec, "iqn", target=quantile_target, loss=quantile_loss, network=iqn_network)
