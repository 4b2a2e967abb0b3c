"""AlphaZero against a tree search without a network, as first and as second player in turn: wins less losses, of all games."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxrl.claims.claim import GREEDY, Claim, Protocol, Published

_SIMULATIONS, _GAMES = 200, 200


def _claim(
    game: str,
    mean: float,
    random: float,
    source: str,
    total_steps: int,
    config: Mapping[str, Any],
    seeds: tuple[int, ...] = (1,),
    deviations: str = "",
) -> Claim:
    """A game, and what is to be reached against a search of so many random playouts a move.

    Args:
      random: what random moves reach against it, of 200 games.
    """
    protocol = Protocol(score=GREEDY, episodes=_GAMES, rules=f"pgx {game}, against mcts:{_SIMULATIONS}")
    return Claim(
        name=f"alphazero-{game}",
        agent="alphazero",
        env=f"pgx/{game}",
        config=config,
        total_steps=total_steps,
        seeds=seeds,
        chosen_on=(0,),
        published=Published(mean=mean, source=source, env_steps=total_steps, random=random, protocol=protocol),
        protocol=protocol,
        eval_env_options={"opponent": f"mcts:{_SIMULATIONS}"},
        eval_episodes=_GAMES,
        deviations=deviations,
        group="games",
    )


CLAIMS = (
    _claim(
        "tic_tac_toe",
        0.0,
        -0.9,
        "solved: a draw, so that nobody does better against a player without fault",
        150_000,
        {"opening_share": 0.5, "opening_moves": 7},
        seeds=(1, 2, 3),
    ),
    _claim(
        "connect_four",
        0.9,
        -1.0,
        "our own goal, 95 % of the points",
        786_432,
        {"opening_share": 0.8, "opening_moves": 12, "num_updates": 24, "capacity": 150_000},
    ),
    _claim(
        "go_5x5",
        0.9,
        -1.0,
        "our own goal, 95 % of the points",
        589_824,
        {"opening_share": 0.3, "opening_moves": 8, "num_updates": 16, "capacity": 100_000},
    ),
    _claim(
        "go_9x9",
        0.9,
        -1.0,
        "our own goal, 95 % of the points",
        100_663_296,
        {
            "num_envs": 1024,
            "rollout_length": 32,
            "blocks": 6,
            "channels": 128,
            "batch_size": 2048,
            "num_updates": 32,
            "capacity": 1_048_576,
            "learning_rate": 1e-3,
            "opening_share": 0.1,
            "opening_moves": 16,
        },
        deviations="Settings for an accelerator, after those of pgx's example.",
    ),
)
