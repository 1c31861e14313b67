"""What a transaction type is: a payload, checks that need no state, and an effect on the state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.transactions import VerifiedTransaction

Event = tuple[str, str, int]
"""(kind, address or key, number): base units, for `batched` receipts. docs/spec/execution.md"""


def no_spending(_payload: Any) -> int:
    return 0


def since_its_type(_payload: Any, _witness: Any) -> int:
    return 1


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
    check_witness: Callable[[BlockContext, Overlay, VerifiedTransaction], None] | None = None
    """Raise Failed for a witness whose signatures are not good. The sender's signature does not cover the witness, so
    since version 2 a bad one makes the transaction invalid and costs the sender nothing; a node asks also before the
    transaction's turn, lest a forged one hold the place of the good one."""
    asks: Callable[[BlockContext, Overlay, VerifiedTransaction], list[bytes]] | None = None
    """Auth keys under which the rules verify signatures beside the sender's; since version 2 their cost above Ed25519
    is part of the least fee."""
    fee_source: Callable[[Any], str] | None = None
    """payload → the record whose coins may pay the fee when the sender cannot; None: the sender pays."""
    is_free: Callable[[BlockContext, Overlay, VerifiedTransaction], bool] = never_free
    """Is this transaction accepted without a fee?"""
    spends: Callable[[Any], int] = no_spending
    """payload → what it takes from the sender's balance beside the fee; a mempool reserves it."""
    needs_only_funds: bool = False
    """Does it succeed whenever its turn has come and the balance covers what it `spends`? A node then has nothing to
    try before it lets it wait."""
    max_witness: int = 4 * 1024
    """Most bytes of a witness; an attestation is about 700."""
    since: int = 1
    """Protocol version that brought the type."""
    form_since: Callable[[Any, Any], int] = since_its_type
    """(payload, witness) → protocol version that brought the fields in use."""
