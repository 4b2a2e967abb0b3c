"""PureJaxRL's DQN and PPO, imported from a checkout whose folder the environment variable PUREJAXRL_DIR names.

Shims, no more than it takes to import and trace the scripts with current packages: for DQN, `wandb` is an empty module (only an
online run would call it) and `jax.tree_map`, which JAX has removed, is `jax.tree.map`. For PPO, `brax` and `navix`, of which
cart-pole needs nothing, are modules without content; and where several seeds are one program, orthogonal initial weights are
normal ones of the same scale, because a batched QR decomposition can hang on CPU.
"""

import importlib
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import common
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def dqn(s: dict[str, Any]) -> Callable[[Any], Any]:
    """The training function of `dqn.py`."""
    sys.modules["wandb"] = types.ModuleType("wandb")
    if not hasattr(jax, "tree_map"):
        jax.tree_map = jax.tree.map
    config = {
        "NUM_ENVS": s["num_envs"],
        "BUFFER_SIZE": s["capacity"],
        "BUFFER_BATCH_SIZE": s["batch_size"],
        "TOTAL_TIMESTEPS": s["steps"],
        "EPSILON_START": s["epsilon_start"],
        "EPSILON_FINISH": s["epsilon_end"],
        "EPSILON_ANNEAL_TIME": int(s["exploration_fraction"] * s["steps"]),
        "TARGET_UPDATE_INTERVAL": s["target_period"],
        "LR": s["learning_rate"],
        "LEARNING_STARTS": s["learning_starts"],
        "TRAINING_INTERVAL": s["num_envs"],
        "LR_LINEAR_DECAY": False,
        "GAMMA": s["gamma"],
        "TAU": 1.0,
        "ENV_NAME": s["env"],
        "WANDB_MODE": "disabled",
    }
    return importlib.import_module("dqn").make_train(config)


def ppo(s: dict[str, Any]) -> Callable[[Any], Any]:
    """The training function of `ppo.py`, whose hidden sizes (64, 64) and Adam's eps 1e-5 are written into it."""
    assert s["hidden"] == [64, 64] and s["adam_eps"] == 1e-5
    for name, contents in {
        "brax": ("envs",),
        "brax.envs": (),
        "brax.envs.wrappers": (),
        "brax.envs.wrappers.training": ("EpisodeWrapper", "AutoResetWrapper"),
        "navix": (),
    }.items():
        sys.modules[name] = types.ModuleType(name)
        for content in contents:
            setattr(sys.modules[name], content, None)
    if s["seeds"] > 1:
        nn.initializers.orthogonal = normal_of_orthogonal_scale
    config = {
        "LR": s["learning_rate"],
        "NUM_ENVS": s["num_envs"],
        "NUM_STEPS": s["rollout_length"],
        "TOTAL_TIMESTEPS": s["steps"],
        "UPDATE_EPOCHS": s["num_epochs"],
        "NUM_MINIBATCHES": s["num_minibatches"],
        "GAMMA": s["gamma"],
        "GAE_LAMBDA": s["gae_lambda"],
        "CLIP_EPS": s["clip"],
        "ENT_COEF": s["entropy_coef"],
        "VF_COEF": s["value_coef"],
        "MAX_GRAD_NORM": s["max_grad_norm"],
        "ACTIVATION": "tanh",
        "ENV_NAME": s["env"],
        "ANNEAL_LR": True,
        "DEBUG": False,
    }
    return importlib.import_module("ppo").make_train(config)


def normal_of_orthogonal_scale(scale: float = 1.0) -> Callable[..., jax.Array]:
    """An initialiser whose entries have the variance of those of an orthogonal one."""
    return lambda key, shape, dtype=jnp.float32: scale * max(shape) ** -0.5 * jax.random.normal(key, shape, dtype)


s, seed = common.arguments()
sys.path.insert(0, os.path.join(os.environ["PUREJAXRL_DIR"], "purejaxrl"))
train = {"dqn": dqn, "ppo": ppo}[s["algorithm"]](s)
result, compile_seconds, run_seconds = common.time_compiled(train, jax.random.PRNGKey(seed), s["seeds"])
metrics = result["metrics"]
if s["algorithm"] == "dqn":
    returns = metrics["returns"]
    finals = jnp.mean(returns[:, -max(returns.shape[1] // 50, 1) :], axis=1)
    kind = "latest training episode of each environment, mean over the last 2 % of the run"
else:
    finals = [
        np.mean(returns[ended][-common.LAST_EPISODES :]) if np.any(ended) else np.nan
        for returns, ended in zip(
            np.asarray(metrics["returned_episode_returns"]), np.asarray(metrics["returned_episode"]), strict=True
        )
    ]
    kind = "last 100 training episodes"
common.report(
    compile_seconds=compile_seconds,
    run_seconds=run_seconds,
    final_returns=finals,
    return_kind=kind,
    packages=("jax", "gymnax", "flax", {"dqn": "flashbax", "ppo": "distrax"}[s["algorithm"]]),
)
