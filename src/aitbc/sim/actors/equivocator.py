"""Leads with two blocks, one for each half, and votes for everything it hears of, skip and final included."""

import msgspec

from aitbc.core.consensus.simplex.messages import FINAL, NOTAR, SKIP, Message, Proposal
from aitbc.sim.actors.voting import Liar
from aitbc.sim.process import Envelope


class Equivocator(Liar):
    def broadcast(self, message: Message) -> None:
        if not isinstance(message, Proposal):
            super().broadcast(message)
            return
        other = self.another_block(message.candidate.block_hash)
        if other is None:
            super().broadcast(message)
            return
        second = self.proposal(msgspec.structs.replace(message.candidate, block_hash=other))
        second = msgspec.structs.replace(second, justification=message.justification)
        for place, node in enumerate(self.others()):
            self.tell(node, second if place % 2 else message)

    def receive(self, sender: str, envelope: Envelope) -> None:
        super().receive(sender, envelope)
        message = envelope.message
        if isinstance(message, Proposal) and message.candidate.epoch == self.engine.epoch.number:
            self._vote_for_all(self.engine.epoch.id_of(message.candidate), message.candidate.slot)

    def _vote_for_all(self, candidate: bytes, slot: int) -> None:
        for place, node in enumerate(self.others()):
            self.tell(node, self.vote(NOTAR, slot, candidate))
            self.tell(node, self.vote(FINAL if place % 2 else SKIP, slot, candidate))
