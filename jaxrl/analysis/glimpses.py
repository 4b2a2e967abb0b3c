"""Figures of where an attention model looked: paths over pictures, right and wrong answers, where all glimpses lie.

    figure = draw_paths(Played(images, labels, paths, patches, answers))
    save_figure(figure, Path("paths.png"), "out")

All are made of arrays of pictures that were played; nothing is trained here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#f2a33a", "#4aa8e0", "#d873c0", "#7cc36a")
"""Of the squares of a glimpse, the smallest first; beyond the last, the last."""
_RIGHT, _WRONG, _EDGE = "#2f9e77", "#d9534f", "#94a3b8"
_WIDTH = 10.0


class Played(NamedTuple):
    """N pictures that were seen through T glimpses each.

    Attributes:
      images: [N, S, S] from 0 to 255.
      labels: [N] int.
      paths: [N, T, 2] where the glimpses were, (x, y) from (-1, -1), the upper left corner, to (1, 1).
      patches: [N, T, g, g, k] what was seen there, from 0 to 1.
      answers: [N] int, after the last glimpse.
    """

    images: np.ndarray
    labels: np.ndarray
    paths: np.ndarray
    patches: np.ndarray
    answers: np.ndarray

    def take(self, index: Any) -> Played:
        """The pictures with these numbers."""
        return Played(*(part[index] for part in self))

    @property
    def is_right(self) -> np.ndarray:
        """[N] bool."""
        return self.labels == self.answers


def pixels(location: np.ndarray, side: int) -> np.ndarray:
    """The corner of pixels (x, y) that a retina looks at: [..., 2] for locations [..., 2] in a picture of that side."""
    return np.round((np.asarray(location, np.float32) + 1.0) * np.float32(0.5 * side))


def squares(location: np.ndarray, side: int, size: int, num_scales: int) -> np.ndarray:
    """[k, 4] left, top, right and bottom in pixels of the k squares of a retina at one location, the first of `size`."""
    widths = size * 2 ** np.arange(num_scales)[:, None]
    corners = pixels(location, side) - widths // 2
    return np.concatenate([corners, corners + widths], axis=1)


def shares(locations: np.ndarray, parts: int) -> np.ndarray:
    """[parts, parts] of locations [N, 2], by where in the picture they are; rows from top to bottom."""
    edges = np.linspace(-1.0, 1.0, parts + 1)
    return np.histogram2d(locations[:, 1], locations[:, 0], bins=(edges, edges))[0] / len(locations)


def composed(patches: np.ndarray) -> np.ndarray:
    """[G, G] as wide as the widest square, each place as sharp as the patches [g, g, k] of one glimpse show it."""
    size, _, num_scales = patches.shape
    widest = size * 2 ** (num_scales - 1)
    whole = np.zeros((widest, widest))
    for scale in reversed(range(num_scales)):
        width = size * 2**scale
        start = (widest - width) // 2
        whole[start : start + width, start : start + width] = np.kron(patches[..., scale], np.ones((2**scale, 2**scale)))
    return whole


def draw_paths(played: Played) -> Figure:
    """A row for each picture: the path over it, and behind it what the retina saw at each step, coarse and fine in one."""
    num, num_glimpses = played.paths.shape[:2]
    figure = _figure(num * (0.25 + 1.7 * _WIDTH / (1.7 + num_glimpses)))
    grid = figure.add_gridspec(num, num_glimpses + 1, width_ratios=[1.7] + [1.0] * num_glimpses)
    for row in range(num):
        axes = figure.add_subplot(grid[row, 0])
        _draw_path(axes, played.take(row))
        _title(axes, played.labels[row], played.answers[row])
        for step, patches in enumerate(played.patches[row]):
            axes = figure.add_subplot(grid[row, step + 1])
            _draw_seen(axes, patches)
            axes.set_title(f"{step + 1}", fontsize="small", color="#64748b", pad=3)
    return figure


def draw_answers(played: Played, rows: int = 3, columns: int = 4) -> Figure:
    """Pictures that were answered right beside others that were not, each with its path; the first of each kind."""
    figure = _figure(0.3 + rows * (0.5 * _WIDTH / columns + 0.2))
    share = played.is_right.mean()
    kinds = (("right", played.is_right, share), ("wrong", ~played.is_right, 1.0 - share))
    parts: Any = figure.subfigures(1, 2, wspace=0.03)
    for part, (name, of_kind, rate) in zip(parts, kinds, strict=True):
        part.suptitle(f"{name}: {int(of_kind.sum()):,} of {len(of_kind):,} ({rate:.1%})", fontsize="medium")
        shown = np.flatnonzero(of_kind)
        for place, axes in enumerate(part.subplots(rows, columns).ravel()):
            if place < len(shown):
                _draw_path(axes, played.take(shown[place]), thin=True)
                _title(axes, played.labels[shown[place]], played.answers[shown[place]])
            else:
                axes.set_axis_off()
    return figure


def draw_locations(played: Played) -> Figure:
    """Where the first glimpse that is chosen lies, the second of a picture, and where the last, over the mean picture."""
    from matplotlib.ticker import PercentFormatter

    side, num_glimpses = played.images.shape[1], played.paths.shape[1]
    figure, parts = _figure(0.42 * _WIDTH), max(1, min(side // 2, 30))
    steps = {"second glimpse, the first that is chosen": min(1, num_glimpses - 1), "last glimpse": num_glimpses - 1}
    for axes, (name, step) in zip(figure.subplots(1, 2), steps.items(), strict=True):
        axes.imshow(played.images.mean(0), cmap="gray_r", extent=(0, side, side, 0), alpha=0.35)
        counts = np.ma.masked_equal(shares(played.paths[:, step], parts), 0.0)
        drawn = axes.imshow(counts, cmap="YlOrRd", vmin=0.0, extent=(0, side, side, 0))
        _bare(axes)
        axes.spines[:].set(visible=True, color=_EDGE)
        axes.set_title(name, fontsize="medium")
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, format=PercentFormatter(1.0))
        bar.outline.set_visible(False)
        bar.set_label("share of pictures")
    return figure


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure((_WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02))


def _draw_path(axes: Any, one: Played, thin: bool = False) -> None:
    """A picture, the path over it and the squares of its last glimpse."""
    from matplotlib.patches import Rectangle

    side, (size, _, num_scales) = one.images.shape[0], one.patches.shape[1:]
    axes.imshow(one.images, cmap="gray", vmin=0, vmax=255, extent=(0, side, side, 0), interpolation="nearest")
    for scale, (left, top, right, bottom) in enumerate(squares(one.paths[-1], side, size, num_scales)):
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=scale_color(scale), lw=0.9))
    x, y = pixels(one.paths, side).T
    axes.plot(x, y, "-", color=COLORS[0], lw=0.9 if thin else 1.2, clip_on=False)
    axes.plot(x[1:], y[1:], "o", color=COLORS[0], ms=2.5 if thin else 3.5, mew=0, clip_on=False)
    axes.plot(x[0], y[0], "o", mfc="none", mec=COLORS[0], ms=4 if thin else 6, mew=1.2, clip_on=False)
    axes.set(xlim=(0, side), ylim=(side, 0))
    _bare(axes)


def _draw_seen(axes: Any, patches: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    size, _, num_scales = patches.shape
    widest = size * 2 ** (num_scales - 1)
    axes.imshow(composed(patches), cmap="gray", vmin=0, vmax=1, extent=(0, widest, widest, 0), interpolation="nearest")
    for scale in range(num_scales):
        start, width = (widest - size * 2**scale) / 2, size * 2**scale
        axes.add_patch(Rectangle((start, start), width, width, fill=False, ec=scale_color(scale), lw=0.9, clip_on=False))
    _bare(axes)


def _title(axes: Any, label: int, answer: int) -> None:
    axes.set_title(f"{label}, answered {answer}", fontsize="small", color=_RIGHT if label == answer else _WRONG, pad=3)


def scale_color(scale: int) -> str:
    """Of the squares of a scale, 0 for the smallest."""
    return COLORS[min(scale, len(COLORS) - 1)]


def _bare(axes: Any) -> None:
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
