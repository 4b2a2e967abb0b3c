"""Categorical deep Q-learning, C51 (Bellemare, Dabney and Munos 2017, Algorithm 1): a distribution of each action's return.

The network gives K probabilities of evenly spaced atoms to each action; acting goes by their means, and learning fits the
distribution of r + gamma z, projected onto the atoms, by cross-entropy. All else, flags included, is that of `dqn`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.value.q_values import Outputs, QConfig, make_q_agent
from jaxrl.config import agent_config, static, traced
from jaxrl.errors import UsageError
from jaxrl.maths import distributional
from jaxrl.nets.action_values import ActionValues, layers, legal_values, module_network, torso_of_config
from jaxrl.nets.heads import QNetwork
from jaxrl.nets.inputs import legal_of
from jaxrl.replay.ring import Transitions
from jaxrl.types import Agent, Array, Model, PyTree, Spec


@agent_config
class C51Config(QConfig):
    """Categorical deep Q-learning."""

    double: bool = static(False, "Choose the target's action with the online network (double Q-learning).")
    num_atoms: int = static(101, "Atoms of a distribution of returns.", low=2)
    v_min: float = traced(-100.0, "The lowest return that there is an atom for.")
    v_max: float = traced(100.0, "The highest one.")

    def check(self) -> None:
        super().check()
        if self.v_min >= self.v_max:
            raise UsageError(f"v_min={self.v_min} is not below v_max={self.v_max}; lower v_min")


class Categorical(NamedTuple):
    """A distribution of each action's return.

    Attributes:
      logits: [..., A, K].
      legal: [..., A] bool; None where all actions are.
    """

    logits: Array
    legal: Array | None


def atoms(config: C51Config) -> Array:
    """[K] evenly from v_min to v_max."""
    return config.v_min + (config.v_max - config.v_min) * jnp.linspace(0.0, 1.0, config.num_atoms, dtype=jnp.float32)


def mean(config: C51Config, output: Categorical) -> Array:
    """[..., A] action values."""
    return legal_values(jnp.sum(jax.nn.softmax(output.logits) * atoms(config), axis=-1), output.legal)


def c51_network(config: C51Config, spec: Spec) -> ActionValues:
    """Outputs are `Categorical`."""
    module = QNetwork(spec.action.n, numbers=config.num_atoms, **layers(config, spec))
    net = module_network(spec, module, torso_of_config(config, spec))

    def apply(key: Array | None, params: PyTree, obs: PyTree) -> Categorical:
        return Categorical(net.apply(key, params, obs), legal_of(obs))

    return ActionValues(net.init, apply, lambda output: mean(config, output))


def c51_target(config: C51Config, batch: Transitions, outputs: Outputs) -> Array:
    """[N, K] probabilities of the atoms: those of r_t + discount_t * z, where z is the return of the best action."""
    best = jnp.argmax(mean(config, outputs.online_t if config.double else outputs.target_t), axis=-1)
    probability = jax.nn.softmax(distributional.of_action(outputs.target_t.logits, best))
    places = batch.reward[:, None] + batch.discount[:, None] * atoms(config)
    return distributional.project(places, probability, atoms(config))


def c51_loss(config: C51Config, batch: Transitions, output: Categorical, target: Array) -> tuple[Array, Array]:
    """The cross-entropy [N], and the KL divergence [N], which goes by how wrong the output is alone."""
    each = distributional.cross_entropy(target, distributional.of_action(output.logits, batch.action))
    return each, each - distributional.entropy(target)


def make_c51(config: C51Config, spec: Spec, model: Model | None = None) -> Agent:
    """C51 for discrete actions and any observations.

    Raises:
      UsageError: continuous or mixed actions, or a torso that cannot see the observations.
    """
    return make_q_agent(config, spec, "c51", target=c51_target, loss=c51_loss, network=c51_network)
