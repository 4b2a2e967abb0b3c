"""Pictures of MuJoCo's bodies: by MuJoCo's renderer where it draws without a window, else as sticks, with Pillow.

    frame = Drawing(model).picture(qpos, qvel)          # [HEIGHT, WIDTH, 3] uint8

The only module that imports mujoco. Physics packages of their own have a model of MuJoCo too, whose body they move.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrl.envs.tools.canvas import GROUND, INK, Canvas

WIDTH, HEIGHT = 480, 320

_FLOOR, _TARGET = (214, 221, 228), (60, 150, 90)
_COLORS = ((52, 101, 164), (222, 143, 52), (120, 130, 142))
"""Of bodies in turn, as sticks."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences warnings, MuJoCo's among them, which it prints and writes to a file in the current folder."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mujoco.set_mju_user_warning(before)


class Drawing:
    """Draws one kind of body; keeps what is costly to make from picture to picture.

    Args:
      model: `mujoco.MjModel`.
      headless: False draws sticks, without asking for a renderer.
    """

    def __init__(self, model: Any, headless: bool = True) -> None:
        import mujoco

        self._mujoco, self._model, self._data = mujoco, model, mujoco.MjData(model)
        self._renderer = self._make_renderer() if headless else None

    def picture(self, qpos: Any, qvel: Any, mocap_pos: Any = None, mocap_quat: Any = None) -> np.ndarray:
        """[HEIGHT, WIDTH, 3] uint8 of the body at generalized positions [nq] and velocities [nv], and at those of its bodies
        that no force moves."""
        data = self._data
        data.qpos, data.qvel = np.asarray(qpos), np.asarray(qvel)
        if mocap_pos is not None:
            data.mocap_pos, data.mocap_quat = np.asarray(mocap_pos), np.asarray(mocap_quat)
        self._mujoco.mj_forward(self._model, data)
        return self._sticks() if self._renderer is None else self._rendered()

    # --- MuJoCo's renderer ------------------------------------------------------------------------------------------

    def _make_renderer(self) -> tuple[Any, Any, Any] | None:
        """(OpenGL context, MuJoCo's context, scene), None where there is no OpenGL without a window."""
        mujoco, model = self._mujoco, self._model
        try:
            if sys.platform == "linux":
                from mujoco.egl import GLContext
            else:
                from mujoco.gl_context import GLContext
            opengl = GLContext(WIDTH, HEIGHT)
            opengl.make_current()
            model.vis.global_.offwidth = max(model.vis.global_.offwidth, WIDTH)
            model.vis.global_.offheight = max(model.vis.global_.offheight, HEIGHT)
            context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
            return opengl, context, mujoco.MjvScene(model, maxgeom=10_000)
        except Exception:  # Whatever a machine without OpenGL raises: PyOpenGL has many words for it.
            return None

    def _rendered(self) -> np.ndarray:
        assert self._renderer is not None
        mujoco, (opengl, context, scene) = self._mujoco, self._renderer
        opengl.make_current()
        camera = mujoco.MjvCamera()
        if self._model.ncam:
            camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        else:
            mujoco.mjv_defaultFreeCamera(self._model, camera)
        option, category = mujoco.MjvOption(), mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, option, None, camera, category, scene)
        area, pixels = mujoco.MjrRect(0, 0, WIDTH, HEIGHT), np.empty((HEIGHT, WIDTH, 3), np.uint8)
        mujoco.mjr_render(area, scene, context)
        mujoco.mjr_readPixels(pixels, None, area, context)
        return pixels[::-1].copy()

    # --- sticks -----------------------------------------------------------------------------------------------------

    def _sticks(self) -> np.ndarray:
        """The shapes as lines and discs, seen from the side (x to the right), or from above where all moves in a plane."""
        data, types = self._data, self._mujoco.mjtGeom
        rods, planes = (
            _numbers(types.mjGEOM_CAPSULE, types.mjGEOM_CYLINDER),
            _numbers(types.mjGEOM_PLANE, types.mjGEOM_HFIELD),
        )
        across, up = (0, 1) if self._is_flat() else (0, 2)
        scale = WIDTH / (2.6 * self._model.stat.extent)
        center = self._model.stat.center.copy()
        center[across] = data.subtree_com[0][across]

        def place(point: np.ndarray) -> tuple[float, float]:
            return WIDTH / 2 + scale * (point[across] - center[across]), HEIGHT / 2 - scale * (point[up] - center[up])

        canvas = Canvas(WIDTH, HEIGHT, GROUND)
        if up == 2:
            floor = place(np.zeros(3))[1]
            canvas.box(0, min(floor, HEIGHT), WIDTH, max(HEIGHT - floor, 0), _FLOOR)
        for geom in range(self._model.ngeom):
            kind, size, body = int(self._model.geom_type[geom]), self._model.geom_size[geom], self._model.geom_bodyid[geom]
            if kind in planes:
                continue
            color = _TARGET if self._model.body_mocapid[body] >= 0 else INK if body == 0 else _COLORS[body % len(_COLORS)]
            at, turned = data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3)
            if kind in _numbers(types.mjGEOM_BOX):
                corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * size
                canvas.polygon(_hull([place(at + turned @ corner) for corner in corners]), color)
                continue
            half = size[1] * turned[:, 2] if kind in rods else np.zeros(3)
            is_round = kind in rods or kind in _numbers(types.mjGEOM_SPHERE)
            radius = max(scale * (size[0] if is_round else self._model.geom_rbound[geom]), 1.5)
            ends = [place(at - half), place(at + half)]
            canvas.line(ends, color, 2 * radius)
            for end in ends:
                canvas.disc(end, radius, color)
        return canvas.array()

    def _is_flat(self) -> bool:
        """Whether every joint turns about the vertical or slides along the floor."""
        joints, steep = self._mujoco.mjtJoint, np.abs(self._data.xaxis[:, 2])
        kinds = self._model.jnt_type
        (turn,), (slide,) = _numbers(joints.mjJNT_HINGE), _numbers(joints.mjJNT_SLIDE)
        turns, slides = kinds == turn, kinds == slide
        return bool(len(kinds) and np.all((turns & (steep > 0.99)) | (slides & (steep < 0.01))))


def _numbers(*names: Any) -> tuple[int, ...]:
    """MuJoCo's enumerations as the numbers that its arrays hold, to which they do not compare equal."""
    return tuple(int(name) for name in names)


def _hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of the convex hull, in order (Andrew's monotone chain)."""
    ordered = sorted(set(points))

    def half(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in points:
            while len(kept) > 1 and _turn(kept[-2], kept[-1], (x, y)) <= 0:
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return half(ordered) + half(ordered[::-1]) if len(ordered) > 2 else ordered


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
