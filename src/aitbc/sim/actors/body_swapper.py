"""Passes proposals on, and answers for blocks, with other transactions under the same header."""

from typing import Any

from aitbc.core.consensus.simplex.messages import Proposal
from aitbc.core.types.blocks import Block
from aitbc.sim.actors.voting import Liar
from aitbc.sim.process import Envelope
from aitbc.sim.whole import BlockReply


class BodySwapper(Liar):
    def receive(self, sender: str, envelope: Envelope) -> None:
        if isinstance(envelope.message, Proposal) and envelope.block is not None:
            swapped = Envelope(envelope.message, _swapped(envelope.block), envelope.block_hash)
            self.cluster.broadcast(self, swapped)
        super().receive(sender, envelope)

    def serve(self, peer: str, request: Any) -> None:
        block = self.block_of(request.hash)
        if block is not None:
            self.cluster.send(self, peer, Envelope(BlockReply([(request.hash, _swapped(block))])))


def _swapped(block: Block) -> Block:
    return Block(block.header, block.txs[1:] if block.txs else [])
