"""A population that plays itself."""

import pytest

import jaxrl
from helpers import TINY_SELF_PLAY


@pytest.mark.slow
def test_four_seeds_of_self_play_are_one_program(tmp_path, no_report):
    result = jaxrl.sweep(
        "alphazero",
        "pgx/tic_tac_toe",
        seeds=4,
        total_steps=64,
        num_rows=1,
        eval_episodes=4,
        batching="vmap",
        out=tmp_path / "sweep",
        **TINY_SELF_PLAY,
    )
    assert result.results.summary["compilations"] == 1 and result.results.status.tolist() == ["ok"] * 4
