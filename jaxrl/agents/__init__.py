"""The registry of agents. An agent's name stands for `module:function`, and your own `module:function` works as well.

The function is `make_agent(config, spec, num_envs, rollout_length, model=None) -> Agent`; the type of its first parameter is
its config class. This module imports no JAX, so that listing the agents is instant.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxrl import lazy
from jaxrl.errors import UsageError, import_by_name, one_line, unknown

if TYPE_CHECKING:
    from jaxrl.agents.attention.ram import RAMConfig as RAMConfig
    from jaxrl.agents.attention.ram import make_ram as make_ram
    from jaxrl.agents.continuous.crossq import CrossQConfig as CrossQConfig
    from jaxrl.agents.continuous.crossq import make_crossq as make_crossq
    from jaxrl.agents.continuous.ddpg import DDPGConfig as DDPGConfig
    from jaxrl.agents.continuous.ddpg import make_ddpg as make_ddpg
    from jaxrl.agents.continuous.sac import SACConfig as SACConfig
    from jaxrl.agents.continuous.sac import make_sac as make_sac
    from jaxrl.agents.continuous.td3 import TD3Config as TD3Config
    from jaxrl.agents.continuous.td3 import make_td3 as make_td3
    from jaxrl.agents.continuous.tqc import TQCConfig as TQCConfig
    from jaxrl.agents.continuous.tqc import make_tqc as make_tqc
    from jaxrl.agents.policy_gradient.a2c import A2CConfig as A2CConfig
    from jaxrl.agents.policy_gradient.a2c import make_a2c as make_a2c
    from jaxrl.agents.policy_gradient.actor_critic import ActorCriticConfig as ActorCriticConfig
    from jaxrl.agents.policy_gradient.actor_critic import make_actor_critic as make_actor_critic
    from jaxrl.agents.policy_gradient.policy import Estimate as Estimate
    from jaxrl.agents.policy_gradient.ppo import PPOConfig as PPOConfig
    from jaxrl.agents.policy_gradient.ppo import make_ppo as make_ppo
    from jaxrl.agents.policy_gradient.reinforce import ReinforceConfig as ReinforceConfig
    from jaxrl.agents.policy_gradient.reinforce import make_reinforce as make_reinforce
    from jaxrl.agents.search.alphazero import AlphaZeroConfig as AlphaZeroConfig
    from jaxrl.agents.search.alphazero import make_alphazero as make_alphazero
    from jaxrl.agents.tabular.dyna_q import DynaQConfig as DynaQConfig
    from jaxrl.agents.tabular.dyna_q import make_dyna_q as make_dyna_q
    from jaxrl.agents.tabular.monte_carlo import MonteCarloConfig as MonteCarloConfig
    from jaxrl.agents.tabular.monte_carlo import make_monte_carlo as make_monte_carlo
    from jaxrl.agents.tabular.q_learning import make_q_learning as make_q_learning
    from jaxrl.agents.tabular.sarsa import make_expected_sarsa as make_expected_sarsa
    from jaxrl.agents.tabular.sarsa import make_sarsa as make_sarsa
    from jaxrl.agents.tabular.table import TabularConfig as TabularConfig
    from jaxrl.agents.value.c51 import C51Config as C51Config
    from jaxrl.agents.value.c51 import make_c51 as make_c51
    from jaxrl.agents.value.dqn import DQNConfig as DQNConfig
    from jaxrl.agents.value.dqn import make_dqn as make_dqn
    from jaxrl.agents.value.iqn import IQNConfig as IQNConfig
    from jaxrl.agents.value.iqn import make_iqn as make_iqn
    from jaxrl.agents.value.pqn import PQNConfig as PQNConfig
    from jaxrl.agents.value.pqn import make_pqn as make_pqn
    from jaxrl.agents.value.q_values import Outputs as Outputs
    from jaxrl.agents.value.qr_dqn import QRDQNConfig as QRDQNConfig
    from jaxrl.agents.value.qr_dqn import make_qr_dqn as make_qr_dqn
    from jaxrl.agents.value.r2d2 import R2D2Config as R2D2Config
    from jaxrl.agents.value.r2d2 import make_r2d2 as make_r2d2
    from jaxrl.agents.value.rainbow import RainbowConfig as RainbowConfig
    from jaxrl.agents.value.rainbow import make_rainbow as make_rainbow
    from jaxrl.config import Config
    from jaxrl.nets.action_values import ActionValues as ActionValues
    from jaxrl.nets.action_values import q_network as q_network
    from jaxrl.nets.actor_critic import actor_critic as actor_critic


class Entry(NamedTuple):
    """Where an agent lives and what it is in one line."""

    path: str
    summary: str


AGENTS: dict[str, Entry] = {
    "a2c": Entry("jaxrl.agents.policy_gradient.a2c:make_a2c", "Advantage actor-critic on short rollouts."),
    "actor_critic": Entry(
        "jaxrl.agents.policy_gradient.actor_critic:make_actor_critic",
        "Actor-critic on whole episodes; Monte-Carlo, one-step TD or GAE advantage.",
    ),
    "alphazero": Entry(
        "jaxrl.agents.search.alphazero:make_alphazero",
        "AlphaZero: both sides of a game, a tree search and a network that learns of it.",
    ),
    "c51": Entry("jaxrl.agents.value.c51:make_c51", "Deep Q-learning of a distribution of returns on fixed atoms."),
    "crossq": Entry(
        "jaxrl.agents.continuous.crossq:make_crossq", "SAC with batch normalisation in the place of target networks."
    ),
    "ddpg": Entry(
        "jaxrl.agents.continuous.ddpg:make_ddpg", "Deep deterministic policy gradient: continuous actions, off-policy."
    ),
    "dqn": Entry(
        "jaxrl.agents.value.dqn:make_dqn",
        "Deep Q-learning with experience replay; double, dueling, prioritised, noisy, Munchausen as flags.",
    ),
    "dyna_q": Entry(
        "jaxrl.agents.tabular.dyna_q:make_dyna_q", "Q-learning with a table that plans with a learned model; Dyna-Q+."
    ),
    "expected_sarsa": Entry(
        "jaxrl.agents.tabular.sarsa:make_expected_sarsa", "SARSA with a table that takes the expectation over the next action."
    ),
    "iqn": Entry("jaxrl.agents.value.iqn:make_iqn", "Deep Q-learning of a distribution of returns, quantiles at drawn levels."),
    "monte_carlo": Entry(
        "jaxrl.agents.tabular.monte_carlo:make_monte_carlo",
        "Monte-Carlo control with a table: averages the returns of whole episodes.",
    ),
    "ppo": Entry("jaxrl.agents.policy_gradient.ppo:make_ppo", "Proximal policy optimization, feed-forward or recurrent (gru)."),
    "pqn": Entry(
        "jaxrl.agents.value.pqn:make_pqn",
        "Parallelised Q-learning: lambda-returns, layer norm, no replay and no target network; recurrent (gru).",
    ),
    "q_learning": Entry("jaxrl.agents.tabular.q_learning:make_q_learning", "Q-learning with a table, off-policy."),
    "qr_dqn": Entry("jaxrl.agents.value.qr_dqn:make_qr_dqn", "Deep Q-learning of a distribution of returns by its quantiles."),
    "r2d2": Entry(
        "jaxrl.agents.value.r2d2:make_r2d2", "Deep Q-learning with a memory, from prioritised replay of sequences with burn-in."
    ),
    "rainbow": Entry(
        "jaxrl.agents.value.rainbow:make_rainbow",
        "Double, dueling, n-step, prioritised, noisy, categorical deep Q-learning; each part a flag.",
    ),
    "ram": Entry(
        "jaxrl.agents.attention.ram:make_ram",
        "The Recurrent Attention Model: glimpses of a picture, REINFORCE says where to look.",
    ),
    "reinforce": Entry(
        "jaxrl.agents.policy_gradient.reinforce:make_reinforce", "REINFORCE with every step of variance reduction as a flag."
    ),
    "sac": Entry("jaxrl.agents.continuous.sac:make_sac", "Soft actor-critic, continuous or discrete; REDQ and DroQ as flags."),
    "sarsa": Entry("jaxrl.agents.tabular.sarsa:make_sarsa", "SARSA with a table, on-policy."),
    "td3": Entry(
        "jaxrl.agents.continuous.td3:make_td3", "Twin delayed DDPG: the least of two critics, a smoothed target, a late actor."
    ),
    "tqc": Entry(
        "jaxrl.agents.continuous.tqc:make_tqc",
        "Truncated quantile critics: SAC by quantiles of the return, without the greatest.",
    ),
}


def load_agent(name: str) -> tuple[Callable[..., Any], type[Config]]:
    """The `make_agent` function of an agent's name or `module:function`, and its config class.

    Raises:
      UsageError: an unknown name (with the nearest ones), or a function whose first parameter has no config type.
    """
    from jaxrl.config import Config, config_class_of

    if ":" in name:
        make_agent = import_by_name(name, "agent")
    elif name in AGENTS:
        module, _, attribute = AGENTS[name].path.partition(":")
        make_agent = getattr(importlib.import_module(module), attribute)
    else:
        raise UsageError(unknown("agent", name, AGENTS))
    try:
        config_class = config_class_of(make_agent)
    except (NameError, AttributeError, SyntaxError) as error:
        raise UsageError(
            f"agent={name!r}: an annotation of its parameters cannot be resolved ({one_line(error)}); import what it names in "
            "its module, and not under TYPE_CHECKING"
        ) from None
    if not (isinstance(config_class, type) and issubclass(config_class, Config)):
        raise UsageError(
            f"agent={name!r}: its first parameter has no type; annotate it with a @jaxrl.agent_config subclass of Config"
        )
    if "__dataclass_fields__" not in vars(config_class):
        raise UsageError(
            f"agent={name!r}: its config {config_class.__name__} is a plain class; decorate it with @jaxrl.agent_config"
        )
    return make_agent, config_class


__getattr__, __dir__, __all__ = lazy.exports(__name__, __file__)
