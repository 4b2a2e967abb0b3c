"""Stretches of iterations that take about a second each, so that an interrupt is answered soon.

Where a row of metrics takes longer than that, its sums go from stretch to stretch: a row has the same bits however it was cut.
"""

from __future__ import annotations

from jaxrl.loop import Plan

SECONDS = 1.0
"""That a stretch takes about."""

_GROWTH = 8
"""How much longer than the one before a stretch may be: the first ones are slow, and nothing is known of their speed."""


class Pace:
    """How many iterations are done at once; warm-up and learning have speeds of their own."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._most = plan, {False: 1, True: 1}

    def end(self, begin: int, end: int) -> int:
        """Where a stretch towards iteration `end` ends."""
        learns = begin >= self._plan.num_warmup
        border = end if learns else min(end, self._plan.num_warmup)
        return min(border, begin + self._most[learns])

    def note(self, begin: int, end: int, seconds: float) -> None:
        """Takes in how long a stretch took."""
        learns, fitting = begin >= self._plan.num_warmup, (end - begin) * SECONDS / max(seconds, 1e-6)
        self._most[learns] = max(min(int(fitting), self._most[learns] * _GROWTH), 1)
