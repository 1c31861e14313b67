"""From two statements that contradict each other to evidence, in the order of docs/spec/evidence.md."""

from aitbc.core.consensus.engine import Fault, SignedStatement
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.consensus.simplex.messages import CANDIDATE, FINAL, SKIP, VerifiedProposal, VerifiedVote


def fault_of_votes(known: VerifiedVote, vote: VerifiedVote, epoch: Epoch) -> Fault:
    """E1 two Notar, E3 two Final, the lower candidate first; E2 Final and Skip, in this order."""
    turned = {known.kind, vote.kind} == {FINAL, SKIP} and vote.kind == FINAL
    turned |= known.kind == vote.kind and vote.candidate < known.candidate
    first, second = (vote, known) if turned else (known, vote)
    return Fault(
        validator=epoch.validators[vote.position].address,
        epoch=epoch.number,
        slot=vote.slot,
        first=SignedStatement(kind=first.kind, candidate=first.candidate, signature=first.signature),
        second=SignedStatement(kind=second.kind, candidate=second.candidate, signature=second.signature),
    )


def fault_of_leader(known: VerifiedProposal, other: VerifiedProposal, epoch: Epoch) -> Fault:
    """E4: two candidates by the leader, the lower first."""
    slot = known.candidate.slot
    first, second = sorted((known, other), key=lambda proposal: proposal.id)
    return Fault(
        validator=epoch.validators[epoch.leader_of(slot)].address,
        epoch=epoch.number,
        slot=slot,
        first=SignedStatement(kind=CANDIDATE, candidate=first.id, signature=first.signature),
        second=SignedStatement(kind=CANDIDATE, candidate=second.id, signature=second.signature),
    )
