"""From unverified to verified: everything that can be said about a transaction without the state.

Checks run from cheap to dear, the signature last; the first that fails names the reason.
"""

from typing import Any, NamedTuple

import msgspec

from aitbc.core.codec.canonical import parse_jcs
from aitbc.core.codec.digests import TransactionNames, names_of
from aitbc.core.codec.wire import pack
from aitbc.core.crypto.address import ADDRESS_LENGTH, PREFIX
from aitbc.core.crypto.schemes import scheme_of, verify
from aitbc.core.ledger.context import Verifier
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.ledger.transactions.interface import TransactionType
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import (
    MAX_PAYLOAD_BYTES,
    MAX_SIGNATURE_BYTES,
    Transaction,
    VerifiedTransaction,
)


class WellFormed(NamedTuple):
    """A transaction that is right but for its signature, which nobody has looked at."""

    tx: Transaction
    id: bytes
    wid: bytes
    payload: Any
    witness: msgspec.Struct | None

    @property
    def signed(self) -> tuple[bytes, bytes, bytes]:
        """What a verifier is asked."""
        return self.tx.pubkey, self.id, self.tx.sig

    def verified(self, *, is_good: bool) -> VerifiedTransaction:
        """Once the verifier has answered; raises Rejected."""
        if not is_good:
            raise Rejected(
                Reason.BAD_SIGNATURE, "the signature is not good for this transaction under its pubkey"
            )
        return VerifiedTransaction(self.tx, self.id, self.wid, self.payload, self.witness, len(pack(self.tx)))


def check_form(tx: Transaction, genesis_hash: bytes, *, names: TransactionNames | None = None) -> WellFormed:
    """Everything but the signature; raises Rejected. `names`: where they are known already."""
    kind = _check_envelope(tx)
    payload = parse_jcs(tx.payload, kind.payload)
    witness = _decode_witness(tx, kind)
    kind.check(payload, witness, genesis_hash)
    return WellFormed(tx, *(names or names_of(tx, genesis_hash)), payload, witness)


def verify_transaction(
    tx: Transaction, genesis_hash: bytes, verifier: Verifier = verify
) -> VerifiedTransaction:
    """Check form, then the signature under the key that the transaction carries; raises Rejected."""
    formed = check_form(tx, genesis_hash)
    return formed.verified(is_good=verifier(*formed.signed))


def _check_envelope(tx: Transaction) -> TransactionType:
    kind = TYPES.get(tx.type)
    if kind is None:
        raise Rejected(Reason.UNKNOWN_TYPE, f"{tx.type[:32]!r} is not one of {', '.join(sorted(TYPES))}")
    _check_size("payload", tx.payload, MAX_PAYLOAD_BYTES)
    _check_size("witness", tx.witness, kind.max_witness)
    _check_size("sig", tx.sig, MAX_SIGNATURE_BYTES)
    if len(tx.sender) != ADDRESS_LENGTH or not tx.sender.startswith(PREFIX + "1"):
        raise Rejected(Reason.BAD_ADDRESS, f"sender {tx.sender[:60]!r} is not an address")
    if not (1 <= tx.nonce <= MAX_SIGNED and 0 <= tx.fee <= MAX_SIGNED):
        raise Rejected(Reason.OUT_OF_RANGE, f"nonce {tx.nonce} or fee {tx.fee} is out of range")
    if not tx.pubkey:
        raise Rejected(Reason.PUBKEY_REQUIRED, "the transaction carries no public key")
    scheme_of(tx.pubkey)
    return kind


def _check_size(name: str, value: bytes, most: int) -> None:
    if len(value) > most:
        raise Rejected(Reason.TOO_LARGE, f"{name} of {len(value)} bytes; at most {most}")


def _decode_witness(tx: Transaction, kind: TransactionType) -> msgspec.Struct | None:
    if not tx.witness:
        return None
    if kind.witness is None:
        raise Rejected(Reason.UNEXPECTED_WITNESS, f"{tx.type} takes no witness")
    return parse_jcs(tx.witness, kind.witness)
