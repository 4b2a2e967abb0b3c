"""Actor-critic of the textbooks (Sutton & Barto 2018, section 13.5; Sutton et al. 2000), on whole episodes.

An iteration plays B episodes, weighs each action by an advantage that a learned critic gives, and updates both networks. The
advantage is, by the flag,

    advantage="reward_to_go"    G_t - V(s_t): no bias from the critic, the most variance
    advantage="td"              r_t + gamma V(s_{t+1}) - V(s_t): the one-step TD error, the least variance
    advantage="gae"             an exponential mean of n-step advantages between the two (Schulman et al. 2016)

and the critic is fitted to the same target that the advantage is measured from. `a2c` updates every few steps instead.
"""

from __future__ import annotations

from jaxrl.agents.policy_gradient.episodic import Episodes, EpisodicConfig, Weights, episodic_agent
from jaxrl.config import agent_config, static, traced
from jaxrl.maths import returns
from jaxrl.types import Agent, Model, Spec

ADVANTAGES = ("reward_to_go", "td", "gae")


@agent_config
class ActorCriticConfig(EpisodicConfig):
    """Textbook actor-critic."""

    advantage: str = static("gae", "The advantage of an action: reward_to_go, td (one step) or gae.", choices=ADVANTAGES)
    gae_lambda: float = traced(0.95, "Lambda of gae: 0 is td, 1 is reward_to_go.", low=0.0, high=1.0)


def make_actor_critic(config: ActorCriticConfig, spec: Spec, model: Model | None = None) -> Agent:
    """Actor-critic for discrete, continuous and mixed actions and any observations."""
    lambda_ = {"reward_to_go": 1.0, "td": 0.0, "gae": config.gae_lambda}[config.advantage]

    def weigh(episodes: Episodes) -> Weights:
        reward, discount, ended, value, next_value, _, average = episodes
        advantage = returns.gae(reward, discount, value, next_value, ended, lambda_)
        return Weights(advantage, advantage + value, average)

    return episodic_agent(config, spec, weigh, has_value=True)
