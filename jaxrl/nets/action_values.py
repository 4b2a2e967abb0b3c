"""A network that says something of every action, as pure functions: what deep Q-learning acts by and learns.

    network = q_network(config, spec)
    params = network.init(key)
    q = network.values(network.apply(key, params, obs))      # obs [..., *] -> [..., A]

The outputs may be more than values: a distribution or quantiles of each action's return, of which `values` makes values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.heads import QNetwork
from jaxrl.nets.inputs import ILLEGAL, legal_of, network_inputs, seen
from jaxrl.nets.layers import draw_noise
from jaxrl.nets.torso import TorsoConfig, check_blocks, torso_of
from jaxrl.types import Array, PyTree, Spec, seen_spec, spec_zeros


class QConfig(TorsoConfig, Protocol):
    """What `q_network` reads of an agent's config."""

    @property
    def dueling(self) -> bool: ...
    @property
    def noisy(self) -> bool: ...
    @property
    def noisy_sigma(self) -> Array | float: ...


def _as_they_are(outputs: PyTree) -> Array:
    return outputs


class ActionValues(NamedTuple):
    """A network of action values.

    Attributes:
      init: (key) -> params.
      apply: (key, params, obs [..., *]) -> outputs: [..., A] action values, or any tree that `values` takes. The key is for
        what a network draws (noise, quantiles), and None where the greedy action is asked for.
      values: (outputs) -> [..., A]; actions that are not legal in a `Position` have `jaxrl.nets.inputs.ILLEGAL`.
    """

    init: Callable[[Array], PyTree]
    apply: Callable[[Array | None, PyTree, PyTree], PyTree]
    values: Callable[[PyTree], Array] = _as_they_are


def q_network(config: QConfig, spec: Spec, module: nn.Module | None = None) -> ActionValues:
    """Action values [..., A] by a module, or by the hidden layers or convolutions that the config names.

    Args:
      module: vectors [..., F], or pictures [..., H, W, C] where the config's torso is convolutional, -> [..., A]; its
        `NoisyDense` layers get their noise.

    Raises:
      UsageError: a torso that cannot see these observations.
    """
    net = module_network(spec, module or QNetwork(spec.action.n, **layers(config, spec)), torso_of_config(config, spec))

    def apply(key: Array | None, params: PyTree, obs: PyTree) -> Array:
        return legal_values(net.apply(key, params, obs), legal_of(obs))

    return ActionValues(net.init, apply)


def torso_of_config(config: QConfig, spec: Spec) -> str:
    """The torso for what networks see of these observations; see `jaxrl.nets.torso.torso_of`."""
    return torso_of(config.torso, seen_spec(spec.obs))


def layers(config: QConfig, spec: Spec) -> dict[str, Any]:
    """What the networks of `jaxrl.nets.heads` take of a config.

    Raises:
      UsageError: a torso that cannot see these observations, or that hidden layers do not fit.
    """
    fields = {name: getattr(config, name) for name in ("hidden", "activation", "dueling")}
    torso = torso_of_config(config, spec)
    check_blocks(torso, "hidden", config.hidden)
    return fields | {"torso": torso, "noisy_sigma": config.noisy_sigma if config.noisy else None}


def legal_values(q: Array, legal: Array | None) -> Array:
    """q [..., A] with `ILLEGAL` where `legal` [..., A] is False; None leaves it alone."""
    return q if legal is None else jnp.where(legal, q, ILLEGAL)


class ModuleNetwork(NamedTuple):
    """A module as pure functions.

    Attributes:
      init: (key) -> params.
      apply: (key, params, obs [..., *], *more) -> what the module returns; with a key its layers have noise of it.
    """

    init: Callable[..., PyTree]
    apply: Callable[..., Any]


def module_network(spec: Spec, module: nn.Module, torso: str) -> ModuleNetwork:
    """`module` on what `torso` sees of observations, and on more that it may be given."""
    obs_spec = seen_spec(spec.obs)

    def create(key: Array) -> PyTree:
        return module.init(key, network_inputs(spec_zeros(obs_spec, (1,)), obs_spec, torso))

    @functools.cache
    def noise() -> PyTree:
        """Shapes of the noise of its layers, () without."""
        return jax.eval_shape(create, jax.random.key(0)).get("noise", ())

    def init(key: Array) -> PyTree:
        created = create(key)
        return {name: part for name, part in created.items() if name != "noise"} if "noise" in created else created

    def apply(key: Array | None, params: PyTree, obs: PyTree, *more: Array) -> Any:
        if key is not None and noise():
            params = params | {"noise": draw_noise(key, noise())}
        return module.apply(params, network_inputs(seen(obs), obs_spec, torso), *more)

    return ModuleNetwork(init, apply)
