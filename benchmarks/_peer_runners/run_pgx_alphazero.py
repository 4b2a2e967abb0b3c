"""pgx's `examples/alphazero/train.py`, run as it stands from a checkout whose folder the environment variable PGX_DIR names.

`search.py` and this process take turns: a turn is one iteration of the script, from one call of `wandb.log` to the next.

Shims, no more than it takes to run the script with current packages, without a network and in turns: `wandb` is a module whose
`log` ends a turn; `pgx.make_baseline_model`, which downloads weights, gives nothing, and the function `evaluate`, which alone
would need them, gives zeros; `jax.pmap` waits for its result and takes the time; `jax.device_put_replicated`, which JAX has
removed, stacks; `pgx.make` makes Go on the small boards as well, which the script knows as `go_9x9`.
"""

import contextlib
import os
import runpy
import sys
import tempfile
import types
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import pgx
import pgx.go

s, seed = common.arguments()
seconds: dict[str, dict[str, float]] = {}
iteration = [common.Clock.now()]


def log(values: dict[str, Any]) -> None:
    """The script calls it before its first iteration and after each."""
    if values["iteration"]:
        seconds["iteration"] = iteration[0].since()
        common.end_turn(seconds)
    iteration[0] = common.Clock.now()


def timed_pmap(function: Callable[..., Any], *, of: Callable[..., Any] = jax.pmap, **options: Any) -> Callable[..., Any]:
    """`jax.pmap` of a function whose seconds are noted under its name."""
    if function.__name__ == "evaluate":
        return lambda *_: jnp.zeros((1, s["num_envs"]))
    mapped = of(function, **options)

    def call(*arguments: Any) -> Any:
        begun = common.Clock.now()
        result = jax.block_until_ready(mapped(*arguments))
        seconds[function.__name__] = begun.since()
        return result

    return call


def make(_: str) -> Any:
    """The environment of the settings."""
    name = s["env"]
    return pgx.go.Go(size=int(name[-1]), komi=0.5) if name.startswith("go_") else plain_make(name)


sys.modules["wandb"] = types.ModuleType("wandb")
sys.modules["wandb"].init = lambda **_: None
sys.modules["wandb"].log = log
plain_make, pgx.make, pgx.make_baseline_model = pgx.make, make, lambda _: None
jax.pmap = timed_pmap
jax.device_put_replicated = lambda tree, devices: jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), tree)
settings = {
    "env_id": "go_9x9" if s["env"].startswith("go_") else s["env"],
    "seed": seed,
    "num_channels": s["channels"],
    "num_layers": s["blocks"],
    "selfplay_batch_size": s["num_envs"],
    "num_simulations": s["num_simulations"],
    "max_num_steps": s["rollout_length"],
    "training_batch_size": s["batch_size"],
    "learning_rate": s["learning_rate"],
    "eval_interval": 10**9,
    "max_num_iters": 10**9,
}
folder = os.path.abspath(os.path.join(os.environ["PGX_DIR"], "examples", "alphazero"))
sys.argv = ["train.py", *(f"{name}={value}" for name, value in settings.items())]
sys.path.insert(0, folder)
# The script writes a checkpoint where it stands, and prints.
with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch), contextlib.redirect_stdout(sys.stderr):
    runpy.run_path(os.path.join(folder, "train.py"), run_name="__main__")
