"""Connections without a network: for the simulator and for tests of what stands above. Time is whoever schedules."""

from collections import deque
from collections.abc import Callable
from functools import partial

from aitbc.core.peer.addresses import split_where
from aitbc.core.peer.frames import MAX_BODY
from aitbc.core.peer.kinds import Lane
from aitbc.core.peer.links import (
    Clogged,
    Close,
    Dial,
    DialFailed,
    Linked,
    LinkEvent,
    Received,
    Send,
    Throttle,
    Unlinked,
)
from aitbc.core.peer.reasons import PeerReason

MAX_QUEUE_BYTES = 2 * MAX_BODY
MAX_CHUNK = 65_519
"""As much as a record of the real thing carries, so that frames come in pieces here too."""

RETRY_MS = 200
"""How often a closed road is tried."""

Later = Callable[[int, Callable[[], None]], None]
"""Does something after so many milliseconds."""


class MemorySwitch:
    """What connects the transports of one world; the place to lose and to delay."""

    def __init__(
        self, later: Later, *, latency_ms: Callable[[str, str], int | None] = lambda _a, _b: 1
    ) -> None:
        """`latency_ms` from one address to another; None: nothing gets through."""
        self.later = later
        self.latency_ms = latency_ms
        self.listening: dict[str, MemoryTransport] = {}


class _End:
    """One side of a connection."""

    def __init__(self, owner: "MemoryTransport", link: int, where: str) -> None:
        self.owner = owner
        self.link = link
        self.where = where
        """Of the other side."""
        self.other: _End | None = None
        self.open = True
        self.lanes: dict[Lane, deque[bytes]] = {lane: deque() for lane in Lane}
        self.rest = b""
        """Of a frame that has begun."""
        self.queued = 0
        self.flying: deque[_Piece] = deque()
        """What is on its way, in order."""
        self.waiting = False
        """For a road that is closed."""
        self.clogged = False
        self.throttles = 0
        self.closing: PeerReason | None = None


class _Piece:
    """Bytes between two ends."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.is_due = False


class MemoryTransport:
    """See `aitbc.ports.Transport`."""

    def __init__(self, switch: MemorySwitch, *, key: bytes, where: str, listens: bool = True) -> None:
        """`key`: public node key; `where`: the address this node is seen at."""
        self.key = key
        self.where = where
        self._switch = switch
        self._listens = listens
        self._ends: dict[int, _End] = {}
        self._next_link = 1
        self._hear: Callable[[LinkEvent], None] | None = None
        self._admits: Callable[[str], bool] = lambda _: True

    async def start(self, hear: Callable[[LinkEvent], None], admits: Callable[[str], bool]) -> str:
        return self.start_now(hear, admits)

    def start_now(self, hear: Callable[[LinkEvent], None], admits: Callable[[str], bool]) -> str:
        """As `start`; a simulation awaits nothing."""
        self._hear, self._admits = hear, admits
        if not self._listens:
            return ""
        self._switch.listening[self.where] = self
        return self.where

    async def stop(self) -> None:
        self.stop_now()

    def stop_now(self) -> None:
        """As a process that is killed: the others hear that the connection is lost."""
        self._hear = None
        if self._switch.listening.get(self.where) is self:
            del self._switch.listening[self.where]
        for end in list(self._ends.values()):
            self._drop(end, PeerReason.LOST)

    def dial(self, effect: Dial) -> None:
        delay = self._switch.latency_ms(self.where, effect.where)
        self._switch.later(3_000 if delay is None else 2 * delay, lambda: self._connect(effect))

    def send(self, effect: Send) -> None:
        end = self._ends.get(effect.link)
        if end is None or end.closing is not None or end.clogged:
            return
        if end.queued + len(effect.data) > MAX_QUEUE_BYTES:
            self._clog(end)
            return
        end.lanes[effect.lane].append(effect.data)
        end.queued += len(effect.data)
        self._move(end)

    def close(self, effect: Close) -> None:
        end = self._ends.get(effect.link)
        if end is None or end.closing is not None:
            return
        end.closing = effect.reason
        if effect.drop_queue:
            for lane in end.lanes.values():
                lane.clear()
        if effect.farewell:
            end.lanes[Lane.BULK].append(effect.farewell)
        self._switch.later(1_000, lambda: self._drop(end, effect.reason))
        self._move(end)

    def throttle(self, effect: Throttle) -> None:
        end = self._ends.get(effect.link)
        if end is None:
            return
        end.throttles += 1

        def release() -> None:
            end.throttles -= 1
            if end.other is not None:
                end.other.owner._move(end.other)

        self._switch.later(effect.for_ms, release)

    @property
    def links(self) -> list[int]:
        return list(self._ends)

    def tear(self, link: int) -> None:
        """As a cable that is pulled: both sides hear that the connection is lost, and what was on its way is gone."""
        end = self._ends.get(link)
        if end is not None:
            self._drop(end, PeerReason.LOST)

    # Inside

    def _tell(self, event: LinkEvent) -> None:
        if self._hear is not None:
            self._hear(event)

    def _connect(self, effect: Dial) -> None:
        if self._hear is None:
            return
        target = self._switch.listening.get(effect.where)
        if target is None or self._switch.latency_ms(self.where, effect.where) is None:
            self._tell(DialFailed(effect.dial, PeerReason.DIAL_FAILED, "nobody answers"))
        elif not target._admits(self.where):
            self._tell(DialFailed(effect.dial, PeerReason.LOST, "hung up"))
        elif effect.key and effect.key != target.key:
            self._tell(DialFailed(effect.dial, PeerReason.WRONG_PEER, target.key.hex()))
        else:
            ours = self._open(_seen(target.where))
            theirs = target._open(_seen(self.where))
            ours.other, theirs.other = theirs, ours
            self._tell(Linked(ours.link, target.key, ours.where, effect.dial))
            target._tell(Linked(theirs.link, self.key, theirs.where, None))

    def _open(self, where: str) -> _End:
        end = _End(self, self._next_link, where)
        self._ends[end.link] = end
        self._next_link += 1
        return end

    def _clog(self, end: _End) -> None:
        end.clogged = True

        def tell() -> None:
            if end.open:
                self._tell(Clogged(end.link))

        self._switch.later(0, tell)

    def _move(self, end: _End) -> None:
        """Send what there is, as far as one record's room is free on the way and the other side reads."""
        other = end.other
        if not end.open or other is None or other.throttles:
            return
        delay = self._switch.latency_ms(self.where, other.owner.where)
        if delay is None:  # a cut cable: nothing comes and nothing is heard, until it is mended
            self._again(end)
            return
        while data := _next_piece(end, MAX_CHUNK - sum(len(piece.data) for piece in end.flying)):
            piece = _Piece(data)
            end.flying.append(piece)
            self._switch.later(delay, partial(self._due, end, piece))
        if end.closing is not None and not end.flying and not _has_more(end):
            self._switch.later(delay, partial(self._drop, end, end.closing))

    def _due(self, end: _End, piece: _Piece) -> None:
        """A piece would be there; it waits for those before it."""
        piece.is_due = True
        while end.flying and end.flying[0].is_due:
            data, other = end.flying.popleft().data, end.other
            end.queued = max(0, end.queued - len(data))
            if end.open and other is not None and other.open and other.closing is None:
                other.owner._tell(Received(other.link, data))
        self._move(end)

    def _again(self, end: _End) -> None:
        """Try to move later; one try at a time."""
        if not end.waiting:
            end.waiting = True

            def retry() -> None:
                end.waiting = False
                self._move(end)

            self._switch.later(RETRY_MS, retry)

    def _drop(self, end: _End, reason: PeerReason) -> None:
        """The connection is over here; the other side hears of it when the road is open."""
        if not end.open:
            return
        end.open = False
        del self._ends[end.link]
        self._tell(Unlinked(end.link, end.closing or reason, "closed"))
        if end.other is not None:
            end.other.other = None
            end.other.owner._notice(end.other, self.where)

    def _notice(self, end: _End, where: str) -> None:
        if self._switch.latency_ms(where, self.where) is None:
            self._switch.later(RETRY_MS, lambda: self._notice(end, where))
        else:
            self._drop(end, PeerReason.LOST)


def _has_more(end: _End) -> bool:
    return bool(end.rest) or any(end.lanes.values())


def _next_piece(end: _End, room: int) -> bytes:
    """What is sent next: the rest of a frame that has begun, then urgent frames, then bulk."""
    parts = []
    while room > 0:
        if not end.rest:
            lane = next((lane for lane in (Lane.URGENT, Lane.BULK) if end.lanes[lane]), None)
            if lane is None:
                break
            end.rest = end.lanes[lane].popleft()
        parts.append(end.rest[:room])
        end.rest = end.rest[room:]
        room -= len(parts[-1])
    return b"".join(parts)


def _seen(where: str) -> str:
    assert split_where(where) is not None, f"{where} is no address"
    return where
