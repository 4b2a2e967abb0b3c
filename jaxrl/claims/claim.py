"""What a claim is: a published result with its protocol, and how jaxrl runs it. Plain values, so that listing needs no JAX.

    claim = Claim(
        name="ppo-CartPole-v1",
        agent="ppo",
        env="CartPole-v1",
        total_steps=500_000,
        published=Published(490.0, 6.0, "seeds", "CleanRL, docs, ppo.py", 500_000, random=22.0, protocol=Protocol(LAST)),
        protocol=Protocol(LAST),
    )

Nothing is checked here beyond what a reader needs: agent, environment and config are checked when the claim is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxrl.errors import UsageError

GREEDY, LAST, BEST = "greedy", "last", "best"
SCORES = {
    GREEDY: "greedy episodes of the final policy",
    LAST: "the last training episodes",
    BEST: "the best greedy evaluation of training",
}
DEVIATIONS = {
    "seeds": "standard deviation over seeds",
    "episodes": "standard deviation over episodes of one run",
    "figure": "read off a figure",
    "none": "without a deviation",
}
BUDGET_SLACK = 1.01
"""Share of the published env steps that a run may take: budgets are rounded up to whole iterations."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a score is taken; None where a thing does not apply or is not told.

    Attributes:
      score: a key of `SCORES`.
      episodes: of which a seed's score is the mean.
      sticky_actions: probability that the last action is repeated.
      frame_skip: frames that an action lasts.
      action_set: "minimal" or "full".
      length_cap: decisions after which an episode is cut; 0 for no cap.
      rules: the environment whose rules are played, with their version.
    """

    score: str
    episodes: int | None = None
    sticky_actions: float | None = None
    frame_skip: int | None = None
    action_set: str | None = None
    length_cap: int | None = None
    rules: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A published figure.

    Attributes:
      mean: the figure.
      deviation: as printed beside it, None without one.
      kind: what the deviation is, a key of `DEVIATIONS`.
      num_seeds: behind the figure.
      source: paper or project, table, version.
      env_steps: the budget.
      random: score of random play, which says how large 10 % of the way is.
    """

    mean: float
    deviation: float | None = None
    kind: str = "none"
    num_seeds: int | None = None
    source: str
    env_steps: int
    random: float
    protocol: Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A published result as something that can be run.

    Attributes:
      name: unique; that of its results.
      config: fields of the agent's config that differ from its defaults.
      total_steps: env steps of a run.
      seeds: reported, fixed before any was looked at; `chosen_on` are those that the config was chosen on.
      protocol: ours.
      eval_every: env steps between evaluations while training, which a best-of-training score needs.
      deviations: what else differs from the source, in words.
      tried: where the result is below the published one: what was tried, in words.
      minutes: of both of two CPU cores, measured.
      tuned: `jaxrl.claims.tuned` advises these settings.
    """

    name: str
    agent: str
    env: str
    env_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    total_steps: int
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    chosen_on: tuple[int, ...] = ()
    published: Published
    protocol: Protocol
    eval_every: int = 0
    eval_episodes: int = 100
    deviations: str = ""
    tried: str = ""
    minutes: float | None = None
    tuned: bool = True

    group: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A published table of exact values, such as a grid world's.

    Attributes:
      policy: "optimal" or "random", whose values they are.
      gamma: discount, the environment's own by default.
      values: in the order of states, as printed.
      tolerance: half a unit of the last printed digit, or what the source rounds by.
    """

    name: str
    env: str
    env_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    policy: str = "optimal"
    gamma: float | None = None
    values: tuple[float, ...]
    tolerance: float
    source: str
    deviations: str = ""
    minutes: float | None = None
    group: str = "tables"


def check_claim(claim: Claim) -> None:
    """Checks what the statistics rest on.

    Raises:
      UsageError: seeds that the config was chosen on are reported, none are, or a kind that does not exist.
    """
    twice = sorted(set(claim.seeds) & set(claim.chosen_on))
    if twice:
        raise UsageError(f"{claim.name}: seeds={twice} are those that its config was chosen on; report others")
    if not claim.seeds or len(set(claim.seeds)) < len(claim.seeds):
        raise UsageError(f"{claim.name}: seeds={claim.seeds} must be different ones, at least one; give for example (0, 1, 2)")
    for side, protocol in (("published", claim.published.protocol), ("ours", claim.protocol)):
        if protocol.score not in SCORES:
            raise UsageError(f"{claim.name}: score={protocol.score!r} ({side}) is unknown; choose one of {', '.join(SCORES)}")
    if claim.published.kind not in DEVIATIONS:
        raise UsageError(f"{claim.name}: kind={claim.published.kind!r} is unknown; choose one of {', '.join(DEVIATIONS)}")
    if claim.protocol.score == BEST and not claim.eval_every:
        raise UsageError(f"{claim.name}: eval_every=0, but its score is the best evaluation of training; give env steps")


def mismatches(claim: Claim, env_steps: int | None = None) -> list[str]:
    """In what our protocol differs from the published one, in words; empty where like is compared with like.

    Args:
      env_steps: that runs took, those of the claim by default. Fewer than published are no advantage.
    """
    theirs, ours = claim.published.protocol, claim.protocol
    found = []
    if (env_steps or claim.total_steps) > BUDGET_SLACK * claim.published.env_steps:
        found.append(f"budget {env_steps or claim.total_steps:,} env steps, published {claim.published.env_steps:,}")
    if theirs.score != ours.score:
        found.append(f"score from {SCORES[ours.score]}, published from {SCORES[theirs.score]}")
    for name in ("sticky_actions", "frame_skip", "action_set", "length_cap", "rules"):
        pair = getattr(ours, name), getattr(theirs, name)
        if None not in pair and pair[0] != pair[1]:
            found.append(f"{name.replace('_', ' ')} {pair[0]}, published {pair[1]}")
    return found
