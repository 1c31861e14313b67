"""Lets a single node see each of its votes, so that certificates come together where nobody expects them, and passes
none on."""

from aitbc.core.consensus.simplex.messages import Message, Vote
from aitbc.core.types.blocks import Certificate
from aitbc.sim.actors.voting import Liar


class CertificateHoarder(Liar):
    def broadcast(self, message: Message) -> None:
        if not isinstance(message, Vote):
            super().broadcast(message)
            return
        others = self.others()
        self.tell(others[(message.slot + len(message.kind)) % len(others)], message)

    def send(self, peer: str, message: Message) -> None:
        if not isinstance(message, Certificate):
            super().send(peer, message)
