"""The one byte form of each ledger record; leaves of the state tree commit to these bytes. docs/spec/state.md

Accounts have a fixed layout because they are most of the state; everything else is RFC 8785 JSON.
"""

from aitbc.core.codec.canonical import jcs, parse_jcs
from aitbc.core.crypto.hashing import u64
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import (
    Account,
    Lock,
    Param,
    ReceiptRecord,
    Record,
    Registration,
    ValidatorRecord,
)

_KINDS: dict[str, type[Record]] = {
    "receipts": ReceiptRecord,
    "locks": Lock,
    "validators": ValidatorRecord,
    "registry": Registration,
    "params": Param,
}


def record_bytes(record: Record) -> bytes:
    """Balance u64, nonce u64, auth key; or the record's JSON."""
    if isinstance(record, Account):
        return u64(record.balance) + u64(record.nonce) + record.auth
    return jcs(record)


def record_from_bytes(store: str, data: bytes) -> Record:
    """The inverse of `record_bytes` for a store."""
    if store == "accounts":
        if len(data) < 16:
            raise Rejected(Reason.MALFORMED, f"an account record has at least 16 bytes, not {len(data)}")
        return Account(int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big"), data[16:])
    return parse_jcs(data, _KINDS[store])
