"""Host environments: env steps/s of acting and of training on Atari, and what a replay of a million frames takes.

    python benchmarks/host.py --out host.json

Parts:
  acting    random play through envpool alone, its own rate; then the 2013 network choosing DQN's actions, in jaxrl's driver,
            in the same driver with two groups of environments, of which one is stepped while the device acts for the other
            (what it does with an accelerator), inside one compiled program through `env.xla()`, and in the plain loop of
            CleanRL's scripts.
  training  DQN with that network, minibatches of 32, one gradient step for every 4 env steps: jaxrl, and the plain loop with
            a NumPy replay of stacked pairs.
  replay    a million frames of 84 x 84: resident bytes when full, and milliseconds to store a step and to sample 32 stacks.

Every measurement is a process of its own without a compilation cache, one after the other, repeats interleaved; the figures are
medians. The plain loop is written here after the way of CleanRL's dqn_atari_jax.py: no code is taken from it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from peers import cpu_name, revision
from rich.console import Console
from rich.table import Table

BATCH_SIZE, STEPS_PER_UPDATE, CAPACITY = 32, 4, 100_000
SECONDS_OF_WARMUP = 2.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured, how often."""

    parts: tuple[str, ...] = ("acting", "training", "replay")
    game: str = "Pong-v5"
    num_envs: int = 8
    seconds: float = 20.0
    """Of each measurement of acting and training, without compiling."""
    repeats: int = 3
    frames: int = 1_000_000
    """Of the part `replay`."""
    threads: int = 0
    """CPU threads of compiled programs; 0 leaves it to JAX."""
    out: Path | None = None
    """JSON file to write; parts that are not measured keep what it holds."""
    worker: str | None = None
    """Internal: one measurement in this process."""


# --- jaxrl ----------------------------------------------------------------------------------------------------------


def jaxrl_rate(options: Options, learn: bool, split: bool | None = None) -> dict[str, Any]:
    """Env steps/s of jaxrl's driver for host environments."""
    import jax

    from jaxrl.agents import DQNConfig, make_dqn
    from jaxrl.config import as_arrays
    from jaxrl.drivers.host import host_driver
    from jaxrl.envs import make
    from jaxrl.loop import Plan, run_keys
    from jaxrl.types import Agent

    length = STEPS_PER_UPDATE
    config = as_arrays(
        DQNConfig(
            num_envs=options.num_envs,
            rollout_length=length,
            num_updates=options.num_envs * length // STEPS_PER_UPDATE,
            batch_size=BATCH_SIZE,
            capacity=CAPACITY if learn else 10_000,
            learning_rate=1e-4,
            torso="atari2013",
            double=False,
        )
    )

    def make_actor(*arguments: Any) -> Agent:
        """DQN that acts and stores nothing."""
        return make_dqn(*arguments)._replace(observe=lambda state, rollout: state)

    env: Any = make(f"envpool/{options.game}", options.num_envs)
    driver = host_driver(make_dqn if learn else make_actor, env, lambda n: env, split=split)
    keys = run_keys(jax.random.key(0))
    state = driver.init(keys.init, config, ())
    warmup = 2_000 // (options.num_envs * length)
    progress = Plan(length, options.num_envs * length, warmup, 1_000_000).progress(0)

    def advance(count: int) -> None:
        nonlocal state
        state, _ = driver.advance(keys.train, config, (), state, 0 if learn else count, count if learn else 0, progress)
        jax.block_until_ready(state.agent)

    if learn:
        state, _ = driver.advance(keys.train, config, (), state, warmup, 0, progress)
    rate = steady_rate(lambda: advance(20), 20 * options.num_envs * length, options.seconds)
    driver.close()
    return {"env_steps_per_second": rate}


# --- envpool alone, and the plain loop ----------------------------------------------------------------------------------


def make_pool(options: Options) -> Any:
    import envpool

    threads = min(options.num_envs, os.cpu_count() or 1)
    return envpool.make_gymnasium(
        options.game, num_envs=options.num_envs, seed=0, num_threads=threads, reward_clip=True, max_episode_steps=27_000
    )


def envpool_rate(options: Options) -> dict[str, Any]:
    """Env steps/s of envpool with random actions, by its plain step call."""
    pool = make_pool(options)
    pool.reset()
    rng = np.random.default_rng(0)
    actions = rng.integers(0, pool.action_space.n, (1000, options.num_envs)).astype(np.int32)

    def play() -> None:
        for action in actions[:100]:
            pool.step(action)

    return {"env_steps_per_second": steady_rate(play, 100 * options.num_envs, options.seconds)}


def q_network(num_actions: int) -> Any:
    """The Q-network of Mnih et al. 2013 with Flax's own convolutions."""
    import flax.linen as nn
    import jax.numpy as jnp

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = jnp.transpose(x, (0, 2, 3, 1)).astype(jnp.float32) / 255.0
            x = nn.relu(nn.Conv(16, (8, 8), (4, 4), padding="VALID")(x))
            x = nn.relu(nn.Conv(32, (4, 4), (2, 2), padding="VALID")(x))
            x = nn.relu(nn.Dense(256)(x.reshape(x.shape[0], -1)))
            return nn.Dense(num_actions)(x)

    return Network()


def plain_rate(options: Options, learn: bool) -> dict[str, Any]:
    """Env steps/s of a loop that acts, steps all environments, stores in NumPy and learns, one after the other."""
    import jax
    import jax.numpy as jnp
    import optax

    pool = make_pool(options)
    obs, _ = pool.reset()
    num_actions, num_envs = int(pool.action_space.n), options.num_envs
    network, optimizer = q_network(num_actions), optax.adam(1e-4)
    params = network.init(jax.random.key(0), jnp.asarray(obs))
    target, opt_state = params, optimizer.init(params)
    rng = np.random.default_rng(0)
    shape = obs.shape[1:]
    rows = CAPACITY if learn else 1
    ring = {
        "obs": np.zeros((rows, *shape), np.uint8),
        "next_obs": np.zeros((rows, *shape), np.uint8),
        "action": np.zeros(rows, np.int32),
        "reward": np.zeros(rows, np.float32),
        "terminated": np.zeros(rows, np.float32),
    }

    @jax.jit
    def greedy(params: Any, obs: Any) -> Any:
        return jnp.argmax(network.apply(params, obs), axis=-1)

    @jax.jit
    def update(params: Any, target: Any, opt_state: Any, batch: dict[str, Any]) -> Any:
        best = jnp.max(network.apply(target, batch["next_obs"]), axis=-1)
        goal = batch["reward"] + 0.99 * (1.0 - batch["terminated"]) * best

        def loss(params: Any) -> Any:
            q = network.apply(params, batch["obs"])
            return jnp.mean((q[jnp.arange(q.shape[0]), batch["action"]] - goal) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    count = 0

    def step() -> None:
        nonlocal obs, params, opt_state, count
        random = rng.random(num_envs) < 0.05
        action = np.where(random, rng.integers(0, num_actions, num_envs), np.asarray(greedy(params, obs))).astype(np.int32)
        next_obs, reward, terminated, _, _ = pool.step(action)
        if learn:
            place = np.arange(count, count + num_envs) % rows
            for name, value in zip(ring, (obs, next_obs, action, reward, terminated), strict=True):
                ring[name][place] = value
        count += num_envs
        obs = next_obs
        if learn and count > 2_000:
            for _ in range(num_envs // STEPS_PER_UPDATE):
                index = rng.integers(0, min(count, rows), BATCH_SIZE)
                params, opt_state, _ = update(params, target, opt_state, {name: value[index] for name, value in ring.items()})

    def play() -> None:
        for _ in range(50):
            step()
        jax.block_until_ready(params)

    while learn and count <= 2_000:
        step()
    return {"env_steps_per_second": steady_rate(play, 50 * num_envs, options.seconds)}


def xla_rate(options: Options) -> dict[str, Any]:
    """Env steps/s of acting and stepping in one compiled loop, through envpool's XLA interface."""
    import jax
    import jax.numpy as jnp

    pool = make_pool(options)
    handle, receive, send, _ = pool.xla()
    obs, _ = pool.reset()
    num_actions = int(pool.action_space.n)
    network = q_network(num_actions)
    params = network.init(jax.random.key(0), jnp.asarray(obs))

    @jax.jit
    def play(handle: Any, obs: Any, key: Any) -> Any:
        def body(carry: Any, key: Any) -> Any:
            handle, obs = carry
            action = jnp.argmax(network.apply(params, obs), axis=-1).astype(jnp.int32)
            draws = jax.random.uniform(key, (2, *action.shape))
            action = jnp.where(draws[0] < 0.05, (draws[1] * num_actions).astype(jnp.int32), action)
            handle = send(handle, action)
            handle, (obs, *_) = receive(handle)
            return (handle, obs), ()

        return jax.lax.scan(body, (handle, obs), jax.random.split(key, 100))[0]

    carry, key = (handle, jnp.asarray(obs)), jax.random.key(1)

    def run() -> None:
        nonlocal carry
        carry = jax.block_until_ready(play(*carry, key))

    return {"env_steps_per_second": steady_rate(run, 100 * options.num_envs, options.seconds)}


def steady_rate(play: Callable[[], None], steps: int, seconds: float) -> float:
    """Env steps/s of repeated calls of `play`, each of `steps`, after compiling and warming up."""
    started = time.perf_counter()
    play()
    while time.perf_counter() - started < SECONDS_OF_WARMUP:
        play()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        play()
        done += steps
    return done / (time.perf_counter() - started)


# --- the replay -----------------------------------------------------------------------------------------------------


def replay_cost(options: Options) -> dict[str, Any]:
    """Resident bytes of a full replay of frames; seconds to store a step of all environments and to sample 32 stacks."""
    import jax
    import jax.numpy as jnp

    from jaxrl.replay import frames
    from jaxrl.types import ArraySpec, Discrete, Rollout

    spec, num_envs, length = ArraySpec((4, 84, 84), "uint8", num_frames=4), options.num_envs, 100
    add = jax.jit(lambda ring, rollout: frames.add(ring, rollout, spec), donate_argnums=0)

    @jax.jit
    def sample(key: Any, ring: Any) -> Any:
        return frames.gather(ring, frames.sample_indices(key, ring, (BATCH_SIZE,), spec), spec, 1, 0.99)

    pictures = np.random.default_rng(0).integers(0, 256, (length + 4, num_envs, 84, 84), np.uint8)
    stacks = np.stack([pictures[t : t + 4].swapaxes(0, 1) for t in range(length + 1)])
    flag, number = np.zeros((length, num_envs), bool), np.zeros((length, num_envs), np.int32)
    rollout = jax.device_put(Rollout(stacks[:-1], number, number.astype(np.float32), flag, flag, stacks[1:], (), ()))
    small = jax.jit(lambda: frames.init(spec, num_envs, 1_000, Discrete(6)))()
    key = jax.random.key(0)
    jax.block_until_ready(sample(key, add(small, rollout)))
    before = resident_bytes()
    ring = jax.jit(lambda: frames.init(spec, num_envs, options.frames, Discrete(6)))()
    ring = jax.block_until_ready(add(ring, rollout))
    started = time.perf_counter()
    calls = options.frames // (num_envs * length) + 1
    for _ in range(calls):
        ring = add(ring, rollout)
    jax.block_until_ready(ring)
    stored = time.perf_counter() - started
    held = resident_bytes() - before
    jax.block_until_ready(sample(key, ring))
    times = []
    for index in range(200):
        key = jax.random.fold_in(key, index)
        started = time.perf_counter()
        jax.block_until_ready(sample(key, ring))
        times.append(time.perf_counter() - started)
    assert bool(jnp.all(ring.filled == options.frames // num_envs))
    return {
        "frames": options.frames,
        "resident_gb": held / 1e9,
        "stacked_pairs_gb": options.frames * 8 * 84 * 84 / 1e9,
        "peak_resident_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "store_ms_per_step_of_all_envs": 1e3 * stored / (calls * length),
        "sample_ms": 1e3 * statistics.median(times),
    }


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the whole ------------------------------------------------------------------------------------------------------

PARTS: dict[str, dict[str, Callable[[Options], dict[str, Any]]]] = {
    "acting": {
        "envpool alone": envpool_rate,
        "jaxrl": lambda options: jaxrl_rate(options, learn=False),
        "jaxrl, two groups": lambda options: jaxrl_rate(options, learn=False, split=True),
        "env.xla()": xla_rate,
        "plain loop": lambda options: plain_rate(options, learn=False),
    },
    "training": {
        "jaxrl": lambda options: jaxrl_rate(options, learn=True),
        "jaxrl, two groups": lambda options: jaxrl_rate(options, learn=True, split=True),
        "plain loop": lambda options: plain_rate(options, learn=True),
    },
    "replay": {"frames": replay_cost},
}


def main(options: Options) -> None:
    """Measures, prints a table and writes JSON."""
    if options.worker:
        part, name = options.worker.split("/")
        print(json.dumps(PARTS[part][name](options)))
        return
    for part in options.parts:
        if part not in PARTS:
            raise SystemExit(f"parts={part!r} is unknown; choose of {', '.join(PARTS)}")
    report: dict[str, Any] = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "python": platform.python_version(), "revision": revision("jaxrl")}
    for part in options.parts:
        measured = measure(options, part)
        settings = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine,
            "threads": options.threads,
            "num_envs": options.num_envs,
        }
        report[part] = settings | measured
        show(part, measured)
        if options.out:
            options.out.write_text(json.dumps(report, indent=2) + "\n")


def measure(options: Options, part: str) -> dict[str, Any]:
    """Every contender of a part in turn, as often as asked for."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in PARTS[part]}
    for _ in range(1 if part == "replay" else options.repeats):
        for name, lines in results.items():
            lines.append(call_worker(options, f"{part}/{name}"))
    if part == "replay":
        return results["frames"][0]
    rates = {name: [line["env_steps_per_second"] for line in lines] for name, lines in results.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    reference = "envpool alone" if part == "acting" else "plain loop"
    ratios = {name: rate / medians[reference] for name, rate in medians.items()}
    return {"game": options.game, "env_steps_per_second": medians, f"over {reference}": ratios, "all": rates}


def call_worker(options: Options, worker: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    environment = dict(os.environ) | ({"NPROC": str(options.threads)} if options.threads else {})
    environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    settings = ["--game", options.game, "--num-envs", str(options.num_envs), "--seconds", str(options.seconds)]
    command = [sys.executable, "-W", "ignore", __file__, "--worker", worker, "--frames", str(options.frames), *settings]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(part: str, measured: dict[str, Any]) -> None:
    table = Table(title=part)
    table.add_column("")
    table.add_column("median", justify="right")
    if part == "replay":
        for name, value in measured.items():
            table.add_row(name.replace("_", " "), f"{value:,.3f}")
    else:
        reference = next(name for name in measured if name.startswith("over "))
        table.add_column(reference, justify="right")
        for name, rate in measured["env_steps_per_second"].items():
            table.add_row(name, f"{rate:,.0f} env steps/s", f"{measured[reference][name]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
