"""DQN, PPO and SAC of this repository, the whole run as one compiled program."""

import agents
import common
import jax
import jax.numpy as jnp

from jaxrl import loop
from jaxrl.envs import make

s, seed = common.arguments()
make_agent, config = agents.configured(s)
env = make(s["env"], num_envs=s["num_envs"])
result, compile_seconds, run_seconds = common.time_compiled(
    lambda key: loop.train(key, config, make_agent, env, s["steps"]), jax.random.key(seed), s["seeds"]
)
recent = result.state.recent
common.report(
    compile_seconds=compile_seconds,
    run_seconds=run_seconds,
    final_returns=jnp.sum(recent.returns, axis=-1) / jnp.minimum(recent.total, recent.returns.shape[-1]),
    return_kind="last 100 training episodes",
    packages=("jax", "gymnax", "flax"),
)
