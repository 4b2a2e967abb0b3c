"""envpool environments behind jaxrl's contract: Atari, MuJoCo, dm_control and more, stepped by its threads; only this module
imports envpool.

    env = make("Pong-v5", num_envs=8)                          # or jaxrl.envs.make("envpool/Pong-v5", 8)
    obs = env.reset(seed=0)                                    # [8, 4, 84, 84] uint8
    timestep = env.step(action)                                # a TimeStep with NumPy leaves

envpool itself resets an ended environment in the next call, which ignores the action and returns a reward of 0: a row that is
no transition. Here the ended environments, and only those, are reset before `step` returns, so `obs` is the reset observation,
`next_obs` the true successor, and every row a transition. Where the pole falls in the very step in which the time limit
strikes, envpool says truncated and the contract terminated: Atari tells the two apart, and in classic control, Box2D and
Gymnasium's MuJoCo tasks the limit is therefore kept here, not in envpool. Of the other families envpool's word is taken.

Atari follows Mnih et al. (2015): each action lasts `frame_skip=4` frames, the last two of them are maximised, turned grey and
scaled to 84x84, `stack_num=4` such pictures are an observation; an episode begins with up to `noop_max=30` no-ops, and with
FIRE where a game waits for it (`use_fire_reset`, not in the paper); actions are the minimal set (`full_action_space=False`)
and never repeated by chance (`repeat_action_probability=0.0`; Machado et al. 2018 advise 0.25 and the full set); an episode is
truncated after `max_episode_steps=27000` decisions, 30 minutes of play. `reward` is the sign of the game's
(`reward_clip=True`), whereas `info["episode_return"]` is always the game's own score, so training and evaluation report what
papers do. With `episodic_life=True` a lost life is a termination from which play goes on, while score and length go on over
the lives of a game; `info["game_over"]` tells the last life, and records, scores and pictures are of whole games.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import jax
import numpy as np

from jaxrl.envs.tools import host
from jaxrl.errors import EnvError, UsageError, unknown
from jaxrl.types import ArraySpec, HostEnv, PyTree, Spec, TimeStep

_MANAGED = ("num_envs", "batch_size", "seed", "env_seed", "max_num_players", "base_path", "gym_reset_return_info")
"""Options of envpool that this module sets itself."""

_NAMED = ("task", "task_name", "xml_file")
"""Options that the name of the environment sets."""

_COUNTS = ("num_threads", "max_episode_steps", "stack_num", "frame_stack", "frame_skip", "noop_max", "img_height", "img_width")
"""Options that end the process, or make no sense, below 1."""

_PREPROCESSING = (
    "frame_skip",
    "stack_num",
    "gray_scale",
    "img_height",
    "img_width",
    "noop_max",
    "use_fire_reset",
    "episodic_life",
    "repeat_action_probability",
    "full_action_space",
    "reward_clip",
    "max_episode_steps",
)
"""Options of Atari that a published score depends on."""

_NO_LIMIT = 2**31 - 1

_LIMIT_KEPT_HERE = ("envpool.classic_control", "envpool.box2d", "envpool.mujoco.gym")
"""Families whose `max_episode_steps` does nothing but end the episode."""

_CHANNELS_FIRST = ("envpool.atari", "envpool.vizdoom", "envpool.highway")
"""Families whose pictures are (channels, height, width)."""

_DRAW_IN_MEMORY = ("envpool.atari", "envpool.classic_control")
"""Families that need no OpenGL to draw a picture."""


def make(name: str, num_envs: int, /, **options: Any) -> EnvpoolEnv:
    """B = `num_envs` copies of an environment of envpool's registry.

    Args:
      name: envpool's id, such as `Pong-v5`, `HalfCheetah-v4` or `CheetahRun-v1`.
      options: envpool's own, such as `max_episode_steps`, `num_threads` (default: B, at most one for each core) and for Atari
        those of this module's first paragraphs; `render_mode="rgb_array"` allows `render_frame`.

    Raises:
      UsageError: no such environment or option (with the nearest names), a value that does not fit, a package that is not
        installed, several players, or a space without a counterpart in `Spec`.
    """
    envpool = _import_envpool(name)
    specs = envpool.registration.registry.specs
    if name not in specs:
        raise UsageError(unknown("envpool environment", name, specs))
    config = _config(name, _native_spec(envpool, name, {}))
    for option, value in options.items():
        _check_option(name, config, option, value)
    defaults = {"num_threads": min(num_envs, os.cpu_count() or 1)}
    if "reward_clip" in config:
        defaults["reward_clip"] = True
    return EnvpoolEnv(name, num_envs, specs[name][0], defaults | options)


class EnvpoolEnv:
    """A `HostEnv` over envpool; made by `make`.

    The pool is built at `reset`, since envpool fixes its seed then.

    Attributes:
      spec: 64-bit observations become 32-bit, boxes of actions are [-1, 1].
      num_envs: B.
      units: observations and actions as envpool has them, with their bounds, to those of `spec`.
      settings: of Atari, the preprocessing that this module's first paragraphs speak of.
    """

    def __init__(self, name: str, num_envs: int, family: str, options: dict[str, Any]) -> None:
        native = _native_spec(_import_envpool(name), name, options)
        config = _config(name, native)
        limit = config.get("max_episode_steps", _NO_LIMIT)
        with _quiet():
            obs_space, action_space = native.gymnasium_observation_space, native.gymnasium_action_space
        self.units = host.units(obs_space, action_space)
        self.num_envs = num_envs
        self._family, self._is_atari = family, family == "envpool.atari"
        channels_first = family in _CHANNELS_FIRST or bool(config.get("channel_first"))
        obs_spec = host.observation_spec(obs_space, f"envpool/{name}", channels_first)
        if self._is_atari and isinstance(obs_spec, ArraySpec):
            obs_spec = obs_spec._replace(num_frames=int(config["stack_num"]))
        self.spec = Spec(
            obs_spec,
            host.action_spec(action_space, f"envpool/{name}"),
            None if limit == _NO_LIMIT else int(limit),
        )
        self._name, self._options = name, dict(options)
        self.settings = {option: config[option] for option in _PREPROCESSING} if self._is_atari else {}
        self._has_lives = self._is_atari and bool(config["episodic_life"])
        self._limit = self.spec.time_limit if family in _LIMIT_KEPT_HERE else None
        self._records = host.EpisodeRecords(num_envs)
        self._pool: Any = None
        self._sent: Any = None
        self._can_draw = family in _DRAW_IN_MEMORY

    def reset(self, seed: int) -> PyTree:
        """Starts B new episodes; environment i is seeded with `seed + i`. Returns obs [B, ...].

        Raises:
          EnvError: the environment raised; the message names it.
        """
        self.close()
        options = dict(self._options)
        if self._limit is not None:
            options["max_episode_steps"] = self._limit + 1
        make_pool = _import_envpool(self._name).make_gymnasium
        with _quiet():
            self._pool = self._call("reset", make_pool, self._name, num_envs=self.num_envs, seed=int(seed) % 2**31, **options)
            raw_obs, _ = self._call("reset", self._pool.reset)
        self._records.begin()
        return self._cast(raw_obs)

    def split(self) -> list[HostEnv]:
        """The environments as two pools of half the size, so that one is stepped while the device acts for the other.

        An odd number stays together.
        """
        if self.num_envs % 2:
            return [self]
        half = self.num_envs // 2
        options = self._options | {"num_threads": min(self._options["num_threads"], half)}
        return [EnvpoolEnv(self._name, half, self._family, options) for _ in range(2)]

    def step(self, action: PyTree) -> TimeStep:
        """Steps all B environments and resets those whose episode ended: `send`, then `receive`."""
        self.send(action)
        return self.receive()

    def send(self, action: PyTree) -> None:
        """Starts a step in envpool's threads.

        Args:
          action: [B] int for `Discrete`, [B, ...] float in [-1, 1] for `Box` (clipped).

        Raises:
          UsageError: not reset yet, or closed.
          EnvError: the environment raised; the message names it.
        """
        if self._pool is None:
            raise UsageError(f"env='envpool/{self._name}' has no episode to step; call reset(seed) first")
        self._sent = self.units.to_action((), action)
        self._call("step", self._pool.send, self._sent)

    def receive(self) -> TimeStep:
        """Waits for the step that `send` started and resets the environments whose episode ended.

        Returns:
          TimeStep with NumPy leaves. `info` holds `episode_return` [B] float32, of unclipped rewards, and `episode_length` [B]
          int32 of the running episode, this step included; with `episodic_life` also `game_over` [B] bool.

        Raises:
          EnvError: the environment raised; the message names it.
        """
        reward: Any
        terminated: Any
        truncated: Any
        raw_obs, reward, terminated, truncated, raw_info = self._call("step", self._pool.recv)
        reward = np.array(reward, np.float32)
        terminated, truncated = self._ends(terminated, truncated, raw_info)
        ended = terminated | truncated
        next_obs = self._cast(raw_obs)
        obs = self._after_reset(next_obs, self._sent, ended) if ended.any() else next_obs
        return TimeStep(obs, reward, terminated, truncated, next_obs, self._info(reward, terminated, truncated, raw_info))

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def render_frame(self) -> np.ndarray | None:
        """A picture [height, width, 3] uint8 of environment 0, None unless made with `render_mode="rgb_array"`.

        Raises:
          UsageError: the environment cannot be drawn on this machine.
        """
        if self._options.get("render_mode") is None or self._pool is None:
            return None
        if not self._can_draw:
            _check_drawing(self._name)
            self._can_draw = True
        return np.array(self._call("render", self._pool.render)[0], np.uint8)

    def _ends(self, terminated: np.ndarray, truncated: np.ndarray, raw_info: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """(terminated, truncated), [B] bool each, of which termination wins."""
        terminated, truncated = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        if self._is_atari:
            terminated = terminated | (raw_info["terminated"] != 0)
        if self._limit is not None:
            truncated = truncated | (raw_info["elapsed_step"] >= self._limit)
        return terminated, truncated & ~terminated

    def _after_reset(self, next_obs: PyTree, native: np.ndarray, ended: np.ndarray) -> PyTree:
        """A copy of `next_obs` [B, ...] in which the rows that `ended` are reset; the other environments stand still."""
        rows = np.flatnonzero(ended).astype(np.int32)
        # A step after the end goes on with the next life where one is left; a reset starts the game anew.
        if self._has_lives:
            raw_obs, _, _, _, raw_info = self._call("reset", self._pool.step, native[rows], rows)
        else:
            raw_obs, raw_info = self._call("reset", self._pool.reset, rows)
        rows = np.asarray(raw_info["env_id"])

        def replaced(batch: np.ndarray, fresh: np.ndarray) -> np.ndarray:
            batch = batch.copy()
            batch[rows] = fresh
            return batch

        return jax.tree.map(replaced, next_obs, self._cast(raw_obs))

    def _info(
        self, reward: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, raw_info: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Counts this step; [B] each."""
        score = raw_info["reward"] if self._is_atari else reward
        if not self._has_lives:
            return self._records.count(score, terminated | truncated)
        game_over = truncated | (raw_info["terminated"] != 0)
        return self._records.count(score, game_over) | {"game_over": game_over}

    def _cast(self, raw_obs: PyTree) -> PyTree:
        return self.units.to_obs((), raw_obs)

    def _call(self, what: str, function: Any, *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except Exception as error:
            raise EnvError(f"env 'envpool/{self._name}' failed in {what}: {error!r}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Gymnasium, which warns of the bounds of envpool's spaces when they are first read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _import_envpool(name: str) -> Any:
    try:
        import envpool
    except ImportError:
        raise UsageError(f"env='envpool/{name}' needs the package envpool; pip install 'jaxrl[envpool]'") from None
    return envpool


def _native_spec(envpool: Any, name: str, options: dict[str, Any]) -> Any:
    """envpool's own description of the environment, without building it."""
    try:
        return envpool.make_spec(name, **options)
    except Exception as error:
        raise _cannot_be_made(name, options, error) from error


def _config(name: str, native_spec: Any) -> dict[str, Any]:
    """envpool's options with their values."""
    config = native_spec.config._asdict()
    if config["max_num_players"] != 1:
        raise UsageError(f"env='envpool/{name}' has {config['max_num_players']} players; choose an environment of one")
    return config


def _cannot_be_made(name: str, options: dict[str, Any], error: Exception) -> UsageError:
    given = ", ".join(f"{k}={v!r}" for k, v in options.items()) or "none"
    message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UsageError(f"env='envpool/{name}' cannot be made (options: {given}): {message}")


def _check_option(name: str, config: dict[str, Any], option: str, value: Any) -> None:
    """Refuses what would end the process inside envpool; `config`: the options with their default values."""
    if option == "render_mode":
        if value not in (None, "rgb_array"):
            raise UsageError(f"render_mode={value!r} is unknown; choose rgb_array")
        return
    known = [key for key in config if key not in _MANAGED + _NAMED] + ["render_mode"]
    if option not in known:
        raise UsageError(unknown(f"option of envpool/{name}", option, known))
    default = config[option]
    kind: Any = next((kind for kind in (bool, Integral, Real, str) if isinstance(default, kind)), object)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{option}={value!r} does not fit envpool/{name}; give a value like {default!r}")
    if option in _COUNTS and value < 1:
        raise UsageError(f"{option}={value} is out of range; give at least 1")
    if option == "repeat_action_probability" and not 0.0 <= value <= 1.0:
        raise UsageError(f"{option}={value} is out of range; give a value in [0, 1]")


def _check_drawing(name: str) -> None:
    """Draws one picture in another process, since without OpenGL MuJoCo ends the process that asks it for one."""
    code = (
        "import sys, envpool\n"
        "env = envpool.make(sys.argv[1], env_type='gymnasium', num_envs=1, render_mode='rgb_array')\n"
        "env.reset()\n"
        "env.render()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        drawn = subprocess.run([sys.executable, "-W", "ignore", "-c", code, name], cwd=folder, capture_output=True, text=True)
    if drawn.returncode != 0:
        said = (drawn.stdout + drawn.stderr).splitlines()
        lines = [line.strip() for line in said if line.strip()] or [f"exit {drawn.returncode}"]
        raise UsageError(f"gif: envpool/{name} cannot be drawn on this machine: {lines[-1][:160]}")
