"""What this machine can do, and what fraction of it training reaches.

    python benchmarks/limits.py --out limits.json
    python benchmarks/limits.py --agent ppo --out limits-ppo.json
    python benchmarks/limits.py --agent sac --threads 1 --out limits-sac-one-thread.json

Measures the rate of matrix products (large ones, and of the sizes in a minibatch) and counts the arithmetic of one iteration at
PureJaxRL's hyperparameters, to say which share of the machine's rate a whole training iteration uses. For PPO it says as well
where the time of an iteration goes: its parts are compiled apart and timed in loops. Of SAC (on Pendulum-v1, a minibatch of
256, layers of 256-256) every product of an iteration is timed alone: see `limits_sac.py`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro

MEASURED_STEPS = 200_000
DQN_SIZES = (4, 120, 84, 2)
ACTOR_SIZES = (4, 64, 64, 2)
CRITIC_SIZES = (4, 64, 64, 1)


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure, and where the figures go."""

    agent: Literal["dqn", "ppo", "sac"] = "dqn"
    out: Path | None = None
    threads: int = 0
    """CPU threads of compiled programs; 0 leaves it to JAX."""
    loops: int = 300
    """Calls of each part of PPO, and of each product of SAC, in one timed loop."""


def main(options: Options) -> None:
    """Measures and prints; one JSON object."""
    if options.threads:
        os.environ["NPROC"] = str(options.threads)
    if options.agent == "sac":
        from limits_sac import measure_sac

        result = measure_sac(options.loops)
    else:
        result = measure_dqn() if options.agent == "dqn" else measure_ppo(options.loops)
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    import jax

    return {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "threads": os.environ.get("NPROC", "default"),
        "jax": jax.__version__,
    }


def matmul_rates(shapes: tuple[tuple[int, int, int], ...]) -> dict[str, float]:
    """GFLOP/s (a multiply and an add are two) of products [m, k] @ [k, n], by their text."""
    return {f"{m}x{k} @ {k}x{n}": matmul_rate(m, k, n) for m, k, n in shapes}


# --- DQN ------------------------------------------------------------------------------------------------------------


def measure_dqn() -> dict[str, Any]:
    """Rates in GFLOP/s."""
    from cases import CASES

    from throughput import measure

    large = matmul_rate(2048, 2048, 2048)
    layers = matmul_rates(((128, 4, 120), (128, 120, 84), (10, 120, 84)))
    training = measure(CASES["dqn-purejaxrl"], MEASURED_STEPS)
    flops = dqn_flops(batch=128, acting=10, sizes=DQN_SIZES)
    rate = flops * (training["steps_per_second"] / 10) / 1e9
    best = max(large, *layers.values())
    return machine() | {
        "gflops_matmul_2048": round(large, 1),
        "gflops_matmul_dqn_layers": {name: round(value, 1) for name, value in layers.items()},
        "dqn_steps_per_second": training["steps_per_second"],
        "dqn_mflop_per_iteration": round(flops / 1e6, 3),
        "dqn_gflops": round(rate, 1),
        "dqn_share_of_largest_rate": round(rate / best, 3),
    }


def dqn_flops(batch: int, acting: int, sizes: tuple[int, ...]) -> int:
    """Arithmetic of the matrix products in one DQN iteration: target and online forward pass, backward pass, and acting."""
    return (2 * batch + acting) * forward_flops(sizes) + batch * backward_flops(sizes)


def forward_flops(sizes: tuple[int, ...]) -> int:
    """Arithmetic of the matrix products in a network's forward pass for one row."""
    return 2 * sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))


def backward_flops(sizes: tuple[int, ...]) -> int:
    """Of its backward pass: the gradient of each weight, and of each layer's input but the first's."""
    return forward_flops(sizes) + forward_flops(sizes[1:])


# --- PPO ------------------------------------------------------------------------------------------------------------


def measure_ppo(loops: int) -> dict[str, Any]:
    """The account of one PPO iteration: microseconds and arithmetic of its parts, and their shares of the matmul rate.

    `iteration` is a whole training run's time divided by its iterations. `rollout` and `update` call the agent, each in a loop
    of its own; an epoch's time is what an update with more epochs takes longer, and `one minibatch` holds its share of the
    epoch's shuffling. What an update takes beside its epochs is `preparing`. `rest` is what the iteration takes beside rollout
    and update: the records of episodes. All times are the best of five, and a negative one is noise: two figures that differ by
    less than the measurement does. What stands under `alone` is not a sum's part but a piece of work by itself.
    """
    from cases import CASES, PUREJAXRL_PPO

    from throughput import measure

    fields = PUREJAXRL_PPO
    num_steps, num_epochs = fields["num_envs"] * fields["rollout_length"], fields["num_epochs"]
    minibatch = num_steps // fields["num_minibatches"]
    large = matmul_rate(2048, 2048, 2048)
    layers = matmul_rates(((minibatch, 4, 64), (minibatch, 64, 64), (fields["num_envs"], 64, 64)))
    steps_per_second = max(measure(CASES["ppo-purejaxrl"], MEASURED_STEPS, repeats=5)["all_steps_per_second"])
    rollout = rollout_seconds(fields, loops)
    once, twice = (update_seconds(fields | {"num_epochs": n}, loops) for n in (num_epochs, 2 * num_epochs))
    epochs = twice - once
    seconds = {
        "iteration": num_steps / steps_per_second,
        "rollout": rollout["rollout"],
        "update": once,
        "update: preparing": once - epochs,
        "update: epochs": epochs,
        "update: one minibatch": epochs / (num_epochs * fields["num_minibatches"]),
    }
    seconds["rest"] = seconds["iteration"] - seconds["rollout"] - seconds["update"]
    flops = ppo_flops(fields)
    total, best = sum(flops.values()), max(large, *layers.values())
    spent = {"rollout": rollout["rollout"], "preparing": once - epochs, "epochs": epochs}
    return machine() | {
        "gflops_matmul_2048": round(large, 1),
        "gflops_matmul_ppo_layers": {name: round(value, 1) for name, value in layers.items()},
        "ppo_steps_per_second": steps_per_second,
        "ppo_microseconds": microseconds(seconds),
        "alone_microseconds": microseconds(
            {f"rollout: {name}": value for name, value in rollout.items() if name != "rollout"}
            | preparing_seconds(fields, loops)
            | minibatch_seconds(minibatch, fields, loops)
        ),
        "ppo_mflop_per_iteration": {name: round(value / 1e6, 3) for name, value in (flops | {"total": total}).items()},
        "ppo_gflops": round(total / seconds["iteration"] / 1e9, 1),
        "ppo_share_of_largest_rate": round(total / seconds["iteration"] / 1e9 / best, 3),
        "ppo_share_of_largest_rate_by_part": {name: share(flops[name], spent[name], best) for name in flops},
        "ppo_steps_per_second_at_largest_rate": round(num_steps / (total / (best * 1e9))),
    }


def microseconds(seconds: dict[str, float]) -> dict[str, float]:
    """Seconds as microseconds, rounded."""
    return {name: round(value * 1e6, 1) for name, value in seconds.items()}


def share(flops: float, seconds: float, best: float) -> float | None:
    """Which share of `best` GFLOP/s a part reaches, None where its time is below what can be measured."""
    return round(flops / seconds / 1e9 / best, 3) if seconds > 0 else None


def ppo_flops(fields: dict[str, Any]) -> dict[str, int]:
    """Arithmetic of the matrix products in one PPO iteration.

    Acting needs the actor; preparing the values of each step's two observations and the old log-probabilities; each epoch a
    forward and a backward pass of both networks.
    """
    num_steps = fields["num_envs"] * fields["rollout_length"]
    actor, critic = forward_flops(ACTOR_SIZES), forward_flops(CRITIC_SIZES)
    learning = actor + critic + backward_flops(ACTOR_SIZES) + backward_flops(CRITIC_SIZES)
    return {
        "rollout": num_steps * actor,
        "preparing": num_steps * (actor + 2 * critic),
        "epochs": fields["num_epochs"] * num_steps * learning,
    }


def training_start(fields: dict[str, Any]) -> tuple[Any, ...]:
    """(agent, env, first state, key of the training stream, progress) of PPO on CartPole-v1."""
    import jax

    from jaxrl import loop
    from jaxrl.agents import PPOConfig, make_ppo
    from jaxrl.config import as_arrays
    from jaxrl.envs import make
    from jaxrl.types import Env

    config, env = as_arrays(PPOConfig(**fields)), make("CartPole-v1", fields["num_envs"])
    assert isinstance(env, Env)
    agent = loop.build_in(make_ppo, config, env)
    keys = loop.run_keys(jax.random.key(0))
    state = jax.jit(lambda key: loop.init_state(key, agent, env))(keys.init)
    return (
        agent,
        env,
        state,
        keys.train,
        loop.plan(config, env.spec, 1000 * env.num_envs * fields["rollout_length"]).progress(0),
    )


def rollout_seconds(fields: dict[str, Any], loops: int) -> dict[str, float]:
    """A whole rollout, and its pieces alone: T times acting on the same observations, T times stepping by random actions."""
    import jax

    from jaxrl import loop
    from jaxrl.types import sample_action

    agent, env, state, key, progress = training_start(fields)
    length = fields["rollout_length"]
    actions = sample_action(jax.random.key(1), env.spec.action, (length, env.num_envs))

    def rollout(index: Any, carry: Any) -> Any:
        state, _, key, progress = carry
        state, rows = loop.collect(loop.iteration_keys(key, index, length), agent, env, state, progress)
        return state, rows, key, progress

    def acting(index: Any, carry: Any) -> Any:
        policy, obs, _, key, progress = carry

        def step(obs: Any, key: Any) -> Any:
            action, _, _ = agent.act(key, policy, (), obs, progress, True)
            # The action feeds the next observation, so no step can be left out.
            return obs + 1e-9 * action[:, None], action

        obs, actions = jax.lax.scan(step, obs, loop.iteration_keys(key, index, length).act)
        return policy, obs, actions, key, progress

    def environments(index: Any, carry: Any) -> Any:
        env_state, _, key, actions = carry

        def step(env_state: Any, row: Any) -> Any:
            return env.step(row[0], env.params, env_state, row[1])

        env_state, rows = jax.lax.scan(step, env_state, (loop.iteration_keys(key, index, length).env, actions))
        return env_state, rows, key, actions

    return {
        "rollout": seconds_each(rollout, (state, None, key, progress), loops),
        "acting": seconds_each(acting, (state.agent.policy, state.obs, None, key, progress), loops),
        "environments": seconds_each(environments, (state.env, None, key, actions), loops),
    }


def update_seconds(fields: dict[str, Any], loops: int) -> float:
    """The agent's update, always of the same rollout."""
    import jax

    from jaxrl import loop

    agent, env, state, key, progress = training_start(fields)
    keys = loop.iteration_keys(key, 0, fields["rollout_length"])
    rollout = jax.jit(lambda: loop.collect(keys, agent, env, state, progress)[1])()

    def update(index: Any, carry: Any) -> Any:
        agent_state, _, rollout, key, progress = carry
        agent_state, metrics = agent.update(jax.random.fold_in(key, index), agent_state, rollout, progress)
        return agent_state, metrics, rollout, key, progress

    return seconds_each(update, (state.agent, None, rollout, key, progress), loops)


def preparing_seconds(fields: dict[str, Any], loops: int) -> dict[str, float]:
    """Pieces of an update that come before its minibatches, alone."""
    import jax
    import jax.numpy as jnp

    from jaxrl.maths import returns

    shape = fields["rollout_length"], fields["num_envs"]
    num_steps = shape[0] * shape[1]
    actor, critic = network(ACTOR_SIZES), network(CRITIC_SIZES)
    obs = jax.random.normal(jax.random.key(2), (2, *shape, 4))
    columns = jax.random.normal(jax.random.key(3), (6, num_steps))
    ended = jax.random.bernoulli(jax.random.key(4), 0.02, shape)

    def forward(_: Any, carry: Any) -> Any:
        actor, critic, obs = carry
        values, logits = apply(critic, obs), jax.nn.log_softmax(apply(actor, obs[0]))
        return actor, critic, obs + 1e-9 * (values + jnp.sum(logits))

    def advantage(_: Any, carry: Any) -> Any:
        reward, ended = carry
        return reward + 1e-9 * returns.gae(reward, 0.99 * (1.0 - ended), reward, reward, ended, fields["gae_lambda"]), ended

    def shuffle(index: Any, carry: Any) -> Any:
        rows, columns, key = carry
        order = jax.random.permutation(jax.random.fold_in(key, index), num_steps)
        return rows[order], columns[:, order], key

    return {
        "preparing: values of both observations, log-probabilities": seconds_each(forward, (actor, critic, obs), loops),
        "preparing: advantages": seconds_each(advantage, (obs[0, ..., 0], ended), loops),
        "epoch: permutation and gathering": seconds_each(
            shuffle, (obs[0].reshape(num_steps, 4), columns, jax.random.key(5)), loops
        ),
    }


def minibatch_seconds(minibatch: int, fields: dict[str, Any], loops: int) -> dict[str, float]:
    """Pieces of one gradient step, alone: a clipped loss with its gradient, clipping and Adam, and the tanh of its layers."""
    import jax
    import jax.numpy as jnp

    from jaxrl.maths import optimizer

    params = network(ACTOR_SIZES), network(CRITIC_SIZES)
    obs = jax.random.normal(jax.random.key(6), (minibatch, 4))
    clip = fields["clip"]

    def loss(params: Any, obs: Any) -> Any:
        log_probs, value = jax.nn.log_softmax(apply(params[0], obs)), apply(params[1], obs)[:, 0]
        ratio, advantage, target = jnp.exp(log_probs[:, 0] + 0.7), obs[:, 0], obs[:, 1]
        surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        return jnp.mean(0.5 * jnp.square(value - target) - surrogate - 0.01 * entropy)

    def gradient(_: Any, carry: Any) -> Any:
        params, obs = carry
        return jax.tree.map(lambda p, g: p - 1e-9 * g, params, jax.grad(loss)(params, obs)), obs

    def adam(_: Any, carry: Any) -> Any:
        params, grads, opt_state = carry
        step = optimizer.step(params, grads, opt_state, 1e-9, fields["max_grad_norm"], 1e-5)
        return step.params, grads, step.opt_state

    widths = sum(ACTOR_SIZES[1:-1]) + sum(CRITIC_SIZES[1:-1])
    hidden = jax.random.normal(jax.random.key(7), (minibatch, widths))
    many = 16 * loops
    return {
        "minibatch: loss and gradient": seconds_each(gradient, (params, obs), many),
        "minibatch: clipping and Adam": seconds_each(adam, (params, params, optimizer.init(params)), many),
        f"minibatch: tanh of {widths} hidden units": seconds_each(lambda _, x: x + 1e-3 * jnp.tanh(x), hidden, many),
    }


def network(sizes: tuple[int, ...]) -> list[Any]:
    """Random weights and zero biases of dense layers."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(8), len(sizes) - 1)
    shapes = zip(keys, sizes, sizes[1:], strict=False)
    return [(jax.random.normal(key, (m, n)) * m**-0.5, jnp.zeros(n)) for key, m, n in shapes]


def apply(layers: list[Any], x: Any) -> Any:
    """[..., F] -> [..., outputs] with tanh between the layers."""
    import jax.numpy as jnp

    for weights, bias in layers[:-1]:
        x = jnp.tanh(x @ weights + bias)
    return x @ layers[-1][0] + layers[-1][1]


# --- timing ---------------------------------------------------------------------------------------------------------


def seconds_each(step: Callable[[Any, Any], Any], carry: Any, repeats: int) -> float:
    """Seconds of one `step(index, carry) -> carry` inside a compiled loop.

    All its data is in the carry, so that none is a constant; and all its results, so that none is left out.

    Args:
      carry: None stands for a result that the first step has yet to give.
    """
    import jax

    carry = jax.jit(step)(0, carry)
    run = jax.jit(lambda carry: jax.lax.fori_loop(0, repeats, step, carry))
    return best_time(lambda: run(carry)) / repeats


def matmul_rate(m: int, k: int, n: int, seconds: float = 0.5) -> float:
    """GFLOP/s of a product [m, k] @ [k, n] inside a compiled loop, the best of five."""
    import jax
    import jax.numpy as jnp

    a, b = jax.random.normal(jax.random.key(0), (m, k)), jax.random.normal(jax.random.key(1), (k, n))
    repeats = max(int(seconds * 5e10 / (2 * m * k * n)), 2)

    @jax.jit
    def loop(a: jax.Array, b: jax.Array) -> jax.Array:
        # The product feeds the next one's input, so no product can be left out or moved out of the loop.
        return jax.lax.fori_loop(0, repeats, lambda _, a: a + 1e-9 * jnp.max(a @ b), a)

    return 2 * m * k * n * repeats / best_time(lambda: loop(a, b)) / 1e9


def best_time(run: Callable[[], Any], repeats: int = 5) -> float:
    """Shortest wall-clock seconds of a call, after one that compiles."""
    import jax

    jax.block_until_ready(run())
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
