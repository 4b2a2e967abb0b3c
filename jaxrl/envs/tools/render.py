"""Pictures of the classic-control environments and GIFs of them, drawn with Pillow: no window, no pygame.

    frame = RENDERERS["CartPole-v1"](params, state)          # gymnax params and the gymnax state of one environment
    save_gif("cartpole.gif", frames, fps=30)

A renderer is a pure function of params and state, so a picture shows the physics that was overridden (a longer pole, a nearer
goal). It draws at twice the size and scales down, which smooths the edges. A new one is a function and a line in `RENDERERS`.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jaxrl.records.files import whole

WIDTH, HEIGHT = 600, 400
_SMOOTH = 2

_SKY, _GROUND, _LINE = (247, 248, 250), (214, 221, 228), (120, 130, 142)
_DARK, _BODY, _ACCENT, _GOAL = (45, 55, 68), (52, 101, 164), (222, 143, 52), (60, 150, 90)

Point = tuple[float, float]
Color = tuple[int, int, int]


class _Canvas:
    """A picture with world coordinates: y points up, `center` is the world point in the middle, `span` the world's width."""

    def __init__(self, center: Point, span: float) -> None:
        self.image = Image.new("RGB", (WIDTH * _SMOOTH, HEIGHT * _SMOOTH), _SKY)
        self.draw = ImageDraw.Draw(self.image)
        self.scale = WIDTH * _SMOOTH / span
        self.left, self.top = center[0] - span / 2, center[1] + span / 2 * HEIGHT / WIDTH
        self.right, self.bottom = center[0] + span / 2, center[1] - span / 2 * HEIGHT / WIDTH

    def pixel(self, point: Point) -> Point:
        return (point[0] - self.left) * self.scale, (self.top - point[1]) * self.scale

    def line(self, points: list[Point], color: Color, width: float) -> None:
        self.draw.line([self.pixel(p) for p in points], fill=color, width=round(width * _SMOOTH), joint="curve")

    def rod(self, start: Point, end: Point, color: Color, width: float) -> None:
        """A line of `width` pixels with round ends."""
        self.line([start, end], color, width)
        for point in (start, end):
            self.dot(point, width / 2, color)

    def dot(self, point: Point, radius: float, color: Color) -> None:
        """A disc of `radius` pixels."""
        x, y = self.pixel(point)
        r = radius * _SMOOTH
        self.draw.ellipse([x - r, y - r, x + r, y + r], fill=color)

    def polygon(self, points: list[Point], color: Color) -> None:
        self.draw.polygon([self.pixel(p) for p in points], fill=color)

    def array(self) -> np.ndarray:
        """[HEIGHT, WIDTH, 3] uint8."""
        return np.asarray(self.image.resize((WIDTH, HEIGHT), Image.Resampling.BOX), np.uint8)


def cartpole(params: Any, state: Any) -> np.ndarray:
    """The cart on its track between the two limits, the pole at its angle (clockwise is positive).

    Returns:
      [HEIGHT, WIDTH, 3] uint8.
    """
    x, theta, limit = float(state.x), float(state.theta), float(params.x_threshold)
    length = 2.0 * float(params.length)
    canvas = _Canvas(center=(0.0, 0.55 * limit / 2.4), span=2.4 * limit)
    unit = limit / 2.4
    canvas.polygon([(canvas.left, 0), (canvas.right, 0), (canvas.right, canvas.bottom), (canvas.left, canvas.bottom)], _GROUND)
    canvas.line([(canvas.left, 0.0), (canvas.right, 0.0)], _LINE, 2)
    for end in (-limit, limit):
        canvas.line([(end, 0.0), (end, 0.25 * unit)], _LINE, 3)
    half, low, high = 0.28 * unit, 0.08 * unit, 0.34 * unit
    canvas.polygon([(x - half, low), (x + half, low), (x + half, high), (x - half, high)], _DARK)
    for wheel in (x - half / 2, x + half / 2):
        canvas.dot((wheel, low), 8, _LINE)
    pivot = (x, high - 0.06 * unit)
    canvas.rod(pivot, (pivot[0] + length * math.sin(theta), pivot[1] + length * math.cos(theta)), _ACCENT, 10)
    canvas.dot(pivot, 4, _SKY)
    return canvas.array()


def acrobot(params: Any, state: Any) -> np.ndarray:
    """Two links that hang from a fixed joint, and the height that the free end must pass.

    Returns:
      [HEIGHT, WIDTH, 3] uint8.
    """
    first, second = float(state.joint_angle1), float(state.joint_angle1) + float(state.joint_angle2)
    length1, length2 = float(params.link_length_1), float(params.link_length_2)
    reach = length1 + length2
    canvas = _Canvas(center=(0.0, 0.0), span=2.3 * reach * WIDTH / HEIGHT)
    canvas.line([(canvas.left, 1.0), (canvas.right, 1.0)], _GOAL, 2)
    elbow = (length1 * math.sin(first), -length1 * math.cos(first))
    hand = (elbow[0] + length2 * math.sin(second), elbow[1] - length2 * math.cos(second))
    canvas.rod((0.0, 0.0), elbow, _BODY, 14)
    canvas.rod(elbow, hand, _ACCENT, 14)
    for joint in ((0.0, 0.0), elbow):
        canvas.dot(joint, 10, _DARK)
        canvas.dot(joint, 4, _SKY)
    return canvas.array()


def mountain_car(params: Any, state: Any) -> np.ndarray:
    """The car on its hill, y = 0.45 sin(3 x) + 0.55, and the flag at the goal.

    Returns:
      [HEIGHT, WIDTH, 3] uint8.
    """
    position, goal = float(state.position), float(params.goal_position)
    low, high = float(params.min_position), float(params.max_position)
    canvas = _Canvas(center=((low + high) / 2, 0.62), span=1.04 * (high - low))
    places = np.linspace(canvas.left, canvas.right, 200).tolist()
    hill = [(x, _hill(x)) for x in places]
    canvas.polygon([*hill, (canvas.right, canvas.bottom), (canvas.left, canvas.bottom)], _GROUND)
    canvas.line(hill, _LINE, 2)

    top = (goal, _hill(goal) + 0.18)
    canvas.line([(goal, _hill(goal)), top], _DARK, 3)
    canvas.polygon([top, (goal - 0.09, top[1] - 0.03), (goal, top[1] - 0.06)], _GOAL)

    slope = math.atan(1.35 * math.cos(3 * position))

    def on_car(along: float, above: float) -> Point:
        """World point of car coordinates: along the slope and away from it."""
        c, s = math.cos(slope), math.sin(slope)
        return position + along * c - above * s, _hill(position) + along * s + above * c

    canvas.polygon([on_car(-0.07, 0.03), on_car(0.07, 0.03), on_car(0.07, 0.065), on_car(-0.07, 0.065)], _BODY)
    canvas.polygon([on_car(-0.04, 0.065), on_car(0.04, 0.065), on_car(0.025, 0.095), on_car(-0.03, 0.095)], _BODY)
    for along in (-0.04, 0.04):
        canvas.dot(on_car(along, 0.024), 8, _DARK)
        canvas.dot(on_car(along, 0.024), 3, _SKY)
    return canvas.array()


def pendulum(params: Any, state: Any) -> np.ndarray:
    """The pendulum at its angle (0 is upright, counter-clockwise is positive) and an arc for the last torque.

    Returns:
      [HEIGHT, WIDTH, 3] uint8.
    """
    theta, length = float(state.theta), float(params.l)
    share = max(-1.0, min(1.0, float(state.last_u) / float(params.max_torque)))
    canvas = _Canvas(center=(0.0, 0.0), span=2.5 * length * WIDTH / HEIGHT)
    tip = (-length * math.sin(theta), length * math.cos(theta))
    canvas.rod((0.0, 0.0), tip, _ACCENT, 22)
    canvas.dot((0.0, 0.0), 6, _DARK)
    if abs(share) > 0.02:
        _torque_arc(canvas, 0.32 * length, share)
    return canvas.array()


def _torque_arc(canvas: _Canvas, radius: float, share: float) -> None:
    """An arrow around the origin, from the bottom, counter-clockwise for `share` > 0; share 1 is three quarters of a turn."""
    angles = np.linspace(-math.pi / 2, -math.pi / 2 + share * 1.5 * math.pi, 40).tolist()
    canvas.line([(radius * math.cos(a), radius * math.sin(a)) for a in angles], _BODY, 4)
    end, size = angles[-1], 0.3 * radius
    ahead = end + math.copysign(size / radius, share)
    inner, outer = radius - size / 2, radius + size / 2
    head = [(inner, end), (outer, end), (radius, ahead)]
    canvas.polygon([(r * math.cos(a), r * math.sin(a)) for r, a in head], _BODY)


def _hill(x: float) -> float:
    return 0.45 * math.sin(3 * x) + 0.55


def save_gif(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float = 30.0, hold: float = 0.0) -> None:
    """Writes an endless GIF.

    Args:
      frames: pictures [height, width, 3] uint8, all of one size, taken one at a time.
      fps: pictures a second; a GIF counts in hundredths of a second, so 30 becomes 33, and 50 is the most that viewers show.
      hold: seconds that the last picture stays beyond its time.

    Raises:
      ValueError: no frames, or an `fps` that is not positive.
      DiskError: it cannot be written; a file of that name is as it was.
    """
    if not fps > 0:
        raise ValueError(f"fps={fps} is out of range; give a number above 0")
    pictures = (Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames)
    first = next(pictures, None)
    if first is None:
        raise ValueError("frames=[] holds no picture; give at least one")
    # One palette for all: a palette of its own for each frame makes flat colours flicker.
    first = first.quantize(colors=128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    milliseconds = max(20, 10 * round(100 / fps))

    def rest() -> Iterator[Image.Image]:
        last = first
        for picture in pictures:
            last = picture.quantize(palette=first, dither=Image.Dither.NONE)
            yield last
        # Pictures that are equal become one that stays as long as all of them.
        yield from itertools.repeat(last, round(1000 * hold / milliseconds))

    with whole(Path(path)) as partial:
        first.save(partial, format="GIF", save_all=True, append_images=rest(), duration=milliseconds, loop=0)


RENDERERS: dict[str, Callable[[Any, Any], np.ndarray]] = {
    "CartPole-v1": cartpole,
    "Acrobot-v1": acrobot,
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": mountain_car,
    "Pendulum-v1": pendulum,
}
"""Renderers by gymnax id: (params, state of one environment) -> [height, width, 3] uint8."""
