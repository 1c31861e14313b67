"""Leads, but shows its blocks to as few as it likes and hands none out."""

from aitbc.core.consensus.simplex.messages import Message, Proposal
from aitbc.sim.actors.voting import Liar
from aitbc.sim.process import Envelope


class WithholdingLeader(Liar):
    def broadcast(self, message: Message) -> None:
        if not isinstance(message, Proposal):
            super().broadcast(message)
            return
        shown = self.cluster.draw.randrange(len(self.others()) + 1)
        for place, node in enumerate(self.others()):
            if place < shown:
                self.cluster.transmit(self, node, self.envelope(message) if place else Envelope(message))

    def serve(self, peer: str, request: object) -> None:
        """Never."""
