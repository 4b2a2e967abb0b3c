"""What numbers mean: adapters say it in the spec, from the environment's spaces, and networks and tables go by that alone."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import jaxrl
from jaxrl.agents import load_agent
from jaxrl.envs.gymnasium import make
from jaxrl.envs.tools import host
from jaxrl.envs.tools.wrappers import frame_stack, map_observation, mask_observation
from jaxrl.nets.actor_critic import actor_critic
from jaxrl.nets.inputs import stored_spec
from jaxrl.types import ArraySpec, Position, Spec, tree_spec

BYTES = {"low": 0, "high": 255, "dtype": np.uint8}
PICTURE = {"picture": "HWC", "scale": 255.0}


@pytest.mark.parametrize(
    ("space", "spec"),
    [
        (spaces.Box(0, 1, (4,), np.uint8), ArraySpec((4,), "uint8")),
        (spaces.Box(0, 4, (10, 10, 2), np.uint8), ArraySpec((10, 10, 2), "uint8", picture="HWC")),
        (spaces.Box(shape=(96, 96, 3), **BYTES), ArraySpec((96, 96, 3), "uint8", **PICTURE)),
        (spaces.Box(shape=(10, 10, 27), **BYTES), ArraySpec((10, 10, 27), "uint8", **PICTURE)),
        (spaces.Box(shape=(4, 84, 84), **BYTES), ArraySpec((4, 84, 84), "uint8", scale=255.0)),
        (spaces.Box(shape=(128,), **BYTES), ArraySpec((128,), "uint8", scale=255.0)),
        (spaces.Box(-1, 1, (8, 8, 2), np.float32), ArraySpec((8, 8, 2), "float32", picture="HWC")),
        (spaces.Discrete(16, start=3), ArraySpec((), "int32", num_values=16)),
        (spaces.MultiDiscrete([3, 7, 2]), ArraySpec((3,), "int32", num_values=7)),
        (spaces.MultiBinary(5), ArraySpec((5,), "int8")),
        (spaces.MultiBinary((8, 8, 119)), ArraySpec((8, 8, 119), "int8", picture="HWC")),
    ],
)
def test_a_space_says_what_its_numbers_mean(space, spec):
    assert host.observation_spec(space, "env") == spec


def test_channels_come_first_where_that_is_said():
    space = spaces.Box(shape=(4, 84, 84), **BYTES)
    assert host.observation_spec(space, "env", True).picture == "CHW"
    assert host.observation_spec(space, "env", False).picture == "HWC"
    env = make("CartPole-v1", 1, channels_first=True)
    assert env.spec.obs == ArraySpec((4,), "float32")
    env.close()
    with pytest.raises(jaxrl.UsageError, match="channels_first='yes' is unknown; give true or false"):
        make("CartPole-v1", 1, channels_first="yes")


def test_pictures_of_gymnax_have_their_channels_last_stacked_or_not():
    assert jaxrl.make("Breakout-MinAtar").spec.obs == ArraySpec((10, 10, 4), "float32", picture="HWC")
    assert jaxrl.make("Breakout-MinAtar", frame_stack=4).spec.obs == ArraySpec((10, 10, 16), "float32", picture="HWC")


@pytest.mark.parametrize("name", ["Play2048-v1", "CartPole-v1", "FrozenLake-v1", "Basic-v1"])
def test_envpool_says_where_its_channels_are(name):
    expected = {
        "Play2048-v1": ArraySpec((4, 4, 31), "int8", picture="HWC"),
        "CartPole-v1": ArraySpec((4,), "float32"),
        "FrozenLake-v1": ArraySpec((), "int32", num_values=16),
        "Basic-v1": ArraySpec((12, 84, 84), "uint8", picture="CHW", scale=255.0),
    }
    assert jaxrl.make(f"envpool/{name}").spec.obs == expected[name]


def network_inputs_in(spec, obs):
    config = load_agent("ppo")[1]()
    return actor_critic(dataclasses.replace(config), spec).inputs((), obs).x


@pytest.mark.parametrize("env_id", ["gymnasium/FrozenLake-v1", "FrozenLake-misc"])
def test_the_state_of_frozen_lake_is_seen_one_hot_and_serves_a_table(env_id):
    env = jaxrl.make(env_id)
    seen = network_inputs_in(env.spec, jnp.arange(16, dtype=jnp.int32))
    np.testing.assert_array_equal(seen, np.eye(16))
    make_agent, config_class = load_agent("q_learning")
    agent = make_agent(config_class(), env.spec)
    assert jax.eval_shape(agent.init, jax.random.key(0)).policy.shape == (16, 4)


def test_four_bits_in_bytes_are_seen_as_zeros_and_ones():
    spec = Spec(host.observation_spec(spaces.Box(0, 1, (4,), np.uint8), "env"), jaxrl.Discrete(4))
    np.testing.assert_array_equal(network_inputs_in(spec, jnp.eye(4, dtype=jnp.uint8)), np.eye(4))


def test_wrappers_keep_what_numbers_mean():
    state = jaxrl.make("maze/classic")
    num_values = state.spec.obs.num_values
    assert frame_stack(state, 3).spec.obs == ArraySpec((3,), "int32", num_values=num_values)
    pair = map_observation(state, lambda obs: jnp.stack([obs, obs], -1), ArraySpec((2,), "int32", num_values=num_values))
    assert mask_observation(pair, (1,)).spec.obs == ArraySpec((1,), "int32", num_values=num_values)


def test_stacked_pictures_keep_their_channels_where_they_are():
    spec = ArraySpec((2, 3, 4), "float32", picture="CHW")
    env = frame_stack(map_observation(jaxrl.make("maze/classic"), lambda obs: jnp.zeros((obs.shape[0], 2, 3, 4)), spec), 3)
    assert env.spec.obs == ArraySpec((6, 3, 4), "float32", picture="CHW")
    _, obs = env.reset(jax.random.key(0), env.params)
    assert obs.shape == (1, 6, 3, 4)


def test_a_replay_of_positions_keeps_what_numbers_mean():
    planes = ArraySpec((8, 8, 2), "uint8", picture="HWC")
    parts = Position(
        {"board": planes, "to_move": ArraySpec((), "int32", num_values=2)}, ArraySpec((4,), "bool"), ArraySpec((9,), "int32")
    )
    assert stored_spec(tree_spec(parts)) == tree_spec(parts._replace(state=()))


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["q_learning", "ppo"])
def test_frozen_lake_without_ice_is_learned_from_its_states(agent, tmp_path):
    """The best policy is at the goal in 6 steps; one that sees the state as a single number rarely gets there."""
    from jaxrl.runs.definition import Run
    from jaxrl.runs.train import start

    _, config_class = load_agent(agent)
    run = Run(agent, "gymnasium/FrozenLake-v1", config_class(), total_steps=30_000, env_options={"is_slippery": False})
    summary = start(run, tmp_path / "run")
    assert summary["evaluation"]["mean"] == 1.0


class BitBandit(gymnasium.Env):
    """One step; the action that names the one bit set, of four in bytes, is paid 1."""

    observation_space, action_space = spaces.Box(0, 1, (4,), np.uint8), spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.right = int(self.np_random.integers(4))
        return np.eye(4, dtype=np.uint8)[self.right], {}

    def step(self, action):
        return np.zeros(4, np.uint8), float(action == self.right), True, False, {}


@pytest.mark.slow
def test_ppo_learns_a_bandit_whose_four_bits_are_bytes(tmp_path):
    from jaxrl.runs.definition import Run
    from jaxrl.runs.train import start

    gymnasium.register("jaxrl-test/Bits-v0", BitBandit)
    run = Run("ppo", "gymnasium/jaxrl-test/Bits-v0", load_agent("ppo")[1](), total_steps=8_192)
    assert start(run, tmp_path / "run")["evaluation"]["mean"] == 1.0
