"""Rainbow (Hessel et al. 2018): double, dueling, n-step, prioritised, noisy and categorical deep Q-learning in one agent.

Each part is a flag, for ablations: `--no-double --no-dueling --n-step 1 --no-prioritized --no-noisy --no-distributional`; with
none of them it is `dqn`. Priorities are the KL divergence that is learned from. Deviations from the paper: the optimizer, its
schedule and the size of the replay are those of `dqn`, the atoms those of `c51`.
"""

from __future__ import annotations

from jaxrl.agents.value.c51 import C51Config, c51_loss, c51_network, c51_target
from jaxrl.agents.value.dqn import loss_field, q_target, td_loss
from jaxrl.agents.value.q_values import make_q_agent
from jaxrl.config import agent_config, static, traced
from jaxrl.types import Agent, Model, Spec


@agent_config
class RainbowConfig(C51Config):
    """Rainbow."""

    distributional: bool = static(True, "Learn a distribution of returns on atoms (c51), and not their mean alone.")
    loss: str = loss_field()
    double: bool = static(True, "Choose the target's action with the online network (double Q-learning).")
    dueling: bool = static(True, "Separate streams for value and advantage.")
    n_step: int = static(3, "Steps of the return that a value is fitted to.", low=1)
    noisy: bool = static(True, "Explore by learned noise in the dense layers (noisy nets), and not by epsilon.")
    prioritized: bool = static(True, "Draw transitions in proportion to their last TD error.")
    priority_exponent: float = traced(0.5, "Power of the TD error in a priority; 0 draws all alike.", low=0.0)


def make_rainbow(config: RainbowConfig, spec: Spec, model: Model | None = None) -> Agent:
    """Rainbow for discrete actions and any observations.

    Raises:
      UsageError: continuous or mixed actions, or a torso that cannot see the observations.
    """
    if config.distributional:
        return make_q_agent(config, spec, "rainbow", target=c51_target, loss=c51_loss, network=c51_network)
    return make_q_agent(config, spec, "rainbow", target=q_target, loss=td_loss)
