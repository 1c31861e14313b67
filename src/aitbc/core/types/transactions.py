"""Transactions as envelopes of canonical bytes; what their payloads mean is in `core/ledger/transactions/`.

Unverified and verified transactions are different types: rules accept only verified ones. docs/spec/transactions.md
"""

import msgspec

MAX_PAYLOAD_BYTES = 16 * 1024
"""A REGISTER with 64 models fits four times; a transfer is about 100 bytes."""
MAX_WITNESS_BYTES = 8 * 1024
"""The most that any type takes; each says how much it does."""
MAX_PUBKEY_BYTES = 1024
"""Room for a 4,096-bit RSA key (ccoin) and k-of-n sets."""
MAX_SIGNATURE_BYTES = 4 * 1024


class Transaction(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A transaction whose signature nobody has checked yet."""

    type: str
    sender: str
    nonce: int
    fee: int
    payload: bytes
    """RFC 8785 bytes of the payload object."""
    pubkey: bytes
    """Scheme byte and public key; never empty in a block."""
    sig: bytes
    witness: bytes = b""
    """RFC 8785 bytes of the witness object, empty for none. Outside the signed bytes; it proves itself."""


class VerifiedTransaction(msgspec.Struct, frozen=True):
    """A transaction of right form whose signature is good under the key that it carries.

    Made only by `core.ledger.admission.verify_transaction`. Whether the key belongs to the sender is for the state
    to say.
    """

    tx: Transaction
    id: bytes
    """Hash of the signed bytes: what users and nonces use."""
    wid: bytes
    """Hash of the whole envelope: what `txs_root`, gossip and caches use."""
    payload: msgspec.Struct
    """The decoded payload, of the class that the type table names."""
    witness: msgspec.Struct | None
    size: int
    """Bytes on the wire."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What executing one transaction did; covered by `outcomes_root`."""

    tx_id: bytes
    ok: bool
    reason: str
    """Empty when ok, else a `Reason`."""
    message: str
    """For people; empty when ok. Not covered by the root."""
    fee: int
    events: list[tuple[str, str, int]]
    """(kind, address or key, number), in the order in which they happened; the number is base units of what moved, for
    `batched` receipts. docs/spec/execution.md"""
