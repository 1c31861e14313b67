"""RECEIPT_BATCH: a hub commits to many receipts with one root; SETTLE pays them. docs/spec/batches.md

It reserves nothing: whether a receipt is paid is decided when it is settled.
"""

from typing import Annotated

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.minting import is_jailed
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.receipts import HexHash
from aitbc.core.types.records import Batch
from aitbc.core.types.transactions import VerifiedTransaction

MAX_BATCH = 1 << 20
"""Receipts in one batch: a day of a million."""


class ReceiptBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    root: HexHash
    """`list_root` over the leaves."""
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)]


def check(_payload: ReceiptBatch, _witness: None, _genesis_hash: bytes) -> None:
    """The form says everything."""


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload, hub = tx.payload, tx.tx.sender
    assert isinstance(payload, ReceiptBatch)
    if hub not in context.params.hubs and state.registration("hub", hub) is None:
        raise Failed(Reason.UNKNOWN_HUB, f"{hub} is neither listed nor registered as a hub")
    if is_jailed(context, state, "hub", hub):
        raise Failed(Reason.JAILED, f"{hub} signed two different things about one attempt and is jailed")
    batch = Batch(
        hub=hub,
        root=payload.root,
        count=payload.count,
        height=context.height,
        expires_ms=context.after(context.params.max_lock_ms),
    )
    state.put("receipts", f"batch:{tx.id.hex()}", batch)
    return [("batched", tx.id.hex(), payload.count)]


RECEIPT_BATCH = TransactionType("RECEIPT_BATCH", ReceiptBatch, check, apply, since=2)
