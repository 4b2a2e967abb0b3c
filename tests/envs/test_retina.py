"""What a retina sees, against loops over pixels in NumPy; digits and pieces stay within a picture and never wrap around."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.tools.retina import cluttered, placed, retina

CORNERS = [(-1, -1), (1, -1), (-1, 1), (1, 1), (0, 0)]


def seen(picture, location, size, num_scales):
    """Pixel by pixel, in Python's floats."""
    side, patches = len(picture), np.zeros((size, size, num_scales))
    x, y = (round((float(part) + 1) * side / 2) for part in np.float32(location))
    for scale in range(num_scales):
        width = 2**scale
        for row in range(size):
            for column in range(size):
                rows = [y - size * width // 2 + row * width + i for i in range(width)]
                columns = [x - size * width // 2 + column * width + i for i in range(width)]
                inside = [(i, j) for i in rows for j in columns if 0 <= i < side and 0 <= j < side]
                patches[row, column, scale] = sum(float(picture[place]) for place in inside) / width**2 / 255
    return patches


@pytest.mark.parametrize(("side", "size", "num_scales"), [(13, 4, 1), (13, 3, 3), (20, 4, 3)])
def test_a_glimpse_is_what_loops_over_pixels_find_within_the_picture_and_beyond_its_edge(side, size, num_scales):
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (side, side), np.uint8)
    locations = np.float32([*CORNERS, *random.uniform(-1, 1, (20, 2))])
    found = jax.jit(jax.vmap(lambda at: retina(picture, at, size, num_scales)))(locations)
    assert found.dtype == jnp.float32
    for patches, location in zip(found, locations, strict=True):
        np.testing.assert_allclose(patches, seen(picture, location, size, num_scales), atol=1e-6)


def test_the_first_number_of_a_location_is_across_and_the_second_down():
    picture = np.zeros((8, 8), np.uint8)
    picture[1, 6] = 255  # Upper right.
    found = jax.jit(jax.vmap(lambda at: retina(picture, at, 4, 1).sum()))(np.float32([(0.5, -0.5), (-0.5, 0.5)]))
    assert found.tolist() == [1.0, 0.0]


def of_keys(function, num=200):
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(0), num)))


def test_a_digit_is_placed_wholly_within_and_everywhere():
    digit = np.arange(1, 10, dtype=np.uint8).reshape(3, 3)
    found = of_keys(lambda key: placed(key, digit, 6))
    corners = [tuple(np.argwhere(picture)[0]) for picture in found]
    for picture, (row, column) in zip(found, corners, strict=True):
        np.testing.assert_array_equal(picture[row : row + 3, column : column + 3], digit)
        assert picture.sum() == digit.sum()
    assert set(corners) == {(row, column) for row in range(4) for column in range(4)}
    np.testing.assert_array_equal(of_keys(lambda key: placed(key, digit, 3), 2), [digit, digit])


def test_a_piece_is_a_square_of_a_digit_wholly_within_and_everywhere():
    digits = np.arange(1, 33, dtype=np.uint8).reshape(2, 4, 4)
    found = of_keys(lambda key: cluttered(key, jnp.zeros((5, 5), jnp.uint8), digits, 1, 2))
    pieces, places = set(), set()
    for picture in found:
        row, column = np.argwhere(picture)[0]
        pieces.add(picture[row, column])
        places.add((row, column))
        corner = picture[row, column]
        np.testing.assert_array_equal(
            picture[row : row + 2, column : column + 2], [[corner, corner + 1], [corner + 4, corner + 5]]
        )
        assert np.count_nonzero(picture) == 4
    assert places == {(row, column) for row in range(4) for column in range(4)}
    # Those whose squares lie within one of the two digits.
    assert pieces == {16 * digit + 4 * row + column + 1 for digit in range(2) for row in range(3) for column in range(3)}


def test_brightness_ends_at_white_and_does_not_wrap_around():
    picture, digits = jnp.full((4, 4), 200, jnp.uint8), np.full((1, 4, 4), 100, np.uint8)
    found = of_keys(lambda key: cluttered(key, picture, digits, 3, 3), 20)
    assert set(np.unique(found)) == {200, 255}
    np.testing.assert_array_equal(of_keys(lambda key: cluttered(key, picture, digits, 0, 3), 1), [picture])
