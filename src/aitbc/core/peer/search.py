"""What no direct peer has is searched for among theirs, and the answer comes back the way the question went.
docs/spec/p2p.md "Search"

Seed 004's search on requests: each hop asks the next and answers the one before, so the way back needs no table of its
own for what was refused, timed out or lost. Its id is the searcher's and stays the same to the end, so that a question
that comes round is known. Every hop checks the answer against the hash before it passes it on: a wrong one is the fault
of who sent it.
"""

from collections import Counter, OrderedDict
from hashlib import sha256

import msgspec

from aitbc.core.peer.kinds import SEARCH_HOPS, Kind, Search
from aitbc.core.peer.messages import Held
from aitbc.core.peer.peering import Peering
from aitbc.core.peer.peers import PeerEffect, Replied, Requested, Unreplied
from aitbc.core.peer.reasons import PeerReason

SEARCH_TICKET = 1 << 61
"""Tickets from here up to gossip's are ours."""
FANOUT = 3
"""Peers that a question is passed on to: with four hops it reaches 120 nodes at most."""
HOP_MS = 2_000
"""A node waits for so long for each hop that is left, and once more: always less than who asked it (four times, and the
kind's timeout for the searcher itself)."""
MAX_PATHS = 128
"""Questions of others that are open here; each costs three requests at most."""
MAX_PATHS_OF_PEER = 8
MAX_OWN = 16
"""Own searches at once."""
AGAIN_MS = 10_000
"""What was not found is not searched for again sooner."""
MAX_SEARCHED = 1_024
SEEN_MS = 30_000
"""The seed's time; a question lives for 8 seconds."""
MAX_SEEN = 4_096
MAX_EXAMINED = 8
"""Answers that are held until they are checked: as many largest blocks."""


class LookUp(msgspec.Struct, frozen=True):
    """Does the node have it? The host calls `looked` with this id."""

    id: bytes
    kind: Kind
    hash: bytes


class Examine(msgspec.Struct, frozen=True):
    """Is this what the hash names? The host calls `examined` with this ticket."""

    ticket: int
    kind: Kind
    hash: bytes
    content: bytes


class Found(msgspec.Struct, frozen=True):
    """What this node searched for, examined."""

    kind: Kind
    hash: bytes
    content: bytes


class NotFound(msgspec.Struct, frozen=True):
    kind: Kind
    hash: bytes


SearchEffect = PeerEffect | LookUp | Examine | Found | NotFound


class _Path(msgspec.Struct):
    """A question that is open here, and where it came from."""

    id: bytes
    kind: Kind
    hash: bytes
    hops: int
    """How often it may be passed on from here, this time included."""
    until_ms: int
    request: Requested | None
    """None for a search of our own."""
    asked: dict[int, bytes]
    """Ticket → peer, of those who have not said no yet."""


class Searching:
    def __init__(self, peering: Peering, *, secret: bytes) -> None:
        """`secret`: nobody can know the ids of our searches before we ask."""
        self._peering = peering
        self._secret = secret
        self._count = 0
        self._ticket = SEARCH_TICKET
        self._paths: OrderedDict[bytes, _Path] = OrderedDict()
        self._of_peer: Counter[bytes] = Counter()
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        self._searched: OrderedDict[bytes, int] = OrderedDict()
        """Hash → when we searched for it last."""
        self._tickets: dict[int, _Path] = {}
        self._examined: dict[int, Replied] = {}

    def held(self) -> Held:
        """What is kept, and the most of each."""
        most = MAX_PATHS + MAX_OWN
        return {
            "searches": (len(self._paths), most),
            "searches of one": (max(self._of_peer.values(), default=0), MAX_PATHS_OF_PEER),
            "search tickets": (len(self._tickets), FANOUT * most),
            "searches seen": (len(self._seen), MAX_SEEN),
            "searched": (len(self._searched), MAX_SEARCHED),
            "examined": (len(self._examined), MAX_EXAMINED),
        }

    # Our own

    def begin(self, now_ms: int, kind: Kind, hash_: bytes) -> list[SearchEffect]:
        """Search, unless that was done a moment ago or too much is searched for already. `Found` or `NotFound`
        follows."""
        own = sum(path.request is None for path in self._paths.values())
        if abs(now_ms - self._searched.get(hash_, -AGAIN_MS)) < AGAIN_MS or own >= MAX_OWN:
            return []
        self._searched[hash_] = now_ms
        self._searched.move_to_end(hash_)
        if len(self._searched) > MAX_SEARCHED:
            self._searched.popitem(last=False)
        self._count += 1
        id_ = sha256(self._secret + self._count.to_bytes(8, "big")).digest()[:16]
        path = _Path(id_, kind, hash_, SEARCH_HOPS + 1, now_ms + kind.timeout_ms, None, {})
        self._open(now_ms, path)
        return self._pass_on(now_ms, path)

    # Others'

    def asked(self, now_ms: int, request: Requested) -> list[SearchEffect]:
        """A peer searches, or passes on a search."""
        search: Search = request.message
        if search.id in self._seen:
            return [*self._peering.refuse(request, PeerReason.UNAVAILABLE)]
        if len(self._paths) >= MAX_PATHS or self._of_peer[request.key] >= MAX_PATHS_OF_PEER:
            return [*self._peering.refuse(request, PeerReason.TOO_MANY_REQUESTS)]
        until_ms = now_ms + HOP_MS * (search.hops + 1)
        self._open(now_ms, _Path(search.id, request.kind, search.hash, search.hops, until_ms, request, {}))
        return [LookUp(search.id, request.kind, search.hash)]

    def looked(self, now_ms: int, id_: bytes, content: bytes | None) -> list[SearchEffect]:
        """What the host found at home."""
        path = self._paths.get(id_)
        if path is None or path.request is None:
            return []
        if content is None:
            return self._pass_on(now_ms, path)
        self._close(path)
        return [*self._peering.answer(path.request, content)]

    # Answers

    def replied(self, now_ms: int, reply: Replied) -> list[SearchEffect]:
        """A peer says that this is it."""
        path = self._tickets.get(reply.ticket)
        if path is None:
            return []  # another was quicker, or it is too late
        if len(self._examined) >= MAX_EXAMINED:
            return self._drop(path, reply.ticket)
        self._examined[reply.ticket] = reply
        return [Examine(reply.ticket, path.kind, path.hash, reply.message)]

    def examined(self, now_ms: int, ticket: int, *, good: bool) -> list[SearchEffect]:
        """The host's word on an answer."""
        reply, path = self._examined.pop(ticket), self._tickets.get(ticket)
        if not good:
            blame = self._peering.blame(now_ms, reply.key, PeerReason.INVALID, f"{reply.kind.name}: another")
            return [*blame, *(self._drop(path, ticket) if path else [])]
        self._peering.credit(now_ms, reply.key)
        if path is None:
            return []
        self._close(path)
        if path.request is None:
            return [Found(path.kind, path.hash, reply.message)]
        return [*self._peering.answer(path.request, reply.message)]

    def unreplied(self, now_ms: int, failure: Unreplied) -> list[SearchEffect]:
        """A peer has nothing, or is gone."""
        path = self._tickets.get(failure.ticket)
        return [] if path is None else self._drop(path, failure.ticket)

    def tick(self, now_ms: int) -> list[SearchEffect]:
        """Give up what has taken too long."""
        while self._seen and abs(now_ms - next(iter(self._seen.values()))) >= SEEN_MS:
            self._seen.popitem(last=False)
        late = [path for path in self._paths.values() if now_ms >= path.until_ms]
        return [effect for path in late for effect in self._give_up(path)]

    # Paths

    def _open(self, now_ms: int, path: _Path) -> None:
        self._paths[path.id] = path
        self._seen[path.id] = now_ms
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        if path.request is not None:
            self._of_peer[path.request.key] += 1

    def _pass_on(self, now_ms: int, path: _Path) -> list[SearchEffect]:
        """To a few, never back; which ones depends on the question, so that the next one takes other ways."""
        came_from = path.request.key if path.request else b""
        others = [key for key in self._peering.peers if key != came_from] if path.hops else []
        others.sort(key=lambda key: sha256(path.id + key).digest())
        for key in others[:FANOUT]:
            self._ticket += 1
            path.asked[self._ticket] = key
            self._tickets[self._ticket] = path
        if not path.asked:
            return self._give_up(path)
        search = Search(path.id, path.hash, path.hops - 1)
        effects: list[SearchEffect] = []
        for ticket, key in path.asked.items():
            effects += self._peering.ask(now_ms, key, path.kind, search, ticket=ticket)
        return effects

    def _drop(self, path: _Path, ticket: int) -> list[SearchEffect]:
        """One of those who were asked does not have it; after the last, nobody does."""
        del path.asked[ticket], self._tickets[ticket]
        return [] if path.asked else self._give_up(path)

    def _give_up(self, path: _Path) -> list[SearchEffect]:
        self._close(path)
        if path.request is None:
            return [NotFound(path.kind, path.hash)]
        return [*self._peering.refuse(path.request, PeerReason.UNAVAILABLE)]

    def _close(self, path: _Path) -> None:
        del self._paths[path.id]
        for ticket in path.asked:
            del self._tickets[ticket]
        if path.request is not None:
            self._of_peer[path.request.key] -= 1
            self._of_peer += Counter()  # forgets who has none
