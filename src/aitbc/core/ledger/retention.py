"""Records leave the state when nobody can need them any more; an escrow that nobody touched returns by itself.

Each block takes out a bounded number, the oldest first, after its transactions. docs/spec/state.md
"""

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.escrow import close
from aitbc.core.ledger.expiry import Age
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.records import Lock

MAX_RETIRED = 2_000
"""Records of one age that one block takes out: more than a block of claims makes in a second, less than 50 ms."""


def retire(context: BlockContext, state: Overlay) -> None:
    """Return open locks long after their claim time, forget closed ones and old receipts, batches and marks."""
    params, now = context.params, context.timestamp_ms
    retentions: dict[Age, int] = {
        "lock": params.lock_retention_ms,
        "receipt": params.receipt_retention_ms,
        "dated": 0,
    }
    for age, retention_ms in retentions.items():
        for store, key in state.expiry.until(age, now - retention_ms, MAX_RETIRED):
            if key in state.writes[store]:
                continue  # this block has just changed it: another time
            record = state.get(store, key)
            if isinstance(record, Lock) and record.status == "open":
                close(context, state, key, record, "refunded")
            else:
                state.remove(store, key)
