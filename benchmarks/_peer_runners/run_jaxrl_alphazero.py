"""AlphaZero of this repository at the settings of `search.py`, with which this process takes turns.

A turn is an iteration in two programs, so that the self-play can be timed: the rollout, and what is learned of it.
"""

import common
import jax

from jaxrl import loop
from jaxrl.agents.search.alphazero import AlphaZeroConfig, make_alphazero
from jaxrl.config import as_arrays
from jaxrl.envs import make

s, seed = common.arguments()
num_envs, length = s["num_envs"], s["rollout_length"]
fields = ("num_envs", "rollout_length", "channels", "blocks", "num_simulations", "batch_size", "learning_rate")
config = AlphaZeroConfig(num_updates=num_envs * length // s["batch_size"], **{name: s[name] for name in fields})
env = make(f"pgx/{s['env']}", num_envs)
agent = loop.build_in(make_alphazero, as_arrays(config), env)
keys = loop.run_keys(jax.random.key(seed))
progress = loop.plan(config, env.spec, 10**8).progress(0)
state = jax.jit(lambda key: loop.init_state(key, agent, env))(keys.init)


@jax.jit
def play(state):
    return loop.collect(loop.iteration_keys(keys.train, state.iteration, length), agent, env, state, progress)


@jax.jit
def learn(state, rollout):
    key = loop.iteration_keys(keys.train, state.iteration, length).update
    learner, recent, _ = loop.finish(key, agent, state.agent, state.recent, rollout, progress, True, env.spec.has_return)
    return state._replace(agent=learner, recent=recent, iteration=state.iteration + 1)


while True:
    begun = common.Clock.now()
    state, rollout = jax.block_until_ready(play(state))
    seconds = {"selfplay": begun.since()}
    state = jax.block_until_ready(learn(state, rollout))
    common.end_turn(seconds | {"iteration": begun.since()})
