"""Passes proposals on, and answers for blocks, with other transactions under the same header."""

from typing import Any

from aitbc.core.consensus.simplex.messages import Proposal
from aitbc.core.types.blocks import Block
from aitbc.sim.actors.voting import Liar
from aitbc.sim.process import Envelope
from aitbc.sim.whole import BlockReply


class BodySwapper(Liar):
    def boot(self) -> None:
        self.swapped: set[bytes] = set()
        """Blocks that it has passed on: two of its kind would never come to an end."""
        super().boot()

    def receive(self, sender: str, envelope: Envelope) -> None:
        is_offer = isinstance(envelope.message, Proposal) and envelope.block is not None
        if is_offer and envelope.block_hash not in self.swapped:
            self.swapped.add(envelope.block_hash)
            swapped = Envelope(envelope.message, _swapped(envelope.block), envelope.block_hash)
            self.cluster.broadcast(self, swapped)
        super().receive(sender, envelope)

    def serve(self, peer: str, request: Any) -> None:
        block = self.block_of(request.hash)
        if block is not None:
            self.cluster.send(self, peer, Envelope(BlockReply([(request.hash, _swapped(block))])))


def _swapped(block: Block) -> Block:
    return Block(block.header, block.txs[1:] if block.txs else [])
