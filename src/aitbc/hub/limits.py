"""A token bucket per address, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable

MAX_ADDRESSES = 10_000
"""The address unseen for longest is forgotten first; it starts with a full bucket, as everybody does."""


class RateLimit:
    """Allows `per_second` on average and `burst` at once, per key."""

    def __init__(self, *, per_second: float, burst: int, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, key: str) -> bool:
        """Take one token from the key's bucket, if there is one."""
        now = self._monotonic()
        tokens, seen = self._buckets.pop(key, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - seen) * self._per_second)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed
