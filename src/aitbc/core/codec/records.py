"""The one byte form of each ledger record; leaves of the state tree commit to these bytes. docs/spec/state.md

Accounts have a fixed layout because they are most of the state; everything else is RFC 8785 JSON.
"""

from struct import Struct

from aitbc.core.codec.canonical import jcs, parse_jcs
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import (
    Account,
    Batch,
    Bond,
    KeyHistory,
    Lock,
    Offence,
    Param,
    ReceiptRecord,
    Record,
    Registration,
    Score,
    ValidatorRecord,
)

KINDS: dict[str, dict[str, type[Record]]] = {
    "accounts": {"": Account},
    "receipts": {"": ReceiptRecord, "batch:": Batch},
    "locks": {"": Lock},
    "validators": {"": ValidatorRecord, "score:": Score},
    "registry": {
        "provider:": Registration,
        "hub:": Registration,
        "bond:": Bond,
        "keys:": KeyHistory,
        "offence:": Offence,
    },
    "params": {"": Param},
}
"""Store → prefix of the key → what the record is; the empty prefix is for every other key."""


_BALANCE_AND_NONCE = Struct(">QQ")


def record_bytes(record: Record) -> bytes:
    """Balance u64, nonce u64, auth key; or the record's JSON."""
    if isinstance(record, Account):
        return _BALANCE_AND_NONCE.pack(record.balance, record.nonce) + record.auth
    return jcs(record)


def record_from_bytes(store: str, key: str, data: bytes) -> Record:
    """The inverse of `record_bytes` for a key of a store."""
    if store == "accounts":
        if len(data) < _BALANCE_AND_NONCE.size:
            raise Rejected(Reason.MALFORMED, f"an account record has at least 16 bytes, not {len(data)}")
        balance, nonce = _BALANCE_AND_NONCE.unpack_from(data)
        return Account(balance, nonce, data[_BALANCE_AND_NONCE.size :])
    return parse_jcs(data, kind_of(store, key))


def kind_of(store: str, key: str) -> type[Record]:
    """What the record under a key is; refuses keys that the store cannot have."""
    kinds = KINDS[store]
    prefix, colon, _ = key.partition(":")
    kind = kinds.get(prefix + colon) if colon else None
    kind = kind or kinds.get("")
    if kind is None:
        raise Rejected(Reason.MALFORMED, f"store {store} has no records under {key[:80]!r}")
    return kind
