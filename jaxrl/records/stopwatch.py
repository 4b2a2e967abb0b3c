"""Where the seconds of a run go: parts that add up to its wall clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import jax

from jaxrl.records.console import PARTS

_COMPILING = "/jax/core/compile/"


class Stopwatch:
    """Seconds by part, of this process and of those before it.

    What JAX compiles in the midst of another part counts as `compile`.

    Attributes:
      seconds: of each of `PARTS`.
    """

    def __init__(self, begun: float, before: Mapping[str, float]) -> None:
        """Starts; `begun` is what `time.perf_counter` said when this process did."""
        self.seconds = {part: float(before.get(part, 0.0)) for part in PARTS}
        self._last = begun
        self._compiled: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith(_COMPILING):
            now = time.perf_counter()
            self._compiled.append((now - duration_secs, now))

    def lap(self, part: str) -> None:
        """All since the last call was this part."""
        now = time.perf_counter()
        compiling = 0.0 if part == "compile" else covered(self._compiled, self._last, now)
        self.seconds[part] += now - self._last - compiling
        self.seconds["compile"] += compiling
        self._last, self._compiled = now, []

    def move(self, source: str, target: str, seconds: float) -> None:
        """So many seconds of one part were of another."""
        self.seconds[source] -= seconds
        self.seconds[target] += seconds

    @property
    def wall(self) -> float:
        """All seconds until now."""
        return sum(self.seconds.values()) + time.perf_counter() - self._last

    def close(self) -> None:
        """Hears of no further program."""
        jax.monitoring.unregister_event_duration_listener(self._hear)


def covered(intervals: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Seconds between `begin` and `end` that lie in any of the intervals, which may overlap."""
    total, reached = 0.0, begin
    for first, last in sorted(intervals):
        total += max(min(last, end) - max(first, reached), 0.0)
        reached = max(reached, min(last, end))
    return total
