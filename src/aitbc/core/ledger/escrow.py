"""Paying out of locks, one receipt or many at a time, and closing them. docs/spec/escrow.md"""

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import Lock

LONGEST_LOCK = "lock.longest_ms"
"""Counter: the greatest `max_lock_ms` that an update has lowered."""


def longest_lock_ms(context: BlockContext, state: Overlay) -> int:
    """How far ahead of block time any lock could end, those made before the bound was lowered included."""
    return max(context.params.max_lock_ms, state.number(LONGEST_LOCK))


def check_open(context: BlockContext, lock: Lock, hub: str) -> None:
    """Fail unless the lock pays receipts of this hub at this block time."""
    if lock.hub != hub:
        raise Failed(Reason.WRONG_HUB, f"the lock names {lock.hub}, the attestation is by {hub}")
    if lock.status != "open":
        raise Failed(Reason.LOCK_CLOSED, f"the lock is {lock.status}")
    if context.timestamp_ms > lock.claim_until_ms:
        raise Failed(Reason.CLAIM_TOO_LATE, f"claims counted until block time {lock.claim_until_ms}")


def check_task(lock: Lock, task: int, *, paid_tasks: int) -> None:
    """Fail unless a lock that has paid these tasks can still pay this one."""
    if task >= lock.tasks:
        raise Failed(Reason.UNKNOWN_TASK, f"the lock pays for tasks 0 to {lock.tasks - 1}")
    if paid_tasks >> task & 1:
        raise Failed(Reason.TASK_ALREADY_PAID, f"task {task} of this lock has been paid")


def check_price(lock: Lock, price: int, *, paid: int) -> None:
    if price > lock.amount - paid:
        left = format_ait(lock.amount - paid)
        raise Failed(Reason.PRICE_ABOVE_ESCROW, f"{format_ait(price)} claimed, {left} left in the lock")


def pay(context: BlockContext, state: Overlay, key: str, lock: Lock, *, paid: int, paid_tasks: int) -> int:
    """Write what the lock has paid; the last task closes it and returns the rest. Returns that rest, in base units.

    Crediting whom it pays is the caller's.
    """
    settled = paid_tasks == (1 << lock.tasks) - 1
    lock = msgspec.structs.replace(lock, paid=paid, paid_tasks=f"{paid_tasks:x}")
    if not settled:
        state.put("locks", key, lock)
        return 0
    return close(context, state, key, lock, "settled")


def close(context: BlockContext, state: Overlay, key: str, lock: Lock, status: str) -> int:
    """Return what was not earned to the client and close the lock; returns how much that is, in base units."""
    closed_ms = context.timestamp_ms if context.version >= 2 else 0
    state.put("locks", key, msgspec.structs.replace(lock, status=status, closed_ms=closed_ms))
    rest = lock.amount - lock.paid
    state.credit(lock.client, rest)
    return rest
