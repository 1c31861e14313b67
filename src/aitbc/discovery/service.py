"""What the service does with what strangers send: cheap checks first, then the dial-back, then the list.

Called on one event loop; the disk is written on one thread.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, TypeVar

from aitbc.core.codec.canonical import parse_json
from aitbc.core.peer.addresses import LOCAL, group_of, join_where
from aitbc.core.peer.directory import Directory, Row
from aitbc.core.peer.records import (
    MAX_ENDPOINTS,
    MAX_RECORD_BYTES,
    Listed,
    NodeRecord,
    RecordReason,
    RecordRefused,
    SignedRecord,
    SignedRemoval,
    VerifiedRecord,
    verify_record,
    verify_removal,
)
from aitbc.discovery.limits import ASKS, CALLS_S, CHANGES, UPDATES_S, Buckets, asker_of, called
from aitbc.discovery.probe import Probe
from aitbc.discovery.store import RowStore
from aitbc.ports import Clock

T = TypeVar("T")

log = logging.getLogger("aitbc.discovery")

MAX_CALLS = 32
"""Dial-backs at once, each a socket for six seconds at most."""
MAX_CALLS_AGAIN = 16
"""Those of the sweep have places of their own: newcomers do not wait for silent rows."""
MAX_WAITING = 96
"""Newcomers whose dial-back runs or waits: the last waits for three times six seconds."""
MAX_CALLS_KNOWN = 16
MAX_WAITING_KNOWN = 96
"""The same for nodes that are listed and renew their record: newcomers who never answer do not hold them up."""
MAX_WAITING_OF_ASKER = 2
"""Of both: fifty addresses are needed to keep others out, and each has its places for six seconds only."""
MAX_WAITING_OF_LOCAL = 32
"""On one machine or in one house many nodes share an address, as in a devnet; who is there is no stranger."""
COUNT_MS = 1_000
"""Anybody may ask for figures, and counting 10,000 rows takes milliseconds."""
SWEEP_S = 5.0
MAX_SWEEP = 128
"""Rows dialled again in one sweep: all 10,000 in ten minutes are 84 each five seconds."""


class Discovery:
    """One running service: `start`, then what the routes ask, then `stop`."""

    def __init__(
        self, store: RowStore, *, clock: Clock, probe: Probe, secret: bytes, allow_private: bool
    ) -> None:
        """`secret`: 32 random bytes, new at each start."""
        self.directory = Directory(secret=secret, rows=store.load())
        self.answers: Counter[tuple[str, str]] = Counter()
        """Requests by what was asked and what became of it: a reason, or `ok`."""
        self.calls: Counter[str] = Counter()
        """Dial-backs by outcome."""
        self._store = store
        self._clock = clock
        self._probe = probe
        self._allow_private = allow_private
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="directory")
        self._asks = Buckets(ASKS.per_second, burst=ASKS.burst)
        self._changes = Buckets(CHANGES.per_second, burst=CHANGES.burst)
        self._updates = Buckets(1, seconds=UPDATES_S, burst=3)
        self._newcomers = Buckets(1, seconds=CALLS_S, burst=8)
        self._turn = asyncio.Semaphore(MAX_CALLS)
        self._turn_again = asyncio.Semaphore(MAX_CALLS_AGAIN)
        self._turn_known = asyncio.Semaphore(MAX_CALLS_KNOWN)
        self._waiting: Counter[str] = Counter()
        """Records whose dial-back runs or waits, by kind."""
        self._waiting_of: Counter[str] = Counter()
        """The same by asker."""
        self._states: dict[str, int] = {}
        self._counted_ms = 0
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        self._writer.shutdown(wait=True)
        self._store.close()

    # What is asked

    async def publish(self, node_key: str, raw: bytes, *, asker: str) -> Row:
        """List a record, once the node has answered for it. Raises RecordRefused and Rejected."""
        now_ms = self._clock.now_ms()
        self._count(self._changes, asker_of(asker), now_ms)
        signed = parse_json(raw, SignedRecord, limit=MAX_RECORD_BYTES)
        _check_id(node_key, signed.record.node_key)
        verified = verify_record(signed, now_ms=now_ms, allow_private=self._allow_private)
        self.directory.check_record(verified)
        self._count(self._updates, signed.record.record_key, now_ms)
        self._check_target(verified, now_ms)
        answered = await self._call(verified, asker, now_ms)
        row = self.directory.accept(verified, answered=answered, now_ms=self._clock.now_ms())
        await self._write(lambda: self._store.save(row))
        log.info("listed", extra={"component": "discovery", "event": "listed", "node": node_key[:16]})
        return row

    async def remove(self, node_key: str, raw: bytes, *, asker: str) -> Row:
        """Take a record back at its owner's word. Raises RecordRefused and Rejected."""
        now_ms = self._clock.now_ms()
        self._count(self._changes, asker_of(asker), now_ms)
        signed = parse_json(raw, SignedRemoval, limit=MAX_RECORD_BYTES)
        _check_id(node_key, signed.removal.node_key)
        row = self.directory.remove(verify_removal(signed, now_ms=now_ms))
        await self._write(lambda: self._store.save(row))
        log.info("removed", extra={"component": "discovery", "event": "removed", "node": node_key[:16]})
        return row

    def sample(self, chain_id: str, genesis_hash: str, *, limit: int, asker: str) -> list[Listed]:
        """Some live records of a chain. Raises RecordRefused."""
        now_ms = self._clock.now_ms()
        self._count(self._asks, asker_of(asker), now_ms)
        rows = self.directory.sample((chain_id, genesis_hash), limit=limit, now_ms=now_ms)
        return [listed(row) for row in rows]

    def states(self) -> dict[str, int]:
        """How many rows are listed, have expired or do not answer, and were removed; counted once a second."""
        now_ms = self._clock.now_ms()
        if 0 <= now_ms - self._counted_ms < COUNT_MS:
            return self._states
        self._counted_ms = now_ms
        counted = {"listed": 0, "silent": 0, "removed": 0}
        for row in self.directory:
            counted["removed" if row.signed is None else "listed" if row.live(now_ms) else "silent"] += 1
        self._states = counted
        return counted

    # Inside

    def _count(self, buckets: Buckets, name: str, now_ms: int) -> None:
        if not buckets.take(name, now_ms):
            raise RecordRefused(RecordReason.ASKED_TOO_OFTEN, f"too many requests of {name}")

    def _check_target(self, verified: VerifiedRecord, now_ms: int) -> None:
        """Before anything is dialled: is there a place, and would this service knock there too often? Who is known to
        be there is not held up by others who name its address."""
        record = verified.record
        self.directory.check_place(record.node_key, record.endpoints[0].where)
        known = self.directory.get(record.node_key)
        for endpoint in record.endpoints:
            if known is None or known.where != endpoint.where:
                self._count(self._newcomers, called(endpoint.where), now_ms)

    async def _call(self, verified: VerifiedRecord, asker: str, now_ms: int) -> int:
        """Which endpoint answered, and said that the record's key is its own. A newcomer's other endpoints are not
        tried: with four that never answer a record would hold its place four times as long."""
        row = self.directory.get(verified.record.node_key)
        is_known = row is not None and row.live(now_ms)
        with self._place_for("known" if is_known else "new", asker):
            if is_known:
                answered, outcome = await self._try_endpoints(verified.record, self._turn_known)
            else:
                answered, outcome = await self._try_endpoints(verified.record, self._turn, most=1)
        if answered is None:
            raise RecordRefused(outcome, _WHY[outcome])
        return answered

    @contextmanager
    def _place_for(self, kind: Literal["new", "known"], asker: str) -> Iterator[None]:
        """Among those that are being called, or wait for it. Raises RecordRefused."""
        most = MAX_WAITING_KNOWN if kind == "known" else MAX_WAITING
        if self._waiting[kind] >= most:
            raise RecordRefused(RecordReason.TOO_MANY_CHECKS, f"{most} nodes are being called")
        whose, is_local = asker_of(asker), group_of(join_where(asker, 1)) == LOCAL
        most_of_asker = MAX_WAITING_OF_LOCAL if is_local else MAX_WAITING_OF_ASKER
        if self._waiting_of[whose] >= most_of_asker:
            raise RecordRefused(
                RecordReason.TOO_MANY_CHECKS, f"{most_of_asker} nodes are being called for {whose}"
            )
        self._waiting[kind] += 1
        self._waiting_of[whose] += 1
        try:
            yield
        finally:
            self._waiting[kind] -= 1
            self._waiting_of[whose] -= 1
            if not self._waiting_of[whose]:
                del self._waiting_of[whose]

    async def _try_endpoints(
        self, record: NodeRecord, turn: asyncio.Semaphore, *, most: int = MAX_ENDPOINTS
    ) -> tuple[int | None, RecordReason]:
        outcome = RecordReason.NODE_UNREACHABLE
        for place, endpoint in enumerate(record.endpoints[:most]):
            async with turn:
                key = await self._probe(record, endpoint)
            if key is not None and key.hex() == record.record_key:
                self.calls["ok"] += 1
                return place, outcome
            if key is not None:
                outcome = RecordReason.NOT_VOUCHED
            self.calls[str(RecordReason.NODE_UNREACHABLE if key is None else RecordReason.NOT_VOUCHED)] += 1
        return None, outcome

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.sweep()

    async def sweep(self) -> None:
        """Forget what is over, and call those that were not called for long."""
        now_ms = self._clock.now_ms()
        forgotten = self.directory.forget(now_ms)
        try:
            if forgotten:
                await self._write(lambda: self._store.drop(forgotten))
            await asyncio.gather(
                *[self._call_again(row) for row in self.directory.due(now_ms, most=MAX_SWEEP)]
            )
        except Exception:  # the next sweep tries again; the list in memory is right
            log.exception("a sweep failed", extra={"component": "discovery", "event": "sweep_failed"})

    async def _call_again(self, row: Row) -> None:
        assert row.signed is not None
        answered, _ = await self._try_endpoints(row.signed.record, self._turn_again)
        after = self.directory.checked(row, answered=answered, now_ms=self._clock.now_ms())
        if after is not None:
            await self._write(lambda: self._store.save(after))

    async def _write(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)


_WHY = {
    RecordReason.NODE_UNREACHABLE: "at none of its endpoints did this node key answer on this chain",
    RecordReason.NOT_VOUCHED: "the node answered, but names another record key as its own, or none",
}


def listed(row: Row) -> Listed:
    """A row as others are told."""
    assert row.signed is not None, "only rows with a record are told"
    return Listed(
        record=row.signed.record, sig=row.signed.sig, answered=row.answered, checked_ms=row.checked_ms
    )


def _check_id(node_key: str, named: str) -> None:
    if node_key != named:
        raise RecordRefused(RecordReason.WRONG_ID, f"the path says {node_key[:80]!r}, the record {named}")
