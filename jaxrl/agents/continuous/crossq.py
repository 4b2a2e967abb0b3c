"""CrossQ (Bhatt et al. 2024): SAC without target networks, whose critics and actor normalise their layers by batches.

Critics see (s, a) and (s', a') in one batch, so that both are normalised by the same statistics, and are fitted to what they
themselves say of (s', a'). The actor acts, and chooses a', by running statistics; it learns by those of its batch, from critics
that go by running ones. The normalisation is `jaxrl.nets.batch_norm.BatchRenorm`, as in the authors' code, of the inputs and
behind every hidden layer. Deviations: 256 units in each layer of the critics rather than 2048, since the products are most of
what it costs; a warm-up of 1,000 env steps rather than 5,000.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxrl.agents.continuous.family import Found, OffPolicyState, make_off_policy, squared_error
from jaxrl.agents.continuous.sac import SoftConfig, policy_of, squashed, temperature_of
from jaxrl.config import MAX_REPEATS, agent_config, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths.distributions import num_parameters
from jaxrl.nets.batch_norm import BatchRenorm
from jaxrl.nets.critics import ActorCritics, actor_critics, drawn
from jaxrl.replay.ring import Transitions
from jaxrl.types import Agent, Array, Box, Model, PyTree, Spec


@agent_config
class CrossQConfig(SoftConfig):
    """CrossQ."""

    policy_delay: int = static(3, "Gradient steps of the critics for each of the actor.", low=1, high=MAX_REPEATS)
    adam_b1: float = traced(
        0.5, "Share of Adam's mean of gradients that a new one leaves, of actor and critics.", low=0.0, high=0.9999
    )
    batch_norm_momentum: float = traced(
        0.99, "Share of the running statistics of layers that a minibatch leaves.", low=0.0, high=1.0
    )
    batch_norm_warmup: int = traced(
        100_000, "Minibatches before layers are renormalised by the running statistics, of actor and critics each.", low=0
    )


def make_crossq(config: CrossQConfig, spec: Spec, model: Model | None = None) -> Agent:
    """CrossQ for actions in a box and any observations.

    Raises:
      UsageError: actions that are not a box, or a torso that cannot see the observations.
    """
    if not isinstance(spec.action, Box):
        raise UsageError(f"env: crossq needs continuous actions, not {spec.action}; choose an environment with a Box, or sac")
    networks = crossq_networks(config, spec)

    def critic_loss(critic: PyTree, state: OffPolicyState, key: Array, batch: Transitions) -> tuple[Array, Found]:
        key_action, key_critics, key_drop = jax.random.split(key, 3)
        action, log_prob = policy_of(networks, state.policy.params, batch.next_obs).sample_and_log_prob(key_action)
        x = jnp.concatenate([batch.obs.x, batch.next_obs.x])
        actions = jnp.concatenate([networks.flat(batch.action), networks.flat(action)])
        outputs, changed = networks.critics.fit(critic, x, actions, key_drop)
        q, q_next = jnp.split(outputs[..., 0], 2, axis=1)
        least = jnp.min(drawn(key_critics, q_next, config.num_target_critics), axis=0)
        goal = batch.reward + batch.discount * (least - temperature_of(config, state) * log_prob)
        loss, found = squared_error(jax.lax.stop_gradient(goal), q)
        return loss, found._replace(changed=changed)

    algorithm = squashed(config, networks, critic_loss, lambda outputs: jnp.min(outputs[..., 0], axis=0))
    return make_off_policy(config, spec, "crossq", networks, algorithm)


def crossq_networks(config: CrossQConfig, spec: Spec) -> ActorCritics:
    """Its actor and critics.

    Raises:
      UsageError: a torso that cannot see the observations.
    """
    layer = functools.partial(BatchRenorm, momentum=config.batch_norm_momentum, warmup=config.batch_norm_warmup)
    return actor_critics(config, spec, 2 * num_parameters(spec.action), 1, layer)
