"""Headers whose parent is not here yet: kept for a while, because announcements overtake each other."""

from typing import NamedTuple, TypeVar

from aitbc.core.consensus.nakamoto.work import NONCE_BYTES
from aitbc.core.types.blocks import Header

MAX_ORPHANS = 256
"""Announcements that overtook their parents come in twos and threes; a whole branch is asked for instead."""
MAX_ORPHAN_BYTES = 128 * 1024
"""256 headers of the usual size, or fewer with much `extra`."""
MAX_ORPHANS_PER_PEER = 16
FIXED_BYTES = 6 * 32 + 3 * NONCE_BYTES
"""Hashes and integers of a header."""

Key = TypeVar("Key", bytes, str)


class Orphan(NamedTuple):
    header: Header
    peer: str
    size: int


class Orphans:
    """The oldest give way: first the peer's own, then anybody's."""

    def __init__(self) -> None:
        self._held: dict[bytes, Orphan] = {}
        """In the order in which they came."""
        self._children: dict[bytes, dict[bytes, None]] = {}
        self._by_peer: dict[str, dict[bytes, None]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, hash_: bytes) -> bool:
        return hash_ in self._held

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

    def add(self, hash_: bytes, header: Header, peer: str) -> None:
        """The header has passed `HeaderRules.check_alone`."""
        if hash_ in self._held:
            return
        own = self._by_peer.get(peer, {})
        if len(own) >= MAX_ORPHANS_PER_PEER:
            self._drop(next(iter(own)))
        size = size_of(header)
        while len(self._held) >= MAX_ORPHANS or self._bytes + size > MAX_ORPHAN_BYTES:
            self._drop(next(iter(self._held)))
        self._held[hash_] = Orphan(header, peer, size)
        self._children.setdefault(header.parent, {})[hash_] = None
        self._by_peer.setdefault(peer, {})[hash_] = None
        self._bytes += size

    def take_children(self, parent: bytes) -> list[Orphan]:
        return [self._drop(hash_) for hash_ in list(self._children.get(parent, ()))]

    def has_of(self, peer: str) -> bool:
        return peer in self._by_peer

    def forget_peer(self, peer: str) -> None:
        for hash_ in list(self._by_peer.get(peer, ())):
            self._drop(hash_)

    def forget_below(self, height: int) -> None:
        """Those that can never stand on the tree."""
        for hash_ in [hash_ for hash_, orphan in self._held.items() if orphan.header.height <= height]:
            self._drop(hash_)

    def _drop(self, hash_: bytes) -> Orphan:
        orphan = self._held.pop(hash_)
        self._bytes -= orphan.size
        _leave(self._children, orphan.header.parent, hash_)
        _leave(self._by_peer, orphan.peer, hash_)
        return orphan


def size_of(header: Header) -> int:
    """About what a header takes on the wire."""
    return FIXED_BYTES + len(header.chain_id) + len(header.proposer) + len(header.extra) + len(header.seal)


def _leave(groups: dict[Key, dict[bytes, None]], key: Key, hash_: bytes) -> None:
    del groups[key][hash_]
    if not groups[key]:
        del groups[key]
