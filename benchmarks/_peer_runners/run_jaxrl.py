"""DQN of this repository, the whole run as one compiled program."""

import common
import jax
import jax.numpy as jnp

from jaxrl import loop
from jaxrl.agents.dqn import DQNConfig, make_dqn
from jaxrl.envs import make

s, seed = common.arguments()
config = DQNConfig(
    num_envs=s["num_envs"],
    rollout_length=1,
    learning_starts=s["learning_starts"],
    learning_rate=s["learning_rate"],
    learning_rate_end=1.0,
    gamma=s["gamma"],
    epsilon_start=s["epsilon_start"],
    epsilon_end=s["epsilon_end"],
    exploration_fraction=s["exploration_steps"] / s["steps"],
    capacity=s["capacity"],
    batch_size=s["batch_size"],
    num_updates=1,
    target_period=s["target_period"],
    tau=1.0,
    loss="squared",
    double=False,
    dueling=False,
    hidden=tuple(s["hidden"]),
    activation="relu",
    max_grad_norm=None,
)
env = make(s["env"], num_envs=s["num_envs"])
result, compile_seconds, run_seconds = common.time_compiled(
    lambda key: loop.train(key, config, make_dqn, env, s["steps"]), jax.random.key(seed)
)
recent = result.state.recent
num = min(int(recent.total), recent.returns.shape[0])
common.report(
    compile_seconds=compile_seconds,
    run_seconds=run_seconds,
    final_return=float(jnp.sum(recent.returns) / num) if num else None,
    return_kind="last 100 training episodes",
    packages=("jax", "gymnax", "flax"),
)
