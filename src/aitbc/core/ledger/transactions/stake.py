"""STAKE: coins that a validator, provider or hub answers with. docs/spec/staking.md"""

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.ledger.validators import check_voting_key
from aitbc.core.types.amounts import MAX_SIGNED, Amount, format_ait
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import Role
from aitbc.core.types.transactions import VerifiedTransaction


class Stake(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    role: Role
    amount: Amount


def check(_payload: Stake, _witness: None, _genesis_hash: bytes) -> None:
    """The form says everything."""


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload, sender = tx.payload, tx.tx.sender
    assert isinstance(payload, Stake)
    if payload.role == "validator":
        check_voting_key(tx.tx.pubkey)
    balance = state.account(sender).balance
    if balance < payload.amount:
        raise Failed(
            Reason.INSUFFICIENT_BALANCE,
            f"{format_ait(payload.amount)} to stake, {format_ait(balance)} left after the fee",
        )
    bond = state.bond(payload.role, sender)
    if bond.amount + payload.amount > MAX_SIGNED:
        raise Failed(Reason.OUT_OF_RANGE, f"one bond holds at most {format_ait(MAX_SIGNED)}")
    least = context.params.min_validator_stake
    if payload.role == "validator" and bond.amount + payload.amount < least:
        raise Failed(Reason.INSUFFICIENT_STAKE, f"a validator stakes {format_ait(least)} or more")
    state.debit(sender, payload.amount)
    state.put_bond(payload.role, sender, msgspec.structs.replace(bond, amount=bond.amount + payload.amount))
    return [("staked", sender, payload.amount)]


def spends(payload: Stake) -> int:
    return payload.amount


STAKE = TransactionType("STAKE", Stake, check, apply, spends=spends, since=2)
