"""Truncated quantile critics (Kuznetsov et al. 2020, Algorithm 1): SAC whose critics know the distribution of returns.

Each critic says M quantiles of what an observation and an action will earn. The target pools those of all critics and leaves
out the greatest, so that how pessimistic it is may be chosen in small steps; the actor climbs the mean of them all. Deviation
from the paper: two critics of 256-256 units rather than five of 512-512-512, since the products are most of what it costs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.agents.continuous.family import Found, OffPolicyState, TargetsConfig, make_off_policy
from jaxrl.agents.continuous.sac import SoftConfig, next_of, squashed
from jaxrl.config import agent_config, static
from jaxrl.errors import UsageError
from jaxrl.maths.distributional import midpoints, quantile_huber
from jaxrl.maths.distributions import num_parameters
from jaxrl.nets.critics import actor_critics
from jaxrl.replay.ring import Transitions
from jaxrl.types import Agent, Array, Box, Model, PyTree, Spec


@agent_config
class TQCConfig(SoftConfig, TargetsConfig):
    """Truncated quantile critics."""

    num_target_critics: int = static(
        2, "Critics, drawn anew for each gradient step, whose quantiles are pooled for the target.", low=1
    )
    num_quantiles: int = static(25, "Quantiles of each critic (M).", low=1)
    num_dropped: int = static(2, "The greatest quantiles, for each critic, that the target leaves out.", low=0)

    def check(self) -> None:
        super().check()
        if self.num_dropped >= self.num_quantiles:
            raise UsageError(
                f"num_dropped={self.num_dropped} leaves none of num_quantiles={self.num_quantiles}; lower num_dropped"
            )


def make_tqc(config: TQCConfig, spec: Spec, model: Model | None = None) -> Agent:
    """TQC for actions in a box and any observations.

    Raises:
      UsageError: actions that are not a box, or a torso that cannot see the observations.
    """
    if not isinstance(spec.action, Box):
        raise UsageError(f"env: tqc needs continuous actions, not {spec.action}; choose an environment with a Box, or sac")
    networks = actor_critics(config, spec, 2 * num_parameters(spec.action), config.num_quantiles)

    def critic_loss(critic: PyTree, state: OffPolicyState, key: Array, batch: Transitions) -> tuple[Array, Found]:
        key_target, key_fit = jax.random.split(key)
        found = next_of(config, networks, key_target, state, batch)
        kept = truncated(found.outputs, config.num_dropped) + found.bonus[:, None]
        goal = jax.lax.stop_gradient(batch.reward[:, None] + batch.discount[:, None] * kept)
        quantiles = networks.outputs(critic, batch.obs, batch.action, key_fit)
        goals = jnp.broadcast_to(goal, (config.num_critics, *goal.shape))
        levels = jnp.broadcast_to(midpoints(config.num_quantiles), quantiles.shape)
        loss = jnp.sum(jnp.mean(quantile_huber(quantiles, levels, goals, 1.0), axis=1))
        q = jnp.mean(quantiles, axis=-1)
        size = jnp.mean(jnp.abs(jnp.mean(goal, axis=-1) - q), axis=0)
        return loss, Found({"loss": loss, "q_mean": jnp.mean(q), "td_error": jnp.mean(size)}, size)

    algorithm = squashed(config, networks, critic_loss, lambda outputs: jnp.mean(outputs, axis=(0, 2)), config.tau)
    return make_off_policy(config, spec, "tqc", networks, algorithm)


def truncated(quantiles: Array, num_dropped: int) -> Array:
    """The least of the quantiles of K distributions as one: [K, N, M] -> [N, K (M - num_dropped)], in rising order.

    References:
      Kuznetsov et al. 2020, "Controlling Overestimation Bias with Truncated Mixture of Continuous Distributional Quantile
      Critics", eq. 9.
    """
    num, each = quantiles.shape[0], quantiles.shape[-1]
    pooled = jnp.sort(jnp.moveaxis(quantiles, 0, 1).reshape(-1, num * each), axis=-1)
    return pooled[:, : num * (each - num_dropped)]
