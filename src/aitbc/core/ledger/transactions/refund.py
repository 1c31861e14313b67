"""REFUND: after a lock's claim time anyone returns what was not earned to the client. docs/spec/escrow.md"""

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.escrow import close
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.receipts import HexHash
from aitbc.core.types.transactions import VerifiedTransaction


class Refund(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lock: HexHash


def check(_payload: Refund, _witness: None, _genesis_hash: bytes) -> None:
    """The form says everything."""


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload = tx.payload
    assert isinstance(payload, Refund)
    lock = state.lock(payload.lock)
    if lock is None:
        raise Failed(Reason.UNKNOWN_LOCK, f"there is no lock {payload.lock}")
    if lock.status != "open":
        raise Failed(Reason.LOCK_CLOSED, f"the lock is {lock.status} already")
    if context.timestamp_ms <= lock.claim_until_ms:
        raise Failed(
            Reason.REFUND_TOO_EARLY,
            f"claims count until {lock.claim_until_ms}; block time is {context.timestamp_ms}",
        )
    rest = close(context, state, payload.lock, lock, "refunded")
    return [("refunded", lock.client, rest)]


def fee_source(payload: Refund) -> str:
    return f"lock {payload.lock}"


REFUND = TransactionType("REFUND", Refund, check, apply, fee_source=fee_source)
