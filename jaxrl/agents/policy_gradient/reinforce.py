"""REINFORCE (Williams 1992) as a ladder of variance reduction: each flag is one step of it.

An iteration plays B whole episodes and takes one step along the mean over episodes of

    sum_t  w_t  grad log pi(a_t | s_t)

where w_t is, by the flags,

    estimator="trajectory"                       R = sum_k gamma^k r_k: unbiased
    estimator="reward_to_go"                     G_t = sum_{k >= t} gamma^(k - t) r_k: biased where gamma < 1
    estimator="reward_to_go", discounted=True    gamma^t G_t: unbiased again
    baseline="average"                           less b, a moving average of earlier returns: the expectation stays
    baseline="value"                             less V(s_t), a learned value: the expectation stays

"Unbiased" is for the gradient of the discounted return of an episode. Leaving out gamma^t is what practice does; it weighs late
states as much as early ones (Sutton & Barto 2018, section 13.3; Thomas 2014, "Bias in Natural Actor-Critic Algorithms").

Without a learned value, an episode that the time limit cuts off counts as it stands; with one, the rest of it is estimated by
the value of its last successor.
"""

from __future__ import annotations

from jaxrl.agents.policy_gradient.episodic import Episodes, EpisodicConfig, Weights, episodic_agent
from jaxrl.config import agent_config, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import returns
from jaxrl.maths.minibatches import weighted_mean
from jaxrl.types import Agent, Model, Spec


@agent_config
class ReinforceConfig(EpisodicConfig):
    """REINFORCE; the defaults are reward-to-go with a learned value as baseline."""

    estimator: str = static(
        "reward_to_go",
        "What weighs an action: trajectory (the whole return) or reward_to_go (what followed it).",
        choices=("trajectory", "reward_to_go"),
    )
    discounted: bool = static(False, "Weigh step t by gamma^t as well, for the gradient of the discounted return.")
    baseline: str = static(
        "value",
        "What is taken from the return: none, average (of earlier returns) or value (learned).",
        choices=("none", "average", "value"),
    )
    average_rate: float = traced(0.1, "Weight of the newest iteration in the average.", low=0.0, high=1.0)

    def check(self) -> None:
        if self.estimator == "trajectory" and self.discounted:
            raise UsageError(
                "discounted=True is for estimator=reward_to_go, since a whole return is discounted already; leave it out"
            )


def make_reinforce(config: ReinforceConfig, spec: Spec, model: Model | None = None) -> Agent:
    """REINFORCE for discrete, continuous and mixed actions and any observations."""
    return episodic_agent(config, spec, lambda episodes: weigh(config, episodes), has_value=config.baseline == "value")


def weigh(config: ReinforceConfig, episodes: Episodes) -> Weights:
    """The weights of the module's table; a baseline knows nothing of the actions it is compared with."""
    to_go = returns.reward_to_go(episodes.reward, episodes.discount, episodes.next_value, episodes.ended)
    weight = to_go
    if config.estimator == "trajectory":
        weight = returns.episode_returns(episodes.reward, episodes.discount, episodes.next_value, episodes.ended)
    newest = weighted_mean(weight, episodes.counts)
    average = episodes.average + config.average_rate * (newest - episodes.average)
    if config.baseline == "average":
        weight = weight - episodes.average
    elif config.baseline == "value":
        weight = weight - episodes.value
    if config.discounted:
        weight = weight * returns.discount_powers(config.gamma, episodes.ended)
    return Weights(weight, to_go, average)
