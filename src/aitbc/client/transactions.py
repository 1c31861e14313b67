"""Build and sign transactions: a small payload builder per type, one function that signs.

Builders leave out fields at their defaults: a payload has one canonical form, and a node refuses every other.
docs/spec/transactions.md
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from aitbc.client.node import NodeClient
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import transaction_id
from aitbc.core.types.receipts import ReceiptCore, SignedAttestation
from aitbc.core.types.records import ModelOffer
from aitbc.core.types.transactions import Transaction

Payload = dict[str, Any]


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


def prepare_transaction(
    node: NodeClient,
    type: str,
    payload: Mapping[str, Any],
    *,
    signer: Signer,
    fee: int | None = None,
    witness: Mapping[str, Any] | None = None,
) -> Transaction:
    """`build_transaction` with chain, next nonce and (when `fee` is None) fee asked from a node."""
    genesis_hash = bytes.fromhex(node.head()["genesisHash"])
    nonce = node.account(signer.address)["nextNonce"]
    if fee is None:
        fee = node.estimate_fee(type, dict(payload))
    return build_transaction(
        type, payload, signer=signer, nonce=nonce, fee=fee, genesis_hash=genesis_hash, witness=witness
    )


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
