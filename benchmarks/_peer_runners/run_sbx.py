"""SBX's DQN, PPO and SAC (Stable-Baselines3 on JAX): compiled updates, Gymnasium environments stepped in Python.

A first call of `learn` compiles everything; then the parameters, the optimizer and the replay are put back to what they were
and the clock starts.
"""

import time
from typing import Any

import common
import flax.linen as nn
import jax
import numpy as np
import sbx
from stable_baselines3.common.env_util import make_vec_env


def dqn(s: dict[str, Any], shared: dict[str, Any]) -> sbx.DQN:
    """DQN that learns from its first step on."""
    return sbx.DQN(
        **shared,
        learning_rate=s["learning_rate"],
        buffer_size=s["capacity"],
        learning_starts=0,
        batch_size=s["batch_size"],
        tau=1.0,
        target_update_interval=s["target_period"],
        exploration_fraction=s["exploration_fraction"],
        exploration_initial_eps=s["epsilon_start"],
        exploration_final_eps=s["epsilon_end"],
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": [s["sbx_hidden"]]},
    )


def ppo(s: dict[str, Any], shared: dict[str, Any]) -> sbx.PPO:
    """PPO; it accepts a `clip_range_vf` but does not read it."""
    return sbx.PPO(
        **shared,
        learning_rate=lambda remaining: s["learning_rate"] * remaining,
        n_steps=s["rollout_length"],
        batch_size=s["num_envs"] * s["rollout_length"] // s["num_minibatches"],
        n_epochs=s["num_epochs"],
        gae_lambda=s["gae_lambda"],
        clip_range=s["clip"],
        ent_coef=s["entropy_coef"],
        vf_coef=s["value_coef"],
        max_grad_norm=s["max_grad_norm"],
        policy_kwargs={
            "net_arch": s["hidden"],
            "activation_fn": nn.tanh,
            "ortho_init": True,
            "optimizer_kwargs": {"eps": s["adam_eps"]},
        },
    )


def sac(s: dict[str, Any], shared: dict[str, Any]) -> sbx.SAC:
    """SAC that learns from its first step on."""
    return sbx.SAC(
        **shared,
        learning_rate=s["learning_rate"],
        buffer_size=s["capacity"],
        learning_starts=0,
        batch_size=s["batch_size"],
        tau=s["tau"],
        train_freq=1,
        gradient_steps=1,
        policy_kwargs={"net_arch": s["hidden"]},
    )


s, seed = common.arguments()
np.random.seed(seed)
model = {"dqn": dqn, "ppo": ppo, "sac": sac}[s["algorithm"]](
    s,
    {
        "policy": "MlpPolicy",
        "env": make_vec_env(s["env"], n_envs=s["num_envs"], seed=seed),
        "gamma": s["gamma"],
        "seed": seed,
        "device": "cpu",
    },
)
names = {"dqn": ("qf_state",), "ppo": ("actor_state", "vf_state"), "sac": ("actor_state", "qf_state")}[s["algorithm"]]
first_call = {"dqn": lambda: 4 * s["target_period"], "ppo": lambda: 2 * s["num_envs"] * s["rollout_length"], "sac": lambda: 200}
fresh = {name: getattr(model.policy, name) for name in names}
start = time.perf_counter()
model.learn(first_call[s["algorithm"]]())
jax.block_until_ready([getattr(model.policy, name).params for name in names])
middle = time.perf_counter()

for name, state in fresh.items():
    setattr(model.policy, name, state)
if s["algorithm"] != "ppo":
    model.replay_buffer.reset()
    model.learning_starts = s["learning_starts"]
begin = time.perf_counter()
model.learn(s["steps"])
jax.block_until_ready([getattr(model.policy, name).params for name in names])
end = time.perf_counter()
returns = [episode["r"] for episode in model.ep_info_buffer]
common.report(
    compile_seconds=middle - start,
    run_seconds=end - begin,
    final_returns=[np.mean(returns) if returns else np.nan],
    return_kind="last 100 training episodes",
    packages=("jax", "gymnasium", "flax", "sbx-rl", "stable-baselines3", "torch"),
)
