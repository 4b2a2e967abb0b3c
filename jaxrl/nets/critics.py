"""An actor and an ensemble of critics that share nothing, for agents that learn action values off-policy.

    critics = Critics(JointHead(1, (256, 256)), num=2)
    params = critics.init(key, x, action)                  # every leaf [K, ...]
    q = critics.apply(params, x, action)[..., 0]           # [K, N]

All critics are one program over an axis in front of their parameters, so that a few of them are a few rows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.maths import losses
from jaxrl.nets.batch_norm import STATISTICS
from jaxrl.nets.layers import MLP, SimBa
from jaxrl.nets.torso import CONVOLUTIONAL, Torso, TorsoConfig, check_blocks, torso_of
from jaxrl.nets.view import Policy, Seen, View
from jaxrl.types import Array, Discrete, PyTree, Spec, action_zeros, seen_spec


class ActorCriticsConfig(TorsoConfig, Protocol):
    """What `actor_critics` reads of an agent's config."""

    @property
    def critic_hidden(self) -> tuple[int, ...] | None: ...
    @property
    def layer_norm(self) -> bool: ...
    @property
    def dropout(self) -> float: ...
    @property
    def num_critics(self) -> int: ...
    @property
    def normalize_observation(self) -> bool: ...


class JointHead(nn.Module):
    """Hidden layers on an observation, and on an action where one is given, with a linear layer on top.

    A picture goes through the convolutions of `torso` first, and an action joins what they make of it.

    Attributes:
      outputs: length of the result.
      hidden: units of each hidden layer.
      activation: a name in `ACTIVATIONS`.
      torso: "mlp" (nothing in front of the hidden layers), "simba" in their place, or a name in `CONVOLUTIONAL`.
      scale: of the last layer's weights; a small one makes an actor's first actions nearly the same everywhere.
      layer_norm, dropout, batch_norm: of the hidden layers, see `MLP`; "simba" has the last of them alone.
    """

    outputs: int
    hidden: Sequence[int]
    activation: str = "relu"
    torso: str = "mlp"
    scale: float = 1.0
    layer_norm: bool = False
    dropout: float = 0.0
    batch_norm: Callable[[], nn.Module] | None = None

    @nn.compact
    def __call__(self, x: Array, action: Array | None = None, drop: bool = False, fit: bool = False) -> Array:
        """x [..., F] or pictures [..., H, W, C], action [..., D] -> [..., outputs]."""
        if self.torso in CONVOLUTIONAL:
            x = Torso(self.torso)(x)
        if action is not None:
            x = jnp.concatenate([x, action], axis=-1)
        if self.torso == "simba":
            x = SimBa(self.hidden, self.batch_norm)(x, fit)
        else:
            more = {"layer_norm": self.layer_norm, "dropout": self.dropout, "batch_norm": self.batch_norm}
            x = MLP(self.hidden, self.activation, **more)(x, drop, fit)  # type: ignore[arg-type]
        # With a scale of 1 this is Flax's own initialiser.
        init = nn.initializers.variance_scaling(self.scale**2, "fan_in", "truncated_normal")
        return nn.Dense(self.outputs, kernel_init=init)(x)


class Critics(NamedTuple):
    """K critics of one form.

    Attributes:
      head: each of them.
      num: K.
    """

    head: JointHead
    num: int

    def init(self, key: Array, x: Array, action: Array | None) -> PyTree:
        """Parameters, every leaf [K, ...], for observations [1, *] and actions [1, D]."""
        return jax.vmap(lambda key: self.head.init(key, x, action))(jax.random.split(key, self.num))

    def apply(self, params: PyTree, x: Array, action: Array | None, key: Array | None = None) -> Array:
        """As many critics as there are rows in `params`, x [N, *] and action [N, D] -> [K, N, outputs].

        Args:
          key: for what is dropped, in each critic on its own; None drops nothing.
        """
        outputs: Array = self._each(params, x, action, key)
        return outputs

    def fit(self, params: PyTree, x: Array, action: Array | None, key: Array | None = None) -> tuple[Array, PyTree]:
        """As `apply`, but normalised by the statistics of this batch where critics normalise by batches.

        Returns:
          [K, N, outputs], and what takes the place of the running statistics among `params`, {} where there are none.
        """
        outputs, changed = self._each(params, x, action, key, fit=True, mutable=[STATISTICS])
        return outputs, changed

    def _each(self, params: PyTree, x: Array, action: Array | None, key: Array | None, **more: Any) -> Any:
        if key is None or not self.head.dropout:
            return jax.vmap(lambda params: self.head.apply(params, x, action, **more))(params)

        def one(params: PyTree, key: Array) -> Any:
            return self.head.apply(params, x, action, drop=True, rngs={"dropout": key}, **more)

        return jax.vmap(one)(params, jax.random.split(key, jax.tree.leaves(params)[0].shape[0]))


def drawn(key: Array, params: PyTree, num: int) -> PyTree:
    """`num` of K critics, drawn without replacement; all of them, without a draw, where `num` is K.

    Args:
      params: every leaf [K, ...].

    References:
      Chen et al. 2021, "Randomized Ensembled Double Q-Learning", Algorithm 1, line 6.
    """
    total = jax.tree.leaves(params)[0].shape[0]
    if num == total:
        return params
    chosen = jax.random.choice(key, total, (num,), replace=False)
    return jax.tree.map(lambda leaf: leaf[chosen], params)


class ActorCritics(NamedTuple):
    """An actor and K critics on one environment, which see its observations alike.

    Attributes:
      view: what they see.
      actor: features of an observation -> what actions are made of, [..., P].
      critics: of actions in a box, [..., 1] of an observation and an action; of discrete ones [..., A] of an observation.
    """

    view: View
    actor: JointHead
    critics: Critics

    def init(self, key: Array) -> tuple[Policy, PyTree]:
        """The first policy, whose parameters are the actor's, and those of the critics."""
        key_actor, key_critics = jax.random.split(key)
        x, action = self.view.zeros(), self.view.spec.action
        given = None if isinstance(action, Discrete) else self.flat(action_zeros(action, (1,)))
        return Policy(self.actor.init(key_actor, x), self.view.init_moments()), self.critics.init(key_critics, x, given)

    def fit_actor(self, actor: PyTree, seen: Seen) -> tuple[Array, PyTree]:
        """The actor's outputs [N, P] of observations [N, *] that it learns from, and what changes, as of `Critics.fit`."""
        outputs, changed = self.actor.apply(actor, seen.x, fit=True, mutable=[STATISTICS])
        return outputs, changed

    def flat(self, action: Array) -> Array:
        """Actions [N, *shape] of a box as vectors [N, D]."""
        return action.reshape(action.shape[0], -1)

    def q(self, params: PyTree, seen: Seen, action: Array, key: Array | None = None) -> Array:
        """[K, N] values of actions [N, *shape] of a box, or of integers [N]; `key` as of `Critics.apply`."""
        if isinstance(self.view.spec.action, Discrete):
            outputs = self.critics.apply(params, seen.x, None, key)
            return losses.select(outputs, jnp.broadcast_to(action, outputs.shape[:-1]))
        return self.outputs(params, seen, action, key)[..., 0]

    def outputs(self, params: PyTree, seen: Seen, action: Array, key: Array | None = None) -> Array:
        """[K, N, outputs] of actions [N, *shape] of a box; `key` as of `Critics.apply`."""
        return self.critics.apply(params, seen.x, self.flat(action), key)


def actor_critics(
    config: ActorCriticsConfig,
    spec: Spec,
    actor_outputs: int,
    critic_outputs: int,
    batch_norm: Callable[[], nn.Module] | None = None,
) -> ActorCritics:
    """Builds the networks for an environment.

    Args:
      batch_norm: of the hidden layers of all of them, see `MLP`.

    Raises:
      UsageError: a torso that cannot see these observations, or that hidden layers do not fit.
    """
    torso = torso_of(config.torso, seen_spec(spec.obs))
    critic_hidden = config.hidden if config.critic_hidden is None else config.critic_hidden
    check_blocks(torso, "hidden", config.hidden)
    check_blocks(torso, "critic_hidden", critic_hidden)
    if torso == "simba" and (config.layer_norm or config.dropout):
        field = "layer_norm=True" if config.layer_norm else f"dropout={config.dropout:g}"
        raise UsageError(f"{field} is of hidden layers, and torso='simba' has blocks of its own kind; leave one of them out")
    actor = JointHead(actor_outputs, config.hidden, config.activation, torso, scale=0.01, batch_norm=batch_norm)
    critic = JointHead(
        critic_outputs,
        critic_hidden,
        config.activation,
        torso,
        layer_norm=config.layer_norm,
        dropout=config.dropout,
        batch_norm=batch_norm,
    )
    return ActorCritics(View(spec, torso, config.normalize_observation), actor, Critics(critic, config.num_critics))
