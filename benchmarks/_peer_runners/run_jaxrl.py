"""DQN and PPO of this repository, the whole run as one compiled program."""

import common
import jax
import jax.numpy as jnp

from jaxrl import loop
from jaxrl.agents.dqn import DQNConfig, make_dqn
from jaxrl.agents.ppo import PPOConfig, make_ppo
from jaxrl.envs import make

s, seed = common.arguments()
if s["algorithm"] == "dqn":
    make_agent = make_dqn
    config = DQNConfig(
        num_envs=s["num_envs"],
        rollout_length=s["rollout_length"],
        learning_starts=s["learning_starts"],
        learning_rate=s["learning_rate"],
        learning_rate_end=1.0,
        gamma=s["gamma"],
        epsilon_start=s["epsilon_start"],
        epsilon_end=s["epsilon_end"],
        exploration_fraction=s["exploration_fraction"],
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
else:
    make_agent = make_ppo
    config = PPOConfig(
        num_envs=s["num_envs"],
        rollout_length=s["rollout_length"],
        learning_rate=s["learning_rate"],
        learning_rate_end=0.0,
        gamma=s["gamma"],
        gae_lambda=s["gae_lambda"],
        num_epochs=s["num_epochs"],
        num_minibatches=s["num_minibatches"],
        clip=s["clip"],
        clip_value=True,
        entropy_coef=s["entropy_coef"],
        value_coef=s["value_coef"],
        normalize_advantage=True,
        hidden=tuple(s["hidden"]),
        activation="tanh",
        max_grad_norm=s["max_grad_norm"],
    )
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
