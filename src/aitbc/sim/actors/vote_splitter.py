"""Votes Notar to one half of the others and Skip to the other, and Final to whoever asks for neither."""

from aitbc.core.consensus.simplex.messages import FINAL, NOTAR, SKIP, Message, Vote
from aitbc.sim.actors.voting import Liar


class VoteSplitter(Liar):
    def broadcast(self, message: Message) -> None:
        if not isinstance(message, Vote) or message.kind == SKIP:
            super().broadcast(message)
            return
        for node in self.others():
            kind = (NOTAR, SKIP, FINAL)[(node.place + message.slot) % 3]
            self.tell(node, self.vote(kind, message.slot, message.candidate))
