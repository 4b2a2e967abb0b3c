"""Figures of where an attention model looked."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from jaxrl.analysis.glimpses import Played, composed, draw_answers, draw_locations, draw_paths, pixels, shares, squares

RNG = np.random.default_rng(0)
PLAYED = Played(
    images=RNG.integers(0, 256, (5, 20, 20)).astype(np.uint8),
    labels=np.array([1, 2, 3, 4, 5]),
    paths=RNG.uniform(-1, 1, (5, 3, 2)).astype(np.float32),
    patches=RNG.random((5, 3, 4, 4, 2)).astype(np.float32),
    answers=np.array([1, 2, 7, 4, 9]),
)


def test_the_squares_of_a_location_have_it_in_their_middle():
    # Of side 20, (0.5, -0.5) is the corner (15, 5); squares of 4 and 8 pixels.
    np.testing.assert_array_equal(squares(np.array([0.5, -0.5]), 20, 4, 2), [[13, 3, 17, 7], [11, 1, 19, 9]])
    np.testing.assert_array_equal(pixels(np.array([[-1.0, 1.0], [0.0, 0.04]]), 20), [[0, 20], [10, 10]])


def test_patches_of_all_scales_make_one_picture_that_is_sharp_in_the_middle():
    patches = np.zeros((2, 2, 2))
    patches[..., 0] = [[1, 2], [3, 4]]
    patches[..., 1] = [[5, 6], [7, 8]]
    np.testing.assert_array_equal(composed(patches), [[5, 5, 6, 6], [5, 1, 2, 6], [7, 3, 4, 8], [7, 7, 8, 8]])


def test_locations_are_counted_where_they_lie_in_the_picture():
    # Upper right, lower left twice, and the last corner of the picture.
    locations = np.array([[0.9, -0.9], [-0.9, 0.9], [-0.6, 0.6], [1.0, 1.0]])
    np.testing.assert_array_equal(shares(locations, 2), [[0, 0.25], [0.5, 0.25]])


def boxes(axes):
    return [
        (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for patch in axes.patches
        if isinstance(patch, Rectangle)
    ]


def test_a_row_of_the_paths_shows_the_path_the_last_squares_and_each_glimpse_once():
    figure = draw_paths(PLAYED)
    assert len(figure.axes) == 5 * (1 + 3)
    path, *seen = figure.axes[:4]
    np.testing.assert_array_equal(path.lines[0].get_xydata(), pixels(PLAYED.paths[0], 20))
    left, top, right, bottom = squares(PLAYED.paths[0, -1], 20, 4, 2)[1]
    assert boxes(path)[1] == (left, top, right - left, bottom - top) and len(boxes(path)) == 2
    for axes, patches in zip(seen, PLAYED.patches[0], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), composed(patches))
        assert boxes(axes) == [(2, 2, 4, 4), (0, 0, 8, 8)]


def test_right_answers_stand_beside_wrong_ones():
    figure = draw_answers(PLAYED, rows=1, columns=3)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["1, answered 1", "2, answered 2", "4, answered 4", "3, answered 7", "5, answered 9", ""]
    assert [part.get_suptitle() for part in figure.subfigs] == ["right: 3 of 5 (60.0%)", "wrong: 2 of 5 (40.0%)"]


@pytest.mark.parametrize("draw", [draw_paths, draw_answers, draw_locations])
def test_one_picture_with_one_glimpse_can_be_drawn(draw, tmp_path):
    one = PLAYED.take(slice(0, 1))
    one = one._replace(paths=one.paths[:, :1], patches=one.patches[:, :1])
    draw(one).savefig(tmp_path / "one.png", dpi=20)
    assert (tmp_path / "one.png").stat().st_size > 0


def test_the_last_of_many_glimpses_is_counted_beside_the_second():
    figure = draw_locations(PLAYED)
    for axes, step in zip(figure.axes[:2], (1, 2), strict=True):
        counts = axes.images[1].get_array().filled(0.0)
        np.testing.assert_allclose(counts, shares(PLAYED.paths[:, step], 10))
