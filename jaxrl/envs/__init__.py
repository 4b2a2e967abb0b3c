"""The registry of environments: `make("CartPole-v1", num_envs=8)`.

An id is bare where only one family of pure environments has it (`CartPole-v1`), else `family/id` (`probe/memory`,
`gymnasium/CartPole-v1`; `gymnasium/module:id` if importing a module registers it), or `module:function`: your own function
`(num_envs, **options) -> Env | HostEnv`. This module imports neither JAX nor any environment package, so that listing them is
instant.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxrl.arguments import declared, registered, whole
from jaxrl.envs.tools.playground_tasks import CONTROL_SUITE, ROBOTS
from jaxrl.errors import fail, import_by_name, own_code

if TYPE_CHECKING:
    from jaxrl.mdp.grid import Grid
    from jaxrl.mdp.model import MDP
    from jaxrl.types import Env, HostEnv

ENVS: dict[str, tuple[str, ...]] = {
    "gymnax": (
        "CartPole-v1",
        "Pendulum-v1",
        "Acrobot-v1",
        "MountainCar-v0",
        "MountainCarContinuous-v0",
        "Asterix-MinAtar",
        "Breakout-MinAtar",
        "Freeway-MinAtar",
        "Seaquest-MinAtar",
        "SpaceInvaders-MinAtar",
        "Catch-bsuite",
        "DeepSea-bsuite",
        "MemoryChain-bsuite",
        "UmbrellaChain-bsuite",
        "DiscountingChain-bsuite",
        "SimpleBandit-bsuite",
        "FourRooms-misc",
        "MetaMaze-misc",
        "PointRobot-misc",
        "BernoulliBandit-misc",
        "GaussianBandit-misc",
        "Reacher-misc",
        "Swimmer-misc",
        "Pong-misc",
        "FrozenLake-misc",
    ),
    "probe": (
        "constant",
        "observation",
        "discount",
        "action",
        "target",
        "truncation",
        "memory",
        "mixed",
        "state",
        "lqr",
    ),
    "gridworld": ("classic", "jumps", "cliff", "slippery", "custom"),
    "maze": ("classic", "loop", "large", "random"),
    "garnet": ("random",),
    "glimpse": ("digits", "mnist", "mnist-translated", "mnist-cluttered"),
    "pgx": (
        "tic_tac_toe",
        "connect_four",
        "othello",
        "hex",
        "go_5x5",
        "go_6x6",
        "go_7x7",
        "go_8x8",
        "go_9x9",
        "go_13x13",
        "go_19x19",
        "gardner_chess",
        "chess",
        "shogi",
    ),
    "brax": (
        "ant",
        "halfcheetah",
        "hopper",
        "walker2d",
        "humanoid",
        "humanoidstandup",
        "reacher",
        "pusher",
        "swimmer",
        "inverted_pendulum",
        "inverted_double_pendulum",
    ),
    "playground": (*CONTROL_SUITE, *ROBOTS),
    "gymnasium": (),
    "envpool": (),
}
"""Ids of each family; an empty tuple stands for whatever the family's own registry holds."""

_BARE = ("gymnax",)
"""Families whose ids may be given without the family's name."""

_EXACT = {
    "gridworld": ENVS["gridworld"],
    "maze": ENVS["maze"],
    "garnet": ENVS["garnet"],
    "gymnax": ("FrozenLake-misc", "FourRooms-misc"),
}
"""Ids whose environment is a known MDP."""


HOST = ("gymnasium", "envpool")
"""Families whose environments live on the host and have wrappers of their own."""
_MAX_HOST_ENVS = 10_000
"""Of each of which Python makes an object or a process."""

_OWN_OPTIONS = {
    family: ("time_limit",) for family in ("gymnax", "gridworld", "maze", "garnet", "glimpse", "pgx", "brax", "playground")
}
"""Options of families that are called as a wrapper is."""

_PICTURES_PER_SECOND = {"glimpse": 2.0, "pgx": 2.0, "brax": 50.0, "playground": 50.0}
"""Of families whose episodes are not to be shown as fast as a film, or faster."""


@declared(env_id=registered("CartPole-v1"), num_envs=whole(1))
def make(env_id: str, /, num_envs: int = 1, **options: Any) -> Env | HostEnv:
    """B = `num_envs` environments by name.

    Args:
      env_id: `CartPole-v1`, `family/id`, or `module:function` for your own. An attribute `static_options` of the function names
        the options that are part of the compiled program; then runs of a sweep that differ in others share one.
      options: physics and arguments of the environment; and, unless the environment takes an option of that name itself,
        `sticky_actions` (a probability), `time_limit` (steps), `mask_observation` (the indices to keep) and `frame_stack`
        (a number), which wrap an environment of the compiled program in this order (`jaxrl.envs.tools.wrappers`).

    Raises:
      UsageError: an unknown id (with the nearest names), an unknown option or a bad value, or a package that is not installed.
    """
    from jaxrl.envs.tools.wrappers import OPTIONS, wrap
    from jaxrl.errors import UsageError
    from jaxrl.types import Env

    options = {**_implied_options(env_id, options), **options}
    around = {name: options.pop(name) for name in OPTIONS if name in options and not _takes(env_id, name)}
    env = _make_bare(env_id, num_envs, options)
    if around and not isinstance(env, Env):
        env.close()
        name = next(iter(around))
        raise UsageError(f"{name}={around[name]!r} wraps no environment of the host such as {env_id!r}; leave it out")
    return wrap(env, around) if isinstance(env, Env) else env


def _implied_options(env_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a family's `implied_options(name, options) -> dict` adds to the options that are given, which win over it."""
    if is_own(env_id):
        return {}
    family, name = resolve(env_id)
    implied = getattr(importlib.import_module(f"jaxrl.envs.{family}"), "implied_options", None)
    return {} if implied is None else implied(name, options)


def _takes(env_id: str, option: str) -> bool:
    """True of an option that the environment, or its family, understands itself."""
    if is_own(env_id):
        parameters = _parameters(_own_function(env_id), f"env={env_id!r}").parameters
        return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    family, _ = resolve(env_id)
    return family in HOST or option in _OWN_OPTIONS.get(family, ())


def _make_bare(env_id: str, num_envs: int, options: dict[str, Any]) -> Env | HostEnv:
    """The environment without wrappers."""
    from jaxrl.errors import UsageError

    if is_own(env_id):
        return _make_own(env_id, num_envs, options)
    family, name = resolve(env_id)
    if family in HOST and num_envs > _MAX_HOST_ENVS:
        raise UsageError(f"num_envs={num_envs} is too many for env={env_id!r} on the host; give at most {_MAX_HOST_ENVS}")
    module = importlib.import_module(f"jaxrl.envs.{family}")
    return module.make(name, num_envs, **options)


def evaluation_options(env_id: str, options: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the environment in which a policy is scored that is trained with `options`.

    They are those of training, with what the family sets by itself (a test split, an opponent) and what is `given` on top. A
    family's module may have a function `evaluation_options(name) -> dict`, your own `module:function` an attribute
    `evaluation_options`, a dict.

    Raises:
      UsageError: of a family's `check_evaluation(training, evaluation)`, of options that make the score meaningless.
    """
    check = None
    if is_own(env_id):
        own = getattr(_own_function(env_id), "evaluation_options", {})
    else:
        family, name = resolve(env_id)
        module = importlib.import_module(f"jaxrl.envs.{family}")
        own = module.evaluation_options(name) if hasattr(module, "evaluation_options") else {}
        check = getattr(module, "check_evaluation", None)
    merged = {**options, **own, **given}
    if check is not None:
        check(options, merged)
    return merged


def is_own(env_id: str) -> bool:
    """True of `module:function`; in `gymnasium/module:id` the module registers an id of the family's."""
    module, colon, _ = env_id.partition(":")
    return bool(colon) and "/" not in module


def _own_function(env_id: str) -> Any:
    """The function that `module:function` names."""
    if not env_id.partition(":")[2].isidentifier():
        fail(f"env={env_id!r} names no function; an id that a module registers with Gymnasium is gymnasium/{env_id}")
    return import_by_name(env_id, "env")


def resolve(env_id: str) -> tuple[str, str]:
    """(family, name) of an id.

    Raises:
      UsageError: an unknown family or name, with the nearest ones.
    """
    from jaxrl.errors import UsageError, unknown

    family, slash, name = env_id.partition("/")
    if slash:
        if family not in ENVS:
            raise UsageError(f"{unknown('environment family', family, ENVS)}; an id of Gymnasium is gymnasium/{env_id}")
        if ENVS[family] and name not in ENVS[family]:
            raise UsageError(unknown("environment", env_id, known_ids()))
        return family, name
    for family in _BARE:
        if env_id in ENVS[family]:
            return family, env_id
    raise UsageError(unknown("environment", env_id, known_ids()))


def exact(env_id: str, discount: float | None = None, /, **options: Any) -> MDP:
    """The MDP that an environment plays, as arrays to solve.

    Args:
      env_id: as `make` takes it; your own `module:function` has one if it returns what `jaxrl.envs.tools.mdp_env` makes.
      discount: None is the environment's own (1 in a maze).
      options: as `make` takes them.

    Raises:
      UsageError: an environment whose MDP is not known, or what `make` raises.
    """
    from jaxrl.errors import UsageError
    from jaxrl.mdp.model import MDP

    family, name = ("", env_id) if is_own(env_id) else resolve(env_id)
    if family and name not in _EXACT.get(family, ()):
        raise UsageError(f"env={env_id!r} is not known as an MDP of arrays; choose one of {', '.join(exact_ids())}")
    if family == "gymnax":
        mdp = importlib.import_module("jaxrl.envs.gymnax_mdp").to_mdp(name, **options)
    else:
        mdp = getattr(_make_bare(env_id, 1, options), "params", None)
    if not isinstance(mdp, MDP):
        raise UsageError(f"env={env_id!r} has no MDP as its params; return jaxrl.envs.tools.mdp_env.mdp_env(...) from it")
    if discount is None:
        return mdp
    if not 0.0 <= discount <= 1.0:
        raise UsageError(f"gamma={discount} is out of range; give a value in [0, 1]")
    return mdp._replace(discount=mdp.discount * 0 + discount)


def grid_of(env_id: str, /, **options: Any) -> Grid | None:
    """The map of an environment whose states are cells of a grid, None of any other.

    Args:
      env_id, options: as `exact` takes them.
    """
    family, name = ("", env_id) if is_own(env_id) else resolve(env_id)
    if family not in ("gridworld", "maze", "gymnax") or name not in _EXACT[family]:
        return None
    module = "gymnax_mdp" if family == "gymnax" else family
    return importlib.import_module(f"jaxrl.envs.{module}").grid_of(name, **options)


def exact_ids() -> list[str]:
    """Every id that can be named and has an exact MDP."""
    return [name if is_bare(family) else f"{family}/{name}" for family, names in _EXACT.items() for name in names]


def has_pictures(env_id: str) -> bool:
    """Whether an episode can be drawn, as far as is known without making the environment."""
    family, _, name = env_id.rpartition("/") if "/" in env_id else (_BARE[0], "", env_id)
    if family == "gymnax":
        from jaxrl.envs.tools.render import RENDERERS

        return name in RENDERERS
    return family in ("gridworld", "maze", "glimpse", "pgx", "gymnasium", "brax", "playground")


def pictures_per_second(env_id: str) -> float:
    """How fast an episode is shown."""
    return _PICTURES_PER_SECOND.get(env_id.partition("/")[0], 30.0)


def is_bare(family: str) -> bool:
    """True if ids of this family need not name it."""
    return family in _BARE


def known_ids() -> list[str]:
    """Every id that can be named, bare where that is enough."""
    return [name if is_bare(family) else f"{family}/{name}" for family, names in ENVS.items() for name in names]


def _parameters(make_own: Any, whose: str) -> inspect.Signature:
    with own_code(whose, "its signature"):
        return inspect.signature(make_own)


def _make_own(env_id: str, num_envs: int, options: dict[str, Any]) -> Env | HostEnv:
    from jaxrl.contracts.environments import checked_env, checked_host_env
    from jaxrl.envs.tools.wrappers import record_episodes
    from jaxrl.errors import UsageError
    from jaxrl.types import Env, HostEnv

    make_own, whose = _own_function(env_id), f"env={env_id!r}"
    try:
        _parameters(make_own, whose).bind(num_envs=num_envs, **options)
    except TypeError as error:
        given = ", ".join(["num_envs", *options])
        raise UsageError(f"{whose} cannot be called with {given} ({error}); give options that it takes") from None
    with own_code(whose, f"{env_id.partition(':')[2]}(num_envs, ...) -> Env | HostEnv"):
        env = make_own(num_envs=num_envs, **options)
    if not isinstance(env, (Env, HostEnv)):
        raise UsageError(f"{whose} returned a {type(env).__name__}; return a jaxrl.Env or HostEnv")
    try:
        if env.num_envs != num_envs:
            fail(f"{whose} returned {env.num_envs} environments for num_envs={num_envs}; return as many as asked for")
        env = checked_env(env, whose, records=False) if isinstance(env, Env) else checked_host_env(env, whose)
    except UsageError:
        if not isinstance(env, Env):
            env.close()
        raise
    if not isinstance(env, Env):
        return env
    # What a function of the user's closes over is not seen from here, so it is asked.
    names = getattr(make_own, "static_options", None)
    static = None if names is None else repr([(name, options.get(name)) for name in names])
    return record_episodes(env._replace(static=static))
