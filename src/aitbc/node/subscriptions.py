"""What happens on a node, told to those who follow it: blocks, transactions, incidents, peers. docs/spec/rpc.md
"Following"

Each stream numbers its events, so a reader sees what it missed. Nobody waits for a reader: one that falls behind is
told so and let go. Everything is called on the node's loop.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Any, Literal, get_args

import msgspec

from aitbc.core.codec.views import header_to_plain
from aitbc.core.consensus.simplex.record import Incident
from aitbc.core.peer.addresses import join_where, owner_of
from aitbc.core.peer.kinds import Rate
from aitbc.core.peer.messages import Bucket
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import VerifiedTransaction

Json = dict[str, Any]
Stream = Literal["block", "tx", "consensus", "peer"]
STREAMS: tuple[Stream, ...] = get_args(Stream)

MAX_READERS = 64
"""With the rate below, all of them together take a quarter of a core."""
MAX_READERS_AT_OWNER = 8
"""From one public address."""
MAX_WAITING = 4_096
MAX_WAITING_BYTES = 1024 * 1024
"""In front of one reader: twenty seconds of a full stream of transactions. The texts are shared by all readers."""
TX_RATE = Rate(200, 1_000)
"""Transactions told in a second; the numbers show what was left out. A node takes thousands, and who must see each one
reads blocks."""


class Ended(StrEnum):
    """Why a reader is told nothing more; its last message."""

    TOO_SLOW = "too_slow"
    NODE_STOPPED = "node_stopped"
    TOO_MANY_MISTAKES = "too_many_mistakes"


class Reader:
    """One follower's queue."""

    def __init__(self, streams: Collection[Stream], *, owner: str) -> None:
        self.streams: frozenset[Stream] = frozenset(streams)
        self.owner = owner
        """The public address it counts for; empty for local ones."""
        self.ended: Ended | None = None
        """Why it is told nothing more."""
        self._texts: deque[str] = deque()
        self._size = 0
        self._news = asyncio.Event()

    def tell(self, text: str) -> None:
        """Queue a message; a reader for whom too much waits is let go, and what waits for it with it."""
        if self.ended is not None:
            return
        self._size += len(text)
        if len(self._texts) >= MAX_WAITING or self._size > MAX_WAITING_BYTES:
            self._texts.clear()
            self.end(Ended.TOO_SLOW)
            return
        self._texts.append(text)
        self._news.set()

    def end(self, reason: Ended) -> None:
        self.ended = self.ended or reason
        self._news.set()

    async def next(self) -> str | None:
        """The next message; None when it has ended and nothing waits."""
        while not self._texts:
            if self.ended is not None:
                return None
            self._news.clear()
            await self._news.wait()
        text = self._texts.popleft()
        self._size -= len(text)
        return text


class Subscriptions:
    """Who follows this node, and how far each stream is."""

    def __init__(self, now_ms: int) -> None:
        self.numbers: dict[str, int] = dict.fromkeys(STREAMS, 0)
        """Of each stream's newest event since the node began; the first is 1."""
        self._readers: dict[Reader, None] = {}
        self._owners: Counter[str] = Counter()
        self._tx_rate = Bucket(TX_RATE, now_ms)
        self._stopped = False

    def __len__(self) -> int:
        return len(self._readers)

    def join(self, streams: Collection[Stream], *, host: str) -> Reader:
        """A queue for somebody at this address. Raises Rejected when there is no place."""
        if self._stopped:
            raise Rejected(Reason.NODE_STOPPED, "this node has stopped; follow another")
        owner = owner_of(join_where(host, 1))
        if len(self._readers) >= MAX_READERS:
            raise Rejected(Reason.TOO_BUSY, f"{MAX_READERS} readers follow this node")
        if owner and self._owners[owner] >= MAX_READERS_AT_OWNER:
            raise Rejected(Reason.TOO_BUSY, f"{MAX_READERS_AT_OWNER} readers at {owner} follow this node")
        reader = Reader(streams, owner=owner)
        self._readers[reader] = None
        self._owners[owner] += 1
        return reader

    def leave(self, reader: Reader) -> None:
        del self._readers[reader]
        self._owners[reader.owner] -= 1
        if not self._owners[reader.owner]:
            del self._owners[reader.owner]

    def stop(self) -> None:
        """Nobody follows a node that has stopped."""
        self._stopped = True
        for reader in self._readers:
            reader.end(Ended.NODE_STOPPED)

    # What happens

    def block(self, block: CommittedBlock) -> None:
        self._tell(
            "block",
            lambda: {**header_to_plain(block.block.header, block.hash), "txCount": len(block.outcomes)},
        )

    def transaction(self, tx: VerifiedTransaction, now_ms: int) -> None:
        """One that waits here now."""
        if not self._tx_rate.take(now_ms):
            self.numbers["tx"] += 1
            return
        self._tell(
            "tx",
            lambda: {
                "txHash": tx.id.hex(),
                "type": tx.tx.type,
                "sender": tx.tx.sender,
                "nonce": tx.tx.nonce,
                "fee": tx.tx.fee,
            },
        )

    def incident(self, incident: Incident, at_ms: int) -> None:
        self._tell("consensus", lambda: incident_to_plain(incident, at_ms))

    def peer_joined(self, key: bytes, agent: str) -> None:
        self._tell("peer", lambda: {"what": "joined", "key": key.hex(), "agent": agent})

    def peer_left(self, key: bytes, reason: str) -> None:
        self._tell("peer", lambda: {"what": "left", "key": key.hex(), "reason": reason})

    def _tell(self, stream: Stream, view: Callable[[], Json]) -> None:
        """Written once for all, and not at all for nobody."""
        self.numbers[stream] += 1
        readers = [reader for reader in self._readers if stream in reader.streams]
        if readers:
            event = {"type": stream, "seq": self.numbers[stream], "data": view()}
            text = msgspec.json.encode(event).decode()
            for reader in readers:
                reader.tell(text)


def incident_to_plain(incident: Incident, at_ms: int) -> Json:
    """As `GET /rpc/consensus` lists it."""
    return {
        "what": incident.what,
        "epoch": incident.epoch,
        "slot": incident.slot,
        "leader": incident.leader,
        "lateMs": incident.late_ms,
        "reason": incident.reason,
        "timestampMs": at_ms,
    }
