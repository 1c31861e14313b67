"""The peer-to-peer network of a node that agrees by work. docs/spec/p2p.md, docs/spec/nakamoto.md"""

from collections.abc import Sequence
from typing import Protocol

from aitbc.core.peer import kinds
from aitbc.core.peer.network import Delivered, Verdict
from aitbc.core.peer.peers import ConfiguredPeer, Heard, PeerSettings
from aitbc.core.types.blocks import Block
from aitbc.node.book import BookKeeper
from aitbc.node.network import PeerHost, PeerNetwork
from aitbc.node.talk.work import Worker, WorkTalk
from aitbc.ports import Clock, Transport


class WorkHost(PeerHost, Worker, Protocol):
    """What it asks of the node's loop."""


class WorkNetwork(PeerNetwork):
    def __init__(
        self,
        *,
        host: WorkHost,
        transport: Transport,
        settings: PeerSettings,
        status: kinds.Status,
        clock: Clock,
        configured: Sequence[ConfiguredPeer] = (),
        book: BookKeeper | None = None,
    ) -> None:
        super().__init__(
            host=host,
            transport=transport,
            settings=settings,
            status=status,
            clock=clock,
            configured=configured,
            book=book,
        )
        self.work = WorkTalk(self.wires, host)
        self._speak(self.work)

    def set_heights(self, *, height: int, head_hash: bytes, final_height: int) -> None:
        """The head has moved."""
        self._network.set_status(kinds.Status(height, head_hash, final_height))
        self.transactions.head_moved()

    def heads(self) -> dict[bytes, int]:
        """Peers, and the height that each says it is at."""
        statuses = {key: self._network.status_of(key) for key in self._network.peers}
        return {key: status.head_height for key, status in statuses.items() if status is not None}

    def _blocks_came(self, blocks: Sequence[tuple[bytes, Block]]) -> None:
        raise AssertionError("this node searches for transactions only: blocks are asked of who showed them")

    def _delivered(self, effect: Delivered) -> None:
        """Votes on a chain that has none."""
        self.wires.refused["votes"] += 1
        self.wires.perform(self._network.judge(self.wires.now(), effect.id, Verdict.REJECT))

    def _heard(self, effect: Heard) -> None:
        self.work.hear(effect)

    def _greet(self, key: bytes) -> None:
        self.work.greet(key)

    def _parted(self, key: bytes) -> None:
        self.work.part(key)
