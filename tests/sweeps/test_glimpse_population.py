"""A population that learns from a data set is one program and has one copy of the data, however many runs it has."""

import pytest

import jaxrl
from jaxrl.drivers.memory import num_bytes
from jaxrl.envs import make
from jaxrl.sweeps import unit

OPTIONS = {"num_glimpses": 2, "size": 4}


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["serial", "vmap"])
def test_eight_learning_rates_are_one_program_with_one_copy_of_the_data(tmp_path, monkeypatch, no_report, batching):
    made, make_population = [], unit.make_population

    def spy(*arguments):
        made.append(make_population(*arguments))
        return made[-1]

    monkeypatch.setattr(unit, "make_population", spy)
    result = jaxrl.sweep(
        "ram",
        "glimpse/digits",
        grid={"learning_rate": [0.01 * (number + 1) for number in range(8)]},
        total_steps=64,
        num_rows=1,
        env_options=OPTIONS,
        batching=batching,
        out=tmp_path / "sweep",
        num_envs=8,
        units=8,
        glimpse_units=4,
    )
    assert result.results.summary["compilations"] == 1 and len(result.results.eval_return) == 8
    data = num_bytes(make("glimpse/digits", 1, **OPTIONS).params)
    (population,) = made
    assert population.capacity == 8 and data < population.num_bytes < 1.5 * data
