"""Seeds of this repository's DQN and PPO as the population of a sweep: `s["batching"]` on `s["devices"]` devices."""

import tempfile
import time
from pathlib import Path

import agents
import common
import jax

from jaxrl.analysis.results import read_results
from jaxrl.envs import make
from jaxrl.loop import plan, recent_return
from jaxrl.sweeps import driver
from jaxrl.sweeps.batch import advance, load
from jaxrl.sweeps.plan import Sweep
from jaxrl.sweeps.population import EnvParams, differing, make_members, make_population

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
    params = EnvParams(env.params, None)
    varies = differing([params])
    population = make_population(make_agent, env, make_env, config, varies, None, s["seeds"], s["batching"])
    middle = time.perf_counter()
    members, shared = make_members(seeds, [config] * s["seeds"], [params] * s["seeds"], varies)
    batch = load(population, members, shared, None, range(s["seeds"]), 0)
    batch, _ = advance(batch, schedule, schedule.num_iterations)
    returns = recent_return(batch.states.recent)[0][batch.rows]
end = time.perf_counter()
common.report(
    compile_seconds=middle - start,
    run_seconds=end - middle,
    final_returns=returns,
    return_kind="last 100 training episodes",
    packages=("jax", "gymnax", "flax"),
)
