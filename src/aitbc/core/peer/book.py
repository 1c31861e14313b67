"""The address book: where other nodes may be, kept so that who tells many addresses does not own the book.
docs/spec/p2p.md "Address book"

Bitcoin's: addresses that were only heard of lie in *new* buckets chosen by who told them, those that answered in
*tried* buckets chosen by their own network. Bucket and place come from a keyed hash, so nobody can aim.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Annotated

import msgspec

from aitbc.core.crypto.hashing import fields
from aitbc.core.peer.addresses import LOCAL, group_of, numeric_where
from aitbc.core.peer.draws import Draws
from aitbc.core.peer.kinds import PeerAddress

NEW_BUCKETS = 256
TRIED_BUCKETS = 64
PLACES = 16
"""In a bucket: 4,096 addresses heard of and 1,024 that answered, under 1 MiB in all."""
NEW_PER_SOURCE = 32
"""Buckets that all tellers of one network share: an eighth of the book."""
TRIED_PER_GROUP = 4
"""Buckets that one network can reach, a sixteenth."""
MAX_ENTRIES = (NEW_BUCKETS + TRIED_BUCKETS) * PLACES
FORGET_MS = 30 * 24 * 3_600_000
HOPELESS = 3
"""Failures in a row, with no success ever, after which an address gives way."""
BACK_OFF_MS = 10_000
MAX_BACK_OFF_MS = 3_600_000
FULL_MS = 60_000
"""A node that had no place is not asked again for so long."""
MAX_ANCHORS = 4
"""Bitcoin keeps two; four of ten leave most places to fresh choices, and are not all away at once."""
STAYS_MS = 3_600_000
"""Who answered so recently keeps its place among the tried whatever happens now: a node that restarts is not gone."""
Fits = Callable[["Entry"], bool]
"""Whether an address may be dialled now: the caller's rule."""
DRAWS = 32
"""Tries to find an address that fits before giving up until the next time."""


class Entry(msgspec.Struct):
    """One address and what became of it."""

    where: str
    key: bytes
    """Node key, empty while unknown. Hearsay, which keeps nobody from dialling, until it was `seen`."""
    source: str
    """Network of who told it."""
    heard_ms: int
    attempt_ms: int = 0
    failures: int = 0
    """Since the last success."""
    success_ms: int = 0
    tried: bool = False
    full_until_ms: int = 0
    """It answered that it has no place."""
    seen: bool = False
    """A node has proved this key here, or at this host."""

    @property
    def sure_key(self) -> bytes:
        """Whose address it is for certain; empty for what was only told. Else who lists honest addresses under its own
        key, or a banned one, would make them undialable."""
        return self.key if self.tried or self.seen else b""

    def ready(self, now_ms: int) -> bool:
        """Whether it is time to dial it again."""
        if now_ms < self.full_until_ms:
            return False
        if not self.attempt_ms:
            return True
        wait = min(MAX_BACK_OFF_MS, BACK_OFF_MS << min(self.failures, 12))
        return now_ms >= self.attempt_ms + wait

    def gives_way(self, now_ms: int) -> bool:
        """Whether a newcomer may have its place."""
        if self.failures >= HOPELESS and not self.success_ms:
            return True
        return now_ms - max(self.heard_ms, self.success_ms) > FORGET_MS


class BookRecord(msgspec.Struct, frozen=True, array_like=True):
    """The book on disk."""

    secret: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    entries: Annotated[list[Entry], msgspec.Meta(max_length=MAX_ENTRIES)]
    anchors: Annotated[list[PeerAddress], msgspec.Meta(max_length=MAX_ANCHORS)] = []
    """Outbound peers at the last shutdown, dialled first: who fills the book while a node is down gains little."""


class AddressBook:
    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._entries: dict[str, Entry] = {}
        self._new: dict[int, dict[int, str]] = {}
        self._tried: dict[int, dict[int, str]] = {}
        self._contested: dict[str, None] = {}
        """Tried addresses whose place another wants: to be tested by the next feeler."""

    @classmethod
    def from_record(cls, record: BookRecord) -> "AddressBook":
        book = cls(record.secret)
        for entry in record.entries:
            if numeric_where(entry.where) == entry.where and entry.where not in book._entries:
                table = book._tried if entry.tried else book._new
                if book._place(table, entry) is None:
                    book._put(table, entry)
        return book

    def to_record(self, anchors: list[PeerAddress]) -> BookRecord:
        return BookRecord(
            secret=self._secret, entries=list(self._entries.values()), anchors=anchors[:MAX_ANCHORS]
        )

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, where: str) -> Entry | None:
        return self._entries.get(where)

    def hear(self, address: PeerAddress, *, source: str, now_ms: int, seen: bool = False) -> bool:
        """Somebody told an address; whether it is in the book now. Local addresses are believed to local tellers only:
        a stranger shall not make us knock at our neighbours' doors. `seen`: the key was proved at this host."""
        where = numeric_where(address.where)
        if where is None or (group_of(where) == LOCAL and source != LOCAL):
            return False
        key = address.key if len(address.key) == 32 else b""
        known = self._entries.get(where)
        if known is not None:
            known.heard_ms = now_ms
            if not known.sure_key and (seen or not known.key):
                known.key, known.seen = key, seen and bool(key)
            return True
        entry = Entry(where=where, key=key, source=source, heard_ms=now_ms, seen=seen and bool(key))
        occupant = self._place(self._new, entry)
        if occupant is not None:
            if not self._entries[occupant].gives_way(now_ms):
                return False
            self.forget(occupant)
        self._put(self._new, entry)
        return True

    def attempted(self, where: str, now_ms: int) -> None:
        """It is being dialled; a success will take the failure back."""
        entry = self._entries.get(where)
        if entry is not None:
            entry.attempt_ms = now_ms
            entry.failures += 1
            self._contested.pop(where, None)

    def answered(self, where: str, key: bytes, now_ms: int) -> None:
        """It was dialled, and a node with this key accepted us or would have."""
        entry = self._entries.get(where)
        if entry is None:
            return
        entry.failures, entry.success_ms = 0, now_ms
        self.proved(where, key)
        if entry.tried:
            return
        occupant = self._place(self._tried, entry)
        if occupant is not None:
            rival = self._entries[occupant]
            if not rival.failures or now_ms - rival.success_ms < STAYS_MS:  # a feeler will ask it first
                self._contested[occupant] = None
                return
            self._take(self._tried, rival)
            rival.tried = False
            self._entries.pop(occupant)
            if self._place(self._new, rival) is None:
                self._put(self._new, rival)
        self._take(self._new, entry)
        self._entries.pop(where)
        entry.tried = True
        self._put(self._tried, entry)

    def proved(self, where: str, key: bytes) -> None:
        """It was dialled, and a node with this key is there, whatever it will say."""
        entry = self._entries.get(where)
        if entry is not None:
            entry.key, entry.seen = key, True

    def refused(self, where: str, now_ms: int, *, for_ms: int = FULL_MS) -> None:
        """It answered, and said no: it is left alone for so long."""
        entry = self._entries.get(where)
        if entry is not None:
            entry.full_until_ms = now_ms + for_ms

    def mistaken(self, where: str) -> None:
        """Another key than was here before answers there: the address stays."""
        entry = self._entries.get(where)
        if entry is not None:
            entry.key, entry.seen = b"", False

    def forget(self, where: str) -> None:
        entry = self._entries.pop(where, None)
        if entry is not None:
            self._contested.pop(where, None)
            self._take(self._tried if entry.tried else self._new, entry)

    def pick(self, draws: Draws, now_ms: int, fits: Fits) -> Entry | None:
        """An address to dial: a bucket first, then a place, so that what is crowded into few buckets is rarely met."""
        for _ in range(DRAWS):
            tables = [table for table in (self._tried, self._new) if table]
            if not tables:
                return None
            entry = self._draw(draws, draws.one_of(tables))
            if entry.ready(now_ms) and fits(entry):
                return entry
        return None

    def pick_feeler(self, draws: Draws, now_ms: int, fits: Fits) -> Entry | None:
        """An address to test: a tried one whose place another wants, else one only heard of."""
        for where in list(self._contested):
            entry = self._entries[where]
            if entry.ready(now_ms) and fits(entry):
                return entry
        for _ in range(DRAWS if self._new else 0):
            entry = self._draw(draws, self._new)
            if entry.ready(now_ms) and fits(entry):
                return entry
        return None

    @property
    def answering(self) -> int:
        """Addresses that answered when they were dialled last."""
        return sum(entry.tried and not entry.failures for entry in self._entries.values())

    def sample(
        self, draws: Draws, limit: int, now_ms: int, *, but: bytes, living: bool = False
    ) -> list[PeerAddress]:
        """Addresses to tell others: mostly such that answered here; not their own. `living`: none that did not answer
        when it was dialled last."""
        found: dict[str, PeerAddress] = {}
        tried, new = list(self._tried.values()), list(self._new.values())
        for turn in range(min(4 * limit, 8 * len(self._entries))):
            if len(found) == limit:
                break
            bucket = draws.one_of(tried if turn % 4 and tried else new or tried)
            entry = self._entries[bucket[draws.one_of(list(bucket))]]
            if living and entry.failures:
                continue
            if entry.key != but and not entry.gives_way(now_ms):
                found[entry.where] = PeerAddress(entry.where, entry.key if entry.tried else b"")
        return list(found.values())

    def _draw(self, draws: Draws, table: dict[int, dict[int, str]]) -> Entry:
        bucket = table[draws.one_of(list(table))]
        return self._entries[bucket[draws.one_of(list(bucket))]]

    def _spot(self, entry: Entry, *, tried: bool) -> tuple[int, int]:
        """Bucket and place, which only who knows the secret can foresee."""
        group = group_of(entry.where)
        if tried:
            share = self._hash("tried share", entry.where) % TRIED_PER_GROUP
            bucket = self._hash("tried bucket", group, str(share)) % TRIED_BUCKETS
        else:
            share = self._hash("new share", group, entry.source) % NEW_PER_SOURCE
            bucket = self._hash("new bucket", entry.source, str(share)) % NEW_BUCKETS
        return bucket, self._hash("place", str(tried), str(bucket), entry.where) % PLACES

    def _hash(self, *parts: str) -> int:
        keyed = sha256(fields(self._secret, *[part.encode() for part in parts])).digest()
        return int.from_bytes(keyed[:8], "big")

    def _place(self, table: dict[int, dict[int, str]], entry: Entry) -> str | None:
        """Who is where the entry would go."""
        bucket, place = self._spot(entry, tried=table is self._tried)
        return table.get(bucket, {}).get(place)

    def _put(self, table: dict[int, dict[int, str]], entry: Entry) -> None:
        bucket, place = self._spot(entry, tried=table is self._tried)
        table.setdefault(bucket, {})[place] = entry.where
        self._entries[entry.where] = entry

    def _take(self, table: dict[int, dict[int, str]], entry: Entry) -> None:
        bucket, place = self._spot(entry, tried=table is self._tried)
        assert table[bucket].pop(place) == entry.where
        if not table[bucket]:
            del table[bucket]
