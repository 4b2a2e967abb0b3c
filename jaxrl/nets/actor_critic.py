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

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.maths import distributions, normalize
from jaxrl.nets.conv import to_float
from jaxrl.nets.heads import Head
from jaxrl.nets.inputs import network_inputs
from jaxrl.nets.layers import GRU, orthogonal
from jaxrl.nets.torso import CONVOLUTIONAL, Torso, torso_of
from jaxrl.types import Array, Progress, PyTree, Spec, spec_zeros, where_ended

Params = dict[str, PyTree]


class NetworksConfig(Protocol):
    """What `actor_critic` reads of an agent's config."""

    @property
    def hidden(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> str: ...
    @property
    def torso(self) -> str: ...
    @property
    def distribution(self) -> str: ...
    @property
    def log_std_init(self) -> float: ...
    @property
    def normalize_observation(self) -> bool: ...


class Policy(NamedTuple):
    """All that acting reads.

    Attributes:
      params: actor, critic, log_std [D] of D continuous action components, and torso and core where there is one.
      moments: of the observation vectors [F] or pictures [H, W, C], () where they are not normalised.
    """

    params: Params
    moments: PyTree


class ActorCritic(NamedTuple):
    """Networks for one environment as pure functions; see `actor_critic`.

    Inputs, written [..., F], are pictures [..., H, W, C] where the torso is convolutional.

    Attributes:
      init: (key) -> Policy.
      initial_memory: (num_envs) -> memory [B, units], () without a recurrent core.
      inputs: (moments, obs [..., *shape]) -> [..., F].
      unroll: (params, memory [B, ...], inputs [T, B, F], ended [T, B]) -> (memory after each step and before any reset
        [T, B, ...], features [T, B, H]).
      step: (params, memory [..., units], inputs [..., F]) -> (memory, features [..., H]).
      distribution: (params, features [..., H]) -> a distribution of `jaxrl.maths.distributions`.
      value: (params, features [..., H]) -> [...].
      act: the contract's `act`; `extras` is the memory acted with.
      absorb: (policy, obs) -> the policy with the observations' moments merged.
    """

    init: Callable[[Array], Policy]
    initial_memory: Callable[[int], PyTree]
    inputs: Callable[[PyTree, PyTree], Array]
    unroll: Callable[[Params, PyTree, Array, Array], tuple[PyTree, Array]]
    step: Callable[[Params, PyTree, Array], tuple[PyTree, Array]]
    distribution: Callable[[Params, Array], Any]
    value: Callable[[Params, Array], Array]
    act: Callable[..., tuple[PyTree, PyTree, PyTree]]
    absorb: Callable[[Policy, PyTree], Policy]

    def evaluate(self, policy: Policy, obs: PyTree) -> Array:
        """[N] values of observations [N, ...] at the start of an episode."""
        memory = self.initial_memory(jax.tree.leaves(obs)[0].shape[0])
        return self.value(policy.params, self.step(policy.params, memory, self.inputs(policy.moments, obs))[1])


def actor_critic(config: NetworksConfig, spec: Spec, gru: int | None = None, shared: bool = True) -> ActorCritic:
    """Builds the networks for an environment; inside a traced function `config`'s numbers may be tracers.

    Actor and critic share a convolutional torso, on which they are linear (Mnih et al. 2016, supplement, "Experimental
    Setup"), and a core.

    Args:
      gru: units of a recurrent core, None for none.
      shared: False gives actor and critic a convolutional torso each, for agents that fit one without the other.

    Raises:
      UsageError: a torso that cannot see these observations.
    """
    kind = torso_of(config.torso, spec.obs)
    torso = Torso(kind, orthogonal(2.0**0.5)) if shared and kind != "mlp" else None
    hidden, own = (config.hidden, kind) if torso is None else ((), "mlp")
    size = distributions.num_parameters(spec.action)
    actor = Head(size, 0.01, hidden, config.activation, own)
    critic = Head(1, 1.0, hidden, config.activation, own)
    core = None if gru is None else GRU(gru, config.activation)

    def init(key: Array) -> Policy:
        key_actor, key_critic, key_core = jax.random.split(key, 3)
        x = network_inputs(spec_zeros(spec.obs, (1,)), spec.obs, kind)
        seen = x if torso is None else jnp.zeros((1, CONVOLUTIONAL[kind].units))
        features = seen if gru is None else jnp.zeros((1, gru))
        log_std = jnp.full(distributions.num_stds(spec.action), config.log_std_init, jnp.float32)
        params: Params = {
            "actor": actor.init(key_actor, features),
            "critic": critic.init(key_critic, features),
            "log_std": log_std,
        }
        if torso is not None:
            params["torso"] = torso.init(jax.random.fold_in(key, 3), x)
        if core is not None:
            params["core"] = core.init(key_core, initial_memory(1), seen)
        moments = normalize.init_moments(x.shape[1:]) if config.normalize_observation else ()
        return Policy(params, moments)

    def initial_memory(num_envs: int) -> PyTree:
        return () if gru is None else jnp.zeros((num_envs, gru))

    def inputs(moments: PyTree, obs: PyTree) -> Array:
        x = network_inputs(obs, spec.obs, kind)
        return normalize.normalize(moments, to_float(x)) if config.normalize_observation else x

    def see(params: Params, x: Array) -> Array:
        return x if torso is None else torso.apply(params["torso"], x)  # type: ignore[return-value]

    def remember(params: Params, memory: PyTree, x: Array) -> tuple[PyTree, Array]:
        if core is None:
            return memory, x
        memory = core.apply(params["core"], memory, x)
        return memory, memory

    def step(params: Params, memory: PyTree, x: Array) -> tuple[PyTree, Array]:
        return remember(params, memory, see(params, x))

    def unroll(params: Params, memory: PyTree, x: Array, ended: Array) -> tuple[PyTree, Array]:
        x = see(params, x)
        if core is None:
            return memory, x

        def one(memory: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            after, _ = remember(params, memory, row[0])
            return where_ended(row[1], initial_memory(after.shape[0]), after), after

        _, memories = jax.lax.scan(one, memory, (x, ended))
        return memories, memories

    def distribution(params: Params, features: Array) -> Any:
        parameters: Any = actor.apply(params["actor"], features)
        tanh = config.distribution == "tanh_gaussian"
        return distributions.from_parameters(spec.action, parameters, params["log_std"], tanh)

    def value(params: Params, features: Array) -> Array:
        values: Any = critic.apply(params["critic"], features)
        return values[..., 0]

    def act(
        key: Array, policy: Policy, memory: PyTree, obs: PyTree, progress: Progress, explore: bool
    ) -> tuple[PyTree, PyTree, PyTree]:
        after, features = step(policy.params, memory, inputs(policy.moments, obs))
        chosen = distribution(policy.params, features)
        return chosen.sample(key) if explore else chosen.mode(), after, memory

    def absorb(policy: Policy, obs: PyTree) -> Policy:
        if not config.normalize_observation:
            return policy
        x = to_float(network_inputs(obs, spec.obs, kind))
        return policy._replace(moments=normalize.update_moments(policy.moments, x))

    return ActorCritic(init, initial_memory, inputs, unroll, step, distribution, value, act, absorb)
