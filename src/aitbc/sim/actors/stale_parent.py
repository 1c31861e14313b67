"""Leads on an old parent, over slots that nobody skipped, or on such a candidate of its own or of a friend's, which
nobody notarized. Random faults alone never do this."""

from aitbc.core.consensus.simplex.messages import Message, Proposal
from aitbc.core.types.blocks import Candidate
from aitbc.sim.actors.voting import Liar
from aitbc.sim.process import Envelope


class StaleParentLeader(Liar):
    """Keeps the candidates that it has seen and builds on one of the last few instead of the newest."""

    def boot(self) -> None:
        self.seen: list[Candidate] = []
        self.stale: set[bytes] = set()
        """Its own blocks of this kind."""
        super().boot()

    def broadcast(self, message: Message) -> None:
        if isinstance(message, Proposal):
            candidate = message.candidate
            old = self._older(candidate)
            if old is not None and self._lead_on(old, candidate):
                return
        super().broadcast(message)

    def receive(self, sender: str, envelope: Envelope) -> None:
        if isinstance(envelope.message, Proposal):
            self.seen = [*self.seen, envelope.message.candidate][-6:]
        super().receive(sender, envelope)

    def _older(self, candidate: Candidate) -> Candidate | None:
        """An earlier candidate of this epoch that is not the parent; rather one that has no business being there."""
        choices = [
            old
            for old in self.seen
            if old.epoch == candidate.epoch
            and old.slot < candidate.slot
            and self.block_of(old.block_hash) is not None
            and self.engine.epoch.id_of(old) != candidate.parent_id
        ]
        stale = [old for old in choices if old.block_hash in self.stale]
        return self.cluster.draw.choice(stale or choices) if choices else None

    def _lead_on(self, old: Candidate, candidate: Candidate) -> bool:
        name = self.child_of(old.block_hash)
        if name is None:
            return False
        stale = self.candidate_on(old, candidate.slot, name)
        self.stale.add(name)
        self.seen.append(stale)
        for node in self.others():
            self.tell(node, self.proposal(stale))
        return True
