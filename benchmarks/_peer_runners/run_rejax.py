"""Rejax's DQN, without its evaluations during training; one evaluation follows, outside the clock."""

import common
import jax
import jax.numpy as jnp
from flax import linen as nn
from rejax import get_algo
from rejax.networks import DiscreteQNetwork, EpsilonGreedyPolicy

s, seed = common.arguments()
algorithm = get_algo("dqn").create(
    env=s["env"],
    num_envs=s["num_envs"],
    buffer_size=s["capacity"],
    fill_buffer=s["learning_starts"],
    batch_size=s["batch_size"],
    total_timesteps=s["steps"],
    eval_freq=s["steps"],
    skip_initial_evaluation=True,
    learning_rate=s["learning_rate"],
    gamma=s["gamma"],
    eps_start=s["epsilon_start"],
    eps_end=s["epsilon_end"],
    exploration_fraction=s["exploration_steps"] / s["steps"],
    target_update_freq=s["target_period"],
    polyak=0.0,
    num_epochs=1,
    ddqn=False,
)
evaluate = algorithm.eval_callback
# `create` takes no hidden sizes for DQN, so the same class is built with them here.
network = EpsilonGreedyPolicy(DiscreteQNetwork)(
    hidden_layer_sizes=tuple(s["hidden"]), activation=nn.relu, action_dim=algorithm.action_dim
)
algorithm = algorithm.replace(agent=network, eval_callback=lambda algo, state, key: ())
result, compile_seconds, run_seconds = common.time_compiled(algorithm.train, jax.random.PRNGKey(seed))
_, returns = evaluate(algorithm, result[0], jax.random.PRNGKey(seed + 1))
common.report(
    compile_seconds=compile_seconds,
    run_seconds=run_seconds,
    final_return=float(jnp.mean(returns)),
    return_kind="128 evaluation episodes of the final policy, epsilon 0.005",
    packages=("jax", "gymnax", "flax", "rejax"),
)
