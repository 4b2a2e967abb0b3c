"""Deep deterministic policy gradient (Lillicrap et al. 2016, Algorithm 1): an actor that climbs its critic.

Deviations from the paper: exploration adds independent normal noise in the place of an Ornstein-Uhlenbeck process (Fujimoto et
al. 2018 found no difference; `noise_correlation=0.85` and `exploration_noise=0.38` are that of theta 0.15 and sigma 0.2), actor
and critic have one step size and no weight decay, and hidden layers of both are alike.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.agents.continuous.family import Algorithm, Found, OffPolicyState, TargetsConfig, make_off_policy, td_loss
from jaxrl.config import agent_config, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import exploration
from jaxrl.maths.distributions import num_parameters
from jaxrl.nets.critics import actor_critics, drawn
from jaxrl.nets.view import Seen
from jaxrl.replay.ring import Transitions
from jaxrl.types import Agent, Array, Box, Model, PyTree, Spec


@agent_config
class DDPGConfig(TargetsConfig):
    """Deep deterministic policy gradient."""

    num_critics: int = static(1, "Critics, each with parameters of its own.", low=1)
    num_target_critics: int = static(
        1, "Critics, drawn anew for each gradient step, whose least value is what all are fitted to.", low=1
    )
    exploration_noise: float = traced(
        0.1, "Standard deviation of the noise on actions, where a box reaches from -1 to 1.", low=0.0
    )


def make_ddpg(config: DDPGConfig, spec: Spec, model: Model | None = None) -> Agent:
    """DDPG for actions in a box and any observations.

    Raises:
      UsageError: actions that are not a box, or a torso that cannot see the observations.
    """
    return deterministic(config, spec, "ddpg", lambda key, action: action)


def deterministic(config: DDPGConfig, spec: Spec, name: str, behind: Callable[[Array, Array], Array]) -> Agent:
    """An agent whose actor is deterministic.

    Args:
      name: of the agent, for messages.
      behind: (key, action [N, *shape] of the target actor) -> the actions whose values are bootstrapped from.

    Raises:
      UsageError: actions that are not a box, or a torso that cannot see the observations.
    """
    if not isinstance(spec.action, Box):
        raise UsageError(f"env: {name} needs continuous actions, not {spec.action}; choose an environment with a Box, or sac")
    networks = actor_critics(config, spec, num_parameters(spec.action), 1)

    def chosen(actor: PyTree, seen: Seen) -> Array:
        x: Array = networks.actor.apply(actor, seen.x)  # type: ignore[assignment]
        return jnp.tanh(x).reshape(x.shape[0], *spec.action.shape)

    def act(noise: Array, actor: PyTree, seen: Seen, explore: bool) -> Array:
        action = chosen(actor, seen)
        return exploration.moved(noise, action, config.exploration_noise) if explore else action

    def target(key: Array, state: OffPolicyState, batch: Transitions) -> Array:
        key_action, key_critics, key_drop = jax.random.split(key, 3)
        action = behind(key_action, chosen(state.target["actor"], batch.next_obs))
        critics = drawn(key_critics, state.target["critic"], config.num_target_critics)
        q = networks.q(critics, batch.next_obs, action, key_drop)
        return batch.reward + batch.discount * jnp.min(q, axis=0)

    def actor_loss(actor: PyTree, state: OffPolicyState, key: Array, batch: Transitions) -> tuple[Array, Found]:
        first = jax.tree.map(lambda leaf: leaf[:1], state.critic)
        loss = -jnp.mean(networks.q(first, batch.obs, chosen(actor, batch.obs), key))
        return loss, Found({"actor_loss": loss})

    algorithm = Algorithm(
        act,
        td_loss(networks, target),
        actor_loss,
        ("actor_loss",),
        targets=("actor", "critic"),
        tau=config.tau,
        targets_wait=True,
    )
    return make_off_policy(config, spec, name, networks, algorithm)
