"""The Recurrent Attention Model (Mnih et al. 2014), tables 1 and 2: accuracy on MNIST's 10,000 test pictures, 1 - error."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jaxrl.claims.claim import GREEDY, Claim, Protocol, Published

TRAINING, TEST = 60_000, 10_000
"""Pictures of MNIST."""
_SOURCE = "Mnih, Heess, Graves and Kavukcuoglu 2014, NIPS proceedings, table"
_COMMON = "The source does not tell its step size, its deviation of locations and its epochs, which are ours."

PREPRINT = {
    "ram-mnist-2": 6.27,
    "ram-mnist-4": 1.73,
    "ram-mnist-6": 1.29,
    "ram-translated-4": 2.29,
    "ram-translated-6": 1.86,
    "ram-translated-8": 1.84,
    "ram-cluttered-8": 5.23,
    "ram-cluttered100-8": 10.83,
}
"""Errors in percent as the preprint prints them; where the proceedings print one too, it is the claim's."""

WIDE_FIRST = {"location_std": 0.2, "location_std_end_share": 0.25}
"""Deviations for many epochs: looks are far apart at first and close to their means at the end."""
PLAIN = {"size": 8, "num_scales": 1}
RETINA = {"size": 12, "num_scales": 3}
WHOLE = {"num_glimpses": 1, "size": 28, "start": "centre"}
"""One glimpse of the whole picture: what remains of the model is a feed-forward network."""


def _claim(
    name: str,
    env: str,
    options: Mapping[str, Any],
    error: float,
    table: int,
    *,
    epochs: int = 150,
    seeds: tuple[int, ...] = (1,),
    config: Mapping[str, Any] | None = None,
    deviations: str = "",
    tried: str = "",
) -> Claim:
    """A row of the tables.

    Args:
      error: in percent, as the proceedings print it.
      epochs: passes over the 60,000 training pictures.
    """
    glimpses = options["num_glimpses"]
    rules = f"{env.partition('/')[2]}, {glimpses} of {options['size']}x{options['size']}, {options.get('num_scales', 1)} scales"
    protocol = Protocol(score=GREEDY, episodes=TEST, rules=rules)
    total_steps = epochs * TRAINING * glimpses
    said = [deviations, f"The preprint prints an error of {PREPRINT[name]} %." if name in PREPRINT else "", _COMMON]
    return Claim(
        name=name,
        agent="ram",
        env=env,
        env_options=options,
        config=config or {},
        total_steps=total_steps,
        seeds=seeds,
        chosen_on=(0,),
        published=Published(
            mean=round(1.0 - error / 100.0, 6),
            num_seeds=1,
            source=f"{_SOURCE} {table}",
            env_steps=total_steps,
            random=0.1,
            protocol=protocol,
        ),
        protocol=protocol,
        eval_episodes=TEST,
        deviations=" ".join(filter(None, said)),
        tried=tried,
        tuned=(config or {}).get("look") != "random" and glimpses > 1,
        group="attention",
    )


_TRIED = (
    "On 5,000 held-out training pictures (seed 0), over 10 to 30 epochs: deviations of 0.05 to 0.2 throughout, and "
    "falling from 0.1 to 0.4; step sizes of 3e-4 to 2e-3, for locations 0.01 to 10 times that; sgd, for all and for the "
    "location network alone; locations that are not squashed; an LSTM; recurrent weights that begin as the identity; none, "
    "0.003 to 0.3 and all of the location's gradient for the core."
)


def _looking() -> list[Claim]:
    """The attention model where it looks where it learned to."""
    looking = partial(_claim, config=WIDE_FIRST)
    mnist, translated, cluttered = (f"glimpse/mnist{kind}" for kind in ("", "-translated", "-cluttered"))
    small = [
        looking(
            f"ram-mnist-{glimpses}",
            mnist,
            PLAIN | {"num_glimpses": glimpses},
            error,
            1,
            seeds=seeds,
            tried=tried,
        )
        for glimpses, error, seeds, tried in (
            (2, 3.79, (1,), ""),
            (4, 1.54, (1,), ""),
            (5, 1.34, (1,), ""),
            (6, 1.12, (1, 2, 3), _TRIED),
            (7, 1.07, (1,), ""),
        )
    ]
    large = [
        looking(f"ram-{name}-{glimpses}", env, RETINA | {"num_glimpses": glimpses}, error, table, epochs=epochs)
        for name, env, table, epochs, glimpses, error in (
            ("translated", translated, 1, 300, 4, 1.54),
            ("translated", translated, 1, 300, 6, 1.22),
            ("translated", translated, 1, 300, 8, 1.20),
            ("cluttered", cluttered, 2, 350, 4, 4.96),
            ("cluttered", cluttered, 2, 350, 6, 4.08),
            ("cluttered", cluttered, 2, 350, 8, 4.04),
        )
    ]
    widest = RETINA | {"num_scales": 4, "num_glimpses": 8, "side": 100, "num_pieces": 8}
    large.append(looking("ram-cluttered100-8", cluttered, widest, PREPRINT["ram-cluttered100-8"], 2))
    return [*small, *large]


def _random(name: str, of: Claim, error: float, deviations: str) -> Claim:
    """A claim's model with locations uniformly at random: what learned attention is worth."""
    epochs = of.total_steps // (TRAINING * of.env_options["num_glimpses"])
    return _claim(name, of.env, of.env_options, error, 2, epochs=epochs, config={"look": "random"}, deviations=deviations)


def _whole() -> list[Claim]:
    """Feed-forward networks that see the whole picture, with the same budget."""
    dense = _claim("fc-mnist", "glimpse/mnist", WHOLE, 1.69, 1, deviations="Layers of 128, 256 and 256 units.")
    convolutional = _claim(
        "conv-mnist",
        "glimpse/mnist",
        WHOLE,
        1.21,
        1,
        config={"torso": "minatar"},
        deviations="One layer of 16 filters 3x3 and dense ones of 128, 256 and 256 units; the source has 8 filters 10x10 of "
        "stride 5 and 256 units.",
    )
    return [dense, convolutional]


_LOOKING = {claim.name: claim for claim in _looking()}

CLAIMS = (
    *_LOOKING.values(),
    _random("ram-mnist-6-random", _LOOKING["ram-mnist-6"], 1.12, "The published model looks where it learned to."),
    _random("ram-cluttered-8-random", _LOOKING["ram-cluttered-8"], 14.4, ""),
    *_whole(),
)
