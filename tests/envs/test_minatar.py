"""MinAtar by the published protocol against the package `minatar` of its authors, step by step and in distribution.

Step by step, theirs is given what chance brought in ours (the start of a ball, speeds of cars, who comes in), and then all
planes of observations, rewards and ends must be equal. In distribution, returns and lengths of random play must be.
"""

from functools import cache
from importlib import import_module
from types import SimpleNamespace

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from minatar import Environment

from helpers import slow_but
from jaxrl import envs
from jaxrl.envs.minatar_rules import with_entity
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
    if name == "SpaceInvaders-MinAtar":  # The first wave is two aliens, so that the next one comes, and faster.
        state, obs = first
        few = state.inner.inner.alien_map.at[:, :4].set(0.0).at[:, 3, 4:6].set(1.0)
        inner = state.inner._replace(inner=state.inner.inner.replace(alien_map=few))
        first = state._replace(inner=inner), obs.at[..., 1].set(few).at[..., 2].set(few)
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
    elif name == "SpaceInvaders-MinAtar":
        theirs.alien_map = np.array(state.alien_map)


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


def differences(name, p):
    """([(time, environment, what)] of steps that differ, number of steps); after one that does, theirs waits for an episode."""
    found, num_compared = [], 0
    for i in range(B):
        theirs, is_in_step = import_module(f"minatar.environments.{GAMES[name]}").Env(), False
        pick = lambda tree, t, i=i: jax.tree.map(lambda leaf: leaf[t, i], tree)  # noqa: E731
        for t in range(len(p.action)):
            if t == 0 or p.step.terminated[t - 1, i]:
                begin(name, theirs, pick(p.before, t))
                is_in_step = True
            if not is_in_step:
                continue
            bring(name, theirs, pick(p.before, t), pick(p.chance, t), pick(p.after, t))
            reward, terminal = theirs.act(int(p.action[t, i]))
            num_compared += 1
            planes = p.step.next_obs[t, i] == theirs.state()
            if name == "Seaquest-MinAtar" and terminal:
                planes[..., 7] = True  # The oxygen of a game that is over, as the module of the rules says.
            same = {
                "planes": bool(planes.all()),
                "reward": p.step.reward[t, i] == reward,
                "end": bool(p.step.terminated[t, i]) == terminal,
            }
            found += [(t, i, what) for what, equal in same.items() if not equal]
            is_in_step = all(same.values())
    return found, num_compared


@pytest.mark.parametrize("name", slow_but(("Breakout-MinAtar",), GAMES))
def test_a_game_is_that_of_its_authors_step_by_step(name):
    p = played(name, 500)
    found, num_compared = differences(name, p)
    assert num_compared == p.action.size and found == []
    assert p.step.reward.sum() > 50 and (p.step.terminated.any() or name == "Freeway-MinAtar")
    if hasattr(p.after, "ramp_index"):
        assert p.after.ramp_index.max() >= (4 if name == "Asterix-MinAtar" else 1)


@pytest.mark.slow
def test_freeway_ends_after_as_many_steps_as_at_its_authors():
    theirs, num = import_module("minatar.environments.freeway").Env(), 0
    while not theirs.terminal:
        theirs.act(0)
        num += 1
    env = envs.make("Freeway-MinAtar", num_envs=1, protocol="published")
    state, _ = env.reset(jax.random.key(0), env.params)
    batch = state.inner
    late = state._replace(inner=batch._replace(inner=batch.inner.replace(time=jnp.array([num - 2], jnp.int32))))
    step = jax.jit(env.step, compiler_options=QUICK)
    ends = []
    for _ in range(2):
        late, timestep = step(jax.random.key(1), env.params, late, jnp.zeros(1, jnp.int32))
        ends.append((bool(timestep.terminated[0]), bool(timestep.truncated[0])))
    assert ends == [(False, False), (True, False)]


def test_a_newcomer_of_asterix_takes_any_free_row_and_none_that_is_taken():
    env = envs.make("Asterix-MinAtar", protocol="published")
    state = jax.tree.map(lambda leaf: leaf[0], env.reset(jax.random.key(0), env.params)[0].inner.inner)
    taken = jnp.array([1, 0, 1, 1, 0, 1, 1, 0])
    entities = jnp.stack([jnp.full(8, 4), jnp.arange(1, 9), taken, taken, jnp.ones(8, jnp.int32)], axis=1) * taken[:, None]
    state = state.replace(entities=entities.astype(jnp.int32), spawn_timer=0)
    keys = jax.random.split(jax.random.key(1), 3000)
    after = jax.jit(jax.vmap(with_entity, in_axes=(0, None)))
    found = np.asarray(after(keys, state).entities)
    assert (found[:, np.asarray(taken) == 1] == np.asarray(entities)[np.asarray(taken) == 1]).all()
    new = found[:, np.asarray(taken) == 0]
    assert (new[..., 4].sum(axis=1) == 1).all()
    # Standard deviations over 3000 draws are at most 0.0091.
    np.testing.assert_allclose(new[..., 4].mean(axis=0), 1 / 3, atol=0.04)
    entity = new[new[..., 4] == 1]
    np.testing.assert_allclose(entity[:, 3].mean(), 1 / 3, atol=0.04)
    np.testing.assert_allclose(entity[:, 2].mean(), 1 / 2, atol=0.04)
    assert (entity[:, 0] == np.where(entity[:, 2] == 1, 0, 9)).all()
    full = state.replace(entities=jnp.where(taken[:, None] == 1, entities, entities[0]).astype(jnp.int32))
    assert (np.asarray(after(keys, full).entities) == np.asarray(full.entities)).all()
    waits = state.replace(spawn_timer=3)
    assert (np.asarray(after(keys, waits).entities) == np.asarray(entities)).all()
    assert (np.asarray(after(keys, waits).spawn_timer) == 3).all()


def random_play(name, num_episodes):
    """(returns, lengths) of the first episodes."""
    env = envs.make(name, num_envs=num_episodes, protocol="published")

    def step(carry):
        state, time, is_over, total, count = carry
        key_act, key = jax.random.split(jax.random.fold_in(jax.random.key(2), time))
        state, timestep = env.step(key, env.params, state, jax.random.randint(key_act, (num_episodes,), 0, 6))
        total, count = total + ~is_over * timestep.reward, count + ~is_over
        return state, time + 1, is_over | timestep.terminated, total, count

    def play():
        zeros = jnp.zeros(num_episodes)
        first = env.reset(jax.random.key(3), env.params)[0], 0, zeros > 0, zeros, zeros
        return jax.lax.while_loop(lambda carry: ~carry[2].all(), step, first)[3:]

    return jax.device_get(jax.jit(play)())


def random_play_of_the_authors(name, num_episodes):
    env, rng = Environment(GAMES[name]), np.random.default_rng(4)
    env.seed(5)
    returns, lengths = np.zeros(num_episodes), np.zeros(num_episodes)
    for episode in range(num_episodes):
        env.reset()
        terminal = False
        while not terminal:
            reward, terminal = env.act(rng.integers(6))
            returns[episode] += reward
            lengths[episode] += 1
    return returns, lengths


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_random_play_scores_and_lasts_as_it_does_by_the_authors(name):
    """Sticky actions included. The difference of means lies within four of its standard errors."""
    num = {"Freeway-MinAtar": 24, "Seaquest-MinAtar": 64}.get(name, 200)
    ours, theirs = random_play(name, num), random_play_of_the_authors(name, num)
    for mine, yours in zip(ours, theirs, strict=True):
        error = np.sqrt((mine.var() + yours.var()) / num)
        assert abs(mine.mean() - yours.mean()) <= 4 * error, (mine.mean(), yours.mean(), error)


def test_the_protocol_is_sticky_with_six_actions_and_without_a_limit():
    env = envs.make("Breakout-MinAtar", protocol="published")
    assert env.spec.action.n == 6 and env.spec.time_limit is None and env.params["probability"] == np.float32(0.1)
    env = envs.make("Breakout-MinAtar", protocol="gymnax")
    assert env.spec.action.n == 3 and env.spec.time_limit == 1000
    assert env.static == envs.make("Breakout-MinAtar").static


def test_options_beside_the_protocol_win_over_it():
    env = envs.make(
        "Breakout-MinAtar", protocol="published", sticky_actions=0.25, use_minimal_action_set=True, max_steps_in_episode=50
    )
    assert env.spec.action.n == 3 and env.spec.time_limit == 50 and env.params["probability"] == 0.25
    assert envs.make("Breakout-MinAtar", protocol="published", time_limit=70).spec.time_limit == 70


@pytest.mark.parametrize(
    ("env_id", "protocol", "message"),
    [
        ("Breakout-MinAtar", "paper", "protocol='paper' is unknown; choose one of gymnax, published"),
        ("CartPole-v1", "published", "protocol='published' is of MinAtar's games, and env='CartPole-v1' is none"),
        ("probe/constant", "published", "protocol"),
    ],
)
def test_another_protocol_or_game_is_one_line(env_id, protocol, message):
    with pytest.raises(UsageError, match=message):
        envs.make(env_id, protocol=protocol)
