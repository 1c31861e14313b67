"""Requests and tokens a minute of each key, in memory: a bucket that is full after a minute without use."""

from collections import OrderedDict
from collections.abc import Callable

MAX_BUCKETS = 10_000
"""The one unused for longest is forgotten first; it starts full again."""
MINUTE_S = 60


class PerMinute:
    """Buckets of different sizes, by name."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, *, most: int, amount: int) -> float:
        """Take an amount; 0 when it was there, else the seconds until it will be. More than `most` never is: it is
        given when the bucket is full, so that a large request is late and not impossible."""
        level, now = self._level(name, most)
        wanted = min(amount, most)
        if level < wanted:
            self._put(name, level, now)
            return (wanted - level) * MINUTE_S / max(1, most)
        self._put(name, level - amount, now)
        return 0

    def give_back(self, name: str, *, most: int, amount: int) -> None:
        """What was taken beforehand and not used."""
        level, now = self._level(name, most)
        self._put(name, min(most, level + amount), now)

    def _level(self, name: str, most: int) -> tuple[float, float]:
        now = self._monotonic()
        level, seen = self._buckets.pop(name, (float(most), now))
        return min(most, level + (now - seen) * most / MINUTE_S), now

    def _put(self, name: str, level: float, now: float) -> None:
        self._buckets[name] = (level, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
