"""How an agent sees: what its networks get of an observation, normalised by running moments where its config says so.

    view = View(spec, torso_of(config.torso, seen_spec(spec.obs)), config.normalize_observation)
    moments = view.init_moments()
    x, legal = view.inputs(moments, obs)

The moments belong to the policy, so they are checkpointed and batched with it, and evaluation uses them unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxrl.maths import normalize
from jaxrl.nets.conv import to_float
from jaxrl.nets.inputs import legal_of, network_inputs, seen
from jaxrl.types import Array, PyTree, Spec, seen_spec, spec_zeros


class Policy(NamedTuple):
    """All that acting reads.

    Attributes:
      params: of the networks that act, with a critic where they share a torso with it.
      moments: of the observation vectors [F] or pictures [H, W, C], () where they are not normalised.
    """

    params: Any
    moments: PyTree


class Seen(NamedTuple):
    """An observation on its way through the networks.

    Attributes:
      x: [..., F] a vector, or a picture [..., H, W, C] where the torso is convolutional; behind the core, features [..., H].
      legal: [..., A] bool of a `Position`, () where all actions are legal.
    """

    x: Array
    legal: Array | tuple[()] = ()


class View(NamedTuple):
    """What networks see of the observations of one environment.

    Attributes:
      spec: of the environment.
      kind: of torso, one of `jaxrl.nets.inputs.VECTORS` for vectors or a convolutional one for pictures.
      normalized: by running moments.
    """

    spec: Spec
    kind: str
    normalized: bool

    def vectors(self, obs: PyTree) -> Array:
        """Observations [..., *shape] -> [..., F], or pictures [..., H, W, C], as they come."""
        return network_inputs(seen(obs), seen_spec(self.spec.obs), self.kind)

    def zeros(self) -> Array:
        """What is seen of one observation of zeros, [1, *]."""
        return self.vectors(spec_zeros(self.spec.obs, (1,)))

    def init_moments(self) -> PyTree:
        """Moments of nothing, () where observations are not normalised."""
        return normalize.init_moments(self.zeros().shape[1:]) if self.normalized else ()

    def absorb(self, moments: PyTree, obs: PyTree) -> PyTree:
        """The moments with observations [..., *shape] merged."""
        return normalize.update_moments(moments, to_float(self.vectors(obs))) if self.normalized else moments

    def inputs(self, moments: PyTree, obs: PyTree) -> Seen:
        """Observations [..., *shape] as inputs."""
        x, legal = self.vectors(obs), legal_of(obs)
        x = normalize.normalize(moments, to_float(x)) if self.normalized else x
        return Seen(x, () if legal is None else legal)
