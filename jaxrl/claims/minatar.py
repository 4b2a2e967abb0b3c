"""MinAtar (Young & Tian 2019) under gymnax's own rules, and by the published protocol."""

from collections.abc import Mapping
from typing import Any

from jaxrl.claims.claim import LAST, Claim, Protocol, Published, Settings

_RANDOM = {"Asterix": 0.5, "Breakout": 0.5, "Freeway": 0.1, "Seaquest": 0.1, "SpaceInvaders": 3.0}


def _ppo(game: str, mean: float) -> Claim:
    """gymnax-blines: one run each, read from the curve of 164 episodes of the policy that samples."""
    cap = 2500 if game == "Freeway" else 1000
    protocol = Protocol(
        score=LAST, sticky_actions=0.0, frame_skip=1, action_set="minimal", length_cap=cap, rules=f"gymnax {game}-MinAtar"
    )
    return Claim(
        name=f"ppo-{game}-MinAtar",
        agent="ppo",
        env=f"{game}-MinAtar",
        config={
            "num_envs": 64,
            "rollout_length": 128,
            "learning_rate": 5e-4,
            "learning_rate_end_share": 1.0,
            "gamma": 0.999,
            "num_epochs": 4,
            "num_minibatches": 8,
            "entropy_coef": 0.01,
            "clip_value": True,
            "hidden": (256, 256),
            "activation": "relu",
            "torso": "mlp",
        },
        total_steps=10_000_000,
        seeds=(0, 1, 2),
        published=Published(
            mean=mean,
            kind="figure",
            num_seeds=1,
            source="gymnax, README and gymnax-blines",
            env_steps=10_000_000,
            random=_RANDOM[game],
            protocol=protocol,
        ),
        protocol=protocol,
        deviations="Published: 164 episodes of the policy that samples; ours: the last 100 training episodes, so too.",
        group="minatar",
    )


def _young_tian(
    agent: str, game: str, name: str, mean: float, learner: str, config: Mapping[str, Any], total_steps: int, deviations: str
) -> Claim:
    """Young & Tian 2019, figure 2: thirty seeds, five million steps, sticky actions, six actions, no time limit.

    Args:
      learner: whose curve it is.
    """
    protocol = Protocol(score=LAST, sticky_actions=0.1, frame_skip=1, action_set="full", length_cap=0, rules=f"MinAtar {game}")
    return Claim(
        name=name,
        agent=agent,
        env=f"{game}-MinAtar",
        env_options={"protocol": "published"},
        config=config,
        total_steps=total_steps,
        seeds=(0, 1, 2),
        published=Published(
            mean=mean,
            kind="figure",
            num_seeds=30,
            source=f"Young & Tian 2019, figure 2, {learner}",
            env_steps=5_000_000,
            random=_RANDOM[game],
            protocol=protocol,
        ),
        protocol=protocol,
        deviations=f"{deviations} What gymnax's games differ in from the authors' is listed in docs/results.md.",
        group="minatar",
    )


_A2C: Mapping[str, Any] = {
    "num_envs": 16,
    "rollout_length": 5,
    "learning_rate": 7e-4,
    "gae_lambda": 0.8,
    "entropy_coef": 0.01,
    "hidden": (128,),
    "activation": "relu",
    "torso": "minatar",
}


def _actor_critic(game: str, mean: float) -> Claim:
    return _young_tian(
        "a2c",
        game,
        f"a2c-{game}-MinAtar-sticky",
        mean,
        "actor-critic with eligibility traces (lambda 0.8)",
        _A2C,
        5_000_000,
        "Sixteen environments take five steps each before an update of Adam; the source's one took one of RMSProp, "
        "with traces.",
    )


_PQN: Mapping[str, Any] = {
    "num_envs": 128,
    "rollout_length": 32,
    "learning_rate": 5e-4,
    "td_lambda": 0.65,
    "epsilon_end": 0.05,
    "exploration_fraction": 0.1,
    "num_epochs": 2,
    "num_minibatches": 32,
    "torso": "minatar",
}
"""purejaxql's settings for MinAtar, but that its network sees planes of 1 / 255."""


def _pqn(game: str, mean: float) -> Claim:
    return _young_tian(
        "pqn",
        game,
        f"pqn-{game}-MinAtar",
        mean,
        "DQN",
        _PQN,
        2_000_000,
        "The source's is DQN, at two and a half times as many steps: no table of PQN's returns on MinAtar is known. "
        "The settings are those of PQN's authors' code, which goes on to 10,000,000.",
    )


_DQN = {"Asterix": 17.0, "Breakout": 10.0, "Freeway": 50.0, "Seaquest": 20.0, "SpaceInvaders": 44.0}
"""Young & Tian 2019, figure 2, DQN, read off; that of Seaquest precedes a fix of its oxygen."""

CLAIMS = (
    *(_ppo(game, mean) for game, mean in (("Asterix", 15.0), ("Breakout", 28.0), ("Freeway", 58.0), ("SpaceInvaders", 131.0))),
    *(
        _actor_critic(game, mean)
        for game, mean in (("Asterix", 19.0), ("Breakout", 17.5), ("Freeway", 47.5), ("SpaceInvaders", 185.0))
    ),
    *(_pqn(game, mean) for game, mean in _DQN.items()),
)

SETTINGS = tuple(
    Settings(
        name=f"pqn-{game}-MinAtar-gymnax",
        agent="pqn",
        env=f"{game}-MinAtar",
        config=_PQN,
        total_steps=10_000_000,
        source="purejaxql, config/alg/pqn_minatar.yaml, which plays by gymnax's own rules",
    )
    for game in _DQN
)
