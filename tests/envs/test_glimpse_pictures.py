"""Pictures of glimpses: what is drawn where, and when."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.analysis.glimpses import squares
from jaxrl.envs import glimpse
from jaxrl.envs.tools.datasets import Images
from jaxrl.envs.tools.glimpse_pictures import color_of, draw_glimpse, render
from jaxrl.envs.tools.retina import retina
from jaxrl.nets.glimpse import Look
from jaxrl.runs.trained import _Stage, _states
from jaxrl.types import Agent

SIDE, SIZE, SCALES = 20, 4, 3


def one_dot(row, column):
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[row, column] = 200
    return image


def test_the_squares_lie_where_the_retina_looks():
    rng = np.random.default_rng(0)
    locations = rng.uniform(-1, 1, (40, 2)).astype(np.float32)
    dots = rng.integers(0, SIDE, (40, 2))
    images = np.stack([one_dot(*dot) for dot in dots])
    patches = np.asarray(jax.jit(jax.vmap(lambda image, at: retina(image, at, SIZE, SCALES)))(images, locations))
    inside = 0
    for (row, column), location, patch in zip(dots, locations, patches, strict=True):
        for scale, (left, top, right, bottom) in enumerate(squares(location, SIDE, SIZE, SCALES)):
            expected = np.zeros((SIZE, SIZE))
            if left <= column < right and top <= row < bottom:
                # 4^scale pixels are averaged into one.
                expected[int(row - top) // 2**scale, int(column - left) // 2**scale] = 200 / 255 / 4**scale
                inside += 1
            np.testing.assert_allclose(patch[..., scale], expected, rtol=1e-6)
    assert inside > 10


def places_of(picture, color):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((picture == np.array(color)).all(axis=-1))


def test_a_square_is_drawn_around_the_pixels_that_are_seen():
    # Of side 20 the margin is 2, so a pixel is 400 / 24 = 17 points wide; the field begins at (14, 40).
    path = np.array([[[0.4, -0.2]]], np.float32)
    picture = draw_glimpse(one_dot(7, 13), path, np.zeros((SIZE, SIZE, 1), np.float32), 6, label=3)
    rows, columns = places_of(picture[:, : 14 + 17 * 24], color_of(0))
    assert (columns.min(), columns.max() + 1) == (14 + 17 * (2 + 14 - 2), 14 + 17 * (2 + 14 + 2))
    assert (rows.min(), rows.max() + 1) == (40 + 17 * (2 + 8 - 2), 40 + 17 * (2 + 8 + 2))
    # The dot is a pixel of the picture, enlarged without blur.
    rows, columns = places_of(picture[:, : 14 + 17 * 24], (200, 200, 200))
    assert set(columns) | {columns.min()} <= set(range(14 + 17 * 15, 14 + 17 * 16)) and len(set(rows)) >= 15


def state_of(image, path, time):
    return SimpleNamespace(picture=image[None], path=path[None], time=jnp.int32(time), label=np.array([3]))


@pytest.mark.parametrize("samples", [1, 3])
def test_every_glimpse_has_a_picture_of_one_size_that_shows_the_path_so_far(samples):
    path = np.random.default_rng(1).uniform(-1, 1, (5, samples, 2)).astype(np.float32)
    image = np.full((SIDE, SIDE), 90, np.uint8)
    pictures = [render(SIZE, SCALES, (), state_of(image, path, time), 0) for time in range(5)]
    assert len({picture.shape for picture in pictures}) == 1 and pictures[0].dtype == np.uint8
    assert all((a != b).any() for a, b in zip(pictures, pictures[1:], strict=False))
    to_come = path.copy()
    to_come[2:] = 0.7
    np.testing.assert_array_equal(pictures[1], render(SIZE, SCALES, (), state_of(image, to_come, 1), 0))


def test_a_wrong_answer_is_marked_with_a_colour_that_the_first_picture_has():
    image, path, patches = one_dot(3, 3), np.zeros((1, 1, 2), np.float32), np.zeros((SIZE, SIZE, 1), np.float32)
    none, right, wrong = (draw_glimpse(image, path, patches, 1, label=3, answer=answer)[:38] for answer in (None, 3, 5))
    marked = [len(places_of(caption, color_of(0))[0]) for caption in (none, right, wrong)]
    assert marked[:2] == [0, 0] and marked[2] > 300
    assert (none != right).any()


def test_an_episode_is_drawn_glimpse_by_glimpse_each_once(monkeypatch):
    tiny = Images(np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.uint8), np.zeros((3, 8, 8), np.uint8), np.zeros(3, np.uint8))
    monkeypatch.setattr(glimpse.digits, "digits", lambda: tiny)
    env = glimpse.make("digits", 1, side=8, size=4, num_glimpses=3, split="test", start="centre")
    drawn = []

    def record(params, state, index):
        drawn.append(np.asarray(state.path[index, : int(state.time) + 1, 0]).tolist())
        return env.render(params, state, index)

    def act(key, params, memory, obs):
        return Look(obs.location + 0.25, jnp.zeros(1, jnp.int32)), memory, ()

    agent = Agent(init=lambda key: (), act=act, update=lambda *_: ((), {}))
    stage: Any = _Stage(None, {}, env, agent, act, (), jax.random.key(0))  # type: ignore[arg-type]
    frames = [record(env.params, state, 0) for state in _states(stage, env)]
    assert len(frames) == 3
    assert drawn == [[[0.0, 0.0]], [[0.0, 0.0], [0.25, 0.25]], [[0.0, 0.0], [0.25, 0.25], [0.5, 0.5]]]
