"""TRANSFER: move coins from the sender to another account (seed 000 §18.1)."""

from typing import Annotated

import msgspec

from aitbc.core.crypto.address import check_address
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.amounts import Amount, format_ait
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.transactions import VerifiedTransaction


class Transfer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    to: str
    amount: Amount
    data: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    """Free text, paid for by size."""


def check(payload: Transfer, _witness: None, _genesis_hash: bytes) -> None:
    check_address(payload.to)


def apply(_context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload = tx.payload
    assert isinstance(payload, Transfer)
    balance = state.account(tx.tx.sender).balance
    if balance < payload.amount:
        raise Failed(
            Reason.INSUFFICIENT_BALANCE,
            f"{format_ait(payload.amount)} to send, {format_ait(balance)} left after the fee",
        )
    state.debit(tx.tx.sender, payload.amount)
    state.credit(payload.to, payload.amount)
    return [("transferred", payload.to, payload.amount)]


def spends(payload: Transfer) -> int:
    return payload.amount


TRANSFER = TransactionType("TRANSFER", Transfer, check, apply, spends=spends, needs_only_funds=True)
