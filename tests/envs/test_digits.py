"""Digits of strokes: all classes, bright on black, different and learnable."""

import numpy as np
import pytest

from helpers import run_python
from jaxrl.envs.tools.digits import NUM_PLACES, SHAPES, _curve, _ink, digits, draw


def test_digits_are_bytes_of_the_size_of_mnists_and_read_only():
    train_images, train_labels, test_images, test_labels = digits()
    assert (train_images.shape, test_images.shape) == ((6_000, 28, 28), (1_000, 28, 28))
    assert (train_labels.shape, test_labels.shape) == ((6_000,), (1_000,))
    assert all(array.dtype == np.uint8 and not array.flags.writeable for array in digits())


def test_every_class_is_there_equally_often_in_a_mixed_order():
    images = digits()
    for labels in (images.train_labels, images.test_labels):
        assert np.bincount(labels).tolist() == [len(labels) // 10] * 10
        assert 0.05 < (labels[1:] == labels[:-1]).mean() < 0.15


def test_they_are_drawn_once_in_a_process():
    assert digits() is digits()


def test_the_same_random_numbers_draw_the_same_digits_and_others_draw_others():
    first, second, other = (draw(np.random.Generator(np.random.PCG64(seed)), np.arange(10)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any(axis=(1, 2)).all()


def test_ink_is_bright_background_black_and_the_border_is_free():
    for images in (digits().train_images, digits().test_images):
        brightest = images.max(axis=(1, 2))
        assert brightest.min() > 150 and np.median(brightest) > 200
        assert 0.5 < (images == 0).mean() < 0.9
        border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
        assert (border.max(axis=1) > 128).mean() < 0.02


def test_no_image_is_drawn_twice_not_even_in_training_and_testing():
    images = np.concatenate([digits().train_images, digits().test_images])
    assert len({image.tobytes() for image in images}) == len(images)


def test_an_unknown_digit_is_mostly_like_known_ones_of_its_class_but_not_like_the_mean_of_it():
    """The nearest of the training images is right in 97 to 99.9 %, the nearest of ten mean images in far less."""
    train_images, train_labels, test_images, test_labels = digits()
    known, unknown = (images.reshape(len(images), -1).astype(np.float32) / 255 for images in (train_images, test_images))
    means = np.stack([known[train_labels == digit].mean(axis=0) for digit in range(10)])

    def right(examples, labels):
        distance = (examples**2).sum(axis=1) - 2 * unknown @ examples.T
        return (labels[distance.argmin(axis=1)] == test_labels).mean()

    assert 0.97 < right(known, train_labels) < 0.999
    assert 0.5 < right(means, np.arange(10)) < 0.9


def test_a_curve_goes_through_its_points_and_a_closed_one_has_no_corner_where_it_begins():
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    # Places are the middles of equal pieces: the middle of 3 is the middle point of 3.
    np.testing.assert_allclose(_curve([0, 1, 2], 4, 3)[1] @ square, square[1], atol=1e-6)
    places = _curve([0, 1, 2, 3, 0], 4, 400) @ square
    along = np.diff(np.concatenate([places, places[:2]]), axis=0)
    directions = np.degrees(np.unwrap(np.arctan2(along[:, 1], along[:, 0])))
    assert abs(np.diff(directions)).max() < 5.0
    assert directions[-1] - directions[0] == pytest.approx(360.0)


def test_a_line_is_brightest_on_it_and_fades_to_both_sides_by_its_width():
    x = np.linspace(4, 23, NUM_PLACES, dtype=np.float32)
    places = np.stack([x, np.full_like(x, 14.0)], axis=-1)[None]
    lengths = np.full((1, NUM_PLACES), 19 / (NUM_PLACES - 1), np.float32)
    thin, thick = (_ink(places, lengths, np.full((1, 1, 1), width), np.ones((1, 1, 1)))[0] for width in (0.8, 1.3))
    assert thin[14, 8:20].tolist() == [255] * 12
    # 255 * (1.6 exp(-d^2 / (2 width^2)) - 0.15), d = 1 and 2 rows away, worked out with a pocket calculator.
    np.testing.assert_allclose([thin[15, 14], thin[16, 14], thick[16, 14]], [148.5, 0.0, 86.7], atol=2.0)
    np.testing.assert_array_equal(thick[12:14], thick[16:14:-1])


@pytest.mark.parametrize("shape", [shape for variants in SHAPES for shape in variants])
def test_every_shape_fills_its_square_in_height(shape):
    heights = [float(point.split(",")[1]) for point in shape.replace("|", " ").split()]
    assert min(heights) <= 8 and max(heights) == 100


def test_neither_digits_nor_data_sets_start_jax():
    code = "import sys, jaxrl.envs.tools.digits; sys.exit('jax' in sys.modules)"
    run_python("-c", code)
