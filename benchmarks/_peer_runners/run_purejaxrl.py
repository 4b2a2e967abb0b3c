"""PureJaxRL's DQN, imported from a checkout whose folder the environment variable PUREJAXRL_DIR names.

Shims, no more than it takes to import and trace the script with current packages: `wandb` is an empty module (only an online
run would call it) and `jax.tree_map`, which JAX has removed, is `jax.tree.map`.
"""

import os
import sys
import types

import common
import jax
import jax.numpy as jnp

sys.path.insert(0, os.path.join(os.environ["PUREJAXRL_DIR"], "purejaxrl"))
sys.modules["wandb"] = types.ModuleType("wandb")
if not hasattr(jax, "tree_map"):
    jax.tree_map = jax.tree.map

import dqn  # noqa: E402

s, seed = common.arguments()
config = {
    "NUM_ENVS": s["num_envs"],
    "BUFFER_SIZE": s["capacity"],
    "BUFFER_BATCH_SIZE": s["batch_size"],
    "TOTAL_TIMESTEPS": s["steps"],
    "EPSILON_START": s["epsilon_start"],
    "EPSILON_FINISH": s["epsilon_end"],
    "EPSILON_ANNEAL_TIME": s["exploration_steps"],
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
result, compile_seconds, run_seconds = common.time_compiled(dqn.make_train(config), jax.random.PRNGKey(seed))
returns = result["metrics"]["returns"]
common.report(
    compile_seconds=compile_seconds,
    run_seconds=run_seconds,
    final_return=float(jnp.mean(returns[-max(len(returns) // 50, 1) :])),
    return_kind="latest training episode of each environment, mean over the last 2 % of the run",
    packages=("jax", "gymnax", "flax", "flashbax"),
)
