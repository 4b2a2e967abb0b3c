"""Configs: messages, types, text, the traced / static split, and one compilation for equal numbers."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import AGENTS, load_agent
from jaxrl.agents.value.dqn import DQNConfig
from jaxrl.config import Config, as_arrays, check_config, config, traced
from jaxrl.errors import UsageError
from jaxrl.fields import check_fields, field_types, from_json, from_text, static, to_json, to_text


@config
class Sample(Config):
    """One field of each kind."""

    rate: float = traced(0.1, "Open below.", low=0.0, low_open=True)
    share: float = traced(0.5, "Closed on both sides.", low=0.0, high=1.0)
    weight: float = traced(0.5, "Open below, closed above.", low=0.0, high=1.0, low_open=True)
    period: int = traced(10, "A traced count.", low=1)
    clip: bool = traced(False, "A traced flag.")
    sizes: tuple[int, ...] = static((8, 8), "A tuple.", low=1)
    limit: float | None = static(None, "Optional.", low=0.5)
    kind: str = static("a", "A choice.", choices=("a", "b"))
    double: bool = static(False, "A static flag.")


TRACED = ["rate", "share", "weight", "period", "clip"]


def message(make):
    """The one line that a usage error says."""
    with pytest.raises(UsageError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


def checked(**values):
    return lambda: check_config(Sample(**values))


# --- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rate": 0.0}, "rate=0.0 is out of range; give a value above 0"),
        ({"rate": -2.5}, "rate=-2.5 is out of range; give a value above 0"),
        ({"share": 1.25}, "share=1.25 is out of range; give a value in [0, 1]"),
        ({"share": -0.5}, "share=-0.5 is out of range; give a value in [0, 1]"),
        ({"weight": 0.0}, "weight=0.0 is out of range; give a value in (0, 1]"),
        ({"period": 0}, "period=0 is out of range; give a value at least 1"),
        ({"num_envs": -1234567}, "num_envs=-1234567 is out of range; give a value at least 1"),
        ({"sizes": (64, 0)}, "sizes=0 is out of range; give a value at least 1"),
        ({"limit": 0.25}, "limit=0.25 is out of range; give a value at least 0.5"),
        ({"share": np.float32(2.0)}, "share=2.0 is out of range; give a value in [0, 1]"),
        ({"share": jnp.float32(2.0)}, "share=2.0 is out of range; give a value in [0, 1]"),
    ],
)
def test_range_message_has_field_value_and_fix_in_one_line(values, expected):
    assert message(checked(**values)) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_must_be_finite(value):
    assert message(checked(rate=value)) == f"rate={value} is not a finite number; give a finite one"


@pytest.mark.parametrize("values", [{"share": 0.0}, {"share": 1.0}, {"weight": 1}, {"period": 1}, {"limit": 0.5}])
def test_closed_bounds_are_allowed(values):
    check_config(Sample(**values))


@pytest.mark.parametrize("value", [2**31, 10**400], ids=["32 bits", "beyond double precision"])
def test_a_traced_count_must_fit_32_bits(value):
    assert message(checked(period=value)) == f"period={value} does not fit 32 bits; give a value below 2147483648"


def test_an_unknown_choice_names_the_choices():
    assert message(checked(kind="c")) == "kind='c' is unknown; choose one of a, b"


@pytest.mark.parametrize("agent", AGENTS)
def test_every_bounded_field_of_every_agent_refuses_values_below(agent):
    _, cls = load_agent(agent)
    bounded = [f for f in dataclasses.fields(cls) if f.metadata["low"] > -math.inf]
    assert bounded
    for field in bounded:
        kind = str(field_types(cls)[field.name])
        bad = (int if "int" in kind else float)(field.metadata["low"] - 1)
        wrapped = (bad,) if "tuple" in kind else bad
        text = message(lambda name=field.name, value=wrapped: check_config(cls(**{name: value})))
        assert text.startswith(f"{field.name}={bad} is out of range; give a value ")


@pytest.mark.parametrize("agent", AGENTS)
def test_defaults_of_every_agent_are_valid_and_explained(agent):
    _, cls = load_agent(agent)
    check_config(cls())
    assert all(len(f.metadata["help"]) > 5 for f in dataclasses.fields(cls))


def test_rules_between_fields_are_checked():
    text = message(lambda: check_config(DQNConfig(batch_size=256, capacity=128)))
    assert text == "batch_size=256 exceeds capacity=128; raise capacity"


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rate": "0.1"}, "rate='0.1' must be of type float, such as 0.1"),
        ({"rate": None}, "rate=None must be of type float, such as 0.1"),
        ({"rate": True}, "rate=True must be of type float, such as 0.1"),
        ({"period": 2.0}, "period=2.0 must be of type int, such as 10"),
        ({"double": 1}, "double=1 must be of type bool, such as False"),
        ({"kind": 3}, "kind=3 must be of type str, such as 'a'"),
        ({"sizes": 64}, "sizes=64 must be a tuple of ints, such as (8, 8)"),
        ({"sizes": [64, 64]}, "sizes=[64, 64] must be a tuple of ints, such as (8, 8)"),
    ],
)
def test_type_message_has_field_value_and_example(values, expected):
    assert message(checked(**values)) == expected


def test_a_value_of_several_lines_or_many_words_is_shown_in_one():
    expected = "num_envs=Array((), dtype=key<fry>) overlaying: [0 0] must be of type int, such as 8"
    assert message(checked(num_envs=jax.random.key(0))) == expected
    assert "must be of type float, such as 0.1" in message(checked(rate=jax.random.key(0)))
    assert len(message(checked(rate="x" * 999))) < 200


def test_a_static_count_may_not_be_an_array():
    assert "num_envs=" in message(checked(num_envs=jnp.int32(4)))


@pytest.mark.parametrize(
    "values", [{"rate": 1}, {"rate": np.float32(1)}, {"rate": jnp.float32(1)}, {"period": np.int64(3)}, {"limit": None}]
)
def test_numbers_of_any_library_are_accepted(values):
    check_config(Sample(**values))


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("rate", "1e-3", 1e-3),
        ("rate", "1", 1.0),
        ("period", "12", 12),
        ("sizes", "128x128", (128, 128)),
        ("sizes", "128,64,32", (128, 64, 32)),
        ("sizes", "7", (7,)),
        ("limit", "none", None),
        ("limit", "None", None),
        ("limit", "2.5", 2.5),
        ("double", "true", True),
        ("double", "False", False),
        ("kind", "b", "b"),
    ],
)
def test_text_is_read_as_its_field_says(field, text, expected):
    value = read(field, text)
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize("field", ["rate", "period", "sizes", "limit", "double", "kind"])
def test_text_round_trip_gives_the_same_value(field):
    default = getattr(Sample(), field)
    assert read(field, to_text(default)) == default


def read(field, *texts):
    return from_text(Sample.__dataclass_fields__[field], field_types(Sample)[field], *texts)


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("rate", "fast", "float; give one such as 0.1"),
        ("rate", "none", "float; give one such as 0.1"),
        ("period", "2.5", "int; give one such as 10"),
        ("sizes", "128xwide", "tuple[int, ...]; give one such as 8x8"),
        ("sizes", "128x", "tuple[int, ...]; give one such as 8x8"),
        ("limit", "low", "float or none; give one such as none"),
        ("double", "1", "bool; give true or false"),
    ],
)
def test_text_of_another_type_is_refused(field, text, expected):
    assert message(lambda: read(field, text)) == f"{field}={text!r} is not of type {expected}"


# --- other declarations -----------------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Kinds of fields that a config does not have."""

    folder: str = static(..., "Required.")
    options: dict[str, Any] = static(dict, "Of its own for each instance.", flag="option")
    points: dict[str, Point] = static(dict, "A dict of named tuples.", flag=None)
    values: tuple[Mapping[str, Any], ...] = static((), "A tuple of dicts.", flag=None)
    sample: Sample = static(Sample, "A dataclass.", flag=None)
    pause: float = static(1.0, "Seconds.", low=0)
    sinks: tuple[str, ...] = static((), "A tuple with choices.", choices=("a", "b"))


def test_json_round_trip_gives_the_same_dicts_tuples_and_dataclasses():
    values = {"points": {"p": Point(0.5)}, "values": ({"hidden": (4, 4)},), "sample": Sample(rate=0.3), "sinks": ("b",)}
    before = Settings(folder="here", options={"map": [1, 2]}, pause=1e9, **values)
    after = from_json(Settings, json.loads(json.dumps(to_json(before))))
    assert after == before
    check_fields(after)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"folder": 3}, "folder=3 must be of type str"),
        ({"options": 3}, "option=3 must be of type dict[str, typing.Any], such as {}"),
        ({"pause": math.nan}, "pause=nan is not a finite number; give a finite one"),
        ({"sinks": ("a", "c")}, "sinks='c' is unknown; choose one of a, b"),
        ({"sinks": "a"}, "sinks='a' must be a tuple of strs, such as ()"),
    ],
)
def test_other_fields_are_refused_by_name(values, expected):
    assert message(lambda: check_fields(Settings(**{"folder": "here"} | values))) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "folder is missing; give it a value"),
        ({"folder": "here", "points": {"p": 3}}, "3 is no Point; give x"),
        ([], "[] holds no fields of Settings; give a table of names and values"),
    ],
)
def test_json_that_does_not_fit_is_refused(values, expected):
    assert message(lambda: from_json(Settings, values)) == expected


def test_options_by_name_are_read_as_literals():
    field = Settings.__dataclass_fields__["options"]
    assert from_text(field, dict[str, Any], "a=1", "b=true", "c=word") == {"a": 1, "b": True, "c": "word"}
    assert message(lambda: from_text(field, dict[str, Any], "a")).startswith("option='a' is not NAME=VALUE; write")


# --- traced and static ------------------------------------------------------------------------------------------------


def test_traced_fields_are_the_leaves():
    assert sorted(map(str, jax.tree.leaves(Sample()))) == sorted(str(getattr(Sample(), name)) for name in TRACED)


@pytest.mark.parametrize("field", TRACED)
def test_traced_fields_leave_the_structure_alone(field):
    assert jax.tree.structure(dataclasses.replace(Sample(), **{field: 1})) == jax.tree.structure(Sample())


@pytest.mark.parametrize("values", [{"num_envs": 3}, {"sizes": (4,)}, {"limit": 1.0}, {"kind": "b"}, {"double": True}])
def test_static_fields_are_structure(values):
    assert jax.tree.structure(Sample(**values)) != jax.tree.structure(Sample())


def test_a_config_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sample().rate = 0.5


def test_traced_fields_can_be_differentiated_and_mapped():
    grad = jax.grad(lambda c: c.rate**2 * c.share)(as_floats(Sample(rate=3.0)))
    assert float(grad.rate) == 3.0  # 2 * 3 * 0.5
    batch = dataclasses.replace(as_arrays(Sample()), rate=jnp.array([1.0, 2.0]))
    axes = dataclasses.replace(jax.tree.map(lambda _: None, batch), rate=0)
    assert jax.vmap(lambda c: c.rate * c.share, in_axes=(axes,))(batch).tolist() == [0.5, 1.0]


def as_floats(sample):
    """The same config with float leaves only, which is what `jax.grad` differentiates."""
    return jax.tree.map(lambda leaf: jnp.float32(leaf), sample)


def test_equal_numbers_of_any_type_share_one_compilation():
    traces = []

    @jax.jit
    def run(c):
        traces.append(c)
        return c.rate * c.share

    for rate in (0.99, 1, np.float32(0.5), np.float64(0.5), np.int64(1), jnp.float32(2), jnp.asarray(2.0)):
        run(as_arrays(Sample(rate=rate)))
    assert len(traces) == 1


def test_as_arrays_casts_to_strong_arrays_of_the_declared_type():
    arrays = as_arrays(Sample(rate=1, period=np.int64(3), clip=True))
    dtypes = {name: (getattr(arrays, name).dtype.name, getattr(arrays, name).weak_type) for name in TRACED}
    number = ("float32", False)
    assert dtypes == {"rate": number, "share": number, "weight": number, "period": ("int32", False), "clip": ("bool", False)}


def test_as_arrays_keeps_the_shape_of_a_batch():
    assert as_arrays(Sample(rate=np.array([0.1, 0.2]))).rate.shape == (2,)


def test_as_arrays_leaves_static_fields_alone():
    arrays = as_arrays(Sample(sizes=(3, 4)))
    assert (arrays.sizes, arrays.limit, arrays.kind, arrays.num_envs) == ((3, 4), None, "a", 8)


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 0.75])
def test_json_round_trip_gives_the_same_config(limit):
    before = Sample(rate=0.3, sizes=(5, 6), limit=limit, kind="b", double=True, clip=True)
    assert from_json(Sample, json.loads(json.dumps(to_json(before)))) == before


def test_json_round_trip_of_arrays_gives_the_same_numbers():
    arrays = as_arrays(Sample(rate=2.5e-4, period=7))
    back = as_arrays(from_json(Sample, json.loads(json.dumps(to_json(arrays)))))
    assert all(a == b and a.dtype == b.dtype for a, b in zip(jax.tree.leaves(arrays), jax.tree.leaves(back), strict=True))


def test_json_of_another_version_names_the_unknown_field():
    text = message(lambda: from_json(Sample, {"rte": 0.1}))
    assert text.startswith("unknown field of Sample 'rte'; did you mean rate")


def test_a_file_with_the_earlier_name_of_a_field_is_read():
    assert from_json(DQNConfig, {"learning_rate_end": 0.25}) == DQNConfig(learning_rate_end_share=0.25)
