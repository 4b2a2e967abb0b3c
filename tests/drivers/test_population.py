"""A vmapped population finishes; batched LAPACK calls, such as the QR of the usual orthogonal initialiser, may deadlock."""

import os

import pytest

from helpers import run_python

PROGRAM = """
import sys
import jax, numpy as np
from jaxrl import make
from jaxrl.agents import PPOConfig, make_ppo
from jaxrl.loop import train

num_seeds, gru = int(sys.argv[1]), int(sys.argv[2]) or None
config = PPOConfig(num_envs=4, rollout_length=32, num_minibatches=2, gru=gru)
env = make("CartPole-v1", 4)
run = jax.jit(jax.vmap(lambda key: train(key, config, make_ppo, env, 512, num_rows=2).rows["loss"]))
losses = np.asarray(run(jax.random.split(jax.random.key(0), num_seeds)))
assert losses.shape == (num_seeds, 2) and np.isfinite(losses).all()
assert len(set(losses[:, -1].tolist())) == num_seeds
"""


@pytest.mark.optimized
@pytest.mark.parametrize(("num_seeds", "gru"), [pytest.param(4, 8, marks=pytest.mark.slow), (16, 0)])
def test_a_vmapped_population_finishes(num_seeds: int, gru: int) -> None:
    """In a process of its own with JAX's own number of threads; one that hangs is ended after two minutes and fails."""
    environment = {name: value for name, value in os.environ.items() if name not in ("NPROC", "XLA_FLAGS")}
    run_python("-c", PROGRAM, str(num_seeds), str(gru), env=environment)
