"""Seeds of this repository's DQN and PPO as the population of a sweep: `s["batching"]` on `s["devices"]` devices."""

import tempfile
import time
from pathlib import Path

import agents
import common
import jax
import numpy as np

from jaxrl.analysis.results import read_results
from jaxrl.envs import make
from jaxrl.loop import plan
from jaxrl.sweeps import driver
from jaxrl.sweeps.batch import advance, load
from jaxrl.sweeps.plan import Sweep
from jaxrl.sweeps.population import make_members, make_population

s, seed = common.arguments()
jax.config.update("jax_num_cpu_devices", s["devices"])
make_agent, config = agents.configured(s)
seeds = tuple(range(seed * s["seeds"], (seed + 1) * s["seeds"]))


def make_env(num_envs):
    return make(s["env"], num_envs)


env = make_env(s["num_envs"])
schedule = plan(config, env.spec, s["steps"])
start = time.perf_counter()
if s["whole"]:
    with tempfile.TemporaryDirectory() as folder:
        sweep = Sweep(s["algorithm"], s["env"], config, seeds=seeds, total_steps=s["steps"], batching=s["batching"])
        driver.start(sweep, Path(folder) / "sweep")
        returns = read_results(Path(folder) / "sweep").final_return
    middle = start
else:
    population = make_population(make_agent, env, make_env, config, s["seeds"], s["batching"])
    middle = time.perf_counter()
    members = make_members(seeds, [config] * s["seeds"], [env.params] * s["seeds"])
    batch = load(population, members, None, range(s["seeds"]), 0)
    num_learn = schedule.num_iterations - schedule.num_warmup
    batch, _ = advance(batch, schedule.num_warmup, num_learn, schedule.num_iterations)
    recent = jax.tree.map(lambda leaf: np.asarray(leaf)[batch.rows], batch.states.recent)
    returns = recent.returns.sum(-1) / np.minimum(recent.total, recent.returns.shape[-1])
end = time.perf_counter()
common.report(
    compile_seconds=middle - start,
    run_seconds=end - middle,
    final_returns=returns,
    return_kind="last 100 training episodes",
    packages=("jax", "gymnax", "flax"),
)
