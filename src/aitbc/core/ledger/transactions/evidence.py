"""EVIDENCE: two signed messages of one key that contradict each other; the stake behind it is slashed and its owner
jailed. docs/spec/evidence.md

Penalties need statements that the accused signed; nothing else is evidence.
"""

from typing import Annotated, Literal

import msgspec

from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import (
    attestation_digest,
    candidate_id,
    header_hash,
    offence_digest,
    vote_digest,
    wid_of,
)
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.wire import unpack
from aitbc.core.crypto.address import check_address
from aitbc.core.crypto.merkle import ListProof, check_item
from aitbc.core.crypto.schemes import is_key
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.keys import check_offered, key_at, key_or_offered
from aitbc.core.ledger.slashing import punish
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import Candidate, Header
from aitbc.core.types.reasons import Failed, Reason, Rejected
from aitbc.core.types.receipts import HexHash, SignedAttestation
from aitbc.core.types.records import ValidatorRecord
from aitbc.core.types.transactions import Transaction, VerifiedTransaction

MAX_PART_BYTES = 8 * 1024
"""Of a header or a transaction: what fits into a payload."""
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


class BadBlock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A leader's candidate whose block holds a transaction that no state makes valid."""

    validator: str
    epoch: Number
    slot: Number
    parent_slot: Number
    parent_id: HexHash
    sig: Annotated[str, msgspec.Meta(max_length=8192)]
    """The leader's, over its candidate."""
    header: str
    """Of the block, as on the wire, in hexadecimal."""
    tx: str
    """The transaction, likewise."""
    index: Number
    """Its place in the block."""
    count: Number
    """Transactions in the block."""
    path: Annotated[list[HexHash], msgspec.Meta(max_length=40)]
    """From its `wid` to the header's `txs_root`."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of the three."""

    votes: Votes | None = None
    attestations: Attestations | None = None
    block: BadBlock | None = None


def check(payload: Evidence, _witness: None, genesis_hash: bytes) -> None:
    kinds = [payload.votes, payload.attestations, payload.block]
    if sum(kind is not None for kind in kinds) != 1:
        raise Rejected(Reason.MISSING_FIELD, "evidence is either votes, attestations or a block")
    if payload.votes is not None:
        _check_votes(payload.votes)
    if payload.attestations is not None:
        _check_attestations(payload.attestations)
    if payload.block is not None:
        _check_block(payload.block, genesis_hash)


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


def _check_block(block: BadBlock, genesis_hash: bytes) -> None:
    """E5, as far as it needs no signature."""
    check_address(block.validator)
    unhex(block.sig)
    header, tx = _header_of(block), _transaction_of(block)
    proof = ListProof(block.index, block.count, [unhex(node) for node in block.path])
    if not check_item(header.txs_root, wid_of(tx, genesis_hash), proof):
        raise Rejected(
            Reason.BAD_PROOF, "the path does not lead from the transaction to the header's txs_root"
        )


def _header_of(block: BadBlock) -> Header:
    header = unpack(unhex(block.header), Header, limit=MAX_PART_BYTES)
    try:
        header_hash(header)
    except (OverflowError, UnicodeEncodeError):
        raise Rejected(Reason.OUT_OF_RANGE, "a field of the header has no bytes") from None
    return header


def _transaction_of(block: BadBlock) -> Transaction:
    return unpack(unhex(block.tx), Transaction, limit=MAX_PART_BYTES)


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload = tx.payload
    assert isinstance(payload, Evidence)
    if payload.votes is not None:
        return _judge_votes(context, state, payload.votes)
    if payload.block is not None:
        return _judge_block(context, state, payload.block)
    assert payload.attestations is not None
    return _judge_attestations(context, state, payload.attestations)


def _judge_block(context: BlockContext, state: Overlay, block: BadBlock) -> list[Event]:
    """It jails and does not slash: a release that knows another rule may have made the block in good faith."""
    keys = _keys_then(context, state, block.validator, block.epoch)
    candidate = Candidate(
        block.epoch, block.slot, block.parent_slot, unhex(block.parent_id), header_hash(_header_of(block))
    )
    digest = vote_digest(
        kind="candidate",
        epoch=block.epoch,
        slot=block.slot,
        candidate=candidate_id(candidate, context.chain_id, context.genesis_hash),
        chain_id=context.chain_id,
        genesis_hash=context.genesis_hash,
    )
    if not any(context.verify(key, digest, unhex(block.sig)) for key in keys):
        raise Failed(Reason.BAD_EVIDENCE_SIGNATURE, f"the candidate is not signed by {block.validator}")
    if _is_valid(context, _transaction_of(block)):
        raise Failed(Reason.NO_CONFLICT, "the transaction is valid in itself: nobody is punished for it")
    offence = offence_digest("block", block.validator, str(block.epoch))
    return punish(
        context,
        state,
        role="validator",
        offender=block.validator,
        offence=offence,
        expires_ms=None,
        slash=False,
    )


def _is_valid(context: BlockContext, tx: Transaction) -> bool:
    """Whatever the state."""
    from aitbc.core.ledger.admission import verify_transaction  # which knows all types, this one too

    try:
        verify_transaction(tx, context.genesis_hash, context.verify)
    except Rejected:
        return False
    return True


def _keys_then(context: BlockContext, state: Overlay, validator: str, epoch: int) -> list[bytes]:
    """Keys under which somebody may have voted in an epoch that is not too long ago; Failed when there are none."""
    if not 0 <= context.epoch - epoch <= context.params.evidence_epochs:
        raise Failed(
            Reason.EVIDENCE_TOO_OLD,
            f"votes of epoch {epoch} in epoch {context.epoch}; at most {context.params.evidence_epochs} back",
        )
    keys = _validator_keys(state, validator, epoch * context.epoch_length + 1)
    if not keys:
        raise Failed(Reason.UNKNOWN_VALIDATOR, f"{validator} is and was no validator that the state knows")
    return keys


def _judge_votes(context: BlockContext, state: Overlay, votes: Votes) -> list[Event]:
    keys = _keys_then(context, state, votes.validator, votes.epoch)
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
    """Of hubs, or of whoever signed the transaction in a block: they may have any key. Validators sign with Ed25519."""
    assert isinstance(tx.payload, Evidence)
    if tx.payload.block is not None:
        pubkey = _transaction_of(tx.payload.block).pubkey
        return [pubkey] if is_key(pubkey) else []
    pair = tx.payload.attestations
    lock = state.lock(pair.first.attestation.lock) if pair else None
    if pair is None or lock is None:
        return []
    return [
        key_or_offered(state, signed.attestation.hub, lock.height, signed.pubkey)
        for signed in (pair.first, pair.second)
    ]


EVIDENCE = TransactionType("EVIDENCE", Evidence, check, apply, asks=asks, since=2)
