"""MinAtar by the published protocol against the package `minatar` of its authors, step by step and in distribution.

Step by step, theirs is given what chance brought in ours (the start of a ball, speeds of cars, who comes in), and then all planes
of observations, rewards and ends must be equal. In distribution, returns and lengths of random play must be.
"""

from functools import cache
from importlib import import_module
from types import SimpleNamespace

import gymnax
import jax
import jax.numpy as jnp
import minatar
import numpy as np
import pytest

from helpers import slow_but
from jaxrl import envs
from jaxrl.envs.minatar_rules import FREEWAY_STEPS, with_entity
from jaxrl.errors import UsageError

GAMES = {
    "Asterix-MinAtar": "asterix",
    "Breakout-MinAtar": "breakout",
    "Freeway-MinAtar": "freeway",
    "Seaquest-MinAtar": "seaquest",
    "SpaceInvaders-MinAtar": "space_invaders",
}
QUICK = {"xla_backend_optimization_level": 0}
"""Less time for optimisations than they take."""

B = 16
EACH = pytest.mark.parametrize("name", slow_but(("Breakout-MinAtar", "SpaceInvaders-MinAtar"), GAMES))


def place_of(plane):
    """(row, column) [B] of the first cell that is set in planes [B, 10, 10]."""
    place = jnp.argmax(plane.reshape(len(plane), -1), axis=-1)
    return place // 10, place % 10


def scripted(name, key, obs):
    """[B] actions of a player who lives longer than one that acts at random, who it is in one step of eight."""
    key_random, key_which, key_move = jax.random.split(key, 3)
    random = jax.random.randint(key_random, (len(obs),), 0, 6)
    if name == "Breakout-MinAtar":
        (_, paddle), (_, ball), (_, last) = (place_of(obs[..., plane]) for plane in (0, 1, 2))
        goal = jnp.clip(2 * ball - last, 0, 9)
        action = jnp.where(goal < paddle, 1, jnp.where(goal > paddle, 3, 0))
    elif name == "Asterix-MinAtar":
        row, _ = place_of(obs[..., 0])
        threat = obs[jnp.arange(len(obs)), row, :, 1].any(axis=-1)
        action = jnp.where(threat, 2 + 2 * jax.random.bernoulli(key_move, 0.5, (len(obs),)), 0)
    elif name == "Freeway-MinAtar":
        action = jnp.full(len(obs), 2)
    elif name == "Seaquest-MinAtar":
        row, _ = place_of(obs[..., 0])
        level = obs[jnp.arange(len(obs)), row]
        dive = (row == 0) | (level[..., 4].any(-1))
        action = jnp.where(dive, 4, jnp.where(level[..., 5:7].any((-1, -2)), 5, random))
    else:
        action = jnp.array([1, 3, 5, 5])[jax.random.randint(key_move, (len(obs),), 0, 4)]
    return jnp.where(jax.random.bernoulli(key_which, 1 / 8, (len(obs),)), random, action)


@cache
def played(name, length, **options):
    """`length` steps of B environments as NumPy arrays: states before each, actions, what chance brought, what came of them."""
    env = envs.make(name, num_envs=B, protocol="published", sticky_actions=0.0, **options)
    theirs, _ = gymnax.make(name)

    def chance(key, state):
        keys = jax.random.split(jax.random.split(key)[1], B)  # The sticky wrapper's key, then one of each environment.
        if name == "Asterix-MinAtar":
            return jax.vmap(with_entity)(keys, state).entities
        if name == "Seaquest-MinAtar":
            spawn = lambda key, state: theirs._spawn_entities(*jax.random.split(key), state, env.params["inner"])  # noqa: E731
            after = jax.vmap(spawn)(keys, state)
            return after.e_subs, after.e_subs_count, after.e_fish, after.e_fish_count, after.divers, after.divers_count
        return ()

    def step(carry, time):
        state, obs = carry
        key_act, key = jax.random.split(jax.random.fold_in(jax.random.key(0), time))
        action = scripted(name, key_act, obs)
        before = state.inner.inner
        state, timestep = env.step(key, env.params, state, action)
        return (state, timestep.obs), (before, action, chance(key, before), timestep, state.inner.inner)

    first = env.reset(jax.random.key(1), env.params)
    run = jax.jit(lambda first: jax.lax.scan(step, first, jnp.arange(length)), compiler_options=QUICK)
    _, rows = run(first)
    return SimpleNamespace(**dict(zip(("before", "action", "chance", "step", "after"), jax.device_get(rows), strict=True)))


def begin(name, theirs, state):
    """Lets the authors' game begin where ours did."""
    theirs.reset()
    if name == "Breakout-MinAtar":
        theirs.ball_x, theirs.ball_y, theirs.ball_dir = int(state.ball_x), int(state.ball_y), int(state.ball_dir)
        theirs.last_x, theirs.last_y = theirs.ball_x, theirs.ball_y
    elif name == "Freeway-MinAtar":
        theirs.cars = state.cars.tolist()
    elif name == "Asterix-MinAtar":
        theirs.spawn_speed, theirs.spawn_timer = int(state.spawn_speed), int(state.spawn_timer)
        theirs.move_speed, theirs.move_timer, theirs.ramp_timer = (
            int(state.move_speed),
            int(state.move_timer),
            int(state.ramp_timer),
        )


def bring(name, theirs, before, chance, after):
    """Gives the authors' game what chance brought in ours."""
    if name == "Freeway-MinAtar":
        speeds = after.cars[:, 3].tolist()

        def randomize(initialize=False):
            for car, speed in zip(theirs.cars, speeds, strict=True):
                car[2:4] = [abs(speed), speed]

        theirs._randomize_cars = randomize
    elif name == "Asterix-MinAtar":

        def spawn():
            for slot, (x, y, from_left, is_gold, filled) in enumerate(chance.tolist()):
                if filled and theirs.entities[slot] is None:
                    theirs.entities[slot] = [x, y, bool(from_left), bool(is_gold)]

        theirs._spawn_entity = spawn
    elif name == "Seaquest-MinAtar":
        subs, num_subs, fish, num_fish, divers, num_divers = chance

        def spawn_enemy():
            for entities, num, old, known in (
                (subs, num_subs, before.e_subs_count, theirs.e_subs),
                (fish, num_fish, before.e_fish_count, theirs.e_fish),
            ):
                known.extend(entities[old:num].tolist())

        def spawn_diver():
            theirs.divers.extend(divers[before.divers_count : num_divers].tolist())

        theirs._spawn_enemy, theirs._spawn_diver = spawn_enemy, spawn_diver


def differences(name, p, length):
    """[(time, environment, what)] of steps that differ; after one, theirs waits for the next episode."""
    found, num_compared = [], 0
    for i in range(B):
        theirs, in_step = import_module(f"minatar.environments.{GAMES[name]}").Env(), False
        pick = lambda tree, t, i=i: jax.tree.map(lambda leaf: leaf[t, i], tree)  # noqa: E731
        for t in range(length):
            if t == 0 or p.step.terminated[t - 1, i] or p.step.truncated[t - 1, i]:
                begin(name, theirs, pick(p.before, t))
                in_step = True
            if not in_step:
                continue
            bring(name, theirs, pick(p.before, t), pick(p.chance, t), pick(p.after, t))
            reward, terminal = theirs.act(int(p.action[t, i]))
            num_compared += 1
            same = {
                "planes": bool((p.step.next_obs[t, i] == theirs.state()).all()),
                "reward": p.step.reward[t, i] == reward,
                "end": bool(p.step.terminated[t, i]) == terminal,
            }
            found += [(t, i, what) for what, equal in same.items() if not equal]
            in_step = all(same.values())
    return found, num_compared


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:] or GAMES:
        p = played(name, 600)
        found, num = differences(name, p, 600)
        print(name, num, len(found), found[:10], "reward", p.step.reward.sum(), "ends", p.step.terminated.sum(),
              {f: getattr(p.after, f).max() for f in ("ramp_index",) if hasattr(p.after, f)})
