"""Physics on the device: PPO at the settings that Brax and MuJoCo Playground publish for it, which `--tuned` takes.

They are settings without a figure, since neither package prints one: what their own PPO reaches is to be measured beside ours.
In these respects ours differs: a step's advantage reaches over all steps of an iteration, not over those of one unroll; the
deviation of actions does not depend on the state; weights begin orthogonal; the first iteration only gathers the moments of
observations; advantages and values are estimated anew before each pass, not in each minibatch.
"""

from collections.abc import Mapping
from typing import Any

from jaxrl.claims.claim import Settings
from jaxrl.envs.tools.playground_tasks import CONTROL_SUITE

BRAX = "Brax 0.14, notebooks/training.ipynb"
PLAYGROUND = "MuJoCo Playground 0.2, config/dm_control_suite_params.py"


def brax_ppo(
    *,
    num_envs: int,
    unroll: int,
    batch: int,
    minibatches: int,
    passes: int,
    discount: float,
    rate: float,
    entropy: float,
    reward: float,
) -> dict[str, Any]:
    """Arguments of Brax's `ppo.train` as fields of `PPOConfig`.

    Brax gathers `batch * minibatches` unrolls, each of `unroll` steps of one environment; so its environments take
    `unroll * batch * minibatches / num_envs` steps each before it learns, which is an iteration here. The other fields are what
    Brax does where it is not told otherwise: a ratio clipped at 0.3, gradients that are not, a quarter of the squared error of
    values, actors of 4 x 32 and critics of 5 x 256 units, and a first deviation of softplus(0) before the tanh.

    Args:
      num_envs, unroll, batch, minibatches, passes: `num_envs`, `unroll_length`, `batch_size`, `num_minibatches` and
        `num_updates_per_batch` there.
      discount, rate, entropy, reward: `discounting`, `learning_rate`, `entropy_cost` and `reward_scaling` there.
    """
    steps, rest = divmod(unroll * batch * minibatches, num_envs)
    assert rest == 0, "the unrolls of an iteration are not the same number for each environment"
    return {
        "num_envs": num_envs,
        "rollout_length": steps,
        "learning_starts": num_envs * steps,
        "num_minibatches": minibatches,
        "num_epochs": passes,
        "gamma": discount,
        "learning_rate": rate,
        "learning_rate_end_share": 1.0,
        "entropy_coef": entropy,
        "reward_scaling": reward,
        "clip": 0.3,
        "max_grad_norm": None,
        "normalize_observation": True,
        "recompute_advantage": True,
        "distribution": "tanh_gaussian",
        "log_std_init": -0.37,
        "activation": "silu",
        "hidden": (32, 32, 32, 32),
        "critic_hidden": (256, 256, 256, 256, 256),
    }


_POLE = brax_ppo(
    num_envs=2048, unroll=5, batch=1024, minibatches=32, passes=4, discount=0.97, rate=3e-4, entropy=1e-2, reward=10.0
)
_ANT = brax_ppo(
    num_envs=4096, unroll=5, batch=2048, minibatches=32, passes=4, discount=0.97, rate=3e-4, entropy=1e-2, reward=10.0
)
_CHEETAH = brax_ppo(
    num_envs=2048, unroll=20, batch=512, minibatches=32, passes=8, discount=0.95, rate=3e-4, entropy=1e-3, reward=1.0
)
_HUMANOID = brax_ppo(
    num_envs=2048, unroll=10, batch=1024, minibatches=32, passes=8, discount=0.97, rate=3e-4, entropy=1e-3, reward=0.1
)
_STANDUP = brax_ppo(
    num_envs=2048, unroll=15, batch=1024, minibatches=32, passes=8, discount=0.97, rate=6e-4, entropy=1e-2, reward=0.1
)
_REACHER = brax_ppo(
    num_envs=2048, unroll=50, batch=256, minibatches=32, passes=8, discount=0.95, rate=3e-4, entropy=1e-3, reward=5.0
)
_PUSHER = brax_ppo(
    num_envs=2048, unroll=30, batch=512, minibatches=16, passes=8, discount=0.95, rate=3e-4, entropy=1e-2, reward=5.0
)

_ROBOTS: Mapping[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "inverted_pendulum": (_POLE, 2_000_000, {}),
    "inverted_double_pendulum": (_POLE, 20_000_000, {}),
    "ant": (_ANT, 50_000_000, {}),
    "halfcheetah": (_CHEETAH, 50_000_000, {}),
    "humanoid": (_HUMANOID, 50_000_000, {}),
    "humanoidstandup": (_STANDUP, 100_000_000, {}),
    # Brax counts the steps that an action lasts, jaxrl the actions.
    "reacher": (_REACHER, 12_500_000, {"action_repeat": 4}),
    "pusher": (_PUSHER, 50_000_000, {}),
}
"""Of each robot for which Brax names settings of PPO, whatever the backend: those, the env steps, and the options."""
_BACKENDS = (None, "generalized", "spring", "positional", "mjx")
"""None: where it is not named."""

_SUITE = brax_ppo(
    num_envs=2048, unroll=30, batch=1024, minibatches=32, passes=16, discount=0.995, rate=1e-3, entropy=1e-2, reward=10.0
)
_LONG = ("AcrobotSwingup", "AcrobotSwingupSparse", "SwimmerSwimmer6", "WalkerRun")
_SHORT_SIGHTED = ("BallInCup", "FingerSpin")


def _robot(name: str, backend: str | None) -> Settings:
    config, total_steps, options = _ROBOTS[name]
    return Settings(
        name=f"ppo-brax-{name}" + (f"-{backend}" if backend else ""),
        agent="ppo",
        env=f"brax/{name}",
        env_options=options | ({"backend": backend} if backend else {}),
        config=config,
        total_steps=total_steps,
        source=BRAX,
    )


def _task(name: str) -> Settings:
    """Of PendulumSwingup there are others, which the package reads under a name that is none of its tasks."""
    return Settings(
        name=f"ppo-playground-{name}",
        agent="ppo",
        env=f"playground/{name}",
        config=_SUITE | ({"gamma": 0.95} if name in _SHORT_SIGHTED else {}),
        total_steps=100_000_000 if name in _LONG else 60_000_000,
        source=PLAYGROUND,
    )


SETTINGS = (*(_robot(name, backend) for name in _ROBOTS for backend in _BACKENDS), *(_task(name) for name in CONTROL_SUITE))
