"""The attention model's baseline: it changes the variance of the gradient of where to look, not its mean.

    python experiments/ram.py variance

A run on `glimpse/digits` stops at several points of training. There the policy stays as it is and looks at more pictures, each
of which gives one estimate of the gradient of the expected reward with respect to the location network,

    g = sum_{t=1}^{T-1} (R - b_t) grad log pi(l_{t+1} | h_t)

by the agent's own loss, with three baselines: none (b_t = 0), the mean reward (of other pictures) and the learned b_t. The
variance is the trace of the covariance of g. All three see the same pictures and locations, so the means are compared by the
differences d of paired samples. If the means are equal, |mean d|^2 is its expectation tr(S) / n times about a chi-square over
its degrees of freedom nu = tr(S)^2 / tr(S^2), S being the covariance of d and n the pictures (Satterthwaite 1946, "An
Approximate Distribution of Estimates of Variance Components"). Results: `experiments/results/ram-variance.json` and `.png`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.stats import chi2

import jaxrl
from jaxrl.agents import RAMConfig, make_ram
from jaxrl.agents.attention.ram import deviation, loss_of, networks_of
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
    memory, std = networks.core.initial_memory((1,)), deviation(arrays, progress)

    def gradient(policy: PyTree, head: PyTree, column: PyTree) -> Array:
        def loss(location: PyTree) -> Array:
            episode = jax.tree.map(lambda leaf: leaf[:, None], column)
            return loss_of(arrays, networks, std, policy | {"baseline": head, "location": location}, memory, episode)[0]

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
    """Variances, and how far apart the means are, at one point of training."""
    keys = jax.random.split(key, 2 * num_batches)
    mean = np.mean([np.asarray(play(key, state, 0.0)[1]).mean() for key in keys[num_batches:][: max(num_batches // 8, 1)]])
    total = square = apart = outer = 0.0
    rewards = []
    for key in keys[:num_batches]:
        gradients, reward = (np.asarray(found, float) for found in play(key, state, float(mean)))
        differences = gradients[1:] - gradients[:1]
        total, square = total + gradients.sum(1), square + np.square(gradients).sum(1)
        apart, outer = apart + differences.sum(1), outer + differences.transpose(0, 2, 1) @ differences
        rewards.append(reward.mean())
    count = num_batches * gradients.shape[1]
    variance = (square - np.square(total) / count) / (count - 1)
    covariance = (outer - apart[:, :, None] * apart[:, None] / count) / (count - 1)
    return {
        "pictures": count,
        "accuracy": float(np.mean(rewards)),
        "mean_reward_as_baseline": float(mean),
        "variance": dict(zip(BASELINES, variance.sum(1).tolist(), strict=True)),
        "distance": {
            name: distance(d, s, count) for name, d, s in zip(list(BASELINES)[1:], apart / count, covariance, strict=True)
        },
    }


def distance(mean: np.ndarray, covariance: np.ndarray, count: int) -> dict[str, Any]:
    """The squared length of a mean difference [P] over what it is if nothing differs, and where 99 % of such lie."""
    trace = np.trace(covariance)
    degrees = trace**2 / np.square(covariance).sum()
    low, high = chi2.ppf((0.005, 0.995), degrees) / degrees
    squared = np.square(mean).sum() / (trace / count)
    return {"squared": float(squared), "degrees": float(degrees), "interval_99": [float(low), float(high)]}


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    """Against the pictures trained on, left the variance, right how far the means are apart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = np.arange(len(rows))
    for name, color in BASELINES.items():
        left.plot(places, [row["variance"][name] for row in rows], "o-", color=color, lw=2.0, label=name)
    for place, row in enumerate(rows):
        at = place, max(row["variance"].values())
        left.annotate(
            f"{row['accuracy']:.0%}", at, (0, 8), textcoords="offset points", ha="center", fontsize="small", color="0.3"
        )
    left.set_yscale("log")
    left.set(ylabel="variance of one picture's gradient", xlabel="pictures trained on (percent: classified right)")
    left.margins(y=0.15)
    for shift, (name, color) in zip((-0.08, 0.08), list(BASELINES.items())[1:], strict=True):
        found = [row["distance"][name] for row in rows]
        low, high = np.transpose([each["interval_99"] for each in found])
        right.vlines(places + shift, low, high, color=color, alpha=0.3, lw=9)
        right.plot(places + shift, [each["squared"] for each in found], "o", color=color, label=name)
    right.plot([], [], color="0.75", lw=9, label="where 99 % lie if the means are equal")
    right.axhline(1.0, color="0.2", lw=1.0, ls="--")
    right.set_ylim(bottom=0.0)
    right.set(
        ylabel="squared distance of the mean from that\nwithout baseline, over its expectation", xlabel="pictures trained on"
    )
    for axes in (left, right):
        axes.set_xticks(places, [f"{row['trained_on']:,}" for row in rows])
        axes.set_xlim(-0.4, len(rows) - 0.6)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3 if axes is left else 2, fontsize="small"
        )
    figure.savefig(out, dpi=130)


def variance(marks: list[int], num_batches: int, seed: int, results: Path) -> None:
    """Trains, measures, writes and prints."""
    # The paper's linear location network, so that the covariance of all its parameters fits, and one deviation throughout.
    config = RAMConfig(location_units=0, location_share=0.0, location_std=0.1, location_std_end_share=1.0)
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
    about = config_values(jaxrl.Run("ram", ENV, config))
    shown = " ".join(map(str, marks))
    result = {
        "command": f"python experiments/ram.py variance --marks {shown} --batches {num_batches} --seed {seed}",
        "distance": "of the mean gradient from that without baseline, squared, over its expectation if both are equal",
        "points": rows,
        **{name: about[name] for name in ("env", "config", "versions", "device")},
    }
    write_json(results / "ram-variance.json", result)
