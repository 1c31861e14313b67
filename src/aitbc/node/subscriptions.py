"""What happens on a node, told to those who follow it: blocks, transactions, incidents, peers, and what concerns an
account or a job. docs/spec/rpc.md "Following"

Each stream numbers its events, so a reader sees what it missed and asks for it again while it is held. Nobody waits for
a reader: one that falls behind is told so and let go. Everything is called on the node's loop.
"""

import asyncio
import secrets
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal, get_args

import msgspec

from aitbc.adapters.http.limits import RateLimit
from aitbc.core.codec.views import header_to_plain
from aitbc.core.consensus.simplex.record import Incident
from aitbc.core.peer.kinds import Rate
from aitbc.core.peer.messages import Bucket
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import VerifiedTransaction
from aitbc.node.queues import Places
from aitbc.node.topics import ALIASES, KEYED, Concerned, Topic

Json = dict[str, Any]
Stream = Literal["block", "tx", "consensus", "peer"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
OUTCOME = "outcome"
"""All final transactions, of which `address` and `job` are told theirs."""

MAX_READERS = 1_024
"""Half of the connections; what they cost together is bounded by the rates below."""
MAX_READERS_AT_OWNER = 8
"""From one public address."""
MAX_WAITING = 4_096
MAX_WAITING_BYTES = 1024 * 1024
"""In front of one reader: twenty seconds of a full stream of transactions. The texts are shared by all readers."""
TX_RATE = Rate(200, 1_000)
"""Transactions told in a second; the numbers show what was left out. A node takes thousands, and who must see each one
reads blocks."""
TELLINGS = Rate(64 * TX_RATE.per_second, 64 * TX_RATE.burst)
"""Of transactions to readers: a quarter of a core, however many follow."""
HELD = {"block": 1_024, "tx": 4_096, "consensus": 1_024, "peer": 1_024}
"""Newest events of each stream that can be asked for again: a quarter of an hour of blocks a second, 1 MB each."""
AGAIN = Rate(200, MAX_WAITING)
"""Events told again in a second, to all readers of one public address; at once, as much as one reader may have waiting.
Each is written anew, in some 10 µs on the loop: a five-hundredth of a core, and 40 ms at once."""
LOCAL_AGAIN = Rate(8 * AGAIN.per_second, 8 * AGAIN.burst)
"""The same for all local readers together, who may be everybody behind a proxy of this machine."""
HELD_OUTCOMES = 10_000
"""Final transactions of the newest blocks: 30 MB at most that would be let go of otherwise; the newest block always."""


class Ended(StrEnum):
    """Why a reader is told nothing more; its last message."""

    TOO_SLOW = "too_slow"
    NODE_STOPPED = "node_stopped"
    TOO_MANY_MISTAKES = "too_many_mistakes"


class TooOld(Exception):
    """What is asked for again is not held any more."""

    def __init__(self, stream: str, oldest: int) -> None:
        super().__init__(stream)
        self.stream = stream
        self.oldest = oldest
        """The first number that is held, or the next one."""


class Reader:
    """One follower's queue."""

    def __init__(self, topics: Collection[Topic], *, owner: str) -> None:
        self.topics: frozenset[Topic] = frozenset(topics)
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


class _HeldBlock:
    """One of the newest blocks, looked through when somebody first asks."""

    def __init__(self, first: int, block: CommittedBlock, job_of_lock: Callable[[str], str]) -> None:
        self.first = first
        """Number of its first transaction."""
        self.last = first + len(block.outcomes) - 1
        self._block, self._job_of_lock = block, job_of_lock
        self._concerned: Concerned | None = None

    def concerned(self) -> Concerned:
        if self._concerned is None:
            self._concerned = Concerned(self._block, self._job_of_lock)
        return self._concerned

    def places_after(self, topic: Topic, after: int) -> Collection[int]:
        places = self.concerned().places(topic)
        return places[bisect_left(places, after + 1 - self.first) :]


class Subscriptions:
    """Who follows this node, how far each stream is, and what can be told again."""

    def __init__(
        self,
        now_ms: int,
        job_of_lock: Callable[[str], str] = lambda _lock: "",
        standing: Callable[[int], Json] = lambda _height: {},
    ) -> None:
        self._job_of_lock, self._standing = job_of_lock, standing
        self.run = secrets.token_hex(8)
        """To which the numbers belong."""
        self.numbers: dict[str, int] = dict.fromkeys((*STREAMS, OUTCOME), 0)
        """Of each stream's newest event since the node began; the first is 1."""
        self._readers: dict[Topic, dict[Reader, None]] = {}
        """By what they follow."""
        self._all: dict[Reader, None] = {}
        self.dropped: Counter[str] = Counter()
        """Readers that were let go, by reason."""
        self._places = Places(most=MAX_READERS, most_at_owner=MAX_READERS_AT_OWNER, what="readers")
        self._held: dict[str, deque[tuple[int, bytes]]] = {
            stream: deque(maxlen=most) for stream, most in HELD.items()
        }
        self._outcomes: deque[_HeldBlock] = deque()
        self._again, self._local_again = (
            RateLimit(rate.per_second, rate.burst, monotonic=time.monotonic) for rate in (AGAIN, LOCAL_AGAIN)
        )
        self._tx_rate = Bucket(TX_RATE, now_ms)
        self._tellings = Bucket(TELLINGS, now_ms)
        self._stopped = False

    def __len__(self) -> int:
        return len(self._all)

    def join(self, topics: Collection[Topic], *, host: str) -> Reader:
        """A queue for somebody at this address. Raises Rejected when there is no place."""
        if self._stopped:
            raise Rejected(Reason.NODE_STOPPED, "this node has stopped; follow another")
        reader = Reader((), owner=self._places.take(host))
        self._all[reader] = None
        self.follow(reader, topics)
        return reader

    def follow(self, reader: Reader, topics: Collection[Topic]) -> None:
        """From now on exactly these."""
        for topic in reader.topics.difference(topics):
            readers = self._readers[topic]
            del readers[reader]
            if not readers:
                del self._readers[topic]
        for topic in topics:
            self._readers.setdefault(topic, {})[reader] = None
        reader.topics = frozenset(topics)

    def leave(self, reader: Reader) -> None:
        self.follow(reader, ())
        if reader.ended is not None:
            self.dropped[str(reader.ended)] += 1
        del self._all[reader]
        self._places.leave(reader.owner)

    def stop(self) -> None:
        """Nobody follows a node that has stopped."""
        self._stopped = True
        for reader in self._all:
            reader.end(Ended.NODE_STOPPED)

    # What happened

    def again(self, topic: Topic, run: str, after: int) -> Iterator[str]:
        """Messages about what came after a number until now, the oldest first. Raises TooOld, or Rejected for a number
        that has not been."""
        stream = OUTCOME if topic.key else topic.stream
        newest = self.numbers[stream]
        if run != self.run:
            raise TooOld(topic.name, self._oldest(stream))
        if after > newest:
            raise Rejected(Reason.OUT_OF_RANGE, f"{topic.name} is at number {newest}")
        if after < newest and after + 1 < self._oldest(stream):
            raise TooOld(topic.name, self._oldest(stream))
        if topic.key:
            return self._outcomes_again(topic, after)
        return (_message(topic, seq, data) for seq, data in self._held[stream] if seq > after)

    def _oldest(self, stream: str) -> int:
        if stream == OUTCOME:
            return self._outcomes[0].first if self._outcomes else self.numbers[OUTCOME] + 1
        held = self._held[stream]
        return held[0][0] if held else self.numbers[stream] + 1

    def _outcomes_again(self, topic: Topic, after: int) -> Iterator[str]:
        for held in self._outcomes:
            if held.last > after:
                for place in held.places_after(topic, after):
                    yield _message(topic, held.first + place, held.concerned().view(place, self._standing))

    def count_again(self, reader: Reader, run: str, wanted: Mapping[Topic, int]) -> None:
        """Take what telling it again costs from the share of the reader's address. Raises Rejected when too much was
        told again there, before anything is told."""
        count = (
            sum(self._count_after(topic, after) for topic, after in wanted.items()) if run == self.run else 0
        )
        limit = self._again if reader.owner else self._local_again
        wait_s = limit.wait_s(reader.owner, min(count, MAX_WAITING))
        if wait_s > 0:
            raise Rejected(
                Reason.TOO_BUSY,
                f"{count} events to tell again are too many now; ask again in {int(wait_s) + 1} s, or read blocks",
            )

    def _count_after(self, topic: Topic, after: int) -> int:
        if topic.key:
            return sum(len(held.places_after(topic, after)) for held in self._outcomes if held.last > after)
        return min(max(0, self.numbers[topic.stream] - after), len(self._held[topic.stream]))

    # What happens

    def block(self, block: CommittedBlock) -> None:
        self._tell(
            "block",
            lambda: {**header_to_plain(block.block.header, block.hash), "txCount": len(block.outcomes)},
        )
        self._tell_outcomes(block)

    def _tell_outcomes(self, block: CommittedBlock) -> None:
        if not block.outcomes:
            return
        held = _HeldBlock(self.numbers[OUTCOME] + 1, block, self._job_of_lock)
        self.numbers[OUTCOME] = held.last
        self._outcomes.append(held)
        while len(self._outcomes) > 1 and self.numbers[OUTCOME] - self._outcomes[0].first + 1 > HELD_OUTCOMES:
            self._outcomes.popleft()
        views: dict[int, bytes] = {}
        for topic in [topic for topic in self._readers if topic.key]:
            for place in held.concerned().places(topic):
                if place not in views:
                    views[place] = held.concerned().view(place, self._standing)
                self._send(topic, held.first + place, views[place])

    def transaction(self, tx: VerifiedTransaction, now_ms: int) -> None:
        """One that waits here now."""
        readers = sum(len(self._readers.get(topic, ())) for topic in ALIASES["tx"])
        if not self._tx_rate.take(now_ms) or (readers and not self._tellings.take(now_ms, readers)):
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
        """Written once for all."""
        self.numbers[stream] += 1
        data = msgspec.json.encode(view())
        self._held[stream].append((self.numbers[stream], data))
        for topic in ALIASES[stream]:
            self._send(topic, self.numbers[stream], data)

    def _send(self, topic: Topic, seq: int, data: bytes) -> None:
        readers = self._readers.get(topic)
        if readers:
            text = _message(topic, seq, data)
            for reader in readers:
                reader.tell(text)


def _message(topic: Topic, seq: int, data: bytes) -> str:
    event: Json = {"type": topic.word, "seq": seq}
    if topic.stream in KEYED:
        event["key"] = topic.key
    return msgspec.json.encode({**event, "data": msgspec.Raw(data)}).decode()


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
