"""A population that plays itself."""

import pytest

import jaxrl


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
        num_envs=4,
        rollout_length=4,
        num_simulations=2,
        blocks=0,
        channels=4,
        capacity=64,
        batch_size=8,
        num_updates=1,
    )
    assert result.results.summary["compilations"] == 1 and result.results.status.tolist() == ["ok"] * 4
