"""What an accelerator makes of jaxrl, in one command and at most eight minutes on one modern GPU.

    python benchmarks/accelerator.py --out accelerator.json --figure accelerator.png
    python benchmarks/accelerator.py --small --out small.json                 # the same at the scale of a CPU, in a few minutes
    python benchmarks/accelerator.py --parts dqn-breakout equality --out accelerator.json
    python benchmarks/accelerator.py --parts --out accelerator.json --figure accelerator.png         # draws what there is

Every part is a process of its own with a time limit, and each figure is written as soon as it is there: a part that fails,
hangs or runs out of memory costs its own figures alone, and `--parts` measures parts anew. A rate is that of learning
iterations, timed for `--seconds`; what a whole run would take is extrapolated from it and says so, but for the parts
`headline-...`, which are whole runs. Memory is the most that the device has held; compile times are cold.

Parts, in the order of running:
  headline-ppo       PPO on CartPole-v1 at PureJaxRL's settings: 2,048 seeds of 500,000 env steps, whole, compile included.
  ppo-cartpole       the rate of 1, 16, 256 and 2,048 seeds.
  dqn-cartpole       DQN at PureJaxRL's settings: 1, 10, 50 and 256 seeds.
  dqn-breakout       the same with a replay of 50,000 on Breakout-MinAtar.
  ppo-breakout       PPO at PureJaxRL's settings for MinAtar: 1, 16 and 256 seeds.
  ppo-envs           one run of PPO with 2,048 environments.
  nature             the network of Mnih et al. 2015 forward and backward, minibatches of 32 and 256, beside large products.
  replay             frames stored and drawn on the device, and in host memory and brought to it.
  equality           a member of a vmapped population and the same run alone; a run with a checkpoint between its halves; a
                     replay in host memory and on the device.
  halving            a sweep with successive halving.
  headline-breakout  PPO on Breakout-MinAtar: 256 seeds of 10 million env steps, whole, compile included.
  peers              PureJaxRL (its checkout named by PUREJAXRL_DIR) and Rejax (where it is installed), in the same hour.

It needs jax, flax, optax, chex, orbax-checkpoint, gymnax and six, and what these need; no network. Where the machine has none,
carry wheels: `pip download jax[cuda12] flax optax chex orbax-checkpoint gymnax six -d wheels --python-version 3.12
--only-binary :all:`, there `pip install --no-index --find-links wheels ...` and PYTHONPATH set to this repository. The figure
is drawn where matplotlib is.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cases import CASES, Case

RUNNERS = Path(__file__).resolve().parent / "_peer_runners"
Emit = Callable[[str, dict[str, Any]], None]
"""(name of a figure, its values): hands them to the process that writes the file."""


class Scale:
    """How much is measured.

    Attributes:
      seconds: for which a rate is timed.
      seeds: (numbers of seeds) -> those that are measured.
      steps: (env steps) -> those of whole runs.
    """

    def __init__(self, small: bool, seconds: float) -> None:
        self.small, self.seconds = small, seconds

    def seeds(self, *numbers: int) -> tuple[int, ...]:
        return tuple(dict.fromkeys(min(number, 3) for number in numbers)) if self.small else numbers

    def steps(self, number: int) -> int:
        return max(number // 100, 4_096) if self.small else number


# --- rates of populations -----------------------------------------------------------------------------------------------


class Population:
    """Seeds of a case as one vmapped program of two halves, both compiled: first states, and any number of iterations."""

    def __init__(self, case: Case, num_seeds: int, steps: int) -> None:
        import jax
        import numpy as np

        from jaxrl.agents import load_agent
        from jaxrl.config import as_arrays, check_config
        from jaxrl.drivers.device import make_chunk
        from jaxrl.envs import make
        from jaxrl.loop import build_in, init_state, plan, run_keys
        from jaxrl.types import Env, RunState

        make_agent, config_class = load_agent(case.agent)
        config = config_class(**case.fields)
        check_config(config)
        env = make(case.env, config.num_envs)
        assert isinstance(env, Env)
        self.plan, self.num_seeds, self._counts = plan(config, env.spec, steps), num_seeds, np.int32
        arrays, keys = as_arrays(config), jax.vmap(run_keys)(jax.random.split(jax.random.key(0), num_seeds))
        axes: Any = RunState(agent=0, env=0, obs=0, memory=0, recent=0, iteration=None)  # type: ignore[arg-type]
        init = jax.vmap(lambda key: init_state(key, build_in(make_agent, arrays, env), env), out_axes=axes)
        chunk = jax.vmap(make_chunk(make_agent, env), in_axes=(0, None, None, axes, None, None, None), out_axes=(axes, 0))
        self._keys, self._fixed = keys.train, (arrays, env.params)
        begun = time.perf_counter()
        self._init = jax.jit(init).lower(keys.init).compile()
        self._first = functools.partial(self._init, keys.init)
        shapes = jax.eval_shape(init, keys.init)
        lowered = jax.jit(chunk, donate_argnums=3).lower(self._keys, *self._fixed, shapes, *self._amounts(1, 1))
        self._chunk = lowered.compile()
        self.compile_seconds = time.perf_counter() - begun
        self.state: Any = None

    def _amounts(self, num_observe: int, num_learn: int) -> tuple[Any, ...]:
        return self._counts(num_observe), self._counts(num_learn), self.plan.progress(0)

    def begin(self) -> None:
        """First states, and the warm-up."""
        self.state = self._first()
        self.advance(self.plan.num_warmup, 0)

    def advance(self, num_observe: int, num_learn: int) -> float:
        """Seconds of so many iterations."""
        import jax

        begun = time.perf_counter()
        self.state, sums = self._chunk(self._keys, *self._fixed, self.state, *self._amounts(num_observe, num_learn))
        jax.block_until_ready((self.state, sums))
        return time.perf_counter() - begun

    def returns(self) -> list[float]:
        """Mean return of the last episodes of each seed that has ended some."""
        import numpy as np

        recent = self.state.recent
        total = np.asarray(recent.total)
        kept = np.minimum(total, recent.returns.shape[-1])
        sums = np.asarray(recent.returns).sum(axis=-1)
        return [float(value) for value in (sums[total > 0] / kept[total > 0])]


def rate(name: str, seeds: tuple[int, ...], steps: int, scale: Scale, emit: Emit) -> None:
    """Env steps/s of learning, of all seeds together, for each number of seeds."""
    for number in seeds:
        population = Population(CASES[name], number, steps)
        population.begin()
        each = population.advance(0, 2) / 2.0  # The first iterations of a program are slower: a bound for how many fit.
        count = min(max(int(scale.seconds / max(each, 1e-6)), 2), 1_000_000)
        seconds = population.advance(0, count)
        per_iteration = number * population.plan.steps_per_iteration
        speed = count * per_iteration / seconds
        values = {
            "seeds": number,
            "steps_per_second": round(speed, 1),
            "timed_seconds": round(seconds, 3),
            "timed_iterations": count,
            "compile_seconds": round(population.compile_seconds, 2),
            "extrapolated_seconds_of_a_whole_run": round(number * steps / speed, 1),
            "whole_run_env_steps_each": steps,
            **memory(),
        }
        emit(str(number), values)
        del population


def whole(name: str, num_seeds: int, steps: int, emit: Emit) -> None:
    """A whole run of a population, compile and warm-up included."""
    import numpy as np

    begun = time.perf_counter()
    population = Population(CASES[name], num_seeds, steps)
    population.begin()
    population.advance(0, population.plan.num_iterations - population.plan.num_warmup)
    seconds, found = time.perf_counter() - begun, population.returns()
    taken = num_seeds * population.plan.num_iterations * population.plan.steps_per_iteration
    values = {
        "seeds": num_seeds,
        "env_steps_each": taken // num_seeds,
        "seconds": round(seconds, 2),
        "steps_per_second": round(taken / seconds, 1),
        "compile_seconds": round(population.compile_seconds, 2),
        "last_returns_mean": round(float(np.mean(found)), 2) if found else None,
        "last_returns_quartiles": [round(float(value), 2) for value in np.percentile(found, (25, 50, 75))] if found else None,
    }
    emit("whole", values | memory())


# --- parts --------------------------------------------------------------------------------------------------------------


def part_headline_ppo(scale: Scale, emit: Emit) -> None:
    whole("ppo-purejaxrl", scale.seeds(2_048)[0], scale.steps(500_000), emit)


def part_headline_breakout(scale: Scale, emit: Emit) -> None:
    whole("ppo-breakout", scale.seeds(256)[0], scale.steps(10_000_000), emit)


def part_ppo_cartpole(scale: Scale, emit: Emit) -> None:
    rate("ppo-purejaxrl", scale.seeds(1, 16, 256, 2_048), 500_000, scale, emit)


def part_ppo_breakout(scale: Scale, emit: Emit) -> None:
    rate("ppo-breakout", scale.seeds(1, 16, 256), 10_000_000, scale, emit)


def part_dqn_cartpole(scale: Scale, emit: Emit) -> None:
    rate("dqn-purejaxrl", scale.seeds(1, 10, 50, 256), 500_000, scale, emit)


def part_dqn_breakout(scale: Scale, emit: Emit) -> None:
    rate("dqn-breakout", scale.seeds(1, 10, 50, 256), 1_000_000, scale, emit)


def part_ppo_envs(scale: Scale, emit: Emit) -> None:
    rate("ppo-2048-envs", (1,), 10_000_000, scale, emit)


def part_nature(scale: Scale, emit: Emit) -> None:
    """Rates by the arithmetic that the compiler counts, beside that of large products in the same precision."""
    import jax
    import jax.numpy as jnp

    from jaxrl.nets.heads import QNetwork

    size = 512 if scale.small else 8_192
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = _rate(jax.jit(lambda a: a + 1e-9 * (a @ a)), a, 2.0 * size**3, scale.seconds / 4)
    emit("large product", {"size": size, "teraflops": round(product / 1e12, 3)})
    network = QNetwork(6, (), torso="nature")
    for batch in (4,) if scale.small else (32, 256):
        pictures = jax.random.randint(jax.random.key(1), (batch, 84, 84, 4), 0, 255).astype(jnp.uint8)
        params = network.init(jax.random.key(2), pictures)

        def step(params: Any, pictures: Any = pictures) -> Any:
            def loss(params: Any) -> Any:
                return jnp.mean(jnp.square(network.apply(params, pictures)))  # type: ignore[arg-type]

            return jax.tree.map(lambda p, g: p - 1e-9 * g, params, jax.grad(loss)(params))

        compiled = jax.jit(step).lower(params).compile()
        costs: Any = compiled.cost_analysis()
        flops = float((costs[0] if isinstance(costs, list) else costs)["flops"])
        found = _rate(compiled, params, flops, scale.seconds / 4)
        values = {"batch": batch, "mflop": round(flops / 1e6, 1), "microseconds": round(flops / found * 1e6, 1)}
        shares = {"teraflops": round(found / 1e12, 3), "share_of_large_product": round(found / product, 3)}
        emit(f"batch {batch}", values | shares | memory())


def _rate(step: Callable[[Any], Any], carry: Any, flops: float, seconds: float) -> float:
    """Floating-point operations per second of `carry = step(carry)`, many in a row."""
    import jax

    def run(count: int) -> float:
        found, begun = carry, time.perf_counter()
        for _ in range(count):
            found = step(found)
        jax.block_until_ready(found)
        return time.perf_counter() - begun

    run(2)
    count = max(int(seconds / max(run(3) / 3, 1e-6)), 3)
    return flops * count / run(count)


def part_replay(scale: Scale, emit: Emit) -> None:
    """One rollout stored and eight minibatches of 32 drawn, by the functions that training uses."""
    import jax
    import jax.numpy as jnp

    from jaxrl.replay.experience import make_experience
    from jaxrl.types import ArraySpec, Discrete, Rollout

    obs = ArraySpec((84, 84, 4), "uint8", num_frames=4)
    capacity, num_envs, length = (2_000 if scale.small else 200_000), 8, 4
    here, host = jax.local_devices()[0], jax.local_devices(backend="cpu")[0]
    experience = make_experience(obs, Discrete(6), num_envs, capacity, n_step=1, gamma=0.99)
    batch = (length, num_envs)
    pictures, flags = jnp.ones((*batch, 84, 84, 4), jnp.uint8), jnp.zeros(batch, bool)
    rollout = Rollout(pictures, jnp.zeros(batch, jnp.int32), jnp.zeros(batch), flags, flags, pictures, (), ())
    store, sample = jax.jit(experience.store, donate_argnums=0), jax.jit(experience.sample, static_argnums=2)
    for name, device in {"device": here, "host memory": host}.items():
        with jax.default_device(device):
            ring = jax.jit(experience.init)()

        def turn(key: Any, ring: Any, device: Any = device) -> Any:
            ring = store(ring, jax.device_put(rollout, device))
            return ring, jax.device_put(sample(jax.device_put(key, device), ring, (8, 32)), here)

        keys = jax.random.split(jax.random.key(0), 1_000)
        for key in keys[:3]:  # What comes first is compiled, and once more for a ring that a program has made.
            ring, drawn = turn(key, ring)
        jax.block_until_ready(drawn)
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < scale.seconds / 2 and count < 990:
            count += 1
            ring, drawn = turn(keys[count + 2], ring)
            jax.block_until_ready(drawn)
        each = (time.perf_counter() - begun) / count
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(ring))
        emit(name, {"microseconds": round(each * 1e6, 1), "ring_megabytes": round(size / 1e6, 1)} | memory())
        del ring, drawn


def part_equality(scale: Scale, emit: Emit) -> None:
    """The contract's own checks on this device; `holds` is False with the first difference where one does not."""
    from jaxrl.agents import load_agent
    from jaxrl.checks import trial
    from jaxrl.checks.suite import Broken
    from jaxrl.envs import make
    from jaxrl.types import Env

    def cartpole(num_envs: int) -> Env:
        env = make("CartPole-v1", num_envs)
        assert isinstance(env, Env)
        return env

    for name in ("ppo", "dqn"):
        make_agent, config_class = load_agent(name)
        fields = trial.TINY | ({"rollout_length": 16} if name == "ppo" else {})
        tried = trial.make_trial(make_agent, trial.fitted(config_class, fields), cartpole)
        trained = tried.trained()
        promises: dict[str, Callable[[Any, Any], None]] = {
            "the same key gives the same bits": trial.same_key_same_bits,
            "a member of a population equals the same run alone": trial.vmapped_equals_solo,
            "two halves with a checkpoint equal the whole": trial.halves_with_a_checkpoint_equal_the_whole,
        }
        if name == "dqn":
            promises["a replay in host memory equals one on the device"] = _replay_elsewhere
        for promise, check in promises.items():
            try:
                check(tried, trained)
                emit(f"{name}: {promise}", {"holds": True})
            except Broken as found:
                emit(f"{name}: {promise}", {"holds": False, "found": str(found)})


def _replay_elsewhere(tried: Any, trained: Any) -> None:
    """The same rollouts stored and learned from in two ways, within the tolerance of different programs."""
    import jax

    from jaxrl.checks.suite import close
    from jaxrl.drivers.learner import make_learner
    from jaxrl.loop import build_in, collect, iteration_keys, no_episodes

    agent = build_in(tried.make_agent, tried.config, tried.env)
    length, progress = max(tried.config.rollout_length, 1), tried.plan.progress(tried.plan.num_warmup)
    state, rollouts = tried.init(), []
    for number in range(tried.plan.num_warmup + 8):
        keys = iteration_keys(tried.keys.train, number, length)
        state, rollout = jax.jit(lambda state, keys: collect(keys, agent, tried.env, state, progress))(state, keys)
        rollouts.append(rollout)
    found = []
    for place in (None, jax.local_devices(backend="cpu")[0]):
        learner = make_learner(lambda config: build_in(tried.make_agent, config, tried.env), place, False, True)
        agent_state, recent = learner.init(tried.keys.init, tried.config), no_episodes()
        for number, rollout in enumerate(rollouts):
            learns = number >= tried.plan.num_warmup
            key = jax.random.fold_in(tried.keys.train, number)
            agent_state, recent, _ = learner.end(key, tried.config, agent_state, recent, rollout, progress, learns)
        found.append(jax.device_get(agent_state.policy))
    close("a replay in host memory against one on the device", *found)


def part_halving(scale: Scale, emit: Emit) -> None:
    """Sixteen configs of PPO on CartPole-v1, two seeds each, with everything that a sweep does."""
    import jaxrl

    rates = [10.0 ** -(1.5 + 0.2 * place) for place in range(4 if scale.small else 16)]
    steps = 8_192 if scale.small else 131_072
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.perf_counter()
        result = jaxrl.sweep(
            "ppo",
            "CartPole-v1",
            grid={"learning_rate": rates},
            seeds=2,
            total_steps=steps,
            schedule="halving",
            out=Path(scratch) / "s",
        )
        seconds = time.perf_counter() - begun
        taken = int(result.results.env_steps.sum())
    values = {"configs": len(rates), "seeds": 2, "seconds": round(seconds, 1), "env_steps": taken}
    emit(
        "sweep",
        values
        | {"steps_per_second": round(taken / seconds, 1), "share_of_all_steps": round(taken / (2 * len(rates) * steps), 3)},
    )


def part_peers(scale: Scale, emit: Emit) -> None:
    """Whole short runs of the peers' own programs at the settings of the parts above, compile apart."""
    from peers import SETTINGS

    there = {"jaxrl": True, "purejaxrl": "PUREJAXRL_DIR" in os.environ, "rejax": importlib.util.find_spec("rejax") is not None}
    for peer, is_there in there.items():
        if not is_there:
            why = "PUREJAXRL_DIR names no checkout" if peer == "purejaxrl" else "it is not installed"
            emit(peer, {"left_out": why})
            continue
        for algorithm, shared in ((name, SETTINGS[name]) for name in ("dqn", "ppo")):
            for number in scale.seeds(1, 256 if algorithm == "ppo" else 50):
                steps = scale.steps(500_000)
                work = shared | {"algorithm": algorithm, "steps": steps - steps % 5_120, "seeds": number}
                command = [sys.executable, str(RUNNERS / f"run_{peer}.py"), json.dumps(work), "0"]
                found = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=RUNNERS)
                if found.returncode:
                    emit(f"{peer} {algorithm} {number}", {"failed": found.stderr.strip().splitlines()[-1:]})
                    continue
                line = json.loads(found.stdout.strip().splitlines()[-1])
                speed = number * work["steps"] / line["run_seconds"]
                values = {"steps_per_second": round(speed, 1), "run_seconds": round(line["run_seconds"], 2)}
                emit(f"{peer} {algorithm} {number}", values | {"compile_seconds": round(line["compile_seconds"], 2)})


PARTS: dict[str, tuple[Callable[[Scale, Emit], None], float]] = {
    "headline-ppo": (part_headline_ppo, 120),
    "ppo-cartpole": (part_ppo_cartpole, 120),
    "dqn-cartpole": (part_dqn_cartpole, 120),
    "dqn-breakout": (part_dqn_breakout, 150),
    "ppo-breakout": (part_ppo_breakout, 120),
    "ppo-envs": (part_ppo_envs, 60),
    "nature": (part_nature, 60),
    "replay": (part_replay, 60),
    "equality": (part_equality, 120),
    "halving": (part_halving, 90),
    "headline-breakout": (part_headline_breakout, 200),
    "peers": (part_peers, 400),
}
"""By its name what a part measures, and the seconds that it may take."""


# --- the machine, the processes and the file ------------------------------------------------------------------------------


def memory() -> dict[str, Any]:
    """The most that has been held so far: by the device, or on a CPU by this process."""
    import jax

    from jaxrl.drivers.memory import peak_bytes

    stats = jax.local_devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return {"peak_megabytes": round((peak_bytes() if peak is None else peak) / 1e6, 1)}


def machine() -> dict[str, Any]:
    """Device, driver and versions."""
    import importlib.metadata

    import jax

    device = jax.local_devices()[0]
    names = ("jax", "jaxlib", "flax", "optax", "chex", "orbax-checkpoint", "gymnax", "numpy")
    driver = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split("\n")[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "platform_version": device.client.platform_version.splitlines()[0],
        "driver": driver,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def worker(part: str, scale: Scale) -> None:
    """Measures one part in this process; a line of JSON for each figure."""

    def emit(name: str, values: dict[str, Any]) -> None:
        print(json.dumps([name, values]), flush=True)

    emit("", machine())
    PARTS[part][0](scale, emit)


def figures_of(part: str, options: argparse.Namespace, limit: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs a part and gives its figures as they come; the last may say why it ended."""
    flags = ["--small"] if options.small else []
    command = [sys.executable, __file__, "--worker", part, "--seconds", str(options.seconds), *flags]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment, start_new_session=True
        )
        timer = _killer(process, limit)
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError, TypeError):
                name, values = json.loads(line)
                yield name, values
        status = process.wait()
        timer.cancel()
        said.seek(0)
        last = said.read().strip().splitlines()[-1:]
    seconds = time.perf_counter() - begun
    if status:
        why = f"stopped after {seconds:.0f} s" if seconds >= limit else " ".join(last) or f"status {status}"
        yield "failed", {"why": why[:300]}
    yield "seconds", {"seconds": round(seconds, 1)}


def _killer(process: subprocess.Popen[str], seconds: float) -> Any:
    """A timer that ends a part and all that it has started."""
    timer = threading.Timer(seconds, os.killpg, (process.pid, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    return timer


def draw(results: dict[str, Any], path: Path) -> None:
    """Rates over numbers of seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for part in ("ppo-cartpole", "ppo-breakout", "dqn-cartpole", "dqn-breakout"):
        found = [one for one in results.get("parts", {}).get(part, {}).values() if "steps_per_second" in one]
        if found:
            axes.plot([one["seeds"] for one in found], [one["steps_per_second"] for one in found], "o-", label=part)
    axes.set(xscale="log", yscale="log", xlabel="seeds in one program", ylabel="env steps/s, all seeds")
    axes.set_title(f"{results.get('machine', {}).get('device', '')}", loc="left", fontsize="medium")
    axes.grid(alpha=0.25, which="both")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> int:
    """Measures parts, writes after each figure; exit status 1 if a part failed or something that must hold does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", nargs="*", choices=tuple(PARTS), default=list(PARTS), help="what is measured; nothing draws alone"
    )
    parser.add_argument("--small", action="store_true", help="the scale of a CPU")
    parser.add_argument("--seconds", type=float, default=4.0, help="for which each rate is timed, at most 20")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no further part begins")
    parser.add_argument("--out", type=Path, help="JSON file; parts that are not measured keep what it holds")
    parser.add_argument("--figure", type=Path, help="image of rates over numbers of seeds")
    parser.add_argument("--worker", choices=tuple(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 0.0 < options.seconds <= 20.0:
        parser.error(f"seconds={options.seconds} is out of range; give more than 0 and at most 20")
    scale = Scale(options.small, options.seconds)
    if options.worker:
        worker(options.worker, scale)
        return 0
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    begun, is_good = time.perf_counter(), True
    for part in options.parts:
        left = 60.0 * options.minutes - (time.perf_counter() - begun)
        if left < 10.0:
            print(f"{part}: left out, no time", file=sys.stderr)
            is_good = False
            continue
        kept: dict[str, Any] = {}
        results.setdefault("parts", {})[part] = kept
        results |= {"small": options.small, "date": time.strftime("%Y-%m-%d")}
        for name, values in figures_of(part, options, min(PARTS[part][1] * (3.0 if options.small else 1.0), left)):
            if name:
                kept[name] = values
                is_good &= name != "failed" and values.get("holds", True)
                print(f"{part} {name}: {json.dumps(values)}", file=sys.stderr, flush=True)
            else:
                results["machine"] = values
            if options.out:
                options.out.write_text(json.dumps(results, indent=2) + "\n")
    if not options.out:
        print(json.dumps(results, indent=2))
    if options.figure:
        try:
            draw(results, options.figure)
        except ImportError:
            print("matplotlib is not here; draw elsewhere with --parts --out FILE --figure IMAGE", file=sys.stderr)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
