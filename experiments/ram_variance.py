"""The attention model's baseline: it changes the variance of the gradient of where to look, not its mean.

    python experiments/ram.py variance

A run on `glimpse/digits` stops at several points of training. There the policy stays as it is and looks at more pictures, each
of which gives one estimate of the gradient of the expected reward with respect to the location network,

    g = sum_{t=1}^{T-1} (R - b_t) grad log pi(l_{t+1} | h_t)

by the agent's own loss, with three baselines: none (b_t = 0), the mean reward (of other pictures) and the learned b_t. The
variance is the trace of the covariance of g. All three see the same pictures and locations, so the differences of their means
are those of paired samples: each component, divided by its standard error, is a draw of N(0, 1) if the means are equal. (The
errors of components are correlated, so their histogram need not be as smooth as that of independent draws.) Results go to
`experiments/results/ram-variance.json` and `.png`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxrl
from jaxrl.agents import RAMConfig, make_ram
from jaxrl.agents.attention.ram import loss_of, networks_of
from jaxrl.config import as_arrays
from jaxrl.loop import build_in, collect, init_state, iteration_keys, plan, repeat, run_keys
from jaxrl.records import write_json
from jaxrl.runs.definition import config_values
from jaxrl.types import Array, Env, PyTree, RunState

ENV = "glimpse/digits"
BASELINES = {"none": "#6b7280", "mean reward": "#d97706", "learned": "#1d4ed8"}


def run_to(marks: list[int], config: RAMConfig, env: Env, seed: int) -> list[RunState]:
    """The states of one run after so many iterations each; the last is its end."""
    arrays = as_arrays(config)
    agent, keys = build_in(make_ram, arrays, env), run_keys(jax.random.key(seed))
    schedule = plan(config, env.spec, marks[-1] * config.num_envs * env.spec.time_limit)
    length, progress = schedule.rollout_length, schedule.progress(0)
    advance = jax.jit(lambda state, count: repeat(keys.train, agent, env, state, count, progress, length, learn=True)[0])
    states = [jax.jit(lambda key: init_state(key, agent, env))(keys.init)]
    for before, mark in zip([0, *marks], marks, strict=False):
        states.append(advance(states[-1], jnp.int32(mark - before)))
    return states[1:]


def play(config: RAMConfig, env: Env) -> Any:
    """The compiled (key, state, mean reward) -> (gradients [baselines, B, P], rewards [B])."""
    arrays = as_arrays(config)
    agent, networks, length = build_in(make_ram, arrays, env), networks_of(arrays, env.spec), env.spec.time_limit
    progress = plan(config, env.spec, 1).progress(0)
    memory = networks.core.initial_memory((1,))

    def gradient(policy: PyTree, head: PyTree, column: PyTree) -> Array:
        def loss(location: PyTree) -> Array:
            episode = jax.tree.map(lambda leaf: leaf[:, None], column)
            return loss_of(arrays, networks, policy | {"baseline": head, "location": location}, memory, episode)[0]

        return -ravel_pytree(jax.grad(loss)(policy["location"]))[0]

    def one(key: Array, state: RunState, mean: Array) -> tuple[Array, Array]:
        key_reset, key = jax.random.split(key)
        env_state, obs = env.reset(key_reset, env.params)
        state = state._replace(env=env_state, obs=obs, memory=agent.initial_memory(env.num_envs))
        _, rollout = collect(iteration_keys(key, 0, length), agent, env, state, progress)
        policy = state.agent.policy
        zero = jax.tree.map(jnp.zeros_like, policy["baseline"])
        heads = (zero, {"params": zero["params"] | {"bias": jnp.full(1, mean)}}, policy["baseline"])
        of_each = jax.vmap(partial(gradient, policy), in_axes=(None, 1))
        return jnp.stack([of_each(head, rollout) for head in heads]), rollout.reward[-1]

    return jax.jit(one)


def measure(play: Any, state: RunState, key: Array, num_batches: int) -> dict[str, Any]:
    """Variances, and how far apart the means are, at one point of training; `differences` [2, P] are in standard errors."""
    keys = jax.random.split(key, 2 * num_batches)
    mean = np.mean([np.asarray(play(key, state, 0.0)[1]).mean() for key in keys[num_batches:][: max(num_batches // 8, 1)]])
    total = square = apart = apart_square = 0.0
    rewards = []
    for key in keys[:num_batches]:
        gradients, reward = (np.asarray(found, float) for found in play(key, state, float(mean)))
        apart_now = gradients[1:] - gradients[:1]
        total, square = total + gradients.sum(1), square + np.square(gradients).sum(1)
        apart, apart_square = apart + apart_now.sum(1), apart_square + np.square(apart_now).sum(1)
        rewards.append(reward.mean())
    count = num_batches * gradients.shape[1]
    variance = (square - np.square(total) / count) / (count - 1)
    spread = (apart_square - np.square(apart) / count) / (count - 1)
    differences = np.divide(apart / count, np.sqrt(spread / count), out=np.zeros_like(apart), where=spread > 0)
    used = differences[:, spread.max(0) > 0]
    return {
        "pictures": count,
        "accuracy": float(np.mean(rewards)),
        "mean_reward_as_baseline": float(mean),
        "variance": dict(zip(BASELINES, variance.sum(1).tolist(), strict=True)),
        "norm_of_mean": dict(zip(BASELINES, np.linalg.norm(total / count, axis=1).tolist(), strict=True)),
        "differences": dict(zip(list(BASELINES)[1:], used.tolist(), strict=True)),
    }


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    """Left the variance at each point of training, right the differences of the means of all of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    seen = [row["trained_on"] for row in rows]
    for name, color in BASELINES.items():
        left.plot(seen, [row["variance"][name] for row in rows], "o-", color=color, lw=2.0, label=name)
    for row in rows:
        text = f"{row['accuracy']:.0%}"
        left.annotate(text, (row["trained_on"], max(row["variance"].values())), (0, 7), textcoords="offset points", ha="center",
                      fontsize="small", color="0.3")  # fmt: skip
    left.set_yscale("log")
    left.set_xscale("symlog", linthresh=max(seen[1] if len(seen) > 1 else 1, 1))
    left.set(
        xlabel="pictures trained on (above: share of pictures classified right)", ylabel="variance of one picture's gradient"
    )
    left.set_xticks(seen, [f"{number:,}" for number in seen])
    left.minorticks_off()
    left.margins(y=0.15)
    edges = np.linspace(-4.0, 4.0, 41)
    for name in list(BASELINES)[1:]:
        values = np.concatenate([row["differences"][name] for row in rows])
        label = f"{name}: root mean square {np.sqrt(np.mean(np.square(values))):.2f}, largest {np.abs(values).max():.1f}"
        right.hist(values, edges, density=True, histtype="stepfilled", color=BASELINES[name], alpha=0.4, label=label)
    x = np.linspace(-4.0, 4.0, 200)
    right.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color="0.2", lw=1.2, ls="--", label="N(0, 1)")
    right.set(xlabel="difference of the mean from that without baseline, in standard errors", ylabel="density of components")
    for axes, columns in ((left, 3), (right, 1)):
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize="small")
    figure.savefig(out, dpi=130)


def variance(marks: list[int], num_batches: int, seed: int, results: Path) -> None:
    """Trains, measures, writes and prints."""
    config = RAMConfig()
    env = jaxrl.make(ENV, config.num_envs)
    assert isinstance(env, Env)
    compiled, rows = play(config, env), []
    for mark, state in zip(marks, run_to(marks, config, env, seed), strict=True):
        key = jax.random.fold_in(jax.random.key(seed), mark)
        rows.append({"trained_on": mark * config.num_envs} | measure(compiled, state, key, num_batches))
        shown = ", ".join(f"{name} {value:.4g}" for name, value in rows[-1]["variance"].items())
        print(f"{rows[-1]['trained_on']:,} pictures, accuracy {rows[-1]['accuracy']:.3f}: variance {shown}", flush=True)
    results.mkdir(parents=True, exist_ok=True)
    draw(rows, results / "ram-variance.png")
    for row in rows:
        row["differences"] = {name: summary(np.array(z)) for name, z in row["differences"].items()}
    about = config_values(jaxrl.Run("ram", ENV, config))
    shown = " ".join(map(str, marks))
    result = {
        "command": f"python experiments/ram.py variance --marks {shown} --batches {num_batches} --seed {seed}",
        "differences": "of the mean from that without baseline, in standard errors, over components",
        "points": rows,
        **{name: about[name] for name in ("env", "config", "versions", "device")},
    }
    write_json(results / "ram-variance.json", result)


def summary(z: np.ndarray) -> dict[str, float]:
    """Of differences in standard errors."""
    return {"root_mean_square": float(np.sqrt(np.mean(np.square(z)))), "largest": float(np.abs(z).max()), "components": len(z)}
