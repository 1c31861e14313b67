"""Connections to other nodes over TCP: sockets, handshakes, queues and their limits. docs/spec/p2p.md "Limits"

Bytes are what this room knows; who is welcome and what is said is decided in `core.peer`.
"""

import asyncio
import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum

import msgspec

from aitbc.core.peer.addresses import LOCAL, group_of, join_where, numeric_where, owner_of, split_where
from aitbc.core.peer.channel import MAX_PLAINTEXT, Channel
from aitbc.core.peer.frames import MAX_BODY
from aitbc.core.peer.handshake import KEY_BYTES, Handshake, public_key_of
from aitbc.core.peer.kinds import Lane, Rate
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
from aitbc.core.peer.messages import Bucket
from aitbc.core.peer.reasons import PeerFault, PeerReason
from aitbc.ports import StorageError

MB = 1024 * 1024


class TcpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of this room; defaults are for a node in the open."""

    handshake_s: float = 5.0
    dial_s: float = 3.0
    linger_s: float = 1.0
    """For the last words."""
    stuck_s: float = 20.0
    """A socket that takes nothing for so long has a reader that is gone or too slow."""
    sockets_per_address: int = 8
    sockets_per_local_address: int = 512
    """One machine or house runs many nodes, as a devnet does."""
    half_open: int = 256
    """Inbound connections that have not finished the handshake; above it, the oldest of the busiest address goes."""
    handshakes: Rate = Rate(400, 800)
    """Begun by others, each second: a fifth of a core; more wait for their turn."""
    queue_bytes: int = 2 * MAX_BODY
    """Of one link, not yet in its socket."""
    read: Rate = Rate(8 * MB, 16 * MB)
    """Bytes of one link; more waits in the sender's socket."""


class State(Enum):
    HANDSHAKE = 0
    OPEN = 1
    CLOSING = 2
    OVER = 3


WRITE_BUFFER = 64 * 1024
"""Encrypted bytes in front of the socket: what is in there, nothing urgent overtakes."""
RETRY_S = 0.05


class TcpTransport:
    """See `aitbc.ports.Transport`."""

    def __init__(
        self,
        *,
        static: bytes,
        prologue: bytes,
        listen: tuple[str, int] | None,
        limits: TcpLimits | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`static`: private node key; `listen`: host and port, port 0 for any, None for a node that only dials."""
        self.limits = limits or TcpLimits()
        self.key = public_key_of(static)
        self.refused: Counter[PeerReason] = Counter()
        """Connections that never became links, by reason."""
        self._static = static
        self._prologue = prologue
        self._listen = listen
        self._entropy = entropy
        self._hear: Callable[[LinkEvent], None] | None = None
        self._admits: Callable[[str], bool] = lambda _: True
        self._server: asyncio.Server | None = None
        self._links: dict[int, _Connection] = {}
        self._next_link = 1
        self._dials: set[asyncio.Task[None]] = set()
        self._under_way: set[int] = set()
        """Dials that have not ended."""
        self._connections: set[_Connection] = set()
        self._sockets: Counter[str] = Counter()
        self._half_open: dict[str, dict[_Connection, None]] = {}
        self._half_open_count = 0

    async def start(self, hear: Callable[[LinkEvent], None], admits: Callable[[str], bool]) -> str:
        self.loop = asyncio.get_running_loop()
        self._hear, self._admits = hear, admits
        self._handshakes = Bucket(self.limits.handshakes, self.now_ms())
        if self._listen is None:
            return ""
        host, port = self._listen
        try:
            self._server = await self.loop.create_server(
                lambda: _Connection(self, None), host, port, backlog=512
            )
        except OSError as error:
            raise StorageError(
                f"{join_where(host, port)} cannot be listened on ({error.strerror}):"
                " stop what uses it, or choose another port"
            ) from None
        name = self._server.sockets[0].getsockname()
        return join_where(name[0], name[1])

    def dial(self, effect: Dial) -> None:
        self._under_way.add(effect.dial)
        task = self.loop.create_task(self._dial(effect))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    def send(self, effect: Send) -> None:
        connection = self._links.get(effect.link)
        if connection is not None:
            connection.send(effect.data, effect.lane)

    def close(self, effect: Close) -> None:
        connection = self._links.get(effect.link)
        if connection is not None:
            connection.close(effect)

    def throttle(self, effect: Throttle) -> None:
        connection = self._links.get(effect.link)
        if connection is not None:
            connection.hold("throttle", effect.for_ms / 1000)

    async def stop(self) -> None:
        """Links that were closed keep their second for the last words; the others end now."""
        if self._server is not None:
            self._server.close()
        for task in list(self._dials):
            task.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for connection in list(self._connections):
            if connection.state is not State.CLOSING:
                connection.abort(PeerReason.LEAVING, "this node stops")
        deadline = self.loop.time() + self.limits.linger_s
        while self._connections and self.loop.time() < deadline:
            await asyncio.sleep(0.005)
        self._hear = None
        for connection in list(self._connections):
            connection.abort(PeerReason.LEAVING, "this node stops")
        while self._connections:
            await asyncio.sleep(0)

    # For connections

    def now_ms(self) -> int:
        return int(self.loop.time() * 1000)

    def tell(self, event: LinkEvent) -> None:
        if self._hear is not None:
            self._hear(event)

    def channel(self, *, initiator: bool) -> Channel:
        return Channel(
            Handshake(
                initiator=initiator,
                prologue=self._prologue,
                static=self._static,
                ephemeral=self._entropy(KEY_BYTES),
            )
        )

    def came(self, connection: "_Connection") -> PeerReason | None:
        """Somebody connected: why not, or a place among the half-open, which may cost another its own."""
        whose = connection.whose
        self._sockets[whose] += 1
        if self._hear is None or not self._admits(connection.where):
            return PeerReason.BANNED
        if self._sockets[whose] > self._most_of(connection.where) and not self._evict(whose):
            return PeerReason.TOO_MANY_SOCKETS
        if self._half_open_count >= self.limits.half_open:
            self._evict(max(self._half_open, key=lambda one: len(self._half_open[one])))
        self._half_open.setdefault(whose, {})[connection] = None
        self._half_open_count += 1
        return None

    def holds(self, connection: "_Connection") -> None:
        """A socket of ours, whoever opened it, until `over`."""
        self._connections.add(connection)

    def may_shake_hands(self) -> bool:
        return self._handshakes.take(self.now_ms())

    def opened(self, connection: "_Connection") -> PeerFault | None:
        """The other side has proved its key; a fault when it is the wrong one."""
        self._no_longer_half_open(connection)
        dial = connection.dial
        remote = connection.channel.remote
        if dial is not None and dial.key and remote != dial.key:
            return PeerFault(PeerReason.WRONG_PEER, f"{remote.hex()} answers")
        if dial is not None:
            if dial.dial not in self._under_way:
                return PeerFault(PeerReason.DIAL_FAILED, "too late")
            self._under_way.discard(dial.dial)
        connection.link = self._next_link
        self._next_link += 1
        self._links[connection.link] = connection
        connection.state = State.OPEN
        self.tell(Linked(connection.link, remote, connection.where, dial.dial if dial else None))
        return None

    def over(self, connection: "_Connection", reason: PeerReason, message: str) -> None:
        """A connection has ended: the one place that says so."""
        self._connections.discard(connection)
        self._no_longer_half_open(connection)
        if connection.dial is None:
            self._sockets[connection.whose] -= 1
            if not self._sockets[connection.whose]:
                del self._sockets[connection.whose]
        if connection.link is not None:
            del self._links[connection.link]
            self.tell(Unlinked(connection.link, reason, message))
        elif connection.dial is not None:
            self._dial_failed(connection.dial.dial, reason, message)
        else:
            self.refused[reason] += 1

    def gave_up(self, connection: "_Connection") -> None:
        """Its place is free, although its socket is not closed yet."""
        self._no_longer_half_open(connection)

    # Inside

    def _dial_failed(self, dial: int, reason: PeerReason, message: str) -> None:
        if dial in self._under_way:
            self._under_way.discard(dial)
            self.tell(DialFailed(dial, reason, message))

    async def _dial(self, effect: Dial) -> None:
        parts = split_where(effect.where)
        if parts is None:
            self._dial_failed(effect.dial, PeerReason.DIAL_FAILED, "not host:port")
            return
        try:
            async with asyncio.timeout(self.limits.dial_s):
                await self.loop.create_connection(lambda: _Connection(self, effect), *parts)
        except (OSError, TimeoutError, UnicodeError) as error:
            message = getattr(error, "strerror", None) or type(error).__name__
            self._dial_failed(effect.dial, PeerReason.DIAL_FAILED, str(message))

    def _most_of(self, where: str) -> int:
        local = group_of(where) == LOCAL
        return self.limits.sockets_per_local_address if local else self.limits.sockets_per_address

    def _evict(self, whose: str) -> bool:
        """End the oldest half-open connection of an owner: an honest handshake takes milliseconds."""
        waiting = self._half_open.get(whose)
        if not waiting:
            return False
        next(iter(waiting)).abort(PeerReason.HALF_OPEN, "made room for another")
        return True

    def _no_longer_half_open(self, connection: "_Connection") -> None:
        waiting = self._half_open.get(connection.whose)
        if waiting is not None and connection in waiting:
            del waiting[connection]
            self._half_open_count -= 1
            if not waiting:
                del self._half_open[connection.whose]


class _Connection(asyncio.Protocol):
    """One socket from its first byte to its last."""

    def __init__(self, owner: TcpTransport, dial: Dial | None) -> None:
        self.owner = owner
        self.dial = dial
        self.link: int | None = None
        self.where = ""
        self.whose = ""
        """Whom it is counted for: an IPv4 address, an IPv6 /64, which one house has, or a local address by itself."""
        self.state = State.HANDSHAKE
        self.channel = owner.channel(initiator=dial is not None)
        self._transport: asyncio.Transport | None = None
        self._reason, self._message = PeerReason.LOST, "the other side ended it"
        self._timer: asyncio.TimerHandle | None = None
        """Of the handshake, then of the last words."""
        self._stuck: asyncio.TimerHandle | None = None
        self._lanes: dict[Lane, deque[bytes]] = {Lane.URGENT: deque(), Lane.BULK: deque()}
        self._rest = b""
        """Of a frame that has begun."""
        self._queued = 0
        self._flushing = False
        self._writable = True
        self._clogged = False
        self._greeted = dial is not None
        self._reads = Bucket(owner.limits.read, owner.now_ms())
        self._holds: set[str] = set()

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        assert self._transport is not None
        peer = transport.get_extra_info("peername") or ("", 0)
        where = join_where(peer[0], peer[1])
        self.where = numeric_where(where) or where  # an IPv4 address has one spelling, also on an IPv6 socket
        parts = split_where(self.where)
        self.whose = owner_of(self.where) or (parts[0] if parts else peer[0])
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.owner.holds(self)
        if self.dial is None:
            refusal = self.owner.came(self)
            if refusal is not None:
                self.abort(refusal, "")
                return
        self._timer = self.owner.loop.call_later(
            self.owner.limits.handshake_s, self.abort, PeerReason.HANDSHAKE_TIMEOUT, "no handshake in time"
        )
        self._write_handshake()

    def data_received(self, data: bytes) -> None:
        if self.state in (State.CLOSING, State.OVER):
            return
        if not self._greeted and not self.owner.may_shake_hands():
            self.hold("handshakes", RETRY_S, lambda: self.data_received(data))
            return
        self._greeted = True
        if not self._reads.take(self.owner.now_ms(), len(data)):
            rate = self.owner.limits.read.per_second
            self.hold("rate", len(data) / rate)  # what is here is taken; the next waits until it is paid for
        try:
            plaintexts = self.channel.receive(data)
            if self.state is State.HANDSHAKE:
                self._shake()
        except PeerFault as fault:
            self.abort(fault.reason, fault.message)
            return
        if plaintexts and self.link is not None:
            whole = plaintexts[0] if len(plaintexts) == 1 else b"".join(plaintexts)
            self.owner.tell(Received(self.link, whole))

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable = False
        self._stuck = self.owner.loop.call_later(self.owner.limits.stuck_s, self._clog)

    def resume_writing(self) -> None:
        self._writable = True
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and self.state in (State.HANDSHAKE, State.OPEN):
            self._message = str(error)
        self.state = State.OVER
        for timer in (self._timer, self._stuck):
            if timer is not None:
                timer.cancel()
        for lane in self._lanes.values():
            lane.clear()
        self.owner.over(self, self._reason, self._message)

    # What the transport asks

    def send(self, data: bytes, lane: Lane) -> None:
        if self.state is not State.OPEN or self._clogged:
            return
        if self._queued + len(data) > self.owner.limits.queue_bytes:
            self._clog()
            return
        self._lanes[lane].append(data)
        self._queued += len(data)
        if self._writable and not self._flushing:
            self._flushing = True
            self.owner.loop.call_soon(self._flush)

    def close(self, effect: Close) -> None:
        if self.state is not State.OPEN:
            return
        self.state = State.CLOSING
        self._reason, self._message = effect.reason, "closed by this node"
        if effect.drop_queue:
            for lane in self._lanes.values():
                lane.clear()
        if effect.farewell:
            self._lanes[Lane.BULK].append(effect.farewell)
        self._timer = self.owner.loop.call_later(self.owner.limits.linger_s, self._give_up)
        self._flush()

    def abort(self, reason: PeerReason, message: str) -> None:
        """End it now."""
        if self.state is State.CLOSING:
            self._give_up()
        elif self.state is not State.OVER:
            self.state = State.OVER
            self._reason, self._message = reason, message
            self.owner.gave_up(self)
            self._give_up()

    def hold(self, why: str, seconds: float, then: Callable[[], None] | None = None) -> None:
        """Read nothing for a while; the reasons do not end each other."""
        if why in self._holds or self._transport is None:
            return
        self._holds.add(why)
        self._transport.pause_reading()
        self.owner.loop.call_later(seconds, self._release, why, then)

    # Inside

    def _release(self, why: str, then: Callable[[], None] | None) -> None:
        self._holds.discard(why)
        if self.state is State.OVER or self._transport is None:
            return
        if not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()
        if then is not None:
            then()

    def _shake(self) -> None:
        """Say the next word of the handshake; when all is said, the link is there."""
        self._write_handshake()
        if not self.channel.open:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.state = State.OPEN  # whoever hears of the link may send at once
        fault = self.owner.opened(self)
        if fault is not None:
            raise fault

    def _write_handshake(self) -> None:
        data = self.channel.outgoing()
        if data and self._transport is not None:
            self._transport.write(data)

    def _flush(self) -> None:
        """Encrypt and write while the socket takes it: as much as fits in a record, urgent frames first."""
        self._flushing = False
        if self._transport is None or self.state is State.OVER:
            return
        while self._writable:
            plaintext = self._next_plaintext()
            if not plaintext:
                if self.state is State.CLOSING and not self._transport.is_closing():
                    self._finish()
                return
            try:
                self._transport.write(self.channel.seal(plaintext))
            except PeerFault as fault:
                self.abort(fault.reason, fault.message)
                return

    def _next_plaintext(self) -> bytes:
        urgent, bulk = self._lanes[Lane.URGENT], self._lanes[Lane.BULK]
        if not self._rest and not bulk and len(urgent) == 1 and len(urgent[0]) <= MAX_PLAINTEXT:
            data = urgent.popleft()
            self._queued -= len(data)
            return data
        parts: list[bytes] = []
        room = MAX_PLAINTEXT
        while room and (self._rest or urgent or bulk):
            if not self._rest:
                self._rest = (urgent or bulk).popleft()
            part = self._rest[:room]
            self._rest = self._rest[room:]
            room -= len(part)
            parts.append(part)
        self._queued -= MAX_PLAINTEXT - room
        return b"".join(parts)

    def _finish(self) -> None:
        """All is said: end our direction and let the other side read it; a close at once could tear it up."""
        assert self._transport is not None
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the other side has torn it up, and we have not heard yet
                self._transport.write_eof()
        if self._holds:
            self._holds.clear()
            self._transport.resume_reading()

    def _clog(self) -> None:
        if not self._clogged and self.state is State.OPEN and self.link is not None:
            self._clogged = True
            self.owner.loop.call_soon(self.owner.tell, Clogged(self.link))
        elif self.state is State.CLOSING:
            self._give_up()

    def _give_up(self) -> None:
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.abort()
