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
from aitbc.core.codec.digests import rotation_digest, transaction_id
from aitbc.core.codec.keytext import key_to_text
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


def unsigned_transaction(
    type: str,
    payload: Mapping[str, Any],
    *,
    sender: str,
    auth_key: bytes,
    nonce: int,
    fee: int,
    witness: Mapping[str, Any] | None = None,
) -> Transaction:
    """A transaction without its signature; its id is that of the signed one."""
    return Transaction(
        type=type,
        sender=sender,
        nonce=nonce,
        fee=fee,
        payload=jcs(payload),
        pubkey=auth_key,
        sig=b"",
        witness=jcs(witness) if witness is not None else b"",
    )


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
    unsigned = unsigned_transaction(
        type,
        payload,
        sender=signer.address,
        auth_key=signer.auth_key,
        nonce=nonce,
        fee=fee,
        witness=witness,
    )
    return signed(unsigned, signer, genesis_hash)


def signed(unsigned: Transaction, signer: Signer, genesis_hash: bytes) -> Transaction:
    """The same with a signature."""
    signature = signer.sign(transaction_id(unsigned, genesis_hash))
    return msgspec.structs.replace(unsigned, sig=signature)


class Prepared(NamedTuple):
    """A transaction that was not sent, and its id."""

    tx: Transaction
    tx_id: str


class Unsigned(NamedTuple):
    """A transaction that nobody has signed, and the chain that it is for."""

    tx: Transaction
    genesis_hash: bytes

    @property
    def tx_id(self) -> bytes:
        return transaction_id(self.tx, self.genesis_hash)


def prepare_unsigned(
    node: NodeClient,
    type: str,
    payload: Mapping[str, Any],
    *,
    sender: str,
    auth_key: bytes,
    fee: int | None = None,
    max_fee: int = MAX_FEE,
    witness: Mapping[str, Any] | None = None,
) -> Unsigned:
    """Chain, next nonce and (when `fee` is None) fee asked from a node; refuses a fee above `max_fee`."""
    genesis_hash = node.genesis_hash()
    nonce = node.account(sender)["nextNonce"]
    if fee is None:
        asked = node.estimate_fee(
            type,
            dict(payload),
            pubkey=key_to_text(auth_key),
            witness=dict(witness) if witness is not None else None,
        )
        fee = checked_fee(asked, type, max_fee)
    tx = unsigned_transaction(
        type, payload, sender=sender, auth_key=auth_key, nonce=nonce, fee=fee, witness=witness
    )
    return Unsigned(tx, genesis_hash)


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

    A fee that the node asks is refused above `max_fee` before anything is signed; a stated `fee` is not. So is a
    node of another chain than its client's `expected_chain`.
    """
    unsigned = prepare_unsigned(
        node,
        type,
        payload,
        sender=signer.address,
        auth_key=signer.auth_key,
        fee=fee,
        max_fee=max_fee,
        witness=witness,
    )
    return Prepared(signed(unsigned.tx, signer, unsigned.genesis_hash), unsigned.tx_id.hex())


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


def validator_witness(*, signature: bytes, hub: str = "", hub_signature: bytes = b"") -> Payload:
    """A validator's word that a provider's compute counts for it, over `compute_for_digest`; with a hub's for a first
    REGISTER, if there is one."""
    witness = countersignature_witness(hub=hub, signature=hub_signature) if hub else {}
    return {**witness, "validator_sig": signature.hex()}


def stake_payload(*, role: str, amount: int) -> Payload:
    """Of STAKE and UNSTAKE."""
    return {"role": role, "amount": amount}


def withdraw_payload(*, role: str) -> Payload:
    return {"role": role}


def key_rotate_payload(*, sender: str, new_key: Signer, genesis_hash: bytes) -> Payload:
    """The new key shows by a signature that somebody holds it."""
    proof = new_key.sign(rotation_digest(sender, new_key.auth_key, genesis_hash))
    return {"pubkey": key_to_text(new_key.auth_key), "sig": proof.hex()}


def param_update_payload(
    *, number: int, set: Mapping[str, Any], authorities: Sequence[Mapping[str, str]] = ()
) -> Payload:
    payload = {"number": number, "set": dict(set), "authorities": [dict(member) for member in authorities]}
    return _without_defaults(payload, {"set": {}, "authorities": []})


def approvals_witness(approvals: Mapping[int, bytes]) -> Payload:
    """Members' signatures over `param_update_digest`, by their place in the running set."""
    return {
        "bitmap": sum(1 << place for place in approvals),
        "sigs": [approvals[place].hex() for place in sorted(approvals)],
    }


def faucet_payload(*, to: str, amount: int) -> Payload:
    return {"to": to, "amount": amount}


def _without_defaults(payload: Payload, defaults: Mapping[str, Any]) -> Payload:
    return {key: value for key, value in payload.items() if key not in defaults or value != defaults[key]}
