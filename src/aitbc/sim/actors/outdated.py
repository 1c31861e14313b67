"""Says again what it and others said long ago, at every opportunity."""

from aitbc.core.consensus.simplex.messages import Message, Proposal, Status, Vote
from aitbc.core.types.blocks import Certificate
from aitbc.sim.actors.voting import Liar
from aitbc.sim.process import Envelope

REMEMBERED = 200


class Outdated(Liar):
    def boot(self) -> None:
        self.old: list[Envelope] = []
        super().boot()

    def receive(self, sender: str, envelope: Envelope) -> None:
        if (
            isinstance(envelope.message, Vote | Proposal | Certificate | Status)
            and len(self.old) < REMEMBERED
        ):
            self.old.append(envelope)
        super().receive(sender, envelope)

    def broadcast(self, message: Message) -> None:
        if self.cluster.draw.randrange(2):
            super().broadcast(message)
        for _ in range(3):
            if self.old:
                self.cluster.broadcast(self, self.cluster.draw.choice(self.old))
