"""What everybody shall know reaches everybody, once. docs/spec/p2p.md "Gossip"

Votes, candidates and certificates are flooded: told to a peer once, passed on after the node accepted them.
Transactions are announced by hash, pulled in batches by who lacks them, and announced again once they were accepted.
Content is known by its hash, so nobody can make an old message new (seed 004's random ids could).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import Enum
from hashlib import sha256
from typing import Protocol

import msgspec

from aitbc.core.peer.compact import MAX_GIVEN
from aitbc.core.peer.kinds import (
    ANNOUNCE,
    CANDIDATE,
    MAX_WIDS,
    PULL,
    VOTE,
    Kind,
    Transactions,
    Wids,
    pack_message,
)
from aitbc.core.peer.messages import MAX_PENDING, Held
from aitbc.core.peer.peering import Peering
from aitbc.core.peer.peers import VOTES, PeerEffect, Refusal, Replied, Requested, Unreplied
from aitbc.core.peer.reasons import PeerReason

SEEN_MS = 300_000
"""The seed's time; longer than any message of agreement matters."""
AGAIN_MS = 500
"""Agreement says things again when nothing moves (docs/spec/simplex.md, rule 8); sooner nobody honest does."""
MAX_SEEN = 65_536
"""Messages; at a few hundred bytes each, under 20 MiB."""
MAX_UNDECIDED_BYTES = 16 * 1024 * 1024
"""Told, but not yet judged by the node: a dozen largest candidates, or hundreds of usual ones, and all votes."""
MAX_UNDECIDED_OF_PEER = 2 * CANDIDATE.limit + 1024 * 1024
"""Of those, told by one peer first: two candidates and their votes. The others' share is not for it to fill."""
MAX_SENDERS = 8
"""Remembered for one message: who sent it need not be told."""

FLUSH_MS = 10
"""Announcements wait this long for company, and so does what has to be asked for again."""
MAX_WANTED = 65_536
"""Announced transactions that are not here yet: five seconds of the highest rate."""
MAX_WANTED_OF_PEER = 8_192
"""Of those, from one announcer: inventing hashes costs a peer its own share only."""
MAX_ANNOUNCERS = 4
"""Others to ask when the first does not deliver."""
MAX_REFUSED = 32_768
REFUSED_MS = 60_000
"""A transaction that the node did not take is not fetched again for this long."""
PULL_TICKET = 1 << 62
"""Tickets from here on are ours; the host's are below."""
FRESH_MS = 150
"""Announcing a transaction of our own, being asked for it and answering takes others so long, over three ways of 40 ms;
until then a block that holds it brings it along."""
MAX_FRESH = MAX_GIVEN
"""As many as a block can bring along."""
MAX_QUEUED = 65_536
"""Transactions to be announced to one peer; a peer that slow hears of the rest from others."""
MAX_BATCH_BYTES = PULL.answer_limit - 8 * 1024


class Verdict(Enum):
    """What the node thinks of a message."""

    ACCEPT = "accept"
    """Good and new: pass it on."""
    IGNORE = "ignore"
    """Of no use now: neither passed on nor held against anybody."""
    REJECT = "reject"
    """Provably wrong: whoever sent it knew."""


class Pool(Protocol):
    """The node's transactions, as gossip may read them."""

    def has(self, wid: bytes) -> bool:
        """Here, in a block not long ago, or being verified."""
        ...

    def get(self, wid: bytes) -> bytes | None:
        """On the wire, when it waits here."""
        ...


class Delivered(msgspec.Struct, frozen=True):
    """A message that nobody told before; the host judges it by its id, now or later."""

    id: bytes
    key: bytes
    kind: Kind
    payload: bytes


class TransactionsCame(msgspec.Struct, frozen=True):
    """Transactions that were asked for. The host checks that each has its hash, and calls `took` or `refused`;
    for what is another, or none, it blames the key and calls `mistaken`."""

    key: bytes
    txs: list[tuple[bytes, bytes]]
    """(wid, wire bytes)."""


class Undelivered(msgspec.Struct, frozen=True):
    """Transactions that several peers have announced and none has delivered."""

    wids: list[bytes]


class Wake(msgspec.Struct, frozen=True):
    """Call `tick` at this time, if not before."""

    at_ms: int


GossipEffect = PeerEffect | Delivered | TransactionsCame | Undelivered | Wake


class _Message(msgspec.Struct):
    at_ms: int
    kind: Kind
    senders: list[bytes]
    payload: bytes | None
    """Until it is judged."""


class _Wanted(msgspec.Struct):
    """A transaction that was announced and is not here."""

    asked: bytes
    """Who is asked for it now."""
    others: list[bytes]
    told_by_many: bool = False
    """More than one peer has announced it: nobody alone has invented it."""


class _Source(msgspec.Struct):
    """Who sent a transaction that is being verified, and who else has announced it."""

    key: bytes
    others: list[bytes]
    told_by_many: bool


class _Peer(msgspec.Struct):
    """What waits for the next flush."""

    announce: dict[bytes, None]
    pull: dict[bytes, None]
    wanted: int = 0
    """How many transactions are asked of it, sent or not."""


class Gossip:
    def __init__(self, peering: Peering, pool: Pool) -> None:
        self._peering = peering
        self._pool = pool
        self._seen: OrderedDict[bytes, _Message] = OrderedDict()
        self._undecided = 0
        """Bytes."""
        self._undecided_of: dict[bytes, int] = {}
        """The same by who told first."""
        self._wanted: dict[bytes, _Wanted] = {}
        self._sources: OrderedDict[bytes, _Source] = OrderedDict()
        """Transactions that are being verified: who sent one is not told of it."""
        self._refused: OrderedDict[bytes, int] = OrderedDict()
        self._fresh: OrderedDict[bytes, int] = OrderedDict()
        """Transactions that began their way here, and when."""
        self._peers: dict[bytes, _Peer] = {}
        self._pulls: dict[int, tuple[bytes, list[bytes]]] = {}
        self._undelivered: list[bytes] = []
        """Nobody who announced these has them; told with the next effects."""
        self._ticket = PULL_TICKET
        self._flush_at_ms: int | None = None

    def held(self) -> Held:
        """What is kept, and the most of each; of what each peer has, the fullest."""
        peers = self._peers.values()
        return {
            "seen": (len(self._seen), MAX_SEEN),
            "undecided bytes": (self._undecided, MAX_UNDECIDED_BYTES),
            "undecided bytes of one": (max(self._undecided_of.values(), default=0), MAX_UNDECIDED_OF_PEER),
            "wanted": (len(self._wanted), MAX_WANTED),
            "wanted of one": (max((peer.wanted for peer in peers), default=0), MAX_WANTED_OF_PEER),
            "to announce": (max((len(peer.announce) for peer in peers), default=0), MAX_QUEUED),
            "sources": (len(self._sources), MAX_WANTED),
            "refused": (len(self._refused), MAX_REFUSED),
            "fresh": (len(self._fresh), MAX_FRESH),
            "gossiping with": (len(self._peers), max(1, len(self._peering.peers))),
            "pulls": (len(self._pulls), MAX_PENDING * max(1, len(self._peers))),
        }

    # Flooding

    def publish(self, now_ms: int, kind: Kind, payload: bytes) -> list[GossipEffect]:
        """Tell everybody something of our own."""
        self._remember(now_ms, _id(kind, payload), _Message(now_ms, kind, [], None))
        return self._tell(now_ms, kind, payload, skip=())

    def heard(self, now_ms: int, key: bytes, kind: Kind, payload: bytes) -> list[GossipEffect]:
        """A peer passes something on."""
        id_ = _id(kind, payload)
        message = self._seen.get(id_)
        if message is not None:
            if key in message.senders and now_ms - message.at_ms < AGAIN_MS:
                return [*self._peering.blame(now_ms, key, PeerReason.DUPLICATE_GOSSIP, kind.name)]
            if key not in message.senders and len(message.senders) < MAX_SENDERS:
                message.senders.append(key)
            return []
        size, of_peer = len(payload), self._undecided_of.get(key, 0)
        if self._undecided + size > MAX_UNDECIDED_BYTES or of_peer + size > MAX_UNDECIDED_OF_PEER:
            return [Refusal(key, PeerReason.BUFFERS_FULL, kind.name)]
        self._remember(now_ms, id_, _Message(now_ms, kind, [key], payload))
        if payload:
            self._undecided += size
            self._undecided_of[key] = of_peer + size
        return [Delivered(id_, key, kind, payload)]

    def judge(self, now_ms: int, id_: bytes, verdict: Verdict) -> list[GossipEffect]:
        """The node's word on a delivered message; without effect the second time."""
        message = self._seen.get(id_)
        if message is None or message.payload is None:
            return []
        payload = self._settle(message)
        match verdict:
            case Verdict.ACCEPT:
                self._peering.credit(now_ms, message.senders[0])
                return self._tell(now_ms, message.kind, payload, skip=message.senders)
            case Verdict.IGNORE:
                del self._seen[id_]  # it may be of use when it is told again
                return []
            case Verdict.REJECT:
                return [
                    effect
                    for key in message.senders
                    for effect in self._peering.blame(now_ms, key, PeerReason.INVALID, message.kind.name)
                ]

    def _tell(self, now_ms: int, kind: Kind, payload: bytes, *, skip: Sequence[bytes]) -> list[GossipEffect]:
        """To all that want it. What came from a configured peer was sent by its author to all configured ones, so
        it goes to the others only: validators do not multiply each other's votes."""
        meshed = bool(skip) and self._peering.is_configured(skip[0])
        effects: list[GossipEffect] = []
        for key in self._peering.peers:
            if key in skip or (kind is VOTE and not self._peering.wants(key, VOTES)):
                continue
            if meshed and self._peering.is_configured(key):
                continue
            effects += self._peering.say(now_ms, key, kind, payload)
        return effects

    def _remember(self, now_ms: int, id_: bytes, message: _Message) -> None:
        """What was told and waits for a verdict may become our own word meanwhile: then nobody judges it any more."""
        before = self._seen.pop(id_, None)
        if before is not None:
            self._settle(before)
        self._seen[id_] = message
        while len(self._seen) > MAX_SEEN:
            self._settle(self._seen.popitem(last=False)[1])

    def _settle(self, message: _Message) -> bytes:
        payload = message.payload or b""
        message.payload = None
        if payload:
            first = message.senders[0]
            self._undecided -= len(payload)
            self._undecided_of[first] -= len(payload)
            if not self._undecided_of[first]:
                del self._undecided_of[first]
        return payload

    # Transactions

    def took(self, now_ms: int, wids: Iterable[bytes]) -> list[GossipEffect]:
        """The node holds these now: announce them to who did not send them."""
        peers = [(key, self._peer(key)) for key in self._peering.peers]
        for wid in wids:
            source = self._sources.pop(wid, None)
            self._unwant(wid)
            if source is None:
                self._fresh[wid] = now_ms
            for key, peer in peers:
                if (source is None or key != source.key) and len(peer.announce) < MAX_QUEUED:
                    peer.announce[wid] = None
        while len(self._fresh) > MAX_FRESH:
            self._fresh.popitem(last=False)
        return self._wake(now_ms)

    def fresh(self, now_ms: int) -> set[bytes]:
        """Transactions that peers cannot have pulled from here yet."""
        while self._fresh and abs(now_ms - next(iter(self._fresh.values()))) >= FRESH_MS:
            self._fresh.popitem(last=False)
        return set(self._fresh)

    def refused(self, now_ms: int, wids: Iterable[bytes]) -> None:
        """The node does not want these now."""
        for wid in wids:
            self._sources.pop(wid, None)
            self._refused[wid] = now_ms + REFUSED_MS
        while len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)

    def mistaken(self, now_ms: int, wids: Iterable[bytes]) -> list[GossipEffect]:
        """What came is not what these hashes name: who else has announced them is asked."""
        for wid in wids:
            source = self._sources.pop(wid, None)
            if source is not None and wid not in self._wanted:
                wanted = self._wanted[wid] = _Wanted(source.key, source.others, source.told_by_many)
                self._ask_next(wid, wanted)
        return self._missed() + self._wake(now_ms)

    def announced(self, now_ms: int, key: bytes, message: Wids) -> list[GossipEffect]:
        """A peer has these: those that are not here are asked for."""
        peer = self._peer(key)
        for wid in message.wids:
            peer.announce.pop(wid, None)
            wanted, source = self._wanted.get(wid), self._sources.get(wid)
            if wanted is not None:
                _note_announcer(wanted, wanted.asked, key)
            elif source is not None:
                _note_announcer(source, source.key, key)
            elif not self._is_known(now_ms, wid):
                self._want(wid, key)
        return self._pull(now_ms, key, peer)  # what was announced together is asked for together

    def pulled(self, request: Requested) -> list[GossipEffect]:
        """A peer asks for transactions: in its order, nothing where there is none, cut where the answer is full."""
        txs: list[bytes] = []
        size = 0
        for wid in request.message.wids:
            tx = self._pool.get(wid) or b""
            size += len(tx) + 5
            if size > MAX_BATCH_BYTES:
                break
            txs.append(tx)
        return [*self._peering.answer(request, Transactions(txs))]

    def delivered(self, now_ms: int, reply: Replied) -> list[GossipEffect]:
        """The answer to a pull."""
        key, wids = self._pulls.pop(reply.ticket)
        txs: list[bytes] = reply.message.txs
        came = [(wid, tx) for wid, tx in zip(wids, txs, strict=False) if tx]
        for wid, tx in zip(wids, txs, strict=False):
            if tx:
                wanted = self._wanted.get(wid)
                others, told_by_many = (wanted.others, wanted.told_by_many) if wanted else ([], False)
                self._unwant(wid)
                self._sources[wid] = _Source(key, [other for other in others if other != key], told_by_many)
            else:
                self._ask_another(wid)
        while len(self._sources) > MAX_WANTED:
            self._sources.popitem(last=False)
        effects: list[GossipEffect] = []
        if len(txs) > len(wids):
            effects += self._peering.blame(now_ms, key, PeerReason.BAD_PAYLOAD, "more than was asked for")
        for wid in wids[len(txs) :]:  # the answer was full; one that is empty gives up its turn
            if txs:
                self._peer(key).pull[wid] = None
            else:
                self._ask_another(wid)
        if came:
            self._peering.credit(now_ms, key)
            effects.append(TransactionsCame(key, came))
        return effects + self._missed() + self._wake(now_ms)

    def not_delivered(self, now_ms: int, failure: Unreplied) -> list[GossipEffect]:
        """Nobody waits for a silent peer: the next announcer is asked."""
        key, wids = self._pulls.pop(failure.ticket)
        for wid in wids:
            if failure.reason is PeerReason.SELF_LIMITED:
                self._peer(key).pull[wid] = None
            else:
                self._ask_another(wid)
        return self._missed() + self._wake(now_ms)

    def left(self, now_ms: int, key: bytes) -> list[GossipEffect]:
        """A peer is gone, and with it what waits for it."""
        peer = self._peers.pop(key, None)
        for wid in list(peer.pull) if peer else ():
            self._ask_another(wid)
        return self._missed() + self._wake(now_ms)

    def tick(self, now_ms: int) -> list[GossipEffect]:
        """Send what has gathered, forget what is old."""
        while self._seen:
            oldest = next(iter(self._seen.values()))
            if now_ms - oldest.at_ms < SEEN_MS:
                break
            self._settle(self._seen.popitem(last=False)[1])
        while self._refused and next(iter(self._refused.values())) <= now_ms:
            self._refused.popitem(last=False)
        if self._flush_at_ms is None or now_ms < self._flush_at_ms:
            return []
        self._flush_at_ms = None
        effects: list[GossipEffect] = []
        for key, peer in list(self._peers.items()):
            effects += self._flush(now_ms, key, peer)
        return effects + self._wake(now_ms)

    def _flush(self, now_ms: int, key: bytes, peer: _Peer) -> list[GossipEffect]:
        effects: list[GossipEffect] = []
        while peer.announce:
            batch = _first(peer.announce, MAX_WIDS)
            said = self._peering.say(now_ms, key, ANNOUNCE, pack_message(ANNOUNCE, Wids(batch)))
            if any(isinstance(effect, Refusal) for effect in said):
                break  # more than the peer allows in this moment: it stays for the next flush
            effects += said
            for wid in batch:
                del peer.announce[wid]
        return effects + self._pull(now_ms, key, peer)

    def _pull(self, now_ms: int, key: bytes, peer: _Peer) -> list[GossipEffect]:
        effects: list[GossipEffect] = []
        while peer.pull:
            batch = _first(peer.pull, MAX_WIDS)
            for wid in batch:
                del peer.pull[wid]
            self._ticket += 1
            self._pulls[self._ticket] = (key, batch)
            effects += self._peering.ask(now_ms, key, PULL, Wids(batch), ticket=self._ticket)
        return effects

    def _is_known(self, now_ms: int, wid: bytes) -> bool:
        return self._refused.get(wid, 0) > now_ms or self._pool.has(wid)

    def _want(self, wid: bytes, key: bytes) -> None:
        peer = self._peer(key)
        if len(self._wanted) < MAX_WANTED and peer.wanted < MAX_WANTED_OF_PEER:
            self._wanted[wid] = _Wanted(key, [])
            peer.pull[wid] = None
            peer.wanted += 1

    def _unwant(self, wid: bytes) -> None:
        wanted = self._wanted.pop(wid, None)
        if wanted is not None:
            self._release(wanted.asked, wid)

    def _release(self, key: bytes, wid: bytes) -> None:
        peer = self._peers.get(key)
        if peer is not None:
            peer.pull.pop(wid, None)
            peer.wanted -= 1

    def _ask_another(self, wid: bytes) -> None:
        wanted = self._wanted.get(wid)
        if wanted is None:
            return
        self._release(wanted.asked, wid)
        self._ask_next(wid, wanted)

    def _ask_next(self, wid: bytes, wanted: _Wanted) -> None:
        """Of those who announced it; without any it is given up."""
        while wanted.others:
            wanted.asked = wanted.others.pop(0)
            if not self._peering.is_up(wanted.asked):
                continue
            peer = self._peer(wanted.asked)
            if peer.wanted < MAX_WANTED_OF_PEER:
                peer.pull[wid] = None
                peer.wanted += 1
                return
        del self._wanted[wid]
        if wanted.told_by_many:
            self._undelivered.append(wid)

    def _peer(self, key: bytes) -> _Peer:
        return self._peers.setdefault(key, _Peer({}, {}))

    def _missed(self) -> list[GossipEffect]:
        missed, self._undelivered = self._undelivered, []
        return [Undelivered(missed)] if missed else []

    def _wake(self, now_ms: int) -> list[GossipEffect]:
        """Have the next flush called, once."""
        if self._flush_at_ms is not None or not any(p.announce or p.pull for p in self._peers.values()):
            return []
        self._flush_at_ms = now_ms + FLUSH_MS
        return [Wake(self._flush_at_ms)]


def _note_announcer(of: _Wanted | _Source, first: bytes, key: bytes) -> None:
    """Somebody else has it too, and can be asked when the first does not deliver."""
    if key != first and key not in of.others and len(of.others) < MAX_ANNOUNCERS:
        of.others.append(key)
        of.told_by_many = True


def _id(kind: Kind, payload: bytes) -> bytes:
    """Local name of a message; it is not on the wire."""
    return sha256(kind.wire + b"\0" + payload).digest()


def _first(items: dict[bytes, None], limit: int) -> list[bytes]:
    return [wid for wid, _ in zip(items, range(limit), strict=False)]
