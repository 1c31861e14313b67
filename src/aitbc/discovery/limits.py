"""Bounds on what strangers may ask: token buckets by name, in bounded memory."""

from collections import OrderedDict

from aitbc.core.peer.addresses import join_where, owner_of
from aitbc.core.peer.kinds import Rate
from aitbc.core.peer.messages import Bucket

MAX_NAMES = 10_000
"""In one table, two megabytes; who was unseen longest is forgotten first and begins with a full bucket."""

ASKS = Rate(10, 50)
"""Samples by one address: a lonely node asks each five seconds, and a house or a test of 50 shares an address."""
CHANGES = Rate(1, 10)
"""Records and removals by one address, good or bad; each costs a signature."""
UPDATES_S = 10
"""Seconds between two records of one record key, three at once: a node publishes each twenty minutes."""
CALLS_S = 2
"""Seconds between two dial-backs to one address for newcomers, eight at once: this service is nobody's hammer."""


class Buckets:
    """One bucket for each name: `tokens` each `seconds`, `burst` at once."""

    def __init__(self, tokens: int, *, seconds: int = 1, burst: int) -> None:
        self._rate = Rate(tokens, burst * seconds)
        self._cost = seconds
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, name: str, now_ms: int) -> bool:
        bucket = self._buckets.pop(name, None) or Bucket(self._rate, now_ms)
        self._buckets[name] = bucket
        if len(self._buckets) > MAX_NAMES:
            self._buckets.popitem(last=False)
        return bucket.take(now_ms, self._cost)


def asker_of(host: str) -> str:
    """Whom a request is counted for: an IPv4 address, an IPv6 /64, or a local address by itself."""
    return owner_of(join_where(host, 1)) or host


def called(where: str) -> str:
    """Whom a dial-back is counted for; on a local network many share an address, so there it is the port too."""
    return owner_of(where) or where
