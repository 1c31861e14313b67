"""Messages on one connection: statements, requests and their answers, each within what its kind promises.
docs/spec/p2p.md "Messages"

A session decides what a peer's bytes are; it never decides what to do about them.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec

from aitbc.core.peer.frames import FIRST_ANSWER, MAX_BODY, FrameReader, Head, Type, frame
from aitbc.core.peer.kinds import BY_NAME, Kind, Rate, unpack_answer, unpack_message
from aitbc.core.peer.reasons import PeerFault, PeerReason

MAX_PENDING = 256
"""Our requests that wait for this peer."""
MAX_ASKED = 64
"""Its requests that wait for us."""
MAX_LATE = 256
"""Remembered ids of requests that timed out, so that a slow answer is not taken for an invented one."""
ALL_KINDS = Rate(5_000, 10_000)
"""Messages of any kind, known or not: twice the votes of fifty validators at the highest pace."""
REFUSAL_LIMIT = 512
Held = dict[str, tuple[int, int]]
"""Tables that strangers can fill: how much is in each, and the most that may be."""
MAX_ID = 2**32 - 1


PARTS = 100_000
"""Of a token: thousandths for milliseconds, hundredths for a share."""


class Bucket:
    """Tokens of one rate, in parts so small that every millisecond counts, also of a share of the rate."""

    def __init__(self, rate: Rate, now_ms: int, *, share_percent: int = 100) -> None:
        self._per_ms = rate.per_second * share_percent
        self._most = max(rate.burst * share_percent, 100) * 1000
        self._tokens = self._most
        self._at_ms = now_ms

    def credit(self, ms: int) -> None:
        """What came while nobody looked at the clock is paid for with the time in which it came."""
        self._tokens += ms * self._per_ms

    def take(self, now_ms: int, amount: int = 1) -> bool:
        """Whether so much may pass now; if so, it has."""
        if now_ms != self._at_ms:
            if now_ms > self._at_ms:
                filled = min(self._most, self._tokens + (now_ms - self._at_ms) * self._per_ms)
                self._tokens = max(self._tokens, filled)
            self._at_ms = now_ms
        left = self._tokens - amount * PARTS
        if left < 0:
            return False
        self._tokens = left
        return True


class Limits:
    """One direction's buckets of one peer, for each kind that was used."""

    def __init__(self, now_ms: int, *, share_percent: int = 100) -> None:
        self._now_ms = now_ms
        self._share = share_percent
        self._credit_ms = 0
        self._buckets: dict[bytes, tuple[Bucket, Bucket]] = {}

    def allows(self, kind: Kind, now_ms: int, size: int) -> bool:
        buckets = self._buckets.get(kind.wire)
        if buckets is None:
            buckets = self._buckets[kind.wire] = (self._bucket(kind.count), self._bucket(kind.size))
        count, bytes_ = buckets
        return count.take(now_ms) and bytes_.take(now_ms, size)

    def credit(self, ms: int) -> None:
        """For kinds that come for the first time later, too."""
        self._credit_ms = ms
        for buckets in self._buckets.values():
            for bucket in buckets:
                bucket.credit(ms)

    def _bucket(self, rate: Rate) -> Bucket:
        bucket = Bucket(rate, self._now_ms, share_percent=self._share)
        bucket.credit(self._credit_ms)
        return bucket


# What a peer's bytes turned out to be.


class Said(msgspec.Struct, frozen=True):
    """A statement."""

    kind: Kind
    message: Any
    """The kind's record, or bytes."""


class Asked(msgspec.Struct, frozen=True):
    """A request; answer or refuse it with this id."""

    kind: Kind
    id: int
    message: Any


class Answered(msgspec.Struct, frozen=True):
    request: "Request"
    message: Any


class Unanswered(msgspec.Struct, frozen=True):
    """A request that got no good answer: refused, unreadable, or none in time."""

    request: "Request"
    reason: PeerReason
    message: str


class Wrong(msgspec.Struct, frozen=True):
    """A message that was not taken; the connection goes on."""

    fault: PeerFault
    refuse: int | None = None
    """Id of the request that this was, to be refused; None for anything else."""


class Request(msgspec.Struct, frozen=True):
    """One of ours."""

    kind: Kind
    ticket: int
    """The asker's name for it."""
    sent_ms: int


Item = Said | Asked | Answered | Unanswered | Wrong


class Session:
    """The state of one connection above the encrypted stream.

    `receive` and `expire` tell what came; `say`, `ask`, `answer` and `refuse` give the frame to send. `receive` raises
    a PeerFault when the connection must end.
    """

    def __init__(self, now_ms: int) -> None:
        self.introduced = False
        """Hello was exchanged and accepted; until then only kinds that may come before are read."""
        self._now_ms = now_ms
        self._reader = FrameReader(self._judge)
        self._inside_since_ms = now_ms
        self._all = Bucket(ALL_KINDS, now_ms)
        self._limits = Limits(now_ms)
        self._own_limits = Limits(now_ms, share_percent=90)
        """A tenth less than the peer allows, because clocks differ and batches arrive together."""
        self._next_id = 1
        self._pending: OrderedDict[int, Request] = OrderedDict()
        self._late: OrderedDict[int, None] = OrderedDict()
        self._asked: dict[int, tuple[Kind, int]] = {}
        """Kind, and when the peer gives up."""

    @property
    def buffered(self) -> int:
        """Bytes held of a frame that is not complete."""
        return self._reader.buffered

    @property
    def arrived(self) -> int:
        """Bytes of it that have come, kept or not."""
        return self._reader.arrived

    def inside_for_ms(self, now_ms: int) -> int:
        """For how long the frame that is coming in has been coming; 0 between frames."""
        return now_ms - self._inside_since_ms if self._reader.inside else 0

    def held(self) -> Held:
        """What is kept for this peer, and the most of each."""
        return {
            "pending": (len(self._pending), MAX_PENDING),
            "asked": (len(self._asked), MAX_ASKED),
            "late": (len(self._late), MAX_LATE),
            "buffered": (self.buffered, MAX_BODY),
        }

    # In

    def receive(self, now_ms: int, data: bytes) -> Iterator[Item]:
        """What these bytes of the stream say, one by one: what was said before may change what is allowed next. All
        must be taken, or none again."""
        self._now_ms = now_ms
        if not self._reader.inside:
            self._inside_since_ms = now_ms
        for head, payload in self._reader.feed(data):
            self._inside_since_ms = now_ms
            if isinstance(payload, PeerFault):
                yield Wrong(payload, head.id if head.type == Type.REQUEST else None)
            else:
                yield self._read(head, payload)

    def expire(self, now_ms: int) -> list[Unanswered]:
        """Requests that the peer has not answered in time; its own that we have not answered are forgotten."""
        overdue = [
            (id_, request)
            for id_, request in self._pending.items()
            if now_ms >= request.sent_ms + request.kind.timeout_ms
        ]
        for id_, _ in overdue:
            self._forget_late(id_)
        self._asked = {id_: asked for id_, asked in self._asked.items() if now_ms < asked[1]}
        return [
            Unanswered(request, PeerReason.NO_ANSWER, f"none within {request.kind.timeout_ms} ms")
            for _, request in overdue
        ]

    def slept(self, ms: int, *, credit_ms: int) -> None:
        """This node stood still for so long: what came or did not come meanwhile says nothing about the peer."""
        self._inside_since_ms += ms
        self._all.credit(credit_ms)
        self._limits.credit(credit_ms)
        for id_, request in self._pending.items():
            self._pending[id_] = msgspec.structs.replace(request, sent_ms=request.sent_ms + ms)

    def abandon(self) -> list[Unanswered]:
        """The connection is over: what was asked will not be answered."""
        left = [
            Unanswered(request, PeerReason.LOST, "the connection ended") for request in self._pending.values()
        ]
        self._pending.clear()
        self._asked.clear()
        return left

    def _judge(self, head: Head) -> PeerFault | None:
        """Before the payload is kept: is this message allowed, and is it small enough?"""
        if not self._all.take(self._now_ms):
            return PeerFault(PeerReason.RATE_EXCEEDED, "messages of all kinds")
        if head.type >= FIRST_ANSWER:
            return self._judge_answer(head)
        kind = BY_NAME.get(head.kind)
        if kind is None:
            return PeerFault(PeerReason.UNKNOWN_KIND, head.kind.decode("utf-8", "replace"))
        if not (self.introduced or kind.before_hello):
            raise PeerFault(PeerReason.NOT_INTRODUCED, f"{kind.name} before hello")
        if head.size > kind.limit:
            raise PeerFault(
                PeerReason.PAYLOAD_TOO_LARGE, f"{kind.name}: {head.size} bytes; at most {kind.limit}"
            )
        if kind.asks != (head.type == Type.REQUEST):
            wrong = PeerReason.NOT_A_REQUEST if kind.asks else PeerReason.NOT_ANSWERABLE
            return PeerFault(wrong, kind.name)
        if not self._limits.allows(kind, self._now_ms, head.size):
            return PeerFault(PeerReason.RATE_EXCEEDED, kind.name)
        if kind.asks and (len(self._asked) >= MAX_ASKED or head.id in self._asked):
            return PeerFault(PeerReason.TOO_MANY_REQUESTS, f"{len(self._asked)} wait")
        return None

    def _judge_answer(self, head: Head) -> PeerFault | None:
        request = self._pending.get(head.id)
        if request is None:
            return self._uninvited(head)
        limit = request.kind.answer_limit if head.type == Type.ANSWER else REFUSAL_LIMIT
        if head.size > limit:
            raise PeerFault(
                PeerReason.PAYLOAD_TOO_LARGE,
                f"answer to {request.kind.name}: {head.size} bytes; at most {limit}",
            )
        return None

    def _uninvited(self, head: Head) -> PeerFault:
        if head.id in self._late:
            del self._late[head.id]
            return PeerFault(PeerReason.LATE_ANSWER, f"to request {head.id}")
        return PeerFault(PeerReason.UNSOLICITED_ANSWER, f"to request {head.id}, which was not asked")

    def _read(self, head: Head, payload: bytes) -> Item:
        if head.type >= FIRST_ANSWER:
            return self._read_answer(head, payload)
        kind = BY_NAME[head.kind]
        try:
            message = unpack_message(kind, payload)
        except PeerFault as fault:
            return Wrong(fault, head.id if kind.asks else None)
        if not kind.asks:
            return Said(kind, message)
        self._asked[head.id] = (kind, self._now_ms + kind.timeout_ms)
        return Asked(kind, head.id, message)

    def _read_answer(self, head: Head, payload: bytes) -> Item:
        request = self._pending.pop(head.id, None)
        if request is None:  # it timed out, or was answered, while this payload was on its way
            return Wrong(self._uninvited(head))
        if head.type == Type.REFUSAL:
            return Unanswered(request, PeerReason.REFUSED, payload.decode("utf-8", "replace"))
        try:
            return Answered(request, unpack_answer(request.kind, payload))
        except PeerFault as fault:
            return Unanswered(request, fault.reason, fault.message)

    # Out

    def say(self, now_ms: int, kind: Kind, payload: bytes) -> bytes | None:
        """Frame of a statement; None when the peer would count it as too much."""
        assert not kind.asks
        if not self._own_limits.allows(kind, now_ms, len(payload)):
            return None
        return frame(Type.PLAIN, self._new_id(), kind.wire, payload)

    def ask(self, now_ms: int, kind: Kind, payload: bytes, ticket: int) -> bytes | None:
        """Frame of a request, which `receive` or `expire` will name again exactly once; None when it would be too
        much, and then never."""
        assert kind.asks
        if len(self._pending) >= MAX_PENDING or not self._own_limits.allows(kind, now_ms, len(payload)):
            return None
        id_ = self._new_id()
        self._pending[id_] = Request(kind, ticket, now_ms)
        return frame(Type.REQUEST, id_, kind.wire, payload)

    def answer(self, id_: int, payload: bytes) -> bytes | None:
        """Frame that answers a request; None when the peer has stopped waiting."""
        asked = self._asked.pop(id_, None)
        if asked is None:
            return None
        assert len(payload) <= asked[0].answer_limit
        return frame(Type.ANSWER, id_, b"", payload)

    def refuse(self, id_: int, reason: PeerReason) -> bytes:
        """Frame that says why a request is not answered."""
        self._asked.pop(id_, None)
        return frame(Type.REFUSAL, id_, b"", reason.encode())

    def _new_id(self) -> int:
        id_ = self._next_id
        self._next_id = id_ + 1 if id_ < MAX_ID else 1
        return id_

    def _forget_late(self, id_: int) -> None:
        del self._pending[id_]
        self._late[id_] = None
        while len(self._late) > MAX_LATE:
            self._late.popitem(last=False)
