"""Which messages were seen, and which searches are under way. docs/spec/workshop.md "Gossip", "Search"

Ids are the sender's own choice and prove nothing: an old message with a new id is new here, and what it holds has to be
known as old by itself.
"""

from collections import Counter, OrderedDict

import msgspec

from aitbc.workshop.core.kinds import ID_BYTES

SEEN_MS = 300_000
MAX_SEEN = 65_536
"""Ids; 8 MiB. A flood of more makes the oldest new again, which costs its blocks and transactions a look-up."""
PATH_MS = 30_000
MAX_PATHS = 4_096
MAX_PATHS_OF_LINK = 512

HOP_MARK = b"hop"
"""Our searches have these at the beginning of their id, then how often they may still be passed on; the seed's
bytes have no other place for it. A random id looks like this once in 2^24, and is then searched for less far."""
HOPS = 8


class Seen:
    """Ids of the last five minutes. One is noted before its message is judged, so copies are judged once."""

    def __init__(self) -> None:
        self._at_ms: OrderedDict[bytes, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._at_ms)

    def is_new(self, id_: bytes, now_ms: int) -> bool:
        self.forget_old(now_ms)
        if id_ in self._at_ms:
            return False
        self._at_ms[id_] = now_ms
        if len(self._at_ms) > MAX_SEEN:
            self._at_ms.popitem(last=False)
        return True

    def forget(self, id_: bytes) -> None:
        """It could not be judged: a copy may be."""
        self._at_ms.pop(id_, None)

    def forget_old(self, now_ms: int) -> None:
        while self._at_ms and now_ms - next(iter(self._at_ms.values())) >= SEEN_MS:
            self._at_ms.popitem(last=False)


def search_id(random: bytes, hops: int) -> bytes:
    """16 bytes of our own making; `random`: 12 bytes."""
    assert len(random) == ID_BYTES - len(HOP_MARK) - 1 and 0 <= hops <= HOPS
    return HOP_MARK + bytes([hops]) + random


def passed_on(id_: bytes) -> bytes | None:
    """The id with which a search goes on; None when it has gone far enough. Others' ids stay as they are."""
    if not id_.startswith(HOP_MARK):
        return id_
    hops = min(id_[3], HOPS)
    return HOP_MARK + bytes([hops - 1]) + id_[4:] if hops else None


class Path(msgspec.Struct, frozen=True):
    """The way back of a search that was passed on."""

    link: int
    id: bytes
    """As the asker knows it; its answer has it again."""
    wanted: bytes
    at_ms: int


class Paths:
    """By the id that was passed on. A path is used once."""

    def __init__(self) -> None:
        self._paths: OrderedDict[bytes, Path] = OrderedDict()
        self._of_link: Counter[int] = Counter()
        self._by_hash: dict[bytes, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, id_: bytes, path: Path) -> bool:
        """False when there is one, or no room."""
        self.forget_old(path.at_ms)
        if (
            id_ in self._paths
            or len(self._paths) >= MAX_PATHS
            or self._of_link[path.link] >= MAX_PATHS_OF_LINK
        ):
            return False
        self._paths[id_] = path
        self._of_link[path.link] += 1
        self._by_hash.setdefault(path.wanted, []).append(id_)
        return True

    def get(self, id_: bytes) -> Path | None:
        return self._paths.get(id_)

    def of_hash(self, wanted: bytes) -> list[bytes]:
        """Ids of the searches for a block: an answer without an id belongs to all of them."""
        return list(self._by_hash.get(wanted, ()))

    def take(self, id_: bytes) -> Path:
        path = self._paths.pop(id_)
        self._of_link[path.link] -= 1
        if not self._of_link[path.link]:
            del self._of_link[path.link]
        ids = self._by_hash[path.wanted]
        ids.remove(id_)
        if not ids:
            del self._by_hash[path.wanted]
        return path

    def forget_old(self, now_ms: int) -> None:
        while self._paths:
            id_, path = next(iter(self._paths.items()))
            if now_ms - path.at_ms < PATH_MS:
                return
            self.take(id_)
