"""What to tell a peer that is behind, within a budget. Rule 8 of docs/spec/simplex.md"""

from collections.abc import Mapping

from aitbc.core.codec.wire import pack
from aitbc.core.consensus.simplex.messages import (
    NOTAR,
    SKIP,
    Message,
    Proposal,
    Status,
    VerifiedCertificate,
    Vote,
)
from aitbc.core.consensus.simplex.slots import Slot

MAX_ANSWER_BYTES = 64 * 1024
"""One answer: thirty certificates of fifty validators. More is asked for again, from further on."""
MAX_PEERS = 1_024
"""Peers whose requests are remembered; more than a node has links."""


class Allowance:
    """Each peer once in a while, and at once when it has come to a later epoch: catching up is not slowed down, and
    nobody comes to the same epoch twice."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._last: dict[str, tuple[int, int]] = {}
        """Peer → (when, in which epoch)."""

    def spend(self, peer: str, now_ms: int, epoch: int) -> bool:
        """Whether it is this peer's turn; the peer that was served longest ago is forgotten first."""
        last_ms, last_epoch = self._last.get(peer, (now_ms - self._interval_ms, -1))
        if epoch <= last_epoch and 0 <= now_ms - last_ms < self._interval_ms:
            return False
        self._last.pop(peer, None)
        self._last[peer] = (now_ms, max(epoch, last_epoch))
        if len(self._last) > MAX_PEERS:
            del self._last[next(iter(self._last))]
        return True


def answer_to(
    status: Status,
    final: VerifiedCertificate | None,
    slots: Mapping[int, Slot],
    final_slot: int,
    own: list[Vote],
) -> list[Message]:
    """The newest Final certificate if it is news; what ends the slots from the asker's frontier on; then what is known
    of slots before it; the proposals that it may have missed, and this node's own votes."""
    messages: list[Message] = []
    if final is not None and status.final_slot < final_slot:
        messages.append(final.certificate)
    ahead = sorted(number for number in slots if number >= status.frontier)
    behind = sorted(number for number in slots if status.final_slot < number < status.frontier)
    for number in ahead + behind:
        held = [slots[number].certificate(kind) for kind in (NOTAR, SKIP)]
        messages += [certificate for certificate in held if certificate is not None]
        proposal = slots[number].proposal
        if proposal is not None and number >= status.frontier:
            messages.append(Proposal(proposal.candidate, proposal.signature, []))
    messages += [vote for vote in own if vote.slot > status.final_slot]
    return _within_budget(messages)


def _within_budget(messages: list[Message]) -> list[Message]:
    spent, chosen = 0, []
    for message in messages:
        spent += len(pack(message))
        if spent > MAX_ANSWER_BYTES:
            break
        chosen.append(message)
    return chosen
