"""Twin delayed deep deterministic policy gradient (Fujimoto, van Hoof and Meger 2018, Algorithm 1).

DDPG with the least of two critics as target, noise on the target's action, and an actor and targets that move at every second
gradient step. The actor climbs the first critic. Deviation from the paper: the warm-up, of uniform actions, is 1,000 env steps
long rather than 10,000.
"""

from __future__ import annotations

from jaxrl.agents.continuous.ddpg import DDPGConfig, deterministic
from jaxrl.config import MAX_REPEATS, agent_config, static, traced
from jaxrl.maths import exploration
from jaxrl.types import Agent, Array, Model, Spec


@agent_config
class TD3Config(DDPGConfig):
    """Twin delayed deep deterministic policy gradient."""

    num_critics: int = static(2, "Critics, each with parameters of its own.", low=1)
    num_target_critics: int = static(
        2, "Critics, drawn anew for each gradient step, whose least value is what all are fitted to.", low=1
    )
    policy_delay: int = static(2, "Gradient steps of the critics for each of the actor.", low=1, high=MAX_REPEATS)
    target_noise: float = traced(0.2, "Standard deviation of the noise on the target's action.", low=0.0)
    target_noise_clip: float = traced(0.5, "How far that noise may reach.", low=0.0)


def make_td3(config: TD3Config, spec: Spec, model: Model | None = None) -> Agent:
    """TD3 for actions in a box and any observations.

    Raises:
      UsageError: actions that are not a box, or a torso that cannot see the observations.
    """

    def smoothed(key: Array, action: Array) -> Array:
        return exploration.with_noise(key, action, config.target_noise, config.target_noise_clip)

    return deterministic(config, spec, "td3", smoothed)
