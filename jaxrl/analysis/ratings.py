"""Elo ratings of players from the games that they played against each other.

    ratings = rate([Score("b", "a", wins=30, draws=0, losses=10), Score("c", "b", 7, 6, 7)], anchor="a")
    print(table(ratings))

The model is Bradley and Terry's: player i beats j with probability 1 / (1 + 10^((elo_j - elo_i) / 400)), a draw is half a win
for both, and the ratings are those of the greatest likelihood, with one player's, the anchor's, held at 0. Only differences
mean anything, and only between players of one pool of games.

References:
  Bradley and Terry 1952, "Rank analysis of incomplete block designs".
  Hunter 2004, "MM algorithms for generalized Bradley-Terry models", Annals of Statistics 32; its Assumption 1 says where the
  greatest likelihood is at finite ratings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxrl.analysis.curves import finish, literal
from jaxrl.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ELO = 400.0 / math.log(10.0)
"""Elo points of a unit of log odds."""
_VIRTUAL = 0.25
"""Of the bounds: wins that each of a pair that met gets beside those that it has, half a drawn game in all."""


class Score(NamedTuple):
    """The games of two players, counted as the first one sees them."""

    first: str
    second: str
    wins: int
    draws: int
    losses: int


class Rating(NamedTuple):
    """What the games say of a player.

    Attributes:
      elo: above the anchor; None where the likelihood grows without end, as of a player that won all its games.
      low, high: of the interval. Without `elo` one of them bounds it and the other is None, or both are, where nothing that
        the two and others did to each other tells which of player and anchor is the better.
      games: that it played.
      score: its share of their points.
    """

    player: str
    elo: float | None
    low: float | None
    high: float | None
    games: int
    score: float


def rate(scores: Sequence[Score], anchor: str, deviations: float = 1.96) -> list[Rating]:
    """The ratings of all players, in the order in which they come up.

    Intervals are those of the observed information, `deviations` standard errors to either side: 95 % at 1.96. They take a draw
    for a game like any other, hence are somewhat too wide where many are drawn. The rating of a player that took no point from
    the others, or left them none (and of a group of players that did so together), is infinite: what is given is its bound, by
    the same interval, of a fit in which each pair that met has drawn half a game more.

    Raises:
      UsageError: no games, counts that are none, a player against itself, or an anchor that did not play.
    """
    players = list(dict.fromkeys(name for score in scores for name in (score.first, score.second)))
    points = np.zeros((len(players), len(players)))
    for score in scores:
        counts = (score.wins, score.draws, score.losses)
        if score.first == score.second or any(count != int(count) or count < 0 for count in counts):
            raise UsageError(f"scores: {score} is no score of two players; give counts of games from 0 on")
        i, j = players.index(score.first), players.index(score.second)
        points[i, j] += score.wins + 0.5 * score.draws
        points[j, i] += score.losses + 0.5 * score.draws
    games = points + points.T
    if not games.any():
        raise UsageError("scores: there are no games in them; give at least one")
    if anchor not in players or not games[players.index(anchor)].any():
        raise UsageError(f"anchor={anchor!r} played no game; choose one of {', '.join(players)}")
    home = players.index(anchor)
    # i leads to j where a chain of points taken leads from i to j: then i cannot be infinitely worse.
    leads = _reachable(points > 0)
    tied, met = leads[home] & leads[:, home], _reachable(games > 0)[home]
    bound, reach = _fit(points + _VIRTUAL * (games > 0), home, met)
    elo, error = _fit(points, home, tied)
    middle, reach = np.where(tied, elo, bound), deviations * np.where(tied, error, reach)
    total = games.sum(1)
    return [
        Rating(
            player,
            elo=float(elo[i]) if tied[i] else None,
            low=float(middle[i] - reach[i]) if leads[i, home] else None,
            high=float(middle[i] + reach[i]) if leads[home, i] else None,
            games=int(total[i]),
            score=float(points[i].sum() / max(total[i], 1.0)),
        )
        for i, player in enumerate(players)
    ]


def _reachable(edges: np.ndarray) -> np.ndarray:
    """[P, P] bool, whether a chain of edges leads from one to another; each leads to itself."""
    leads = edges | np.eye(len(edges), dtype=bool)
    for middle in range(len(edges)):
        leads |= leads[:, middle : middle + 1] & leads[middle]
    return leads


def _fit(points: np.ndarray, home: int, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[P] ratings and their standard errors, 0 both at `home`, by the points [P, P] of some players among themselves, of [P]
    bool, for which they are finite; NaN of the others. Newton's method.

    The log-likelihood is the sum of points[i, j] log(p_ij) over all i, j with p_ij = 1 / (1 + exp(theta_j - theta_i)).
    """
    points = np.where(of & of[:, None], points, 0.0)
    games, theta, free = points + points.T, np.zeros(len(points)), of & (np.arange(len(points)) != home)

    def likelihood(theta: np.ndarray) -> float:
        return -float((points * np.logaddexp(0.0, theta - theta[:, None])).sum())

    for _ in range(200):
        gradient, information = _derivatives(points, games, theta)
        step = np.zeros_like(theta)
        step[free] = np.linalg.solve(information[np.ix_(free, free)], gradient[free])
        while likelihood(theta + step) < likelihood(theta) and abs(step).max() > 1e-12:
            step *= 0.5
        theta = theta + step
        if abs(step).max() < 1e-10:
            break
    errors = np.zeros_like(theta)
    errors[free] = np.diag(np.linalg.inv(_derivatives(points, games, theta)[1][np.ix_(free, free)])) ** 0.5
    return np.where(of, _ELO * theta, np.nan), np.where(of, _ELO * errors, np.nan)


def _derivatives(points: np.ndarray, games: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient [P] of the log-likelihood and the observed information [P, P]."""
    wins = 1.0 / (1.0 + np.exp(theta - theta[:, None]))
    weights = games * wins * (1.0 - wins)
    return (points - games * wins).sum(1), np.diag(weights.sum(1)) - weights


def table(ratings: Sequence[Rating]) -> str:
    """The ratings as text, the best one first."""
    width = max(6, *(len(rating.player) for rating in ratings))
    rows = [f"{'player':{width}}  {'Elo':>7}  {'95 % interval':>17}  {'games':>6}  {'score':>6}"]
    for rating in sorted(ratings, key=_place, reverse=True):
        inside = (
            "" if rating.elo is None else "anchor" if rating.low == rating.high else f"{rating.low:.0f} to {rating.high:.0f}"
        )
        rows.append(f"{rating.player:{width}}  {told(rating):>7}  {inside:>17}  {rating.games:6}  {rating.score:6.1%}")
    return "\n".join(rows)


def told(rating: Rating) -> str:
    """`123`; `> 123` or `< 123` of one that is infinite, `?` of one of which nothing is known."""
    if rating.elo is not None:
        return f"{rating.elo:.0f}"
    return f"> {rating.low:.0f}" if rating.low is not None else f"< {rating.high:.0f}" if rating.high is not None else "?"


def _place(rating: Rating) -> tuple[int, float]:
    if rating.elo is not None:
        return 1, rating.elo
    return (2, rating.low) if rating.low is not None else (0, rating.high or 0.0)


def draw_ratings(ratings: Sequence[Rating], env_steps: Mapping[str, int], anchor: str, title: str = "") -> Figure:
    """Ratings of a run's checkpoints over the env steps after which they were kept, with their intervals; the other players are
    horizontal lines. Where a rating is infinite an arrow begins at its bound.

    Args:
      env_steps: of each player that is a checkpoint.
      anchor: whose rating is 0.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    own = sorted((one for one in ratings if one.player in env_steps), key=lambda one: env_steps[one.player])
    others = [one for one in ratings if one.player not in env_steps]
    known = [(env_steps[one.player], one.elo, one.low, one.high) for one in own if one.elo is not None]
    if known:
        steps, elo, low, high = np.array(known, float).T
        axes.plot(steps, elo, "o-", color="C0", ms=5, lw=1.6, label="checkpoints, 95 % interval")
        axes.fill_between(steps, low, high, color="C0", alpha=0.2, lw=0)
    for one in own:
        if one.elo is None:
            _arrow(axes, env_steps[one.player], one, "C0")
    for number, one in enumerate(sorted(others, key=_place, reverse=True), 1):
        color, bound = f"C{number}", one.low if one.low is not None else one.high
        height = one.elo if one.elo is not None else bound
        if height is not None:
            label = literal(f"{one.player}: {told(one)}" if one.player != anchor else f"{one.player}: 0, the anchor")
            axes.axhline(height, color=color, lw=1.2, ls="--" if one.elo is not None else ":", label=label)
            if one.elo is not None and one.player != anchor:
                axes.axhspan(one.low or 0.0, one.high or 0.0, color=color, alpha=0.08, lw=0)
    finish(axes, "Elo")
    axes.legend(
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=2,
        fontsize="small",
        title=literal(title),
        alignment="left",
    )
    return figure


def _arrow(axes: Any, steps: int, one: Rating, color: str) -> None:
    """Up from the lower bound of an infinite rating, or down from the upper one."""
    is_above, bound = one.low is not None, one.low if one.low is not None else one.high
    if bound is not None:
        axes.plot(steps, bound, "^" if is_above else "v", color=color, mfc="white", ms=7)
        tip = 28 if is_above else -28
        arrow = {"arrowstyle": "<-", "color": color}
        axes.annotate("", (steps, bound), xytext=(0, tip), textcoords="offset points", arrowprops=arrow)
