"""What an agent may know of an environment: shapes and meanings of what it sees and does, hashable and always static.

    spec = Spec(ArraySpec((4,), "float32"), Discrete(2), time_limit=500)

`jaxrl.types` has these names too, beside the contracts that use them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
Array = jax.Array


BYTE = 255.0
"""`ArraySpec.scale` of brightness in bytes: networks see it from 0 to 1."""


class ArraySpec(NamedTuple):
    """Shape, dtype name and meaning of one array, without any batch axis. Nothing is concluded from shape or dtype:

        ArraySpec((4,), "uint8")                                     # four quantities, which networks see as they are
        ArraySpec((), "int32", num_values=16)                        # one of 16 things: networks see it one-hot
        ArraySpec((84, 84, 3), "uint8", picture="HWC", scale=255.0)  # a picture in bytes, seen from 0 to 1
        ArraySpec((10, 10, 4), "bool", picture="HWC")                # planes of a board, as they are

    Attributes:
      num_values: of integers that name one of finitely many things (the state of an MDP): they are 0 .. num_values - 1. Tabular
        agents need it, networks see such an integer as a one-hot vector. None where numbers are quantities.
      num_frames: of pictures stacked along the first axis, oldest first: how many points in time they show, each with the same
        number of channels. Within an episode, the next observation has this one's frames but for the oldest, and a new one; a
        replay stores each once. 1 for what is no stack.
      picture: "HWC" (height, width, channels) or "CHW": what the three axes of a picture are, for convolutions; None of all
        other arrays.
      scale: by what networks divide quantities, `BYTE` for brightness in bytes.
    """

    shape: tuple[int, ...]
    dtype: str
    num_values: int | None = None
    num_frames: int = 1
    picture: str | None = None
    scale: float = 1.0

    def __repr__(self) -> str:
        fields, usual = zip(self._fields, self, strict=True), self._field_defaults
        said = (f"{name}={value!r}" for name, value in fields if name not in usual or value != usual[name])
        return f"ArraySpec({', '.join(said)})"


class TreeSpec(NamedTuple):
    """A pytree of arrays (a dict, a game state): its structure and the `ArraySpec` of each leaf, in flattening order."""

    treedef: jax.tree_util.PyTreeDef
    leaves: tuple[ArraySpec, ...]

    def __repr__(self) -> str:
        return f"TreeSpec({jax.tree.unflatten(self.treedef, self.leaves)!r})"


class Discrete(NamedTuple):
    """Actions 0 .. n - 1, int32."""

    n: int


class Box(NamedTuple):
    """Actions in [-1, 1] of this shape, float32; the environment's adapter rescales them to the true bounds."""

    shape: tuple[int, ...]


class Position(NamedTuple):
    """The observation of a game, and of any environment in which not every action is always legal.

    Attributes:
      planes: what networks see.
      legal: [A] bool, the actions that may be taken.
      state: what `Env.model` needs to look ahead, () where nothing does; neither networks nor replays need it.
    """

    planes: PyTree
    legal: Array
    state: PyTree = ()


class Symmetry(NamedTuple):
    """A map of a board onto itself that leaves the rules of its game as they are: what is best there is best here.

    Attributes:
      turns: quarter turns of the picture, counterclockwise.
      mirrored: whether left and right change places after them.
      actions: action `actions[a]` of the board as it is, is action a of the board as it becomes.
    """

    turns: int
    mirrored: bool
    actions: tuple[int, ...]


class Spec(NamedTuple):
    """What an agent may know of an environment. Hashable, hence always static in a compiled program.

    Attributes:
      obs: `ArraySpec`, or `TreeSpec` for a pytree of arrays (a `Position` among them).
      action: `Discrete`, `Box`, or a NamedTuple of both for mixed actions.
      time_limit: decisions after which an episode is truncated at the latest, None where there is no limit.
      num_players: 2 where two players move in turn and the reward is that of the one who moved.
      has_return: False where the sum of an episode's rewards says nothing of how well the agent plays, as in self-play: the
        records then hold no return of training episodes.
      symmetries: of the planes of a `Position` and of its actions, the identity not among them.
    """

    obs: Any
    action: Any
    time_limit: int | None = None
    num_players: int = 1
    has_return: bool = True
    symmetries: tuple[Symmetry, ...] = ()


def tree_spec(tree: PyTree) -> ArraySpec | TreeSpec:
    """The spec of an unbatched pytree whose leaves are arrays or `jax.ShapeDtypeStruct`s, of quantities, or `ArraySpec`s."""
    leaves, treedef = jax.tree.flatten(tree, is_leaf=lambda leaf: isinstance(leaf, ArraySpec))
    specs = tuple(
        leaf if isinstance(leaf, ArraySpec) else ArraySpec(tuple(leaf.shape), np.dtype(leaf.dtype).name) for leaf in leaves
    )
    return specs[0] if jax.tree_util.treedef_is_leaf(treedef) else TreeSpec(treedef, specs)


def position_spec(obs: ArraySpec | TreeSpec) -> Position | None:
    """The parts of the spec of a `Position`, each an `ArraySpec` or `TreeSpec`; None of any other observation."""
    if not isinstance(obs, TreeSpec):
        return None
    tree: Any = jax.tree.unflatten(obs.treedef, obs.leaves)
    return Position(*[tree_spec(part) for part in tree]) if isinstance(tree, Position) else None  # type: ignore[arg-type]


def seen_spec(obs: ArraySpec | TreeSpec) -> ArraySpec | TreeSpec:
    """The spec of what networks see of an observation: the planes of a `Position`, all of any other."""
    position = position_spec(obs)
    return obs if position is None else position.planes


def spec_zeros(spec: ArraySpec | TreeSpec, leading: tuple[int, ...] = ()) -> PyTree:
    """A pytree of zeros with the structure of `spec` and the batch axes `leading` in front."""
    if isinstance(spec, ArraySpec):
        return jnp.zeros(leading + spec.shape, spec.dtype)
    return jax.tree.unflatten(spec.treedef, [spec_zeros(leaf, leading) for leaf in spec.leaves])


def action_zeros(action: Any, leading: tuple[int, ...] = ()) -> PyTree:
    """Actions of zeros for an action spec, with the batch axes `leading` in front."""
    if isinstance(action, Discrete):
        return jnp.zeros(leading, jnp.int32)
    if isinstance(action, Box):
        return jnp.zeros(leading + action.shape, jnp.float32)
    return type(action)(*(action_zeros(part, leading) for part in action))


def sample_action(key: Array, action: Any, leading: tuple[int, ...] = ()) -> PyTree:
    """Uniformly random actions for an action spec, with the batch axes `leading` in front."""
    if isinstance(action, Discrete):
        return jax.random.randint(key, leading, 0, action.n, jnp.int32)
    if isinstance(action, Box):
        return jax.random.uniform(key, leading + action.shape, jnp.float32, minval=-1.0, maxval=1.0)
    keys = jax.random.split(key, len(action))
    return type(action)(*(sample_action(k, part, leading) for k, part in zip(keys, action, strict=True)))


def flat_size(spec: ArraySpec) -> int:
    """Length of the vector that a network sees of one observation."""
    return math.prod(spec.shape) * (spec.num_values or 1)
