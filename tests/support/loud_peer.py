"""A stranger on the peer-to-peer network: connects like a node, holds nothing, and says what it is given."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aitbc.adapters.network.tcp import TcpTransport
from aitbc.core.consensus.simplex.messages import Message
from aitbc.core.peer.handshake import prologue_of
from aitbc.core.peer.kinds import Status
from aitbc.core.peer.peers import ConfiguredPeer, PeerSettings
from aitbc.node.network import NodeNetwork
from aitbc.node.runtime import SystemClock


class _Deaf:
    """A host that knows nothing; what would need an engine is not heard."""

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)

    def has_transaction(self, _wid: bytes) -> bool:
        return True

    def transaction(self, _wid: bytes) -> None:
        return None


class _Deafened(NodeNetwork):
    def _perform(self, effects: Sequence[Any]) -> None:
        skipped = ("Delivered", "TransactionsCame", "Requested", "Replied", "Heard", "PeerUp", "PeerDown")
        super()._perform([effect for effect in effects if type(effect).__name__ not in skipped])


def say(where: Sequence[str], messages: Sequence[Message], *, chain_id: str, genesis_hash: bytes) -> None:
    """Connect to nodes and tell them all."""

    async def play() -> None:
        transport = TcpTransport(
            static=bytes(31) + b"\x07",
            prologue=prologue_of(chain_id=chain_id, genesis_hash=genesis_hash),
            listen=None,
        )
        network = _Deafened(
            host=_Deaf(),
            transport=transport,
            settings=PeerSettings(key=transport.key, settings_hash=genesis_hash, agent="stranger"),
            status=Status(0, genesis_hash, 0),
            clock=SystemClock(),
            configured=[ConfiguredPeer(one) for one in where],
        )
        await network.start()
        async with asyncio.timeout(10):
            while network.peers < len(where):
                await asyncio.sleep(0.02)
        for message in messages:
            network.tell(message, None, None)
        await asyncio.sleep(0.3)
        await network.stop()

    asyncio.run(play())
