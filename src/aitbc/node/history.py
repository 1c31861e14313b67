"""Pages of what happened: an account's transactions, a provider's, client's or job's receipts. docs/spec/rpc.md"""

from collections.abc import Callable
from typing import Any

import msgspec

from aitbc.core.codec.views import header_to_plain, outcome_to_plain, transaction_to_plain
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node.topics import status_of
from aitbc.ports import ReceiptIndex, Store, StoredReceipt, StoredTransaction

Json = dict[str, Any]
MAX_PAGE = 100
Standing = Callable[[int], Json]
"""What is to be said of a block at a height, where it may still be left."""


def account_page(store: Store, standing: Standing, address: str, cursor: str, limit: int) -> Json:
    """Transactions that an account sent or that an event of which names it, the newest first."""
    before = _cursor(cursor, 2)
    found = store.account_history(address, before=(before[0], before[1]) if before else None, limit=limit + 1)
    items = [transaction_view(stored, standing(stored.height)) for stored in found[:limit]]
    last = found[limit - 1] if len(found) > limit else None
    return {"items": items, "next": f"{last.height}.{last.position}" if last else None}


def receipts_page(store: Store, by: ReceiptIndex, value: str, cursor: str, limit: int) -> Json:
    """Paid receipts, the newest first, also those that have left the state."""
    before = _cursor(cursor, 3)
    found = store.receipts(
        by, value, before=(before[0], before[1], before[2]) if before else None, limit=limit + 1
    )
    last = found[limit - 1] if len(found) > limit else None
    following = f"{last.height}.{last.receipt.tx_position}.{last.place}" if last else None
    return {"items": [receipt_view(stored) for stored in found[:limit]], "next": following}


MAX_LOOKED = 200
"""Blocks that one page of newest transactions looks into, each a read of the disk: idle chains have many empty ones."""


def newest_blocks(store: Store, head: int, cursor: str, limit: int) -> Json:
    """Headers, the newest first."""
    first = min(_cursor(cursor, 1)[0] - 1, head) if cursor else head
    last = max(first - limit + 1, 0)
    found = [block for height in range(first, last - 1, -1) if (block := store.head_at(height)) is not None]
    items = [header_to_plain(block.header, block.hash) for block in found]
    return {"items": items, "next": str(last) if last > 0 and items else None}


def blocks_between(store: Store, start: int, end: int) -> Json:
    """Headers from height `start` to `end`, the oldest first."""
    found = [block for height in range(start, end + 1) if (block := store.head_at(height)) is not None]
    return {"items": [header_to_plain(block.header, block.hash) for block in found], "next": None}


def newest_transactions(store: Store, standing: Standing, head: int, cursor: str, limit: int) -> Json:
    """Transactions in blocks, the newest block first and each block's in its own order; a page may be short, and `next`
    goes on, when many blocks are empty."""
    height, start = _cursor(cursor, 2) or [head, 0]
    items: list[Json] = []
    for _ in range(MAX_LOOKED):
        if height < 0:
            break
        wanted = limit - len(items)
        found = store.transactions_of(height, start=start, limit=wanted + 1)
        items += [transaction_view(stored, standing(height)) for stored in found[:wanted]]
        if len(found) > wanted:
            start += wanted
            break
        height, start = height - 1, 0
    return {"items": items, "next": f"{height}.{start}" if height >= 0 else None}


def transaction_view(stored: StoredTransaction, standing: Json) -> Json:
    return {
        "status": status_of(stored.outcome, standing),
        "txHash": stored.outcome.tx_id.hex(),
        "height": stored.height,
        "index": stored.position,
        "timestampMs": stored.timestamp_ms,
        "tx": transaction_to_plain(stored.tx),
        "receipt": outcome_to_plain(stored.outcome),
        **standing,
    }


def receipt_view(stored: StoredReceipt) -> Json:
    view = msgspec.structs.asdict(stored.receipt)
    del view["tx_position"]
    view["miner_sig"] = view.pop("provider_sig")
    return {
        **view,
        "height": stored.height,
        "timestampMs": stored.timestamp_ms,
        "txHash": stored.tx_id.hex(),
    }


def _cursor(text: str, parts: int) -> list[int]:
    """`next` of the page before, as numbers; empty for the first page."""
    if not text:
        return []
    numbers = text.split(".")
    if len(numbers) != parts or not all(n.isascii() and n.isdigit() and len(n) <= 16 for n in numbers):
        raise Rejected(Reason.MALFORMED, f"{text[:60]!r} is no cursor: send `next` of the page before")
    return [int(number) for number in numbers]
