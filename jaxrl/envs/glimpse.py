"""Pictures that are seen through glimpses only: where to look next is the action, and what the picture shows the task.

    env = make("glimpse/mnist-translated", num_envs=128, num_glimpses=8, size=12, num_scales=3)

    glimpse/digits             28 x 28, digits of our own strokes; needs no download
    glimpse/mnist              28 x 28
    glimpse/mnist-translated   60 x 60, a digit at a random place
    glimpse/mnist-cluttered    60 x 60 or 100 x 100, beside it pieces of other digits

An episode is one picture and `num_glimpses` steps. The first glimpse is at a random point; each action says where the next is
and what the picture shows, and the reward is 1 at the last step if that is right, else 0. The label is `info["label"]`, which
acting never sees. All B episodes begin and end together.

Training pictures come without replacement: epoch by epoch each once, in an order that is a function of the state's key and the
epoch, whatever B is. Those of a test (`split`) come in their own order, each once, and what fills up the last batch is not
counted. Translated and cluttered pictures are made on the device, for training of fresh numbers, for a test of its `seed` and
the picture's number. Mnih, Heess, Graves and Kavukcuoglu 2014, "Recurrent Models of Visual Attention", section 4.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tools import datasets, digits, glimpse_pictures
from jaxrl.envs.tools.batch import most
from jaxrl.envs.tools.retina import cluttered, placed, retina
from jaxrl.errors import UsageError, unknown
from jaxrl.fields import check_fields, static
from jaxrl.maths.permutation import permuted
from jaxrl.nets.glimpse import Glimpse, Look
from jaxrl.types import Array, ArraySpec, Box, Discrete, Env, Spec, TimeStep, tree_spec


@dataclasses.dataclass(frozen=True)
class Glimpses:
    """What is seen of which pictures; the fields are the options of these environments."""

    num_glimpses: int = static(6, "Glimpses of a picture: steps of an episode (T).", low=1, high=1000)
    size: int = static(8, "Side of the smallest square of a glimpse, in pixels (g).", low=1)
    num_scales: int = static(1, "Squares of a glimpse, each twice as wide as the one before (k).", low=1, high=16)
    start: str = static("random", "Where the first glimpse is.", choices=("random", "centre"))
    split: str = static(
        "train",
        "Pictures: train, for ever in new orders; validation or test, each once.",
        choices=("train", "validation", "test"),
    )
    held_out: int = static(0, "Of the training pictures, how many of the last are for validation alone.", low=0)
    samples: int = static(
        1, "Paths of glimpses side by side (M), of which the class probabilities are averaged.", low=1, high=1000
    )
    side: int = static(0, "Side of a picture in pixels; 0 for that of the data.", low=0, high=4096)
    num_pieces: int = static(0, "Pieces of other digits in a picture.", low=0, high=10_000)
    piece: int = static(8, "Side of a piece in pixels.", low=1)
    seed: int = static(0, "Of the translations and pieces of a test.", low=0, high=2**32 - 1)


PICTURES: dict[str, dict[str, int]] = {
    "digits": {},
    "mnist": {},
    "mnist-translated": {"side": 60},
    "mnist-cluttered": {"side": 60, "num_pieces": 4},
}
"""The names of this family, and their own defaults."""


class Pictures(NamedTuple):
    """The environment's params.

    Attributes:
      images: [N, h, w] uint8.
      labels: [N] uint8.
      seed: [] uint32 of the translations and pieces of a test.
    """

    images: Array
    labels: Array
    seed: Array


class State(NamedTuple):
    """State of B environments, which show the pictures of one batch.

    Attributes:
      key: [] of the order of training pictures.
      epoch, place: [] int32, where in that order the batch begins.
      time: [] int32, actions of the episode so far.
      picture: [B, S, S] uint8.
      label: [B] int32.
      counted: [B] bool, False of what fills up the last batch of a test.
      path: [B, T, M, 2] float32, where the glimpses have been; zeros of those to come.
    """

    key: Array
    epoch: Array
    place: Array
    time: Array
    picture: Array
    label: Array
    counted: Array
    path: Array


def evaluation_options(name: str) -> dict[str, Any]:
    """Policies are scored on test pictures."""
    return {"split": "test"}


def check_evaluation(training: Mapping[str, Any], evaluation: Mapping[str, Any]) -> None:
    """Refuses a validation on pictures that were trained on."""
    ours, theirs = training.get("held_out", 0), evaluation.get("held_out", 0)
    if evaluation.get("split") == "validation" and (theirs > ours or not ours):
        raise UsageError(
            f"eval_env_options: held_out={theirs} of split=validation, and training holds out {ours}; give held_out in "
            "env_options"
        )


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B environments that show pictures through glimpses.

    Args:
      name: of `PICTURES`.
      options: fields of `Glimpses`.

    Raises:
      UsageError: an unknown option, a bad value, glimpses that do not fit the picture, or data that are not there.
    """
    known = [field.name for field in dataclasses.fields(Glimpses)]
    for option in options:
        if option == "time_limit":
            raise UsageError(f"time_limit={options[option]!r}: an episode has num_glimpses steps; give that instead")
        if option not in known:
            raise UsageError(unknown(f"option of glimpse/{name}", option, known))
    rules = Glimpses(**PICTURES[name] | options)
    check_fields(rules)
    if rules.samples > 1 and rules.split == "train":
        raise UsageError(f"samples={rules.samples} is for evaluations (split=test or validation); give it in eval_env_options")
    images, labels = _split(rules, digits.digits() if name == "digits" else datasets.mnist())
    rules = dataclasses.replace(rules, side=rules.side or images.shape[1])
    _check_fit(name, rules, images.shape[1])
    params = Pictures(jnp.asarray(images), jnp.asarray(labels), jnp.uint32(rules.seed))
    batch = _Batch(rules, num_envs, len(images))
    size, lead = rules.size, () if rules.samples == 1 else (rules.samples,)
    obs = Glimpse(ArraySpec((*lead, size, size, rules.num_scales), "float32", picture=None if lead else "HWC"),
                  ArraySpec((*lead, 2), "float32"))  # fmt: skip
    return Env(
        Spec(tree_spec(obs), Look(Box((*lead, 2)), Discrete(datasets.NUM_CLASSES)), rules.num_glimpses),
        num_envs,
        params,
        batch.reset,
        batch.step,
        render=partial(glimpse_pictures.render, size, rules.num_scales),
        num_episodes=None if rules.split == "train" else len(images),
        static=(name, dataclasses.replace(rules, seed=0)),
    )


def _split(rules: Glimpses, data: datasets.Images) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a split and their labels."""
    if rules.split == "test":
        return data.test_images, data.test_labels
    num = len(data.train_images) - rules.held_out
    if num < 1 or (rules.split == "validation" and not rules.held_out):
        most = len(data.train_images) - 1
        raise UsageError(
            f"held_out={rules.held_out} leaves no picture to split={rules.split}; give a number in "
            f"[{int(rules.split == 'validation')}, {most}]"
        )
    part = slice(None, num) if rules.split == "train" else slice(num, None)
    return data.train_images[part], data.train_labels[part]


def _check_fit(name: str, rules: Glimpses, digit: int) -> None:
    if rules.side < digit:
        raise UsageError(f"side={rules.side} is smaller than a digit; give at least {digit}")
    if rules.side > digit and "side" not in PICTURES[name]:
        raise UsageError(
            f"side={rules.side} is for translated digits, and those of glimpse/{name} are {digit} pixels wide; leave it out"
        )
    if rules.size > rules.side:
        raise UsageError(f"size={rules.size} is larger than the picture; give at most {rules.side}")
    if rules.size * 2 ** (rules.num_scales - 1) > rules.side:
        fitting = int(np.log2(rules.side // rules.size)) + 1
        raise UsageError(
            f"num_scales={rules.num_scales} of size={rules.size} see {rules.size * 2 ** (rules.num_scales - 1)} pixels and the "
            f"picture has {rules.side}; give at most {fitting}"
        )
    if rules.num_pieces and rules.piece > digit:
        raise UsageError(f"piece={rules.piece} is larger than a digit; give at most {digit}")


class _Batch(NamedTuple):
    """The functions of B environments; `num_pictures`: N."""

    rules: Glimpses
    num_envs: int
    num_pictures: int

    def reset(self, key: Array, params: Pictures) -> tuple[State, Glimpse]:
        key_order, key_new = jax.random.split(key)
        zero = jnp.int32(0)
        return self.begin(key_new, params, key_order, zero, zero)

    def begin(self, key: Array, params: Pictures, key_order: Array, epoch: Array, place: Array) -> tuple[State, Glimpse]:
        """The episodes that begin at a place of an epoch, and their first glimpses."""
        key_picture, key_start = jax.random.split(key)
        at = place + jnp.arange(self.num_envs, dtype=jnp.int32)
        index, counted = at % self.num_pictures, jnp.ones(self.num_envs, bool)
        if self.rules.split == "train":
            orders = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key_order, epoch + at // self.num_pictures)
            index = jax.vmap(lambda key, i: permuted(key, i, self.num_pictures))(orders, index)
            keys = jax.random.split(key_picture, self.num_envs)
        else:
            counted = (epoch == 0) & (at < self.num_pictures)
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(params.seed), index)
        picture = jax.vmap(self.picture, in_axes=(0, None, 0))(keys, params, index)
        shape = (self.num_envs, self.rules.samples, 2)
        random = self.rules.start == "random"
        first = jax.random.uniform(key_start, shape, jnp.float32, -1.0, 1.0) if random else jnp.zeros(shape, jnp.float32)
        path = jnp.zeros((self.num_envs, self.rules.num_glimpses, *shape[1:]), jnp.float32).at[:, 0].set(first)
        label = params.labels[index].astype(jnp.int32)
        return State(key_order, epoch, place, jnp.int32(0), picture, label, counted, path), self.seen(picture, first)

    def picture(self, key: Array, params: Pictures, index: Array) -> Array:
        """[S, S] uint8 of the digit `index`."""
        digit, side = params.images[index], self.rules.side
        key_place, key_pieces = jax.random.split(key)
        drawn = digit if digit.shape[0] == side else placed(key_place, digit, side)
        pieces = self.rules.num_pieces, self.rules.piece
        return cluttered(key_pieces, drawn, params.images, *pieces) if pieces[0] else drawn

    def seen(self, picture: Array, location: Array) -> Glimpse:
        """Glimpses at `location` [B, M, 2]; the axis M is left out where it is 1."""
        look = jax.vmap(lambda at, where: retina(at, where, self.rules.size, self.rules.num_scales), in_axes=(None, 0))
        glimpse = Glimpse(jax.vmap(look)(picture, location), location)
        return jax.tree.map(lambda leaf: leaf[:, 0], glimpse) if self.rules.samples == 1 else glimpse

    def step(self, key: Array, params: Pictures, state: State, action: Look) -> tuple[State, TimeStep]:
        time = state.time + 1
        is_last = time == self.rules.num_glimpses
        location = jnp.clip(action.location, -1.0, 1.0).astype(jnp.float32).reshape(self.num_envs, self.rules.samples, 2)
        next_obs = self.seen(state.picture, location)
        reward = (is_last & (action.label == state.label)).astype(jnp.float32)
        moved = state._replace(time=time, path=state.path.at[:, time].set(location, mode="drop"))

        def begin() -> tuple[State, Glimpse]:
            place = state.place + self.num_envs
            epoch, place = state.epoch + place // self.num_pictures, place % self.num_pictures
            fresh = self.begin(key, params, state.key, epoch, place)
            return jax.tree.map(lambda new, old: jnp.where(is_last, new, old), fresh, (moved, next_obs))

        # Under `vmap` all runs of a population are at the same glimpse, so one of them decides for all.
        following, obs = jax.lax.cond(most(is_last), begin, lambda: (moved, next_obs))
        ended = jnp.broadcast_to(is_last, (self.num_envs,))
        info = {
            "episode_return": reward,
            "episode_length": jnp.broadcast_to(time, (self.num_envs,)),
            "counted": state.counted,
            "label": state.label,
        }
        return following, TimeStep(obs, reward, ended, jnp.zeros_like(ended), next_obs, info)
