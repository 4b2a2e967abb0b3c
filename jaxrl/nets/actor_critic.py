"""An actor and a critic on one environment, as pure functions.

    networks = actor_critic(config, spec)
    policy = networks.init(key)
    distribution = networks.distribution(policy.params, features)

Observations of any kind become one vector, or stay pictures for a convolutional torso, normalised by running moments where the
config says so; torso and core (nothing, or a GRU) turn them into features, from which the actor makes a distribution over
actions and the critic a value. The moments belong to the policy, so they are checkpointed and batched with it, and evaluation
uses them unchanged.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.maths import distributions
from jaxrl.nets.heads import Head
from jaxrl.nets.inputs import VECTORS
from jaxrl.nets.layers import GRU, memories, orthogonal
from jaxrl.nets.torso import Torso, TorsoConfig, check_blocks, torso_of
from jaxrl.nets.view import Policy as Policy
from jaxrl.nets.view import Seen as Seen
from jaxrl.nets.view import View
from jaxrl.types import Array, Progress, PyTree, Spec, seen_spec

Params = dict[str, PyTree]


class NetworksConfig(TorsoConfig, Protocol):
    """What `actor_critic` reads of an agent's config."""

    @property
    def distribution(self) -> str: ...
    @property
    def log_std_init(self) -> float: ...
    @property
    def normalize_observation(self) -> bool: ...


@dataclasses.dataclass(frozen=True)
class ActorCritic:
    """Networks for one environment; from `actor_critic`. Inputs and features are `Seen`.

    With `dataclasses.replace` another module takes the place of torso, actor or critic.

    Attributes:
      spec: of the environment.
      config: of the agent; inside a traced function its numbers may be tracers.
      kind: of torso that observations are seen by, see `torso_of`.
      torso: shared by actor and critic, vectors [..., F] (pictures [..., H, W, C] where `kind` is convolutional) -> features
        [..., H]; None where each has its own.
      actor: features -> [..., `distributions.num_parameters(spec.action)`].
      critic: features -> [..., 1].
      core: recurrent, between torso and heads, None without.
    """

    spec: Spec
    config: NetworksConfig
    kind: str
    torso: nn.Module | None
    actor: nn.Module
    critic: nn.Module
    core: GRU | None

    def init(self, key: Array) -> Policy:
        """The first policy."""
        key_actor, key_critic, key_core = jax.random.split(key, 3)
        x = self._view.zeros()
        params: Params = {} if self.torso is None else {"torso": self.torso.init(jax.random.fold_in(key, 3), x)}
        behind = jnp.zeros(jax.eval_shape(self._see, params, x).shape, jnp.float32)
        features = behind if self.core is None else jnp.zeros((1, self.core.units), jnp.float32)
        log_std = jnp.full(distributions.num_stds(self.spec.action), self.config.log_std_init, jnp.float32)
        params |= {
            "actor": self.actor.init(key_actor, features),
            "critic": self.critic.init(key_critic, features),
            "log_std": log_std,
        }
        if self.core is not None:
            params["core"] = self.core.init(key_core, self.initial_memory(1), behind)
        return Policy(params, self._view.init_moments())

    def initial_memory(self, num_envs: int) -> PyTree:
        """[B, units] zeros, () without a recurrent core."""
        return () if self.core is None else jnp.zeros((num_envs, self.core.units), jnp.float32)

    def inputs(self, moments: PyTree, obs: PyTree) -> Seen:
        """Observations [..., *shape] as inputs."""
        return self._view.inputs(moments, obs)

    def step(self, params: Params, memory: PyTree, inputs: Seen) -> tuple[PyTree, Seen]:
        """Memory [..., units] and inputs [..., *] -> (memory, features [..., *])."""
        memory, features = self._remember(params, memory, self._see(params, inputs.x))
        return memory, inputs._replace(x=features)

    def unroll(self, params: Params, memory: PyTree, inputs: Seen, ended: Array) -> tuple[PyTree, Seen]:
        """Memory [B, ...], inputs [T, B, *], ended [T, B] -> (memory after each step, before any reset; features [T, B, *])."""
        x = self._see(params, inputs.x)
        if self.core is None:
            return memory, inputs._replace(x=x)

        after = memories(lambda memory, x: self._remember(params, memory, x)[0], memory, x, ended)
        return after, inputs._replace(x=after)

    def distribution(self, params: Params, features: Seen) -> Any:
        """Of `jaxrl.maths.distributions`; illegal actions have no probability.

        Huang and Ontanon 2022, "A Closer Look at Invalid Action Masking in Policy Gradient Algorithms".
        """
        parameters: Any = self.actor.apply(params["actor"], features.x)
        if not isinstance(features.legal, tuple):
            parameters = jnp.where(features.legal, parameters, -jnp.inf)
        tanh = self.config.distribution == "tanh_gaussian"
        return distributions.from_parameters(self.spec.action, parameters, params["log_std"], tanh)

    def value(self, params: Params, features: Seen) -> Array:
        """Features [..., *] -> [...]."""
        values: Any = self.critic.apply(params["critic"], features.x)
        return values[..., 0]

    def act(
        self, key: Array, policy: Policy, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[PyTree, PyTree, PyTree]:
        """The contract's `act`; `extras` is the memory acted with."""
        after, features = self.step(policy.params, memory, self.inputs(policy.moments, obs))
        chosen = self.distribution(policy.params, features)
        return chosen.sample(key) if explore else chosen.mode(), after, memory

    def absorb(self, policy: Policy, obs: PyTree) -> Policy:
        """The policy with the observations' moments merged."""
        return policy._replace(moments=self._view.absorb(policy.moments, obs))

    def evaluate(self, policy: Policy, obs: PyTree) -> Array:
        """[N] values of observations [N, ...] at the start of an episode."""
        memory = self.initial_memory(jax.tree.leaves(obs)[0].shape[0])
        return self.value(policy.params, self.step(policy.params, memory, self.inputs(policy.moments, obs))[1])

    @property
    def _view(self) -> View:
        return View(self.spec, self.kind, self.config.normalize_observation)

    def _see(self, params: Params, x: Array) -> Array:
        return x if self.torso is None else self.torso.apply(params["torso"], x)  # type: ignore[return-value]

    def _remember(self, params: Params, memory: PyTree, x: Array) -> tuple[PyTree, Array]:
        if self.core is None:
            return memory, x
        memory = self.core.apply(params["core"], memory, x)
        return memory, memory


def actor_critic(
    config: NetworksConfig,
    spec: Spec,
    gru: int | None = None,
    shared: bool = True,
    critic_hidden: tuple[int, ...] | None = None,
) -> ActorCritic:
    """Builds the networks for an environment; inside a traced function `config`'s numbers may be tracers.

    Actor and critic share a convolutional torso, on which they are linear (Mnih et al. 2016, supplement, "Experimental
    Setup"), and a core.

    Args:
      gru: units of a recurrent core, None for none.
      shared: False gives actor and critic a convolutional torso each, for agents that fit one without the other.
      critic_hidden: units of the critic's hidden layers, those of the actor by default; a torso that both share has neither.

    Raises:
      UsageError: a torso that cannot see these observations, or that hidden layers do not fit.
    """
    kind = torso_of(config.torso, seen_spec(spec.obs))
    check_blocks(kind, "hidden", config.hidden)
    check_blocks(kind, "critic_hidden", critic_hidden or config.hidden)
    torso = Torso(kind, orthogonal(2.0**0.5)) if shared and kind not in VECTORS else None
    hidden, own = (config.hidden, kind) if torso is None else ((), "mlp")
    actor = Head(distributions.num_parameters(spec.action), 0.01, hidden, config.activation, own)
    critic = Head(1, 1.0, critic_hidden if torso is None and critic_hidden else hidden, config.activation, own)
    core = None if gru is None else GRU(gru, config.activation)
    return ActorCritic(spec, config, kind, torso, actor, critic, core)
