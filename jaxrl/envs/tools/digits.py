"""Digits without a download: ten shapes of strokes, drawn anew for each image with random shifts, widths and slants.

    train_images, train_labels, test_images, test_labels = digits()

NumPy alone. Each image takes a shape of its class, moves the points of its strokes a little, lays a curve through them, turns,
slants, stretches and shifts it, and draws it with a pen of its own width and softness.
"""

from __future__ import annotations

import functools

import numpy as np

from jaxrl.envs.tools.datasets import NUM_CLASSES, Images

SIZE, NUM_TRAIN, NUM_TEST = 28, 6_000, 1_000

SHAPES = (
    ("50,0 78,18 86,50 78,82 50,100 22,82 14,50 22,18 50,0",),
    ("50,0 50,100", "28,24 54,0|54,0 54,100", "30,20 52,0|52,0 52,100|28,100 76,100"),
    ("18,24 32,4 54,0 76,10 80,32 62,58 18,100|18,100 86,100", "18,22 46,0 78,16 70,50 40,86 20,94 24,78 48,84 86,100"),
    ("18,12 46,0 74,12 70,38 42,47|42,47 76,58 80,84 50,100 16,88", "18,2 78,2|78,2 46,40|46,40 80,58 78,86 48,100 16,88"),
    ("30,0 14,58|14,58 88,58|68,16 66,100", "64,0 12,66|12,66 90,66|64,0 64,100"),
    ("80,2 28,2|28,2 22,44|22,44 52,36 80,54 78,84 50,100 16,90",),
    ("70,2 40,18 20,50 20,80 46,100 74,90 78,68 56,54 30,62 20,80",),
    ("14,2 84,2|84,2 40,100", "14,2 84,2|84,2 40,100|36,52 78,52"),
    ("50,48 24,34 26,10 50,0 74,10 76,34 50,48 20,66 22,90 50,100 78,90 80,66 50,48",),
    (
        "78,30 68,6 44,0 22,12 20,36 42,52 66,46 78,30|78,30 74,66 56,100",
        "80,26 64,4 40,2 20,24 34,48 60,46 80,26|80,26 78,100",
    ),
)
"""The shapes of each digit in a square of 100x100, y down: strokes between `|`, each a curve through its points; a point that
stands twice is one."""

NUM_PLACES = 48
"""At which the pen is put down along the strokes of a shape."""


@functools.cache
def digits() -> Images:
    """6,000 digits to train on and 1,000 to test, the classes equally often; the same in every process, drawn once in each.

    Returns:
      Images of 28x28 uint8, the ink bright, read-only.
    """
    random = np.random.Generator(np.random.PCG64(0))
    arrays = []
    for number in (NUM_TRAIN, NUM_TEST):
        labels = np.argsort(random.random(number)) % NUM_CLASSES
        # Of a thousand images each, what is computed between stays in the processor's cache.
        arrays += [np.concatenate([draw(random, some) for some in np.split(labels, number // 1_000)]), labels.astype(np.uint8)]
    for array in arrays:
        array.flags.writeable = False
    return Images(*arrays)


def draw(random: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Digits, each drawn in its own way.

    Args:
      labels: [N] integers from 0 to 9.

    Returns:
      [N, 28, 28] uint8.
    """

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return low + (high - low) * random.random((len(labels), *shape), np.float32)

    first, count, points, curves, lengths = _shapes()
    shape = first[labels] + (uniform(0.0, 1.0) * count[labels]).astype(int)
    jittered = points[shape] + uniform(-0.07, 0.07, *points.shape[1:])
    angle, slant = uniform(-0.22, 0.22), uniform(-0.35, 0.35)
    width, height = uniform(12.0, 20.0), uniform(15.0, 19.5)
    cos, sin = np.cos(angle), np.sin(angle)
    # x first becomes x - slant y, then both are stretched and turned.
    matrix = np.stack([[width * cos, -(slant * width * cos + height * sin)], [width * sin, height * cos - slant * width * sin]])
    middle = (SIZE - 1) / 2 + uniform(-2.0, 2.0, 1, 2)
    places = curves[shape] @ jittered @ matrix.transpose(2, 1, 0) + middle
    return _ink(places, lengths[shape], uniform(0.75, 1.35, 1, 1), uniform(0.75, 1.0, 1, 1))


def _ink(places: np.ndarray, lengths: np.ndarray, width: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """What a pen leaves that is put down at many places: at a distance d from a line, exp(-d^2 / (2 width^2)) with hard core.

    Args:
      places: [N, P, 2] pixels, x and y.
      lengths: [N, P] pixels of line that each place stands for.
      width, brightness: [N, 1, 1]

    Returns:
      [N, 28, 28] uint8.
    """
    pixels = np.arange(SIZE, dtype=np.float32)
    # A disc that fades as a Gaussian is a column times a row, so a sum of them is a product of matrices.
    column = np.exp(-0.5 * ((pixels[:, None] - places[:, None, :, 1]) / width) ** 2) * lengths[:, None]
    row = np.exp(-0.5 * ((pixels - places[:, :, None, 0]) / width) ** 2)
    line = column @ row / (np.sqrt(2 * np.pi) * width)
    return (255 * brightness * np.clip(1.6 * line - 0.15, 0.0, 1.0) + 0.5).astype(np.uint8)


@functools.cache
def _shapes() -> tuple[np.ndarray, ...]:
    """Of S shapes of C points at most: first [10] and count [10] of each class, points [S, C, 2] around the middle of a unit
    square, curves [S, P, C] (the share of each point in each place of the pen), lengths [S, P] pixels that a place stands for.
    """
    count = np.array([len(variants) for variants in SHAPES])
    texts = [text for variants in SHAPES for text in variants]
    num_points = max(len(set(text.replace("|", " ").split())) for text in texts)
    points = np.zeros((len(texts), num_points, 2), np.float32)
    curves = np.zeros((len(texts), NUM_PLACES, num_points), np.float32)
    lengths = np.zeros((len(texts), NUM_PLACES), np.float32)
    for index, text in enumerate(texts):
        names = list(dict.fromkeys(text.replace("|", " ").split()))
        points[index, : len(names)] = [[float(number) / 100 - 0.5 for number in name.split(",")] for name in names]
        strokes = [[names.index(name) for name in stroke.split()] for stroke in text.split("|")]
        fine = [_curve(stroke, num_points, 20 * len(stroke)) @ points[index] for stroke in strokes]
        long = np.array([np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in fine])
        ends = np.round(np.cumsum(long) / long.sum() * NUM_PLACES).astype(int)
        shares = np.diff(ends, prepend=0)
        curves[index] = np.concatenate([_curve(stroke, num_points, n) for stroke, n in zip(strokes, shares, strict=True)])
        lengths[index] = np.repeat(18.0 * long / shares, shares)
    return np.cumsum(count) - count, count, points, curves, lengths


def _curve(stroke: list[int], num_points: int, number: int) -> np.ndarray:
    """[number, num_points]: the share of each point in places along the curve through those of a stroke (Catmull-Rom)."""
    is_closed = stroke[0] == stroke[-1]
    path = np.array([stroke[-2] if is_closed else stroke[0], *stroke, stroke[1] if is_closed else stroke[-1]])
    time = (np.arange(number) + 0.5) / number * (len(stroke) - 1)
    begin = time.astype(int)
    t = time - begin
    shares = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
    curve = np.zeros((number, num_points), np.float32)
    for ahead, share in enumerate(shares):
        np.add.at(curve, (np.arange(number), path[begin + ahead]), share / 2)
    return curve
