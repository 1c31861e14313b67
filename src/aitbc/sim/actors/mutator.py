"""Says what an honest node would say with one field changed, signed again where its own key can sign it, and repeats
what it heard from others changed too (ByzzFuzz, OOPSLA 2023: small changes find what wild ones do not)."""

from typing import Any

import msgspec

from aitbc.core.consensus.simplex.messages import SKIP, VOTES, Message, Proposal, Status, Vote
from aitbc.core.types.blocks import Certificate
from aitbc.sim.actors.voting import Liar
from aitbc.sim.process import Envelope

REPEATED_OF = 8
"""One of so many messages that it hears goes on, changed."""


class Mutator(Liar):
    def broadcast(self, message: Message) -> None:
        for node in self.others():
            self.tell(node, self._changed(message) if self.cluster.draw.randrange(2) else message)

    def send(self, peer: str, message: Message) -> None:
        super().send(peer, self._changed(message))

    def receive(self, sender: str, envelope: Envelope) -> None:
        super().receive(sender, envelope)
        message = envelope.message
        if not isinstance(message, Vote | Proposal | Certificate | Status) or not self.is_up:
            return
        if self.cluster.draw.randrange(REPEATED_OF) == 0:
            others = self.others()
            self.tell(others[self.cluster.draw.randrange(len(others))], self._changed(message))

    def _changed(self, message: Message) -> Message:
        changed: Message = self._with_another(message)
        if not self.cluster.draw.randrange(2):
            return changed
        if isinstance(changed, Vote) and changed.kind in VOTES and 0 <= changed.slot < 2**63:
            return self.vote(changed.kind, changed.slot, changed.candidate) or changed
        if isinstance(changed, Proposal) and _has_bytes(changed):
            signed = self.proposal(changed.candidate)
            return msgspec.structs.replace(signed, justification=changed.justification)
        return changed

    def _with_another(self, value: Any) -> Any:
        """The value with something else in one place."""
        draw = self.cluster.draw
        match value:
            case msgspec.Struct():
                names = [field.name for field in msgspec.structs.fields(value)]
                name = names[draw.randrange(len(names))]
                return msgspec.structs.replace(value, **{name: self._with_another(getattr(value, name))})
            case bool():
                return not value
            case int():
                return draw.choice((value - 1, value + 1, 0, 1, value + 20, 2**63 - 1, -1))
            case str():
                return draw.choice((*VOTES, SKIP, "", "candidate"))
            case bytes():
                return draw.choice((bytes(len(value)), value[:-1], value[::-1], value + b"\0", b""))
            case list():
                return draw.choice((value[1:], value + value[:1], value[::-1], []))
            case _:
                return value


def _has_bytes(proposal: Proposal) -> bool:
    """Can its candidate be signed at all?"""
    numbers = (proposal.candidate.epoch, proposal.candidate.slot, proposal.candidate.parent_slot)
    return all(0 <= number < 2**63 for number in numbers)
