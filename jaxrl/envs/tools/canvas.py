"""What pictures are drawn on with Pillow: larger than they become, which smooths the edges."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SMOOTH = 2
"""Points that are drawn for one, along each axis, unless a canvas is told otherwise."""
GROUND, INK = (247, 248, 250), (45, 55, 68)

Color = tuple[int, ...]


class Canvas:
    """A picture of `width` x `height` final points, in which its methods count; `draw` counts in the points that are drawn."""

    def __init__(self, width: int, height: int, ground: Color = GROUND, smooth: int = SMOOTH) -> None:
        self.size, self.smooth = (width, height), smooth
        self.image = Image.new("RGB", (width * smooth, height * smooth), ground)
        self.draw = ImageDraw.Draw(self.image)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        color: Color = INK,
        anchor: str = "lt",
        ground: Color | None = None,
        size: float = 16,
        edge: Color | None = None,
        figures: bool = False,
        turned: bool = False,
    ) -> None:
        """Writes.

        Args:
          anchor: which corner of the text stands there, as Pillow names them.
          ground: of a box behind the text.
          size: of the letters in points.
          edge: of a line around each letter.
          figures: from a font that has those of chess.
          turned: upside down; `at` is the middle then, and there is neither ground nor edge.
        """
        where, font = (at[0] * self.smooth, at[1] * self.smooth), _font(size * self.smooth, figures)
        if turned:
            self._upside_down(where, text, color, font)
            return
        if ground is not None:
            left, top, right, bottom = self.draw.textbbox(where, text, font=font, anchor=anchor)
            gap = 4 * self.smooth
            self.draw.rectangle([left - gap, top - gap, right + gap, bottom + gap], fill=ground)
        self.draw.text(where, text, color, font, anchor, stroke_width=round(size / 16) if edge else 0, stroke_fill=edge)

    def _upside_down(self, at: tuple[float, float], text: str, color: Color, font: Any) -> None:
        side = round(2 * font.getlength(text)) + 2 * SMOOTH
        mask = Image.new("L", (side, side))
        ImageDraw.Draw(mask).text((side / 2, side / 2), text, 255, font, "mm")
        self.image.paste(color, (round(at[0] - side / 2), round(at[1] - side / 2)), mask.rotate(180))

    def line(self, points: list[tuple[float, float]], color: Color, width: float = 1.0) -> None:
        scaled = [(x * self.smooth, y * self.smooth) for x, y in points]
        self.draw.line(scaled, fill=color, width=round(width * self.smooth), joint="curve")

    def box(self, left: float, top: float, width: float, height: float, color: Color) -> None:
        corners = (left, top, left + width, top + height)
        self.draw.rectangle([*(self.smooth * x for x in corners[:2]), *(self.smooth * x - 1 for x in corners[2:])], fill=color)

    def polygon(
        self, points: list[tuple[float, float]], color: Color | None, edge: Color | None = None, width: float = 1.0
    ) -> None:
        scaled = [(x * self.smooth, y * self.smooth) for x, y in points]
        self.draw.polygon(scaled, fill=color, outline=edge, width=round(width * self.smooth))

    def disc(
        self, center: tuple[float, float], radius: float, color: Color | None, edge: Color | None = None, width: float = 1.0
    ) -> None:
        middle = (center[0] * self.smooth, center[1] * self.smooth)
        self.draw.circle(middle, radius * self.smooth, fill=color, outline=edge, width=round(width * self.smooth))

    def paste(self, image: Image.Image, at: tuple[int, int]) -> None:
        self.image.paste(image, (at[0] * self.smooth, at[1] * self.smooth))

    def array(self) -> np.ndarray:
        """[height, width, 3] uint8."""
        return np.asarray(self.image.resize(self.size, Image.Resampling.BOX), np.uint8)


@functools.cache
def _font(size: float, figures: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if not figures:
        return ImageFont.load_default(size)
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
