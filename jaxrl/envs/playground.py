"""MuJoCo Playground behind jaxrl's contract; the only module that imports mujoco_playground.

    env = make("CartpoleSwingup", num_envs=2048)

The tasks of the DeepMind Control Suite run as they are installed. Those of locomotion and manipulation need the robots of
MuJoCo Menagerie, which the package would clone from the web when it is first asked for one: here they are refused until they
are where it looks for them. How an episode begins and ends is said in `jaxrl.envs.tools.physics`.

The physics are MuJoCo's in JAX (`impl=jax`), or on an NVIDIA GPU those of MuJoCo Warp (`impl=warp`, the package's own default).

Zakka et al. 2025, "MuJoCo Playground".
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxrl.envs.tools.physics import TIME_LIMIT, Body, physics_env
from jaxrl.envs.tools.physics_pictures import Drawing, quiet
from jaxrl.errors import UsageError, one_line, unknown
from jaxrl.types import Env, PyTree

IMPLS = ("jax", "warp")

_MANAGED = ("episode_length", "vision")
"""What the package's config holds that is set another way here, or not at all."""


def make(name: str, num_envs: int, /, **options: Any) -> Env:
    """B environments of MuJoCo Playground.

    Args:
      name: as its registry has it, such as `CartpoleBalance` or `Go1JoystickFlatTerrain`.
      options: `impl`, one of `IMPLS`; `time_limit`, steps after which an episode is truncated, those of the task's config if it
        is not given; `action_repeat`, steps that an action lasts; and any field of the task's config, by its path:
        `ctrl_dt=0.02`, `reward_config.scales.torques=0`. All are part of the compiled program.

    Raises:
      UsageError: an option that the task does not have, a bad value, a package or robots that are missing, or `impl=warp`
        without an NVIDIA GPU.
    """
    playground = _import_playground(name)
    _check_assets(playground, name)
    config = playground.registry.get_default_config(name)
    time_limit = options.pop("time_limit", int(config.get("episode_length", TIME_LIMIT)))
    action_repeat = options.pop("action_repeat", 1)
    task = _task(playground, name, config, options)
    body = Body(lambda key, params: task.reset(key), lambda params, state, action: task.step(state, action), task.action_size)
    static = ("playground", name, repr(sorted(options.items())))
    return physics_env(
        body, (), num_envs, time_limit=time_limit, action_repeat=action_repeat, render=_picture(task), static=static
    )


def _task(playground: Any, name: str, config: Any, options: dict[str, Any]) -> Any:
    """The package's environment without wrappers."""
    fields = _flat(config.to_dict())
    known = [field for field in fields if field.split(".")[0] not in _MANAGED and not field.startswith("vision_config")]
    for option, value in options.items():
        if option not in known:
            raise UsageError(unknown(f"option of playground/{name}", option, [*known, "time_limit", "action_repeat"]))
        _check_option(option, value, fields[option])
    impl = options.get("impl", "jax")
    if impl not in IMPLS:
        raise UsageError(f"impl={impl!r} is unknown; choose one of {', '.join(IMPLS)}")
    if impl == "warp" and jax.default_backend() != "gpu":
        raise UsageError("impl='warp' needs an NVIDIA GPU, which JAX does not have here; give impl=jax")
    overrides = {**options, "impl": impl} if "impl" in fields else options
    try:
        with _quiet():
            return playground.registry.load(name, config=config, config_overrides=overrides)
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "none"
        raise UsageError(f"env='playground/{name}' cannot be made (options: {given}): {one_line(error)[:200]}") from None


def _flat(config: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The values of a nested config by their paths, `reward_config.scales.torques`."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def _check_option(option: str, value: Any, default: Any) -> None:
    """Refuses a value of another kind than the default's, a whole number for a float excepted."""
    like = (int, float) if isinstance(default, float) else type(default)
    is_fit = default is None or (isinstance(value, like) and isinstance(value, bool) == isinstance(default, bool))
    if not is_fit or (isinstance(value, float) and not np.isfinite(value)):
        raise UsageError(f"{option}={value!r} does not fit; give a value like {default!r}")
    if option in ("ctrl_dt", "sim_dt") and value <= 0:
        raise UsageError(f"{option}={value!r} is out of range; give seconds above 0")


def _check_assets(playground: Any, name: str) -> None:
    """Refuses a task whose robot is not installed, before the package would fetch it."""
    if name in playground.dm_control_suite.ALL_ENVS:
        return
    from mujoco_playground._src import mjx_env

    if not mjx_env.MENAGERIE_PATH.exists():
        raise UsageError(
            f"env='playground/{name}' needs the robots of MuJoCo Menagerie, which are not there and are not downloaded; clone "
            f"github.com/google-deepmind/mujoco_menagerie, {mjx_env.MENAGERIE_COMMIT_SHA[:10]}, to {mjx_env.MENAGERIE_PATH}"
        )


def _picture(task: Any) -> Any:
    @functools.cache
    def drawing() -> Any:
        return Drawing(task.mj_model)

    def render(params: PyTree, state: Any) -> np.ndarray:
        data = state.data
        picture: np.ndarray = drawing().picture(data.qpos, data.qvel, data.mocap_pos, data.mocap_quat)
        return picture

    return render


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the package, which prints what it finds when it is imported."""
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        yield


def _import_playground(name: str) -> Any:
    try:
        # Modules of it make arrays when they are imported, perhaps while a function of ours is traced.
        with jax.ensure_compile_time_eval(), _quiet():
            import mujoco_playground
    except ImportError:
        raise UsageError(f"env='playground/{name}' needs the package playground; pip install 'jaxrl[playground]'") from None
    return mujoco_playground
