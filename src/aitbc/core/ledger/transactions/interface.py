"""What a transaction type is: a payload, checks that need no state, and an effect on the state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.transactions import VerifiedTransaction

Event = tuple[str, str, int]
"""(kind, address or key, amount in base units)."""


def never_free(_context: BlockContext, _state: Overlay, _tx: VerifiedTransaction) -> bool:
    return False


class TransactionType(NamedTuple):
    name: str
    payload: type[msgspec.Struct]
    check: Callable[[Any, Any, bytes], None]
    """(payload, witness, genesis hash): raise Rejected for what is wrong whatever the state."""
    apply: Callable[[BlockContext, Overlay, VerifiedTransaction], list[Event]]
    """Change the overlay, return what happened; raise Failed before the first write that must not stay."""
    witness: type[msgspec.Struct] | None = None
    pays_sender: bool = False
    """May the fee come out of what the transaction itself pays its sender?"""
    is_free: Callable[[BlockContext, Overlay, VerifiedTransaction], bool] = never_free
    """Is this transaction accepted without a fee?"""
