"""What a claim is: a published result with its protocol, and how jaxrl runs it. Plain values, so that listing needs no JAX.

    claim = Claim(
        name="ppo-CartPole-v1",
        agent="ppo",
        env="CartPole-v1",
        total_steps=500_000,
        published=Published(mean=490.0, source="our report", env_steps=500_000, random=22.0, protocol=Protocol(score=LAST)),
        protocol=Protocol(score=LAST),
    )

`check_claim` checks what the statistics rest on; agent, environment and config are checked when the claim is run.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxrl.errors import UsageError, fail, shown
from jaxrl.fields import check_fields, declare

GREEDY, LAST, BEST = "greedy", "last", "best"
SCORES = {
    GREEDY: "greedy episodes of the final policy",
    LAST: "the last training episodes",
    BEST: "the greedy evaluation of training at which the mean over seeds is best",
}
DEVIATIONS = {
    "seeds": "standard deviation over seeds",
    "episodes": "standard deviation over episodes of one run",
    "figure": "read off a figure",
    "none": "without a deviation",
}
NUM_LAST = 100
"""Episodes of which `LAST` is the mean, as of `jaxrl.loop.NUM_RECENT`."""
QUICK_SHARE = 0.05
"""Of a claim's env steps that `--quick` trains for."""
QUICK_SEEDS = 2
BUDGET_SLACK = 1.01
"""Share of the published env steps that a run may take: budgets are rounded up to whole iterations."""


def _ranged(default: Any, **ranges: Any) -> Any:
    """A field with a range, or with choices, to which `check_claim` holds it; `...` where it must be given."""
    return declare(default, "", **ranges)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a score is taken; None where a thing does not apply, or where the source does not tell it.

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
    episodes: int | None = _ranged(None, low=1)
    sticky_actions: float | None = _ranged(None, low=0.0, high=1.0)
    frame_skip: int | None = _ranged(None, low=1)
    action_set: str | None = _ranged(None, choices=("minimal", "full"))
    length_cap: int | None = _ranged(None, low=0)
    rules: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A published figure.

    Attributes:
      mean: the figure; higher is better.
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
    num_seeds: int | None = _ranged(None, low=1)
    source: str
    env_steps: int = _ranged(..., low=1)
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
      eval_env_options: options of the environment that policies are scored in, where they differ from training.
      eval_every: env steps between evaluations while training, which a best-of-training score needs.
      deviations: what else differs from the source, in words.
      tried: where the result is below the published one: what was tried, in words.
      minutes: on two CPU cores that other work shared, as measured.
      tuned: `jaxrl.claims.tuned` advises these settings.
    """

    name: str
    agent: str
    env: str
    env_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    total_steps: int = _ranged(..., low=1)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    chosen_on: tuple[int, ...] = ()
    published: Published
    protocol: Protocol
    eval_env_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    eval_every: int = _ranged(0, low=0)
    eval_episodes: int = _ranged(100, low=0)
    deviations: str = ""
    tried: str = ""
    minutes: float | None = _ranged(None, low=0.0)
    tuned: bool = True

    group: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Published settings without a published figure: there is nothing to reproduce, but `--tuned` takes them.

    Attributes:
      name: unique among claims and settings.
      config: fields of the agent's config that differ from its defaults.
      total_steps: env steps of a run.
      source: where they are published.
    """

    name: str
    agent: str
    env: str
    env_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    total_steps: int = _ranged(..., low=1)
    source: str


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
    tolerance: float = _ranged(..., low=0.0)
    source: str
    deviations: str = ""
    minutes: float | None = _ranged(None, low=0.0)
    group: str = "tables"


def check_claim(claim: Claim | Table) -> None:
    """Checks what the statistics rest on.

    Raises:
      UsageError: a value of another type or out of its range, a source that is no line of text, seeds that the config was
        chosen on are reported, none are, a published mean that is not above random play, a kind that does not exist, or a
        protocol that is not what is run.
    """
    try:
        check_fields(claim)
        if not re.fullmatch(r"\w[\w.+\-]*", claim.name):
            fail(f"name={claim.name!r} is no name of a file; give letters, digits, dots and hyphens")
        if isinstance(claim, Table):
            _check_choice("policy", claim.policy, ("optimal", "random"))
            _check_source(claim.source)
        else:
            for part in (claim.published, claim.published.protocol, claim.protocol):
                check_fields(part)
            _check_source(claim.published.source)
            _check_published(claim.published)
            _check_run(claim)
    except UsageError as error:
        raise UsageError(f"claim={claim.name!r}: {error}") from None


def _check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    if value not in choices:
        fail(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")


def _check_source(source: str) -> None:
    if len(source.splitlines()) != 1 or not source.strip():
        fail(f"source={shown(source)} is not a line of text; give paper or project, table, version")


def _check_published(published: Published) -> None:
    _check_choice("score", published.protocol.score, SCORES)
    _check_choice("kind", published.kind, DEVIATIONS)
    has_deviation = published.deviation is not None
    if has_deviation == (published.kind == "none") and published.kind != "figure":
        fail(f"deviation={published.deviation} does not fit kind={published.kind!r}; give none with 'none' and one with others")
    if (published.deviation or 0.0) < 0.0:
        fail(f"deviation={published.deviation} is out of range; give a value at least 0")
    if published.mean <= published.random:
        why = "higher scores are better, and failed seeds count as random play"
        fail(f"mean={published.mean} is not above random={published.random}; {why}: give costs with their sign changed")


def _check_run(claim: Claim) -> None:
    if twice := sorted(set(claim.seeds) & set(claim.chosen_on)):
        fail(f"seeds={twice} are those that its config was chosen on; report others")
    if not claim.seeds or len(set(claim.seeds)) < len(claim.seeds):
        fail(f"seeds={claim.seeds} must be different ones, at least one; give for example (0, 1, 2)")
    score, episodes = claim.protocol.score, claim.protocol.episodes
    _check_choice("score", score, SCORES)
    if score == BEST and not claim.eval_every:
        fail("eval_every=0, but its score is of evaluations while training; give env steps")
    played = NUM_LAST if score == LAST else claim.eval_episodes
    if episodes not in (None, played):
        fail(f"episodes={episodes} of its protocol are not the {played} of which the score is taken; give as many")


def _usual(claim: Claim, quick: bool) -> int:
    """Seeds that are run unless their number is given."""
    return min(QUICK_SEEDS, len(claim.seeds)) if quick else len(claim.seeds)


def run_name(claim: Claim | Table, num_seeds: int | None, quick: bool) -> str:
    """The name of a claim's files and of its folder; of a quick version, or one of another number of seeds, that of neither."""
    if isinstance(claim, Table):
        return claim.name
    number = "" if num_seeds in (None, _usual(claim, quick)) else f"-{num_seeds}-seeds"
    return claim.name + "-quick" * quick + number


def sized(claim: Claim, num_seeds: int | None, quick: bool) -> Claim:
    """The claim with so many seeds, and of a quick version with few env steps; of its evaluations the middle and the last."""
    num_seeds, seeds = num_seeds or _usual(claim, quick), claim.seeds
    further = (seed for seed in range(max(seeds) + 1, 2**32) if seed not in claim.chosen_on)
    seeds = (*seeds[:num_seeds], *(next(further) for _ in range(num_seeds - len(seeds))))
    if not quick:
        return dataclasses.replace(claim, seeds=seeds)
    steps = max(round(claim.total_steps * QUICK_SHARE), 1)
    return dataclasses.replace(claim, seeds=seeds, total_steps=steps, eval_every=-(-steps // 2) if claim.eval_every else 0)


def mismatches(claim: Claim, env_steps: int | None = None) -> list[str]:
    """In what our protocol differs from the published one, in words; empty where like is compared with like.

    Args:
      env_steps: that runs took, those of the claim by default. Fewer than published are no advantage.

    What the source tells must be told of ours too; what it does not tell cannot be compared.
    """
    theirs, ours = claim.published.protocol, claim.protocol
    found = []
    if (env_steps or claim.total_steps) > BUDGET_SLACK * claim.published.env_steps:
        found.append(f"budget {env_steps or claim.total_steps:,} env steps, published {claim.published.env_steps:,}")
    if theirs.score != ours.score:
        found.append(f"score from {SCORES[ours.score]}, published from {SCORES[theirs.score]}")
    for name in ("sticky_actions", "frame_skip", "action_set", "length_cap", "rules"):
        pair = getattr(ours, name), getattr(theirs, name)
        if pair[1] is not None and pair[0] != pair[1]:
            found.append(f"{name.replace('_', ' ')} {'not told' if pair[0] is None else pair[0]}, published {pair[1]}")
    return found
