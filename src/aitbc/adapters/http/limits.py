"""How often one address, or one key, may ask: token buckets in bounded memory, refused with a time to come back."""

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus

from aitbc.adapters.http.problems import Problem
from aitbc.core.peer.addresses import join_where, owner_of

MAX_OWNERS = 10_000
"""The one unseen for longest is forgotten first; it starts with a full bucket, as everybody does."""


class RateLimit:
    """Allows `per_second` on average and `burst` at once, per owner; 0 a second: no limit."""

    def __init__(self, per_second: float, burst: int, *, monotonic: Callable[[], float]) -> None:
        self.per_second = per_second
        self.burst = burst
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, owner: str, cost: int = 1) -> float:
        """Take so many tokens; 0, or the seconds until there are enough. More than a whole bucket at once waits for a
        full one and leaves a debt."""
        if self.per_second <= 0:
            return 0.0
        now = self._monotonic()
        tokens = self._tokens(owner, now)
        self._buckets.pop(owner, None)
        needed = min(cost, self.burst)
        allowed = tokens >= needed
        self._buckets[owner] = (tokens - cost if allowed else tokens, now)
        if len(self._buckets) > MAX_OWNERS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (needed - tokens) / self.per_second

    def left_s(self, owner: str) -> float:
        """Seconds until there is a token, which is not taken."""
        if self.per_second <= 0:
            return 0.0
        return max(0.0, (1 - self._tokens(owner, self._monotonic())) / self.per_second)

    def _tokens(self, owner: str, now: float) -> float:
        tokens, seen = self._buckets.get(owner, (float(self.burst), now))
        return min(self.burst, tokens + (now - seen) * self.per_second)


@lru_cache(maxsize=4_096)
def owner_at(host: str) -> str:
    """Who an address counts for: one IPv4 address, a /64 of IPv6; empty for local ones, which many share."""
    return owner_of(join_where(host, 1))


def rate_limited(wait_s: float, what: str) -> Problem:
    seconds = max(1, int(wait_s + 0.999))
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate_limited",
        f"too many {what}",
        f"try again in {seconds} s, or ask the operator for a key",
        {"Retry-After": str(seconds)},
    )
