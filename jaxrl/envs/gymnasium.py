"""Gymnasium environments behind jaxrl's contract, through Gymnasium's vector API.

    env = make("CartPole-v1", num_envs=8)                      # or jaxrl.envs.make("gymnasium/CartPole-v1", 8)
    obs = env.reset(seed=0)
    timestep = env.step(action)                                # a TimeStep with NumPy leaves
    env = from_vector_env(my_vector_env)                       # a vector environment that you made yourself

Gymnasium's autoreset is off and the environments whose episode ended are reset through a mask, so the contract holds exactly:
`obs` is the reset observation, `next_obs` the true successor, and no step is a reset in disguise, even for an environment that
reuses one observation buffer, whose `final_obs` Gymnasium's same-step mode would overwrite with the reset.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxrl.envs.tools import host
from jaxrl.errors import EnvError, UsageError, import_module, unknown
from jaxrl.types import PyTree, Spec, TimeStep

_VECTORIZATION = ("sync", "async")


def make(
    name: str, num_envs: int, /, *, vectorization_mode: str = "sync", channels_first: bool | None = None, **options: Any
) -> GymnasiumEnv:
    """B = `num_envs` copies of a registered Gymnasium environment.

    Args:
      name: Gymnasium id, such as `CartPole-v1`, or `module:id`, such as `ale_py:ALE/Pong-v5`, where importing a module
        registers it.
      vectorization_mode: `sync` steps one environment after another, `async` each in a process of its own. Processes are
        spawned, since a fork of a process in which JAX runs may hang: a script needs `if __name__ == "__main__":`.
      channels_first: whether pictures are (channels, height, width), as stacks of frames are; needed where their first axis is
        the shortest, all others are taken as (height, width, channels).
      options: arguments of `gymnasium.make` and of the environment's constructor, such as `render_mode="rgb_array"`.

    Raises:
      UsageError: no such environment (with the nearest names), an option that it does not take, a package that is not
        installed, or a space without a counterpart in `Spec`.
    """
    gymnasium = _import_gymnasium(name)
    if vectorization_mode not in _VECTORIZATION:
        raise UsageError(f"vectorization_mode={vectorization_mode!r} is unknown; choose one of {', '.join(_VECTORIZATION)}")
    if channels_first not in (None, True, False):
        raise UsageError(f"channels_first={channels_first!r} is unknown; give true or false")
    _check_registered(name, gymnasium.registry)
    vector_kwargs: dict[str, Any] = {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}
    if vectorization_mode == "async":
        vector_kwargs["context"] = "spawn"
    try:
        vector_env = gymnasium.make_vec(
            name, num_envs=num_envs, vectorization_mode=vectorization_mode, vector_kwargs=vector_kwargs, **options
        )
    except (TypeError, gymnasium.error.Error) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in options.items()) or "none"
        message = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"env='gymnasium/{name}' cannot be made (options: {given}): {message}") from error
    return GymnasiumEnv(vector_env, name, _time_limit(vector_env), channels_first)


def from_vector_env(vector_env: Any, time_limit: int | None = None, channels_first: bool | None = None) -> GymnasiumEnv:
    """A ready-made `gymnasium.vector.VectorEnv`, for instance with wrappers of your own.

    Args:
      time_limit: `Spec.time_limit`, if the vector environment's spec does not tell it; the environment enforces it.
      channels_first: whether pictures are (channels, height, width); needed where their first axis is the shortest.

    Raises:
      UsageError: a vector environment that resets by itself, or a space without a counterpart in `Spec`.
    """
    inner = vector_env.unwrapped
    name = inner.spec.id if inner.spec is not None else type(inner).__name__
    off = _import_gymnasium(name).vector.AutoresetMode.DISABLED
    # Gymnasium keeps `metadata` on the environment's class, where the next vector environment of that class overwrites the
    # mode, so the attribute of the vector environment is asked first.
    mode = getattr(inner, "autoreset_mode", vector_env.metadata.get("autoreset_mode"))
    if mode not in (off, off.value):
        raise UsageError(
            f"autoreset_mode={mode} of {name} resets by itself; make it with gymnasium.vector.AutoresetMode.DISABLED"
        )
    return GymnasiumEnv(vector_env, name, time_limit if time_limit is not None else _time_limit(vector_env), channels_first)


class GymnasiumEnv:
    """A `HostEnv` over a Gymnasium vector environment; made by `make` or `from_vector_env`.

    It keeps, as every host environment does, its state to itself: the vector environment and the running episodes.

    Attributes:
      spec: 64-bit observations become 32-bit, discrete ones and actions count from 0, boxes of actions are [-1, 1].
      num_envs: B.
      units: observations and actions as the environment itself has them, with its starts and bounds, to those of `spec`.
    """

    def __init__(self, vector_env: Any, name: str, time_limit: int | None, channels_first: bool | None = None) -> None:
        self.num_envs: int = vector_env.num_envs
        self.spec = Spec(
            host.observation_spec(vector_env.single_observation_space, f"gymnasium/{name}", channels_first),
            host.action_spec(vector_env.single_action_space, f"gymnasium/{name}"),
            time_limit,
        )
        self.units = host.units(vector_env.single_observation_space, vector_env.single_action_space)
        self._vector_env, self._name = vector_env, name
        self._records = host.EpisodeRecords(self.num_envs)

    def reset(self, seed: int) -> PyTree:
        """Starts B new episodes; environment i is seeded with `seed + i`. Returns obs [B, ...]."""
        # Gymnasium hands {} to every environment that is reset through a mask, so all resets are given it.
        obs, _ = self._call("reset", self._vector_env.reset, seed=int(seed), options={})
        self._records.begin()
        return self._cast(obs)

    def step(self, action: PyTree) -> TimeStep:
        """Steps all B environments and resets those whose episode ended.

        Args:
          action: [B] int for `Discrete`, [B, ...] float in [-1, 1] for `Box` (clipped).

        Returns:
          TimeStep with NumPy leaves. `info` holds `episode_return` [B] float32 and `episode_length` [B] int32 of the
          running episode, this step included.

        Raises:
          EnvError: the environment raised; the message names it.
        """
        reward: Any
        terminated: Any
        truncated: Any
        native = self.units.to_action((), action)
        raw_obs, reward, terminated, truncated, _ = self._call("step", self._vector_env.step, native)
        reward, terminated = np.array(reward, np.float32), np.array(terminated, np.bool_)
        truncated = np.array(truncated, np.bool_) & ~terminated
        ended = terminated | truncated
        next_obs = self._cast(raw_obs)
        obs = self._reset_ended(ended) if ended.any() else next_obs
        return TimeStep(obs, reward, terminated, truncated, next_obs, self._records.count(reward, ended))

    def close(self) -> None:
        """Closes the environments and their processes."""
        self._vector_env.close()

    def render_frame(self) -> np.ndarray | None:
        """A picture [height, width, 3] uint8 of environment 0, None unless made with `render_mode="rgb_array"`.

        Raises:
          UsageError: the environment draws with a package that is not installed.
        """
        from gymnasium.error import DependencyNotInstalled

        try:
            return self._render()
        except DependencyNotInstalled as error:
            raise UsageError(f"gif: this environment cannot be drawn: {error}") from None

    def _render(self) -> np.ndarray | None:
        inner = self._vector_env.unwrapped
        if inner.render_mode != "rgb_array":
            return None
        if hasattr(inner, "envs"):
            return np.asarray(inner.envs[0].render(), np.uint8)
        return np.asarray(self._vector_env.render()[0], np.uint8)

    def _reset_ended(self, ended: np.ndarray) -> PyTree:
        """Resets the environments of `ended` [B] bool and returns obs [B, ...] of all."""
        return self._cast(self._call("reset", self._vector_env.reset, options={"reset_mask": ended.copy()})[0])

    def _call(self, what: str, function: Any, *args: Any, **options: Any) -> Any:
        """The result; where an environment fails, ends all their processes, since their own `close` would wait for the dead."""
        try:
            return function(*args, **options)
        except Exception as error:
            inner = self._vector_env.unwrapped
            for process in getattr(inner, "processes", ()):
                process.terminate()
            inner.closed = True
            raise EnvError(f"env='gymnasium/{self._name}' failed in {what}: {error!r}") from error

    def _cast(self, obs: PyTree) -> PyTree:
        return self.units.to_obs((), obs)


def _check_registered(name: str, registry: Any) -> None:
    """Refuses an id that nothing registers, neither Gymnasium itself nor the module in front of it."""
    module, _, env_id = name.rpartition(":")
    if module:
        import_module(module, f"env='gymnasium/{name}'")
    if env_id not in registry:
        hint = "" if module else f"; if a package of its own registers it, name its module: gymnasium/MODULE:{name}"
        raise UsageError(unknown("Gymnasium environment", env_id, registry) + hint)


def _import_gymnasium(name: str) -> Any:
    try:
        import gymnasium
    except ImportError:
        raise UsageError(f"env='gymnasium/{name}' needs the package gymnasium; pip install 'jaxrl[gymnasium]'") from None
    return gymnasium


def _time_limit(vector_env: Any) -> int | None:
    """Steps after which the environment truncates, as far as its spec tells."""
    inner = vector_env.unwrapped
    spec = inner.spec
    if spec is None and hasattr(inner, "envs"):
        spec = inner.envs[0].spec
    if spec is None:
        return None
    limit = spec.kwargs.get("max_episode_steps") or spec.max_episode_steps
    return int(limit) if limit is not None and limit > 0 else None
