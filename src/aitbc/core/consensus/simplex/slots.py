"""What a node knows about one slot, and whether two votes contradict each other."""

from aitbc.core.consensus.simplex.messages import (
    FINAL,
    NOTAR,
    SKIP,
    VerifiedCertificate,
    VerifiedProposal,
    VerifiedVote,
)
from aitbc.core.types.blocks import Candidate, Certificate


class Slot:
    """The first vote of each kind from each validator, so a slot's size is bounded whatever is sent; the
    certificates; and what this node itself has said."""

    __slots__ = (
        "candidates",
        "certificates",
        "is_refused",
        "number",
        "power",
        "proposal",
        "proposed",
        "voted_final",
        "voted_notar",
        "voted_skip",
        "votes",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.proposal: VerifiedProposal | None = None
        """The first of the leader's."""
        self.is_refused = False
        """Was it found to be invalid?"""
        self.candidates: dict[bytes, Candidate] = {}
        """By id, from the proposal and from certificates: at most one more than there are quorums."""
        self.votes: dict[str, dict[int, VerifiedVote]] = {NOTAR: {}, SKIP: {}, FINAL: {}}
        """By position. This node's own has no signature while it is being signed."""
        self.power: dict[tuple[str, bytes], int] = {}
        """Behind each (kind, candidate)."""
        self.certificates: dict[str, VerifiedCertificate] = {}
        """By kind; two quorums share an honest voter, so one id for each."""
        self.proposed: bytes | None = None
        """Id of the candidate that this node leads with."""
        self.voted_notar: bytes | None = None
        self.voted_skip = False
        self.voted_final: bytes | None = None

    @property
    def notarized(self) -> VerifiedCertificate | None:
        return self.certificates.get(NOTAR)

    @property
    def is_skipped(self) -> bool:
        return SKIP in self.certificates

    @property
    def is_cleared(self) -> bool:
        return NOTAR in self.certificates or SKIP in self.certificates

    @property
    def has_voted(self) -> bool:
        return bool(self.voted_notar or self.voted_skip or self.voted_final)

    def count(self, vote: VerifiedVote, power: int) -> int:
        """Take the first vote of its kind from its voter; the power that its statement has now."""
        self.votes[vote.kind][vote.position] = vote
        statement = (vote.kind, vote.candidate)
        total = self.power[statement] = self.power.get(statement, 0) + power
        return total

    def conflict_of(self, vote: VerifiedVote) -> VerifiedVote | None:
        """An earlier vote of the same validator that nobody honest makes beside this one: E1, E2, E3."""
        known = self.votes[vote.kind].get(vote.position)
        if known is not None and known.candidate != vote.candidate:
            return known
        if vote.kind == FINAL:
            return self.votes[SKIP].get(vote.position)
        if vote.kind == SKIP:
            return self.votes[FINAL].get(vote.position)
        return None

    def signatures_of(self, kind: str, candidate: bytes) -> dict[int, bytes]:
        """Those that are there already, by position."""
        votes = self.votes[kind].values()
        return {
            vote.position: vote.signature for vote in votes if vote.candidate == candidate and vote.signature
        }

    def certificate(self, kind: str) -> Certificate | None:
        held = self.certificates.get(kind)
        return held.certificate if held else None
