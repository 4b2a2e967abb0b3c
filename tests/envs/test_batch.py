"""The batching of single environments at scale: who is reset, with which key, from what, and what a function must return."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.tools.batch import Transition, batch_env, most
from jaxrl.errors import UsageError
from jaxrl.types import ArraySpec, Discrete, Env, Spec, TimeStep, tree_spec

VECTOR = Spec(ArraySpec((1,), "float32"), Discrete(2))


def drawn(num_envs, **options):
    """A start drawn from the key, with a key in the state; action 1 ends the episode. Observation and state: scale * draw."""

    def reset(key, params):
        draw = params * jax.random.normal(key, (1,))
        return {"x": draw, "key": key}, draw

    def step(key, params, state, action):
        return Transition(state, state["x"] + 1.0, 0.0, action == 1)

    return batch_env(VECTOR, jnp.float32(2.0), reset, step, num_envs, **options)


@pytest.mark.parametrize("num_envs", [5, 100])
def test_whoever_ended_starts_from_its_own_key_and_nobody_else_moves(num_envs):
    """At once or in groups, the key of environment i is the (B + i)-th of 2 B, as recorded scores have it."""
    env, rng = drawn(num_envs), np.random.default_rng(0)
    state, obs = env.reset(jax.random.key(0), env.params)
    keys = jax.random.split(jax.random.key(1), 2 * num_envs)[num_envs:]
    starts = 2.0 * jax.vmap(lambda key: jax.random.normal(key, (1,)))(keys)
    step = jax.jit(env.step)
    for num_ended in (0, 1, num_envs // 2, num_envs):
        ended = rng.permutation(num_envs) < num_ended
        after, timestep = step(jax.random.key(1), env.params, state, jnp.asarray(ended, jnp.int32))
        np.testing.assert_allclose(timestep.obs, np.where(ended[:, None], starts, obs + 1.0), rtol=1e-6)
        np.testing.assert_allclose(after.inner["x"], np.where(ended[:, None], starts, obs), rtol=1e-6)
        kept = jax.random.key_data(jnp.where(ended, keys, state.inner["key"]))
        np.testing.assert_array_equal(jax.random.key_data(after.inner["key"]), kept)


def test_under_vmap_rows_are_reset_as_alone_and_branches_stay_branches():
    env = drawn(100)
    state, _ = env.reset(jax.random.key(0), env.params)
    actions = jnp.asarray(np.random.default_rng(0).random((2, 100)) < [[0.02], [0.9]], jnp.int32)
    keys = jax.random.split(jax.random.key(1), 2)
    step = jax.jit(env.step)
    _, together = jax.jit(jax.vmap(env.step, (0, None, None, 0)))(keys, env.params, state, actions)
    for row in range(2):
        _, alone = step(keys[row], env.params, state, actions[row])
        np.testing.assert_allclose(together.obs[row], alone.obs, rtol=1e-6)
    rows = jnp.array([[1, 2], [4, 3]])
    branch = jax.vmap(jax.vmap(lambda n: jax.lax.cond(most(n) > 3, lambda: n, lambda: -n)))
    np.testing.assert_array_equal(branch(rows), rows)  # The largest of all decides for all.
    assert "cond" in str(jax.make_jaxpr(branch)(rows))


@pytest.mark.parametrize("num_envs", [5, 100])
def test_a_reset_can_be_differentiated_backwards(num_envs):
    env = drawn(num_envs)
    state, _ = env.reset(jax.random.key(0), env.params)
    actions = (jnp.arange(num_envs) % 3 == 0).astype(jnp.int32)

    def total(scale):
        return env.step(jax.random.key(1), scale, state, actions)[1].obs.sum()

    starts = jax.vmap(lambda key: jax.random.normal(key))(jax.random.split(jax.random.key(1), 2 * num_envs)[num_envs:])
    np.testing.assert_allclose(jax.jit(jax.grad(total))(2.0), starts[actions == 1].sum(), rtol=1e-4)


# --- what begins from the episode before ----------------------------------------------------------------------------


def examples(num_envs, numbers):
    """A data set: one example an episode, every one once a pass; environment i visits i, i + B, i + 2 B, ...

    The state is the number of the episode. What fills up the last round of a pass does not count.
    """
    num_rounds = -(-len(numbers) // num_envs)

    def place(episode, index):
        return index + episode % num_rounds * num_envs

    def show(params, where):
        return params.at[where].get(mode="clip")[None]

    def reset(key, params):
        return {"episode": jnp.int32(-1), "place": jnp.int32(0)}, jnp.zeros(1)

    def following(key, params, old, index):
        episode = old["episode"] + 1
        where = place(episode, index)
        return {"episode": episode, "place": where}, show(params, where)

    def step(key, params, state, action):
        counted = state["place"] < len(params)
        return Transition(state, show(params, state["place"]), 1.0, True, info={"counted": counted})

    return batch_env(VECTOR, jnp.asarray(numbers, jnp.float32), reset, step, num_envs, next=following)


@pytest.mark.parametrize("num_envs", [1, 7, 8, 50, 64])
def test_every_example_is_visited_once_a_pass_whatever_the_number_of_environments(num_envs):
    numbers = 100.0 + np.arange(50)
    env = examples(num_envs, numbers)
    num_rounds = -(-50 // num_envs)

    @jax.jit
    def passes(key):
        state, obs = env.reset(key, env.params)

        def step(carry, key):
            state, timestep = env.step(key, env.params, carry[0], jnp.zeros(num_envs, jnp.int32))
            return (state, timestep.obs), (carry[1], timestep.info)

        return jax.lax.scan(step, (state, obs), jax.random.split(key, 2 * num_rounds))[1]

    obs, info = passes(jax.random.key(0))
    assert set(info) == {"counted", "episode_return", "episode_length"}
    for start in (0, num_rounds):
        rows = slice(start, start + num_rounds)
        visited = np.asarray(obs[rows, :, 0])[np.asarray(info["counted"][rows])]
        np.testing.assert_array_equal(visited, numbers)  # In order of place: round after round.


# --- what a function must return ------------------------------------------------------------------------------------


def careless(num_envs, **wrong):
    """An environment of one step with some fields `wrong`; `first` is the observation of a reset."""

    def reset(key, params):
        return jnp.int32(0), wrong.get("first", jnp.zeros(1))

    def step(key, params, state, action):
        fields = {"state": state, "obs": jnp.zeros(1), "reward": 0.0, "terminated": True, "truncated": False}
        return Transition(**(fields | {name: value for name, value in wrong.items() if name != "first"}))

    return batch_env(VECTOR, (), reset, step, num_envs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reward": jnp.zeros(1)}, "step returns reward as float32[1]; return float32[]"),
        ({"terminated": jnp.zeros(1, bool)}, "step returns terminated as bool[1]; return bool[]"),
        ({"truncated": 1}, "step returns truncated as int32[]; return bool[]"),
        ({"obs": jnp.zeros(2)}, "step returns obs as float32[2]; return float32[1], as spec.obs says"),
        ({"obs": jnp.zeros(1, jnp.int32)}, "step returns obs as int32[1]; return float32[1], as spec.obs says"),
        ({"first": jnp.zeros(())}, "reset returns obs as float32[]; return float32[1], as spec.obs says"),
        ({"state": jnp.zeros(3)}, "step returns state as float32[3]; return int32[], as reset does"),
    ],
)
def test_a_wrong_return_is_one_line_that_names_the_field(wrong, message):
    with pytest.raises(UsageError) as error:
        envs.make(f"{__name__}:careless", 2, **wrong)
    assert str(error.value) == f"env='{__name__}:careless': {message}"


def test_a_tree_of_observations_is_compared_leaf_by_leaf():
    spec = Spec(tree_spec({"cue": jax.ShapeDtypeStruct((1,), jnp.float32)}), Discrete(2))

    def env_of(obs):
        return batch_env(spec, (), lambda key, params: ((), obs), lambda *_: Transition((), obs, 0.0, True), 2)

    for obs, message in (
        ({"cue": jnp.zeros(2)}, r"reset returns obs\['cue'\] as float32\[2\]; return float32\[1\], as spec.obs says"),
        (jnp.zeros(1), r"reset returns obs as a PyTreeDef\(\*\); return a PyTreeDef\({'cue': \*}\), as spec.obs says"),
    ):
        with pytest.raises(UsageError, match=message):
            jax.eval_shape(env_of(obs).reset, jax.random.key(0), ())


def whole(num_envs, **wrong):
    """An `Env` written for a whole batch, with some fields of its time step `wrong`."""
    obs, ended = jnp.zeros((num_envs, 1)), jnp.zeros(num_envs, bool)

    def step(key, params, state, action):
        return state, TimeStep(obs, jnp.zeros(num_envs), ended, ended, obs, ())._replace(**wrong)

    return Env(VECTOR, num_envs, (), lambda key, params: ((), obs), step)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reward": jnp.zeros((2, 1))}, "step returns reward as float32[2, 1]; return float32[2]"),
        ({"next_obs": jnp.zeros(2)}, "step returns next_obs as float32[2]; return float32[2, 1], as spec.obs says"),
    ],
)
def test_an_environment_of_your_own_that_is_no_batch_env_is_checked_too(wrong, message):
    with pytest.raises(UsageError) as error:
        envs.make(f"{__name__}:whole", 2, **wrong)
    assert str(error.value) == f"env='{__name__}:whole': {message}"


@pytest.mark.parametrize("limit", [0, 2.5, "many"])
def test_a_time_limit_that_is_no_number_of_steps_is_refused(limit):
    with pytest.raises(UsageError, match=f"time_limit={limit!r} is out of range; give a whole number of at least 1"):
        drawn(2, time_limit=limit)
