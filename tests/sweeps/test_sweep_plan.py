"""What a sweep trains: its configs and draws, which of its runs share a program, and every message for what does not fit."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents.policy_gradient.ppo import PPOConfig
from jaxrl.agents.tabular.table import TabularConfig
from jaxrl.agents.value.dqn import DQNConfig
from jaxrl.envs.tools.batch import Transition, batch_env
from jaxrl.errors import UsageError
from jaxrl.sweeps import api, driver
from jaxrl.sweeps.plan import Sweep, configure, make_groups
from jaxrl.sweeps.schedulers import Schedule
from jaxrl.sweeps.space import Draw, make_configs, parse_draws, parse_grid
from jaxrl.types import ArraySpec, Discrete, Env, Spec

TABLE = TabularConfig()


def sweep_of(configs=({},), agent="q_learning", env="gridworld/classic", config=TABLE, **changes):
    configs = tuple(configs)
    return Sweep(agent, env, config, fields=tuple(configs[0]) if configs else (), configs=configs, total_steps=400, **changes)


def grid_of(**grid):
    return make_configs({name.replace("env_", "env."): values for name, values in grid.items()}, {}, 1, 0, TABLE)


def cartpole(configs):
    return sweep_of(configs, "dqn", "CartPole-v1", DQNConfig(hidden=(4,), capacity=64, batch_size=4, learning_starts=8))


def groups_of(sweep):
    return [group.configs for group in make_groups(sweep)]


# --- which configs ----------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_and_its_last_field_runs_fastest():
    configs = make_configs({"gamma": [0.9, 0.99], "epsilon_end": [0.1, 0.2, 0.3]}, {}, 1, 0, TABLE)
    assert [(c["gamma"], c["epsilon_end"]) for c in configs] == [
        (0.9, 0.1),
        (0.9, 0.2),
        (0.9, 0.3),
        (0.99, 0.1),
        (0.99, 0.2),
        (0.99, 0.3),
    ]


def test_every_point_of_the_grid_gets_the_same_draws():
    draws = {"learning_rate": Draw(1e-4, 1.0, True), "gamma": Draw(0.8, 0.9)}
    configs = make_configs({"epsilon_end": [0.1, 0.2]}, draws, 5, 0, TABLE)
    assert len(configs) == 10
    drawn = [{name: config[name] for name in draws} for config in configs]
    assert drawn[:5] == drawn[5:]
    assert len({config["gamma"] for config in configs}) == 5


def test_draws_keep_to_their_range_and_a_logarithmic_one_is_uniform_in_the_logarithm():
    configs = make_configs({}, {"learning_rate": Draw(1e-4, 1.0, True), "gamma": Draw(0.8, 0.9)}, 2000, 0, TABLE)
    rate, gamma = (np.array([config[name] for config in configs]) for name in ("learning_rate", "gamma"))
    assert rate.min() >= 1e-4 and rate.max() <= 1.0 and gamma.min() >= 0.8 and gamma.max() <= 0.9
    # A quarter of four decades each: 2000 draws are within 4 standard deviations, 0.039, of it.
    shares = np.histogram(np.log10(rate), bins=[-4, -3, -2, -1, 0])[0] / 2000
    np.testing.assert_allclose(shares, 0.25, atol=0.039)
    np.testing.assert_allclose(np.histogram(gamma, bins=[0.8, 0.825, 0.85, 0.875, 0.9])[0] / 2000, 0.25, atol=0.039)


def test_a_drawn_whole_number_is_rounded():
    config = PPOConfig()
    values = [c["num_epochs"] for c in make_configs({}, {"num_epochs": Draw(1, 4)}, 100, 0, config)]
    assert {type(value) for value in values} == {int}
    assert set(values) == {1, 2, 3, 4}


def test_draws_are_a_function_of_their_seed():
    draws = {"gamma": Draw(0.8, 0.9)}
    assert make_configs({}, draws, 3, 7, TABLE) == make_configs({}, draws, 3, 7, TABLE)
    assert make_configs({}, draws, 3, 7, TABLE) != make_configs({}, draws, 3, 8, TABLE)


def test_a_sweep_of_nothing_has_one_config():
    assert make_configs({}, {}, 1, 0, TABLE) == ({},)


def test_values_of_numpy_and_jax_become_plain_numbers():
    configs = make_configs({"gamma": np.array([0.5, 0.25]), "learning_rate": jnp.array([0.5])}, {}, 1, 0, TABLE)
    assert [{name: type(value) for name, value in c.items()} for c in configs] == 2 * [{"gamma": float, "learning_rate": float}]


def test_runs_of_a_config_are_neighbours_and_differ_in_their_seed():
    sweep = sweep_of([{"gamma": 0.9}, {"gamma": 0.8}], seeds=(5, 3, 8))
    assert sweep.num_runs == 6
    assert [(sweep.config_of(run), sweep.seed_of(run)) for run in range(6)] == [(0, 5), (0, 3), (0, 8), (1, 5), (1, 3), (1, 8)]
    assert list(sweep.runs_of(1)) == [3, 4, 5]


def test_swept_values_win_over_fixed_ones():
    sweep = sweep_of([{"gamma": 0.5, "env.size": 3}], env_options={"size": 2, "wind": 1})
    config, options = configure(sweep, sweep.configs[0])
    assert (config, options) == (dataclasses.replace(TABLE, gamma=0.5), {"size": 3, "wind": 1})


def test_grids_and_draws_are_read_from_text():
    assert parse_grid(DQNConfig, ["learning-rate=1e-4,3e-4", "hidden=64x64,128", "env.gravity=9.8,5", "double=true,false"]) == {
        "learning_rate": [1e-4, 3e-4],
        "hidden": [(64, 64), (128,)],
        "env.gravity": [9.8, 5],
        "double": [True, False],
    }
    assert parse_draws(DQNConfig, ["learning_rate=log:1e-5:1e-2", "env.gravity=uniform:5:15"]) == {
        "learning_rate": Draw(1e-5, 1e-2, True),
        "env.gravity": Draw(5.0, 15.0, False),
    }


# --- which runs share a program ---------------------------------------------------------------------------------------


def test_traced_fields_share_a_program():
    assert groups_of(sweep_of(grid_of(gamma=[0.9, 0.99], learning_rate=[0.1, 1]))) == [(0, 1, 2, 3)]


def test_traced_physics_share_a_program():
    assert groups_of(cartpole([{"env.gravity": value} for value in (9.8, 5, 20.0)])) == [(0, 1, 2)]


def test_static_fields_split_programs():
    configs = [{"num_envs": num, "gamma": gamma} for num in (1, 2) for gamma in (0.9, 0.99)]
    assert groups_of(sweep_of(configs)) == [(0, 1), (2, 3)]


def test_a_time_limit_splits_programs():
    assert groups_of(cartpole([{"env.max_steps_in_episode": value} for value in (100, 200, 100)])) == [(0, 2), (1,)]


def make_own(num_envs: int, bonus: float = 1.0, how: str = "params") -> Env:
    """An environment of one step that pays `bonus`, from its params or as a number in its program."""

    def reset(_, params):
        return (), jnp.zeros(1)

    def step(_, params, state, action):
        return Transition((), jnp.zeros(1), params if how == "params" else bonus * jnp.ones_like(params), True)

    return batch_env(Spec(ArraySpec((1,), "float32"), Discrete(2), 1), jnp.float32(bonus), reset, step, num_envs)


def make_declared(num_envs: int, bonus: float = 1.0, how: str = "params") -> Env:
    """The same, which says that `how` alone is part of the program."""
    return make_own(num_envs, bonus, how)


make_declared.static_options = ("how",)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("function", "num_programs"), [("make_own", 2), ("make_declared", 1)])
def test_an_own_environment_is_split_by_its_options_unless_it_says_which_of_them_are_static(function, num_programs):
    """What a function closes over is not seen from outside, so without a word every option may be part of the program."""
    config = DQNConfig(hidden=(4,), capacity=64, batch_size=4, learning_starts=8)
    configs = [{"env.bonus": value} for value in (1.0, 2.0)]
    assert len(make_groups(sweep_of(configs, "dqn", f"{__name__}:{function}", config))) == num_programs


def test_a_declared_static_option_splits_programs():
    config = DQNConfig(hidden=(4,), capacity=64, batch_size=4, learning_starts=8)
    configs = [{"env.how": value} for value in ("params", "number")]
    assert len(make_groups(sweep_of(configs, "dqn", f"{__name__}:make_declared", config))) == 2


@pytest.mark.parametrize(
    ("option", "values", "num_programs"),
    [("sticky_actions", (0.1, 0.2), 1), ("frame_stack", (1, 2), 2), ("gravity", (9, 12), 1)],
)
def test_options_of_wrappers_split_programs_but_for_traced_ones(option, values, num_programs):
    assert len(groups_of(cartpole([{f"env.{option}": value} for value in values]))) == num_programs


# --- what does not fit ------------------------------------------------------------------------------------------------


def message_of(call):
    with pytest.raises(UsageError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat=1", "unknown field 'learning_rat'; did you mean learning_rate"),
        ("learning_rate=1e-3,fast", "learning_rate='fast' is not of type float; give one such as 0.0005"),
        ("hidden=64x64,wide", "hidden='wide' is not of type tuple"),
        ("learning_rate", "grid='learning_rate' is not FIELD=VALUES; write for example learning_rate=1e-4,3e-4"),
        ("=1", "grid='=1' is not FIELD=VALUES"),
    ],
)
def test_a_grid_that_cannot_be_read_is_named(text, message):
    assert message in message_of(lambda: parse_grid(DQNConfig, [text]))


def test_options_of_the_environment_are_named_where_a_field_is_unknown():
    assert "options of the environment are written env.NAME" in message_of(lambda: parse_grid(DQNConfig, ["gravity=1"]))


def test_a_field_given_twice_is_named():
    assert "field 'gamma' is given twice" in message_of(lambda: parse_grid(DQNConfig, ["gamma=1", "gamma=0.5"]))
    twice = ["gamma=uniform:0:1", "gamma=uniform:0:0.5"]
    assert "field 'gamma' is given twice" in message_of(lambda: parse_draws(DQNConfig, twice))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gama=uniform:0:1", "unknown field 'gama'; did you mean gamma"),
        ("gamma=0.9,0.99", "draw='gamma=0.9,0.99' is no range; write gamma=log:LOW:HIGH or gamma=uniform:LOW:HIGH"),
        ("gamma=normal:0:1", "is no range; write"),
        ("gamma=uniform:0", "is no range; write"),
        ("gamma=uniform:0.5:0.5", "gamma has low=0.5, high=0.5; give finite ones with LOW < HIGH"),
        ("gamma=uniform:0.5:0.4", "gamma has low=0.5, high=0.4; give finite ones with LOW < HIGH"),
        ("gamma=uniform:nan:1", "gamma has low=nan, high=1; give finite ones"),
        ("learning_rate=log:0:1", "learning_rate has low=0, which has no logarithm; raise LOW above 0, or draw uniformly"),
        ("env.gravity=log:-1:1", "env.gravity has low=-1, which has no logarithm"),
        ("hidden=uniform:8:64", "hidden is not a number; put its values into the grid"),
        ("double=uniform:0:1", "double is not a number"),
        ("gamma=uniform:0.9:1.5", "gamma has low=0.9, high=1.5; stay in [0, 1]"),
    ],
)
def test_a_draw_that_does_not_fit_is_named(text, message):
    assert message in message_of(lambda: make_configs({}, parse_draws(DQNConfig, [text]), 2, 0, DQNConfig()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"learning_rat": [1.0]}}, "unknown field 'learning_rat'; did you mean learning_rate"),
        ({"grid": {"learning_rate": 0.1}}, "grid: learning_rate=0.1 is no list of values"),
        ({"grid": {"learning_rate": []}}, "grid: learning_rate=[] is no list of values"),
        ({"grid": {"learning_rate": "0.1"}}, "grid: learning_rate='0.1' is no list of values"),
        ({"grid": {"learning_rate": [0.1, "fast"]}}, "learning_rate='fast' must be of type float"),
        ({"grid": {"learning_rate": [0.1, 5.0]}}, "learning_rate=5.0 is out of range; give a value in (0, 1]"),
        ({"grid": {"gamma": [0.9, 0.99, 0.9]}}, "grid: gamma has the value 0.9 twice; give each once"),
        ({"grid": {"env.wind": [1, 2]}}, "wind"),
        ({"grid": {"gamma": [0.9]}, "draws": {"gamma": Draw(0.0, 1.0)}}, "field 'gamma' is both in the grid and drawn"),
        ({"draws": {"gamma": Draw(1.0, 0.0)}}, "gamma has low=1, high=0; give finite ones with LOW < HIGH"),
        ({"draws": {"learning_rate": Draw(0.0, 1.0, True)}}, "learning_rate has low=0, which has no logarithm"),
        ({"draws": {"gama": Draw(0.0, 1.0)}}, "unknown field 'gama'; did you mean gamma"),
        (
            {"draws": {"gamma": Draw(0.0, 1.0)}, "num_draws": 0},
            "num_draws=0 is out of range; give a whole number of at least 1",
        ),
        ({"num_draws": 3}, "num_draws=3 for 0 drawn fields"),
        (
            {"draws": {"gamma": Draw(0.0, 1.0)}, "draw_seed": -1},
            "draw_seed=-1 is out of range; give a whole number of at least 0",
        ),
        ({"gama": 0.9}, "unknown field 'gama'; did you mean gamma"),
        ({"seeds": 0}, "seeds=() are none or not all different"),
        ({"seeds": [1, 1]}, "seeds=(1, 1) are none or not all different"),
        ({"seeds": [2**32]}, "seeds=4294967296 is out of range; give a value in [0, 4294967295]"),
        ({"seeds": [-1]}, "seeds=-1 is out of range"),
        ({"seeds": np.int64(0)}, "seeds=() are none or not all different"),
        ({"seeds": np.array([2, 2])}, "seeds=(2, 2) are none or not all different"),
        ({"seeds": 2.0}, "seeds=2.0 is no whole number and no list of them; give for example 3 or [0, 1, 2]"),
        ({"seeds": [0.5]}, "seeds=[0.5] is no whole number and no list of them"),
        ({"env": "gymnasium/CartPole-v1", "agent": "dqn", "batching": "vmap"}, "env='gymnasium/CartPole-v1' lives on the host"),
        ({"env": "gridworld/clasic"}, "unknown environment 'gridworld/clasic'; did you mean gridworld/classic"),
        ({"agent": "q_lerning"}, "unknown agent 'q_lerning'; did you mean q_learning"),
        ({"env": "CartPole-v1"}, "q_learning"),
        ({"memory_limit": 100}, "memory_limit=100 bytes is below the"),
        ({"memory_limit": 0}, "memory_limit=0 is out of range; give a value at least 1"),
        ({"total_steps": 0}, "total_steps=0 is out of range; give a value at least 1"),
        ({"total_steps": 1e3}, "total_steps=1000.0 must be of type int, such as 500000"),
        ({"num_rows": 0}, "num_rows=0 is out of range"),
        ({"eval_episodes": 0}, "eval_episodes=0 is out of range"),
        ({"batching": "parallel"}, "batching='parallel' is unknown; choose one of auto, serial, vmap, solo"),
        ({"executor": "dask"}, "executor='dask' is unknown; choose one of local, ray"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds=-1.0 is out of range"),
        ({"checkpoint_seconds": math.nan}, "checkpoint_seconds=nan is not a finite number"),
        ({"stop_return": math.inf}, "stop_return=inf is not a finite number"),
        ({"schedule": "halving"}, "schedule='halving' has nothing to choose from: the sweep has one config"),
        ({"schedule": "best"}, "schedule='best' is unknown"),
        ({"schedule": "pbt", "seeds": 4}, "schedule='pbt' has nothing to explore"),
        ({"schedule": "pbt", "grid": {"num_envs": [1, 2, 3, 4]}}, "schedule='pbt' cannot change num_envs within a run"),
        ({"schedule": "pbt", "grid": {"average": [True, False]}, "seeds": 2}, "schedule='pbt' cannot change average"),
        (
            {"schedule": "pbt", "grid": {"env.gravity": [9, 10]}, "seeds": 2, "agent": "a2c", "env": "CartPole-v1"},
            "schedule='pbt' cannot change env.gravity within a run",
        ),
        ({"schedule": Schedule("pbt", pbt_steps=500), "seeds": 4, "grid": {"gamma": [0.9]}}, "pbt_steps=500 is out of range"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path, changes, message):
    defaults = {"agent": "q_learning", "env": "gridworld/classic", "total_steps": 400}
    folder = tmp_path / "sweep"
    assert message in message_of(lambda: api.sweep(**(defaults | changes), out=folder))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seeds", [np.int64(2), np.uint8(2), np.arange(2), range(2), jnp.arange(2)])
def test_seeds_may_be_of_numpy(tmp_path, monkeypatch, seeds):
    planned = []
    monkeypatch.setattr(driver, "start_or_resume", lambda sweep, folder, notice: planned.append(sweep))
    monkeypatch.setattr(api, "read_results", lambda folder: None)
    api.sweep("q_learning", "gridworld/classic", seeds=seeds, out=tmp_path / "sweep")
    assert planned[0].seeds == (0, 1) and {type(seed) for seed in planned[0].seeds} == {int}


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty; give another folder" in message_of(lambda: driver.start(sweep_of(), tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
