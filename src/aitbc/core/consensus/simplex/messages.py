"""What validators tell each other, and the one check of each message. docs/spec/simplex.md

Bytes become an unverified message (`decode`), a check makes it a verified one, and the engine accepts verified ones
only. A check is pure and may run on any thread; it costs the signatures that its docstring names, the cheap questions
first. Raises Rejected for what a stranger, or nobody in the set, can have made.
"""

from typing import Any

import msgspec

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.consensus.simplex.certificates import Verifier, check_certificate, check_skip_certificate
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import ZERO_HASH, Candidate, Certificate
from aitbc.core.types.reasons import Reason, Rejected

CANDIDATE, NOTAR, SKIP, FINAL = "candidate", "notar", "skip", "final"
VOTES = (NOTAR, SKIP, FINAL)
MAX_JUSTIFICATION = 33
"""Certificates with a proposal: the parent's Notar and 32 Skips; older ones are asked for."""


class Vote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    kind: str
    """`notar`, `skip` or `final`."""
    epoch: int
    slot: int
    candidate: bytes
    """Its id; 32 zero bytes for a skip."""
    position: int
    """Of the voter, in set order."""
    signature: bytes


class Proposal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A leader's candidate with what entitles others to vote for it. The block travels beside it."""

    candidate: Candidate
    signature: bytes
    justification: list[Certificate]
    """The parent's Notar certificate and Skip certificates of slots between; what everybody has may be left out."""


class Status(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How far the sender is; whoever is further answers with what it lacks. Not signed: it says only what to send."""

    epoch: int
    final_slot: int
    frontier: int
    """The smallest slot that is not over."""


Message = Vote | Proposal | Certificate | Status

KINDS: dict[str, tuple[type[Any], int]] = {
    "vote": (Vote, 512),
    "proposal": (Proposal, 160 * 1024),
    "certificate": (Certificate, 8 * 1024),
    "status": (Status, 64),
}
"""Name on the wire → form and most bytes: 53 signatures of 64 bytes are 3.5 KiB, a justification at most 33 of them."""


class VerifiedVote(msgspec.Struct, frozen=True, gc=False):
    """Signed by the validator at `position`; made by `check_vote` alone, or by the voter itself."""

    kind: str
    epoch: int
    slot: int
    candidate: bytes
    position: int
    signature: bytes


class VerifiedCertificate(msgspec.Struct, frozen=True):
    certificate: Certificate
    id: bytes
    """Of its candidate; 32 zero bytes for a skip."""


class VerifiedProposal(msgspec.Struct, frozen=True):
    """Signed by the slot's leader."""

    candidate: Candidate
    id: bytes
    signature: bytes
    justification: list[VerifiedCertificate]


class OtherEpoch(msgspec.Struct, frozen=True):
    """A message of an epoch that is not the running one: nothing in it can be checked, only how far its sender
    claims to be."""

    epoch: int
    asks: bool = True
    """False for a certificate: who sends one of an old epoch answers somebody, and is not stuck in it. Two nodes that
    answered each other's would go on for ever."""


class Ahead(msgspec.Struct, frozen=True):
    """A proposal for a slot that this node's tables do not reach yet; it was not checked further, and nobody is at
    fault."""

    slot: int


Verified = VerifiedVote | VerifiedProposal | VerifiedCertificate | Status | OtherEpoch | Ahead


def kind_of(message: Message) -> str:
    """Its name on the wire."""
    return next(name for name, (form, _) in KINDS.items() if type(message) is form)


def encode(message: Message) -> bytes:
    return pack(message)


def decode(kind: str, raw: bytes) -> Message:
    """A message from its bytes; refuses a kind that nobody knows before it looks at them."""
    if kind not in KINDS:
        raise Rejected(Reason.UNKNOWN_TYPE, f"no message of agreement is called {kind[:20]!r}")
    form, limit = KINDS[kind]
    message: Message = unpack(raw, form, limit=limit)
    return message


def check(message: Message, epoch: Epoch, *, horizon: int, verifier: Verifier = verify) -> Verified:
    """The check of whatever it is; see there. `horizon` is the engine's: a proposal beyond it is of no use yet."""
    match message:
        case Vote():
            return check_vote(message, epoch, verifier)
        case Proposal():
            return check_proposal(message, epoch, horizon=horizon, verifier=verifier)
        case Certificate():
            return check_any_certificate(message, epoch, verifier)
        case Status():
            return check_status(message, epoch)


def check_vote(vote: Vote, epoch: Epoch, verifier: Verifier = verify) -> VerifiedVote | OtherEpoch:
    """One signature."""
    _check_number(vote.epoch, "epoch")
    if vote.epoch != epoch.number:
        return OtherEpoch(vote.epoch)
    if vote.kind not in VOTES:
        raise Rejected(Reason.UNKNOWN_TYPE, f"{vote.kind[:20]!r} is no vote")
    _check_number(vote.slot, "slot")
    if len(vote.candidate) != 32 or (vote.kind == SKIP) != (vote.candidate == ZERO_HASH):
        raise Rejected(
            Reason.MALFORMED, "notar and final votes name a candidate by 32 bytes, a skip names zeros"
        )
    if not 0 <= vote.position < len(epoch.validators):
        raise Rejected(Reason.UNKNOWN_VALIDATOR, f"the set has no position {vote.position}")
    digest = epoch.digest_of(vote.kind, vote.slot, vote.candidate)
    if not verifier(epoch.validators[vote.position].auth_key, digest, vote.signature):
        raise Rejected(Reason.BAD_SIGNATURE, f"this {vote.kind} vote is not validator {vote.position}'s")
    return VerifiedVote(vote.kind, vote.epoch, vote.slot, vote.candidate, vote.position, vote.signature)


def check_proposal(
    proposal: Proposal, epoch: Epoch, *, horizon: int, verifier: Verifier = verify
) -> VerifiedProposal | OtherEpoch | Ahead:
    """The leader's signature first, then those of the justification."""
    candidate = proposal.candidate
    _check_number(candidate.epoch, "epoch")
    if candidate.epoch != epoch.number:
        return OtherEpoch(candidate.epoch)
    if not 0 <= candidate.parent_slot < candidate.slot <= MAX_SIGNED:
        raise Rejected(
            Reason.OUT_OF_RANGE,
            f"slot {candidate.slot} does not come after its parent's, {candidate.parent_slot}",
        )
    if candidate.slot > horizon:
        return Ahead(candidate.slot)
    if len(candidate.parent_id) != 32 or len(candidate.block_hash) != 32:
        raise Rejected(Reason.MALFORMED, "a hash has 32 bytes")
    if len(proposal.justification) > MAX_JUSTIFICATION:
        raise Rejected(Reason.TOO_LARGE, f"at most {MAX_JUSTIFICATION} certificates justify a proposal")
    name, leader = epoch.id_of(candidate), epoch.leader_of(candidate.slot)
    digest = epoch.digest_of(CANDIDATE, candidate.slot, name)
    if not verifier(epoch.validators[leader].auth_key, digest, proposal.signature):
        raise Rejected(Reason.WRONG_PROPOSER, f"not signed by the leader of slot {candidate.slot}")
    _check_justification(proposal)
    justification = []
    for certificate in proposal.justification:
        checked = check_any_certificate(certificate, epoch, verifier)
        if isinstance(checked, OtherEpoch):
            raise Rejected(
                Reason.BAD_CERTIFICATE, "another epoch's certificate justifies nothing in this one"
            )
        justification.append(checked)
    return VerifiedProposal(candidate, name, proposal.signature, justification)


def _check_justification(proposal: Proposal) -> None:
    """The parent's Notar and Skips between, each once: the list is not signed, and each certificate costs a quorum of
    signatures."""
    candidate, seen = proposal.candidate, set[tuple[str, int]]()
    for certificate in proposal.justification:
        kind, slot = certificate.kind, certificate.candidate.slot
        is_parents = kind == NOTAR and slot == candidate.parent_slot
        is_between = kind == SKIP and candidate.parent_slot < slot < candidate.slot
        if not (is_parents or is_between) or (kind, slot) in seen:
            raise Rejected(Reason.BAD_CERTIFICATE, f"a {kind[:20]!r} of slot {slot} justifies nothing here")
        seen.add((kind, slot))


def check_any_certificate(
    certificate: Certificate, epoch: Epoch, verifier: Verifier = verify
) -> VerifiedCertificate | OtherEpoch:
    """A quorum of signatures."""
    _check_number(certificate.candidate.epoch, "epoch")
    if certificate.candidate.epoch != epoch.number:
        return OtherEpoch(certificate.candidate.epoch, asks=False)
    checker = check_skip_certificate if certificate.kind == SKIP else check_certificate
    checker(
        certificate,
        epoch.validators,
        chain_id=epoch.chain_id,
        genesis_hash=epoch.genesis_hash,
        verifier=verifier,
    )
    name = ZERO_HASH if certificate.kind == SKIP else epoch.id_of(certificate.candidate)
    return VerifiedCertificate(certificate, name)


def check_status(status: Status, _epoch: Epoch) -> Status:
    """No signature."""
    for name in ("epoch", "final_slot", "frontier"):
        _check_number(getattr(status, name), name)
    return status


def _check_number(number: int, name: str) -> None:
    if not 0 <= number <= MAX_SIGNED:
        raise Rejected(Reason.OUT_OF_RANGE, f"{name} is not from 0 to {MAX_SIGNED}")
