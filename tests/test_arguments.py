"""Objects of the wrong kind in any argument of a public function: one line with the argument, the value and the fix."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import A2CConfig, DQNConfig, make_a2c, make_dqn
from jaxrl.arguments import declared, plain, whole
from jaxrl.errors import UsageError

CONFIG = A2CConfig(num_envs=2, rollout_length=4, hidden=(4,))
DQN = DQNConfig(num_envs=2, learning_starts=0, capacity=64, batch_size=4, hidden=(4,))


def refuses(what, call, *args, **kwargs):
    with pytest.raises(UsageError, match=f"^{what}") as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def train(**changed):
    given = {"key": jax.random.key(0), "config": CONFIG, "make_agent": make_a2c, "env": jaxrl.make("probe/action", 2)}
    return jaxrl.train(**{**given, "total_steps": 16, "num_rows": 2, **changed})


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"key": 0}, "key=0 is of type int; give a key, such as jax.random.key"),
        ({"key": jnp.zeros(2)}, r"key is float32\[2\]; give a key"),
        ({"config": {"num_envs": 2}}, "config={'num_envs': 2} is of type dict; give the config of the agent"),
        ({"config": A2CConfig}, "config=<class .* is a class; give the config"),
        ({"make_agent": "a2c"}, "make_agent='a2c' is of type str; give the function itself"),
        ({"make_agent": make_dqn}, "config=A2CConfig has no epsilon_start, which agent=make_dqn reads; give a DQNConfig"),
        ({"env": "probe/action"}, "env='probe/action' is of type str; give what jaxrl.make"),
        ({"env": None}, "env=None is of type NoneType"),
        ({"total_steps": 1e2}, "total_steps=100.0 is no whole number"),
        ({"total_steps": 0}, "total_steps=0 is out of range; give a whole number of at least 1"),
        ({"num_rows": 2.5}, "num_rows=2.5 is no whole number"),
        ({"env_params": {"gravity": 1.0}}, "env_params of type dict have another structure"),
        ({"config": dataclasses.replace(DQN, target_period=2**31), "make_agent": make_dqn}, "target_period=.*32 bits"),
        ({"config": dataclasses.replace(DQN, capacity=2**33), "make_agent": make_dqn}, "capacity=.*32 bits"),
        ({"config": dataclasses.replace(CONFIG, gamma=2.0)}, r"gamma=2.0 is out of range; give a value in \[0, 1\]"),
        ({"config": dataclasses.replace(CONFIG, gamma=jnp.ones(2))}, "gamma has the shape .2,.; give one number, or jax.vmap"),
        ({"steps": 3}, "train: got an unexpected keyword argument 'steps'; its arguments are key, config"),
    ],
)
def test_the_pure_train_names_an_argument_of_another_kind(changed, what):
    refuses(what, train, **changed)


def test_the_pure_train_tells_keys_without_vmap_and_environments_of_the_host():
    refuses(
        "key is key<fry>.3., not one key; give one, or jax.vmap over them", train, key=jax.random.split(jax.random.key(0), 3)
    )
    env = jaxrl.make("gymnasium/CartPole-v1", 2)
    refuses("env: a GymnasiumEnv runs on the host", train, env=env)
    env.close()


def test_the_pure_train_takes_scalars_of_numpy_and_jax_and_traced_numbers():
    config, total = dataclasses.replace(CONFIG, num_envs=np.int64(2), rollout_length=jnp.int32(4)), jnp.int32(16)

    def run(rate, end):
        changed = dataclasses.replace(config, learning_rate=rate, learning_rate_end_share=end)
        return train(config=changed, total_steps=total, num_rows=np.int64(2)).rows["env_steps"]

    assert jax.eval_shape(run, 0.1, jnp.float32(0.5)).shape == (2,)
    refuses("total_steps=.*Tracer.* is no whole number", jax.eval_shape, lambda total: train(total_steps=total), 16)


def test_runs_name_an_argument_of_another_kind(tmp_path):
    env, out = jaxrl.make("probe/action", 2), tmp_path / "a"
    for wrong, kind in ((make_a2c, "function"), (None, "NoneType"), (env, "Env"), (3, "int")):
        refuses(f"agent=.* is of type {kind}; give its name as text, such as 'dqn'", jaxrl.run, wrong, "probe/action", out=out)
        refuses(f"env=.* is of type {kind}; give its name as text", jaxrl.run, "a2c", wrong, out=out)
        refuses(f"agent=.* is of type {kind}; give its name as text", jaxrl.sweep, wrong, "probe/action", out=out)
    for wrong in (None, 3, b"a"):
        refuses("out=.*; give a path", jaxrl.run, "a2c", "probe/action", out=wrong)
        refuses("out=.*; give a path", jaxrl.sweep, "a2c", "probe/action", out=wrong)
        for call in (jaxrl.load, jaxrl.resume):
            refuses("folder=.*; give a path", call, wrong)
    refuses("run: missing a required argument: 'out'", jaxrl.run, "a2c", "probe/action")
    refuses("run: multiple values for argument 'agent'", jaxrl.run, "a2c", "probe/action", out=out, agent="a2c")
    refuses("run={'agent': 'a2c'} is of type dict; give a jaxrl.Run", jaxrl.start, {"agent": "a2c"}, out)
    refuses("start: got an unexpected keyword", jaxrl.start, jaxrl.Run("a2c", "probe/action", CONFIG), out, seed=1)
    refuses("config={} must be of type Config", jaxrl.start, jaxrl.Run("a2c", "probe/action", {}), out)
    refuses("total_steps=100.0 is no whole number", jaxrl.resume, out, 1e2)
    refuses("env_steps='x' is no whole number", jaxrl.load, out, "x")
    assert not out.exists()


def test_sweeps_name_an_argument_of_another_kind(tmp_path):
    for name, wrong, what in (
        ("grid", [1], r"grid=\[1\] has no texts as names"),
        ("grid", {1: [0.9]}, "grid={1: .* has no texts as names"),
        ("draws", {"gamma": (0.1, 0.2)}, r"draw: gamma=\(0.1, 0.2\) is no range; give jaxrl.Draw"),
        ("num_draws", 2.0, "num_draws=2.0 is no whole number"),
        ("draw_seed", 1.5, "draw_seed=1.5 is no whole number"),
        ("seeds", 2.0, "seeds=2.0 is no whole number"),
        ("schedule", 3, "schedule=3 is of type int; give a jaxrl.Schedule"),
        ("total_steps", 1e2, "total_steps=100.0 must be of type int"),
    ):
        refuses(what, jaxrl.sweep, "a2c", "probe/action", out=tmp_path / "a", **{name: wrong})
    assert not (tmp_path / "a").exists()


def test_environments_are_made_by_a_name_and_a_number():
    for num in (2.0, "2", None, True):
        refuses(f"num_envs={num!r} is no whole number", jaxrl.make, "CartPole-v1", num)
    for name in (None, 3, make_a2c):
        refuses("env_id=.*; give its name as text", jaxrl.make, name)
    assert type(jaxrl.make("probe/action", jnp.int32(2)).num_envs) is int


def test_scalars_in_any_container_are_plain_and_all_else_stays():
    key, batch = jax.random.key(0), np.arange(3)
    found = plain({"a": (np.float32(0.5), [jnp.int32(1)]), "b": np.True_, "key": key, "batch": batch, "text": np.str_("x")})
    assert found["a"] == (0.5, [1]) and found["b"] is True and found["key"] is key and found["batch"] is batch
    assert type(found["a"][0]) is float and type(found["a"][1][0]) is int
    assert plain(DQN) is DQN


def test_an_argument_whose_default_is_none_may_be_none():
    @declared(count=whole(1, 5), seed=whole())
    def play(count=None, seed=0):
        return count, seed

    assert play() == (None, 0) and play(None, np.uint8(3)) == (None, 3)
    refuses("seed=None is no whole number", play, seed=None)
    refuses(r"count=6 is out of range; give a whole number in \[1, 5\]", play, 6)
