"""The dial-back: is the node there that a record names, and does it say that the record's key is its own?

It connects, completes the Noise handshake with the claimed node key on the claimed chain, asks `p2p:record_key`, and
leaves. Each call has a key of its own, so that nodes take two calls at once for two strangers and not for one twice.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable

from aitbc.adapters.network.tcp import TcpLimits, TcpTransport
from aitbc.core.peer.handshake import KEY_BYTES, prologue_of
from aitbc.core.peer.kinds import RECORD_KEY, Lane
from aitbc.core.peer.links import Close, Dial, Linked, LinkEvent, Received, Send
from aitbc.core.peer.messages import Answered, Session, Unanswered
from aitbc.core.peer.reasons import PeerFault, PeerReason
from aitbc.core.peer.records import Endpoint, NodeRecord

CALL_S = 6.0
"""For everything; a connection and three short messages take a tenth of a second around the world."""
LIMITS = TcpLimits(dial_s=3.0, handshake_s=3.0, linger_s=0.2)

Probe = Callable[[NodeRecord, Endpoint], Awaitable[bytes | None]]
"""The record key that the node at an endpoint names as its own; empty when it names none, None when nobody with the
claimed node key is there."""


async def call_back(record: NodeRecord, endpoint: Endpoint) -> bytes | None:
    """The real `Probe`."""
    call = _Call(record, endpoint)
    try:
        async with asyncio.timeout(CALL_S):
            return await call.make()
    except TimeoutError:
        return b"" if call.linked else None
    finally:
        await call.end()


class _Call:
    def __init__(self, record: NodeRecord, endpoint: Endpoint) -> None:
        self.linked = False
        """The claimed node answered the handshake."""
        self._dial = Dial(1, endpoint.where, bytes.fromhex(record.node_key))
        self._transport = TcpTransport(
            static=os.urandom(KEY_BYTES),
            prologue=prologue_of(chain_id=record.chain_id, genesis_hash=bytes.fromhex(record.genesis_hash)),
            listen=None,
            limits=LIMITS,
        )
        self._session = Session(0)
        self._answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._link = 0

    async def make(self) -> bytes | None:
        await self._transport.start(self._hear, lambda _: False)
        self._transport.dial(self._dial)
        return await self._answer

    async def end(self) -> None:
        self._transport.close(Close(self._link, PeerReason.LEAVING))
        await self._transport.stop()

    def _hear(self, event: LinkEvent) -> None:
        now_ms = self._transport.now_ms()
        match event:
            case Linked():
                self.linked, self._link = True, event.link
                frame = self._session.ask(now_ms, RECORD_KEY, b"", 0)
                assert frame is not None, "the first question is never too much"
                self._transport.send(Send(event.link, frame, Lane.URGENT))
            case Received():
                self._read(now_ms, event.data)
            case _:
                self._conclude(b"" if self.linked else None)

    def _read(self, now_ms: int, data: bytes) -> None:
        try:
            for item in self._session.receive(now_ms, data):
                if isinstance(item, Answered):
                    self._conclude(item.message.key)
                elif isinstance(item, Unanswered):
                    self._conclude(b"")
        except PeerFault:
            self._conclude(b"")

    def _conclude(self, key: bytes | None) -> None:
        if not self._answer.done():
            self._answer.set_result(key)
