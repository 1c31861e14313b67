"""Which block is asked of which peer: a moving window, spread over those who can have it. docs/spec/nakamoto.md "Sync"

It knows names of blocks only. A request that stalls goes to another peer; whoever stalled is asked for less.
"""

from collections.abc import Sequence

import msgspec

STALL_MS = 2_000
"""A block that has not come by then is asked of somebody else: 4 MiB in two seconds is a slow line."""
MAX_IN_FLIGHT = 32
"""Blocks asked for and not here: 128 MiB if each were full."""
MAX_PER_PEER = 8
"""So that no peer holds up more than a quarter of the window."""
MAX_TRIED = 64
"""Peers that are remembered to have failed with one block."""


class Request(msgspec.Struct, frozen=True):
    peer: str
    at_ms: int


class Source(msgspec.Struct):
    """A peer as it is seen from here."""

    weight: int = -1
    """Of the best branch that it has shown: it has the blocks up to there."""
    allowance: int = MAX_PER_PEER
    """Halved by a stall, one more with each block that comes."""
    in_flight: int = 0


class Fetching:
    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        """The peers there are, in the order in which they came."""
        self._requests: dict[bytes, Request] = {}
        """The oldest first."""
        self._tried: dict[bytes, dict[str, int]] = {}
        """Peers that had their chance with a block that is still wanted, and when."""
        self._failures: dict[bytes, int] = {}
        """How often a block was asked for in vain."""

    def __len__(self) -> int:
        return len(self._requests)

    def next_look_ms(self, now_ms: int) -> int:
        """When there is something to do again, if nothing happens before."""
        first = next(iter(self._requests.values()), None)
        return (now_ms if first is None else first.at_ms) + STALL_MS

    def failures(self, hash_: bytes) -> int:
        return self._failures.get(hash_, 0)

    def forget(self, hash_: bytes) -> None:
        """The block is not in the tree any more."""
        self._failures.pop(hash_, None)

    # What happened

    def joined(self, peer: str) -> None:
        self.sources.setdefault(peer, Source())

    def left(self, peer: str) -> None:
        self.sources.pop(peer, None)
        for hash_ in [hash_ for hash_, request in self._requests.items() if request.peer == peer]:
            self._close(hash_)

    def has_shown(self, peer: str, weight: int) -> None:
        source = self.sources.get(peer)
        if source is not None:
            source.weight = max(source.weight, weight)

    def arrived(self, hash_: bytes) -> None:
        request = self._close(hash_)
        self._tried.pop(hash_, None)
        self._failures.pop(hash_, None)
        source = self.sources.get(request.peer) if request else None
        if source is not None:
            source.allowance = min(MAX_PER_PEER, source.allowance + 1)

    def failed(self, peer: str, hash_: bytes, now_ms: int) -> None:
        """The peer does not have it, or sent something else."""
        request = self._requests.get(hash_)
        if request is not None and request.peer == peer:
            self._close(hash_)
            self._note(hash_, peer, now_ms)

    def stalled(self, now_ms: int) -> None:
        """Give up requests that have waited too long."""
        late = [hash_ for hash_, request in self._requests.items() if request.at_ms + STALL_MS <= now_ms]
        for hash_ in late:
            request = self._close(hash_)
            if request is None:
                continue
            self._note(hash_, request.peer, request.at_ms)
            source = self.sources.get(request.peer)
            if source is not None:
                source.allowance = max(1, source.allowance // 2)

    # What to do

    def plan(self, now_ms: int, wanted: Sequence[tuple[bytes, int]]) -> dict[str, list[bytes]]:
        """Requests to make now, by peer. `wanted`: hashes with their weights, the most urgent first; what is not among
        them is not waited for any more."""
        names = dict(wanted)
        for hash_ in [hash_ for hash_ in self._requests if hash_ not in names]:
            self._close(hash_)
        self._tried = {hash_: peers for hash_, peers in self._tried.items() if hash_ in names}
        requests: dict[str, list[bytes]] = {}
        for hash_, weight in wanted:
            if len(self._requests) >= MAX_IN_FLIGHT:
                break
            peer = None if hash_ in self._requests else self._choose(hash_, weight, now_ms)
            if peer is not None:
                self._requests[hash_] = Request(peer, now_ms)
                self.sources[peer].in_flight += 1
                requests.setdefault(peer, []).append(hash_)
        return requests

    def _choose(self, hash_: bytes, weight: int, now_ms: int) -> str | None:
        """Of those who can have it and have a place free: who has failed longest ago or never, of these the least
        busy. Nobody is asked for the same block twice within the time of a stall. When nobody has shown a branch of
        that weight, for who did may have left, anybody may have it."""
        tried = self._tried.get(hash_, {})
        able = [peer for peer, source in self.sources.items() if source.weight >= weight]
        free = [
            peer
            for peer in able or self.sources
            if self.sources[peer].in_flight < self.sources[peer].allowance
            and now_ms - tried.get(peer, -STALL_MS) >= STALL_MS
        ]
        return min(free, key=lambda peer: (tried.get(peer, -1), self.sources[peer].in_flight), default=None)

    def _note(self, hash_: bytes, peer: str, at_ms: int) -> None:
        self._failures[hash_] = self.failures(hash_) + 1
        tried = self._tried.setdefault(hash_, {})
        tried[peer] = at_ms
        if len(tried) > MAX_TRIED:
            del tried[next(iter(tried))]

    def _close(self, hash_: bytes) -> Request | None:
        request = self._requests.pop(hash_, None)
        source = self.sources.get(request.peer) if request else None
        if source is not None:
            source.in_flight -= 1
        return request
