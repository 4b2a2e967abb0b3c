"""Where the seconds of a run, a sweep or a search go: parts that add up to its wall clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax

from jaxrl.errors import UsageError
from jaxrl.records.console import PARTS, say
from jaxrl.records.files import read_json, write_json

_COMPILING = "/jax/core/compile/"


class Stopwatch:
    """Seconds by part, of this process and of those before it.

    What JAX compiles in the midst of another part counts as `compile`.

    Attributes:
      seconds: of each of `PARTS`.
    """

    def __init__(self, begun: float, before: Mapping[str, float]) -> None:
        """Starts; `begun` is what `time.perf_counter` said when this process did."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.add(before)
        self._last, self._before_last, self._kept = begun, 0.0, begun
        self._compiled: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith(_COMPILING):
            now = time.perf_counter()
            self._compiled.append((now - duration_secs, now))

    def lap(self, part: str, whole: bool = False) -> None:
        """All since the last call was this part.

        Args:
          whole: with what was compiled meanwhile, since others say more of it (`shares` of `named`).
        """
        now = time.perf_counter()
        compiling = covered(self._compiled, self._last, now)
        self._before_last += compiling
        if whole or part == "compile":
            compiling = 0.0
        self.seconds[part] += now - self._last - compiling
        self.seconds["compile"] += compiling
        self._last, self._compiled = now, []

    def add(self, before: Mapping[str, float]) -> None:
        """Takes in the seconds of processes before this one."""
        self.seconds = {part: seconds + float(before.get(part, 0.0)) for part, seconds in self.seconds.items()}

    def move(self, source: str, target: str, seconds: float) -> None:
        """So many seconds of one part were of another."""
        self.seconds[source] -= seconds
        self.seconds[target] += seconds

    @property
    def wall(self) -> float:
        """All seconds until now."""
        return sum(self.seconds.values()) + time.perf_counter() - self._last

    def working(self) -> float:
        """A clock that stands still while something is compiled."""
        now = time.perf_counter()
        return now - self._before_last - covered(self._compiled, self._last, now)

    def named(self, shares: Iterable[Mapping[str, float]] = ()) -> dict[str, float]:
        """What a summary says of them.

        Args:
          shares: seconds by part of all that was done while this process noted `training`, perhaps side by side: the wall
            clock of that time is divided in these proportions.
        """
        held, seconds = list(shares), dict(self.seconds)
        sums = {part: sum(share.get(part, 0.0) for share in held) for part in PARTS}
        if (everything := sum(sums.values())) > 0.0:
            whole = seconds.pop("training")
            seconds = {part: seconds.get(part, 0.0) + whole * share / everything for part, share in sums.items()}
        return {f"{part}_seconds": round(taken, 3) for part, taken in seconds.items()} | {"wall_seconds": round(self.wall, 3)}

    def keep(self, path: Path, every: float = 0.0) -> None:
        """Writes the seconds, the last as training, for the process that goes on; if the last time is so long ago."""
        if (now := time.perf_counter()) - self._kept >= every:
            self.lap("training", whole=True)
            path.parent.mkdir(exist_ok=True)
            write_json(path, self.seconds)
            self._kept = now

    def close(self) -> None:
        """Hears of no further program."""
        jax.monitoring.unregister_event_duration_listener(self._hear)


def kept_seconds(path: Path) -> dict[str, float]:
    """What `keep` wrote; nothing where there is none, or it is damaged, which is said."""
    try:
        return read_json(path, dict.fromkeys(PARTS, float), "seconds are counted anew") if path.exists() else {}
    except UsageError as error:
        say(str(error))
        return {}


def covered(intervals: Iterable[tuple[float, float]], begin: float, end: float) -> float:
    """Seconds between `begin` and `end` that lie in any of the intervals, which may overlap."""
    total, reached = 0.0, begin
    for first, last in sorted(intervals):
        total += max(min(last, end) - max(first, reached), 0.0)
        reached = max(reached, min(last, end))
    return total
