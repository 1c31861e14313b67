"""EVIDENCE: two signed messages of one key that contradict each other; the stake behind it is slashed and its owner
jailed. docs/spec/evidence.md

Penalties need statements that the accused signed; nothing else is evidence.
"""

from typing import Annotated, Literal

import msgspec

from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import attestation_digest, offence_digest, vote_digest
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.address import check_address
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.keys import check_offered, key_at, key_or_offered
from aitbc.core.ledger.slashing import punish
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.reasons import Failed, Reason, Rejected
from aitbc.core.types.receipts import HexHash, SignedAttestation
from aitbc.core.types.records import ValidatorRecord
from aitbc.core.types.transactions import VerifiedTransaction

NO_CANDIDATE = "00" * 32
"""What a skip vote names."""
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)]


class SignedVote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["candidate", "notar", "skip", "final"]
    candidate: HexHash
    sig: Annotated[str, msgspec.Meta(max_length=8192)]


class Votes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two votes of one validator in one slot."""

    validator: str
    epoch: Number
    slot: Number
    first: SignedVote
    second: SignedVote


class Attestations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two attestations of one hub about one attempt at one task."""

    first: SignedAttestation
    second: SignedAttestation


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of the two."""

    votes: Votes | None = None
    attestations: Attestations | None = None


def check(payload: Evidence, _witness: None, _genesis_hash: bytes) -> None:
    if (payload.votes is None) == (payload.attestations is None):
        raise Rejected(Reason.MISSING_FIELD, "evidence is either votes or attestations")
    if payload.votes is not None:
        _check_votes(payload.votes)
    if payload.attestations is not None:
        _check_attestations(payload.attestations)


def _check_votes(votes: Votes) -> None:
    """E1 two Notar, E3 two Final, E4 two candidates, each for different candidates; E2 Final and Skip."""
    check_address(votes.validator)
    unhex(votes.first.sig)
    unhex(votes.second.sig)
    kinds = (votes.first.kind, votes.second.kind)
    same_kind = kinds[0] == kinds[1] != "skip" and votes.first.candidate < votes.second.candidate
    final_and_skip = kinds == ("final", "skip") and votes.second.candidate == NO_CANDIDATE
    if not same_kind and not final_and_skip:
        raise Rejected(
            Reason.NO_CONFLICT,
            "conflicting are two candidate, notar or final votes for different candidates (the lower one first), or"
            " a final and a skip vote, which names no candidate (in this order)",
        )


def _check_attestations(pair: Attestations) -> None:
    first, second = pair.first.attestation, pair.second.attestation
    check_address(first.hub)
    for signed in (pair.first, pair.second):
        unhex(signed.sig)
        check_offered(signed.pubkey, signed.attestation.hub)
    same = all(getattr(first, name) == getattr(second, name) for name in ("hub", "lock", "task", "attempt"))
    if not same or not first.lock or first.receipt_id >= second.receipt_id:
        raise Rejected(
            Reason.NO_CONFLICT,
            "conflicting are two attestations of one hub for different receipts of one attempt at one task of one"
            " lock (the lower receipt_id first)",
        )


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload = tx.payload
    assert isinstance(payload, Evidence)
    if payload.votes is not None:
        return _judge_votes(context, state, payload.votes)
    assert payload.attestations is not None
    return _judge_attestations(context, state, payload.attestations)


def _judge_votes(context: BlockContext, state: Overlay, votes: Votes) -> list[Event]:
    age = context.epoch - votes.epoch
    if not 0 <= age <= context.params.evidence_epochs:
        raise Failed(
            Reason.EVIDENCE_TOO_OLD,
            f"votes of epoch {votes.epoch} in epoch {context.epoch}; at most {context.params.evidence_epochs} back",
        )
    keys = _validator_keys(state, votes.validator, votes.epoch * context.epoch_length + 1)
    if not keys:
        raise Failed(
            Reason.UNKNOWN_VALIDATOR, f"{votes.validator} is and was no validator that the state knows"
        )
    for vote in (votes.first, votes.second):
        digest = vote_digest(
            kind=vote.kind,
            epoch=votes.epoch,
            slot=votes.slot,
            candidate=unhex(vote.candidate),
            chain_id=context.chain_id,
            genesis_hash=context.genesis_hash,
        )
        if not any(context.verify(key, digest, unhex(vote.sig)) for key in keys):
            raise Failed(
                Reason.BAD_EVIDENCE_SIGNATURE, f"the {vote.kind} vote is not signed by {votes.validator}"
            )
    offence = offence_digest("votes", votes.validator, str(votes.epoch))
    return punish(
        context, state, role="validator", offender=votes.validator, offence=offence, expires_ms=None
    )


def _validator_keys(state: Overlay, validator: str, height: int) -> list[bytes]:
    """Keys under which the validator may have voted: the set's, and the account's at that height."""
    record = state.get("validators", validator)
    keys = [key_from_text(record.auth_key)] if isinstance(record, ValidatorRecord) else []
    staked = state.get("registry", f"bond:validator:{validator}") is not None
    then = key_at(state, validator, height) if keys or staked else b""
    return keys + ([then] if then and then not in keys else [])


def _judge_attestations(context: BlockContext, state: Overlay, pair: Attestations) -> list[Event]:
    attestation = pair.first.attestation
    lock = state.lock(attestation.lock)
    if lock is None:
        raise Failed(Reason.UNKNOWN_LOCK, f"there is no lock {attestation.lock}")
    if lock.hub != attestation.hub:
        raise Failed(Reason.WRONG_HUB, f"the lock names {lock.hub}")
    if context.timestamp_ms > lock.claim_until_ms:
        raise Failed(
            Reason.EVIDENCE_TOO_OLD,
            f"evidence about this lock counted until block time {lock.claim_until_ms}",
        )
    for signed in (pair.first, pair.second):
        key = key_or_offered(state, lock.hub, lock.height, signed.pubkey)
        digest = attestation_digest(signed.attestation, context.genesis_hash)
        if not context.verify(key, digest, unhex(signed.sig)):
            raise Failed(Reason.BAD_EVIDENCE_SIGNATURE, f"an attestation is not signed by {lock.hub}")
    offence = offence_digest(
        "attestations", lock.hub, attestation.lock, str(attestation.task), str(attestation.attempt)
    )
    return punish(
        context, state, role="hub", offender=lock.hub, offence=offence, expires_ms=lock.claim_until_ms
    )


def asks(_context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[bytes]:
    """Of a hub, which may have any key; validators sign with Ed25519."""
    assert isinstance(tx.payload, Evidence)
    pair = tx.payload.attestations
    lock = state.lock(pair.first.attestation.lock) if pair else None
    if pair is None or lock is None:
        return []
    return [
        key_or_offered(state, signed.attestation.hub, lock.height, signed.pubkey)
        for signed in (pair.first, pair.second)
    ]


EVIDENCE = TransactionType("EVIDENCE", Evidence, check, apply, asks=asks, since=2)
