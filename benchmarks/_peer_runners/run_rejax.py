"""Rejax's DQN, PPO and SAC, without their evaluations during training; one evaluation follows, outside the clock."""

from typing import Any

import common
import jax
import jax.numpy as jnp
from flax import linen as nn
from rejax import get_algo
from rejax.networks import DiscreteQNetwork, EpsilonGreedyPolicy


def dqn(s: dict[str, Any], shared: dict[str, Any]) -> Any:
    """DQN with networks of the sizes asked for."""
    algorithm = get_algo("dqn").create(
        **shared,
        buffer_size=s["capacity"],
        fill_buffer=s["learning_starts"],
        batch_size=s["batch_size"],
        learning_rate=s["learning_rate"],
        eps_start=s["epsilon_start"],
        eps_end=s["epsilon_end"],
        exploration_fraction=s["exploration_fraction"],
        target_update_freq=s["target_period"],
        polyak=0.0,
        num_epochs=1,
        ddqn=False,
    )
    # `create` takes no hidden sizes for DQN, so the same class is built with them here.
    network = EpsilonGreedyPolicy(DiscreteQNetwork)(
        hidden_layer_sizes=tuple(s["hidden"]), activation=nn.relu, action_dim=algorithm.action_dim
    )
    return algorithm.replace(agent=network)


def ppo(s: dict[str, Any], shared: dict[str, Any]) -> Any:
    """PPO, whose value function is always clipped and whose advantages are always normalised."""
    return get_algo("ppo").create(
        **shared,
        num_steps=s["rollout_length"],
        num_epochs=s["num_epochs"],
        num_minibatches=s["num_minibatches"],
        # A number is expected, but Optax takes a function as well.
        learning_rate=common.linear_to_zero(s),
        gae_lambda=s["gae_lambda"],
        clip_eps=s["clip"],
        ent_coef=s["entropy_coef"],
        vf_coef=s["value_coef"],
        max_grad_norm=s["max_grad_norm"],
        agent_kwargs={"hidden_layer_sizes": tuple(s["hidden"]), "activation": "tanh"},
    )


def sac(s: dict[str, Any], shared: dict[str, Any]) -> Any:
    """SAC with two critics; `polyak` is the weight of the old parameters."""
    return get_algo("sac").create(
        **shared,
        buffer_size=s["capacity"],
        fill_buffer=s["learning_starts"],
        batch_size=s["batch_size"],
        learning_rate=s["learning_rate"],
        polyak=1.0 - s["tau"],
        target_update_freq=1,
        num_epochs=1,
        max_grad_norm=jnp.inf,
        hidden_layer_sizes=tuple(s["hidden"]),
    )


s, seed = common.arguments()
algorithm = {"dqn": dqn, "ppo": ppo, "sac": sac}[s["algorithm"]](
    s,
    {
        "env": s["env"],
        "num_envs": s["num_envs"],
        "total_timesteps": s["steps"],
        "eval_freq": s["steps"],
        "skip_initial_evaluation": True,
        "gamma": s["gamma"],
    },
)
evaluate = algorithm.eval_callback
algorithm = algorithm.replace(eval_callback=lambda algo, state, key: ())
result, compile_seconds, run_seconds = common.time_compiled(algorithm.train, jax.random.PRNGKey(seed), s["seeds"])
policy = {"dqn": "epsilon 0.005", "ppo": "sampled actions", "sac": "sampled actions"}[s["algorithm"]]
finals = []
for index in range(s["seeds"]):
    state = jax.tree.map(lambda leaf, index=index: leaf[index], result[0])
    finals.append(jnp.mean(evaluate(algorithm, state, jax.random.PRNGKey(seed + 1))[1]))
common.report(
    compile_seconds=compile_seconds,
    run_seconds=run_seconds,
    final_returns=finals,
    return_kind=f"128 evaluation episodes of the final policy, {policy}",
    packages=("jax", "gymnax", "flax", "rejax"),
)
