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

BUDGET_BYTES = 64 * 1024
"""For each peer in each interval: thirty certificates of fifty validators. More is asked for again, from further on."""
MAX_CERTIFICATE_BYTES = 4 * 1024
"""Of at most 53 validators."""
MAX_PEERS = 1_024
"""Peers that are remembered, more than a node has links; the one that came first is forgotten first."""


class Budget:
    """Bytes that each peer may be sent in answers, by interval: rebroadcasting must not saturate a link."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._spent: dict[str, tuple[int, int]] = {}
        """Peer → (when its interval began, bytes since)."""

    def left(self, peer: str, now_ms: int) -> int:
        began_ms, spent = self._spent.get(peer, (now_ms, 0))
        return BUDGET_BYTES - spent if 0 <= now_ms - began_ms < self._interval_ms else BUDGET_BYTES

    def spend(self, peer: str, now_ms: int, size: int) -> None:
        began_ms, spent = self._spent.pop(peer, (now_ms, 0))
        if not 0 <= now_ms - began_ms < self._interval_ms:
            began_ms, spent = now_ms, 0
        self._spent[peer] = (began_ms, spent + size)
        if len(self._spent) > MAX_PEERS:
            del self._spent[next(iter(self._spent))]


class Asked:
    """A peer is asked again after a while, or as soon as this node is further than when it asked."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._last: dict[str, tuple[int, Status]] = {}

    def again(self, peer: str, now_ms: int, status: Status) -> bool:
        last_ms, last = self._last.get(peer, (now_ms - self._interval_ms, None))
        if status == last and 0 <= now_ms - last_ms < self._interval_ms:
            return False
        self._last.pop(peer, None)
        self._last[peer] = (now_ms, status)
        if len(self._last) > MAX_PEERS:
            del self._last[next(iter(self._last))]
        return True


def size_of(message: Message) -> int:
    return len(pack(message))


def answer_to(
    status: Status,
    final: VerifiedCertificate | None,
    slots: Mapping[int, Slot],
    final_slot: int,
    own: list[Vote],
    budget: int,
) -> list[Message]:
    """The newest Final certificate if it is news; what ends the slots from the asker's frontier on; then what is known
    of slots before it; the proposals that it may have missed, and this node's own votes. At most `budget` bytes."""
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
    return _within(messages, budget)


def _within(messages: list[Message], budget: int) -> list[Message]:
    spent, chosen = 0, []
    for message in messages:
        spent += size_of(message)
        if spent > budget:
            break
        chosen.append(message)
    return chosen
