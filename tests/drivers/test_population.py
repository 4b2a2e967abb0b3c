"""A vmapped population finishes; batched LAPACK calls, such as the QR of the usual orthogonal initialiser, may deadlock."""

import os

import pytest

from helpers import run_python

PROGRAM = """
import sys
import jax, numpy as np
from jaxrl import make
from jaxrl.agents import load_agent
from jaxrl.loop import train

agent, num_seeds, gru = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
make_agent, config_class = load_agent(agent)
config = config_class(num_envs=4, rollout_length=32, **{"num_minibatches": 2, "gru": gru or None} if agent == "ppo" else {})
env = make("CartPole-v1", 4)
run = jax.jit(jax.vmap(lambda key: train(key, config, make_agent, env, 512, num_rows=2).rows["loss"]))
losses = np.asarray(run(jax.random.split(jax.random.key(0), num_seeds)))
assert losses.shape == (num_seeds, 2) and np.isfinite(losses).all()
assert len(set(losses[:, -1].tolist())) == num_seeds
"""


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("agent", "num_seeds", "gru"),
    [pytest.param("ppo", 4, 8, marks=slow), pytest.param("ppo", 16, 0, marks=slow), ("a2c", 16, 0)],
)
def test_a_vmapped_population_finishes(agent: str, num_seeds: int, gru: int) -> None:
    """In a process of its own with JAX's own number of threads; one that hangs is ended after two minutes and fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("NPROC", "XLA_FLAGS")}
    run_python("-c", PROGRAM, agent, str(num_seeds), str(gru), env=environment)
