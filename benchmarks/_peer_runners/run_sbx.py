"""SBX's DQN (Stable-Baselines3 on JAX): compiled updates, Gymnasium environments stepped in Python.

A first call of `learn` compiles everything; then the parameters, the optimizer and the replay are put back to what they were
and the clock starts.
"""

import time

import common
import jax
import numpy as np
from sbx import DQN
from stable_baselines3.common.env_util import make_vec_env

s, seed = common.arguments()
np.random.seed(seed)
model = DQN(
    "MlpPolicy",
    make_vec_env(s["env"], n_envs=s["num_envs"], seed=seed),
    learning_rate=s["learning_rate"],
    buffer_size=s["capacity"],
    learning_starts=0,
    batch_size=s["batch_size"],
    tau=1.0,
    gamma=s["gamma"],
    target_update_interval=s["target_period"],
    exploration_fraction=s["exploration_steps"] / s["steps"],
    exploration_initial_eps=s["epsilon_start"],
    exploration_final_eps=s["epsilon_end"],
    train_freq=1,
    gradient_steps=1,
    policy_kwargs={"net_arch": [s["sbx_hidden"]]},
    seed=seed,
    device="cpu",
)
fresh = model.policy.qf_state
start = time.perf_counter()
model.learn(4 * s["target_period"])
jax.block_until_ready(model.policy.qf_state.params)
middle = time.perf_counter()

model.policy.qf_state = fresh
model.replay_buffer.reset()
model.learning_starts = s["learning_starts"]
begin = time.perf_counter()
model.learn(s["steps"])
jax.block_until_ready(model.policy.qf_state.params)
end = time.perf_counter()
returns = [episode["r"] for episode in model.ep_info_buffer]
common.report(
    compile_seconds=middle - start,
    run_seconds=end - begin,
    final_return=float(np.mean(returns)) if returns else None,
    return_kind="last 100 training episodes",
    packages=("jax", "gymnasium", "flax", "sbx-rl", "stable-baselines3", "torch"),
)
