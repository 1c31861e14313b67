"""Bounds on what strangers may do: a token bucket and a number of places, per address, in bounded memory."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aitbc.core.jobs.reasons import JobReason, Refused

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

    def has(self, key: str) -> bool:
        """Would it be allowed? Nothing is taken."""
        now = self._monotonic()
        tokens, seen = self._buckets.get(key, (float(self._burst), now))
        return tokens + (now - seen) * self._per_second >= 1


class Handshakes:
    """Connections that have not said who they are yet: few in all, fewer from one address."""

    def __init__(self, *, most: int, most_per_host: int) -> None:
        self._most = most
        self._most_per_host = most_per_host
        self._hosts: Counter[str] = Counter()

    @contextmanager
    def take(self, host: str) -> Iterator[None]:
        """A place for as long as the handshake lasts; refuses when there is none."""
        if self._hosts.total() >= self._most or self._hosts[host] >= self._most_per_host:
            raise Refused(JobReason.TOO_MANY_PROVIDERS, "too many connections have not said hello; try again")
        self._hosts[host] += 1
        try:
            yield
        finally:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
