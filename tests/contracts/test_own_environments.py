"""Environments of a user's own that return what they should not: one line each, before anything is compiled."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.config import Config
from jaxrl.contracts.environments import checked_host_env
from jaxrl.errors import ContractError, OwnCodeError, UsageError
from jaxrl.loop import train
from jaxrl.types import Agent, ArraySpec, Box, Discrete, Env, Spec, TimeStep

SPEC = Spec(ArraySpec((2,), "float32"), Discrete(2), 10)
WIDE = "spec.obs is ArraySpec(shape=(2,), dtype='float64'), and 64 bits are not enabled; say 'float32', or set JAX_ENABLE_X64=1"
B = 4
"""Environments that are asked for."""


def step_of(array: Any, num_envs: int, **wrong: Any) -> TimeStep:
    """A time step of zeros, some fields of which are `wrong`."""
    obs, ended = array.zeros((num_envs, 2), "float32"), array.zeros(num_envs, bool)
    return TimeStep(obs, array.zeros(num_envs, "float32"), ended, ended, obs, {})._replace(**wrong)


def whole(num_envs, reset=None, step=None, spec=SPEC, params=(), more=0):
    """For a whole batch; `reset` and `step` are what these functions return, `wrong` fields of a time step."""

    def own_reset(key, params):
        return (jnp.zeros(num_envs), jnp.zeros((num_envs, 2))) if reset is None else reset

    def own_step(key, params, state, action):
        return (state, step_of(jnp, num_envs)) if step is None else step(state, action)

    return Env(spec, num_envs + more, params, own_reset, own_step)


OBS = jnp.zeros((B, 2))


@pytest.mark.parametrize(
    ("reset", "message"),
    [
        (OBS, "reset returns float32[4, 2]; return (state, obs)"),
        ((0, OBS, {}), "reset returns 3 values; return (state, obs)"),
        ((0, OBS[0]), "reset returns obs as float32[2]; return float32[4, 2], as spec.obs says"),
        ((0, OBS.astype(int)), "reset returns obs as int32[4, 2]; return float32[4, 2], as spec.obs says"),
        ((0, {"a": OBS}), "reset returns obs as a PyTreeDef({'a': *}); return a PyTreeDef(*), as spec.obs says"),
        (("start", OBS), "reset returns state as a str; return an array"),
    ],
)
def test_what_a_reset_must_return(reset, message):
    with pytest.raises(ContractError) as error:
        envs.make(f"{__name__}:whole", B, reset=reset)
    assert str(error.value) == f"env='{__name__}:whole': {message}"


def stepped(**wrong):
    return lambda state, action: (state, step_of(jnp, B, **wrong))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda state, action: None, "step returns a NoneType; return (state, TimeStep)"),
        (lambda state, action: step_of(jnp, B), "step returns a TimeStep; return (state, TimeStep)"),
        (lambda state, action: (OBS, 0.0, False, False, {}), "step returns 5 values; return (state, TimeStep)"),
        (lambda state, action: (state, tuple(step_of(jnp, B))), "step returns a tuple, not a jaxrl.TimeStep"),
        (lambda state, action: ((state,), step_of(jnp, B)), "step returns state as a PyTreeDef((*,)); return a PyTreeDef(*)"),
        (lambda state, action: (state.astype(int), step_of(jnp, B)), "step returns state as int32[4]; return float32[4]"),
        (lambda state, action: (state[1:], step_of(jnp, B)), "step returns state as float32[3]; return float32[4]"),
        (stepped(reward=0.0), "step returns reward as float32[]; return float32[4]"),
        (stepped(reward=None), "step returns reward as a NoneType; return an array"),
        (stepped(reward="much"), "step returns reward as a str; return an array"),
        (stepped(reward=OBS[:, 0] > 0), "step returns reward as bool[4]; return float32[4]"),
        (stepped(terminated=False), "step returns terminated as bool[]; return bool[4]"),
        (stepped(truncated=OBS[:, 0]), "step returns truncated as float32[4]; return bool[4]"),
        (stepped(next_obs=None), "step returns next_obs as a PyTreeDef(None); return a PyTreeDef(*)"),
        (stepped(info={"name": "x"}), "step returns info['name'] as a str; return an array"),
        (stepped(info={"n": 3}), "step returns info['n'] as int32[]; return [4, ...]"),
        (
            stepped(info={"episode_return": OBS, "episode_length": OBS[:, 0]}),
            "step returns info['episode_return'] as float32[4, 2]; return [4]",
        ),
    ],
)
def test_what_a_step_must_return(step, message):
    with pytest.raises(ContractError) as error:
        envs.make(f"{__name__}:whole", B, step=step)
    assert str(error.value).startswith(f"env='{__name__}:whole': {message}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spec": None}, "spec is a NoneType; give a jaxrl.Spec"),
        ({"spec": Spec((2,), Discrete(2))}, "spec.obs is (2,); give a jaxrl.ArraySpec"),
        ({"spec": Spec(ArraySpec((2,), np.float32), Discrete(2))}, "spec.obs is ArraySpec(shape=(2,), dtype="),
        ({"spec": Spec(ArraySpec((2,), "float32", num_values=3), Discrete(2))}, "num_values=3 does not fit ArraySpec("),
        ({"spec": Spec(ArraySpec((2,), "int32", num_values=0), Discrete(2))}, "num_values=0 does not fit ArraySpec("),
        ({"spec": Spec(ArraySpec((2,), "uint8", num_frames=3), Discrete(2))}, "num_frames=3 does not fit ArraySpec("),
        ({"spec": Spec(ArraySpec((4, 4), "uint8", picture="HWC"), Discrete(2))}, "picture='HWC' does not fit ArraySpec("),
        ({"spec": Spec(ArraySpec((4, 4, 4), "uint8", picture="W"), Discrete(2))}, "picture='W' does not fit ArraySpec("),
        ({"spec": Spec(ArraySpec((2,), "uint8", scale=0), Discrete(2))}, "scale=0 does not fit ArraySpec("),
        (
            {"spec": Spec(ArraySpec((0,), "float32"), Discrete(2))},
            "spec.obs is ArraySpec(shape=(0,), dtype='float32'), which holds",
        ),
        (
            {"spec": Spec(ArraySpec([2], "float32"), Discrete(2))},
            "spec.obs is ArraySpec(shape=[2], dtype='float32'); give a shape",
        ),
        ({"spec": Spec(ArraySpec((2,), "float64"), Discrete(2))}, WIDE),
        ({"spec": Spec(SPEC.obs, Box((0,)))}, "spec.action is Box(shape=(0,)); give"),
        ({"spec": Spec(SPEC.obs, 2)}, "spec.action is 2; give a jaxrl.Discrete, a jaxrl.Box"),
        ({"spec": Spec(SPEC.obs, Discrete(2), 0.5)}, "spec.time_limit is 0.5; give a whole number of at least 1"),
        ({"params": {"name": "x"}}, "params['name'] is a str; give a number or an array"),
    ],
)
def test_what_an_environment_must_say_of_itself(options, message):
    with pytest.raises(ContractError) as error:
        envs.make(f"{__name__}:whole", B, **options)
    assert str(error.value).startswith(f"env='{__name__}:whole': {message}")


def test_another_number_of_environments_than_asked_for_is_refused():
    with pytest.raises(UsageError) as error:
        envs.make(f"{__name__}:whole", B, more=1)
    assert str(error.value) == f"env='{__name__}:whole' returned 5 environments for num_envs=4; return as many as asked for"


def test_an_exception_says_in_which_function_it_was():
    with pytest.raises(OwnCodeError) as error:
        envs.make(f"{__name__}:whole", B, step=lambda state, action: state.nothing)
    start = f"env='{__name__}:whole' failed in step(key, params, state, action) -> (state, TimeStep): AttributeError:"
    assert str(error.value).startswith(start) and isinstance(error.value.__cause__, AttributeError)


class Learned(NamedTuple):
    policy: Any


def make_still(config: Config, spec, model=None):
    return Agent(
        init=lambda key: Learned(jnp.zeros(())),
        act=lambda key, policy, memory, obs, progress, explore: (jnp.zeros(obs.shape[0], jnp.int32), memory, ()),
        update=lambda key, state, rollout, progress: (state, {}),
    )


def test_the_pure_run_asks_for_the_records_of_episodes():
    with pytest.raises(ContractError, match="step returns info as a dict of \\[\\]; return a dict with episode_return"):
        train(jax.random.key(0), Config(num_envs=B), make_still, whole(B), 1000)


class Host:
    """A `HostEnv` one of whose functions returns `wrong`; it goes well in the first `good` steps."""

    def __init__(self, num_envs, reset=None, good=0, **wrong):
        self.spec, self.num_envs, self.start, self.good, self.wrong = SPEC, num_envs, reset, good, wrong
        self.is_open = True

    def reset(self, seed):
        return np.zeros((self.num_envs, 2)) if self.start is None else self.start

    def step(self, action):
        self.good -= 1
        records = {"episode_return": np.zeros(self.num_envs), "episode_length": np.zeros(self.num_envs, int)}
        timestep = step_of(np, self.num_envs, info=records)
        return timestep if self.good >= 0 else self.wrong.get("step") or timestep._replace(**self.wrong)

    def close(self):
        self.is_open = False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset": (np.zeros((B, 2)), {})}, "reset returns obs as a PyTreeDef((*, {})); return a PyTreeDef(*)"),
        ({"reset": np.zeros((B, 3))}, "reset returns obs as float32[4, 3]; return float32[4, 2], as spec.obs says"),
        ({"step": (np.zeros((B, 2)), 0.0, False, False, {})}, "step returns a tuple; return a jaxrl.TimeStep"),
        ({"reward": np.zeros(1)}, "step returns reward as float64[1]; return float64[4]"),
        ({"terminated": np.zeros(B, int)}, "step returns terminated as int64[4]; return bool[4]"),
        ({"info": {}}, "step returns info as a dict of []; return a dict with episode_return and episode_length, [4] each"),
        ({"next_obs": np.zeros(2)}, "step returns next_obs as float32[2]; return float32[4, 2], as spec.obs says"),
        ({"obs": np.zeros((1, 2)), "good": 1}, "step returns obs as float32[1, 2]; return float32[4, 2]"),
    ],
)
def test_what_environments_of_the_host_must_return_in_every_step(options, message):
    env = envs.make(f"{__name__}:Host", B, **options)
    with pytest.raises(ContractError) as error:
        env.reset(0)
        env.step(np.zeros(B, int))
        env.step(np.zeros(B, int))
    assert str(error.value).startswith(f"env='{__name__}:Host': {message}")


def test_numbers_of_the_host_are_narrowed_to_what_the_spec_says():
    env = envs.make(f"{__name__}:Host", B)
    assert env.reset(0).dtype == np.float32 and env.step(np.zeros(B, int)).reward.dtype == np.float32


def test_arrays_that_an_environment_fills_anew_in_every_step_are_copied():
    """As envs that save memory do: what was observed before must not become what is observed now."""
    spec = SPEC._replace(obs=ArraySpec((2,), "uint8"))
    obs, ended = np.zeros((B, 2), np.uint8), np.zeros(B, bool)
    records = {"episode_return": np.zeros(B), "episode_length": np.zeros(B, int)}

    class Buffered(Host):
        def reset(self, seed):
            return obs

        def step(self, action):
            obs[:] += 1
            ended[:] = ~ended
            return TimeStep(obs, np.zeros(B, np.float32), ended, ended, obs, records)

    env = Buffered(B)
    env.spec = spec
    checked = checked_host_env(env, "env='mine:buffered'")
    first, one, two = checked.reset(0), checked.step(None), checked.step(None)
    assert [int(seen[0, 0]) for seen in (first, one.obs, one.next_obs, two.obs)] == [0, 1, 1, 2]
    assert one.terminated.all() and not two.terminated.any()
