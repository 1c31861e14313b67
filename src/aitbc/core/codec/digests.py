"""Every hash that somebody signs or refers to, on one page. Vectors: tests/vectors/. docs/spec/

`genesis_hash` is in every signed digest, so nothing can be replayed on another chain or on a reset one.
"""

from typing import NamedTuple

from aitbc.core.codec.canonical import jcs
from aitbc.core.crypto.hashing import fields, hash_text, tagged, u64
from aitbc.core.types.blocks import Candidate, Header, Validator
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore, ReceiptDetails
from aitbc.core.types.transactions import Outcome, Transaction


def genesis_hash_of(genesis_document: bytes) -> bytes:
    """Hash of the RFC 8785 bytes of genesis.json; names the chain."""
    return tagged("aitbc/genesis/1", genesis_document)


def transaction_id(tx: Transaction, genesis_hash: bytes) -> bytes:
    """What the sender signs (seed 000 §10, length-prefixed and bound to the chain)."""
    return tagged(
        "aitbc/transaction/1",
        genesis_hash,
        tx.type.encode(),
        tx.sender.encode(),
        u64(tx.nonce),
        u64(tx.fee),
        tx.payload,
    )


def envelope_id(tx_id: bytes, tx: Transaction) -> bytes:
    """`wid`: names one envelope among those that share an id but differ in key, signature or witness."""
    return tagged("aitbc/envelope/1", tx_id, tx.pubkey, tx.sig, tx.witness)


class TransactionNames(NamedTuple):
    """What a transaction is called: by its signed bytes, and by its whole envelope."""

    id: bytes
    wid: bytes


def names_of(tx: Transaction, genesis_hash: bytes) -> TransactionNames:
    """Those of an unverified transaction; raises Rejected for one that has no bytes."""
    try:
        tx_id = transaction_id(tx, genesis_hash)
        return TransactionNames(tx_id, envelope_id(tx_id, tx))
    except (OverflowError, UnicodeEncodeError):
        raise Rejected(Reason.OUT_OF_RANGE, "a field of a transaction has no bytes") from None


def wid_of(tx: Transaction, genesis_hash: bytes) -> bytes:
    """The `wid` of an unverified transaction."""
    return names_of(tx, genesis_hash).wid


def receipt_core_digest(core: ReceiptCore, genesis_hash: bytes) -> bytes:
    """What the provider signs."""
    return tagged("aitbc/receipt/1", genesis_hash, jcs(core))


def receipt_id_of(core: ReceiptCore, genesis_hash: bytes) -> str:
    """A receipt's name follows from what it says, so nobody can squat one."""
    return "rcpt_" + receipt_core_digest(core, genesis_hash).hex()


def details_hash_of(details: ReceiptDetails) -> str:
    return hash_text(jcs(details))


def attestation_digest(attestation: Attestation, genesis_hash: bytes) -> bytes:
    """What the hub signs under a receipt."""
    return tagged("aitbc/attestation/1", genesis_hash, jcs(attestation))


def countersignature_digest(provider: str, hub: str, genesis_hash: bytes) -> bytes:
    """What a listed hub signs to let a provider without money register."""
    return tagged("aitbc/countersign/1", genesis_hash, provider.encode(), hub.encode())


def compute_for_digest(provider: str, validator: str, genesis_hash: bytes) -> bytes:
    """What a validator signs to have a provider's compute count for it."""
    return tagged("aitbc/compute-for/1", genesis_hash, provider.encode(), validator.encode())


def rotation_digest(address: str, new_key: bytes, genesis_hash: bytes) -> bytes:
    """What a new key signs to show that somebody holds it."""
    return tagged("aitbc/rotate/1", genesis_hash, address.encode(), new_key)


def param_update_digest(payload: bytes, genesis_hash: bytes) -> bytes:
    """What an authority signs to approve a PARAM_UPDATE, of its payload's canonical bytes."""
    return tagged("aitbc/param-update/1", genesis_hash, payload)


def offence_digest(kind: str, offender: str, *what: str) -> bytes:
    """Names one offence, so that it is punished once."""
    return tagged("aitbc/offence/1", kind.encode(), offender.encode(), *[part.encode() for part in what])


def fields_without_seal(header: Header) -> tuple[bytes, ...]:
    """The first twelve header fields as they are hashed: what an author fixes before the seal."""
    return (
        u64(header.version),
        header.chain_id.encode(),
        u64(header.height),
        header.parent,
        u64(header.timestamp_ms),
        header.proposer.encode(),
        header.txs_root,
        header.outcomes_root,
        header.state_root,
        header.next_validators_hash,
        header.history_root,
        header.extra,
    )


def header_hash(header: Header) -> bytes:
    """The block hash; covers every field."""
    return tagged("aitbc/header/1", *fields_without_seal(header), header.seal)


def outcome_leaf(outcome: Outcome) -> bytes:
    """What `outcomes_root` covers of an outcome: everything but the message for people."""
    events = b"".join(
        [fields(kind.encode(), key.encode(), u64(amount)) for kind, key, amount in outcome.events]
    )
    status = b"\x01" if outcome.ok else b"\x00"
    return fields(outcome.tx_id, status, outcome.reason.encode(), u64(outcome.fee), events)


def validators_hash(validators: list[Validator]) -> bytes:
    """Hash of a validator set in set order."""
    members = [fields(v.address.encode(), v.auth_key, u64(v.power)) for v in validators]
    return tagged("aitbc/validators/1", *members)


def candidate_id(candidate: Candidate, chain_id: str, genesis_hash: bytes) -> bytes:
    return tagged(
        "aitbc/candidate/1",
        chain_id.encode(),
        genesis_hash,
        u64(candidate.epoch),
        u64(candidate.slot),
        u64(candidate.parent_slot),
        candidate.parent_id,
        candidate.block_hash,
    )


def vote_digest(
    *, kind: str, epoch: int, slot: int, candidate: bytes, chain_id: str, genesis_hash: bytes
) -> bytes:
    """What a validator signs: `kind` is `candidate` (by the leader), `notar`, `skip` or `final`."""
    return tagged(
        "aitbc/vote/1", chain_id.encode(), genesis_hash, kind.encode(), u64(epoch), u64(slot), candidate
    )
