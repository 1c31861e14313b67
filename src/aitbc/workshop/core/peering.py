"""Connections of a workshop node: frames, hello, lists of peers, and how many. docs/spec/workshop.md "Peering"

An address is a claim here, and anybody may make it. So a claim buys little: a place among twice `max_peers`, two of
them for one address seen from one host, and no say about whom else this node talks to.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from aitbc.core.peer.addresses import join_where, numeric_where, split_where
from aitbc.core.peer.frames import Cut, FrameReader, Head, Type, frame
from aitbc.core.peer.messages import Bucket
from aitbc.core.peer.reasons import PeerFault, PeerReason
from aitbc.workshop.core.effects import Close, Dial, Effect, Note, Send
from aitbc.workshop.core.kinds import (
    ALL_BYTES,
    ALL_KINDS,
    GET_PEERS,
    HELLO,
    KINDS,
    MAX_NOTE,
    MAX_PAYLOAD,
    NOTES,
    Kind,
)

MAX_PEERS = 4
"""The shipped node's."""
ANSWER_MS = 10_000
FRAME_MS = 30_000
"""For one frame; 1 MiB at 35 kB/s."""
STRANGER_MS = 60_000
"""How long a connection without hello may say nothing."""
SILENT_MS = 30_000
"""After this a peer is asked for its peers: the reference drops peers without a word, and notices that it was dropped
itself only when a byte comes."""
MAX_MISSED = 2
LINKS_PER_ADDRESS = 2
"""The reference dials its bootstrap node twice and says the same hello on both."""
LIST_MS = 5_000
MAX_LISTED = 64
"""Addresses that are read from one list, and told in one."""
MAX_HINTS = 256
MAX_DIALS = 4
DIAL_AGAIN_MS = 10_000
DIAL_AGAIN_MOST_MS = 600_000
MAX_PENDING = 64
"""Our requests on one link."""


class Asked(msgspec.Struct, frozen=True):
    kind: Kind
    sent_ms: int
    about: bytes
    """The request's payload."""


class Link:
    """One connection."""

    def __init__(self, id_: int, host: str, dialled: str | None, now_ms: int, judge: "Judge") -> None:
        self.id = id_
        self.host = host
        """Where it was seen to come from."""
        self.dialled = dialled
        self.where = dialled
        """The address that it is known by; a claim when we did not dial it."""
        self.registered = False
        """Hello was said and accepted."""
        self.ours = False
        """It answers our own kinds."""
        self.reader = FrameReader(lambda head: judge(self, head))
        self.heard_ms = now_ms
        self.inside_since_ms = now_ms
        self.missed = 0
        self.asked: OrderedDict[int, Asked] = OrderedDict()
        self.count = Bucket(ALL_KINDS, now_ms)
        self.bytes = Bucket(ALL_BYTES, now_ms)
        self.rates: dict[bytes, Bucket] = {}


Judge = Callable[[Link, Head], PeerFault | None]


class Message(msgspec.Struct, frozen=True):
    """Something for the layers above: said, asked (answer it) or an answer to what they asked."""

    link: Link
    type: int
    id: int
    kind: Kind
    payload: bytes
    about: bytes = b""
    """Of an answer: the payload of its request."""


class Peering:
    def __init__(
        self,
        *,
        listen: str,
        bootstrap: Sequence[str],
        entropy: Callable[[int], bytes],
        max_peers: int = MAX_PEERS,
    ) -> None:
        """`listen`: the address told to others."""
        self.listen = listen
        self.max_peers = max_peers
        self._low = -(-max_peers // 2)
        self.links: dict[int, Link] = {}
        self.out: list[Effect] = []
        self._bootstrap = list(dict.fromkeys(bootstrap))
        self._entropy = entropy
        self._now_ms = 0
        self._next_id = 1
        self._hints: OrderedDict[str, None] = OrderedDict()
        """Addresses that others told, not dialled yet."""
        self._dialling: set[str] = set()
        self._failed: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """When an address may be dialled again, and the pause after that."""
        self._list_at_ms = 0
        self._notes = Bucket(NOTES, 0)

    # What the host tells

    def opened(self, now_ms: int, link: int, host: str, dialled: str | None) -> None:
        """`dialled`: the address of a Dial; None when the other side connected."""
        self._now_ms = now_ms
        self.links[link] = Link(link, host, dialled, now_ms, self._judge)
        if dialled is not None:
            self._dialling.discard(dialled)
            self.ask(self.links[link], HELLO, self.listen.encode())

    def dial_failed(self, now_ms: int, where: str) -> None:
        self._now_ms = now_ms
        self._dialling.discard(where)
        self._wait_longer(where)

    def lost(self, now_ms: int, link: int) -> None:
        self._now_ms = now_ms
        gone = self.links.pop(link, None)
        if gone is not None and gone.dialled is not None:
            self._wait_longer(gone.dialled)

    def receive(self, now_ms: int, link: int, data: bytes) -> Iterator[Message]:
        """What is for the layers above, one by one; all must be taken."""
        self._now_ms = now_ms
        one = self.links.get(link)
        if one is None:
            return
        one.heard_ms, one.missed = now_ms, 0
        if not one.reader.inside:
            one.inside_since_ms = now_ms
        try:
            for cut in one.reader.feed(data):
                one.inside_since_ms = now_ms
                message = self._read(one, cut)
                if message is not None:
                    yield message
                if one.id not in self.links:
                    return
        except PeerFault as fault:
            self.close(one, str(fault))

    def tick(self, now_ms: int) -> None:
        """Each second."""
        self._now_ms = now_ms
        for link in list(self.links.values()):
            self._expire(link)
        self._ask_for_peers()
        self._prune()
        self._dial()

    # What the layers above ask

    def peers(self) -> list[Link]:
        """One link for each address, the oldest: whoever claims an address later does not get its messages."""
        first: dict[tuple[str, str], Link] = {}
        for link in self.links.values():
            if link.registered:
                first.setdefault(self._identity(link), link)
        return list(first.values())

    def addresses(self) -> list[str]:
        """Of registered peers, in the order in which they came; as the reference, also the asker's own."""
        return list(
            dict.fromkeys(link.where for link in self.links.values() if link.registered and link.where)
        )

    def say(self, link: Link, kind: bytes, payload: bytes) -> None:
        self._send(link, Type.PLAIN, self._take_id(), kind, payload)

    def ask(self, link: Link, kind: Kind, payload: bytes) -> None:
        if len(link.asked) < MAX_PENDING:
            id_ = self._take_id()
            link.asked[id_] = Asked(kind, self._now_ms, payload)
            self._send(link, Type.REQUEST, id_, kind.name, payload)

    def answer(self, link: Link, id_: int, payload: bytes) -> None:
        self._send(link, Type.ANSWER, id_, b"", payload)

    def close(self, link: Link, why: str) -> None:
        """Nothing of it is read any more."""
        if self.links.pop(link.id, None) is not None:
            self.out.append(Close(link.id, why))
            self.note(f"left {link.where or link.host}: {why}")
            if link.dialled is not None:
                self._wait_longer(link.dialled)

    def note(self, text: str) -> None:
        """What a stranger caused, for the log, as far as it has room."""
        if self._notes.take(self._now_ms):
            self.out.append(Note(text[:MAX_NOTE]))

    # Frames

    def _judge(self, link: Link, head: Head) -> PeerFault | None:
        """Before a payload is kept. What the seed would ignore is skipped; what no node sends ends the connection."""
        if head.type > Type.ANSWER:
            raise PeerFault(PeerReason.BAD_FRAME, f"type {head.type}")
        if head.size > MAX_PAYLOAD:
            raise PeerFault(PeerReason.FRAME_TOO_LARGE, f"{head.size} bytes; at most {MAX_PAYLOAD}")
        if not (link.count.take(self._now_ms) and link.bytes.take(self._now_ms, head.size)):
            return PeerFault(PeerReason.RATE_EXCEEDED, "messages of all kinds")
        if head.type == Type.ANSWER:
            asked = link.asked.get(head.id)
            if asked is None:
                return PeerFault(PeerReason.UNSOLICITED_ANSWER, f"to request {head.id}")
            if head.size > asked.kind.answer_limit:
                return PeerFault(PeerReason.PAYLOAD_TOO_LARGE, f"{asked.kind.name!r}: {head.size}")
            return None
        kind = KINDS.get(head.kind)
        if kind is None:
            return PeerFault(PeerReason.UNKNOWN_KIND, repr(head.kind))
        if not (link.registered or kind.before_hello):
            return PeerFault(PeerReason.NOT_INTRODUCED, repr(head.kind))
        if head.size > kind.limit:
            return PeerFault(PeerReason.PAYLOAD_TOO_LARGE, f"{kind.name!r}: {head.size}")
        rate = link.rates.setdefault(kind.name, Bucket(kind.rate, self._now_ms))
        return None if rate.take(self._now_ms) else PeerFault(PeerReason.RATE_EXCEEDED, repr(kind.name))

    def _read(self, link: Link, cut: Cut) -> Message | None:
        head, payload = cut
        if isinstance(payload, PeerFault):
            return None
        if head.type == Type.ANSWER:
            asked = link.asked.pop(head.id, None)
            return None if asked is None else self._read_answer(link, head, asked, payload)
        kind = KINDS[head.kind]
        match kind.name:
            case HELLO.name if head.type == Type.REQUEST:
                self._welcome(link, head.id, payload)
            case GET_PEERS.name if head.type == Type.REQUEST:
                self.answer(link, head.id, self._list())
            case HELLO.name | GET_PEERS.name:
                pass  # the seed drops what its handler says to a message that is no request
            case _:
                return Message(link, head.type, head.id, kind, payload)
        return None

    def _read_answer(self, link: Link, head: Head, asked: Asked, payload: bytes) -> Message | None:
        match asked.kind.name:
            case HELLO.name:
                self._welcomed(link, payload)
            case GET_PEERS.name:
                self._hear_list(payload)
            case _:
                return Message(link, head.type, head.id, asked.kind, payload, asked.about)
        return None

    def _send(self, link: Link, type_: Type, id_: int, kind: bytes, payload: bytes) -> None:
        self.out.append(Send(link.id, frame(type_, id_, kind, payload)))

    def _take_id(self) -> int:
        """One counter over all connections, as the seed's."""
        id_ = self._next_id
        self._next_id = id_ % (2**32 - 1) + 1
        return id_

    # Hello

    def _welcome(self, link: Link, id_: int, payload: bytes) -> None:
        """Accept below twice `max_peers`; the list comes either way, and is made before the newcomer is on it."""
        where = self._claimed(link, payload)
        accepted = link.registered or (where is not None and self._has_place(link, where))
        self.answer(link, id_, (b"\1" if accepted else b"\0") + self._list())
        if not accepted:
            self.close(link, "no place for it" if where else "no address in its hello")
        elif not link.registered:
            link.where, link.registered = link.dialled or where, True
            self.note(f"peer {where} came")

    def _has_place(self, link: Link, where: str) -> bool:
        registered = [one for one in self.links.values() if one.registered]
        same = sum(one.where == where and one.host == link.host for one in registered)
        return where != self.listen and same < LINKS_PER_ADDRESS and len(registered) < 2 * self.max_peers

    def _claimed(self, link: Link, payload: bytes) -> str | None:
        """The address that a hello claims; where it came from stands for `0.0.0.0`, where nobody can be dialled."""
        text = _ascii(payload)
        parts = split_where(text) if text else None
        if parts is None or not parts[0] or any(not 32 < ord(one) < 127 or one in ",;" for one in parts[0]):
            return None
        return join_where(link.host, parts[1]) if parts[0] == "0.0.0.0" else text  # noqa: S104 - read, not bound

    def _welcomed(self, link: Link, payload: bytes) -> None:
        if payload[:1] not in (b"\0", b"\1"):
            self.close(link, "an answer to hello that is none")
            return
        self._hear_list(payload[1:])
        if payload[:1] == b"\0":
            self.close(link, "it has no place for us")
            return
        link.registered = True
        if link.dialled is not None:
            self._failed.pop(link.dialled, None)
        self.note(f"peer {link.where} accepted us")

    def _list(self) -> bytes:
        return ",".join(self.addresses()[:MAX_LISTED]).encode()

    def _hear_list(self, payload: bytes) -> None:
        """Only numeric addresses: nobody makes this node ask a name server."""
        for text in (_ascii(payload) or "").split(",")[:MAX_LISTED]:
            where = numeric_where(text)
            if where is not None and where != self.listen:
                self._hints[where] = None
        while len(self._hints) > MAX_HINTS:
            self._hints.popitem(last=False)

    # Time

    def _expire(self, link: Link) -> None:
        for id_, asked in list(link.asked.items()):
            if self._now_ms - asked.sent_ms < ANSWER_MS:
                break  # in the order in which they were sent
            del link.asked[id_]
            link.missed += asked.kind in (HELLO, GET_PEERS)
        silent_ms = self._now_ms - link.heard_ms
        if link.reader.inside and self._now_ms - link.inside_since_ms >= FRAME_MS:
            self.close(link, "its frame does not end")
        elif link.missed >= (MAX_MISSED if link.registered else 1):
            self.close(link, "it does not answer")
        elif not link.registered and link.dialled is None and silent_ms >= STRANGER_MS:
            self.close(link, "it says nothing")
        elif link.registered and silent_ms >= SILENT_MS and not self._is_asked(link):
            self.ask(link, GET_PEERS, b"")

    def _is_asked(self, link: Link) -> bool:
        return any(asked.kind is GET_PEERS for asked in link.asked.values())

    def _ask_for_peers(self) -> None:
        peers = self.peers()
        if not 0 < len(peers) < self._low or self._now_ms < self._list_at_ms:
            return
        self._list_at_ms = self._now_ms + LIST_MS
        for link in peers:
            if not self._is_asked(link):
                self.ask(link, GET_PEERS, b"")

    def _prune(self) -> None:
        """Above `max_peers` one a second goes, any of those that came to us; the ones we chose stay."""
        inbound = [link for link in self.links.values() if link.registered and link.dialled is None]
        if inbound and len(self.peers()) > self.max_peers:
            self.close(self._draw(inbound), "more peers than wanted")

    def _dial(self) -> None:
        peers = self.peers()
        known = {link.where for link in self.links.values()} | self._dialling
        wanted = self._bootstrap if not peers else []
        if peers and self._wants_more(peers):
            wanted = list(self._hints)
        ready = [one for one in wanted if one not in known and self._may_dial(one)]
        room = min(MAX_DIALS, max(self.max_peers - len(peers), 1)) - len(self._dialling)
        while ready and room > 0:
            where = ready[0] if not peers else self._draw(ready)
            ready.remove(where)
            self._hints.pop(where, None)
            self._dialling.add(where)
            self.out.append(Dial(where))
            room -= 1
        if not peers and not ready and not self._dialling:
            self._try_hint(known)

    def _wants_more(self, peers: Sequence[Link]) -> bool:
        """Half of the peers are chosen by us, however many strangers came first."""
        chosen = sum(link.dialled is not None for link in peers) + len(self._dialling)
        return len(peers) + len(self._dialling) < self.max_peers or chosen < self._low

    def _try_hint(self, known: set[str | None]) -> None:
        """Nobody of the bootstrap list has a place: the lists that came with the refusals."""
        ready = [one for one in self._hints if one not in known and self._may_dial(one)]
        if ready:
            where = self._draw(ready)
            self._hints.pop(where, None)
            self._dialling.add(where)
            self.out.append(Dial(where))

    def _may_dial(self, where: str) -> bool:
        return where not in self._failed or self._now_ms >= self._failed[where][0]

    def _wait_longer(self, where: str) -> None:
        pause = min(self._failed.get(where, (0, DIAL_AGAIN_MS // 2))[1] * 2, DIAL_AGAIN_MOST_MS)
        if where in self._bootstrap:
            pause = min(pause, DIAL_AGAIN_MS)
        self._failed[where] = (self._now_ms + pause, pause)
        self._failed.move_to_end(where)
        if len(self._failed) > 4 * MAX_HINTS:
            self._failed.popitem(last=False)

    def _draw(self, among: Sequence[Any]) -> Any:
        return among[int.from_bytes(self._entropy(4), "big") % len(among)]

    def _identity(self, link: Link) -> tuple[str, str]:
        return link.host, link.where or ""


def _ascii(payload: bytes) -> str | None:
    try:
        return payload.decode("ascii")
    except UnicodeDecodeError:
        return None
