"""Brax's robots behind jaxrl's contract; the only module that imports brax.

    env = make("ant", num_envs=2048, backend="spring")

    ant, halfcheetah, hopper, walker2d, humanoid, humanoidstandup, reacher, pusher, swimmer, inverted_pendulum,
    inverted_double_pendulum

Each runs on the physics that `backend` names: generalized, spring, positional, or mjx, which is MuJoCo's own in JAX. Weights of
rewards and limits of health are traced, so they can be swept in one program. How an episode begins and ends is said in
`jaxrl.envs.tools.physics`; what Brax calls `time_out` is not read, since an inverted pendulum sets it wherever it falls.

Freeman et al. 2021, "Brax - A Differentiable Physics Engine for Large Scale Rigid Body Simulation".
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.tools.physics import TIME_LIMIT, Body, physics_env
from jaxrl.envs.tools.physics_pictures import Drawing, quiet
from jaxrl.errors import UsageError, one_line, unknown
from jaxrl.fields import check_count
from jaxrl.types import Array, Env, PyTree

BACKENDS = ("generalized", "spring", "positional", "mjx")
"""Engines of physics, each with the same robots."""

_COMMON = ("backend", "n_frames", "time_limit", "action_repeat")
_NOT_THERE = ("use_contact_forces",)
"""Arguments of Brax's robots that Brax has not implemented."""


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B robots of Brax.

    Args:
      name: as Brax's registry has it, such as `ant`.
      options: `backend`, one of `BACKENDS`, generalized if it is not given; `n_frames`, steps of the physics that a step of the
        environment takes; `time_limit`, steps after which an episode is truncated, 1000 if it is not given; `action_repeat`,
        steps that an action lasts; and the arguments of the robot: weights and limits, such as `ctrl_cost_weight` (traced
        numbers, or pairs of such), and flags, such as `terminate_when_unhealthy` (static).

    Raises:
      UsageError: an option that the robot does not have, a bad value, a backend that it does not run on, or Brax is missing.
    """
    time_limit, action_repeat = options.pop("time_limit", TIME_LIMIT), options.pop("action_repeat", 1)
    robot = _robot(name, options)
    params = _numbers(robot, options)

    def bound(params: PyTree) -> Any:
        """The robot with numbers that may be traced."""
        if not params:
            return robot
        one = copy.copy(robot)
        for option, value in params.items():
            setattr(one, f"_{option}", value)
        return one

    body = Body(
        lambda key, params: bound(params).reset(key),
        lambda params, state, action: bound(params).step(state, action),
        robot.action_size,
    )
    picture = _picture(robot)
    static = ("brax", name, repr(sorted((option, value) for option, value in options.items() if option not in params)))
    return physics_env(
        body, params, num_envs, time_limit=time_limit, action_repeat=action_repeat, render=picture, static=static
    )


def viewer(name: str, options: dict[str, Any], states: Sequence[Any]) -> str:
    """A page of HTML that plays an episode, to be turned and stopped in a browser, which fetches Brax's viewer from the web.

    Args:
      options: as `make` takes them.
      states: those of Brax, of one environment, from the first to the last.
    """
    robot = _robot(name, {option: value for option, value in options.items() if option not in ("time_limit", "action_repeat")})
    from brax.io import html

    sys = robot.sys.tree_replace({"opt.timestep": robot.dt * options.get("action_repeat", 1)})
    return str(html.render(sys, [jax.device_get(state.pipeline_state) for state in states]))


def _robot(name: str, options: dict[str, Any]) -> Any:
    """Brax's environment without wrappers."""
    factory = _import_brax(name)._envs[name]
    defaults = _defaults(factory)
    known = [*_COMMON, *defaults]
    for option, value in options.items():
        if option not in known:
            raise UsageError(unknown(f"option of brax/{name}", option, known))
        if option in defaults:
            _check_option(option, value, defaults[option])
    backend = options.get("backend", "generalized")
    if backend not in BACKENDS:
        raise UsageError(f"backend={backend!r} is unknown; choose one of {', '.join(BACKENDS)}")
    if "n_frames" in options:
        check_count("n_frames", options["n_frames"])
    try:
        with quiet():
            return factory(**options)
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"env='brax/{name}' does not run on backend={backend!r}: {one_line(error)}; choose another") from None


def _defaults(factory: Any) -> dict[str, Any]:
    """The arguments of a robot with their defaults, but for those that all have."""
    parameters = inspect.signature(factory).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.default is not p.empty and p.name not in _COMMON and p.name not in _NOT_THERE and _is_plain(p.default)
    }


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool) or _is_numeric(value)


def _is_numeric(value: Any) -> bool:
    """True of a number, or of a tuple of numbers."""
    parts = value if isinstance(value, (tuple, list)) else (value,)
    return all(isinstance(part, (int, float, np.number)) and not isinstance(part, bool) for part in parts)


def _check_option(option: str, value: Any, default: Any) -> None:
    """Refuses a value of another kind than the default's."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UsageError(f"{option}={value!r} is neither True nor False; give one of them")
        return
    with contextlib.suppress(TypeError, ValueError):
        if np.asarray(value).dtype.kind in "iuf" and np.shape(value) == np.shape(default) and not np.isnan(value).any():
            return
    raise UsageError(f"{option}={value!r} does not fit; give a value like {default!r}")


def _numbers(robot: Any, options: dict[str, Any]) -> dict[str, Array]:
    """The robot's weights and limits, by the names of its arguments, as arrays to be traced."""
    values = {option: options.get(option, default) for option, default in _defaults(type(robot)).items()}
    kept = {option: value for option, value in values.items() if _is_numeric(value) and hasattr(robot, f"_{option}")}
    return {option: jnp.asarray(value, jnp.float32) for option, value in kept.items()}


def _picture(robot: Any) -> Any:
    """The renderer of a robot, None where Brax has no body of it."""
    if not hasattr(robot, "sys"):
        return None

    @functools.cache
    def drawing() -> Any:
        return Drawing(robot.sys.mj_model)

    def render(params: PyTree, state: Any) -> np.ndarray:
        picture: np.ndarray = drawing().picture(state.pipeline_state.q, state.pipeline_state.qd)
        return picture

    return render


def _import_brax(name: str) -> Any:
    try:
        # Modules of it make arrays when they are imported, perhaps while a function of ours is traced. It says whenever a robot
        # is made that MuJoCo Playground is its successor.
        with jax.ensure_compile_time_eval(), quiet():
            import brax.envs
    except ImportError:
        raise UsageError(f"env='brax/{name}' needs the package brax; pip install 'jaxrl[brax]'") from None
    return brax.envs
