"""Deep Q-learning with experience replay (Mnih et al. 2013, Algorithm 1) and a target network (Mnih et al. 2015, Algorithm 1).

Acting is epsilon-greedy with an epsilon that falls in a straight line; each iteration stores T x B transitions and then takes
`num_updates` gradient steps on minibatches. Flags make it double (van Hasselt et al. 2016), dueling (Wang et al. 2016), explore
by noisy layers (Fortunato et al. 2018), learn from prioritised replay (Schaul et al. 2016) or fit the Munchausen target
(Vieillard et al. 2020). Deviations from the papers: Adam instead of RMSProp, a learning rate that may fall
over the run, and double on by default, since its final policies are steadier; `--no-double` is the algorithm of 2015. Pictures
are seen through that paper's convolutions, unless `torso` says otherwise.

An agent that differs in its target, its loss or its network is `make_dqn` with a function in that place:

    def target(config: DQNConfig, batch: Transitions, outputs: Outputs) -> Array:
        return batch.reward + batch.discount * jnp.mean(outputs.target_t, axis=-1)

    def make_agent(config: DQNConfig, spec: Spec, model: Model | None = None) -> Agent:
        return make_dqn(config, spec, model, target=target)
"""

from __future__ import annotations

from typing import Any

from jaxrl.agents.value.q_values import TARGET, Loss, MakeNetwork, Outputs, QConfig, Target, make_q_agent
from jaxrl.config import agent_config, static, traced
from jaxrl.contracts.parts import check_output, check_parts
from jaxrl.maths import losses
from jaxrl.nets.action_values import q_network
from jaxrl.replay.ring import Transitions
from jaxrl.types import Agent, Array, Model, Spec


def loss_field() -> Any:
    """The field `loss` of a config."""
    return static(
        "squared",
        "Loss of the TD error; huber bounds what one error can pull, and wants a ten times longer target_period.",
        choices=("squared", "huber"),
    )


@agent_config
class DQNConfig(QConfig):
    """Deep Q-learning; the defaults solve CartPole-v1 and Acrobot-v1 in 500,000 env steps."""

    loss: str = loss_field()
    munchausen: bool = static(False, "Add the scaled log-probability of the action to the reward, and fit soft values.")
    munchausen_scaling: float = traced(0.9, "Weight of that log-probability.", low=0.0, high=1.0)
    entropy_temperature: float = traced(0.03, "Temperature of the softmax policy behind it.", low=0.0, low_open=True)


def q_target(config: DQNConfig, batch: Transitions, outputs: Outputs) -> Array:
    """[N] r_t + discount_t * max_a q(s_t, a), where `double` lets the online network choose a."""
    check_output("q_target", outputs.target_t, batch.reward.shape[0], "give a target of your own for it")
    selector = outputs.online_t if config.double else None
    return losses.q_learning_target(batch.reward, batch.discount, outputs.target_t, selector)


def munchausen_target(config: DQNConfig, batch: Transitions, outputs: Outputs) -> Array:
    """[N] r_t + alpha [tau log pi(a_tm1 | s_tm1)]_-1^0 + discount_t * sum_a pi(a | s_t) (q(s_t, a) - tau log pi(a | s_t)).

    pi = softmax(q / tau) of the target network, whose action is chosen by no other: `double` says nothing here.

    References:
      Vieillard, Pietquin and Geist 2020, "Munchausen Reinforcement Learning", eq. 2, section 3 and appendix B.1 (l_0 = -1).
    """
    check_output("munchausen_target", outputs.target_t, batch.reward.shape[0], "give a target of your own for it")
    return losses.munchausen_target(
        batch.reward,
        batch.discount,
        outputs.target_tm1,
        batch.action,
        outputs.target_t,
        config.munchausen_scaling,
        config.entropy_temperature,
    )


def td_loss(config: DQNConfig, batch: Transitions, output: Array, target: Array) -> tuple[Array, Array]:
    """The squared or Huber loss of the TD errors, and these; output [N, A], target [N] -> [N] and [N]."""
    check_output("td_loss", output, batch.reward.shape[0], "give a loss of your own for it")
    check_parts(TARGET, (target,), ("a target",), batch.reward.shape, "transition, as td_loss takes it")
    td_error = target - losses.select(output, batch.action)
    return losses.huber(td_error) if config.loss == "huber" else losses.squared(td_error), td_error


def make_dqn(
    config: DQNConfig,
    spec: Spec,
    model: Model | None = None,
    *,
    target: Target | None = None,
    loss: Loss = td_loss,
    network: MakeNetwork = q_network,
) -> Agent:
    """DQN for discrete actions and any observations; of a `Position` it takes, and bootstraps from, legal actions alone.

    Args:
      target, loss, network: see `Target`, `Loss` and `MakeNetwork`; by default those of the papers. They get `config`, which
        may be of a subclass with fields of its own.

    Raises:
      UsageError: continuous or mixed actions, or a torso that cannot see the observations.
    """
    if target is None:
        target = munchausen_target if config.munchausen else q_target
    return make_q_agent(config, spec, "dqn", target=target, loss=loss, network=network)
