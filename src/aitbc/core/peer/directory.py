"""The list that a discovery service keeps: whose record counts, who has a place, who is told. docs/spec/discovery.md

Nothing is in it that did not answer a dial-back, so a name cannot be squatted. A row stays until `MAX_LIFE_MS` after
its sequence, listed or not: every record that was signed before it has expired by then, so none can be replayed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from aitbc.core.peer.addresses import LOCAL, group_of, owner_of
from aitbc.core.peer.draws import Draws
from aitbc.core.peer.records import (
    MAX_LIFE_MS,
    MAX_SAMPLE,
    RecordReason,
    RecordRefused,
    SignedRecord,
    VerifiedRecord,
    VerifiedRemoval,
)
from aitbc.core.types.receipts import HexHash

MAX_ROWS = 10_000
"""At 1 KB each; with a check every ten minutes, 17 handshakes a second."""
MAX_IN_GROUP = 16
"""Rows of one /16 or /32: whoever rents many addresses rents them side by side."""
MAX_IN_LOCAL_GROUP = 256
"""A house or a test is one group."""
MAX_AT_OWNER = 4
"""Rows of one public address, so that it cannot take all its neighbours' places."""
RECHECK_MS = 600_000
"""A row is dialled again so long after the last time, whether it answered or not."""

Chain = tuple[str, str]
"""Chain id and genesis hash."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one node key."""

    node_key: HexHash
    record_key: HexHash
    """Who may change the row: the node has vouched for it."""
    sequence: int
    signed: SignedRecord | None
    """None: it was removed, and only its number is kept."""
    answered: int
    """Which of its endpoints answered last."""
    where: str
    """That endpoint; the row's place is in its group."""
    reachable: bool
    """It answered when it was dialled last."""
    checked_ms: int

    def live(self, now_ms: int) -> bool:
        """May it be told to others?"""
        return self.reachable and self.signed is not None and now_ms < self.signed.record.expires_ms

    @property
    def chain(self) -> Chain | None:
        return None if self.signed is None else (self.signed.record.chain_id, self.signed.record.genesis_hash)


class Directory:
    """`check_…` refuses with a RecordRefused and changes nothing; the other verbs return the row to be written."""

    def __init__(self, *, secret: bytes, rows: Iterable[Row] = ()) -> None:
        """`secret`: 32 random bytes, new at each start: what is drawn with it nobody can foresee."""
        self._draws = Draws(secret)
        self._rows: dict[str, Row] = {}
        self._groups: Counter[str] = Counter()
        self._owners: Counter[str] = Counter()
        self._told: dict[Chain, dict[str, dict[str, None]]] = {}
        """Node keys by chain and group, of reachable rows with a record."""
        for row in rows:
            self._put(row)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, node_key: str) -> Row | None:
        return self._rows.get(node_key)

    # Publishing

    def check_record(self, verified: VerifiedRecord) -> None:
        """Before the dial-back and again after it: whose name is it, and is this newer?"""
        record = verified.record
        self._check_turn(record.node_key, record.record_key, record.sequence)

    def check_place(self, node_key: str, where: str) -> None:
        """Whether a row may stand in this endpoint's group; it needs no second place beside its own."""
        own = self._rows.get(node_key)
        if own is None and len(self._rows) >= MAX_ROWS:
            raise RecordRefused(RecordReason.DIRECTORY_FULL, f"{MAX_ROWS} nodes are known")
        group, owner = group_of(where), owner_of(where)
        most = MAX_IN_LOCAL_GROUP if group == LOCAL else MAX_IN_GROUP
        inside = own is not None and group_of(own.where) == group
        if not inside and self._groups[group] >= most:
            raise RecordRefused(RecordReason.GROUP_FULL, f"{most} nodes of network {group} are known")
        at_home = own is not None and owner_of(own.where) == owner
        if owner and not at_home and self._owners[owner] >= MAX_AT_OWNER:
            raise RecordRefused(RecordReason.GROUP_FULL, f"{MAX_AT_OWNER} nodes at {owner} are known")

    def accept(self, verified: VerifiedRecord, *, answered: int, now_ms: int) -> Row:
        """List a record whose endpoint of this index has just answered for it."""
        record, where = verified.record, verified.record.endpoints[answered].where
        self.check_record(verified)
        self.check_place(record.node_key, where)
        row = Row(
            node_key=record.node_key,
            record_key=record.record_key,
            sequence=record.sequence,
            signed=verified.signed,
            answered=answered,
            where=where,
            reachable=True,
            checked_ms=now_ms,
        )
        self._put(row)
        return row

    def remove(self, verified: VerifiedRemoval) -> Row:
        """Take a record back; raises RecordRefused. The number stays, so nothing older can be listed again."""
        removal = verified.removal
        row = self._rows.get(removal.node_key)
        if row is None:
            raise RecordRefused(RecordReason.UNKNOWN_NODE, f"{removal.node_key} is not listed")
        self._check_turn(removal.node_key, removal.record_key, removal.sequence)
        removed = msgspec.structs.replace(row, sequence=removal.sequence, signed=None, reachable=False)
        self._put(removed)
        return removed

    def _check_turn(self, node_key: str, record_key: str, sequence: int) -> None:
        row = self._rows.get(node_key)
        if row is None:
            return
        if record_key != row.record_key:
            raise RecordRefused(RecordReason.NOT_OWNER, f"{node_key} is {row.record_key}'s")
        if sequence <= row.sequence:
            raise RecordRefused(
                RecordReason.STALE_SEQUENCE, f"sequence {sequence}; {row.sequence} is known already"
            )

    # Asking

    def sample(self, chain: Chain, *, limit: int, now_ms: int) -> list[Row]:
        """At most `MAX_SAMPLE` live rows of a chain at random: networks are drawn first and each gives one before any
        gives two, so that who has many addresses of few networks is rarely told."""
        limit = min(limit, MAX_SAMPLE)
        groups = self._told.get(chain, {})
        left: dict[str, list[str]] = {}
        found: list[Row] = []
        waiting = list(groups)
        while waiting and len(found) < limit:
            turn, waiting = waiting, []
            while turn and len(found) < limit:
                group = _pop(turn, self._draws)
                keys = left.setdefault(group, list(groups[group]))
                row = self._rows[_pop(keys, self._draws)]
                if row.live(now_ms):
                    found.append(row)
                if keys:
                    waiting.append(group)
        return found

    # Time

    def due(self, now_ms: int, *, most: int) -> list[Row]:
        """Rows to be dialled again, those that waited longest first."""
        overdue = [
            row
            for row in self._rows.values()
            if row.signed is not None
            and now_ms < row.signed.record.expires_ms
            and now_ms >= row.checked_ms + RECHECK_MS
        ]
        return sorted(overdue, key=lambda row: row.checked_ms)[:most]

    def checked(self, row: Row, *, answered: int | None, now_ms: int) -> Row | None:
        """What became of dialling a row again; None when it has changed meanwhile, or moved to where no place is."""
        if self._rows.get(row.node_key) is not row:
            return None
        if answered is None or row.signed is None:
            after = msgspec.structs.replace(row, reachable=False, checked_ms=now_ms)
        else:
            where = row.signed.record.endpoints[answered].where
            try:
                self.check_place(row.node_key, where)
            except RecordRefused:
                return self.checked(row, answered=None, now_ms=now_ms)
            after = msgspec.structs.replace(
                row, answered=answered, where=where, reachable=True, checked_ms=now_ms
            )
        self._put(after)
        return after

    def forget(self, now_ms: int) -> list[str]:
        """Drop what is so old that nothing older is alive; the node keys."""
        over = [key for key, row in self._rows.items() if now_ms >= row.sequence + MAX_LIFE_MS]
        for key in over:
            self._take(key)
        return over

    # Places

    def _put(self, row: Row) -> None:
        if row.node_key in self._rows:
            self._take(row.node_key)
        self._rows[row.node_key] = row
        self._groups[group_of(row.where)] += 1
        self._owners[owner_of(row.where)] += 1
        if row.chain is not None and row.reachable:
            groups = self._told.setdefault(row.chain, {})
            groups.setdefault(group_of(row.where), {})[row.node_key] = None

    def _take(self, node_key: str) -> None:
        row = self._rows.pop(node_key)
        group = group_of(row.where)
        for counter, name in ((self._groups, group), (self._owners, owner_of(row.where))):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]
        if row.chain is None or not row.reachable:
            return
        groups = self._told[row.chain]
        del groups[group][node_key]
        if not groups[group]:
            del groups[group]
        if not groups:
            del self._told[row.chain]


def _pop(items: list[str], draws: Draws) -> str:
    """One of them, taken out; the order of the rest means nothing."""
    place = draws.below(len(items))
    items[place], items[-1] = items[-1], items[place]
    return items.pop()
