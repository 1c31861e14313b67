"""Leads on an old parent, over slots that nobody skipped, or on such a candidate of its own or of a friend's, which
nobody notarized. Random faults alone never do this."""

from aitbc.core.consensus.simplex.messages import Message, Proposal
from aitbc.core.types.blocks import Candidate
from aitbc.sim.actors.voting import Liar
from aitbc.sim.blocks import OpaqueBlock
from aitbc.sim.node import Envelope

STALE = (-2,)
"""What such a block holds."""


class StaleParentLeader(Liar):
    """Keeps the candidates that it has seen and builds on one of the last few instead of the newest."""

    def boot(self) -> None:
        self.seen: list[Candidate] = []
        super().boot()

    def broadcast(self, message: Message) -> None:
        if isinstance(message, Proposal):
            candidate = message.candidate
            old = self._older(candidate)
            if old is not None:
                self._lead_on(old, candidate)
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
            and old.block_hash in self.blocks
            and self.engine.epoch.id_of(old) != candidate.parent_id
        ]
        stale = [old for old in choices if self.blocks[old.block_hash].txs == STALE]
        return self.cluster.draw.choice(stale or choices) if choices else None

    def _lead_on(self, old: Candidate, candidate: Candidate) -> None:
        parent = self.blocks[old.block_hash]
        timestamp_ms = max(parent.timestamp_ms + 1, self.now_ms())
        block = OpaqueBlock(old.block_hash, parent.height + 1, timestamp_ms, self.address, STALE, True)
        name = block.hash
        self.blocks[name] = block
        stale = Candidate(candidate.epoch, candidate.slot, old.slot, self.engine.epoch.id_of(old), name)
        self.seen.append(stale)
        for node in self.others():
            self.tell(node, self.proposal(stale))
