"""What leaders of invalid blocks share: an honest engine makes a block, and what is shown is another one."""

from typing import Any

import msgspec

from aitbc.core.consensus.simplex.messages import Message, Proposal
from aitbc.sim.actors.voting import Liar


class Spoiler(Liar):
    def spoil(self, block: Any) -> Any:
        """The block that is shown in the place of a good one; None: this time the good one."""
        raise NotImplementedError

    def broadcast(self, message: Message) -> None:
        spoiled = None
        if isinstance(message, Proposal) and message.candidate.epoch == self.engine.epoch.number:
            block = self.block_of(message.candidate.block_hash)
            spoiled = self.spoil(block) if block is not None else None
        if not isinstance(message, Proposal) or spoiled is None:
            super().broadcast(message)
            return
        shown = msgspec.structs.replace(message.candidate, block_hash=self.keep(spoiled))
        proposal = msgspec.structs.replace(self.proposal(shown), justification=message.justification)
        for node in self.others():
            self.tell(node, proposal)
