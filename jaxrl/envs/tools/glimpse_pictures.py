"""Pictures of glimpses, drawn with Pillow: where a retina has looked, and beside it what it sees now.

frame = draw_glimpse(image, path, patches, num_glimpses=6, label=7)      # [height, width, 3] uint8
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from PIL import Image, ImageColor, ImageDraw

from jaxrl.analysis.glimpses import pixels, scale_color, squares
from jaxrl.envs.tools.canvas import INK, SMOOTH, Canvas, Color
from jaxrl.envs.tools.retina import retina

_HEIGHT, _GAP, _LINE = 400, 14, 26
_BEYOND, _PALE = (70, 78, 90), (150, 128, 96)

_retina = jax.jit(retina, static_argnums=(2, 3))


def render(size: int, num_scales: int, params: Any, state: Any, index: int) -> np.ndarray:
    """The present glimpse of environment `index` of `jaxrl.envs.glimpse`; of samples side by side the first, and all paths.

    Returns:
      [height, width, 3] uint8.
    """
    image, path = state.picture[index], np.asarray(state.path[index])
    seen = path[: int(state.time) + 1]
    patches = np.asarray(_retina(image, seen[-1, 0], size, num_scales))
    return draw_glimpse(np.asarray(image), seen, patches, len(path), int(state.label[index]))


def draw_glimpse(
    image: np.ndarray, path: np.ndarray, patches: np.ndarray, num_glimpses: int, label: int, answer: int | None = None
) -> np.ndarray:
    """A picture enlarged, the path of glimpses so far and the squares of the last one; beside it what the retina saw there.

    Args:
      image: [S, S] uint8.
      path: [t, M, 2] where the t glimpses so far have been, on M paths of which the first is followed.
      patches: [g, g, k] what the last of them saw.
      num_glimpses: T, of the whole episode.
      label: what the picture shows.
      answer: what was said that it shows, None before anything was.

    Returns:
      [height, width, 3] uint8, the same height and width for every glimpse of an episode.
    """
    side, (size, _, num_scales) = len(image), patches.shape
    margin = min(size // 2, side // 4)  # The smallest square is shown whole wherever it is, wider ones may be cut.
    zoom = max(1, round(_HEIGHT / (side + 2 * margin)))
    wide = zoom * (side + 2 * margin)
    tall = (wide + _GAP) // num_scales - _GAP - _LINE
    patch = max(size, min(wide // 2, tall) // size * size)
    canvas = Canvas(wide + patch + 3 * _GAP, wide + 2 * _GAP + _LINE)
    canvas.text((_GAP, _GAP), f"glimpse {len(path)} of {num_glimpses}", INK)
    told, place = "" if answer is None else f", answered {answer}", (_GAP + wide, _GAP)
    # A GIF has the colours of its first picture, where nothing is answered yet.
    canvas.text(place, f"shows {label}{told}", INK, "rt", color_of(0) if told and answer != label else None)
    canvas.paste(_field(image, path, squares(path[-1, 0], side, size, num_scales), margin, zoom), (_GAP, _GAP + _LINE))
    for scale in range(num_scales):
        corner = (wide + 2 * _GAP, _GAP + scale * (patch + _LINE + _GAP))
        width = size * 2**scale
        canvas.text(corner, f"{width} x {width}", INK)
        canvas.paste(_enlarged(255.0 * patches[..., scale], patch * SMOOTH, color_of(scale)), (corner[0], corner[1] + _LINE))
    return canvas.array()


def _field(image: np.ndarray, path: np.ndarray, boxes: np.ndarray, margin: int, zoom: int) -> Image.Image:
    """The picture with what is drawn over it, `margin` pixels of what is beyond it around."""
    side, scale = len(image), zoom * SMOOTH
    field = Image.new("RGB", ((side + 2 * margin) * scale,) * 2, _BEYOND)
    field.paste(Image.fromarray(image).resize((side * scale,) * 2, Image.Resampling.NEAREST), (margin * scale,) * 2)
    draw, line = ImageDraw.Draw(field), 2 * SMOOTH
    places = (pixels(path, side) + margin) * scale
    for number, box in reversed(list(enumerate((boxes + margin) * scale))):
        draw.rectangle([*box[:2], *(box[2:] - 1)], outline=color_of(number), width=line)
    for sample in reversed(range(path.shape[1])):
        points, color = [tuple(place) for place in places[:, sample].tolist()], color_of(0) if sample == 0 else _PALE
        draw.line(points, fill=color, width=line, joint="curve")
        for number, point in enumerate(points):
            _dot(draw, point, color, is_open=number == 0)
    return field


def _dot(draw: ImageDraw.ImageDraw, point: tuple[float, float], color: Color, is_open: bool) -> None:
    radius = (6 if is_open else 4) * SMOOTH
    draw.circle(point, radius, fill=None if is_open else color, outline=color, width=2 * SMOOTH)


def _enlarged(brightness: np.ndarray, width: int, color: Color) -> Image.Image:
    drawn = (
        Image.fromarray(np.round(brightness).astype(np.uint8)).convert("RGB").resize((width, width), Image.Resampling.NEAREST)
    )
    ImageDraw.Draw(drawn).rectangle([0, 0, width - 1, width - 1], outline=color, width=2 * SMOOTH)
    return drawn


def color_of(scale: int) -> Color:
    """`scale_color` as Pillow takes it."""
    return ImageColor.getrgb(scale_color(scale))
