"""MinAtar (Young & Tian 2019) under gymnax's own rules."""

from jaxrl.claims.claim import LAST, Claim, Protocol, Published

_RANDOM = {"Asterix": 0.5, "Breakout": 0.5, "Freeway": 0.1, "SpaceInvaders": 3.0}


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


CLAIMS = (_ppo("Asterix", 15.0), _ppo("Breakout", 28.0), _ppo("Freeway", 58.0), _ppo("SpaceInvaders", 131.0))
