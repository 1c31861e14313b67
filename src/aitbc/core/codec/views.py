"""JSON as people and other programs see it: the seeds' names and shapes, mapped to records once, here.

Seed 000 §5 (blocks), §18 (transactions).
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from aitbc.core.codec.canonical import convert, jcs, plain_json, unhex
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.types.amounts import MAX_SIGNED, AmountOrZero
from aitbc.core.types.blocks import Certificate, Header
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import (
    MAX_PAYLOAD_BYTES,
    MAX_PUBKEY_BYTES,
    MAX_SIGNATURE_BYTES,
    MAX_WITNESS_BYTES,
    Outcome,
    Transaction,
)

MAX_TRANSACTION_JSON = 64 * 1024


class TransactionJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A transaction as seed 000 §18 writes it; `pubkey` may be left out once the chain knows the key."""

    type: Annotated[str, msgspec.Meta(max_length=32)]
    sender: Annotated[str, msgspec.Meta(max_length=64)]
    nonce: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)]
    fee: AmountOrZero
    payload: dict[str, Any]
    sig: str
    pubkey: str = ""
    witness: dict[str, Any] | None = None


def transaction_from_json(raw: bytes) -> Transaction:
    """An unverified transaction; its `pubkey` is empty when the JSON has none."""
    if len(raw) > MAX_TRANSACTION_JSON:
        raise Rejected(
            Reason.TOO_LARGE, f"{len(raw)} bytes; a transaction has at most {MAX_TRANSACTION_JSON}"
        )
    return transaction_from_plain(plain_json(raw))


def transaction_from_plain(value: Any) -> Transaction:
    view = convert(value, TransactionJson)
    payload = jcs(view.payload)
    witness = jcs(view.witness) if view.witness is not None else b""
    _limit("payload", len(payload), MAX_PAYLOAD_BYTES)
    _limit("witness", len(witness), MAX_WITNESS_BYTES)
    _limit("pubkey", len(view.pubkey), 2 * MAX_PUBKEY_BYTES + 16)
    _limit("sig", len(view.sig), 2 * MAX_SIGNATURE_BYTES)
    return Transaction(
        type=view.type,
        sender=view.sender,
        nonce=view.nonce,
        fee=view.fee,
        payload=payload,
        pubkey=key_from_text(view.pubkey) if view.pubkey else b"",
        sig=unhex(view.sig),
        witness=witness,
    )


def _limit(what: str, size: int, most: int) -> None:
    if size > most:
        raise Rejected(Reason.TOO_LARGE, f"{what} of {size} bytes; at most {most}")


def transaction_to_plain(tx: Transaction) -> dict[str, Any]:
    """The seed's shape, `pubkey` always there."""
    view: dict[str, Any] = {
        "type": tx.type,
        "sender": tx.sender,
        "nonce": tx.nonce,
        "fee": tx.fee,
        "payload": msgspec.json.decode(tx.payload),
        "sig": tx.sig.hex(),
    }
    if tx.pubkey:
        view["pubkey"] = key_to_text(tx.pubkey)
    if tx.witness:
        view["witness"] = msgspec.json.decode(tx.witness)
    return view


def big_integer(value: int) -> int | str:
    """Balances and totals: a JSON integer up to 2^53 − 1, above it a decimal string."""
    return value if value <= MAX_SIGNED else str(value)


def header_to_plain(header: Header, block_hash: bytes) -> dict[str, Any]:
    """Seed 000 §5 plus the fields that it lacks."""
    return {
        "hash": block_hash.hex(),
        "parent": header.parent.hex(),
        "height": header.height,
        "timestamp": header.timestamp_ms // 1000,
        "proposer": header.proposer,
        "stateRoot": header.state_root.hex(),
        "version": header.version,
        "chainId": header.chain_id,
        "timestampMs": header.timestamp_ms,
        "txsRoot": header.txs_root.hex(),
        "outcomesRoot": header.outcomes_root.hex(),
        "nextValidatorsHash": header.next_validators_hash.hex(),
        "historyRoot": header.history_root.hex(),
        "extra": header.extra.hex(),
        "seal": header.seal.hex(),
    }


def header_from_plain(view: dict[str, Any]) -> Header:
    """The header inside a block or a proof bundle; refuses what is missing or of the wrong form."""
    try:
        return Header(
            version=_integer(view["version"]),
            chain_id=_text(view["chainId"]),
            height=_integer(view["height"]),
            parent=unhex(view["parent"], size=32),
            timestamp_ms=_integer(view["timestampMs"]),
            proposer=_text(view["proposer"]),
            txs_root=unhex(view["txsRoot"], size=32),
            outcomes_root=unhex(view["outcomesRoot"], size=32),
            state_root=unhex(view["stateRoot"], size=32),
            next_validators_hash=unhex(view["nextValidatorsHash"], size=32),
            history_root=unhex(view["historyRoot"], size=32),
            extra=unhex(view["extra"]),
            seal=unhex(view["seal"]),
        )
    except (KeyError, TypeError) as error:
        raise Rejected(Reason.MALFORMED, f"not a header: {error!r}") from None


def certificate_to_plain(certificate: Certificate) -> dict[str, Any]:
    candidate = certificate.candidate
    return {
        "kind": certificate.kind,
        "epoch": candidate.epoch,
        "slot": candidate.slot,
        "parentSlot": candidate.parent_slot,
        "parentId": candidate.parent_id.hex(),
        "blockHash": candidate.block_hash.hex(),
        "bitmap": certificate.bitmap,
        "signatures": [signature.hex() for signature in certificate.signatures],
    }


def outcome_to_plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "txHash": outcome.tx_id.hex(),
        "status": "ok" if outcome.ok else "failed",
        "reason": outcome.reason,
        "message": outcome.message,
        "fee": outcome.fee,
        "events": [{"kind": kind, "key": key, "amount": amount} for kind, key, amount in outcome.events],
    }


def block_to_plain(
    header: Header, block_hash: bytes, certificate: Certificate | None, tx_ids: Iterable[bytes]
) -> dict[str, Any]:
    """A block in the seed's shape: `txs` are transaction ids, `sig` the proposer's signature."""
    view = header_to_plain(header, block_hash)
    view["txs"] = [tx_id.hex() for tx_id in tx_ids]
    view["sig"] = certificate.signatures[0].hex() if certificate else ""
    view["certificate"] = certificate_to_plain(certificate) if certificate else None
    return view


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_SIGNED:
        raise Rejected(Reason.OUT_OF_RANGE, f"{value!r} is no integer from 0 to 2^53 - 1")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Rejected(Reason.WRONG_TYPE, f"{value!r} is no text")
    return value
