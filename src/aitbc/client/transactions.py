"""Build and sign transactions: a small payload builder per type, one function that signs.

Builders leave out fields at their defaults: a payload has one canonical form, and a node refuses every other.
docs/spec/transactions.md
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from aitbc.client.errors import ClientError
from aitbc.client.node import NodeClient
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import transaction_id
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.receipts import ReceiptCore, SignedAttestation
from aitbc.core.types.records import ModelOffer
from aitbc.core.types.transactions import Transaction

Payload = dict[str, Any]

MAX_FEE = 100_000
"""0.1 AIT, in base units: a hundred times the least fee of the largest payload at the default parameters. What
a node asks is only its word, and a fee above the least is spent in full; more needs the user's."""


class Signer(Protocol):
    """What is needed of `ports.Signer`; written out here because this library does not import the ports."""

    @property
    def auth_key(self) -> bytes: ...

    @property
    def address(self) -> str: ...

    def sign(self, digest: bytes) -> bytes: ...


def build_transaction(
    type: str,
    payload: Mapping[str, Any],
    *,
    signer: Signer,
    nonce: int,
    fee: int,
    genesis_hash: bytes,
    witness: Mapping[str, Any] | None = None,
) -> Transaction:
    """A signed transaction; `genesis_hash` binds it to one chain."""
    unsigned = Transaction(
        type=type,
        sender=signer.address,
        nonce=nonce,
        fee=fee,
        payload=jcs(payload),
        pubkey=signer.auth_key,
        sig=b"",
        witness=jcs(witness) if witness is not None else b"",
    )
    signature = signer.sign(transaction_id(unsigned, genesis_hash))
    return msgspec.structs.replace(unsigned, sig=signature)


class Prepared(NamedTuple):
    """A signed transaction that was not sent, and its id."""

    tx: Transaction
    tx_id: str


def prepare(
    node: NodeClient,
    type: str,
    payload: Mapping[str, Any],
    *,
    signer: Signer,
    fee: int | None = None,
    max_fee: int = MAX_FEE,
    witness: Mapping[str, Any] | None = None,
) -> Prepared:
    """`build_transaction` with chain, next nonce and (when `fee` is None) fee asked from a node.

    A fee that the node asks is refused above `max_fee` before anything is signed; a stated `fee` is not.
    """
    genesis_hash = bytes.fromhex(node.head()["genesisHash"])
    nonce = node.account(signer.address)["nextNonce"]
    if fee is None:
        fee = checked_fee(node.estimate_fee(type, dict(payload)), type, max_fee)
    tx = build_transaction(
        type, payload, signer=signer, nonce=nonce, fee=fee, genesis_hash=genesis_hash, witness=witness
    )
    return Prepared(tx, transaction_id(tx, genesis_hash).hex())


def prepare_transaction(
    node: NodeClient,
    type: str,
    payload: Mapping[str, Any],
    *,
    signer: Signer,
    fee: int | None = None,
    max_fee: int = MAX_FEE,
    witness: Mapping[str, Any] | None = None,
) -> Transaction:
    """`prepare` for who does not need the id."""
    return prepare(node, type, payload, signer=signer, fee=fee, max_fee=max_fee, witness=witness).tx


def checked_fee(asked: int, type: str, max_fee: int) -> int:
    """The fee that a node asks; raises ClientError, so that nothing is signed, for one below 0 or above `max_fee`."""
    if asked < 0:
        raise ClientError(
            "bad_answer",
            f"the node asks a fee of {format_ait(asked)} for a {type}; nothing was signed",
            "use another node with --rpc",
        )
    if asked > max_fee:
        raise ClientError(
            "fee_too_high",
            f"the node asks a fee of {format_ait(asked)} for a {type}, more than {format_ait(max_fee)};"
            " nothing was signed",
            "use another node with --rpc, or allow more with --max-fee",
        )
    return asked


def transfer_payload(*, to: str, amount: int, data: str = "") -> Payload:
    return _without_defaults({"to": to, "amount": amount, "data": data}, {"data": ""})


def job_lock_payload(
    *,
    hub: str,
    job_id: str,
    amount: int,
    request_hash: str,
    deliver_by_ms: int,
    claim_until_ms: int,
    tasks: int = 1,
) -> Payload:
    payload = {
        "hub": hub,
        "job_id": job_id,
        "amount": amount,
        "request_hash": request_hash,
        "deliver_by_ms": deliver_by_ms,
        "claim_until_ms": claim_until_ms,
        "tasks": tasks,
    }
    return _without_defaults(payload, {"tasks": 1})


def receipt_claim_payload(*, core: ReceiptCore, receipt_id: str, provider_sig: str) -> Payload:
    """The seed's claim: the core's fields, its id and the provider's signature in hexadecimal."""
    fields: Payload = msgspec.to_builtins(core)
    return {**fields, "receipt_id": receipt_id, "miner_sig": provider_sig}


def claim_witness(signed: SignedAttestation) -> Payload:
    """The attestation as the witness of a RECEIPT_CLAIM."""
    fields: Payload = msgspec.to_builtins(signed)
    return fields


def refund_payload(*, lock: str) -> Payload:
    return {"lock": lock}


def register_payload(
    *, role: str, models: Sequence[ModelOffer], endpoint: str = "", payout: str = "", validator: str = ""
) -> Payload:
    payload = {
        "role": role,
        "models": msgspec.to_builtins(list(models)),
        "endpoint": endpoint,
        "payout": payout,
        "validator": validator,
    }
    return _without_defaults(payload, {"endpoint": "", "payout": "", "validator": ""})


def countersignature_witness(*, hub: str, signature: bytes) -> Payload:
    """A listed hub's word for a provider's first REGISTER; signed over `countersignature_digest`."""
    return {"hub": hub, "sig": signature.hex()}


def faucet_payload(*, to: str, amount: int) -> Payload:
    return {"to": to, "amount": amount}


def _without_defaults(payload: Payload, defaults: Mapping[str, Any]) -> Payload:
    return {key: value for key, value in payload.items() if key not in defaults or value != defaults[key]}
